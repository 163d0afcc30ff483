"""Whatever dies, the light goes off, the run is kept, and somebody says so."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from labctl.processes import end_signals
from labctl.run import front
from labctl.run.stored_request import request_to_resume
from labctl.store.run import open_run

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals")

SAFE_WITHIN_S = 2.0
LIVENESS_S = 1.0


def assert_crashed_but_safe(outcome: dict[str, Any], said: str) -> None:
    assert (outcome["status"], outcome["safe_state"], outcome["exit"]) == ("crashed", "confirmed", 1), outcome
    assert said in outcome["error"]["what"]
    steps = outcome["safe_report"]["steps"]
    assert [step["role"] for step in steps[:2]] == ["shutter", "detector"]
    assert all(step["confirmed"] for step in steps)
    assert not outcome["warnings"]
    assert outcome["run"].endswith(".h5")
    with open_run(outcome["run"]) as run:
        assert run.status == "crashed"
        assert run.events("safe_state")[-1].data["state"] == "confirmed"
        assert said in run.events("incident")[-1].data["error"]["what"]
        assert sum(run.count(name) for name in run.streams) == outcome["points"]["done"] > 0


def wait_until_closed(laboratory: Any, since: float) -> float:
    while laboratory.state()["shutter_open"]:
        assert time.monotonic() < since + 30.0, "the shutter stays open"
    return time.monotonic() - since


@pytest.mark.slow
@pytest.mark.parametrize("raw", [False, True], ids=["framed, virtual time", "raw, 20 times real time"])
def test_engine_killed_with_light_on(serve: Callable, start: Callable, raw: bool) -> None:
    laboratory = serve(raw=raw, speed=20.0)
    run = start(laboratory.bench, virtual_time=not raw)
    engine = run.freeze_with_light_on(laboratory)
    engine.kill()
    assert wait_until_closed(laboratory, time.monotonic()) < SAFE_WITHIN_S
    assert_crashed_but_safe(run.end(), "ended unexpectedly")
    assert not laboratory.state()["shutter_open"]


@pytest.mark.slow
@pytest.mark.parametrize("raw", [False, True], ids=["framed, virtual time", "raw, 20 times real time"])
def test_engine_hangs_with_light_on(serve: Callable, start: Callable, raw: bool) -> None:
    laboratory = serve(raw=raw, speed=20.0)
    run = start(laboratory.bench, virtual_time=not raw)
    run.freeze_with_light_on(laboratory)
    assert wait_until_closed(laboratory, time.monotonic()) < LIVENESS_S + SAFE_WITHIN_S
    assert_crashed_but_safe(run.end(), "no sign of life for 1.0 s")


@pytest.mark.slow
def test_what_only_the_measurement_needs_does_not_keep_the_shutter_open(serve: Callable, start: Callable) -> None:
    """The sample that the bench names cannot be read; the run was given another."""
    laboratory = serve()
    bench = Path(laboratory.bench)
    text = bench.read_text(encoding="utf-8")
    bench.write_text(text.replace('default_sample = "cdse-cds-zno"', 'default_sample = "lost.toml"'), encoding="utf-8")
    assert "lost.toml" in bench.read_text(encoding="utf-8")
    run = start(laboratory.bench, sample="cdse-cds-zno")
    run.freeze_with_light_on(laboratory).kill()
    assert wait_until_closed(laboratory, time.monotonic()) < SAFE_WITHIN_S
    assert_crashed_but_safe(run.end(), "ended unexpectedly")


@pytest.mark.slow
@pytest.mark.parametrize("orphan", [False, True], ids=["guard lives", "guard dies too"])
@pytest.mark.parametrize("edit", ["syntax fault", "other ports", "removed"])
def test_the_bench_file_is_edited_while_the_run_goes(serve: Callable, start: Callable, edit: str, orphan: bool) -> None:
    """A program that stands by is started after that; it makes safe what the engine has opened."""
    laboratory = serve()
    run = start(laboratory.bench)
    run.wait_for(lambda event: event.get("phase") == "preparing")
    bench = Path(laboratory.bench)
    text = bench.read_text(encoding="utf-8")
    bench.unlink()
    if edit != "removed":
        bench.write_text("[instruments" if edit == "syntax fault" else re.sub(r":\d{4,5}\"", ':1"', text))
    first = run.standby()
    first.kill()
    while run.standby_or_none() in (None, first):
        time.sleep(0.01)
    engine = run.freeze_with_light_on(laboratory)
    if orphan:
        run.guard.kill()
    engine.kill()
    wait_until_closed(laboratory, time.monotonic())
    outcome = run.end()
    assert (outcome["status"], outcome["safe_state"], outcome["exit"]) == ("crashed", "confirmed", 1), outcome
    assert not laboratory.state()["shutter_open"]


@pytest.mark.slow
def test_guard_killed(serve: Callable, start: Callable) -> None:
    laboratory = serve(raw=True, speed=20.0)
    run = start(laboratory.bench, virtual_time=False)
    run.wait_for(lambda event: event.get("phase") == "coarse")
    processes = run.guard.children(recursive=True)
    assert len(processes) >= 2, "engine and safe-state program"
    run.guard.kill()
    outcome = run.end()
    assert (outcome["status"], outcome["safe_state"], outcome["exit"]) == ("aborted", "confirmed", 3)
    assert "the guard is gone" in outcome["error"]["where"]
    assert not laboratory.state()["shutter_open"]
    _, alive = psutil.wait_procs(processes, timeout=20)
    assert not alive


def test_engine_killed_on_a_bench_in_its_process(start: Callable) -> None:
    run = start()
    run.wait_for(lambda event: event.get("phase") == "coarse")
    run.engine().kill()
    outcome = run.end()
    assert (outcome["status"], outcome["safe_state"], outcome["exit"]) == ("crashed", "lost-with-run", 1)
    with open_run(outcome["run"]) as stored:
        assert stored.status == "crashed"
        assert stored.count("dark") == 9, "every acknowledged point is there"


@pytest.mark.slow
def test_engine_of_a_resumed_run_killed_with_light_on(serve: Callable, start: Callable) -> None:
    laboratory = serve()
    run = start(laboratory.bench)
    run.freeze_with_light_on(laboratory).kill()
    earlier = run.end()
    resumed = start(request=request_to_resume(earlier["run"]))
    resumed.freeze_with_light_on(laboratory).kill()
    assert wait_until_closed(laboratory, time.monotonic()) < SAFE_WITHIN_S
    outcome = resumed.end()
    assert_crashed_but_safe(outcome, "ended unexpectedly")
    with open_run(outcome["run"]) as stored:
        assert [event.data["state"] for event in stored.events("safe_state")] == ["confirmed", "confirmed"]


@pytest.mark.slow
def test_engine_of_a_resumed_run_killed_before_its_first_point(start: Callable) -> None:
    run = start()
    run.wait_for(lambda event: event["event"] == "point" and event["phase"] == "coarse")
    run.engine().kill()
    earlier = run.end()
    resumed = start(request=request_to_resume(earlier["run"]))
    resumed.wait_for(lambda event: event.get("phase") == "preparing")
    resumed.engine().kill()
    points = resumed.end()["points"]
    assert points["planned"] == earlier["points"]["planned"] > points["done"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("guard_first", [True, False])
def test_both_guard_and_engine_killed_with_light_on(serve: Callable, start: Callable, guard_first: bool) -> None:
    laboratory = serve()
    run = start(laboratory.bench)
    engine = run.freeze_with_light_on(laboratory)
    for process in (run.guard, engine) if guard_first else (engine, run.guard):
        process.kill()
    assert wait_until_closed(laboratory, time.monotonic()) < SAFE_WITHIN_S
    outcome = run.end()
    assert (outcome["status"], outcome["safe_state"], outcome["exit"]) == ("crashed", "confirmed", 1)
    assert {"event": "safe_state", "state": "confirmed"} in run.events
    assert outcome["error"]["type"] == "GuardDied"
    with open_run(outcome["run"]) as stored:
        assert stored.status == "crashed"
        assert stored.events("safe_state")[-1].data["state"] == "confirmed"
        assert sum(stored.count(name) for name in stored.streams) == outcome["points"]["done"] > 0


@pytest.mark.slow
def test_guard_killed_while_the_engine_hangs_with_light_on(serve: Callable, start: Callable) -> None:
    laboratory = serve()
    run = start(laboratory.bench)
    run.freeze_with_light_on(laboratory)
    run.guard.kill()
    assert wait_until_closed(laboratory, time.monotonic()) < 6.0 + SAFE_WITHIN_S, "three questions of a second each"
    outcome = run.end()
    assert (outcome["status"], outcome["safe_state"], outcome["exit"]) == ("crashed", "confirmed", 1)
    with open_run(outcome["run"]) as stored:
        assert "the engine hung" in stored.events("incident")[-1].data["error"]["what"]


@pytest.mark.slow
def test_nobody_is_left_and_that_is_said(serve: Callable, start: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guard, engine and the program that stands by are killed at once: nobody closes the shutter."""
    monkeypatch.setattr(front, "ORPHAN_S", 2.0)
    laboratory = serve()
    run = start(laboratory.bench)
    engine, standby = run.freeze_with_light_on(laboratory), run.standby()
    for process in (standby, run.guard, engine):
        process.kill()
    outcome = run.end()
    assert (outcome["status"], outcome["safe_state"], outcome["exit"]) == ("crashed", "unconfirmed", 4)
    assert "look at the shutter" in outcome["error"]["state"]


