from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import binom

from labctl.analysis.vsl_amplification import growth, saturable
from labctl.analysis.vsl_fit import GainPrior
from labctl.analysis.vsl_gain import GainFit, NoGain, fit_gain
from labctl.analysis.vsl_lengths import lengths_um
from labctl.analysis.vsl_small_signal import small_signal_fits

P0 = {"gain": 115.4, "gl": 11.54, "share": 0.03, "saturation_gl": 9.5}
P2 = {"gain": 360.2, "gl": 18.0, "share": 0.164, "saturation_gl": 9.5}


def stripes(
    seed: int,
    *,
    gain: float = 115.0,
    gl: float = 6.0,
    share: float = 1.0,
    saturation_gl: float | None = None,
    noise: float = 0.02,
    zero_um: float = 3.0,
    count: int = 25,
) -> tuple[np.ndarray, np.ndarray]:
    """Lengths as read, µm, and light: closed form plus late light, a wrong stripe zero, 2 % noise per length."""
    rng = np.random.default_rng(seed)
    read = lengths_um(gain, 1e4 * gl / gain, count)
    length = np.maximum(1e-4 * (read - rng.normal(0.0, zero_um)), 0.0)
    saturation = np.inf if saturation_gl is None else share * float(growth(saturation_gl)) * saturation_gl / gain
    light = (1.0 - share) * length + saturable(length, share, gain, saturation)
    return read, light * (1.0 + noise * rng.standard_normal(count))


def gains(case: dict[str, float | None], seeds: int) -> list[GainFit]:
    return [fit_gain(*stripes(seed, **case)) for seed in range(seeds)]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("case", "model"),
    [
        ({"gl": 6.0}, "small signal"),
        ({"gl": 11.0, "saturation_gl": 4.5}, "saturation"),
        ({"gl": 6.0, "share": 0.1}, "late light"),
        (P0, "saturation + late light"),
        (P2, "saturation + late light"),
    ],
)
def test_perfect_light_gives_its_gain_and_its_model(case: dict[str, float], model: str) -> None:
    read, light = stripes(0, noise=0.0, zero_um=0.0, **case)  # pyright: ignore[reportArgumentType]
    fit = fit_gain(read, light, relative_error=0.02, zero_error_um=0.0)
    assert fit.model == model
    assert fit.gain.value == pytest.approx(case.get("gain", 115.0), rel=1e-4)
    assert fit.amplified_share == pytest.approx(case.get("share", 1.0), rel=1e-3)
    json.dumps(fit.as_dict(), allow_nan=False)


@pytest.mark.parametrize("gain", [-40.0, -1.0, 1e-6])
def test_gain_of_either_sign(gain: float) -> None:
    length = np.linspace(20.0, 1000.0, 25)
    light = saturable(1e-4 * length, 1.0, gain, np.inf)
    fit = fit_gain(length, light, relative_error=0.01, models=("small signal",))
    assert fit.gain.value == pytest.approx(gain, abs=1e-3)
    assert fit.gain.ci95[0] < gain < fit.gain.ci95[1]


@pytest.mark.parametrize(("case", "each", "median"), [(P0, 12.0, 5.0), (P2, 18.0, 18.0)])
def test_gains_of_the_papers_at_every_seed(case: dict[str, float], each: float, median: float) -> None:
    found = np.array([fit.gain.value for fit in gains(case, 4)])  # pyright: ignore[reportArgumentType]
    assert np.all(np.abs(found - case["gain"]) < each)
    assert abs(np.median(found) - case["gain"]) < median


def test_twenty_lengths_are_enough() -> None:
    for case, each in ((P0, 12.0), (P2, 18.0)):
        found = [fit_gain(*stripes(seed, count=20, **case)).gain.value for seed in range(2)]
        assert np.all(np.abs(np.array(found) - case["gain"]) < each)


def test_interval_does_not_depend_on_the_unit_of_the_light() -> None:
    read, light = stripes(0, **P0)
    one, other = fit_gain(read, light), fit_gain(read, 1e9 * light)
    assert other.gain.value == pytest.approx(one.gain.value, rel=1e-4)
    assert other.gain.ci95 == pytest.approx(one.gain.ci95, rel=1e-3)


def test_offset_with_its_error_is_taken_out() -> None:
    read, light = stripes(0, noise=0.0, zero_um=0.0, **P2)
    offset = 0.3 * light[0]
    wrong = fit_gain(read, light + offset, relative_error=0.01, zero_error_um=0.0)
    known = fit_gain(read, light + offset, relative_error=0.01, offset_error=offset, zero_error_um=0.0)
    assert abs(known.gain.value - P2["gain"]) < 0.3 * abs(wrong.gain.value - P2["gain"])
    assert known.curve.offset == pytest.approx(offset, rel=0.2)


