"""Pauses of a run: an operator wants one, or a watch condition asks for it. The sample is dark all the while."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labctl.errors import InstrumentError, InterlockTripped
from labctl.run.plan import Plan
from labctl.run.policy import FailurePolicy
from tests.labctl.run.toy_run import ToyRun, listed, scheduled, tripped


@pytest.fixture
def begin(tmp_path: Path) -> Callable[..., ToyRun]:
    def make(*stages: Any) -> ToyRun:
        return ToyRun(tmp_path, Plan(stages or (listed("coarse", 1.0, 2.0, 3.0),)))

    return make


def between(run: ToyRun, before: int) -> list[tuple[Any, ...]]:
    """What the bench did between two points."""
    happened = run.bench.happened
    start = happened.index(("done", before - 1, before)) + 1
    return happened[start : happened.index(("announce", before, 0))]


def test_an_operator_pauses_between_two_points_in_the_dark(begin: Callable[..., ToyRun]) -> None:
    run = begin()
    run.at_attempt = lambda point: run.steering.pause("filter swapped") if point.index == 1 else None
    run.on_notice = lambda kind: run.steering.go_on() if kind == "paused" else None
    assert run.part().status == "finished"
    assert between(run, 2) == [("darken",), ("set up",)], "nobody knows what hands have done meanwhile"
    assert run.stored() == [0, 1, 2], "the point in hand is finished and kept"
    (paused,), (continued,) = run.events("paused"), run.events("continued")
    assert paused == {"reason": "filter swapped", "before": 2, "by": "operator"}
    assert (continued["before"], continued["paused_s"] >= 0.0) == (2, True)
    assert run.bench.wrongs == []


def test_a_pause_asked_for_before_the_first_point(begin: Callable[..., ToyRun]) -> None:
    run = begin()
    run.steering.pause("")
    run.on_notice = lambda kind: run.steering.go_on() if kind == "paused" else None
    assert run.part().status == "finished"
    assert run.events("paused") == [{"reason": "an operator asked for it", "before": 0, "by": "operator"}]
    assert run.stored() == [0, 1, 2]


def test_an_abort_ends_a_pause(begin: Callable[..., ToyRun]) -> None:
    run = begin()
    run.steering.pause("")
    run.on_notice = lambda kind: run.stop.set()
    ended = run.part()
    assert (ended.status, ended.done) == ("aborted", 0)
    assert run.events("continued") == []
    assert run.only("measure") == []


def test_a_shutter_that_does_not_close_ends_the_run_rather_than_pause_it(begin: Callable[..., ToyRun]) -> None:
    run = begin()

    def stick(point: Any) -> None:
        run.steering.pause("")
        run.bench.darken = lambda: (_ for _ in ()).throw(InstrumentError("reads back open", role="shutter"))

    run.at_attempt = stick
    ended = run.part()
    assert isinstance(ended.error, InstrumentError)
    assert run.events("paused") == []


@pytest.mark.parametrize(("action", "acts"), [("pause", [("darken",)]), ("safe", [("darken",), ("rest",), ("wake",)])])
def test_a_condition_pauses_the_run_until_it_may_go_on(
    begin: Callable[..., ToyRun], action: str, acts: list[tuple[str]]
) -> None:
    run = begin()
    run.trips = {1: (action, 5)}
    assert run.part().status == "finished"
    assert between(run, 1) == [*acts, ("set up",)]
    (paused,), (continued,) = run.events("paused"), run.events("continued")
    assert (paused["by"], paused["action"], paused["before"]) == ("interlock", action, 1)
    assert "Close the lid." in paused["reason"]
    assert continued["paused_s"] == 5.0
    assert run.stored("t_s") == [2.0, 9.0, 11.0]
    assert run.bench.wrongs == []


def test_a_condition_may_end_the_run(begin: Callable[..., ToyRun]) -> None:
    run = begin()
    run.trips = {2: ("abort", 0)}
    ended = run.part()
    assert isinstance(ended.error, InterlockTripped)
    assert "lid" in ended.error.what
    assert run.stored() == [0, 1]


def test_without_anybody_who_closes_the_shutter_a_pause_is_the_end(begin: Callable[..., ToyRun]) -> None:
    run = begin()
    run.trips = {1: ("pause", 0)}
    assert isinstance(run.part(keeper=None).error, InterlockTripped)


def test_an_abort_ends_the_wait_for_a_condition(begin: Callable[..., ToyRun]) -> None:
    run = begin()
    run.trips = {1: ("pause", 10**6)}
    run.on_notice = lambda kind: run.stop.set() if kind == "paused" else None
    assert run.part().status == "aborted"
    assert run.stored() == [0]


def test_a_graver_condition_is_heeded_while_the_run_pauses(begin: Callable[..., ToyRun]) -> None:
    run = begin()
    run.trips = {1: ("pause", 10**6), 2: ("safe", 2)}

    def worsen(kind: str) -> None:
        run.interlocks.worsens = tripped("safe") if run.interlocks.looks == 2 else None

    run.on_notice = worsen
    assert run.part().status == "finished"
    assert [entry["action"] for entry in run.events("paused")] == ["pause", "safe"]
    assert len(run.events("continued")) == 1
    assert run.stored() == [0, 1, 2]
    assert run.bench.wrongs == []


def test_conditions_are_looked_at_while_the_run_waits_for_its_next_point(begin: Callable[..., ToyRun]) -> None:
    run = begin(scheduled("decay", 100.0, 1.0, 2.0))
    run.trips = {50: ("pause", 5)}
    assert run.part().status == "finished"
    (paused,) = run.events("paused")
    assert paused["before"] == 1
    assert run.stored("t_s") == [2.0, 102.0], "the schedule is kept"


def test_roles_that_cannot_be_set_up_after_a_pause_are_tried_again(begin: Callable[..., ToyRun]) -> None:
    run = begin()

    def pause(point: Any) -> None:
        if point.index == 0:
            run.steering.pause("cable moved")
            run.bench.dead["camera"] = 1

    run.at_attempt = pause
    run.on_notice = lambda kind: run.steering.go_on() if kind == "paused" else None
    assert run.part(policy=FailurePolicy(retries=2)).status == "finished"
    assert run.stored() == [0, 1, 2]
    assert run.stored("attempt") == [0, 2, 0]
    assert run.bench.wrongs == []


@pytest.mark.parametrize("action", ["pause", "safe"])
def test_a_try_that_an_interlock_has_stopped_does_not_count(begin: Callable[..., ToyRun], action: str) -> None:
    """A door that opens during a point makes an instrument fail; the watch is asked before the instrument is blamed."""
    run = begin()
    failed: list[int] = []

    def fail_once(point: Any) -> None:
        if point.index == 1 and not failed:
            failed.append(point.index)
            raise InstrumentError("no pulse came", role="meter")

    run.at_attempt = fail_once
    run.trips = {2: (action, 3)}  # the looks before points 0 and 1, then the one after the failure
    assert run.part(policy=FailurePolicy(retries=0)).status == "finished", "no try was left, and none was used up"
    assert run.stored() == [0, 1, 2]
    (paused,) = run.events("paused")
    assert (paused["by"], paused["action"], paused["before"]) == ("interlock", action, 1)
    assert [entry["action"] for entry in run.events("incident")] == ["retry"]
    assert run.bench.wrongs == []


def test_a_condition_within_its_grace_time_is_waited_for_before_a_point_is_given_up(
    begin: Callable[..., ToyRun],
) -> None:
    run = begin()
    soon = iter([0.5, 0.5, None])
    run.interlocks.soon_s = lambda: next(soon, None)
    run.at_attempt = lambda point: _fail(point.index == 1 and run.interlocks.looks <= 2)
    run.trips = {4: ("pause", 1)}
    assert run.part(policy=FailurePolicy(retries=0)).status == "finished"
    assert len(run.events("paused")) == 1 and run.stored() == [0, 1, 2]


def test_the_interlocks_are_watched_while_an_operator_pauses(begin: Callable[..., ToyRun]) -> None:
    run = begin()
    run.steering.pause("")
    run.trips = {0: ("safe", 2)}
    run.on_notice = lambda kind: run.steering.go_on() if run.events("paused")[1:] else None
    assert run.part().status == "finished"
    assert [event["by"] for event in run.events("paused")] == ["operator", "interlock"]
    assert ("rest",) in run.bench.happened and run.bench.wrongs == []


def _fail(now: bool) -> None:
    if now:
        raise InstrumentError("no pulse came", role="meter")
