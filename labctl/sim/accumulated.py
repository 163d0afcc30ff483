"""Sums over laboratory time of which only the sum is kept: doses, ages, counts of pulses."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

# A sum is settled only up to here behind the newest query: emulators may still report slightly older events.
_LAG_S = 5.0
# Settled only so often: each settling is an integral of its own.
_SETTLE_EVERY_S = 30.0


class Accumulated:
    """A sum that grows with laboratory time, at a cost and a memory that do not grow with it.

    :param between: What comes together in [t0, t1], an array or a number; additive.
    """

    def __init__(self, between: Callable[[float, float], np.ndarray | float]) -> None:
        self._between = between
        self._sum = 0.0 * np.asarray(between(0.0, 0.0))
        self._settled_s = 0.0

    def settle(self, until_s: float) -> None:
        """Add up all until then; commands before it come too late from now on."""
        if until_s > self._settled_s:
            self._sum = self._sum + self._between(self._settled_s, until_s)
            self._settled_s = until_s

    def at(self, t: float, newest_s: float) -> np.ndarray:
        """Get the sum until ``t``.

        :param newest_s: Newest laboratory time that anybody has asked about, s.
        """
        if newest_s - _LAG_S > self._settled_s + _SETTLE_EVERY_S:
            self.settle(newest_s - _LAG_S)
        if t >= self._settled_s:
            return self._sum + self._between(self._settled_s, t)
        # An exposure from before a fresh start may be read out after it.
        return np.maximum(0.0, self._sum - self._between(t, self._settled_s))

    def restart(self, t: float, *column: int) -> None:
        """Count from 0 at ``t``: all of it, or one column."""
        self.settle(t)
        self._sum = np.array(self._sum)
        self._sum[(..., *column)] = 0.0
