"""The queue of a campaign: its runs one after another, until the last one or until one says that it must not go on.

A script runs a campaign like this::

    from labctl.config.campaign import load_campaign
    from labctl.run.queue import run_queue

    outcome = run_queue(load_campaign("simulated-films"), virtual_time=True)
    print(outcome["status"], [run["status"] for run in outcome["runs"]], outcome["report"])
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from labctl.config.campaign import CampaignConfig
from labctl.errors import InputError
from labctl.processes import end_signals
from labctl.run import front
from labctl.run.campaign_checks import check_runs
from labctl.run.kept_laboratory import KeptLaboratories
from labctl.run.notifications import open_messenger
from labctl.run.queue_clock import QueueClock
from labctl.run.queue_history import Round
from labctl.run.queue_state import QueueState
from labctl.run.queue_watch import QueueWatch
from labctl.run.queue_work import Ask, Event, QueueWork, Runner, StopAsked
from labctl.run.queued_runs import WHAT, QueuedRun, queued_runs
from labctl.run.request import RunRequest, check_folder

log = logging.getLogger(__name__)


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
        ``unsafe``), ``runs`` (each with ``name``, ``run``, ``status``, ``safe_state``, ``exit``, ``attempts``, ``why``
        it was skipped, ``taken`` from earlier runs), ``left`` (names of those that are not done), ``state`` (path of
        the state file), ``report`` (path of its page), ``notifications`` (``unsent``, ``file``), ``todo`` and
        ``exit``, the exit code.
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
        if begun is not None:
            _check_same(begun, runs, state)
        check_runs(campaign, left, {number for number, state in earlier.items() if state.run}, every=runs, warn=tell)
        messenger = open_messenger(campaign, folder / f"{_stem(campaign)}.notifications.jsonl", tell)
        clock = QueueClock(
            virtual=options["virtual_time"],
            now_s=begun.clock_s if begun is not None else None,
            began_s=begun.clock_began_s if begun is not None else None,
        )
        if clock.virtual:
            state.clock_s = clock.now_s
        plan = [_in_plan(run) for run in runs]
        if begun is None:
            _tell_of_earlier(state, tell)
            state.begin(campaign=campaign.name, file=campaign.file, runs=len(runs), plan=plan, **options)
        else:
            state.resumed(plan)
        with QueueWatch(campaign, state.path, clock, messenger) as watch, KeptLaboratories(folder) as laboratories:
            work = QueueWork(campaign, runs, state, clock, run_one, ask, tell, stop_asked, watch, laboratories)
            outcome = work.work()
        return {**outcome, "notifications": messenger.close()}


def _in_plan(run: QueuedRun) -> dict[str, Any]:
    request = run.request
    sample = None if request.sample is None else Path(request.sample).stem
    return {"number": run.number, "name": run.name, "procedure": request.procedure, "sample": sample}


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
        if number not in asked
        or (earlier.request and asked[number].asked() != (earlier.asked or _what(earlier.request)))
    ]
    if changed:
        raise InputError(
            "the campaign file has changed where runs were begun already: " + ", ".join(changed),
            where=str(state.path),
            state="nothing was started",
            todo="undo that change (runs that were not begun may be changed), or begin anew without --resume",
        )


def _what(request: dict[str, Any]) -> dict[str, Any]:
    return {key: request.get(key) for key in WHAT}


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
