from __future__ import annotations

import numpy as np
import pytest

from labctl.analysis.spectrum import ASELine, PLShape, fit_pl_shape, fit_two_components

WAVELENGTH = np.linspace(575.0, 705.0, 1024)
PL = PLShape(641.0, 12.0, 16.0)
NOISE = 20.0


def noisy(spectrum, seed=0, noise=NOISE):
    return spectrum + np.random.default_rng(seed).normal(0, noise, spectrum.shape)


def test_areas_are_those_under_the_curves():
    for line in (PL, ASELine(640.0, 6.7), ASELine(640.0, 6.7, 3.0)):
        wide = np.linspace(-1e5, 1e5 + 1280, 4_000_001)
        assert np.trapezoid(line(wide), wide) == pytest.approx(line.area_nm, rel=1e-3)
        assert line(np.array([line.centre_nm])) if isinstance(line, ASELine) else True
    assert ASELine(640.0, 6.7, 3.0)(np.array([640.0 - 3.35, 640.0 + 3.35])) == pytest.approx(0.5)
    assert PL(np.array([641 - 12.0, 641.0, 641 + 16.0])) == pytest.approx([0.5, 1.0, 0.5])


def test_pl_shape_from_several_faint_spectra():
    spectra = np.stack([noisy(k * 300 * PL(WAVELENGTH), seed=k) for k in range(1, 5)])
    found = fit_pl_shape(WAVELENGTH, spectra)
    assert found.centre_nm == pytest.approx(641.0, abs=0.3)
    assert found.half_width_blue_nm == pytest.approx(12.0, abs=0.3)
    assert found.fwhm_nm == pytest.approx(28.0, abs=0.3)


def test_pl_shape_refuses_noise():
    with pytest.raises(ValueError, match="no PL line"):
        fit_pl_shape(WAVELENGTH, noisy(np.zeros(WAVELENGTH.size)))


@pytest.mark.parametrize("width", [0.9, 6.7, 12.0])
@pytest.mark.parametrize("height", [1000.0, 3000.0, 3e5])
@pytest.mark.parametrize("warm", [True, False])
def test_two_components_are_told_apart(width, height, warm):
    line = ASELine(632.0, width, 2.2)
    expected = ASELine(633.0, 1.3 * width) if warm else None
    pulls = []
    for seed in range(5):
        counts = noisy(3000 * PL(WAVELENGTH) + height * line(WAVELENGTH), seed)
        two = fit_two_components(WAVELENGTH, counts, PL, expected=expected)
        assert two.significant
        assert two.ase_peak_nm == pytest.approx(632.0, abs=5 * two.ase_peak_error_nm)
        assert two.ase_fwhm_nm == pytest.approx(width, abs=5 * two.ase_fwhm_error_nm)
        assert two.pl_area == pytest.approx(3000 * PL.area_nm, abs=5 * two.pl_area_error)
        assert two.ase_fwhm_error_nm < 0.15 * width
        pulls.append((two.ase_area - height * line.area_nm) / two.ase_area_error)
        residual = two.curve(WAVELENGTH, PL) - counts
        assert np.std(residual) == pytest.approx(NOISE, rel=0.1)
    assert np.max(np.abs(pulls)) < 5


def test_errors_of_the_areas_are_honest():
    line = ASELine(632.0, 6.7)
    fits = [
        fit_two_components(WAVELENGTH, noisy(3000 * PL(WAVELENGTH) + 2000 * line(WAVELENGTH), seed), PL, expected=line)
        for seed in range(60)
    ]
    for name in ("pl_area", "ase_area", "ase_peak", "ase_fwhm"):
        suffix = "_nm" if name in ("ase_peak", "ase_fwhm") else ""
        values = np.array([getattr(fit, name + suffix) for fit in fits])
        errors = np.array([getattr(fit, f"{name}_error{suffix}") for fit in fits])
        assert values.std() == pytest.approx(errors.mean(), rel=0.4), name


def test_below_threshold_there_is_no_line():
    expected = ASELine(632.0, 6.7)
    areas = []
    for seed in range(40):
        two = fit_two_components(WAVELENGTH, noisy(500 * PL(WAVELENGTH), seed), PL, expected=expected)
        assert not two.significant
        assert np.isnan(two.ase_peak_nm) and np.isnan(two.ase_fwhm_nm)
        areas.append(two.ase_area / two.ase_area_error)
    assert abs(np.mean(areas)) < 0.6 and np.std(areas) == pytest.approx(1.0, abs=0.4)


def test_known_errors_weight_the_pixels():
    line = ASELine(632.0, 6.7)
    clean = 3000 * PL(WAVELENGTH) + 30000 * line(WAVELENGTH)
    sigma = np.sqrt(clean + 16)
    counts = clean + sigma * np.random.default_rng(0).normal(size=clean.size)
    weighted = fit_two_components(WAVELENGTH, counts, PL, counts_error=sigma)
    assert weighted.pl_area == pytest.approx(3000 * PL.area_nm, abs=4 * weighted.pl_area_error)
    with pytest.raises(ValueError, match="counts_error"):
        fit_two_components(WAVELENGTH, counts, PL, counts_error=np.zeros(clean.size))


def test_cosmic_ray_is_no_ase_line():
    counts = noisy(500 * PL(WAVELENGTH))
    counts[300] += 20000
    assert not fit_two_components(WAVELENGTH, counts, PL).significant


def test_malformed_spectra():
    with pytest.raises(ValueError, match="ascending"):
        fit_pl_shape(WAVELENGTH[::-1], WAVELENGTH)
    with pytest.raises(ValueError, match="pixels"):
        fit_two_components(WAVELENGTH, WAVELENGTH[1:], PL)
    with pytest.raises(ValueError, match="finite"):
        fit_pl_shape(WAVELENGTH, np.full(WAVELENGTH.size, np.nan))
