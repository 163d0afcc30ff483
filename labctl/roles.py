"""What a bench may ask of an instrument: one small Protocol for each role, in the words of the field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

from labctl.quantities import EnergyReading

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Identity:
    """Who an instrument says it is; empty strings where it cannot say."""

    vendor: str
    model: str
    serial: str = ""
    firmware: str = ""


@dataclass(frozen=True, slots=True)
class SafeStep:
    """One step towards the safe state.

    :param action: What was done, e.g. ``close shutter``.
    :param confirmed: True if the instrument's own read-back says so; False if it does not or cannot.
    :param evidence: What was sent and what was read back; line breaks become ``; ``.
    """

    action: str
    confirmed: bool
    evidence: str

    def __post_init__(self) -> None:
        # Steps are printed one to a line, while an error that serves as evidence may have many.
        lines = [line.strip() for line in self.evidence.splitlines() if line.strip()]
        object.__setattr__(self, "evidence", "; ".join(lines))


@runtime_checkable
class Instrument(Protocol):
    """What every instrument can do, whatever its role."""

    def identify(self) -> Identity:
        """Get vendor, model, serial number and firmware from the instrument."""
        ...

    def make_safe(self) -> Sequence[SafeStep]:
        """Bring the instrument into its safe state and verify it by read-back; idempotent, never raises half-way."""
        ...

    def close(self) -> None:
        """Release the connection; the instrument is left as it is."""
        ...


@dataclass(frozen=True, slots=True)
class Reading:
    """A quantity that an instrument can be asked for between two points without disturbing a measurement.

    :param attribute: What reads it: a property of the instrument, or a path such as ``cooler.temperature_c``. It gives
        a number in ``unit``, or one of ``words``; False and True stand for the first and the second of two words. It
        raises InstrumentError when it cannot be read.
    :param unit: Unit of the number, as pint writes it; ``""`` where there are words, and for a plain number.
    :param words: The states it can be in; none for a number.
    :param overshoot: By how much, in ``unit``, it may pass a limit that its set value reached: the ripple of a
        controller, the scatter of a sensor.
    """

    attribute: str
    unit: str = ""
    words: tuple[str, ...] = ()
    overshoot: float = 0.0


@dataclass(frozen=True, slots=True)
class Setting:
    """A quantity that an instrument can be set to, for the limits of a bench.

    :param attribute: The method that sets it, whose first argument is the value; or the property that controls it.
    :param unit: Unit of the value, as pint writes it; ``""`` for a plain number.
    """

    attribute: str
    unit: str = ""


@runtime_checkable
class Watched(Protocol):
    """What an instrument offers whose readings may be watched (``[[watch]]``) and held to limits (``[limits.roles]``).

    Not derived from :class:`Instrument`: it is asked of the class, before there is any instrument.
    """

    READINGS: ClassVar[Mapping[str, Reading]]
    """Quantities by the names that a bench file uses."""


@runtime_checkable
class Limited(Protocol):
    """What an instrument offers that can be set to more than its role says, so that the bench can limit it."""

    SETTINGS: ClassVar[Mapping[str, Setting]]
    """Quantities by the names that a bench file uses, beyond those in ``SETTINGS_OF_ROLES``."""


@dataclass(frozen=True, slots=True)
class Readiness:
    """One thing that a run needs of an instrument, as it is now.

    :param name: What it is, e.g. ``interlock``.
    :param ok: Whether it is as a run needs it.
    :param text: What was read, and what to do when it is not as it should be.
    :param waits: Whether a run waits until it is (a detector that cools); else it cannot do without.
    """

    name: str
    ok: bool
    text: str
    waits: bool = False


@runtime_checkable
class TellsReadiness(Protocol):
    """What an instrument offers that can say whether it is ready for a run."""

    def readiness(self) -> Sequence[Readiness]:
        """Measure whether it is ready; moves nothing, and raises InstrumentError when it cannot be asked."""
        ...


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
class DeadMan(Protocol):
    """What an instrument offers beyond its role when it goes safe by itself once nobody feeds it (a watchdog, a lease).

    Armed when a bench is opened for a run, fed in real time as long as the run keeps to the times it declares, and
    disarmed once its safe state is confirmed. Each call is an exchange of its own with the device.
    """

    def arm(self, timeout_s: float) -> float:
        """Have the instrument go safe after ``timeout_s`` without food; returns the time in s that it will wait.

        That is the nearest the device can do, as read back. Also feeds it.
        """
        ...

    def feed(self) -> None:
        """Begin the time anew; raises when the device does not take it, or has acted already."""
        ...

    def disarm(self) -> None:
        """Have the instrument wait for nobody any more."""
        ...


ROLES: dict[str, type] = {
    "attenuator": Attenuator,
    "shutter": Shutter,
    "energy_meter": EnergyMeter,
    "spectrograph": Spectrograph,
    "detector": Detector,
    "filter": FilterWheel,
}
"""Name of each role in a bench file, with the Protocol a driver for it must satisfy."""

SETTINGS_OF_ROLES: dict[str, Mapping[str, Setting]] = {
    "attenuator": {"angle": Setting("move_to", "deg")},
    "spectrograph": {"wavelength": Setting("go_to", "nm")},
    "detector": {"temperature": Setting("cool_to", "degC"), "exposure": Setting("set_exposure", "s")},
}
"""What any driver for a role can be set to, by the names that ``[limits.roles]`` uses."""

SAFE_ORDER: tuple[str, ...] = ("shutter", "detector", "attenuator", "energy_meter", "spectrograph", "filter")
"""Order of the safe-state steps: what keeps light off the sample comes first."""
