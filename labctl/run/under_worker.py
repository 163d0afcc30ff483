"""Our procedures under pymeasure's own Worker and Results.

Say on which bench, then use the procedure as any other of pymeasure::

    sweep = FluenceSweep(expected_threshold="28 uJ/cm^2")
    sweep.runs_on = RunsOn("simulated", virtual_time=True)
    Worker(Results(sweep, "sweep.csv")).start()

The same plan, preflight, limits, order of points and exposure ledger hold as with the engine. What pymeasure cannot
give: spectra and the streams beside the main one are not in its CSV file; rows are not synced to the disk; and no guard
makes the bench safe if the process is killed. ``labctl run`` gives all three.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from labctl.bench.bench import Bench
from labctl.bench.light import LightOnSample
from labctl.bench.safe import RoleStep, SafeReport
from labctl.clock import Clock, RealClock, VirtualClock
from labctl.errors import Aborted, InputError, LabctlError
from labctl.roles import SafeStep
from labctl.run.contracts import Loop
from labctl.run.light import write_ledger
from labctl.run.plan import Point, Stage
from labctl.run.point_loop import PointLoop
from labctl.run.preflight import preflight, require
from labctl.run.pymeasure_bridge import emit_progress, emit_row, report_failed
from labctl.run.record import Record
from labctl.run.request import RunRequest, prepare
from labctl.transport.session import Operator

if TYPE_CHECKING:
    from labctl.run.procedure import SweepProcedure

log = logging.getLogger(__name__)

_STOP_POLL_S = 0.05


@dataclass(frozen=True)
class RunsOn:
    """Where a procedure runs when pymeasure's Worker starts it.

    :param bench: Name of a shipped bench, or a path.
    :param sample: Name of a shipped sample, or a path; that of the bench if None.
    :param out: Folder of the exposure ledger.
    :param spot: Name of the spot on the sample, for the ledger.
    :param seed: Seed of a simulated laboratory.
    :param virtual_time: Whether to run on the virtual clock; for a bench of emulators only.
    :param ask_operator: Has somebody do by hand what no instrument can; None if nobody is there.
    """

    bench: str
    sample: str | None = None
    out: str = "runs"
    spot: str = "1"
    seed: int = 0
    virtual_time: bool = False
    ask_operator: Operator | None = None

    def request(self, procedure: str) -> RunRequest:
        """Get the request that the engine would be given."""
        return RunRequest(
            procedure=procedure,
            bench=self.bench,
            sample=self.sample,
            out=self.out,
            spot=self.spot,
            seed=self.seed,
            virtual_time=self.virtual_time,
        )


class WorkerRun:
    """One run under pymeasure's Worker: opens the bench, runs the plan, emits the rows, leaves everything safe.

    Its three steps are called by the Worker's thread, one after another; the last one whatever happened before.

    :param procedure: What to measure; its :attr:`runs_on` says where.
    """

    def __init__(self, procedure: SweepProcedure) -> None:
        self.procedure = procedure
        where = require_bench(procedure)
        self.prepared = prepare(where.request(procedure.NAME), procedure)
        self.clock: Clock = VirtualClock() if where.virtual_time else RealClock()
        self.bench: Bench | None = None
        self.safe_report = SafeReport(())
        self._ask_operator = where.ask_operator
        self._loop: Loop | None = None
        self._stop = StopOfWorker(procedure.should_stop)
        self._unledgered: list[LightOnSample] = []
        self._percent = 0

    @property
    def bench_label(self) -> str:
        """Get the name of the bench, for pymeasure's file."""
        return self.prepared.bench.name

    @property
    def sample_label(self) -> str:
        """Get name and spot of the sample, for pymeasure's file."""
        sample = self.prepared.sample
        return f"{sample.sample.name}, spot {self.prepared.request.spot}" if sample else "none"

    @property
    def origin_label(self) -> str:
        """Get whether the data are real, for pymeasure's file."""
        return f"SIMULATED, seed {self.prepared.request.seed}" if self.prepared.simulated else "instruments"

    def start(self) -> None:
        """Plan, check, open the bench and prepare it; raises what keeps the run from starting."""
        procedure = self.procedure
        checked = preflight(self.prepared)
        require(checked)
        for warning in checked.warnings:
            log.warning("%s", warning)
        procedure.stop_event = self._stop
        # Its rows go to the Worker's file; the ledger is all that it keeps here.
        Path(self.prepared.request.out).mkdir(parents=True, exist_ok=True)
        with self.clock.actor():
            self.bench = bench = Bench.open(
                self.prepared.bench,
                self.clock,
                roles=procedure.roles_on(self.prepared.bench),
                sample=self.prepared.sample,
                seed=self.prepared.request.seed,
                owner=f"{procedure.NAME} under pymeasure",
                spot_dose_j_cm2=checked.spot_dose_j_cm2,
                operator=self._ask_operator,
            )
            try:
                procedure.prepare(bench)
                procedure.begin(bench)
            except Aborted:
                if self._stop.is_set():  # the Worker looks for itself, and calls an exception a failure
                    return
                raise
            _check_columns(procedure, bench)
            rows = EmittedRows(procedure)
            self._loop = PointLoop(procedure, checked.plan, bench, rows, self.clock, stop=self._stop, observer=self)

    def measure(self) -> None:
        """Measure all points, or as many as there are until the Worker stops; raises what an instrument raises."""
        if self._loop is None:
            return
        try:
            with self.clock.actor():
                self._loop.run()
        except Aborted as aborted:
            if not self._stop.is_set():
                raise
            log.warning("%s", aborted)

    def leave_safe(self) -> None:
        """Bring the bench into its safe state and close it; never raises, since the Worker would then hang.

        A safe state that is not confirmed makes the run a failed one.
        """
        bench, self.bench = self.bench, None
        if bench is None:
            return
        try:
            with self.clock.actor():
                self.safe_report = bench.make_safe()
                for warning in bench.warnings:
                    log.warning("%s", warning)
                try:
                    self._write_ledger(bench)
                except LabctlError as error:
                    log.error("%s", error)
                bench.close()
        except Exception as error:
            log.exception("leaving the bench failed")
            step = RoleStep("bench", SafeStep("make safe and close", False, f"{type(error).__name__}: {error}"))
            self.safe_report = SafeReport((*self.safe_report.steps, step))
        if self.safe_report.state == "unconfirmed":
            log.error("SAFE STATE UNCONFIRMED: go to the bench and look")
            report_failed(self.procedure)

    def stage(self, stage: Stage, count: int) -> None:
        """A stage begins (Observer)."""
        log.info("%s: %d points", stage.name, count)

    def expect(self, duration_s: float) -> None:
        """Nothing: no guard waits for a sign of progress (Observer)."""

    def done(self, point: Point, record: Record, done: int) -> None:
        """A point was emitted (Observer): say how far the run is, in whole percent."""
        if self.bench is not None:
            self._write_ledger(self.bench)
        planned = self._loop.planned if self._loop is not None else done
        self.progress(100.0 * done / max(planned, done))

    def altered(self, planned: int) -> None:
        """The number of points changed (Observer); the next one tells how far the run is."""

    def noticed(self, kind: str, data: Mapping[str, Any]) -> None:
        """Something happened that is no point (Observer)."""
        log.warning("%s: %s", kind, data)

    def progress(self, percent: float) -> None:
        """Say how far the run is (Observer)."""
        if math.floor(percent) > self._percent:
            self._percent = math.floor(percent)
            emit_progress(self.procedure, percent)

    def _write_ledger(self, bench: Bench) -> None:
        self._unledgered += bench.take_light()
        write_ledger(self.prepared, f"{self.procedure.NAME} under pymeasure", self._unledgered)
        self._unledgered.clear()


