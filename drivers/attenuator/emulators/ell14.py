"""Emulator of the Thorlabs ELL14 rotation mount.

It knows the end of a command by its length and ignores CR and LF, as hosts differ in sending them. Replies end with
CR LF. The position is announced when a motion has ended; with ``interim_busy`` a busy status goes before it.

Not verified on hardware: the durations; that the announcement comes only after the motion; that half a command is
answered by status 1 after a while; the refusal of moves beyond a turn; the sense of ``ho0``. The scans (``om``,
``cm``) are not modelled and answered as unsupported.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from labctl.sim.emulator import Reply
from labctl.sim.laboratory import Laboratory

PULSES_PER_TURN = 143360
_DATA_LENGTH = {"ma": 8, "mr": 8, "so": 8, "sj": 8, "sv": 2, "is": 2, "ca": 1, "ho": 1}
_HEX = string.hexdigits.encode()
_LETTERS = string.ascii_lowercase.encode()
_OK, _TIMEOUT, _STUCK, _UNSUPPORTED, _BAD_VALUE, _ISOLATED, _BUSY, _MOTOR_ERROR = 0, 1, 2, 3, 4, 5, 9, 11
_STUCK_AFTER_S = 2.0
_MOTOR = "11" + "0400" + "FFFF" + "FFFF" + "00B8" + "00A0"


class ELL14Options(BaseModel):
    """How the simulated mount starts and how fast it is.

    :param address: Address on the bus.
    :param serial: Serial number, eight digits.
    :param reply_s: Time from a command to its reply, s.
    :param speed_deg_s: Speed of a move; as in the laboratory's table when left out.
    :param settle_s: Time added to each motion, s.
    :param jitter_pulses: Largest distance at which a motion ends from its target; the same each time for one target.
    :param interim_busy: Announce a motion by a busy status before the position.
    :param shortest_way: Take the shorter way round to an absolute position.
    :param frame_timeout_s: Time after which half a command is given up, s.
    :param stuck: Motions fail with a mechanical time-out.
    :param awkward: The counter is off, an error is queued, a button was pressed and half a command is in the input.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    address: Annotated[str, Field(pattern="^[0-9A-F]$")] = "0"
    serial: Annotated[str, Field(pattern="^[0-9]{8}$")] = "11400517"
    reply_s: Annotated[float, Field(ge=0)] = 0.004
    speed_deg_s: Annotated[float, Field(gt=0)] | None = None
    settle_s: Annotated[float, Field(ge=0)] = 0.05
    jitter_pulses: Annotated[int, Field(ge=0)] = 2
    interim_busy: bool = False
    shortest_way: bool = False
    frame_timeout_s: Annotated[float, Field(gt=0)] = 0.3
    stuck: bool = False
    awkward: bool = False


