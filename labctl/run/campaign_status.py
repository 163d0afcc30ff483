"""How far a campaign is, read beside it from its state file and its runs: while it goes, and after it was killed."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from labctl.errors import LabctlError
from labctl.run.endpoint import EndpointClient
from labctl.run.queue_history import Round, RunState, read_history
from labctl.run.queue_state import lock_of
from labctl.store.catalogue import key_result
from labctl.store.ownership import is_owned
from labctl.store.run import Run, open_run

_ANSWER_S = 2.0


def campaign_status(path: Path, *, live: bool = True) -> dict[str, Any]:
    """Get how far a campaign is, as JSON-serialisable data.

    :param path: Its state file.
    :param live: Whether to ask the run that goes how far it is.
    :return: ``campaign``, ``file``, ``state``, ``status`` (``running``, ``waiting``, ``broken off``, or how it ended),
        ``began``, ``last`` (ISO times), ``rounds``, ``runs``, ``waiting``, ``next_due``, ``left``, ``todo`` and
        ``report``.
    :raises StorageError: there is no such file, or it cannot be read.
    :raises InputError: it says nonsense.
    """
    rounds = read_history(path).rounds
    known = {"state": str(path), "campaign": path.name, "file": "", "rounds": [], "runs": [], "left": []}
    if not rounds:
        return {**known, "status": "never begun", "waiting": {}, "next_due": None, "todo": "", "report": ""}
    goes = is_owned(lock_of(path))
    last = rounds[-1]
    runs = [_run(entry, last, goes=goes, live=live) for entry in _plan(last)]
    waiting_runs = [run for run in runs if run["due_s"] is not None]
    next_due = min(waiting_runs, key=lambda run: run["due_s"], default=None)
    return {
        **known,
        "campaign": str(last.options.get("campaign") or path.name),
        "file": str(last.options.get("file") or ""),
        "status": _status(last, goes=goes),
        "virtual_time": bool(last.options.get("virtual_time")),
        "began": last.began,
        "last": last.last,
        "resumed": list(last.resumed),
        "rounds": [_round(one, goes=goes and one is last) for one in rounds],
        "runs": runs,
        "waiting": dict(last.waiting) if goes else {},
        "next_due": None if next_due is None else {"name": next_due["name"], "due_s": next_due["due_s"]},
        "left": [run["name"] for run in runs if not run["done"]],
        "todo": "" if goes else last.over.get("todo", ""),
        "report": last.over.get("report", ""),
    }


def _plan(last: Round) -> list[dict[str, Any]]:
    """Get what there is to do; of a file of an earlier version what was begun."""
    plan = [entry for entry in last.plan if isinstance(entry, Mapping)]
    return [dict(entry) for entry in plan] or [{"number": number, "name": f"run {number}"} for number in last.runs]


def _status(round_: Round, *, goes: bool) -> str:
    if not goes:
        return round_.over.get("status") or "broken off"
    return "waiting" if round_.waiting else "running"


def _round(round_: Round, *, goes: bool) -> dict[str, Any]:
    done = sum(state.done for state in round_.runs.values())
    planned = int(round_.options.get("runs", 0) or 0)
    return {"began": round_.began, "status": _status(round_, goes=goes), "done": done, "runs": planned}


def _run(entry: dict[str, Any], last: Round, *, goes: bool, live: bool) -> dict[str, Any]:
    state = last.runs.get(int(entry.get("number", 0)))
    known = {key: entry.get(key) or "" for key in ("number", "name", "procedure", "sample")}
    if state is None:
        nothing = {"run": "", "safe_state": "", "attempts": 0, "due_s": None, "why": "", "points": {}}
        return {**known, **nothing, "status": "left", "done": False, "failures": [], "taken": [], "key_result": None}
    points = state.kept.get("points") or {}
    status = state.status or ("running" if goes else "broken off")
    found = {
        "status": status,
        "run": state.run,
        "safe_state": state.safe_state,
        "attempts": state.attempts,
        "due_s": state.due_s,
        "why": state.why or str(state.kept.get("error") or ""),
        "points": points,
        "failures": list(state.failures),
        "taken": list(state.resolved),
        "done": state.done,
        "key_result": _key(state),
        "ended_s": state.ended_s,
        "simulated": bool(state.kept.get("simulated")),
    }
    if not state.status and state.run:
        found |= _from_file(state.run, ask=live and goes)
    return {**known, **found}


def _key(state: RunState) -> dict[str, Any] | None:
    found = key_result(state.results)
    return None if found is None else {"name": found[0], **found[1]}


def _from_file(path: str, *, ask: bool) -> dict[str, Any]:
    """Get how far a run is whose end was not noted: from its file, and from its engine while that lives."""
    try:
        with open_run(path) as run:
            found: dict[str, Any] = {
                "points": {"done": run.points_done, "planned": run.points_planned},
                "simulated": run.simulated,
            }
            if run.status == "running" and ask:
                found["progress"] = ask_run(run)
            if run.status not in ("running", "crashed"):
                found["status"] = run.status
            return found
    except LabctlError as error:
        return {"why": error.what}


def ask_run(run: Run, command: str = "status", **data: Any) -> dict[str, Any] | None:
    """Ask the engine of a run; None if it cannot be reached."""
    endpoints = run.events("endpoint")
    if not endpoints:
        return None
    with contextlib.suppress(OSError, ValueError):
        with EndpointClient(endpoints[-1].data["address"]) as client:
            return client.ask(command, **data, timeout_s=_ANSWER_S)
    return None


def local_text(moment_s: float) -> str:
    """Write a Unix time by the clock of this computer."""
    return f"{datetime.fromtimestamp(moment_s):%a %Y-%m-%d %H:%M}"
