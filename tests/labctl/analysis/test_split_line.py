from __future__ import annotations

import numpy as np
import pytest

from labctl.analysis.split_line import HC_EV_NM, energy_spectrum, fit_band_lines, mean_line

X = np.linspace(540.0, 760.0, 1024)
LN2 = np.log(2.0)


def split_in_wavelength(peak, blue, red):
    u = X - peak
    return np.exp(-LN2 * (u / np.where(u < 0, blue, red)) ** 2)


def split_in_energy(x, peak, blue, red):
    u = HC_EV_NM / x - HC_EV_NM / peak
    half = np.where(u > 0, blue, red) * HC_EV_NM / peak**2
    return np.exp(-LN2 * (u / half) ** 2) * (peak / x) ** 2


def noisy(band, peak_counts, n, seed=0):
    rng = np.random.default_rng(seed)
    return rng.poisson(peak_counts * np.tile(band, (n, 1))) + rng.normal(0, 5, (n, X.size))


@pytest.mark.parametrize(
    ("counts", "peak_sd", "shift_sd", "bias"), [(2000, 0.07, 0.22, 0.02), (50000, 0.02, 0.04, 0.005)]
)
@pytest.mark.parametrize("given", [False, True])
def test_peak_shift_and_broadening(counts, peak_sd, shift_sd, bias, given):
    n = 40
    before, after = split_in_wavelength(641, 12.4, 15.4), split_in_wavelength(643, 13.3, 16.5)
    spectra = np.concatenate([noisy(before, counts, n), noisy(after, counts, n, seed=1)])
    error = np.sqrt(counts * np.repeat([before, after], n, axis=0) + 25) if given else None
    lines = fit_band_lines(X, spectra, counts_error=error)
    peak, width = lines.peak_nm, lines.fwhm_nm
    # Three standard errors of the mean stand beside the bias allowed.
    assert peak[:n].mean() == pytest.approx(641, abs=bias + 3 * peak_sd / np.sqrt(n)) and peak[:n].std() < peak_sd
    shift, broadening = peak[n:] - peak[:n], width[n:] - width[:n]
    assert shift.mean() == pytest.approx(2, abs=bias + 3 * shift_sd / np.sqrt(n)) and shift.std() < shift_sd
    assert broadening.mean() == pytest.approx(2.0, abs=0.03) and broadening.std() < 0.75 * shift_sd
    assert lines.peak_error_nm.mean() == pytest.approx(peak[:n].std(), rel=0.35)
    assert lines.fwhm_error_nm.mean() == pytest.approx(width[:n].std(), rel=0.35)


def test_maxima_per_wavelength_and_per_energy_are_those_of_the_curve():
    fine = np.linspace(600, 690, 400001)
    curve = split_in_energy(fine, 641, 13, 15)
    lines = fit_band_lines(X, 1e5 * split_in_energy(X, 641, 13, 15), shape="split_energy")
    half = fine[curve > 0.5 * curve.max()]
    assert lines.peak_nm[0] == pytest.approx(fine[np.argmax(curve)], abs=1e-3)
    assert lines.fwhm_nm[0] == pytest.approx(half[-1] - half[0], abs=1e-3)
    assert lines.peak_ev[0] == pytest.approx(HC_EV_NM / 641, abs=1e-6)
    assert lines.fwhm_mev[0] == pytest.approx(1e3 * 28 * HC_EV_NM / 641**2, abs=0.01)
    assert abs(HC_EV_NM / lines.peak_nm[0] - lines.peak_ev[0]) > 3e-4


def test_the_shape_of_the_run_is_found():
    assert fit_band_lines(X, noisy(split_in_wavelength(641, 11, 17), 5e4, 5)).shape == "split_wavelength"
    assert fit_band_lines(X, noisy(split_in_energy(X, 641, 17, 11), 5e4, 5)).shape == "split_energy"


def test_the_area_survives_the_jacobian():
    energy, counts = energy_spectrum(X, split_in_wavelength(641, 13, 15))
    assert np.all(np.diff(energy) > 0)
    per_nm = np.trapezoid(split_in_wavelength(641, 13, 15), X)
    assert np.trapezoid(counts, energy) == pytest.approx(per_nm, rel=1e-4)
    lines = fit_band_lines(X, 1000 * split_in_wavelength(641, 13, 15))
    assert lines.area[0] == pytest.approx(1000 * per_nm, rel=1e-3)


def test_a_dead_spectrum_has_no_line_and_does_not_harm_the_others():
    spectra = noisy(split_in_wavelength(641, 13, 15), 2000, 4)
    spectra[2] = np.random.default_rng(5).normal(0, 5, X.size)
    lines = fit_band_lines(X, spectra)
    assert lines.found.tolist() == [True, True, False, True]
    assert lines.line(2) is None and lines.line(0).as_dict()["peak_nm"]["unit"] == "nm"


def test_a_second_band_is_measured_in_its_window():
    both = split_in_wavelength(641, 13, 15) + 0.2 * np.exp(-LN2 * ((X - 577) / 8) ** 2)
    lines = fit_band_lines(X, noisy(both, 2e4, 3), window_nm=(557, 597))
    assert np.allclose(lines.peak_nm, 577, atol=0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"counts_error": np.zeros(X.size)}, "counts_error"),
        ({"window_nm": (541, 542)}, "pixels"),
        ({"spectra": np.ones(10)}, "spectra"),
        ({"spectra": np.zeros(X.size)}, "no band"),
    ],
)
def test_bad_input_is_refused(options, message):
    arguments = {"spectra": split_in_wavelength(641, 13, 15), **options}
    with pytest.raises(ValueError, match=message):
        fit_band_lines(X, arguments.pop("spectra"), **arguments)


def test_mean_line():
    mean, sd = mean_line([1.0, 3.0, np.nan], [1.0, 1.0, 1.0])
    assert mean == 2.0 and sd == pytest.approx(1.0)
    assert np.isnan(mean_line([np.nan], [1.0])[0])
