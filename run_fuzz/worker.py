"""The process that reads the mutants: one JSON line of work in, one line of what came of it out.

``python -m run_fuzz.worker``: ``{"path", "original", "deep"}`` → ``{"outcome", "detail"}``. The outcome is ``read``,
``error`` (a clear one), ``wrong`` (other data than the original, without a word), or ``fault``.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import sys
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from typer.main import get_command

from labctl.cli.main import app
from labctl.errors import LabctlError
from labctl.store.catalogue import list_runs
from labctl.store.run import Run, open_run

COMMANDS = get_command(app)
EXPORTS = ("csv", "nexus", "xarray")

Columns = dict[str, dict[str, bytes]]


def everything(run: Run) -> Columns:
    """All that can be read of a run; the bytes of its columns and arrays."""
    _ = (run.events(), run.notes, run.results, run.axes, run.status, run.header, run.simulated)
    found: Columns = {}
    for stream, layout in run.streams.items():
        found[stream] = {name: values.tobytes() for name, values in run.columns(stream).items()}
        for array in layout.arrays:
            found[stream][array.name] = np.asarray(run.array(array.name, stream)).tobytes()
    return found


def command(*arguments: str) -> str:
    """Run the command line; what it printed. A clear error is raised as it is, and so is a fault."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        COMMANDS.main(args=list(arguments), prog_name="labctl", standalone_mode=False)
    return out.getvalue()


def look(path: Path, original: Path, number: int, *, damaged: bool, deep: bool) -> tuple[str, str]:
    """Read one mutant in every way, the exports in turn; returns outcome and detail."""
    outcome, detail = "read", ""
    try:
        with open_run(path) as run:
            found = everything(run)
        if damaged and not _agrees(found, original):
            return "wrong", "the columns differ from those that were written"
    except LabctlError as error:
        outcome, detail = "error", error.what
    kind = EXPORTS[number % len(EXPORTS)]
    uses: list[Callable[[], Any]] = [
        lambda: list_runs(path.parent),
        lambda: command("show", str(path)),
        lambda: json.loads(command("show", str(path), "--json")),
        lambda: command("export", str(path), "--to", kind, "-o", f"{path}.{kind}"),
    ]
    if deep:
        uses.append(lambda: command("report", str(path), "-o", str(path.with_suffix(".html"))))
        uses.append(lambda: json.loads(command("analyse", str(path), "--json")))
    for use in uses:
        try:
            use()
        except LabctlError as error:
            detail = detail or error.what
    return outcome, detail.splitlines()[0] if detail else ""


@cache
def _written(original: Path) -> Columns:
    with open_run(original) as run:
        return everything(run)


def _agrees(found: Columns, original: Path) -> bool:
    """Whether what was read is what was written, as far as it goes: a log that was cut off loses its end."""
    written = _written(original)
    return all(
        stream in written
        and columns.keys() == written[stream].keys()
        and all(written[stream][name].startswith(values) for name, values in columns.items())
        for stream, columns in found.items()
    )


def main() -> None:
    """Work until the input ends."""
    logging.disable(logging.CRITICAL)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        work: dict[str, Any] = json.loads(line)
        path, original = Path(work["path"]), Path(work["original"])
        try:
            outcome, detail = look(path, original, work["number"], damaged=work["damaged"], deep=work["deep"])
        except Exception:
            outcome, detail = "fault", traceback.format_exc()[-2500:]
        answers.write(json.dumps({"outcome": outcome, "detail": detail}) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
