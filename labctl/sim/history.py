"""Past settings of something that goes on by itself between them: a plate that warms up, a lamp that ages.

:class:`labctl.sim.timeline.Timeline` is the same for a quantity that is a straight line between commands.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import numpy as np

_PRUNE_ABOVE = 1024
_EVER = -1e300

Setting = TypeVar("Setting")


class History(Generic[Setting]):
    """What was set from when on; a setting replaces all that lie later.

    :param initial: What holds since ever.
    :param forgets: Called with a time before everything older is forgotten: the last chance to ask for it.
    :param horizon_s: So long the past is kept, s. Memory is bounded by the settings within it.
    """

    def __init__(
        self, initial: Setting, forgets: Callable[[float], None] | None = None, horizon_s: float = 3600.0
    ) -> None:
        self.horizon_s = horizon_s
        self._forgets = forgets
        self._start = [_EVER]
        self._setting = [initial]
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._start)

    @property
    def kept_from(self) -> float:
        """Oldest laboratory time that is still known, s."""
        with self._lock:
            return self._start[0]

    def set(self, t: float, setting: Setting) -> None:
        """Let ``setting`` hold from laboratory time ``t`` on."""
        with self._lock:
            keep = bisect_left(self._start, t)
            if keep == 0:
                raise LookupError(f"laboratory time {t:.3f} s lies before the kept past (from {self._start[0]:.3f} s)")
            del self._start[keep:], self._setting[keep:]
            self._start.append(t)
            self._setting.append(setting)
            old = bisect_right(self._start, t - self.horizon_s) - 1
            forgotten = len(self._start) > _PRUNE_ABOVE and old > len(self._start) // 2
        if forgotten:
            if self._forgets is not None:
                self._forgets(t - self.horizon_s)
            with self._lock:
                del self._start[:old], self._setting[:old]

    def keep(self, t: float) -> None:
        """Let what holds at ``t`` hold on: drop all settings that were foreseen for later."""
        with self._lock:
            later = bisect_right(self._start, t)
            if later > 0:
                del self._start[later:], self._setting[later:]

    def at(self, t: float) -> tuple[float, Setting]:
        """Get since when the setting holds that holds at ``t``, and the setting."""
        with self._lock:
            index = bisect_right(self._start, t) - 1
            if index < 0:
                raise LookupError(f"laboratory time {t:.3f} s lies before the kept past (from {self._start[0]:.3f} s)")
            return self._start[index], self._setting[index]

    def pieces(self, t0: float, t1: float) -> Iterator[tuple[float, float, float, Setting]]:
        """Cut [t0, t1] where a setting began: (from, to, since when the setting holds, setting)."""
        with self._lock:
            first = max(bisect_right(self._start, t0) - 1, 0)
            last = bisect_left(self._start, t1)
            starts, settings = self._start[first:last], self._setting[first:last]
        for index, (start, setting) in enumerate(zip(starts, settings, strict=True)):
            end = starts[index + 1] if index + 1 < len(starts) else t1
            if min(end, t1) > max(start, t0):
                yield max(start, t0), min(end, t1), start, setting


_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(8)


def panels(edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Get nodes and weights of an integral over [edges[0], edges[-1]], by eight-point Gauss-Legendre in each panel."""
    half = 0.5 * np.diff(edges)
    middle = 0.5 * (edges[1:] + edges[:-1])
    return (middle[:, None] + half[:, None] * _NODES).ravel(), (half[:, None] * _WEIGHTS).ravel()
