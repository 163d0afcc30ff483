"""Emulators of the Thorlabs rotation mounts that speak APT: KDC101 with PRM1-Z8, and K10CR1.

Messages are framed by their header and declared length. What the controller says unasked (end of a motion, regular
updates) comes when it happens, between the answers.

Not verified on hardware: the rate of updates; that a move is carried out before homing; what answers a command on a
disabled channel, an unknown message and one of the wrong length; that half a message is given up after a pause; the
clamping of velocities; the hardware type; the settings at switch-on; that a DC controller holds back unasked messages
after 50 that nobody acknowledged; the layout of the stepper's events; the unit of the velocity in a DC status. Limit
switch, jog and homing parameters are kept; of them only jog step, jog velocity, homing velocity and offset do
something.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from drivers.attenuator.apt_messages import (
    CHANNEL,
    DC_STATUS,
    HOST,
    LAYOUTS,
    STATUS,
    UNIT,
    Message,
    MessageId,
    StatusBits,
    decode,
    long_message,
)
from drivers.attenuator.emulators.apt_motion import Motion, halt, standing, travel
from labctl.sim.emulator import Reply
from labctl.sim.laboratory import Laboratory

_MAX_DEG_S = 25.0
_STUCK_AFTER_S = 1.0
_MOST_UNACKNOWLEDGED = 50
_MOST_UPDATES_AT_ONCE = 256
_ENDLESS_TURNS = 50
_SETTLED_AT_ONCE_S = 1e-3
_SWITCH_WIDTH_DEG = 0.5

_SETTINGS = {
    MessageId.SET_VELOCITY: MessageId.GET_VELOCITY,
    MessageId.SET_JOG: MessageId.GET_JOG,
    MessageId.SET_LIMITS: MessageId.GET_LIMITS,
    MessageId.SET_BACKLASH: MessageId.GET_BACKLASH,
    MessageId.SET_HOMING: MessageId.GET_HOMING,
}
_REQUESTS = {
    MessageId.REQUEST_VELOCITY: MessageId.GET_VELOCITY,
    MessageId.REQUEST_JOG: MessageId.GET_JOG,
    MessageId.REQUEST_LIMITS: MessageId.GET_LIMITS,
    MessageId.REQUEST_BACKLASH: MessageId.GET_BACKLASH,
    MessageId.REQUEST_HOMING: MessageId.GET_HOMING,
}
_SILENT = {
    MessageId.GOODBYE,
    MessageId.NO_FLASH_PROGRAMMING,
    MessageId.BLINK,
    MessageId.SUSPEND_EVENTS,
    MessageId.RESUME_EVENTS,
    MessageId.START_UPDATES,
    MessageId.STOP_UPDATES,
    MessageId.ACKNOWLEDGE_DC_STATUS,
}


@dataclass(frozen=True, slots=True)
class Unit:
    """In what one mount differs from another; see the driver's table of the same kind."""

    model: str
    serial: int
    stage: int
    counts_per_deg: float
    velocity_unit: float
    acceleration_unit: float
    home_offset_deg: float
    status: MessageId
    jitter_counts: int


_T = 2048 / 6e6
KDC101_UNIT = Unit(
    "KDC101", 27255894, 6, 1919.6418578623391, _T * 65536, _T * _T * 65536, 1.0, MessageId.GET_DC_STATUS, 2
)
K10CR1_UNIT = Unit("K10CR1", 55123456, 0, 136533.33333, 53.68, 53.68 * 204.94e-6, 4.0, MessageId.GET_STATUS, 0)


