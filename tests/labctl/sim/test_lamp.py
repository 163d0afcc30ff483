"""The lamp that stresses the sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from labctl.sim.lamp import LampTruth, UVLamp
from labctl.sim.noise import KeyedNoise
from labctl.sim.truth_table import read_table


def _lamp(**changes: Any) -> UVLamp:
    return UVLamp(read_table(changes, LampTruth, "lamp"), KeyedNoise(0))


def test_it_is_off_until_somebody_switches_it_on() -> None:
    lamp = _lamp()
    assert lamp.irradiance_mw_cm2(1e5) == lamp.power_w(1e5) == lamp.dose_j_cm2(0.0, 1e5) == 0.0
    assert not lamp.is_on(5.0)


def test_it_warms_up_within_ten_minutes() -> None:
    lamp = _lamp(drift_rms=0.0, ageing_per_100_h=0.0)
    lamp.set(0.0, 1.0)
    assert lamp.irradiance_mw_cm2(0.0) == pytest.approx(0.85 * 75.0)
    assert lamp.irradiance_mw_cm2(600.0) == pytest.approx(75.0, rel=0.01)
    assert lamp.power_w(6000.0) == pytest.approx(0.05)
    lamp.set(6000.0, 0.0)
    lamp.set(6030.0, 0.5)
    assert lamp.irradiance_mw_cm2(6030.0) > 0.97 * 37.5


def test_it_ages_while_it_is_on() -> None:
    lamp = _lamp(drift_rms=0.0, ageing_per_100_h=0.02)
    hour = 3600.0
    lamp.set(0.0, 1.0)
    lamp.set(50 * hour, 0.0)
    lamp.set(100 * hour, 1.0)
    assert lamp.irradiance_mw_cm2(150 * hour) == pytest.approx(0.98 * 75.0)
    assert lamp.on_time_s(150 * hour) == pytest.approx(100 * hour)


def test_its_dose_is_the_integral_of_its_irradiance() -> None:
    lamp = _lamp(drift_rms=0.0, ageing_per_100_h=0.02)
    lamp.set(100.0, 1.0)
    lamp.set(4000.0, 0.3)
    lamp.set(7000.0, 0.0)
    lamp.set(7100.0, 1.0)
    times = np.linspace(0.0, 10_000.0, 40_001)
    course = [lamp.irradiance_mw_cm2(float(t)) for t in times]
    assert lamp.dose_j_cm2(0.0, 10_000.0) == pytest.approx(1e-3 * np.trapezoid(course, times), rel=1e-4)


def test_it_drifts_with_the_schedule_and_not_with_the_clock() -> None:
    lamp = _lamp(drift_rms=0.03, ageing_per_100_h=0.0)
    lamp.set(0.0, 1.0)
    assert lamp.irradiance_mw_cm2(1e5) == pytest.approx(lamp.irradiance_mw_cm2(2e5), rel=1e-12)
    noise = KeyedNoise(0)
    drifting = UVLamp(LampTruth(drift_rms=0.03, ageing_per_100_h=0.0), noise)
    drifting.set(0.0, 1.0)
    seen = []
    for point in range(200):
        noise.announce(point, 0, 3600.0 * point)
        seen.append(drifting.irradiance_mw_cm2(1e6))
    assert 0.01 < np.std(seen) / 75.0 < 0.06


def test_more_than_all_its_light_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot shine"):
        _lamp().set(0.0, 1.2)
