"""Procedures written for pymeasure alone, from the registry to the run file."""

# ruff: noqa: RUF012 - DATA_COLUMNS as everybody writes them for pymeasure

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from pymeasure.experiment import FloatParameter, IntegerParameter, Metadata, Parameter, Procedure

from labctl.clock import RealClock
from labctl.errors import ConfigError, InputError
from labctl.run import request as registry
from labctl.run.engine import Engine
from labctl.run.front import RunFront
from labctl.run.guard_line import GuardLine
from labctl.run.preflight import preflight
from labctl.run.request import RunRequest, prepare, procedure_class
from labctl.store.run import open_run


class Diode(Procedure):
    """Current of a diode against voltage.

    ``happened`` and ``at`` belong to the test; the rest is as anybody would write it for pymeasure.
    """

    top = FloatParameter("Top voltage", units="V", default=1.0, maximum=10.0)
    points = IntegerParameter("Points", default=4, minimum=0, maximum=1000)
    operator = Parameter("Operator", default="Ada")
    serial = Metadata("Serial number", fget="read_serial")
    DATA_COLUMNS = ["Voltage (V)", "Current (uA)", "Remark"]

    happened: list[str]
    at: dict[str, Callable[[Any], None]]

    def note(self, what: str) -> None:
        self.happened.append(what)
        self.at.get(what, lambda procedure: None)(self)

    def read_serial(self) -> str:
        self.note("metadata")
        return "SN 7"

    def startup(self) -> None:
        self.note("startup")

    def execute(self) -> None:
        for index in range(self.points):
            if self.should_stop():
                break
            voltage = self.top * index / self.points
            self.emit("results", {"Voltage (V)": voltage, "Current (uA)": np.float32(index), "Remark": "a, b"})
            self.emit("progress", 100 * (index + 1) / self.points)
            self.note(f"row {index}")

    def shutdown(self) -> None:
        self.note("shutdown")


def fail(_: Any) -> None:
    raise RuntimeError("the relay is stuck")


class Entry:
    """An entry point of another package."""

    def __init__(self, name: str, loaded: Any) -> None:
        self.name = name
        self.value = f"other_package:{name}"
        self.loaded = loaded

    def load(self) -> Any:
        if isinstance(self.loaded, Exception):
            raise self.loaded
        return self.loaded


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def register(**entries: Any) -> None:
        found = [Entry(name, loaded) for name, loaded in entries.items()]
        monkeypatch.setattr(registry, "entry_points", lambda group: found)

    return register


class Unmade(Procedure):
    DATA_COLUMNS = ["Signal (flops)"]


class NoColumns(Procedure):
    pass


@pytest.mark.parametrize(
    ("loaded", "words"),
    [
        (ImportError("no module named nidaqmx"), "cannot be imported: ImportError: no module named nidaqmx"),
        (dict, "is not a pymeasure Procedure"),
        (42, "is not a pymeasure Procedure"),
        (NoColumns, "declares no column"),
        (Unmade, "cannot be made: ValueError: .*flops"),
    ],
)
def test_a_procedure_that_cannot_run_is_refused(registered: Callable[..., None], loaded: Any, words: str) -> None:
    registered(diode=loaded)
    with pytest.raises(InputError, match=words):
        procedure_class("diode")()


def test_it_is_described_as_ours_are(registered: Callable[..., None]) -> None:
    registered(diode=Diode)
    described = procedure_class("diode").describe()
    assert described["title"] == "Current of a diode against voltage."
    assert described["roles"] == []
    assert described["parameters"]["top"]["units"] == "V"
    assert procedure_class("diode") is procedure_class("diode")


def request_for(tmp_path: Path, **options: Any) -> RunRequest:
    return RunRequest(procedure="diode", bench="simulated", out=str(tmp_path / "runs"), **options)


def test_parameters_are_checked_before_anything_runs(registered: Callable[..., None], tmp_path: Path) -> None:
    registered(diode=Diode)
    with pytest.raises(ConfigError, match="did you mean 'points'"):
        prepare(request_for(tmp_path, parameters={"pionts": 3}))


def test_virtual_time_is_refused(registered: Callable[..., None], tmp_path: Path) -> None:
    registered(diode=Diode)
    with pytest.raises(InputError, match="real time only"):
        prepare(request_for(tmp_path, virtual_time=True))


def test_a_missing_value_is_found_by_the_preflight(registered: Callable[..., None], tmp_path: Path) -> None:
    class Unset(Procedure):
        wavelength = FloatParameter("Wavelength", units="nm")
        DATA_COLUMNS = ["x"]

    registered(diode=Unset)
    with pytest.raises(InputError, match="needs a value for wavelength"):
        preflight(prepare(request_for(tmp_path)))


class Run:
    """A whole run in the engine, in this process and without a guard."""

    def __init__(self, tmp_path: Path, **parameters: Any) -> None:
        self.prepared = prepare(request_for(tmp_path, parameters=parameters))
        self.foreign: Any = self.prepared.procedure.foreign  # type: ignore[attr-defined]
        self.foreign.happened, self.foreign.at = [], {}
        self.engine = Engine(self.prepared, GuardLine())


