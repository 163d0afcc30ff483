"""The queue of a campaign: its runs one after another, until the last one or until one says that it must not go on.

A script runs a campaign like this::

    from labctl.config.campaign import load_campaign
    from labctl.run.queue import run_queue

    outcome = run_queue(load_campaign("simulated-films"), virtual_time=True)
    print(outcome["status"], [run["status"] for run in outcome["runs"]])
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from labctl.clock import RealClock
from labctl.config.campaign import CampaignConfig
from labctl.errors import ExitCode, InputError, LabctlError, StorageError
from labctl.processes import end_signals
from labctl.run import front
from labctl.run.queue_state import QueueState, Round, RunState
from labctl.run.queued_runs import QueuedRun, check_runs, queued_runs
from labctl.run.request import RunRequest, check_folder, prepare
from labctl.run.safe_program import LeftBench, make_safe
from labctl.run.stored_request import request_to_resume
from labctl.store.run import open_run

log = logging.getLogger(__name__)

ENDING_S = 60.0
"""How long a run whose campaign was killed may take to end."""
_LOOK_S = 0.2
_SAFE = ("confirmed", "lost-with-run", "not-needed")

Event = dict[str, Any]


class Runner(Protocol):
    """Runs one run of the queue to its end."""

    def __call__(self, run: QueuedRun, request: RunRequest, on_event: Callable[[Event], None]) -> dict[str, Any]:
        """Run ``request``, pass every event on, return the outcome (see :func:`labctl.run.front.run_to_end`).

        INT, TERM and HUP must abort the run safely.
        """
        ...


class StopAsked:
    """Whether the queue is to end: set by a signal between runs, or by an abort of the run that goes."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def __call__(self) -> bool:
        """Get whether to end."""
        return self._event.is_set()

    def set(self) -> None:
        """Have the queue end before its next run; may be called from a signal handler."""
        self._event.set()


Ask = Callable[[str, StopAsked], bool]
"""Asks whether to go on; returns False where nobody can be asked, or as soon as the queue is to end."""


def run_plainly(run: QueuedRun, request: RunRequest, on_event: Callable[[Event], None]) -> dict[str, Any]:
    """Run one run for a script: without progress, without an operator."""
    in_main = threading.current_thread() is threading.main_thread()
    return front.run_to_end(request, on_event, forward_signals=in_main)


def nobody_to_ask(question: str, stop_asked: StopAsked) -> bool:
    """Answer no: there is no terminal."""
    return False


def run_queue(
    campaign: CampaignConfig,
    *,
    out: str = "runs",
    seed: int | None = None,
    virtual_time: bool = False,
    resume: bool = False,
    run_one: Runner = run_plainly,
    ask: Ask = nobody_to_ask,
    tell: Callable[[str], None] = log.info,
) -> dict[str, Any]:
    """Run a campaign to its end, and return what came of it.

    Everything is checked before the first run starts. What was done is kept in ``STEM.campaign.jsonl`` in ``out``.

    :param out: Folder for the runs.
    :param seed: Seed of the first run; 0, or on resume that of the campaign, if None.
    :param virtual_time: Whether to run on the virtual clock; on resume as the campaign was begun.
    :param resume: Go on with the first run that is not done, instead of beginning anew; a run that broke off goes on
        at its first point that is not acknowledged.
    :param run_one: Runs one run and shows its progress.
    :param ask: Asks whether to go on after a failure, where the campaign says ``pause``.
    :param tell: Told in words how the queue gets on.
    :return: ``campaign``, ``status`` (``finished``; ``failed``: all were tried; ``paused``, ``stopped``, ``aborted``,
        ``unsafe``), ``runs`` (each with ``name``, ``run``, ``status``, ``safe_state``, ``exit``), ``left`` (names of
        those that are not done), ``state`` (path of the state file), ``todo`` and ``exit``, the exit code.
    :raises InputError: something is wrong with any run, or there is nothing to resume; nothing was started.
    """
    folder = check_folder(Path(out))
    kept = QueueState(folder, _stem(campaign))
    if resume and not kept.path.exists():
        raise _nothing_to_resume(kept, campaign)
    with kept as state, _stop_asked() as stop_asked:
        begun = _to_resume(state, campaign) if resume else None
        options = _options(begun, seed, virtual_time)
        runs = queued_runs(campaign, out=str(folder), **options)
        earlier = begun.runs if begun is not None else {}
        left = [run for run in runs if run.number not in earlier or not earlier[run.number].done]
        check_runs(campaign, left, {number for number, state in earlier.items() if state.run})
        if begun is None:
            _tell_of_earlier(state, tell)
            state.begin(campaign=campaign.name, file=campaign.file, runs=len(runs), **options)
        else:
            _check_same(begun, runs, state)
        return _Queue(campaign, runs, state, run_one, ask, tell, stop_asked).work()


