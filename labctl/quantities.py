"""Frozen quantities that carry their convention: spot geometry, fluence, spectrum, energy reading."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PLANCK_J_S = 6.62607015e-34
LIGHT_SPEED_M_S = 299792458.0


def photon_energy_j(wavelength_nm: float) -> float:
    """Get the photon energy h c / lambda in J."""
    return PLANCK_J_S * LIGHT_SPEED_M_S / (wavelength_nm * 1e-9)


class Convention(StrEnum):
    """How a fluence was computed from a pulse energy; conventions differ by factors up to 2.9.

    ``peak_gauss_fwhm`` reads quoted axes as full widths at half maximum, all others as 1/e² diameters.
    """

    PEAK_GAUSS = "peak_gauss"
    MEAN_1E2 = "mean_1e2"
    FLAT_TOP = "flat_top"
    RECT_AXES_PRODUCT = "rect_axes_product"
    PEAK_GAUSS_FWHM = "peak_gauss_fwhm"


@dataclass(frozen=True, slots=True)
class GaussianSpot:
    """Elliptical Gaussian spot with 1/e² radii in mm."""

    radius_x_mm: float
    radius_y_mm: float

    def area_cm2(self, convention: Convention) -> float:
        """Get the area A with F = E / A: π w_x w_y / 2 (peak), π w_x w_y (mean inside the 1/e² ellipse) or
        2 w_x · 2 w_y (product of the full axes).
        """
        ellipse_cm2 = math.pi * self.radius_x_mm * self.radius_y_mm * 1e-2
        if convention is Convention.PEAK_GAUSS:
            return ellipse_cm2 / 2
        if convention is Convention.MEAN_1E2:
            return ellipse_cm2
        if convention is Convention.RECT_AXES_PRODUCT:
            return 4 * self.radius_x_mm * self.radius_y_mm * 1e-2
        raise _not_defined(convention, "a Gaussian spot")


@dataclass(frozen=True, slots=True)
class StripeSpot:
    """Stripe cut by a slit along its length, Gaussian across; length and 1/e² half width in mm.

    The pulse energy that belongs to it is the energy behind the slit.
    """

    length_mm: float
    half_width_mm: float

    def area_cm2(self, convention: Convention) -> float:
        """Get the area A with F = E / A: L w √(π/2) (peak) or 2 L w (mean across the 1/e² width)."""
        if convention is Convention.PEAK_GAUSS:
            return self.length_mm * self.half_width_mm * math.sqrt(math.pi / 2) * 1e-2
        if convention is Convention.MEAN_1E2:
            return 2 * self.length_mm * self.half_width_mm * 1e-2
        raise _not_defined(convention, "a stripe")


@dataclass(frozen=True, slots=True)
class FlatTopSpot:
    """Evenly lit spot of a given area in mm²."""

    area_mm2: float

    def area_cm2(self, convention: Convention) -> float:
        """Get the area A with F = E / A."""
        if convention is Convention.FLAT_TOP:
            return self.area_mm2 * 1e-2
        raise _not_defined(convention, "a flat-top spot")


@dataclass(frozen=True, slots=True)
class RectangleSpot:
    """Spot quoted by its two full axes in mm, with nothing said of its profile."""

    axis_a_mm: float
    axis_b_mm: float

    def area_cm2(self, convention: Convention) -> float:
        """Get the area A with F = E / A: a b, or what it is if the axes are those of a Gaussian spot.

        As 1/e² diameters: π a b / 8 (peak) and π a b / 4 (mean inside). As full widths at half maximum, which are
        √(2 ln 2) times the 1/e² radii: π a b / (4 ln 2) (peak).
        """
        product_cm2 = self.axis_a_mm * self.axis_b_mm * 1e-2
        shares = {
            Convention.RECT_AXES_PRODUCT: 1.0,
            Convention.PEAK_GAUSS: math.pi / 8,
            Convention.MEAN_1E2: math.pi / 4,
            Convention.PEAK_GAUSS_FWHM: math.pi / (4 * math.log(2)),
        }
        if convention in shares:
            return product_cm2 * shares[convention]
        raise _not_defined(convention, "a spot quoted by its axes")


Spot = GaussianSpot | StripeSpot | FlatTopSpot | RectangleSpot


def _not_defined(convention: Convention, spot: str) -> ValueError:
    return ValueError(f"the fluence convention {convention.value!r} is not defined for {spot}")


@dataclass(frozen=True, slots=True)
class SpotGeometry:
    """Everything that turns a pulse energy at the sample plane into an incident fluence.

    :param spot: Shape and size on the sample, measured normal to the beam.
    :param convention: How the fluence is quoted.
    :param incidence_angle_deg: Angle between beam and surface normal, 0 ≤ angle < 90.
    :param reflection: Fraction reflected; kept with the data, not applied: papers quote incident fluence.
    """

    spot: Spot
    convention: Convention
    incidence_angle_deg: float = 0.0
    reflection: float = 0.0

    @property
    def area_cm2(self) -> float:
        """Get the area A with F = E / A on the tilted surface, in cm²."""
        return self.spot.area_cm2(self.convention) / math.cos(math.radians(self.incidence_angle_deg))

    def conventions(self) -> dict[Convention, SpotGeometry]:
        """Get the same beam under every convention that is defined for its spot, its own one first."""
        same: dict[Convention, SpotGeometry] = {self.convention: self}
        for convention in Convention:
            try:
                self.spot.area_cm2(convention)
            except ValueError:
                continue
            same.setdefault(convention, replace(self, convention=convention))
        return same

    def fluence(self, pulse_energy_j: float, error_j: float = 0.0) -> Fluence:
        """Convert a pulse energy at the sample in J."""
        return Fluence(pulse_energy_j, error_j, self)

    def pulse_energy_j(self, fluence_uj_cm2: float) -> float:
        """Get the pulse energy at the sample in J that gives a fluence in µJ/cm²."""
        return fluence_uj_cm2 * 1e-6 * self.area_cm2


@dataclass(frozen=True, slots=True)
class Fluence:
    """A fluence that remembers the pulse energy and the geometry it came from.

    :param pulse_energy_j: Energy per pulse at the sample, in J.
    :param error_j: Its standard error, in J.
    :param geometry: Spot, convention, incidence.
    """

    pulse_energy_j: float
    error_j: float
    geometry: SpotGeometry

    @property
    def uj_cm2(self) -> float:
        """Get the fluence in µJ/cm² under its convention."""
        return self.pulse_energy_j * 1e6 / self.geometry.area_cm2

    @property
    def error_uj_cm2(self) -> float:
        """Get its standard error in µJ/cm²."""
        return self.error_j * 1e6 / self.geometry.area_cm2

    @property
    def convention(self) -> Convention:
        """Get the convention under which :attr:`uj_cm2` is quoted."""
        return self.geometry.convention


def excitons_per_particle(fluence_uj_cm2: float, cross_section_cm2: float, wavelength_nm: float) -> float:
    """Get ⟨N⟩ = F σ / (h ν) for short pulses (pump much shorter than any decay)."""
    return fluence_uj_cm2 * 1e-6 * cross_section_cm2 / photon_energy_j(wavelength_nm)


def effective_population(excitons: float, pulse_ns: float, lifetime_ns: float) -> float:
    """Get the excitons that are there at the end of a long pulse, when those of many decay with ``lifetime_ns``.

    Quasi-steady state: N_eff = ⟨N⟩ (τ/t_p)(1 - exp(-t_p/τ)), with ⟨N⟩ = F σ / (h ν) all that the pulse excites. It is
    ⟨N⟩ for a pulse much shorter than τ and ⟨N⟩ τ/t_p for a much longer one.
    """
    share = pulse_ns / lifetime_ns
    return excitons * -math.expm1(-share) / share


@dataclass(frozen=True, slots=True)
class EnergyReading:
    """Pulse energies as one reading of an energy meter.

    :param mean_j: Mean energy in J at the meter.
    :param std_j: Standard deviation from pulse to pulse, in J.
    :param pulses: Number of pulses averaged.
    """

    mean_j: float
    std_j: float
    pulses: int

    @property
    def error_j(self) -> float:
        """Get the standard error of the mean in J."""
        return self.std_j / math.sqrt(self.pulses) if self.pulses > 1 else self.std_j


@dataclass(frozen=True, slots=True, eq=False)
class Spectrum:
    """One spectrum as the detector gave it.

    :param wavelength_nm: Wavelength of each pixel, shape (pixels,), in nm, ascending.
    :param counts: Sum over all accumulations, shape (pixels,), in counts of the ADC, nothing subtracted.
    :param exposure_s: True exposure of one accumulation, in s.
    :param accumulations: Number of exposures summed.
    :param saturated: Pixels at or near the ceiling in any accumulation, shape (pixels,), bool.
    :param cosmic: Pixels hit by a cosmic ray, shape (pixels,), bool; flagged, not repaired.
    :param temperature_c: Sensor temperature in °C.
    :param full_scale_counts: Ceiling of the ADC for one accumulation.
    :param filter_name: Filter before the slit; ``none`` on a bench without filters.
    :param filter_position: Its position as read back, from 1; 0 on a bench without filters.
    """

    wavelength_nm: NDArray[np.float64]
    counts: NDArray[np.float64]
    exposure_s: float
    accumulations: int
    saturated: NDArray[np.bool_]
    cosmic: NDArray[np.bool_]
    temperature_c: float
    full_scale_counts: float
    filter_name: str = "none"
    filter_position: int = 0

    @property
    def total_exposure_s(self) -> float:
        """Get the exposure summed over the accumulations, in s."""
        return self.exposure_s * self.accumulations
