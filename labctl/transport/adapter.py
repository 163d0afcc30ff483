"""The pymeasure Adapter on which all wire drivers stand, over any byte link."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from pymeasure.adapters import Adapter

from labctl.clock import Clock
from labctl.errors import ConnectionLost, Exchange, InstrumentError, InstrumentTimeout
from labctl.transport.hold import LinkLock
from labctl.transport.link import ByteLink
from labctl.transport.settings import WireSettings

_LONGEST_REPLY = 1 << 22


class WireAdapter(Adapter):
    """Reads and writes text and bytes over a :class:`ByteLink`, with a time-out for each command.

    One re-entrant lock covers a whole sequence of exchanges (query, toggle, query): take it by :meth:`exclusive`.
    Every single write and read takes it too.

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
        self._connect = connect
        self._lock = LinkLock(clock, name)
        self._granted = threading.local()
        self._buffer = bytearray()
        self._sent = b""
        self._received = b""
        self._named = _Named(name)
        self.connection: ByteLink = connect()

    @property
    def timeout_s(self) -> float:
        """Get the time allowed for a reply, in s: the driver's, or what :meth:`patience` grants this thread."""
        return getattr(self._granted, "timeout_s", self.settings.timeout_s)

    @property
    def last(self) -> Exchange:
        """Get the last exchange on the wire."""
        return Exchange(repr(self._sent) if self._sent else "", repr(self._received) if self._received else "")

    def exclusive(self) -> AbstractContextManager[None]:
        """Hold the link for a sequence of exchanges; re-entrant.

        Raises ConnectionLost if the safe state took the link from this thread, InstrumentTimeout if another thread
        keeps it for 30 s.
        """
        return self._lock.exclusive()

    def seize(self) -> AbstractContextManager[None]:
        """Hold the link at once, for the safe state.

        Whoever holds it is given 50 ms; then the link is closed under them and made anew, and the old holder's
        exchanges fail. Raises ConnectionLost if the link cannot be made anew.
        """
        return self._lock.seize(self.reconnect)

    @contextmanager
    def patience(self, timeout_s: float) -> Iterator[None]:
        """Allow this thread ``timeout_s`` for each reply within the block."""
        before = self.timeout_s
        self._granted.timeout_s = timeout_s
        try:
            yield
        finally:
            self._granted.timeout_s = before

    def reconnect(self) -> None:
        """Close the link and make it anew."""
        self.connection.close()
        self._buffer = bytearray()
        self.connection = self._connect()

    def try_to_reconnect(self) -> str:
        """Make the link anew for the safe state; returns what kept it from that, or an empty text. Never raises."""
        try:
            with self.seize():
                self.reconnect()
        except Exception as error:  # whatever happens here, the safe state must go on
            return str(error)
        return ""

    def read_until(self, marker: bytes) -> bytes:
        """Read up to and including ``marker``; raises InstrumentTimeout with what came instead."""
        return self._take(lambda: self._buffer.find(marker) + len(marker) if marker in self._buffer else 0)

    def flush_read_buffer(self) -> None:
        """Throw away what has arrived and was not read."""
        with self.exclusive():
            self._buffer.clear()
            with self._named:
                self.connection.clear()

    def _write(self, command: str, **kwargs: object) -> None:
        try:
            content = command.encode(self.settings.encoding)
        except UnicodeEncodeError as error:
            raise InstrumentError(
                f"the command {command!r} cannot be written in {self.settings.encoding}", where=self.name
            ) from error
        self._write_bytes(content + self.settings.write_termination)

    def _write_bytes(self, content: bytes, **kwargs: object) -> None:
        with self.exclusive():
            self._sent, self._received = content, b""
            with self._named:
                self.connection.send(content)

    def _read(self, **kwargs: object) -> str:
        end = self.settings.read_termination
        reply = self.read_until(end)
        try:
            return reply[: -len(end)].decode(self.settings.encoding)
        except UnicodeDecodeError as error:
            raise InstrumentError(
                f"the reply is not text in {self.settings.encoding}", exchange=self.last, where=self.name
            ) from error

    def _read_bytes(self, count: int, break_on_termchar: bool = False, **kwargs: object) -> bytes:
        end = self.settings.read_termination

        def complete() -> int:
            length = count if 0 <= count <= len(self._buffer) else 0
            if break_on_termchar and end in self._buffer:
                line = self._buffer.find(end) + len(end)
                return min(line, length) if length else line
            return length

        if count == -1 and not break_on_termchar:
            return self._take_what_comes()
        return self._take(complete) if count != 0 else b""

    def _take(self, complete: Callable[[], int]) -> bytes:
        """Receive until ``complete()`` gives a length > 0; return that many bytes."""
        with self.exclusive():
            deadline = self.clock.now() + self.timeout_s
            while not (length := complete()):
                remaining_s = deadline - self.clock.now()
                data = self._receive(max(remaining_s, 0.0))
                # An instrument that never stops talking must not hold off the time-out.
                if not complete() and (not data or remaining_s <= 0):
                    self._received += bytes(self._buffer)
                    self._buffer.clear()
                    raise InstrumentTimeout(
                        f"no complete reply within {self.timeout_s:g} s",
                        exchange=self.last,
                        where=self.name,
                        todo="check power and cable; a device that was switched off needs a new run",
                    )
            return self._taken(length)

    def _take_what_comes(self) -> bytes:
        """Receive until the line is quiet for the time-out."""
        with self.exclusive():
            while self._receive(self.timeout_s):
                pass
            return self._taken(len(self._buffer))

    def _receive(self, timeout_s: float) -> bytes:
        connection = self.connection
        with self._named:
            data = connection.receive(timeout_s)
        if connection is not self.connection:
            raise ConnectionLost("the link was taken over by the safe state", exchange=self.last, where=self.name)
        self._buffer += data
        if len(self._buffer) > _LONGEST_REPLY:
            sample = bytes(self._buffer[:80])
            self._buffer.clear()
            raise ConnectionLost(
                "the instrument sends without end",
                exchange=Exchange(repr(self._sent), f"{sample!r}..."),
                where=self.name,
            )
        return data

    def _taken(self, length: int) -> bytes:
        taken = bytes(self._buffer[:length])
        del self._buffer[:length]
        self._received += taken
        return taken

    def __repr__(self) -> str:
        return f"<WireAdapter {self.name}>"


class _Named:
    """Has the errors of a link say which instrument lies at its end: it alone is then brought back."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, InstrumentError):
            error.where = error.where or self._name
