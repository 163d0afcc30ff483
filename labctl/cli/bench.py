"""``labctl bench``: check, safe, schema."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from labctl.bench.bench import Bench
from labctl.cli.output import print_json, say, show
from labctl.clock import Clock, RealClock, VirtualClock
from labctl.config.bench import BenchConfig, load_bench
from labctl.config.schema import bench_schema
from labctl.errors import BenchOpenError, ExitCode
from labctl.roles import SAFE_ORDER


def check(name: str, *, as_json: bool) -> int:
    """Open all instruments, ask who they are, leave them safe; exit code 4 if that is not confirmed."""
    config = load_bench(name)
    bench = Bench.open(config, _clock(config), owner="labctl bench check")
    identities = {role: asdict(identity) for role, identity in bench.identities.items()}
    report = bench.make_safe()
    bench.close()
    if as_json:
        found = {"bench": config.name, "simulated": config.is_simulated, "instruments": identities}
        print_json({**found, "safe_state": report.state, "safe_report": report.as_dict()})
    else:
        for role, identity in identities.items():
            show(f"{role:14} " + ", ".join(value for value in identity.values() if value))
        show(f"safe state {report.state}")
    return 0 if report.state == "confirmed" else int(ExitCode.UNSAFE)


def safe(name: str, *, as_json: bool) -> int:
    """Make every instrument safe that can be reached, each by itself; exit code 4 if any step is not confirmed."""
    config = load_bench(name)
    steps: list[dict[str, Any]] = []
    roles = sorted(config.instruments, key=lambda role: SAFE_ORDER.index(role) if role in SAFE_ORDER else 99)
    for role in roles:
        steps += _safe_role(config, role)
    confirmed = all(step["confirmed"] for step in steps)
    state = "confirmed" if confirmed else "unconfirmed"
    if as_json:
        print_json({"bench": config.name, "safe_state": state, "steps": steps})
    else:
        for step in steps:
            mark = "confirmed  " if step["confirmed"] else "UNCONFIRMED"
            (show if step["confirmed"] else say)(f"{mark} {step['role']}: {step['action']} ({step['evidence']})")
        show(f"safe state {state}")
    return 0 if confirmed else int(ExitCode.UNSAFE)


def _safe_role(config: BenchConfig, role: str) -> list[dict[str, Any]]:
    try:
        bench = Bench.open(config, _clock(config), roles=[role], owner="labctl bench safe")
    except BenchOpenError as error:
        return [{"role": role, "action": "open", "confirmed": False, "evidence": str(error.failures[0].error)}]
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
