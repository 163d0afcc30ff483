from __future__ import annotations

import numpy as np
import pytest

from labctl.analysis.misfit import erratic_share

SIGMA = np.geomspace(0.002, 0.01, 32)


def places(seed):
    """Two passes between each other's points, with a repeated one."""
    x = np.sort(np.random.default_rng(seed).uniform(0, 3.5, 32))
    x[8] = x[7] = x[6]
    return x


@pytest.mark.parametrize("size", [0.1, 1.0, 50.0])
def test_noise_of_any_size_is_erratic(size):
    shares = []
    for seed in range(100):
        noise = size * SIGMA * np.random.default_rng(1000 + seed).standard_normal(32)
        shares.append(erratic_share(places(seed), noise, SIGMA))
    assert np.mean(shares) == pytest.approx(1.0, abs=0.1)
    assert np.min(shares) > 0.4


def test_a_smooth_departure_is_not():
    for seed in range(100):
        noise = SIGMA * np.random.default_rng(1000 + seed).standard_normal(32)
        assert erratic_share(places(seed), 0.1 * np.sin(2 * places(seed)) + noise, SIGMA) < 0.2


def test_nothing_to_compare_is_no_smooth_curve():
    assert erratic_share(np.arange(2.0), np.ones(2), np.ones(2)) == 1.0
    assert erratic_share(np.arange(5.0), np.zeros(5), np.ones(5)) == 1.0
