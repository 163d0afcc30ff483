"""A run that leaves the bench until its next point is due, and goes on when it is resumed."""

from __future__ import annotations

from pathlib import Path

from labctl.run.plan import Plan
from labctl.run.policy import FailurePolicy
from tests.labctl.run.toy_run import ToyRun, listed, scheduled


def test_a_run_leaves_rather_than_wait_for_long(tmp_path: Path) -> None:
    run = ToyRun(tmp_path, Plan((listed("first", 1.0), scheduled("long", 600.0, 1.0, 2.0, 3.0))))
    ended = run.part(leave_if_idle_s=60.0)
    assert (ended.status, ended.error) == ("waiting", None)
    assert run.stored() == [0, 1]
    assert not run.bench.wrongs


def test_a_run_that_left_is_taken_up_at_its_next_point_without_a_reference(tmp_path: Path) -> None:
    run = ToyRun(tmp_path, Plan((scheduled("long", 600.0, 1.0, 2.0, 3.0),)))
    assert run.part(leave_if_idle_s=60.0).status == "waiting"
    assert run.part(leave_if_idle_s=60.0, away_s=590.0).status == "waiting"
    assert run.stored() == [0, 1]
    assert run.part(leave_if_idle_s=60.0, away_s=600.0).status == "finished"
    assert run.stored() == [0, 1, 2]
    assert run.events("reference") == []
    due_s = [round(float(t_s)) for t_s in run.stored("t_s")]
    assert [late_s // 600 for late_s in due_s] == [0, 1, 2]


def test_a_run_that_comes_back_too_late_leaves_out_what_went_by(tmp_path: Path) -> None:
    run = ToyRun(tmp_path, Plan((scheduled("long", 600.0, 1.0, 2.0, 3.0, 4.0),)))
    assert run.part(leave_if_idle_s=60.0).status == "waiting"
    assert run.part(leave_if_idle_s=60.0, away_s=1250.0).status == "waiting"
    assert [event["point"] for event in run.events("skipped")] == [1]
    assert run.stored() == [0, 2]


def test_a_short_wait_is_waited_out(tmp_path: Path) -> None:
    run = ToyRun(tmp_path, Plan((scheduled("long", 30.0, 1.0, 2.0, 3.0),)))
    assert run.part(leave_if_idle_s=60.0).status == "finished"


def test_the_pauses_between_tries_are_doubled_up_to_five_minutes() -> None:
    policy = FailurePolicy(wait_s=1.0)
    assert [policy.pause_s(tries) for tries in (0, 1, 2, 8, 9, 1000)] == [1.0, 2.0, 4.0, 256.0, 300.0, 300.0]
    assert FailurePolicy(wait_s=600.0).pause_s(3) == 600.0
