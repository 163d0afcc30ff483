"""Newport SMC100CC and CONEX-CC motion controllers as linear stages.

A command is the address of the controller, two letters and a value, ended by CR LF; an answer repeats address and
letters. Nothing acknowledges a motion: the state (``TS``) is polled, and the last error (``TE``) asked for afterwards.
The controller says whether it is homed (``NOT REFERENCED``), so a bench homes it only when it is not. One that has
been referenced looks for its mark again only after a reset, which :meth:`SMC100.home` then does.

Software limits are read and narrowed by the options here, but not written: where the controller keeps them is not
verified, and its flash memory lasts for about a hundred writings.

UNVERIFIED: that a stage counts in mm (the controller names no unit; rotation stages count in degrees); which of
``MM0`` and ``MM1`` disables (here 0, as pymodaq has it; qmi names them the other way round); how long a reset takes;
how half a command in the input ends; that ``ST`` while homing leaves the stage not referenced.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from pydantic import Field

from drivers.stage.newport_stage import NewportStage, StageOptions, as_text
from labctl.clock import Clock
from labctl.errors import NOTHING_MOVED, InstrumentError, InstrumentTimeout
from labctl.roles import Identity, Readiness
from labctl.transport.adapter import WireAdapter
from labctl.transport.settings import WireSettings

log = logging.getLogger(__name__)


class Phase(Enum):
    """What a state of the controller comes to."""

    NOT_REFERENCED = "not referenced"
    CONFIGURATION = "in configuration"
    HOMING = "homing"
    MOVING = "moving"
    READY = "ready"
    DISABLED = "disabled"
    JOGGING = "jogging or tracking"


PHASES = {
    Phase.NOT_REFERENCED: range(0x0A, 0x12),
    Phase.CONFIGURATION: range(0x14, 0x15),
    Phase.HOMING: range(0x1E, 0x20),
    Phase.MOVING: range(0x28, 0x29),
    Phase.READY: range(0x32, 0x39),
    Phase.DISABLED: range(0x3C, 0x40),
    Phase.JOGGING: range(0x46, 0x48),
}
_UNDER_WAY = (Phase.HOMING, Phase.MOVING, Phase.JOGGING)
_REFERENCED = (Phase.MOVING, Phase.READY, Phase.DISABLED, Phase.JOGGING)
_STAGE_ERROR = 0x10
FAULTS = {
    0x0004: "peak current limit",
    0x0008: "RMS current limit",
    0x0010: "short circuit",
    0x0020: "following error",
    0x0040: "time-out of homing",
    0x0080: "wrong stage",
    0x0100: "DC voltage too low",
    0x0200: "output power of 80 W exceeded",
}
END_OF_RUN = {0x0001: "negative end of run", 0x0002: "positive end of run"}
"""Where a stage may stand that was homed to its end switch: told, but no fault by itself."""
ERRORS = {
    "A": "unknown command or floating address",
    "B": "wrong address",
    "C": "parameter missing or out of range",
    "D": "not allowed",
    "E": "homing has already begun",
    "F": "unknown name of a stage",
    "G": "displacement out of limits",
    "H": "not allowed while not referenced",
    "I": "not allowed in configuration",
    "J": "not allowed while disabled",
    "K": "not allowed while ready",
    "L": "not allowed while homing",
    "M": "not allowed while moving",
    "N": "position beyond a software limit",
    "S": "time-out of the communication",
    "U": "EEPROM",
    "V": "the command could not be carried out",
    "W": "not for this version (PP)",
    "X": "not for this version (CC)",
}
_NO_ERROR = "@"
_RESET_TIMEOUT_S = 15.0
_RESET_POLL_S = 0.5


class State(NamedTuple):
    """An answer to ``TS``.

    :param faults: The 16 bits of faults. :param code: State, as the controller numbers it. :param phase: Its meaning.
    """

    faults: int
    code: int
    phase: Phase

    def __str__(self) -> str:
        bits = {**FAULTS, **END_OF_RUN}
        known = [text for bit, text in bits.items() if self.faults & bit]
        unknown = self.faults & ~sum(bits)
        words = [f"state {self.code:02X} ({self.phase.value})", *known, *([f"bits {unknown:04X}"] if unknown else [])]
        return ", ".join(words)


class SMC100(NewportStage):
    """An SMC100CC as a linear stage.

    :param adapter: The wire.
    :param name: Name for messages.
    :param clock: The clock on which it waits.
    :param options: See :class:`Options`.
    """

    LINK = WireSettings(
        write_termination=b"\r\n", read_termination=b"\r\n", timeout_s=1.0, baud_rate=57600, xonxoff=True
    )
    MODEL = re.compile(r"SMC", re.IGNORECASE)

    class Options(StageOptions):
        """Options in the bench file.

        :param address: Address of the controller, 1 to 31.
        """

        address: int = Field(default=1, ge=1, le=31)

    def __init__(self, adapter: WireAdapter, name: str = "Newport SMC100", *, clock: Clock, **options: object) -> None:
        self._chosen = self.Options.model_validate(options)
        super().__init__(adapter, name, clock, self._chosen)
        self._address = str(self._chosen.address)

    def start_up(self) -> None:
        """Get in step, end a motion left over, enable the motor, and home the stage if it is not homed."""
        with self.adapter.exclusive():
            self._get_in_step()
            self.identify()
            self._clear_errors()
            self._require_usable(self._state())
            self._end_motion()
            if self._state().phase is Phase.DISABLED:
                self._enable()
            if self._state().phase is Phase.READY:
                self._prepare()
            elif self._chosen.home_at_start:
                self.home()
            else:
                log.warning("%s: the stage is not homed and will not move", self.name)

    def identify(self) -> Identity:
        """Get vendor, model and firmware."""
        words = self._ask("VE").split()
        if not words or not any(self.MODEL.search(word) for word in words):
            raise self._error(
                f"{' '.join(words)!r} is not the version of an {type(self).__name__}",
                state=NOTHING_MOVED,
                todo="check `resource` and `driver` of the stage in the bench file",
            )
        return Identity("Newport", words[0], firmware=" ".join(words[1:]))

    def readiness(self) -> Sequence[Readiness]:
        """Measure whether the stage could move: homed, enabled, without faults; moves nothing."""
        with self.adapter.exclusive():
            state = self._state()
        ok = state.phase in (Phase.READY, Phase.MOVING) and not state.faults & sum(FAULTS)
        return (Readiness("stage", ok, str(state) if ok else f"{state}: open the bench again"),)

    def home(self) -> None:
        """Find the reference mark; returns when it is found. A controller that was homed before is reset first.

        The stage may pass its whole travel. Raises InstrumentError with the controller's own words, InstrumentTimeout
        after ``home_timeout_s``.
        """
        with self.adapter.exclusive():
            self._arrived, self._untouched = None, False
            self._end_motion()
            if self._state().phase in _REFERENCED:
                self._reset()
            self._require_usable(self._state())
            self._clear_errors()
            self._tell(f"{self._address}OR")
            self._wait_until_begun()
            self._wait_for_mark()
            self._raise_errors()
            if (state := self._state()).phase is not Phase.READY:
                raise self._error(
                    f"the reference mark was not found: {state}",
                    state="the stage is not homed",
                    todo="see whether something blocks the stage, and at its type of homing; home it again",
                )
            log.info("%s: homed", self.name)
            self._prepare()

    def _prepare(self) -> None:
        velocity = self._chosen.velocity_mm_s
        if velocity is not None:
            self._tell(f"{self._address}VA{as_text(velocity)}")
            if not math.isclose(kept := self._steady(lambda: self._value("VA?")), velocity, rel_tol=1e-3):
                self._raise_errors()
                raise self._error(
                    f"the controller keeps a velocity of {kept:g} mm/s instead of {velocity:g} mm/s",
                    state="the stage stands",
                    todo="choose a velocity that the stage can have",
                )
        self._range = self._read_motion_settings()

    def _read_motion_settings(self) -> tuple[float, float]:
        self._set_profile(self._steady(lambda: self._value("VA?")), self._steady(lambda: self._value("AC?")))
        low_mm, high_mm = (self._steady(lambda word=word: self._value(word)) for word in ("SL?", "SR?"))
        return self._narrowed(low_mm, high_mm)

    def _enable(self) -> None:
        self._tell(f"{self._address}MM1")
        if (state := self._state()).phase is not Phase.READY:
            self._raise_errors()
            raise self._error(f"the motor cannot be enabled: {state}", state=NOTHING_MOVED, todo="look at the supply")

    def _reset(self) -> None:
        log.info("%s: reset, so that it can be homed again", self.name)
        self._tell(f"{self._address}RS")
        self._in_step = False
        deadline = self.clock.now() + _RESET_TIMEOUT_S
        while True:
            self.clock.sleep(_RESET_POLL_S)
            try:
                if self._state().phase is Phase.NOT_REFERENCED:
                    return
            except InstrumentTimeout as error:
                log.debug("%s: not yet back after its reset: %s", self.name, error.what)
            if self.clock.now() > deadline:
                raise self._error(
                    "the controller does not come back from its reset",
                    state="the stage is not homed",
                    todo="switch the controller off and on",
                )

    def _require_usable(self, state: State) -> None:
        """Raise InstrumentError for a state that only a person can end."""
        if state.phase is Phase.CONFIGURATION:
            what = "the controller is being configured"
            todo = f"leave by {self._address}PW0 from a terminal (it writes the flash memory and takes 10 s)"
        elif state.phase is Phase.JOGGING:
            what, todo = "the stage is moved from the keypad, or tracks a signal", "end that at the controller"
        elif state.code == _STAGE_ERROR:
            what, todo = "the controller does not know its stage", "plug in the stage, or load its parameters"
        elif state.faults & sum(FAULTS) and state.phase is not Phase.NOT_REFERENCED:
            what, todo = "the controller reports a fault", "see whether something blocks the stage; switch off and on"
        else:
            return
        raise self._error(f"{what}: {state}", state=NOTHING_MOVED, todo=todo)

    def _why_not_homed(self) -> str | None:
        state = self._state()
        if state.phase is Phase.DISABLED:
            raise self._error(
                f"the motor is disabled: {state}", state=NOTHING_MOVED, todo="open the bench again, which enables it"
            )
        self._require_usable(state)
        return None if state.phase in _REFERENCED else str(state)

    def _is_still(self) -> bool:
        return self._state().phase not in _UNDER_WAY

    def _position_reply(self) -> float:
        return self._value("TP")

    def _send_move(self, position_mm: float) -> None:
        self._tell(f"{self._address}PA{as_text(position_mm)}")

    def _send_stop(self) -> None:
        self._tell(f"{self._address}ST")

    def _clear_errors(self) -> None:
        if (letter := self._last_error()) != _NO_ERROR:
            log.warning("%s had an old error: %s (%s)", self.name, letter, ERRORS[letter])

    def _raise_errors(self) -> None:
        letter, state = self._last_error(), self._state()
        if letter != _NO_ERROR:
            raise self._error(
                f"the controller reports error {letter} ({ERRORS[letter]}); {state}",
                todo="try again; see whether something blocks the stage",
            )
        if state.faults & sum(FAULTS):
            raise self._error(
                f"the controller reports a fault: {state}", todo="see whether something blocks the stage; then home it"
            )

    def _last_error(self) -> str:
        letter = self._ask("TE")
        if letter != _NO_ERROR and letter not in ERRORS:
            self._misunderstood(letter, f"{self._address}TE")
        return letter

    def _state(self) -> State:
        answer = self._ask("TS")
        if not re.fullmatch(r"[0-9A-Fa-f]{6}", answer):
            self._misunderstood(answer, f"{self._address}TS")
        code = int(answer[4:], 16)
        for phase, codes in PHASES.items():
            if code in codes:
                return State(int(answer[:4], 16), code, phase)
        self._misunderstood(answer, f"{self._address}TS")

    def _value(self, word: str) -> float:
        return self._number(self._ask(word), self._address + word)

    def _ask(self, word: str) -> str:
        """Ask; get what follows address and letters in the answer."""
        answer, begins = self._exchange(self._address + word), self._address + word.rstrip("?")
        if not answer.startswith(begins):
            self._misunderstood(answer, self._address + word)
        return answer.removeprefix(begins).strip()

    def _synchronise(self) -> None:
        begins = f"{self._address}VE"
        self._pass_over(begins, lambda text: text.startswith(begins))

    def _error(self, what: str, *, state: str = "", todo: str = "") -> InstrumentError:
        error = super()._error(what, state=state, todo=todo)
        error.where = f"{self.name}, address {self._address}"
        return error


class ConexCC(SMC100):
    """A CONEX-CC, which is reached over USB and is otherwise alike."""

    LINK = WireSettings(write_termination=b"\r\n", read_termination=b"\r\n", timeout_s=1.0, baud_rate=921600)
    MODEL = re.compile(r"CONEX", re.IGNORECASE)
