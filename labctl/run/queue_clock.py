"""The clock of a campaign: real, or one that jumps over waits and takes over the time of its runs."""

from __future__ import annotations

import threading

from labctl.clock import RealClock

LOOK_S = 1.0
"""A wait asks anew at least this often whether it still holds: clocks are changed, and Windows lets no signal in."""


class QueueClock:
    """Time as a campaign reckons it, in Unix seconds.

    In real time it goes on steadily where the clock of the computer is set back, and takes part when that is set
    forward or the computer has slept. In virtual time it stands still but for waits and runs.

    :param virtual: Whether time is virtual.
    :param now_s: Where virtual time goes on; now, if None.
    :param began_s: Where the virtual time of the campaign began; now, if None.
    """

    def __init__(self, *, virtual: bool, now_s: float | None = None, began_s: float | None = None) -> None:
        self.virtual = virtual
        self._real = RealClock()
        self._offset_s = self._real.wall() - self._real.now()
        self._virtual_s = self._real.wall() if now_s is None else now_s
        self._began_s = self._virtual_s if began_s is None else began_s

    def now_s(self) -> float:
        """Get the time of schedules: steady."""
        if self.virtual:
            return self._virtual_s
        return max(self._real.now() + self._offset_s, self._real.wall())

    def wall_s(self) -> float:
        """Get the time that the clock on the wall shows, in Unix seconds: what quiet hours go by."""
        return self._virtual_s if self.virtual else self._real.wall()

    def elapsed_s(self) -> float:
        """Get the virtual time since the campaign began, in s: what the clock of a simulated laboratory reads."""
        return max(self._virtual_s - self._began_s, 0.0)

    def advance_to(self, moment_s: float) -> None:
        """Take over the time at which a run on a virtual clock ended; never backwards, nothing in real time."""
        self._virtual_s = max(self._virtual_s, moment_s)

    def wait(self, duration_s: float, stop: threading.Event) -> None:
        """Wait so long, at most :data:`LOOK_S` in real time; returns at once when ``stop`` is set."""
        if self.virtual:
            self._virtual_s += max(duration_s, 0.0)
        else:
            self._real.wait(stop, min(duration_s, LOOK_S))
