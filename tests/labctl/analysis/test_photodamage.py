"""The check against PL that saturates, as quantum rings and films under long pulses show it."""

from __future__ import annotations

import numpy as np
import pytest

from labctl.analysis.photodamage import photodamage

COARSE = np.geomspace(0.1, 5.0, 8)
RETURNED = np.arange(11) >= 8


def saturating(fluence):
    """PL that goes as F^0.96 at the lowest fluence, as F^0.7 before the threshold, and steeply beyond."""
    return np.log1p(0.9 * fluence) * (1 + 50 * np.clip(fluence - 1, 0, None) ** 3)


def returning(seed, kept=1.0, noise=0.003, drift=0.02):
    """A pass upwards and a return to its three lowest fluences, which the laser meets to a few per cent only."""
    rng = np.random.default_rng(seed)
    fluence = np.concatenate([COARSE, COARSE[:3]]) * np.exp(rng.normal(0, drift, 11))
    intensity = saturating(fluence) * np.where(RETURNED, kept, 1.0) * np.exp(rng.normal(0, noise, 11))
    slope = np.where(fluence < 1, 0.83, 7.0)
    found = photodamage(fluence, intensity, np.full(11, noise), RETURNED, np.ones(11, bool), slope)
    assert found.ratio is not None
    return found, found.ratio


def test_sublinear_pl_leaves_the_check_conclusive():
    found, ratios = zip(*(returning(seed) for seed in range(100)), strict=True)
    assert all(result.conclusive and not result.damaged for result in found)
    assert np.mean([ratio.value for ratio in ratios]) == pytest.approx(1.0, abs=0.001)
    assert np.median([ratio.sd for ratio in ratios]) < 0.01
    assert np.mean([ratio.ci95[0] < 1 < ratio.ci95[1] for ratio in ratios]) >= 0.93


def test_sublinear_pl_does_not_hide_damage():
    found, ratios = zip(*(returning(seed, kept=0.93) for seed in range(100)), strict=True)
    assert np.mean([result.damaged for result in found]) > 0.95
    assert np.mean([ratio.value for ratio in ratios]) == pytest.approx(0.93, abs=0.002)


def test_points_a_factor_apart_decide_nothing():
    """Whether PL fell by a tenth or its slope is a little lower cannot be told."""
    fluence = np.concatenate([COARSE[1:], COARSE[:1]])
    returned = np.arange(8) >= 7
    intensity = np.where(returned, 0.9, 1.0) * fluence
    result = photodamage(fluence, intensity, np.full(8, 0.003), returned, np.ones(8, bool))
    assert result.ratio is not None and result.ratio.value == pytest.approx(0.9)
    assert not result.damaged and not result.conclusive


def test_points_that_share_one_before_are_not_independent():
    """Three returns to one fluence are as good as that one point."""
    fluence = np.array([1.0, 8.0, 1.0, 1.0, 1.0])
    returned = np.arange(5) >= 2
    result = photodamage(fluence, fluence, np.full(5, 0.01), returned, np.ones(5, bool))
    assert result.ratio is not None and result.ratio.sd == pytest.approx(0.01 * np.sqrt(1 + 1 / 3), rel=0.01)
