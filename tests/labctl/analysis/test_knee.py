from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.analysis.hinge import HingeParameters, fit_line, polish, search_grid
from labctl.analysis.knee import NoThreshold, loglog_knee
from labctl.analysis.sweep_design import coarse_fluences, refine_fluences

FLUENCES = np.concatenate([coarse_fluences(28.0), refine_fluences(28.0)])


def test_recovers_the_knee_of_noise_free_data(soft_knee):
    intensity = soft_knee(FLUENCES)
    fit = loglog_knee(FLUENCES, intensity, intensity_error=0.01 * intensity)
    assert fit.value == pytest.approx(28.0, rel=0.005)
    assert fit.slope_below == pytest.approx(1.0, abs=0.02)
    assert fit.slope_above == pytest.approx(3.5, abs=0.1)
    assert fit.model == "hinge+saturation"
    assert fit.saturation_fluence == pytest.approx(98.0, rel=0.05)
    assert fit.curve(FLUENCES) == pytest.approx(intensity, rel=0.02)
    assert fit.ci95[0] < fit.ci68[0] < fit.value < fit.ci68[1] < fit.ci95[1]


def test_no_saturation_branch_without_saturation(soft_knee):
    fluence = np.geomspace(5, 90, 30)
    intensity = soft_knee(fluence, distance=None)
    fit = loglog_knee(fluence, intensity, intensity_error=0.03 * intensity)
    assert fit.model == "hinge"
    assert fit.slope_saturated is None and fit.saturation_fluence is None
    assert fit.value == pytest.approx(28.0, rel=0.01)


@settings(max_examples=15, deadline=None)
@given(st.permutations(list(range(FLUENCES.size))), st.floats(1e-3, 1e3), st.floats(1e-6, 1e6))
def test_order_and_units_do_not_matter(soft_knee, noisy_sweep, order, fluence_unit, intensity_unit):
    sweep = noisy_sweep(soft_knee, FLUENCES, 0)
    plain = loglog_knee(sweep.fluence, sweep.intensity, **sweep.errors, quick=True)
    p = np.array(order)
    errors = {
        "fluence_error": sweep.fluence_error[p] * fluence_unit,
        "intensity_error": sweep.intensity_error[p] * intensity_unit,
    }
    moved = loglog_knee(sweep.fluence[p] * fluence_unit, sweep.intensity[p] * intensity_unit, **errors, quick=True)
    assert moved.value == pytest.approx(plain.value * fluence_unit, rel=1e-3)
    assert moved.slope_above == pytest.approx(plain.slope_above, rel=5e-3)


@pytest.mark.parametrize(("low", "high"), [(0.2, 11.0), (0.02, 11.0), (0.5, 3.0), (0.1, 2.0), (0.4, 50.0)])
def test_any_range_that_holds_the_threshold(film, low, high):
    fluence = np.geomspace(low * 28, high * 28, 40)
    intensity = film.intensity(fluence)
    fit = loglog_knee(fluence, intensity, fluence_error=0.01 * fluence, intensity_error=0.03 * intensity)
    assert fit.value == pytest.approx(28.0, rel=0.04)


def test_repeated_fluences_tighten_the_interval(soft_knee, noisy_sweep):
    once = noisy_sweep(soft_knee, FLUENCES, 0)
    often = noisy_sweep(soft_knee, np.tile(FLUENCES, 8), 0)
    few = loglog_knee(once.fluence, once.intensity, **once.errors)
    many = loglog_knee(often.fluence, often.intensity, **often.errors)
    assert many.ci95[1] - many.ci95[0] < 0.6 * (few.ci95[1] - few.ci95[0])
    assert many.ci95[0] <= 28.0 <= many.ci95[1]


def test_saturated_points_never_enter(film):
    clipped = FLUENCES > 60
    intensity = np.where(clipped, film.intensity(np.array([60.0]))[0], film.intensity(FLUENCES))
    masked = loglog_knee(FLUENCES, intensity, intensity_error=0.03 * intensity, saturated=clipped)
    apart = loglog_knee(FLUENCES[~clipped], intensity[~clipped], intensity_error=0.03 * intensity[~clipped])
    assert masked.value == apart.value
    assert masked.n_excluded["saturated"] == clipped.sum()
    assert masked.data_range[1] < 60