def test_a_run_in_the_engine(registered: Callable[..., None], tmp_path: Path) -> None:
    registered(diode=Diode)
    run = Run(tmp_path, top=1.550123456789)
    before = RealClock().wall()
    outcome = run.engine.run()
    assert (outcome.status, outcome.safe_state, outcome.exit_code) == ("finished", "not-needed", 0)
    assert outcome.points == {"done": 4, "planned": 4}
    assert not outcome.simulated
    assert Path(outcome.files["figure"]).is_file()
    with open_run(outcome.run) as stored:
        assert stored.header["parameters"] == {"top": 1.550123456789, "points": 4, "operator": "Ada"}
        assert (stored.status, stored.simulated) == ("finished", False)
        np.testing.assert_array_equal(stored.column("voltage"), [1.550123456789 * index / 4 for index in range(4)])
        assert stored.column("remark").tolist() == ["a, b"] * 4
        assert (stored.column("wall_s") >= before).all()
        assert stored.events("metadata")[0].data["serial"]["value"] == "SN 7"


def test_a_failing_shutdown_shows_in_the_outcome(registered: Callable[..., None], tmp_path: Path) -> None:
    registered(diode=Diode)
    run = Run(tmp_path)
    run.foreign.at = {"shutdown": fail}
    outcome = run.engine.run()
    assert (outcome.status, outcome.safe_state, outcome.exit_code) == ("finished", "unconfirmed", 4)
    assert "the relay is stuck" in str(outcome.safe_report)
    with open_run(outcome.run) as stored:
        assert "the relay is stuck" in str(stored.events("safe_state")[0].data)
        assert stored.count() == 4


def test_a_failing_procedure_keeps_its_rows(registered: Callable[..., None], tmp_path: Path) -> None:
    registered(diode=Diode)
    run = Run(tmp_path)
    run.foreign.at = {"row 2": fail}
    outcome = run.engine.run()
    assert (outcome.status, outcome.exit_code) == ("failed", 1)
    assert outcome.points == {"done": 3, "planned": 1_000_000}
    assert outcome.error is not None
    assert outcome.error["what"] == "RuntimeError: the relay is stuck"
    with open_run(outcome.run) as stored:
        assert (stored.status, stored.count()) == ("failed", 3)


def test_an_abort_of_the_engine_ends_it(registered: Callable[..., None], tmp_path: Path) -> None:
    registered(diode=Diode)
    run = Run(tmp_path)
    run.foreign.at = {"row 1": lambda _: run.engine.abort("the test asks for it")}
    outcome = run.engine.run()
    assert (outcome.status, outcome.exit_code, outcome.points["done"]) == ("aborted", 3, 2)
    assert run.foreign.happened[-1] == "shutdown"


PACKAGE = '''
import time
from pymeasure.experiment import IntegerParameter, Procedure

class Slow(Procedure):
    """Points that take their time."""

    points = IntegerParameter("Points", default=3)
    DATA_COLUMNS = ["Index", "Time (s)"]

    def execute(self):
        for index in range(self.points):
            if self.should_stop():
                return
            self.emit("results", {"Index": index, "Time (s)": time.perf_counter()})
            time.sleep(0.05)
'''


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A laboratory's own package that registers a procedure, as pip would install it."""
    site = tmp_path / "site"
    about = site / "laboratory-1.0.dist-info"
    about.mkdir(parents=True)
    (site / "laboratory_procedures.py").write_text(PACKAGE)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: laboratory\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[labctl.procedures]\nslow-points = laboratory_procedures:Slow\n")
    monkeypatch.setenv("PYTHONPATH", str(site))
    return tmp_path / "runs"


def labctl(*arguments: str) -> tuple[int, dict[str, Any]]:
    command = [sys.executable, "-m", "labctl.cli.main", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    return done.returncode, json.loads(done.stdout)


@pytest.mark.slow
def test_an_installed_procedure_runs_from_the_command_line(installed: Path) -> None:
    _, listed = labctl("procedures")
    assert "slow-points" in [procedure["name"] for procedure in listed["procedures"]]
    assert not listed["failures"]
    code, outcome = labctl("run", "slow_points", "--bench", "simulated", "--set", "points=5", "--out", str(installed))
    assert (code, outcome["status"], outcome["points"]) == (0, "finished", {"done": 5, "planned": 5})
    code, outcome = labctl("run", "slow-points", "--bench", "simulated", "--set", "pionts=5", "--out", str(installed))
    assert code == 2
    assert "points" in outcome["error"]["what"]


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_nothing_is_confirmed_when_the_engine_dies(installed: Path) -> None:
    """The rows are kept; that the instruments are safe nobody can say, since shutdown() did not run."""
    request = RunRequest(
        procedure="slow-points", parameters={"points": 1000}, bench="simulated", out=str(installed), lease=False
    )
    with closing(RunFront(request)) as front:
        points = 0
        for event in front.events():
            if event["event"] != "point":
                continue
            points += 1
            if points == 3:
                guard = psutil.Process(front._guard.pid)
                (engine,) = [child for child in guard.children() if "labctl.run.engine" in child.cmdline()]
                engine.kill()
        outcome = front.outcome()
    assert (outcome["status"], outcome["safe_state"], outcome["exit"]) == ("crashed", "unconfirmed", 4)
    assert outcome["safe_report"]["steps"][0]["role"] == "slow-points"
    with open_run(outcome["run"]) as stored:
        assert stored.count() == outcome["points"]["done"] >= 3
        assert stored.column("index").tolist() == list(range(stored.count()))
