"""Every other way in which a run may end: by its front, by a full disk, by instruments, by a fault in the plan."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psutil
import pytest

from drivers.attenuator.ell14 import ELL14
from drivers.shutter.sc10 import SC10
from labctl.bench import bench as bench_module
from labctl.bench.bench import Bench
from labctl.config.locate import locate
from labctl.processes import end_signals
from labctl.run import engine as engine_module
from labctl.run import finish
from labctl.run.endpoint import EndpointClient
from labctl.run.engine import Engine
from labctl.run.front import RunFront, run_to_end
from labctl.run.guard_line import GuardLine
from labctl.run.outcome import Outcome
from labctl.run.plan import Point
from labctl.run.record import Record
from labctl.run.request import RunRequest, prepare
from labctl.sim.faults import Fault, Kind, Transaction, injected
from labctl.store.run import open_run

LABCTL = [sys.executable, "-m", "labctl.cli.main"]
posix = pytest.mark.skipif(os.name != "posix", reason="signals, terminals, limits")


def test_a_script_runs_to_the_end(tmp_path: Path) -> None:
    seen: list[str] = []
    request = RunRequest(
        procedure="fluence-sweep",
        bench="simulated",
        parameters={"fine_points": 0, "return_points": 0},
        out=str(tmp_path),
        virtual_time=True,
    )
    outcome = run_to_end(request, lambda event: seen.append(event["event"]))
    assert (outcome["status"], outcome["safe_state"], outcome["exit"]) == ("finished", "confirmed", 0)
    assert outcome["points"] == {"done": 18, "planned": 18}
    assert seen[0] == "started"
    assert {"phase", "stage", "point"} <= set(seen)
    assert Path(outcome["run"]).is_file()


def test_an_exception_in_a_script_aborts_and_comes_back(tmp_path: Path) -> None:
    request = RunRequest(procedure="fluence-sweep", bench="simulated", out=str(tmp_path), virtual_time=True)

    def stumble(event: dict) -> None:
        if event.get("phase") == "dark":
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_to_end(request, stumble)
    (sealed,) = tmp_path.rglob("*.h5")
    with open_run(sealed) as run:
        assert run.status == "aborted"
        assert run.events("safe_state")[-1].data["state"] == "confirmed"


def test_status_note_and_abort_from_elsewhere(start: Callable) -> None:
    run = start()
    started = run.wait_for(lambda event: event["event"] == "started")
    run.wait_for(lambda event: event.get("phase") == "dark")
    with EndpointClient(started["endpoint"]) as client:
        assert client.ask("note", text="the lamp was on") == {"noted": True}
    with EndpointClient(started["endpoint"]) as client:
        assert client.ask("status")["planned"] == 45
    with EndpointClient(started["endpoint"]) as client:
        assert client.ask("abort", reason="enough") == {"aborting": True}
    outcome = run.end()
    assert (outcome["status"], outcome["exit"]) == ("aborted", 3)
    assert "enough" in outcome["error"]["where"]
    with open_run(outcome["run"]) as stored:
        assert [note.text for note in stored.notes] == ["the lamp was on"]


@posix
@pytest.mark.slow
def test_a_killed_front_ends_its_run(serve: Callable, tmp_path: Path) -> None:
    laboratory = serve()
    command = ["run", "fluence-sweep", "--bench", laboratory.bench, "--virtual-time", "--out", str(tmp_path / "runs")]
    front = psutil.Popen([*LABCTL, *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        while b"coarse" not in front.stderr.readline():
            assert front.is_running()
        processes = front.children(recursive=True)
        front.kill()
        _, alive = psutil.wait_procs(processes, timeout=30)
        assert not alive
    finally:
        front.wait()
        front.stderr.close()
    assert not laboratory.state()["shutter_open"]
    (sealed,) = (tmp_path / "runs").rglob("*.h5")
    with open_run(sealed) as run:
        assert run.status == "aborted"
        assert "front" in run.events("incident")[-1].data["reason"]


@posix
@pytest.mark.slow
def test_a_detached_run_goes_on_without_its_front(tmp_path: Path) -> None:
    command = [*LABCTL, "run", "fluence-sweep", "--bench", "simulated", "--virtual-time", "--detach", "--json"]
    subprocess.run([*command, "--out", str(tmp_path)], check=True, capture_output=True, timeout=60)
    deadline = time.monotonic() + 60
    while not list(tmp_path.rglob("*.html")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    (sealed,) = tmp_path.rglob("*.h5")
    with open_run(sealed) as run:
        assert run.status == "finished"


@posix
@pytest.mark.slow
@pytest.mark.parametrize(
    ("signals", "exit_code"),
    [*(([number], 3) for number in end_signals()), ([signal.SIGINT] * 3, 3)],
)
def test_signals_at_the_front_abort(tmp_path: Path, signals: list[signal.Signals], exit_code: int) -> None:
    command = ["run", "fluence-sweep", "--bench", "simulated", "--virtual-time", "--out", str(tmp_path)]
    front = psutil.Popen([*LABCTL, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while b"coarse" not in front.stderr.readline():
        assert front.is_running()
    for number in signals:
        front.send_signal(number)
        time.sleep(0.05)
    out, err = front.communicate(timeout=60)
    assert front.returncode == exit_code, err
    assert b"safe state confirmed" in out
    assert b"aborting (" + signals[0].name.encode() in err
    assert b"Traceback" not in err


@posix
@pytest.mark.slow
def test_ctrl_c_at_a_terminal(tmp_path: Path) -> None:
    """The terminal sends INT to the whole foreground group; guard and engine have sessions of their own."""
    import pty

    command = [*LABCTL, "run", "fluence-sweep", "--bench", "simulated", "--virtual-time", "--out", str(tmp_path)]
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(command[0], command)
    shown, pressed = b"", False
    try:
        while True:
            try:
                data = os.read(terminal, 4096)
            except OSError:
                break
            if not data:
                break
            shown += data
            if b"coarse" in shown and not pressed:
                pressed = True
                os.write(terminal, b"\x03")
    finally:
        _, status = os.waitpid(pid, 0)
        os.close(terminal)
    assert pressed
    assert os.waitstatus_to_exitcode(status) == 3, shown
    assert b"aborting (SIGINT)" in shown
    assert b"safe state confirmed" in shown


@posix
@pytest.mark.slow
def test_a_terminal_that_is_closed(tmp_path: Path) -> None:
    """The front can show nothing any more, but it still ends the run in order."""
    import pty

    command = [*LABCTL, "run", "fluence-sweep", "--bench", "simulated", "--virtual-time", "--out", str(tmp_path)]
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(command[0], command)
    shown = b""
    while b"coarse" not in shown:
        shown += os.read(terminal, 4096)
    os.close(terminal)
    os.waitpid(pid, 0)
    deadline_s = time.monotonic() + 60
    while not list(tmp_path.rglob("*.h5")):
        assert time.monotonic() < deadline_s
        time.sleep(0.1)
    (sealed,) = tmp_path.rglob("*.h5")
    with open_run(sealed) as run:
        assert run.status == "aborted"
        assert run.events("safe_state")[-1].data["state"] == "confirmed"
        assert "SIGHUP" in run.events("incident")[-1].data["reason"]


def test_a_script_waits_for_the_safe_state_however_often_it_is_interrupted() -> None:
    presses = iter([KeyboardInterrupt, KeyboardInterrupt, None])
    waited: list[object] = []

    def events() -> Iterator[dict[str, Any]]:
        pressed = next(presses)
        waited.append(pressed)
        yield {"event": "phase"}
        if pressed is not None:
            raise pressed

    RunFront.wait_ended(cast(RunFront, SimpleNamespace(events=events)))
    assert waited == [KeyboardInterrupt, KeyboardInterrupt, None]


@posix
def test_a_disk_that_fills_up(start: Callable) -> None:
    run = start()
    run.wait_for(lambda event: event.get("phase") == "coarse")
    run.engine().rlimit(psutil.RLIMIT_FSIZE, (65536, 65536))
    outcome = run.end()
    assert (outcome["status"], outcome["safe_state"], outcome["exit"]) == ("failed", "confirmed", 1)
    assert outcome["error"]["type"] == "StorageError"
    assert any("could not be sealed" in warning for warning in outcome["warnings"])
    with open_run(outcome["run"]) as stored:
        assert sum(stored.count(name) for name in stored.streams) == outcome["points"]["done"] >= 10


SHORT = {"coarse_points": 5, "fine_points": 0, "return_points": 1, "dark_frames": 1, "scatter_frames": 1}


def engine_of_a_short_run(folder: Path, **parameters: object) -> Engine:
    """Make the engine of a run that takes a second, in this process."""
    values = {**SHORT, "averages": 2, "pulses": 20, **parameters}
    request = RunRequest(
        procedure="fluence-sweep", bench="simulated", parameters=values, out=str(folder), virtual_time=True
    )
    return Engine(prepare(request), GuardLine())


def stumble(*_: object, **__: object) -> None:
    raise ZeroDivisionError("made on purpose")


def assert_recorded(outcome: Outcome, status: str, said: str) -> None:
    """What the front is told is in the run file, too."""
    with open_run(outcome.run) as run:
        assert run.status == status
        report = run.events("safe_state")[-1].data
        assert report["state"] == outcome.safe_state == "confirmed"
        shutter = next(step for step in report["steps"] if step["role"] == "shutter")
        assert shutter["confirmed"] and shutter["evidence"]
        if said:
            assert said in str(run.events("incident")[-1].data["error"])


@pytest.mark.parametrize(
    "phase",
    ["plan", "prepare", "streams", "make_loop", "next_settings", "measure", "acknowledge", "analyse", "write_products"],
)
def test_a_fault_in_a_procedure(tmp_path: Path, phase: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_of_a_short_run(tmp_path, fine_points=5)
    monkeypatch.setattr(type(engine.prepared.procedure), phase, stumble)
    if phase == "plan":
        with pytest.raises(ZeroDivisionError):
            engine.run()
        assert not list(tmp_path.rglob("*.journal"))
        return
    outcome = engine.run()
    if phase in ("analyse", "write_products"):
        assert (outcome.status, outcome.exit_code) == ("finished", 0)
        assert any("made on purpose" in warning for warning in outcome.warnings)
        assert_recorded(outcome, "finished", "")
    else:
        assert (outcome.status, outcome.exit_code) == ("failed", 1)
        assert outcome.error is not None
        assert "ZeroDivisionError: made on purpose" in outcome.error["what"]
        assert "test_ends.py" in outcome.error["where"]
        assert_recorded(outcome, "failed", "made on purpose")


@pytest.mark.parametrize("where", ["stage", "expect", "done", "_write_ledger"])
def test_a_fault_in_what_watches_a_run(tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_of_a_short_run(tmp_path)
    plain = getattr(engine, where)
    calls: list[object] = []

    def stumble_at_the_second(*values: object) -> object:
        calls.append(values)
        return stumble() if len(calls) == 2 else plain(*values)

    monkeypatch.setattr(engine_module, "_LEDGER_EVERY_S", 0.0)
    monkeypatch.setattr(engine, where, stumble_at_the_second)
    outcome = engine.run()
    assert (outcome.status, outcome.exit_code) == ("failed", 1)
    assert_recorded(outcome, "failed", "made on purpose")


def test_a_driver_that_fails_when_it_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_of_a_short_run(tmp_path)
    monkeypatch.setattr(SC10, "close", stumble)
    outcome = engine.run()
    assert (outcome.status, outcome.exit_code) == ("finished", 0)
    assert_recorded(outcome, "finished", "")


@pytest.mark.parametrize(
    ("driver", "role", "state", "code"), [(SC10, "shutter", "unconfirmed", 4), (ELL14, "attenuator", "confirmed", 0)]
)
def test_a_driver_that_fails_when_it_is_made_safe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, driver: type, role: str, state: str, code: int
) -> None:
    """Behind a shutter that is confirmed closed, an attenuator can harm nothing; but it is told."""
    engine = engine_of_a_short_run(tmp_path)
    monkeypatch.setattr(driver, "make_safe", stumble)
    outcome = engine.run()
    assert (outcome.status, outcome.safe_state, outcome.exit_code) == ("finished", state, code)
    assert any(role in warning for warning in outcome.warnings) is (state == "confirmed")
    with open_run(outcome.run) as run:
        steps = {step["role"]: step for step in run.events("safe_state")[-1].data["steps"]}
    assert "made on purpose" in steps[role]["evidence"]
    assert {name for name, step in steps.items() if step["confirmed"]} == set(steps) - {role}


def test_a_limit_that_is_passed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The procedure asks for more than the bench allows, past its own plan."""
    engine = engine_of_a_short_run(tmp_path)
    measure = type(engine.prepared.procedure).measure

    def ask_for_too_much(self: Any, point: Point) -> Record:
        settings = point.settings
        if "fluence_uj_cm2" in settings:
            settings = {**settings, "fluence_uj_cm2": 1e6}
        return measure(self, replace(point, settings=settings))

    monkeypatch.setattr(type(engine.prepared.procedure), "measure", ask_for_too_much)
    outcome = engine.run()
    assert (outcome.status, outcome.exit_code) == ("failed", 1)
    assert outcome.error is not None and "limit" in outcome.error["what"]
    assert_recorded(outcome, "failed", "limit")


