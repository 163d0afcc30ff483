"""Thorlabs rotation mounts that speak APT, as attenuators: KDC101 with PRM1-Z8, and K10CR1.

Both turn a half-wave plate before a polariser; what differs is in :class:`Mount`. The messages are in
:mod:`drivers.attenuator.apt_messages`. A controller talks when it likes: the end of a motion is an event, and updates
of the status may come in between. So every answer is known by its identifier, and this driver asks by messages whose
answers are never sent unasked (status bits, position counter): an old update cannot be taken for one.

Not verified on hardware: whether a controller refuses absolute moves before homing (this driver does); the factors of
velocity and acceleration of the K10CR1; whether half a message is given up after a pause; that a DC controller falls
silent when nobody acknowledges its events; whether the position counter of a homed mount is exactly 0; the limit of
25 deg/s for the PRM1-Z8.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from pymeasure.instruments import Instrument

from drivers.attenuator.apt_messages import (
    CHANNEL,
    HardwareInfo,
    Message,
    MessageId,
    StatusBits,
    decode,
    error_text,
    long_message,
    message_length,
)
from labctl.clock import Clock
from labctl.errors import InputError, InstrumentError, InstrumentTimeout
from labctl.roles import Identity, SafeStep
from labctl.transport.adapter import WireAdapter
from labctl.transport.settings import WireSettings

log = logging.getLogger(__name__)

TOLERANCE_COUNTS = 8
HOME_TIMEOUT_S = 120.0
"""A whole turn at the slowest homing velocity that is usual, 5 deg/s, with reserve."""
MOVE_TIMEOUT_S = 50.0
"""A whole turn at 10 deg/s takes 37 s; a run gives a point about a minute of patience."""
VELOCITY_DEG_S = 10.0
ACCELERATION_DEG_S2 = 20.0
"""A stop along the profile then takes half a second."""

_BETWEEN_WRITES_S = 0.005
_EVENT_WAIT_S = 0.25
_SETTLE_S = 1.0
_SETTLE_POLL_S = 0.05
_STANDING_POLLS = 2
_HOMING_BEGINS_POLLS = 12
_TRIES = 3
_MOST_OLD_MESSAGES = 2000
_PROFILED, _IMMEDIATE = 2, 1
_ON = 1
_SAFE_REPLY_S = 0.25
_SAFE_PROFILED_S = 0.8
_SAFE_IMMEDIATE_S = 0.3
_SAFE_POLL_S = 0.02

_STAGES = {
    2: "Z706",
    3: "Z712",
    4: "Z725",
    5: "CR1-Z7",
    6: "PRM1-Z8",
    7: "MTS25-Z8",
    8: "MTS50-Z8",
    9: "Z825",
    10: "Z812",
    11: "Z806",
}


@dataclass(frozen=True, slots=True)
class Mount:
    """In what one rotation mount differs from another.

    :param model: What the controller calls itself, or how that begins.
    :param counts_per_deg: Position counts to a degree.
    :param velocity_factor: Controller's unit of velocity, per count/s.
    :param acceleration_factor: Controller's unit of acceleration, per count/s².
    :param stage: Number of the stage that belongs to a DC controller; None where the motor is built in.
    :param acknowledged: Whether the controller wants its events acknowledged.
    """

    model: str
    counts_per_deg: float
    velocity_factor: float
    acceleration_factor: float
    stage: int | None
    acknowledged: bool


_SERVO_CYCLE_S = 2048 / 6e6
_STEPPER_VELOCITY = 53.68

KDC101_PRM1_Z8 = Mount(
    model="KDC101",
    counts_per_deg=1919.6418578623391,
    velocity_factor=_SERVO_CYCLE_S * 65536,
    acceleration_factor=_SERVO_CYCLE_S**2 * 65536,
    stage=6,
    acknowledged=True,
)
K10CR1_BUILT_IN = Mount(
    model="K10CR1",
    counts_per_deg=409600 / 3,
    velocity_factor=_STEPPER_VELOCITY,
    acceleration_factor=_STEPPER_VELOCITY * 204.94e-6,
    stage=None,
    acknowledged=False,
)


class AptRotationMount(Instrument):
    """Motorised rotation mount as an attenuator.

    It turns only when told to and knows nothing of the light: a move may pass the angle of full energy, so the shutter
    must be closed first. A move is one absolute move, as the counter goes from 0 to 360 deg; the controller's own
    correction of backlash is switched off, since the caller chooses from which side to arrive.

    :param adapter: The wire.
    :param name: Name for messages.
    :param clock: The clock on which it waits.
    """

    LINK = WireSettings(
        write_termination=b"",
        read_termination=b"",
        timeout_s=0.5,
        baud_rate=115200,
        rtscts=True,
        rts_pulse=True,
    )
    ROLE = "attenuator"
    MOUNT: Mount

    adapter: WireAdapter

    def __init__(self, adapter: WireAdapter, name: str = "Thorlabs APT", *, clock: Clock) -> None:
        super().__init__(adapter, name, includeSCPI=False)
        self.clock = clock
        self._received = b""
        self._in_step = False
        self._unacknowledged = False
        self._written_s = -_BETWEEN_WRITES_S
        # Where the counter must stand if nothing but our own commands moved it; None while the zero is unknown.
        self._expected: tuple[int, int] | None = None

    def start_up(self) -> None:
        """Check the model, end a motion left over, enable the motor, set the speed, and find the zero.

        The mount is homed each time a bench is opened, whether it says that it is homed or not: any program may have
        set its counter, and a stepper may have lost steps. The shutter must be closed.
        """
        with self.adapter.exclusive():
            self._check_model()
            self._end_motion()
            self._send(Message(MessageId.RESUME_EVENTS))
            self._enable()
            self._set_speed()
            self._set_checked(MessageId.SET_BACKLASH, MessageId.REQUEST_BACKLASH, MessageId.GET_BACKLASH, 0)
            self.home()

    def identify(self) -> Identity:
        """Get vendor, model, serial number and firmware."""
        info = self._get_in_step()
        return Identity("Thorlabs", info.model, str(info.serial), ".".join(map(str, info.firmware)))

    @property
    def resolution_deg(self) -> float:
        """Get the smallest step in degrees: one count."""
        return 1.0 / self.MOUNT.counts_per_deg

    @property
    def is_homed(self) -> bool:
        """Get whether the zero is known; false until homed, and after the counter changed without a command."""
        return self._expected is not None

    @property
    def angle_deg(self) -> float:
        """Measure the angle in degrees as the mount reports it, 0 to 360; a little below 0 when it rests at zero.

        Raises InstrumentError if the zero is unknown or was lost, or the counter changed without a command.
        """
        with self.adapter.exclusive():
            return self._degrees(self._expected_position())

    def home(self) -> None:
        """Find the zero; returns when it is found. The plate may pass the angle of full energy.

        Raises InstrumentError with the fault that the controller reports, InstrumentTimeout after 120 s.
        """
        with self.adapter.exclusive():
            self._expected = None
            status = self._turn(Message(MessageId.HOME, (CHANNEL, 0)), MessageId.HOMED, HOME_TIMEOUT_S)
            if StatusBits.HOMED not in status:
                self._fail("the motor stands, but has not found its zero", status, "home the mount again")
            position = self._position()
            self._expected = (position, position)
            log.info("%s: homed, %s counts", self.name, position)

    def move_to(self, angle_deg: float) -> float:
        """Control the angle, 0 ≤ angle < 360, in degrees; returns the angle read back when the motion has ended.

        Raises InputError outside the range, InstrumentError if the mount is not homed, reports a fault or stops
        elsewhere, InstrumentTimeout if the motion does not end within 50 s.
        """
        if not 0 <= angle_deg < 360:
            raise InputError(f"the angle {angle_deg!r} deg is outside 0 ≤ angle < 360", where=self.name)
        target = round(angle_deg * self.MOUNT.counts_per_deg)
        with self.adapter.exclusive():
            start = self._expected_position()
            self._expected = (min(start, target), max(start, target))
            command = long_message(MessageId.MOVE_ABSOLUTE, CHANNEL, target)
            status = self._turn(command, MessageId.MOVE_COMPLETED, MOVE_TIMEOUT_S)
            position = self._settled_position(target)
            if abs(position - target) > TOLERANCE_COUNTS:
                limits = f"; {status.limits.words}" if status.limits else ""
                raise self._error(
                    f"the mount stopped at {self._degrees(position):.4f} deg instead of {angle_deg:.4f} deg{limits}",
                    state=f"the plate stands at {self._degrees(position):.4f} deg",
                    todo="look for a blocked plate, then home the mount",
                )
            self._expected = (position, position)
            return self._degrees(position)

    def make_safe(self) -> Sequence[SafeStep]:
        """Stop the plate and leave it where it stands, and report where that is.

        No angle is dangerous behind a closed shutter, and a turn might pass the full energy. A motion is first stopped
        along its profile, so that a stepper loses no steps, and at once if it goes on. Confirmed when the status says
        that the motor stands.
        """
        action = "leave the wave plate where it stands"
        try:
            with self.adapter.seize(), self.adapter.patience(_SAFE_REPLY_S):
                self._received, self._in_step = b"", False
                status = self._status()
                for mode, wait_s in ((_PROFILED, _SAFE_PROFILED_S), (_IMMEDIATE, _SAFE_IMMEDIATE_S)):
                    if status.is_in_motion:
                        action = "stop the wave plate and leave it where it stands"
                        self._expected = None
                        self._send(Message(MessageId.STOP, (CHANNEL, mode)))
                        status = self._wait_until_still(wait_s, _SAFE_POLL_S)
                evidence = f"{self.adapter.last} (status {status.words})"
                position = self._position()
                evidence += f"; {self.adapter.last} ({self._degrees(position):.3f} deg)"
                return [SafeStep(action, not status.is_in_motion, evidence)]
        except Exception as error:  # whatever happens here, the steps of the other instruments must still be taken
            return [SafeStep(action, False, str(error))]

    def close(self) -> None:
        """Say goodbye to the controller and release the connection; the plate stays where it is."""
        try:
            with self.adapter.exclusive():
                self._write(Message(MessageId.GOODBYE))
        except InstrumentError as error:
            log.debug("%s: no goodbye: %s", self.name, error)
        self.adapter.close()

    def _check_model(self) -> None:
        info, mount = self._get_in_step(), self.MOUNT
        if not info.model.startswith(mount.model):
            found = f"this is a {info.model or 'controller without a name'}, not a {mount.model}"
        elif mount.stage is not None and info.stage in _STAGES and info.stage != mount.stage:
            found = f"the stage at this {info.model} is a {_STAGES[info.stage]}, not a {_STAGES[mount.stage]}"
        else:
            return
        raise self._error(
            found,
            state="nothing was moved",
            todo="check `resource` and `driver` of the attenuator in the bench file",
        )

    def _end_motion(self) -> None:
        if self._status().is_in_motion:
            log.warning("%s: a motion left over from before is stopped", self.name)
            self._send(Message(MessageId.STOP, (CHANNEL, _PROFILED)))
            status = self._wait_until_still(MOVE_TIMEOUT_S, _EVENT_WAIT_S)
            if status.is_in_motion:
                self._fail("the motor does not stop", status, "switch the controller off and on")

    def _enable(self) -> None:
        status = self._status()
        if StatusBits.ENABLED not in status:
            self._send(Message(MessageId.SET_ENABLED, (CHANNEL, _ON)))
            status = self._status()
        if StatusBits.ENABLED not in status:
            self._fail("the motor cannot be enabled", status, "enable it at the controller; look at the supply")

    def _set_speed(self) -> None:
        mount = self.MOUNT
        self._set_checked(
            MessageId.SET_VELOCITY,
            MessageId.REQUEST_VELOCITY,
            MessageId.GET_VELOCITY,
            0,
            round(ACCELERATION_DEG_S2 * mount.counts_per_deg * mount.acceleration_factor),
            round(VELOCITY_DEG_S * mount.counts_per_deg * mount.velocity_factor),
        )

    def _set_checked(self, set_id: MessageId, request: MessageId, get_id: MessageId, *values: int) -> None:
        """Set parameters of the channel and read them back."""
        self._send(long_message(set_id, CHANNEL, *values))
        kept = self._values(self._ask(request, get_id))[1:]
        if kept != values:
            raise self._error(
                f"the controller took {kept} where {values} was set by message 0x{set_id:04X}",
                state="nothing was moved",
                todo="switch the controller off and on, then open the bench again",
            )

    def _turn(self, command: Message, event: MessageId, timeout_s: float) -> StatusBits:
        """Turn, and wait until the motor stands; get its status then.

        The event may be lost or held back; then the motor has to be found standing twice.
        """
        homing = event == MessageId.HOMED
        try:
            self._send(command)
            deadline = self.clock.now() + timeout_s
            announced, begun, standing, status = False, False, 0, StatusBits(0)
            while self.clock.now() < deadline and not (announced and standing):
                announced = self._await((event,), _EVENT_WAIT_S) is not None or announced
                status = self._status()
                self._check_status(status, homed=not homing)
                begun = begun or announced or status.is_in_motion
                standing = 0 if status.is_in_motion else standing + 1
                # A mount that was homed before says so even if the command to home again was lost.
                if standing >= (_HOMING_BEGINS_POLLS if homing and not begun else _STANDING_POLLS):
                    break
            if homing and standing and not begun:
                self._fail("the mount did not begin to home", status, "home the mount again")
            if not standing:
                raise InstrumentTimeout(
                    f"the motion has not ended within {timeout_s:g} s (status {status.words})",
                    exchange=self.adapter.last,
                    where=self.name,
                    todo="look for a blocked plate and at the velocity that the controller is set to",
                )
            return status
        except InstrumentError as error:
            error.state = error.state or "the plate may stand anywhere between start and target"
            raise

    def _check_status(self, status: StatusBits, *, homed: bool) -> None:
        """Refuse what makes a position worthless; ``homed``: whether the zero must be known."""
        if status.faults:
            self._expected = None
            self._fail("the motor reports a fault", status, "look for a blocked plate, then home the mount")
        if StatusBits.ENABLED not in status:
            self._fail("the motor is disabled: switched off and on, or by hand", status, "open the bench again")
        if homed and StatusBits.HOMED not in status:
            self._expected = None
            self._fail(
                "the mount has lost its zero: it was switched off and on, or homed by somebody else",
                status,
                "close the shutter and home the mount",
            )

    def _expected_position(self) -> int:
        """Get the position, after checking that it can be trusted."""
        if self._expected is None:
            raise self._error(
                "the zero of the mount is not known", state="nothing was moved", todo="close the shutter and home it"
            )
        status = self._status()
        self._check_status(status, homed=True)
        position = self._position()
        low, high = self._expected
        if not low - TOLERANCE_COUNTS <= position <= high + TOLERANCE_COUNTS:
            self._expected = None
            raise self._error(
                f"the mount stands at {position} counts, but our commands left it at {low}..{high}: "
                "its counter was set, or it was turned by hand",
                state="nothing was moved; the zero of the mount is no longer known",
                todo="close the shutter and home the mount",
            )
        return position

    def _settled_position(self, target: int) -> int:
        """Get the position; a servo is given a moment to settle at its target."""
        deadline = self.clock.now() + _SETTLE_S
        while abs((position := self._position()) - target) > TOLERANCE_COUNTS and self.clock.now() < deadline:
            self.clock.sleep(_SETTLE_POLL_S)
        return position

    def _wait_until_still(self, timeout_s: float, poll_s: float) -> StatusBits:
        """Wait while the motor turns, at most ``timeout_s``; get its status then."""
        deadline = self.clock.now() + timeout_s
        while (status := self._status()).is_in_motion and self.clock.now() < deadline:
            self.clock.sleep(poll_s)
        return status

    def _status(self) -> StatusBits:
        return StatusBits(self._values(self._ask(MessageId.REQUEST_STATUS_BITS, MessageId.GET_STATUS_BITS))[1])

    def _position(self) -> int:
        return self._values(self._ask(MessageId.REQUEST_POSITION, MessageId.GET_POSITION))[1]

    def _values(self, message: Message) -> tuple[Any, ...]:
        try:
            return message.values()
        except ValueError as error:
            self._in_step = False
            raise self._error(str(error), todo="check the cable; try again") from error

    def _ask(self, request: MessageId, reply: MessageId) -> Message:
        """Send a request for the channel and get its reply, whatever comes in between."""
        with self.adapter.exclusive():
            self._send(Message(request, (CHANNEL, 0)))
            self._in_step = False
            answer = self._await((reply,), self.adapter.timeout_s)
            if answer is None:
                raise InstrumentTimeout(
                    f"no answer to message 0x{request:04X} within {self.adapter.timeout_s:g} s",
                    exchange=self.adapter.last,
                    where=self.name,
                    todo="check power and cable; try again",
                )
            self._in_step = True
            return answer

    def _get_in_step(self) -> HardwareInfo:
        """Stop updates, and drop old answers: all that comes before the answer to what is asked for nothing else.

        The controller, too, may be waiting for the end of a message that another program did not finish. It takes what
        comes next for that, so it is asked again after a pause.
        """
        with self.adapter.exclusive():
            self._in_step = False
            for _ in range(_TRIES):
                self._write(Message(MessageId.STOP_UPDATES))
                self._write(Message(MessageId.REQUEST_INFO))
                answer = self._find(MessageId.GET_INFO)
                if answer is not None:
                    self._in_step = True
                    return HardwareInfo.of(answer)
            raise InstrumentTimeout(
                "the controller does not answer",
                exchange=self.adapter.last,
                where=self.name,
                todo="check power and cable, and `resource` of the attenuator",
            )

    def _find(self, wanted: MessageId) -> Message | None:
        """Get the next whole message ``wanted``, however the stream begins; None if none comes in time."""
        deadline = self.clock.now() + self.adapter.timeout_s
        for _ in range(_MOST_OLD_MESSAGES):
            try:
                message = self._next(deadline)
            except ValueError:
                self._received = self._received[1:]
                continue
            if message is None:
                break
            if message.id == wanted and self._fits(message):
                return message
            log.debug("%s: dropped %s while getting in step", self.name, message.name)
        self._received = b""
        return None

    @staticmethod
    def _fits(message: Message) -> bool:
        try:
            message.values()
        except ValueError:
            return False
        return True

    def _await(self, wanted: Sequence[MessageId], timeout_s: float) -> Message | None:
        """Get the next message of those ``wanted``; None if none comes in time.

        Raises InstrumentError when the controller reports a fault meanwhile, or what comes is no message.
        """
        deadline = self.clock.now() + timeout_s
        for _ in range(_MOST_OLD_MESSAGES):
            try:
                message = self._next(deadline)
            except ValueError as error:
                self._in_step = False
                raise self._error(str(error), todo="check the cable; try again") from error
            if message is None:
                return None
            if message.id in (MessageId.ERROR, MessageId.RICH_ERROR):
                raise self._error(error_text(message), todo="look at the controller and the mount, then try again")
            self._note(message)
            if message.id in wanted:
                return message
            log.debug("%s: skipped %s", self.name, message.name)
        raise self._error("the controller floods the line with messages that answer nothing")

    def _note(self, message: Message) -> None:
        """Remember that a controller wants an answer to what it said unasked."""
        events = (MessageId.MOVE_COMPLETED, MessageId.STOPPED, MessageId.GET_DC_STATUS)
        self._unacknowledged |= self.MOUNT.acknowledged and message.id in events

    def _next(self, deadline_s: float) -> Message | None:
        """Get the next message; None if it is not complete at the deadline. Raises ValueError when out of step.

        Bytes are taken one by one: a time-out in the middle of a message must not lose its beginning.
        """
        while (length := message_length(self._received)) is None or len(self._received) < length:
            try:
                with self.adapter.patience(max(deadline_s - self.clock.now(), 0.0)):
                    self._received += self.adapter.read_bytes(1)
            except InstrumentTimeout:
                return None
        message, self._received = decode(self._received[:length]), self._received[length:]
        return message

    def _send(self, message: Message) -> None:
        """Send a message to a controller that is known to listen."""
        with self.adapter.exclusive():
            if not self._in_step:
                self._get_in_step()
            if self._unacknowledged:
                self._unacknowledged = False
                self._write(Message(MessageId.ACKNOWLEDGE_DC_STATUS))
            self._write(message)

    def _write(self, message: Message) -> None:
        """Write, a few milliseconds after the last time: the controller loses what comes faster."""
        self.clock.sleep(self._written_s + _BETWEEN_WRITES_S - self.clock.now())
        self.adapter.write_bytes(message.encode())
        self._written_s = self.clock.now()

    def _degrees(self, counts: int) -> float:
        return counts / self.MOUNT.counts_per_deg

    def _fail(self, what: str, status: StatusBits, todo: str) -> NoReturn:
        raise self._error(f"{what} (status {status.words})", todo=todo)

    def _error(self, what: str, *, state: str = "", todo: str = "") -> InstrumentError:
        return InstrumentError(what, exchange=self.adapter.last, where=self.name, state=state, todo=todo)


class KDC101(AptRotationMount):
    """DC servo controller KDC101 with the rotation mount PRM1-Z8."""

    MOUNT = KDC101_PRM1_Z8


class K10CR1(AptRotationMount):
    """Stepper rotation mount K10CR1."""

    MOUNT = K10CR1_BUILT_IN
