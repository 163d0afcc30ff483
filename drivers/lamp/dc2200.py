"""Thorlabs DC2200 driver for (UV) LEDs, over SCPI.

While its output is on, the LED shines: there is no shutter. So the lamp is always switched in the same order: output
off, terminal, mode, value, output on; each is read back, and the error queue is asked after each. The header of the
constant current is misspelled in the instrument (``CCURENT``), and only so it is understood.

UNVERIFIED, for the fact sheet has no source for it: the reply of ``SOURCE1:MODE?`` (a word or a number, both are
taken) and of the other settings when they are asked; how fine the brightness (0.1 % is assumed) and the current (1 mA)
can be set; whether a change of mode switches the output off (it is off by then); what an open interlock or a missing
head answers to ``OUTPUT1:STATE ON`` (the output is read back, and the current must flow); whether a tripped current
limit stays tripped; that in brightness mode the current grows with the brightness. The query that names the LED head is
not known by its header, so a missing head shows only by the current.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pymeasure.instruments import Instrument

from drivers.scpi.line import ScpiLine
from labctl.clock import Clock
from labctl.errors import ConnectionLost, InputError, InstrumentError
from labctl.roles import Identity, Readiness, Reading, SafeStep, Setting
from labctl.transport.adapter import WireAdapter
from labctl.transport.settings import WireSettings

log = logging.getLogger(__name__)

_STATE = "OUTPUT1:STATE"
_TERMINAL = "OUTPUT1:TERMINAL"
_MODE = "SOURCE1:MODE"
_LIMIT = "SOURCE1:CURRENT:LIMIT"
_MEASURED = "SENSE3:CURRENT:DATA"
_SETTLE_S = 1.0
"""Time allowed to the current to reach its value after the output was switched on."""
_POLL_S = 0.05
_FLOWS_FROM = 0.1
"""Share of the current expected from which the LED is taken to shine; a broken cable or a missing head carries none."""
_SAFE_REPLY_S = 0.25
_SAFE_TRIES = 2
_GO_DARK = "keep out of the light; switch the LED driver off at its mains switch"


@dataclass(frozen=True, slots=True)
class _Mode:
    """A mode of the source: how it is told, how it may be answered, where its value stands and how fine it is."""

    command: str
    replies: tuple[str, ...]
    header: str
    unit: str
    step: float


_MODES = {
    "brightness": _Mode("CB", ("CB", "2"), "SOURCE1:CBRIGHTNESS:BRIGHTNESS", "%", 0.1),
    "current": _Mode("CC", ("CC", "1"), "SOURCE1:CCURENT:CURRENT", "A", 1e-3),
}

_PROTECTIONS = {
    "interlock": ("OUTPUT1:PROTECTION:INTLOCK:TRIPPED?", "close the interlock circuit (door, lamp housing, connector)"),
    "driver temperature": ("OUTPUT1:PROTECTION:TEMPERATURE:DRIVER:TRIPPED?", "let the LED driver cool; free its vents"),
    "head temperature": ("OUTPUT1:PROTECTION:TEMPERATURE:HEAD:TRIPPED?", "let the LED head cool; see to its heat sink"),
    "current limit": (f"{_LIMIT}:TRIPPED?", "choose a smaller current, or raise the limit that fits the LED head"),
}


class DC2200(Instrument):
    """LED driver DC2200 at constant brightness or constant current.

    :param adapter: The wire.
    :param name: Name for messages.
    :param clock: The clock on which it waits.
    :param options: See :class:`Options`.
    """

    LINK = WireSettings(write_termination=b"\n", read_termination=b"\n", timeout_s=1.0)
    ROLE = "lamp"
    READINGS: ClassVar = {
        "lamp": Reading("is_on", words=("off", "on")),
        "interlock": Reading("interlock_is_open", words=("closed", "open")),
        "tripped": Reading("tripped", words=("nothing", *_PROTECTIONS)),
        "current": Reading("current_a", "A"),
    }
    SETTINGS: ClassVar = {"brightness": Setting("set_brightness", "percent")}

    class Options(BaseModel):
        """Options of the instrument in the bench file.

        :param mode: ``brightness``: constant brightness in percent; ``current``: constant current.
        :param brightness_percent: Brightness until another is set; without it none is assumed, and the lamp is not
            switched on before one was set.
        :param current_a: The constant current, A; with ``mode = "current"`` only. It counts as brightness 100 %.
        :param terminal: 1 the connector with 12 pins (10 A), 2 that with 4 (2 A).
        """

        model_config = ConfigDict(frozen=True, extra="forbid")

        mode: Literal["brightness", "current"] = "brightness"
        brightness_percent: float | None = Field(default=None, gt=0, le=100)
        current_a: float | None = Field(default=None, gt=0, le=10)
        terminal: Literal[1, 2] = 1

        @model_validator(mode="after")
        def _value_fits_mode(self) -> DC2200.Options:
            if (self.mode == "current") != (self.current_a is not None):
                raise ValueError("current_a belongs to mode = 'current', which needs it")
            if self.mode == "current" and self.brightness_percent is not None:
                raise ValueError("brightness_percent belongs to mode = 'brightness'")
            return self

    adapter: WireAdapter

    def __init__(self, adapter: WireAdapter, name: str = "Thorlabs DC2200", *, clock: Clock, **options: object) -> None:
        super().__init__(adapter, name, includeSCPI=False)
        self.clock = clock
        self._line = ScpiLine(adapter, "LED driver")
        self._chosen = self.Options.model_validate(options)
        self._mode = _MODES[self._chosen.mode]
        self._value = self._chosen.current_a or self._chosen.brightness_percent
        self._told_on = False

    def start_up(self) -> None:
        """Switch the lamp off in whatever state it was left, and see what speaks; sets nothing else."""
        with self.adapter.exclusive():
            self.take_up()
            self.switch_off()
            if (tripped := self.tripped) != "nothing":
                log.warning("%s: %s is tripped; the lamp will not go on", self.name, tripped)

    def take_up(self) -> None:
        """Get in step after a new connection, and see what speaks; a lamp that shines shines on."""
        with self.adapter.exclusive():
            for error in self._line.synchronise():
                log.warning("%s had an old error in its queue: %s", self.name, error)
            identity = self.identify()
            if "DC2200" not in identity.model.upper():
                raise self._line.error(
                    f"{identity.vendor} {identity.model} is no DC2200",
                    todo="check `resource` of the lamp in the bench file",
                )

    def identify(self) -> Identity:
        """Get vendor, model, serial number and firmware; raises InstrumentError when `*IDN?` has another form."""
        return Identity(*self._line.identity_fields())

    @property
    def has_readback(self) -> bool:
        """Get whether the device can report whether the lamp is on: it can."""
        return True

    @property
    def is_on(self) -> bool:
        """Measure whether the output is on; raises InstrumentError if the device does not say so clearly."""
        return self._line.flag(f"{_STATE}?")

    @property
    def interlock_is_open(self) -> bool:
        """Measure whether the interlock circuit is open, that is tripped; the output is then off."""
        return self._line.flag(_PROTECTIONS["interlock"][0])

    @property
    def tripped(self) -> str:
        """Measure which protection is tripped, in words; ``nothing`` if none is, the first if several are."""
        with self.adapter.exclusive():
            return next((word for word, (query, _) in _PROTECTIONS.items() if self._line.flag(query)), "nothing")

    @property
    def current_a(self) -> float:
        """Measure the current through the LED in A."""
        return self._line.number(f"{_MEASURED}?")

    @property
    def current_limit_a(self) -> float:
        """Measure the limit of the current in A, as it is set at the device for the LED head."""
        return self._line.number(f"{_LIMIT}?")

    def readiness(self) -> Sequence[Readiness]:
        """Measure whether the lamp would go on: interlock and the other protections; switches nothing."""
        with self.adapter.exclusive():
            tripped = {word: self._line.flag(query) for word, (query, _) in _PROTECTIONS.items()}
        interlock = tripped.pop("interlock")
        word = next((word for word, is_tripped in tripped.items() if is_tripped), "")
        return (
            Readiness("interlock", not interlock, f"open: {_PROTECTIONS['interlock'][1]}" if interlock else "closed"),
            Readiness(
                "protection", not word, f"{word} tripped: {_PROTECTIONS[word][1]}" if word else "nothing tripped"
            ),
        )

    def set_brightness(self, percent: float) -> float:
        """Control the brightness in percent of the largest, 0 < percent ≤ 100; returns the one read back.

        At constant current it is the current, in percent of the one in the options. A lamp that shines goes on shining
        at the new brightness; one that is off stays off.

        Raises InputError for a brightness out of range, InstrumentError if the device refused or clamped it, or stood
        otherwise than it was left; the lamp is off then.
        """
        if not 0 < percent <= 100:
            raise InputError(
                f"the lamp cannot shine at {percent!r} %",
                where=self.name,
                todo="give a brightness above 0, up to 100 %",
            )
        full = self._chosen.current_a or 100.0
        with self.adapter.exclusive():
            self._value = full * percent / 100
            try:
                shone = self._told_on or self.is_on
                self._set_up(self._value)
                first, second = (self._line.number(f"{self._mode.header}?") for _ in range(2))
                if first != second:
                    raise self._line.error(f"the brightness was read as {first:g} and as {second:g}", todo="try again")
                if shone and not self.is_on:
                    raise self._line.error(
                        "the lamp went out while its brightness was set: the LED driver was reset or set by hand",
                        todo="switch the lamp on again; keep hands off the front panel during a run",
                    )
            except InstrumentError as error:
                error.state = self._state_after_switching_off()
                raise
            return first / full * 100

    def switch_on(self) -> None:
        """Switch on at the brightness or the current that was chosen, and verify output, protections and current.

        A lamp that shines just so already is left alone. Raises InputError if no brightness was chosen, InstrumentError
        if a protection is tripped or no current flows; the lamp is off then.
        """
        value = self._value
        if value is None:
            raise InputError(
                "no brightness was chosen",
                where=self.name,
                state="the lamp was not switched on",
                todo="set the brightness first, or give brightness_percent in the options of the lamp",
            )
        with self.adapter.exclusive():
            try:
                self._require_nothing_tripped()
                self._set_up(value)
                if not self.is_on:
                    self._switch_on()
                self._told_on = True
            except InstrumentError as error:
                error.state = self._state_after_switching_off()
                raise

    def switch_off(self) -> None:
        """Switch off and verify, with one more try; raises InstrumentError if the output stays on."""
        with self.adapter.exclusive():
            try:
                self._switch_off()
            except ConnectionLost:
                raise
            except InstrumentError as error:
                log.warning("%s: switching off again after: %s", self.name, error)
                self._switch_off()

    def make_safe(self) -> Sequence[SafeStep]:
        """Switch the lamp off and verify by ``OUTPUT1:STATE?``.

        The command goes out before anything else is said, and once more when the device is known to follow: half a
        command that it still held would have eaten the first.
        """
        action = "switch lamp off"
        evidence: deque[str] = deque(maxlen=6)
        for _ in range(_SAFE_TRIES):
            try:
                with self.adapter.seize(), self.adapter.patience(_SAFE_REPLY_S):
                    self._told_on = False
                    self.adapter.write(f"{_STATE} OFF")
                    self._line.synchronise(_SAFE_REPLY_S)
                    self.adapter.write(f"{_STATE} OFF")
                    is_on = self.is_on
                    evidence.append(f"told {_STATE} OFF, {self.adapter.last}")
                    if not is_on:
                        return [SafeStep(action, True, "; ".join(evidence))]
            except Exception as error:  # whatever happens here, the steps of the other instruments must still be taken
                evidence.append(str(error))
                if isinstance(error, ConnectionLost):
                    evidence.extend(filter(None, [self.adapter.try_to_reconnect()]))
        return [SafeStep(action, False, f"THE LAMP MAY BE ON, {_GO_DARK}: {'; '.join(evidence)}")]

    def close(self) -> None:
        """Release the connection; the lamp stays as it is."""
        self.adapter.close()

    def _set_up(self, value: float) -> None:
        """Have terminal, mode and value as wanted. Switches off first if anything but the value must change."""
        terminal_fits = self._line.number(f"{_TERMINAL}?") == self._chosen.terminal
        mode_fits = self._line.ask(f"{_MODE}?").strip().upper() in self._mode.replies
        if not (terminal_fits and mode_fits):
            self.switch_off()
        if not terminal_fits:
            self._command(f"{_TERMINAL} {self._chosen.terminal}")
            if (found := self._line.number(f"{_TERMINAL}?")) != self._chosen.terminal:
                raise self._line.error(f"the LED driver stays at terminal {found:g}")
        if not mode_fits:
            self._command(f"{_MODE} {self._mode.command}")
            if (found := self._line.ask(f"{_MODE}?").strip().upper()) not in self._mode.replies:
                raise self._line.error(f"the LED driver stays in mode {found} instead of {self._mode.command}")
        header, unit = self._mode.header, self._mode.unit
        if not math.isclose(self._line.number(f"{header}?"), value, rel_tol=1e-6):
            self._command(f"{header} {value:.6g}")
            if abs((reached := self._line.number(f"{header}?")) - value) > 0.51 * self._mode.step:
                raise self._line.error(
                    f"the LED driver took {reached:g} {unit} instead of {value:g} {unit}",
                    todo=f"stay within its limit of {self.current_limit_a:g} A",
                )

    def _switch_on(self) -> None:
        self._command(f"{_STATE} ON")
        is_on = self.is_on
        self._require_nothing_tripped()
        if not is_on:
            raise self._line.error("the LED driver keeps its output off", todo="see whether an LED is connected")
        value = self._value or 0.0
        expected_a = value if self._mode.unit == "A" else self.current_limit_a * value / 100
        deadline = self.clock.now() + _SETTLE_S
        while (flows_a := self.current_a) < _FLOWS_FROM * expected_a:
            if self.clock.now() > deadline:
                raise self._line.error(
                    f"only {flows_a:.3g} A flow through the LED, {expected_a:.3g} A were expected",
                    todo="see whether the LED is connected to the terminal that the bench file names",
                )
            self.clock.sleep(_POLL_S)

    def _switch_off(self) -> None:
        self._told_on = False
        self._line.write(f"{_STATE} OFF")
        if self.is_on:
            raise self._line.error("the output did not go off", state="THE LAMP IS ON", todo=_GO_DARK)

    def _command(self, command: str) -> None:
        """Tell, and ask the error queue."""
        self._line.write(command)
        self._line.raise_errors(f"{command!r} was refused")

    def _require_nothing_tripped(self) -> None:
        if (word := self.tripped) != "nothing":
            raise self._line.error(f"the {word} protection of the lamp is tripped", todo=_PROTECTIONS[word][1])

    def _state_after_switching_off(self) -> str:
        try:
            self.switch_off()
        except InstrumentError as error:
            return f"THE LAMP MAY BE ON: it could not be switched off ({error.what})"
        return "the lamp is off"
