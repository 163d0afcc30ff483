"""``labctl bench``: check, safe, schema."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from labctl.bench.bench import Bench
from labctl.bench.readiness import RoleReadiness, read_readiness
from labctl.bench.safe import can_harm
from labctl.bench.watch import WatchReading
from labctl.cli.output import fail, print_json, say, show
from labctl.clock import Clock, RealClock, VirtualClock
from labctl.config.bench import BenchConfig, load_bench
from labctl.config.schema import bench_schema
from labctl.errors import BenchOpenError, ExitCode, LabctlError
from labctl.roles import SAFE_ORDER


def check(name: str, *, as_json: bool) -> int:
    """Open all instruments, ask who they are and whether they are ready, leave them safe.

    Shows what the watch conditions of the bench file see. Exit code 4 if the safe state is not confirmed.
    """
    config = load_bench(name)
    try:
        bench = Bench.open(config, _clock(config), owner="labctl bench check")
    except BenchOpenError as error:
        failed = fail(error, as_json=as_json)
        return int(ExitCode.UNSAFE) if _leaves_harm(error) else failed
    identities = {role: asdict(identity) for role, identity in bench.identities.items()}
    try:
        readiness, watched = read_readiness(bench), bench.watch.readings()
    finally:
        report = bench.make_safe()
        bench.close()
    if as_json:
        found = {"bench": config.name, "simulated": config.is_simulated, "instruments": identities}
        found["readiness"] = [entry.as_dict() for entry in readiness]
        found["watch"] = [entry.as_dict() for entry in watched]
        print_json({**found, "safe_state": report.state, "safe_report": report.as_dict()})
    else:
        for role, identity in identities.items():
            show(f"{role:14} " + ", ".join(value for value in identity.values() if value))
        _show_readiness(readiness, watched)
        show(f"safe state {report.state}")
    return 0 if report.state == "confirmed" else int(ExitCode.UNSAFE)


def _show_readiness(readiness: Sequence[RoleReadiness], watched: Sequence[WatchReading]) -> None:
    for entry in readiness:
        state = "ready" if entry.readiness.ok else "WAITS" if entry.readiness.waits else "NOT READY"
        show(f"{entry.role:14} {state:9} {entry.readiness.name}: {entry.readiness.text}")
    for seen in watched:
        state = "HOLDS" if seen.holds else "does not hold"
        show(f"watch          {state}: {seen.name}: {seen.condition} (read: {seen.reading})")


def _leaves_harm(error: BenchOpenError) -> bool:
    """Get whether an instrument that can do harm did not open, and so is in a state that nobody knows."""
    unconfirmed = error.safe_report is not None and error.safe_report.state == "unconfirmed"
    return unconfirmed or any(can_harm(failure.role) for failure in error.failures)


def safe(name: str, *, as_json: bool) -> int:
    """Make every instrument safe that can be reached, each by itself; exit code 4 if any step is not confirmed.

    Nothing is homed: while the shutter may be open, the attenuator stays where it is.
    """
    config = load_bench(name)
    steps: list[dict[str, Any]] = []
    emulated = [role for role, entry in config.instruments.items() if entry.is_in_process]
    roles = [role for role in config.instruments if role not in emulated]
    for role in sorted(roles, key=lambda role: SAFE_ORDER.index(role) if role in SAFE_ORDER else len(SAFE_ORDER)):
        steps += _safe_role(config, role)
    confirmed = all(step["confirmed"] for step in steps)
    state = ("confirmed" if confirmed else "unconfirmed") if roles else "not-needed"
    if as_json:
        print_json({"bench": config.name, "safe_state": state, "steps": steps})
    else:
        for step in steps:
            mark = "confirmed  " if step["confirmed"] else "UNCONFIRMED"
            (show if step["confirmed"] else say)(f"{mark} {step['role']}: {step['action']} ({step['evidence']})")
        if emulated:
            show(f"{', '.join(emulated)}: emulated within each run, which ends with it: nothing to make safe")
        show(f"safe state {state}")
    return 0 if confirmed else int(ExitCode.UNSAFE)


def _safe_role(config: BenchConfig, role: str) -> list[dict[str, Any]]:
    try:
        bench = Bench.open(config, _clock(config), roles=[role], owner="labctl bench safe", only_to_make_safe=True)
    except LabctlError as error:
        evidence = str(error.failures[0].error) if isinstance(error, BenchOpenError) else str(error)
        return [{"role": role, "action": "open", "confirmed": False, "evidence": evidence}]
    report = bench.make_safe()
    bench.close()
    return [{"role": entry.role, **asdict(entry.step)} for entry in report.steps]


def schema() -> int:
    """Print the JSON schema of a bench file."""
    show(json.dumps(bench_schema(), indent=2))
    return 0


def _clock(config: BenchConfig) -> Clock:
    """Emulators need not be waited for."""
    return VirtualClock() if all(entry.is_simulated for entry in config.instruments.values()) else RealClock()
