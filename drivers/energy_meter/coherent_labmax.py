"""Coherent LabMax-TOP and LabMax-Pro with a pyroelectric energy head.

How a reading is made: the meter collects records of single pulses by itself (`CONF:READ:CONT STRE`, `INIT`), is asked
how many there are (`FETC:NREC?`), told to stop (`ABOR`), and sends them all (`FETC:ALL?`). So every pulse is seen, and
the first of those that came since `INIT` are used. At 115200 baud a record takes 1.6 ms.

TOP and Pro differ in a few words only (:class:`Dialect`); which one it is, `*IDN?` tells. Lines `OK` (handshaking) and
bytes 0x05 (service requests) are skipped wherever they come, so a meter that was switched off and on does not get the
driver out of step. Without handshaking the meter is said to need about 0.1 s after a command: the driver waits so long
after each one that has no reply.

Not verified on hardware: that the Pro takes `INIT`, `ABOR` and `FETC` (one client uses other words with a LabMax);
`CONF:MEAS:MODE` is used with the Pro only; the error codes, so no error queue is read: each setting is read back
instead; `CONF:RANG:SEL? MAX`; the bits of `SYST:STAT?`, so the status is shown but not judged; whether `INIT` empties
the buffer (what is left over is fetched before) and how many records it holds (at most 500 are collected at a time);
how long `CONF:ZERO` takes and what it removes, which the meter does not tell; XON/XOFF, which one client uses.
"""

from __future__ import annotations

import itertools
import logging
import math
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
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

_IDENTITY = re.compile(r"Coherent, Inc\b[\s.,-]*(.*)")
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d*)?(?:E[+-]?\d{1,3})?", re.IGNORECASE)
_COUNT = re.compile(r"\d{1,9}")
_STATUS = re.compile(r"[0-9A-F]{8}", re.IGNORECASE)
_SERVICE = "\x05"
_OVER_RANGE_J = 9e37
_WAVELENGTH_TOLERANCE_NM = 0.5
_BATCH = 500
_POLL_S = 0.02
_SYNCHRONISE_S = 0.5
_QUIET_S = 0.1
_MOST_SKIPPED_LINES = 1000

_STOP = ("SYST:REM", "ABOR")
_TAKE_CONTROL = (*_STOP, "SYST:COMM:HAND OFF", "SYST:COMM:SER:SERV OFF")
_WAVELENGTH = "CONF:WAVE:WAVE"
_CORRECTION = "CONF:WAVE:CORR"
_RANGE = "CONF:RANG:SEL"
_AUTO_RANGE = "CONF:RANG:AUTO"


@dataclass(frozen=True, slots=True)
class Dialect:
    """The words in which the models differ.

    :param measure: Header of the quantity that is measured.
    :param select: Header of what a record contains.
    :param items: What this driver has the records contain, in order; the energy first.
    :param settings: Further settings of the records.
    """

    measure: str
    select: str
    items: tuple[str, ...]
    settings: tuple[tuple[str, str], ...]


_STREAM = ("CONF:READ:CONT", "STRE")
TOP = Dialect("CONF:MEAS", "CONF:READ:SEND", ("PRI", "UNIT", "PER"), (("CONF:READ:HEAD", "OFF"), _STREAM))
PRO = Dialect("CONF:MEAS:MODE", "CONF:ITEMSELECT", ("PRI", "SEQ", "PER"), (_STREAM,))


