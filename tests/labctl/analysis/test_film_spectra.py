from __future__ import annotations

import numpy as np
import pytest

from labctl.analysis.film_spectra import film_parts
from labctl.analysis.linewidth import NO_RESPONSE
from labctl.analysis.sweep_arrays import SweepArrays

WAVELENGTH_NM = np.linspace(600.0, 700.0, 400)


def line(centre_nm: float, fwhm_nm: float) -> np.ndarray:
    return np.exp(-4 * np.log(2) * ((WAVELENGTH_NM - centre_nm) / fwhm_nm) ** 2)


def sweep_from(lowest: float):
    """PL at 641 nm and, above 28, ASE at 632 nm; ten fluences."""
    fluence = np.geomspace(lowest, 140.0, 10)
    ase = np.maximum(fluence / 28.0 - 1.0, 0.0) ** 2 * 3e4
    noise = np.random.default_rng(0).normal(0.0, 2.0, (10, 400))
    spectra = 100.0 * fluence[:, None] * line(641.0, 28.0) + ase[:, None] * line(632.0, 7.0) + noise
    return SweepArrays.of(fluence, spectra.sum(axis=1)), spectra


def test_the_peak_of_the_pl_is_that_of_spectra_well_below_the_threshold():
    sweep, spectra = sweep_from(2.8)
    found = film_parts(WAVELENGTH_NM, spectra, sweep, 28.0, NO_RESPONSE)
    assert found.pl_peak is not None and found.pl_peak.value == pytest.approx(641.0, abs=0.1)
    assert found.ase_shift is not None and found.ase_shift.value == pytest.approx(-9.0, abs=0.3)


def test_no_peak_of_the_pl_where_nothing_is_known_to_be_pl_alone():
    sweep, spectra = sweep_from(2.8)
    assert film_parts(WAVELENGTH_NM, spectra, sweep, None, NO_RESPONSE).pl_peak is None
    sweep, spectra = sweep_from(40.0)
    found = film_parts(WAVELENGTH_NM, spectra, sweep, 28.0, NO_RESPONSE)
    assert found.pl_peak is None and found.ase_shift is None


@pytest.mark.parametrize("edge_nm", [645.0, 650.0, 654.0])
def test_no_peak_of_a_pl_that_the_edge_of_the_band_cuts_off(edge_nm):
    sweep, spectra = sweep_from(2.8)
    seen = edge_nm > WAVELENGTH_NM
    found = film_parts(WAVELENGTH_NM[seen], spectra[:, seen], sweep, 28.0, NO_RESPONSE)
    assert found.pl_peak is None and found.ase_shift is None
    assert any("check the wavelength range" in warning for warning in found.warnings)
