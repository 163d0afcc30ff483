from __future__ import annotations

import numpy as np
import pytest

from labctl.analysis.knee import NoThreshold
from labctl.analysis.live import live_threshold
from labctl.analysis.s_curve import SCurve
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


def coarse_laser(factor, beta, background, seed):
    """Eight coarse points around a guess that is off by ``factor``, of a laser with F_th 3.3."""
    rng = np.random.default_rng(seed)
    fluence = coarse_fluences(3.3 / factor)
    shape = SCurve(np.log(3.3), np.log(beta), beta, background * beta / 3.3)
    return fluence, shape.intensity(np.log(fluence) + rng.normal(0, 0.01, 8)) * np.exp(rng.normal(0, 0.03, 8))


@pytest.mark.parametrize("factor", [0.4, 0.7, 1.0, 1.5, 2.2])
@pytest.mark.parametrize("background", [0.0, 1.0, 30.0])
@pytest.mark.parametrize("beta", [1e-5, 1e-3, 1e-2])
def test_the_jump_of_a_laser_is_found(beta, background, factor):
    for seed in range(6):
        sweep = coarse_laser(factor, beta, background, seed)
        told = live_threshold(*sweep, model="lasing")
        assert told.value == pytest.approx(3.3, rel=0.2) and told.model == "grid S-curve"
        # What the fine pass covers tightly is 0.5 to 2 of it.
        assert 0.5 < live_threshold(*sweep).value / 3.3 < 1.25
        if beta < 1e-4:
            assert live_threshold(*sweep).value == pytest.approx(3.3, rel=0.1)


def test_a_film_is_never_taken_for_a_laser(make_film, noisy_sweep):
    for factor in (0.4, 1.0, 2.2):
        for seed in range(10):
            sweep = noisy_sweep(make_film(factor).intensity, coarse_fluences(28.0), seed)
            assert live_threshold(sweep.fluence, sweep.intensity, **sweep.errors).model == "grid hinge"


def test_many_points_of_a_laser_use_its_fit():
    fluence = np.concatenate([coarse_fluences(3.3), refine_fluences(3.3)])
    intensity = SCurve(np.log(3.3), np.log(1e-4), 1e-4, 1e-4).intensity(np.log(fluence))
    live = live_threshold(fluence, intensity)
    assert live.model == "lasing" and live.value == pytest.approx(3.3, rel=0.01)
    assert live_threshold(fluence, intensity, model="knee").model.startswith("hinge")
