"""Thorlabs PM100D (PM100A, PM100USB, PM400) with a photodiode or a thermal head, as meter of optical power.

It watches the lamp that stresses the sample. The power is the median of three readings, each averaged by the meter:
a byte that was garbled on its way in one of them does not change it.

Not verified on hardware: that `MEAS:POW?` leaves the averaging as it was set, that `ABOR` may be sent at any time, and
the reply of `SENS:POW:UNIT?`. The power is not dark-corrected: a photodiode shows a few nW without light, and how much
is measured by reading it with the lamp off.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from statistics import median
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from drivers.power_meter.pm100 import AVERAGE, OVER_RANGE, PM100
from drivers.scpi.line import NUMBER
from labctl.clock import Clock
from labctl.errors import LabctlError
from labctl.roles import Reading, SafeStep
from labctl.transport.adapter import WireAdapter

log = logging.getLogger(__name__)

_AUTO_RANGE = "SENS:POW:RANG:AUTO"
_READ = "MEAS:POW?"
_READINGS = 3
_LIGHT_W = 1e-5
"""Light flickers in the last digit; in the dark a meter may well show the same number again."""


class PM100DPower(PM100):
    """A PM100D as power meter.

    :param adapter: The wire.
    :param clock: Clock of the run.
    :param options: See :class:`Options`.
    """

    ROLE = "lamp_meter"
    HEAD = "power head"
    MEASURES = "power"
    HEAD_FLAG = "is_power_sensor"
    READINGS: ClassVar = {"power": Reading("power_w", "W")}

    class Options(BaseModel):
        """Options of the instrument in the bench file.

        :param averages: Samples of about 3 ms that the meter averages for one of the three readings of a power.
        :param reading_timeout_s: Longest time for one reading.
        """

        model_config = ConfigDict(frozen=True, extra="forbid")

        averages: int = Field(default=30, ge=1, le=10000)
        reading_timeout_s: float = Field(default=3.0, gt=0)

    def __init__(self, adapter: WireAdapter, name: str = "Thorlabs PM100D", *, clock: Clock, **options: object) -> None:
        super().__init__(adapter, name, clock)
        self._chosen = self.Options.model_validate(options)

    def start_up(self) -> None:
        """Get in step with the meter, check that a power head is plugged in, have it show W and choose its range."""
        with self.adapter.exclusive():
            self._settings.clear()
            for error in self._line.synchronise():
                log.warning("%s had an old error in its queue: %s", self.name, error)
            self._read_sensor()
            self.write("CONF:POW")
            self.write("SENS:POW:UNIT W")
            self._line.raise_errors("the meter refused power mode")
            if self.ask("SENS:POW:UNIT?").strip() != "W":
                raise self._line.error("the meter does not show its power in W")
            for header, value in ((_AUTO_RANGE, 1), (AVERAGE, self._chosen.averages)):
                if (reached := self._set(header, value)) != value:
                    raise self._refused(f"{header} {value}: it stands at {reached:g}")

    @property
    def power_w(self) -> float:
        """Measure the power in W; without light it is the offset of the head, which may be negative.

        Raises InstrumentError on over-range, when the wavelength was not set, or when the meter has lost its settings;
        InstrumentTimeout if it is silent.
        """
        with self.adapter.exclusive():
            self._require_settings()
            with self.adapter.patience(self._chosen.reading_timeout_s):
                replies = [self.ask(_READ).strip() for _ in range(_READINGS)]
            readings = [self._line.parse(reply) for reply in replies]
            # A meter that was switched off and on meanwhile has read with other settings.
            self._require_settings()
        if max(readings) >= OVER_RANGE:
            raise self._line.error("the power exceeds the range of the head", todo="attenuate, or choose another head")
        if len({len(match[2]) for reply in replies if (match := NUMBER.fullmatch(reply))}) > 1:
            raise self._line.error(f"readings differ in their number of digits, a byte was lost: {', '.join(replies)}")
        found = median(readings)
        if abs(found) > _LIGHT_W and len(set(replies)) == 1:
            raise self._line.error(
                f"{_READINGS} readings are the same to the last digit: the meter does not measure anew",
                todo="look at the meter: hold or a message on its display; switch it off and on",
            )
        return found

    def make_safe(self) -> Sequence[SafeStep]:
        """Report the state: the meter itself endangers nothing."""
        action = "leave the power meter as it is"
        try:
            with self.adapter.seize():
                if self._line.out_of_step:
                    self._line.synchronise()
                state = f"wavelength {self.wavelength_nm:g} nm"
                return [SafeStep(action, True, f"{self.adapter.last}: {state}")]
        except (LabctlError, OSError) as error:
            return [SafeStep(action, False, str(error))]