class CoherentLabMax(Instrument):
    """A LabMax as pulse-energy meter.

    :param adapter: The wire. The meter must be set to 115200 baud.
    :param name: Name for messages.
    :param clock: Clock of the run.
    :param options: See :class:`Options`.
    """

    LINK = WireSettings(
        write_termination=b"\r\n", read_termination=b"\r\n", timeout_s=1.0, baud_rate=115200, xonxoff=True
    )
    ROLE = "energy_meter"
    PACE = ReadingPace(overhead_s=1.0, pulse_s=3.5e-3)

    class Options(BaseModel):
        """Options of the instrument in the bench file.

        :param trigger_percent: Internal trigger level in percent of the range; none leaves the meter's.
        :param reading_timeout_s: Longest time to wait for one pulse.
        :param command_pause_s: Pause after a command that has no reply.
        :param dark_s: No pulse may come within this time before zeroing: longer than the period of the laser.
        :param zero_s: Time that is given to zeroing (how long it takes is not verified).
        :param zero_timeout_s: Longest time until the meter answers again after zeroing.
        """

        model_config = ConfigDict(frozen=True, extra="forbid")

        trigger_percent: float | None = Field(default=None, gt=0, le=100)
        reading_timeout_s: float = Field(default=3.0, gt=0)
        command_pause_s: float = Field(default=0.1, ge=0)
        dark_s: float = Field(default=0.3, gt=0)
        zero_s: float = Field(default=3.0, gt=0)
        zero_timeout_s: float = Field(default=30.0, gt=0)

    adapter: WireAdapter

    def __init__(self, adapter: WireAdapter, name: str = "Coherent LabMax", *, clock: Clock, **options: object) -> None:
        super().__init__(adapter, name, includeSCPI=False)
        self.clock = clock
        self._chosen = self.Options.model_validate(options)
        self._out_of_step = True
        self._dialect = TOP
        self._settings: dict[str, str] = {}

    def start_up(self) -> None:
        """Take the meter under remote control, switch handshaking off, and have it record the energy of pulses."""
        with self.adapter.exclusive():
            self._settings.clear()
            self._synchronise()
            self._dialect = PRO if "labmax-pro" in self.identify().model.lower() else TOP
            log.info("%s: status %s", self.name, self._matched("SYST:STAT?", _STATUS))
            self._set(self._dialect.measure, "J", todo="plug in an energy head")
            self._set(self._dialect.select, ",".join(self._dialect.items))
            for header, value in self._dialect.settings:
                self._set(header, value)
            self._set("TRIG:SOUR", "INT")
            self._set(_AUTO_RANGE, "OFF")
            if self._chosen.trigger_percent is not None:
                self._set_number("TRIG:PERC:LEV", self._chosen.trigger_percent)

    def identify(self) -> Identity:
        """Get vendor, model and firmware; raises InstrumentError for an instrument of another maker."""
        reply = self._query("*IDN?")
        found = _IDENTITY.fullmatch(reply)
        if not found:
            raise self._error(f"{reply!r} is not the identity of a LabMax", todo="check `resource` in the bench file")
        model, *rest = found[1].split(" - ")
        firmware = next((part for part in rest if re.match(r"V?\d", part)), "")
        return Identity("Coherent", model or "LabMax", firmware=firmware)

    @property
    def wavelength_nm(self) -> float:
        """Control the wavelength of the calibration in nm, and switch the correction for it on.

        Setting reads back; raises InstrumentError if the meter refused or clamped it. No energy is measured before it
        has been set.
        """
        return self._number(f"{_WAVELENGTH}?")

    @wavelength_nm.setter
    def wavelength_nm(self, value: float) -> None:
        require_positive("wavelength", value)
        with self.adapter.exclusive():
            self._set(_CORRECTION, "ON")
            reached = self._set_number(_WAVELENGTH, value)
            if abs(reached - value) > _WAVELENGTH_TOLERANCE_NM:
                del self._settings[_WAVELENGTH]
                raise self._error(
                    f"the meter refused a calibration wavelength of {value:g} nm: it stands at {reached:g} nm"
                )

    @property
    def range_j(self) -> float:
        """Control the measuring range in J (full scale).

        Setting has the meter choose its next range that holds ``value``; raises InstrumentError if it has none.
        """
        return self._number(f"{_RANGE}?")

    @range_j.setter
    def range_j(self, value: float) -> None:
        require_positive("range", value)
        reached = self._set_number(_RANGE, value)
        if reached < value * (1 - 1e-3):
            raise self._error(f"the meter refused a range of {value:g} J: it stands at {reached:g} J")

    @property
    def largest_range_j(self) -> float:
        """Get the largest measuring range of the head in J (full scale)."""
        return self._number(f"{_RANGE}? MAX")

    def zero(self) -> float:
        """Zero the meter; returns nan, for the meter does not tell what it removed.

        The beam must be blocked. Raises InstrumentError if pulses come, InstrumentTimeout if the meter does not answer
        afterwards.
        """
        with self.adapter.exclusive():
            self._require_darkness()
            self._send("CONF:ZERO")
            self.clock.sleep(self._chosen.zero_s)
            with self.adapter.patience(self._chosen.zero_timeout_s):
                self._matched("SYST:STAT?", _STATUS)
        return math.nan

    def measure(self, pulses: int) -> EnergyReading:
        """Measure the energy of ``pulses`` successive pulses (two are the fewest that have a spread).

        Raises InputError for ``pulses`` < 1, NoPulse if no pulse arrives, InstrumentError on over-range,
        when the wavelength was not set, or when the meter has lost its settings.
        """
        if pulses < 1:
            raise InputError(f"cannot measure {pulses} pulses", where="energy_meter", todo="ask for 1 or more")
        wanted = max(pulses, 2)
        energies_j: list[float] = []
        with self.adapter.exclusive():
            self._require_settings()
            while len(energies_j) < wanted:
                energies_j += self._collect(min(wanted - len(energies_j), _BATCH))
        return EnergyReading(fmean(energies_j), stdev(energies_j), len(energies_j))

    def make_safe(self) -> Sequence[SafeStep]:
        """Stop a collection of records and report the state: the meter itself endangers nothing."""
        action = "stop any energy reading"
        try:
            with self.adapter.seize():
                if self._out_of_step:
                    self._synchronise(_STOP)
                self._send("ABOR")
                state = f"status {self._matched('SYST:STAT?', _STATUS)}, wavelength {self.wavelength_nm:g} nm"
                range_j = self.range_j
                evidence = f"{_RANGE}? answered {self.adapter.last.received}: {state}, range {range_j:g} J"
                return [SafeStep(action, True, evidence)]
        except (LabctlError, OSError) as error:
            return [SafeStep(action, False, str(error))]

    def close(self) -> None:
        """Give the front panel back to the user and close the connection."""
        with suppress(LabctlError, OSError):
            if not self._out_of_step:
                self.adapter.write("SYST:LOC")
        self.adapter.close()

    def _collect(self, count: int) -> list[float]:
        """Collect records until there are ``count``; get the energies of the first ``count`` in J."""
        self._empty_buffer()
        try:
            self._send("INIT")
            self._await_records(count)
            self._send("ABOR")
            records = self._fetch(self._count())
        except BaseException:
            # The collection must be stopped before anything else is asked.
            self._out_of_step = True
            raise
        return [self._energy_j(record) for record in records[:count]]

    def _empty_buffer(self) -> None:
        if left_over := self._count():
            self._fetch(left_over)

    def _await_records(self, count: int) -> None:
        seen, deadline = 0, self.clock.now() + self._chosen.reading_timeout_s
        while (arrived := self._count()) < count:
            if arrived > seen:
                seen, deadline = arrived, self.clock.now() + self._chosen.reading_timeout_s
            elif self.clock.now() > deadline:
                raise NoPulse(
                    f"no pulse reached the energy meter within {self._chosen.reading_timeout_s:g} s; {seen} of {count}"
                    " had come",
                    exchange=self.adapter.last,
                    where=self.adapter.name,
                    state="the collection is stopped before the next command",
                    todo="open the shutter; check that the laser fires; choose a smaller range or trigger_percent;"
                    " for a slow laser set reading_timeout_s above its period",
                )
            self.clock.sleep(_POLL_S)

    def _count(self) -> int:
        return int(self._matched("FETC:NREC?", _COUNT))

    def _fetch(self, count: int) -> list[list[str]]:
        """Fetch all ``count`` records, one a line, as their fields."""
        self._out_of_step = True
        self.adapter.write("FETC:ALL?")
        records = [self._line().split(",") for _ in range(count)]
        self._out_of_step = False
        for record in records:
            if len(record) != len(self._dialect.items):
                raise self._error(f"{','.join(record)!r} is no record of {','.join(self._dialect.items)}")
        if "SEQ" in self._dialect.items:
            for before, after in itertools.pairwise(records):
                if _sequence(after) != _sequence(before) + 1:
                    raise self._error(f"a record is missing between {','.join(before)} and {','.join(after)}")
        return records

    def _energy_j(self, record: list[str]) -> float:
        energy, *_ = record
        if not _NUMBER.fullmatch(energy):
            raise self._error(f"{energy!r} is no energy")
        if "UNIT" in self._dialect.items and record[self._dialect.items.index("UNIT")].strip() != "J":
            raise self._error(f"the record {','.join(record)} is not in J", todo="start the instrument up again")
        if float(energy) >= _OVER_RANGE_J:
            raise self._error(
                f"pulses exceed the measuring range of {self._settings.get(_RANGE, '?')} J",
                todo="choose a larger range_j, or attenuate",
            )
        return float(energy)

    def _require_darkness(self) -> None:
        """Refuse to zero while pulses come."""
        self._empty_buffer()
        self._send("INIT")
        self.clock.sleep(self._chosen.dark_s)
        arrived = self._count()
        self._send("ABOR")
        if arrived:
            raise self._error(
                "cannot zero: pulses reach the head", state="the zero was not changed", todo="block the beam"
            )

    def _require_settings(self) -> None:
        if _WAVELENGTH not in self._settings:
            raise self._error("the calibration wavelength was not set", todo="set wavelength_nm before measuring")
        for header in (_WAVELENGTH, _CORRECTION, _RANGE, self._dialect.measure):
            expected = self._settings.get(header)
            if expected is not None and (found := self._query(f"{header}?")) != expected:
                raise self._error(
                    f"{header} stands at {found} instead of {expected}: the meter was switched off, or set by hand",
                    state="readings since the last point are in doubt",
                    todo="start the instrument up again, set wavelength and range, zero it",
                )

    def _set(self, header: str, value: str, *, todo: str = "") -> None:
        """Set a word, read it back and remember it."""
        with self.adapter.exclusive():
            self._send(f"{header} {value}")
            found = self._query(f"{header}?")
            if found.upper().replace(" ", "") != value:
                raise self._error(f"the meter refused {header} {value}: it stands at {found}", todo=todo)
            self._settings[header] = found

    def _set_number(self, header: str, value: float) -> float:
        """Set a number, read it back and remember it."""
        with self.adapter.exclusive():
            self._send(f"{header} {value:.6g}")
            self._settings[header] = self._matched(f"{header}?", _NUMBER)
            return float(self._settings[header])

    def _number(self, query: str) -> float:
        return float(self._matched(query, _NUMBER))

    def _matched(self, query: str, form: re.Pattern[str]) -> str:
        reply = self._query(query)
        if not form.fullmatch(reply):
            self._out_of_step = True
            raise self._error(f"{reply!r} is no answer to {query}")
        return reply

    def _send(self, command: str) -> None:
        """Send a command that has no reply, getting in step first if an earlier one failed."""
        with self.adapter.exclusive():
            if self._out_of_step:
                self._synchronise()
            self._write(command)

    def _write(self, command: str) -> None:
        self.adapter.write(command)
        self.clock.sleep(self._chosen.command_pause_s)

    def _query(self, command: str) -> str:
        """Send a query and read its reply, getting in step first if an earlier one failed."""
        with self.adapter.exclusive():
            if self._out_of_step:
                self._synchronise()
            self._out_of_step = True
            self.adapter.write(command)
            reply = self._line()
            self._out_of_step = False
            return reply

    def _line(self) -> str:
        """Read a line of data: no `OK` of the handshaking, no service bytes."""
        for _ in range(_MOST_SKIPPED_LINES):
            line = self.adapter.read().replace(_SERVICE, "").strip()
            if line not in ("", "OK"):
                return line
        raise self._error("the meter sends nothing but acknowledgements")

    def _synchronise(self, commands: Sequence[str] = _TAKE_CONTROL) -> None:
        """Take the meter under control, stop what goes on, and read until it has answered `*IDN?`."""
        self._out_of_step = True
        with self.adapter.exclusive(), self.adapter.patience(_SYNCHRONISE_S):
            try:
                self._take_control(commands)
            except InstrumentTimeout:
                self.adapter.reconnect()
                self._take_control(commands)
            with self.adapter.patience(_QUIET_S):
                self.adapter.read_bytes(-1)
            self._out_of_step = False

    def _take_control(self, commands: Sequence[str]) -> None:
        for command in commands:
            self._write(command)
        with self.adapter.patience(_QUIET_S):
            self.adapter.read_bytes(-1)
        self.adapter.write("*IDN?")
        for _ in range(_MOST_SKIPPED_LINES):
            if self._line().startswith("Coherent"):
                return
        raise InstrumentTimeout(
            "the meter talks, but does not answer *IDN?", exchange=self.adapter.last, where=self.adapter.name
        )

    def _error(self, what: str, *, state: str = "", todo: str = "") -> InstrumentError:
        return InstrumentError(what, exchange=self.adapter.last, where=self.adapter.name, state=state, todo=todo)


def _sequence(record: list[str]) -> int:
    number = record[PRO.items.index("SEQ")]
    return int(number) if number.isdecimal() else -1
