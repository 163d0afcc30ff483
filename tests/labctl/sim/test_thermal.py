"""The body that carries the sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from labctl.errors import ConfigError
from labctl.sim.noise import KeyedNoise
from labctl.sim.thermal import ThermalBody, ThermalTruth
from labctl.sim.truth_table import read_table


def _body(**changes: Any) -> ThermalBody:
    return ThermalBody(read_table(changes, ThermalTruth, "thermal"), KeyedNoise(0))


def _course(body: ThermalBody, times: np.ndarray) -> np.ndarray:
    return np.array([body.temperature_c(float(t)) for t in times])


def test_nobody_controls_it_at_first() -> None:
    body = _body()
    assert body.temperature_c(-5.0) == body.temperature_c(1e6) == body.ambient_c == 25.0
    assert not body.is_controlled(0.0)


def test_it_lags_behind_goes_past_the_target_and_settles() -> None:
    body = _body(ripple_k=0.0)
    body.set(0.0, 100.0)
    course = _course(body, np.arange(0.0, 7200.0, 5.0))
    assert course[0] == 25.0
    assert body.temperature_c(180.0) == pytest.approx(100.0 - 75.0 / np.e, abs=1e-9)
    assert course.max() == pytest.approx(101.0, abs=0.01)
    assert abs(course[-1] - 100.0) < 1e-3
    assert body.is_controlled(10.0)


def test_it_goes_past_a_target_below_too_and_less_after_a_small_step() -> None:
    body = _body(ripple_k=0.0, lowest_c=-200.0)
    body.set(0.0, -100.0)
    assert _course(body, np.arange(0.0, 7200.0, 5.0)).min() == pytest.approx(-101.0, abs=0.01)
    body.set(7200.0, -99.0)
    assert _course(body, np.arange(7200.0, 14400.0, 5.0)).max() == pytest.approx(-98.9, abs=0.01)


def test_its_ripple_stays_small_and_is_a_function_of_time_alone() -> None:
    bodies = [_body(), _body()]
    for body in bodies:
        body.set(0.0, 100.0)
    times = np.arange(4000.0, 8000.0, 3.0)
    forwards, backwards = _course(bodies[0], times), _course(bodies[1], times[::-1])[::-1]
    assert np.array_equal(forwards, backwards)
    assert 0.2 < np.abs(forwards - 100.0).max() <= 0.3 + 1e-6


def test_a_ramp_is_followed_with_the_lag_of_a_ramp() -> None:
    body = _body(ripple_k=0.0)
    body.set(0.0, 125.0, rate_k_min=5.0)
    assert body.temperature_c(1000.0) == pytest.approx(25.0 + 5.0 / 60.0 * (1000.0 - 180.0), abs=0.1)
    assert abs(body.temperature_c(1200.0 + 4000.0) - 125.0) < 0.01
    assert body.temperature_c(2400.0) > 124.0


def test_a_hot_plate_cannot_cool_and_nothing_gets_hotter_than_it_can() -> None:
    body = _body(ripple_k=0.0, highest_c=340.0)
    body.set(0.0, 5.0)
    assert body.temperature_c(9000.0) == 25.0
    body.set(9000.0, 900.0)
    assert body.temperature_c(90000.0) == pytest.approx(340.0)


def test_uncontrolled_it_drifts_to_ambient() -> None:
    body = _body()
    body.set(0.0, 100.0)
    warm = body.temperature_c(7200.0)
    body.set(7200.0, None)
    assert body.temperature_c(7200.0) == pytest.approx(warm, abs=0.31)
    assert body.temperature_c(7200.0 + 600.0) == pytest.approx(25.0 + 75.0 / np.e, abs=0.2)
    assert body.temperature_c(7200.0 + 60_000.0) == pytest.approx(25.0)


def test_a_repeated_command_is_none_but_drops_what_was_foreseen() -> None:
    fed, plain = _body(), _body()
    plain.set(0.0, 100.0)
    for t in range(0, 3600, 10):
        fed.set(float(t), 100.0)
        fed.set(t + 30.0, None)
    assert fed.temperature_c(3595.0) == plain.temperature_c(3595.0)
    assert fed.temperature_c(3720.0) < plain.temperature_c(3720.0) - 5.0


@pytest.mark.parametrize("rate_k_min", [None, 3.0])
def test_its_integral_is_that_of_its_course(rate_k_min: float | None) -> None:
    body = _body(ripple_k=0.0)
    body.set(100.0, 100.0, rate_k_min)
    body.set(5000.0, None)
    body.set(5600.0, 80.0, rate_k_min)

    def rate(celsius: np.ndarray) -> np.ndarray:
        return np.exp(0.06 * (celsius - 100.0))

    times = np.linspace(0.0, 9000.0, 18_001)
    expected = np.trapezoid(rate(_course(body, times)), times)
    assert body.integral(0.0, 9000.0, rate) == pytest.approx(expected, rel=1e-6)
    parts = [body.integral(a, b, rate) for a, b in ((0.0, 333.0), (333.0, 5100.0), (5100.0, 9000.0))]
    assert sum(parts) == pytest.approx(expected, rel=1e-6)


def test_the_ripple_hardly_counts() -> None:
    body = _body()
    body.set(0.0, 100.0)

    def rate(celsius: np.ndarray) -> np.ndarray:
        return np.exp(0.067 * (celsius - 100.0))

    times = np.linspace(5000.0, 20_000.0, 20_001)
    assert body.integral(5000.0, 20_000.0, rate) == pytest.approx(
        np.trapezoid(rate(_course(body, times)), times), rel=1e-3
    )


def test_a_body_that_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="lowest_c <= ambient_c"):
        _body(lowest_c=30.0)
    with pytest.raises(ValueError, match="cannot be ramped"):
        _body().set(0.0, 50.0, -1.0)
