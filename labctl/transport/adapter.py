"""The pymeasure Adapter on which all wire drivers stand, over any byte link."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pymeasure.adapters import Adapter

from labctl.clock import Clock
from labctl.errors import ConnectionLost, Exchange, InstrumentTimeout
from labctl.transport.link import ByteLink
from labctl.transport.settings import WireSettings

SEIZE_PATIENCE_S = 0.05
_LOCK_PATIENCE_S = 30.0
_CHUNK_LIMIT = 1 << 16


class WireAdapter(Adapter):
    """Reads and writes text and bytes over a :class:`ByteLink`, with a time-out for each command.

    One re-entrant lock covers a whole sequence of exchanges (query, toggle, query): take it by :meth:`exclusive`.

    :param connect: Makes the link; called again when the adapter reconnects.
    :param settings: Line settings of the driver.
    :param clock: The clock on which time-outs run.
    :param name: Role and resource, for messages.
    """

    def __init__(self, connect: Callable[[], ByteLink], settings: WireSettings, clock: Clock, name: str = "") -> None:
        super().__init__()
        self.settings = settings
        self.clock = clock
        self.name = name
        self.timeout_s = settings.timeout_s
        self._connect = connect
        self._lock = threading.RLock()
        self._buffer = bytearray()
        self._sent = b""
        self._received = b""
        self.connection: ByteLink = connect()

    @property
    def last(self) -> Exchange:
        """Get the last exchange on the wire."""
        return Exchange(repr(self._sent) if self._sent else "", repr(self._received) if self._received else "")

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the link for a sequence of exchanges; re-entrant."""
        if not self._lock.acquire(timeout=_LOCK_PATIENCE_S):
            raise InstrumentTimeout("another thread kept the link for too long", exchange=self.last, where=self.name)
        try:
            yield
        finally:
            self._lock.release()

    @contextmanager
    def seize(self) -> Iterator[None]:
        """Hold the link at once, for the safe state.

        Whoever holds it is given 50 ms; then the link is closed under them and made anew, and the old holder's
        exchange fails.
        """
        if not self._lock.acquire(timeout=SEIZE_PATIENCE_S):
            self._lock = threading.RLock()
            self._lock.acquire()
            self.reconnect()
        lock = self._lock
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def patience(self, timeout_s: float) -> Iterator[None]:
        """Allow ``timeout_s`` for each reply within the block."""
        before, self.timeout_s = self.timeout_s, timeout_s
        try:
            yield
        finally:
            self.timeout_s = before

    def reconnect(self) -> None:
        """Close the link and make it anew."""
        self.connection.close()
        self._buffer.clear()
        self.connection = self._connect()

    def read_until(self, marker: bytes) -> bytes:
        """Read up to and including ``marker``; raises InstrumentTimeout with what came instead."""
        return self._take(lambda: self._buffer.find(marker) + len(marker) if marker in self._buffer else 0)

    def flush_read_buffer(self) -> None:
        """Throw away what has arrived and was not read."""
        self._buffer.clear()
        self.connection.clear()

    def _write(self, command: str, **kwargs: object) -> None:
        self._write_bytes(command.encode(self.settings.encoding) + self.settings.write_termination)

    def _write_bytes(self, content: bytes, **kwargs: object) -> None:
        self._sent, self._received = content, b""
        self.connection.send(content)

    def _read(self, **kwargs: object) -> str:
        end = self.settings.read_termination
        return self.read_until(end)[: -len(end)].decode(self.settings.encoding)

    def _read_bytes(self, count: int, break_on_termchar: bool = False, **kwargs: object) -> bytes:
        end = self.settings.read_termination

        def complete() -> int:
            if break_on_termchar and end in self._buffer:
                return self._buffer.find(end) + len(end)
            return count if 0 <= count <= len(self._buffer) else 0

        if count == -1 and not break_on_termchar:
            return self._take_what_comes()
        return self._take(complete) if count != 0 else b""

    def _take(self, complete: Callable[[], int]) -> bytes:
        """Receive until ``complete()`` gives a length > 0; return that many bytes."""
        deadline = self.clock.now() + self.timeout_s
        while not (length := complete()):
            if len(self._buffer) > _CHUNK_LIMIT * 64:
                raise ConnectionLost("the instrument sends without end", exchange=self.last, where=self.name)
            data = self.connection.receive(max(deadline - self.clock.now(), 0.0))
            if not data:
                self._received += bytes(self._buffer)
                self._buffer.clear()
                raise InstrumentTimeout(
                    f"no complete reply within {self.timeout_s:g} s",
                    exchange=self.last,
                    where=self.name,
                    todo="check power and cable; a device that was switched off needs a new run",
                )
            self._buffer += data
        taken = bytes(self._buffer[:length])
        del self._buffer[:length]
        self._received += taken
        return taken

    def _take_what_comes(self) -> bytes:
        """Receive until the line is quiet for the time-out."""
        while data := self.connection.receive(self.timeout_s):
            self._buffer += data
        taken = bytes(self._buffer)
        self._buffer.clear()
        self._received += taken
        return taken

    def __repr__(self) -> str:
        return f"<WireAdapter {self.name}>"
