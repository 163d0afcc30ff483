"""What past runs tell of the next one: the newest finished runs of the same kind, and their median."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from labctl.config.bench import BenchConfig, parse_bench
from labctl.errors import LabctlError
from labctl.run.expectation import Expectation, light_of, measured, median
from labctl.run.plan import Plan
from labctl.run.request import PreparedRun
from labctl.store.run import Run, open_run

_NEWEST = 3
_LOOKED_AT = 20
"""So many files are opened at most: a plan must not read the whole archive."""
_DAYS = "[0-9]*-[0-9]*-[0-9]*"
_DISTURBED = frozenset({"incident", "altered", "paused", "continued", "resumed", "skipped", "reference"})
"""Events of runs that took longer, or less, than they would have by themselves."""


def past_runs(prepared: PreparedRun, plan: Plan) -> Expectation | None:
    """Get the median of the newest finished runs of the same kind in the folder of the runs; None if there is none.

    Of the same kind are runs of the same procedure with the same values of all parameters, on a bench with the same
    instruments, laser and spectrometer, and of the same sample. A run that cannot be read is passed over.
    """
    found: list[Expectation] = []
    try:
        files = list(_newest_first(prepared))
    except OSError:  # a folder that cannot be read tells nothing
        return None
    for path in files:
        expectation = _read(path, prepared, plan)
        if expectation is not None:
            found.append(expectation)
        if len(found) == _NEWEST:
            break
    if not found:
        return None
    return median(found, "one past run" if len(found) == 1 else f"median of {len(found)} past runs")


def _newest_first(prepared: PreparedRun) -> Iterator[Path]:
    """Give the sealed files of this procedure by day and number, the newest first."""
    left = _LOOKED_AT
    for day in sorted(Path(prepared.request.out).glob(_DAYS), reverse=True):
        for path in sorted(day.glob(f"[0-9]*_{prepared.procedure.NAME}*.h5"), reverse=True):
            if not left:
                return
            left -= 1
            yield path


def _read(path: Path, prepared: PreparedRun, plan: Plan) -> Expectation | None:
    try:
        with open_run(path) as run:
            if run.status != "finished" or not _is_alike(run, prepared, plan):
                return None
            if _DISTURBED & {event.kind for event in run.events()}:
                return None
            expectation = measured(run, light_of(Path(prepared.request.out), path), "one past run")
    except (LabctlError, OSError, KeyError, TypeError, ValueError):  # files of strangers and of older versions
        return None
    names = [stage.name for stage in expectation.stages]
    if names != [stage.name for stage in plan.stages]:
        return None
    beside = [file for file in path.parent.glob(f"{path.stem}*") if file.is_file()]
    return replace(expectation, files_mb=sum(file.stat().st_size for file in beside) / 1e6)


def _is_alike(run: Run, prepared: PreparedRun, plan: Plan) -> bool:
    header = run.header
    sample = prepared.sample.sample.name if prepared.sample else None
    bench = parse_bench(str(header["provenance"]["files"]["bench"]), path_of_bench(header))
    return (
        header["procedure"] == prepared.procedure.NAME
        and bool(header["simulated"]) == prepared.simulated
        and _plain(header["parameters"]) == _plain(prepared.procedure.parameter_values())
        and (header.get("sample") or {}).get("name") == sample
        and _counts(bench) == _counts(prepared.bench)
    )


def path_of_bench(header: dict[str, Any]) -> str:
    """Get the name of the bench file of a run."""
    return str(header["bench"]["file"])


def _counts(bench: BenchConfig) -> Any:
    """Get what decides how long a run takes: instruments, laser, spectrometer, spot; not where the wires lead."""
    instruments = {role: (entry.driver, entry.options.data) for role, entry in bench.instruments.items()}
    return instruments, bench.laser, bench.spectrometer, bench.pump, bench.safe_state


def _plain(values: dict[str, Any]) -> Any:
    return json.loads(json.dumps(values, sort_keys=True, default=str))
