"""What a bench may ask of an instrument: one small Protocol for each role, in the words of the field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from labctl.instrument import (
    DeadMan,
    Identity,
    Instrument,
    Limited,
    Readiness,
    Reading,
    SafeStep,
    Setting,
    TellsReadiness,
    Watched,
)
from labctl.quantities import EnergyReading

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@runtime_checkable
class Attenuator(Instrument, Protocol):
    """A rotating element that sets the pump energy (a half-wave plate before a polariser, a graded wheel)."""

    @property
    def angle_deg(self) -> float:
        """Measure the angle in degrees as the device reports it."""
        ...

    @property
    def resolution_deg(self) -> float:
        """Get the smallest step in degrees."""
        ...

    def home(self) -> None:
        """Find the reference mark; returns when it is found."""
        ...

    def move_to(self, angle_deg: float) -> float:
        """Control the angle, 0 ≤ angle < 360; returns the angle read back when the motion has ended."""
        ...


@runtime_checkable
class Shutter(Instrument, Protocol):
    """A beam shutter."""

    @property
    def has_readback(self) -> bool:
        """Get whether the device can report its real state."""
        ...

    @property
    def is_open(self) -> bool:
        """Measure whether the shutter is open (assumed, where :attr:`has_readback` is false)."""
        ...

    def open(self) -> None:
        """Open and verify; raises if the interlock is tripped or the blade does not move."""
        ...

    def shut(self) -> None:
        """Close and verify."""
        ...


@dataclass(frozen=True, slots=True)
class ReadingPace:
    """How long a reading of an energy meter may take.

    :param overhead_s: Time besides the pulses, in s.
    :param pulse_s: Time in s for which the meter is busy with a pulse and misses those that come meanwhile.
    """

    overhead_s: float = 0.1
    pulse_s: float = 3.5e-3


@runtime_checkable
class EnergyMeter(Instrument, Protocol):
    """A pulse-energy meter.

    A driver whose readings take longer than the default :class:`ReadingPace` says so in a class attribute ``PACE``:
    plans count with it before any instrument is opened.
    """

    @property
    def wavelength_nm(self) -> float:
        """Control the wavelength of the calibration in nm; setting reads back and refuses silent clamping."""
        ...

    @wavelength_nm.setter
    def wavelength_nm(self, value: float) -> None: ...

    @property
    def range_j(self) -> float:
        """Control the measuring range in J (full scale); setting reads back the range that was chosen."""
        ...

    @range_j.setter
    def range_j(self, value: float) -> None: ...

    @property
    def largest_range_j(self) -> float:
        """Get the largest measuring range in J (full scale)."""
        ...

    def zero(self) -> float:
        """Zero the meter with the beam blocked; returns the offset that was removed in J, nan if the meter hides it."""
        ...

    def measure(self, pulses: int) -> EnergyReading:
        """Measure the energy of ``pulses`` pulses.

        Raises NoPulse if the meter answers, but no pulse triggers it; InstrumentTimeout if the meter is silent.
        """
        ...


@dataclass(frozen=True, slots=True)
class Grating:
    """A grating on the turret.

    :param number: Position from 1.
    :param lines_per_mm: Groove density; 0 for a mirror.
    :param blaze: Blaze as the device words it.
    """

    number: int
    lines_per_mm: float
    blaze: str


@dataclass(frozen=True, slots=True)
class SpectrographGeometry:
    """What turns a pixel into a wavelength.

    :param focal_length_mm: Focal length.
    :param half_angle_deg: Half of the angle between entrance and exit arm at the grating.
    :param detector_angle_deg: Tilt of the detector plane.
    """

    focal_length_mm: float
    half_angle_deg: float
    detector_angle_deg: float


@runtime_checkable
class Spectrograph(Instrument, Protocol):
    """A grating spectrograph."""

    @property
    def wavelength_nm(self) -> float:
        """Measure the centre wavelength in nm as the device reports it."""
        ...

    def go_to(self, wavelength_nm: float) -> float:
        """Control the centre wavelength; returns the wavelength read back, raises if it was clamped."""
        ...

    @property
    def grating(self) -> Grating:
        """Measure which grating is in the beam."""
        ...

    @property
    def gratings(self) -> Sequence[Grating]:
        """Get the installed gratings."""
        ...

    def select_grating(self, number: int) -> Grating:
        """Control the grating; returns the grating read back, raises if it is not installed."""
        ...

    @property
    def geometry(self) -> SpectrographGeometry:
        """Get the geometry for the wavelength axis."""
        ...


@runtime_checkable
class CalibratedSpectrograph(Protocol):
    """What a spectrograph offers beyond its role when it knows the wavelength of each pixel by itself.

    Not derived from :class:`Spectrograph`: asking whether an instrument offers it must not ask the instrument.
    """

    def wavelengths_nm(self, pixels: int, pixel_um: float) -> NDArray[np.float64]:
        """Measure the wavelength of each pixel of the detector in nm, shape (pixels,), where it stands now.

        They rise or fall from the first pixel to the last; to be asked for anew after every move.

        :param pixels: Number of pixels of the detector.
        :param pixel_um: Width of a pixel in µm.

        Raises InstrumentError if the instrument has no wavelengths here (a mirror, zero order).
        """
        ...


@dataclass(frozen=True, slots=True)
class CoolerState:
    """State of a detector's cooler.

    :param on: Whether it cools.
    :param temperature_c: Sensor temperature in °C.
    :param locked: Whether the temperature has reached the set-point and is stable.
    :param text: The device's own word for it.
    """

    on: bool
    temperature_c: float
    locked: bool
    text: str


@runtime_checkable
class Detector(Instrument, Protocol):
    """A line detector behind a spectrograph (a CCD read with full vertical binning)."""

    @property
    def pixels(self) -> int:
        """Get the number of pixels along the wavelength axis."""
        ...

    @property
    def pixel_um(self) -> float:
        """Get the width of a pixel in µm."""
        ...

    @property
    def full_scale_counts(self) -> int:
        """Get the ceiling of the ADC for one exposure, in counts."""
        ...

    @property
    def cooler(self) -> CoolerState:
        """Measure the state of the cooler."""
        ...

    def cool_to(self, temperature_c: float) -> None:
        """Control the set-point in °C and switch the cooler on; returns at once."""
        ...

    @property
    def exposure_s(self) -> float:
        """Get the true exposure in s, as the device will make it."""
        ...

    def set_exposure(self, exposure_s: float) -> float:
        """Control the exposure in s; returns the true exposure after rounding by the device."""
        ...

    @property
    def cycle_s(self) -> float:
        """Get the time from one exposure to the next, in s."""
        ...

    def start(self) -> None:
        """Start one exposure; returns at once."""
        ...

    def read(self) -> NDArray[np.int32]:
        """Wait for the end of the exposure and read it, shape (pixels,), counts of the ADC."""
        ...

    def abort(self) -> None:
        """Stop an exposure; nothing happens when none is under way."""
        ...


READINGS_OF_A_COOLED_DETECTOR: Mapping[str, Reading] = {
    "temperature": Reading("cooler.temperature_c", "degC", overshoot=1.0),
    "cooler": Reading("cooler.on", words=("off", "on")),
    "lock": Reading("cooler.locked", words=("unlocked", "locked")),
}
"""What a driver of a detector offers to be watched when its library tells the state of the cooler."""


@runtime_checkable
class FilterWheel(Instrument, Protocol):
    """Filters in the detection path before the slit: a wheel, or a holder that is set by hand.

    What stands in which position the bench file says (``[filter]``); the instrument knows numbers only.
    """

    @property
    def positions(self) -> int:
        """Get the number of positions."""
        ...

    @property
    def position(self) -> int:
        """Measure which position is in the beam, from 1 to :attr:`positions`."""
        ...

    def select(self, position: int) -> int:
        """Control the position; returns the one read back when the wheel stands, raises if it is another."""
        ...


@runtime_checkable
class LinearStage(Instrument, Protocol):
    """A motorised linear stage: a blade of the slit, or the carrier of the samples.

    Positions are the controller's own, in mm; what they mean for a sample the bench file or a calibration says.
    """

    @property
    def position_mm(self) -> float:
        """Measure the position in mm."""
        ...

    @property
    def range_mm(self) -> tuple[float, float]:
        """Get the lowest and the highest position in mm that the controller's own limits allow."""
        ...

    @property
    def resolution_mm(self) -> float:
        """Get the smallest step in mm."""
        ...

    @property
    def is_homed(self) -> bool:
        """Measure whether the controller knows where the stage stands."""
        ...

    def home(self) -> None:
        """Find the reference mark; returns when it is found."""
        ...

    def move_to(self, position_mm: float) -> float:
        """Control the position in mm; returns the position read back when the motion has ended.

        Raises InstrumentError for a stage that is not homed, or a position beyond :attr:`range_mm`; nothing moves then.
        """
        ...

    def stop(self) -> None:
        """Stop a motion; nothing happens when the stage stands."""
        ...


