from __future__ import annotations

import numpy as np
import pytest

from labctl.analysis.linewidth import InstrumentResponse, deconvolve_width
from labctl.analysis.modes import find_modes, fit_mode, mode_spacing, strongest

WAVELENGTH = np.linspace(426.0, 455.0, 1024)
MODES = np.array([443.296, 442.555, 441.816, 441.08, 440.346, 439.614, 438.885])[::-1]
FINE = np.linspace(425.5, 455.5, 30001)
INSTRUMENT = InstrumentResponse(0.05, 0.002)


def comb(modes=MODES, q=3000.0, gaussian=False, instrument_nm=0.05, background=0.02):
    """Modes of one Q over a broad line, seen through a Gaussian instrument; unit height of the strongest."""
    weights = np.exp(-(((modes - 440.5) / 3.0) ** 2))
    light = np.zeros_like(FINE)
    for mode, weight in zip(modes, weights, strict=True):
        v = (FINE - mode) / (0.5 * mode / q)
        light += weight * (np.exp(-np.log(2) * v**2) if gaussian else 1 / (1 + v**2))
    light += background * np.exp(-(((FINE - 435) / 10) ** 2))
    step = FINE[1] - FINE[0]
    sigma = instrument_nm / np.sqrt(8 * np.log(2))
    kernel = np.exp(-0.5 * (np.arange(-400, 401) * step / sigma) ** 2)
    seen = np.interp(WAVELENGTH, FINE, np.convolve(light, kernel / kernel.sum(), "same"))
    return seen / seen.max()


def noisy(spectrum, counts=2e4, seed=0):
    rng = np.random.default_rng(seed)
    return rng.poisson(spectrum * counts) + rng.normal(0, 4, spectrum.size)


def test_every_mode_of_a_comb_is_found():
    for seed in range(5):
        found = find_modes(WAVELENGTH, noisy(comb(), seed=seed))
        assert found == pytest.approx(MODES, abs=0.01)
        assert strongest(WAVELENGTH, comb(), found) == pytest.approx(440.346, abs=0.01)


def test_there_are_no_modes_in_noise_or_in_a_broad_line():
    broad = np.exp(-(((WAVELENGTH - 440) / 8) ** 2))
    for seed in range(20):
        assert find_modes(WAVELENGTH, noisy(0 * broad, seed=seed)).size == 0
        assert find_modes(WAVELENGTH, noisy(broad, seed=seed)).size == 0


@pytest.mark.parametrize("gaussian", [True, False])
def test_the_shape_is_chosen_and_the_width_taken_out(gaussian):
    own = 440.346 / 2000
    for seed in range(3):
        counts = noisy(comb(q=2000.0, gaussian=gaussian, instrument_nm=0.1), seed=seed)
        fit = fit_mode(WAVELENGTH, counts, MODES[2], MODES, InstrumentResponse(0.1))
        assert fit is not None and fit.shape == ("gaussian" if gaussian else "voigt")
        assert fit.peak_nm == pytest.approx(440.346, abs=0.002)
        assert deconvolve_width(fit.fwhm_nm, 0.1, fit.shape) == pytest.approx(own, rel=0.02)
        assert 0 < fit.fwhm_sd_nm < 0.02 * own and 0 < fit.peak_sd_nm < 0.01


def test_a_lorentzian_instrument_leaves_a_lorentzian():
    counts = noisy(comb(q=1500.0, instrument_nm=1e-4))
    fit = fit_mode(WAVELENGTH, counts, MODES[2], MODES, InstrumentResponse(0.2))
    assert fit is not None and fit.shape == "lorentzian" and fit.fwhm_nm == pytest.approx(440.346 / 1500, rel=0.02)


def test_a_mode_that_barely_stands_out_is_fitted_without_complaint():
    """Just below the threshold half of the light at a mode is PL; warnings are errors here."""
    for seed in range(20):
        fit = fit_mode(WAVELENGTH, noisy(comb(background=0.9), counts=400, seed=seed), MODES[2], MODES, INSTRUMENT)
        assert fit is not None and fit.peak_nm == pytest.approx(440.346, abs=0.05)
        assert fit.fwhm_nm == pytest.approx(np.hypot(440.346 / 3000, 0.05), rel=0.5)


def test_one_mode_of_a_wide_window():
    wide = np.linspace(563.0, 703.0, 1024)
    pl = 0.05 * np.exp(-4 * np.log(2) * ((wide - 641) / 28.4) ** 2)
    line = np.exp(-4 * np.log(2) * ((wide - 633) / 0.9) ** 2)
    for seed in range(5):
        counts = noisy(pl + line, seed=seed)
        modes = find_modes(wide, counts)
        assert modes == pytest.approx([633.0], abs=0.05)
        fit = fit_mode(wide, counts, modes[0], modes, InstrumentResponse(0.5))
        assert fit is not None and fit.shape == "gaussian" and fit.fwhm_nm == pytest.approx(0.9, abs=0.02)
        assert mode_spacing(modes, 633.0) is None


def test_what_cannot_be_fitted_has_no_width():
    spike = noisy(np.where(np.arange(1024) == 500, 1.0, 0.0))
    assert fit_mode(WAVELENGTH, spike, WAVELENGTH[500], WAVELENGTH[[500]], INSTRUMENT) is None or (
        deconvolve_width(fit_mode(WAVELENGTH, spike, WAVELENGTH[500], WAVELENGTH[[500]], INSTRUMENT).fwhm_nm, 0.05)
        is None
    )
    assert fit_mode(WAVELENGTH, np.zeros(1024), 440.0, np.array([440.0]), INSTRUMENT) is None
    cut = noisy(np.exp(-(((WAVELENGTH - 455.0) / 2.0) ** 2)))
    assert fit_mode(WAVELENGTH, cut, 455.0, np.array([455.0]), INSTRUMENT) is None


def test_spacing_at_the_strongest_mode():
    spacing = mode_spacing(MODES, 440.346)
    assert spacing is not None and spacing.value == pytest.approx(0.733, abs=0.002)
    missing = mode_spacing(np.delete(MODES, 3), 440.346)
    assert missing is not None and missing.value == pytest.approx(0.733, abs=0.005)
    two = mode_spacing(MODES[:2], MODES[0])
    assert two is not None and two.value == pytest.approx(0.729, abs=1e-3) and two.sd > 0.01
    assert mode_spacing(np.array([438.0, 439.0, 439.45, 441.0]), 439.0) is None