def test_negative_intensities_are_dropped_and_counted(soft_knee):
    intensity = soft_knee(FLUENCES)
    intensity[[0, 1, 2]] = [-0.1, 0.0, np.nan]
    fit = loglog_knee(FLUENCES, intensity, intensity_error=np.full(FLUENCES.size, 0.01) * soft_knee(FLUENCES))
    assert fit.n_excluded["not_positive"] == 3
    assert fit.value == pytest.approx(28.0, rel=0.01)


def test_fluence_errors_count_by_the_local_slope(soft_knee):
    intensity = soft_knee(FLUENCES)
    exact = loglog_knee(FLUENCES, intensity, intensity_error=0.01 * intensity)
    blurred = loglog_knee(FLUENCES, intensity, intensity_error=0.01 * intensity, fluence_error=0.05 * FLUENCES)
    width = [fit.ci95[1] - fit.ci95[0] for fit in (exact, blurred)]
    assert width[1] > 3 * width[0]


def test_underestimated_errors_widen_the_interval(soft_knee, noisy_sweep):
    sweep = noisy_sweep(soft_knee, FLUENCES, 0, sigma_i=0.05, sigma_f=0.0)
    honest = loglog_knee(sweep.fluence, sweep.intensity, intensity_error=0.05 * sweep.intensity)
    boasting = loglog_knee(sweep.fluence, sweep.intensity, intensity_error=0.005 * sweep.intensity)
    unknown = loglog_knee(sweep.fluence, sweep.intensity)
    reference = honest.ci95[1] - honest.ci95[0]
    assert boasting.error_scale > 5
    assert boasting.interval == unknown.interval == "profile F"
    assert boasting.misfit == "scatter" and honest.misfit == "none"
    assert any("the points scatter by" in text for text in boasting.warnings)
    for fit in (boasting, unknown):
        assert 0.5 * reference < fit.ci95[1] - fit.ci95[0] < 2 * reference


def ring_like(fluence, swing):
    """A knee whose PL saturates below the threshold and whose slope overshoots above it."""
    u = np.log(fluence / 28.0)
    return swing * (np.exp(-(((u - 0.45) / 0.25) ** 2)) - 0.05 * u**2)


def test_a_healthy_curve_that_is_no_hinge_widens_the_interval_without_alarm(soft_knee, noisy_sweep):
    for seed in range(5):
        sweep = noisy_sweep(lambda f: soft_knee(f) * np.exp(ring_like(f, 0.15)), FLUENCES, seed, 0.002, 0.002)
        fit = loglog_knee(sweep.fluence, sweep.intensity, **sweep.errors)
        assert fit.misfit == "shape" and fit.scatter > 0.01 and fit.error_scale > 3
        assert fit.warnings == ()


def test_a_curve_far_from_any_hinge_is_said_to_be_one(soft_knee):
    intensity = soft_knee(FLUENCES) * np.exp(0.5 * np.sin(4 * np.log(FLUENCES)))
    fit = loglog_knee(FLUENCES, intensity, intensity_error=0.01 * intensity)
    assert fit.misfit == "shape"
    assert any("smooth curve that is no hinge" in text for text in fit.warnings)


def test_a_sample_that_changes_during_the_sweep_scatters(soft_knee, noisy_sweep):
    """The fine pass lies between the points of the coarse one, 8 % lower."""
    factor = np.where(np.arange(FLUENCES.size) % 4 == 0, 1.0, 0.92)
    sweep = noisy_sweep(soft_knee, FLUENCES, 0, 0.002, 0.002)
    fit = loglog_knee(sweep.fluence, sweep.intensity * factor, **sweep.errors)
    assert fit.misfit == "scatter" and any("sample changed" in text for text in fit.warnings)


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        (lambda f: f, "slope does not change"),
        (lambda f: np.ones_like(f), "slope does not change"),
        (lambda f: 1 - np.exp(-f / 20), "slope does not change"),
    ],
)
def test_no_threshold_is_said(shape, reason):
    with pytest.raises(NoThreshold) as caught:
        loglog_knee(FLUENCES, shape(FLUENCES), intensity_error=0.03 * shape(FLUENCES))
    assert caught.value.reason == reason


