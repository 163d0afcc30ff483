"""`labctl bench check`: who is there, whether it is ready, what the watch conditions see."""

from __future__ import annotations

from typing import Any

import pytest

WATCH = """
[[watch]]
name = "detector warm"
when = "detector.temperature > -50 degC"
action = "pause"

[[watch]]
name = "door"
when = "shutter.interlock is open"
action = "safe"

[[watch]]
name = "bright"
when = "pump.fluence > 1 mJ/cm^2"
action = "abort"

[safe_state]"""


def test_readiness_and_conditions_are_shown(labctl: Any, bench_with: Any) -> None:
    bench = bench_with(
        ("[safe_state]", WATCH), ("[calibrations]", '[limits.roles.detector]\nexposure = "60 s"\n[calibrations]')
    )
    said = labctl("bench", "check", bench)
    assert said.code == 0
    lines = [" ".join(line.split()) for line in said.out.splitlines()]
    assert "shutter ready interlock: closed" in lines
    assert any(line.startswith("detector WAITS temperature: 20.0 degC, set-point -60 degC") for line in lines)
    assert "watch HOLDS: detector warm: detector.temperature > -50 degC (read: 20 degC)" in lines
    assert "watch does not hold: bright: pump.fluence > 1 mJ/cm^2 (read: not known yet)" in lines

    found = labctl("bench", "check", bench, "--json").json
    assert {entry["name"]: entry["ok"] for entry in found["readiness"]} == {
        "interlock": True,
        "mode": True,
        "sensor": True,
        "temperature": False,
    }
    assert {entry["name"]: entry["holds"] for entry in found["watch"]} == {
        "detector warm": True,
        "door": False,
        "bright": False,
    }


def test_an_open_interlock_is_told(labctl: Any, bench_with: Any) -> None:
    bench = bench_with(("[laboratory.laser]", "[laboratory.interlock]\nopens_at_s = 0.0\n[laboratory.laser]"))
    said = labctl("bench", "check", bench)
    assert said.code == 0
    assert "NOT READY interlock: open: close the circuit" in " ".join(said.out.split())


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("detector.temperature > -50 degC", "detector.temperatur > -50 degC", "did you mean 'temperature'?"),
        ("is open", "> 3", "is or is not"),
        ("> 1 mJ/cm^2", "> 1 mJ", "does not convert to uJ/cm^2"),
    ],
)
def test_conditions_that_nobody_can_answer_open_nothing(
    labctl: Any, bench_with: Any, old: str, new: str, named: str
) -> None:
    said = labctl("bench", "check", bench_with(("[safe_state]", WATCH.replace(old, new))))
    assert said.code == 2
    assert named in said.err and "bench.toml:" in said.err


def test_no_set_leads_past_a_limit(labctl: Any, bench_with: Any) -> None:
    """Every front sends the request that `run` sends; the limit is held by the engine and below."""
    bench = bench_with(('fluence = "1 mJ/cm^2"', 'fluence = "150 uJ/cm^2"'))
    said = labctl("run", "fluence-sweep", "--bench", bench, "--set", "expected-threshold=60 uJ/cm^2", "--json")
    assert said.code == 2
    assert "300 uJ/cm^2" in said.out and "limits.fluence" in said.out
