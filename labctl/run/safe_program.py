"""The safe-state program: opens the safety-relevant instruments on new connections and makes them safe.

The guard starts it beside the engine: ``python -m labctl.run.safe_program``. It imports what it needs and reads lines
from its standard input, JSON objects. The first is ``bench``, the text of the bench file as the engine has read it:
what the file holds by now, and whatever else belongs to the run, cannot keep it from closing the shutter. With that
bench checked it says ``ready``; or ``unready`` and why, and ends. Then come ``run``, once the run has a name, and
``order`` or ``dismissed``. At an order it prints one line with the safe report; then it records the incident in the
run's journal, prints ``noted``, seals the run as crashed, and prints a last line that says so. Dismissed, it ends
without having touched anything.

An engine that a hung disk holds in the kernel is killed, but stays, and with it what it holds. It will never run again,
so the locks of its instruments are passed over (``stuck`` in the order). Its journal is left to it.

If its input ends without either, the guard is dead. Then it waits for the end of the engine, and does the same of its
own accord if that one has not made the bench safe (:mod:`labctl.run.orphan`). So light stays on only where guard,
engine and this program are killed, all three.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from labctl.bench.bench import Bench, check_resources
from labctl.bench.safe import CAN_HARM
from labctl.bench.turns import take_turns
from labctl.clock import Clock, RealClock, VirtualClock
from labctl.config.bench import BenchConfig, load_bench, parse_bench
from labctl.errors import BenchOpenError, InputError, LabctlError
from labctl.job_object import bind_children
from labctl.roles import ROLES
from labctl.run.guard_line import GuardLine, take_standard_output
from labctl.run.light import settle_dead_run
from labctl.run.orphan import Orphan, needs_care, safe_report
from labctl.run.request import PreparedRun, RunRequest, procedure_class
from labctl.store.journal import Journal
from labctl.store.naming import find_run
from labctl.store.run import open_run
from labctl.store.seal import seal

log = logging.getLogger(__name__)

_BY_HAND = "operator:"
_LATE_S = 10.0
_LOCK_TIMEOUT_S = 2.0
_LOCK_RETRY_S = 0.05
_MAY_PASS = (InputError,) if os.name == "posix" else (InputError, BenchOpenError)
"""What a dead engine may leave behind for a moment: its locks, on Windows also its ports and its library's camera."""


def safety_roles(bench: BenchConfig) -> tuple[str, ...]:
    """Get the safety-relevant roles that outlive the engine; none on a bench that is simulated in its process."""
    added = [role for role in bench.instruments if role not in ROLES]
    present = [role for role in (*CAN_HARM, *added) if role in bench.instruments]
    return tuple(role for role in present if not bench.instruments[role].is_in_process)


@dataclass(frozen=True)
class LeftBench:
    """A bench that an engine may leave as it stands, with all that is needed to make it safe.

    :param bench: The bench as the engine has read it.
    :param seed: Seed of a simulated laboratory.
    :param virtual_time: Whether the run is on the virtual clock.
    :param own_instruments: Name of a procedure that opens instruments of its own; else empty.
    """

    bench: BenchConfig
    seed: int = 0
    virtual_time: bool = False
    own_instruments: str = ""

    @classmethod
    def read(cls, message: Mapping[str, Any]) -> LeftBench:
        """Read what :func:`bench_message` has put together; raises ConfigError or InputError."""
        bench = parse_bench(message["text"], message["file"], check_drivers=True)
        check_resources(bench, virtual=message["virtual_time"])
        return cls(bench, message["seed"], message["virtual_time"], message["own_instruments"])

    @classmethod
    def of_request(cls, request: RunRequest) -> LeftBench:
        """Read the bench of a run of which no process is left, from its file as it is now; raises ConfigError."""
        try:
            own = request.procedure if procedure_class(request.procedure).OWN_INSTRUMENTS else ""
        except InputError as error:
            log.warning("taken for a procedure that uses the bench: %s", error)
            own = ""
        return cls(load_bench(request.bench), request.seed, request.virtual_time, own)


