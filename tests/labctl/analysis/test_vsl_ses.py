from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import binom

from labctl.analysis.estimate import Estimate
from labctl.analysis.vsl_amplification import growth, light_by_origin
from labctl.analysis.vsl_fit import GainPrior
from labctl.analysis.vsl_gain import NoGain, fit_gain, stripe_points
from labctl.analysis.vsl_lengths import lengths_um
from labctl.analysis.vsl_ses import ShiftedSpotGain, SpotCurve, shifted_spot_gain, spot_curve

NODES, WEIGHTS = np.polynomial.legendre.leggauss(120)
NODES, WEIGHTS = 0.5 * (NODES + 1.0), 0.5 * WEIGHTS
# gain, loss (1/cm), longest stripe (cm), share amplified
P0 = (115.4, 10.0, 0.1, 0.030)
P2 = (360.2, 15.0, 0.05, 0.164)


def measured(
    seed: int,
    case: tuple[float, float, float, float],
    *,
    noise: float = 0.02,
    saturation_gl: float | None = 9.5,
    absorbed: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Stripes and shifted spots, collected by where light starts: 1/(1 + (x/x0)^2), x0 half the longest stripe."""
    gain, loss, longest, share = case
    rng = np.random.default_rng(seed)
    read = 1e-4 * lengths_um(gain, 1e4 * longest)
    length = np.maximum(read - rng.normal(0.0, 3e-4) * (noise > 0), 0.0)
    depth = 0.0
    if saturation_gl is not None:
        depth = 1.0 / (gain * longest * float(growth(saturation_gl)))

    def eta(x: np.ndarray) -> np.ndarray:
        return 1.0 / (1.0 + (x / (0.5 * longest)) ** 2)

    x, light = light_by_origin(length, gain, depth, NODES, WEIGHTS)
    late_x = length[:, None] * NODES
    late = length[:, None] * WEIGHTS * eta(late_x) * np.exp(-loss * late_x * absorbed)
    stripe = share * np.sum(light * eta(x), axis=1) + (1.0 - share) * np.sum(late, axis=1)
    spots = np.linspace(10e-4, longest, 20)
    spot = np.exp(-loss * spots) * eta(spots)
    return (
        1e4 * read,
        stripe * (1.0 + noise * rng.standard_normal(read.size)),
        1e4 * spots,
        7.0 * spot * (1.0 + noise * rng.standard_normal(spots.size)),
    )


def analysed(scan: tuple[np.ndarray, ...], loss: float | None, noise: float = 0.02) -> ShiftedSpotGain:
    read, light, distance, spot = scan
    known = None if loss is None else Estimate.from_sd(loss, 0.03 * loss, "1/cm")
    curve = spot_curve(distance, spot)
    prior = GainPrior(0.0, 3e-4 if noise else 0.0)
    return shifted_spot_gain(stripe_points(read, light), prior, curve, loss=known, relative_error=noise or 1e-3)


@pytest.mark.parametrize("case", [P0, P2])
def test_perfect_spots_take_the_collection_out(case: tuple[float, float, float, float]) -> None:
    found = analysed(measured(0, case, noise=0.0), case[1], noise=0.0)
    assert found.gain is not None
    assert found.gain.value == pytest.approx(case[0], rel=0.003)
    assert found.gain_plus_loss.value == pytest.approx(case[0] + case[1], rel=0.003)
    assert found.late_light == "transparent" and found.late_spread_cm1 < 0.01 * case[0]
    json.dumps(found.as_dict(), allow_nan=False)


@pytest.mark.parametrize("case", [P0, P2])
def test_late_light_that_is_absorbed_is_told_and_in_the_budget(case: tuple[float, float, float, float]) -> None:
    found = analysed(measured(0, case, noise=0.0, absorbed=True), case[1], noise=0.0)
    assert found.gain is not None and found.late_light == "absorbed"
    assert any("looks as if the film absorbed it" in warning for warning in found.warnings)
    assert abs(found.gain.value - case[0]) == pytest.approx(found.late_spread_cm1, rel=0.05)


def test_small_signal_without_loss_gives_the_sum_only() -> None:
    gain, loss, longest, share = 115.4, 10.0, 0.05, 1.0
    scan = measured(0, (gain, loss, longest, share), noise=0.0, saturation_gl=None)
    found = analysed(scan, None, noise=0.0)
    assert found.gain is None
    assert found.gain_plus_loss.value == pytest.approx(gain + loss, rel=0.003)
    alone = fit_gain(scan[0], scan[1], relative_error=0.02, zero_error_um=0.0, models=("small signal",))
    assert alone.gain.value < 0.9 * gain


def test_collection_comes_out_of_noisy_scans() -> None:
    for case, most in ((P0, 12.0), (P2, 18.0)):
        found = [analysed(measured(seed, case), case[1]).gain for seed in range(1)]
        off = np.array([gain.value for gain in found if gain is not None]) - case[0]
        assert off.size == 1 and np.all(np.abs(off) < most)


def test_spots_as_a_curve() -> None:
    distance = np.linspace(0.0, 500.0, 20)
    curve = spot_curve(distance, 3.0 * np.exp(-20e-4 * distance), error=0.01 * np.ones(20))
    assert isinstance(curve, SpotCurve) and curve.coefficients.size == 2
    np.testing.assert_allclose(curve(1e-4 * distance), np.exp(-20e-4 * distance), rtol=1e-3)
    with pytest.raises(NoGain, match="only 3 shifted spots shine"):
        spot_curve([0, 10, 20, 30], [1, 0.9, 0.8, -0.1])
    with pytest.raises(ValueError, match="equally long"):
        spot_curve([0, 10], [1, 0.9, 0.8])


def test_spots_that_end_early_are_told() -> None:
    read, light, distance, spot = measured(0, P2)
    near = distance < 300.0
    found = analysed((read, light, distance[near], spot[near]), P2[1])
    assert any("beyond the last spot" in warning for warning in found.warnings)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", [P0, P2])
def test_bias_and_coverage(case: tuple[float, float, float, float]) -> None:
    found = [analysed(measured(seed, case), case[1]) for seed in range(40)]
    gains = [one.gain for one in found if one.gain is not None]
    off = np.array([gain.value for gain in gains]) / case[0] - 1.0
    assert abs(off.mean()) < 0.02
    covered = sum(gain.ci95[0] <= case[0] <= gain.ci95[1] for gain in gains)
    # Exact binomial test at 1 %: would so few be covered if 90 % were?
    assert binom.cdf(covered, len(found), 0.90) > 0.01
