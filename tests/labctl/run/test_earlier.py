"""What the journal of a run says of the part that was measured before, and that a run goes on from there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from labctl.clock import RealClock
from labctl.errors import InputError, InstrumentError
from labctl.run.earlier import read_earlier, require_same_course
from labctl.run.plan import Plan, Stage
from labctl.run.policy import FailurePolicy
from labctl.run.steering import Alteration
from labctl.store.journal import Journal
from tests.labctl.run.toy_run import LAYOUT, ToyRun, adaptive, listed, scheduled

STAGES = (
    listed("dark", 0.0, 0.0, essential=True),
    listed("coarse", 10.0, 20.0, 30.0, on_failure=FailurePolicy(retries=1, then="skip")),
    adaptive("fine", 6),
    listed("return", 10.0),
)


@pytest.fixture
def begin(tmp_path: Path) -> Callable[..., ToyRun]:
    def make(*stages: Stage, name: str = "run") -> ToyRun:
        folder = tmp_path / name
        folder.mkdir()
        return ToyRun(folder, Plan(stages or STAGES, start_up_s=30.0))

    return make


def rows(run: ToyRun) -> list[tuple[Any, ...]]:
    """Everything but the times."""
    return list(zip(*(run.stored(name) for name in ("point", "attempt", "x_mm", "signal_counts")), strict=True))


def test_a_plan_survives_the_journal() -> None:
    plan = Plan((*STAGES, scheduled("decay", 5.0, 1.0, 2.0)), start_up_s=30.0)
    assert Plan.from_dict(plan.as_dict()) == plan


@pytest.mark.parametrize("last", range(9))
def test_an_aborted_run_goes_on_as_if_nothing_had_been(begin: Callable[..., ToyRun], last: int) -> None:
    whole = begin(name="whole")
    whole.part()
    run = begin()
    run.at_attempt = lambda point: run.stop.set() if point.index == last else None
    ended = run.part()
    # After the last point nothing is left to be stopped.
    assert ended.status == ("aborted" if last < 8 else "finished")
    if ended.status == "aborted":
        assert run.stored() == list(range(last + 1))
        run.at_attempt = lambda point: None
        assert run.part(away_s=100.0).status == "finished"
    assert rows(run) == rows(whole)
    assert run.loop.done == run.loop.planned == 9
    times = run.stored("t_s")
    assert times == sorted(times)


@pytest.mark.parametrize("tick", range(1, 60, 7))
def test_a_killed_run_goes_on_as_if_nothing_had_been(begin: Callable[..., ToyRun], tick: int) -> None:
    whole = begin(name="whole")
    whole.part()
    run = begin()
    run.at_tick[tick] = run.kill
    status = run.part().status
    while status == "crashed":
        assert read_earlier(run.path).cause.startswith("nobody recorded why")
        status = run.part().status
    assert status == "finished"
    assert rows(run) == rows(whole)


def test_stages_that_had_begun_are_not_planned_again(begin: Callable[..., ToyRun]) -> None:
    """What an adaptive stage chose then is done now, whatever the procedure would choose today."""
    run = begin()
    run.at_attempt = lambda point: run.stop.set() if point.index == 5 else None
    run.part()
    run.at_attempt = lambda point: None
    run.part()
    assert [event["name"] for event in run.events("stage")] == ["dark", "coarse", "fine", "return"]


def test_every_stored_point_is_recalled_in_order(begin: Callable[..., ToyRun]) -> None:
    run = begin()
    run.at_attempt = lambda point: run.stop.set() if point.index == 3 else None
    run.part()
    run.at_attempt = lambda point: None
    run.part()
    assert [entry.point.index for entry in run.sweep.recalled] == [0, 1, 2, 3]
    assert [entry.row["x_mm"] for entry in run.sweep.recalled] == [0.0, 0.0, 10.0, 20.0]


def test_the_gap_and_its_cause_are_known(begin: Callable[..., ToyRun]) -> None:
    run = begin()
    run.at_attempt = lambda point: (_ for _ in ()).throw(InstrumentError("no reply", role="camera"))
    run.part(policy=FailurePolicy(retries=0))
    earlier = read_earlier(run.path)
    assert (earlier.status, earlier.cause, earlier.points, earlier.resumed) == ("failed", "no reply", 0, 0)
    run.at_attempt = lambda point: run.stop.set() if point.index == 1 else None
    run.part(away_s=3600.0)
    (resumed,) = run.events("resumed")
    assert resumed == {"gap_s": 3600.0, "cause": "no reply"}
    earlier = read_earlier(run.path)
    assert (earlier.status, earlier.points, earlier.resumed) == ("aborted", 2, 1)
    assert run.stored("t_s")[0] > 3600.0, "the gap counts"


def test_a_clock_that_was_set_back_gives_no_negative_gap(begin: Callable[..., ToyRun]) -> None:
    run = begin()
    run.at_attempt = lambda point: run.stop.set()
    run.part()
    run.at_attempt = lambda point: None
    assert run.part(away_s=-7200.0).status == "finished"
    times = run.stored("t_s")
    assert times == sorted(times)


def test_a_reference_point_tells_what_became_of_the_signal(begin: Callable[..., ToyRun]) -> None:
    run = begin()
    for expected in (1, 2):
        run.at_attempt = lambda point: run.stop.set() if point.index == run.loop.done >= 3 else None
        run.part()
        assert len(run.stored(stream="reference")) == expected - 1
    run.at_attempt = lambda point: None
    run.part()
    references = run.events("reference")
    assert [entry["ratio"] for entry in references] == [1.0, 1.0]
    assert run.stored("point", "reference") == [entry["point"] for entry in references]
    assert run.stored("attempt", "reference") == [1000, 1001], "the noise is that of no other attempt"


def test_a_run_without_light_has_no_reference(begin: Callable[..., ToyRun]) -> None:
    run = begin()
    run.stop.set()
    run.at_tick[1] = run.stop.set
    run.part()
    run.at_attempt = lambda point: None
    assert run.part().status == "finished"
    assert run.events("reference") == [{"point": None, "why": "no point with light had been acknowledged"}]


def test_a_reference_that_fails_does_not_keep_the_run_from_going_on(begin: Callable[..., ToyRun]) -> None:
    run = begin()
    run.at_attempt = lambda point: run.stop.set() if point.index == 3 else None
    run.part()
    tried: list[int] = []

    def fail(point: Any) -> None:
        tried.append(point.index)
        if len(tried) == 1:
            raise InstrumentError("no pulse", role="meter")

    run.at_attempt = fail
    assert run.part().status == "finished"
    assert tried[:2] == [3, 4]
    assert run.events("reference")[0]["why"] == "the measurement of point 3 failed"
    assert run.only("revive") == [("revive", "meter")]
    assert run.stored() == list(range(9))
    assert run.bench.wrongs == []


def test_a_skipped_point_stays_skipped(begin: Callable[..., ToyRun]) -> None:
    run = begin()

    def fail(point: Any) -> None:
        if point.index == 3:
            raise InstrumentError("no reply", role="camera")
        if point.index == 4:
            run.stop.set()

    run.at_attempt = fail
    assert run.part().status == "aborted"
    assert read_earlier(run.path).skipped == {3}
    run.at_attempt = lambda point: None
    ended = run.part()
    assert (ended.done, ended.planned) == (8, 8)
    assert run.stored() == [0, 1, 2, 4, 5, 6, 7, 8]


def test_attempts_are_counted_on(begin: Callable[..., ToyRun]) -> None:
    run = begin()

    def fail(point: Any) -> None:
        if point.index == 3:
            raise InstrumentError("no reply", role="camera")

    run.at_attempt = fail
    run.on_notice = lambda kind: run.stop.set()
    assert run.part().status == "aborted"
    assert read_earlier(run.path).attempts == {3: 1}
    run.at_attempt, run.on_notice = lambda point: None, lambda kind: None
    run.part()
    assert run.stored("attempt")[3] == 1


def test_what_is_left_is_planned_in_proportion(begin: Callable[..., ToyRun]) -> None:
    coarse = Stage("coarse", "points", 4, 2.0, tuple({"x_mm": float(n)} for n in range(4)), dose_j_cm2=8.0, open_s=4.0)
    run = begin(coarse, listed("return", 1.0))
    run.at_attempt = lambda point: run.stop.set() if point.index == 0 else None
    run.part()
    left = read_earlier(run.path).remaining()
    assert [stage.max_points for stage in left.stages] == [3, 1]
    assert (left.stages[0].dose_j_cm2, left.stages[0].open_s) == (6.0, 3.0)
    assert left.stages[0].settings == ({"x_mm": 1.0}, {"x_mm": 2.0}, {"x_mm": 3.0})


@pytest.mark.parametrize("is_adaptive", [False, True])
def test_the_dose_that_is_left_goes_with_the_fluence(begin: Callable[..., ToyRun], is_adaptive: bool) -> None:
    """Of 1, 2 and 7 uJ/cm^2 the first is done: nine tenths of the dose are left, though two of three points."""
    fluences = (1.0, 2.0, 7.0)
    settings = tuple({"x_mm": value, "fluence_uj_cm2": value} for value in fluences)
    run = begin(Stage("coarse", "points", 3, 2.0, settings, dose_j_cm2=10.0, open_s=3.0))
    run.at_attempt = lambda point: run.stop.set() if point.index == 0 else None
    run.part()
    earlier = read_earlier(run.path)
    if is_adaptive:
        (stage,) = earlier.plan.stages
        earlier = replace(earlier, plan=replace(earlier.plan, stages=(replace(stage, settings=None),)))
    (left,) = earlier.remaining().stages
    assert (left.dose_j_cm2, left.open_s) == (pytest.approx(9.0), 2.0)


def test_an_alteration_of_a_stage_that_had_not_begun_is_pending(begin: Callable[..., ToyRun]) -> None:
    run = begin()
    asked = Alteration(what="extend", stage="return", points=2)
    run.steering.alter(asked)
    run.at_attempt = lambda point: run.stop.set()
    run.part()
    assert read_earlier(run.path).pending == (asked,)
    run.at_attempt = lambda point: None
    ended = run.part()
    assert (ended.done, ended.planned) == (11, 11)
    assert read_earlier_refused(run) == "the run is finished: there is nothing to resume"


def read_earlier_refused(run: ToyRun) -> str:
    with pytest.raises(InputError) as caught:
        read_earlier(run.path)
    assert caught.value.todo
    return caught.value.what


def test_a_run_that_goes_on_is_not_resumed(tmp_path: Path) -> None:
    plan = Plan((listed("coarse", 1.0),))
    with Journal.create(tmp_path / "run.journal", {"plan": plan.as_dict()}), pytest.raises(InputError, match="goes on"):
        read_earlier(tmp_path / "run.journal")


def test_a_run_without_a_journal_is_not_resumed(tmp_path: Path) -> None:
    (tmp_path / "0001_run.h5").write_bytes(b"")
    for name in ("0001_run.h5", "0001_run", "0002_run.journal"):
        with pytest.raises(InputError, match="has no journal: there is nothing to resume"):
            read_earlier(tmp_path / name)


@pytest.mark.parametrize(
    "header", [{}, {"plan": {"stages": [{"name": "coarse"}], "start_up_s": 0.0}}, {"plan": {"stages": 3}}]
)
def test_a_journal_that_does_not_say_what_was_planned_is_refused(tmp_path: Path, header: dict[str, Any]) -> None:
    path = tmp_path / "run.journal"
    with Journal.create(path, header) as journal:
        journal.add_stream("points", LAYOUT)
        journal.set_status("aborted", t_s=0.0, wall_s=RealClock().wall())
    with pytest.raises(InputError) as caught:
        read_earlier(path)
    assert "does not say what was planned" in caught.value.what
    assert "--again" in caught.value.todo


def test_a_bench_with_other_stages_is_refused(begin: Callable[..., ToyRun]) -> None:
    run = begin()
    run.at_attempt = lambda point: run.stop.set()
    run.part()
    earlier = read_earlier(run.path)
    require_same_course(earlier, run.plan)
    with pytest.raises(InputError) as caught:
        require_same_course(earlier, Plan(STAGES[1:]))
    assert "then dark, coarse, fine, return; now coarse, fine, return" in caught.value.where
