"""The remote interface of an emulated instrument that speaks SCPI: lines in, replies out, errors in a queue."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence

from drivers.scpi.emulators.messages import Unit, matches, split_message
from labctl.sim.emulator import LineBuffer, Reply

Action = Callable[[float, Unit], str | None]
"""Carries out a unit of a message at a moment; gets what a query answers. Raises :class:`ScpiError`."""

_ERRORS = {
    0: "No error",
    -104: "Data type error",
    -108: "Parameter not allowed",
    -113: "Undefined header",
    -213: "Init ignored",
    -222: "Data out of range",
    -230: "Data corrupt or stale",
    -241: "Hardware missing",
    -310: "System error",
    -350: "Queue overflow",
}
_QUEUE_LENGTH = 16


class ScpiError(Exception):
    """What the instrument queues instead of doing as it was told.

    :param code: Number of the error in SCPI-1999.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class ScpiInterface:
    """Frames lines, finds commands, keeps the error queue. An unknown header gets no reply and queues -113.

    :param commands: What to do for each header, by patterns as in :func:`drivers.scpi.emulators.messages.matches`.
        `SYSTem:ERRor[:NEXT]` and `*CLS` need not be among them.
    :param reply_s: Time to answer, s.
    :param number: How the queue writes the number of an error: ``"d"``, or ``"+d"`` for one that shows its sign.
    """

    def __init__(self, commands: Mapping[str, Action], reply_s: float, number: str = "d") -> None:
        self._commands = {"SYSTem:ERRor[:NEXT]": query(self._next_error), "*CLS": command(self.clear), **commands}
        self._reply_s = reply_s
        self._number = number
        self.pending: list[bytes] = []
        self.unknown: list[str] = []
        self.power_up()

    def power_up(self) -> None:
        """Forget half a line and all errors."""
        self._lines = LineBuffer(b"\n\r")
        self._errors: deque[int] = deque()

    def clear(self) -> None:
        """Empty the error queue."""
        self._errors.clear()

    def queue(self, code: int) -> None:
        """Put an error into the queue."""
        if len(self._errors) < _QUEUE_LENGTH:
            self._errors.append(code)
        else:
            self._errors[-1] = -350

    def refuse(self, t: float, data: bytes) -> Sequence[Reply]:
        """Queue an error for each line and answer none."""
        for _ in self._lines.feed(data):
            self.queue(-310)
        return ()

    def respond(self, t: float, data: bytes) -> Sequence[Reply]:
        """Take bytes at ``t``; see :class:`labctl.sim.emulator.WireEmulator`."""
        replies: list[Reply] = [(t, text) for text in self.pending]
        self.pending = []
        for line in self._lines.feed(data):
            answers = [self._execute(t, unit) for unit in split_message(line.decode("latin-1"), self._commands)]
            if said := [answer for answer in answers if answer is not None]:
                replies.append((t + self._reply_s, ";".join(said).encode("latin-1") + b"\n"))
        return replies

    def _execute(self, t: float, unit: Unit) -> str | None:
        try:
            for pattern, action in self._commands.items():
                if matches(pattern, unit.header):
                    return action(t, unit)
            self.unknown.append(":".join(unit.header))
            raise ScpiError(-113)
        except ScpiError as error:
            self.queue(error.code)
            return None

    def _next_error(self) -> str:
        code = self._errors.popleft() if self._errors else 0
        return f'{code:{self._number}},"{_ERRORS[code]}"'


def query(text: Callable[[], str]) -> Action:
    """Make a header that can only be asked."""

    def action(t: float, unit: Unit) -> str | None:
        if not unit.query:
            raise ScpiError(-113)
        return text()

    return action


def command(do: Callable[[], None]) -> Action:
    """Make a header that can only be told."""

    def action(t: float, unit: Unit) -> str | None:
        if unit.query:
            raise ScpiError(-113)
        do()
        return None

    return action


def number(unit: Unit) -> float:
    """Get the number that a unit carries; raises ScpiError."""
    try:
        return float(unit.argument)
    except ValueError:
        raise ScpiError(-104) from None


def switch(unit: Unit) -> bool:
    """Get the boolean that a unit carries; raises ScpiError."""
    words = {"ON": True, "1": True, "OFF": False, "0": False}
    if unit.argument.upper() not in words:
        raise ScpiError(-104)
    return words[unit.argument.upper()]
