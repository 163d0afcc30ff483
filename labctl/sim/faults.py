"""Faults on the wires of a simulated laboratory, between adapter and emulator: a tool for tests.

Every transaction (a write with its replies on a wire, a call into a simulated vendor library, the making of a
connection) is numbered and shown to whoever watches, who may answer with a fault to be put into it. No key of a bench
file and no option of a command leads here: faults exist only within the block :func:`injected`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from labctl.errors import ConnectionLost
from labctl.sim.emulator import LibraryEmulator, Reply, WireEmulator
from labctl.sim.spoiling import Spoiler, spoil_bytes, spoil_outputs
from labctl.transport.call_table import parameters_of
from labctl.transport.settings import LibrarySettings, LinkSettings

_LATE = 1.2
"""Delay of a late reply, in units of the time that the driver allows for one."""
_SLOW_CALL = 0.6
"""The same for a call: a call that comes back later than allowed is one that hangs."""
_NEVER_S = 1e9


class Kind(StrEnum):
    """What goes wrong in a transaction, or from it on."""

    LOST = "command lost"
    SILENCE = "silence"
    DEAD = "silence for good"
    LATE = "late"
    GARBLED = "garbled"
    DIGIT = "digit changed"
    TRUNCATED = "truncated"
    BYTE_LOST = "byte lost"
    DEVICE_ERROR = "device error"
    DISCONNECT = "disconnect"
    UNPLUGGED = "unplugged"
    RESET = "reset"
    STUCK = "stuck"


WIRE_KINDS = tuple(Kind)
LIBRARY_KINDS = tuple(kind for kind in Kind if kind not in {Kind.LOST, Kind.DEAD, Kind.BYTE_LOST})
"""Within a process there is no wire on which commands or bytes get lost, and a call that hangs hangs for good."""
CONNECT_KINDS = (Kind.DISCONNECT, Kind.UNPLUGGED)

_BYTES = {
    Kind.GARBLED: Spoiler.NOISE,
    Kind.DIGIT: Spoiler.DIGIT,
    Kind.TRUNCATED: Spoiler.CUT,
    Kind.BYTE_LOST: Spoiler.DROP,
}
"""Kinds that change what is received, and nothing else."""


class Faultable(Protocol):
    """What an emulator offers to faults that only the device itself can have; each may be missing."""

    stuck: bool
    """Whether the moving part of the instrument does not move."""

    def power_cycle(self, t: float) -> None:
        """Switch off and on at ``t``."""
        ...

    def refuse(self, t: float, data: Any) -> Any:
        """Answer a command with the device's own error, without carrying it out.

        :param data: The bytes of the command, or the name of the function.
        :returns: Replies, or the code of a library function.
        """
        ...


@dataclass(frozen=True)
class Transaction:
    """One transaction of a run.

    :param number: Number from 0, counted over all instruments.
    :param role: Role on the bench.
    :param command: Bytes sent, function called, or ``CONNECT``.
    :param t: Laboratory time at which it begins, s.
    :param is_call: Whether it is a call into a vendor library.
    :param kinds: Faults that can be put into it, as far as is known before the reply.
    """

    number: int
    role: str
    command: str
    t: float
    is_call: bool
    kinds: tuple[Kind, ...]


@dataclass
class Fault:
    """A fault to be put into a transaction.

    :param kind: What goes wrong.
    :param role: The instrument that has it, where it is not that of the transaction: it is then reset, stuck or
        unplugged while another one is spoken to.
    :param applied: Set when it has happened; a reply without digits, for example, has none that could change.
    """

    kind: Kind
    role: str = ""
    applied: bool = False


Watch = Callable[[Transaction], Fault | None]

CONNECT = "connect"


class Faults:
    """The faults of one simulated laboratory.

    :param watch: Shown every transaction before it happens; what it returns happens.
    """

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._count = 0
        self._lines: dict[str, _Line] = {}

    def put(self, role: str, emulator: Any, settings: LinkSettings) -> Any:
        """Connect to an emulator; get what stands in its place for this connection."""
        line = self._lines.setdefault(role, _Line(role, emulator))
        _, fault = self.begin(line, CONNECT, 0.0, CONNECT_KINDS)
        if fault is not None:
            line.check()
        line.connect()
        if isinstance(settings, LibrarySettings):
            return FaultyLibrary(emulator, self, line, settings)
        return FaultyWire(emulator, self, line, _LATE * settings.timeout_s)

    def begin(self, line: _Line, command: str, t: float, kinds: Sequence[Kind]) -> tuple[int, Fault | None]:
        """Number a transaction and ask for its fault; one that lies in another instrument happens at once."""
        is_call = kinds is LIBRARY_KINDS
        transaction = Transaction(self._count, line.role, command, t, is_call, line.possible(kinds))
        self._count += 1
        fault = self._watch(transaction)
        if fault is not None and (fault.role or line.role) != line.role:
            other = self._lines.get(fault.role)
            if other is not None and fault.kind in other.possible((Kind.RESET, Kind.STUCK, Kind.UNPLUGGED)):
                other.suffer(fault, t)
            fault = None
        if fault is not None:
            line.suffer(fault, t)
        return transaction.number, fault


class _Line:
    """What is wrong with one instrument and its connection, beyond a single transaction."""

    def __init__(self, role: str, emulator: Any) -> None:
        self.role = role
        self._emulator = emulator
        self._unplugged = False
        self._broken = False
        self.dead = False

    def possible(self, kinds: Sequence[Kind]) -> tuple[Kind, ...]:
        """Get those of ``kinds`` that this instrument can have."""
        needs = {Kind.RESET: "power_cycle", Kind.STUCK: "stuck", Kind.DEVICE_ERROR: "refuse"}
        return tuple(kind for kind in kinds if kind not in needs or hasattr(self._emulator, needs[kind]))

    def suffer(self, fault: Fault, t: float) -> None:
        """Begin what lasts longer than the transaction."""
        match fault.kind:
            case Kind.RESET:
                self._emulator.power_cycle(t)
            case Kind.STUCK:
                self._emulator.stuck = True
            case Kind.UNPLUGGED:
                self._unplugged = True
            case Kind.DISCONNECT:
                self._broken = True
            case Kind.DEAD:
                self.dead = True
            case _:
                return
        fault.applied = True

    def connect(self) -> None:
        """Begin a new connection; raises ConnectionLost where there is no instrument any more."""
        if self._unplugged:
            raise ConnectionLost(f"{self.role}: there is no such port: the instrument is unplugged", where=self.role)
        self._broken = False

    def check(self) -> None:
        """Raise ConnectionLost if the connection is broken."""
        if self._unplugged or self._broken:
            raise ConnectionLost(f"{self.role}: the connection broke", where=self.role)


class FaultyWire:
    """A wire emulator as it is seen through a wire with faults.

    :param emulator: The emulator.
    :param faults: Whoever numbers the transactions.
    :param line: What is wrong with the instrument.
    :param late_s: Delay of a late reply.
    """

    def __init__(self, emulator: WireEmulator, faults: Faults, line: _Line, late_s: float) -> None:
        self._emulator = emulator
        self._faults = faults
        self._line = line
        self._late_s = late_s
        self._number = 0
        self._fault: Fault | None = None

    def respond(self, t: float, data: bytes) -> Sequence[Reply]:
        if not data:
            self._line.check()
            return self._received(self._emulator.respond(t, data))
        self._number, self._fault = self._faults.begin(self._line, repr(data), t, WIRE_KINDS)
        self._line.check()
        kind = self._fault.kind if self._fault is not None else None
        if self._fault is not None and kind in {Kind.LOST, Kind.DEVICE_ERROR}:
            self._fault.applied = True
            return self._received(() if kind is Kind.LOST else self._device(t, data))
        if self._line.dead:
            return ()
        return self._received(self._emulator.respond(t, data))

    def next_event(self) -> float | None:
        self._line.check()
        return None if self._line.dead else self._emulator.next_event()

    def _device(self, t: float, data: bytes) -> Sequence[Reply]:
        emulator: Any = self._emulator
        return emulator.refuse(t, data)

    def _received(self, replies: Sequence[Reply]) -> Sequence[Reply]:
        """Get what becomes of replies on their way."""
        fault = self._fault
        if self._line.dead:
            return ()
        if fault is None or not replies:
            return replies
        if fault.kind is Kind.SILENCE:
            fault.applied = True
            return ()
        if fault.kind is Kind.LATE:
            fault.applied = True
            return [(moment + self._late_s, data) for moment, data in replies]
        if fault.kind not in _BYTES or fault.applied:
            return replies
        # An echo comes character by character, the answer at once.
        longest = max(range(len(replies)), key=lambda index: len(replies[index][1]))
        moment, data = replies[longest]
        spoilt = spoil_bytes(data, _BYTES[fault.kind], self._number)
        if spoilt is None:
            return replies
        fault.applied = True
        return [*replies[:longest], (moment, spoilt), *replies[longest + 1 :]]


class FaultyLibrary:
    """A simulated vendor library with faults.

    :param library: The library.
    :param faults: Whoever numbers the transactions.
    :param line: What is wrong with the instrument.
    :param settings: Its call table.
    """

    def __init__(self, library: LibraryEmulator, faults: Faults, line: _Line, settings: LibrarySettings) -> None:
        self._library = library
        self._faults = faults
        self._line = line
        self._settings = settings

    def call(self, t: float, function: str, arguments: Sequence[Any]) -> tuple[float, int, Sequence[Any]]:
        number, fault = self._faults.begin(self._line, function, t, LIBRARY_KINDS)
        self._line.check()
        if fault is not None and fault.kind is Kind.DEVICE_ERROR:
            fault.applied = True
            library: Any = self._library
            return t, library.refuse(t, function), []
        done, code, outputs = self._library.call(t, function, arguments)
        if fault is None:
            return done, code, outputs
        if fault.kind in {Kind.SILENCE, Kind.LATE}:
            fault.applied = True
            delay_s = _NEVER_S if fault.kind is Kind.SILENCE else _SLOW_CALL * self._settings.timeout_s
            return done + delay_s, code, outputs
        if fault.kind in _BYTES and len(outputs):
            outputs = self._spoilt(function, outputs, fault, number)
        return done, code, outputs

    def _spoilt(self, function: str, outputs: Sequence[Any], fault: Fault, number: int) -> Sequence[Any]:
        parameters = parameters_of(self._settings, function)
        written = [parameter for parameter in parameters if parameter.kind.endswith("out")]
        spoilt = spoil_outputs(written, outputs, _BYTES[fault.kind], number)
        if spoilt is None:
            return outputs
        fault.applied = True
        return spoilt


_active: ContextVar[Faults | None] = ContextVar("faults", default=None)


@contextmanager
def injected(watch: Watch) -> Iterator[Faults]:
    """Have the laboratories that are opened within the block suffer the faults that ``watch`` asks for."""
    faults = Faults(watch)
    token = _active.set(faults)
    try:
        yield faults
    finally:
        _active.reset(token)


def active_faults() -> Faults | None:
    """Get the faults of the block that is being carried out; None outside of any."""
    return _active.get()