@pytest.mark.slow
def test_both_guard_and_engine_killed_on_a_bench_in_the_process(start: Callable) -> None:
    run = start()
    run.wait_for(lambda event: event.get("phase") == "coarse")
    engine = run.engine()
    run.guard.kill()
    engine.kill()
    outcome = run.end()
    assert (outcome["status"], outcome["safe_state"], outcome["exit"]) == ("crashed", "lost-with-run", 1)
    assert outcome["points"]["planned"] == 45


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stopped", "woken"),
    [
        ("guard engine standby", "standby engine guard"),
        ("guard engine", "guard, engine"),
        ("guard engine", "engine, guard"),
        ("guard", "guard"),
    ],
)
def test_the_computer_sleeps_with_light_on(serve: Callable, start: Callable, stopped: str, woken: str) -> None:
    """Every process stands still for 3 s; a comma is a gap of 3 s more."""
    laboratory = serve(raw=True, speed=60.0)
    few = {"dark_frames": 1, "scatter_frames": 1, "averages": 2}
    run = start(laboratory.bench, virtual_time=False, parameters=few)
    engine = run.freeze_with_light_on(laboratory)
    processes = {"guard": run.guard, "engine": engine, "standby": run.standby()}
    for name in stopped.split():
        processes[name].suspend()
    if "engine" not in stopped:
        engine.resume()
    time.sleep(3.0)
    done = run.events[-1].get("done", 0)
    for part in woken.split(","):
        for name in part.split():
            if processes[name].is_running():
                processes[name].resume()
        if part != woken.split(",")[-1]:
            time.sleep(3.0)
    outcome = run.end()
    assert outcome["safe_state"] == "confirmed", outcome
    assert outcome["status"] in ("aborted", "crashed")
    assert not laboratory.state()["shutter_open"]
    assert "the guard was not run for" in str(outcome["error"]), outcome["error"]
    with open_run(outcome["run"]) as stored:
        assert stored.events("safe_state")[-1].data["state"] == "confirmed"
        assert sum(stored.count(name) for name in stored.streams) == outcome["points"]["done"] >= done