def test_errors_of_the_lengths_widen_the_interval() -> None:
    read, light = stripes(0, **P0)
    assert fit_gain(read, light, relative_error=0.02, length_error_um=2.0).gain.sd > (
        1.2 * fit_gain(read, light, relative_error=0.02).gain.sd
    )


def test_relative_error_is_estimated() -> None:
    found = [fit_gain(*stripes(seed, noise=0.03, **P2)).relative_error for seed in range(4)]
    assert np.median(found) == pytest.approx(0.03, rel=0.2)


def test_small_signal_is_flagged_when_it_is_wrong_and_trusted_when_it_holds() -> None:
    prior = GainPrior(0.0, 3e-4)
    for case in (P0, P2, {"gl": 11.0, "saturation_gl": 4.5}, {"gl": 6.0, "share": 0.1}):
        whole = small_signal_fits(fit_gain(*stripes(0, **case)), prior)[0]  # pyright: ignore[reportArgumentType]
        assert not whole.trusted and whole.reasons
        assert whole.gain is not None and whole.gain.value < 0.8 * case.get("gain", 115.0)
    plain = [small_signal_fits(fit_gain(*stripes(seed, gl=6.0)), prior) for seed in range(3)]
    assert any(whole.trusted for whole, _, _ in plain)
    assert all(whole.trusted == (not whole.reasons) for whole, _, _ in plain)
    whole, to_three, to_two = plain[0]
    assert to_three.gain is not None and to_two.gain is not None
    assert to_two.n_points < to_three.n_points < whole.n_points
    json.dumps([fit.as_dict() for fit in plain[0]], allow_nan=False)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_small_signal_that_holds_is_trusted_at_most_seeds() -> None:
    plain = [small_signal_fits(fit_gain(*stripes(seed, gl=6.0)), GainPrior(0.0, 3e-4))[0] for seed in range(16)]
    # Chance makes a richer model look better now and then: BIC allows for one in eight.
    assert sum(whole.trusted for whole in plain) >= 10
    assert all(whole.trusted == (not whole.reasons) for whole in plain)


def test_what_cannot_be_fitted_says_why() -> None:
    with pytest.raises(NoGain, match="only 3 usable stripe lengths"):
        fit_gain([10, 20, 30], [1, 2, 3])
    with pytest.raises(NoGain, match="growing with the stripe"):
        fit_gain(np.linspace(10, 100, 10), -np.ones(10), error=np.full(10, 0.01))
    with pytest.raises(ValueError, match="equally long"):
        fit_gain([10, 20, 30], [1, 2])
    read, light = stripes(0, **P2)
    light[3], light[5] = np.nan, -1.0
    assert fit_gain(read, light).n_excluded == 2


def test_lengths_are_dense_where_the_signal_is_small() -> None:
    for gain, longest in ((115.0, 1000.0), (360.0, 500.0)):
        length = lengths_um(gain, longest, 24)
        gl = 1e-4 * gain * length
        assert length.size == 24 and np.all(np.diff(length) > 0) and length[-1] == longest
        assert np.sum(gl < 1.0) >= 3 and np.sum(gl < 3.01) >= 12 and np.sum(gl > 9.5) >= 2
    with pytest.raises(ValueError, match="at least 20"):
        lengths_um(115.0, 1000.0, 19)
    with pytest.raises(ValueError, match="positive"):
        lengths_um(-1.0, 1000.0)


CASES = {
    "small signal": ({"gl": 6.0}, 0.015),
    "saturation at gL 4.5": ({"gl": 11.0, "saturation_gl": 4.5}, 0.015),
    "saturation at gL 3": ({"gl": 11.0, "saturation_gl": 3.0}, 0.015),
    "late light, 10 %": ({"gl": 6.0, "share": 0.1}, 0.03),
    "late light, 3 %": ({"gl": 8.0, "share": 0.03}, 0.03),
    "late light and saturation": ({"gl": 11.0, "share": 0.1, "saturation_gl": 5.0}, 0.03),
    "P0": (P0, 0.015),
    "P2": (P2, 0.015),
}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", CASES)
def test_bias_and_coverage(name: str) -> None:
    case, bias = CASES[name]
    truth, seeds = case.get("gain", 115.0), 200
    fits = gains(case, seeds)  # pyright: ignore[reportArgumentType]
    off = np.array([fit.gain.value / truth - 1.0 for fit in fits])
    assert abs(np.mean(off)) <= bias
    covered = sum(fit.gain.ci95[0] <= truth <= fit.gain.ci95[1] for fit in fits)
    # Exact binomial test at 1 %: would so few be covered if 90 % were?
    assert binom.cdf(covered, seeds, 0.90) > 0.01
