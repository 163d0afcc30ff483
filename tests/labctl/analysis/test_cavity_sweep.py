"""Whole sweeps on modelled laser cavities: a vertical cavity with one mode, a fibre with a comb."""

from __future__ import annotations

import json

import numpy as np
import pytest

from labctl.analysis.ase import analyse_sweep
from labctl.analysis.linewidth import InstrumentResponse
from labctl.analysis.s_curve import mode_photons
from labctl.analysis.sweep_arrays import SweepArrays
from labctl.analysis.sweep_design import coarse_fluences, refine_fluences

VCSEL = {"threshold": 3.3, "beta": 3e-3, "modes": [633.0], "fwhm": 0.9, "window": (563.0, 703.0), "pl": (641.0, 28.4)}
FIBRE = {
    "threshold": 25167.0,
    "beta": 0.01,
    "modes": [438.885, 439.614, 440.346, 441.08, 441.816, 442.555, 443.296],
    "fwhm": 0.16,
    "window": (426.5, 455.5),
    "pl": (435.0, 18.0),
}


def sweep(cavity, seed=0, peak_counts=2e4, background=0.1, rms=0.015, **changes):
    """Spectra of one cavity: Gaussian modes over the PL; photon and read noise, pulses that scatter by ``rms``."""
    rng = np.random.default_rng(seed)
    threshold = cavity["threshold"]
    coarse, fine = coarse_fluences(threshold), refine_fluences(threshold)
    fluence = np.concatenate([coarse, fine, coarse[:3]])
    stage = ["coarse"] * coarse.size + ["fine"] * fine.size + ["return"] * 3
    wavelength = np.linspace(*cavity["window"], 1024)
    gauss = np.exp(-4 * np.log(2) * ((wavelength[:, None] - np.array(cavity["modes"])) / cavity["fwhm"]) ** 2)
    shares = np.exp(-(((np.array(cavity["modes"]) - cavity["modes"][len(cavity["modes"]) // 2]) / 3) ** 2))
    modes = gauss @ (shares / shares.sum()) / cavity["fwhm"]
    centre, width = cavity["pl"]
    pl = np.exp(-4 * np.log(2) * ((wavelength - centre) / width) ** 2) / width
    ratio = fluence[:, None] / threshold * np.exp(rng.normal(0, 0.003, (fluence.size, 1)))
    pulses = ratio * (1 + rms * rng.standard_normal((fluence.size, 300)))
    photons = mode_photons(pulses, cavity["beta"]).mean(axis=1)
    clean = cavity["beta"] * photons[:, None] * modes + background * ratio * pl
    per_count = clean.max(axis=1, keepdims=True) / peak_counts
    spectra = (rng.poisson(clean / per_count) + rng.normal(0, 4, clean.shape)) * per_count
    intensity = spectra.sum(axis=1)
    arguments = {
        "fluence_error": 0.003 * fluence,
        "intensity_error": 0.01 * intensity,
        "stage": stage,
        "wavelength_nm": wavelength,
        "spectra": spectra,
    }
    return SweepArrays.of(fluence, intensity, **(arguments | changes))


def analyse(swept, instrument_nm, **arguments):
    return analyse_sweep(swept, cavity=True, response=InstrumentResponse(instrument_nm), pulse_rms=0.015, **arguments)


def test_a_vertical_cavity():
    for seed in range(3):
        found = analyse(sweep(VCSEL, seed), 0.5)
        assert found.threshold.model == "lasing"
        assert found.threshold.value == pytest.approx(3.3, rel=0.02)
        assert found.threshold.beta.value == pytest.approx(3e-3, rel=0.3)
        line = found.ase_line
        assert line.shape == "gaussian" and line.q.value == pytest.approx(703, abs=15)
        assert line.q_deconvolved.value == pytest.approx(633 / np.sqrt(0.81 - 0.25), rel=0.03)
        assert found.pl_peak.value == pytest.approx(641.0, abs=1.0)
        assert found.ase_shift is None and found.parts.mode_spacing is None
        assert found.warnings == () and not found.photodamage.damaged


def test_a_fibre():
    for seed in range(2):
        found = analyse(sweep(FIBRE, seed), 0.05)
        assert found.threshold.value == pytest.approx(25167.0, rel=0.04)
        assert len(found.parts.modes_nm) == 7
        assert found.ase_line.peak_nm.value == pytest.approx(441.08, abs=0.01)
        assert found.ase_line.fwhm_nm.value == pytest.approx(0.16, abs=0.005)
        assert found.parts.mode_spacing.value == pytest.approx(0.735, abs=0.003)
        assert found.pl_peak is None, "the window does not hold the PL line"


def test_points_are_split_into_modes_and_the_rest():
    found = analyse(sweep(VCSEL), 0.5)
    points = sorted(found.points, key=lambda point: point.fluence)
    assert abs(points[0].ase_area) < 0.2 * points[0].pl_area
    assert points[-1].ase_area > 5 * points[-1].pl_area
    # What goes past the modes goes with the pump.
    growth = points[-1].pl_area / points[0].pl_area / (points[-1].fluence / points[0].fluence)
    assert growth == pytest.approx(1.0, abs=0.15)
    assert points[-1].fwhm_nm == pytest.approx(0.9, abs=0.03)


def test_the_knee_and_others_stand_beside_the_lasing_threshold():
    found = analyse(sweep(VCSEL), 0.5)
    assert set(found.definitions) >= {"loglog_knee", "linear_intercept", "net_gain_zero", "ase_equals_pl"}
    assert 2.0 < found.definitions["loglog_knee"].value < 3.6
    assert found.definitions["linear_intercept"].value == pytest.approx(3.3, rel=0.1)
    json.dumps(found.as_dict(), allow_nan=False)


def test_the_model_can_be_chosen_against_the_form():
    knee = analyse(sweep(VCSEL), 0.5, model="knee")
    assert knee.threshold.model.startswith("hinge") and "loglog_knee" not in knee.definitions
    assert knee.ase_line.q.value == pytest.approx(703, abs=15)


def test_without_a_threshold_there_is_no_line():
    swept = sweep(VCSEL)
    low = swept.fluence < 2.0
    found = analyse(
        SweepArrays.of(
            swept.fluence[low],
            swept.intensity[low],
            intensity_error=swept.intensity_error[low],
            wavelength_nm=swept.wavelength_nm,
            spectra=swept.spectra[low],
        ),
        0.5,
    )
    assert found.threshold is None and found.no_threshold_reason in {"slope does not change", "too few points"}
    assert found.ase_line is None and len(found.points) == low.sum()


def test_a_cavity_that_shows_no_modes_says_so():
    swept = sweep(VCSEL)
    pl = np.exp(-4 * np.log(2) * ((swept.wavelength_nm - 641) / 28.4) ** 2)
    found = analyse(sweep(VCSEL, spectra=swept.intensity[:, None] * pl), 0.5)
    assert found.threshold is not None and found.ase_line is None
    assert any("no mode stands out" in text for text in found.warnings)


def test_a_mode_no_wider_than_the_instrument_has_no_q_of_its_own():
    found = analyse(sweep(VCSEL), 0.95)
    assert found.ase_line.q_deconvolved is None
    assert any("not resolved" in text for text in found.warnings)
