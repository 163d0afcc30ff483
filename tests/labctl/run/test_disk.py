"""Runs whose disk fails while they go: full, read-only, broken, taken away, slow, hung for ever."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labctl.store.run import open_run

LONG = {"coarse_points": 20, "fine_points": 40, "return_points": 0}
WITHOUT_LIGHT_FOR_LONG = {"dark_frames": 300}

ON_A_DISK_OF_ITS_OWN = textwrap.dedent(
    """
    import json, os, shutil, subprocess, sys, time
    from pathlib import Path
    from labctl.run.front import run_to_end
    from labctl.run.request import RunRequest
    from labctl.store.run import open_run

    bench, disk, parameters, action = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3]), sys.argv[4]
    seen, kept = 0, []

    def happen(event):
        global seen
        new = event["event"] == "point" and event["phase"] in ("coarse", "fine")
        seen += new
        if not new or seen < 3:
            return
        if action == "fill":
            with open(disk / "someone else", "ab", buffering=0) as file:
                try:
                    while True:
                        file.write(bytes(1 << 16))
                except OSError:
                    pass
        elif not kept:
            kept.append(os.open(disk, os.O_RDONLY))
            subprocess.run(["umount", "-l", str(disk)], check=True)

    request = RunRequest(
        procedure="fluence-sweep", bench=bench, parameters=parameters, out=str(disk / "runs"), virtual_time=True
    )
    outcome = run_to_end(request, happen)
    assert seen >= 3, outcome
    if action == "fill":
        (disk / "someone else").unlink()
    else:
        disk = Path(shutil.copytree(f"/proc/self/fd/{kept[0]}", disk.with_name("copy")))
    journals = list(disk.rglob("*.journal"))
    with open_run(journals[0]) as run:
        stored = {"points": sum(run.count(name) for name in run.streams), "status": run.status}
        stored["events"] = [event.kind for event in run.events()]
    left = [path.name for path in disk.rglob("*.journal*")]
    print(json.dumps({"outcome": outcome, "stored": stored, "left": left}))
    """
)


def can_mount() -> bool:
    """Whether a process may have a disk of its own here."""
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return False
    command = ["unshare", "-Urm", "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def can_attach() -> bool:
    """Whether the system calls of another process can be disturbed here."""
    if shutil.which("strace") is None:
        return False
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        command = ["timeout", "1", "strace", "-qq", "-o", "/dev/null", "-p", str(sleeper.pid)]
        done = subprocess.run(command, capture_output=True, check=False)
        sleeper.kill()
    return done.returncode == 124


mountable = pytest.mark.skipif(not can_mount(), reason="no disk of our own can be mounted here")
attachable = pytest.mark.skipif(not can_attach(), reason="strace is missing or may not attach here")
pytestmark = pytest.mark.slow


def on_a_disk_of_its_own(folder: Path, bench: str, action: str, size_mb: int) -> dict[str, Any]:
    disk = folder / "disk"
    disk.mkdir()
    text = Path(bench).read_text(encoding="utf-8")
    Path(bench).write_text(text.replace('disk_reserve = "200 MB"', 'disk_reserve = "1 MB"'), encoding="utf-8")
    mount = 'mount -t tmpfs -o size="$1" none "$2" && shift 2 && exec "$@"'
    program = [sys.executable, "-c", ON_A_DISK_OF_ITS_OWN, bench, str(disk), json.dumps(LONG), action]
    command = ["unshare", "-Urm", "sh", "-c", mount, "sh", f"{size_mb}m", str(disk), *program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@contextmanager
def disturbed(pid: int, journal: Path, *injections: str) -> Iterator[None]:
    """Disturb what a process does with its journal, until the end of the block."""
    calls = ",".join(injection.partition(":")[0] for injection in injections)
    command = ["strace", "-f", "-qq", "-o", str(journal.parent.parent / "strace"), "-p", str(pid)]
    command += ["-e", f"trace={calls}", *(f"-einject={injection}" for injection in injections)]
    for path in (journal, f"{journal}-wal"):
        command += ["-P", str(path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as strace:
        try:
            yield
        finally:
            strace.terminate()


def assert_failed_but_safe(outcome: dict[str, Any], laboratory: Any, *said: str) -> None:
    assert not laboratory.state()["shutter_open"]
    assert (outcome["status"], outcome["safe_state"], outcome["exit"]) == ("failed", "confirmed", 1), outcome
    assert outcome["error"]["type"] == "StorageError"
    for text in said:
        assert text in f"{outcome['error']['what']} at {outcome['error']['where']}"


def assert_intact(path: Path, outcome: dict[str, Any]) -> None:
    with open_run(path) as run:
        assert sum(run.count(name) for name in run.streams) == outcome["points"]["done"] > 0
        for stream in run.streams:
            assert np.array_equal(np.sort(run.columns(stream)["point"]), run.columns(stream)["point"])
            for array in run.streams[stream].arrays:
                assert np.asarray(run.array(array.name, stream)).shape[0] == run.count(stream)


@mountable
def test_a_disk_that_somebody_fills_up(tmp_path: Path, serve: Callable) -> None:
    """Whatever the run gives back from what it had reserved, they take."""
    laboratory = serve()
    said = on_a_disk_of_its_own(tmp_path, laboratory.bench, "fill", 40)
    assert_failed_but_safe(said["outcome"], laboratory, "full")
    assert said["stored"]["points"] == said["outcome"]["points"]["done"] > 0


@mountable
def test_a_disk_that_is_taken_away(tmp_path: Path, serve: Callable) -> None:
    laboratory = serve()
    said = on_a_disk_of_its_own(tmp_path, laboratory.bench, "unmount", 100)
    assert_failed_but_safe(said["outcome"], laboratory, "gone", ".journal")
    assert said["stored"]["points"] == said["outcome"]["points"]["done"] > 0


@pytest.mark.parametrize("how", ["removed", "renamed"])
def test_a_folder_that_is_taken_away(tmp_path: Path, serve: Callable, start: Callable, how: str) -> None:
    laboratory = serve()
    run = start(laboratory.bench, parameters=LONG)
    run.wait_for(lambda event: event.get("phase") == "coarse" and event["event"] == "point")
    (journal,) = (tmp_path / "runs").rglob("*.journal")
    if how == "removed":
        shutil.rmtree(journal.parent)
    else:
        journal.parent.rename(tmp_path / "elsewhere")
    outcome = run.end()
    assert_failed_but_safe(outcome, laboratory, "gone", ".journal")
    if how == "renamed":
        assert_intact(tmp_path / "elsewhere" / journal.name, outcome)


@attachable
@pytest.mark.parametrize(
    ("injection", "said"),
    [
        ("pwrite64:error=EIO", "SQLITE_IOERR_WRITE"),
        ("pwrite64:error=ENOSPC", "SQLITE_FULL"),
        ("pwrite64:error=EROFS", "SQLITE_IOERR_WRITE"),
        ("fdatasync:error=EIO", "SQLITE_IOERR_FSYNC"),
    ],
)
def test_a_disk_that_refuses(tmp_path: Path, serve: Callable, start: Callable, injection: str, said: str) -> None:
    laboratory = serve()
    run = start(laboratory.bench, parameters=LONG)
    run.wait_for(lambda event: event.get("phase") == "coarse" and event["event"] == "point")
    (journal,) = (tmp_path / "runs").rglob("*.journal")
    with disturbed(run.engine().pid, journal, injection):
        outcome = run.end()
    assert_failed_but_safe(outcome, laboratory, said, ".journal")
    assert_intact(Path(outcome["run"]), outcome)


@attachable
def test_a_disk_that_is_slow(tmp_path: Path, serve: Callable, start: Callable) -> None:
    """A commit takes half a second, a thousand times longer than usual: the run takes its time, and ends well."""
    laboratory = serve()
    run = start(laboratory.bench, parameters={"fine_points": 0, "return_points": 0})
    run.wait_for(lambda event: event.get("phase") == "coarse")
    (journal,) = (tmp_path / "runs").rglob("*.journal")
    with disturbed(run.engine().pid, journal, "fdatasync:delay_enter=500000"):
        outcome = run.end()
    assert (outcome["status"], outcome["safe_state"], outcome["exit"]) == ("finished", "confirmed", 0), outcome
    assert_intact(Path(outcome["run"]), outcome)


@attachable
@pytest.mark.timeout(300)
def test_a_disk_that_hangs_for_ever(tmp_path: Path, serve: Callable, start: Callable) -> None:
    """The guard ends the engine at the time that it had declared for a point; everything is kept.

    What a tracer holds back cannot be killed as long as it is held, like a process that waits for a disk: the engine
    keeps its locks and connections. Nobody waits for it.
    """
    laboratory = serve()
    run = start(laboratory.bench, parameters=WITHOUT_LIGHT_FOR_LONG)
    run.wait_for(lambda event: event.get("phase") == "dark" and event["event"] == "point")
    (journal,) = (tmp_path / "runs").rglob("*.journal")
    engine = run.engine()
    with disturbed(engine.pid, journal, "fdatasync:delay_enter=1000000000"):
        run._reader.join(60.0)
        outcome = run.end()
        assert engine.is_running()
    assert not laboratory.state()["shutter_open"]
    assert (outcome["status"], outcome["safe_state"], outcome["exit"]) == ("crashed", "confirmed", 1), outcome
    assert "no progress" in outcome["error"]["what"]
    assert any("nothing was recorded" in warning for warning in outcome["warnings"])
    assert_intact(Path(outcome["run"]), outcome)
