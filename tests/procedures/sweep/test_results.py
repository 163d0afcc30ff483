"""The results of a sweep by the names of ``--json``, from analyses made here."""

from __future__ import annotations

import numpy as np
import pytest

from labctl.analysis.ase import analyse_sweep
from labctl.analysis.s_curve import SCurve
from labctl.analysis.sweep_arrays import SweepArrays
from labctl.analysis.sweep_design import coarse_fluences, refine_fluences
from labctl.config.bench import load_bench
from labctl.config.sample import load_sample
from procedures.sweep.results import population_warnings, sweep_result


def lasing(threshold_uj_cm2: float):
    """Analysis of a laser without noise, with this threshold."""
    fluence = np.concatenate([coarse_fluences(threshold_uj_cm2), refine_fluences(threshold_uj_cm2)])
    shape = SCurve(np.log(threshold_uj_cm2), np.log(0.01), 1.0, 5.0 / threshold_uj_cm2)
    intensity = shape.intensity(np.log(fluence))
    sweep = SweepArrays.of(fluence, intensity, intensity_error=0.02 * intensity)
    return analyse_sweep(sweep, cavity=True, pulse_rms=0.0)


def test_a_fibre_under_every_convention():
    bench, sample = load_bench("simulated-fibre"), load_sample("cdzns-zns-fibre")
    result = sweep_result(lasing(30.2 / 0.12e-2), bench, sample, {"cross_section": 2.1e-15})
    assert result["threshold"]["value"] == pytest.approx(25167, rel=1e-3)
    assert result["threshold"]["systematic_relative_error"] > result["threshold_energy"]["systematic_relative_error"]
    assert (result["threshold_energy"]["value"], result["threshold_energy"]["unit"]) == (
        pytest.approx(30.2, rel=1e-3),
        "uJ",
    )
    readings = result["threshold_by_convention"]
    shown = {name: entry["value"] * 1e-3 for name, entry in readings.items()}
    expected = {"rect_axes_product": 25.2, "mean_1e2": 32.0, "peak_gauss": 64.1, "peak_gauss_fwhm": 22.2}
    assert shown == {name: pytest.approx(value, rel=0.005) for name, value in expected.items()}
    assert "1/e^2 diameters" in readings["peak_gauss"]["reading"]
    assert "half maximum" in readings["peak_gauss_fwhm"]["reading"]
    for entry in readings.values():
        assert entry["ci95"][0] < entry["value"] < entry["ci95"][1]
    assert result["beta"]["value"] == pytest.approx(0.01, rel=0.05)
    assert "ase_peak" not in result and "q" not in result, "there are no spectra"


def test_the_population_of_a_long_pulse_is_named_in_the_warning():
    bench, sample = load_bench("simulated-ns"), load_sample("cdzns-zns")
    result = sweep_result(lasing(14.7e3), bench, sample, {"cross_section": 2.1e-15})
    assert result["excitons_at_threshold"]["value"] == pytest.approx(61.4, abs=0.3)
    assert result["effective_population"]["value"] == pytest.approx(4.3, abs=0.05)
    assert result["effective_population"]["lifetime_ns"] == 0.35
    (warning,) = population_warnings(result, bench)
    assert "5 ns" in warning and "effective population is 4.3" in warning


def test_short_pulses_have_excitons_and_no_population():
    bench, sample = load_bench("simulated-rings"), load_sample("quantum-ring-medium")
    result = sweep_result(lasing(2.7), bench, sample, {"cross_section": 2.7e-13})
    ratio = result["excitons_at_threshold"]["value"] / result["threshold"]["value"]
    assert 2.7 * ratio == pytest.approx(1.468, abs=0.002)
    assert "effective_population" not in result and population_warnings(result, bench) == []
    assert set(result["threshold_by_convention"]) == {"peak_gauss", "mean_1e2"}


def test_without_a_threshold_there_is_nothing_to_convert():
    found = analyse_sweep(SweepArrays.of(np.geomspace(1, 50, 20), np.geomspace(1, 50, 20)))
    assert sweep_result(found, load_bench("simulated"), None, {}) == {}
