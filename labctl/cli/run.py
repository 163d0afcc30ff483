"""``labctl run`` and ``demo``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from labctl.cli.output import print_json, result_line, say, say_unconfirmed, show, show_files
from labctl.cli.progress import RunProgress
from labctl.errors import ConfigError, InputError, Problem
from labctl.run import front
from labctl.run.request import RunRequest, as_parameters

_ERROR_LINES = {
    "role": "role",
    "where": "where",
    "sent": "sent",
    "received": "received",
    "state": "state",
    "todo": "do",
    "log": "the log ends with",
}


def make_request(
    procedure: str,
    bench: str,
    sets: Sequence[str],
    *,
    sample: str | None = None,
    out: str = "runs",
    spot: str = "1",
    seed: int = 0,
    virtual_time: bool = False,
) -> RunRequest:
    """Make a request from the command line; raises InputError for what cannot be one."""
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    for text in sets:
        name, separator, value = text.partition("=")
        if not separator or not name.strip():
            problems.append(Problem("--set", None, text, repr(text), "NAME=VALUE"))
        elif name.strip().replace("-", "_") in as_parameters(values):
            problems.append(Problem("--set", None, name, "the parameter a second time", "each parameter once"))
        else:
            values[name.strip()] = value.strip()
    if problems:
        raise ConfigError(problems)
    asked = {
        "procedure": procedure,
        "parameters": values,
        "bench": bench,
        "sample": sample,
        "out": out,
        "spot": spot,
        "seed": seed,
        "virtual_time": virtual_time,
    }
    try:
        request = RunRequest.model_validate(asked)
        request.model_dump_json()  # names that are no text cannot be written into a run either
        return request
    except ValidationError as error:
        found = [Problem("command line", None, str(e["loc"][0]), repr(e["input"]), e["msg"]) for e in error.errors()]
        raise ConfigError(found, todo="`labctl run --help` tells what is allowed") from error
    except (UnicodeError, ValueError) as error:
        raise InputError(f"the command line holds bytes that are no text: {error}") from error


def run_to_end(request: RunRequest, *, as_json: bool) -> int:
    """Run in the foreground, show what came of it; returns the exit code. The engine checks before anything moves."""
    with RunProgress(quiet=as_json) as progress:
        outcome = front.run_to_end(request, progress.show, on_prompt=progress.prompt, forward_signals=True)
    _show_outcome(outcome, as_json=as_json)
    return int(outcome["exit"])


def start_detached(request: RunRequest, *, as_json: bool) -> int:
    """Start, and return as soon as the run has a name; it goes on without this terminal."""
    running = front.RunFront(request.model_copy(update={"lease": False}))
    started = running.wait_started()
    if started is None:
        outcome = running.outcome()
        running.close()
        _show_outcome(outcome, as_json=as_json)
        return int(outcome["exit"])
    running.detach()
    if as_json:
        print_json(_as_report(started))
    else:
        show(f"started  {started['run']}")
        say("`labctl show RUN` tells how far it is; `labctl abort RUN` ends it safely")
    return 0


def _as_report(started: dict[str, Any]) -> dict[str, Any]:
    """Compose the object of a run that has just begun: nothing is known of its end."""
    return {
        "run": started["run"],
        "status": "running",
        "safe_state": None,
        "points": {"done": 0, "planned": sum(stage["max_points"] for stage in started["stages"].values())},
        "result": {},
        "warnings": [],
        "simulated": started["simulated"],
        "endpoint": started["endpoint"],
    }


def _show_outcome(outcome: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(outcome)
        return
    if outcome["status"] == "refused":
        _say_error("error", outcome["error"])
        return
    if outcome["simulated"]:
        show("SIMULATED: emulators, not instruments")
    if outcome["result"] and outcome["status"] != "finished":
        show(f"from an incomplete run, {outcome['status']}:")
    for name, entry in outcome["result"].items():
        show(result_line(name, entry))
    points = outcome["points"]
    show(f"{outcome['status']}: {points['done']} of {points['planned']} points; safe state {outcome['safe_state']}")
    show_files({name: path for name, path in {**outcome["files"], "run": outcome["run"]}.items() if path})
    for warning in outcome["warnings"]:
        say(f"warning: {warning}")
    if outcome["error"]:
        _say_error(outcome["status"], outcome["error"])
    if outcome["safe_state"] == "unconfirmed":
        say_unconfirmed(outcome.get("safe_report", {}))


def _say_error(label: str, error: dict[str, Any]) -> None:
    say(f"{label}: {error['what']}")
    for key, name in _ERROR_LINES.items():
        if error.get(key):
            say(f"  {name}: " + str(error[key]).rstrip().replace("\n", "\n    "))
