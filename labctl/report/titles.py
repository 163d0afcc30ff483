"""The title of a run's figure: sample, main result with interval, what it rests on, run and date."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from labctl.report.result_names import LAW_NAMES, result_label
from labctl.report.wording import (
    CONVENTIONS,
    clipped,
    in_print,
    interval,
    label_text,
    number,
    reading,
    rounded,
    started_text,
    unit_text,
)
from labctl.store.catalogue import key_result
from labctl.store.run import Run

_TITLE_LENGTH = 88
_SUBTITLE_LENGTH = 170
_LEAST_MATERIAL = 6
"""Fewer letters of the material say nothing: the name alone is better then."""
_SHORT = {"loglog_knee": "log-log knee", "lasing_s_curve": "S-curve"}
_MAIN = {"fluence-sweep": "threshold", "vsl-scan": "gain"}
"""Main result by procedure, where without it no other may stand in its place."""


@dataclass(frozen=True)
class MainResult:
    """The result that a run is made for: its name, the same in words, and the entry."""

    name: str
    label: str
    entry: Mapping[str, Any]


def main_result(procedure: str, result: Any) -> MainResult | None:
    """Get the result that stands in title and headline: by procedure, else the first that has a value."""
    if not isinstance(result, Mapping):
        return None
    name = _MAIN.get(procedure)
    entry = result.get(name) if name else None
    if name is None and (found := key_result(result)) is not None:
        name, entry = found
    if name is None or not isinstance(entry, Mapping) or number(entry.get("value")) is None:
        return None
    label = "lasing threshold" if entry.get("definition") == "lasing_s_curve" else result_label(name, procedure)
    return MainResult(name, label, entry)


def procedure_name(procedure: str) -> str:
    """Write the name of a procedure in words."""
    text = label_text(procedure)
    for short in ("vsl", "uv", "ase"):
        text = text.replace(f"{short} ", f"{short.upper()} ")
    return text


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
    procedure = str(run.header.get("procedure", "run"))
    main = main_result(procedure, data.get("result"))
    if main is not None:
        shown = reading(main.label, main.entry)
        outcome = f"{main.label} {shown.value} {shown.unit}".rstrip()
        limits = [f"95 %: {shown.ci95}"] if shown.ci95 else []
        limits += [systematic] if (systematic := _systematic(data, main)) else []
        outcome += f"  ({'; '.join(limits)})" if limits else ""
    elif procedure in _MAIN:
        outcome = f"no {result_label(_MAIN[procedure])}" if data else "not analysed"
    else:
        outcome = procedure_name(procedure) + ("" if data else ", not analysed")
    room = _TITLE_LENGTH - len(outcome) - 2
    return f"{clipped(sample_text(run, room), max(room, 12))}: {outcome}"


def subtitle(run: Run, data: Mapping[str, Any]) -> str:
    """Write what the main result rests on, run, date and status on one line."""
    procedure = str(run.header.get("procedure", "run"))
    main = main_result(procedure, data.get("result"))
    parts = [] if main is None else grounds(main, data)
    parts = parts or [procedure_name(procedure)]
    parts += [f"run {run.header.get('run', run.path.stem)}", started_text(run.header.get("started"))]
    if run.status != "finished":
        parts.append(run.status)
    return clipped("  ·  ".join(parts), _SUBTITLE_LENGTH)


def _systematic(data: Mapping[str, Any], main: MainResult) -> str:
    """Write the interval of a gain that holds the systematic errors, too, which its own does not."""
    scans = data.get("scans") if main.name == "gain" else None
    budget = scans[-1].get("budget") if isinstance(scans, list) and scans and isinstance(scans[-1], Mapping) else None
    total = budget.get("total") if isinstance(budget, Mapping) else None
    ends = reading("total", total).ci95 if isinstance(total, Mapping) else ""
    return f"all errors: {ends}" if ends else ""


def grounds(main: MainResult, data: Mapping[str, Any]) -> list[str]:
    """Write by which definition, convention and model a result holds, and its systematic error."""
    entry, parts = main.entry, []
    if main.name == "threshold":
        parts.append(_SHORT.get(str(entry.get("definition", "loglog_knee")), "threshold"))
    convention = str(entry.get("convention") or "")
    if convention:
        parts.append(f"incident fluence, {CONVENTIONS.get(convention, convention)}")
    systematic = number(entry.get("systematic_relative_error"))
    if systematic:
        parts.append(f"systematic ±{100 * systematic:.2g} %")
    if main.name == "gain":
        parts += _grounds_of_gain(data)
    if main.name.startswith("remaining"):
        parts += _grounds_of_course(data)
    return parts


def _grounds_of_course(data: Mapping[str, Any]) -> list[str]:
    """Write by which law, and at which reading of the clock, emission is left."""
    course = data.get("course")
    if not isinstance(course, Mapping):
        return []
    ends, law = interval(course.get("clock_range")), str(course.get("law") or "")
    parts = (
        [f"end of the reads at {rounded(ends[1])} {unit_text(course.get('clock_unit'))}"] if ends is not None else []
    )
    return [*parts, f"law: {LAW_NAMES.get(law, label_text(law))}"] if law else parts


def _grounds_of_gain(data: Mapping[str, Any]) -> list[str]:
    scans = data.get("scans")
    scan = scans[-1] if isinstance(scans, list) and scans and isinstance(scans[-1], Mapping) else {}
    fit = scan.get("fit")
    parts = [f"model: {fit.get('model')}"] if isinstance(fit, Mapping) and fit.get("model") else []
    if scan.get("method") not in (None, "stripe"):
        parts.append(str(scan["method"]))
    fluence = in_print({"value": scan.get("fluence_uj_cm2"), "unit": "uJ/cm^2"})
    shown = reading("pump", fluence)
    return [*parts, f"pump {number(fluence.get('value')):.4g} {shown.unit}"] if shown.value else parts
