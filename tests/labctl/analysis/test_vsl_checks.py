from __future__ import annotations

import json

import numpy as np
import pytest

from labctl.analysis.vsl_checks import bleach, constant_fluence
from labctl.analysis.vsl_gain import NoGain
from labctl.analysis.vsl_transparency import transparency_fluence

LENGTH = np.linspace(20.0, 1000.0, 25)


def test_bleach_is_the_ratio_of_the_repeated_lengths() -> None:
    light = LENGTH**1.3
    same = bleach(LENGTH, light, LENGTH[:3], light[:3], 0.01)
    assert same.ratio is not None and same.ratio.value == pytest.approx(1.0)
    assert not same.bleached and same.conclusive and same.n_repeated == 3
    less = bleach(LENGTH, light, LENGTH[:3] + 0.3, 0.9 * light[:3], 0.01)
    assert less.bleached and less.ratio is not None and less.ratio.value == pytest.approx(0.9)
    assert less.ratio.ci95[1] < 1.0
    slight = bleach(LENGTH, light, LENGTH[:1], 0.97 * light[:1], 0.05)
    assert not slight.bleached and not slight.conclusive
    assert bleach(LENGTH, light, [7.0], [1.0]).ratio is None
    json.dumps([same.as_dict(), bleach([], [], [], []).as_dict()], allow_nan=False)


def test_energy_in_proportion_to_the_length() -> None:
    noise = 0.003 * np.random.default_rng(0).standard_normal(LENGTH.size)
    even = constant_fluence(LENGTH, 2.0 * (LENGTH - 3.0) * (1 + noise), error=0.006 * LENGTH)
    assert (
        even.constant and even.slope_per_um == pytest.approx(2.0, rel=0.01) and even.zero_um == pytest.approx(3, abs=1)
    )
    uneven = constant_fluence(LENGTH, 2.0 * LENGTH * (1 + 0.1 * (LENGTH > 900)), error=0.01 * LENGTH)
    assert not uneven.constant and abs(uneven.worst) > 0.03
    json.dumps(uneven.as_dict(), allow_nan=False)
    with pytest.raises(ValueError, match="three lengths"):
        constant_fluence([1, 2], [1, 2])


def test_transparency_is_where_the_gain_is_zero() -> None:
    fluence = np.array([10.0, 14.0, 20.0, 28.0, 40.0, 56.0, 84.0])
    n = 0.072 * fluence
    gain = 134.0 * (1 - np.exp(-n) * (2 + n) - 0.05) - 10.0
    at = np.exp(np.interp(0.0, gain, np.log(fluence)))
    inside = 0
    for seed in range(20):
        error = np.full(7, 3.0)
        found = transparency_fluence(fluence, gain + error * np.random.default_rng(seed).standard_normal(7), error)
        assert found.value == pytest.approx(at, rel=0.12)
        inside += found.ci95[0] <= at <= found.ci95[1]
    assert inside >= 16


def test_gain_that_never_changes_sign_has_no_transparency() -> None:
    with pytest.raises(NoGain, match="positive throughout; measure at lower"):
        transparency_fluence([1, 2, 3], [5, 6, 7], [1, 1, 1])
    with pytest.raises(NoGain, match="not positive throughout; measure at higher"):
        transparency_fluence([1, 2, 3], [-5, -4, -3], [1, 1, 1])
    with pytest.raises(ValueError, match="equally long"):
        transparency_fluence([1, 2], [1, 2, 3], [1, 1, 1])
    assert transparency_fluence([1.0, 2.0], [-1.0, 1.0], [1.0, 1.0]).ci95 == (0.0, float("inf"))