def bench_message(prepared: PreparedRun) -> dict[str, Any]:
    """Get what an engine says of its run for whoever may have to make its bench safe."""
    bench, request, procedure = prepared.bench, prepared.request, prepared.procedure
    return {
        "text": bench.text,
        "file": bench.file,
        "seed": request.seed,
        "virtual_time": request.virtual_time,
        "own_instruments": procedure.NAME if procedure.OWN_INSTRUMENTS else "",
    }


def make_safe(left: LeftBench, stuck: int = 0) -> dict[str, Any]:
    """Open what matters, each role by itself, and make it safe; returns the report as data.

    :param stuck: Process of a killed engine that the kernel does not let go; 0 if there is none.
    """
    if name := left.own_instruments:
        step = {"role": name, "action": "shutdown()", "confirmed": False, "evidence": "nobody is left to call it"}
        return {"state": "unconfirmed", "steps": [step]}
    roles = safety_roles(left.bench)
    if not roles:
        return {"state": "lost-with-run", "steps": [], "note": "the bench was simulated in the process that died"}
    calls = {role: partial(_make_role_safe, left, role, stuck) for role in roles}
    by_hand = [role for role in roles if left.bench.instruments[role].resource.startswith(_BY_HAND)]
    taken = take_turns(calls, late_s=_LATE_S, by_hand=by_hand)
    outcomes = [taken.get(role) or _hung(role) for role in roles]
    steps = [step for outcome in outcomes for step in outcome["steps"]]
    confirmed = all(outcome["state"] == "confirmed" for outcome in outcomes)
    return {"state": "confirmed" if confirmed else "unconfirmed", "steps": steps}


def _hung(role: str) -> dict[str, Any]:
    evidence = "the driver did not come back; its thread was left behind"
    step = {"role": role, "action": "open on a new connection", "confirmed": False, "evidence": evidence}
    return {"state": "unconfirmed", "steps": [step]}


def _make_role_safe(left: LeftBench, role: str, stuck: int) -> dict[str, Any]:
    """Make one role safe; whatever goes wrong with it must not keep the next from its safe state."""
    clock: Clock = VirtualClock() if left.virtual_time else RealClock()
    try:
        bench = _open_role(left, role, clock, stuck)
        try:
            return dict(bench.make_safe().as_dict())
        finally:
            bench.close()
    except Exception as error:
        log.exception("%s could not be made safe", role)
        evidence = str(error.failures[0].error) if isinstance(error, BenchOpenError) else str(error)
        failure = {"role": role, "action": "open on a new connection", "confirmed": False, "evidence": evidence}
        return {"state": "unconfirmed", "steps": [failure]}


def _open_role(left: LeftBench, role: str, clock: Clock, stuck: int) -> Bench:
    """Open one role; what an engine that is just dying held may take a moment to be free."""
    real = RealClock()
    give_up_s = real.now() + _LOCK_TIMEOUT_S
    while True:
        try:
            return Bench.open(
                left.bench,
                clock,
                roles=[role],
                seed=left.seed,
                owner="safe-state program",
                only_to_make_safe=True,
                dead_owner=stuck,
            )
        except _MAY_PASS:
            if real.now() > give_up_s:
                raise
            real.sleep(_LOCK_RETRY_S)


