"""How a run ended: what is confirmed of a bench that did not open, what failed and where, and the exit code."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

from labctl.bench.safe import RoleStep, SafeReport, can_harm
from labctl.errors import NOTHING_MOVED, BenchOpenError, ExitCode, InputError, LabctlError
from labctl.roles import SafeStep
from labctl.run.outcome import Outcome


def without_the_unreached(report: SafeReport, error: BenchOpenError) -> SafeReport:
    """Judge the safe state of a bench that did not open.

    A dead energy meter is a failed measurement, not an unsafe bench: its steps do not count. A shutter or a detector
    that cannot be reached may have been left in any state: that is unconfirmed, whoever left it so. One that failed
    when it was started, but then confirmed its safe state, is safe.
    """
    safe = {entry.role for entry in report.steps} - {entry.role for entry in report.unconfirmed}
    unreached = {failure.role: failure for failure in error.failures if failure.role not in safe}
    dead = [
        RoleStep(role, SafeStep("reach the instrument", False, str(unreached[role].error)))
        for role in unreached
        if can_harm(role)
    ]
    return SafeReport((*dead, *(entry for entry in report.steps if entry.role not in unreached)))


def fault(failure: BaseException, progress: dict[str, Any]) -> LabctlError:
    """Say of an error that nobody foresaw where it came from."""
    return LabctlError(
        f"{type(failure).__name__}: {failure}",
        where=f"{progress['phase']}, after {progress['done']} points; {_innermost(failure)}",
        todo="this is a fault in labctl or in the procedure: report it with the place named here",
    )


def exit_code(outcome: Outcome, error: LabctlError | None) -> int:
    """Get the exit code of a run that was begun."""
    if outcome.safe_state == "unconfirmed":
        return int(ExitCode.UNSAFE)
    if outcome.status in ("finished", "waiting"):
        return int(ExitCode.FINISHED)
    if outcome.status == "aborted":
        return int(ExitCode.ABORTED)
    if isinstance(error, InputError) and outcome.safe_state == "not-needed":
        return int(ExitCode.BAD_INPUT)
    return int(ExitCode.FAILED)


def refused(error: LabctlError) -> Outcome:
    """Compose the outcome of a run that was not begun."""
    error.state = error.state or NOTHING_MOVED
    return Outcome(False, status="refused", error=error.as_dict(), exit_code=int(ExitCode.BAD_INPUT))


def _innermost(failure: BaseException) -> str:
    frames = traceback.extract_tb(failure.__traceback__)
    return f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
