"""Commands on runs that exist: show, list, note, abort, analyse, report, export."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from labctl.cli.output import print_json, result_line, say, say_unconfirmed, show, show_files, show_table
from labctl.errors import InputError
from labctl.report.wording import label_text, reading
from labctl.run.campaign_status import ask_run
from labctl.run.finish import analyse_run, report_run
from labctl.store.catalogue import RunSummary
from labctl.store.catalogue import list_runs as read_catalogue
from labctl.store.export import export_csv, export_nexus, export_xarray
from labctl.store.naming import find_run
from labctl.store.notices import NOTICES, in_words
from labctl.store.results import add_note as store_note
from labctl.store.run import Run, open_run, understood
from labctl.store.run_search import Search
from labctl.store.windows_names import check_names

_EXPORTS = {"csv": export_csv, "nexus": export_nexus, "xarray": export_xarray}


def analyse(run: str, *, as_json: bool) -> int:
    """Analyse a run again; the result is added to its file."""
    with understood(run):
        analysed = analyse_run(_existing(run))
    if as_json:
        print_json({"run": run, **analysed})
        return 0
    for name, entry in analysed["result"].items():
        show(result_line(name, entry))
    for warning in analysed.get("warnings", []):
        say(f"warning: {warning}")
    return 0


def report(run: str, output: str | None, *, as_json: bool) -> int:
    """Write figure and page of a run."""
    with understood(run):
        files = report_run(_existing(run), Path(output) if output else None)
    if as_json:
        print_json({"run": run, "files": files})
    else:
        show_files(files)
    return 0


def show_one(run: str, *, as_json: bool) -> int:
    """Show a run in any state; of one that goes, ask the engine how far it is."""
    with understood(run), open_run(_existing(run)) as opened:
        summary = _summary(opened)
        if opened.status == "running":
            summary["progress"] = ask_run(opened)
    if as_json:
        print_json(summary)
    else:
        with understood(run):
            _show_summary(summary)
    return 0


def abort(run: str, *, as_json: bool) -> int:
    """Ask the engine of a run to end it safely."""
    ask_engine(run, "abort", reason="`labctl abort`")
    if as_json:
        print_json({"run": run, "aborting": True})
    else:
        show("aborting: the run ends as soon as it can, then the bench is made safe")
    return 0


def ask_engine(run: str, command: str, **data: Any) -> dict[str, Any]:
    """Send a command to the engine of a run that goes, and return its answer; raises InputError."""
    with open_run(_existing(run)) as opened:
        if opened.status != "running":
            raise InputError(
                f"the run is not going: it is {opened.status}",
                where=str(opened.path),
                todo="`labctl runs DIR` lists those that go; `labctl run --resume RUN` goes on with one that broke off",
            )
        answer = ask_run(opened, command, **data)
    if answer is None or "error" in answer:
        raise InputError(
            str(answer["error"]) if answer else "the engine of the run does not answer",
            where=str(run),
            state="the run goes on",
            todo="" if answer else "try again in a moment: it may be sealing",
        )
    return answer


def add_note(run: str, text: str, *, as_json: bool) -> int:
    """Add a note to a run."""
    store_note(_existing(run), text)
    if as_json:
        print_json({"run": run, "noted": text})
    else:
        show(f"noted    {text}")
    return 0


def list_runs(directory: str, search: Search, *, as_json: bool) -> int:
    """List the runs in a folder that are looked for."""
    folder = Path(directory)
    if not folder.is_dir():
        raise InputError(f"there is no folder {directory}", todo="name the folder given as --out to `labctl run`")
    everything = read_catalogue(folder)
    found = search.among(everything)
    if as_json:
        print_json({"directory": directory, "runs": [_as_data(summary) for summary in found]})
        return 0
    if not found:
        say(f"no runs in {directory}" if not everything else f"none of {len(everything)} runs is like that")
        return 0
    rows = []
    for summary in found:
        marks = "SIMULATED" if summary.simulated else summary.reason
        started = summary.started[:19].replace("T", " ")
        where = str(summary.path.relative_to(folder) if summary.path.is_relative_to(folder) else summary.path)
        result = _key_result(summary, search)
        points = str(summary.points)
        rows.append([where, summary.status, started, summary.procedure, summary.sample, points, result, marks])
    headings = dict.fromkeys(("run", "status", "started (UTC)", "procedure", "sample"), "left")
    show_table({**headings, "points": "right", "result": "left", "": "left"}, rows)
    return 0


def _as_data(summary: RunSummary) -> dict[str, Any]:
    key = summary.key_result
    result = None if key is None else {"name": key[0], **key[1]}
    kept = {name: value for name, value in asdict(summary).items() if name != "words"}
    return {**kept, "path": str(summary.path), "key_result": result}


def _key_result(summary: RunSummary, search: Search) -> str:
    """Write the result that was looked for, else the first."""
    key = summary.key_result
    asked = next((one.name for one in search.results if one.name in summary.results), None)
    name, entry = (asked, summary.results[asked]) if asked else key or ("", {})
    if not entry:
        return ""
    shown = reading(label_text(name), entry)
    return f"{shown.label} {shown.value} {shown.unit}".strip()


def export(run: str, to: str, output: str, *, as_json: bool) -> int:
    """Export a run; an existing file is refused."""
    if to not in _EXPORTS:
        raise InputError(f"there is no export to {to!r}", where="--to", todo=f"one of {', '.join(_EXPORTS)}")
    check_names(Path(output), "-o")
    if Path(output).exists():
        raise InputError(f"{output} exists already; nothing is ever overwritten", where="-o", todo="take another name")
    with understood(run), open_run(_existing(run)) as opened:
        written = _EXPORTS[to](opened, Path(output))
    if as_json:
        print_json({"run": run, "written": str(written)})
    else:
        show(f"written  {written}")
    return 0


def _existing(run: str) -> Path:
    """Get the path of a run; raises InputError if there is none."""
    files = find_run(run)
    if not any(path is not None and path.is_file() for path in (files.journal, files.sealed)):
        raise InputError(f"there is no run {run}", todo="`labctl runs DIR` lists what there is")
    return Path(run)


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
        "points": {"done": run.points_done, "planned": run.points_planned},
        "safe_state": safe[-1].data.get("state") if safe else None,
        "safe_report": safe[-1].data if safe else {},
        "result": latest.get("result", {}),
        "warnings": latest.get("warnings", []),
        "incidents": [event.data for event in run.events("incident")],
        "notices": [
            {"wall_s": event.wall_s, "kind": event.kind, "text": in_words(event.kind, event.data)}
            for event in run.events()
            if event.kind in NOTICES
        ],
        "notes": [{"wall_s": note.wall_s, "text": note.text} for note in run.notes],
    }


def _show_summary(summary: dict[str, Any]) -> None:
    if summary["result"] and summary["status"] != "finished":
        show(f"from an incomplete run, {summary['status']}:")
    for name, entry in summary["result"].items():
        show(result_line(name, entry))
    points, progress = summary["points"], summary.get("progress")
    sample = f" on {summary['sample']}" if summary["sample"] else ""
    planned = f" of {points['planned']}" if points["planned"] else ""
    show(f"{summary['procedure']}{sample}{', SIMULATED' if summary['simulated'] else ''}")
    if progress:
        doing = f", {progress['phase']}{', aborting' if progress.get('aborting') else ''}"
        show(f"{summary['status']}{doing}: {points['done']}{planned} points")
    else:
        safe_state = summary["safe_state"] or "not recorded"
        show(f"{summary['status']}: {points['done']}{planned} points; safe state {safe_state}")
    show(f"run      {summary['run']}")
    for warning in summary["warnings"]:
        show(f"warning: {warning}")
    for notice in summary["notices"]:
        when = f"{datetime.fromtimestamp(notice['wall_s']):%Y-%m-%d %H:%M:%S}"
        show(f"{when}  {'incident: ' if notice['kind'] == 'incident' else ''}{notice['text']}")
    for note in summary["notes"]:
        show(f"note: {note['text']}")
    if summary["safe_state"] == "unconfirmed":
        say_unconfirmed(summary["safe_report"])
