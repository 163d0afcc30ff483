"""Bias, scatter and coverage of the threshold over seeds 0..N-1.

Truth: the generator's knee for the soft knee; for the film the same estimator on noise-free data of the same design.
"""

from __future__ import annotations

import numpy as np
import pytest

from labctl.analysis.knee import loglog_knee
from labctl.analysis.live import live_threshold
from labctl.analysis.sweep_design import coarse_fluences, refine_fluences

GUESS = 28.0
ADAPTIVE = np.concatenate([coarse_fluences(GUESS), refine_fluences(GUESS)])


def statistics(source, fluence, truth, seeds, noisy_sweep, **noise):
    """Return (bias, sd, 95 % coverage, median 95 % half-width), all but the coverage relative to the truth."""
    values, halves, covered = [], [], 0
    for seed in range(seeds):
        sweep = noisy_sweep(source, fluence, seed, **noise)
        fit = loglog_knee(sweep.fluence, sweep.intensity, **sweep.errors)
        values.append(fit.value / truth)
        halves.append((fit.ci95[1] - fit.ci95[0]) / 2 / truth)
        covered += fit.ci95[0] <= truth <= fit.ci95[1]
    return np.mean(values) - 1, np.std(values), covered / seeds, np.median(halves)


def noise_free(film, fluence):
    intensity = film.intensity(fluence)
    return loglog_knee(fluence, intensity, fluence_error=0.01 * fluence, intensity_error=0.03 * intensity).value


def adaptive_sweep(source, seed, noisy_sweep, guess=GUESS):
    """Coarse pass at the guess, live threshold, fine pass around it, fit."""
    rng = np.random.default_rng(seed)
    coarse = noisy_sweep(source, coarse_fluences(guess), seed, rng=rng)
    live = live_threshold(coarse.fluence, coarse.intensity, **coarse.errors)
    fine = noisy_sweep(source, refine_fluences(live.value), seed, rng=rng)
    columns = [np.concatenate([getattr(s, name) for s in (coarse, fine)]) for name in vars(coarse)]
    return loglog_knee(columns[0], columns[1], fluence_error=columns[2], intensity_error=columns[3])


def test_film_threshold_over_a_few_seeds(film, noisy_sweep):
    truth = noise_free(film, ADAPTIVE)
    assert 27.6 < truth < 28.1
    bias, sd, coverage, half = statistics(film.intensity, ADAPTIVE, truth, 25, noisy_sweep)
    assert abs(bias) < 0.01 and sd < 0.02 and coverage >= 0.88 and half < 0.05


def test_wrong_guess_over_a_few_seeds(make_film, noisy_sweep):
    for factor in (0.4, 2.2):
        film = make_film(factor)
        for seed in range(4):
            fit = adaptive_sweep(film.intensity, seed, noisy_sweep)
            assert fit.value * factor == pytest.approx(28.0, rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("sigma_i", [0.01, 0.03])
def test_film_coverage(film, noisy_sweep, sigma_i):
    intensity = film.intensity(ADAPTIVE)
    errors = {"fluence_error": 0.01 * ADAPTIVE, "intensity_error": sigma_i * intensity}
    truth = loglog_knee(ADAPTIVE, intensity, **errors).value
    bias, sd, coverage, half = statistics(film.intensity, ADAPTIVE, truth, 200, noisy_sweep, sigma_i=sigma_i)
    print(f"film {sigma_i}: bias {bias:+.2%} sd {sd:.2%} cover {coverage:.3f} half-width {half:.2%}")
    assert abs(bias) < 0.01 and sd < 0.015 and coverage >= 0.90 and half < 0.05


DESIGNS = {
    "soft, saturation, adaptive": ({}, ADAPTIVE, 0.03, 0.01, 0.05),
    "soft, saturation, 30 points": ({}, np.geomspace(0.3 * 28, 6 * 28, 30), 0.03, 0.01, 0.04),
    "soft, 5 %/2 %, 20 points": ({"distance": None}, np.geomspace(0.3 * 28, 3 * 28, 20), 0.05, 0.02, 0.06),
    "sharp, 3 %/1 %, 20 points": (
        {"distance": None, "softness": 0.005},
        np.geomspace(0.3 * 28, 3 * 28, 20),
        0.03,
        0.01,
        0.02,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DESIGNS)
def test_soft_knee_coverage(soft_knee, noisy_sweep, name):
    shape, fluence, sigma_i, sigma_f, sd_limit = DESIGNS[name]
    bias, sd, coverage, half = statistics(
        lambda f: soft_knee(f, **shape), fluence, 28.0, 200, noisy_sweep, sigma_i=sigma_i, sigma_f=sigma_f
    )
    print(f"{name}: bias {bias:+.2%} sd {sd:.2%} cover {coverage:.3f} half-width {half:.2%}")
    assert abs(bias) < 0.01 and sd < sd_limit and coverage >= 0.90


@pytest.mark.slow
@pytest.mark.parametrize("factor", [0.4, 0.7, 1.0, 1.5, 2.2])
def test_threshold_scales_with_the_absorption(make_film, noisy_sweep, factor):
    source = make_film(factor).intensity
    values = np.array([adaptive_sweep(source, seed, noisy_sweep).value for seed in range(40)]) * factor
    print(f"kappa x {factor}: {values.mean():.2f} sd {values.std():.2f} range {values.min():.2f} {values.max():.2f}")
    assert values == pytest.approx(28.0, rel=0.05)
    assert values.mean() == pytest.approx(28.0, rel=0.02)


@pytest.mark.slow
def test_coverage_of_the_adaptive_sweep(film, noisy_sweep):
    covered = 0
    for seed in range(200):
        fit = adaptive_sweep(film.intensity, seed, noisy_sweep)
        covered += fit.ci95[0] <= 28.0 <= fit.ci95[1]
    assert covered >= 180
