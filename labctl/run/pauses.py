"""Pauses of a run: because an operator wants one, or because a watch condition of the bench asks for it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from labctl.clock import RealClock
from labctl.run.conduct import Conduct
from labctl.run.plan import Point

if TYPE_CHECKING:
    from labctl.bench.watch import Tripped
    from labctl.run.point_loop import PointLoop

_LOOK_S = 0.2
_LOOK_AT_INTERLOCKS_S = 1.0
_PATIENCE_S = 60.0
_MOMENT_S = 1e-3
"""So that a grace time is over and not just about to be."""


class Pauses:
    """Holds a loop between two points for as long as it must be held, with the sample dark.

    :param loop: The loop; it owns clock and journal.
    :param conduct: How the run is carried through.
    """

    def __init__(self, loop: PointLoop, conduct: Conduct) -> None:
        self._loop = loop
        self._conduct = conduct
        self._real = RealClock()

    def attend(self, point: Point) -> None:
        """Return when nothing holds the run any more.

        :param point: The point that comes next.
        :raises Aborted: If the run is stopped meanwhile.
        :raises InterlockTripped: If a condition asks for the end of the run.
        """
        while True:
            if self._conduct.steering.pause_reason:
                self._for_operator(point)
                continue
            tripped = self._conduct.interlocks.check() if self._conduct.interlocks is not None else None
            if tripped is None:
                return
            self._for_interlock(point, tripped)

    def after_failure(self, point: Point) -> bool:
        """Heed the interlocks before a failed point is tried again; get whether they held the run.

        A condition that holds, but not yet for its grace time, may be why the point failed: it is waited for.
        """
        interlocks = self._conduct.interlocks
        if interlocks is None:
            return False
        while (tripped := interlocks.check()) is None:
            soon_s = interlocks.soon_s()
            if soon_s is None:
                return False
            self._wait(point, min(soon_s, _LOOK_AT_INTERLOCKS_S) + _MOMENT_S)
        self._for_interlock(point, tripped)
        self.attend(point)
        return True

    def _for_operator(self, point: Point) -> None:
        """Wait in real time, whatever the clock of the run: an operator has no other."""
        steering, keeper = self._conduct.steering, self._conduct.keeper
        began_s = self._real.now()
        self._loop.expect_revival()
        if keeper is not None:
            keeper.darken()
        self._loop.notice("paused", {"reason": steering.pause_reason, "before": point.index, "by": "operator"})
        looked_s = -math.inf
        while steering.pause_reason:
            self._loop.observer.expect(_LOOK_S + _PATIENCE_S)
            self._real.wait(self._loop.stop, _LOOK_S)
            self._loop.stop_if_asked(point)
            if self._real.now() - looked_s >= _LOOK_AT_INTERLOCKS_S:
                looked_s = self._real.now()
                self._heed(point)
        self._go_on(point, self._real.now() - began_s)

    def _heed(self, point: Point) -> None:
        """Heed the interlocks while an operator pauses the run."""
        tripped = self._conduct.interlocks.check() if self._conduct.interlocks is not None else None
        if tripped is not None:
            self._for_interlock(point, tripped)

    def _for_interlock(self, point: Point, tripped: Tripped) -> None:
        """Make dark or wholly safe, and wait on the clock of the run until the condition lets it go on.

        Ends early if another condition asks for more meanwhile: it is then looked at first.
        """
        interlocks, keeper, clock = self._conduct.interlocks, self._conduct.keeper, self._loop.clock
        reason = {"reason": str(tripped), "before": point.index, "by": "interlock", "action": tripped.action}
        if tripped.action == "abort" or interlocks is None or keeper is None:
            raise tripped.error()
        began_s = clock.now()
        self._loop.expect_revival()
        if tripped.action == "safe":
            keeper.rest()
        else:
            keeper.darken()
        self._loop.notice("paused", reason)
        while not interlocks.may_resume(tripped):
            if interlocks.worse(tripped) is not None:
                return
            self._wait(point, _LOOK_AT_INTERLOCKS_S)
        self._loop.expect_revival()
        if tripped.action == "safe":
            keeper.wake()
        self._go_on(point, clock.now() - began_s)

    def _wait(self, point: Point, duration_s: float) -> None:
        self._loop.observer.expect(duration_s + _PATIENCE_S)
        self._loop.clock.wait(self._loop.stop, duration_s)
        self._loop.stop_if_asked(point)

    def _go_on(self, point: Point, paused_s: float) -> None:
        """Set every role up anew: nobody knows what hands have done meanwhile."""
        self._loop.set_up_first()
        self._loop.notice("continued", {"before": point.index, "paused_s": paused_s})
