"""Commands on runs that exist: show, list, note, analyse, report, export."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from labctl.cli.output import number, print_json, say, show
from labctl.errors import InputError
from labctl.run.finish import analyse_run, report_run
from labctl.store.catalogue import list_runs as read_catalogue
from labctl.store.export import export_csv, export_nexus, export_xarray
from labctl.store.results import add_note as store_note
from labctl.store.run import Run, open_run

_EXPORTS = {"csv": export_csv, "nexus": export_nexus, "xarray": export_xarray}


def analyse(run: str, *, as_json: bool) -> int:
    """Analyse a run again; the result is added to its file."""
    analysed = analyse_run(Path(run))
    if as_json:
        print_json({"run": run, **analysed})
        return 0
    for name, entry in analysed["result"].items():
        _show_value(name, entry)
    for warning in analysed.get("warnings", []):
        say(f"warning: {warning}")
    return 0


def report(run: str, output: str | None, *, as_json: bool) -> int:
    """Write figure and page of a run."""
    files = report_run(Path(run), Path(output) if output else None)
    if as_json:
        print_json({"run": run, "files": files})
        return 0
    for name, path in files.items():
        show(f"{name:8} {path}")
    return 0


def _summary(run: Run) -> dict[str, Any]:
    safe = run.events("safe_state")
    latest = run.results[-1].data if run.results else {}
    return {
        "run": str(run.path),
        "status": run.status,
        "procedure": run.header.get("procedure"),
        "sample": run.header.get("sample", {}).get("name"),
        "started": run.header.get("started"),
        "simulated": run.simulated,
        "points": {"done": sum(run.count(name) for name in run.streams)},
        "safe_state": safe[-1].data.get("state") if safe else None,
        "result": latest.get("result", {}),
        "warnings": latest.get("warnings", []),
        "incidents": [event.data for event in run.events("incident")],
        "notes": [{"wall_s": note.wall_s, "text": note.text} for note in run.notes],
    }


def show_one(run: str, *, as_json: bool) -> int:
    """Show a run in any state."""
    with open_run(Path(run)) as opened:
        summary = _summary(opened)
    if as_json:
        print_json(summary)
    else:
        _show_summary(summary)
    return 0


def _show_summary(summary: dict[str, Any]) -> None:
    show(f"{summary['run']}{'   SIMULATED' if summary['simulated'] else ''}")
    show(f"{summary['procedure']} on {summary['sample']}, {summary['status']}, {summary['points']['done']} rows")
    show(f"safe state {summary['safe_state'] or 'not recorded'}")
    for name, entry in summary["result"].items():
        _show_value(name, entry)
    for warning in summary["warnings"]:
        show(f"warning: {warning}")
    for incident in summary["incidents"]:
        show(f"incident: {incident.get('error', {}).get('what', incident)}")
    for note in summary["notes"]:
        show(f"note: {note['text']}")


def _show_value(name: str, entry: dict[str, Any]) -> None:
    low, high = entry.get("ci95") or (None, None)
    interval = f"  (95 %: {number(low)} to {number(high)})" if low is not None and high is not None else ""
    show(f"{name:22} {number(entry['value'])} {entry.get('unit', '')}{interval}")


def add_note(run: str, text: str, *, as_json: bool) -> int:
    """Add a note to a run."""
    store_note(Path(run), text)
    if as_json:
        print_json({"run": run, "noted": text})
    return 0


def list_runs(directory: str, *, as_json: bool) -> int:
    """List the runs in a folder."""
    folder = Path(directory)
    if not folder.is_dir():
        raise InputError(f"there is no folder {directory}", todo="name the folder given as --out to `labctl run`")
    found = read_catalogue(folder)
    if as_json:
        print_json({"directory": directory, "runs": [vars_of(summary) for summary in found]})
        return 0
    from rich.console import Console
    from rich.table import Table

    table = Table()
    rows = [vars_of(summary) for summary in found]
    for heading in rows[0] if rows else ():
        table.add_column(heading)
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    Console(file=sys.stdout).print(table)
    return 0


def vars_of(summary: Any) -> dict[str, Any]:
    """Get the fields of a catalogue entry as JSON-serialisable data."""
    from dataclasses import asdict

    return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(summary).items()}


def export(run: str, to: str, output: str, *, as_json: bool) -> int:
    """Export a run; an existing file is refused."""
    if to not in _EXPORTS:
        raise InputError(f"there is no export to {to!r}", where="--to", todo=f"one of {', '.join(_EXPORTS)}")
    with open_run(Path(run)) as opened:
        written = _EXPORTS[to](opened, Path(output))
    if as_json:
        print_json({"run": run, "written": str(written)})
    else:
        show(f"written  {written}")
    return 0
