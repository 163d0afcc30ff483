from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from labctl.errors import StorageError
from labctl.store import durable
from labctl.store import seal as seal_module
from labctl.store.compare import first_difference
from labctl.store.journal import Journal
from labctl.store.journal_reader import JournalReader
from labctl.store.results import add_note, add_result
from labctl.store.run import open_run
from labctl.store.seal import copy_to_share, seal
from labctl.store.sealed_reader import SealedReader

MakeRun = Callable[..., Path]
THRESHOLD = {"value": 12.5, "unit": "uJ/cm^2", "ci68": [11.0, 13.5], "model": "knee"}


@pytest.mark.parametrize("count", [0, 1, 30])
def test_the_sealed_file_equals_the_journal_bit_by_bit(tmp_path: Path, make_run: MakeRun, count: int) -> None:
    journal = make_run(tmp_path / "a.journal", count=count, status="aborted")
    add_note(journal, "µ: looks odd", wall_s=5.0)
    target = seal(journal, tmp_path / "a.h5")
    with JournalReader(journal) as ours, SealedReader(target) as theirs:
        assert first_difference(ours, theirs, "aborted") == ""
        assert first_difference(ours, theirs, "finished") == "status aborted instead of finished"
        assert theirs.count("points") == count
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "a.journal"]


def test_only_a_finished_run_gives_its_journal_up(tmp_path: Path, make_run: MakeRun) -> None:
    for status in ("finished", "aborted", "failed", None):
        journal = make_run(tmp_path / f"{status}.journal", count=3, status=status)
        with open_run(seal(journal, tmp_path / f"{status}.h5")) as run:
            assert run.status == (status or "crashed")
        assert journal.exists() == (status != "finished")


def test_nexus_readers_find_signal_axes_and_units(tmp_path: Path, make_run: MakeRun) -> None:
    target = seal(make_run(tmp_path / "a.journal"), tmp_path / "a.h5", process={"threshold": THRESHOLD})
    with h5py.File(target) as file:
        assert file.attrs["default"] == "entry" and file.attrs["simulated"]
        assert (file.attrs["procedure"], file.attrs["sample"], file.attrs["points"]) == ("fluence-sweep", "A12", 30)
        entry = file["entry"]
        assert entry.attrs["NX_class"] == "NXentry" and entry.attrs["default"] == "data"
        assert entry["title"][()] == b"fluence-sweep A12"
        assert entry["start_time"][()] == b"2026-11-21T10:00:00+00:00"
        assert entry["end_time"][()].startswith(b"2026-")
        assert entry["program_name"][()] == b"labctl" and "definition" not in entry
        data = entry["data"]
        assert data.attrs["NX_class"] == "NXdata"
        assert (data.attrs["signal"], list(data.attrs["axes"])) == ("signal_counts", ["fluence_uj_cm2"])
        assert data["fluence_uj_cm2"].attrs["units"] == "uJ/cm^2"
        assert data["fluence_uj_cm2"].attrs["long_name"] == "Fluence"
        for name, x in (("data_spectrum", "fluence_uj_cm2"), ("dark_spectrum", "point")):
            view = entry[name]
            assert view.attrs["signal"] == "spectrum" and list(view.attrs["axes"]) == [x, "wavelength_nm"]
            assert view["spectrum"].shape == (len(view[x]), len(view["wavelength_nm"]))
            assert view["wavelength_nm"].attrs["units"] == "nm"
        assert entry["dark"].attrs["NX_class"] == "NXdata"
        assert data["spectrum"].fletcher32
        assert entry["instrument/attenuator"].attrs["NX_class"] == "NXattenuator"
        assert entry["instrument/attenuator/driver"][()] == b"thorlabs-ell14"
        assert entry["sample/name"][()] == b"A12"
        process = entry["process/threshold_1"]
        assert process.attrs["NX_class"] == "NXprocess"
        assert process["result/value"][()] == 12.5 and process["result/value"].attrs["units"] == "uJ/cm^2"


