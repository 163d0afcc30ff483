"""Fluence conventions and conversions, against the numbers of the papers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.quantities import (
    Convention,
    EnergyReading,
    FlatTopSpot,
    GaussianSpot,
    RectangleSpot,
    SpotGeometry,
    StripeSpot,
    effective_population,
    excitons_per_particle,
    photon_energy_j,
)

sizes = st.floats(1e-3, 10.0)


def fluence_uj_cm2(spot: object, convention: Convention, energy_uj: float) -> float:
    return SpotGeometry(spot, convention).fluence(energy_uj * 1e-6).uj_cm2  # type: ignore[arg-type]


@given(width_x=sizes, width_y=sizes)
def test_the_peak_of_a_gaussian_is_twice_its_mean(width_x: float, width_y: float) -> None:
    spot = GaussianSpot(width_x, width_y)
    peak, mean = (fluence_uj_cm2(spot, convention, 1.0) for convention in (Convention.PEAK_GAUSS, Convention.MEAN_1E2))
    assert peak == pytest.approx(2 * mean)
    assert mean == pytest.approx(1.0 / (math.pi * width_x * width_y * 1e-2))


@given(length=sizes, half_width=sizes)
def test_the_peak_of_a_stripe_is_1_596_times_energy_over_length_and_width(length: float, half_width: float) -> None:
    spot = StripeSpot(length, half_width)
    peak, mean = (fluence_uj_cm2(spot, convention, 1.0) for convention in (Convention.PEAK_GAUSS, Convention.MEAN_1E2))
    assert peak / mean == pytest.approx(1.596, abs=5e-4)
    assert mean == pytest.approx(1.0 / (length * 2 * half_width * 1e-2))


def test_peaks_are_those_of_the_profiles_integrated() -> None:
    across = np.linspace(-8.0, 8.0, 40001)
    line = np.exp(-2 * across**2) * (across[1] - across[0])
    assert StripeSpot(1.0, 1.0).area_cm2(Convention.PEAK_GAUSS) == pytest.approx(line.sum() * 1e-2, rel=1e-6)
    assert GaussianSpot(1.0, 1.0).area_cm2(Convention.PEAK_GAUSS) == pytest.approx(line.sum() ** 2 * 1e-2, rel=1e-6)


@pytest.mark.parametrize(
    ("spot", "convention", "energy_uj", "mj_cm2"),
    [
        (FlatTopSpot(0.1497), Convention.FLAT_TOP, 22.0, 14.7),
        (FlatTopSpot(0.1198), Convention.FLAT_TOP, 30.2, 25.2),
        (RectangleSpot(0.3, 0.4), Convention.RECT_AXES_PRODUCT, 30.2, 25.2),
        (GaussianSpot(0.15, 0.2), Convention.PEAK_GAUSS, 30.2, 64.1),
        (GaussianSpot(0.15, 0.2), Convention.MEAN_1E2, 30.2, 32.0),
        (GaussianSpot(0.3 / 1.1774, 0.4 / 1.1774), Convention.PEAK_GAUSS, 30.2, 22.2),
        (GaussianSpot(0.15, 0.2), Convention.RECT_AXES_PRODUCT, 30.2, 25.2),
        (RectangleSpot(0.3, 0.4), Convention.PEAK_GAUSS, 30.2, 64.1),
        (RectangleSpot(0.3, 0.4), Convention.MEAN_1E2, 30.2, 32.0),
        (RectangleSpot(0.3, 0.4), Convention.PEAK_GAUSS_FWHM, 30.2, 22.2),
    ],
)
def test_one_pulse_energy_under_the_conventions_of_the_papers(
    spot: object, convention: Convention, energy_uj: float, mj_cm2: float
) -> None:
    assert fluence_uj_cm2(spot, convention, energy_uj) * 1e-3 == pytest.approx(mj_cm2, rel=0.005)


@pytest.mark.parametrize(
    ("spot", "defined"),
    [
        (GaussianSpot(0.1, 0.1), {Convention.PEAK_GAUSS, Convention.MEAN_1E2, Convention.RECT_AXES_PRODUCT}),
        (StripeSpot(1.0, 0.1), {Convention.PEAK_GAUSS, Convention.MEAN_1E2}),
        (FlatTopSpot(0.1), {Convention.FLAT_TOP}),
        (RectangleSpot(0.3, 0.4), set(Convention) - {Convention.FLAT_TOP}),
    ],
)
def test_conventions_that_a_spot_has_not_are_refused(spot: object, defined: set[Convention]) -> None:
    for convention in Convention:
        if convention in defined:
            assert fluence_uj_cm2(spot, convention, 1.0) > 0
        else:
            with pytest.raises(ValueError, match=convention.value):
                fluence_uj_cm2(spot, convention, 1.0)


def test_a_beam_under_every_convention_begins_with_its_own() -> None:
    geometry = SpotGeometry(RectangleSpot(0.3, 0.4), Convention.RECT_AXES_PRODUCT, incidence_angle_deg=30.0)
    same = geometry.conventions()
    assert next(iter(same)) is Convention.RECT_AXES_PRODUCT and len(same) == 4
    assert same[Convention.PEAK_GAUSS].area_cm2 == pytest.approx(geometry.area_cm2 * math.pi / 8)
    assert set(SpotGeometry(FlatTopSpot(0.1), Convention.FLAT_TOP).conventions()) == {Convention.FLAT_TOP}


@given(energy_uj=st.floats(1e-6, 1e3), angle=st.floats(0.0, 89.0))
def test_there_and_back_at_any_incidence(energy_uj: float, angle: float) -> None:
    geometry = SpotGeometry(StripeSpot(1.0, 0.15), Convention.PEAK_GAUSS, angle, reflection=0.04)
    fluence = geometry.fluence(energy_uj * 1e-6, 1e-8)
    assert geometry.pulse_energy_j(fluence.uj_cm2) == pytest.approx(energy_uj * 1e-6)
    normal = SpotGeometry(StripeSpot(1.0, 0.15), Convention.PEAK_GAUSS)
    assert fluence.uj_cm2 == pytest.approx(normal.fluence(energy_uj * 1e-6).uj_cm2 * math.cos(math.radians(angle)))
    assert fluence.error_uj_cm2 / fluence.uj_cm2 == pytest.approx(1e-8 / fluence.pulse_energy_j)
    assert fluence.convention is Convention.PEAK_GAUSS


@pytest.mark.parametrize(("wavelength", "energy"), [(400.0, 4.9661e-19), (395.0, 5.0290e-19), (365.0, 5.4423e-19)])
def test_photon_energies(wavelength: float, energy: float) -> None:
    assert photon_energy_j(wavelength) == pytest.approx(energy, abs=5e-24)


@pytest.mark.parametrize(
    ("fluence", "cross_section", "wavelength", "excitons", "error"),
    [
        (2.7, 2.7e-13, 400.0, 1.468, 0.002),
        (92.0, 2.7e-13, 400.0, 50.0, 0.5),
        (210.0, 2.1e-15, 400.0, 0.888, 0.01),
        (14.7e3, 2.1e-15, 395.0, 61.4, 0.5),
    ],
)
def test_excitons_per_particle(
    fluence: float, cross_section: float, wavelength: float, excitons: float, error: float
) -> None:
    assert excitons_per_particle(fluence, cross_section, wavelength) == pytest.approx(excitons, abs=error)


def test_the_population_of_a_long_pulse_is_what_does_not_decay_meanwhile() -> None:
    excited = excitons_per_particle(14.7e3, 2.1e-15, 395.0)
    assert effective_population(excited, 5.0, 0.35) == pytest.approx(4.3, abs=0.02)
    assert effective_population(2.0, 1e-6, 0.35) == pytest.approx(2.0, rel=1e-5)
    assert effective_population(2.0, 0.35, 0.35) == pytest.approx(2.0 * (1 - math.exp(-1)))


def test_the_error_of_a_mean_falls_with_the_pulses() -> None:
    assert EnergyReading(1e-6, 2e-8, 100).error_j == pytest.approx(2e-9)
    assert EnergyReading(1e-6, 2e-8, 1).error_j == 2e-8
