from __future__ import annotations

import json

import numpy as np
import pytest

from labctl.analysis.split_line import fit_band_lines
from labctl.analysis.stability import analyse_stability
from labctl.analysis.stability_reads import StabilityReads
from labctl.analysis.stability_shift import line_change

X = np.linspace(560.0, 730.0, 512)
CLOCK = np.repeat([0, 0, 0, 1, 2, 3, 5, 7, *range(10, 101, 10), 100, 100, 100], 3).astype(float)
POINT = np.repeat(np.arange(CLOCK.size // 3), 3)
HOT = (POINT > 2) & np.isin(POINT, POINT[-9:], invert=True)


def heat_run(seed, tau, b, at_full_loss_nm, hot_nm=1.5, counts=2000):
    """Film on a hotplate: loss, shift and broadening in proportion to it, and what heat does while it lasts."""
    rng = np.random.default_rng(seed)
    left = np.exp(-((CLOCK / tau) ** b))
    level = left * np.where(HOT, 0.85, 1.0)
    peak = 641 + at_full_loss_nm * (1 - left) + np.where(HOT, hot_nm, 0.0)
    wider = 1 + (at_full_loss_nm * (1 - left) + np.where(HOT, hot_nm, 0.0)) / 28
    u = X - peak[:, None]
    half = np.where(u < 0, 12.5, 15.5) * wider[:, None]
    spectra = counts * level[:, None] * np.exp(-np.log(2) * (u / half) ** 2)
    spectra = rng.poisson(spectra) + rng.normal(0, 5, spectra.shape)
    reads = StabilityReads.of(
        CLOCK,
        level * (1 + rng.normal(0, 0.01, CLOCK.size)),
        time_s=np.arange(CLOCK.size),
        signal_error=np.full(CLOCK.size, 1e-3),
        baseline=POINT < 3,
        point=POINT,
        hot=HOT,
        reference=1 + rng.normal(0, 0.01, CLOCK.size),
        clock_unit="min",
    )
    return reads, fit_band_lines(X, spectra)


@pytest.mark.parametrize(
    ("tau", "b", "per_loss", "change", "seeds"),
    [(36.35, 0.47, 2.5, 2.0, 2), (301.3, 0.7, 0.0, 0.0, 2)],
)
def test_shift_and_broadening_after_heat(tau, b, per_loss, change, seeds):
    for seed in range(seeds):
        reads, lines = heat_run(seed, tau, b, per_loss)
        analysis = analyse_stability(reads)
        shift = line_change(reads, analysis, lines.peak_nm, lines.peak_error_nm, unit="nm", at=(100,))
        width = line_change(reads, analysis, lines.fwhm_nm, lines.fwhm_error_nm, unit="nm", at=(100,))
        for found in (shift, width):
            json.dumps(found.as_dict(), allow_nan=False)
            assert found.values[0][1].value == pytest.approx(change, abs=0.3), seed
            assert found.end.value == pytest.approx(change, abs=0.3), seed
            assert found.thermal.value == pytest.approx(1.5, abs=0.2), seed
            assert not found.warnings
        assert shift.start.value == pytest.approx(641, abs=0.1)


def test_a_change_that_does_not_go_with_the_loss_is_told():
    reads, lines = heat_run(0, 36.35, 0.47, 2.5, counts=50000)
    analysis = analyse_stability(reads)
    peak = lines.peak_nm + 2 * np.sin(CLOCK / 15)
    found = line_change(reads, analysis, peak, lines.peak_error_nm, unit="nm")
    assert any("proportion" in warning for warning in found.warnings)


def test_without_loss_only_the_difference_is_given():
    reads, lines = heat_run(0, 1e9, 1.0, 0.0)
    found = line_change(reads, analyse_stability(reads), lines.peak_nm, lines.peak_error_nm, unit="nm", at=(100,))
    assert found.per_loss is None and found.values == () and abs(found.end.value) < 0.2


def test_reads_without_a_line_are_left_out():
    reads, lines = heat_run(0, 36.35, 0.47, 2.5)
    peak = lines.peak_nm.copy()
    peak[20] = np.nan
    found = line_change(reads, analyse_stability(reads), peak, lines.peak_error_nm, unit="nm", at=(100,))
    assert found.values[0][1].value == pytest.approx(2, abs=0.3) and "1 of" in found.warnings[0]
    with pytest.raises(ValueError, match="no baseline read"):
        line_change(reads, analyse_stability(reads), np.where(POINT < 3, np.nan, peak), lines.peak_error_nm, unit="nm")
