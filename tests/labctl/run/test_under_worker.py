"""Our procedures under pymeasure's own Worker and Results, on the simulated bench."""

# ruff: noqa: RUF012 - DATA_COLUMNS as everybody writes them for pymeasure

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pymeasure.experiment import Procedure, Results, Worker

from labctl.bench.bench import Bench
from labctl.bench.ledger import ExposureLedger
from labctl.bench.safe import RoleStep, SafeReport
from labctl.errors import InputError, InstrumentError
from labctl.roles import SafeStep
from labctl.run.engine import Engine
from labctl.run.guard_line import GuardLine
from labctl.run.plan import Point
from labctl.run.procedure import Record, RunsOn, SweepProcedure
from labctl.run.request import PROCEDURES, RunRequest, prepare, procedure_class
from labctl.run.under_worker import EmittedRows, StopOfWorker
from labctl.store.run import open_run
from procedures.attenuator_calibration import AttenuatorCalibration
from procedures.fluence_sweep import FluenceSweep

PATIENCE_S = 60.0
SHORT: dict[str, Any] = {
    "fluences": "5, 28.123456789, 60 uJ/cm^2",
    "return_points": 1,
    "dark_frames": 1,
    "scatter_frames": 1,
    "averages": 1,
}


class Run:
    """A procedure, its CSV file, and the Worker that runs it."""

    def __init__(self, folder: Path, procedure: SweepProcedure, **options: Any) -> None:
        self.procedure = procedure
        procedure.runs_on = RunsOn("simulated", virtual_time=True, out=str(folder / "runs"), **options)
        self.csv = folder / "run.csv"
        self.results = Results(procedure, str(self.csv))
        self.worker = Worker(self.results)

    def to_end(self) -> Run:
        self.worker.start()
        threading.Thread.join(self.worker, PATIENCE_S)  # Worker.join ends the run instead of waiting for it
        assert not self.worker.is_alive()
        return self

    @property
    def said(self) -> list[tuple[str, Any]]:
        """What the Worker told whoever watches; None marks its end."""
        return [entry for entry in self.worker.monitor_queue.queue if entry is not None]

    @property
    def statuses(self) -> list[int]:
        return [value for topic, value in self.said if topic == "status"]

    @property
    def safe_state(self) -> str:
        assert self.procedure.worker_run is not None
        return self.procedure.worker_run.safe_report.state

    @property
    def data(self) -> pd.DataFrame:
        return Results.load(str(self.csv)).data


