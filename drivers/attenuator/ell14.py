"""Thorlabs ELL14: a half-wave plate in an Elliptec rotation mount, before a polariser.

A message is one hexadecimal digit of address, two letters (lower case from the host, upper case from the mount) and
hexadecimal data. The mount knows its commands by their length, so none carries a terminator; its replies end with
CR LF. Positions are signed 32-bit pulses, 143360 to a turn.

Not verified on hardware: how long moves and homing take; whether the position message comes only after the motion
(so a busy status is waited out as well as a late position); where the counter stands after a reset; that a jog step
which was set, but not saved, is lost with a reset. If it is not, a reset just before a move goes unnoticed.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Annotated, NamedTuple, NoReturn

from pydantic import BaseModel, ConfigDict, Field
from pymeasure.instruments import Instrument

from labctl.clock import Clock
from labctl.errors import Exchange, InputError, InstrumentError, InstrumentTimeout
from labctl.roles import Identity, SafeStep
from labctl.transport.adapter import WireAdapter
from labctl.transport.settings import WireSettings

log = logging.getLogger(__name__)

MODEL = 14
TOLERANCE_PULSES = 8
"""Jitter of a few pulses is normal at rest; 8 pulses are 0.02 degrees."""
MOVE_TIMEOUT_S = 10.0
HOME_TIMEOUT_S = 10.0
PAUSE_BETWEEN_MOVES_S = 0.1
"""A move that follows sooner may be executed as if the mount stood at zero."""

STATUS = {
    0: "ok",
    1: "communication time-out",
    2: "mechanical time-out",
    3: "command error or not supported",
    4: "value out of range",
    5: "module isolated",
    6: "module out of isolation",
    7: "initialisation error",
    8: "thermal error",
    9: "busy",
    10: "sensor error",
    11: "motor error",
    12: "out of range",
    13: "over-current",
}
_BUSY = 9
_MARK_PULSES = 401
"""Jog step that only this driver sets, a little more than a degree; when it is gone, the mount was reset."""
_DATA_LENGTH = {"IN": 30, "GS": 2, "PO": 8, "GJ": 8}
_MESSAGE = re.compile(r"([0-9A-F])([A-Z][A-Z0-9])([0-9A-F]*)")
_POLL_S = 0.05
_SAFE_REPLY_S = 0.25
_SAFE_WAIT_S = 0.8
_MOST_OLD_MESSAGES = 32


class _Message(NamedTuple):
    kind: str
    data: str


class _Block(NamedTuple):
    """Contents of the reply to ``in``."""

    model: int
    serial: str
    firmware: str
    pulses_per_turn: int


class ELL14(Instrument):
    """Rotation mount ELL14 as an attenuator.

    It turns only when told to and knows nothing of the light: a move may pass the angle of full energy, so the shutter
    must be closed first. Backlash is not its business either; the caller chooses from which side to arrive.

    :param adapter: The wire.
    :param name: Name for messages.
    :param clock: The clock on which it waits.
    :param options: See :class:`Options`.
    """

    LINK = WireSettings(write_termination=b"", read_termination=b"\r\n", timeout_s=0.5, baud_rate=9600)
    ROLE = "attenuator"

    class Options(BaseModel):
        """Options in the bench file."""

        model_config = ConfigDict(frozen=True, extra="forbid")

        address: Annotated[str, Field(pattern="^[0-9A-F]$", description="address on the bus, 0..F")] = "0"

    adapter: WireAdapter

    def __init__(self, adapter: WireAdapter, name: str = "Thorlabs ELL14", *, clock: Clock, **options: object) -> None:
        super().__init__(adapter, name, includeSCPI=False)
        self.clock = clock
        self._address = self.Options.model_validate(options).address
        self._pulses_per_turn = 143360
        self._in_step = False
        self._still_since_s = clock.now()
        # Where the counter must stand if nothing but our own commands moved it; None while the zero is unknown.
        self._expected: tuple[int, int] | None = None

    def start_up(self) -> None:
        """Check the model, wait for a motion left over, and find the zero.

        After a reset the counter means nothing, and the mount cannot say whether it was reset since it was last homed.
        So it is homed once each time a bench is opened. The shutter must be closed.
        """
        with self.adapter.exclusive():
            block = self._block()
            if block.model != MODEL or block.pulses_per_turn <= 0:
                raise self._error(
                    f"this is an ELL{block.model} with {block.pulses_per_turn} pulses per turn, not an ELL{MODEL}",
                    state="nothing was moved",
                    todo="check `resource` and the option `address` of the attenuator in the bench file",
                )
            self._pulses_per_turn = block.pulses_per_turn
            self.home()

    def identify(self) -> Identity:
        """Get vendor, model, serial number and firmware."""
        block = self._block()
        return Identity("Thorlabs", f"ELL{block.model}", block.serial, block.firmware)

    @property
    def resolution_deg(self) -> float:
        """Get the smallest step in degrees: one pulse."""
        return 360.0 / self._pulses_per_turn

    @property
    def is_homed(self) -> bool:
        """Get whether the zero is known; false until homed, and after the counter changed without a command."""
        return self._expected is not None

    @property
    def angle_deg(self) -> float:
        """Measure the angle in degrees as the mount reports it; jitter may make it slightly negative at zero.

        Raises InstrumentError if the zero is unknown or the counter changed without a command.
        """
        with self.adapter.exclusive():
            return self._degrees(self._expected_position())

    def home(self) -> None:
        """Find the zero, clockwise; returns when it is found. The plate may pass the angle of full energy.

        Raises InstrumentError with the mount's own status, InstrumentTimeout after 10 s.
        """
        with self.adapter.exclusive():
            self._expected = None
            self._turn("ho0", HOME_TIMEOUT_S)
            position = self._position()
            self._set_mark()
            self._expected = (position, position)
            log.info("%s: homed, %s pulses", self.name, position)

    def move_to(self, angle_deg: float) -> float:
        """Control the angle, 0 ≤ angle < 360, in degrees; returns the angle read back when the motion has ended.

        Raises InputError outside the range, InstrumentError if the mount reports a fault, stops elsewhere or has lost
        its zero, InstrumentTimeout if the motion does not end within 10 s.
        """
        if not 0 <= angle_deg < 360:
            raise InputError(f"the angle {angle_deg!r} deg is outside 0 ≤ angle < 360", where=self.name)
        target = round(angle_deg / 360 * self._pulses_per_turn) % self._pulses_per_turn
        with self.adapter.exclusive():
            start = self._expected_position()
            self._expected = (min(start, target), max(start, target))
            self._turn(f"ma{target:08X}", MOVE_TIMEOUT_S)
            position = self._expected_position()
            if self._distance(position, target) > TOLERANCE_PULSES:
                raise self._error(
                    f"the mount stopped at {self._degrees(position):.3f} deg instead of {angle_deg:.3f} deg",
                    state=f"the plate stands at {self._degrees(position):.3f} deg",
                    todo="look for a blocked plate, then home the mount",
                )
            self._require_mark()
            self._expected = (position, position)
            return self._degrees(position)

    def make_safe(self) -> Sequence[SafeStep]:
        """Leave the plate where it stands, and report where that is.

        No angle is dangerous behind a closed shutter, and a turn might pass the full energy. A bounded move cannot be
        stopped; it is waited for briefly. Confirmed when the mount answers and is at rest.
        """
        action = "leave the wave plate where it stands"
        try:
            with self.adapter.seize(), self.adapter.patience(_SAFE_REPLY_S):
                self._in_step = False
                status = self._wait_until_still(self.clock.now() + _SAFE_WAIT_S)
                evidence = f"{self.adapter.last} (status {_words(status)})"
                position = self._position()
                evidence += f"; {self.adapter.last} ({self._degrees(position):.3f} deg)"
                return [SafeStep(action, status != _BUSY, evidence)]
        except Exception as error:  # whatever happens here, the steps of the other instruments must still be taken
            return [SafeStep(action, False, str(error))]

    def close(self) -> None:
        """Release the connection; the plate stays where it is."""
        self.adapter.close()

    def _set_mark(self) -> None:
        answer = self._ask(f"sj{_MARK_PULSES:08X}", "GS")
        if int(answer.data, 16) or self._jog_step() != _MARK_PULSES:
            raise self._error(
                "the mount does not take a jog step, by which a reset would be noticed",
                state="the mount was homed",
                todo="try again; look at the cable",
            )

    def _require_mark(self) -> None:
        """Raise InstrumentError if the mount was reset since it was homed.

        One that is reset between the reading of its position and a move counts from where it then stands: it ends
        elsewhere, and its counter says that it is where it should be.
        """
        if (step := self._jog_step()) != _MARK_PULSES:
            self._expected = None
            raise self._error(
                f"the mount was reset: its jog step is {step} pulses, but homing set it to {_MARK_PULSES}",
                state="the plate may stand anywhere; the zero of the mount is no longer known",
                todo="close the shutter and home the mount; leave its jog step alone during a run",
            )

    def _jog_step(self) -> int:
        return int(self._ask("gj", "GJ").data, 16)

    def _turn(self, command: str, timeout_s: float) -> None:
        """Turn, and wait until the mount is at rest."""
        deadline = self.clock.now() + timeout_s
        left_over = self._wait_until_still(deadline)
        if left_over:
            log.warning("%s: status %s left over from before was cleared", self.name, _words(left_over))
        self.clock.sleep(self._still_since_s + PAUSE_BETWEEN_MOVES_S - self.clock.now())
        try:
            with self.adapter.patience(timeout_s):
                answer = self._ask(command, "PO", "GS")
            if answer.kind == "GS" and int(answer.data, 16) not in (0, _BUSY):
                self._raise_fault(int(answer.data, 16))
            status = self._wait_until_still(deadline)
            if status:
                self._raise_fault(status)
        except InstrumentError as error:
            error.state = error.state or "the plate may stand anywhere between start and target"
            raise
        finally:
            self._still_since_s = self.clock.now()

    def _raise_fault(self, status: int) -> NoReturn:
        """Raise what the mount reported; reading the status once clears it, so that the next command works."""
        exchange = self.adapter.last
        try:
            self._status()
        except InstrumentError as error:
            log.warning("%s: the status could not be cleared: %s", self.name, error)
        if status == _BUSY:
            what, todo = "the mount is still busy when the motion should have ended", "look for a blocked plate"
        else:
            what = f"the mount reports status {_words(status)}"
            todo = "look for a blocked plate and at the supply, then home the mount"
        raise self._error(what, exchange=exchange, state="the plate may stand anywhere", todo=todo)

    def _wait_until_still(self, deadline_s: float) -> int:
        """Wait while the mount is busy; get its status, which reading clears. Still busy at the deadline: 9."""
        while (status := self._status()) == _BUSY and self.clock.now() < deadline_s:
            self.clock.sleep(_POLL_S)
        return status

    def _status(self) -> int:
        return int(self._ask("gs", "GS").data, 16)

    def _position(self) -> int:
        pulses = int(self._ask("gp", "PO").data, 16)
        return pulses - (1 << 32) if pulses & (1 << 31) else pulses

    def _expected_position(self) -> int:
        """Get the position, after checking that it can be trusted: a reset or a hand on the buttons changes it."""
        if self._expected is None:
            raise self._error(
                "the zero of the mount is not known", state="nothing was moved", todo="close the shutter and home it"
            )
        position = self._position()
        low, high = self._expected
        # Over half a turn the mount may have taken the other way round: after a failed move it may stand anywhere.
        anywhere = high - low > self._pulses_per_turn // 2
        off = min(self._distance(position, low), self._distance(position, high))
        if not (anywhere or low <= position <= high or off <= TOLERANCE_PULSES):
            self._expected = None
            raise self._error(
                f"the mount stands at {position} pulses, but our commands left it at {low}..{high}: "
                "it was reset, or turned by hand",
                state="nothing was moved; the zero of the mount is no longer known",
                todo="close the shutter and home the mount",
            )
        return position

    def _block(self) -> _Block:
        data = self._ask("in", "IN").data
        return _Block(int(data[:2], 16), data[2:10], data[14:16], int(data[22:30], 16))

    def _ask(self, command: str, *kinds: str) -> _Message:
        """Send a command and get its reply, of one of ``kinds``."""
        with self.adapter.exclusive():
            if not self._in_step:
                self._get_in_step()
            self._in_step = False
            self._send(command)
            answer = self._receive(kinds)
            if answer.kind == "GS" and "GS" not in kinds:
                raise self._error(f"{command!r} was refused with status {_words(int(answer.data, 16))}")
            if answer.kind not in kinds:
                raise self._error(f"{answer.kind + answer.data!r} is no answer to {command!r}")
            self._in_step = True
            return answer

    def _get_in_step(self) -> None:
        """Throw away old replies: all that comes before the answer to a question that is asked for nothing else.

        A mount that moves answers it by a busy status.
        """
        for _ in range(2):
            self._send("gj")
            try:
                if any(self._answers_jog_step(self.adapter.read()) for _ in range(_MOST_OLD_MESSAGES)):
                    return
            except InstrumentTimeout as error:
                log.debug("%s: no answer while getting in step: %s", self.name, error)
        raise InstrumentTimeout(
            "the mount does not answer",
            exchange=self.adapter.last,
            where=self._where,
            todo="check power, cable and the option `address` of the attenuator",
        )

    def _answers_jog_step(self, text: str) -> bool:
        return text.startswith(self._address + "GJ") or text == f"{self._address}GS{_BUSY:02X}"

    def _send(self, command: str) -> None:
        self.adapter.flush_read_buffer()
        self.adapter.write(self._address + command)

    def _receive(self, kinds: Sequence[str]) -> _Message:
        """Get the next message that can be an answer.

        Buttons and other mounts on the bus may speak in between, and the end of a motion is announced when it comes.
        """
        for _ in range(_MOST_OLD_MESSAGES):
            found = _MESSAGE.fullmatch(self.adapter.read())
            if not found or len(found[3]) != _DATA_LENGTH.get(found[2], len(found[3])):
                raise self._error("the reply is no whole Elliptec message", todo="check cable and address; try again")
            address, kind, data = found.groups()
            announced = kind in ("BO", "BS") or (kind in ("GJ", "PO") and kind not in kinds)
            if address == self._address and not announced:
                return _Message(kind, data)
            log.info("%s: skipped the message %r", self.name, found[0])
        raise self._error("the bus is flooded with messages that answer nothing")

    def _degrees(self, pulses: int) -> float:
        return pulses * 360.0 / self._pulses_per_turn

    def _distance(self, a: int, b: int) -> int:
        """Get the distance of two positions around the circle, in pulses."""
        half = self._pulses_per_turn // 2
        return abs((a - b + half) % self._pulses_per_turn - half)

    def _error(
        self, what: str, *, exchange: Exchange | None = None, state: str = "", todo: str = ""
    ) -> InstrumentError:
        exchange = exchange or self.adapter.last
        return InstrumentError(what, exchange=exchange, where=self._where, state=state, todo=todo)

    @property
    def _where(self) -> str:
        return f"{self.name}, address {self._address}"


def _words(status: int) -> str:
    return f"{status} ({STATUS.get(status, 'reserved')})"
