"""The engine: owns the bench, runs the plan, writes the journal, leaves everything safe, then seals and analyses.

Run as a program by the guard: ``python -m labctl.run.engine REQUEST_FILE``. It speaks JSON lines to the guard on its
standard output (see :mod:`labctl.run.guard`) and to fronts through the endpoint.
"""

from __future__ import annotations

import json
import logging
import math
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from labctl.bench.bench import Bench
from labctl.bench.ledger import Exposure, ExposureLedger
from labctl.bench.safe import SafeReport
from labctl.clock import Clock, RealClock, VirtualClock
from labctl.errors import Aborted, ExitCode, LabctlError
from labctl.run.endpoint import Endpoint
from labctl.run.finish import finish
from labctl.run.outcome import Outcome
from labctl.run.plan import Plan, Point, Stage
from labctl.run.point_loop import PointLoop
from labctl.run.preflight import preflight, require
from labctl.run.procedure import Record, Streams
from labctl.run.provenance import provenance
from labctl.run.request import PreparedRun, RunRequest, prepare
from labctl.store.journal import Journal
from labctl.store.naming import RunPaths, allocate_run

log = logging.getLogger(__name__)

_ALIVE_EVERY_S = 0.2
_PUBLISH_EVERY_S = 0.1
_EXPECT_WITHIN_S = 0.1
_OPENING_S = 180.0
_SAFE_STATE_S = 60.0
_FINISHING_S = 900.0


