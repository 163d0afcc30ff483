"""Temperature series of CdZnS/ZnS from 10 to 300 K, made up from its laws."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import binomtest

from labctl.analysis.temperature_line import analyse_temperature_series

KELVIN = np.array([10, 30, 50, 80, 110, 140, 170, 200, 225, 250, 275, 300, 300.0])
KT = 8.617333e-2 * KELVIN
INTENSITY = 1 / (1 + 0.8 * np.exp(-60 / KT))
ENERGY = 2.916 - 2 * 0.022 * (1 / np.tanh(22 / (2 * KT)) - 1)
WIDTH = 88 + 0.03 * KELVIN + 70 / np.expm1(38 / KT)
QUENCH = 100 * (1 - INTENSITY[-1] / INTENSITY[0])
NOISE = 0.008
"""Three cycles of reads of 1 % over a reference."""


def series(seed, phonon_mev=38.0):
    rng = np.random.default_rng(seed)
    n = KELVIN.size
    return analyse_temperature_series(
        KELVIN,
        intensity=5e4 * INTENSITY * (1 + rng.normal(0, NOISE, n)),
        intensity_error=5e4 * NOISE * INTENSITY,
        energy_ev=ENERGY + rng.normal(0, 3e-4, n),
        energy_error_ev=np.full(n, 3e-4),
        width_mev=WIDTH + rng.normal(0, 1, n),
        width_error_mev=np.ones(n),
        phonon_mev=phonon_mev,
    )


def test_the_line_at_room_temperature():
    assert ENERGY[-1] == pytest.approx(1239.842 / 435, abs=1e-3) and WIDTH[-1] == pytest.approx(118, abs=0.5)


@pytest.mark.parametrize("seeds", [4, pytest.param(40, marks=pytest.mark.slow)])
def test_quench_in_every_seed(seeds):
    for seed in range(seeds):
        assert series(seed).quench.percent.value == pytest.approx(QUENCH, abs=1.5), seed


def test_line_parameters_with_the_phonon_held():
    found = [series(seed) for seed in range(4)]
    for one in found:
        json.dumps(one.as_dict(), allow_nan=False)
        assert one.energy.parameters["E0"].value == pytest.approx(2.916, abs=1e-3)
        assert one.width.parameters["G0"].value == pytest.approx(88, abs=4)
    assert np.mean([one.energy.parameters["S"].value for one in found]) == pytest.approx(2, abs=0.05)
    assert np.mean([one.width.parameters["G_LO"].value for one in found]) == pytest.approx(70, rel=0.2)
    assert found[0].energy.value(300.0) == pytest.approx(2.8504, abs=5e-4)
    assert found[0].width.value(np.array([10.0, 300.0])) == pytest.approx([88.3, 118], abs=2)


def test_a_free_phonon_energy_comes_with_its_correlation():
    found = series(0, phonon_mev=None)
    assert not found.width.phonon_fixed and found.width.parameters["E_LO"].sd > 5
    assert any("E_LO" in warning for warning in found.warnings)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_coverage_of_quench_and_line():
    found = [series(seed, None) for seed in range(200)]
    truths = {"quench": QUENCH, "S": 2.0, "hw": 22.0, "E_LO": 38.0}
    for name, truth in truths.items():
        estimates = [
            {"quench": one.quench.percent, **one.energy.parameters, **one.width.parameters}[name] for one in found
        ]
        covered = sum(e.ci95[0] <= truth <= e.ci95[1] for e in estimates)
        print(f"{name}: cover {covered / 200:.3f}, sd {np.std([e.value for e in estimates]):.3g}")
        assert binomtest(covered, 200, 0.9, alternative="less").pvalue > 0.01


def test_a_loss_on_the_way_is_told_from_a_quench():
    value = INTENSITY.copy()
    value[-1] *= 0.8
    found = analyse_temperature_series(
        KELVIN[[11, *range(11), 12]], intensity=value[[11, *range(11), 12]], intensity_error=np.full(13, 0.008)
    )
    assert any("not reversible" in warning for warning in found.warnings)


def test_what_the_data_cannot_give_is_left_out():
    found = analyse_temperature_series([100, 200, 300], intensity=[1, 0.99, 0.9], width_mev=[90, 95, np.nan])
    assert found.quench is None and found.width is None and found.energy is None
    assert len(found.warnings) == 2
    short = analyse_temperature_series(KELVIN[4:], intensity=INTENSITY[4:], intensity_error=np.full(9, 0.008))
    assert any("measured from" in warning for warning in short.warnings)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="temperature_k"):
        analyse_temperature_series([0, 10], intensity=[1, 1])
    with pytest.raises(ValueError, match="shape"):
        analyse_temperature_series(KELVIN, intensity=[1, 2])
    with pytest.raises(ValueError, match="intensity_error"):
        analyse_temperature_series(KELVIN, intensity=INTENSITY, intensity_error=np.zeros(13))