class ELL14Emulator:
    """The mount with the wave plate in it.

    Faults: set :attr:`stuck`; call :meth:`power_cycle`, :meth:`refuse`.

    :param laboratory: Where the plate turns.
    :param role: Role on the bench; keys the jitter.
    :param options: See :class:`ELL14Options`.
    """

    def __init__(self, laboratory: Laboratory, role: str, options: Mapping[str, object]) -> None:
        self.options = ELL14Options.model_validate(dict(options))
        self.stuck = self.options.stuck
        truth = laboratory.truth.wave_plate
        self._speed = (self.options.speed_deg_s or truth.speed_deg_s) / 360 * PULSES_PER_TURN
        self._plate = laboratory.wave_plate
        self._noise = laboratory.noise
        self._jitter_key = f"{role} rest"
        self._address = self.options.address
        # The plate's true position is counted on through full turns; the counter is what the mount reports.
        start = round(truth.initial_deg / 360 * PULSES_PER_TURN)
        self._motion = (0.0, 0.0, start, start)
        self._counter_offset = -start
        self._status = _OK
        self._home_offset = 0
        self._jog_step = 0
        self._velocity = 100
        self._isolated_until_s = 0.0
        self._input = b""
        self._input_since_s = 0.0
        self._unasked = b""
        if self.options.awkward:
            self._counter_offset += 12345
            self._status = _STUCK
            self._input = f"{self._address}ma000".encode()
            self._unasked = f"7\r\n{self._address}BO00000012\r\n".encode()

    def respond(self, t: float, data: bytes) -> Sequence[Reply]:
        replies = self._unprompted(t)
        self._input_since_s = t if data else self._input_since_s
        self._input += data.replace(b"\r", b"").replace(b"\n", b"")
        while (command := self._next_command()) is not None:
            address, word, argument = command
            # A wrong address is met by silence: another mount may own it.
            if address == self._address:
                replies += self._carry_out(t, word, argument)
        return replies

    def next_event(self) -> float | None:
        if self._unasked:
            return 0.0
        return self._gives_up_s if len(self._input) > 1 else None

    def power_cycle(self, t: float) -> None:
        """Switch off and on at ``t``: the plate stays, the counter starts at zero, settings are lost."""
        position = self._true_position(t)
        if t < self._motion[1]:
            self._plate.move(t, t, _degrees(self._motion[2]), _degrees(position))
        self._motion = (t, t, position, position)
        self._counter_offset = -position
        self._status, self._velocity, self._jog_step, self._input = _OK, 100, 0, b""

    def refuse(self, t: float, data: bytes) -> Sequence[Reply]:
        """Answer a command by a motor error."""
        self._input = b""
        return [self._reply(t, f"GS{_MOTOR_ERROR:02X}")]

    @property
    def _gives_up_s(self) -> float:
        return self._input_since_s + self.options.frame_timeout_s

    def _unprompted(self, t: float) -> list[Reply]:
        """Get what is sent unasked until ``t``: buttons pressed, and half a command given up."""
        replies: list[Reply] = [(t, self._unasked)] if self._unasked else []
        self._unasked = b""
        if len(self._input) > 1 and t >= self._gives_up_s:
            replies.append((t, self._message(f"GS{_TIMEOUT:02X}")))
            self._input = b""
        return replies

    def _next_command(self) -> tuple[str, str, str] | None:
        """Take the next whole command off the input; bytes that cannot begin one are dropped.

        Dropping also swallows the second digit that some hosts send with ``ho``.
        """
        while self._input:
            if self._input[0] not in _HEX or (len(self._input) > 1 and self._input[1] not in _LETTERS):
                self._input = self._input[1:]
                continue
            word = self._input[1:3].decode("latin-1")
            length = 3 + _DATA_LENGTH.get(word, 0)
            if len(self._input) < max(length, 3):
                return None
            argument = self._input[3:length].decode("latin-1")
            address = chr(self._input[0])
            self._input = self._input[length:]
            return address, word, argument
        return None

    def _carry_out(self, t: float, word: str, argument: str) -> list[Reply]:
        moving = t < self._motion[1]
        isolated = t < self._isolated_until_s
        if isolated:
            return [self._reply(t, f"GS{_ISOLATED:02X}")]
        if moving and word not in ("gs", "gp", "st"):
            return [self._reply(t, f"GS{_BUSY:02X}")]
        try:
            value = int(argument, 16) if argument else 0
        except ValueError:
            return [self._reply(t, f"GS{_UNSUPPORTED:02X}")]
        signed = value - (1 << 32) if value & (1 << 31) else value
        match word:
            case "in":
                # Type 14, serial number, year, firmware, hardware (metric thread), travel 360 degrees, pulses per turn.
                return [self._reply(t, f"IN0E{self.options.serial}202317010168{PULSES_PER_TURN:08X}")]
            case "gs":
                status, self._status = (_BUSY, self._status) if moving else (self._status, _OK)
                return [self._reply(t, f"GS{status:02X}")]
            case "gp":
                return [self._reply(t, self._position_text(t))]
            case "gj":
                return [self._reply(t, f"GJ{self._jog_step & 0xFFFFFFFF:08X}")]
            case "go":
                return [self._reply(t, f"HO{self._home_offset & 0xFFFFFFFF:08X}")]
            case "gv":
                return [self._reply(t, f"GV{self._velocity:02X}")]
            case "i1" | "i2":
                return [self._reply(t, f"I{word[1]}{_MOTOR}")]
            case "ma":
                return self._move_to(t, signed)
            case "mr":
                return self._move_to(t, self._reported(t) + signed)
            case "fw":
                return self._move_to(t, self._reported(t) + self._jog_step)
            case "bw":
                return self._move_to(t, self._reported(t) - self._jog_step)
            case "ho":
                return self._home(t, value)
        return [self._reply(t, f"GS{self._set(t, word, value, signed):02X}")]

    def _set(self, t: float, word: str, value: int, signed: int) -> int:
        """Carry out a command that is answered by a status only; get the status."""
        match word:
            case "sv":
                if value > 100:
                    return _BAD_VALUE
                self._velocity = value
            case "sj":
                self._jog_step = signed
            case "so":
                self._home_offset = signed
            case "is":
                self._isolated_until_s = t + 60.0 * value
            case "ca":
                self._address = f"{value:X}"
            case "st" | "us" | "s1" | "s2":
                # A bounded motion is not stopped; there is nothing to search or to save here.
                pass
            case _:
                return _UNSUPPORTED
        return _OK

    def _move_to(self, t: float, target: int) -> list[Reply]:
        if abs(target) > PULSES_PER_TURN:
            return [self._reply(t, f"GS{_BAD_VALUE:02X}")]
        way = target + self._jitter(target) - self._reported(t)
        if self.options.shortest_way:
            half = PULSES_PER_TURN // 2
            short = (way + half) % PULSES_PER_TURN - half
            self._counter_offset += way - short
            way = short
        return self._turn(t, way)

    def _home(self, t: float, direction: int) -> list[Reply]:
        position = self._true_position(t)
        beyond = (position - self._home_offset) % PULSES_PER_TURN
        way = -beyond if direction == 0 else -beyond % PULSES_PER_TURN
        if not self.stuck:
            self._counter_offset = -(position + way)
        return self._turn(t, way)

    def _turn(self, t: float, way: int) -> list[Reply]:
        """Turn by ``way`` pulses; get the announcements."""
        start = self._true_position(t)
        if self.stuck:
            self._motion = (t, t + _STUCK_AFTER_S, start, start)
            ends = [self._reply(t + _STUCK_AFTER_S, f"GS{_STUCK:02X}")]
        else:
            speed = self._speed * max(self._velocity, 1) / 100
            end_s = t + abs(way) / speed + self.options.settle_s
            self._motion = (t, end_s, start, start + way)
            if way:
                self._plate.move(t, end_s, _degrees(start), _degrees(start + way))
            ends = [self._reply(end_s, self._position_text(end_s))]
        return [self._reply(t, f"GS{_BUSY:02X}"), *ends] if self.options.interim_busy else ends

    def _jitter(self, target: int) -> int:
        """Get how far from ``target`` a motion ends; a property of the target, so that no order of moves matters."""
        most = self.options.jitter_pulses
        return int(self._noise.fixed(self._jitter_key, target).integers(-most, most + 1)) if target else 0

    def _true_position(self, t: float) -> int:
        t0, t1, start, end = self._motion
        return end if t >= t1 else start + round((end - start) * max(t - t0, 0.0) / (t1 - t0))

    def _reported(self, t: float) -> int:
        return self._true_position(t) + self._counter_offset

    def _position_text(self, t: float) -> str:
        return f"PO{self._reported(t) & 0xFFFFFFFF:08X}"

    def _message(self, text: str) -> bytes:
        return f"{self._address}{text}\r\n".encode()

    def _reply(self, t: float, text: str) -> Reply:
        return t + self.options.reply_s, self._message(text)


def _degrees(pulses: int) -> float:
    return pulses / PULSES_PER_TURN * 360
