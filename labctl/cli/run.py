"""``labctl run``, ``demo`` and ``plan``."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from labctl.cli.output import number, print_json, say, show
from labctl.cli.progress import RunProgress
from labctl.errors import ConfigError, Problem
from labctl.run.front import RunFront
from labctl.run.request import RunRequest, as_parameters

if TYPE_CHECKING:
    from labctl.run.preflight import Preflight


def make_request(
    procedure: str,
    bench: str,
    sets: Sequence[str],
    *,
    sample: str | None,
    out: str,
    spot: str,
    seed: int,
    virtual_time: bool,
) -> RunRequest:
    """Make a request from the command line; raises InputError for a malformed ``--set``."""
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
    return RunRequest(
        procedure=procedure,
        parameters=values,
        bench=bench,
        sample=sample,
        out=out,
        spot=spot,
        seed=seed,
        virtual_time=virtual_time,
    )


def run_to_end(request: RunRequest, *, as_json: bool) -> int:
    """Run in the foreground, show what came of it; returns the exit code. The engine checks before anything moves."""
    front = RunFront(request)
    try:
        with _aborting(front), RunProgress(quiet=as_json) as progress:
            for event in front.events():
                progress.show(event)
        final = front.outcome()
        report, code = final["report"], int(final["exit"])
        if as_json:
            print_json({"error": report["error"], "exit": code} if report["status"] == "refused" else report)
        elif report["status"] == "refused":
            _show_error("error", report["error"])
        else:
            _show_outcome(report)
        return code
    finally:
        front.close()


def start_detached(request: RunRequest, *, as_json: bool) -> int:
    """Check, start, and return as soon as the run has a name; it goes on without this terminal."""
    from labctl.run.preflight import preflight, require
    from labctl.run.request import prepare

    require(preflight(prepare(request)))
    front = RunFront(request.model_copy(update={"lease": False}), detached=True)
    started = front.wait_started()
    if as_json:
        print_json(started)
    else:
        show(f"started  {started['run']}")
        say("follow it with `labctl show RUN`")
    return 0


def show_plan(request: RunRequest, *, as_json: bool) -> int:
    """Show the preflight; exit code 2 if it refuses."""
    from labctl.run.preflight import preflight, require
    from labctl.run.request import prepare

    prepared = prepare(request)
    checked = preflight(prepared)
    if as_json:
        print_json({"procedure": prepared.procedure.NAME, "bench": prepared.bench.name, **checked.as_dict()})
        return 2 if checked.refusals else 0
    _show_plan(prepared.procedure.NAME, checked)
    require(checked)
    return 0


@contextmanager
def _aborting(front: RunFront):
    """Turn INT, TERM and HUP into a safe abort while the run goes on."""

    def on_signal(code: int, _: object) -> None:
        say("aborting: the run ends after the present exposure, then the bench is made safe")
        front.abort(f"{signal.Signals(code).name} at the terminal")

    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {name: signal.signal(getattr(signal, name), on_signal) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


def _show_plan(name: str, checked: Preflight) -> None:
    from rich.console import Console
    from rich.table import Table

    plan = checked.plan
    table = Table(title=f"plan of {name}", title_justify="left")
    for heading in ("stage", "points", "time / s", "sets", "dose / (J/cm²)", "light / s"):
        table.add_column(heading, justify="left" if heading in {"stage", "sets"} else "right")
    for stage in plan.stages:
        sets = ", ".join(f"{key} {low:.4g}..{high:.4g}" for key, (low, high) in stage.bounds.items())
        points = f"≤ {stage.max_points}" if stage.adaptive else str(stage.max_points)
        seconds = f"{stage.max_points * stage.point_s:.0f}"
        table.add_row(stage.name, points, seconds, sets, f"{stage.dose_j_cm2:.3g}", f"{stage.open_s:.3g}")
    Console(file=sys.stdout).print(table)
    show(
        f"at most {plan.max_points} points, about {plan.duration_s / 60:.0f} min with {plan.start_up_s / 60:.0f} min of"
        f" preparation; dose at most {plan.dose_j_cm2:.3g} J/cm²; disk {checked.disk_need_mb:.1f} MB of"
        f" {checked.disk_free_mb:.0f} MB free"
    )
    for warning in checked.warnings:
        say(f"warning: {warning}")


def _show_error(status: str, error: dict[str, Any]) -> None:
    say(f"{status}: {error['what']}")
    labels = {"where": "where", "sent": "sent", "received": "received", "state": "state", "todo": "do"}
    for key, label in labels.items():
        if error.get(key):
            say(f"  {label}: {error[key]}")


def _show_outcome(report: dict[str, Any]) -> None:
    if report["simulated"]:
        show("SIMULATED: emulators, not instruments")
    for name, entry in report["result"].items():
        _show_result(name, entry)
    for warning in report["warnings"]:
        say(f"warning: {warning}")
    error = report.get("error")
    if error:
        _show_error(report["status"], error)
    points = report["points"]
    show(f"{report['status']}, {points['done']} of {points['planned']} points, safe state {report['safe_state']}")
    if report["safe_state"] == "unconfirmed":
        _show_unconfirmed(report)
    for name, path in {**report.get("files", {}), "run": report["run"]}.items():
        if path:
            show(f"{name:8} {path}")


def _show_result(name: str, entry: dict[str, Any]) -> None:
    interval = entry.get("ci95")
    text = f"{name:22} {number(entry['value'])} {entry.get('unit', '')}"
    if interval and None not in interval:
        text += f"  (95 %: {number(interval[0])} to {number(interval[1])})"
    if entry.get("convention"):
        text += f"  [{entry['convention']}]"
    show(text)


def _show_unconfirmed(report: dict[str, Any]) -> None:
    say("SAFE STATE UNCONFIRMED: go to the bench and look")
    for step in report.get("safe_report", {}).get("steps", []):
        if not step["confirmed"]:
            say(f"  {step['role']}: {step['action']}: {step['evidence']}")
