"""The engine: owns the bench, runs the plan, writes the journal, leaves everything safe, then seals and analyses.

Run as a program by the guard: ``python -m labctl.run.engine REQUEST_FILE``. It speaks JSON lines to the guard on its
standard output (see :mod:`labctl.run.guard`) and to fronts through the endpoint.
"""

from __future__ import annotations

import logging
import math
import signal
import sys
import threading
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from labctl.bench.bench import Bench, bench_locks
from labctl.bench.recovery import Recovery
from labctl.bench.safe import SafeReport
from labctl.clock import Clock, RealClock, VirtualClock, machine_time
from labctl.errors import NOTHING_MOVED, Aborted, BenchOpenError, InputError, LabctlError, LeftIdle, StorageError
from labctl.job_object import bind_children
from labctl.processes import end_signals
from labctl.run.awake import keep_awake
from labctl.run.conduct import Conduct
from labctl.run.earlier import CLOCK, Earlier
from labctl.run.ending import exit_code, fault, refused, without_the_unreached
from labctl.run.endpoint import Endpoint
from labctl.run.extension import reason_against
from labctl.run.finish import finish
from labctl.run.guard_line import GuardLine, take_standard_output
from labctl.run.learned import past_runs
from labctl.run.light import EVENT as LIGHT
from labctl.run.light import RunLight, settle_dead_run
from labctl.run.operator import PATIENCE_S, OperatorDesk
from labctl.run.outcome import Outcome
from labctl.run.plan import Plan, Point, Stage
from labctl.run.preflight import Preflight, preflight, require
from labctl.run.procedure import Record, Streams
from labctl.run.provenance import instruments, resumption, run_header, watched
from labctl.run.request import PreparedRun, RunRequest, prepare
from labctl.run.safe_program import bench_message, safety_roles
from labctl.run.steering import Steering, read_alteration
from labctl.run.time_left import paced_stages
from labctl.store.journal import Journal
from labctl.store.naming import RunPaths, allocate_run, paths_of
from labctl.store.notices import in_words, warnings_of
from labctl.store.reserve import LAST_WORDS_BYTES, used_bytes
from labctl.store.results import add_note
from labctl.store.run import REFERENCE_STREAM

log = logging.getLogger(__name__)

_ALIVE_EVERY_S = 0.2
_PUBLISH_EVERY_S = 0.1
_LEDGER_EVERY_S = 10.0
"""What falls between two entries is in the journal: a run that dies does not hide it."""
_OPENING_S = 180.0
_SAFE_STATE_S = 60.0
_STORE_S = 30.0
_FRONT_S = 10.0
_STANDBY_S = 60.0
_FINISHING_S = 900.0
_FRESH_SAMPLE = (
    "the emulators of the earlier part ended with it: the simulated sample is a fresh one since, so that points before"
    " and after are not of one sample; `labctl sim serve` keeps one"
)


