"""What a Thorlabs PM100D (PM100A, PM100USB, PM400) does for power and for energy alike: head, wavelength, settings.

Flags and names of the sensor, `wavelength_min`, `wavelength_max` and the SCPI basics are pymeasure's own;
docs/decisions/0004-build-on-pymeasures-pm100.md says what is not and why.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from pymeasure.instruments import SCPIUnknownMixin
from pymeasure.instruments.thorlabs import ThorlabsPM100USB

from drivers.scpi.line import ScpiLine
from labctl.clock import Clock
from labctl.errors import InputError, InstrumentError, InstrumentTimeout
from labctl.roles import Identity, Readiness
from labctl.transport.adapter import WireAdapter
from labctl.transport.settings import WireSettings

AVERAGE = "SENS:AVER:COUN"
OVER_RANGE = 9e37
_WAVELENGTH = "SENS:CORR:WAV"
_WAVELENGTH_TOLERANCE_NM = 0.5


class PM100(ThorlabsPM100USB):
    """The console with whatever head is plugged in; drivers for a role say which head they need.

    :param adapter: The wire.
    :param name: Name for messages.
    :param clock: Clock of the run.
    """

    LINK = WireSettings(write_termination=b"\n", read_termination=b"\n", timeout_s=2.0)
    HEAD: ClassVar[str]
    """What to plug in, e.g. ``energy head``."""
    MEASURES: ClassVar[str]
    """What that head measures, e.g. ``pulse energy``."""
    HEAD_FLAG: ClassVar[str]
    """pymeasure's flag that a head which does so has, e.g. ``is_energy_sensor``."""

    adapter: WireAdapter

    def __init__(self, adapter: WireAdapter, name: str, clock: Clock) -> None:
        self._line = ScpiLine(adapter, "meter", abort="ABOR")
        self._settings: dict[str, float] = {}
        # The parent's constructor would talk to the meter; the mixin's warns that SCPI is not known to be spoken.
        super(SCPIUnknownMixin, self).__init__(adapter, name)
        self.clock = clock

    def identify(self) -> Identity:
        """Get vendor, model, serial number and firmware; raises InstrumentError when `*IDN?` has another form."""
        return Identity(*self._line.identity_fields())

    def readiness(self) -> Sequence[Readiness]:
        """Measure whether the head that this driver needs is plugged in; sets nothing."""
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

        Setting reads back; raises InstrumentError if the meter refused or clamped it. Nothing is measured before it
        has been set: at power-up the meter stands at some other wavelength and what it shows is wrong.
        """
        return self._line.number(f"{_WAVELENGTH}?")

    @wavelength_nm.setter
    def wavelength_nm(self, value: float) -> None:
        if not (math.isfinite(value) and value > 0):
            raise InputError(f"{value!r} is no wavelength", where=self.name, todo="give a positive number of nm")
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

    def close(self) -> None:
        """Close the connection."""
        self.adapter.close()

    def write(self, command: str, **kwargs: object) -> None:
        """Write a command, after getting in step again if an earlier one was never answered."""
        self._line.write(command, **kwargs)

    def ask(self, command: str, query_delay: float | None = None) -> str:
        """Write a query and read its reply; see :meth:`drivers.scpi.line.ScpiLine.ask`."""
        return self._line.ask(command)

    def _read_sensor(self) -> None:
        """Have pymeasure read and decode the sensor; raises InstrumentError unless it measures what is needed."""
        plug_in = f"plug in the {self.HEAD}, then start again"
        try:
            self._set_flags()
        except (IndexError, TypeError, ValueError) as error:
            raise self._line.error("the description of the sensor cannot be read") from error
        except OSError as error:
            raise self._line.error("no sensor is connected", todo=plug_in) from error
        self.sensor_name = self.sensor_name.strip('"')
        if self.sensor_name.lower() == "no sensor":
            raise self._line.error("no sensor is connected", todo=plug_in)
        if not getattr(self, self.HEAD_FLAG):
            what = f"the sensor {self.sensor_name} measures no {self.MEASURES}"
            raise self._line.error(what, todo=f"plug in the {self.HEAD}")

    def _set(self, header: str, value: float) -> float:
        """Set a number, read it back and remember it."""
        with self.adapter.exclusive():
            self.write(f"{header} {value:.7g}")
            self._settings[header] = self._line.number(f"{header}?")
            return self._settings[header]

    def _require_settings(self) -> None:
        """Compare all that was set with what is; raises InstrumentError where the meter has lost it."""
        if _WAVELENGTH not in self._settings:
            raise self._line.error("the calibration wavelength was not set", todo="set wavelength_nm before measuring")
        for header in self._settings:
            self._require(header)

    def _require(self, header: str) -> float:
        """Get a number that was set; raises InstrumentError if it is not what it was."""
        found, expected = self._line.number(f"{header}?"), self._settings[header]
        if not math.isclose(found, expected, rel_tol=1e-6):
            raise self._line.error(
                f"{header} stands at {found:g} instead of {expected:g}: the meter was switched off, or set by hand",
                state="readings since the last point are in doubt",
                todo="start the instrument up again, set wavelength and range, zero it",
            )
        return found

    def _refused(self, what: str) -> InstrumentError:
        errors = "; ".join(self._line.take_errors()) or "nothing"
        return self._line.error(f"the meter refused {what}", state=f"its error queue says: {errors}")
