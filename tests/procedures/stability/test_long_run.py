"""A run of weeks, shorter: the engine killed and resumed, extended again and again, with flat memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from benchmarks.long_run import compared, killed_daily, whole
from labctl.run.engine import Engine
from labctl.run.guard_line import GuardLine
from labctl.run.plan import Point
from labctl.run.request import RunRequest, prepare
from labctl.run.steering import Alteration
from labctl.store.run import open_run

HOURS, KILLS = 24.0, 3
SAMPLE = "cspbbr3-zns"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_whose_engine_dies_again_and_again_gives_the_same_curve(tmp_path: Path) -> None:
    uninterrupted = whole(HOURS, SAMPLE, tmp_path / "whole")
    broken = killed_daily(HOURS, SAMPLE, tmp_path / "killed", KILLS, say=lambda text: None)
    assert broken.report["status"] == "finished"
    assert broken.report["safe_state"] == "confirmed"
    assert broken.kills == KILLS
    assert broken.lost == [], "what was acknowledged stays as it was"
    same = compared(uninterrupted.report["run"], broken.report["run"])
    assert same.same_set_points
    assert same.time_rms < 0.5 * same.noise
    assert broken.report["result"]["remaining"]["value"] == pytest.approx(
        uninterrupted.report["result"]["remaining"]["value"], abs=2 * same.noise
    )
    with open_run(broken.report["run"]) as run:
        assert len(run.events("resumed")) == KILLS


class Extending(Engine):
    """An engine whose operator wants some more reads whenever few are left."""

    def __init__(self, request: RunRequest, times: int, by: int) -> None:
        super().__init__(prepare(request), GuardLine())
        self._left = times
        self._by = by
        self.memory_mb: list[float] = []

    def done(self, point: Point, record: Any, done: int) -> None:
        super().done(point, record, done)
        self.memory_mb.append(psutil.Process().memory_info().rss * 1e-6)
        if point.stage == "uv" and self._left and self._progress["planned"] - done <= 3:
            self._left -= 1
            self.steering.alter(Alteration(what="extend", points=self._by))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_long_stage_is_extended_again_and_again(tmp_path: Path) -> None:
    """What is open-ended for those who do not know yet how long a film lives: nothing grows but the journal."""
    times, by = 12, 10
    request = RunRequest(
        procedure="uv-stability",
        bench="simulated-perovskites",
        sample=SAMPLE,
        parameters={"fluence": "0.7 uJ/cm^2", "times": ["1 h", "2 h", "3 h", "4 h"], "after_reads": 1},
        out=str(tmp_path),
        virtual_time=True,
        lease=False,
    )
    engine = Extending(request, times, by)
    outcome = engine.run()
    assert (outcome.status, outcome.safe_state) == ("finished", "confirmed")
    assert outcome.points["done"] == outcome.points["planned"]
    with open_run(outcome.run) as run:
        reads = (run.column("stage", "points") == "uv") & (run.column("kind", "points") == "read")
        assert int(reads.sum()) == 4 + times * by
        every_s = np.diff(run.column("t_s", "points")[reads])
        assert len(run.events("altered")) == times
        assert every_s == pytest.approx(3600.0, abs=60.0)
        assert run.status == "finished"
    assert not Path(outcome.run).with_suffix(".journal").exists(), "sealed at the end"
    early, late = engine.memory_mb[20], engine.memory_mb[-1]
    assert late - early < 20.0