class Engine:
    """One run from request to report.

    :param prepared: The request, read and checked.
    :param guard: Line to the guard.
    :param await_front: Whether a front that holds a lease must have come before instruments are opened.
    """

    def __init__(self, prepared: PreparedRun, guard: GuardLine, *, await_front: bool = False) -> None:
        self.prepared = prepared
        self.guard = guard
        self.stop = threading.Event()
        self.clock = _clock_of(prepared)
        self._real = RealClock()
        self._began_s = self.clock.now()
        self._await_front = await_front and prepared.request.lease
        self._signalled = ""
        self._stop_reason = ""
        self._last_publish_s = -math.inf
        self._last_ledger_s = -math.inf
        self._light: RunLight | None = None
        self._space_bytes = 0
        self._noticed: list[tuple[str, Mapping[str, Any]]] = []
        self._spot_dose_j_cm2 = 0.0
        self._progress: dict[str, Any] = {"phase": "opening", "done": 0, "planned": 0}
        self._expected_s = _OPENING_S
        self.steering = Steering()
        self._desk = OperatorDesk(lambda event: self._endpoint.publish(event), self._record_operator, self.stop)
        self._endpoint = Endpoint(
            {
                "abort": self._on_abort,
                "answer": self._desk.on_answer,
                "note": self._on_note,
                "status": self._on_status,
                "pause": self._on_pause,
                "continue": self._on_continue,
                "alter": self._on_alter,
            },
            lambda: self.abort("the front that started the run is gone"),
        )
        self._journal: Journal | None = None
        self._bench: Bench | None = None
        known = paths_of(prepared.earlier.journal) if prepared.earlier is not None else None
        self._locks = bench_locks(prepared.bench, prepared.procedure.roles_on(prepared.bench), _owner(prepared, known))
        self._ended = threading.Event()

    def abort(self, reason: str) -> None:
        """End the run at the next moment it can stop, and make the bench safe; from any thread."""
        if self.stop.is_set():
            return
        self._stop_reason = reason
        log.warning("abort: %s", reason)
        self.stop.set()
        # An instrument that hangs must hold up neither a front nor the heartbeat; ends with the call, or the process.
        threading.Thread(target=self._stop_exposure, name="stop exposure", daemon=True).start()

    def on_signal(self, number: int, _frame: object) -> None:
        """Remember a signal; the heartbeat acts on it, because a handler must not wait for locks."""
        self._signalled = signal.Signals(number).name

    def run(self) -> Outcome:
        """Carry the run out; returns what came of it. Raises LabctlError if it is refused before anything moves."""
        heartbeat = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        heartbeat.start()
        try:
            with self.clock.actor():
                outcome = self._run()
            self._endpoint.publish({"event": "final", "exit": outcome.exit_code, "report": outcome.as_dict()})
            return outcome
        finally:
            self._ended.set()
            heartbeat.join(timeout=2.0)
            self._endpoint.close()

    def _run(self) -> Outcome:
        self.guard.quiet(_OPENING_S)
        standby = bool(safety_roles(self.prepared.bench))
        self.guard.say("bench", **bench_message(self.prepared))
        self.guard.say("instruments", open=False, standby=standby)
        checked = preflight(self.prepared)
        require(checked)
        # Whoever finds the bench in use leaves nothing behind: neither a number nor an entry in a journal.
        self._locks.acquire()
        try:
            return self._run_locked(checked)
        finally:
            self._locks.release()

    def _run_locked(self, checked: Preflight) -> Outcome:
        earlier = self.prepared.earlier
        plan = checked.plan if earlier is None else earlier.plan
        self._spot_dose_j_cm2 = checked.spot_dose_j_cm2
        paths = self._allocate() if earlier is None else paths_of(earlier.journal)
        self._locks.name_owner(_owner(self.prepared, paths))
        outcome = Outcome(self.prepared.simulated, run=str(paths.sealed))
        outcome.points = {"done": earlier.points if earlier is not None else 0, "planned": plan.max_points}
        outcome.warnings.extend(checked.warnings)
        self._progress |= outcome.points
        self._space_bytes = int(checked.disk_need_mb * 1e6)
        self.steering.know(plan)
        journal = self._open_journal(paths, plan, earlier)
        self._journal = journal
        if earlier is not None:
            outcome.warnings.extend(settle_dead_run(paths.sealed))
            if self.prepared.bench.is_in_process:
                outcome.warnings.append(_FRESH_SAMPLE)
        self._light = RunLight(self.prepared, paths.sealed, partial(self._record_light, journal))
        self._say_started(outcome, plan)
        self.guard.say("points", points=outcome.points)
        try:
            self._measure(journal, plan, outcome)
        finally:
            self._journal = None
            _close(journal, outcome)
        if outcome.status == "waiting":
            # A file that grows with each visit is sealed once, after the last.
            outcome.run = str(paths.journal)
            return outcome
        self._publish_now("phase", phase="sealing and analysis")
        self.guard.quiet(_FINISHING_S)
        finish(paths, self.prepared, outcome)
        return outcome

    def _allocate(self) -> RunPaths:
        sample = self.prepared.sample.sample.name if self.prepared.sample else "no-sample"
        date = datetime.fromtimestamp(self._real.wall()).date()
        return allocate_run(Path(self.prepared.request.out).absolute(), self.prepared.procedure.NAME, sample, date)

    def _open_journal(self, paths: RunPaths, plan: Plan, earlier: Earlier | None) -> Journal:
        """Begin a journal, or take up that of the run that is resumed."""
        group_commit_s = self.prepared.procedure.GROUP_COMMIT_S
        self._began_s = self.clock.now() - (earlier.resumes_at_s(self.clock) if earlier is not None else 0.0)
        if earlier is None:
            header = run_header(paths.sealed.stem, self.prepared, plan, self._real.wall())
            return Journal.create(paths.journal, header, group_commit_s=group_commit_s, reserve_bytes=self._space_bytes)
        journal = Journal.open(paths.journal, group_commit_s=group_commit_s, reserve_bytes=self._space_bytes)
        journal.set_status("running", **self._times(), resumed=True)
        journal.event("resumed", resumption(earlier, self.prepared, self.clock), **self._times())
        return journal

    def _say_started(self, outcome: Outcome, plan: Plan) -> None:
        stages, start_up_s = paced_stages(plan, past_runs(self.prepared, plan))
        started = {
            "run": outcome.run,
            "simulated": outcome.simulated,
            "virtual_time": self.clock.virtual,
            "stages": stages,
            "start_up_s": start_up_s,
        }
        self.guard.say("started", endpoint=self._endpoint.address, **started)
        self._publish_now("started", **started)

    def _measure(self, journal: Journal, plan: Plan, outcome: Outcome) -> None:
        """Open the bench, run the plan, and leave the bench safe; whatever happens is written into the outcome."""
        error: LabctlError | None = None
        outcome.status = "finished"
        try:
            self._record_clock(journal)
            journal.event("endpoint", {"address": self._endpoint.address}, **self._times())
            self._wait_for_front()
            self._wait_for_standby()
            bench = self._open_bench(journal)
            self._measure_points(bench, journal, plan, outcome)
        except LeftIdle as idle:
            outcome.status = "waiting"
            outcome.next_due_in_s, outcome.next_due_wall_s = idle.due_in_s, self.clock.wall() + idle.due_in_s
        except Aborted as aborted:
            outcome.status, error = "aborted", aborted
            aborted.where = "; ".join(part for part in (aborted.where, f"reason: {self._stop_reason}") if part)
        except LabctlError as failure:
            outcome.status, error = "failed", failure
            if failure.state == NOTHING_MOVED and self._bench is not None:
                failure.state = ""  # true of the value that was refused, not of the run
        except (Exception, SystemExit, KeyboardInterrupt) as failure:
            log.exception("the run failed")
            outcome.status, error = "failed", fault(failure, self._progress)
        finally:
            self._leave_safe(outcome, error)
        if error is not None:
            error.state = error.state or f"safe state {outcome.safe_state}; {outcome.points['done']} points stored"
            outcome.error = error.as_dict()
        outcome.exit_code = exit_code(outcome, error)
        self._record_end(journal, outcome)

    def _record_clock(self, journal: Journal) -> None:
        """Write down the start of the run by a clock that nobody sets, for the part that may go on after this one."""
        machine = None if self.clock.virtual else machine_time()
        if machine is not None:
            times = self._times()
            journal.event(CLOCK, {"boot": machine.boot, "start_s": machine.now_s - times["t_s"]}, **times)

    def _times(self) -> dict[str, float]:
        return {"t_s": self.clock.now() - self._began_s, "wall_s": self.clock.wall()}

    def _wait_for_front(self) -> None:
        """A run that a front holds by a lease does not begin before that front is there to end it."""
        if self._await_front and not self._real.wait(self._endpoint.leased, _FRONT_S):
            self.abort("the front that started the run never came")
            raise Aborted("the run was not begun", state="nothing was moved")

    def _wait_for_standby(self) -> None:
        """Nothing is opened before somebody is ready to close it, should this process die."""
        if not self.guard.has_guard or not safety_roles(self.prepared.bench):
            return
        if not self._real.wait(self.guard.standby_answered, _STANDBY_S):
            raise LabctlError(
                f"the safe-state program was not ready within {_STANDBY_S:.0f} s",
                where="guard",
                state="nothing was moved",
                todo="see what keeps this computer so busy; try again",
            )
        if self.guard.unready:
            raise InputError(
                "nobody would make the bench safe if this process died: the safe-state program cannot stand by: "
                f"{self.guard.unready}",
                where="guard",
                todo="mend what is named here; nothing is opened before",
            )

    def _open_bench(self, journal: Journal) -> Bench:
        request, roles = self.prepared.request, self.prepared.procedure.roles_on(self.prepared.bench)
        self.guard.say("instruments", open=True, standby=bool(safety_roles(self.prepared.bench)))
        self._bench = bench = Bench.open(
            self.prepared.bench,
            self.clock,
            roles=roles,
            sample=self.prepared.sample,
            seed=request.seed,
            locks=self._locks,
            spot_dose_j_cm2=self._spot_dose_j_cm2,
            operator=self._ask_operator,
            record_by_hand=self._record_operator,
            on_light=self._light.announce if self._light is not None else None,
            folder=Path(request.out),
            run_is_alive=self.guard.in_time,
        )
        journal.event("instruments", instruments(bench), **self._times())
        return bench

    def _measure_points(self, bench: Bench, journal: Journal, plan: Plan, outcome: Outcome) -> None:
        procedure = self.prepared.procedure
        self._publish_now("phase", phase="preparing")
        self.expect(plan.start_up_s * 4 + _OPENING_S)
        procedure.stop_event = self.stop
        procedure.prepare(bench)
        procedure.begin(bench)
        self._declare(journal, procedure.streams(bench))
        journal.event("watch", watched(bench), **self._times())
        conduct = self._conduct(bench)
        loop = procedure.make_loop(plan, bench, journal, self.clock, stop=self.stop, observer=self, conduct=conduct)
        try:
            loop.run()
        finally:
            outcome.points = {"done": loop.done, "planned": loop.planned}
            outcome.warnings.extend(warnings_of(self._noticed))

    def _conduct(self, bench: Bench) -> Conduct:
        procedure, asked = self.prepared.procedure, self.prepared.request.on_failure
        return Conduct(
            policy=asked or procedure.FAILURES,
            overrides=asked is not None,
            keeper=Recovery(bench),
            set_up=lambda: procedure.prepare(bench),
            interlocks=None if bench.watch.is_idle else bench.watch,
            steering=self.steering,
            earlier=self.prepared.earlier,
            began_s=self._began_s,
            leave_if_idle_s=self.prepared.request.leave_if_idle_s,
            against_more=lambda stage, count: reason_against(self.prepared, bench, stage, count),
        )

    def _leave_safe(self, outcome: Outcome, error: LabctlError | None) -> None:
        """Make safe what is open, read it back, close it."""
        self.guard.expect(_SAFE_STATE_S)
        self._publish_now("phase", phase="making safe")
        bench, self._bench = self._bench, None
        report = SafeReport(())
        if bench is not None:
            report = bench.make_safe()
            self._account(bench, report, outcome)
            self.guard.expect(bench.closing_s)
            bench.close()
        elif isinstance(error, BenchOpenError) and error.safe_report is not None:
            report = error.safe_report
        report = SafeReport((*report.steps, *self.prepared.procedure.safe_steps))
        if isinstance(error, BenchOpenError):
            report = without_the_unreached(report, error)
            error.state = ""
        outcome.safe_state, outcome.safe_report = report.state, report.as_dict()
        outcome.warnings.extend(report.unheard)
        self.guard.say("instruments", open=False, standby=False, safe_state=outcome.safe_state)

    def _account(self, bench: Bench, report: SafeReport, outcome: Outcome) -> None:
        """Enter the light of all points, also of one that failed, and what the bench has to say of it."""
        outcome.warnings.extend(bench.warnings)
        try:
            if self._light is not None:
                self._light.end(bench.take_light(), report)
        except LabctlError as error:
            outcome.warnings.append(f"{error.what}; {error.state}")

    def _record_end(self, journal: Journal, outcome: Outcome) -> None:
        """Write safe state and status into the journal; a disk that is full must not hide what happened."""
        times = self._times()
        try:
            journal.event("safe_state", {**outcome.safe_report, "state": outcome.safe_state}, **times)
            if outcome.error is not None:
                journal.event("incident", {"error": outcome.error, "reason": self._stop_reason}, **times)
            journal.set_status(outcome.status, **times)
        except LabctlError as failure:
            log.error("the end of the run could not be recorded: %s", failure)
            outcome.warnings.append(f"the end of the run could not be recorded: {failure.what}")

    def _declare(self, journal: Journal, streams: Streams) -> None:
        for name, layout in streams.layouts.items():
            journal.add_stream(name, layout)
        main = streams.layouts.get(self.prepared.procedure.DEFAULT_PLOT.stream)
        if self.prepared.earlier is not None and main is not None:
            journal.add_stream(REFERENCE_STREAM, main)
        for name, (values, unit) in streams.axes.items():
            journal.set_axis(name, values, unit)

    def _record_light(self, journal: Journal, data: Mapping[str, Any], wall_s: float) -> None:
        """Write down light on the sample before it comes; a disk that hangs must not take the time of a point."""
        self.guard.expect(_STORE_S)
        journal.event(LIGHT, data, t_s=self._times()["t_s"], wall_s=wall_s)
        self.guard.expect(self._expected_s)

    def _write_ledger(self, bench: Bench) -> None:
        """Write down the light that the sample has received since the last time; give back space that is used now.

        What the ledger does not take now it is offered again: the journal has it, and the bench holds the limit.
        """
        if self._light is not None:
            try:
                self._light.write(bench.take_light())
            except StorageError as error:
                log.warning("the exposure ledger waits: %s", error.what)
        journal = self._journal
        if journal is not None:
            journal.reserve.shrink_to(max(self._space_bytes - used_bytes(journal.path), LAST_WORDS_BYTES))
        self._last_ledger_s = self._real.now()

    def stage(self, stage: Stage, count: int) -> None:
        """A stage begins (Observer)."""
        self._progress["planned"] -= stage.max_points - count
        self._publish_now("stage", phase=stage.name, points=count)

    def expect(self, duration_s: float) -> None:
        """Declare to the guard when the next sign of progress will come at the latest (Observer)."""
        self._expected_s = duration_s
        self.guard.expect(duration_s)

    def _ask_operator(self, text: str, wants: str = "") -> str:
        """Have something done by hand; the guard gives the operator time, and afterwards the point its own again."""
        self.guard.expect(PATIENCE_S + self._expected_s)
        said = self._desk.ask(text, wants)
        self.guard.expect(self._expected_s)
        return said

    def _record_operator(self, entry: Mapping[str, Any]) -> None:
        if self._journal is not None:
            self._journal.event("operator", dict(entry), **self._times())

    def altered(self, planned: int) -> None:
        """The run has another number of points from now on (Observer)."""
        self._progress["planned"] = planned
        self._publish_now("altered", planned=planned)

    def noticed(self, kind: str, data: Mapping[str, Any]) -> None:
        """Something happened that is no point (Observer): the fronts are told, and the outcome says so."""
        self._noticed.append((kind, data))
        self._progress["paused"] = kind == "paused" or (self._progress.get("paused", False) and kind != "continued")
        self._publish_now("noticed", notice=kind, data=dict(data), text=in_words(kind, data))

    def progress(self, percent: float) -> None:
        """A procedure that counts for itself says how far it is, in percent (Observer); goes with the next event."""
        self._progress["percent"] = percent

    def done(self, point: Point, record: Record, done: int) -> None:
        """A point was stored (Observer)."""
        self._progress["done"] = done
        now = self._real.now()
        if self._bench is not None and now - self._last_ledger_s >= _LEDGER_EVERY_S:
            self._write_ledger(self._bench)
        if now - self._last_publish_s < _PUBLISH_EVERY_S:
            return
        self._last_publish_s = now
        self.guard.say("points", points={"done": done, "planned": self._progress["planned"]})
        row = {name: value for name, value in record.row.items() if isinstance(value, int | float | str)}
        self._endpoint.publish({"event": "point", **self._progress, "index": point.index, "row": _finite(row)})

    def _publish_now(self, kind: str, **data: Any) -> None:
        self._progress["phase"] = data.get("phase", self._progress["phase"])
        self._endpoint.publish({"event": kind, **self._progress, **data})

    def _beat(self) -> None:
        """Tell the guard that the interpreter is alive; owned by :meth:`run`, ends with it."""
        while not self._ended.wait(_ALIVE_EVERY_S):
            self.guard.say("alive")
            if self.guard.broken:
                self.abort("the guard is gone")
            if self.guard.told_to_end:
                self.abort(self.guard.told_to_end)
            if self._signalled:
                self.abort(self._signalled)

    def _stop_exposure(self) -> None:
        """Cut a long exposure short; whoever waits for it then sees that the run is to stop."""
        bench = self._bench
        detector: Any = bench.instruments.get("detector") if bench is not None else None
        if detector is not None:
            try:
                detector.abort()
            except LabctlError as error:
                log.warning("the exposure could not be stopped: %s", error)

    def _on_abort(self, message: dict[str, Any]) -> dict[str, Any]:
        self.abort(str(message.get("reason", "a front asked for it")))
        return {"aborting": True}

    def _on_status(self, message: dict[str, Any]) -> dict[str, Any]:
        pausing = bool(self.steering.pause_reason)
        return {**self._progress, "aborting": self.stop.is_set(), "question": self._desk.question, "pausing": pausing}

    def _on_pause(self, message: dict[str, Any]) -> dict[str, Any]:
        self._require_steerable()
        self.steering.pause(str(message.get("reason", "")))
        return {"pausing": "after the present point"}

    def _on_continue(self, message: dict[str, Any]) -> dict[str, Any]:
        self.steering.go_on()
        return {"continuing": True}

    def _on_alter(self, message: dict[str, Any]) -> dict[str, Any]:
        self._require_steerable()
        self.steering.alter(read_alteration(message.get("alteration") or {}))
        return {"altering": "after the present point"}

    def _require_steerable(self) -> None:
        if self.prepared.procedure.OWN_INSTRUMENTS:
            raise InputError(
                f"{self.prepared.procedure.NAME} takes its points by itself: it can be aborted, not steered",
                state="the run goes on as it was",
            )

    def _on_note(self, message: dict[str, Any]) -> dict[str, Any]:
        journal = self._journal
        if journal is None:
            return {"error": "the run is being sealed; add the note with `labctl note` when that is done"}
        add_note(journal.path, str(message.get("text", "")))
        return {"noted": True}


