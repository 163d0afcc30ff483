"""Readiness: what the instruments say of themselves, with nothing moved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from labctl.bench.readiness import read_readiness
from labctl.errors import InstrumentError


def found(opened: Any) -> dict[tuple[str, str], Any]:
    return {(entry.role, entry.readiness.name): entry.readiness for entry in read_readiness(opened.bench)}


def test_a_bench_that_has_just_been_switched_on(open_bench: Callable[..., Any]) -> None:
    opened = open_bench()
    before = opened.truth()
    readiness = found(opened)
    assert readiness["shutter", "interlock"].ok and readiness["shutter", "mode"].ok
    assert readiness["energy_meter", "sensor"].ok
    warm = readiness["detector", "temperature"]
    assert not warm.ok and warm.waits
    assert warm.text.startswith("20.0 degC, set-point -60 degC, cooler off")
    assert opened.truth() == before
    assert read_readiness(opened.bench)[0].as_dict() == {
        "role": "shutter",
        "name": "interlock",
        "ok": True,
        "text": "closed",
        "waits": False,
    }


def test_a_cold_detector_is_ready_when_it_is_stable(open_bench: Callable[..., Any]) -> None:
    opened = open_bench(roles=("detector",))
    detector = opened.bench.instruments["detector"]
    detector.cool_to(-60)
    opened.bench.clock.sleep(330.0)
    assert not found(opened)["detector", "temperature"].ok
    opened.bench.clock.sleep(60.0)
    assert found(opened)["detector", "temperature"].ok
    detector.cool_to(-40)
    opened.bench.clock.sleep(600.0)
    assert not found(opened)["detector", "temperature"].ok


def test_a_tripped_interlock_and_a_mode_set_by_hand(open_bench: Callable[..., Any]) -> None:
    opened = open_bench(roles=("shutter",))
    emulator = opened.emulator("shutter")
    emulator.trip_interlock(opened.bench.clock.now())
    emulator._settings["mode"] = 2
    readiness = found(opened)
    assert not readiness["shutter", "interlock"].ok
    assert "close the circuit" in readiness["shutter", "interlock"].text
    assert readiness["shutter", "mode"].text == "2 instead of 1: open the bench again"
    assert not readiness["shutter", "mode"].waits


@pytest.mark.parametrize("error", [InstrumentError("silence"), ZeroDivisionError("silence")])
def test_what_does_not_answer_is_not_ready(
    open_bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    opened = open_bench(roles=("shutter", "energy_meter"))

    def fail() -> None:
        raise error

    monkeypatch.setattr(opened.bench.instruments["shutter"], "readiness", fail)
    readiness = found(opened)
    assert not readiness["shutter", "answers"].ok
    assert "silence" in readiness["shutter", "answers"].text
    assert readiness["energy_meter", "sensor"].ok
