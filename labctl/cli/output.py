"""What the commands print: people read standard error and tables; programs read one JSON object."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping
from typing import Any, TextIO

from labctl.errors import ExitCode, LabctlError


def print_json(data: Mapping[str, Any]) -> None:
    """Print one JSON object on standard output; values that JSON has no word for become null.

    JSON is UTF-8. Where the output is not, as in a pipe on Windows, letters beyond ASCII are written as escapes.
    """
    plain = not str(getattr(sys.stdout, "encoding", "")).lower().replace("-", "").startswith("utf8")
    _write(sys.stdout, json.dumps(_clean(data), ensure_ascii=plain, default=str))


def say(text: str) -> None:
    """Print a line for people, on standard error."""
    _write(sys.stderr, text)


def show(text: str) -> None:
    """Print the result of a command for people, on standard output."""
    _write(sys.stdout, text)


def show_table(headings: Mapping[str, str], rows: list[list[str]], title: str = "") -> None:
    """Print a table on standard output.

    :param headings: Heading to ``left`` or ``right``.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading, side in headings.items():
        table.add_column(heading, justify="right" if side == "right" else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 200, markup=False, highlight=False)
    with console.capture() as capture:
        console.print(table)
    show(capture.get().rstrip("\n"))


def result_line(name: str, entry: Mapping[str, Any]) -> str:
    """Write one result with its uncertainty: the half-width of the 68 % interval, and the 95 % interval."""
    from labctl.report.wording import (
        CONVENTIONS,
        DEFINITIONS,
        in_print,
        interval,
        label_text,
        number,
        range_text,
        rounded,
        shared_error_text,
        unit_text,
    )

    if entry and all(isinstance(one, Mapping) for one in entry.values()):
        readings = {CONVENTIONS.get(key, key): one for key, one in entry.items()}
        return "\n".join(result_line(f"{name}, {reading}", one) for reading, one in readings.items())
    entry = in_print(entry)
    value, narrow, wide = number(entry.get("value")), interval(entry.get("ci68")), interval(entry.get("ci95"))
    if value is None:
        return f"{label_text(name):24} not determined" + (f": {entry['reason']}" if entry.get("reason") else "")
    half = (narrow[1] - narrow[0]) / 2 if narrow else None
    parts = [rounded(value, half)]
    if half:
        parts.append(f"± {rounded(half, half)}")
    if unit_text(entry.get("unit")):
        parts.append(unit_text(entry["unit"]))
    text = f"{label_text(name):24} {' '.join(parts)}"
    if wide:
        text += f"   (95 %: {range_text(wide, half)})"
    if shared_error_text(entry):
        text += f"   systematic {shared_error_text(entry)}"
    said = [DEFINITIONS.get(entry.get("definition", ""), ""), CONVENTIONS.get(entry.get("convention", ""), "")]
    return "   ".join([text, *(words for words in said if words)])


def show_files(files: Mapping[str, str]) -> None:
    """Print where files lie, relative to the working directory where that is shorter."""
    for name, path in files.items():
        show(f"{name:8} {_short(path)}")


def say_unconfirmed(safe_report: Mapping[str, Any]) -> None:
    """Print which steps of the safe state nobody has confirmed, and what to do."""
    say("SAFE STATE UNCONFIRMED: go to the bench and look")
    for step in safe_report.get("steps", []):
        if not step["confirmed"]:
            say(f"  {step['role']}: {step['action']}: {step['evidence']}")


def fail(error: LabctlError, *, as_json: bool) -> int:
    """Print an error in the form that was asked for; returns the exit code."""
    if as_json:
        print_json({"error": error.as_dict(), "exit": int(error.exit_code)})
    else:
        say(f"error: {error}")
    return int(error.exit_code)


def fail_usage(message: str, *, as_json: bool) -> int:
    """Print what was wrong with a command line; returns the exit code."""
    if as_json:
        error = {"type": "UsageError", "what": message, "state": "nothing was moved"}
        print_json({"error": error, "exit": int(ExitCode.BAD_INPUT)})
    else:
        say(f"error: {message}\n  do: `labctl --help` and `labctl COMMAND --help` tell what is there")
    return int(ExitCode.BAD_INPUT)


def fail_unforeseen(error: Exception, *, as_json: bool) -> int:
    """Print a fault of labctl itself, with its trace for whoever mends it; returns the exit code."""
    import traceback

    say("".join(traceback.format_exception(error)).rstrip())
    what = f"{type(error).__name__}: {error}"
    if as_json:
        print_json({"error": {"type": "Fault", "what": what, "todo": "report this"}, "exit": int(ExitCode.FAILED)})
    else:
        say(f"error: {what}\n  do: this is a fault in labctl; report it with the lines above")
    return int(ExitCode.FAILED)


def _write(stream: TextIO | None, text: str) -> None:
    """Write a line; whoever has stopped reading must not change how the command ends."""
    if stream is None:  # a program without a console on Windows
        return
    try:
        stream.write(text + "\n")
        stream.flush()
    except OSError:
        # What is still in the buffer would fail again when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _clean(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _clean(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(entry) for entry in value]
    item = getattr(value, "item", None)
    return _clean(item()) if item is not None and getattr(value, "ndim", None) == 0 else value


def _short(path: str) -> str:
    try:
        relative = os.path.relpath(path)
    except (ValueError, OSError):  # another drive, or a working directory that is gone
        return path
    return relative if len(relative) < len(path) else path