def test_noise_on_a_straight_line_is_rarely_a_threshold(noisy_sweep):
    found = 0
    for seed in range(20):
        sweep = noisy_sweep(lambda f: f**1.05, FLUENCES, seed)
        try:
            loglog_knee(sweep.fluence, sweep.intensity, **sweep.errors, quick=True)
        except NoThreshold:
            continue
        found += 1
    assert found <= 1


@pytest.mark.parametrize(
    ("keep", "reason"),
    [
        (lambda f: f > 25, "too few points below the knee"),
        (lambda f: f < 33, "too few points above the knee"),
        (lambda f: f < 20, "slope does not change"),
        (lambda f: f > 40, "slope does not change"),
        (lambda f: f < 6, "too few points"),
    ],
)
def test_threshold_at_the_edge_or_outside(film, keep, reason):
    fluence = FLUENCES[keep(FLUENCES)]
    intensity = film.intensity(fluence)
    with pytest.raises(NoThreshold) as caught:
        loglog_knee(fluence, intensity, intensity_error=0.03 * intensity)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fluence": np.append(0.0, FLUENCES[1:])}, "> 0"),
        ({"fluence": FLUENCES[1:]}, "alike"),
        ({"intensity_error": 0.0}, "must be > 0"),
        ({"intensity_error": -1.0}, ">= 0"),
        ({"fluence_error": np.nan}, "finite"),
        ({"saturated": [True]}, "shape"),
    ],
)
def test_malformed_input(soft_knee, change, message):
    arguments = {"fluence": FLUENCES, "intensity": soft_knee(FLUENCES)} | change
    with pytest.raises(ValueError, match=message) as caught:
        loglog_knee(**arguments)
    assert not isinstance(caught.value, NoThreshold)


def test_result_is_json_and_names_its_data(soft_knee, noisy_sweep):
    sweep = noisy_sweep(soft_knee, FLUENCES, 0)
    fit = loglog_knee(sweep.fluence, sweep.intensity, **sweep.errors, convention="mean_1e2", fluence_unit="mJ/cm^2")
    stored = json.loads(json.dumps(fit.as_dict(), allow_nan=False))
    assert stored["value"] == fit.value and stored["unit"] == "mJ/cm^2" and stored["convention"] == "mean_1e2"
    assert stored["ci95"] == list(fit.ci95) and stored["dof"] == fit.n_points - 7
    other = sweep.intensity.copy()
    other[0] *= 1 + 1e-12
    again = loglog_knee(sweep.fluence, sweep.intensity, **sweep.errors, quick=True)
    changed = loglog_knee(sweep.fluence, other, **sweep.errors, quick=True)
    assert again.data_sha256 == fit.data_sha256 != changed.data_sha256
    json.dumps(again.as_dict(), allow_nan=False)


def test_the_stored_result_gives_the_curve_and_its_criteria(film, noisy_sweep):
    sweep = noisy_sweep(film.intensity, FLUENCES, 0, sigma_i=0.01)
    boasting = {"fluence_error": 0.1 * sweep.fluence_error, "intensity_error": 0.1 * sweep.intensity_error}
    for errors in (sweep.errors, boasting):
        fit = loglog_knee(sweep.fluence, sweep.intensity, **errors)
        stored = json.loads(json.dumps(fit.as_dict(), allow_nan=False))
        curve = HingeParameters(**stored["parameters"]).curve(np.log(FLUENCES))
        assert np.exp(curve) == pytest.approx(fit.curve(FLUENCES), rel=1e-12)
        k = stored["n_points"] - stored["dof"]
        assert stored["aic"] == pytest.approx(stored["chi2_scaled"] + 2 * k)
        assert stored["bic"] == pytest.approx(stored["chi2_scaled"] + k * np.log(stored["n_points"]))
        assert stored["error_scale"] == pytest.approx(max(1.0, stored["chi2"] / stored["dof"]) ** 0.5)
    assert stored["error_scale"] > 5 and stored["chi2_scaled"] < stored["chi2"] / 10


