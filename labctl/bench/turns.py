"""Each instrument has its turn, whatever the one before does: a call that hangs holds up nobody for long."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping
from typing import Generic, TypeVar

from labctl.clock import RealClock

log = logging.getLogger(__name__)

TURN_S = 5.0
"""Real time after which the next has its turn; all well-behaved drivers need less, but for a move that must end."""
LATE_S = 25.0
"""Real time for which those are waited for that did not end within their turns, after the last turn."""
BY_HAND_S = 2000.0
"""Real time an operator is waited for; whoever asks him gives up before."""

Result = TypeVar("Result")


class _Turn(Generic[Result]):
    """One call in a thread of its own. A daemon: a call that never returns ends with the process."""

    def __init__(self, name: str, call: Callable[[], Result]) -> None:
        self.ended = threading.Event()
        self.results: list[Result] = []
        self.name = name
        self._call = call
        threading.Thread(target=self._take, name=f"turn of {name}", daemon=True).start()

    def _take(self) -> None:
        try:
            self.results.append(self._call())
        except BaseException:  # also what would end a program must not end the safe state
            log.exception("%s failed", self.name)
        finally:
            self.ended.set()


def take_turns(
    calls: Mapping[str, Callable[[], Result]],
    *,
    turn_s: float = TURN_S,
    late_s: float = LATE_S,
    by_hand: Collection[str] = (),
) -> dict[str, Result]:
    """Make calls one after another; the next begins when the one before has ended, or after ``turn_s``.

    :param calls: Calls by role, in order.
    :param turn_s: Real time in s.
    :param late_s: Real time in s for which late ones are waited for in the end, all together.
    :param by_hand: Roles worked by an operator, who is waited for however long he is given.
    :return: What the calls returned, by role. One that failed, or still goes on, is missing.
    """
    clock = RealClock()
    turns: dict[str, _Turn[Result]] = {}
    for name, call in calls.items():
        turns[name] = turn = _Turn(name, call)
        if not clock.wait(turn.ended, turn_s):
            log.error("%s did not end within its turn of %g s; the next one begins", name, turn_s)
    now_s = clock.now()
    for name, turn in turns.items():
        clock.wait(turn.ended, now_s + (BY_HAND_S if name in by_hand else late_s) - clock.now())
    return {name: turn.results[0] for name, turn in turns.items() if turn.ended.is_set() and turn.results}
