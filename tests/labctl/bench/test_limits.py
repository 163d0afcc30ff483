"""The limits of the pump: set values to the limit, readings with the scatter of the laser."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.bench.limits import PumpLimits
from labctl.errors import ExitCode, LimitError, LimitExceeded
from labctl.quantities import Convention, SpotGeometry, StripeSpot

LIMITS = PumpLimits(fluence_uj_cm2=1000.0, pulse_energy_j=5e-6, dose_j_cm2=200.0)


def test_set_values_may_reach_the_limit() -> None:
    LIMITS.check_set_value(1000.0, 5e-6)
    LIMITS.check_set_value(0.0, 0.0)


@pytest.mark.parametrize(
    ("fluence", "energy", "named"),
    [
        (1000.1, 1e-6, "limits.fluence"),
        (math.inf, 1e-6, "limits.fluence"),
        (math.nan, 1e-6, "limits.fluence"),
        (10.0, 5.01e-6, "limits.pulse_energy"),
        (10.0, math.nan, "limits.pulse_energy"),
    ],
)
def test_set_values_beyond_a_limit_are_refused(fluence: float, energy: float, named: str) -> None:
    with pytest.raises(LimitError) as caught:
        LIMITS.check_set_value(fluence, energy)
    assert named in caught.value.where
    assert caught.value.state == "nothing was moved"
    assert caught.value.exit_code == ExitCode.BAD_INPUT


def test_readings_may_pass_the_limit_by_the_scatter_of_the_laser() -> None:
    LIMITS.check_reading(1049.0, 5.2e-6)
    LIMITS.check_energy(5.2e-6)


@pytest.mark.parametrize(("fluence", "energy"), [(1051.0, 1e-6), (10.0, 5.3e-6), (math.nan, 1e-6), (10.0, math.nan)])
def test_readings_beyond_a_limit_end_the_run(fluence: float, energy: float) -> None:
    with pytest.raises(LimitExceeded) as caught:
        LIMITS.check_reading(fluence, energy)
    assert caught.value.exit_code == ExitCode.FAILED


@pytest.mark.parametrize("energy", [5.3e-6, math.nan])
def test_the_pulse_energy_alone(energy: float) -> None:
    with pytest.raises(LimitExceeded, match="went through"):
        LIMITS.check_energy(energy)


def test_dose() -> None:
    LIMITS.check_dose(200.0)
    for dose in (200.1, math.nan):
        with pytest.raises(LimitExceeded, match="the spot has received"):
            LIMITS.check_dose(dose)


def test_limits_that_a_bench_does_not_have() -> None:
    only_fluence = PumpLimits(1000.0)
    only_fluence.check_set_value(1.0, 1e3)
    only_fluence.check_reading(1.0, 1e3)
    only_fluence.check_energy(1e3)
    only_fluence.check_dose(1e9)


POWER = PumpLimits(1000.0, 5e-6, average_power_w=2e-3, repetition_rate_hz=1000.0)
SPOT = SpotGeometry(StripeSpot(1.0, 0.15), Convention.PEAK_GAUSS)


def test_average_power_is_pulse_energy_times_repetition_rate() -> None:
    POWER.check_set_value(10.0, 2e-6)
    for energy in (2.01e-6, math.nan):
        with pytest.raises(LimitError):
            POWER.check_set_value(10.0, energy)
    POWER.check_reading(10.0, 2.09e-6)
    POWER.check_energy(2.09e-6)
    for check in (lambda: POWER.check_reading(10.0, 2.11e-6), lambda: POWER.check_energy(2.11e-6)):
        with pytest.raises(LimitExceeded, match=r"2\.11e-03|0\.00211 W went through on average") as caught:
            check()
        assert "limits.average_power" in caught.value.where


def test_a_lower_repetition_rate_allows_more_energy() -> None:
    slow = PumpLimits(1000.0, 5e-6, average_power_w=2e-3, repetition_rate_hz=100.0)
    slow.check_set_value(10.0, 4.9e-6)


def test_the_highest_fluence_is_that_of_the_limit_that_comes_first() -> None:
    def fluence(energy_j: float) -> float:
        return SPOT.fluence(energy_j).uj_cm2

    assert PumpLimits(1000.0).highest_fluence_uj_cm2(SPOT) == 1000.0
    assert fluence(1e-6) < 1000.0
    assert PumpLimits(1000.0, 1e-6).highest_fluence_uj_cm2(SPOT) == pytest.approx(fluence(1e-6))
    assert POWER.highest_fluence_uj_cm2(SPOT) == pytest.approx(min(1000.0, fluence(2e-6)))


@given(st.floats(1e-9, 1e-5), st.floats(0.01, 10.0), st.floats(0.0, 80.0))
def test_the_highest_fluence_itself_is_not_refused(energy_j: float, width_mm: float, angle_deg: float) -> None:
    spot = SpotGeometry(StripeSpot(1.0, width_mm), Convention.PEAK_GAUSS, angle_deg)
    limits = PumpLimits(1e9, 1.0, average_power_w=1e3 * energy_j, repetition_rate_hz=1e3)
    highest = limits.highest_fluence_uj_cm2(spot)
    limits.check_set_value(highest, spot.pulse_energy_j(highest))
    with pytest.raises(LimitError):
        limits.check_set_value(highest * 1.001, spot.pulse_energy_j(highest * 1.001))
