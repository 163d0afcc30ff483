from __future__ import annotations

import numpy as np
import pytest

from labctl.analysis.single_line import single_line
from labctl.analysis.spectrum import ASELine

WAVELENGTH = np.linspace(575.0, 705.0, 1024)


@pytest.mark.parametrize(("width", "noise"), [(0.9, 0.0), (6.7, 0.0), (6.7, 20.0), (28.0, 20.0)])
def test_single_line(width, noise):
    line = ASELine(632.04, width)
    for seed in range(5):
        counts = 1000 * line(WAVELENGTH) + np.random.default_rng(seed).normal(0, noise, WAVELENGTH.size)
        found = single_line(WAVELENGTH, counts)
        assert found.peak_nm == pytest.approx(632.04, abs=0.02 * width + 0.03 * width * (noise > 0))
        assert found.fwhm_nm == pytest.approx(width, rel=0.06)
        assert found.band_integral == pytest.approx(1000 * line.area_nm, rel=0.05)


def test_single_line_cut_by_the_window_has_no_width():
    found = single_line(WAVELENGTH, 1000 * ASELine(577.0, 20.0)(WAVELENGTH))
    assert np.isnan(found.fwhm_nm) and found.peak_counts == pytest.approx(1000, rel=0.01)
    dark = single_line(WAVELENGTH, np.zeros(WAVELENGTH.size))
    assert np.isnan(dark.peak_nm) and dark.band_integral == 0


def test_wavelengths_that_descend_are_refused():
    with pytest.raises(ValueError, match="ascending"):
        single_line(WAVELENGTH[::-1], WAVELENGTH)


def test_flanks_never_change_places_on_a_background_of_half_the_height():
    """A mode that barely stands out of the PL, cut out from between its neighbours."""
    cut = np.abs(WAVELENGTH - 632.0) < 1.9
    for background in np.linspace(0.3, 0.6, 31):
        for seed in range(3):
            light = 5.0 * (background + (1 - background) * ASELine(632.0, 0.6, 1.5)(WAVELENGTH))
            noise = np.random.default_rng(seed).normal(0, 0.1, WAVELENGTH.size)
            found = single_line(WAVELENGTH, np.where(cut, light + noise, 0.0))
            assert not found.fwhm_nm <= 0, (background, seed)
