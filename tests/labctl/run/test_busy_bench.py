"""A bench that is in use: refused before anything is left behind, and the next one is told which run has it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from labctl.bench import lock
from labctl.bench.lock import ResourceLocks
from labctl.config.locate import locate
from labctl.errors import InputError, LimitError, StorageError
from labctl.run.engine import Engine
from labctl.run.guard_line import GuardLine
from labctl.run.request import PreparedRun, RunRequest, prepare

SHUTTER = "serial:/dev/none0"


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PreparedRun:
    """Get a run on a bench whose instruments are real, though nobody will open them."""
    monkeypatch.setattr(lock, "lock_folder", lambda: tmp_path / "locks")
    source = locate("benches", "simulated")
    shutil.copytree(source.parent / "calibrations", tmp_path / "calibrations")
    number = iter(range(9))
    text = source.read_text(encoding="utf-8").split("[laboratory.")[0]
    text = re.sub(r'resource = "sim:"', lambda _: f'resource = "serial:/dev/none{next(number)}"', text)
    text = re.sub(r'(driver = "andor-sdk2"\nresource = )"[^"]*"', r'\1"sdk:andor"', text)
    (tmp_path / "bench.toml").write_text(text, encoding="utf-8")
    bench = str(tmp_path / "bench.toml")
    return prepare(RunRequest(procedure="fluence-sweep", bench=bench, out=str(tmp_path / "runs"), lease=False))


def test_a_bench_in_use_is_refused_before_the_run_has_a_number(tmp_path: Path, prepared: PreparedRun) -> None:
    other = ResourceLocks([SHUTTER], "the run /data/runs/2026-11-21/0001_fluence-sweep_a")
    other.acquire()
    try:
        with pytest.raises(InputError, match="in use by the run /data/runs/2026-11-21/0001_fluence-sweep_a") as refused:
            Engine(prepared, GuardLine()).run()
    finally:
        other.release()
    assert refused.value.state == "nothing was moved"
    assert not (tmp_path / "runs").exists()


class LooksAtTheLock(Engine):
    """Asks who has the shutter when the run has a name, and goes no further."""

    said = ""

    def _open_journal(self, *_: Any) -> Any:
        with pytest.raises(InputError) as caught:
            ResourceLocks([SHUTTER], "me").acquire()
        self.said = caught.value.what
        raise StorageError("the disk is gone")


def test_the_owner_is_the_run_and_the_locks_go_with_it(tmp_path: Path, prepared: PreparedRun) -> None:
    engine = LooksAtTheLock(prepared, GuardLine())
    with pytest.raises(StorageError, match="the disk is gone"):
        engine.run()
    assert re.search(rf"in use by the run {tmp_path}/runs/\S+/0001_fluence-sweep_\S+ \(process \d+ on ", engine.said)
    mine = ResourceLocks([SHUTTER], "me")
    mine.acquire()
    mine.release()


class MeetsALimit(Engine):
    """Meets a limit when some points are stored."""

    def done(self, point: Any, record: Any, done: int) -> None:
        super().done(point, record, done)
        if done == 3:
            raise LimitError("beyond")


def test_a_limit_in_the_middle_of_a_run_does_not_say_that_nothing_moved(tmp_path: Path) -> None:
    request = RunRequest(
        procedure="fluence-sweep",
        parameters={"dark_frames": 1, "fluences": "5 uJ/cm^2", "scatter_frames": 0, "return_points": 0},
        bench="simulated",
        out=str(tmp_path / "runs"),
        virtual_time=True,
    )
    outcome = MeetsALimit(prepare(request), GuardLine()).run()
    assert (outcome.status, outcome.exit_code) == ("failed", 1)
    assert outcome.error is not None
    assert outcome.error["state"] == f"safe state confirmed; {outcome.points['done']} points stored"
    assert outcome.points["done"] >= 3
