"""Pauses of a run: because an operator wants one, or because a watch condition of the bench asks for it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from labctl.clock import RealClock
from labctl.run.conduct import Conduct
from labctl.run.plan import Point

if TYPE_CHECKING:
    from labctl.bench.watch import Tripped
    from labctl.run.point_loop import PointLoop

log = logging.getLogger(__name__)

_LOOK_S = 0.2
_LOOK_AT_INTERLOCKS_S = 1.0
_PATIENCE_S = 60.0


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

    def _for_operator(self, point: Point) -> None:
        """Wait in real time, whatever the clock of the run: an operator has no other."""
        steering, keeper = self._conduct.steering, self._conduct.keeper
        began_s = self._real.now()
        self._loop.expect_revival()
        if keeper is not None:
            keeper.darken()
        self._loop.notice("paused", {"reason": steering.pause_reason, "before": point.index, "by": "operator"})
        while steering.pause_reason:
            self._loop.observer.expect(_LOOK_S + _PATIENCE_S)
            self._real.wait(self._loop.stop, _LOOK_S)
            self._loop.stop_if_asked(point)
        self._go_on(point, self._real.now() - began_s)

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
            self._loop.observer.expect(_LOOK_AT_INTERLOCKS_S + _PATIENCE_S)
            clock.wait(self._loop.stop, _LOOK_AT_INTERLOCKS_S)
            self._loop.stop_if_asked(point)
        self._loop.expect_revival()
        if tripped.action == "safe":
            keeper.wake()
        self._go_on(point, clock.now() - began_s)

    def _go_on(self, point: Point, paused_s: float) -> None:
        """Set every role up anew: nobody knows what hands have done meanwhile."""
        self._loop.set_up_first()
        self._loop.notice("continued", {"before": point.index, "paused_s": paused_s})