@pytest.mark.slow
def test_laboratory_dies_with_light_on(serve: Callable, start: Callable) -> None:
    laboratory = serve()
    run = start(laboratory.bench)
    engine = run.freeze_with_light_on(laboratory)
    laboratory.server.kill()
    engine.resume()
    outcome = run.end()
    assert (outcome["status"], outcome["safe_state"], outcome["exit"]) == ("failed", "unconfirmed", 4)
    steps = outcome["safe_report"]["steps"]
    assert "LIGHT MAY BE ON" in next(step["evidence"] for step in steps if step["role"] == "shutter")


@pytest.mark.slow
def test_engine_and_laboratory_die(serve: Callable, start: Callable) -> None:
    laboratory = serve()
    run = start(laboratory.bench)
    engine = run.freeze_with_light_on(laboratory)
    laboratory.server.kill()
    engine.kill()
    outcome = run.end()
    assert (outcome["status"], outcome["safe_state"], outcome["exit"]) == ("crashed", "unconfirmed", 4)
    assert {step["role"] for step in outcome["safe_report"]["steps"]} == {"shutter", "detector"}


@pytest.mark.slow
@pytest.mark.parametrize("number", end_signals())
def test_signal_to_the_engine_aborts(start: Callable, number: signal.Signals) -> None:
    run = start()
    run.wait_for(lambda event: event.get("phase") == "coarse")
    run.engine().send_signal(number)
    outcome = run.end()
    assert (outcome["status"], outcome["safe_state"], outcome["exit"]) == ("aborted", "confirmed", 3)
    assert number.name in outcome["error"]["where"]
