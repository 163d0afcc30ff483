from __future__ import annotations

import numpy as np
import pytest

from labctl.analysis.knee import NoThreshold
from labctl.analysis.live import live_threshold
from labctl.analysis.sweep_design import coarse_fluences, refine_fluences


@pytest.mark.parametrize("factor", [0.4, 0.6, 1.0, 1.6, 2.2])
def test_eight_coarse_points_place_the_fine_pass(make_film, noisy_sweep, factor):
    source = make_film(factor).intensity
    for seed in range(10):
        sweep = noisy_sweep(source, coarse_fluences(28.0), seed)
        live = live_threshold(sweep.fluence, sweep.intensity, **sweep.errors)
        assert live.value * factor == pytest.approx(28.0, rel=0.2)
        assert 0 < live.relative_sd < 0.3


def test_many_points_use_the_full_fit(film):
    fluence = np.concatenate([coarse_fluences(28.0), refine_fluences(28.0)])
    live = live_threshold(fluence, film.intensity(fluence))
    assert live.model == "hinge+saturation" and live.value == pytest.approx(28.0, rel=0.02)


def test_no_threshold_and_bad_input(film):
    coarse = coarse_fluences(28.0)
    with pytest.raises(NoThreshold) as caught:
        live_threshold(coarse, coarse**1.0)
    assert caught.value.reason == "slope does not change"
    with pytest.raises(NoThreshold) as caught:
        live_threshold(coarse[:4], film.intensity(coarse[:4]))
    assert caught.value.reason == "too few points"
    with pytest.raises(ValueError, match="finite and > 0"):
        live_threshold([-1.0, *coarse[1:]], coarse)


def test_unusable_points_are_skipped(film):
    coarse = coarse_fluences(28.0, 12)
    intensity = film.intensity(coarse)
    spoiled = intensity.copy()
    spoiled[0], spoiled[-1] = -1.0, 1e-3
    live = live_threshold(coarse, spoiled, saturated=np.arange(12) == 11)
    assert live.value == pytest.approx(live_threshold(coarse, intensity).value, rel=0.1)
    assert live.n_points == 10
