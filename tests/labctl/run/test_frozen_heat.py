"""A run that heats is frozen: the guard switches the plate off, and without a guard the plate does so by itself."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labctl.bench.dead_man import TIMEOUT_S
from labctl.run.request import RunRequest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="signals"),
    pytest.mark.timeout(400),
]

GUARD_S = 3.0
"""The guard's limit of 1 s for a sign of life, and 2 s to the confirmed safe state; the plate's own pauses beside."""
PLATE_S = 8.0
"""What a plate takes whose firmware wants half a second from one command to the next."""
MEAL_S = TIMEOUT_S / 4
WARM_DETECTOR = ('temperature = "-60 degC"', 'temperature = "20 degC"')


@pytest.fixture
def heating(serve: Callable, start: Callable, tmp_path: Path) -> Callable[[], tuple[Any, Any]]:
    """Start a run in real time over raw sockets; returns laboratory and run once the heater is on."""

    def begin() -> tuple[Any, Any]:
        laboratory = serve(raw=True, of="simulated-stability")
        bench = Path(laboratory.bench)
        text = bench.read_text(encoding="utf-8")
        assert text.count(WARM_DETECTOR[0]) == 1
        bench.write_text(text.replace(*WARM_DETECTOR), encoding="utf-8")
        few = {"cycles": 1, "baseline_reads": 1, "dark_frames": 1, "scatter_frames": 1, "pulses": 20, "averages": 1}
        request = RunRequest(
            procedure="thermal-stability",
            bench=laboratory.bench,
            parameters={"temperature": "90 degC", "use_reference": "no", "exposure_max": "0.08 s", **few},
            out=str(tmp_path / "runs"),
            virtual_time=False,
        )
        run = start(request=request)
        wait_until(lambda: laboratory.state()["heater_on"], 240.0, lambda: f"it never heats: {run.events[-3:]}")
        return laboratory, run

    return begin


def wait_until(true: Callable[[], bool], within_s: float, said: Callable[[], str]) -> float:
    began_s = time.monotonic()
    while not true():
        assert time.monotonic() - began_s < within_s, said()
        time.sleep(0.1)
    return time.monotonic() - began_s


@pytest.mark.parametrize("orphan", [False, True], ids=["guard lives", "guard killed"])
def test_the_plate_of_a_frozen_run_is_switched_off_and_confirmed(heating: Callable, orphan: bool) -> None:
    laboratory, run = heating()
    engine = run.engine()
    engine.suspend()
    if orphan:
        run.guard.kill()
    wait_until(lambda: not laboratory.state()["heater_on"], GUARD_S + PLATE_S, lambda: "the plate goes on heating")
    outcome = run.end()
    assert (outcome["status"], outcome["safe_state"]) == ("crashed", "confirmed"), outcome
    steps = [step for step in outcome["safe_report"]["steps"] if step["role"] == "heating_stage"]
    assert "switch off the heater" in [step["action"] for step in steps]
    assert all(step["confirmed"] for step in steps)
    assert not laboratory.state()["heater_on"]


def test_a_plate_that_nobody_feeds_stops_heating_by_itself(heating: Callable) -> None:
    """Engine, guard and the program that stands by are all frozen, as when the computer stands still."""
    laboratory, run = heating()
    time.sleep(2.0)  # a plate that has just been told to heat is armed already; this is within its first meal
    frozen = (run.guard, run.standby(), run.engine())
    for process in frozen:
        process.suspend()
    time.sleep(MEAL_S)
    assert laboratory.state()["heater_on"], "nobody but the watchdog may switch it off"
    waited_s = wait_until(
        lambda: not laboratory.state()["heater_on"], TIMEOUT_S, lambda: "the watchdog of the plate did not act"
    )
    assert waited_s > TIMEOUT_S - 3 * MEAL_S
    for process in frozen:
        process.resume()
    outcome = run.end()
    assert outcome["status"] in ("crashed", "aborted", "failed"), outcome
    assert outcome["safe_state"] == "confirmed"
    assert not laboratory.state()["heater_on"]
