"""Which run of a campaign comes next, and when: in their order, or in turns, by the moment of their next point."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from labctl.run.queue_history import RunState
from labctl.run.queued_runs import QueuedRun


@dataclass(frozen=True)
class Step:
    """What the queue does next.

    :param run: What to run now; None to wait.
    :param wait_s: How long to wait, in s.
    :param why: Why, in words.
    :param then: The run that is waited for.
    """

    run: QueuedRun | None
    wait_s: float = 0.0
    why: str = ""
    then: QueuedRun | None = None


class QueueOrder:
    """Chooses the next run.

    Runs follow one another. Where the next one belongs to a group, all of that group that can be run take turns: the
    one whose point is due first, so that none waits for ever. A run that may not begin now (quiet hours, or nothing is
    due) is waited for; meanwhile runs that say ``fill`` are run if they fit in.

    :param quiet_left_s: Gets how long the quiet hours still last, in s; 0 outside them.
    :param planned_s: Gets how long a run is planned to take, in s.
    """

    def __init__(
        self, runs: Sequence[QueuedRun], quiet_left_s: Callable[[], float], planned_s: Callable[[QueuedRun], float]
    ) -> None:
        self._runs = runs
        self._quiet_left_s = quiet_left_s
        self._planned_s = planned_s

    def next(self, states: Mapping[int, RunState], now_s: float) -> Step | None:
        """Get what comes next; None when all is done."""
        left = [run for run in self._runs if not _done(states, run)]
        if not left:
            return None
        turns = _group(left, left[0], states)
        quiet_left_s = self._quiet_left_s()
        delays = {run.number: self._delay_s(run, states, now_s, quiet_left_s) for run in turns}
        chosen = min(turns, key=lambda run: (delays[run.number], _due_s(states, run), run.number))
        gap_s = delays[chosen.number]
        if gap_s <= 0:
            return Step(chosen)
        filler = self._filler(left, turns, states, gap_s, quiet_left_s)
        if filler is not None:
            return Step(filler, why=f"while {chosen.name} waits")
        due = _due_s(states, chosen) > now_s
        why = f"the next point of {chosen.name} is due" if due else f"{chosen.name} waits for the quiet hours to end"
        return Step(None, gap_s, why, chosen)

    def is_alone(self, run: QueuedRun, states: Mapping[int, RunState]) -> bool:
        """Get whether nobody else would use the bench while a run of a group waits for its next point."""
        others = [other for other in self._runs if other.number != run.number and not _done(states, other)]
        return not any(other.group == run.group or other.fill for other in others)

    def _delay_s(self, run: QueuedRun, states: Mapping[int, RunState], now_s: float, quiet_left_s: float) -> float:
        until_due_s = max(_due_s(states, run) - now_s, 0.0)
        # When the quiet hours after these begin is seen when these are over.
        return max(until_due_s, quiet_left_s if run.quiet_wait else 0.0)

    def _filler(
        self,
        left: Sequence[QueuedRun],
        turns: Sequence[QueuedRun],
        states: Mapping[int, RunState],
        gap_s: float,
        quiet_left_s: float,
    ) -> QueuedRun | None:
        for run in left:
            may = run.fill and run not in turns and run.group is None and _is_ready(run, states)
            if may and not (run.quiet_wait and quiet_left_s > 0) and self._planned_s(run) <= gap_s:
                return run
        return None


def _group(left: Sequence[QueuedRun], head: QueuedRun, states: Mapping[int, RunState]) -> list[QueuedRun]:
    if head.group is None:
        return [head]
    return [head, *(run for run in left[1:] if run.group == head.group and _is_ready(run, states))]


def _is_ready(run: QueuedRun, states: Mapping[int, RunState]) -> bool:
    """Whether all that it needs is over. Of the first run that is not done that is always so."""
    return all(number in states and states[number].done for number in run.needs)


def _done(states: Mapping[int, RunState], run: QueuedRun) -> bool:
    state = states.get(run.number)
    return state is not None and state.done


def _due_s(states: Mapping[int, RunState], run: QueuedRun) -> float:
    state = states.get(run.number)
    return -math.inf if state is None or state.due_s is None else state.due_s