def test_a_gently_saturating_film_says_how_much_is_convention(film, noisy_sweep):
    for seed in range(4):
        sweep = noisy_sweep(film.intensity, FLUENCES, seed)
        fit = loglog_knee(sweep.fluence, sweep.intensity, **sweep.errors)
        assert fit.distance_at_bound
        assert fit.definition_error == pytest.approx(0.06, abs=0.02)
    live = loglog_knee(sweep.fluence, sweep.intensity, **sweep.errors, quick=True)
    assert live.distance_at_bound and live.definition_error is None


def test_a_knee_that_the_data_fix_has_no_definition_error(soft_knee):
    intensity = soft_knee(FLUENCES)
    fit = loglog_knee(FLUENCES, intensity, intensity_error=0.01 * intensity)
    assert fit.model == "hinge+saturation" and not fit.distance_at_bound
    assert fit.definition_error == pytest.approx(0.0, abs=1e-3)
    fluence = np.geomspace(5, 90, 30)
    intensity = soft_knee(fluence, distance=None)
    fit = loglog_knee(fluence, intensity, intensity_error=0.03 * intensity)
    assert fit.model == "hinge" and not fit.distance_at_bound and fit.definition_error == 0.0


def test_local_slope_is_the_derivative_of_the_curve(soft_knee):
    fit = loglog_knee(FLUENCES, soft_knee(FLUENCES))
    step = 1e-5
    numeric = (np.log(fit.curve(FLUENCES * (1 + step))) - np.log(fit.curve(FLUENCES * (1 - step)))) / (2 * step)
    assert fit.local_slope(FLUENCES) == pytest.approx(numeric, abs=1e-4)


def test_grid_alone_is_close_and_polish_reaches_the_minimum(soft_knee):
    x, y = np.log(FLUENCES), np.log(soft_knee(FLUENCES))
    weight = np.full(x.size, 1 / 0.03)
    order = np.argsort(x)
    starts = search_grid(x[order], y[order], weight, np.linspace(1.5, 4.5, 40), saturation=True)
    assert starts[0][1].log_threshold == pytest.approx(np.log(28), abs=0.08)
    chi2, best = polish(x[order], y[order], weight, starts[0][1])
    assert chi2 < 0.3 and best.log_threshold == pytest.approx(np.log(28), abs=0.005)
    held, there = polish(x[order], y[order], weight, best, fixed_knee=best.log_threshold + 0.05)
    assert held > chi2 and there.log_threshold == best.log_threshold + 0.05


def test_line_and_hinge_without_bend_agree():
    x = np.linspace(0, 3, 12)
    level, slope, chi2 = fit_line(x, 2 + 1.5 * x, np.ones_like(x))
    assert (level, slope, chi2) == pytest.approx((2, 1.5, 0), abs=1e-12)
    assert HingeParameters(1.0, 3.5, 1.5, 1.5, 0.1).curve(x) == pytest.approx(2 + 1.5 * x)


def test_any_data_give_a_result_or_a_verdict():
    for seed in range(80):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(1, 45))
        fluence = np.exp(rng.normal(0, rng.choice([0.01, 1, 5]), n))
        if seed % 3 == 0:
            fluence = np.round(fluence, 1) + 0.1
        intensity = fluence ** rng.normal(1, 1) * np.exp(rng.normal(0, rng.choice([0, 0.03, 0.5, 3]), n))
        intensity = np.where(rng.random(n) < 0.1, -intensity, intensity) * 10.0 ** rng.integers(-12, 12)
        error = np.abs(intensity) * 10.0 ** rng.integers(-6, 2) if seed % 2 else None
        try:
            fit = loglog_knee(fluence, intensity, intensity_error=error, fluence_error=0.01 * fluence)
        except NoThreshold as verdict:
            assert verdict.reason.startswith(("too few points", "slope does not change"))
        else:
            assert fit.ci95[0] <= fit.value <= fit.ci95[1]
            assert fluence.min() <= fit.value <= fluence.max()
