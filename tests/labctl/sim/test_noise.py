"""Keyed randomness: pure functions of the key, in any order."""

from __future__ import annotations

import numpy as np
import pytest

from labctl.sim.noise import KeyedNoise


def _draw(noise: KeyedNoise, point: int, source: str, attempt: int = 0) -> np.ndarray:
    noise.announce(point, attempt, 10.0 * point)
    return noise.generator(source).standard_normal(4)


def test_a_draw_depends_on_its_key_alone() -> None:
    forward, backward = KeyedNoise(3), KeyedNoise(3)
    ahead = {point: _draw(forward, point, "camera") for point in range(5)}
    for point in reversed(range(5)):
        backward.announce(point, 0, 0.0)
        backward.generator("meter").random(7)
        assert np.array_equal(backward.generator("camera").standard_normal(4), ahead[point])


def test_every_part_of_the_key_counts() -> None:
    noise = KeyedNoise(0)
    draws = [
        _draw(noise, 0, "camera"),
        noise.generator("camera").standard_normal(4),
        noise.generator("camera", 1).standard_normal(4),
        _draw(noise, 1, "camera"),
        _draw(noise, 0, "camera", attempt=1),
        _draw(noise, 0, "meter"),
        _draw(KeyedNoise(1), 0, "camera"),
        noise.fixed("camera").standard_normal(4),
    ]
    assert len({tuple(draw) for draw in draws}) == len(draws)


def test_announcing_a_point_again_repeats_it() -> None:
    noise = KeyedNoise(0)
    first = _draw(noise, 7, "camera")
    noise.generator("camera")
    assert np.array_equal(_draw(noise, 7, "camera"), first)


def test_fixed_pattern_ignores_the_point() -> None:
    noise = KeyedNoise(0)
    before = noise.fixed("prnu").random(3)
    noise.announce(5, 1, 50.0)
    assert np.array_equal(noise.fixed("prnu").random(3), before)


def test_draws_of_neighbouring_keys_are_independent() -> None:
    noise = KeyedNoise(0)
    draws = []
    for point in range(4000):
        noise.announce(point, 0, 0.0)
        draws.append(noise.generator("laser").standard_normal())
    values = np.array(draws)
    assert abs(values.mean()) < 4 / np.sqrt(values.size)
    assert values.var() == pytest.approx(1.0, abs=4 * np.sqrt(2 / values.size))
    assert abs(np.mean(values[1:] * values[:-1])) < 4 / np.sqrt(values.size)


@pytest.mark.parametrize("seed", range(5))
def test_drift_is_stationary_with_the_correlation_of_an_ornstein_uhlenbeck_process(seed: int) -> None:
    noise, tau_s = KeyedNoise(seed), 1200.0
    times = np.linspace(0.0, 400 * tau_s, 4001)
    values = np.array([noise.drift("laser", 0.02, tau_s, t) for t in times])
    assert abs(values.mean()) < 0.004
    assert values.var() == pytest.approx(0.02**2, rel=0.15)
    for lag in (5, 10, 20):
        seen = np.mean(values[lag:] * values[:-lag]) / values.var()
        assert seen == pytest.approx(np.exp(-lag / 10), abs=0.12)


def test_drift_over_many_seeds_is_normal_with_the_stated_rms() -> None:
    values = np.array([KeyedNoise(seed).drift("laser", 1.0, 60.0, 1e5) for seed in range(1000)])
    assert values.var() == pytest.approx(1.0, abs=4 * np.sqrt(2 / 1000))
    assert np.mean(np.abs(values) < 1.0) == pytest.approx(0.683, abs=0.06)


def test_drift_is_a_function_of_the_announced_schedule_time() -> None:
    noise = KeyedNoise(0)
    noise.announce(4, 0, 321.0)
    announced = noise.drift("laser", 0.02, 1200.0)
    noise.announce(9, 2, 5.0)
    assert noise.drift("laser", 0.02, 1200.0, 321.0) == announced
    assert noise.drift("laser", 0.02, 1200.0) != announced
