"""Provenance: what one would need to repeat a run or to doubt it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from labctl.bench.bench import Bench
from labctl.clock import Clock
from labctl.processes import no_window
from labctl.run.earlier import Earlier
from labctl.run.plan import Plan
from labctl.run.pymeasure_bridge import parameter_units
from labctl.run.request import PreparedRun

_PACKAGES = ("labctl-bench", "pymeasure", "numpy", "scipy", "h5py", "pyvisa", "pyserial", "pydantic")
_GIT_TIMEOUT_S = 5.0
_MAX_DIFF = 200_000


def run_header(name: str, prepared: PreparedRun, plan: Plan, wall_s: float) -> dict[str, Any]:
    """Compose the header of a run: what it is, with everything it was made from.

    :param name: Name of the run.
    :param wall_s: Unix time of its start.
    """
    procedure, bench, request = prepared.procedure, prepared.bench, prepared.request
    files = {"bench": bench.text, "sample": prepared.sample.text if prepared.sample else ""}
    calibration = bench.attenuator_calibration
    calibrations = {"attenuator": calibration.text} if calibration else {}
    plot = procedure.DEFAULT_PLOT
    parameters = procedure.parameter_values().items()
    return {
        "run": name,
        "procedure": procedure.NAME,
        "parameters": {key: list(value) if isinstance(value, tuple) else value for key, value in parameters},
        "parameter_units": parameter_units(procedure),
        "bench": {"name": bench.name, "file": str(Path(bench.file).absolute())},
        "sample": _sample(prepared),
        "request": request.model_dump(),
        "plan": plan.as_dict(),
        "provenance": provenance(files, calibrations, request.seed),
        "simulated": prepared.simulated,
        "seed": request.seed,
        "default_stream": plot.stream,
        "x": plot.x,
        "signal": plot.signal,
        "spectra": plot.spectra,
        "started": datetime.fromtimestamp(wall_s, UTC).isoformat(),
    }


def resumption(earlier: Earlier, prepared: PreparedRun, clock: Clock) -> dict[str, Any]:
    """Compose what the journal says when a run goes on: the gap, its cause, and what is other than before."""
    then = earlier.header.get("provenance", {})
    calibration = prepared.bench.attenuator_calibration
    return {
        "status": earlier.status,
        "cause": earlier.cause,
        "gap_s": earlier.gap_s(clock),
        "points": earlier.points,
        "bench": _if_other(prepared.bench.text, then.get("files", {}).get("bench")),
        "calibrations": {
            "attenuator": _if_other(
                calibration.text if calibration else "", then.get("calibrations", {}).get("attenuator", "")
            )
        },
        "versions": {"python": sys.version.split()[0], **{name: _version(name) for name in _PACKAGES}},
        "git": _git(Path(__file__).resolve().parents[2]),
    }


def _if_other(now: str, then: str | None) -> str | None:
    """Get a text if it is another one than at the beginning of the run."""
    return now if now != then else None


def instruments(bench: Bench) -> dict[str, dict[str, Any]]:
    """Get driver, resource and identity of every open instrument, by role; of a filter wheel what stands in it."""
    entries, filters = bench.config.instruments, bench.config.filter
    described: dict[str, dict[str, Any]] = {
        role: {
            "driver": entries[role].driver,
            "resource": entries[role].resource,
            "vendor": identity.vendor,
            "model": identity.model,
            "serial": identity.serial,
            "firmware": identity.firmware,
        }
        for role, identity in bench.identities.items()
    }
    if filters is not None and "filter" in described:
        described["filter"]["positions"] = {
            str(position.number): {"name": position.name, "kind": position.kind, "text": position.text}
            for position in filters.positions
        }
    return described


def watched(bench: Bench) -> dict[str, Any]:
    """Get what every watch condition reads before the first light, and the conditions nobody can watch in this run."""
    return {
        "readings": [reading.as_dict() for reading in bench.watch.readings()],
        "idle": [str(entry) for entry in bench.watch.idle],
    }


def provenance(configs: dict[str, str], calibrations: dict[str, str], seed: int) -> dict[str, Any]:
    """Collect versions, commit and uncommitted diff, the full text of all files, and the seed."""
    return {
        "versions": {"python": sys.version.split()[0], **{name: _version(name) for name in _PACKAGES}},
        "platform": platform.platform(),
        "host": platform.node(),
        "user": os.environ.get("USER") or os.environ.get("USERNAME") or "",
        "git": _git(Path(__file__).resolve().parents[2]),
        "files": configs,
        "calibrations": calibrations,
        "seed": seed,
    }


def _sample(prepared: PreparedRun) -> dict[str, Any]:
    if prepared.sample is None:
        return {}
    return {"spot": prepared.request.spot, **prepared.sample.sample.model_dump(mode="json")}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _git(folder: Path) -> dict[str, Any]:
    """Get commit and diff of the checkout labctl runs from; empty when it runs from an installed package."""
    program = shutil.which("git")
    if program is None or not (folder / ".git").exists():
        return {}

    def ask(*arguments: str) -> str:
        done = subprocess.run(
            [program, "-C", str(folder), *arguments],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            encoding="utf-8",
            errors="replace",
            timeout=_GIT_TIMEOUT_S,
            check=True,
            **no_window(),
        )
        return done.stdout

    try:
        diff = ask("diff", "HEAD", "--no-ext-diff", "--no-textconv")
        return {
            "commit": ask("rev-parse", "HEAD").strip(),
            "diff": diff[:_MAX_DIFF],
            "diff_truncated": len(diff) > _MAX_DIFF,
        }
    except (OSError, subprocess.SubprocessError):
        return {}
