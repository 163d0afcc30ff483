"""``labctl doctor``: is this installation fit to measure?"""

from __future__ import annotations

import importlib.metadata
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from labctl.cli.output import print_json, show
from labctl.config.bench import load_bench
from labctl.config.locate import list_shipped
from labctl.config.registry import driver_entries


def doctor(*, as_json: bool) -> int:
    """Run all checks; exit code 1 if any fails."""
    checks: dict[str, Callable[[], str]] = {
        "python": lambda: sys.version.split()[0],
        "labctl-bench": lambda: importlib.metadata.version("labctl-bench"),
        "pymeasure": lambda: importlib.metadata.version("pymeasure"),
        "visa": _visa,
        "serial ports": _serial_ports,
        "drivers": _drivers,
        "benches": lambda: ", ".join(load_bench(name).name for name in list_shipped("benches")),
        "journal": _journal,
    }
    results = {name: _attempt(check) for name, check in checks.items()}
    healthy = all(ok for ok, _ in results.values())
    if as_json:
        print_json(
            {"healthy": healthy, "checks": {name: {"ok": ok, "text": text} for name, (ok, text) in results.items()}}
        )
    else:
        for name, (ok, text) in results.items():
            show(f"{'ok  ' if ok else 'FAIL'} {name:14} {text}")
    return 0 if healthy else 1


def _attempt(check: Callable[[], str]) -> tuple[bool, str]:
    try:
        return True, check()
    except Exception as error:  # a broken installation fails in unforeseen ways; each is a finding
        return False, f"{type(error).__name__}: {error}"


def _drivers() -> str:
    """Load every driver; what fails is named with its package."""
    broken: list[str] = []
    entries = driver_entries()
    for name, entry in entries.items():
        try:
            entry.load()
        except Exception as error:  # as above
            broken.append(f"{name} ({entry.value}): {type(error).__name__}: {error}")
    if broken:
        raise ImportError("; ".join(broken))
    return ", ".join(sorted(entries))


def _visa() -> str:
    import pyvisa

    try:
        return str(pyvisa.ResourceManager())
    except (ValueError, OSError):
        return str(pyvisa.ResourceManager("@py"))


def _serial_ports() -> str:
    """List the ports by the names that ``serial:`` takes."""
    from serial.tools.list_ports import comports

    return ", ".join(f"{port.device} ({port.description})" for port in sorted(comports())) or "none found"


def _journal() -> str:
    """Check that a journal can be written durably where temporary files go."""
    with tempfile.TemporaryDirectory() as folder:
        connection = sqlite3.connect(Path(folder) / "probe.sqlite")
        mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        connection.close()
    if mode != "wal":
        raise OSError(f"SQLite gives journal mode {mode} instead of wal")
    return f"SQLite {sqlite3.sqlite_version}, write-ahead log"
