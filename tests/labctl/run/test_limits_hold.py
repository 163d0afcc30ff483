"""No way in leads past a limit or a watch condition: request, script, resume, a plan that nobody checked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labctl.bench.bench import Bench
from labctl.clock import VirtualClock
from labctl.config.bench import load_bench
from labctl.config.locate import locate
from labctl.errors import InputError, LimitError
from labctl.run import engine as engine_module
from labctl.run.engine import Engine
from labctl.run.guard_line import GuardLine
from labctl.run.outcome import Outcome
from labctl.run.request import RunRequest, prepare
from labctl.run.stored_request import request_to_resume
from labctl.store.run import open_run

SHIPPED = locate("benches", "simulated")
DOOR = """
[[watch]]
name = "door"
when = "shutter.interlock is open"
action = "{action}"
message = "Close the door."
[laboratory.interlock]
opens_at_s = {opens}
closes_after_s = 40.0
"""


@pytest.fixture
def bench_with(tmp_path: Path) -> Callable[..., str]:
    """Write the shipped bench with more limits and tables; returns its path."""

    def write(limits: str = "", tables: str = "", *changes: tuple[str, str]) -> str:
        text = SHIPPED.read_text(encoding="utf-8")
        text = text.replace('"calibrations/', f'"{(SHIPPED.parent / "calibrations").as_posix()}/')
        for old, new in changes:
            assert old in text
            text = text.replace(old, new, 1)
        path = tmp_path / "bench.toml"
        path.write_text(text.replace("[calibrations]", f"{limits}\n[calibrations]", 1) + tables, encoding="utf-8")
        return str(path)

    return write


def request(bench: str, folder: Path, **parameters: Any) -> RunRequest:
    out = str(folder / "runs")
    return RunRequest(procedure="fluence-sweep", bench=bench, out=out, virtual_time=True, parameters=parameters)


def run(asked: RunRequest) -> Outcome:
    return Engine(prepare(asked), GuardLine()).run()


def events(outcome: Outcome) -> list[tuple[str, dict[str, Any]]]:
    with open_run(Path(outcome.run)) as stored:
        return [(event.kind, dict(event.data)) for event in stored.events()]


@pytest.fixture(autouse=True)
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "finish", lambda *_: None)


def test_parameters_beyond_a_limit_start_nothing(tmp_path: Path, bench_with: Callable[..., str]) -> None:
    for limits, change, named in (
        ("", ('fluence = "1 mJ/cm^2"', 'fluence = "10 uJ/cm^2"'), "limits.fluence"),
        ("", ('pulse_energy = "5 uJ"', 'pulse_energy = "20 nJ"'), "limits.pulse_energy"),
        ('average_power = "20 uW"', ("1 kHz", "1 kHz"), "limits.average_power"),
    ):
        asked = request(bench_with(limits, "", change), tmp_path)
        with pytest.raises(InputError, match=named):
            run(asked)
    assert not (tmp_path / "runs").exists()


def test_a_plan_that_nobody_checked_is_stopped_by_the_bench(
    tmp_path: Path, bench_with: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The preflight is a courtesy: what holds the limit lies below it."""
    monkeypatch.setattr(engine_module, "require", lambda _: None)
    for limits in ('average_power = "20 uW"', '[limits.roles.detector]\nexposure = "1 ms"'):
        outcome = run(request(bench_with(limits), tmp_path))
        assert outcome.status == "failed"
        assert outcome.error is not None and outcome.error["type"] in {"LimitError", "InputError"}
        assert outcome.safe_state == "confirmed"


def test_a_script_that_goes_past_all_procedures(tmp_path: Path, bench_with: Callable[..., str]) -> None:
    config = load_bench(bench_with('average_power = "20 uW"\n[limits.roles.attenuator]\nangle = "100 deg"'))
    with Bench.open(config, VirtualClock(), roles=["shutter", "attenuator", "energy_meter"]) as bench:
        bench.pump.prepare()
        highest = bench.pump.fluence_range_uj_cm2[1]
        for refused in (
            lambda: bench.pump.set_fluence(1001.0),
            lambda: bench.pump.set_fluence(1.01 * highest),
            lambda: bench.instruments["attenuator"].move_to(101.0),  # pyright: ignore[reportAttributeAccessIssue]
        ):
            with pytest.raises(LimitError):
                refused()
        bench.pump.set_fluence(highest)


def test_a_resumed_run_has_the_limits_of_today(tmp_path: Path, bench_with: Callable[..., str]) -> None:
    first = run(request(bench_with("", DOOR.format(action="abort", opens=400.0)), tmp_path))
    assert (first.status, first.points["done"] > 0) == ("failed", True)
    bench_with("", "", ('fluence = "1 mJ/cm^2"', 'fluence = "10 uJ/cm^2"'))
    resumed = request_to_resume(first.run)
    with pytest.raises(InputError, match=r"limits\.fluence"):
        run(resumed)


def test_an_open_door_ends_a_run(tmp_path: Path, bench_with: Callable[..., str]) -> None:
    outcome = run(request(bench_with("", DOOR.format(action="abort", opens=400.0)), tmp_path))
    assert (outcome.status, outcome.exit_code, outcome.safe_state) == ("failed", 1, "confirmed")
    assert outcome.error is not None
    assert "shutter.interlock is open" in outcome.error["what"] and "Close the door." in str(outcome.error)


@pytest.mark.parametrize("action", [pytest.param("pause", marks=pytest.mark.slow), "safe"])
def test_an_open_door_holds_a_run_up(tmp_path: Path, bench_with: Callable[..., str], action: str) -> None:
    outcome = run(request(bench_with("", DOOR.format(action=action, opens=400.0)), tmp_path))
    assert (outcome.status, outcome.safe_state) == ("finished", "confirmed"), outcome.error
    kinds = [kind for kind, _ in events(outcome)]
    assert kinds.count("paused") == kinds.count("continued") == 1