class AptOptions(BaseModel):
    """How the simulated mount starts and how fast it is.

    :param serial: Serial number; the mount's usual one when left out.
    :param reply_s: Time from a request to its reply, s.
    :param velocity_deg_s: Velocity that is set at switch-on. :param acceleration_deg_s2: Likewise.
    :param settle_s: Time that a motion takes to settle, s.
    :param update_s: Time between two regular updates, s.
    :param short_events: Announce ends of motions without the status.
    :param holds_back: Hold back what is not asked for after 50 such messages without an acknowledgement (KDC101).
    :param frame_timeout_s: Time after which half a message is given up, s.
    :param enabled: Whether the channel is enabled at switch-on.
    :param refuses_unhomed: Refuse moves before homing.
    :param stuck: The plate is blocked: motions end with a motion error.
    :param awkward: The channel is disabled, updates are on, events are held back, half a message is in the input, and
        the end of one in the output.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    serial: Annotated[int, Field(ge=1, le=99999999)] | None = None
    reply_s: Annotated[float, Field(ge=0)] = 0.004
    velocity_deg_s: Annotated[float, Field(gt=0, le=_MAX_DEG_S)] = 10.0
    acceleration_deg_s2: Annotated[float, Field(gt=0)] = 10.0
    settle_s: Annotated[float, Field(ge=0)] = 0.05
    update_s: Annotated[float, Field(gt=0)] = 0.1
    short_events: bool = False
    holds_back: bool = True
    frame_timeout_s: Annotated[float, Field(gt=0)] = 0.2
    enabled: bool = True
    refuses_unhomed: bool = False
    stuck: bool = False
    awkward: bool = False


class AptRotationEmulator:
    """A rotation mount with the wave plate in it.

    The plate's true position is counted on through full turns; the zero that homing finds is where it is a whole
    number of turns. Faults: set :attr:`stuck` or :attr:`limit_counts`; call :meth:`power_cycle`.

    :param laboratory: Where the plate turns.
    :param role: Role on the bench; keys the jitter.
    :param options: See :class:`AptOptions`.
    """

    UNIT: Unit

    def __init__(self, laboratory: Laboratory, role: str, options: Mapping[str, object]) -> None:
        self.options = AptOptions.model_validate(dict(options))
        self.stuck = self.options.stuck
        self.limit_counts: int | None = None
        self._plate = laboratory.wave_plate
        self._noise = laboratory.noise
        self._jitter_key = f"{role} rest"
        self._turn = round(360 * self.UNIT.counts_per_deg)
        start = round(laboratory.truth.wave_plate.initial_deg * self.UNIT.counts_per_deg)
        self._motion = standing(0.0, start)
        self._input = b""
        self._input_since_s: float | None = None
        self._unasked = b""
        self._switch_on(start)
        if self.options.awkward:
            self._enabled, self._events = False, False
            self._updates_from_s = 0.0
            self._input = bytes.fromhex("53 04 06 00")
            self._unasked = self._status_message(0.0, self.UNIT.status).encode()[9:]

    def respond(self, t: float, data: bytes) -> Sequence[Reply]:
        replies = [(t, self._unasked)] if self._unasked else []
        self._unasked = b""
        replies += self._happened(t)
        if data:
            since, self._input_since_s = self._input_since_s, t
            if since is not None and t - since > self.options.frame_timeout_s:
                self._input = b""
            self._input += data
        while (message := self._next_message()) is not None:
            if message.destination == UNIT:
                answers = self._carry_out(t, message)
                replies += [(t + self.options.reply_s, answer.encode()) for answer in answers]
        return replies

    def next_event(self) -> float | None:
        if self._unasked:
            return 0.0
        moments = [moment for moment in (self._event_s, self._updates_from_s) if moment is not None]
        return min(moments, default=None)

    def power_cycle(self, t: float) -> None:
        """Switch off and on at ``t``: the plate stays, the counter starts at zero, settings and homing are lost."""
        self._interrupt(t)
        self._switch_on(self._true_position(t))

    def turn_by_hand(self, t: float, degrees: float) -> None:
        """Turn the plate behind the motor's back, at ``t``; the encoder sees it, and so does the counter."""
        start = self._true_position(t)
        self._set_off(travel(t, start, start + round(degrees * self.UNIT.counts_per_deg), 1e9, 1e12), None)

    def _switch_on(self, position: int) -> None:
        unit, options = self.UNIT, self.options
        speed = round(options.velocity_deg_s * unit.counts_per_deg * unit.velocity_unit)
        acceleration = round(options.acceleration_deg_s2 * unit.counts_per_deg * unit.acceleration_unit)
        degree = round(unit.counts_per_deg)
        self._counter_offset = -position
        self._homed = self._homing = self._jogging = False
        self._enabled = options.enabled
        self._events = True
        self._event: MessageId | None = None
        self._event_s: float | None = None
        self._updates_from_s: float | None = None
        self._unacknowledged = 0
        self._faults = StatusBits(0)
        self._limit = StatusBits(0)
        self._encoder = 0
        self._kept: dict[MessageId, tuple[int, ...]] = {
            MessageId.GET_VELOCITY: (CHANNEL, 0, acceleration, speed),
            MessageId.GET_JOG: (CHANNEL, 2, 5 * degree, 0, acceleration, speed, 2),
            MessageId.GET_LIMITS: (CHANNEL, 4, 1, 0, 0, 1),
            MessageId.GET_BACKLASH: (CHANNEL, degree),
            MessageId.GET_HOMING: (CHANNEL, 2, 1, speed, round(unit.home_offset_deg * unit.counts_per_deg)),
        }

    def _next_message(self) -> Message | None:
        """Take the next whole message off the input."""
        if len(self._input) < 6:
            return None
        length = 6 + (int.from_bytes(self._input[2:4], "little") if self._input[4] & 0x80 else 0)
        if len(self._input) < length:
            return None
        message, self._input = decode(self._input[:length]), self._input[length:]
        return message

    def _happened(self, t: float) -> list[Reply]:
        """Get what is said unasked until ``t``, in its order."""
        said: list[tuple[float, MessageId]] = []
        while self._event_s is not None and self._event_s <= t:
            moment, event = self._event_s, self._event
            self._finish(moment)
            if event is not None and self._events:
                said.append((moment, event))
        if self._updates_from_s is not None and self._updates_from_s <= t:
            due = int((t - self._updates_from_s) / self.options.update_s) + 1
            last = self._updates_from_s + (due - 1) * self.options.update_s
            said += [
                (last - back * self.options.update_s, self.UNIT.status)
                for back in range(min(due, _MOST_UPDATES_AT_ONCE))
            ]
            self._updates_from_s = last + self.options.update_s
        replies: list[Reply] = []
        for moment, what in sorted(said):
            if self._may_speak(what):
                replies.append((t, self._event_message(moment, what).encode()))
        return replies

    def _may_speak(self, what: MessageId) -> bool:
        if what == MessageId.HOMED or self.UNIT.status != MessageId.GET_DC_STATUS or not self.options.holds_back:
            return True
        self._unacknowledged += 1
        return self._unacknowledged <= _MOST_UNACKNOWLEDGED

    def _event_message(self, t: float, what: MessageId) -> Message:
        if what == MessageId.HOMED or (self.options.short_events and what != self.UNIT.status):
            return _short(what, CHANNEL)
        return self._status_message(t, what)

    def _carry_out(self, t: float, message: Message) -> list[Message]:
        try:
            what = MessageId(message.id)
            layout = LAYOUTS.get(what)
            values = message.values(layout) if layout is not None else (message.parameters[0],)
        except ValueError:
            return [_short(MessageId.ERROR)]
        if what in _SILENT:
            self._note(t, what)
            return []
        if what == MessageId.REQUEST_INFO:
            return [self._info()]
        if values[0] != CHANNEL:
            return [_short(MessageId.ERROR)]
        if what in _SETTINGS:
            self._keep(_SETTINGS[what], values)
            return []
        if what in _REQUESTS:
            return [_long(_REQUESTS[what], *self._kept[_REQUESTS[what]])]
        return self._turn_or_tell(t, what, message.parameters, values)

    def _note(self, t: float, what: MessageId) -> None:
        match what:
            case MessageId.START_UPDATES:
                self._updates_from_s = t + self.options.update_s
            case MessageId.STOP_UPDATES:
                self._updates_from_s = None
            case MessageId.SUSPEND_EVENTS | MessageId.RESUME_EVENTS:
                self._events = what == MessageId.RESUME_EVENTS
            case MessageId.ACKNOWLEDGE_DC_STATUS:
                self._unacknowledged = 0
            case _:
                pass

    def _turn_or_tell(
        self, t: float, what: MessageId, parameters: tuple[int, int], values: tuple[int, ...]
    ) -> list[Message]:
        match what:
            case MessageId.SET_ENABLED:
                self._enabled = parameters[1] == 1
                self._faults = StatusBits(0)
                if not self._enabled:
                    self._interrupt(t)
            case MessageId.REQUEST_ENABLED:
                return [_short(MessageId.GET_ENABLED, CHANNEL, 1 if self._enabled else 2)]
            case MessageId.SET_POSITION:
                self._counter_offset = values[1] - self._true_position(t)
            case MessageId.REQUEST_POSITION:
                return [_long(MessageId.GET_POSITION, CHANNEL, self._counter(t))]
            case MessageId.SET_ENCODER:
                self._encoder = values[1] - self._true_position(t)
            case MessageId.REQUEST_ENCODER:
                return [_long(MessageId.GET_ENCODER, CHANNEL, _signed(self._true_position(t) + self._encoder))]
            case MessageId.REQUEST_STATUS_BITS:
                return [_long(MessageId.GET_STATUS_BITS, CHANNEL, int(self._bits(t)))]
            case MessageId.REQUEST_STATUS:
                return [self._status_message(t, MessageId.GET_STATUS)]
            case MessageId.REQUEST_DC_STATUS:
                return [self._status_message(t, MessageId.GET_DC_STATUS)]
            case MessageId.STOP:
                return self._stop(t, at_once=parameters[1] == 1)
            case MessageId.HOME | MessageId.MOVE_ABSOLUTE | MessageId.MOVE_RELATIVE:
                return self._refusal(what) or self._move(t, what, values)
            case MessageId.MOVE_VELOCITY | MessageId.JOG:
                return self._refusal(what) or self._jog(t, what, forward=parameters[1] == 1)
            case _:
                return [_short(MessageId.ERROR)]
        return []

    def _keep(self, what: MessageId, values: tuple[int, ...]) -> None:
        if what == MessageId.GET_VELOCITY:
            fastest = round(_MAX_DEG_S * self.UNIT.counts_per_deg * self.UNIT.velocity_unit)
            values = (*values[:3], min(values[3], fastest))
        self._kept[what] = values

    def _refusal(self, what: MessageId) -> list[Message]:
        if not self._enabled:
            return [_rich_error(what, 1, "The channel is disabled.")]
        if self.options.refuses_unhomed and what == MessageId.MOVE_ABSOLUTE and not self._homed:
            return [_rich_error(what, 2, "The stage has not been homed.")]
        return []

    def _move(self, t: float, what: MessageId, values: tuple[int, ...]) -> list[Message]:
        self._interrupt(t)
        start = self._true_position(t)
        if what == MessageId.HOME:
            self._home(t, start)
            return []
        way = values[1] if what == MessageId.MOVE_RELATIVE else values[1] - self._counter(t)
        target = start + way
        if self.limit_counts is not None and target > self.limit_counts - self._counter_offset:
            target = max(self.limit_counts - self._counter_offset, start)
            self._limit = StatusBits.FORWARD_LIMIT
        _, backlash = self._kept[MessageId.GET_BACKLASH]
        self._set_off(self._profile(t, start, target, backlash), MessageId.MOVE_COMPLETED)
        return []

    def _profile(self, t: float, start: int, target: int, backlash: int) -> Motion:
        """Go to a target, first beyond it where it is approached from above and backlash is to be taken out."""
        speed, acceleration = self._speed(MessageId.GET_VELOCITY)
        end = target + self._jitter(target + self._counter_offset)
        if backlash > 0 and target < start:
            return _then(
                travel(t, start, target - backlash, speed, acceleration),
                end,
                speed,
                acceleration,
                self.options.settle_s,
            )
        return travel(t, start, end, speed, acceleration, self.options.settle_s)

    def _home(self, t: float, start: int) -> None:
        """Go down to the switch, and from there up to the zero."""
        _, acceleration = self._speed(MessageId.GET_VELOCITY)
        *_, velocity, offset = self._kept[MessageId.GET_HOMING]
        speed = max(velocity / self.UNIT.velocity_unit, 1.0)
        beyond = (start + round(self.UNIT.home_offset_deg * self.UNIT.counts_per_deg)) % self._turn
        switch = travel(t, start, start - beyond, speed, acceleration)
        self._homing, self._homed = True, False
        settle_s = max(self.options.settle_s, _SETTLED_AT_ONCE_S)
        self._set_off(_then(switch, start - beyond + offset, speed, acceleration, settle_s), MessageId.HOMED)

    def _jog(self, t: float, what: MessageId, *, forward: bool) -> list[Message]:
        self._interrupt(t)
        start = self._true_position(t)
        _, mode, step, *_ = self._kept[MessageId.GET_JOG]
        if what == MessageId.MOVE_VELOCITY or mode == 1:
            speed, acceleration = self._speed(MessageId.GET_VELOCITY)
            step = _ENDLESS_TURNS * self._turn
        else:
            speed, acceleration = self._speed(MessageId.GET_JOG)
        target = start + (step if forward else -step)
        self._set_off(travel(t, start, target, speed, acceleration, self.options.settle_s), MessageId.MOVE_COMPLETED)
        self._jogging = True
        return []

    def _stop(self, t: float, *, at_once: bool) -> list[Message]:
        _, acceleration = self._speed(MessageId.GET_VELOCITY)
        motion = halt(self._motion, t, float("inf") if at_once else acceleration)
        self._homing = False
        self._set_off(motion, MessageId.STOPPED)
        return []

    def _speed(self, what: MessageId) -> tuple[float, float]:
        """Get speed, counts/s, and acceleration, counts/s², that are set for moves or for jogs."""
        values = self._kept[what]
        acceleration, velocity = values[2:4] if what == MessageId.GET_VELOCITY else values[4:6]
        return max(velocity / self.UNIT.velocity_unit, 1.0), max(acceleration / self.UNIT.acceleration_unit, 1.0)

    def _set_off(self, motion: Motion, event: MessageId | None) -> None:
        """Begin a motion; ``event`` is what is said at its end."""
        start = motion.at(motion.begins_s)[0]
        if self.stuck and event not in (None, MessageId.STOPPED):
            motion, event = Motion(motion.begins_s, motion.begins_s + _STUCK_AFTER_S, round(start)), None
            self._faults_at_end = StatusBits.MOTION_ERROR
        else:
            self._faults_at_end = StatusBits(0)
        self._motion, self._event, self._event_s = motion, event, motion.ends_s
        turning_point = next((leg for leg in motion.legs if leg.begins_s > motion.begins_s and not leg.velocity), None)
        begins_s, at = motion.begins_s, start
        if turning_point is not None:
            self._turn_plate(begins_s, turning_point.begins_s, at, turning_point.position)
            begins_s, at = turning_point.begins_s, turning_point.position
        self._turn_plate(begins_s, motion.ends_s, at, motion.target)

    def _turn_plate(self, t0: float, t1: float, start: float, end: float) -> None:
        if start != end:
            self._plate.move(t0, t1, start / self.UNIT.counts_per_deg, end / self.UNIT.counts_per_deg)

    def _finish(self, t: float) -> None:
        """Do what the end of a motion brings."""
        if self._homing and not self._faults_at_end:
            self._homed = True
            self._counter_offset = -self._motion.target
        self._homing = self._jogging = False
        self._faults |= self._faults_at_end
        self._event = self._event_s = None

    def _interrupt(self, t: float) -> None:
        """Break off a motion where it is."""
        if self._motion.is_under_way(t):
            position = round(self._motion.at(t)[0])
            start = self._motion.at(self._motion.begins_s)[0]
            self._plate.move(t, t, start / self.UNIT.counts_per_deg, position / self.UNIT.counts_per_deg)
            self._motion = standing(t, position)
        self._event = self._event_s = None
        self._homing = self._jogging = False
        self._faults, self._limit = StatusBits(0), StatusBits(0)

    def _jitter(self, counter: int) -> int:
        """Get how far from a target a motion ends; a property of the target, so that no order of moves matters."""
        most = self.UNIT.jitter_counts
        key = counter & 0xFFFFFFFF
        return int(self._noise.fixed(self._jitter_key, key).integers(-most, most + 1)) if most else 0

    def _true_position(self, t: float) -> int:
        return round(self._motion.at(t)[0])

    def _counter(self, t: float) -> int:
        return _signed(self._true_position(t) + self._counter_offset)

    def _bits(self, t: float) -> StatusBits:
        moving = self._motion.is_under_way(t)
        forward = self._motion.at(t)[1] >= 0
        bits = StatusBits.MOTOR_CONNECTED | self._faults | self._limit
        if moving and self._jogging:
            bits |= StatusBits.JOGGING_FORWARD if forward else StatusBits.JOGGING_REVERSE
        if moving:
            bits |= StatusBits.MOVING_FORWARD if forward else StatusBits.MOVING_REVERSE
        for is_so, bit in (
            (self._homing, StatusBits.HOMING),
            (self._homed, StatusBits.HOMED),
            (self._enabled, StatusBits.ENABLED | StatusBits.TRACKING),
            (self._enabled and not moving, StatusBits.SETTLED),
            (self._at_switch(t), StatusBits.REVERSE_LIMIT),
        ):
            if is_so:
                bits |= bit
        return bits

    def _at_switch(self, t: float) -> bool:
        offset = round(self.UNIT.home_offset_deg * self.UNIT.counts_per_deg)
        beyond = (self._true_position(t) + offset + self._turn // 2) % self._turn - self._turn // 2
        return abs(beyond) < _SWITCH_WIDTH_DEG * self.UNIT.counts_per_deg

    def _status_message(self, t: float, what: MessageId) -> Message:
        """Get a message with the whole status: a reply, an update, or an event in the manner of the unit."""
        of_servo = what == MessageId.GET_DC_STATUS or (
            what != MessageId.GET_STATUS and self.UNIT.status == MessageId.GET_DC_STATUS
        )
        counter, bits = self._counter(t), int(self._bits(t))
        if not of_servo:
            return _long(what, CHANNEL, counter, counter, bits, layout=STATUS)
        velocity = round(self._motion.at(t)[1] * _T)
        return _long(what, CHANNEL, counter, max(min(velocity, 32767), -32768), 0, bits, layout=DC_STATUS)

    def _info(self) -> Message:
        notes = bytes(58) + self.UNIT.stage.to_bytes(2, "little")
        serial = self.options.serial or self.UNIT.serial
        return _long(MessageId.GET_INFO, serial, self.UNIT.model.encode(), 16, bytes([4, 2, 2, 0]), notes, 1, 3, 1)


class KDC101Emulator(AptRotationEmulator):
    """KDC101 with a PRM1-Z8: a DC servo with an encoder."""

    UNIT = KDC101_UNIT


class K10CR1Emulator(AptRotationEmulator):
    """K10CR1: a stepper without an encoder."""

    UNIT = K10CR1_UNIT


def _then(first: Motion, target: int, speed: float, acceleration: float, settle_s: float) -> Motion:
    """Go on to ``target`` where a motion has ended."""
    second = travel(first.ends_s, first.target, target, speed, acceleration, settle_s)
    return Motion(first.begins_s, second.ends_s, target, first.legs + second.legs)


def _signed(counts: int) -> int:
    """Get a count as the 32 bits of the counter hold it."""
    return (counts + (1 << 31)) % (1 << 32) - (1 << 31)


def _short(what: MessageId, first: int = 0, second: int = 0) -> Message:
    return Message(what, (first, second), None, HOST, UNIT)


def _long(what: MessageId, *values: int | bytes, layout: struct.Struct | None = None) -> Message:
    return long_message(what, *values, layout=layout, destination=HOST, source=UNIT)


def _rich_error(about: MessageId, code: int, text: str) -> Message:
    return _long(MessageId.RICH_ERROR, about, code, text.encode())
