"""Emulator of the Newport SMC100CC and CONEX-CC motion controllers with a stage.

Commands end with CR LF and begin with the address; those for another one are passed over in silence, as are empty
lines. Only questions are answered, beginning with address and letters. What is wrong is kept for ``TE``, which clears
it. After power-up the controller is NOT REFERENCED.

UNVERIFIED: the words of ``VE``; the texts of ``TB``; that a question that is not allowed in a state is met by silence
and an error; the time of a reset; that a motor that does not follow leaves the state NOT REFERENCED.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field

from drivers.stage.emulators.drive import Drive, DriveOptions
from labctl.sim.emulator import LineBuffer, Reply
from labctl.sim.laboratory import Laboratory

TEXTS = {
    "@": "No error",
    "A": "Unknown message code or floating controller address",
    "B": "Controller address not correct",
    "C": "Parameter missing or out of range",
    "D": "Execution not allowed",
    "E": "Home sequence already started",
    "G": "Displacement out of limits",
    "H": "Execution not allowed in NOT REFERENCED state",
    "I": "Execution not allowed in CONFIGURATION state",
    "J": "Execution not allowed in DISABLE state",
    "K": "Execution not allowed in READY state",
    "L": "Execution not allowed in HOMING state",
    "M": "Execution not allowed in MOVING state",
    "N": "Current position out of software limit",
    "V": "Error during command execution",
}
RESET, FROM_HOMING, FROM_CONFIGURATION, FROM_MOVING, STAGE_ERROR = 0x0A, 0x0B, 0x0C, 0x0F, 0x10
CONFIGURATION, HOMING, MOVING = 0x14, 0x1E, 0x28
READY_FROM_HOMING, READY_FROM_MOVING, READY_FROM_DISABLE = 0x32, 0x33, 0x34
DISABLE_FROM_READY = 0x3C
FOLLOWING_ERROR, HOMING_TIME_OUT, POSITIVE_END, NEGATIVE_END = 0x0020, 0x0040, 0x0002, 0x0001
_COMMAND = re.compile(r"(\d{1,2})([A-Za-z]{2})(.*)")
_WRITE_FLASH_S = 10.0
_QUESTIONS = ("TS", "TE", "TB", "TP", "TH", "VE")
_KNOWN = (*_QUESTIONS, "PA", "PR", "OR", "ST", "MM", "RS", "PW", "ID", "VA", "AC", "SL", "SR", "OT")


class SMC100Options(DriveOptions):
    """How the simulated controller starts.

    :param address: Its address.
    :param version: What it answers to ``VE``.
    :param state: State at the start; that of a controller that was just switched on when left out.
    :param moving_to_mm: Position to which the stage is under way, homed.
    :param error: Error that waits for ``TE``.
    :param reset_s: Time for which it is deaf after a reset, s.
    :param awkward: Half a command in the input, an old answer on the line, an error that waits.
    """

    address: Annotated[int, Field(ge=1, le=31)] = 1
    version: str = "SMC100CC 2.0.1"
    state: int = RESET
    moving_to_mm: float | None = None
    error: str = "@"
    reset_s: Annotated[float, Field(ge=0)] = 2.0
    awkward: bool = False


class SMC100Emulator:
    """The controller with its stage.

    Faults: set :attr:`stuck`; call :meth:`power_cycle`, :meth:`refuse`, :meth:`disable`.

    :param laboratory: Where the stage moves.
    :param role: Role on the bench.
    :param options: See :class:`SMC100Options`.
    """

    OPTIONS: type[SMC100Options] = SMC100Options

    def __init__(self, laboratory: Laboratory, role: str, options: Mapping[str, object]) -> None:
        self.options = self.OPTIONS.model_validate(dict(options))
        self.drive = Drive(laboratory, role, self.options)
        self.state = self.options.state
        self.faults = 0
        self.error = self.options.error
        self.limits_mm = [self.options.left_limit_mm, self.options.right_limit_mm]
        self._home_timeout_s = 60.0
        # What the motion under way will end in, beyond its target.
        self._outcome = ""
        self._deaf_until_s = 0.0
        self._noise = b""
        self._lines = LineBuffer(b"\r\n")
        if self.state >= MOVING:
            self.drive.found_mark()
        if self.options.moving_to_mm is not None:
            self.drive.found_mark()
            self.drive.go(0.0, self.options.moving_to_mm)
            self.state = MOVING
        if self.options.awkward:
            self.error = "G"
            self._noise = b"1TP9.87654\r\n"
            self._lines.feed(f"{self.options.address}PA7.5".encode())

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
        self._pass_time(t)
        for line in self._lines.feed(data):
            if t < self._deaf_until_s:
                continue
            answer = self._carry_out(t, line.decode("latin-1").strip())
            if answer is not None:
                text = f"{self.options.address}{answer}\r\n"
                replies.append((t + self.options.reply_s, text.encode("latin-1")))
        return replies

    def next_event(self) -> float | None:
        return 0.0 if self._noise else None

    def power_cycle(self, t: float) -> None:
        """Switch off and on at ``t``: not referenced, settings as in its memory, nothing in the input."""
        self.drive.power_cycle(t)
        self.state, self.faults, self.error, self._outcome = RESET, 0, "@", ""
        self.limits_mm = [self.options.left_limit_mm, self.options.right_limit_mm]
        self._lines, self._noise = LineBuffer(b"\r\n"), b""

    def disable(self, t: float) -> None:
        """Switch the motor off at ``t``."""
        self._pass_time(t)
        self.drive.halt(t)
        self.state, self._outcome = DISABLE_FROM_READY, ""

    def refuse(self, t: float, data: bytes) -> Sequence[Reply]:
        """Do not carry out a command, and keep that for ``TE``."""
        self.error = "V"
        return ()

    def _pass_time(self, t: float) -> None:
        """Take note of a motion that has ended by ``t``."""
        if self.state not in (HOMING, MOVING) or self.drive.is_moving(t):
            return
        homing = self.state == HOMING
        match self._outcome:
            case "stuck":
                self.state = FROM_HOMING if homing else FROM_MOVING
                self.faults = HOMING_TIME_OUT if homing else FOLLOWING_ERROR
            case "+" | "-":
                self.state = FROM_MOVING
                self.faults = POSITIVE_END if self._outcome == "+" else NEGATIVE_END
            case _:
                self.state = READY_FROM_HOMING if homing else READY_FROM_MOVING
                if homing:
                    self.drive.found_mark()
        self._outcome = ""

    def _carry_out(self, t: float, command: str) -> str | None:
        """Carry out a command; get the answer to a question, without the address."""
        found = _COMMAND.fullmatch(command)
        if not found or int(found[1]) != self.options.address:
            return None
        word, rest = found[2].upper(), found[3].strip()
        if word not in _KNOWN:
            return self._fail("A")
        if word in _QUESTIONS:
            return self._answer(t, word, rest)
        if self._refused(word):
            return None
        if rest == "?":
            return self._setting(word)
        try:
            value = float(rest) if rest else None
        except ValueError:
            return self._fail("C")
        self._set(t, word, value)
        return None

    def _refused(self, word: str) -> bool:
        """Get whether a command is not allowed in this state, and keep the error for ``TE``."""
        letters = {
            "not referenced": (RESET <= self.state <= STAGE_ERROR + 1, ("PA", "PR", "MM", "VA", "AC", "SL", "SR"), "H"),
            "configuration": (self.state == CONFIGURATION, ("PA", "PR", "OR", "ST", "MM"), "I"),
            "disabled": (self._disabled, ("PA", "PR", "OR", "PW"), "J"),
            "ready": (self._ready, ("OR", "PW"), "K"),
            "homing": (self.state == HOMING, ("PA", "PR", "MM", "PW", "VA"), "L"),
            "moving": (self.state == MOVING, ("PA", "PR", "OR", "MM", "PW"), "M"),
        }
        if self.state == HOMING and word == "OR":
            self._fail("E")
            return True
        if word == "ID" and self.state != CONFIGURATION:
            self._fail("D")
            return True
        for holds, words, letter in letters.values():
            if holds and word in words:
                self._fail(letter)
                return True
        return False

    @property
    def _ready(self) -> bool:
        return READY_FROM_HOMING <= self.state <= 0x38

    @property
    def _disabled(self) -> bool:
        return DISABLE_FROM_READY <= self.state <= 0x3F

    def _answer(self, t: float, word: str, rest: str) -> str | None:
        match word:
            case "TS":
                return f"TS{self.faults:04X}{self.state:02X}"
            case "TE":
                letter, self.error = self.error, "@"
                return f"TE{letter}"
            case "TB":
                letter = rest or self.error
                return f"TB{letter} {TEXTS.get(letter, 'Unknown')}"
            case "TP":
                return f"TP{self.drive.counter_mm(t) + 0.0:.5f}"
            case "TH":
                return f"TH{self.drive.target_mm() + 0.0:.5f}"
            case "VE":
                return f"VE {self.options.version}"
        return self._fail("C")

    def _setting(self, word: str) -> str | None:
        match word:
            case "VA":
                return f"VA{self.drive.velocity:g}"
            case "AC":
                return f"AC{self.drive.acceleration:g}"
            case "SL":
                return f"SL{self.limits_mm[0]:g}"
            case "SR":
                return f"SR{self.limits_mm[1]:g}"
            case "OT":
                return f"OT{self._home_timeout_s:g}"
            case "ID":
                return "IDTRA25CC"
        return self._fail("C")

    def _set(self, t: float, word: str, value: float | None) -> None:
        match word:
            case "OR":
                self.faults = 0
                self.state, self._outcome = HOMING, self.drive.search_mark(t)
            case "ST":
                self._halt(t)
            case "RS":
                self.power_cycle(t)
                self._deaf_until_s = t + self.options.reset_s
            case _ if value is None:
                self._fail("C")
            case "PA":
                self._move(t, value)
            case "PR":
                self._move(t, self.drive.target_mm() + value)
            case "MM":
                self._enable(value)
            case "PW":
                self.state = CONFIGURATION if value else FROM_CONFIGURATION
                self._deaf_until_s = t if value else t + _WRITE_FLASH_S
            case "VA" if value > 0:
                self.drive.velocity = value
            case "AC" if value > 0:
                self.drive.acceleration = value
            case "SL" if value <= 0:
                self.limits_mm[0] = value
            case "SR" if value >= 0:
                self.limits_mm[1] = value
            case "OT" if value > 0:
                self._home_timeout_s = value
            case _:
                self._fail("C")

    def _move(self, t: float, target_mm: float) -> None:
        if not self.limits_mm[0] - 1e-9 <= target_mm <= self.limits_mm[1] + 1e-9:
            self._fail("G")
            return
        self.faults = 0
        self._outcome = self.drive.go(t, target_mm)
        self.state = MOVING

    def _halt(self, t: float) -> None:
        if self.state == HOMING:
            self.drive.halt(t)
            self.state, self._outcome = FROM_HOMING, ""
        elif self.state == MOVING:
            self.drive.halt(t)
            self._outcome = ""

    def _enable(self, value: float) -> None:
        if value == 0 and self._ready:
            self.state = DISABLE_FROM_READY
        elif value == 1 and self._disabled:
            self.state = READY_FROM_DISABLE
        elif value not in (0, 1):
            self._fail("C")

    def _fail(self, letter: str) -> None:
        self.error = letter


class ConexCCOptions(SMC100Options):
    """The same for a CONEX-CC, which is slower."""

    version: str = "CONEX-CC 2.0.1"
    velocity: float = Field(default=0.4, gt=0)
    acceleration: float = Field(default=1.6, gt=0)
    home_velocity: float = Field(default=0.4, gt=0)


class ConexCCEmulator(SMC100Emulator):
    """A CONEX-CC with its stage."""

    OPTIONS = ConexCCOptions