@runtime_checkable
class HeatingStage(Instrument, Protocol):
    """A stage whose temperature is controlled: a hot plate, a microscope stage, a cryostat. All temperatures in °C."""

    @property
    def temperature_c(self) -> float:
        """Measure the temperature at the sample in °C."""
        ...

    @property
    def setpoint_c(self) -> float:
        """Measure the set-point in °C, as the device holds it."""
        ...

    @property
    def range_c(self) -> tuple[float, float]:
        """Get the lowest and the highest set-point in °C."""
        ...

    @property
    def is_on(self) -> bool:
        """Measure whether the temperature is controlled; off, nothing heats."""
        ...

    def set_temperature(self, temperature_c: float) -> float:
        """Control the set-point in °C; returns the one read back, raises if it was clamped. Switches nothing on."""
        ...

    def switch_on(self) -> None:
        """Begin to control the temperature; verified by read-back."""
        ...

    def switch_off(self) -> None:
        """End heating (and cooling); verified by read-back."""
        ...


@runtime_checkable
class Lamp(Instrument, Protocol):
    """A lamp that stresses the sample, e.g. with UV light."""

    @property
    def has_readback(self) -> bool:
        """Get whether the device can report whether the lamp is on."""
        ...

    @property
    def is_on(self) -> bool:
        """Measure whether the lamp is on (assumed, where :attr:`has_readback` is false)."""
        ...

    def switch_on(self) -> None:
        """Switch on and verify; raises if an interlock or a protection keeps the lamp off."""
        ...

    def switch_off(self) -> None:
        """Switch off and verify."""
        ...


