"""Real kills and real disk limits, in processes of their own."""

from __future__ import annotations

import random
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from labctl.errors import StorageError
from labctl.store.catalogue import list_runs
from labctl.store.journal import Journal
from labctl.store.journal_reader import JournalReader
from labctl.store.results import add_note
from labctl.store.run import open_run
from labctl.store.seal import seal

MakeRun = Callable[..., Path]

WRITER = textwrap.dedent(
    """
    import sys
    import numpy as np
    from labctl.store.journal import Journal
    from labctl.store.layout import ArrayField, Column, RowLayout
    layout = RowLayout((Column("x", "float"),), (ArrayField("spectrum", (512,), "float32"),))
    journal = Journal.create(sys.argv[1], {"run": "killed"}, group_commit_s=float(sys.argv[2]))
    journal.add_stream("points", layout)
    for point in range(10**9):
        arrays = {"spectrum": np.full(512, point, np.float32)}
        journal.append("points", point=point, attempt=0, t_s=0.0, wall_s=0.0, row={"x": point}, arrays=arrays)
        if point % 50 == 0:
            journal.event("incident", {"point": point}, t_s=0.0, wall_s=0.0)
        sys.stdout.write(f"{journal.acknowledged('points')}\\n")
        sys.stdout.flush()
    """
)
SEALER = textwrap.dedent(
    """
    import sys
    from labctl.store.seal import seal
    print("start", flush=True)
    seal(sys.argv[1], sys.argv[2], process={"threshold": {"value": 1.0}}, wall_s=0.0)
    """
)
STEPWISE_SEALER = textwrap.dedent(
    """
    import os, sys
    import h5py, hdf5plugin
    from labctl.store.seal import seal
    seen = 0
    def die(event, arguments):
        global seen
        if event in ("open", "sqlite3.connect", "os.link", "os.remove", "os.rename", "os.mkdir", "os.truncate"):
            seen += 1
            if seen == int(sys.argv[3]):
                os._exit(9)
    sys.addaudithook(die)
    seal(sys.argv[1], sys.argv[2], process={"threshold": {"value": 1.0}}, wall_s=0.0)
    """
)
LIMITED_WRITER = textwrap.dedent(
    """
    import resource, sys
    from labctl.errors import StorageError
    from labctl.store.journal import Journal
    from labctl.store.layout import Column, RowLayout
    journal = Journal.create(sys.argv[1], {"run": "limited"}, group_commit_s=float(sys.argv[2]))
    journal.add_stream("points", RowLayout((Column("remark", "text", width=4000),)))
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
    try:
        for point in range(10_000):
            row = {"remark": str(point)}
            journal.append("points", point=point, attempt=0, t_s=0.0, wall_s=0.0, row=row)
    except StorageError as error:
        print("refused", journal.acknowledged("points"), error.what)
    """
)


