"""A signal in laboratory time: piecewise constant or linear, asked about its past."""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

_PRUNE_ABOVE = 1024
# A finite beginning of time: the slope 0 times infinity would be nan.
_EVER = -1e300


class Timeline:
    """A quantity that emulators set and the physics reads, possibly much later.

    A camera emulator computes its frame at read-out and then asks what shutter and wave plate did during the
    exposure; so the past is kept, over at least ``horizon_s``. All times are laboratory seconds.

    A command replaces whatever earlier commands had foreseen for later times: a stop ends a ramp, a manual close
    cancels a timed one.

    :param initial: Value since ever.
    :param horizon_s: How far back the past is kept, s. Memory is bounded by the commands within it.
    :param forgets: Called with a time before everything older is forgotten: the last chance to ask for it.
    """

    def __init__(
        self, initial: float, horizon_s: float = 3600.0, forgets: Callable[[float], None] | None = None
    ) -> None:
        self.horizon_s = horizon_s
        self._forgets = forgets
        self._start = [_EVER]
        self._value = [float(initial)]
        self._slope = [0.0]
        self._lock = threading.Lock()

    @property
    def kept_from(self) -> float:
        """Oldest laboratory time that is still known, s."""
        with self._lock:
            return self._start[0]

    def set(self, t: float, value: float) -> None:
        """Set the value from ``t`` on."""
        with self._lock:
            self._append(t, float(value), 0.0)
            old = self._old(t)
        self._forget(t, old)

    def ramp(self, t0: float, t1: float, value: float) -> None:
        """Go linearly from the value at ``t0`` to ``value`` at ``t1`` and stay there."""
        with self._lock:
            if t1 > t0:
                before = self._at(t0)
                self._append(t0, before, (value - before) / (t1 - t0))
            self._append(t1, float(value), 0.0)
            old = self._old(t1)
        self._forget(t1, old)

    def at(self, t: float) -> float:
        """Get the value at ``t``; at a step the new value."""
        with self._lock:
            return self._at(t)

    def sample(self, t: ArrayLike) -> np.ndarray:
        """Get the values at many times, an array of the shape of ``t``."""
        times = np.asarray(t, dtype=float)
        if not times.size:
            return np.zeros(times.shape)
        with self._lock:
            first, last = self._segment(float(times.min())), self._segment(float(times.max()))
            if first == last:
                return self._value[first] + self._slope[first] * (times - self._start[first])
            used = slice(first, last + 1)
            start, value, slope = (np.array(column[used]) for column in (self._start, self._value, self._slope))
        index = np.searchsorted(start, times, side="right") - 1
        return value[index] + slope[index] * (times - start[index])

    def mean(self, t0: float, t1: float) -> float:
        """Get the mean over [t0, t1]; of a signal of zeros and ones, the fraction of the time it was one."""
        if t1 <= t0:
            return self.at(t0)
        edges = self.edges(t0, t1)
        middle = 0.5 * (edges[1:] + edges[:-1])
        return float(self.sample(middle) @ (np.diff(edges) / (t1 - t0)))

    def edges(self, t0: float, t1: float) -> np.ndarray:
        """Get ``t0``, all times between at which the signal steps or bends, and ``t1``."""
        with self._lock:
            self._segment(t0)
            inner = self._start[bisect_right(self._start, t0) : bisect_left(self._start, t1)]
        return np.array([t0, *inner, t1])

    def _append(self, t: float, value: float, slope: float) -> None:
        keep = bisect_left(self._start, t)
        if keep == 0:
            raise LookupError(f"laboratory time {t:.3f} s lies before the kept past (from {self._start[0]:.3f} s)")
        for column in (self._start, self._value, self._slope):
            del column[keep:]
        self._start.append(t)
        self._value.append(value)
        self._slope.append(slope)

    def _old(self, t: float) -> int:
        """How many segments may be forgotten; deleting from the front copies the list, so it is done by halves."""
        if len(self._start) <= _PRUNE_ABOVE:
            return 0
        old = bisect_right(self._start, t - self.horizon_s) - 1
        return old if old > len(self._start) // 2 else 0

    def _forget(self, t: float, old: int) -> None:
        if not old:
            return
        if self._forgets is not None:
            # Without the lock: whoever is told asks for the past, perhaps under a lock of his own.
            self._forgets(t - self.horizon_s)
        with self._lock:
            for column in (self._start, self._value, self._slope):
                del column[:old]

    def _segment(self, t: float) -> int:
        index = bisect_right(self._start, t) - 1
        if index < 0:
            raise LookupError(f"laboratory time {t:.3f} s lies before the kept past (from {self._start[0]:.3f} s)")
        return index

    def _at(self, t: float) -> float:
        index = self._segment(t)
        if self._slope[index] == 0.0:
            return self._value[index]
        return self._value[index] + self._slope[index] * (t - self._start[index])
