"""The safe-state program: opens the safety-relevant instruments on new connections and makes them safe.

Run by the guard when the engine is gone: ``python -m labctl.run.safe_program REQUEST_FILE RUN``. Prints one JSON
object: the safe report. Then it records the incident in the run's journal.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

from labctl.bench.bench import Bench
from labctl.clock import Clock, RealClock, VirtualClock
from labctl.config.bench import BenchConfig
from labctl.errors import BenchOpenError, LabctlError
from labctl.run.request import RunRequest, prepare
from labctl.store.journal import Journal
from labctl.store.naming import find_run

log = logging.getLogger(__name__)

SAFETY_RELEVANT = ("shutter", "detector")
"""Roles that can let harm go on: light on the sample, an exposed and gained-up detector."""
IN_PROCESS = "sim:"


def make_safe(request: RunRequest) -> dict[str, Any]:
    """Open what matters and make it safe; returns the report as data."""
    prepared = prepare(request)
    roles = [role for role in SAFETY_RELEVANT if role in prepared.bench.instruments]
    if all(prepared.bench.instruments[role].resource.startswith(IN_PROCESS) for role in roles):
        return {"state": "lost-with-run", "steps": [], "note": "the bench was simulated in the process that died"}
    clock: Clock = VirtualClock() if request.virtual_time else RealClock()
    outcomes = [_make_role_safe(prepared.bench, role, clock, request) for role in roles]
    steps = [step for outcome in outcomes for step in outcome["steps"]]
    confirmed = all(outcome["state"] == "confirmed" for outcome in outcomes)
    return {"state": "confirmed" if confirmed else "unconfirmed", "steps": steps}


def _make_role_safe(config: BenchConfig, role: str, clock: Clock, request: RunRequest) -> dict[str, Any]:
    """Open one role by itself, so that one dead instrument does not keep another from its safe state."""
    try:
        bench = Bench.open(config, clock, roles=[role], seed=request.seed, owner="safe-state program")
    except BenchOpenError as error:
        failure = {"role": role, "action": "open on a new connection", "confirmed": False, "evidence": str(error)}
        return {"state": "unconfirmed", "steps": [failure]}
    report = bench.make_safe()
    bench.close()
    return dict(report.as_dict())


def record(run: str, report: dict[str, Any]) -> None:
    """Write the incident into the journal of the run that died."""
    journal_path = find_run(run).journal
    if journal_path is None:
        return
    clock = RealClock()
    with Journal.open(journal_path) as journal:
        journal.event("safe_state", report, t_s=0.0, wall_s=clock.wall())
        journal.event(
            "incident", {"error": {"what": "the engine died; the guard took over"}}, t_s=0.0, wall_s=clock.wall()
        )


def main(request_file: str, run: str) -> int:
    """Make safe, say so, record it."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    try:
        report = make_safe(RunRequest.model_validate_json(Path(request_file).read_text(encoding="utf-8")))
    except LabctlError as error:
        report = {"state": "unconfirmed", "steps": [], "error": str(error)}
    sys.stdout.write(json.dumps(report) + "\n")
    sys.stdout.flush()
    try:
        record(run, report)
    except LabctlError:
        log.exception("the incident could not be recorded")
    return 0 if report["state"] != "unconfirmed" else 4


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
