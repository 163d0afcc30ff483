"""Space that is kept for a run, on a disk that fills up: a small one of its own, where the system allows that."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import textwrap
from contextlib import nullcontext
from pathlib import Path

import pytest

from labctl.errors import StorageError
from labctl.store import reserve as reserve_module
from labctl.store.journal import Journal
from labctl.store.layout import Column, RowLayout
from labctl.store.payload import Payload
from labctl.store.reserve import LAST_WORDS_BYTES, SpaceReserve, reserve_path
from labctl.store.run import open_run
from labctl.store.seal import seal

MB = 1 << 20
FULL = OSError(errno.ENOSPC, "No space left on device")
SCALAR = RowLayout((Column("x", "float"),))

ON_A_SMALL_DISK = textwrap.dedent(
    """
    import json, os, sys
    from pathlib import Path
    from labctl.errors import StorageError
    from labctl.store.journal import Journal
    from labctl.store.layout import Column, RowLayout
    from labctl.store.run import open_run
    folder, reserve_mb, group_commit_s = Path(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
    journal = Journal.create(
        folder / "a.journal", {"run": "a"}, group_commit_s=group_commit_s, reserve_bytes=int(reserve_mb * 2**20)
    )
    journal.add_stream("points", RowLayout((Column("remark", "text", width=30000),)))
    with open(folder / "someone else", "wb") as greedy:
        try:
            while True:
                os.write(greedy.fileno(), bytes(65536))
        except OSError:
            pass
    said = {"refused": ""}
    try:
        for point in range(100_000):
            row = {"remark": str(point)}
            journal.append("points", point=point, attempt=0, t_s=0.0, wall_s=0.0, row=row)
    except StorageError as error:
        said |= {"refused": error.what, "where": error.where}
    said["acknowledged"] = journal.acknowledged("points")
    try:
        journal.event("incident", {"text": "x" * 10_000}, t_s=0.0, wall_s=0.0)
        journal.set_status("failed", t_s=0.0, wall_s=0.0)
    except StorageError as error:
        said["end"] = error.what
    try:
        journal.close()
    except StorageError:
        pass
    with open_run(folder / "a.journal") as run:
        said |= {"stored": run.count(), "status": run.status, "events": [event.kind for event in run.events()]}
        said["intact"] = run["remark"].tolist() == [str(point) for point in range(run.count())]
    said["files"] = sorted(os.listdir(folder))
    print(json.dumps(said))
    """
)


def can_mount() -> bool:
    """Whether a process may have a small disk of its own here."""
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return False
    command = ["unshare", "-Urm", "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def on_a_small_disk(folder: Path, size_mb: int, reserve_mb: float, group_commit_s: float) -> dict:
    mount = 'mount -t tmpfs -o size="$1" none "$2" && shift 2 && exec "$@"'
    program = [sys.executable, "-c", ON_A_SMALL_DISK, str(folder), str(reserve_mb), str(group_commit_s)]
    command = ["unshare", "-Urm", "sh", "-c", mount, "sh", f"{size_mb}m", str(folder), *program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(not can_mount(), reason="no disk of our own can be mounted here")
@pytest.mark.parametrize("group_commit_s", [0.0, 0.02])
def test_a_full_disk_takes_points_from_the_reserve_and_then_the_end_of_the_run(
    tmp_path: Path, group_commit_s: float
) -> None:
    without = on_a_small_disk(tmp_path, 40, 0, group_commit_s)
    assert "full" in without["refused"] and without["end"]
    kept = on_a_small_disk(tmp_path, 40, 24, group_commit_s)
    assert "full" in kept["refused"] and kept["where"].endswith("a.journal")
    assert "end" not in kept
    assert kept["status"] == "failed" and kept["events"] == ["incident", "status"]
    # 16 MB of the reserve are for points of 30 kB, which the journal holds twice while its log is folded in.
    assert kept["acknowledged"] >= without["acknowledged"] + 200
    for said in (without, kept):
        assert said["intact"] and said["stored"] >= said["acknowledged"]
        assert not any("reserve" in name or "lock" in name for name in said["files"])


@pytest.mark.skipif(not can_mount(), reason="no disk of our own can be mounted here")
def test_a_run_whose_space_is_not_there_is_refused(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom labctl.store.journal import Journal\nJournal.create(sys.argv[1], {}, reserve_bytes=2**24)"
    )
    mount = 'mount -t tmpfs -o size=4m none "$1" && "$2" -c "$3" "$1/a.journal"; ls -A "$1"'
    command = ["unshare", "-Urm", "sh", "-c", mount, "sh", str(tmp_path), sys.executable, program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "17 MB cannot be reserved for the run (4 MB are free)" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("call", ["the system's", "missing", "refusing"])
def test_space_is_taken_shrunk_and_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    if call == "missing":
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    elif call == "refusing":
        monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
    reserve = SpaceReserve.take(tmp_path / "a.journal", 5 * MB + 3)
    path = reserve_path(tmp_path / "a.journal")
    assert reserve.size_bytes == path.stat().st_size == 5 * MB + 3
    if sys.platform != "win32":
        assert path.stat().st_blocks * 512 >= 5 * MB
    reserve.shrink_to(MB)
    reserve.shrink_to(2 * MB)
    assert reserve.size_bytes == path.stat().st_size == MB
    reserve.release()
    reserve.release()
    assert not path.exists() and reserve.size_bytes == 0


def test_only_a_full_disk_makes_room_and_the_last_part_is_for_last_words(tmp_path: Path) -> None:
    reserve = SpaceReserve.take(tmp_path / "a.journal", LAST_WORDS_BYTES + 6 * MB)
    assert not reserve.make_room(OSError(errno.EIO, "Input/output error"))
    assert reserve.make_room(FULL) and reserve.size_bytes == LAST_WORDS_BYTES + 2 * MB
    assert reserve.make_room(FULL) and reserve.size_bytes == LAST_WORDS_BYTES
    assert not reserve.make_room(FULL)
    assert reserve.make_room(FULL, last_words=True) and reserve.size_bytes == 0
    assert not reserve.make_room(FULL, last_words=True)
    reserve.release()


def test_what_a_killed_run_kept_goes_when_its_journal_is_opened_or_sealed(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    for step in ("open", "seal"):
        path.unlink(missing_ok=True)
        Journal.create(path, {}).close()
        reserve_path(path).write_bytes(bytes(1000))
        if step == "open":
            with Journal.open(path, reserve_bytes=2000) as journal:
                assert journal.reserve.size_bytes == reserve_path(path).stat().st_size == 2000
        else:
            seal(path, tmp_path / "a.h5")
        assert not reserve_path(path).exists()


def test_a_payload_takes_from_the_reserve_of_its_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reserve_module, "LAST_WORDS_BYTES", 0)
    with Journal.create(tmp_path / "a.journal", {}, reserve_bytes=MB) as journal, Payload(tmp_path / "p") as payload:
        journal.add_payload(payload)
        write = os.write

        def fail_while_reserved(descriptor: int, data: bytes) -> int:
            if journal.reserve.size_bytes:
                raise FULL
            return write(descriptor, data)

        monkeypatch.setattr(os, "write", fail_while_reserved)
        assert payload.append(b"photons").length == 7
        assert journal.reserve.size_bytes == 0
        monkeypatch.undo()
    assert (tmp_path / "p").read_bytes() == b"photons"


def test_a_payload_whose_sync_failed_once_is_never_acknowledged_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system reports a failed sync once; the next would succeed without the data."""
    with Journal.create(tmp_path / "a.journal", {}) as journal:
        journal.add_stream("points", SCALAR)
        payload = Payload(tmp_path / "p")
        journal.add_payload(payload)
        point = {"attempt": 0, "t_s": 0.0, "wall_s": 0.0, "row": {"x": 0.0}}
        journal.append("points", point=0, **point)
        payload.append(b"photons")
        monkeypatch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(errno.EIO, "lost")))
        with pytest.raises(StorageError, match="lost"):
            journal.append("points", point=1, **point)
        monkeypatch.undo()
        with pytest.raises(StorageError, match="before"):
            journal.append("points", point=1, **point)
        assert journal.acknowledged("points") == 1
        journal._payloads.clear()
        with pytest.raises(OSError, match="before"):
            payload.close()


