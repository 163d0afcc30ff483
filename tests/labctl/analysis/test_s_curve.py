from __future__ import annotations

import numpy as np
import pytest

from labctl.analysis.s_curve import SCurve, mode_photons, photons_per_pump, polish, search_grid

RATIO = np.geomspace(1e-3, 1e3, 400)
X = np.log(np.geomspace(0.6, 15.0, 24))


def curve(beta=1e-3, background=2.0, pulse_rms=0.0):
    """S-curve with F_th 3.3 and S = 1000 beta; ``background`` is B F_th / S."""
    return SCurve(np.log(3.3), np.log(beta), 1000 * beta, background * 1000 * beta / 3.3, pulse_rms)


@pytest.mark.parametrize("beta", [1e-8, 1e-3, 0.05, 1.0])
def test_photons_solve_the_rate_equation(beta):
    photons = mode_photons(RATIO, beta)
    # beta p^2 - (r - 1) p - r = 0, each term of which may be much larger than the sum
    terms = np.stack([beta * photons**2, -(RATIO - 1) * photons, -RATIO])
    assert np.abs(terms.sum(axis=0)).max() < 1e-12 * np.abs(terms).max()
    assert np.all(np.abs(terms.sum(axis=0)) <= 1e-12 * np.abs(terms).max(axis=0))


def test_far_below_there_is_no_cancellation():
    assert mode_photons(np.array([1e-12]), 1e-10)[0] == pytest.approx(1e-12, rel=1e-9)
    assert mode_photons(np.array([1e4]), 1e-3)[0] == pytest.approx(9999 / 1e-3, rel=1e-3)


def test_slopes_are_derivatives():
    step = 1e-6
    for rms in (0.0, 0.05):
        shape = curve(pulse_rms=rms)
        numeric = (shape.curve(X + step) - shape.curve(X - step)) / (2 * step)
        assert shape.slope(X) == pytest.approx(numeric, rel=1e-5)
    numeric = (mode_photons(RATIO * (1 + step), 0.01) - mode_photons(RATIO * (1 - step), 0.01)) / (2 * step * RATIO)
    assert photons_per_pump(RATIO, 0.01) == pytest.approx(numeric, rel=1e-4)


@pytest.mark.parametrize("beta", [1e-5, 1e-2])
def test_scattering_pulses_are_averaged(beta):
    pulses = np.random.default_rng(0).normal(1, 0.05, 200_000)
    for ratio in (0.9, 1.0, 1.1, 2.0):
        single = curve(beta)
        drawn = np.mean(single.intensity(np.log(3.3 * ratio * pulses)))
        assert curve(beta, pulse_rms=0.05).intensity(np.log(np.array([3.3 * ratio])))[0] == pytest.approx(
            drawn, rel=0.02
        )


@pytest.mark.parametrize("beta", [1e-4, 1e-2, 0.05])
@pytest.mark.parametrize("background", [0.0, 20.0])
def test_grid_and_polish_find_a_curve_without_a_first_guess(beta, background):
    shape = curve(beta, background)
    weight = np.full(X.size, 100.0)
    starts = search_grid(X, shape.curve(X), weight, np.linspace(X[1], X[-2], 40))
    chi2, found = min((polish(X, shape.curve(X), weight, start) for _, start in starts), key=lambda pair: pair[0])
    assert chi2 < 1e-3
    assert found.log_threshold == pytest.approx(shape.log_threshold, abs=2e-3)
    assert found.log_beta == pytest.approx(shape.log_beta, abs=0.02)


def test_what_is_held_stays():
    shape = curve()
    weight = np.full(X.size, 100.0)
    _, moved = polish(X, shape.curve(X), weight, shape, log_threshold=shape.log_threshold + 0.1)
    assert moved.log_threshold == shape.log_threshold + 0.1
    chi2, other = polish(X, shape.curve(X), weight, shape, log_beta=shape.log_beta + 1.0)
    assert other.log_beta == shape.log_beta + 1.0 and chi2 > 1.0
