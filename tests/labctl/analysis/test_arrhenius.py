from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import binomtest

from labctl.analysis.arrhenius import arrhenius
from labctl.analysis.stress_clock import BOLTZMANN_EV_K

KELVIN = np.array([333.15, 353.15, 373.15, 393.15])
RATE = 1e9 * np.exp(-0.8 / (BOLTZMANN_EV_K * KELVIN))


def test_exact_rates_give_their_law():
    found = arrhenius(KELVIN, RATE, 0.05 * RATE)
    assert found.activation_ev.value == pytest.approx(0.8) and found.ln_prefactor.value == pytest.approx(np.log(1e9))
    json.dumps(found.as_dict(), allow_nan=False)


@pytest.mark.parametrize("kelvin", [[373.15], [373.15, 373.3, 373.2], [353.15, 373.15, 373.2, 353.0]])
def test_fewer_than_three_temperatures_give_none(kelvin):
    found = arrhenius(kelvin, np.linspace(1, 2, len(kelvin)))
    assert found.activation_ev is None and "needs 3" in found.reason
    json.dumps(found.as_dict(), allow_nan=False)


@pytest.mark.parametrize("known", [True, False])
def test_coverage(known):
    covered = 0
    for seed in range(400):
        noisy = RATE * np.exp(np.random.default_rng(seed).normal(0, 0.05, RATE.size))
        low, high = arrhenius(KELVIN, noisy, 0.05 * noisy if known else None).activation_ev.ci95
        covered += low <= 0.8 <= high
    assert binomtest(covered, 400, 0.95, alternative="less").pvalue > 0.01


def test_rates_off_the_line_are_told():
    bent = RATE * np.array([1.5, 1, 1, 1.5])
    found = arrhenius(KELVIN, bent, 0.05 * bent)
    assert any("scatter" in warning for warning in found.warnings)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="above zero"):
        arrhenius(KELVIN, -RATE)
    with pytest.raises(ValueError, match="rate_error"):
        arrhenius(KELVIN, RATE, np.zeros(4))
