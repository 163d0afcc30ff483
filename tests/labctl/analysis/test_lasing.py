from __future__ import annotations

import json

import numpy as np
import pytest

from labctl.analysis.lasing import NoThreshold, lasing_threshold
from labctl.analysis.s_curve import SCurve
from labctl.analysis.sweep_design import coarse_fluences, refine_fluences

THRESHOLD = 3.3
FLUENCE = np.concatenate([coarse_fluences(THRESHOLD), refine_fluences(THRESHOLD)])


def laser(beta=1e-3, background=3.0, pulse_rms=0.0):
    """S-curve with F_th 3.3 and S = 1e6 beta; ``background`` is B F_th / S."""
    return SCurve(np.log(THRESHOLD), np.log(beta), 1e6 * beta, background * 1e6 * beta / THRESHOLD, pulse_rms)


def fit(shape, seed=0, fluence=FLUENCE, sigma_i=0.03, sigma_f=0.005, **arguments):
    rng = np.random.default_rng(seed)
    true = np.log(fluence) + rng.normal(0, sigma_f, fluence.size)
    intensity = shape.intensity(true) * np.exp(rng.normal(0, sigma_i, fluence.size))
    given = {"fluence_error": sigma_f * fluence, "intensity_error": sigma_i * intensity, "pulse_rms": 0.0}
    return lasing_threshold(fluence, intensity, **(given | arguments))


@pytest.mark.parametrize("beta", [1e-5, 1e-3, 1e-2])
@pytest.mark.parametrize("background", [0.0, 3.0, 30.0])
def test_threshold_and_beta_are_found(beta, background):
    found = fit(laser(beta, background))
    assert found.value == pytest.approx(THRESHOLD, rel=0.05)
    assert found.ci95[0] < found.ci68[0] < found.value < found.ci68[1] < found.ci95[1]
    assert found.beta.ci95[0] <= beta <= found.beta.ci95[1]
    assert found.n_points == 32 and found.dof == 28 and found.warnings == ()
    assert found.slope_below == pytest.approx(1.0, abs=0.2)
    assert found.curve(FLUENCE) == pytest.approx(laser(beta, background).intensity(np.log(FLUENCE)), rel=0.2)


def test_the_background_is_told_apart():
    assert fit(laser(background=3.0)).background_share == pytest.approx(0.75, abs=0.05)


def test_units_and_order_do_not_matter():
    there = fit(laser())
    order = np.random.default_rng(1).permutation(FLUENCE.size)
    intensity = 1e-9 * laser().intensity(np.log(FLUENCE))
    plain = lasing_threshold(FLUENCE, 1e9 * intensity, intensity_error=3e7 * intensity, pulse_rms=0.0)
    moved = lasing_threshold(
        1e3 * FLUENCE[order],
        intensity[order],
        intensity_error=0.03 * intensity[order],
        pulse_rms=0.0,
        fluence_unit="nJ/cm^2",
        convention="rect_axes_product",
    )
    assert moved.value / 1e3 == pytest.approx(plain.value, rel=1e-3)
    assert moved.unit == "nJ/cm^2" and moved.convention == "rect_axes_product"
    assert there.value == pytest.approx(plain.value, rel=0.02)


def test_saturated_and_negative_points_are_left_out():
    intensity = laser().intensity(np.log(FLUENCE))
    clipped = intensity > np.sort(intensity)[-6]
    spoiled = np.where(clipped, intensity[~clipped].max(), intensity)
    spoiled[0] = -1.0
    found = lasing_threshold(FLUENCE, spoiled, intensity_error=0.03 * intensity, saturated=clipped, pulse_rms=0.0)
    assert found.value == pytest.approx(THRESHOLD, rel=0.02)
    assert found.n_excluded["saturated"] == 5 and found.n_excluded["not_positive"] == 1


def test_scatter_of_the_pulses_is_taken_out_when_known():
    shape = laser(1e-3, pulse_rms=0.05)
    blind = [fit(shape, seed, pulse_rms=None) for seed in range(8)]
    corrected = [fit(shape, seed, pulse_rms=0.05) for seed in range(8)]
    assert np.mean([found.beta.value for found in blind]) > 1.03e-3
    assert np.mean([found.beta.value for found in corrected]) == pytest.approx(1e-3, rel=0.03)
    assert np.mean([found.value for found in corrected]) == pytest.approx(THRESHOLD, rel=0.005)
    assert "beta too large" in blind[0].warnings[0] and corrected[0].warnings == ()


def test_errors_too_small_widen_the_interval():
    honest = fit(laser(), sigma_i=0.05, sigma_f=0.0)
    boasting = fit(laser(), sigma_i=0.05, sigma_f=0.0, intensity_error=1e-6 * laser().intensity(np.log(FLUENCE)))
    unknown = fit(laser(), sigma_i=0.05, sigma_f=0.0, intensity_error=None)
    widths = [found.ci95[1] - found.ci95[0] for found in (honest, boasting, unknown)]
    assert boasting.error_scale > 3 and boasting.interval == "profile F" and unknown.interval == "profile F"
    assert widths[1] == pytest.approx(widths[0], rel=0.6) and widths[2] == pytest.approx(widths[0], rel=0.6)


def test_a_curve_that_is_no_s_says_so():
    intensity = laser().intensity(np.log(FLUENCE)) * np.where(np.arange(FLUENCE.size) % 2, 1.3, 0.7)
    found = lasing_threshold(FLUENCE, intensity, intensity_error=0.02 * intensity, pulse_rms=0.0)
    assert any("does not describe" in text for text in found.warnings)


@pytest.mark.parametrize(
    ("fluence", "reason"),
    [
        (np.geomspace(0.01, 0.3, 24), "slope does not change"),
        (np.geomspace(100, 1000, 24), "slope does not change"),
        (np.geomspace(0.2, 3.45, 24), "too few points above the threshold"),
        (np.geomspace(3.2, 30, 24), "too few points below the threshold"),
        (np.geomspace(1, 10, 6), "too few points"),
    ],
)
def test_without_a_threshold_in_range_there_is_a_reason(fluence, reason):
    for seed in range(5):
        with pytest.raises(NoThreshold) as caught:
            fit(laser(), seed, fluence)
        assert caught.value.reason == reason


def test_noise_on_a_straight_line_is_no_laser():
    claims = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        intensity = FLUENCE * np.exp(rng.normal(0, 0.05, FLUENCE.size))
        try:
            lasing_threshold(FLUENCE, intensity, intensity_error=0.05 * intensity, pulse_rms=0.0)
        except NoThreshold:
            continue
        claims += 1
    assert claims <= 2


def test_everything_is_json():
    stored = json.loads(json.dumps(fit(laser()).as_dict(), allow_nan=False))
    assert stored["definition"] == "lasing_s_curve" and stored["beta"]["unit"] == "1"
    again = SCurve(**stored["parameters"])
    assert again.intensity(np.log(FLUENCE)) == pytest.approx(fit(laser()).curve(FLUENCE))


def test_bad_input():
    with pytest.raises(ValueError, match="pulse_rms"):
        lasing_threshold(FLUENCE, FLUENCE, pulse_rms=0.5)
    with pytest.raises(ValueError, match="finite and > 0"):
        lasing_threshold(-FLUENCE, FLUENCE)