def record(order: dict[str, Any], report: dict[str, Any], guard: GuardLine) -> dict[str, Any]:
    """Write the incident into the journal of the run that died, and its light into the ledger, and seal it.

    Returns its path, status, points, warnings and whether it is sealed. Tells the guard ``noted`` as soon as the disk
    is seen to answer.
    """
    files = find_run(order["run"])
    journal = files.journal if files.journal is not None and files.journal.is_file() else None
    if files.sealed is None or (journal is None and not files.sealed.is_file()):
        return {"run": order["run"], "points": 0, "warnings": ["the run has no journal"]}
    warnings: list[str] = []
    sealed = journal is None
    if (stuck := order.get("stuck")) and journal is not None:
        with open_run(journal) as run:
            warning = f"nothing was recorded: the kernel holds the killed engine (process {stuck}), and it the journal"
            return {"run": str(journal), "points": run.points_done, "warnings": [warning]}
    try:
        if journal is not None:
            _record_incident(journal, order, report)
            guard.say("noted")
            warnings += settle_dead_run(files.sealed)
            seal(journal, files.sealed)
            sealed = True
    except (LabctlError, OSError) as error:
        log.exception("the incident could not be recorded, or the run not be sealed")
        warnings.append(f"the run could not be sealed: {error}; the journal holds every acknowledged point")
    path = files.sealed if journal is None or files.sealed.is_file() else journal
    with open_run(path) as run:
        found = {"run": str(path), "status": run.status, "points": run.points_done, "sealed": sealed}
        return {**found, "warnings": warnings}


def _record_incident(journal_path: Path, order: dict[str, Any], report: dict[str, Any]) -> None:
    """Write how the bench was left, unless the engine has done so, and what happened to the engine."""
    wall_s = RealClock().wall()
    with open_run(journal_path) as run:
        if run.status != "crashed":
            return  # it had come to its end in order; its engine died while it sealed or analysed
        last_s = max((float(run.column("t_s", name)[-1]) for name in run.streams if run.count(name)), default=0.0)
        known = safe_report(run) is not None
    error = {"type": "EngineDied", "what": order["what"], "where": "engine", "log": order.get("log", "")}
    with Journal.open(journal_path) as journal:
        if not known:
            journal.event("safe_state", report, t_s=last_s, wall_s=wall_s)
        journal.event("incident", {"error": error}, t_s=last_s, wall_s=wall_s)


def await_order(messages: Iterator[dict[str, Any]], guard: GuardLine) -> dict[str, Any] | None:
    """Wait for what the guard wants; get its order, or one of our own where guard and engine are dead, or None."""
    orphan: Orphan | None = None
    for message in messages:
        if message["m"] == "order":
            guard.say("heard")
            return message
        if message["m"] == "dismissed":
            return None
        if message["m"] == "run":
            orphan = Orphan(message["run"], message["endpoint"])
    if orphan is None:
        return None
    log.error("the guard is dead; waiting for the end of the engine")
    what = orphan.await_end()
    return {"run": orphan.run, "what": what, "log": "", "stuck": orphan.stuck} if needs_care(orphan.run) else None


def read_bench(messages: Iterator[dict[str, Any]]) -> LeftBench:
    """Read the bench that the guard tells of first; raises InputError if it cannot be made safe from here."""
    first = next(messages, {"m": "nothing"})
    if first["m"] != "bench":
        raise InputError(f"the guard said {first['m']} before it told of the bench")
    return LeftBench.read(first)


def main() -> int:
    """Stand by; when told to, make safe, say so, record it."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    guard = GuardLine(take_standard_output())
    if unbound := bind_children():
        log.warning("children of the safe-state program may outlive it: %s", unbound)
    messages: Iterator[dict[str, Any]] = map(json.loads, sys.stdin.buffer)
    try:
        left = read_bench(messages)
    except Exception as error:  # whatever it is, the engine must not believe that somebody stands by
        log.exception("the bench cannot be read")
        guard.say("unready", reason=f"{type(error).__name__}: {error}")
        return 1
    guard.say("ready")
    order = await_order(messages, guard)
    if order is None:
        return 0
    report = order.get("safe") or make_safe(left, order.get("stuck", 0))
    guard.say("safe", report=report)
    try:
        recorded = record(order, report, guard)
    except Exception as error:  # the bench comes first, and it has been seen to
        log.exception("the death of the run could not be recorded")
        recorded = {"run": order["run"], "points": 0, "warnings": [f"the death could not be recorded: {error}"]}
    guard.say("recorded", **recorded)
    return 0


if __name__ == "__main__":
    sys.exit(main())
