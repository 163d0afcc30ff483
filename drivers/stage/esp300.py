"""Newport ESP300 and ESP301 motion controllers: one of their axes as a linear stage.

A command is an axis, two letters and a value, ended by CR; only questions are answered, ended by CR LF. Nothing
acknowledges a motion. Errors of all axes wait in one queue, which is read after each move.

The controller cannot say whether an axis was homed since it was switched on; only that the motor is off, as it is
after that. So homing leaves a mark that a power-up takes away: a deceleration 0.1 % above the acceleration. An axis
with its motor on and the mark is homed; any other one is homed when a bench is opened (option ``home_at_start``).
``home_at_start = false`` trusts the zero of an axis whose motor is on: for those who have homed it at the front panel.
An axis whose motor is found to be off is no longer trusted. A software limit that the options make narrower is also
set in the controller, after homing and until it is switched off, so that its joystick cannot drive a blade into its
mount either.

UNVERIFIED: the speed of the line of an ESP301 (921600 baud over USB); what the homing modes 0 to 6 mean (``home_mode``
none sends ``OR`` alone); how half a command in the input ends; that ``TB?`` takes an entry off the same queue as
``TE?``; that an axis which is switched off forgets a deceleration that was not saved.
docs/decisions/0019-newport-stages.md says why pymeasure's own driver is not used.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import Field

from drivers.stage.newport_stage import NewportStage, StageOptions, as_text
from labctl.clock import Clock
from labctl.errors import NOTHING_MOVED
from labctl.roles import Identity
from labctl.transport.adapter import WireAdapter
from labctl.transport.settings import WireSettings

log = logging.getLogger(__name__)

MM_PER_UNIT = {2: 1.0, 3: 1e-3, 4: 25.4, 5: 25.4e-3, 6: 25.4e-6}
"""Length of those units of an axis, by number, that are lengths."""
UNITS = {
    0: "encoder counts",
    1: "motor steps",
    2: "millimetres",
    3: "micrometres",
    4: "inches",
    5: "milli-inches",
    6: "micro-inches",
    7: "degrees",
    8: "gradians",
    9: "radians",
    10: "milliradians",
    11: "microradians",
}
AXIS_ERRORS = {
    0: "the type of the motor is not defined",
    1: "a parameter is out of range",
    2: "fault of the amplifier",
    3: "following error: the motor does not follow",
    4: "positive hardware limit",
    5: "negative hardware limit",
    6: "positive software limit",
    7: "negative software limit",
    8: "no stage is connected",
    9: "fault of the position feedback",
    10: "the velocity is too high",
    11: "the acceleration is too high",
    13: "the motor is not enabled",
    15: "the jerk is too high",
    16: "offset of the DAC",
    17: "the settings are protected",
    18: "error of the stage device",
    19: "the stage data are invalid",
    20: "homing was aborted",
    21: "the motor current is not defined",
    22: "communication with the drive",
    23: "the drive was not detected",
    24: "the speed is out of range",
    25: "bad master axis of the trajectory",
    26: "the change is not allowed",
    27: "invalid trajectory for homing",
    28: "invalid encoder ratio",
    29: "digital interlock",
    30: "not allowed during homing",
    31: "not allowed because of a group",
    32: "invalid trajectory for a move",
}
"""Words for what the last two digits of an error of an axis mean; its hundreds are the axis."""
ERRORS = {
    1: "time-out of the communication",
    4: "emergency stop",
    6: "unknown command",
    7: "a parameter is out of range",
    8: "cable interlock",
    9: "there is no such axis",
    25: "a download is running",
    26: "the program was not started",
    27: "the command is not allowed",
    28: "the flash memory is full",
    35: "the program was not found",
    37: "the axis is missing",
    38: "a parameter is missing",
    39: "the label was not found",
    40: "the command cannot be repeated",
    41: "too many labels",
    **dict.fromkeys((*range(13, 20), *range(29, 35)), "error of a group"),
    **dict.fromkeys(range(20, 24), "error of the data acquisition"),
}
"""Words for the errors below 100."""

_IDENTITY = re.compile(r"(ESP30\d)\S*\s+Version\s+(\S.*)", re.IGNORECASE)
_ERROR = re.compile(r"(\d{1,3})\s*,\s*(\d+)\s*,\s*(\S.*)")
_NO_ERROR = "NO ERROR DETECTED"
_ERRORS_AT_MOST = 64
_MARK = 1.001
_MARK_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class QueuedError:
    """An entry of the controller's queue of errors.

    :param code: Number; the hundreds are the axis. :param text: The controller's words.
    """

    code: int
    text: str

    @property
    def axis(self) -> int:
        """Get the axis that it belongs to; 0 for none."""
        return self.code // 100

    def __str__(self) -> str:
        if self.axis:
            words = AXIS_ERRORS.get(self.code % 100, "reserved")
            return f"error {self.code} of axis {self.axis}: {words} ({self.text})"
        return f"error {self.code}: {ERRORS.get(self.code, 'reserved')} ({self.text})"


class ESP300(NewportStage):
    """One axis of an ESP300 or ESP301 as a linear stage.

    :param adapter: The wire.
    :param name: Name for messages.
    :param clock: The clock on which it waits.
    :param options: See :class:`Options`.
    """

    LINK = WireSettings(write_termination=b"\r", read_termination=b"\r\n", timeout_s=1.0, baud_rate=19200, rtscts=True)

    class Options(StageOptions):
        """Options in the bench file.

        :param axis: Axis of the controller, 1 to 3.
        :param home_mode: Number behind the command ``OR``, 1 to 6; none leaves the mode to the controller.
        """

        axis: int = Field(default=1, ge=1, le=3)
        home_mode: int | None = Field(default=None, ge=1, le=6)

    def __init__(self, adapter: WireAdapter, name: str = "Newport ESP300", *, clock: Clock, **options: object) -> None:
        self._chosen = self.Options.model_validate(options)
        super().__init__(adapter, name, clock, self._chosen)
        self._axis = self._chosen.axis
        self._unit = 0
        self._homed = False

    def start_up(self) -> None:
        """Get in step, end a motion left over, check the unit, home the axis if need be, set velocity and limits.

        The axis may move over its whole travel when it is homed.
        """
        with self.adapter.exclusive():
            self.identify()
            self._end_motion()
            self._clear_errors()
            self._unit = self._read_unit()
            motor_is_on = self._motor_is_on()
            if motor_is_on and (self._is_marked() or not self._chosen.home_at_start):
                log.info("%s: the zero of axis %d is trusted", self.name, self._axis)
                self._homed = True
                self._prepare()
            elif self._chosen.home_at_start:
                self.home()
            else:
                log.warning("%s: axis %d is not homed and will not move", self.name, self._axis)

    def identify(self) -> Identity:
        """Get vendor, model and firmware; the controller tells no serial number."""
        answer = self._exchange("VE?")
        found = _IDENTITY.fullmatch(answer)
        if not found:
            raise self._error(
                f"{answer!r} is not the identity of an ESP300 or ESP301",
                state=NOTHING_MOVED,
                todo="check `resource` and `driver` of the stage in the bench file",
            )
        return Identity("Newport", found[1].upper(), firmware=found[2])

    def home(self) -> None:
        """Find the reference mark; returns when it is found. The stage may pass its whole travel.

        Raises InstrumentError with the controller's errors, InstrumentTimeout after ``home_timeout_s``.
        """
        with self.adapter.exclusive():
            self._end_motion()
            self._clear_errors()
            self._unit = self._unit or self._read_unit()
            self._require_unit()
            self._homed, self._arrived, self._untouched = False, None, False
            self._remove_mark()
            if not self._motor_is_on():
                self._switch_on()
            mode = self._chosen.home_mode
            self._tell(f"{self._axis}OR{'' if mode is None else mode}")
            self._wait_until_begun()
            self._wait_for_mark()
            self._raise_errors()
            if not self._motor_is_on():
                raise self._error(
                    "the motor went off while the stage was homed",
                    state="the stage is not homed",
                    todo="see whether something blocks it and whether the controller was switched off; home it again",
                )
            self._homed = True
            log.info("%s: axis %d is homed", self.name, self._axis)
            self._prepare()
            self._leave_mark()

    def _prepare(self) -> None:
        """Set the velocity, and the limits that the options make narrower."""
        chosen, unit_mm = self._chosen, MM_PER_UNIT[self._unit]
        if chosen.velocity_mm_s is not None:
            self._set_and_check("VA", chosen.velocity_mm_s / unit_mm)
        low_mm, high_mm = self._limits_mm()
        narrow_low, narrow_high = self._narrowed(low_mm, high_mm)
        if narrow_low > low_mm:
            self._set_and_check("SL", narrow_low / unit_mm)
        if narrow_high < high_mm:
            self._set_and_check("SR", narrow_high / unit_mm)
        self._range = self._read_motion_settings()

    def _read_motion_settings(self) -> tuple[float, float]:
        unit_mm = MM_PER_UNIT[self._unit]
        self._set_profile(self._steady_value("VA") * unit_mm, self._steady_value("AC") * unit_mm)
        return self._narrowed(*self._limits_mm())

    def _limits_mm(self) -> tuple[float, float]:
        unit_mm = MM_PER_UNIT[self._unit]
        return self._steady_value("SL") * unit_mm, self._steady_value("SR") * unit_mm

    def _set_and_check(self, word: str, value: float) -> None:
        self._tell(f"{self._axis}{word}{as_text(value)}")
        kept = self._steady_value(word)
        if not math.isclose(kept, value, rel_tol=1e-3, abs_tol=10**-4):
            self._raise_errors()
            raise self._error(
                f"axis {self._axis} keeps {word} = {kept:g} instead of {value:g} {UNITS[self._unit]}",
                state="the stage stands",
                todo="choose a value that the stage can have",
            )

    def _leave_mark(self) -> None:
        self._tell(f"{self._axis}AG{as_text(self._steady_value('AC') * _MARK)}")
        if not self._is_marked():
            log.info(
                "%s: axis %d keeps no mark, and is homed again when the next bench is opened", self.name, self._axis
            )

    def _remove_mark(self) -> None:
        if not self._is_marked():
            return
        self._tell(f"{self._axis}AG{as_text(self._steady_value('AC'))}")
        if self._is_marked():
            self._raise_errors()
            raise self._error(
                f"axis {self._axis} does not take a deceleration, by which it is known to be homed",
                state=NOTHING_MOVED,
                todo="try again; look at the cable",
            )

    def _is_marked(self) -> bool:
        wanted = self._steady_value("AC") * _MARK
        return math.isclose(self._steady_value("AG"), wanted, rel_tol=_MARK_TOLERANCE)

    def _switch_on(self) -> None:
        self._tell(f"{self._axis}MO")
        if not self._motor_is_on():
            self._raise_errors()
            raise self._error(
                f"the motor of axis {self._axis} cannot be switched on",
                state=NOTHING_MOVED,
                todo="look at the emergency stop, the interlock and the cable of the stage",
            )

    def _why_not_homed(self) -> str | None:
        if not self._motor_is_on():
            self._homed, self._arrived = False, None
            return f"the motor of axis {self._axis} is off, as after the controller was switched off and on"
        if not self._homed:
            return f"axis {self._axis} was not homed since the bench was opened"
        self._require_unit()
        return None

    def _read_unit(self) -> int:
        """Get the number of the axis' unit; raises InstrumentError for one that is no length."""
        unit = int(self._steady(lambda: self._flag("SN?", UNITS)))
        if unit not in MM_PER_UNIT:
            raise self._error(
                f"axis {self._axis} counts in {UNITS[unit]}",
                state=NOTHING_MOVED,
                todo=f"check the option axis; set the unit to millimetres at the controller ({self._axis}SN2)",
            )
        return unit

    def _require_unit(self) -> None:
        """Raise InstrumentError if the unit is another one than at the start: all numbers would mean something else."""
        if (unit := self._read_unit()) != self._unit:
            raise self._error(
                f"axis {self._axis} counts in {UNITS[unit]} now, and in {UNITS[self._unit]} before",
                state=NOTHING_MOVED,
                todo="find who changed it; open the bench again",
            )

    def _motor_is_on(self) -> bool:
        return self._flag("MO?", (0, 1)) == 1

    def _is_still(self) -> bool:
        return self._flag("MD?", (0, 1)) == 1

    def _position_reply(self) -> float:
        return self._value("TP") * MM_PER_UNIT.get(self._unit, 1.0)

    def _send_move(self, position_mm: float) -> None:
        self._tell(f"{self._axis}PA{as_text(position_mm / MM_PER_UNIT[self._unit])}")

    def _send_stop(self) -> None:
        self._tell(f"{self._axis}ST")

    def _clear_errors(self) -> None:
        for error in self._errors():
            log.warning("%s had an old error in its queue: %s", self.name, error)

    def _raise_errors(self) -> None:
        errors = self._errors()
        ours = [error for error in errors if error.axis in (0, self._axis)]
        for error in errors:
            if error not in ours:
                log.warning("%s: another axis has an %s", self.name, error)
        if ours:
            raise self._error(
                f"the controller reports {'; '.join(map(str, ours))}",
                todo="see whether something blocks the stage; then home it",
            )

    def _errors(self) -> Sequence[QueuedError]:
        """Get the queue of errors, which is then empty."""
        errors: list[QueuedError] = []
        for _ in range(_ERRORS_AT_MOST):
            answer = self._exchange("TB?")
            found = _ERROR.fullmatch(answer)
            # The text says again whether there is an error: so a damaged number is noticed.
            if not found or (int(found[1]) == 0) != (found[3].upper() == _NO_ERROR):
                self._misunderstood(answer, "TB?")
            if int(found[1]) == 0:
                return errors
            errors.append(QueuedError(int(found[1]), found[3]))
        raise self._error(
            f"the queue of errors does not end, last {errors[-1]}", todo="switch the controller off and on"
        )

    def _steady_value(self, word: str) -> float:
        return self._steady(lambda: self._value(f"{word}?"))

    def _value(self, question: str) -> float:
        return self._number(self._exchange(f"{self._axis}{question}"), f"{self._axis}{question}")

    def _flag(self, question: str, allowed: Sequence[int] | dict[int, str]) -> int:
        answer = self._exchange(f"{self._axis}{question}")
        if not re.fullmatch(r"\d{1,2}", answer) or int(answer) not in allowed:
            self._misunderstood(answer, f"{self._axis}{question}")
        return int(answer)

    def _synchronise(self) -> None:
        self._pass_over("VE?", lambda text: _IDENTITY.fullmatch(text) is not None)
