"""The title of a run's figure: sample, result with interval, convention, run and date."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labctl.report.wording import CONVENTIONS, clipped, label_text, number, reading, started_text
from labctl.store.run import Run

_TITLE_LENGTH = 88
_SUBTITLE_LENGTH = 170
_LEAST_MATERIAL = 6
"""Fewer letters of the material say nothing: the name alone is better then."""
_SHORT = {"loglog_knee": "log-log knee", "lasing_s_curve": "S-curve"}


def sample_text(run: Run, longest: int | None = None) -> str:
    """Name the sample: what it is made of, shortened to fit into ``longest`` characters, and its name."""
    sample = run.header.get("sample")
    if not isinstance(sample, Mapping) or not sample.get("name"):
        return "no sample named"
    name, material = str(sample["name"]), str(sample.get("material") or "")
    if not material or material == name:
        return name
    if longest is not None and (room := longest - len(name) - 3) < len(material):
        return f"{clipped(material, room)} ({name})" if room > _LEAST_MATERIAL else name
    return f"{material} ({name})"


def title(run: Run, data: Mapping[str, Any]) -> str:
    """Write the sample and the main result on one line."""
    result = data.get("result")
    entry = result.get("threshold") if isinstance(result, Mapping) else None
    if isinstance(entry, Mapping) and number(entry.get("value")) is not None:
        shown = reading("threshold", entry)
        name = "lasing threshold" if entry.get("definition") == "lasing_s_curve" else "threshold"
        outcome = f"{name} {shown.value} {shown.unit}" + (f"  (95 %: {shown.ci95})" if shown.ci95 else "")
    else:
        outcome = "no threshold" if data else "not analysed"
    room = _TITLE_LENGTH - len(outcome) - 2
    return f"{clipped(sample_text(run, room), room)}: {outcome}"


def subtitle(run: Run, data: Mapping[str, Any]) -> str:
    """Write convention, systematic error, run, date and status on one line."""
    parts = []
    result = data.get("result")
    entry = result.get("threshold") if isinstance(result, Mapping) else None
    if isinstance(entry, Mapping):
        convention = str(entry.get("convention") or "")
        parts.append(_SHORT.get(str(entry.get("definition", "loglog_knee")), "threshold"))
        if convention:
            parts.append(f"incident fluence, {CONVENTIONS.get(convention, convention)}")
        systematic = number(entry.get("systematic_relative_error"))
        if systematic:
            parts.append(f"systematic ±{100 * systematic:.2g} %")
    else:
        parts.append(label_text(str(run.header.get("procedure", "run"))))
    parts += [f"run {run.header.get('run', run.path.stem)}", started_text(run.header.get("started"))]
    if run.status != "finished":
        parts.append(run.status)
    return clipped("  ·  ".join(parts), _SUBTITLE_LENGTH)
