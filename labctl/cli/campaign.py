"""``labctl campaign``: many runs, one after another; and how far they are, for ``labctl show``."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from labctl.cli.output import print_json, say, say_unconfirmed, show, show_table
from labctl.cli.progress import RunProgress
from labctl.config.campaign import load_campaign
from labctl.errors import InputError, LabctlError
from labctl.report.wording import label_text, reading, started_text
from labctl.run import front
from labctl.run.campaign_status import campaign_status, local_text
from labctl.run.queue import run_queue
from labctl.run.queue_history import SUFFIX
from labctl.run.queue_work import StopAsked
from labctl.store.naming import find_run
from labctl.store.run import understood

_LOOK_S = 0.1


def campaign(file: str, *, out: str, seed: int | None, virtual_time: bool, resume: bool, as_json: bool) -> int:
    """Run a campaign, show what came of it; returns the exit code."""

    def run_one(run: Any, request: Any, on_event: Any) -> dict[str, Any]:
        with RunProgress(quiet=as_json) as progress:

            def follow(event: dict[str, Any]) -> None:
                on_event(event)
                progress.show(event)

            def prompt(text: str, answer: Callable[[bool | str], None], wants: str = "") -> None:
                on_event({"event": "prompt", "text": text})
                progress.prompt(text, answer, wants)

            outcome = front.run_to_end(request, follow, on_prompt=prompt, forward_signals=True)
        if outcome["safe_state"] == "unconfirmed":
            say_unconfirmed(outcome.get("safe_report", {}))
        return outcome

    outcome = run_queue(
        load_campaign(file),
        out=out,
        seed=seed,
        virtual_time=virtual_time,
        resume=resume,
        run_one=run_one,
        ask=ask_at_terminal,
        tell=say,
    )
    if as_json:
        print_json(outcome)
    else:
        _show(outcome)
    return int(outcome["exit"])


def ask_at_terminal(question: str, stop_asked: StopAsked) -> bool:
    """Ask at the terminal until there is an answer or the queue is to end; without a terminal the answer is no.

    The keyboard is read in a thread, so that Ctrl-C is not held up; the thread ends with a line or with the process.
    """
    if not sys.stdin.isatty():
        say(f"{question} There is no terminal to ask at: the queue ends here")
        return False
    say(f"{question} [y/N]")
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=lambda: lines.put(sys.stdin.readline()), name="go on?", daemon=True).start()
    while not stop_asked():
        try:
            return lines.get(timeout=_LOOK_S).strip().lower() in ("y", "yes")
        except queue.Empty:
            continue
    return False


def state_file(name: str, out: str | None) -> Path | None:
    """Get the state file of a campaign: named itself, or by the campaign's file or name; None if it is none.

    :param out: Folder of the runs; ``runs`` if None, and then a run of that name comes first.
    """
    path = Path(name)
    if path.name.endswith(SUFFIX):
        return path
    with suppress(LabctlError, OSError):
        if out is None and any(file is not None and file.is_file() for file in _files(name)):
            return None
    with suppress(OSError, ValueError):
        found = Path(out or "runs") / f"{path.stem}{SUFFIX}"
        return found if found.is_file() else None
    return None


def _files(name: str) -> tuple[Path | None, Path | None]:
    files = find_run(name)
    return files.journal, files.sealed


def show_campaign(state: Path, *, as_json: bool) -> int:
    """Show how far a campaign is: while it goes, from any terminal, and after it was killed."""
    if not state.is_file():
        raise InputError(
            f"there is no campaign {state.name}",
            where=str(state),
            state="nothing was changed",
            todo="name its state file, or the campaign and the folder of its runs with --out",
        )
    with understood(state):
        status = campaign_status(state)
        if not as_json:
            _show_status(status)
    if as_json:
        print_json(status)
    return 0


def _show_status(status: dict[str, Any]) -> None:
    rows = [
        [str(run["number"]), run["name"], run["status"], _points(run), _result(run), run["why"] or run["run"]]
        for run in status["runs"]
    ]
    headings = {"": "right", "name": "left", "status": "left", "points": "right", "result": "left", "run": "left"}
    show_table(headings, rows, f"campaign {status['campaign']}")
    for number, one in enumerate(status["rounds"], start=1):
        which = f"round {number} of {len(status['rounds'])}, " if len(status["rounds"]) > 1 else ""
        show(f"{which}begun {started_text(one['began'])}: {one['status']}, {one['done']} of {one['runs']} runs done")
    if status["waiting"]:
        show(f"waiting until {local_text(status['waiting']['until_s'])}: {status['waiting']['why']}")
    if status["next_due"]:
        show(f"next due {local_text(status['next_due']['due_s'])}: {status['next_due']['name']}")
    left = status["left"]
    show(f"{status['status']}: {len(left)} left" + (f", next {left[0]}" if left else ""))
    if status["report"]:
        show(f"report   {status['report']}")
    if status["todo"]:
        say(f"do: {status['todo']}")
    elif status["status"] == "broken off":
        say("do: `labctl campaign FILE --resume` goes on")


def _points(run: dict[str, Any]) -> str:
    points = run.get("progress") or run["points"]
    if not points:
        return ""
    of = f" of {points['planned']}" if points.get("planned") else ""
    phase = f", {run['progress']['phase']}" if run.get("progress") else ""
    return f"{points.get('done', 0)}{of}{phase}"


def _result(run: dict[str, Any]) -> str:
    key = run["key_result"]
    if key is None:
        return ""
    shown = reading(label_text(key["name"]), key)
    return f"{shown.label} {shown.value} {shown.unit}".strip()


def _show(outcome: dict[str, Any]) -> None:
    rows = [
        [str(number), run["name"], run["status"] or "begun", run["safe_state"], run.get("why") or run["run"]]
        for number, run in enumerate(outcome["runs"], start=1)
    ]
    headings = {"": "right", "name": "left", "status": "left", "safe state": "left", "run": "left"}
    show_table(headings, rows, f"campaign {outcome['campaign']}")
    left = outcome["left"]
    show(f"{outcome['status']}: {len(left)} left" + (f", next {left[0]}" if left else ""))
    show(f"state    {outcome['state']}")
    if outcome["report"]:
        show(f"report   {outcome['report']}")
    unsent = outcome["notifications"]
    if unsent["unsent"]:
        say(f"{unsent['unsent']} messages could not be sent; they are in {unsent['file']}:")
        for title in unsent["titles"]:
            say(f"  {title}")
    if outcome["todo"]:
        say(f"do: {outcome['todo']}")
