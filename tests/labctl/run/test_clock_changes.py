"""Clocks that are set while a run goes, or between its parts: the schedule is that of a clock nobody can set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from labctl.clock import MachineTime, RealClock, machine_time
from labctl.run import earlier as earlier_module
from labctl.run.earlier import CLOCK, Earlier, read_earlier
from labctl.run.plan import Plan
from labctl.store.journal import Journal
from labctl.store.run import open_run
from tests.labctl.run.toy_run import LAYOUT, ToyRun, scheduled

EVERY_S = 600.0
STEPS_S = (3600.0, -3600.0, 0.25, -7 * 86400.0)
"""Summer time begins, ends (where a system keeps local time), NTP corrects, somebody sets the date back."""
ROW = {"x_mm": 1.0, "signal_counts": 1.0}
SPECTRUM = {"spectrum": np.zeros(4, np.float32)}


class SetClock(RealClock):
    """The machine's clock with another time on the wall."""

    def __init__(self, wall_s: float) -> None:
        self._wall_s = wall_s

    def wall(self) -> float:
        return self._wall_s


@pytest.mark.parametrize("step_s", STEPS_S)
def test_a_clock_that_is_set_does_not_move_the_reads(tmp_path: Path, step_s: float) -> None:
    run = ToyRun(tmp_path, Plan((scheduled("long", EVERY_S, 1.0, 2.0, 3.0, 4.0),)))

    def set_clock(point: object) -> None:
        if getattr(point, "index", None) == 1:
            run.clock._wall_offset += step_s

    run.at_attempt = set_clock
    assert run.part().status == "finished"
    assert run.stored() == [0, 1, 2, 3]
    times, walls = run.stored("t_s"), run.stored("wall_s")
    assert [round(float(t_s)) // EVERY_S for t_s in times] == [0, 1, 2, 3]
    assert walls[1] - walls[0] - (times[1] - times[0]) == pytest.approx(step_s, abs=1e-3), "both times are stored"
    assert walls[3] - walls[1] == pytest.approx(times[3] - times[1], abs=1e-3)


@pytest.fixture
def journal(tmp_path: Path) -> Callable[..., Path]:
    """Write the journal of a real-time run that broke off, with rows at times since its start."""

    def write(*rows: tuple[float, float], start: MachineTime | None, death: tuple[float, float] | None = None) -> Path:
        path = tmp_path / "run.journal"
        plan = Plan((scheduled("long", EVERY_S, 1.0, 2.0, 3.0, 4.0),))
        out = Journal.create(path, {"plan": plan.as_dict(), "run": "run"})
        try:
            out.add_stream("points", LAYOUT)
            if start is not None:
                data = {"boot": start.boot, "start_s": start.now_s}
                out.event(CLOCK, data, t_s=0.0, wall_s=rows[0][1])
            for point, (t_s, wall_s) in enumerate(rows):
                out.append("points", point=point, attempt=0, t_s=t_s, wall_s=wall_s, row=ROW, arrays=SPECTRUM)
            if death is not None:
                out.event("safe_state", {"state": "confirmed"}, t_s=death[0], wall_s=death[1])
        finally:
            out.close()
        return path

    return write


def gap_s(earlier: Earlier, now: MachineTime | None, wall_s: float) -> float:
    with mock.patch.object(earlier_module, "machine_time", lambda: now):
        return earlier.gap_s(SetClock(wall_s))


@pytest.mark.parametrize("step_s", STEPS_S)
def test_a_clock_that_is_set_while_a_run_is_away_does_not_move_it(journal: Callable[..., Path], step_s: float) -> None:
    path = journal((0.0, 1.7e9), (600.0, 1.7e9 + 600), start=MachineTime("this start", 5000.0))
    earlier = read_earlier(path)
    found_s = gap_s(earlier, MachineTime("this start", 5000.0 + 600.0 + 1200.0), 1.7e9 + 1800 + step_s)
    assert found_s == pytest.approx(1200.0)
    assert earlier.last_s + found_s == pytest.approx(1800.0)


def test_across_a_start_of_the_machine_the_wall_clock_counts(journal: Callable[..., Path]) -> None:
    path = journal((0.0, 1.7e9), (600.0, 1.7e9 + 600), start=MachineTime("the one before", 5000.0))
    earlier = read_earlier(path)
    assert gap_s(earlier, MachineTime("this start", 100.0), 1.7e9 + 2400) == pytest.approx(1800.0)
    assert gap_s(earlier, None, 1.7e9 + 2400) == pytest.approx(1800.0)
    set_back_s = gap_s(earlier, MachineTime("this start", 100.0), 1.7e9 - 3600)
    assert set_back_s == 0.0, "never before what is stored"


def test_a_run_of_which_no_such_clock_is_known_goes_by_the_wall(journal: Callable[..., Path]) -> None:
    earlier = read_earlier(journal((0.0, 1.7e9), start=None))
    assert gap_s(earlier, MachineTime("this start", 100.0), 1.7e9 + 60) == pytest.approx(60.0)


def test_the_time_from_the_last_row_to_a_death_counts(journal: Callable[..., Path]) -> None:
    """Who makes a bench safe after a death knows the time of the last row and the clock on the wall, no more."""
    path = journal((0.0, 1.7e9), (600.0, 1.7e9 + 600), start=None, death=(600.0, 1.7e9 + 600 + 3000))
    earlier = read_earlier(path)
    assert gap_s(earlier, None, 1.7e9 + 600 + 3010) == pytest.approx(3010.0)


def test_two_readings_of_the_machines_clock_belong_to_one_start() -> None:
    before, after = machine_time(), machine_time()
    if before is None or after is None:
        pytest.skip("this system does not tell since when it is on")
    assert before.boot == after.boot
    assert after.now_s >= before.now_s


@pytest.mark.parametrize("step_s", [3600.0, -3600.0])
def test_a_run_that_left_the_bench_comes_back_by_its_schedule(tmp_path: Path, step_s: float) -> None:
    """With each visit the wall clock has another error; the machine's own tells how long the run was away."""
    run = ToyRun(tmp_path, Plan((scheduled("long", EVERY_S, 1.0, 2.0, 3.0),)))
    assert run.part(leave_if_idle_s=60.0).status == "waiting"
    with open_run(run.path) as stored:
        last_s = max(event.t_s for event in stored.events())
    with mock.patch.object(Earlier, "gap_s", lambda self, clock: EVERY_S - last_s):
        assert run.part(leave_if_idle_s=60.0, away_s=EVERY_S + step_s).status == "waiting"
    assert run.stored() == [0, 1]
    assert round(float(run.stored("t_s")[1])) // EVERY_S == 1