@pytest.fixture
def errors(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """The exceptions that the Worker has caught, as text."""
    return lambda: "\n".join(str(record.exc_info[1]) for record in caplog.records if record.exc_info)


def at_point(procedure: SweepProcedure, stage: str, number: int, act: Callable[[], None]) -> None:
    """Have something happen when a point of a stage, counted from 0, is about to be measured."""
    measure = procedure.measure
    seen: list[Point] = []

    def measured(point: Point) -> Record:
        if point.stage == stage:
            seen.append(point)
            if len(seen) == number + 1:
                act()
        return measure(point)

    procedure.measure = measured  # type: ignore[method-assign]


def test_the_worker_measures_what_the_engine_measures(tmp_path: Path) -> None:
    run = Run(tmp_path, FluenceSweep(**SHORT), seed=3).to_end()
    request = RunRequest(
        procedure="fluence-sweep",
        parameters=SHORT,
        bench="simulated",
        out=str(tmp_path / "engine"),
        seed=3,
        virtual_time=True,
    )
    outcome = Engine(prepare(request), GuardLine()).run()
    data = run.data
    with open_run(outcome.run) as stored:
        assert list(data.columns) == [column.name for column in stored.streams["points"].columns]
        for name in data.columns:
            np.testing.assert_array_equal(data[name].to_numpy(), stored.column(name), err_msg=name)
    assert len(data) == 4
    assert run.statuses == [Procedure.RUNNING, Procedure.FINISHED]
    assert run.safe_state == "confirmed"


def test_the_file_says_where_the_data_come_from(tmp_path: Path) -> None:
    run = Run(tmp_path, FluenceSweep(**SHORT), seed=3, spot="B7").to_end()
    header = run.csv.read_text().split("#Data:")[0]
    assert "#\tBench: simulated\n" in header
    assert "#\tData from: SIMULATED, seed 3\n" in header
    assert "#\tSample: cdse-cds-zno, spot B7\n" in header
    assert Results.load(str(run.csv)).procedure.fluences == (5.0, 28.123456789, 60.0)


def test_progress_grows_to_a_hundred_percent(tmp_path: Path) -> None:
    run = Run(tmp_path, FluenceSweep(**SHORT)).to_end()
    percent = [value for topic, value in run.said if topic == "progress"]
    assert percent == sorted(percent)
    assert (percent[0], percent[-1]) == (0.0, 100.0)
    assert len(percent) > 5


def test_light_on_the_sample_is_entered_in_the_ledger(tmp_path: Path) -> None:
    run = Run(tmp_path, FluenceSweep(**SHORT), spot="B7").to_end()
    total = ExposureLedger(tmp_path / "runs").total("cdse-cds-zno", "B7", simulated=True)
    assert total.pulses > 0
    assert total.dose_j_cm2 == pytest.approx(run.data["dose_j_cm2"].iloc[-1])


def test_a_run_may_be_repeated(tmp_path: Path) -> None:
    procedure = FluenceSweep(**SHORT)
    first = Run(tmp_path, procedure).to_end().data
    (tmp_path / "second").mkdir()
    second = Run(tmp_path / "second", procedure).to_end().data
    pd.testing.assert_frame_equal(first, second)


@pytest.mark.parametrize(("stage", "number", "rows"), [("dark", 0, 0), ("listed", 1, 1)])
def test_a_stop_keeps_the_rows_and_leaves_the_bench_safe(tmp_path: Path, stage: str, number: int, rows: int) -> None:
    run = Run(tmp_path, FluenceSweep(**SHORT))
    at_point(run.procedure, stage, number, run.worker.stop)
    run.to_end()
    assert run.statuses == [Procedure.RUNNING, Procedure.ABORTED]
    assert run.safe_state == "confirmed"
    assert len(run.data) == rows


def test_a_stop_before_the_start_measures_nothing(tmp_path: Path) -> None:
    run = Run(tmp_path, FluenceSweep(**SHORT))
    run.worker.stop()
    run.to_end()
    assert run.statuses == [Procedure.RUNNING, Procedure.ABORTED]
    assert len(run.data) == 0


def test_a_failing_instrument_fails_the_run_and_leaves_the_bench_safe(
    tmp_path: Path, errors: Callable[[], str]
) -> None:
    def break_down() -> None:
        raise InstrumentError("the spectrograph does not answer")

    run = Run(tmp_path, FluenceSweep(**SHORT))
    at_point(run.procedure, "listed", 2, break_down)
    run.to_end()
    assert "the spectrograph does not answer" in errors()
    assert run.statuses == [Procedure.RUNNING, Procedure.FAILED]
    assert run.safe_state == "confirmed"
    assert len(run.data) == 2


def test_a_failing_preparation_leaves_the_bench_safe(tmp_path: Path, errors: Callable[[], str]) -> None:
    def break_down(bench: Bench) -> None:
        raise InstrumentError("the plate does not home")

    run = Run(tmp_path, FluenceSweep(**SHORT))
    run.procedure.prepare = break_down  # type: ignore[method-assign]
    run.to_end()
    assert "the plate does not home" in errors()
    assert run.statuses == [Procedure.RUNNING, Procedure.FAILED]
    assert run.safe_state == "confirmed"


def test_an_unconfirmed_safe_state_fails_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_safe = Bench.make_safe

    def doubtful(bench: Bench) -> SafeReport:
        steps = make_safe(bench).steps
        shutter = next(entry for entry in steps if entry.role == "shutter")
        return SafeReport((*steps, dataclasses.replace(shutter, step=SafeStep("close shutter", False, "open"))))

    monkeypatch.setattr(Bench, "make_safe", doubtful)
    run = Run(tmp_path, FluenceSweep(**SHORT)).to_end()
    assert run.statuses == [Procedure.RUNNING, Procedure.FAILED]
    assert run.procedure.status == Procedure.FAILED
    assert run.safe_state == "unconfirmed"


def test_an_exception_on_the_way_out_does_not_hang_the_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    close = Bench.close

    def broken(bench: Bench) -> None:
        close(bench)
        raise OSError("the port is gone")

    monkeypatch.setattr(Bench, "close", broken)
    run = Run(tmp_path, FluenceSweep(**SHORT)).to_end()
    assert run.statuses == [Procedure.RUNNING, Procedure.FAILED]
    assert run.procedure.worker_run is not None
    last: RoleStep = run.procedure.worker_run.safe_report.steps[-1]
    assert (last.step.confirmed, last.step.evidence) == (False, "OSError: the port is gone")


def test_limits_of_the_bench_hold(tmp_path: Path, errors: Callable[[], str]) -> None:
    run = Run(tmp_path, FluenceSweep(**{**SHORT, "fluences": "5, 100000 uJ/cm^2"})).to_end()
    assert "100000" in errors() or "1e+05" in errors()
    assert run.statuses == [Procedure.RUNNING, Procedure.FAILED]
    assert len(run.data) == 0


def test_it_must_be_said_on_which_bench(tmp_path: Path) -> None:
    results = Results(FluenceSweep(), str(tmp_path / "run.csv"))
    with pytest.raises(InputError, match="runs_on"):
        Worker(results)


def test_an_unknown_bench_fails_the_run(tmp_path: Path, errors: Callable[[], str]) -> None:
    run = Run(tmp_path, FluenceSweep())
    run.procedure.runs_on = RunsOn("simulatde")
    run.to_end()
    assert "simulatde" in errors()
    assert run.statuses == [Procedure.RUNNING, Procedure.FAILED]


class Forgetful(FluenceSweep):
    DATA_COLUMNS = ["fluence_uj_cm2"]


def test_a_column_that_pymeasure_would_drop_is_refused(tmp_path: Path, errors: Callable[[], str]) -> None:
    run = Run(tmp_path, Forgetful(**SHORT)).to_end()
    assert "DATA_COLUMNS of fluence-sweep lacks stage" in errors()
    assert run.statuses == [Procedure.RUNNING, Procedure.FAILED]
    assert run.safe_state == "confirmed"


class Timed(FluenceSweep):
    DATA_COLUMNS = ["point", "t_s", *FluenceSweep.DATA_COLUMNS]


def test_a_procedure_may_list_index_and_time_of_its_points(tmp_path: Path) -> None:
    data = Run(tmp_path, Timed(**SHORT)).to_end().data
    assert data["point"].diff().dropna().eq(1).all()
    assert data["t_s"].diff().dropna().gt(0).all()


def test_the_calibration_of_the_attenuator_runs_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        run = Run(tmp_path, AttenuatorCalibration(points=8, pulses=20)).to_end()
    assert run.statuses == [Procedure.RUNNING, Procedure.FINISHED]
    assert list(run.data["reference"]) == [1, 1, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 1, 1]
    assert "full energy" in caplog.text


def test_every_procedure_declares_columns_that_pymeasure_can_write() -> None:
    names = [entry.name for entry in entry_points(group=PROCEDURES)]
    assert names
    for name in names:
        columns = procedure_class(name).DATA_COLUMNS
        assert columns, name
        assert not Procedure.parse_columns(columns), name


class Emitting(SweepProcedure):
    NAME = "emitting-of-the-test"
    DEFAULT_PLOT = FluenceSweep.DEFAULT_PLOT
    DATA_COLUMNS = ["x", "text"]


def test_rows_are_emitted_as_pymeasure_can_write_them() -> None:
    emitted: list[Any] = []
    procedure: Any = Emitting()
    procedure.emit = lambda topic, record: emitted.append((topic, record))
    rows = EmittedRows(procedure)
    times: dict[str, Any] = {"point": 3, "attempt": 0, "t_s": 1.5, "wall_s": 1e9}
    rows.append("points", **times, row={"x": np.int64(7), "text": "a,b #1\nc"}, arrays={"spectrum": np.zeros(3)})
    rows.append("dark", **times, row={"level": 1.0})
    assert emitted == [("results", {**times, "x": 7, "text": "a;b no.1 c"})]
    assert type(emitted[0][1]["x"]) is int


def test_the_stop_of_a_worker_is_an_event() -> None:
    asked: list[bool] = []

    def should_stop() -> bool:
        asked.append(True)
        return len(asked) > 3

    stop = StopOfWorker(should_stop)
    assert not stop.is_set()
    assert not stop.wait(0.0)
    assert stop.wait(PATIENCE_S)
    assert len(asked) < 10


def test_the_stop_of_a_worker_may_be_set_by_hand() -> None:
    stop = StopOfWorker(lambda: False)
    assert not stop.wait(0.01)
    stop.set()
    assert stop.is_set()
    assert stop.wait()
