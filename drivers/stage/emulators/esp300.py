"""Emulator of the Newport ESP300 and ESP301 motion controllers, with a stage at one of their axes.

Commands end with CR or CR LF, several may be joined by ``;``; only questions are answered, with CR LF. After power-up
the motors are off and nothing is homed. Errors wait in a queue of ten. After ``WS`` all further commands wait.

UNVERIFIED: what is done on a bad parameter or half a command (error 38 or 7); that ``OR0`` to ``OR6`` all find the
mark (here they do); that a motor that does not follow is switched off; what a missing stage answers (here nothing,
and error 8 of its axis).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field

from drivers.stage.emulators.drive import Drive, DriveOptions
from labctl.sim.emulator import LineBuffer, Reply
from labctl.sim.laboratory import Laboratory

MM_PER_UNIT = {2: 1.0, 3: 1e-3, 4: 25.4, 5: 25.4e-3, 6: 25.4e-6}
TEXTS = {
    0: "NO ERROR DETECTED",
    6: "COMMAND DOES NOT EXIST",
    7: "PARAMETER OUT OF RANGE",
    9: "AXIS NUMBER OUT OF RANGE",
    27: "COMMAND NOT ALLOWED",
    37: "AXIS NUMBER MISSING",
    38: "COMMAND PARAMETER MISSING",
}
AXIS_TEXTS = {
    1: "PARAMETER OUT OF RANGE",
    3: "FOLLOWING ERROR THRESHOLD EXCEEDED",
    4: "POSITIVE HARDWARE LIMIT DETECTED",
    5: "NEGATIVE HARDWARE LIMIT DETECTED",
    6: "POSITIVE SOFTWARE LIMIT DETECTED",
    7: "NEGATIVE SOFTWARE LIMIT DETECTED",
    8: "MOTOR / STAGE NOT CONNECTED",
    10: "MAXIMUM VELOCITY EXCEEDED",
    13: "MOTOR NOT ENABLED",
    20: "HOMING ABORTED",
    30: "COMMAND NOT ALLOWED DURING HOMING",
}
_COMMAND = re.compile(r"(\d{0,2})([A-Za-z]{2})(\?|[+-]?\d*\.?\d*)")
_OUTCOMES = {"+": 4, "-": 5, "stuck": 3}
_QUEUE = 10
_MOTOR_OFF, _DURING_HOMING = 13, 30
_TICK_S = 400e-6
_TOP_VELOCITY = 50.0
_NEED_NUMBER = ("PA", "PR", "SL", "SR", "VA", "AC", "AG", "SN")


class ESP300Options(DriveOptions):
    """How the simulated controller starts.

    :param axis: Axis at which the stage is.
    :param version: Its answer to ``VE?``.
    :param unit: Unit of the axis, as the controller numbers them.
    :param motor_on: Whether the motor was switched on before.
    :param homed: Whether it was homed before.
    :param moving_to_mm: Position to which the stage is under way.
    :param queued_errors: Errors that wait in the queue.
    :param awkward: Half a command in the input, an old answer on the line, two errors in the queue.
    """

    axis: Annotated[int, Field(ge=1, le=3)] = 1
    version: str = "ESP300 Version 3.08"
    unit: Annotated[int, Field(ge=0, le=11)] = 2
    motor_on: bool = False
    homed: bool = False
    moving_to_mm: float | None = None
    queued_errors: tuple[int, ...] = ()
    awkward: bool = False


class ESP300Emulator:
    """The controller with one stage.

    Faults: set :attr:`stuck`; call :meth:`power_cycle`, :meth:`refuse`, :meth:`switch_motor_off`.

    :param laboratory: Where the stage moves.
    :param role: Role on the bench.
    :param options: See :class:`ESP300Options`.
    """

    def __init__(self, laboratory: Laboratory, role: str, options: Mapping[str, object]) -> None:
        self.options = ESP300Options.model_validate(dict(options))
        self.drive = Drive(laboratory, role, self.options)
        self.unit = self.options.unit
        self.motor_on = self.options.motor_on
        self.limits_mm = [self.options.left_limit_mm, self.options.right_limit_mm]
        self.deceleration = self.options.acceleration
        self.errors: list[tuple[int, float]] = [(code, 0.0) for code in self.options.queued_errors]
        self._homing = False
        # What the motion under way will end in, beyond its target.
        self._outcome = ""
        self._free_s = 0.0
        self._noise = b""
        self._lines = LineBuffer(b"\r\n")
        if self.options.homed:
            self.drive.found_mark()
        if self.options.moving_to_mm is not None:
            self.drive.go(0.0, self.options.moving_to_mm)
        if self.options.awkward:
            self.errors += [(101, 0.0), (6, 0.0)]
            self._noise = b"1.2345\r\n"
            self._lines.feed(f"{self.options.axis}PA7.5".encode())

    @property
    def stuck(self) -> bool:
        """Whether the motor does not turn."""
        return self.drive.stuck

    @stuck.setter
    def stuck(self, value: bool) -> None:
        self.drive.stuck = value

    def respond(self, t: float, data: bytes) -> Sequence[Reply]:
        replies: list[Reply] = [(t, self._noise)] if self._noise else []
        self._noise = b""
        for line in self._lines.feed(data):
            for command in line.decode("latin-1").split(";"):
                if not command.strip():
                    continue
                # While the controller waits for a stop, commands wait too.
                now_s = max(t, self._free_s)
                self._pass_time(now_s)
                answer = self._carry_out(now_s, command.strip())
                if answer is not None:
                    replies.append((now_s + self.options.reply_s, f"{answer}\r\n".encode("latin-1")))
        return replies

    def next_event(self) -> float | None:
        return 0.0 if self._noise else None

    def power_cycle(self, t: float) -> None:
        """Switch off and on at ``t``: motor off, not homed, settings as they were saved, nothing in queue and input."""
        self.drive.power_cycle(t)
        self.unit, self.motor_on, self._homing = self.options.unit, False, False
        self.deceleration = self.options.acceleration
        self.limits_mm = [self.options.left_limit_mm, self.options.right_limit_mm]
        self.errors, self._outcome, self._free_s, self._noise = [], "", t, b""
        self._lines = LineBuffer(b"\r\n")

    def switch_motor_off(self, t: float) -> None:
        """Press the button at the front panel."""
        self._pass_time(t)
        self._abort_homing(t)
        self.drive.halt(t)
        self.motor_on = False

    def refuse(self, t: float, data: bytes) -> Sequence[Reply]:
        """Do not carry out a command, and put that into the queue of errors."""
        self._fail(t, 27)
        return ()

    def _pass_time(self, t: float) -> None:
        """Take note of motions that have ended by ``t``."""
        if self.drive.is_moving(t):
            return
        if self._outcome:
            self._fail(self.drive.ends_s, _OUTCOMES[self._outcome], axis=True)
            self.motor_on = False
        elif self._homing:
            self.drive.found_mark()
        self._homing, self._outcome = False, ""

    def _carry_out(self, t: float, command: str) -> str | None:
        """Carry out a command; get the answer to a question."""
        found = _COMMAND.fullmatch(command)
        if not found:
            return self._fail(t, 6)
        number, word, rest = found[1], found[2].upper(), found[3]
        if word in ("VE", "TE", "TB", "AB") or (word == "ID" and not number):
            return self._for_all(t, word, rest)
        if not number:
            return self._fail(t, 37)
        if not 1 <= int(number) <= 3:
            return self._fail(t, 9)
        if int(number) != self.options.axis:
            return self._fail(t, 100 * int(number) + 8)
        if rest == "?" or word == "TP":
            return self._answer(t, word)
        try:
            value = float(rest) if rest else None
        except ValueError:
            return self._fail(t, 7)
        if value is None and word in _NEED_NUMBER:
            return self._fail(t, 38)
        return self._set(t, word, value)

    def _for_all(self, t: float, word: str, rest: str) -> str | None:
        match word:
            case "VE" if rest == "?":
                return self.options.version
            case "TE" if rest == "?":
                return str(self._next_error(t)[0])
            case "TB" if rest == "?":
                code, when_s = self._next_error(t)
                text = AXIS_TEXTS.get(code % 100, "") if code >= 100 else TEXTS.get(code, "")
                prefix = f"AXIS-{code // 100} " if code >= 100 else ""
                return f"{code}, {int(when_s / _TICK_S)}, {prefix}{text or 'ERROR'}"
            case "ID" if rest == "?":
                return self._fail(t, 37)
            case "AB":
                self._abort_homing(t)
                self.drive.halt(t)
                return None
        return self._fail(t, 6)

    def _answer(self, t: float, word: str) -> str | None:
        match word:
            case "TP":
                return self._length(self.drive.counter_mm(t))
            case "MD":
                return "0" if self.drive.is_moving(t) else "1"
            case "MO":
                return str(int(self.motor_on))
            case "SN":
                return str(self.unit)
            case "SL":
                return self._length(self.limits_mm[0])
            case "SR":
                return self._length(self.limits_mm[1])
            case "PA":
                return self._length(self.drive.target_mm())
            case "VA":
                return self._length(self.drive.velocity)
            case "AC":
                return self._length(self.drive.acceleration)
            case "AG":
                return self._length(self.deceleration)
            case "ID":
                return "MFA-CC, SN1234"
        return self._fail(t, 6)

    def _set(self, t: float, word: str, value: float | None) -> None:
        scale = self._unit_mm
        match word:
            case "PA" | "PR" if value is not None:
                start_mm = self.drive.target_mm() if word == "PR" else 0.0
                self._move(t, start_mm + value * scale)
            case "OR":
                self._home(t, value)
            case "ST":
                self._abort_homing(t)
                self.drive.halt(t)
            case "MO":
                self.motor_on = True
            case "MF":
                self.switch_motor_off(t)
            case "DH":
                self.drive.define(t, (value or 0.0) * scale)
            case "WS":
                ends_s = max(t, self.drive.ends_s) if self.drive.is_moving(t) else t
                self._free_s = ends_s + (value or 0.0) * 1e-3
            case "SN" if value is not None:
                self._set_unit(t, value)
            case "SL" if value is not None:
                self.limits_mm[0] = value * scale
            case "SR" if value is not None:
                self.limits_mm[1] = value * scale
            case "VA" | "AC" | "AG" if value is not None:
                self._set_profile(t, word, value * scale)
            case _:
                self._fail(t, 6)

    def _move(self, t: float, target_mm: float) -> None:
        if self._homing:
            self._fail(t, _DURING_HOMING, axis=True)
        elif not self.motor_on:
            self._fail(t, _MOTOR_OFF, axis=True)
        elif target_mm > self.limits_mm[1] + 1e-9:
            self._fail(t, 6, axis=True)
        elif target_mm < self.limits_mm[0] - 1e-9:
            self._fail(t, 7, axis=True)
        else:
            self._outcome = self.drive.go(t, target_mm)

    def _home(self, t: float, mode: float | None) -> None:
        if mode is not None and mode not in range(7):
            self._fail(t, 1, axis=True)
        elif not self.motor_on:
            self._fail(t, _MOTOR_OFF, axis=True)
        else:
            self._outcome = self.drive.search_mark(t)
            self._homing = True

    def _abort_homing(self, t: float) -> None:
        if self._homing:
            self._fail(t, 20, axis=True)
        self._homing, self._outcome = False, ""

    def _set_unit(self, t: float, value: float) -> None:
        if value in range(12):
            self.unit = int(value)
        else:
            self._fail(t, 1, axis=True)

    def _set_profile(self, t: float, word: str, value: float) -> None:
        if not value > 0:
            self._fail(t, 1, axis=True)
        elif word == "VA" and value > _TOP_VELOCITY:
            self._fail(t, 10, axis=True)
        elif word == "VA":
            self.drive.velocity = value
        elif word == "AC":
            self.drive.acceleration = value
        else:
            self.deceleration = value

    @property
    def _unit_mm(self) -> float:
        return MM_PER_UNIT.get(self.unit, self.options.encoder_mm)

    def _length(self, value_mm: float) -> str:
        return f"{value_mm / self._unit_mm + 0.0:.5f}"

    def _fail(self, t: float, code: int, *, axis: bool = False) -> None:
        self.errors.append((code + 100 * self.options.axis if axis else code, t))
        del self.errors[:-_QUEUE]

    def _next_error(self, t: float) -> tuple[int, float]:
        return self.errors.pop(0) if self.errors else (0, t)