@pytest.mark.skipif(sys.platform == "win32", reason="an open file keeps its name there")
@pytest.mark.parametrize("how", ["removed", "renamed", "folder renamed"])
@pytest.mark.parametrize("group_commit_s", [0.0, 0.02])
def test_no_point_is_acknowledged_in_a_journal_that_is_gone(tmp_path: Path, how: str, group_commit_s: float) -> None:
    folder = tmp_path / "day"
    folder.mkdir()
    path = folder / "a.journal"
    journal = Journal.create(path, {}, group_commit_s=group_commit_s)
    journal.add_stream("points", SCALAR)
    point = {"attempt": 0, "t_s": 0.0, "wall_s": 0.0, "row": {"x": 0.0}}
    journal.append("points", point=0, **point)
    journal.commit()
    if how == "removed":
        shutil.rmtree(folder)
    elif how == "renamed":
        path.rename(folder / "b.journal")
    else:
        folder.rename(tmp_path / "night")
    with pytest.raises(StorageError, match="gone"):
        journal.append("points", point=1, **point)
        journal.commit()
    assert journal.acknowledged("points") == 1
    with pytest.raises(StorageError) if group_commit_s else nullcontext():
        journal.close()
    if how == "folder renamed":
        with open_run(tmp_path / "night" / "a.journal") as run:
            assert run.count() == 1
