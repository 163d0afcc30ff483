"""The page of a campaign: what was asked, what was run, what came of it, and what went wrong."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from labctl.config.campaign import CampaignConfig
from labctl.errors import LabctlError
from labctl.report.campaign_page import CampaignPage, RunEntry, Section, render_campaign, result_rows
from labctl.report.wording import started_text, typeset, value_text
from labctl.run.queue_history import Round, RunState
from labctl.run.queue_state import QueueState
from labctl.store.durable import write_new
from labctl.store.notices import in_words
from labctl.store.run import open_run

log = logging.getLogger(__name__)

MOST_FIGURES = 60
"""A page of so many figures has some 10 MB; those of further runs are linked."""
_INCIDENTS = ("incident", "skipped", "paused", "refused", "resumed", "altered")
_MOST_INCIDENTS = 30


def write_campaign_report(
    state: QueueState, campaign: CampaignConfig, status: str, todo: str, tell: Callable[[str], None]
) -> str:
    """Write the page of a campaign beside its state file; returns its path, or an empty text where that fails.

    A report that cannot be written must not change what the campaign has come to.
    """
    round_ = state.round
    if round_ is None or not round_.runs:
        return ""
    try:
        page = campaign_page(round_, campaign, status, todo, state.path)
        return str(_write(state.path, render_campaign(page).encode()))
    except (LabctlError, OSError) as error:
        tell(f"the report of the campaign could not be written: {error}")
    except Exception as error:  # of a run file that makes no sense, say
        log.exception("the report of the campaign")
        tell(f"the report of the campaign could not be written: {type(error).__name__}: {error}")
    return ""


def campaign_page(round_: Round, campaign: CampaignConfig, status: str, todo: str, path: Path) -> CampaignPage:
    """Gather what the page says."""
    entries: list[RunEntry] = []
    figures = 0
    for planned in round_.plan:
        number = int(planned["number"])
        entry = _entry(planned, round_.runs.get(number), path.parent, with_figure=figures < MOST_FIGURES)
        figures += bool(entry.figure)
        entries.append(entry)
    samples = list(dict.fromkeys(entry.sample for entry in entries))
    return CampaignPage(
        name=campaign.name,
        description=campaign.description.strip(),
        status=status,
        todo=todo,
        began=started_text(round_.began),
        ended=started_text(round_.last),
        resumed=tuple(started_text(when) for when in round_.resumed),
        simulated=any(entry.simulated for entry in entries),
        virtual=bool(round_.options.get("virtual_time")),
        sections=tuple(Section(one, tuple(entry for entry in entries if entry.sample == one)) for one in samples),
        runs=tuple(entries),
        state=path.name,
        file=Path(str(round_.options.get("file") or "")).name,
        seed=str(round_.options.get("seed", "")),
    )


def _entry(planned: Mapping[str, Any], state: RunState | None, folder: Path, *, with_figure: bool) -> RunEntry:
    number = int(planned["number"])
    name, procedure, planned_sample = (str(planned.get(key) or "") for key in ("name", "procedure", "sample"))
    if state is None:
        return RunEntry(number, name, procedure, planned_sample, "left", "unknown", "it was not begun")
    level = {"finished": "good", "waiting": "unknown", "skipped": "unknown"}.get(state.status, "bad")
    incidents, sample = _from_file(state.run) if state.run else ([], "")
    incidents = [*(f"attempt that failed: {failure['what']}" for failure in state.failures), *incidents]
    files = state.kept.get("files") or {}
    points = state.kept.get("points") or {}
    return RunEntry(
        number=number,
        name=name,
        procedure=procedure,
        sample=planned_sample or sample,
        status=state.status or "begun",
        level=level,
        why=state.why or ("" if state.status == "finished" else str(state.kept.get("error") or "")),
        safe_state=state.safe_state,
        attempts=state.attempts,
        began=started_text(state.began) if state.began else "",
        points=f"{points['done']} of {points['planned']}" if points.get("planned") else "",
        asked=tuple(
            (name, typeset(value_text(value))) for name, value in (state.request.get("parameters") or {}).items()
        ),
        spot=str(state.request.get("spot") or ""),
        taken=tuple(_taken(one) for one in state.resolved),
        results=result_rows(state.results),
        warnings=tuple(map(str, state.kept.get("warnings") or [])),
        incidents=tuple(incidents[:_MOST_INCIDENTS]),
        figure=_figure(str(files.get("figure") or "")) if with_figure else b"",
        page=_relative(str(files.get("page") or ""), folder),
        run=_relative(state.run, folder),
        simulated=bool(state.kept.get("simulated")),
    )


def _taken(one: Mapping[str, Any]) -> tuple[str, str, str]:
    """Say of a parameter what it was set to and where that came from."""
    origin = one["origin"]
    if origin.get("fallback"):
        return one["parameter"], typeset(one["value"]), f"the fallback, because {origin['why']}"
    factors = ", ".join(f"{factor:g}" for factor in origin["times"])
    source = f"{origin['result']} of {origin['run']}: {origin['found']}"
    source += f", times {factors}" if factors != "1" else ""
    source += f", plus {origin['plus']}" if origin["plus"] else ""
    source += "" if origin["field"] == "value" else f" (its {origin['field']})"
    return one["parameter"], typeset(one["value"]), typeset(source)


def _from_file(path: str) -> tuple[list[str], str]:
    """Get incidents and sample of a run; of a file that cannot be read, that."""
    try:
        with open_run(path) as run:
            sample = (run.header.get("sample") or {}).get("name")
            return [in_words(event.kind, event.data) for event in run.events() if event.kind in _INCIDENTS], str(
                sample or ""
            )
    except LabctlError as error:
        return [f"its file cannot be read: {error.what}"], ""


def _figure(path: str) -> bytes:
    try:
        return Path(path).read_bytes() if path else b""
    except OSError:
        return b""


def _relative(path: str, folder: Path) -> str:
    if not path:
        return ""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive
        return Path(path).as_posix()


def _write(state: Path, html: bytes) -> Path:
    """Write the page under a name that is free."""
    stem = state.name.removesuffix(".jsonl")
    number = 1
    while True:
        page = state.with_name(f"{stem}.html" if number == 1 else f"{stem}-{number}.html")
        if not os.path.lexists(page):
            try:
                write_new(page, html)
                return page
            except FileExistsError:
                pass  # another one took the name meanwhile
        number += 1
