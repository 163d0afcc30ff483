from __future__ import annotations

import numpy as np
import pytest

from labctl.analysis.lamp_reference import MOST_READS, lamp_at

REF_TIME = np.arange(0.0, 200.0, 2.0)
TIME = REF_TIME[:-1] + 1.0


def lamp(seed, drift):
    steps = np.random.default_rng(seed).normal(size=200) * drift / np.sqrt(200)
    return np.exp(np.cumsum(steps))


@pytest.mark.parametrize(("drift", "noise"), [(0.0, 0.01), (0.03, 0.01), (0.3, 0.01), (0.3, 1e-4)])
def test_errors_are_those_found(drift, noise):
    pulls, gain = [], []
    for seed in range(30):
        truth = lamp(seed, drift)
        read = truth[::2] * (1 + np.random.default_rng(1000 + seed).normal(0, noise, 100))
        found = lamp_at(TIME, REF_TIME, read, None)
        off = found.log_level - np.log(truth[1:-1:2])
        pulls.append(off[50] / np.sqrt(found.covariance[50, 50]))
        gain.append(off.std())
        # The difference of two reads, which is what a normalised curve is made of.
        both = found.covariance[0, 0] + found.covariance[90, 90] - 2 * found.covariance[0, 90]
        pulls.append((off[90] - off[0]) / np.sqrt(both))
    assert 0.75 < np.std(pulls) < 1.25 and abs(np.mean(pulls)) < 0.3
    if drift <= 0.03:
        # Better than the two neighbours alone.
        assert np.mean(gain) < 0.8 * noise / np.sqrt(2)


def test_a_dip_is_followed_at_once():
    read = np.where((REF_TIME > 90) & (REF_TIME < 110), 0.6, 1.0)
    read = read * (1 + np.random.default_rng(0).normal(0, 0.01, 100))
    found = np.exp(lamp_at(TIME, REF_TIME, read, None).log_level)
    assert np.all(np.abs(found[(TIME > 92) & (TIME < 108)] - 0.6) < 0.015)
    assert np.all(np.abs(found[(TIME < 88) | (TIME > 112)] - 1.0) < 0.015)


@pytest.mark.parametrize("reads", [1, 2, 5])
def test_few_reads_are_interpolated(reads):
    when = np.linspace(0, 10, reads)
    found = lamp_at(np.array([0.0, 5.0, 10.0]), when, np.linspace(1, 1.02, reads) if reads > 1 else np.ones(1), None)
    assert np.isnan(found.noise) and np.all(np.isfinite(found.covariance))
    assert found.log_level[1] == pytest.approx(np.log(1.01) if reads > 1 else 0, abs=3e-3)


def test_reads_outside_count_and_many_reads_still_fit():
    when = np.arange(MOST_READS + 10.0)
    asked = np.array([-1.0, 5.5, 100.0, when[-1] + 5])
    found = lamp_at(asked, when, 1 + np.random.default_rng(0).normal(0, 0.01, when.size), None)
    assert found.outside == 2 and np.allclose(found.log_level, 0, atol=0.05)
    assert np.all(np.diag(found.covariance) > 0)
