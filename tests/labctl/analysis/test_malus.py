"""The law of Malus through measured energies: recovery, errors, refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from labctl.analysis.malus import MIN_POINTS, NoMalusFit, fit_malus

ANGLES = 2.0 + 90.0 * np.arange(25) / 25


def curve(angle: np.ndarray, theta0: float, minimum: float, maximum: float) -> np.ndarray:
    """Malus' law written as in the text books, with the factor 2 of a half-wave plate."""
    return minimum + (maximum - minimum) * np.cos(np.radians(2 * (angle - theta0))) ** 2


@given(
    theta0=st.floats(0.0, 89.99),
    maximum=st.floats(1e-9, 1e-2),
    extinction=st.floats(0.0, 0.5),
    span=st.floats(60.0, 350.0),
    points=st.integers(8, 60),
)
def test_a_curve_without_noise_is_found_exactly(
    theta0: float, maximum: float, extinction: float, span: float, points: int
) -> None:
    angle = 1.0 + span * np.arange(points) / points
    fit = fit_malus(angle, curve(angle, theta0, extinction * maximum, maximum))
    off = (fit.theta0.value - theta0 + 45.0) % 90.0 - 45.0
    assert abs(off) < 1e-4
    assert fit.maximum.value == pytest.approx(maximum, rel=1e-6)
    assert fit.minimum.value == pytest.approx(extinction * maximum, abs=1e-6 * maximum)
    assert 0.0 <= fit.theta0.value < 90.0
    assert np.abs(fit.residual_j).max() < 1e-6 * maximum
    assert fit.energy_j(theta0 + 22.5) == pytest.approx((1 + extinction) / 2 * maximum, rel=1e-5)


def test_a_quarter_wave_off_by_half_a_percent_only_raises_the_minimum() -> None:
    turn = np.radians(2 * (ANGLES - 7.3))
    retardance = math.pi * 1.005
    fit = fit_malus(ANGLES, 38e-6 * (1 - np.sin(turn) ** 2 * math.sin(retardance / 2) ** 2))
    assert fit.theta0.value == pytest.approx(7.3, abs=1e-6)
    assert fit.extinction.value == pytest.approx(math.cos(retardance / 2) ** 2, rel=1e-3)


def test_the_stated_errors_weigh_the_points() -> None:
    energy = curve(ANGLES, 7.3, 4e-8, 38e-6)
    energy[3] *= 1.5
    trusted, doubted = np.full(25, 1e-7), np.full(25, 1e-7)
    doubted[3] = 1e-3
    assert abs(fit_malus(ANGLES, energy, doubted).maximum.value / 38e-6 - 1) < 1e-5
    assert abs(fit_malus(ANGLES, energy, trusted).maximum.value / 38e-6 - 1) > 1e-3


def test_scatter_that_the_errors_do_not_explain_widens_the_intervals() -> None:
    rng = np.random.default_rng(0)
    energy = curve(ANGLES, 7.3, 4e-8, 38e-6) * (1 + 0.01 * rng.standard_normal(25))
    fit = fit_malus(ANGLES, energy, 1e-4 * energy)
    assert 0.006 < fit.scatter < 0.014
    assert fit.chi2 > 100 * fit.dof
    honest = fit_malus(ANGLES, energy, 0.02 * energy)
    assert honest.scatter == 0.0
    assert honest.chi2 < honest.dof


def test_errors_of_the_angle_count_where_the_curve_is_steep() -> None:
    energy = curve(ANGLES, 7.3, 4e-8, 38e-6)
    without = fit_malus(ANGLES, energy, 1e-4 * energy)
    with_error = fit_malus(ANGLES, energy, 1e-4 * energy, angle_error_deg=0.1)
    assert with_error.theta0.sd == pytest.approx(0.1 / math.sqrt(25), rel=0.5)
    assert without.theta0.sd < 0.1 * with_error.theta0.sd


@pytest.mark.parametrize(
    ("angle", "energy", "error", "reason"),
    [
        (ANGLES[: MIN_POINTS - 1], np.ones(MIN_POINTS - 1), None, "too few"),
        (ANGLES, np.ones(24), None, "25 angles and 24 energies"),
        (ANGLES, np.full(25, np.nan), None, "not a finite"),
        (ANGLES, np.zeros(25), None, "positive"),
        (ANGLES, np.ones(25), -0.1, "negative"),
        (ANGLES, np.ones(25), None, "does not depend on the angle"),
        (2.0 + 20.0 * np.arange(25) / 25, curve(2.0 + 20.0 * np.arange(25) / 25, 7.3, 0.0, 1.0), None, "span"),
        (2.0 + 90.0 * np.arange(25), np.ones(25), None, "span"),
    ],
)
def test_data_that_do_not_determine_the_curve_are_refused(
    angle: np.ndarray, energy: np.ndarray, error: float | None, reason: str
) -> None:
    with pytest.raises(NoMalusFit, match=reason):
        fit_malus(angle, energy, error)


def test_a_blocked_polariser_is_no_curve() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(NoMalusFit, match="does not depend"):
        fit_malus(ANGLES, 1e-6 * (1 + 0.01 * rng.standard_normal(25)))


@pytest.mark.slow
def test_bias_and_coverage_over_200_seeds() -> None:
    """25 angles, 1 % noise: theta0 within 0.015 deg, full energy 0.22 % (one standard deviation each)."""
    truth = {"theta0": 7.3, "minimum": 0.00106 * 38e-6, "maximum": 38e-6}
    perfect = curve(ANGLES, *truth.values())
    found: dict[str, list[float]] = {name: [] for name in truth}
    covered = {(name, level): 0 for name in truth for level in ("ci68", "ci95")}
    at_one_percent = []
    for seed in range(200):
        noise = np.random.default_rng(seed).standard_normal(25)
        fit = fit_malus(ANGLES, perfect * (1 + 0.01 * noise))
        for name, value in truth.items():
            estimate = getattr(fit, name)
            found[name].append(estimate.value - value)
            for level in ("ci68", "ci95"):
                low, high = getattr(estimate, level)
                covered[name, level] += low <= value <= high
        angle = 7.3 + math.degrees(math.acos(math.sqrt(0.01))) / 2
        at_one_percent.append(fit.energy_j(angle) / curve(np.array(angle), *truth.values()) - 1)
    assert np.std(found["theta0"]) < 0.015
    assert np.std(found["maximum"]) < 0.0025 * 38e-6
    assert np.std(at_one_percent) < 0.016
    for name, scale in (("theta0", 1.0), ("maximum", 38e-6), ("minimum", truth["minimum"])):
        assert abs(np.mean(found[name])) < 3 * np.std(found[name]) / math.sqrt(200), (name, scale)
    for (name, level), count in covered.items():
        share = 0.95 if level == "ci95" else 0.6827
        assert stats.binomtest(count, 200, share).pvalue > 0.01, (name, level, count)