class GuardLine:
    """What the engine tells the guard: one JSON line each on standard output, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._broken = threading.Event()
        self._clock = RealClock()
        self._progress_by_s = -math.inf

    @property
    def broken(self) -> bool:
        """Get whether the guard is gone."""
        return self._broken.is_set()

    def say(self, kind: str, **data: Any) -> None:
        """Write one message; a guard that is gone is remembered, not raised."""
        with self._lock:
            try:
                sys.stdout.write(json.dumps({"m": kind, **data}) + "\n")
                sys.stdout.flush()
            except (OSError, ValueError):
                self._broken.set()

    def expect(self, duration_s: float) -> None:
        """Declare that progress comes within ``duration_s``; for the run's own thread.

        Thousands of points per second would flood the guard, so a deadline that moves by less than 0.1 s is not sent.
        """
        progress_by_s = self._clock.now() + duration_s
        if abs(progress_by_s - self._progress_by_s) >= _EXPECT_WITHIN_S:
            self._progress_by_s = progress_by_s
            self.say("expect", s=duration_s)

    def quiet(self, duration_s: float) -> None:
        """Declare that neither a sign of life nor progress need come for ``duration_s``."""
        self._progress_by_s = -math.inf
        self.say("quiet", s=duration_s)


class Engine:
    """One run from request to report.

    :param prepared: The request, read and checked.
    :param guard: Line to the guard.
    """

    def __init__(self, prepared: PreparedRun, guard: GuardLine) -> None:
        self.prepared = prepared
        self.guard = guard
        self.stop = threading.Event()
        self.clock: Clock = VirtualClock() if prepared.request.virtual_time else RealClock()
        self._real = RealClock()
        self._stop_reason = ""
        self._last_publish_s = -math.inf
        self._progress: dict[str, Any] = {"phase": "opening", "done": 0, "planned": 0}
        self._endpoint = Endpoint(
            {"abort": self._on_abort, "status": self._on_status, "note": self._on_note},
            lambda: self.abort("the front that started the run is gone"),
        )
        self._journal: Journal | None = None
        self._ended = threading.Event()

    def abort(self, reason: str) -> None:
        """End the run after the present exposure and make the bench safe."""
        if not self.stop.is_set():
            self._stop_reason = reason
            log.warning("abort: %s", reason)
            self.stop.set()

    def run(self) -> Outcome:
        """Carry the run out; returns what came of it, whatever happened."""
        heartbeat = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        heartbeat.start()
        try:
            with self.clock.actor():
                return self._run()
        finally:
            self._ended.set()
            heartbeat.join(timeout=2.0)
            self._endpoint.close()

    def _run(self) -> Outcome:
        outcome = Outcome(simulated=False)
        self.guard.quiet(_OPENING_S)
        checked = preflight(self.prepared)
        require(checked)
        outcome.warnings.extend(checked.warnings)
        paths = self._allocate()
        outcome.run = str(paths.sealed)
        simulated = self.prepared.bench.laboratory is not None or self.prepared.bench.is_simulated
        outcome.simulated = simulated
        bounds = {stage.name: stage.max_points for stage in checked.plan.stages}
        self.guard.say(
            "started", run=str(paths.sealed), endpoint=self._endpoint.address, simulated=simulated, max_points=bounds
        )
        with Journal.create(
            paths.journal, self._header(paths, checked.plan), group_commit_s=self.prepared.procedure.GROUP_COMMIT_S
        ) as journal:
            self._journal = journal
            status, error = self._measure(journal, checked.plan, outcome)
            outcome.status = status
            outcome.error = error.as_dict() if error is not None else None
            outcome.exit_code = _exit_code(status, error, outcome.safe_state)
            self._journal = None
        self._publish_now("phase", phase="sealing and analysis")
        self.guard.quiet(_FINISHING_S)
        finish(paths, self.prepared, outcome)
        return outcome

    def _allocate(self) -> RunPaths:
        sample = self.prepared.sample.sample.name if self.prepared.sample else "no-sample"
        date = datetime.fromtimestamp(self._real.wall()).date()
        return allocate_run(Path(self.prepared.request.out).absolute(), self.prepared.procedure.NAME, sample, date)

    def _measure(self, journal: Journal, plan: Plan, outcome: Outcome) -> tuple[str, LabctlError | None]:
        """Open the bench, run the plan, and leave the bench safe; returns status and error."""
        started_s = self.clock.now()
        bench: Bench | None = None
        error: LabctlError | None = None
        status = "finished"
        try:
            self.guard.say("instruments", open=True)
            bench = self._open_bench()
            self._journal_bench(journal, bench, started_s)
            self._measure_points(bench, journal, plan, outcome)
        except Aborted as aborted:
            status, error = "aborted", aborted
            aborted.where = aborted.where or self._stop_reason
        except LabctlError as failure:
            status, error = "failed", failure
        except Exception as failure:
            log.exception("the run failed")
            status = "failed"
            error = LabctlError(
                f"{type(failure).__name__}: {failure}",
                where=f"{self._progress.get('phase')}, point {self._progress.get('done')}",
                todo="this is a fault in labctl or in the procedure; the log has the details",
            )
        finally:
            report = self._leave_safe(bench)
            outcome.safe_state, outcome.safe_report = report.state, report.as_dict()
        if error is not None:
            error.state = f"safe state {report.state}; {outcome.points['done']} points stored"
        self._record_end(journal, started_s, status, error, report, outcome)
        return status, error

    def _open_bench(self) -> Bench:
        request = self.prepared.request
        bench = Bench.open(
            self.prepared.bench,
            self.clock,
            roles=self.prepared.procedure.ROLES,
            sample=self.prepared.sample,
            seed=request.seed,
            owner=f"{self.prepared.procedure.NAME} in {request.out}",
        )
        return bench

    def _measure_points(self, bench: Bench, journal: Journal, plan: Plan, outcome: Outcome) -> None:
        procedure = self.prepared.procedure
        self._publish_now("phase", phase="preparing")
        self.expect(plan.start_up_s * 4 + _OPENING_S)
        procedure.stop_event = self.stop
        procedure.prepare(bench)
        streams = procedure.streams(bench)
        self._declare(journal, streams)
        loop = PointLoop(procedure, plan, bench, journal, self.clock, stop=self.stop, observer=self)
        try:
            loop.run()
        finally:
            outcome.points = {"done": loop.done, "planned": loop.planned}
            self._write_ledger(bench, journal)

    def _leave_safe(self, bench: Bench | None) -> SafeReport:
        self.guard.quiet(_SAFE_STATE_S)
        self._publish_now("phase", phase="making safe")
        if bench is None:
            self.guard.say("instruments", open=False)
            return SafeReport(())
        report = bench.make_safe()
        bench.close()
        self.guard.say("instruments", open=False)
        return report

    def _record_end(
        self,
        journal: Journal,
        started_s: float,
        status: str,
        error: LabctlError | None,
        report: SafeReport,
        outcome: Outcome,
    ) -> None:
        """Write safe state and status into the journal; a disk that is full must not hide what happened."""
        times = {"t_s": self.clock.now() - started_s, "wall_s": self.clock.wall()}
        try:
            journal.event("safe_state", report.as_dict(), **times)
            if error is not None:
                journal.event("incident", {"error": error.as_dict(), "reason": self._stop_reason}, **times)
            journal.set_status(status, **times)
        except LabctlError as failure:
            log.error("the end of the run could not be recorded: %s", failure)
            outcome.warnings.append(f"the end of the run could not be recorded: {failure.what}")

    def _header(self, paths: RunPaths, plan: Plan) -> dict[str, Any]:
        prepared = self.prepared
        files = {"bench": prepared.bench.text, "sample": prepared.sample.text if prepared.sample else ""}
        calibration = prepared.bench.attenuator_calibration
        calibrations = {"attenuator": calibration.text} if calibration else {}
        plot = prepared.procedure.DEFAULT_PLOT
        return {
            "run": paths.sealed.stem,
            "procedure": prepared.procedure.NAME,
            "parameters": {name: _plain(value) for name, value in prepared.procedure.parameter_values().items()},
            "bench": {"name": prepared.bench.name, "file": prepared.bench.file},
            "sample": _sample_header(prepared),
            "request": prepared.request.model_dump(),
            "plan": plan.as_dict(),
            "provenance": provenance(files, calibrations, prepared.request.seed),
            "simulated": prepared.bench.laboratory is not None or prepared.bench.is_simulated,
            "seed": prepared.request.seed,
            "default_stream": plot.stream,
            "x": plot.x,
            "signal": plot.signal,
            "spectra": plot.spectra,
            "started": datetime.fromtimestamp(self._real.wall(), UTC).isoformat(),
        }

    def _journal_bench(self, journal: Journal, bench: Bench, started_s: float) -> None:
        identities = {role: asdict(identity) for role, identity in bench.identities.items()}
        instruments = {
            role: {
                "driver": self.prepared.bench.instruments[role].driver,
                "resource": self.prepared.bench.instruments[role].resource,
                **identity,
            }
            for role, identity in identities.items()
        }
        journal.event("instruments", instruments, t_s=self.clock.now() - started_s, wall_s=self.clock.wall())

    def _declare(self, journal: Journal, streams: Streams) -> None:
        for name, layout in streams.layouts.items():
            journal.add_stream(name, layout)
        for name, (values, unit) in streams.axes.items():
            journal.set_axis(name, values, unit)

    def _write_ledger(self, bench: Bench, journal: Journal) -> None:
        exposures = [
            Exposure(
                sample=self.prepared.sample.sample.name if self.prepared.sample else "no-sample",
                spot=self.prepared.request.spot,
                run=Path(journal.path).stem,
                wall_s=light.wall_s,
                open_s=light.open_s,
                pulses=light.pulses,
                fluence_uj_cm2=light.fluence_uj_cm2,
                simulated=bench.simulated,
            )
            for light in self.prepared.procedure.light
        ]
        ExposureLedger(Path(self.prepared.request.out)).write(exposures)

    def stage(self, stage: Stage, points: Sequence[Point]) -> None:
        """A stage begins (Observer)."""
        self._progress["phase"] = stage.name
        self._publish_now("stage", name=stage.name, points=len(points))

    def expect(self, duration_s: float) -> None:
        """Declare to the guard when the next sign of progress will come at the latest (Observer)."""
        self.guard.expect(duration_s)
        if self.guard.broken:
            self.abort("the guard is gone")

    def done(self, point: Point, record: Record, done: int) -> None:
        """A point was stored (Observer)."""
        self._progress["done"] = done
        now = self._real.now()
        if now - self._last_publish_s < _PUBLISH_EVERY_S:
            return
        self._last_publish_s = now
        self._progress["elapsed_s"] = self.clock.now()
        self.guard.say("points", points={"done": done, "planned": self._progress["planned"]})
        row = {name: value for name, value in record.row.items() if isinstance(value, int | float | str)}
        self._endpoint.publish({"event": "point", **self._progress, "index": point.index, "row": _finite(row)})

    def _publish_now(self, kind: str, **data: Any) -> None:
        if kind in {"phase", "stage"}:
            self._progress["phase"] = data.get("phase") or data.get("name")
        self._endpoint.publish({"event": kind, **self._progress, **data})

    def _beat(self) -> None:
        """Tell the guard that the interpreter is alive; owned by :meth:`run`, ends with it."""
        while not self._ended.wait(_ALIVE_EVERY_S):
            self.guard.say("alive")
            if self.guard.broken:
                self.abort("the guard is gone")

    def _on_abort(self, message: dict[str, Any]) -> dict[str, Any]:
        self.abort(str(message.get("reason", "a front asked for it")))
        return {"aborting": True}

    def _on_status(self, message: dict[str, Any]) -> dict[str, Any]:
        return dict(self._progress)

    def _on_note(self, message: dict[str, Any]) -> dict[str, Any]:
        journal, text = self._journal, str(message.get("text", ""))
        if journal is None or not text:
            return {"error": "no run is being recorded, or the note is empty"}
        journal.event("note", {"text": text}, t_s=self.clock.now(), wall_s=self._real.wall())
        return {"noted": True}


def _sample_header(prepared: PreparedRun) -> dict[str, Any]:
    if prepared.sample is None:
        return {}
    return {"spot": prepared.request.spot, **prepared.sample.sample.model_dump(mode="json")}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN: leave such values out."""
    return {name: value for name, value in row.items() if not isinstance(value, float) or math.isfinite(value)}


def _exit_code(status: str, error: LabctlError | None, safe_state: str) -> int:
    if safe_state == "unconfirmed":
        return int(ExitCode.UNSAFE)
    if status == "finished":
        return int(ExitCode.FINISHED)
    if status == "aborted":
        return int(ExitCode.ABORTED)
    return int(ExitCode.FAILED)


def main(request_file: str) -> int:
    """Run one request; returns the exit code."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    guard = GuardLine()
    guard.quiet(_OPENING_S)
    try:
        request = RunRequest.model_validate_json(Path(request_file).read_text(encoding="utf-8"))
        engine = Engine(prepare(request), guard)
        for name in ("SIGTERM", "SIGINT", "SIGHUP"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), lambda number, _: engine.abort(signal.Signals(number).name))
        outcome = engine.run()
    except LabctlError as error:
        outcome = Outcome(simulated=False, status="refused", error=error.as_dict(), exit_code=int(error.exit_code))
    guard.say("final", exit=outcome.exit_code, report=outcome.as_dict())
    return outcome.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