@pytest.mark.parametrize(
    ("module", "name", "status", "exit_code"),
    [
        (Bench, "_start_all", "aborted", 3),
        (bench_module, "make_safe", "finished", 0),
        (Bench, "close", "finished", 0),
        (finish, "seal", "finished", 0),
        (finish, "analyse_run", "finished", 0),
    ],
    ids=["opening", "making safe", "closing", "sealing", "analysis"],
)
def test_signals_at_any_time_skip_nothing(
    tmp_path: Path, module: Any, name: str, status: str, exit_code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All come, and INT three times, at a moment when the run is not looking for them."""
    engine = engine_of_a_short_run(tmp_path)
    plain = getattr(module, name)

    def press_and_go_on(*values: Any, **named: Any) -> Any:
        for number in (signal.SIGINT, signal.SIGINT, *end_signals()):
            engine.on_signal(number, None)
        assert engine.stop.wait(20), "the heartbeat acts on it"
        return plain(*values, **named)

    monkeypatch.setattr(module, name, press_and_go_on)
    outcome = engine.run()
    assert (outcome.status, outcome.safe_state, outcome.exit_code) == (status, "confirmed", exit_code)
    assert_recorded(outcome, status, end_signals()[-1].name if status == "aborted" else "")


def bench_of_the_dead(folder: Path, ports: dict[str, int]) -> str:
    """Write the shipped bench with some drivers at ports where nothing answers."""
    source = locate("benches", "simulated")
    text = source.read_text(encoding="utf-8")
    for driver, port in ports.items():
        line = f'driver = "{driver}"\nresource = "sim:"'
        assert line in text
        text = text.replace(line, line.replace("sim:", f"socket://127.0.0.1:{port}"))
    text = text.replace('"calibrations/', f'"{(source.parent / "calibrations").as_posix()}/')
    (folder / "bench.toml").write_text(text, encoding="utf-8")
    return str(folder / "bench.toml")


@pytest.mark.parametrize(
    ("drivers", "roles", "safe_state", "exit_code"),
    [
        (("thorlabs-ell14", "thorlabs-pm100d"), {"attenuator", "energy_meter"}, "confirmed", 1),
        pytest.param(
            ("thorlabs-sc10", "thorlabs-pm100d"),
            {"shutter", "energy_meter"},
            "unconfirmed",
            4,
            marks=pytest.mark.slow,
        ),
    ],
)
def test_two_dead_instruments_are_named_at_once(tmp_path, drivers, roles, safe_state, exit_code) -> None:
    """One refuses connections, the other accepts them and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = closed.getsockname()[1]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        bench = bench_of_the_dead(tmp_path, dict(zip(drivers, (nobody, silent.getsockname()[1]), strict=True)))
        request = RunRequest(procedure="fluence-sweep", bench=bench, out=str(tmp_path / "runs"))
        outcome = Engine(prepare(request), GuardLine()).run()
    assert (outcome.status, outcome.safe_state, outcome.exit_code) == ("failed", safe_state, exit_code)
    assert outcome.error is not None
    failures = {failure["role"]: failure["error"] for failure in outcome.error["failures"]}
    assert set(failures) == roles
    assert failures["energy_meter"]["sent"] == repr(b"*IDN?\n")
    assert failures["energy_meter"]["received"] == ""
    assert safe_state in outcome.error["state"]


def test_a_shutter_that_failed_to_start_but_then_said_that_it_is_closed_is_safe(tmp_path: Path) -> None:
    spoilt = Fault(Kind.GARBLED)

    def watch(transaction: Transaction) -> Fault | None:
        return spoilt if "interlock?" in transaction.command and not spoilt.applied else None

    request = RunRequest(procedure="fluence-sweep", bench="simulated", out=str(tmp_path), virtual_time=True)
    with injected(watch):
        outcome = Engine(prepare(request), GuardLine()).run()
    assert outcome.status == "failed"
    assert outcome.error is not None and outcome.error["failures"][0]["role"] == "shutter"
    assert (outcome.safe_state, outcome.exit_code) == ("confirmed", 1)
    assert [step["action"] for step in outcome.safe_report["steps"] if step["role"] == "shutter"] == ["close shutter"]
