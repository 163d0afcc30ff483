"""A campaign at work: takes up what was left, runs what comes next, tries again, waits, decides after a failure."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from labctl.config.bench import load_bench
from labctl.config.campaign import CampaignConfig
from labctl.config.times import zone_of
from labctl.errors import ExitCode, LabctlError
from labctl.run.campaign_report import write_campaign_report
from labctl.run.dependencies import Resolved, Unusable, fall_back, parameter_of, resolve
from labctl.run.kept_laboratory import KeptLaboratories
from labctl.run.left_runs import LeftRuns, last_wall_s
from labctl.run.preflight import preflight
from labctl.run.queue_clock import QueueClock
from labctl.run.queue_history import RunState
from labctl.run.queue_order import QueueOrder, Step
from labctl.run.queue_state import QueueState
from labctl.run.queue_watch import QueueWatch
from labctl.run.queued_runs import QueuedRun
from labctl.run.quiet_hours import QuietHours
from labctl.run.request import RunRequest, prepare
from labctl.run.stored_request import request_to_resume

_IDLE_TURNS = 3
"""So often a run may say that it waits for its next point while that is due, and have measured nothing."""

Event = dict[str, Any]
Ended = tuple[str, ExitCode]


class Runner(Protocol):
    """Runs one run of the queue to its end."""

    def __call__(self, run: QueuedRun, request: RunRequest, on_event: Callable[[Event], None]) -> dict[str, Any]:
        """Run ``request``, pass every event on, return the outcome (see :func:`labctl.run.front.run_to_end`).

        INT, TERM and HUP must abort the run safely. A question to an operator is passed on as the event ``prompt``.
        """
        ...


class StopAsked:
    """Whether the queue is to end: set by a signal between runs, or by an abort of the run that goes."""

    def __init__(self) -> None:
        self.event = threading.Event()

    def __call__(self) -> bool:
        """Get whether to end."""
        return self.event.is_set()

    def set(self) -> None:
        """Have the queue end before its next run; may be called from a signal handler."""
        self.event.set()


Ask = Callable[[str, StopAsked], bool]
"""Asks whether to go on; returns False where nobody can be asked, or as soon as the queue is to end."""


@dataclass
class QueueWork:
    """A campaign at work."""

    campaign: CampaignConfig
    runs: Sequence[QueuedRun]
    state: QueueState
    clock: QueueClock
    run_one: Runner
    ask: Ask
    tell: Callable[[str], None]
    stop_asked: StopAsked
    watch: QueueWatch
    laboratories: KeptLaboratories
    todo: str = ""
    _waits_for: tuple[int, str] | None = None
    _idle: dict[int, tuple[int, int]] = field(default_factory=dict)
    """By number of the run: points that it had, and how often it came back with no more."""
    _planned_s: dict[tuple[int, int], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._numbered = {run.number: run for run in self.runs}
        quiet = self.campaign.quiet
        self._quiet = None if quiet is None else QuietHours(quiet, self.campaign.time_zone)
        self._order = QueueOrder(self.runs, self._quiet_left_s, self._plan_s)

    def work(self) -> dict[str, Any]:
        """Run what is not done, in its order; returns the outcome."""
        status, code = self._work()
        report = write_campaign_report(self.state, self.campaign, status, self.todo, self.tell)
        self.state.over(status, self.todo, report)
        outcome = self._outcome(status, code, report)
        self.watch.over(outcome)
        return outcome

    def _work(self) -> Ended:
        left = LeftRuns(self.runs, self.state, self.tell)
        if not left.take_up():
            self.todo = left.todo
            return "unsafe", ExitCode.UNSAFE
        while (step := self._order.next(self._states(), self.clock.now_s())) is not None:
            if self.stop_asked():
                return "aborted", ExitCode.ABORTED
            if step.run is None:
                if step.then is None or not self._skip_if_needless(step.then):
                    self._wait(step)
                continue
            self._waits_for = None
            if step.why:
                self.tell(f"{step.run.name} is run {step.why}")
            ended = self._turn(step.run)
            if ended is not None:
                return ended
        failed = any(state.status != "finished" for state in self._states().values())
        return ("failed", ExitCode.FAILED) if failed else ("finished", ExitCode.FINISHED)

    def _states(self) -> dict[int, RunState]:
        return self.state.round.runs if self.state.round is not None else {}

    def _wait(self, step: Step) -> None:
        if step.then is not None and self._waits_for != (step.then.number, step.why):
            self._waits_for = (step.then.number, step.why)
            self._say_waiting(step.then, step.wait_s, step.why)
        self.clock.wait(step.wait_s, self.stop_asked.event)

    def _say_waiting(self, run: QueuedRun, wait_s: float, why: str) -> None:
        until_s = self.clock.wall_s() + wait_s
        self.state.waiting(until_s, why, run.number)
        self.tell(f"waiting until {self._local(until_s)}: {why}")

    def _local(self, wall_s: float) -> str:
        zone = None if self.campaign.time_zone is None else zone_of(self.campaign.time_zone)
        return f"{datetime.fromtimestamp(wall_s, zone):%a %Y-%m-%d %H:%M}"

    def _quiet_left_s(self) -> float:
        wall_s = self.clock.wall_s()
        end_s = self._quiet.end_s(wall_s) if self._quiet is not None else None
        return 0.0 if end_s is None else end_s - wall_s

    def _turn(self, run: QueuedRun) -> Ended | None:
        """Run it, and again after a failure if it is to be; returns status and exit code if the queue ends here."""
        if self._skip_if_needless(run):
            return None
        try:
            resolved = self._resolved(run)
        except Unusable as error:
            return self._without_result(run, error)
        left = run.retries
        while True:
            outcome = self._run(run, resolved)
            if outcome["exit"] != ExitCode.FAILED or not left or self.stop_asked():
                return self._after(run, outcome)
            self.tell(f"{run.name} {outcome['status']}: {_why(outcome)}; {left} more tries")
            left -= 1
            if not self._wait_to_retry(run):
                return "aborted", ExitCode.ABORTED

    def _skip_if_needless(self, run: QueuedRun) -> bool:
        """Skip a run that cannot be begun for want of an earlier one, rather than wait for its time; say whether so."""
        if run.number in self._states():
            return False
        unmet = [self._numbered[number].name for number in run.after if self._states()[number].status != "finished"]
        if unmet:
            self._skip(run, f"{', '.join(unmet)} did not finish")
            return True
        try:
            self._resolved(run)
        except Unusable as error:
            if not _may_be_skipped(run):
                return False
            self._skip(run, _words(error))
            return True
        return False

    def _wait_to_retry(self, run: QueuedRun) -> bool:
        """Wait before a run is tried again; returns whether it is to be."""
        until_s = self.clock.now_s() + run.retry_wait_s
        if run.retry_wait_s > 0:
            self._say_waiting(run, run.retry_wait_s, f"{run.name} failed and is tried again")
        while (left_s := until_s - self.clock.now_s()) > 0 and not self.stop_asked():
            self.clock.wait(left_s, self.stop_asked.event)
        return not self.stop_asked()

    def _skip(self, run: QueuedRun, why: str) -> None:
        self.tell(f"{run.name} is skipped: {why}")
        self.state.skipped(run.number, why)

    def _without_result(self, run: QueuedRun, error: Unusable) -> Ended:
        """End where a run lacks a parameter, and its table does not say that it may be skipped."""
        self.todo = (
            f'{run.name} needs it: give its parameter in the file a value, a fallback, or if_missing = "skip"; then'
            " `labctl campaign FILE --resume`"
        )
        self.tell(f"{run.name} cannot be run: {_words(error)}")
        self.watch.failed(run, _words(error))
        return "stopped", ExitCode.FAILED

    def _resolved(self, run: QueuedRun) -> list[Resolved]:
        """Get what a run takes from earlier ones; what it was begun with, if it was; raises Unusable."""
        state = self._states().get(run.number)
        if state is not None and state.resolved:
            return [Resolved(one["parameter"], one["value"], one["origin"]) for one in state.resolved]
        return [self._resolve(run, name) for name in run.references]

    def _resolve(self, run: QueuedRun, name: str) -> Resolved:
        source, number = run.references[name].source, run.references[name].number
        earlier, state = self._numbered[number], self._states()[number]
        try:
            if state.status != "finished":
                raise Unusable(f"{earlier.name} {f'was {state.status}' if state.status else 'did not finish'}")
            parameter = parameter_of(run.request.procedure, name)
            if parameter is None:
                raise Unusable(f"{run.request.procedure} has no parameter {name!r}")
            pump = load_bench(run.request.bench).pump
            convention = None if pump is None else str(pump.convention)
            path = Path(state.run).stem
            return resolve(name, source, state.results, parameter, run=earlier.name, path=path, convention=convention)
        except Unusable as error:
            if source.otherwise != "fallback":
                raise
            return fall_back(name, source, error.what)

    def _run(self, run: QueuedRun, resolved: Sequence[Resolved]) -> dict[str, Any]:
        state = self._states().get(run.number)
        turn = state is not None and state.status == "waiting"
        again = f", attempt {state.attempts + 1}" if state is not None and state.attempts and not turn else ""
        self.tell(f"run {run.number} of {len(self.runs)}: {run.name}{again}")
        for one in resolved:
            self.tell(f"  {one.text}")
        values = {one.parameter: one.value for one in resolved}
        origin = {one.parameter: {"value": one.value, **one.origin} for one in resolved}
        parameters = {**run.request.parameters, **values}
        asked = run.request.model_copy(update={"parameters": parameters, "origin": origin, "bench": self._bench(run)})
        request = self._request(run, asked, state)
        self.state.begun(run.number, {**asked.model_dump(mode="json"), "resume": request.resume}, run.asked(), resolved)
        self.watch.begun(run)

        def on_event(event: Event) -> None:
            if event["event"] == "started" and event.get("run"):
                self.state.named(run.number, str(event["run"]))
            elif event["event"] == "aborting":
                self.stop_asked.set()
            self.watch.sign(run, event)

        outcome = self._with_progress(run, self.run_one(run, request, on_event))
        self.watch.ended()
        self._take_over_time(outcome)
        self.state.ended(run.number, outcome, self._due_s(outcome))
        return outcome

    def _bench(self, run: QueuedRun) -> str:
        """Get the bench of a run; of one that takes turns, a bench that outlives its turns."""
        request = run.request
        if run.group is None:
            return request.bench
        return self.laboratories.bench_for(request.bench, request.sample, request.seed)

    def _take_over_time(self, outcome: dict[str, Any]) -> None:
        """Go on, in virtual time, from where the run has got to."""
        if not self.clock.virtual:
            return
        if outcome.get("next_due_wall_s") is not None:
            self.clock.advance_to(float(outcome["next_due_wall_s"]) - float(outcome.get("next_due_in_s") or 0.0))
        elif outcome["run"] and (end_s := last_wall_s(outcome["run"])) is not None:
            self.clock.advance_to(end_s)

    def _request(self, run: QueuedRun, asked: RunRequest, state: RunState | None) -> RunRequest:
        """Get what goes on where an earlier attempt broke off, if its journal allows; else what was asked for."""
        request = asked
        if state is not None and state.run:
            try:
                request = request_to_resume(state.run)
                prepare(request)
            except LabctlError as error:
                self.tell(f"begun anew: {error.what}")
                request = asked
            else:
                self.tell(f"goes on where {Path(state.run).stem} broke off")
                if self.clock.virtual and (end_s := last_wall_s(state.run)) is not None:
                    # The campaign was killed before it learnt how far the run had got.
                    self.clock.advance_to(end_s)
        alone = self._order.is_alone(run, self._states())
        times = {"leave_if_idle_s": None if alone else run.leave_s}
        if self.clock.virtual:
            times |= {"virtual_start_s": self.clock.elapsed_s(), "virtual_wall_s": self.clock.now_s()}
        return request.model_copy(update=times)

    def _with_progress(self, run: QueuedRun, outcome: dict[str, Any]) -> dict[str, Any]:
        """Take a run for failed that comes back again and again without having measured what is due."""
        if outcome["status"] != "waiting":
            return outcome
        points = int((outcome.get("points") or {}).get("done", 0))
        before, times = self._idle.get(run.number, (-1, 0))
        due = (self._due_s(outcome) or -math.inf) <= self.clock.now_s()
        self._idle[run.number] = (points, times + 1 if due and points == before else 0)
        if self._idle[run.number][1] < _IDLE_TURNS:
            return outcome
        error = {"what": f"it came back {_IDLE_TURNS} times without having measured the point that is due"}
        return {**outcome, "status": "failed", "exit": int(ExitCode.FAILED), "error": error}

    def _due_s(self, outcome: dict[str, Any]) -> float | None:
        """Get the Unix time of the next point of a run that waits for it."""
        if outcome["status"] != "waiting":
            return None
        left_s = outcome.get("next_due_in_s")
        return self.clock.now_s() + float(left_s or 0.0)

    def _after(self, run: QueuedRun, outcome: dict[str, Any]) -> Ended | None:
        """Decide whether the queue goes on after a run; returns status and exit code if it ends here."""
        if outcome["exit"] == ExitCode.UNSAFE:
            self.todo = (
                "go to the bench and look; `labctl bench safe BENCH` tries again. `labctl campaign FILE --resume` makes"
                " the bench safe before it goes on"
            )
            self.watch.unconfirmed(run, outcome)
            return "unsafe", ExitCode.UNSAFE
        if outcome["exit"] == ExitCode.ABORTED:
            self.todo = "`labctl campaign FILE --resume` goes on with this run"
            return "aborted", ExitCode.ABORTED
        if outcome["exit"] == ExitCode.FINISHED:
            return None
        self.tell(f"{run.name} {outcome['status']}: {_why(outcome)}")
        self.watch.failed(run, f"{outcome['status']}: {_why(outcome)}")
        if run.on_failure == "stop":
            self.todo = "mend the cause; `labctl campaign FILE --resume` takes this run again"
            return "stopped", ExitCode.FAILED
        if run.on_failure == "pause" and not self._may_go_on(run, outcome):
            if self.stop_asked():
                return "aborted", ExitCode.ABORTED
            self.todo = (
                "mend the cause; `labctl campaign FILE --resume` takes this run again; with its on_failure ="
                ' "continue" the queue would go on without it'
            )
            return "paused", ExitCode.FAILED
        self.state.passed(run.number)
        return None

    def _may_go_on(self, run: QueuedRun, outcome: dict[str, Any]) -> bool:
        question = f"{run.name} {outcome['status']}. Go on?"
        self.watch.person(question)
        return self.ask(question, self.stop_asked)

    def _plan_s(self, run: QueuedRun) -> float:
        """Get how long a run is planned to take at most, in s; endless for one that cannot be planned."""
        state = self._states().get(run.number)
        key = (run.number, 0 if state is None else state.attempts)
        if key not in self._planned_s:
            try:
                values = {one.parameter: one.value for one in self._resolved(run)}
                asked = run.request.model_copy(update={"parameters": {**run.request.parameters, **values}})
                resumed = request_to_resume(state.run) if state is not None and state.run else asked
                self._planned_s[key] = preflight(prepare(resumed)).plan.duration_s
            except LabctlError:
                self._planned_s[key] = math.inf
        return self._planned_s[key]

    def _outcome(self, status: str, code: ExitCode, report: str) -> dict[str, Any]:
        states = self._states()
        begun = [(run, states[run.number]) for run in self.runs if run.number in states]
        return {
            "campaign": self.campaign.name,
            "status": status,
            "runs": [
                {
                    "name": run.name,
                    "run": state.run,
                    "status": state.status,
                    "safe_state": state.safe_state,
                    "exit": state.exit,
                    "attempts": state.attempts,
                    **({"why": state.why} if state.why else {}),
                    **({"taken": state.resolved} if state.resolved else {}),
                }
                for run, state in begun
            ],
            "left": [run.name for run in self.runs if run.number not in states or not states[run.number].done],
            "state": str(self.state.path),
            "report": report,
            "todo": self.todo,
            "exit": int(code),
        }


def _may_be_skipped(run: QueuedRun) -> bool:
    return all(reference.source.otherwise != "stop" for reference in run.references.values())


def _words(error: Unusable) -> str:
    return f"{error.what}{f' ({error.todo})' if error.todo else ''}"


def _why(outcome: dict[str, Any]) -> str:
    return str((outcome.get("error") or {}).get("what", outcome["status"]))
