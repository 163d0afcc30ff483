"""Gentec-EO Maestro (Integra) with a pyroelectric energy head.

How a reading is made: the meter shows the last pulse until the next one comes, so each pulse is asked for in two steps,
`*NVU` (is there a new value?) and then `*CVU` (which?). At 115200 baud the two take about 7 ms: at 1 kHz one pulse in
seven is seen, a fair sample. The continuous transmission (`*CAU`) could carry nearly every pulse, but its rate follows
a setting of the front panel, and whether it repeats old values is not known; it is only stopped (`*CSU`) here.

What was pending when a reading starts may be older than the light now on the head: the first value is thrown away.

Not verified on hardware: whether commands of the traditional set need a terminator, and whether they answer `ACK` (both
are allowed for); the blanks in the reply of `*CVU` (a bare number is accepted, too); what an unknown command answers;
that `*CVU` ends the state `New Data Available`; how an over-range is shown (9.9E37 and anything at full scale are
refused); what `*SOU` takes for the offset when an old value is displayed; whether a joulemeter needs it at all; that a
range index n means 1 pJ or 3 pJ times a power of ten, which is checked against what `*DVS` says.
The trigger level cannot be read back: the layout of `*STS` is not known. Nor can it be told whether a value is in J or
in W: a wattmeter head needs the option ``wattmeter_head``.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Sequence
from statistics import fmean, stdev

from pydantic import BaseModel, ConfigDict, Field
from pymeasure.instruments import Instrument

from drivers.energy_meter.checks import require_positive
from labctl.clock import Clock
from labctl.errors import InputError, InstrumentError, InstrumentTimeout, LabctlError, NoPulse
from labctl.quantities import EnergyReading
from labctl.roles import Identity, ReadingPace, SafeStep
from labctl.transport.adapter import WireAdapter
from labctl.transport.settings import WireSettings

log = logging.getLogger(__name__)

_NUMBER = r"[+-]?\d+(?:\.\d*)?(?:[Ee][+-]?\d{1,3})?"
_VALUE = re.compile(rf"(?:Current Value\s*:\s*)?({_NUMBER})", re.IGNORECASE)
_VERSION = re.compile(r"([^\s:]+)\s+[^\s:]+\s+([^\s:]*\d[^\s:]*)")
_NEW = re.compile(r"(?:New Data )?(Not )?Available|([01])", re.IGNORECASE)
_VALID_RANGE = re.compile(rf"\[(\d+)\]\s*:\s*({_NUMBER})\s*([pnumkM\xb5]?)")
_PREFIXES = {"p": 1e-12, "n": 1e-9, "u": 1e-6, "\xb5": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6}
_OVER_RANGE_J = 9e37
_AT_FULL_SCALE = 0.999
_MOST_INDEX = 41
_WAVELENGTHS = range(1, 100000)
_POLL_S = 2e-3
_QUIET_S = 0.1
_SYNCHRONISE_S = 0.5
_ZERO_POLL_S = 0.1
_SLOW_EXCHANGE_S = 0.01
_MOST_OLD_LINES = 1000

_WAVELENGTH = "wavelength"
_RANGE = "range"


class GentecMaestro(Instrument):
    """A Maestro as pulse-energy meter.

    :param adapter: The wire.
    :param name: Name for messages.
    :param clock: Clock of the run.
    :param options: See :class:`Options`.
    """

    LINK = WireSettings(write_termination=b"\r\n", read_termination=b"\r\n", timeout_s=0.5, baud_rate=115200)
    ROLE = "energy_meter"
    PACE = ReadingPace(overhead_s=0.3, pulse_s=0.02)

    class Options(BaseModel):
        """Options of the instrument in the bench file.

        :param trigger_percent: Internal trigger level in percent of the range; none leaves the meter's (2 % at first).
        :param wattmeter_head: Whether the head is a wattmeter that is to measure single pulses.
        :param reading_timeout_s: Longest time to wait for one pulse.
        :param dark_s: No pulse may come within this time before zeroing: longer than the period of the laser.
        :param zero_timeout_s: Longest time for zeroing.
        :param zero_limit_j: A larger change by zeroing means that it was no offset of the electronics.
        """

        model_config = ConfigDict(frozen=True, extra="forbid")

        trigger_percent: float | None = Field(default=None, ge=0.1, le=99.9)
        wattmeter_head: bool = False
        reading_timeout_s: float = Field(default=3.0, gt=0)
        dark_s: float = Field(default=0.3, gt=0)
        zero_timeout_s: float = Field(default=30.0, gt=0)
        zero_limit_j: float = Field(default=1e-6, gt=0)

    adapter: WireAdapter

    def __init__(
        self, adapter: WireAdapter, name: str = "Gentec-EO Maestro", *, clock: Clock, **options: object
    ) -> None:
        super().__init__(adapter, name, includeSCPI=False)
        self.clock = clock
        self._chosen = self.Options.model_validate(options)
        self._out_of_step = True
        self._ranges: list[int] = []
        self._settings: dict[str, int] = {}

    def start_up(self) -> None:
        """Stop what the meter sends unasked, undo what others have set, and read which ranges the head has."""
        with self.adapter.exclusive():
            self._settings.clear()
            self._synchronise()
            self._ranges = self._read_ranges()
            self._send("*SAS0")
            if self._flag("*GAS", "AutoScale"):
                raise self._error("the meter refused to switch autoscale off")
            self._undo("*GUM", "User Multiplier", "*MUL1.000000", 1.0)
            self._undo("*GUO", "User Offset", "*OFF0.000000", 0.0)
            if self._chosen.wattmeter_head:
                self._send("*SCA1")
            if self._chosen.trigger_percent is not None:
                self._send(f"*STL{_four_characters(self._chosen.trigger_percent)}")
            self._warn_of_a_slow_link()

    def identify(self) -> Identity:
        """Get model and firmware (`*VER` tells no serial number); raises InstrumentError for another form."""
        found = _VERSION.fullmatch(self._query("*VER"))
        if not found:
            raise self._error("the version is not of the form: model, word, number")
        return Identity("Gentec-EO", found[1], firmware=found[2])

    @property
    def wavelength_nm(self) -> float:
        """Control the wavelength of the calibration in nm; the meter knows whole nanometres.

        Setting rounds to them and reads back; raises InstrumentError if the meter refused or clamped it.
        """
        return float(self._matched("*GWL", r"PWC\s*:\s*(\d+)"))

    @wavelength_nm.setter
    def wavelength_nm(self, value: float) -> None:
        require_positive("wavelength", value)
        whole = round(value)
        if whole not in _WAVELENGTHS:
            raise InputError(f"{value!r} nm is no wavelength that the meter can be told", where="energy_meter")
        with self.adapter.exclusive():
            self._settings.pop(_WAVELENGTH, None)
            self._send(f"*PWC{whole:05d}")
            if (reached := self.wavelength_nm) != whole:
                raise self._error(
                    f"the meter refused a calibration wavelength of {whole} nm: it stands at {reached:g} nm",
                    todo="choose a wavelength within the range of the head",
                )
            self._settings[_WAVELENGTH] = whole

    @property
    def range_j(self) -> float:
        """Control the measuring range in J (full scale).

        Setting chooses the smallest range of the head that holds ``value``; raises InstrumentError if it has none or
        the meter does not take it.
        """
        return full_scale_j(self._range_index())

    @range_j.setter
    def range_j(self, value: float) -> None:
        require_positive("range", value)
        with self.adapter.exclusive():
            fitting = [index for index in self._known_ranges() if full_scale_j(index) >= value * (1 - 1e-6)]
            if not fitting:
                raise self._error(f"the head has no range of {value:g} J; its largest is {self.largest_range_j:g} J")
            self._settings.pop(_RANGE, None)
            self._send(f"*SCS{fitting[0]:02d}")
            if (reached := self._range_index()) != fitting[0]:
                raise self._error(f"the meter refused range {fitting[0]}: it stands at range {reached}")
            self._settings[_RANGE] = reached

    @property
    def largest_range_j(self) -> float:
        """Get the largest measuring range of the head in J (full scale)."""
        return full_scale_j(self._known_ranges()[-1])

    def zero(self) -> float:
        """Zero the meter; returns by how much that lowered the displayed value, in J.

        The beam must be blocked. Raises InstrumentError if pulses come, or if zeroing changed the display by so much
        that it was no offset of the electronics (the zero is cleared then), InstrumentTimeout if it does not end.
        """
        with self.adapter.exclusive():
            self._require_darkness()
            self._send("*COU")
            before_j = self._value_j()
            self._send("*SOU")
            deadline = self.clock.now() + self._chosen.zero_timeout_s
            while not self._flag("*GZO", "Zero"):
                if self.clock.now() > deadline:
                    self._send("*COU")
                    raise InstrumentTimeout(
                        f"zeroing has not ended within {self._chosen.zero_timeout_s:g} s",
                        exchange=self.adapter.last,
                        where=self.adapter.name,
                        state="the zero offset was cleared",
                        todo="block the beam and zero again",
                    )
                self.clock.sleep(_ZERO_POLL_S)
            removed_j = before_j - self._value_j()
            if abs(removed_j) > self._chosen.zero_limit_j:
                self._send("*COU")
                raise self._error(
                    f"zeroing removed {removed_j:.3g} J, more than {self._chosen.zero_limit_j:.3g} J",
                    state="the zero offset was cleared",
                    todo="block the beam and zero again; the option zero_limit_j sets what is plausible",
                )
        return removed_j

    def measure(self, pulses: int) -> EnergyReading:
        """Measure the energy of ``pulses`` pulses (two are the fewest that have a spread), each asked for by itself.

        Raises InputError for ``pulses`` < 1, NoPulse if no pulse arrives, InstrumentError on over-range,
        when the wavelength was not set, or when the meter has lost its settings.
        """
        if pulses < 1:
            raise InputError(f"cannot measure {pulses} pulses", where="energy_meter", todo="ask for 1 or more")
        with self.adapter.exclusive():
            self._require_settings()
            full_j = full_scale_j(self._settings.get(_RANGE) or self._range_index())
            self._new_value_j()
            values_j = [self._within(self._new_value_j(), full_j) for _ in range(max(pulses, 2))]
        return EnergyReading(fmean(values_j), stdev(values_j), len(values_j))

    def make_safe(self) -> Sequence[SafeStep]:
        """Stop a continuous transmission and report the state: the meter itself endangers nothing."""
        action = "stop any transmission of energies"
        try:
            with self.adapter.seize():
                if self._out_of_step:
                    self._synchronise()
                self._send("*CSU")
                state = f"wavelength {self.wavelength_nm:g} nm, range {self.range_j:g} J"
                return [SafeStep(action, True, f"*GCR answered {self.adapter.last.received}: {state}")]
        except (LabctlError, OSError) as error:
            return [SafeStep(action, False, str(error))]

    def close(self) -> None:
        """Close the connection."""
        self.adapter.close()

    def _send(self, command: str) -> None:
        """Send a command that need not be answered; its `ACK`, if there is one, is dropped before the next reply."""
        with self.adapter.exclusive():
            if self._out_of_step:
                self._synchronise()
            self.adapter.write(command)

    def _query(self, command: str) -> str:
        """Send a query and read its reply; after silence the next command gets in step with the meter first."""
        with self.adapter.exclusive():
            self._send(command)
            self._out_of_step = True
            while (reply := self.adapter.read().strip()).upper() == "ACK":
                pass
            self._out_of_step = False
            return reply

    def _matched(self, query: str, form: str) -> str:
        reply = self._query(query)
        found = re.fullmatch(form, reply, re.IGNORECASE)
        if not found:
            self._out_of_step = True
            raise self._error(f"{reply!r} is no answer to {query}")
        return found[1]

    def _flag(self, query: str, name: str) -> bool:
        return self._matched(query, rf"(?:{name}\s*:\s*)?([01])") == "1"

    def _range_index(self) -> int:
        index = int(self._matched("*GCR", r"(?:Range\s*:\s*)?(\d{1,2})"))
        if index > _MOST_INDEX:
            raise self._error(f"{index} is no index of a range")
        return index

    def _value_j(self) -> float:
        return float(self._matched("*CVU", _VALUE.pattern))

    def _is_new(self) -> bool:
        reply = self._query("*NVU")
        found = _NEW.fullmatch(reply)
        if not found:
            self._out_of_step = True
            raise self._error(f"{reply!r} is no answer to *NVU")
        return found[2] == "1" if found[2] else not found[1]

    def _new_value_j(self) -> float:
        """Wait for a new value and get it; raises NoPulse if there is none."""
        deadline = self.clock.now() + self._chosen.reading_timeout_s
        while not self._is_new():
            if self.clock.now() > deadline:
                raise NoPulse(
                    f"no pulse reached the energy meter within {self._chosen.reading_timeout_s:g} s",
                    exchange=self.adapter.last,
                    where=self.adapter.name,
                    state="the meter answers",
                    todo="open the shutter; check that the laser fires; choose a smaller range or trigger_percent;"
                    " for a slow laser set reading_timeout_s above its period",
                )
            self.clock.sleep(_POLL_S)
        return self._value_j()

    def _within(self, value_j: float, full_j: float) -> float:
        if value_j >= _OVER_RANGE_J or value_j > _AT_FULL_SCALE * full_j:
            raise self._error(
                f"pulses exceed the measuring range of {full_j:g} J", todo="choose a larger range_j, or attenuate"
            )
        return value_j

    def _require_settings(self) -> None:
        if _WAVELENGTH not in self._settings:
            raise self._error("the calibration wavelength was not set", todo="set wavelength_nm before measuring")
        found = {_WAVELENGTH: round(self.wavelength_nm), _RANGE: self._range_index()}
        for name, expected in self._settings.items():
            if found[name] != expected:
                unit = "nm" if name == _WAVELENGTH else "(index)"
                raise self._error(
                    f"the {name} stands at {found[name]} instead of {expected} {unit}: the meter was switched off, or"
                    " set by hand",
                    state="readings since the last point are in doubt",
                    todo="start the instrument up again, set wavelength and range, zero it",
                )

    def _require_darkness(self) -> None:
        """Refuse to zero while pulses come; what was pending from before is read first."""
        if self._is_new():
            self._value_j()
        deadline = self.clock.now() + self._chosen.dark_s
        while self.clock.now() < deadline:
            if self._is_new():
                raise self._error(
                    "cannot zero: pulses reach the head", state="the zero was not changed", todo="block the beam"
                )
            self.clock.sleep(_POLL_S)

    def _undo(self, query: str, name: str, command: str, neutral: float) -> None:
        form = rf"(?:{name}\s*:\s*)?({_NUMBER})"
        if (found := float(self._matched(query, form))) == neutral:
            return
        log.warning("%s: the %s was %g; it is set to %g", self.name, name, found, neutral)
        self._send(command)
        if float(self._matched(query, form)) != neutral:
            raise self._error(f"the {name} stays at {found:g}: all energies would be wrong", todo="reset it by hand")

    def _known_ranges(self) -> list[int]:
        if not self._ranges:
            self._ranges = self._read_ranges()
        return self._ranges

    def _read_ranges(self) -> list[int]:
        """Read the ranges of the head: a list without an end, so until the line is quiet."""
        with self.adapter.exclusive():
            first = self._query("*DVS")
            self._out_of_step = True
            with self.adapter.patience(_QUIET_S):
                rest = self.adapter.read_bytes(-1).decode("latin-1")
            self._out_of_step = False
            indices = []
            for line in filter(None, (first, *(line.strip() for line in rest.splitlines()))):
                found = _VALID_RANGE.fullmatch(line)
                if not found or int(found[1]) > _MOST_INDEX:
                    raise self._error(f"{line!r} is no range of the head")
                index, scale_j = int(found[1]), float(found[2]) * _PREFIXES[found[3]]
                if not math.isclose(scale_j, full_scale_j(index), rel_tol=0.01):
                    raise self._error(f"range {index} is {scale_j:g} J, where {full_scale_j(index):g} J was expected")
                indices.append(index)
            return sorted(indices)

    def _synchronise(self) -> None:
        """Stop a transmission and read until the meter has answered `*VER`, whose reply cannot be mistaken."""
        self._out_of_step = True
        with self.adapter.exclusive(), self.adapter.patience(_SYNCHRONISE_S):
            try:
                self._await_version()
            except InstrumentTimeout:
                self.adapter.reconnect()
                self._await_version()
            with self.adapter.patience(_QUIET_S):
                self.adapter.read_bytes(-1)
            self._out_of_step = False

    def _await_version(self) -> None:
        self.adapter.write("*CSU")
        self.adapter.flush_read_buffer()
        self.adapter.write("*VER")
        deadline = self.clock.now() + _SYNCHRONISE_S
        for _ in range(_MOST_OLD_LINES):
            if _VERSION.fullmatch(self.adapter.read().strip()):
                return
            if self.clock.now() > deadline:
                break
        raise InstrumentTimeout(
            "the meter talks, but does not answer *VER", exchange=self.adapter.last, where=self.adapter.name
        )

    def _warn_of_a_slow_link(self) -> None:
        started_s = self.clock.now()
        self._is_new()
        if (elapsed_s := self.clock.now() - started_s) > _SLOW_EXCHANGE_S:
            log.warning(
                "%s: an exchange takes %.0f ms: readings take longer than planned; set the latency timer of the USB"
                " converter to 1 ms",
                self.name,
                1e3 * elapsed_s,
            )

    def _error(self, what: str, *, state: str = "", todo: str = "") -> InstrumentError:
        return InstrumentError(what, exchange=self.adapter.last, where=self.adapter.name, state=state, todo=todo)


def full_scale_j(index: int) -> float:
    """Get the full scale of a range in J: 1 pJ, 3 pJ, 10 pJ, ... for the indices 0, 1, 2, ... 41."""
    return float(f"{3 if index % 2 else 1}e{index // 2 - 12}")


def _four_characters(percent: float) -> str:
    return f"{percent:.1f}" if percent >= 9.995 else f"{percent:.2f}"
