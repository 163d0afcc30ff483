"""A wire emulator as a byte link, a library emulator as a library channel, in laboratory time."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from labctl.clock import Clock
from labctl.errors import ConnectionLost, Exchange, InstrumentError, InstrumentTimeout
from labctl.sim.emulator import LibraryEmulator, WireEmulator
from labctl.transport.call_table import DTYPES, check_call, parameters_of
from labctl.transport.hold import LinkLock
from labctl.transport.settings import LibrarySettings, Parameter

_LONGEST_ARGUMENT = 80


def _nothing() -> None:
    pass


class EmulatorLink:
    """A byte link to a wire emulator.

    :param emulator: The emulator; it outlives the link, as a powered device outlives a closed port.
    :param clock: The clock whose readings the emulator is told.
    :param name: Role and resource, for messages.
    :param lock: Held during every call of the emulator; shared by the emulators of one laboratory.
    :param on_close: Called once when the link is closed.
    """

    def __init__(
        self,
        emulator: WireEmulator,
        clock: Clock,
        name: str = "",
        lock: threading.RLock | None = None,
        on_close: Callable[[], None] = _nothing,
    ) -> None:
        self._emulator = emulator
        self._clock = clock
        self._name = name
        self._lock = lock or threading.RLock()
        self._on_close = on_close
        self._pending: list[tuple[float, int, bytes]] = []
        self._tickets = itertools.count()
        self._closed = threading.Event()

    def send(self, data: bytes) -> None:
        """Give ``data`` to the emulator at once."""
        with self._lock:
            self._refuse_if_closed()
            self._queue(self._emulator.respond(self._clock.now(), data))

    def receive(self, timeout_s: float) -> bytes:
        """Wait on the clock at most ``timeout_s`` for bytes; return all that have arrived, or nothing.

        Raises ConnectionLost if the link is closed, also while it waits.
        """
        deadline = self._clock.now() + timeout_s
        while True:
            with self._lock:
                self._refuse_if_closed()
                now, event = self._listen()
                arrived = self._take_arrived(now)
                if arrived or now >= deadline:
                    return arrived
                moments = [deadline]
                if self._pending:
                    moments.append(self._pending[0][0])
                if event is not None:
                    moments.append(event)
            self._clock.wait(self._closed, min(moments) - now)

    def clear(self) -> None:
        """Throw away what has arrived; what the emulator is yet to send will still come."""
        with self._lock:
            self._refuse_if_closed()
            self._take_arrived(self._listen()[0])

    def close(self) -> None:
        """Close; bytes under way are lost, the emulator keeps its state."""
        if not self._closed.is_set():
            self._closed.set()
            self._on_close()

    def _listen(self) -> tuple[float, float | None]:
        """Take what the emulator says unasked until now; return now and the moment when it will speak next."""
        now = self._clock.now()
        event = self._emulator.next_event()
        if event is not None and event <= now:
            self._queue(self._emulator.respond(now, b""))
            event = self._emulator.next_event()
        # An emulator whose next event stays in the past must not keep the link from waiting.
        return now, event if event is not None and event > now else None

    def _queue(self, replies: Sequence[tuple[float, bytes]]) -> None:
        for moment, data in replies:
            heapq.heappush(self._pending, (moment, next(self._tickets), data))

    def _take_arrived(self, now: float) -> bytes:
        arrived = b""
        while self._pending and self._pending[0][0] <= now:
            arrived += heapq.heappop(self._pending)[2]
        return arrived

    def _refuse_if_closed(self) -> None:
        if self._closed.is_set():
            raise ConnectionLost(f"{self._name or 'the link'}: the link was closed")


class EmulatorChannel:
    """Calls into a simulated vendor library.

    :param library: The simulated library; it outlives the channel.
    :param clock: The clock whose readings the library is told, and on which calls last.
    :param settings: Call table of the driver: what is not in it cannot be called.
    :param name: Role and resource, for messages.
    :param lock: Held during every call of the library; shared by the emulators of one laboratory.
    :param on_close: Called once when the channel is closed.
    """

    def __init__(
        self,
        library: LibraryEmulator,
        clock: Clock,
        settings: LibrarySettings,
        name: str = "",
        lock: threading.RLock | None = None,
        on_close: Callable[[], None] = _nothing,
    ) -> None:
        self.clock = clock
        self.settings = settings
        self.name = name or settings.name
        self._library = library
        self._laboratory_lock = lock or threading.RLock()
        self._on_close = on_close
        self._hold = LinkLock(clock, self.name)
        self._last = Exchange()
        self._ended = ""
        self._closed = threading.Event()
        self._broken = threading.Event()

    @property
    def last(self) -> Exchange:
        """Get the last call and what came back."""
        return self._last

    def exclusive(self) -> AbstractContextManager[None]:
        """Hold the library for a sequence of calls; re-entrant. Raises as WireAdapter.exclusive."""
        return self._hold.exclusive()

    def seize(self) -> AbstractContextManager[None]:
        """Hold the library at once, for the safe state; a call that hangs for more than 50 ms is broken off."""
        return self._hold.seize(self._break_off)

    def call(self, function: str, *arguments: Any, timeout_s: float | None = None) -> tuple[int, Sequence[Any]]:
        """Call a function of the call table; return its code and its outputs, when the simulated call returns.

        As with a real library, InputError is raised for a call that does not fit the table, InstrumentTimeout when
        the call does not come back in time, and from then on ConnectionLost, as when the channel is closed.
        """
        with self.exclusive():
            check_call(self.settings, function, arguments)
            self._last = Exchange(_written(function, arguments))
            allowed_s = self.settings.timeout_s if timeout_s is None else timeout_s
            broken = self._broken
            with self._laboratory_lock:
                if self._closed.is_set():
                    raise ConnectionLost(
                        f"{self.name}: the library is gone: {self._ended}", exchange=self._last, where=self.name
                    )
                start = self.clock.now()
                done, code, outputs = self._library.call(start, function, arguments)
            self._wait_until(min(done, start + allowed_s), broken)
            if done > start + allowed_s:
                self._end(f"{self._last.sent} hung")
                raise InstrumentTimeout(
                    f"a call into {self.settings.name} did not come back within {allowed_s:g} s",
                    exchange=self._last,
                    where=self.name,
                    state="the library was released; the device is left as it was",
                    todo="switch the device off and on, then open the bench again",
                )
            result = self._outputs(function, arguments, outputs)
            self._last = Exchange(self._last.sent, _written(str(code), result))
            return code, result

    def close(self) -> None:
        """Release the library; the device keeps its state."""
        self._end("it was closed")

    def _end(self, why: str) -> None:
        if not self._closed.is_set():
            self._ended = why
            self._closed.set()
            self._break_off()
            self._on_close()

    def _break_off(self) -> None:
        broken, self._broken = self._broken, threading.Event()
        broken.set()

    def _wait_until(self, moment: float, broken: threading.Event) -> None:
        while not broken.is_set() and (left_s := moment - self.clock.now()) > 0:
            self.clock.wait(broken, left_s)
        if broken.is_set():
            raise ConnectionLost(f"{self.name}: the call was broken off", exchange=self._last, where=self.name)

    def _outputs(self, function: str, arguments: Sequence[Any], outputs: Sequence[Any]) -> list[Any]:
        """Bring the outputs into the form that the real library gives, wherever the simulated one runs."""
        given = iter(arguments)
        wanted: list[tuple[Parameter, int]] = []
        for parameter in parameters_of(self.settings, function):
            argument = 1 if parameter.kind == "out" else next(given)
            if parameter.kind.endswith("out"):
                wanted.append((parameter, argument))
        # After a refusal a caller finds in its outputs what it had put there.
        values = (
            outputs
            if len(outputs)
            else ["" if parameter.kind == "text_out" else np.zeros(size) for parameter, size in wanted]
        )
        try:
            return [_as_returned(*place, value) for place, value in zip(wanted, values, strict=True)]
        except (ValueError, TypeError, OverflowError) as error:
            raise InstrumentError(
                f"the simulated {self.settings.name} breaks its call table at {function}: {error}",
                exchange=self._last,
                where=self.name,
            ) from error


def _as_returned(parameter: Parameter, size: int, value: Any) -> Any:
    if parameter.kind == "text_out":
        return str(value)
    array = np.array(value, DTYPES[parameter.type]).reshape(size)
    if parameter.kind == "out":
        return array[0].item()
    return array.tolist() if parameter.kind == "struct_out" else array


def _written(function: str, values: Sequence[Any]) -> str:
    return f"{function}({', '.join(map(_text, values))})"


def _text(value: Any) -> str:
    text = f"array of {value.size}" if isinstance(value, np.ndarray) else repr(value)
    return text if len(text) <= _LONGEST_ARGUMENT else f"{text[:_LONGEST_ARGUMENT]}..."
