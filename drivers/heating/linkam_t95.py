"""Linkam heating and freezing stages on a controller T92, T93, TMS94 or T95 (serial).

Commands end with CR, and each is answered: by a lone CR, or, for ``T``, by ten bytes of status and a CR. ``T`` must be
the first command after the controller was switched on. The T96 has no public protocol (the vendor's library only) and
is not driven here.

What the protocol cannot do, and what stands in its place:

- The limit (set-point) and the rate cannot be read back. After each command the driver asks for the status: the link
  must be free of errors, a stage that runs must heat, cool or hold as the limit demands, and a stage that holds at its
  limit must stand near it. :attr:`LinkamT95.setpoint_c` is the limit that was last sent and acknowledged.
- There is no watchdog: a controller whose computer has died goes on to its limit and holds there. Bring the stage to a
  limit that it can keep for ever, and use the over-temperature switch of the stage.
- There is no identity: any controller that answers ``T`` is taken for one.

UNVERIFIED, from programs of others: an empty line before the status (tolerated); that the pump of a TMS94 is reported
with an offset of 0x60; that digits of a rate or limit need no leading zeros; that unknown commands are not answered;
that ``H`` and ``C`` leave a hold on controllers other than the T95; that bit 5 of the errors tells of the command
before, and is cleared by being read.
"""

from __future__ import annotations

import logging
import math
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pymeasure.instruments import Instrument

from labctl.clock import Clock
from labctl.errors import ConnectionLost, Exchange, InputError, InstrumentError, InstrumentTimeout
from labctl.roles import Identity, Readiness, Reading, SafeStep
from labctl.transport.adapter import WireAdapter
from labctl.transport.settings import WireSettings

log = logging.getLogger(__name__)

CR = b"\r"
STATES = {
    0x01: "stopped",
    0x10: "heating",
    0x20: "cooling",
    0x30: "holding at the limit",
    0x40: "holding for the limit time",
    0x50: "holding at the present temperature",
}
STOPPED, HEATING, COOLING, AT_LIMIT, HELD = 0x01, 0x10, 0x20, 0x30, 0x50
COOLING_TOO_FAST = 0x01
LINK_ERROR = 0x20
ERRORS = {
    COOLING_TOO_FAST: "the cooling rate cannot be achieved",
    0x02: "open circuit, or no stage is connected",
    0x04: "over-current protection",
    0x08: "the stage does not leave 300 degC",
    LINK_ERROR: "error on the serial link",
}
_MASK = 0x80
_STATUS = re.compile(rb"[\x01\x10\x20\x30\x40\x50][\x80-\xff]{5}[0-9A-Fa-f]{4}")
_TMS94_PUMP = 0x60
_DIRECTION_K = 1.0
"""Nearer to its limit than this a stage may heat, cool or hold."""
_BEYOND_STAGE_K = 50.0
"""Further beyond the range of its stage than this no reading is believed."""
_AT_LIMIT_K = 5.0
"""A stage that says it holds at its limit is within this of it, overshoot and all."""
_BEGINS_S = 2.0
_QUIET_S = 0.3
_SAFE_REPLY_S = 0.25
_SAFE_TRIES = 2
_BY_HAND = "switch the controller off at its mains switch"


@dataclass(frozen=True, slots=True)
class LinkamStatus:
    """What the controller says of itself.

    :param state: One of the keys of ``STATES``.
    :param errors: Sum of the keys of ``ERRORS``.
    :param pump_speed: Speed of the cooling pump, 0 to 30.
    :param temperature_c: Temperature in °C, to 0.1.
    """

    state: int
    errors: int
    pump_speed: int
    temperature_c: float

    @classmethod
    def parse(cls, reply: bytes) -> LinkamStatus:
        """Read the ten bytes that answer ``T``; raises ValueError for any others."""
        if len(reply) != 10 or not _STATUS.fullmatch(reply):
            raise ValueError(f"{reply!r} is no status")
        pump = reply[2] - _MASK
        tenths = int.from_bytes(bytes.fromhex(reply[6:].decode("ascii")), "big", signed=True)
        return cls(reply[0], reply[1] - _MASK, pump - _TMS94_PUMP if pump >= _TMS94_PUMP else pump, tenths / 10)

    @property
    def faults(self) -> str:
        """Get in words what keeps the stage from its temperature; empty if nothing does."""
        return "; ".join(text for bit, text in ERRORS.items() if self.errors & bit and bit != COOLING_TOO_FAST)

    def __str__(self) -> str:
        also = "".join(f", {text}" for bit, text in ERRORS.items() if self.errors & bit)
        return f"{STATES[self.state]} at {self.temperature_c:.1f} degC{also}"