def _stem(campaign: CampaignConfig) -> str:
    return Path(campaign.file).stem or "campaign"


def _to_resume(state: QueueState, campaign: CampaignConfig) -> Round:
    if state.round is None:
        raise _nothing_to_resume(state, campaign)
    return state.round


def _nothing_to_resume(state: QueueState, campaign: CampaignConfig) -> InputError:
    return InputError(
        f"the campaign {campaign.name!r} was never begun here: there is nothing to resume",
        where=str(state.path),
        state="nothing was started",
        todo="leave out --resume, or name the folder of its runs with --out",
    )


def _options(begun: Round | None, seed: int | None, virtual_time: bool) -> dict[str, Any]:
    """Get seed and clock; a campaign that goes on keeps those it was begun with."""
    if begun is None:
        return {"seed": seed or 0, "virtual_time": virtual_time}
    kept = {"seed": int(begun.options.get("seed", 0)), "virtual_time": bool(begun.options.get("virtual_time", False))}
    if seed is not None and seed != kept["seed"]:
        raise InputError(f"the campaign was begun with seed {kept['seed']}, not {seed}", todo="leave out --seed")
    if virtual_time and not kept["virtual_time"]:
        raise InputError("the campaign was begun in real time", todo="leave out --virtual-time")
    return kept


def _check_same(begun: Round, runs: Sequence[QueuedRun], state: QueueState) -> None:
    """Runs that were begun must be the same in the file still; those after them may have been changed."""
    asked = {run.number: run for run in runs}
    changed = [
        f"{asked[number].name} (number {number})" if number in asked else f"number {number}"
        for number, earlier in begun.runs.items()
        if number not in asked or _what(asked[number].request.model_dump(mode="json")) != _what(earlier.request)
    ]
    if changed:
        raise InputError(
            "the campaign file has changed where runs were begun already: " + ", ".join(changed),
            where=str(state.path),
            state="nothing was started",
            todo="undo that change (runs that were not begun may be changed), or begin anew without --resume",
        )


def _what(request: dict[str, Any]) -> dict[str, Any]:
    """Get what a request says of the measurement itself."""
    keys = ("procedure", "parameters", "bench", "sample", "spot", "seed", "virtual_time")
    return {key: request.get(key) for key in keys}


def _tell_of_earlier(state: QueueState, tell: Callable[[str], None]) -> None:
    earlier = state.round
    if earlier is None:
        return
    done = sum(run.done for run in earlier.runs.values())
    planned = int(earlier.options.get("runs", 0))
    if done < planned:
        tell(
            f"begun anew: of the last time {planned - done} of {planned} runs are not done (--resume goes on with them)"
        )


@contextmanager
def _stop_asked() -> Iterator[StopAsked]:
    """Turn the signals that end a program into a wish, also between runs; in the main thread only."""
    asked = StopAsked()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.signal(number, lambda *_: asked.set()) for number in end_signals()}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass
