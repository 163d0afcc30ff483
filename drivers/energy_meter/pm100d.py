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
from collections.abc import Sequence
from statistics import fmean, median, stdev

from pydantic import BaseModel, ConfigDict, Field

from drivers.energy_meter.checks import require_positive
from drivers.power_meter.pm100 import AVERAGE, OVER_RANGE, PM100
from drivers.scpi.line import NUMBER
from labctl.clock import Clock
from labctl.errors import InputError, InstrumentTimeout, LabctlError, NoPulse
from labctl.quantities import EnergyReading
from labctl.roles import SafeStep
from labctl.transport.adapter import WireAdapter

log = logging.getLogger(__name__)

_BLOCKS = 10
_OUTLIER_FACTOR = 3.0
_ZERO_POLL_S = 0.2
_ZERO_TRIES = 2

_RANGE = "SENS:ENER:RANG"
_TRIGGER = "SENS:PEAK:THR"
_ZERO = "SENS:CORR:COLL:ZERO"
_READ = "READ?"
_NO_PULSE = (
    "open the shutter; check that the laser fires; choose a smaller range or trigger_percent; "
    "for a slow laser set reading_timeout_s to the time of a tenth of the pulses"
)


class PM100D(PM100):
    """A PM100D as pulse-energy meter.

    :param adapter: The wire.
    :param clock: Clock of the run.
    :param options: See :class:`Options`.
    """

    ROLE = "energy_meter"
    HEAD = "energy head"
    MEASURES = "pulse energy"
    HEAD_FLAG = "is_energy_sensor"

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

    def __init__(self, adapter: WireAdapter, name: str = "Thorlabs PM100D", *, clock: Clock, **options: object) -> None:
        super().__init__(adapter, name, clock)
        self._chosen = self.Options.model_validate(options)

    def start_up(self) -> None:
        """Get in step with the meter, check that an energy head is plugged in, and select energy mode."""
        with self.adapter.exclusive():
            self._settings.clear()
            for error in self._line.synchronise():
                log.warning("%s had an old error in its queue: %s", self.name, error)
            self._read_sensor()
            self.write("CONF:ENER")
            self._line.raise_errors("the meter refused energy mode")
            self._set(AVERAGE, 1)
            if self._chosen.trigger_percent is not None:
                self._set(_TRIGGER, self._chosen.trigger_percent)

    @property
    def range_j(self) -> float:
        """Control the measuring range in J (full scale).

        Setting has the meter choose its next range that holds ``value``; raises InstrumentError if it has none, and
        when read if it is no longer the one that was set.
        """
        return self._require(_RANGE) if _RANGE in self._settings else self._line.number(f"{_RANGE}?")

    @range_j.setter
    def range_j(self, value: float) -> None:
        require_positive("range", value)
        reached = self._set(_RANGE, value)
        if reached < value * (1 - 1e-6):
            raise self._refused(f"a range of {value:g} J: it stands at {reached:g} J")

    @property
    def largest_range_j(self) -> float:
        """Get the largest measuring range of the head in J (full scale)."""
        return self._line.number(f"{_RANGE}? MAX")

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
            while self._line.number(f"{_ZERO}:STAT?") != 0:
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
            offset_j = self._line.number(f"{_ZERO}:MAGN?")
        if abs(offset_j) > self._chosen.zero_limit_j:
            raise self._line.error(
                f"zeroing removed {offset_j:.3g} J, more than {self._chosen.zero_limit_j:.3g} J",
                state="the meter now subtracts this offset: its energies are wrong",
                todo="block the beam and zero again; the option zero_limit_j sets what is plausible",
            )
        return offset_j

    def _start_zeroing(self) -> None:
        """Start zeroing and see that it goes on: a command that was lost would leave the old offset in force."""
        for _ in range(_ZERO_TRIES):
            self.write(f"{_ZERO}:INIT")
            self._line.raise_errors("the meter refused to zero")
            if self._line.number(f"{_ZERO}:STAT?") != 0:
                return
        raise self._line.error(
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
            if self._settings.get(AVERAGE) != average and self._set(AVERAGE, average) != average:
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
                if self._line.out_of_step:
                    self._line.synchronise()
                state = f"wavelength {self.wavelength_nm:g} nm, range {self._line.number(f'{_RANGE}?'):g} J"
                return [SafeStep(action, True, f"{_RANGE}? answered {self.adapter.last.received}: {state}")]
        except (LabctlError, OSError) as error:
            return [SafeStep(action, False, str(error))]

    def _read_blocks(self, count: int) -> list[float]:
        replies = [self._read_block().strip() for _ in range(count)]
        readings = [self._line.parse(reply) for reply in replies]
        if max(readings) >= OVER_RANGE:
            raise self._line.error(
                f"pulses exceed the measuring range of {self._settings.get(_RANGE, math.nan):g} J",
                todo="choose a larger range_j, or attenuate",
            )
        if len({len(match[2]) for reply in replies if (match := NUMBER.fullmatch(reply))}) > 1:
            raise self._line.error(f"readings differ in their number of digits, a byte was lost: {', '.join(replies)}")
        if count >= _BLOCKS and len(set(replies)) == 1:
            raise self._line.error(
                f"{count} readings are the same to the last digit: the meter repeats an old one",
                todo="switch the meter off and on; start the instrument up again",
            )
        middle = median(readings)
        alike = all(middle / _OUTLIER_FACTOR < reading < middle * _OUTLIER_FACTOR for reading in readings)
        if self._chosen.averaging and count >= _BLOCKS and middle > 0 and not alike:
            raise self._line.error(f"readings differ by more than a factor {_OUTLIER_FACTOR:g}: {', '.join(replies)}")
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
        if not self._line.out_of_step:
            return error
        error.what = f"no pulse reached the energy meter, or it is silent: {error.what}"
        error.todo = f"{error.todo}; if the meter shows no energy: {_NO_PULSE}"
        raise error
