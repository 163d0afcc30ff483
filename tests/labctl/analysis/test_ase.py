from __future__ import annotations

import json

import numpy as np
import pytest

from labctl.analysis.ase import analyse_sweep, jitter_factor
from labctl.analysis.definitions import other_definitions
from labctl.analysis.linewidth import InstrumentResponse
from labctl.analysis.photodamage import photodamage
from labctl.analysis.sweep_arrays import SweepArrays
from labctl.analysis.sweep_design import coarse_fluences, refine_fluences

COARSE, FINE = coarse_fluences(28.0), refine_fluences(28.0)
FLUENCE = np.concatenate([COARSE, FINE, COARSE[:3]])
STAGE = np.array(["coarse"] * 8 + ["fine"] * 24 + ["return"] * 3)


def measure(film, seed, loss=0.0, fluence=FLUENCE):
    """Spectra of a sweep: 1 % fluctuation, photon noise at 3e4 counts in the peak; ``loss`` of brightness in all."""
    rng = np.random.default_rng(seed)
    dose = np.cumsum(fluence) / fluence.sum()
    bright = np.exp(rng.normal(0, 0.01, fluence.size)) * (1 - loss) ** dose
    clean = film.spectra(fluence * np.exp(rng.normal(0, 0.01, fluence.size))) * bright[:, None]
    scale = 3e4 / clean.max(axis=1, keepdims=True)
    return (rng.poisson(clean * scale) + rng.normal(0, 4, clean.shape)) / scale


def analyse(film, spectra, response=InstrumentResponse(0.2), gain=None, **changes):
    intensity = spectra.sum(axis=1)
    arguments = {
        "fluence_error": 0.01 * FLUENCE,
        "intensity_error": 0.01 * np.abs(intensity),
        "wavelength_nm": film.wavelength_nm,
        "spectra": spectra,
        "stage": STAGE,
    }
    sweep = SweepArrays.of(FLUENCE, intensity, **(arguments | changes))
    return analyse_sweep(sweep, response=response, pulse_rms=0.015, gain=gain)


@pytest.fixture(scope="module")
def analysis(film):
    return analyse(film, measure(film, 0))


def test_whole_sweep(analysis):
    assert analysis.threshold is not None
    assert analysis.threshold.value == pytest.approx(28.0, rel=0.03)
    assert analysis.threshold.n_points == 32
    assert analysis.pl_shape.fwhm_nm == pytest.approx(28.4, abs=0.4)
    assert analysis.ase_line.peak_nm.value == pytest.approx(632.0, abs=0.3)
    assert analysis.ase_line.fwhm_nm.value == pytest.approx(6.7, abs=0.3)
    assert len(analysis.points) == FLUENCE.size
    assert analysis.warnings == ()
    assert not analysis.photodamage.damaged


def test_definitions_are_all_there_and_in_order(analysis):
    values = {name: definition.value for name, definition in analysis.definitions.items()}
    assert values["fwhm_onset"] == pytest.approx(25.5, rel=0.05)
    assert values["fwhm_half"] == pytest.approx(29.5, rel=0.03)
    assert values["ase_equals_pl"] == pytest.approx(35.0, rel=0.05)
    assert values["linear_intercept"] == pytest.approx(35.0, rel=0.06)
    assert values["max_slope"] == pytest.approx(38.5, rel=0.1)
    assert values["max_curvature"] == pytest.approx(30.0, rel=0.2)
    assert values["net_gain_zero"] is None
    assert "stripe-length" in analysis.definitions["net_gain_zero"].reason


def test_everything_is_json(analysis):
    stored = json.loads(json.dumps(analysis.as_dict(), allow_nan=False))
    assert stored["threshold"]["unit"] == "uJ/cm^2"
    assert set(stored["definitions"]) == set(analysis.definitions)
    assert stored["points"][0]["ase_peak_nm"] is None


def test_spectra_follow_the_collapse_of_the_line(analysis):
    points = sorted(analysis.points, key=lambda point: point.fluence)
    assert points[0].fwhm_nm == pytest.approx(28.4, rel=0.05)
    assert points[-1].fwhm_nm < 9
    top = points[-1]
    assert top.ase_area > 5 * top.pl_area
    assert points[0].ase_area < 0.05 * points[0].pl_area


def test_net_gain_from_stripe_length_runs(film):
    gain = (np.array([10.0, 15.0, 20.0, 30.0]), np.array([-20.0, -10.0, 10.0, 50.0]))
    found = analyse(film, measure(film, 0), gain=gain)
    assert found.definitions["net_gain_zero"].value == pytest.approx(np.sqrt(15 * 20))


def test_photodamage_is_flagged_in_every_run(film):
    for seed in range(6):
        found = analyse(film, measure(film, seed, loss=0.12))
        assert found.photodamage.damaged
        assert found.photodamage.ratio.value == pytest.approx(0.89, abs=0.04)
        assert any("photodamage" in text for text in found.warnings)


def test_noise_alone_rarely_flags_photodamage():
    n, flags = 8, 0
    fluence = np.concatenate([COARSE, COARSE[:3]])
    returned = np.arange(fluence.size) >= n
    for seed in range(400):
        intensity = fluence * np.exp(np.random.default_rng(seed).normal(0, 0.05, fluence.size))
        result = photodamage(fluence, intensity, np.full(fluence.size, 0.05), returned, np.ones(fluence.size, bool))
        flags += result.damaged
    assert flags <= 12
    assert not result.conclusive


