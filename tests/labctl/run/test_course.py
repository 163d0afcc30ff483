"""The course of a run: stages as planned, chosen, or altered by an operator; schedules; what was missed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labctl.errors import InputError
from labctl.run.plan import Plan, Stage
from labctl.run.procedure import SweepProcedure
from labctl.run.steering import Alteration
from tests.labctl.run.toy_run import ToyRun, adaptive, listed, scheduled


@pytest.fixture
def begin(tmp_path: Path) -> Callable[..., ToyRun]:
    def make(*stages: Any) -> ToyRun:
        return ToyRun(tmp_path, Plan(stages, start_up_s=30.0))

    return make


def during(run: ToyRun, point: int, *alterations: Alteration) -> None:
    """Have alterations asked for while a point is measured."""
    left = list(alterations)

    def ask(measured: Any) -> None:
        if measured.index == point:
            while left:
                run.steering.alter(left.pop(0))

    run.at_attempt = ask


def extend(points: int, stage: str = "") -> Alteration:
    return Alteration(what="extend", points=points, stage=stage)


def shorten(points: int, stage: str = "") -> Alteration:
    return Alteration(what="shorten", points=points, stage=stage)


def retime(every_s: float, stage: str = "") -> Alteration:
    return Alteration(what="retime", every_s=every_s, stage=stage)


def test_the_present_stage_is_extended(begin: Callable[..., ToyRun]) -> None:
    run = begin(listed("coarse", 1.0, 2.0), listed("return", 9.0))
    during(run, 1, extend(2))
    ended = run.part()
    assert (ended.status, ended.done, ended.planned) == ("finished", 5, 5)
    assert run.stored("x_mm") == [1.0, 2.0, 2.5, 3.0, 9.0]
    assert run.stored() == [0, 1, 2, 3, 4]
    assert run.sweep.altered == [("coarse", 4)]
    assert ("altered", 5) in run.bench.happened, "the fronts are told"
    (altered,) = run.events("altered")
    assert altered == {"alteration": extend(2, "coarse").model_dump(), "takes_effect": "after 2 points"}


def test_the_present_stage_is_shortened(begin: Callable[..., ToyRun]) -> None:
    run = begin(listed("coarse", 1.0, 2.0, 3.0, 4.0), listed("return", 9.0))
    during(run, 0, shorten(2))
    ended = run.part()
    assert (ended.done, ended.planned) == (3, 3)
    assert run.stored("x_mm") == [1.0, 2.0, 9.0]
    assert run.stored() == [0, 1, 2]


def test_all_that_is_left_of_a_stage_is_left_out(begin: Callable[..., ToyRun]) -> None:
    run = begin(listed("coarse", 1.0, 2.0, 3.0), listed("return", 9.0))
    during(run, 0, shorten(2))
    assert run.part().status == "finished"
    assert run.stored("x_mm") == [1.0, 9.0]


def test_a_schedule_is_kept_by_the_clock_of_the_run(begin: Callable[..., ToyRun]) -> None:
    """Points are due 10 s apart; each takes 2 s."""
    run = begin(listed("coarse", 1.0), scheduled("decay", 10.0, 1.0, 1.0, 1.0))
    run.part()
    assert run.stored("t_s") == [2.0, 4.0, 14.0, 24.0]


def test_the_time_before_the_first_point_counts(begin: Callable[..., ToyRun]) -> None:
    """Events and rows have one clock, so that a schedule is kept across a gap."""
    run = begin(scheduled("decay", 10.0, 1.0, 1.0))
    run.part(began_s=-30.0)
    assert run.stored("t_s") == [32.0, 42.0]


def test_points_that_come_too_fast_follow_one_another(begin: Callable[..., ToyRun]) -> None:
    run = begin(scheduled("decay", 0.5, 1.0, 2.0, 3.0))
    assert run.part().status == "finished"
    assert run.stored("t_s") == [2.0, 4.0, 6.0]


def test_a_schedule_is_retimed_from_the_present_point_on(begin: Callable[..., ToyRun]) -> None:
    run = begin(scheduled("decay", 10.0, 1.0, 1.0, 1.0, 1.0))
    during(run, 1, retime(100.0))
    run.part()
    assert run.stored("t_s") == [2.0, 12.0, 112.0, 212.0]
    assert run.events("stage")[-1]["times_s"] == [0.0, 10.0, 110.0, 210.0]


def test_a_schedule_that_is_extended_goes_on_at_its_pace(begin: Callable[..., ToyRun]) -> None:
    run = begin(scheduled("decay", 10.0, 1.0, 1.0))
    during(run, 0, extend(2))
    run.part()
    assert run.stored("t_s") == [2.0, 12.0, 22.0, 32.0]


def test_a_later_stage_is_altered_when_it_begins(begin: Callable[..., ToyRun]) -> None:
    run = begin(listed("coarse", 1.0, 2.0), adaptive("fine", 6), scheduled("decay", 10.0, 5.0, 5.0))
    during(run, 0, shorten(1, "fine"), extend(1, "decay"), retime(20.0, "decay"))
    ended = run.part()
    assert ended.status == "finished"
    stages = {event["name"]: event for event in run.events("stage")}
    assert [len(stages[name]["points"]) for name in ("coarse", "fine", "decay")] == [2, 2, 3]
    assert stages["decay"]["times_s"] == [0.0, 20.0, 40.0]
    assert ended.done == ended.planned == 7
    assert [event["takes_effect"] for event in run.events("altered")] == ["when its stage begins"] * 3
    assert len(run.events("stage")) == 3, "a stage is journalled with its alterations, at once"


@pytest.mark.parametrize(
    ("alteration", "words"),
    [
        (shorten(4), "4 points cannot be left out: 2 of the stage 'coarse' are still to come"),
        (retime(5.0), "the stage 'coarse' has no schedule"),
        (extend(1, "finest"), "there is no stage 'finest'"),
        (extend(1, "dark"), "the stage 'dark' is over"),
    ],
)
def test_an_alteration_that_cannot_be_is_refused_and_the_run_goes_on(
    begin: Callable[..., ToyRun], alteration: Alteration, words: str
) -> None:
    run = begin(listed("dark", 0.0), listed("coarse", 1.0, 2.0, 3.0))
    during(run, 1, alteration)
    assert run.part().status == "finished"
    assert run.stored("x_mm") == [0.0, 1.0, 2.0, 3.0]
    (refused,) = run.events("refused")
    assert words in refused["error"]["what"]
    assert run.events("altered") == []
    assert [kind for kind, _ in run.notices] == ["refused"]


@pytest.mark.parametrize("alteration", [shorten(9, "fine"), retime(5.0, "fine")])
def test_what_turns_out_impossible_when_its_stage_begins_is_refused_then(
    begin: Callable[..., ToyRun], alteration: Alteration
) -> None:
    run = begin(listed("coarse", 1.0, 2.0), adaptive("fine", 6))
    during(run, 0, alteration)
    ended = run.part()
    assert (ended.status, ended.done) == ("finished", 5)
    assert len(run.events("refused")) == 1


def test_more_points_than_the_bounds_allow_are_refused(begin: Callable[..., ToyRun]) -> None:
    run = begin(Stage("coarse", "points", 1, 2.0, ({"x_mm": 1.0},), {"x_mm": (1.0, 1.2)}))
    during(run, 0, extend(1))
    assert run.part().status == "finished"
    assert run.stored() == [0]
    assert "its bounds are 1 to 1.2" in run.events("refused")[0]["error"]["what"]


def test_a_procedure_extends_schedules_alone_unless_it_says_otherwise() -> None:
    class Plain(SweepProcedure):
        NAME = "plain"

    plain = Plain()
    with pytest.raises(InputError, match="plain cannot have more points in its stage 'coarse'"):
        plain.more_settings(listed("coarse", 1.0), [{"x_mm": 1.0}], 2)
    more = plain.more_settings(scheduled("decay", 10.0, 5.0), [{"x_mm": 5.0}], 2)
    assert more == [{"x_mm": 5.0}] * 2


def test_alterations_are_replayed_when_the_run_is_resumed(begin: Callable[..., ToyRun]) -> None:
    run = begin(scheduled("decay", 10.0, 1.0, 2.0, 3.0, 4.0), listed("coarse", 5.0, 6.0, 7.0), listed("return", 8.0))
    during(run, 0, shorten(1), retime(20.0), extend(1, "coarse"), shorten(2, "coarse"))
    run.at_tick[19] = run.kill
    assert run.part().status == "crashed"
    first = run.stored()
    assert 0 < len(first) < 3
    assert run.part().status == "finished"
    assert run.stored("x_mm") == [1.0, 2.0, 3.0, 5.0, 6.0, 8.0]
    # The second one came when the reference point had been measured again.
    assert run.stored("t_s")[:3] == [2.0, 24.0, 42.0]


def test_points_whose_time_went_by_while_the_run_was_away_are_skipped(begin: Callable[..., ToyRun]) -> None:
    """Aborted at 12 s, away for 25 s: those of 20 s and 30 s are over, the last of them is measured late."""
    run = begin(scheduled("decay", 10.0, *map(float, range(6))))
    run.at_attempt = lambda point: run.stop.set() if point.index == 1 else None
    assert run.part().status == "aborted"
    run.at_attempt = lambda point: None
    ended = run.part(away_s=25.0)
    assert (ended.status, ended.done, ended.planned) == ("finished", 5, 5)
    (skipped,) = run.events("skipped")
    assert (skipped["point"], skipped["why"]) == (2, "its time went by while the run was away")
    assert run.stored() == [0, 1, 3, 4, 5]
    # The reference point takes its time first.
    assert run.stored("t_s") == [2.0, 12.0, 41.0, 43.0, 52.0]


def test_points_that_are_late_for_another_reason_are_measured(begin: Callable[..., ToyRun]) -> None:
    """A resumed run that pauses long does what any run does then."""
    run = begin(scheduled("decay", 10.0, *map(float, range(5))))
    run.at_attempt = lambda point: run.stop.set() if point.index == 1 else None
    run.part()
    run.at_attempt = lambda point: None
    run.trips = {3: ("pause", 100)}
    assert run.part().status == "finished"
    assert run.stored() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("stage", ["", "return"])
def test_more_points_than_dose_or_disk_allow_are_refused(begin: Callable[..., ToyRun], stage: str) -> None:
    run = begin(listed("coarse", 1.0, 2.0), listed("return", 9.0))
    during(run, 0, extend(40, stage), extend(1, stage))
    ended = run.part(against_more=lambda stage, count: "the spot has had its dose" if count > 5 else "")
    assert (ended.status, ended.done) == ("finished", 4), "the run goes on, and takes what is allowed"
    (refused,) = run.events("refused")
    assert refused["error"]["what"] == "the spot has had its dose"
