"""The sample's physics: invariants, limits and the figures the default parameters stand for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize

from labctl.sim.sample import EnsembleSample, SampleState, amplified_emission, inversion_biexciton
from labctl.sim.truth import SampleTruth
from labctl.sim.truth_table import read_table

_WAVELENGTHS = np.linspace(560.0, 720.0, 1601)


def _sample(truth: dict[str, Any], **changes: Any) -> EnsembleSample:
    return EnsembleSample(read_table({**truth, **changes}, SampleTruth, "truth"))


def _knee(fluence: np.ndarray, intensity: np.ndarray) -> float:
    """Knee of a smooth hinge through ln I over ln F."""
    x, y = np.log(fluence), np.log(intensity)

    def hinge(p: np.ndarray) -> np.ndarray:
        y0, low, high, knee, softness = p
        return y0 + low * (x - knee) + (high - low) * softness * np.logaddexp(0.0, (x - knee) / softness) - y

    start = [np.interp(np.log(28.0), x, y), 1.0, 4.0, np.log(28.0), 0.1]
    fit = optimize.least_squares(hinge, start, bounds=([-99, 0, 0, 0, 0.005], [99, 3, 30, 9, 0.6]))
    return float(np.exp(fit.x[3]))


@settings(max_examples=60, deadline=None)
@given(
    a=st.floats(1e-6, 1e3),
    gain=st.floats(1e-4, 150.0),
    saturation=st.floats(1e-2, 1e8),
    length=st.floats(0.01, 0.15),
)
def test_amplified_emission_solves_its_differential_equation(
    a: float, gain: float, saturation: float, length: float
) -> None:
    # In units of a, and over the logarithm of the path's gain, the equation is tame enough for any integrator.
    def slope(_z: float, intensity: np.ndarray) -> np.ndarray:
        return gain * intensity / (1.0 + intensity * a / saturation) + 1.0

    solved = integrate.solve_ivp(slope, (0.0, length), [0.0], method="DOP853", rtol=1e-11, atol=1e-14)
    assert float(amplified_emission(a, gain, saturation, length)) == pytest.approx(a * solved.y[0, -1], rel=1e-6)


def test_amplified_emission_is_smooth_through_zero_gain() -> None:
    gain = np.concatenate([-np.logspace(2, -14, 200), [0.0], np.logspace(-14, 2, 400)])
    intensity = amplified_emission(np.full(gain.size, 3.0), gain, 1e6, 0.1)
    assert np.all(np.diff(intensity) >= -1e-6 * intensity[1:])
    near = np.abs(gain) < 1e-9
    assert intensity[near] == pytest.approx(0.3, rel=1e-9)
    for edge in (-1e-2, 1e-2):
        below, above = amplified_emission([3.0, 3.0], [edge * (1 - 1e-9), edge * (1 + 1e-9)], 1.0, 0.1)
        assert below == pytest.approx(above, rel=1e-6)


def test_amplified_emission_for_loss_and_without_source() -> None:
    assert float(amplified_emission(2.0, -1000.0, 1.0, 10.0)) == pytest.approx(2.0 / 1000.0)
    assert amplified_emission([0.0, 0.0], [-5.0, 50.0], 1.0, 0.1).tolist() == [0.0, 0.0]


def test_excitons_follow_from_pulse_energy_and_photon_energy(cdse_cds_zno: dict[str, Any]) -> None:
    # A 2.7e-13 cm2 dot at 2.7 uJ/cm2 of 400 nm absorbs 1.468 photons; 4.9661e-19 J each.
    sample = _sample(cdse_cds_zno, kappa=1.0, sigma_cm2=2.7e-13)
    assert float(sample.excitons(2.7)) == pytest.approx(1.468, abs=0.001)
    assert sample.fluence_for_excitons_uj_cm2(float(sample.excitons(5.5))) == pytest.approx(5.5)


def test_populations_are_poissonian(cdse_cds_zno: dict[str, Any]) -> None:
    sample = _sample(cdse_cds_zno)
    shares = sample.populations([0.0, 0.5, 3.0], highest=60)
    assert shares.sum(axis=-1) == pytest.approx(1.0)
    assert shares @ np.arange(61) == pytest.approx([0.0, 0.5, 3.0])
    assert shares[1, 0] == pytest.approx(np.exp(-0.5))


def test_yield_counts_cascades_from_all_populations(cdse_cds_zno: dict[str, Any]) -> None:
    sample = _sample(cdse_cds_zno)
    for n in (0.01, 1.0, 6.0, 30.0):
        shares = sample.populations(n, highest=200)
        w, order = 0.095, np.arange(1, 201)
        each = np.where(order == 1, 0.85, (1 - w) / ((1 - w) + w * (order - 1)))
        assert float(sample.emitted_photons(n)) == pytest.approx(float(shares[1:] @ np.cumsum(each)), rel=1e-9)
    assert float(sample.emitted_photons(1e-6)) == pytest.approx(0.85e-6, rel=1e-5)


def test_inversion_is_zero_at_the_known_number_of_excitons() -> None:
    assert float(inversion_biexciton(1.146)) == pytest.approx(0.0, abs=1e-3)
    assert float(inversion_biexciton(0.0)) == -1.0


def test_gain_is_zero_at_transparency(cdse_cds_zno: dict[str, Any]) -> None:
    sample = _sample(cdse_cds_zno)
    n = sample.excitons(sample.transparency_fluence_uj_cm2())
    assert float(inversion_biexciton(n)) == pytest.approx(0.05 + 10.0 / 134.0, abs=1e-9)
    gain = sample.modal_gain_cm1(np.linspace(600, 660, 6001), n)
    assert gain.max() == pytest.approx(0.0, abs=1e-4)


def test_gain_at_three_times_threshold_is_the_quoted_one(cdse_cds_zno: dict[str, Any]) -> None:
    sample = _sample(cdse_cds_zno)
    gain = sample.modal_gain_cm1(np.linspace(600, 660, 6001), sample.excitons(84.0))
    assert gain.max() == pytest.approx(115.0, abs=1.0)


def test_edge_shows_the_spontaneous_light_where_the_gain_is_zero(cdse_cds_zno: dict[str, Any]) -> None:
    sample = _sample(cdse_cds_zno)
    peak = np.linspace(625.0, 640.0, 15001)
    crossing = sample.transparency_fluence_uj_cm2()
    at = peak[np.argmax(sample.modal_gain_cm1(peak, sample.excitons(crossing)))]
    for side in (-1.0, 1.0):
        for step, tolerance in ((1e-3, 3e-4), (1e-6, 3e-7)):
            fluence = crossing * (1.0 + side * step)
            spontaneous = sample.emitted_photons(sample.excitons(fluence)) * sample.pl_line(at) * 0.1
            shown = sample.emission_spectrum(np.array([at]), fluence, 1.0)
            assert shown[0] == pytest.approx(float(spontaneous), rel=tolerance)


def test_emission_spectrum_over_fluences_is_that_of_each(cdse_cds_zno: dict[str, Any]) -> None:
    sample = _sample(cdse_cds_zno)
    fluences = np.array([0.0, 2.8, 27.9, 140.0])
    together = sample.emission_spectrum(_WAVELENGTHS, fluences, 1.0)
    assert together.shape == (4, _WAVELENGTHS.size)
    for one, fluence in zip(together, fluences, strict=True):
        assert sample.emission_spectrum(_WAVELENGTHS, float(fluence), 1.0) == pytest.approx(one, rel=1e-9)
    assert not together[0].any()
    assert np.isfinite(sample.emission_spectrum(np.array([-50.0, 0.0, 200.0, 1500.0]), 140.0, 1.0)).all()


@pytest.mark.parametrize("up_to", [54.0, 56.0, 58.0])
def test_knee_of_the_default_parameters(cdse_cds_zno: dict[str, Any], up_to: float) -> None:
    fluence = np.geomspace(2.8, up_to, 100)
    band = _sample(cdse_cds_zno).emission_spectrum(_WAVELENGTHS, fluence, 1.0).sum(axis=1)
    assert 27.0 <= _knee(fluence, band) <= 28.3


def test_steepest_point_of_the_default_parameters(cdse_cds_zno: dict[str, Any]) -> None:
    fluence = np.geomspace(5.0, 84.0, 600)
    band = _sample(cdse_cds_zno).emission_spectrum(_WAVELENGTHS, fluence, 1.0).sum(axis=1)
    slope = np.gradient(np.log(band), np.log(fluence))
    assert fluence[np.argmax(slope)] == pytest.approx(38.7, rel=0.03)


@pytest.mark.parametrize("pump", [1.6, 2.0, 2.4])
def test_ase_line_as_a_two_component_fit_finds_it(cdse_cds_zno: dict[str, Any], pump: float) -> None:
    sample = _sample(cdse_cds_zno)
    shown = sample.emission_spectrum(_WAVELENGTHS, pump * 27.9, 1.0)

    def model(wavelength: np.ndarray, pl: float, ase: float, centre: float, fwhm: float) -> np.ndarray:
        return pl * sample.pl_line(wavelength) + ase * np.exp(-4 * np.log(2) * ((wavelength - centre) / fwhm) ** 2)

    found, _ = optimize.curve_fit(model, _WAVELENGTHS, shown, p0=[0.1, shown.max(), 630.0, 8.0])
    assert found[2] == pytest.approx(632.0, abs=0.3)
    assert found[3] == pytest.approx(6.7, abs=0.8 if pump != 2.0 else 0.3)


@pytest.mark.parametrize(("peak", "width"), [(630.0, 5.0), (632.0, 8.0), (641.0, 6.7), (648.0, 7.0)])
def test_any_stated_ase_line_comes_out(cdse_cds_zno: dict[str, Any], peak: float, width: float) -> None:
    sample = _sample(cdse_cds_zno, lambda_ase_nm=peak, fwhm_ase_nm=width)
    line = sample.ase_line(3.0 * sample.transparency_fluence_uj_cm2())
    assert line == pytest.approx((peak, width), abs=0.01)


def test_pl_line_has_the_stated_peak_width_and_asymmetry(cdse_cds_zno: dict[str, Any]) -> None:
    line = _sample(cdse_cds_zno, asymmetry_pl=1.5).pl_line(_WAVELENGTHS)
    above = _WAVELENGTHS[line > 0.5 * line.max()]
    assert _WAVELENGTHS[np.argmax(line)] == pytest.approx(641.0, abs=0.1)
    assert above[-1] - above[0] == pytest.approx(28.2, abs=0.25)
    assert (above[-1] - 641.0) / (641.0 - above[0]) == pytest.approx(1.5, abs=0.03)
    assert np.trapezoid(line, _WAVELENGTHS) == pytest.approx(1.0, rel=1e-3)


def test_damage_takes_emission_and_gain(cdse_cds_zno: dict[str, Any]) -> None:
    sample = _sample(cdse_cds_zno, damage_fluence_uj_cm2=1e6)
    worn = SampleState(accumulated_fluence_uj_cm2=1e6 * np.log(2))
    assert sample.active_fraction(worn) == pytest.approx(0.5)
    low = sample.emission_spectrum(_WAVELENGTHS, 2.8, 1.0, worn) / sample.emission_spectrum(_WAVELENGTHS, 2.8, 1.0)
    assert low == pytest.approx(0.5, abs=0.02)
    n = sample.excitons(60.0)
    fresh_gain, worn_gain = sample.modal_gain_cm1(632.0, n) + 10.0, sample.modal_gain_cm1(632.0, n, worn) + 10.0
    assert float(worn_gain / fresh_gain) == pytest.approx(0.5)


def test_without_damage_nothing_wears(cdse_cds_zno: dict[str, Any]) -> None:
    assert _sample(cdse_cds_zno).active_fraction(SampleState(1e30)) == 1.0


def test_a_sample_without_gain_only_glows(cdse_cds_zno: dict[str, Any]) -> None:
    truth = {key: value for key, value in cdse_cds_zno.items() if not key.endswith("ase_nm")}
    sample = _sample(truth, gain_cm1=0.0)
    shown = sample.emission_spectrum(_WAVELENGTHS, [28.0, 140.0], 1.0)
    assert shown[1] / shown[1].sum() == pytest.approx(shown[0] / shown[0].sum())
    assert sample.transparency_fluence_uj_cm2() == np.inf


def test_a_long_pulse_holds_what_is_there_at_a_time(cdse_cds_zno: dict[str, Any]) -> None:
    # 14.7 mJ/cm2 of 395 nm on 2.1e-15 cm2 is 61 photons per dot; 5 ns against a lifetime of 0.35 ns leave 4.3.
    truth = read_table({**cdse_cds_zno, "kappa": 1.0, "sigma_cm2": 2.1e-15, "tau_xx_ns": 0.35}, SampleTruth, "truth")
    short, long = EnsembleSample(truth, 395.0), EnsembleSample(truth, 395.0, 5.0)
    assert float(short.excitons(14.7e3)) == pytest.approx(61.4, abs=0.1)
    assert float(long.excitons(14.7e3)) == pytest.approx(4.3, abs=0.02)
    for sample in (short, long):
        assert sample.fluence_for_excitons_uj_cm2(float(sample.excitons(1e3))) == pytest.approx(1e3)


@pytest.mark.parametrize("duration_ns", [0.0, 1e-4, 1e-3])
def test_a_short_pulse_is_over_before_anything_decays(cdse_cds_zno: dict[str, Any], duration_ns: float) -> None:
    truth = read_table(cdse_cds_zno, SampleTruth, "truth")
    assert float(EnsembleSample(truth, 400.0, duration_ns).excitons(28.0)) == float(
        EnsembleSample(truth).excitons(28.0)
    )


def test_population_falls_smoothly_with_the_duration(cdse_cds_zno: dict[str, Any]) -> None:
    truth = read_table(cdse_cds_zno, SampleTruth, "truth")
    there = [float(EnsembleSample(truth, 400.0, t).excitons(28.0)) for t in np.geomspace(1e-3, 1e3, 60)]
    assert np.all(np.diff(there) <= 0)
    assert there[-1] == pytest.approx(there[0] * 12.4 / 1e3, rel=0.01)