def test_photodamage_compares_only_with_the_pristine_pass():
    fluence = np.concatenate([COARSE, FINE, COARSE[:3]])
    damaged = np.arange(fluence.size) >= 8
    returned = np.arange(fluence.size) >= 32
    intensity = np.where(damaged, 0.9, 1.0) * fluence
    result = photodamage(fluence, intensity, np.full(fluence.size, 0.01), returned, np.ones(fluence.size, bool))
    assert result.ratio is not None and result.ratio.value == pytest.approx(0.9)
    assert result.damaged and result.n_after == 3 and result.n_before <= 5


def test_missing_or_impossible_photodamage_check(film):
    spectra = measure(film, 0)
    no_return = analyse(film, spectra, stage=np.where(STAGE == "return", "fine", STAGE))
    assert no_return.photodamage.ratio is None and any("did not return" in text for text in no_return.warnings)
    down = np.argsort(-FLUENCE[:32], kind="stable")
    fluence = np.concatenate([FLUENCE[:32][down], COARSE[:3]])
    intensity = film.intensity(fluence)
    descending = analyse_sweep(SweepArrays.of(fluence, intensity, intensity_error=0.01 * intensity, stage=STAGE))
    assert any("downwards" in text for text in descending.warnings)
    assert descending.photodamage.ratio is None and "descending" in descending.photodamage.reason


def test_without_spectra_or_threshold(film):
    intensity = film.intensity(FLUENCE)
    bare = analyse_sweep(SweepArrays.of(FLUENCE, intensity))
    assert bare.threshold is not None and bare.pl_shape is None and bare.ase_line is None
    assert bare.definitions["fwhm_half"].reason == "no spectra"
    assert bare.definitions["max_slope"].value is not None
    straight = analyse(film, np.linspace(1, 40, FLUENCE.size)[:, None] * film.pl, stage=None)
    assert straight.threshold is None
    line = analyse_sweep(SweepArrays.of(FLUENCE, FLUENCE))
    assert line.threshold is None and line.no_threshold_reason == "slope does not change" and line.definitions == {}
    assert line.no_threshold in line.warnings
    json.dumps(line.as_dict(), allow_nan=False)


def test_saturated_spectra_enter_nothing(film):
    spectra = measure(film, 0)
    full = FLUENCE > 50
    clipped = np.where(full[:, None], np.minimum(spectra, 0.3 * spectra.max(axis=1, keepdims=True)), spectra)
    found = analyse(film, clipped, saturated=full)
    assert found.threshold.data_range[1] <= 50
    assert found.ase_line.fwhm_nm.value == pytest.approx(6.5, abs=0.5)
    assert any("saturated points" in text for text in found.warnings)


def test_spectra_without_a_line_do_not_stop_the_threshold(film):
    noise = np.random.default_rng(0).normal(0, 1, (FLUENCE.size, film.wavelength_nm.size))
    intensity = film.intensity(FLUENCE)
    sweep = SweepArrays.of(
        FLUENCE, intensity, intensity_error=0.03 * intensity, wavelength_nm=film.wavelength_nm, spectra=noise
    )
    found = analyse_sweep(sweep)
    assert found.threshold is not None and found.pl_shape is None
    assert any("not split" in text for text in found.warnings)


def test_warnings_of_the_measurement(film):
    spectra = measure(film, 0)
    intensity = spectra.sum(axis=1)
    intensity[0] = -1.0
    found = analyse_sweep(SweepArrays.of(FLUENCE, intensity, stage=STAGE), pulse_rms=0.08)
    assert any("pulse noise 8.0 %" in text for text in found.warnings)
    assert any("<= 0 after background" in text for text in found.warnings)


def test_malformed_sweeps(film):
    with pytest.raises(ValueError, match="stage must be"):
        SweepArrays.of(FLUENCE, FLUENCE, stage=["sweep"])
    with pytest.raises(ValueError, match="spectra must have shape"):
        SweepArrays.of(FLUENCE, FLUENCE, wavelength_nm=film.wavelength_nm, spectra=np.ones((2, 512)))
    with pytest.raises(ValueError, match="go together"):
        SweepArrays.of(FLUENCE, FLUENCE, spectra=np.ones((FLUENCE.size, 512)))


def test_the_error_of_the_instruments_width_reaches_the_line(film):
    spectra = measure(film, 0)
    exact, vague = (analyse(film, spectra, InstrumentResponse(2.0, error)).ase_line for error in (0.0, 0.5))
    assert exact.fwhm_nm == vague.fwhm_nm
    expected = 2.0 / exact.fwhm_deconvolved_nm.value * 0.5  # of w = sqrt(observed^2 - instrument^2)
    assert vague.fwhm_deconvolved_nm.sd == pytest.approx(np.hypot(exact.fwhm_deconvolved_nm.sd, expected), rel=1e-3)
    assert vague.q_deconvolved.sd > exact.q_deconvolved.sd


def test_jitter_factor_against_an_average():
    rng = np.random.default_rng(0)
    pulses = rng.normal(1, 0.05, 2_000_000)
    assert jitter_factor(3.5, 0.05) == pytest.approx(np.mean(pulses**3.5), abs=5e-4)
    assert jitter_factor(1.0, 0.1) == 1.0


def test_definitions_say_why_they_are_missing():
    fluence = np.geomspace(3, 100, 8)
    found = other_definitions(
        28.0, fluence, fluence, np.full(8, 0.01), fluence, 0 * fluence, np.full(8, 28.0), "uJ/cm^2"
    )
    assert all(definition.value is None and definition.reason for definition in found.values())