class _Queue:
    """A campaign at work."""

    campaign: CampaignConfig
    runs: Sequence[QueuedRun]
    state: QueueState
    run_one: Runner
    ask: Ask
    tell: Callable[[str], None]
    stop_asked: StopAsked
    todo: str = ""

    def work(self) -> dict[str, Any]:
        """Run what is not done, in order."""
        if not self._take_up():
            return self._outcome("unsafe", ExitCode.UNSAFE)
        for run in self.runs:
            if self._done(run):
                continue
            if self.stop_asked():
                return self._outcome("aborted", ExitCode.ABORTED)
            outcome = self._run(run)
            ended = self._after(run, outcome)
            if ended is not None:
                return self._outcome(*ended)
        failed = any(state.status != "finished" for state in self._states().values())
        return self._outcome("failed" if failed else "finished", ExitCode.FAILED if failed else ExitCode.FINISHED)

    def _states(self) -> dict[int, RunState]:
        return self.state.round.runs if self.state.round is not None else {}

    def _done(self, run: QueuedRun) -> bool:
        state = self._states().get(run.number)
        return state is not None and state.done

    def _run(self, run: QueuedRun) -> dict[str, Any]:
        state = self._states().get(run.number)
        again = f", attempt {state.attempts + 1}" if state is not None else ""
        self.tell(f"run {run.number} of {len(self.runs)}: {run.name}{again}")
        request = self._request(run, state)
        self.state.begun(run.number, {**run.request.model_dump(mode="json"), "resume": request.resume})

        def on_event(event: Event) -> None:
            if event["event"] == "started" and event.get("run"):
                self.state.named(run.number, str(event["run"]))
            elif event["event"] == "aborting":
                self.stop_asked.set()

        outcome = self.run_one(run, request, on_event)
        self.state.ended(run.number, outcome)
        return outcome

    def _request(self, run: QueuedRun, state: RunState | None) -> RunRequest:
        """Get what goes on where an earlier attempt broke off, if its journal allows; else what was asked for."""
        if state is None or not state.run:
            return run.request
        try:
            request = request_to_resume(state.run)
            prepare(request)
        except LabctlError as error:
            self.tell(f"begun anew: {error.what}")
            return run.request
        self.tell(f"goes on where {Path(state.run).stem} broke off")
        return request

    def _after(self, run: QueuedRun, outcome: dict[str, Any]) -> tuple[str, ExitCode] | None:
        """Decide whether the queue goes on after a run; returns status and exit code if it ends here."""
        if outcome["exit"] == ExitCode.UNSAFE:
            self.todo = (
                "go to the bench and look; `labctl bench safe BENCH` tries again. `labctl campaign FILE --resume` makes"
                " the bench safe before it goes on"
            )
            return "unsafe", ExitCode.UNSAFE
        if outcome["exit"] == ExitCode.ABORTED:
            self.todo = "`labctl campaign FILE --resume` goes on with this run"
            return "aborted", ExitCode.ABORTED
        if outcome["exit"] == ExitCode.FINISHED:
            return None
        why = (outcome.get("error") or {}).get("what", outcome["status"])
        self.tell(f"{run.name} {outcome['status']}: {why}")
        if run.on_failure == "stop":
            self.todo = "mend the cause; `labctl campaign FILE --resume` takes this run again"
            return "stopped", ExitCode.FAILED
        if run.on_failure == "pause" and not self.ask(f"{run.name} {outcome['status']}. Go on?", self.stop_asked):
            if self.stop_asked():
                return "aborted", ExitCode.ABORTED
            self.todo = (
                "mend the cause; `labctl campaign FILE --resume` takes this run again; with its on_failure ="
                ' "continue" the queue would go on without it'
            )
            return "paused", ExitCode.FAILED
        self.state.passed(run.number)
        return None

    def _take_up(self) -> bool:
        """Settle what the last run of a killed or unsafe campaign left; returns whether the bench is safe."""
        earlier = self.state.round
        cut_off = [run for run in self.runs if (state := self._states().get(run.number)) and not state.status]
        unsafe = [run for run in self.runs if (state := self._states().get(run.number)) and state.exit == 4]
        unknown = [run for run in cut_off if not self._settle(run)]
        if earlier is not None and earlier.unconfirmed:
            unknown += unsafe[-1:]
        for run in unknown:
            report = make_safe(LeftBench.of_request(run.request))
            self.state.made_safe(report["state"])
            self.tell(f"bench of {run.name}: safe state {report['state']}")
            if report["state"] not in _SAFE:
                self.todo = "go to the bench and look; mend what keeps it from its safe state, then resume again"
                return False
        return True

    def _settle(self, run: QueuedRun) -> bool:
        """Read from its file how a run ended whose end was not noted; returns whether its bench was left safe."""
        state = self._states()[run.number]
        if not state.run:
            return False
        found = _end_of(state.run)
        if found is None:
            return False
        if found["status"] == "finished":
            self.state.ended(run.number, found)
        return found["safe_state"] in _SAFE

    def _outcome(self, status: str, code: ExitCode) -> dict[str, Any]:
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
                }
                for run, state in begun
            ],
            "left": [run.name for run in self.runs if not self._done(run)],
            "state": str(self.state.path),
            "todo": self.todo,
            "exit": int(code),
        }


def _end_of(path: str) -> dict[str, Any] | None:
    """Get how a run ended, from its file; None if that is lost.

    :raises InputError: the run still goes after :data:`ENDING_S`.
    """
    clock = RealClock()
    give_up_s = clock.now() + ENDING_S
    while True:
        try:
            with open_run(path) as run:
                status, safe = run.status, run.events("safe_state")
        except StorageError as error:
            log.warning("%s: %s", path, error.what)
            return None
        if status != "running":
            break
        if clock.now() > give_up_s:
            raise InputError(
                "a run of this campaign still goes",
                where=path,
                state="it goes on",
                todo="wait for it, or `labctl abort RUN`; then resume again",
            )
        clock.sleep(_LOOK_S)
    safe_state = str(safe[-1].data.get("state", "")) if safe else ""
    code = ExitCode.FINISHED if status == "finished" else ExitCode.FAILED
    known = {"run": path, "status": status, "safe_state": safe_state}
    return {**known, "exit": int(code if safe_state in _SAFE else ExitCode.UNSAFE)}
