"""Past runs of the same kind tell what the next one takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from labctl.run.engine import Engine
from labctl.run.expectation import Expectation, StageExpectation, from_plan, median
from labctl.run.forecast import forecast
from labctl.run.guard_line import GuardLine
from labctl.run.learned import past_runs
from labctl.run.preflight import preflight
from labctl.run.request import PreparedRun, RunRequest, prepare


def prepared_run(folder: Path, points: int = 9, **fields: Any) -> PreparedRun:
    request = RunRequest(
        procedure="attenuator-calibration",
        bench="simulated",
        out=str(folder / "runs"),
        virtual_time=True,
        parameters={"points": points},
        **fields,
    )
    return prepare(request)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs of nine angles and an aborted one."""
    folder = tmp_path_factory.mktemp("past")
    for seed in range(2):
        assert Engine(prepared_run(folder, seed=seed), GuardLine()).run().status == "finished"
    aborted = Engine(prepared_run(folder, seed=2), GuardLine())
    aborted.abort("a test asked for it")
    assert aborted.run().status == "aborted"
    return folder


def test_nothing_is_known_of_a_first_run(tmp_path: Path) -> None:
    prepared = prepared_run(tmp_path)
    plan = preflight(prepared).plan
    assert past_runs(prepared, plan) is None
    assert forecast(prepared, plan, rehearsal=False) == from_plan(plan)
    assert not (tmp_path / "runs").exists()


def test_the_finished_runs_of_the_same_kind_are_found(folder: Path) -> None:
    prepared = prepared_run(folder)
    plan = preflight(prepared).plan
    found = past_runs(prepared, plan)
    assert found is not None and found.source == "median of 2 past runs"
    assert found.points == plan.max_points == 17
    rehearsed = forecast(prepared, plan)
    assert rehearsed.source == "rehearsed on the emulators"
    assert found.duration_s == pytest.approx(rehearsed.duration_s, rel=0.05)
    assert found.files_mb == pytest.approx(rehearsed.files_mb, rel=0.05)
    assert forecast(prepared, plan, rehearsal=False) == found


@pytest.mark.parametrize("other", [{"points": 10}, {"sample": "cdse-cds"}], ids=["points", "sample"])
def test_runs_of_another_kind_say_nothing(folder: Path, other: dict[str, Any]) -> None:
    prepared = prepared_run(folder, **other)
    assert past_runs(prepared, preflight(prepared).plan) is None


def test_a_run_that_cannot_be_read_is_passed_over(folder: Path) -> None:
    prepared = prepared_run(folder)
    plan = preflight(prepared).plan
    (day,) = (path for path in (folder / "runs").iterdir() if path.is_dir())
    broken = day / "9999_attenuator-calibration_x.h5"
    broken.write_bytes(b"no run at all")
    try:
        found = past_runs(prepared, plan)
    finally:
        broken.unlink()
    assert found is not None and found.source == "median of 2 past runs"


def test_the_median_is_taken_stage_by_stage() -> None:
    one = Expectation("", (StageExpectation("a", 3, 10.0, 1.0, 0.1), StageExpectation("b", 2, 5.0, 0.0, 0.0)), 2.0)
    slow = replace(one, stages=(replace(one.stages[0], duration_s=30.0), one.stages[1]), files_mb=3.0)
    fast = replace(one, stages=(replace(one.stages[0], duration_s=8.0), replace(one.stages[1], duration_s=50.0)))
    found = median([one, slow, fast], "median of 3 past runs")
    assert [stage.duration_s for stage in found.stages] == [10.0, 5.0]
    assert (found.points, found.duration_s, found.files_mb) == (5, 17.0, 3.0)
