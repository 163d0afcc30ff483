"""Perovskite films for weeks under heat, UV light and water, and a laser for 1.8e7 pulses; each seed within bounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from labctl.run.outcome import Outcome

pytestmark = pytest.mark.slow

SEEDS = range(8)
_BENCH = {"bench": "simulated-perovskites"}
_WEEKS_H = (1, 2, 4, 8, 12, 24, *range(48, 649, 24))


def _left(outcome: Outcome, name: str) -> float:
    assert outcome.status == "finished"
    result: dict[str, Any] = outcome.result
    return float(result[f"remaining_{name}"]["value"])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("sample", "at", "left", "tolerance"), [("cspbbr3", "10h", 0.02, 0.006), ("cspbbr3-zns", "50h", 0.75, 0.015)]
)
def test_heat_at_373_k(
    sweep: Callable[..., Outcome], sample: str, at: str, left: float, tolerance: float, seed: int
) -> None:
    outcome = sweep(
        "thermal-stability",
        **_BENCH,
        sample=sample,
        seed=seed,
        temperature="99.85 degC",
        times="0, 1, 2, 4, 6, 8, 10, 12, 24, 36, 50 h",
        report_at="10, 50 h",
    )
    assert _left(outcome, at) == pytest.approx(left, abs=tolerance)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("sample", "left", "tolerance"), [("cspbbr3", 0.10, 0.01), ("cspbbr3-zns", 0.65, 0.015)])
def test_uv_for_648_h(sweep: Callable[..., Outcome], sample: str, left: float, tolerance: float, seed: int) -> None:
    times = f"{', '.join(map(str, _WEEKS_H))} h"
    outcome = sweep("uv-stability", **_BENCH, sample=sample, seed=seed, times=times)
    assert _left(outcome, "648h") == pytest.approx(left, abs=tolerance)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("sample", "expected"),
    [("cspbbr3", {"12h": (0.01, 0.005)}), ("cspbbr3-zns", {"12h": (0.95, 0.01), "504h": (0.10, 0.01)})],
)
def test_water(sweep: Callable[..., Outcome], sample: str, expected: dict[str, tuple[float, float]], seed: int) -> None:
    outcome = sweep("water-stability", **_BENCH, sample=sample, seed=seed)
    for name, (left, tolerance) in expected.items():
        assert _left(outcome, name) == pytest.approx(left, abs=tolerance)


@pytest.mark.parametrize("seed", SEEDS)
def test_laser_after_18_million_pulses(
    sweep: Callable[..., Outcome], bench_with: Callable[..., str], seed: int
) -> None:
    bench = bench_with(
        "simulated-vcsel",
        {'dose_per_spot = "50 J/cm^2"': 'dose_per_spot = "1 kJ/cm^2"', "[laboratory.laser]": _WEARS},
        '[instruments.trigger_counter]\ndriver = "keysight-53220a"\nresource = "sim:"',
    )
    outcome = sweep(
        "ase-stability", bench=bench, sample="vcsel", seed=seed, first="5 min", every="5 min", duration="300 min"
    )
    assert outcome.result["shots"]["value"] == pytest.approx(1.8e7, rel=0.005)
    assert _left(outcome, "5h") == pytest.approx(0.93, abs=0.012)


_WEARS = "[laboratory]\nwears = true\n\n[laboratory.laser]"
