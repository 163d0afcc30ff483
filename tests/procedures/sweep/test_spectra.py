"""PL and ASE parts of spectra while a sweep runs: one bad spectrum must not spoil those after it."""

from __future__ import annotations

import numpy as np
import pytest

from labctl.analysis.spectrum import ASELine, PLShape
from procedures.emission.band import band_sum
from procedures.sweep.spectra import LineColumns, LiveLines

WAVELENGTH_NM = np.linspace(565.0, 699.0, 1024)
PL = PLShape(641.0, 12.0, 16.0)
ASE = ASELine(632.0, 7.0)
BAND = np.ones(1024, dtype=bool)


def spectrum(fluence: float, seed: int) -> np.ndarray:
    """PL in proportion, and above 30 uJ/cm^2 a line that outgrows it."""
    line = 5000.0 * max(fluence - 30.0, 0.0)
    clean = 100.0 * fluence * PL(WAVELENGTH_NM) + line * ASE(WAVELENGTH_NM)
    return clean + np.random.default_rng(seed).normal(0.0, 20.0, 1024)


def assert_parts(found: LineColumns, counts: np.ndarray) -> None:
    assert found.ase_intensity / found.pl_intensity > 5
    assert found.ase_intensity + found.pl_intensity == pytest.approx(counts.sum(), rel=0.1)


@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_a_spike_does_not_become_the_line_that_is_expected(seed: int, width: int) -> None:
    lines = LiveLines(WAVELENGTH_NM, BAND, instrument_fwhm_nm=0.2)
    for number, fluence in enumerate((3.0, 5.0, 9.0, 15.0)):
        counts = spectrum(fluence, 10 * seed + number)
        counts[300 : 300 + width] += 3000.0 if fluence == 15.0 else 0.0
        lines.measure(counts, fluence)
    for fluence in (80.0, 140.0):
        counts = spectrum(fluence, seed)
        assert_parts(lines.measure(counts, fluence), counts)


@pytest.mark.parametrize("seed", range(3))
def test_a_line_expected_elsewhere_is_left_for_the_one_that_is_there(seed: int) -> None:
    lines = LiveLines(WAVELENGTH_NM, BAND)
    for number, fluence in enumerate((3.0, 5.0, 9.0)):
        lines.measure(spectrum(fluence, 10 * seed + number), fluence)
    stray = spectrum(15.0, seed) + 20000.0 * ASELine(590.0, 2.0)(WAVELENGTH_NM)
    lines.measure(stray, 15.0)
    counts = spectrum(140.0, seed)
    assert_parts(lines.measure(counts, 140.0), counts)


def test_from_the_top_down_there_are_no_parts_before_there_is_pl_alone() -> None:
    lines = LiveLines(WAVELENGTH_NM, BAND, pl_below_uj_cm2=15.0)
    for fluence in (140.0, 80.0, 45.0):
        assert np.isnan(lines.measure(spectrum(fluence, 0), fluence).ase_intensity)
    found = lines.measure(counts := spectrum(9.0, 1), 9.0)
    assert abs(found.ase_intensity) < 0.05 * found.pl_intensity
    assert found.pl_intensity == pytest.approx(counts.sum(), rel=0.05)


def test_an_error_that_all_pixels_share_does_not_average_out() -> None:
    signal, mask = np.full(200, 3.0), np.arange(200) < 100
    total, alone = band_sum(signal, signal, mask, 10.0)
    assert (total, alone) == pytest.approx((300.0, np.sqrt(300.0)))
    assert band_sum(signal, signal, mask, 10.0, np.full(200, 0.2))[1] == pytest.approx(np.hypot(alone, 20.0))