@pytest.mark.slow
@pytest.mark.parametrize("group_commit_s", [0.0, 0.02])
@pytest.mark.parametrize("seed", range(10))
def test_no_acknowledged_point_is_lost_by_a_kill(tmp_path: Path, seed: int, group_commit_s: float) -> None:
    path = tmp_path / "2026-11-21" / "0001_a.journal"
    path.parent.mkdir()
    command = [sys.executable, "-c", WRITER, str(path), str(group_commit_s)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    killer = threading.Timer(0.05 + 0.6 * random.Random(seed).random(), process.kill)
    acknowledged = int(process.stdout.readline())
    killer.start()
    for line in process.stdout:
        if line.endswith("\n"):
            acknowledged = int(line)
    process.wait()
    process.stdout.close()
    with open_run(path) as run:
        assert run.status == "crashed"
        points = run["point"]
        assert run.count() >= acknowledged and np.array_equal(points, np.arange(len(points)))
        spectra = np.asarray(run.array("spectrum"))
        assert np.array_equal(spectra, np.repeat(np.arange(len(points), dtype=np.float32)[:, None], 512, axis=1))
        count = run.count()
    assert [summary.status for summary in list_runs(tmp_path)] == ["crashed"]
    with open_run(seal(path, path.with_suffix(".h5"))) as run:
        assert (run.count(), run.status) == (count, "crashed")
    with Journal.open(path) as journal:
        assert journal.acknowledged("points") == count


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(25))
def test_sealing_may_be_killed_at_any_instant(tmp_path: Path, make_run: MakeRun, seed: int) -> None:
    journal, target = make_run(tmp_path / "a.journal", count=500, group_commit_s=0.05), tmp_path / "a.h5"
    process = subprocess.Popen(
        [sys.executable, "-c", SEALER, str(journal), str(target)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    process.stdout.readline()
    threading.Event().wait(0.06 * random.Random(seed).random())
    process.kill()
    process.wait()
    process.stdout.close()
    with open_run(tmp_path / "a") as run:
        assert (run.count(), run.status) == (500, "finished")
    add_note(tmp_path / "a", "after the kill")
    seal(journal, target, process={"threshold": {"value": 1.0}}, wall_s=0.0)
    with open_run(target) as run:
        assert (run.count(), run.status) == (500, "finished")
        assert [result.data for result in run.results] == [{"value": 1.0}]
        assert [note.text for note in run.notes] == ["after the kill"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]


@pytest.mark.slow
@pytest.mark.parametrize("status", ["finished", "aborted", None])
def test_sealing_may_die_at_each_of_its_steps(tmp_path: Path, make_run: MakeRun, status: str | None) -> None:
    """The process ends at its k-th file operation, for every k until it comes through."""
    exit_code, step = 9, 0
    while exit_code == 9:
        step += 1
        folder = tmp_path / str(step)
        folder.mkdir()
        journal, target = make_run(folder / "a.journal", count=20, status=status), folder / "a.h5"
        command = [sys.executable, "-c", STEPWISE_SEALER, str(journal), str(target), str(step)]
        exit_code = subprocess.run(command, check=False, timeout=60).returncode
        with open_run(folder / "a") as run:
            assert (run.count(), run.status) == (20, status or "crashed")
        seal(journal, target, process={"threshold": {"value": 1.0}}, wall_s=0.0)
        with open_run(target) as run:
            assert (run.count(), run.status) == (20, status or "crashed")
            assert [result.data for result in run.results] == [{"value": 1.0}]
        left = {path.name for path in folder.iterdir()}
        assert left == ({"a.h5"} if status == "finished" else {"a.h5", "a.journal"})
    assert exit_code == 0 and step > 10


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX resource limits")
@pytest.mark.parametrize("group_commit_s", ["0", "0.01"])
def test_a_file_size_limit_refuses_the_point_and_keeps_the_acknowledged_ones(
    tmp_path: Path, group_commit_s: str
) -> None:
    path = tmp_path / "a.journal"
    command = [sys.executable, "-c", LIMITED_WRITER, str(path), group_commit_s]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.startswith("refused"), done.stderr
    acknowledged = int(done.stdout.split()[1])
    with open_run(path) as run:
        assert run.status == "crashed" and run.count() == acknowledged
        assert run["remark"].tolist() == [str(point) for point in range(acknowledged)]  # type: ignore[union-attr]


@pytest.mark.slow
def test_a_reader_sees_whole_growing_prefixes_while_a_run_is_written(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path), "0.01"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    acknowledged = int(process.stdout.readline())
    drain = threading.Thread(target=process.stdout.read)
    drain.start()
    try:
        with JournalReader(path) as reader:
            before = acknowledged
            for _ in range(200):
                reader.refresh()
                count = reader.count("points")
                assert count >= before and reader.status == "running"
                assert np.array_equal(reader.column("points", "point"), np.arange(count))
                assert (reader.read_array("points", "spectrum", before, count)[:, 0] == np.arange(before, count)).all()
                before = count
            assert before > acknowledged
            process.kill()
            process.wait()
            reader.refresh()
            assert reader.status == "crashed"
    finally:
        process.kill()
        process.wait()
        drain.join()
        process.stdout.close()


def test_a_broken_journal_is_not_sealed(tmp_path: Path, make_run: MakeRun) -> None:
    path = make_run(tmp_path / "a.journal")
    path.write_bytes(path.read_bytes()[:-20_000])
    with pytest.raises(StorageError):
        seal(path, tmp_path / "a.h5")
    assert [p.name for p in tmp_path.iterdir() if p.suffix == ".h5" or "partial" in p.name] == []
