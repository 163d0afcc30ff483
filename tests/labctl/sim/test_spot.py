"""What the pump lights: the fluence that the sample sees, and that a bench quotes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from labctl.errors import ConfigError
from labctl.quantities import Convention, FlatTopSpot, GaussianSpot, RectangleSpot, Spot, StripeSpot
from labctl.sim.laboratory import create

_SPOTS: list[tuple[dict[str, Any], Spot, Convention, float]] = [
    ({"stripe": {"length_mm": 0.5, "half_width_um": 80.0}}, StripeSpot(0.5, 0.08), Convention.PEAK_GAUSS, 0.5),
    (
        {"spot": {"shape": "gaussian", "radius_x_um": 50.0, "radius_y_um": 80.0}},
        GaussianSpot(0.05, 0.08),
        Convention.PEAK_GAUSS,
        0.16,
    ),
    (
        {"spot": {"shape": "rectangle", "axis_a_um": 300.0, "axis_b_um": 400.0}},
        RectangleSpot(0.3, 0.4),
        Convention.RECT_AXES_PRODUCT,
        0.4,
    ),
    ({"spot": {"shape": "flat_top", "area_mm2": 0.1497}}, FlatTopSpot(0.1497), Convention.FLAT_TOP, 0.4366),
]


@pytest.mark.parametrize(("table", "spot", "convention", "length_mm"), _SPOTS)
def test_the_sample_sees_what_the_bench_quotes(
    table: dict[str, Any], spot: Spot, convention: Convention, length_mm: float
) -> None:
    lab = create(table, None, 0)
    assert lab.truth.illuminated.area_cm2 == pytest.approx(spot.area_cm2(convention), rel=1e-12)
    assert lab.truth.illuminated.length_mm == pytest.approx(length_mm, rel=1e-3)


def test_a_gaussian_spot_is_seen_at_its_peak() -> None:
    spot = create(_SPOTS[1][0], None, 0).truth.illuminated
    x, y = np.meshgrid(np.linspace(-0.03, 0.03, 1201), np.linspace(-0.04, 0.04, 1201))
    profile = np.exp(-2 * (x / 0.005) ** 2 - 2 * (y / 0.008) ** 2)
    energy_uj = 7.0 * profile.sum() * (0.06 / 1200) * (0.08 / 1200)
    assert energy_uj / spot.area_cm2 == pytest.approx(7.0, rel=1e-6)


def test_printed_energies_give_the_printed_fluences() -> None:
    flat = create({"spot": {"shape": "flat_top", "area_mm2": 0.1497}}, None, 0).truth.illuminated
    axes = create(_SPOTS[2][0], None, 0).truth.illuminated
    assert 22.0 / flat.area_cm2 == pytest.approx(14.7e3, rel=1e-3)
    assert 30.2 / axes.area_cm2 == pytest.approx(25.2e3, rel=5e-3)


def test_dose_and_fluence_go_by_the_same_area() -> None:
    quiet = {"laser": {"energy_uj": 5.0, "drift_rms": 0.0, "repetition_rate_hz": 20.0}}
    lab = create({**quiet, "spot": {"shape": "rectangle", "axis_a_um": 300.0, "axis_b_um": 400.0}}, None, 0)
    lab.shutter.set(1.0, True)
    lab.shutter.set(11.0, False)
    assert lab.dose_uj_cm2(20.0) == pytest.approx(200 * lab.fluence_uj_cm2(2.0))
    transmission = float(lab.wave_plate.transmission(2.0))
    assert lab.fluence_uj_cm2(2.0) == pytest.approx(5.0 * 0.02 * transmission / 0.0012)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"stripe": {}, "spot": {"shape": "flat_top", "area_mm2": 1.0}}, "one shape"),
        ({"spot": {"shape": "heart"}}, "gaussian"),
        ({"spot": {"shape": "rectangle", "axis_a_um": 300.0}}, "axis_b_um"),
        ({"spot": {"shape": "flat_top", "area_mm2": -1.0}}, "area_mm2"),
    ],
)
def test_spots_that_are_none_are_refused(table: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        create(table, None, 0)


def test_the_default_is_a_stripe() -> None:
    spot = create(None, None, 0).truth.illuminated
    assert spot.area_cm2 == pytest.approx(0.1 * 0.015 * math.sqrt(math.pi / 2))
