"""A point that fails: dark, a new connection, every role set up anew, again; then it is skipped, or the run ends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labctl.errors import Aborted, InputError, InstrumentError, LimitExceeded, Quarantined, StorageError
from labctl.run.plan import Plan, Point
from labctl.run.policy import FailurePolicy
from tests.labctl.run.toy_run import ToyRun, listed, scheduled

SKIP = FailurePolicy(retries=1, then="skip", wait_s=1.0)


@pytest.fixture
def begin(tmp_path: Path) -> Callable[..., ToyRun]:
    def make(*stages: Any) -> ToyRun:
        return ToyRun(tmp_path, Plan(stages or (listed("coarse", 1.0, 2.0, 3.0, 4.0),)))

    return make


def failing(run: ToyRun, *attempts: int, point: int = 1, role: str = "camera", dead: int = 0) -> list[Exception]:
    """Have the given attempts of a point fail; the instrument then refuses as many new connections."""
    tried: list[int] = []
    raised: list[Exception] = []

    def fail(measured: Point) -> None:
        if measured.index != point:
            return
        tried.append(0)
        if len(tried) - 1 in attempts:
            if dead:
                run.bench.dead[role] = dead
            raised.append(InstrumentError("no reply", role=role))
            raise raised[-1]

    run.at_attempt = fail
    return raised


def test_a_point_is_tried_again_in_the_dark_with_every_role_set_anew(begin: Callable[..., ToyRun]) -> None:
    run = begin()
    failing(run, 0)
    assert run.part().status == "finished"
    of_the_point = [entry for entry in run.bench.happened if entry[0] not in {"stage", "done", "altered"}]
    start = of_the_point.index(("announce", 1, 0))
    assert of_the_point[start : start + 7] == [
        ("announce", 1, 0),
        ("measure", 1, "coarse", {"x_mm": 2.0}),
        ("darken",),
        ("revive", "camera"),
        ("set up",),
        ("announce", 1, 1),
        ("measure", 1, "coarse", {"x_mm": 2.0}),
    ]
    assert run.bench.wrongs == []
    assert run.stored() == [0, 1, 2, 3]
    assert run.stored("attempt") == [0, 1, 0, 0]


def test_every_failed_attempt_is_an_incident_that_names_the_instrument(begin: Callable[..., ToyRun]) -> None:
    run = begin()
    failing(run, 0, 1)
    run.part()
    incidents = run.events("incident")
    assert [(entry["attempt"], entry["action"]) for entry in incidents] == [(0, "retry"), (1, "retry")]
    assert {(entry["role"], entry["point"], entry["stage"]) for entry in incidents} == {("camera", 1, "coarse")}
    assert all(entry["error"]["what"] == "no reply" for entry in incidents)
    assert [kind for kind, _ in run.notices] == ["incident", "incident"], "the fronts are told"


def test_the_wait_is_doubled_before_each_further_try(begin: Callable[..., ToyRun]) -> None:
    """Without a failure the points follow each other every 2 s; a failed one lasts 1 s until it fails."""
    run = begin()
    failing(run, 0, 1, 2)
    run.part(policy=FailurePolicy(retries=3, wait_s=4.0))
    assert run.stored("t_s") == [2.0, 2.0 + (1 + 4) + (1 + 8) + (1 + 16) + 2.0, 37.0, 39.0]


def test_an_instrument_that_names_no_role_is_not_revived_but_all_are_set_up(begin: Callable[..., ToyRun]) -> None:
    run = begin()
    failing(run, 0, role="")
    assert run.part().status == "finished"
    assert run.only("revive", "set up") == [("set up",)]


def test_nothing_is_measured_before_the_roles_are_set_up(begin: Callable[..., ToyRun]) -> None:
    """A connection that is refused counts as a failed attempt of its own."""
    run = begin()
    failing(run, 0, dead=1)
    assert run.part(policy=FailurePolicy(retries=2)).status == "finished"
    assert run.bench.wrongs == []
    assert run.only("announce")[1:3] == [("announce", 1, 0), ("announce", 1, 2)]
    assert run.stored("attempt") == [0, 2, 0, 0]
    assert [entry["error"]["what"] for entry in run.events("incident")] == [
        "no reply",
        "no reply at the new connection",
    ]


def test_roles_that_could_not_be_set_up_are_before_the_next_point(begin: Callable[..., ToyRun]) -> None:
    run = begin()
    failing(run, 0, dead=2)
    assert run.part(policy=SKIP).status == "finished"
    assert run.stored() == [0, 2, 3]
    assert run.bench.wrongs == []
    assert [entry["action"] for entry in run.events("incident")] == ["retry", "skip", "not brought back"]


def test_the_last_failure_ends_the_run_and_says_how_often_it_was_tried(begin: Callable[..., ToyRun]) -> None:
    run = begin()
    failing(run, 0, 1, 2)
    ended = run.part(policy=FailurePolicy(retries=2))
    assert ended.status == "failed"
    assert isinstance(ended.error, InstrumentError)
    assert ended.error.state == "tried 3 times"
    assert ended.error.where == "point 1 of stage 'coarse'"
    assert run.stored() == [0]


def test_a_point_that_is_skipped_is_marked(begin: Callable[..., ToyRun]) -> None:
    run = begin()
    failing(run, 0, 1)
    ended = run.part(policy=SKIP)
    assert (ended.status, ended.done, ended.planned) == ("finished", 3, 3)
    assert run.stored() == [0, 2, 3]
    (skipped,) = run.events("skipped")
    assert (skipped["point"], skipped["stage"], skipped["settings"]) == (1, "coarse", {"x_mm": 2.0})
    assert skipped["why"] == "2 attempts failed: no reply"


def test_essential_points_are_never_skipped(begin: Callable[..., ToyRun]) -> None:
    run = begin(listed("dark", 0.0, essential=True, on_failure=SKIP), listed("coarse", 1.0))
    failing(run, 0, 1, point=0)
    ended = run.part(policy=SKIP, overrides=True)
    assert ended.status == "failed"
    assert run.events("skipped") == []
    assert len(run.only("measure")) == 2, "it was tried again"


@pytest.mark.parametrize(
    ("own", "overrides", "stored"),
    [(None, False, [0, 2]), (FailurePolicy(retries=0), False, [0]), (FailurePolicy(retries=0), True, [0, 2])],
    ids=["of the procedure", "of the stage", "of the request"],
)
def test_whose_policy_holds(
    begin: Callable[..., ToyRun], own: FailurePolicy | None, overrides: bool, stored: list[int]
) -> None:
    run = begin(listed("coarse", 1.0, 2.0, 3.0, on_failure=own))
    failing(run, 0, 1)
    run.part(policy=SKIP, overrides=overrides)
    assert run.stored() == stored


def test_an_instrument_that_spoils_point_after_point_is_quarantined_and_named(begin: Callable[..., ToyRun]) -> None:
    run = begin(listed("coarse", *map(float, range(6))))

    def fail(point: Point) -> None:
        if point.index >= 1:
            raise InstrumentError("no pulse", role="energy_meter")

    run.at_attempt = fail
    ended = run.part(policy=FailurePolicy(retries=0, then="skip", quarantine_after=3))
    assert ended.status == "failed"
    assert isinstance(ended.error, Quarantined)
    assert ended.error.role == "energy_meter"
    assert "the energy meter is quarantined: it has spoilt 3 points in a row, last: no pulse" in str(ended.error)
    assert [entry["point"] for entry in run.events("skipped")] == [1, 2, 3]
    assert not run.bench.is_open


@pytest.mark.parametrize("roles", [["camera", "meter"], ["camera", ""]])
def test_only_failures_of_one_instrument_in_a_row_count(begin: Callable[..., ToyRun], roles: list[str]) -> None:
    run = begin(listed("coarse", *map(float, range(6))))

    def fail(point: Point) -> None:
        raise InstrumentError("no reply", role=roles[point.index % 2])

    run.at_attempt = fail
    assert run.part(policy=FailurePolicy(retries=0, then="skip", quarantine_after=2)).status == "finished"


def test_a_good_point_ends_the_row(begin: Callable[..., ToyRun]) -> None:
    run = begin(listed("coarse", *map(float, range(6))))

    def fail(point: Point) -> None:
        if point.index != 2:
            raise InstrumentError("no reply", role="camera")

    run.at_attempt = fail
    ended = run.part(policy=FailurePolicy(retries=0, then="skip", quarantine_after=3))
    assert isinstance(ended.error, Quarantined)
    assert [entry["point"] for entry in run.events("skipped")] == [0, 1, 3, 4, 5]


def test_a_shutter_that_cannot_be_confirmed_dark_ends_the_run_at_once(begin: Callable[..., ToyRun]) -> None:
    run = begin()
    failing(run, 0, 1)
    run.bench.stuck_open = True
    ended = run.part(policy=SKIP)
    assert isinstance(ended.error, InstrumentError)
    assert ended.error.what == "the shutter reads back open"
    assert len(run.only("measure")) == 2
    assert run.only("revive", "set up") == []


@pytest.mark.parametrize("kind", [LimitExceeded, StorageError, Aborted, InputError])
def test_what_is_no_failure_of_an_instrument_is_never_tried_again(begin: Callable[..., ToyRun], kind: Any) -> None:
    run = begin()

    def fail(point: Point) -> None:
        if point.index == 1:
            raise kind("no more")

    run.at_attempt = fail
    ended = run.part(policy=SKIP)
    assert isinstance(ended.error, kind)
    assert len(run.only("measure")) == 2
    assert run.events("skipped") == []


def test_without_anybody_who_keeps_it_dark_nothing_is_tried_again(begin: Callable[..., ToyRun]) -> None:
    run = begin()
    failing(run, 0)
    assert run.part(policy=SKIP, keeper=None).status == "failed"
    assert len(run.only("measure")) == 2


def test_an_abort_ends_the_wait_before_the_next_try(begin: Callable[..., ToyRun]) -> None:
    run = begin()
    failing(run, 0)
    run.on_notice = lambda kind: run.stop.set()
    ended = run.part(policy=FailurePolicy(wait_s=600.0))
    assert ended.status == "aborted"
    assert run.clock.now() < 10.0
    assert run.only("revive") == []


def test_what_was_measured_while_the_computer_slept_is_measured_again(begin: Callable[..., ToyRun]) -> None:
    run = begin()
    slept: list[int] = []

    def sleep(point: Point) -> None:
        if point.index == 1 and not slept:
            slept.append(0)
            run.steering.disturb("the computer slept for 3600 s")

    run.at_attempt = sleep
    assert run.part().status == "finished"
    assert run.stored("attempt") == [0, 1, 0, 0]
    (incident,) = run.events("incident")
    assert "slept for 3600 s" in incident["error"]["what"]
    assert incident["role"] == ""


def test_a_sleep_between_two_points_spoils_neither(begin: Callable[..., ToyRun]) -> None:
    run = begin()
    run.steering.disturb("the computer slept")
    assert run.part().status == "finished"
    assert run.stored("attempt") == [0, 0, 0, 0]


def test_the_guard_is_given_time_for_a_revival(begin: Callable[..., ToyRun]) -> None:
    run = begin()
    failing(run, 0)
    run.part()
    assert max(run.expected_s) >= 600.0
    assert run.expected_s[-1] < 100.0


def test_an_instrument_that_is_off_for_an_hour_is_waited_for_and_what_went_by_is_left_out(tmp_path: Path) -> None:
    run = ToyRun(tmp_path, Plan((scheduled("long", 600.0, *range(12)),)))
    off_from_s, off_for_s = 1250.0, 3600.0

    def fail(point: Point) -> None:
        if off_from_s < run.loop.now_s < off_from_s + off_for_s:
            raise InstrumentError("no reply", role="camera")

    run.at_attempt = fail
    patient = FailurePolicy(retries=1, then="skip", wait_s=1.0, patience_s=7200.0)
    assert run.part(policy=patient).status == "finished"
    stored = [int(index) for index in run.stored()]
    assert stored == [0, 1, 2, 3, 8, 9, 10, 11]
    assert [event["point"] for event in run.events("skipped")] == [4, 5, 6, 7]
    assert all("went by" in event["why"] for event in run.events("skipped"))
    # Every five minutes at most: some fifteen tries in an hour, not thousands.
    assert 10 < len(run.events("incident")) < 30


def test_patience_has_an_end(tmp_path: Path) -> None:
    run = ToyRun(tmp_path, Plan((scheduled("long", 600.0, *range(4)),)))

    def fail(point: Point) -> None:
        raise InstrumentError("no reply", role="camera")

    run.at_attempt = fail
    assert run.part(policy=FailurePolicy(retries=0, wait_s=1.0, patience_s=1000.0)).status == "failed"
    assert 1000.0 <= run.loop.now_s < 1000.0 + 2 * FailurePolicy.LONGEST_WAIT_S