def _clock_of(prepared: PreparedRun) -> Clock:
    """Get the clock of a run. A virtual one goes on where the run, or the campaign that it belongs to, has got to."""
    request, earlier, wall_s = prepared.request, prepared.earlier, RealClock().wall()
    if not request.virtual_time:
        return RealClock()
    if request.virtual_start_s is not None:
        return VirtualClock(request.virtual_start_s, request.virtual_wall_s or wall_s)
    if earlier is not None:
        return VirtualClock(earlier.last_s, max(earlier.last_wall_s, wall_s))
    return VirtualClock()


def _owner(prepared: PreparedRun, paths: RunPaths | None) -> str:
    """Say to the next who wants the instruments who has them."""
    return (
        f"the run {paths.sealed.with_suffix('')}" if paths else f"{prepared.procedure.NAME} in {prepared.request.out}"
    )


def _close(journal: Journal, outcome: Outcome) -> None:
    try:
        journal.close()
    except StorageError as error:
        log.error("closing the journal: %s", error)
        outcome.warnings.append(f"the journal could not be closed in order: {error.what}")


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN: leave such values out."""
    return {name: value for name, value in row.items() if not isinstance(value, float) or math.isfinite(value)}


def main(request_file: str) -> int:
    """Run one request; returns the exit code."""
    guard = GuardLine(take_standard_output())
    guard.listen()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    guard.quiet(_OPENING_S)
    if unbound := bind_children():
        log.warning("children of the engine may outlive it: %s", unbound)
    try:
        request = RunRequest.model_validate_json(Path(request_file).read_text(encoding="utf-8"))
        engine = Engine(prepare(request), guard, await_front=True)
        for number in end_signals():
            signal.signal(number, engine.on_signal)
        with keep_awake():
            outcome = engine.run()
    except LabctlError as error:
        outcome = refused(error)
    guard.say("final", exit=outcome.exit_code, report=outcome.as_dict())
    return outcome.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
