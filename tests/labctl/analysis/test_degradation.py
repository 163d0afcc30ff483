"""The laws themselves, their fit, the blend of several, and the smoothed curve for what none of them fits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import brentq

from labctl.analysis.blended import blended
from labctl.analysis.condensed_reads import condensed
from labctl.analysis.degradation_fit import CurveData, fit_law, fit_laws
from labctl.analysis.degradation_laws import BY_NAME, LAWS
from labctl.analysis.estimate import Estimate
from labctl.analysis.lifetime_rules import crossing, lifetime
from labctl.analysis.smooth_course import fit_smooth_course
from labctl.analysis.stability import analyse_stability
from labctl.analysis.stability_reads import StabilityReads, normalise

CLOCK = np.array([0, 0, 0, 1, 2, 3, 5, 7, 10, 15, 20, 30, 40, 50, 60, 70, 80, 90, 100.0])
THETA = {
    "constant": [],
    "exponential": [np.log(30)],
    "exponential_floor": [np.log(20), 0.3],
    "exponential_down_to_floor": [np.log(20), 0.1],
    "stretched": [np.log(36.35), 0.47],
    "bi_exponential": [np.log(4), np.log(20), 0.4],
    "rise_and_fall": [0.25, np.log(5), np.log(16), 2.5],
    "consecutive": [1.0, np.log(10), np.log(2.5)],
}


def data_of(curve, error=0.005):
    white = np.eye(curve.size) / error
    return CurveData(CLOCK, curve, white, np.zeros(curve.size, dtype=bool), True, 20)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_a_law_starts_at_one_and_its_own_data_give_its_parameters(law):
    theta = np.array(THETA[law.name], dtype=float)
    curve = law.shape(CLOCK, theta)
    assert curve[0] == pytest.approx(1) and np.all(np.isfinite(curve))
    several = law.shape(CLOCK, np.tile(theta, (3, 2, 1)))
    assert several.shape == (3, 2, CLOCK.size) and np.allclose(several, curve)
    fit = fit_law(data_of(1.02 * curve), law)
    assert fit.chi2 < 1e-3 and fit.amplitudes[0] == pytest.approx(1.02, rel=1e-4)
    assert np.allclose(law.report(fit.theta), law.report(theta), rtol=2e-2)


def test_consecutive_reactions_of_equal_rates_have_their_limit():
    law = BY_NAME["consecutive"]
    equal = law.shape(CLOCK, np.array([1.0, np.log(10), 0.0]))
    assert np.allclose(equal, np.exp(-CLOCK / 10) * (1 + CLOCK / 10))
    assert np.allclose(equal, law.shape(CLOCK, np.array([1.0, np.log(10), 1e-6])), atol=1e-5)


def test_an_interval_is_where_chi2_has_risen_by_students_quantile():
    law = BY_NAME["exponential"]
    noisy = law.shape(CLOCK, np.array([np.log(30)])) + np.random.default_rng(0).normal(0, 0.005, CLOCK.size)
    data = data_of(noisy)
    fit = fit_laws(data, (law,))[0]

    def rise(tau):
        # The amplitude is linear: the minimum over it by hand.
        shape = np.exp(-CLOCK / tau)
        rest = noisy - shape * (shape @ noisy) / (shape @ shape)
        return float(rest @ rest) / 0.005**2 - fit.chi2

    limit = fit.quantile(0.95) ** 2 * fit.scale
    tau = fit.parameter_estimates()["tau"]
    low = brentq(lambda t: rise(t) - limit, 0.8 * tau.value, tau.value)
    high = brentq(lambda t: rise(t) - limit, tau.value, 1.2 * tau.value)
    assert tau.ci95[0] - tau.value == pytest.approx(low - tau.value, rel=0.05)
    assert tau.ci95[1] - tau.value == pytest.approx(high - tau.value, rel=0.05)
    half = fit.value_estimate(30.0)
    assert half.ci95[0] == pytest.approx(np.exp(-30 / low), abs=2e-4)


def test_a_lifetime_follows_from_the_law():
    law = BY_NAME["exponential"]
    fit = fit_laws(data_of(law.shape(CLOCK, np.array([np.log(30.0)]))), (law,))[0]
    assert lifetime(fit, 0.8, 1.0, 100.0, "min").estimate.value == pytest.approx(30 * np.log(1.25), rel=1e-3)
    slow = fit_laws(data_of(law.shape(CLOCK, np.array([np.log(560.0)]))), (law,))[0]
    beyond = lifetime(slow, 0.8, 1.0, 100.0, "min")
    assert beyond.extrapolated and beyond.estimate.value == pytest.approx(125, rel=1e-3)
    slower = fit_laws(data_of(law.shape(CLOCK, np.array([np.log(2000.0)]))), (law,))[0]
    never = lifetime(slower, 0.8, 1.0, 100.0, "min")
    assert never.estimate is None and never.longer_than == pytest.approx(100) and "80 %" in never.reason


def test_crossing():
    assert crossing(np.array([0.0, 1, 2]), np.array([1.0, 0.9, 0.7]), 0.8) == pytest.approx(1.5)
    assert crossing(np.array([0.0, 1, 2]), np.array([1.0, 0.9, 0.85]), 0.8) is None


def test_a_blend_of_one_is_itself_and_of_two_is_wider():
    one, other = Estimate.from_sd(10.0, 1.0, "min"), Estimate.from_sd(14.0, 1.0, "min")
    alone = blended([one, other], [1.0, 1e-12])
    assert alone.ci95 == pytest.approx(one.ci95, abs=0.02) and alone.ci68 == pytest.approx(one.ci68, abs=0.02)
    half = blended([one, other], [1.0, 1.0])
    assert half.value == 10.0 and half.ci95[0] == pytest.approx(8.36, abs=0.05)
    assert half.ci95[1] == pytest.approx(15.64, abs=0.05)
    never = Estimate(10.0, "min", (9.0, 11.0), (8.0, np.inf))
    assert blended([never, one], [1.0, 1.0]) == never


def reads_of(curve, clock, seed, noise=0.01, **options):
    clock = np.asarray(clock, dtype=float)
    signal = curve(clock) * (1 + np.random.default_rng(seed).normal(0, noise, clock.size))
    return StabilityReads.of(clock, signal, clock_unit="min", **options)


def dip_and_rise(t):
    return 1 - 0.138 * (1 - np.exp(-t / 15)) + 0.24 / (1 + np.exp(-(t - 60) / 6))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_smoothed_curve_covers_the_truth():
    asked = np.array([20.0, 40.0, 60.0, 80.0])
    clock = np.concatenate([np.zeros(5), np.arange(1.0, 91.0)])
    inside = []
    for seed in range(40):
        lamp = np.ones(clock.size)
        points = normalise(reads_of(dip_and_rise, clock, seed, reference=lamp, reference_error=1e-5 * lamp))
        course = fit_smooth_course(points)
        off = (course.values(asked) - dip_and_rise(asked) / dip_and_rise(0.0)) / course.errors(asked)
        inside.append(np.abs(off) < 2)
        draws = course.draws(asked)
        assert np.allclose(draws.mean(axis=0), course.values(asked), atol=4 * course.errors(asked).max() / 20)
    assert np.mean(inside) > 0.88


@pytest.mark.slow
def test_noise_alone_is_not_a_reason_against_the_laws():
    clock = np.concatenate([np.zeros(5), np.arange(1.0, 91.0)])
    refused = 0
    for seed in range(30):
        reads = reads_of(lambda t: np.exp(-t / 200), clock, seed, noise=0.03, reference=np.ones(95))
        refused += analyse_stability(reads).law == "none of the laws"
    assert refused == 0


@pytest.mark.parametrize(
    ("departure", "refused"),
    [
        # Of one sign for some reads on end, five times what the repeated reads scatter and more.
        pytest.param(np.repeat([0.0, 0.06, -0.09, 0.05, -0.03], [3, 5, 5, 3, 3]), True, marks=pytest.mark.slow),
        # From one read to the next, as where a sample is put back differently each time.
        (0.05 * np.resize([1.0, -1.0, -0.6, 1.2, 0.3, -1.1], 19), False),
    ],
)
def test_a_law_far_off_is_refused_unless_its_misfit_looks_like_noise(departure, refused):
    cycles = 3
    clock = np.repeat(CLOCK, cycles)
    reads = reads_of(lambda t: np.exp(-t / 200), clock, 0, noise=0.002, point=np.repeat(np.arange(19), cycles))
    lamp = np.ones(clock.size)
    apart = replace(reads, signal=reads.signal * np.repeat(np.exp(departure), cycles))
    result = analyse_stability(replace(apart, reference=lamp, reference_time_s=reads.time_s))
    assert result.chi2 / result.dof > 25
    assert (result.law == "none of the laws") is refused


def test_thousands_of_reads_are_condensed_and_say_the_same():
    clock = np.concatenate([np.zeros(50), np.linspace(0.1, 100, 3950)])
    lamp = 1 + np.random.default_rng(1).normal(0, 0.01, clock.size)
    reads = reads_of(lambda t: np.exp(-t / 200), clock, 0, reference=lamp, time_s=np.arange(4000.0))
    few = condensed(reads, 200)
    assert few.signal.size <= 202 and few.reference.size <= 200 and few.baseline.sum() >= 2
    result = analyse_stability(few, at=(100,))
    assert result.values[0].intensity.value == pytest.approx(np.exp(-0.5), abs=0.006)
    assert condensed(reads, 4000) is reads


def test_hot_and_cold_are_not_condensed_into_one():
    hot = np.arange(1000) % 100 >= 50
    reads = reads_of(lambda t: np.exp(-t / 200), np.arange(1000.0), 0, hot=hot, baseline=np.arange(1000) < 50)
    few = condensed(replace(reads, signal=np.where(hot, 2.0, 1.0)), 100)
    assert set(few.signal.tolist()) == {1.0, 2.0} and np.all((few.signal == 2.0) == few.hot)
