"""``labctl campaign``: many runs, one after another."""

from __future__ import annotations

import queue
import sys
import threading
from typing import Any

from labctl.cli.output import print_json, say, say_unconfirmed, show, show_table
from labctl.cli.progress import RunProgress
from labctl.config.campaign import load_campaign
from labctl.run import front
from labctl.run.queue import run_queue
from labctl.run.queue_work import StopAsked

_LOOK_S = 0.1


def campaign(file: str, *, out: str, seed: int | None, virtual_time: bool, resume: bool, as_json: bool) -> int:
    """Run a campaign, show what came of it; returns the exit code."""

    def run_one(run: Any, request: Any, on_event: Any) -> dict[str, Any]:
        with RunProgress(quiet=as_json) as progress:

            def follow(event: dict[str, Any]) -> None:
                on_event(event)
                progress.show(event)

            outcome = front.run_to_end(request, follow, on_prompt=progress.prompt, forward_signals=True)
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


def _show(outcome: dict[str, Any]) -> None:
    rows = [
        [str(number), run["name"], run["status"] or "begun", run["safe_state"], run["run"]]
        for number, run in enumerate(outcome["runs"], start=1)
    ]
    headings = {"": "right", "name": "left", "status": "left", "safe state": "left", "run": "left"}
    show_table(headings, rows, f"campaign {outcome['campaign']}")
    left = outcome["left"]
    show(f"{outcome['status']}: {len(left)} left" + (f", next {left[0]}" if left else ""))
    show(f"state    {outcome['state']}")
    if outcome["todo"]:
        say(f"do: {outcome['todo']}")
