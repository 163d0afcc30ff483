"""One acquisition of a simulated PICam camera: when its readouts end, and what a wait for it is told."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

Readout = Callable[[float], bytes]
"""Exposes from a moment on and reads out: the bytes of a readout with its metadata."""


@dataclass(frozen=True)
class News:
    """What a wait is told, and when: new readouts, then whether the acquisition goes on."""

    moment_s: float
    readouts: list[bytes]
    running: bool
    errors: int


@dataclass
class Acquisition:
    """Readouts one after another.

    It is in progress until a wait was told that it has ended, which comes after the news of the last readout.

    :param start_s: When the first exposure starts. :param readouts: How many; 0 until it is stopped.
    """

    start_s: float
    exposure_s: float
    readout_s: float
    readouts: int
    take: Readout
    stopped_s: float = math.inf
    errors: int = 0
    delivered: int = 0
    in_progress: bool = True

    @property
    def end_s(self) -> float:
        """Get the moment at which the camera stands still."""
        return min(self._ended_s(self.readouts) if self.readouts else math.inf, self.stopped_s)

    def stop(self, t: float, errors: int = 0) -> None:
        """Stop at ``t``, or because of errors (bits of AcquisitionErrors)."""
        if t < self.end_s:
            self.stopped_s, self.errors = t, errors

    def news(self, t: float, timeout_s: float) -> News | None:
        """Wait from ``t`` on for new readouts or for the end; None when there is nothing in time."""
        ready = self._ready(t)
        if ready <= self.delivered and t < self.end_s:
            next_s = min(self._ended_s(self.delivered + 1), self.end_s)
            if next_s > t + timeout_s:
                return None
            t, ready = next_s, self._ready(next_s)
        if ready > self.delivered:
            new = [self.take(self._started_s(number)) for number in range(self.delivered, ready)]
            self.delivered = ready
            return News(t, new, True, 0)
        self.in_progress = False
        return News(t, [], False, self.errors)

    def _started_s(self, index: int) -> float:
        return self.start_s + index * (self.exposure_s + self.readout_s)

    def _ended_s(self, number: int) -> float:
        return self._started_s(number - 1) + self.exposure_s + self.readout_s

    def _ready(self, t: float) -> int:
        t = min(t, self.stopped_s)
        most = self.readouts or math.inf
        ready = 0 if t <= self.start_s else math.floor((t - self.start_s) / (self.exposure_s + self.readout_s))
        while ready < most and self._ended_s(ready + 1) <= t:
            ready += 1
        while ready > 0 and self._ended_s(ready) > t:
            ready -= 1
        return int(min(ready, most))
