"""Who holds a connection: a re-entrant lock that the safe state may take from its holder."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from labctl.clock import Clock
from labctl.errors import ConnectionLost, InstrumentTimeout

SEIZE_PATIENCE_S = 0.05
_PATIENCE_S = 30.0
_POLL_S = 1e-3


class LinkLock:
    """A re-entrant lock over whole sequences of exchanges (query, toggle, query).

    The safe state does not wait for a holder that hangs: :meth:`seize` breaks the link under it. The old holder then
    fails at its next exchange instead of mixing its bytes into those of the safe state.

    :param clock: The clock on which others wait for the lock.
    :param name: Role and resource, for messages.
    """

    def __init__(self, clock: Clock, name: str = "") -> None:
        self._clock = clock
        self._name = name
        self._lock = threading.RLock()
        self._mine = threading.local()

    def exclusive(self) -> AbstractContextManager[None]:
        """Hold the link; re-entrant.

        Raises ConnectionLost if this thread held the link and it was seized, InstrumentTimeout after 30 s.
        """
        return _Hold(self)

    def take(self) -> tuple[threading.RLock, threading.RLock | None]:
        """Acquire the link for this thread; get the lock, and the one that it held before. Raises as exclusive."""
        held = getattr(self._mine, "lock", None)
        if held is not None and held is not self._lock:
            raise ConnectionLost(
                "the link was taken over by the safe state",
                where=self._name,
                state="the bench is being made safe",
                todo="end the run; nothing more can be measured with this connection",
            )
        lock = self._wait()
        return lock, self._keep(lock)

    def give_back(self, lock: threading.RLock, before: threading.RLock | None) -> None:
        """Let go of what :meth:`take` gave."""
        self._mine.lock = before
        lock.release()

    @contextmanager
    def seize(self, break_link: Callable[[], None]) -> Iterator[None]:
        """Hold the link at once, for the safe state.

        :param break_link: Closes the link under its holder and makes it anew; called if the holder does not let go
            within 50 ms of real time.
        """
        lock = self._lock
        if lock.acquire(timeout=SEIZE_PATIENCE_S):
            if lock is self._lock:
                before = self._keep(lock)
                try:
                    yield
                finally:
                    self.give_back(lock, before)
                return
            lock.release()
        self._lock = lock = threading.RLock()
        lock.acquire()
        before = self._keep(lock)
        try:
            break_link()
            yield
        finally:
            self.give_back(lock, before)

    def _keep(self, lock: threading.RLock) -> threading.RLock | None:
        before = getattr(self._mine, "lock", None)
        self._mine.lock = lock
        return before

    def _wait(self) -> threading.RLock:
        """Acquire the lock that is valid when it is acquired."""
        while True:
            lock = self._lock
            if not self._acquire(lock):
                raise InstrumentTimeout("another thread kept the link for too long", where=self._name)
            if lock is self._lock:
                return lock
            lock.release()

    def _acquire(self, lock: threading.RLock) -> bool:
        if not self._clock.virtual:
            return lock.acquire(timeout=_PATIENCE_S)
        # A virtual clock stands still while an actor is blocked outside it, and the holder may be waiting for that
        # clock: there the lock is polled on the clock.
        deadline = self._clock.now() + _PATIENCE_S
        while not lock.acquire(blocking=False):
            if self._clock.now() >= deadline:
                return False
            self._clock.sleep(_POLL_S)
        return True


class _Hold:
    """The link, held for a block. No generator: every exchange holds the link several times over, nested."""

    __slots__ = ("_before", "_link", "_lock")

    def __init__(self, link: LinkLock) -> None:
        self._link = link

    def __enter__(self) -> None:
        self._lock, self._before = self._link.take()

    def __exit__(self, *_: object) -> None:
        self._link.give_back(self._lock, self._before)
