"""Time: the only module that sleeps or reads the clock of the machine.

Three clocks answer to one Protocol. :class:`RealClock` is the machine's own. :class:`ScaledClock` runs ``speed`` times
faster, for emulators served to strangers. :class:`VirtualClock` jumps: as soon as every registered actor waits on it,
it moves to the earliest moment that anybody waits for. An actor that is busy, or blocked in real I/O, is not waiting,
so time stands still for it. A virtual clock therefore never outruns a computation or a socket.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

_EVENT_POLL_S = 0.005

_monotonic = time.perf_counter if sys.platform == "win32" else time.monotonic
"""On Windows time.monotonic counts in steps of 16 ms up to Python 3.12: too coarse to account for light."""


@dataclass(frozen=True)
class MachineTime:
    """A reading of the clock that nobody can set: it counts from the start of the machine, sleep included.

    :param boot: Which start of the machine; readings of the same start can be subtracted, across processes.
    :param now_s: Seconds since then.
    """

    boot: str
    now_s: float


def machine_time() -> MachineTime | None:
    """Read the clock that counts from the start of the machine; None where the system does not tell (not Linux)."""
    if sys.platform != "linux":
        return None
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return MachineTime(boot, time.clock_gettime(time.CLOCK_BOOTTIME))
    except (OSError, ValueError):
        return None


class Clock(Protocol):
    """What the rest of labctl may ask about time. All times are seconds."""

    virtual: bool

    def now(self) -> float:
        """Get monotonic time in s; the origin is arbitrary."""
        ...

    def wall(self) -> float:
        """Get Unix time in s, consistent with :meth:`now`."""
        ...

    def sleep(self, duration_s: float) -> None:
        """Wait for ``duration_s`` seconds (nothing when ≤ 0)."""
        ...

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        """Wait until ``event`` is set or ``timeout_s`` has passed; return whether it is set."""
        ...

    @contextmanager
    def actor(self) -> Iterator[None]:
        """Register the calling thread as an actor for the duration of the block."""
        ...


class RealClock:
    """The clock of the machine."""

    virtual = False

    def now(self) -> float:
        return _monotonic()

    def wall(self) -> float:
        return time.time()

    def sleep(self, duration_s: float) -> None:
        if duration_s > 0:
            time.sleep(duration_s)

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        return event.wait(max(timeout_s, 0.0))

    @contextmanager
    def actor(self) -> Iterator[None]:
        yield


class ScaledClock:
    """Real time, ``speed`` times faster, starting at zero.

    :param speed: Seconds of this clock per second of real time, > 0.
    """

    virtual = False

    def __init__(self, speed: float = 1.0) -> None:
        if not speed > 0:
            raise ValueError(f"the speed of a clock must be positive, not {speed}")
        self.speed = speed
        self._start = _monotonic()
        self._wall_start = time.time()

    def now(self) -> float:
        return (_monotonic() - self._start) * self.speed

    def wall(self) -> float:
        return self._wall_start + self.now()

    def sleep(self, duration_s: float) -> None:
        if duration_s > 0:
            time.sleep(duration_s / self.speed)

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        return event.wait(max(timeout_s, 0.0) / self.speed)

    @contextmanager
    def actor(self) -> Iterator[None]:
        yield


class VirtualClock:
    """A clock that jumps when all its actors wait on it.

    A thread that waits without being registered counts as an actor only while it waits.

    :param start_s: First reading of :meth:`now`.
    :param wall_start: Unix time that belongs to ``start_s``; the machine's time if not given.
    """

    virtual = True

    def __init__(self, start_s: float = 0.0, wall_start: float | None = None) -> None:
        self._now = start_s
        self._wall_offset = (time.time() if wall_start is None else wall_start) - start_s
        self._changed = threading.Condition()
        self._waiting: list[_Waiter] = []
        self._actors: set[int] = set()
        self._waiting_actors = 0

    def now(self) -> float:
        return self._now

    def wall(self) -> float:
        return self._now + self._wall_offset

    def sleep(self, duration_s: float) -> None:
        if duration_s > 0:
            self.sleep_until(self._now + duration_s)

    def sleep_until(self, deadline_s: float) -> None:
        """Wait until :meth:`now` reads ``deadline_s`` or later."""
        self._wait_until(deadline_s, None)

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        """Wait for an event, or for virtual time to pass.

        An event that an actor sets ends the wait at the moment of that actor; so does one that is set in real time
        by a thread that is no actor, but then the moment is not defined.
        """
        if not event.is_set() and timeout_s > 0:
            self._wait_until(self._now + timeout_s, event)
        return event.is_set()

    def advance_to(self, moment_s: float) -> None:
        """Move to ``moment_s`` at once, if that lies ahead; for a clock that joins a laboratory already running."""
        with self._changed:
            if moment_s > self._now:
                self._now = moment_s
                self._wake_the_due()

    @contextmanager
    def actor(self) -> Iterator[None]:
        ident = threading.get_ident()
        with self._changed:
            nested = ident in self._actors
            self._actors.add(ident)
        try:
            yield
        finally:
            if not nested:
                with self._changed:
                    self._actors.discard(ident)
                    self._changed.notify_all()

    def _wait_until(self, deadline_s: float, event: threading.Event | None) -> None:
        with self._changed:
            if deadline_s <= self._now:
                return
            waiter = _Waiter(deadline_s, threading.get_ident() in self._actors, event)
            self._waiting.append(waiter)
            self._waiting_actors += waiter.is_actor
            try:
                while not waiter.woken:
                    if not self._wake_the_due() and not self._jump_if_all_wait():
                        # Nobody notifies us of an event, so it is looked at now and then.
                        self._changed.wait(None if event is None else _EVENT_POLL_S)
            finally:
                if not waiter.woken:
                    self._waiting.remove(waiter)
                    self._waiting_actors -= waiter.is_actor

    def _jump_if_all_wait(self) -> bool:
        """Move to the earliest deadline if no actor is busy; the condition is held. Return whether time moved."""
        if self._waiting_actors < len(self._actors) or not self._waiting:
            return False
        self._now = min(waiter.deadline_s for waiter in self._waiting)
        return self._wake_the_due()

    def _wake_the_due(self) -> bool:
        """Wake those whose deadline or event has come; the condition is held. Return whether there are any.

        Whoever is due is taken off the list here, not when its thread runs: otherwise another thread could see it
        still "waiting" and jump past it.
        """
        due = [waiter for waiter in self._waiting if waiter.is_due(self._now)]
        if not due:
            return False
        for waiter in due:
            waiter.woken = True
            self._waiting_actors -= waiter.is_actor
        self._waiting = [waiter for waiter in self._waiting if not waiter.woken]
        self._changed.notify_all()
        return True


@dataclass(eq=False)
class _Waiter:
    """A thread that waits on a virtual clock."""

    deadline_s: float
    is_actor: bool
    event: threading.Event | None
    woken: bool = False

    def is_due(self, now_s: float) -> bool:
        return self.deadline_s <= now_s or (self.event is not None and self.event.is_set())
