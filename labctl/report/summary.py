"""What the page of a run says, in words and rounded numbers; taken from a run in any state."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from labctl.report.comparison import Table, tables
from labctl.report.figure import latest_result
from labctl.report.result_names import result_name
from labctl.report.story import story
from labctl.report.titles import grounds, main_result, procedure_name, sample_text
from labctl.report.trust import Remark, remarks
from labctl.report.wording import (
    CONVENTIONS,
    DEFINITIONS,
    Reading,
    duration_text,
    in_print,
    interval,
    label_text,
    number,
    range_text,
    reading,
    rounded,
    shared_error_text,
    started_text,
    typeset,
    unit_text,
    value_text,
    wall_text,
)
from labctl.store.notices import NOTICES, in_words
from labctl.store.run import Run
from labctl.store.source import Event

Rows = tuple[tuple[str, str], ...]

_STATUS = {
    "finished": "every point of the plan was measured",
    "aborted": "ended on request before its plan was done",
    "failed": "ended by a fault before its plan was done",
    "crashed": "its program died; every acknowledged point is here",
    "running": "still going: this page shows it as it was when the page was made",
}
_GAPS = ("paused", "continued", "resumed", "reference")
"""Kinds of events that tell of a run that stood still, and of how it went on."""
_DEFINITIONS = {
    "loglog_knee": "Log-log knee",
    "ase_equals_pl": "ASE = PL",
    "fwhm_onset": "Width: onset",
    "fwhm_half": "Width: half-way",
    "linear_intercept": "Linear intercept",
    "max_curvature": "Largest curvature",
    "max_slope": "Largest slope",
    "net_gain_zero": "Zero net gain",
}


@dataclass(frozen=True)
class SafeStep:
    """One step of the safe state, as the instrument answered it."""

    role: str
    action: str
    confirmed: bool
    evidence: str


@dataclass(frozen=True)
class Verdict:
    """A judgement in words; ``level`` is ``good``, ``bad`` or ``unknown``."""

    level: str
    text: str


@dataclass(frozen=True)
class Summary:
    """Everything on the page but the figure."""

    name: str
    procedure: str
    sample: str
    started: str
    simulated: bool
    status: Verdict
    safe: Verdict
    safe_steps: tuple[SafeStep, ...]
    headline: Reading | None
    no_headline: str
    convention: str
    systematic: str
    systematic_note: str
    convention_error: str
    story: tuple[str, ...]
    remarks: tuple[Remark, ...]
    tables: tuple[Table, ...]
    fit: Rows
    definitions: tuple[Reading, ...]
    results: tuple[Reading, ...]
    photodamage: Verdict | None
    warnings: tuple[str, ...]
    incidents: tuple[str, ...]
    gaps: tuple[str, ...]
    course: Rows
    sample_table: Rows
    parameters: Rows
    instruments: tuple[tuple[str, Mapping[str, str]], ...]
    provenance: Rows
    files: Rows
    notes: Rows


def summarise(run: Run) -> Summary:
    """Collect what the page says."""
    header, data = run.header, latest_result(run)
    result = _mapping(data.get("result"))
    main = main_result(str(header.get("procedure", "")), result)
    entry = main.entry if main is not None else {}
    headline = reading(main.label[:1].upper() + main.label[1:], entry) if main is not None else None
    systematic, systematic_note = _systematic(entry, data)
    notices = [event for event in run.events() if event.kind in NOTICES]
    safe, steps = _safe_state(run)
    origin = _mapping(header.get("provenance"))
    return Summary(
        name=str(header.get("run", run.path.stem)),
        procedure=procedure_name(str(header.get("procedure", "run"))),
        sample=sample_text(run),
        started=started_text(header.get("started")),
        simulated=run.simulated,
        status=_status(run),
        safe=safe,
        safe_steps=steps,
        headline=headline,
        no_headline="" if headline else _why_no_headline(run, data),
        convention=_convention(entry) or " · ".join(grounds(main, data) if main is not None else ()),
        systematic=systematic,
        systematic_note=systematic_note,
        convention_error=_convention_error(entry),
        story=story(run),
        remarks=remarks(data),
        tables=tables(data),
        fit=_fit(entry) if main is not None and main.name == "threshold" else (),
        definitions=_definitions(_mapping(data.get("definitions"))),
        results=_results(result, main.name if main is not None else "", str(header.get("procedure", ""))),
        photodamage=_photodamage(data.get("photodamage")),
        warnings=_warnings(header, data),
        incidents=tuple(_incident(event) for event in notices if event.kind not in _GAPS),
        gaps=tuple(_incident(event) for event in notices if event.kind in _GAPS),
        course=_course(run),
        sample_table=_sample(_mapping(header.get("sample"))),
        parameters=_parameters(header),
        instruments=_instruments(run.events("instruments")),
        provenance=_provenance(header, origin, entry),
        files=_files(origin),
        notes=_notes(run),
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _texts(value: Any) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list | tuple) else []


def _sample(sample: Mapping[str, Any], prefix: str = "") -> Rows:
    """What is known of the sample; a unit in the name of a key goes where the value says it itself."""
    rows: list[tuple[str, str]] = []
    for key, value in sample.items():
        name = re.sub(r"_(nm|cm2|uj_cm2)$", "", str(key)) if isinstance(value, str) else str(key)
        if isinstance(value, Mapping):
            rows += _sample(value, f"{label_text(str(key))}: ")
        elif value not in (None, ""):
            rows.append((prefix + label_text(name), typeset(value_text(value))))
    return tuple(rows)


def _results(result: Mapping[str, Any], headline: str, procedure: str) -> tuple[Reading, ...]:
    """Every result but the headline; the threshold under other conventions with how each reads the spot."""
    readings = []
    own = _mapping(result.get("threshold")).get("convention")
    for name, entry in result.items():
        if name == "threshold_by_convention":
            others = {key: value for key, value in _mapping(entry).items() if key != own}
            readings += [
                replace(reading(f"Threshold, {label_text(key)}", value), meaning=typeset(str(value.get("reading", ""))))
                for key, value in others.items()
            ]
        elif name not in (headline, "threshold"):
            readings.append(_doubted(reading(result_name(name, procedure), entry), entry))
    return tuple(readings)


def _doubted(shown: Reading, entry: Any) -> Reading:
    """Add to a result that its analysis does not trust that it is not to be trusted."""
    doubted = isinstance(entry, Mapping) and entry.get("trusted") is False
    return replace(shown, meaning="not to be trusted here: see below") if doubted else shown


def _status(run: Run) -> Verdict:
    level = {"finished": "good", "running": "unknown"}.get(run.status, "bad")
    return Verdict(level, f"{run.status}: {_STATUS.get(run.status, '')}".rstrip(": "))


def _safe_state(run: Run) -> tuple[Verdict, tuple[SafeStep, ...]]:
    """Judge by the last record of the safe state; a run without one left no word of it."""
    events = run.events("safe_state")
    if not events:
        text = "not yet: the run is still going" if run.status == "running" else "not recorded in this run"
        return Verdict("unknown" if run.status == "running" else "bad", text), ()
    data = events[-1].data
    steps = tuple(
        SafeStep(
            str(step.get("role", "")),
            str(step.get("action", "")),
            step.get("confirmed") is True,
            str(step.get("evidence", "")),
        )
        for step in map(_mapping, data.get("steps") or ())
    )
    state = str(data.get("state", "not recorded"))
    open_steps = [f"{step.role}: {step.action}" for step in steps if not step.confirmed]
    text = f"UNCONFIRMED: {'; '.join(open_steps) or state}" if state == "unconfirmed" else state.replace("-", " ")
    return Verdict({"confirmed": "good", "not-needed": "good"}.get(state, "bad"), text), steps


def _why_no_headline(run: Run, data: Mapping[str, Any]) -> str:
    if data.get("no_threshold"):
        return str(data["no_threshold"])
    if data.get("result"):
        return ""
    if data:
        return next(iter(_texts(data.get("warnings"))), "the analysis gave no result")
    return "not analysed yet" if run.status == "running" else "not analysed: `labctl analyse` does it"


def _convention(entry: Mapping[str, Any]) -> str:
    name = str(entry.get("convention") or "")
    definition = DEFINITIONS.get(str(entry.get("definition")))
    parts = [definition] if definition else []
    parts += [f"incident fluence, {CONVENTIONS.get(name, name)}"] if name else []
    return " · ".join(parts)


def _systematic(entry: Mapping[str, Any], data: Mapping[str, Any]) -> tuple[str, str]:
    """Write the error that the interval of the headline does not hold, and where it comes from."""
    shared = shared_error_text(entry)
    if shared:
        return shared, "energy at the sample and size of the spot, not in the intervals"
    scans = data.get("scans")
    budget = _mapping(_mapping(scans[-1]).get("budget")) if isinstance(scans, list) and scans else {}
    error = number(budget.get("systematic_cm1"))
    if error is None:
        return "", ""
    ends = interval(_mapping(budget.get("total")).get("ci95"))
    whole = f"; both together, 95 %: {range_text(ends)} cm⁻¹" if ends else ""
    return f"±{error:.2g} cm⁻¹", f"budget below, not in the intervals{whole}"


def _convention_error(entry: Mapping[str, Any]) -> str:
    """Say how far the knee moves with the fluence from which saturation is allowed to begin, where that decides it."""
    value = number(entry.get("definition_error"))
    return f"±{100 * value:.2g} %" if value and entry.get("distance_at_bound") else ""


def _fit(entry: Mapping[str, Any]) -> Rows:
    """The fit behind the threshold."""
    if not entry:
        return ()
    entry = in_print(entry)
    unit = unit_text(entry.get("unit"))
    rows = [("Definition", DEFINITIONS.get(str(entry.get("definition")), ""))]
    rows.append(("Model", str(entry.get("model") or "")))
    for name, title in (
        ("slope_below", "Slope below"),
        ("slope_above", "Slope above"),
        ("slope_saturated", "Slope in saturation"),
        ("saturation_fluence", "Saturation sets in at"),
        ("softness", "Softness of the knee (in ln F)"),
        ("background_share", "Share past the mode, far below"),
        ("pulse_rms", "Scatter of the pulses, in the curve"),
        ("scatter", "Scatter about the fit (relative)"),
        ("error_scale", "Errors widened by"),
        ("aic", "AIC"),
        ("bic", "BIC"),
    ):
        value = number(entry.get(name))
        if value is not None:
            rows.append((title, f"{rounded(value)} {unit if name == 'saturation_fluence' else ''}".strip()))
    ends, chi2, dof = interval(entry.get("data_range")), number(entry.get("chi2")), number(entry.get("dof"))
    if ends is not None:
        points = f"{value_text(entry.get('n_points'))} points, " if entry.get("n_points") else ""
        rows.append(("Data used", f"{points}{range_text(ends, 0.05 * ends[0])} {unit}"))
    excluded = {label_text(k): v for k, v in _mapping(entry.get("n_excluded")).items() if v}
    rows.append(("Points left out", value_text(excluded) if excluded else "none"))
    if chi2 is not None and dof:
        rows.append(("χ² / degrees of freedom", f"{chi2:.1f} / {dof:.0f}"))
    rows.append(("Intervals by", str(entry.get("interval") or "")))
    return tuple((title, text) for title, text in rows if text)


def _definitions(definitions: Mapping[str, Any]) -> tuple[Reading, ...]:
    return tuple(reading(_DEFINITIONS.get(name, label_text(name)), entry) for name, entry in definitions.items())


def _photodamage(found: Any) -> Verdict | None:
    """Put the comparison of the returned points with the first ones into words."""
    if not isinstance(found, Mapping):
        return None
    ratio = _mapping(found.get("ratio"))
    value, ends = number(ratio.get("value")), interval(ratio.get("ci95"))
    if value is None:
        return Verdict("unknown", f"not checked: {found.get('reason') or 'no ratio was found'}")
    half = None if ends is None else (ends[1] - ends[0]) / 4
    text = f"emission after / before = {rounded(value, half)}" + (f" (95 %: {range_text(ends, half)})" if ends else "")
    if found.get("damaged") is True:
        return Verdict("bad", f"photodamage: {text}; use a fresh spot")
    if found.get("conclusive") is False:
        return Verdict("unknown", f"inconclusive: {text}; a change of 3 % would not have shown")
    return Verdict("good", f"none: {text}")


def _warnings(header: Mapping[str, Any], data: Mapping[str, Any]) -> tuple[str, ...]:
    planned = _texts(_mapping(header.get("plan")).get("warnings"))
    return tuple(dict.fromkeys([*planned, *_texts(data.get("warnings"))]))


def _incident(event: Event) -> str:
    """Put what happened into words; an error that ended the run with all that is known of it."""
    if event.kind != "incident" or "point" in event.data:
        return f"{wall_text(event.wall_s)}: {in_words(event.kind, event.data)}"
    error = _mapping(event.data.get("error")) or event.data
    parts = [str(error.get("what") or "")]
    for key, label in (("role", "role"), ("where", "where"), ("state", "state"), ("todo", "do")):
        if error.get(key):
            parts.append(f"{label}: {error[key]}")
    if event.data.get("reason"):
        parts.append(f"reason: {event.data['reason']}")
    text = "; ".join(part for part in parts if part) or value_text(event.data)
    return f"{wall_text(event.wall_s)}: {text}"


def _course(run: Run) -> Rows:
    """Points, time and light."""
    counts = {name: run.count(name) for name in run.streams}
    rows = [("Records", ", ".join(f"{count} {name}" for name, count in counts.items()) or "none")]
    if run.points_planned is not None:
        rows.append(("Points measured", f"{run.points_done} of {run.points_planned} planned"))
    ends = [event.t_s for event in run.events()] + [float(run.column("t_s", n).max()) for n, c in counts.items() if c]
    if ends:
        rows.append(("Duration", duration_text(max(ends))))
    for column, title, unit, total in (
        ("open_s", "Shutter open", "s", np.nansum),
        ("dose_j_cm2", "Dose on the spot", "J/cm²", np.nanmax),
    ):
        stream = run.default_stream
        if counts.get(stream) and run.streams[stream].column(column) is not None:
            values = np.asarray(run.column(column, stream), float)
            if np.isfinite(values).any():
                rows.append((title, f"{total(values):.4g} {unit}"))
    return tuple(rows)


def _parameters(header: Mapping[str, Any]) -> Rows:
    units = _mapping(header.get("parameter_units"))
    rows = []
    for name, value in _mapping(header.get("parameters")).items():
        unit = unit_text(units.get(name)) if value is not None else ""
        rows.append((label_text(name), f"{value_text(value)} {unit}".strip()))
    return tuple(rows)


def _instruments(events: Sequence[Event]) -> tuple[tuple[str, Mapping[str, str]], ...]:
    """Role and identity of every instrument, as last recorded."""
    named: dict[str, Mapping[str, str]] = {}
    for event in events:
        for role, identity in event.data.items():
            named[label_text(role)] = {key: str(value) for key, value in _mapping(identity).items()}
    return tuple(named.items())


def _provenance(header: Mapping[str, Any], origin: Mapping[str, Any], entry: Mapping[str, Any]) -> Rows:
    git = _mapping(origin.get("git"))
    diff = str(git.get("diff") or "")
    lines = len(diff.splitlines())
    state = "no uncommitted changes" if not diff else f"UNCOMMITTED CHANGES: {lines} lines of diff, kept in the run"
    bench = _mapping(header.get("bench"))
    rows = [
        ("Bench", " · ".join(Path(str(bench[k])).name for k in ("name", "file") if bench.get(k))),
        ("Seed of the simulation", value_text(header.get("seed")) if header.get("simulated") else ""),
        ("git commit", f"{git['commit']}, {state}" if git.get("commit") else "not run from a git checkout"),
        ("Platform", str(origin.get("platform") or "")),
        ("SHA-256 of the fitted data", str(entry.get("data_sha256") or "")),
    ]
    versions = _mapping(origin.get("versions"))
    rows.append(("Versions", ", ".join(f"{name} {version}" for name, version in versions.items() if version)))
    return tuple((title, text) for title, text in rows if text)


def _files(origin: Mapping[str, Any]) -> Rows:
    """Configuration and calibrations as they were, in full."""
    named = [(f"{label_text(k)} file", v) for k, v in _mapping(origin.get("files")).items()]
    named += [(f"calibration: {label_text(k)}", v) for k, v in _mapping(origin.get("calibrations")).items()]
    return tuple((name, str(text)) for name, text in named if text)


def _notes(run: Run) -> Rows:
    """Notes in order of time, those made on a live run among them."""
    noted = [(note.wall_s, note.text) for note in run.notes]
    noted += [(event.wall_s, str(event.data.get("text", ""))) for event in run.events("note")]
    return tuple((wall_text(wall_s), text) for wall_s, text in sorted(noted))
