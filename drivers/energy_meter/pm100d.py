"""Thorlabs PM100D (PM100A, PM100USB, PM400) with a pyroelectric energy head.

How a reading is made: the meter averages samples of about 3 ms, so at 1 kHz it follows one pulse in three. To ask for
every pulse would cost a round trip each and follow no more. Therefore :meth:`PM100D.measure` has the meter average
blocks of pulses and reads ten blocks: 100 pulses take about 0.3 s at 1 kHz, during which the laser fires 300 times.
The spread of the block means gives the spread from pulse to pulse.

Not verified on hardware: that `SENS:AVER:COUN` averages in energy mode (option ``averaging = false`` reads pulse by
pulse instead), the highest usable repetition rate, how `MEAS:ENER?` and `READ?` behave without a pulse, that `ABOR`
ends them, the unit of `SENS:PEAK:THR`, and that `SENS:CORR:COLL:ZERO:MAGN?` is in J for an energy head.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Sequence
from statistics import fmean, median, stdev

from pydantic import BaseModel, ConfigDict, Field
from pymeasure.instruments import SCPIUnknownMixin
from pymeasure.instruments.thorlabs import ThorlabsPM100USB

from drivers.energy_meter.checks import require_positive
from labctl.clock import Clock
from labctl.errors import InputError, InstrumentError, InstrumentTimeout, LabctlError, NoPulse
from labctl.quantities import EnergyReading
from labctl.roles import Identity, Readiness, SafeStep
from labctl.transport.adapter import WireAdapter
from labctl.transport.settings import WireSettings

log = logging.getLogger(__name__)

_NUMBER = re.compile(r"([+-]?)(\d+(?:\.\d*)?)(?:E[+-]?\d{1,3})?", re.IGNORECASE)
_OVER_RANGE = 9e37
_BLOCKS = 10
_OUTLIER_FACTOR = 3.0
_WAVELENGTH_TOLERANCE_NM = 0.5
_ZERO_POLL_S = 0.2
_ZERO_TRIES = 2
_SYNCHRONISE_S = 0.5
_QUIET_S = 0.05
_ERRORS_AT_MOST = 32

_WAVELENGTH = "SENS:CORR:WAV"
_RANGE = "SENS:ENER:RANG"
_AVERAGE = "SENS:AVER:COUN"
_TRIGGER = "SENS:PEAK:THR"
_ZERO = "SENS:CORR:COLL:ZERO"
_READ = "READ?"
_NO_PULSE = (
    "open the shutter; check that the laser fires; choose a smaller range or trigger_percent; "
    "for a slow laser set reading_timeout_s to the time of a tenth of the pulses"
)


class PM100D(ThorlabsPM100USB):
    """A PM100D as pulse-energy meter.

    Flags and names of the sensor, `wavelength_min`, `wavelength_max` and the SCPI basics are pymeasure's own;
    docs/decisions/0004-build-on-pymeasures-pm100.md says what is not and why.

    :param adapter: The wire.
    :param clock: Clock of the run.
    :param options: See :class:`Options`.
    """

    LINK = WireSettings(write_termination=b"\n", read_termination=b"\n", timeout_s=2.0)
    ROLE = "energy_meter"

    class Options(BaseModel):
        """Options of the instrument in the bench file.

        :param averaging: Whether the meter averages blocks of pulses; false reads pulse by pulse.
        :param trigger_percent: Trigger threshold in percent of the range (unit not verified); none leaves the meter's.
        :param reading_timeout_s: Longest time for one reading, a block of up to a tenth of the pulses asked for.
        :param zero_timeout_s: Longest time for zeroing.
        :param zero_limit_j: A larger offset means that light reached the head while it was zeroed.
        """

        model_config = ConfigDict(frozen=True, extra="forbid")

        averaging: bool = True
        trigger_percent: float | None = Field(default=None, gt=0, le=100)
        reading_timeout_s: float = Field(default=3.0, gt=0)
        zero_timeout_s: float = Field(default=30.0, gt=0)
        zero_limit_j: float = Field(default=1e-6, gt=0)

    adapter: WireAdapter

    def __init__(self, adapter: WireAdapter, name: str = "Thorlabs PM100D", *, clock: Clock, **options: object) -> None:
        self._out_of_step = True
        self._settings: dict[str, float] = {}
        # The parent's constructor would talk to the meter; the mixin's warns that SCPI is not known to be spoken.
        super(SCPIUnknownMixin, self).__init__(adapter, name)
        self.clock = clock
        self._chosen = self.Options.model_validate(options)

    def start_up(self) -> None:
        """Get in step with the meter, check that an energy head is plugged in, and select energy mode."""
        with self.adapter.exclusive():
            self._settings.clear()
            for error in self._synchronise():
                log.warning("%s had an old error in its queue: %s", self.name, error)
            self._read_sensor()
            self.write("CONF:ENER")
            self._raise_errors("the meter refused energy mode")
            self._set(_AVERAGE, 1)
            if self._chosen.trigger_percent is not None:
                self._set(_TRIGGER, self._chosen.trigger_percent)

    def identify(self) -> Identity:
        """Get vendor, model, serial number and firmware; raises InstrumentError when `*IDN?` has another form."""
        fields = self.ask("*IDN?").strip().split(",")
        if len(fields) != 4:
            raise self._error("the identity is not of the form vendor,model,serial,firmware")
        return Identity(*(field.strip() for field in fields))

    def readiness(self) -> Sequence[Readiness]:
        """Measure whether an energy head is plugged in; sets nothing."""
        with self.adapter.exclusive():
            try:
                self._read_sensor()
            except InstrumentTimeout:
                raise
            except InstrumentError as error:
                return (Readiness("sensor", False, f"{error.what}: {error.todo}"),)
        return (Readiness("sensor", True, self.sensor_name),)

    @property
    def wavelength_nm(self) -> float:
        """Control the wavelength of the calibration in nm, within the head's range.

        Setting reads back; raises InstrumentError if the meter refused or clamped it. No energy is measured before it
        has been set: at power-up the meter stands at some other wavelength and its energies are wrong.
        """
        return self._number(f"{_WAVELENGTH}?")

    @wavelength_nm.setter
    def wavelength_nm(self, value: float) -> None:
        require_positive("wavelength", value)
        reached = self._set(_WAVELENGTH, value)
        if abs(reached - value) > _WAVELENGTH_TOLERANCE_NM:
            del self._settings[_WAVELENGTH]
            raise self._refused(f"a calibration wavelength of {value:g} nm: it stands at {reached:g} nm")

    @property
    def wavelength(self) -> float:
        """Control the wavelength in nm by pymeasure's name; unlike there it is never clipped silently."""
        return self.wavelength_nm

    @wavelength.setter
    def wavelength(self, value: float) -> None:
        self.wavelength_nm = value

    @property
    def range_j(self) -> float:
        """Control the measuring range in J (full scale).

        Setting has the meter choose its next range that holds ``value``; raises InstrumentError if it has none, and
        when read if it is no longer the one that was set.
        """
        return self._require(_RANGE) if _RANGE in self._settings else self._number(f"{_RANGE}?")

    @range_j.setter
    def range_j(self, value: float) -> None:
        require_positive("range", value)
        reached = self._set(_RANGE, value)
        if reached < value * (1 - 1e-6):
            raise self._refused(f"a range of {value:g} J: it stands at {reached:g} J")

    @property
    def largest_range_j(self) -> float:
        """Get the largest measuring range of the head in J (full scale)."""
        return self._number(f"{_RANGE}? MAX")

    @property
    def energy(self) -> float:
        """Measure the energy in J as one reading; raises NoPulse if no pulse arrives."""
        return self.measure(2).mean_j

    def zero(self) -> float:
        """Zero the meter; returns the offset that was removed, in J.

        The beam must be blocked: the meter takes whatever light it sees for offset. Raises InstrumentError if the
        offset is so large that it must be light, InstrumentTimeout if zeroing does not end.
        """
        with self.adapter.exclusive():
            self._start_zeroing()
            deadline = self.clock.now() + self._chosen.zero_timeout_s
            while self._number(f"{_ZERO}:STAT?") != 0:
                if self.clock.now() > deadline:
                    self.write(f"{_ZERO}:ABOR")
                    raise InstrumentTimeout(
                        f"zeroing has not ended within {self._chosen.zero_timeout_s:g} s",
                        exchange=self.adapter.last,
                        where=self.adapter.name,
                        state="zeroing was aborted; the old offset may be in force",
                        todo="block the beam and zero again",
                    )
                self.clock.sleep(_ZERO_POLL_S)
            offset_j = self._number(f"{_ZERO}:MAGN?")
        if abs(offset_j) > self._chosen.zero_limit_j:
            raise self._error(
                f"zeroing removed {offset_j:.3g} J, more than {self._chosen.zero_limit_j:.3g} J",
                state="the meter now subtracts this offset: its energies are wrong",
                todo="block the beam and zero again; the option zero_limit_j sets what is plausible",
            )
        return offset_j

    def _start_zeroing(self) -> None:
        """Start zeroing and see that it goes on: a command that was lost would leave the old offset in force."""
        for _ in range(_ZERO_TRIES):
            self.write(f"{_ZERO}:INIT")
            self._raise_errors("the meter refused to zero")
            if self._number(f"{_ZERO}:STAT?") != 0:
                return
        raise self._error(
            "the meter does not begin to zero",
            state="the old offset is in force",
            todo="try again; zero it at the meter and set zero-meter = false",
        )

    def measure(self, pulses: int) -> EnergyReading:
        """Measure the energy of at least ``pulses`` pulses (two are the fewest that have a spread).

        Mean of n block means, each over m pulses as averaged by the meter; the standard deviation from pulse to pulse
        is that of the block means times √m, which holds for pulses that fluctuate independently. With the ten blocks
        used it is itself known to 24 %.

        Raises InputError for ``pulses`` < 1, NoPulse if no pulse arrives, InstrumentTimeout if the meter is silent,
        InstrumentError on over-range, when the wavelength was not set, or when the meter has lost its settings.
        """
        if pulses < 1:
            raise InputError(f"cannot measure {pulses} pulses", where="energy_meter", todo="ask for 1 or more")
        wanted = max(pulses, 2)
        blocks = min(wanted, _BLOCKS) if self._chosen.averaging else wanted
        average = math.ceil(wanted / blocks)
        with self.adapter.exclusive():
            self._require_settings()
            if self._settings.get(_AVERAGE) != average and self._set(_AVERAGE, average) != average:
                raise self._refused(f"to average {average} pulses; the option averaging = false does without")
            with self.adapter.patience(self._chosen.reading_timeout_s):
                readings_j = self._read_blocks(blocks)
            # A meter that was switched off and on meanwhile has read with other settings.
            self._require_settings()
        return EnergyReading(fmean(readings_j), stdev(readings_j) * math.sqrt(average), blocks * average)

    def make_safe(self) -> Sequence[SafeStep]:
        """Stop a reading that waits and report the state: the meter itself endangers nothing."""
        action = "stop any energy reading"
        try:
            with self.adapter.seize():
                if self._out_of_step:
                    self._synchronise()
                state = f"wavelength {self.wavelength_nm:g} nm, range {self._number(f'{_RANGE}?'):g} J"
                return [SafeStep(action, True, f"{_RANGE}? answered {self.adapter.last.received}: {state}")]
        except (LabctlError, OSError) as error:
            return [SafeStep(action, False, str(error))]

    def close(self) -> None:
        """Close the connection."""
        self.adapter.close()

    def write(self, command: str, **kwargs: object) -> None:
        """Write a command, after getting in step again if an earlier one was never answered."""
        with self.adapter.exclusive():
            if self._out_of_step:
                self._synchronise()
            self.adapter.write(command, **kwargs)

    def ask(self, command: str, query_delay: float | None = None) -> str:
        """Write a query and read its reply.

        When none comes the meter is brought back in step, so that a late reply does not answer the next query, and
        InstrumentTimeout tells what its error queue says.
        """
        with self.adapter.exclusive():
            self.write(command)
            self._out_of_step = True
            try:
                reply = self.adapter.read()
            except InstrumentTimeout as error:
                raise self._recovered(error) from error
            self._out_of_step = False
            return reply

    def _recovered(self, error: InstrumentTimeout) -> InstrumentTimeout:
        try:
            said = "; ".join(self._synchronise()) or "nothing"
            state = f"the reading was aborted, the meter answers again; its error queue says: {said}"
        except LabctlError as second:
            state = f"the meter does not answer ({second.what}); the next command tries to get in step again"
        where = self.adapter.name
        return InstrumentTimeout(
            error.what, exchange=error.exchange, role=error.role, where=where, state=state, todo=error.todo
        )

    def _synchronise(self) -> list[str]:
        """Abort what goes on and read until the meter has answered a query whose reply cannot be mistaken.

        Returns the errors that its queue held; a meter that does not know `ABOR` adds its -113 to them.
        """
        self._out_of_step = True
        with self.adapter.exclusive(), self.adapter.patience(_SYNCHRONISE_S):
            try:
                self._await_identity()
            except InstrumentTimeout:
                self.adapter.reconnect()
                self._await_identity()
            with self.adapter.patience(_QUIET_S):
                self.adapter.read_bytes(-1)
            self._out_of_step = False
            return self._take_errors()

    def _await_identity(self) -> None:
        self.adapter.flush_read_buffer()
        self.adapter.write("ABOR")
        self.adapter.write("*IDN?")
        deadline = self.clock.now() + _SYNCHRONISE_S
        while self.adapter.read().count(",") != 3:
            if self.clock.now() > deadline:
                raise InstrumentTimeout(
                    "the meter talks, but does not answer *IDN?", exchange=self.adapter.last, where=self.adapter.name
                )

    def _take_errors(self) -> list[str]:
        """Empty the error queue; a reply that does not come is not recovered here, since recovering comes here too."""
        errors = []
        for _ in range(_ERRORS_AT_MOST):
            self._out_of_step = True
            self.adapter.write("SYST:ERR?")
            reply = self.adapter.read().strip()
            self._out_of_step = False
            if not re.fullmatch(r'[+-]?\d+\s*,\s*".*"', reply):
                raise self._error("the reply is not an error number with a text")
            if int(reply.partition(",")[0]) == 0:
                break
            errors.append(reply)
        return errors

    def _raise_errors(self, what: str) -> None:
        if errors := self._take_errors():
            raise self._error(f"{what}: {'; '.join(errors)}")

    def _read_sensor(self) -> None:
        """Have pymeasure read and decode the sensor; raises InstrumentError unless it measures energy."""
        try:
            self._set_flags()
        except (IndexError, TypeError, ValueError) as error:
            raise self._error("the description of the sensor cannot be read") from error
        except OSError as error:
            raise self._error("no sensor is connected", todo="plug in the energy head, then start again") from error
        self.sensor_name = self.sensor_name.strip('"')
        if self.sensor_name.lower() == "no sensor":
            raise self._error("no sensor is connected", todo="plug in the energy head, then start again")
        if not self.is_energy_sensor:
            raise self._error(f"the sensor {self.sensor_name} measures no pulse energy", todo="plug in a pyro head")

    def _set(self, header: str, value: float) -> float:
        """Set a number, read it back and remember it."""
        with self.adapter.exclusive():
            self.write(f"{header} {value:.7g}")
            self._settings[header] = self._number(f"{header}?")
            return self._settings[header]

    def _require_settings(self) -> None:
        if _WAVELENGTH not in self._settings:
            raise self._error("the calibration wavelength was not set", todo="set wavelength_nm before measuring")
        for header in self._settings:
            self._require(header)

    def _require(self, header: str) -> float:
        """Get a number that was set; raises InstrumentError if it is not what it was."""
        found, expected = self._number(f"{header}?"), self._settings[header]
        if not math.isclose(found, expected, rel_tol=1e-6):
            raise self._error(
                f"{header} stands at {found:g} instead of {expected:g}: the meter was switched off, or set by hand",
                state="readings since the last point are in doubt",
                todo="start the instrument up again, set wavelength and range, zero it",
            )
        return found

    def _read_blocks(self, count: int) -> list[float]:
        replies = [self._read_block().strip() for _ in range(count)]
        readings = [self._parse(reply) for reply in replies]
        if max(readings) >= _OVER_RANGE:
            raise self._error(
                f"pulses exceed the measuring range of {self._settings.get(_RANGE, math.nan):g} J",
                todo="choose a larger range_j, or attenuate",
            )
        if len({len(match[2]) for reply in replies if (match := _NUMBER.fullmatch(reply))}) > 1:
            raise self._error(f"readings differ in their number of digits, a byte was lost: {', '.join(replies)}")
        if count >= _BLOCKS and len(set(replies)) == 1:
            raise self._error(
                f"{count} readings are the same to the last digit: the meter repeats an old one",
                todo="switch the meter off and on; start the instrument up again",
            )
        middle = median(readings)
        alike = all(middle / _OUTLIER_FACTOR < reading < middle * _OUTLIER_FACTOR for reading in readings)
        if self._chosen.averaging and count >= _BLOCKS and middle > 0 and not alike:
            raise self._error(f"readings differ by more than a factor {_OUTLIER_FACTOR:g}: {', '.join(replies)}")
        return readings

    def _read_block(self) -> str:
        """Have one block of pulses read.

        A meter that waits for a pulse is as silent as one whose reply was lost. Both answer again when they are brought
        in step; but only without pulses the same reading fails a second time.
        """
        try:
            return self.ask(_READ)
        except InstrumentTimeout as error:
            first = self._or_no_pulse(error)
        try:
            self.ask(_READ)
        except InstrumentTimeout as error:
            second = self._or_no_pulse(error)
            raise NoPulse(
                f"no pulse reached the energy meter: {second.what}, twice",
                exchange=second.exchange,
                role=second.role,
                where=self.adapter.name,
                state=second.state,
                todo=_NO_PULSE,
            ) from first
        first.what = f"a reading was lost on its way, though pulses come: {first.what}"
        first.todo = "check the cable; try again"
        raise first

    def _or_no_pulse(self, error: InstrumentTimeout) -> InstrumentTimeout:
        """Get the error of a reading that never came; raises it if the meter does not answer anything else either."""
        if not self._out_of_step:
            return error
        error.what = f"no pulse reached the energy meter, or it is silent: {error.what}"
        error.todo = f"{error.todo}; if the meter shows no energy: {_NO_PULSE}"
        raise error

    def _number(self, query: str) -> float:
        return self._parse(self.ask(query).strip())

    def _parse(self, reply: str) -> float:
        if not _NUMBER.fullmatch(reply):
            raise self._error("the reply is not a number")
        return float(reply)

    def _refused(self, what: str) -> InstrumentError:
        errors = "; ".join(self._take_errors()) or "nothing"
        return self._error(f"the meter refused {what}", state=f"its error queue says: {errors}")

    def _error(self, what: str, *, state: str = "", todo: str = "") -> InstrumentError:
        return InstrumentError(what, exchange=self.adapter.last, where=self.adapter.name, state=state, todo=todo)