class StopOfWorker(threading.Event):
    """The Worker's wish to stop, as the event that our procedures look at and wait for.

    :param should_stop: pymeasure's question.
    """

    def __init__(self, should_stop: Callable[[], bool]) -> None:
        super().__init__()
        self._should_stop = should_stop

    def is_set(self) -> bool:
        return super().is_set() or bool(self._should_stop())

    def wait(self, timeout: float | None = None) -> bool:
        """Wait in steps of 0.05 s: nobody sets the event when the Worker is told to stop."""
        steps = math.inf if timeout is None else math.ceil(timeout / _STOP_POLL_S)
        while steps > 0 and not self.is_set():
            super().wait(_STOP_POLL_S)
            steps -= 1
        return self.is_set()


class EmittedRows:
    """Stands for the journal: hands the rows of the main stream to pymeasure.

    ``point``, ``attempt``, ``t_s`` and ``wall_s`` go with every row; a procedure that wants them in the file lists them
    in its ``DATA_COLUMNS``.
    """

    def __init__(self, procedure: SweepProcedure) -> None:
        self.procedure = procedure
        self._stream = procedure.DEFAULT_PLOT.stream

    def append(
        self,
        stream: str,
        *,
        point: int,
        attempt: int,
        t_s: float,
        wall_s: float,
        row: Mapping[str, Any],
        arrays: Mapping[str, Any] | None = None,
    ) -> None:
        """Emit one row; those of other streams, and arrays, have no place in pymeasure's file."""
        if stream == self._stream:
            record = {"point": point, "attempt": attempt, "t_s": t_s, "wall_s": wall_s, **row}
            emit_row(self.procedure, {name: _plain(value) for name, value in record.items()})

    def event(self, kind: str, data: Mapping[str, Any], *, t_s: float, wall_s: float) -> None:
        """Log an event: pymeasure's file has no place for it."""
        log.debug("%s at %.3f s: %s", kind, t_s, data)

    def commit(self) -> None:
        """Nothing: pymeasure writes every row at once."""


def require_bench(procedure: SweepProcedure) -> RunsOn:
    """Get where a procedure runs; raises InputError if nobody said."""
    if procedure.runs_on is None:
        raise InputError(
            f"nobody said on which bench {procedure.NAME} runs",
            todo="set runs_on before it starts, e.g. procedure.runs_on = RunsOn('simulated')",
        )
    return procedure.runs_on


def _check_columns(procedure: SweepProcedure, bench: Bench) -> None:
    """pymeasure drops what is not in DATA_COLUMNS without a word: refuse before the first point."""
    layout = procedure.streams(bench).layouts[procedure.DEFAULT_PLOT.stream]
    missing = [column.name for column in layout.columns if column.name not in procedure.DATA_COLUMNS]
    if missing:
        raise InputError(
            f"DATA_COLUMNS of {procedure.NAME} lacks {', '.join(missing)}",
            state="nothing was measured",
            todo="list every column of the main stream there",
        )


def _plain(value: Any) -> Any:
    """pymeasure writes NumPy integers as nan, and a comma in a text would shift all columns after it."""
    if isinstance(value, np.generic):
        value = value.item()
    return value.replace(",", ";").replace("#", "no.").replace("\n", " ") if isinstance(value, str) else value
