"""The time left follows what past runs took, where they are known."""

from __future__ import annotations

from labctl.run.expectation import Expectation, StageExpectation
from labctl.run.plan import Plan, Stage
from labctl.run.time_left import TimeLeft, paced_stages

PLAN = Plan((Stage("dark", "dark", 4, 2.0), Stage("points", "points", 10, 3.0)), start_up_s=100.0)


def test_without_past_runs_the_plan_tells() -> None:
    stages, start_up_s = paced_stages(PLAN, None)
    assert TimeLeft(stages, start_up_s, virtual_time=False).total_s == PLAN.duration_s == 138.0


def test_past_runs_tell_the_pace_of_the_stages_they_had() -> None:
    known = Expectation("one past run", (StageExpectation("points", 8, 48.0, 0.0, 0.0),), start_up_s=20.0)
    stages, start_up_s = paced_stages(PLAN, known)
    assert stages == {"dark": {"max_points": 4, "point_s": 2.0}, "points": {"max_points": 10, "point_s": 6.0}}
    assert TimeLeft(stages, start_up_s, virtual_time=False).total_s == 88.0


def test_a_stage_without_points_tells_no_pace() -> None:
    known = Expectation("one past run", (StageExpectation("points", 0, 0.0, 0.0, 0.0),), start_up_s=20.0)
    assert paced_stages(PLAN, known)[0]["points"]["point_s"] == 3.0