class LinkamT95(Instrument):
    """A Linkam stage on its controller.

    :param adapter: The wire.
    :param name: Name for messages.
    :param clock: The clock on which it waits.
    :param options: See :class:`Options`.
    """

    LINK = WireSettings(write_termination=CR, read_termination=CR, timeout_s=0.5, baud_rate=19200)
    ROLE = "heating_stage"
    READINGS: ClassVar = {
        "temperature": Reading("temperature_c", "degC", overshoot=2.0),
        "setpoint": Reading("setpoint_c", "degC"),
        "heater": Reading("is_on", words=("off", "on")),
    }

    class Options(BaseModel):
        """The table ``[instruments.heating_stage.options]``.

        :param rate_k_min: Rate of every ramp, 0.01 to 150 K/min.
        :param lowest_c: Lowest temperature of the stage, °C; that of the room where there is no cooling.
        :param highest_c: Highest temperature of the stage, °C.
        :param spacing_s: Least time between two commands, s.
        """

        model_config = ConfigDict(frozen=True, extra="forbid")

        rate_k_min: float = Field(default=10.0, ge=0.01, le=150)
        lowest_c: float = Field(default=-196.0, ge=-200, le=600)
        highest_c: float = Field(default=600.0, ge=-200, le=1500)
        spacing_s: float = Field(default=0.3, ge=0, le=10)

        @model_validator(mode="after")
        def _in_order(self) -> LinkamT95.Options:
            if self.lowest_c >= self.highest_c:
                raise ValueError("lowest_c must lie below highest_c")
            return self

    adapter: WireAdapter

    def __init__(self, adapter: WireAdapter, name: str = "Linkam T95", *, clock: Clock, **options: object) -> None:
        super().__init__(adapter, name, includeSCPI=False)
        self.clock = clock
        self._chosen = self.Options.model_validate(options)
        self._in_step = False
        self._next_command_s = -math.inf
        self._setpoint_c: float | None = None
        self._controls = False
        self._recent: deque[Exchange] = deque(maxlen=8)

    def start_up(self) -> None:
        """Find the controller, and have it hold where it stands if it is under way.

        The limit it was left with cannot be read, so that it is replaced by the temperature that is found: a stage
        that somebody left warm stays warm, one that was on its way stops there. A stopped stage stays stopped.
        """
        with self.adapter.exclusive():
            self._controls = False
            found = self._status()
            if found.state != STOPPED:
                log.warning("%s was left %s; it now holds there", self.name, found)
            if found.faults:
                log.warning("%s: %s", self.name, found.faults)
            low_c, high_c = self.range_c
            self._send_limit(min(max(found.temperature_c, low_c), high_c))
            if found.state != STOPPED:
                self._require_link(self._status())
                self._controls = True

    def identify(self) -> Identity:
        """Get the vendor and the family, once the controller has answered: it tells neither model nor serial number."""
        if not self._in_step:
            self._status()
        return Identity("Linkam", "T92/T93/TMS94/T95")

    def readiness(self) -> Sequence[Readiness]:
        """Measure whether stage and controller are without fault; moves nothing."""
        status = self._status()
        todo = ": look at the stage, its cable and its controller" if status.faults else ""
        return (Readiness("stage", not status.faults, f"{status}{todo}"),)

    @property
    def status(self) -> LinkamStatus:
        """Measure state, errors, pump speed and temperature, whatever they are."""
        return self._status()

    @property
    def temperature_c(self) -> float:
        """Measure the temperature of the stage in °C, to 0.1.

        Raises InstrumentError when the controller reports a fault or what cannot be, when it has stopped although it
        was switched on (it was switched off, reset, or stopped by hand), or holds at another limit than was sent.
        """
        with self.adapter.exclusive():
            status = self._status()
            self._require_sound(status)
            return status.temperature_c

    @property
    def setpoint_c(self) -> float:
        """Get the limit in °C that was last sent and acknowledged: the controller does not tell it.

        Raises InstrumentError before :meth:`start_up`, and after a limit that was not acknowledged.
        """
        if self._setpoint_c is None:
            raise self._error(
                "nobody knows the limit: none was acknowledged, and the controller cannot be asked", todo="set it again"
            )
        return self._setpoint_c

    @property
    def range_c(self) -> tuple[float, float]:
        """Get the lowest and the highest limit in °C, from the options: the controller does not know its stage."""
        return self._chosen.lowest_c, self._chosen.highest_c

    @property
    def is_on(self) -> bool:
        """Measure whether the controller heats, cools or holds."""
        return self._status().state != STOPPED

    def set_temperature(self, temperature_c: float) -> float:
        """Control the limit in °C; returns it as sent, to 0.1, since it cannot be read back.

        Raises InputError beyond :attr:`range_c`, InstrumentError if the link had an error, or if a stage that runs does
        not turn towards the limit.
        """
        low_c, high_c = self.range_c
        if not low_c <= temperature_c <= high_c:
            raise InputError(
                f"{temperature_c:g} degC lies beyond the stage's range of {low_c:g} to {high_c:g} degC",
                where=self.name,
                todo="choose another temperature; the options lowest_c and highest_c describe the stage",
            )
        with self.adapter.exclusive():
            self._send_rate()
            self._send_limit(temperature_c)
            status = self._require_link(self._status())
            if status.state != STOPPED:
                self._await_direction(status)
            return self.setpoint_c

    def switch_on(self) -> None:
        """Begin to ramp to the limit and hold there; verified by the status.

        Raises InstrumentError if the controller has a fault, stays stopped, or does not turn towards the limit. It is
        stopped again then.
        """
        with self.adapter.exclusive():
            limit_c = self.setpoint_c
            self._send_rate()
            self._send_limit(limit_c)
            status = self._require_link(self._status())
            if status.faults:
                raise self._error(status.faults, "the stage was not switched on", "look at the stage and its cable")
            try:
                self._command("S")
                self._await_direction(self._status())
            except ConnectionLost:
                raise
            except InstrumentError as error:
                error.state = self._state_after_stopping()
                raise
            self._controls = True

    def switch_off(self) -> None:
        """Stop heating and cooling; verified by the status, raises InstrumentError if the stage does not stop."""
        with self.adapter.exclusive():
            self._controls = False
            self._stop()

    def make_safe(self) -> Sequence[SafeStep]:
        """Stop heating and cooling by ``E``, verified by ``T``; the second try is made over a new connection."""
        action = "stop heating and cooling"
        evidence: list[str] = []
        for _ in range(_SAFE_TRIES):
            try:
                with self.adapter.seize(), self.adapter.patience(_SAFE_REPLY_S):
                    self._controls = False
                    self._recent.clear()
                    self._stop()
                    evidence.extend(map(str, self._recent))
                    return [SafeStep(action, True, "; ".join(evidence))]
            except Exception as error:  # whatever happens here, the steps of the other instruments must still be taken
                evidence.extend(map(str, self._recent))
                evidence.append(str(error))
                evidence += filter(None, [self.adapter.try_to_reconnect()])
                self._in_step = False
        return [SafeStep(action, False, f"THE STAGE MAY BE HEATING, {_BY_HAND}: {'; '.join(evidence)}")]

    def close(self) -> None:
        """Release the connection; the controller goes on with what it does."""
        self.adapter.close()

    def _stop(self) -> None:
        self._command("E")
        status = self._status()
        if status.state != STOPPED:
            raise self._error(f"the controller did not stop: it is {status}", "THE STAGE MAY BE HEATING", _BY_HAND)

    def _state_after_stopping(self) -> str:
        try:
            self.switch_off()
        except InstrumentError as error:
            return f"THE STAGE MAY BE HEATING: it could not be stopped again ({error.what})"
        return "the stage is stopped again"

    def _send_rate(self) -> None:
        self._command(f"R1{round(100 * self._chosen.rate_k_min)}")

    def _send_limit(self, temperature_c: float) -> None:
        tenths = round(10 * temperature_c)
        # Until it is acknowledged nobody knows which limit is in force.
        self._setpoint_c = None
        self._command(f"L1{tenths}")
        self._setpoint_c = tenths / 10

    def _await_direction(self, status: LinkamStatus) -> None:
        """Wait until a running stage heats, cools or holds as its limit demands; leave a hold that stands in the way.

        Raises InstrumentError if it does not within 2 s, or stops.
        """
        deadline = self.clock.now() + _BEGINS_S
        while not self._follows_limit(status):
            if self.clock.now() >= deadline:
                raise self._error(
                    f"the controller does not go to its limit of {self.setpoint_c:g} degC: it is {status}",
                    todo="the limit may not have arrived, or the controller is used by hand; set it again",
                )
            if status.state == HELD:
                self._command("H" if self.setpoint_c > status.temperature_c else "C")
            status = self._require_link(self._status())

    def _follows_limit(self, status: LinkamStatus) -> bool:
        missing_k = self.setpoint_c - status.temperature_c
        if status.state == STOPPED:
            return False
        if abs(missing_k) <= _DIRECTION_K:
            return True
        return status.state == (HEATING if missing_k > 0 else COOLING)

    def _require_sound(self, status: LinkamStatus) -> None:
        if status.faults:
            raise self._error(
                f"the controller reports: {status.faults}", f"it is {status}", "look at the stage and its cable"
            )
        low_c, high_c = self.range_c
        if not low_c - _BEYOND_STAGE_K <= status.temperature_c <= high_c + _BEYOND_STAGE_K:
            raise self._error(
                f"{status.temperature_c:.1f} degC is no temperature of a stage for {low_c:g} to {high_c:g} degC",
                todo="read it again; look at the sensor, or correct lowest_c and highest_c",
            )
        if self._controls and status.state == STOPPED:
            raise self._error(
                "the controller has stopped by itself: it was switched off, reset, or stopped by hand",
                f"it is {status}",
                "switch the stage on again, or resume the run",
            )
        if self._controls and status.state == AT_LIMIT and abs(status.temperature_c - self.setpoint_c) > _AT_LIMIT_K:
            raise self._error(
                f"the controller holds at {status.temperature_c:.1f} degC, not at the limit of {self.setpoint_c:g} degC"
                " that was sent",
                todo="set the temperature again; keep hands off the controller during a run",
            )

    def _require_link(self, status: LinkamStatus) -> LinkamStatus:
        if status.errors & LINK_ERROR:
            raise self._error("the controller did not understand the last command: error on the serial link")
        return status

    def _status(self) -> LinkamStatus:
        """Ask for the status, with one more try after getting in step."""
        with self.adapter.exclusive():
            if not self._in_step:
                return self._get_in_step()
            self._in_step = False
            try:
                status = self._ask_status()
            except ConnectionLost:
                raise
            except InstrumentError as error:
                log.warning("%s: asking for the status again after: %s", self.name, error)
                return self._get_in_step()
            self._in_step = True
            return status

    def _command(self, command: str) -> None:
        """Send a command that is answered by a lone CR, with one more try: to be told twice changes nothing."""
        with self.adapter.exclusive():
            if not self._in_step:
                self._get_in_step()
            try:
                self._tell(command)
            except ConnectionLost:
                raise
            except InstrumentError as error:
                log.warning("%s: sending %r again after: %s", self.name, command, error)
                self._get_in_step()
                self._tell(command)

    def _tell(self, command: str) -> None:
        self._in_step = False
        self._send(command)
        if reply := self._line():
            raise self._error(f"{command!r} was answered by {reply!r} instead of an empty line")
        self._in_step = True

    def _get_in_step(self) -> LinkamStatus:
        """Empty both lines: the controller may hold half a command, we may be owed the reply to an earlier one.

        ``T`` makes nonsense of any half command; a bare CR could complete one that starts to heat.
        """
        with self.adapter.patience(_QUIET_S):
            self.adapter.read_bytes(-1)
        last: InstrumentError | None = None
        for _ in range(2):
            try:
                status = self._ask_status()
            except ConnectionLost:
                raise
            except InstrumentError as error:
                log.debug("%s: no status while getting in step: %s", self.name, error)
                last = error
            else:
                self._in_step = True
                return status
        if isinstance(last, InstrumentTimeout):
            raise InstrumentTimeout(
                "the controller does not answer",
                exchange=self.adapter.last,
                where=self.name,
                todo="check power, cable and speed (19200 baud); a T96 does not speak this protocol",
            )
        raise self._error(
            f"the controller gives no status: {last.what if last else ''}", todo="check `resource` of the heating stage"
        )

    def _ask_status(self) -> LinkamStatus:
        self._send("T")
        reply = self._line() or self._line()
        try:
            return LinkamStatus.parse(reply)
        except ValueError as error:
            raise self._error(str(error), todo="try again; look at the cable") from error

    def _send(self, command: str) -> None:
        self.clock.sleep(self._next_command_s - self.clock.now())
        self.adapter.flush_read_buffer()
        self.adapter.write(command)
        self._next_command_s = self.clock.now() + self._chosen.spacing_s

    def _line(self) -> bytes:
        """Read bytes up to the next CR, which cannot occur within a status; get them without it."""
        try:
            return self.adapter.read_until(CR)[:-1]
        finally:
            self._recent.append(self.adapter.last)

    def _error(self, what: str, state: str = "", todo: str = "") -> InstrumentError:
        return InstrumentError(what, exchange=self.adapter.last, where=self.name, state=state, todo=todo)
