"""The limits of the pump: set values to the limit, readings with the scatter of the laser."""

from __future__ import annotations

import math

import pytest

from labctl.bench.limits import PumpLimits
from labctl.errors import ExitCode, LimitError, LimitExceeded

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
