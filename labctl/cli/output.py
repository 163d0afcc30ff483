"""What the commands print: people read standard error and tables; programs read one JSON object."""

from __future__ import annotations

import json
import math
import sys
from typing import Any

from labctl.errors import ExitCode, LabctlError


def print_json(data: dict[str, Any]) -> None:
    """Print one JSON object on standard output; values that JSON has no word for become null."""
    sys.stdout.write(json.dumps(_clean(data), ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()


def _clean(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _clean(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(entry) for entry in value]
    item = getattr(value, "item", None)
    return _clean(item()) if item is not None and getattr(value, "ndim", None) == 0 else value


def say(text: str) -> None:
    """Print a line for people, on standard error."""
    sys.stderr.write(text + "\n")


def show(text: str) -> None:
    """Print the result of a command for people, on standard output."""
    sys.stdout.write(text + "\n")


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
        print_json({"error": {"type": "UsageError", "what": message}, "exit": int(ExitCode.BAD_INPUT)})
    else:
        say(f"error: {message}\n  do: `labctl --help` and `labctl COMMAND --help` tell what is there")
    return int(ExitCode.BAD_INPUT)


def number(value: float, error: float | None = None) -> str:
    """Write a number with as many digits as its error deserves (two of the error), or five without one."""
    if not math.isfinite(value):
        return "not determined"
    if error is None or not math.isfinite(error) or error <= 0:
        return f"{value:.5g}"
    digits = max(1 - math.floor(math.log10(error)), 0)
    return f"{value:.{digits}f} ± {error:.{digits}f}" if abs(value) < 1e5 else f"{value:.6g} ± {error:.2g}"