def test_scalars_open_without_any_plugin(tmp_path: Path, make_run: MakeRun) -> None:
    target = seal(make_run(tmp_path / "a.journal"), tmp_path / "a.h5")
    code = (
        "import sys, h5py; d = h5py.File(sys.argv[1])['entry/data']\n"
        "assert d['pulses'][()].tolist() == list(range(30))\n"
        "assert d['remark'].asstr()[3] == 'µ3'\n"
        "assert 'hdf5plugin' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(target)], check=True, timeout=60)


def test_a_running_run_is_not_sealed(tmp_path: Path, make_run: MakeRun) -> None:
    path = make_run(tmp_path / "a.journal", status=None)
    with Journal.open(path), pytest.raises(StorageError, match=r"a\.journal is in use by process"):
        seal(path, tmp_path / "a.h5")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.journal"]


def test_sealing_again_is_harmless(tmp_path: Path, make_run: MakeRun) -> None:
    journal, target = make_run(tmp_path / "a.journal", count=5), tmp_path / "a.h5"
    seal(journal, target, process={"threshold": THRESHOLD})
    before = target.read_bytes()
    assert seal(journal, target, process={"threshold": THRESHOLD}) == target
    assert target.read_bytes() == before
    seal(journal, target, process={"threshold": THRESHOLD | {"value": 13}})
    with open_run(target) as run:
        assert [result.data["value"] for result in run.results] == [12.5, 13]


def test_a_resumed_run_is_sealed_anew_and_its_earlier_file_kept(
    tmp_path: Path, make_run: MakeRun, append: Callable[[Journal, int], None]
) -> None:
    path, target = make_run(tmp_path / "a.journal", count=5, status="aborted"), tmp_path / "a.h5"
    seal(path, target)
    add_note(path, "going on tomorrow")
    with Journal.open(path) as journal:
        journal.set_status("running", t_s=20.0, wall_s=0.0)
        append(journal, 5)
        journal.set_status("finished", t_s=21.0, wall_s=0.0)
    seal(path, target)
    with open_run(target) as run, open_run(tmp_path / "a.1.h5") as earlier:
        assert (run.count(), run.status) == (6, "finished")
        assert (earlier.count(), earlier.status) == (5, "aborted")
        assert [note.text for note in run.notes] == ["going on tomorrow"]
    assert not path.exists()


def test_the_file_of_another_run_is_never_overwritten(tmp_path: Path, make_run: MakeRun) -> None:
    target = seal(make_run(tmp_path / "a.journal", count=5), tmp_path / "a.h5")
    before = target.read_bytes()
    other = tmp_path / "b.journal"
    with Journal.create(other, {"run": "another"}) as journal:
        journal.set_status("finished", t_s=0.0, wall_s=0.0)
    with pytest.raises(StorageError, match="belongs to another run"):
        seal(other, target)
    foreign = tmp_path / "foreign.h5"
    foreign.write_bytes(b"something else")
    with pytest.raises(StorageError):
        seal(other, foreign)
    assert target.read_bytes() == before and foreign.read_bytes() == b"something else" and other.exists()


def test_what_cannot_be_verified_is_not_sealed(
    tmp_path: Path, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = make_run(tmp_path / "a.journal")
    write = seal_module.write_run

    def write_wrongly(path: Path, *arguments: object) -> None:
        write(path, *arguments)  # type: ignore[arg-type]
        with h5py.File(path, "r+") as file:
            file["entry/data/spectrum"][7, 3] += 1.0

    monkeypatch.setattr(seal_module, "write_run", write_wrongly)
    with pytest.raises(StorageError, match="differs from the journal: stream 'points': array 'spectrum'"):
        seal(journal, tmp_path / "a.h5")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.journal"]


def test_a_disk_error_while_sealing_leaves_the_journal(
    tmp_path: Path, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = make_run(tmp_path / "a.journal")

    def fail(_path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(seal_module, "sync_file", fail)
    with pytest.raises(StorageError, match="No space left") as caught:
        seal(journal, tmp_path / "a.h5")
    assert "is complete and stays" in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.journal"]


def test_an_interrupted_rename_is_completed(tmp_path: Path, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system without links the name is taken by an empty file first; a kill may leave that."""
    journal = make_run(tmp_path / "a.journal", count=5)
    (tmp_path / "a.h5").touch()
    (tmp_path / ".a.h5.partial").write_bytes(b"left behind")

    def no_links(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(durable.os, "link", no_links)
    with open_run(seal(journal, tmp_path / "a.h5")) as run:
        assert run.count() == 5
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.h5"]


def test_nothing_to_seal_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"no run file a\.h5"):
        seal(tmp_path / "a.journal", tmp_path / "a.h5")
    with pytest.raises(StorageError, match="plain name"):
        seal(tmp_path / "a.journal", tmp_path / "a.h5", process={"": {}})


def test_large_arrays_of_every_type_survive(tmp_path: Path) -> None:
    from labctl.store.layout import ArrayField, RowLayout

    kinds = ("bool", "int8", "uint16", "int64", "float64", "complex64")
    layout = RowLayout((), tuple(ArrayField(f"a_{kind}", (3, 70), kind) for kind in kinds))
    rng = np.random.default_rng(0)
    values = {f"a_{kind}": rng.integers(0, 2, (2000, 3, 70)).astype(kind) for kind in kinds}
    with Journal.create(tmp_path / "a.journal", {}, group_commit_s=0.05) as journal:
        journal.add_stream("points", layout)
        for n in range(2000):
            arrays = {name: array[n] for name, array in values.items()}
            journal.append("points", point=n, attempt=0, t_s=0.0, wall_s=0.0, row={}, arrays=arrays)
        journal.set_status("finished", t_s=0.0, wall_s=0.0)
    with open_run(seal(tmp_path / "a.journal", tmp_path / "a.h5")) as run:
        for name, array in values.items():
            assert np.array_equal(np.asarray(run.array(name)), array)


def test_a_copy_on_the_share_is_verified_and_retried(
    tmp_path: Path, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed = seal(make_run(tmp_path / "a.journal", count=5), tmp_path / "a.h5")
    copyfile = seal_module.shutil.copyfile
    failures = iter([OSError(5, "Input/output error"), None, None])

    def unreliable(source: Path, target: Path) -> None:
        failure = next(failures)
        if failure is not None:
            raise failure
        copyfile(source, target)

    monkeypatch.setattr(seal_module.shutil, "copyfile", unreliable)
    copy = copy_to_share(sealed, tmp_path / "share", retries=1, retry_s=0.0)
    assert copy.read_bytes() == sealed.read_bytes()
    assert copy_to_share(sealed, tmp_path / "share", retries=0) == copy
    add_result(sealed, "threshold", THRESHOLD)
    with pytest.raises(StorageError, match="on the share already, with other content"):
        copy_to_share(sealed, tmp_path / "share", retries=0)


def test_a_share_that_garbles_is_given_up(tmp_path: Path, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed = seal(make_run(tmp_path / "a.journal", count=5), tmp_path / "a.h5")

    def garble(source: Path, target: Path) -> None:
        target.write_bytes(source.read_bytes()[:-1] + b"?")

    monkeypatch.setattr(seal_module.shutil, "copyfile", garble)
    with pytest.raises(StorageError, match="in 3 tries: the checksum of the copy differs"):
        copy_to_share(sealed, tmp_path / "share", retries=2, retry_s=0.0)
    assert list((tmp_path / "share").iterdir()) == []
    with pytest.raises(StorageError, match="cannot be read"):
        copy_to_share(tmp_path / "none.h5", tmp_path / "share")
