"""Which run comes next: in order, in turns by the moment of the next point, or what fits into a gap."""

from __future__ import annotations

import random
from typing import Any

import pytest

from labctl.run.queue_history import RunState
from labctl.run.queue_order import QueueOrder, Step
from labctl.run.queued_runs import QueuedRun
from labctl.run.request import RunRequest

REQUEST = RunRequest(procedure="p", bench="b")


def run(number: int, **keys: Any) -> QueuedRun:
    return QueuedRun(number, f"run {number}", REQUEST, "pause", 0, **keys)


def waits(due_s: float) -> RunState:
    return RunState({}, status="waiting", due_s=due_s)


DONE = RunState({}, status="finished")


def step(
    runs: list[QueuedRun],
    states: dict[int, RunState] | None = None,
    now_s: float = 0.0,
    quiet_left_s: float = 0.0,
    planned_s: float = 100.0,
) -> Step:
    found = QueueOrder(runs, lambda: quiet_left_s, lambda _: planned_s).next(states or {}, now_s)
    assert found is not None
    return found


def number(found: Step) -> int:
    assert found.run is not None
    return found.run.number


def test_runs_follow_one_another() -> None:
    runs = [run(1), run(2)]
    assert number(step(runs)) == 1
    assert number(step(runs, {1: DONE})) == 2
    assert QueueOrder(runs, lambda: 0.0, lambda _: 0.0).next({1: DONE, 2: DONE}, 0.0) is None


def test_a_group_takes_turns_by_the_next_point() -> None:
    runs = [run(1, group="g"), run(2, group="g"), run(3), run(4, group="g", after=(3,))]
    assert number(step(runs)) == 1
    assert number(step(runs, {1: waits(500.0)})) == 2, "who was never begun is due first"
    both = {1: waits(500.0), 2: waits(400.0)}
    assert number(step(runs, both, now_s=600.0)) == 2, "the one that has waited longer"
    idle = step(runs, both, now_s=100.0)
    assert (idle.run, idle.wait_s, idle.then) == (None, 300.0, runs[1])
    assert number(step(runs, {1: DONE, 2: DONE})) == 3
    assert number(step(runs, {1: DONE, 2: DONE, 3: DONE})) == 4


def test_a_gap_is_filled_with_what_fits() -> None:
    runs = [run(1, group="g"), run(2), run(3, fill=True), run(4, fill=True, after=(2,)), run(5, fill=True)]
    states = {1: waits(500.0)}
    assert number(step(runs, states, now_s=100.0, planned_s=400.0)) == 3
    assert step(runs, states, now_s=100.0, planned_s=401.0).run is None
    assert number(step(runs, {**states, 3: DONE}, now_s=100.0)) == 5, "4 needs 2, which does not fill"
    assert step(runs, {**states, 3: DONE, 5: DONE}, now_s=100.0).run is None


def test_the_quiet_hours_are_waited_for() -> None:
    runs = [run(1, quiet_wait=True), run(2), run(3, fill=True), run(4, fill=True, quiet_wait=True)]
    assert number(step(runs)) == 1
    waiting = step(runs, quiet_left_s=50.0)
    assert (waiting.run, waiting.wait_s, waiting.then) == (None, 50.0, runs[0])
    assert "quiet hours" in waiting.why
    assert number(step(runs, quiet_left_s=100.0)) == 3
    assert step(runs, {3: DONE}, quiet_left_s=100.0).run is None
    assert number(step(runs, {1: DONE}, quiet_left_s=100.0)) == 2


def test_in_a_group_who_may_make_noise_goes_first() -> None:
    runs = [run(1, group="g", quiet_wait=True), run(2, group="g")]
    assert number(step(runs, quiet_left_s=100.0)) == 2
    assert step(runs, {2: waits(80.0)}, quiet_left_s=100.0).wait_s == 80.0


def test_who_is_alone_keeps_the_bench() -> None:
    runs = [run(1, group="g"), run(2, group="g"), run(3, fill=True), run(4)]
    order = QueueOrder(runs, lambda: 0.0, lambda _: 0.0)
    assert not order.is_alone(runs[0], {})
    assert not order.is_alone(runs[0], {2: DONE})
    assert order.is_alone(runs[0], {2: DONE, 3: DONE})


@pytest.mark.parametrize("seed", range(20))
def test_nobody_starves(seed: int) -> None:
    """Runs whose turns take longer than there is time for: each still gets about its share."""
    draw = random.Random(seed)
    count = draw.randint(2, 6)
    runs = [run(one, group="g") for one in range(1, count + 1)]
    every_s = {one.number: draw.uniform(100.0, 300.0) for one in runs}
    states: dict[int, RunState] = {}
    turns = dict.fromkeys(every_s, 0)
    now_s, longest_s = 0.0, 0.0
    for _ in range(60 * count):
        found = step(runs, states, now_s)
        if found.run is None:
            now_s += found.wait_s
            continue
        due_s = states[found.run.number].due_s if found.run.number in states else 0.0
        longest_s = max(longest_s, now_s - (due_s or 0.0))
        now_s += draw.uniform(50.0, 150.0)
        turns[found.run.number] += 1
        states[found.run.number] = waits(now_s + every_s[found.run.number])
    assert min(turns.values()) > 0.3 * max(turns.values())
    assert longest_s <= count * 150.0