@runtime_checkable
class AdjustableLamp(Protocol):
    """What a lamp offers beyond its role when its brightness can be set.

    Not derived from :class:`Lamp`: asking whether an instrument offers it must not ask the instrument.
    """

    def set_brightness(self, percent: float) -> float:
        """Control the brightness in percent of the largest, 0 < percent ≤ 100; returns the one read back."""
        ...


@runtime_checkable
class PowerMeter(Instrument, Protocol):
    """A meter of optical power, e.g. the photodiode that watches a lamp."""

    @property
    def wavelength_nm(self) -> float:
        """Control the wavelength of the calibration in nm; setting reads back and refuses silent clamping."""
        ...

    @wavelength_nm.setter
    def wavelength_nm(self, value: float) -> None: ...

    @property
    def power_w(self) -> float:
        """Measure the power in W."""
        ...


@runtime_checkable
class TriggerCounter(Instrument, Protocol):
    """A counter of the laser's triggers, gated by the shutter: it counts the pulses that pass."""

    @property
    def count(self) -> int:
        """Measure how many pulses have passed since :meth:`restart`."""
        ...

    def restart(self) -> None:
        """Begin to count from 0."""
        ...


@runtime_checkable
class VacuumGauge(Instrument, Protocol):
    """A vacuum gauge."""

    @property
    def pressure_mbar(self) -> float:
        """Measure the pressure in mbar."""
        ...


ROLES: dict[str, type] = {
    "attenuator": Attenuator,
    "shutter": Shutter,
    "energy_meter": EnergyMeter,
    "spectrograph": Spectrograph,
    "detector": Detector,
    "filter": FilterWheel,
    "slit_near": LinearStage,
    "slit_far": LinearStage,
    "slit_meter": EnergyMeter,
    "sample_stage": LinearStage,
    "heating_stage": HeatingStage,
    "vacuum_gauge": VacuumGauge,
    "lamp": Lamp,
    "lamp_meter": PowerMeter,
    "trigger_counter": TriggerCounter,
}
"""Name of each role in a bench file, with the Protocol a driver for it must satisfy.

A driver for one role does for any other of the same Protocol: a stage carries a blade or a sample."""

SETTINGS_OF_ROLES: dict[str, Mapping[str, Setting]] = {
    "attenuator": {"angle": Setting("move_to", "deg")},
    "spectrograph": {"wavelength": Setting("go_to", "nm")},
    "detector": {"temperature": Setting("cool_to", "degC"), "exposure": Setting("set_exposure", "s")},
    "slit_near": {"position": Setting("move_to", "mm")},
    "slit_far": {"position": Setting("move_to", "mm")},
    "sample_stage": {"position": Setting("move_to", "mm")},
    "heating_stage": {"temperature": Setting("set_temperature", "degC")},
}
"""What any driver for a role can be set to, by the names that ``[limits.roles]`` uses."""

SAFE_ORDER: tuple[str, ...] = (
    "shutter",
    "lamp",
    "heating_stage",
    "detector",
    "attenuator",
    "energy_meter",
    "spectrograph",
    "filter",
    "slit_near",
    "slit_far",
    "sample_stage",
    "slit_meter",
    "lamp_meter",
    "trigger_counter",
    "vacuum_gauge",
)
"""Order of the safe-state steps: what keeps light off the sample comes first, then what heats."""

__all__ = [
    "READINGS_OF_A_COOLED_DETECTOR",
    "ROLES",
    "SAFE_ORDER",
    "SETTINGS_OF_ROLES",
    "AdjustableLamp",
    "Attenuator",
    "CalibratedSpectrograph",
    "CoolerState",
    "DeadMan",
    "Detector",
    "EnergyMeter",
    "FilterWheel",
    "Grating",
    "HeatingStage",
    "Identity",
    "Instrument",
    "Lamp",
    "Limited",
    "LinearStage",
    "PowerMeter",
    "Readiness",
    "Reading",
    "ReadingPace",
    "SafeStep",
    "Setting",
    "Shutter",
    "Spectrograph",
    "SpectrographGeometry",
    "TellsReadiness",
    "TriggerCounter",
    "VacuumGauge",
    "Watched",
]
