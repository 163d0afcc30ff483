from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from labctl.errors import StorageError
from labctl.store.checked_file import BLOCK_BYTES, CheckedFile, append_checksums, has_checksums
from labctl.store.results import add_note
from labctl.store.run import open_run
from labctl.store.seal import seal

MakeRun = Callable[..., Path]


def content(size: int) -> bytes:
    return np.random.default_rng(0).bytes(size)


@pytest.mark.parametrize("size", [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES + 7])
def test_what_was_written_is_read_back(tmp_path: Path, size: int) -> None:
    path = tmp_path / "f"
    path.write_bytes(content(size))
    assert not has_checksums(path)
    append_checksums(path)
    assert has_checksums(path)
    with CheckedFile(path) as file:
        assert file.seek(0, 2) == size
        file.seek(0)
        assert file.readall() == content(size)
        file.seek(size // 2)
        assert file.read(10) == content(size)[size // 2 : size // 2 + 10]


def test_only_what_is_read_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(content(3 * BLOCK_BYTES))
    append_checksums(path)
    data = bytearray(path.read_bytes())
    data[BLOCK_BYTES + 5] ^= 1
    path.write_bytes(data)
    with CheckedFile(path) as file:
        assert file.read(BLOCK_BYTES) == content(3 * BLOCK_BYTES)[:BLOCK_BYTES]
        with pytest.raises(OSError, match="checksum of bytes 65536 to 131071"):
            file.read(1)
        file.seek(2 * BLOCK_BYTES)
        assert len(file.read(BLOCK_BYTES)) == BLOCK_BYTES


@pytest.mark.parametrize("place", [-20, -40, -60])
def test_a_damaged_table_is_an_error(tmp_path: Path, place: int) -> None:
    path = tmp_path / "f"
    path.write_bytes(content(9 * BLOCK_BYTES))
    append_checksums(path)
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(OSError, match="table"):
        CheckedFile(path)
    with path.open("rb") as other:  # it gets the number of the descriptor that was closed
        gc.collect()
        assert other.read(1)


def test_every_byte_of_a_sealed_file_is_protected(tmp_path: Path, make_run: MakeRun) -> None:
    path = seal(make_run(tmp_path / "a.journal"), tmp_path / "a.h5")
    data = path.read_bytes()
    end = CheckedFile(path)
    size = end.seek(0, 2)
    end.close()
    for place in range(0, size, max(1, size // 97)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :])
        with pytest.raises(StorageError), open_run(path) as run:
            for stream, layout in run.streams.items():
                run.columns(stream)
                for array in layout.arrays:
                    np.asarray(run.array(array.name, stream))
            _ = run.axes, run.events(), run.notes, run.results


def test_other_readers_do_not_mind_and_additions_keep_the_table(tmp_path: Path, make_run: MakeRun) -> None:
    path = seal(make_run(tmp_path / "a.journal"), tmp_path / "a.h5")
    add_note(path, "afterwards")
    assert has_checksums(path)
    with h5py.File(path) as file:
        assert file.attrs["status"] == "finished"
    with h5py.File(path, "r+") as file:
        file["mine"] = 1.0
    assert not has_checksums(path)
    with open_run(path) as run:
        assert run.count() == 30 and [note.text for note in run.notes] == ["afterwards"]
