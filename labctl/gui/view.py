"""What the window shows of a run, read from its journal or its sealed file; knows nothing of Qt."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labctl.analysis.ase import ThresholdModel, threshold_model
from labctl.analysis.live import live_threshold
from labctl.analysis.threshold import NoThreshold
from labctl.report.sweep_data import NEEDED, read_rows
from labctl.report.wording import clipped, label_text, number, reading, rounded, unit_text
from labctl.store.notices import NOTICES, in_words
from labctl.store.run import Run
from labctl.store.source import Event

Array = NDArray[np.float64]
MOST_UNCERTAIN = 0.5
"""A provisional threshold that is less certain than this, relatively, is not shown."""
_SATURATED = 1
_LOG_LENGTH = 300
_PREFIXED = {"J", "s", "V", "A", "W", "Hz", "m"}


@dataclass(frozen=True, eq=False)
class Curve:
    """The signal against what was set, each of shape [n]; ``saturated`` points are not fitted."""

    x: Array
    y: Array
    saturated: NDArray[np.bool_]
    x_label: str
    y_label: str
    logarithmic: bool


@dataclass(frozen=True, eq=False)
class NewestSpectrum:
    """The spectrum of the newest point: ``x`` [n_px] on its axis, ``y`` [n_px] raw, ``saturated`` [n_px]."""

    x: Array
    y: Array
    saturated: NDArray[np.bool_]
    x_label: str
    y_label: str
    x_unit: str
    y_unit: str
    caption: str

    @property
    def readout(self) -> str:
        """Get the highest pixel in words."""
        if not np.isfinite(self.y).any():
            return "no finite pixel"
        top = int(np.nanargmax(self.y))
        return f"highest pixel {self.y[top]:.6g} {self.y_unit} at {self.x[top]:.2f} {self.x_unit}".rstrip()

    @property
    def saturation(self) -> str:
        """Get in words how many pixels are saturated; empty if none."""
        count = int(self.saturated.sum())
        pixels = "pixel" if count == 1 else "pixels"
        return f"{count} of {self.saturated.size} {pixels} SATURATED" if count else ""


@dataclass(frozen=True)
class ThresholdView:
    """The threshold in words and, where there is one, its value and interval in the unit of the abscissa."""

    text: str
    value: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class RunView:
    """A run as of one moment.

    :param stages: Name of a stage to ``max_points`` and ``point_s``, adaptive stages as they turned out.
    :param counts: Stored records by stream.
    :param started_s: Unix time of its start; NaN if unknown.
    :param safe_state: ``confirmed``, ``unconfirmed``, ``lost-with-run``, ``not-needed``; None while nobody said.
    :param safe_steps: Steps towards the safe state: ``role``, ``action``, ``confirmed``, ``evidence``.
    :param results: Results in words, the threshold left out.
    """

    name: str
    path: str
    procedure: str
    sample: str
    bench: str
    simulated: bool
    virtual_time: bool
    status: str
    started_s: float
    start_up_s: float
    stages: Mapping[str, Mapping[str, float]]
    counts: Mapping[str, int]
    endpoint: str = ""
    curve: Curve | None = None
    spectrum: NewestSpectrum | None = None
    threshold: ThresholdView | None = None
    results: tuple[str, ...] = ()
    safe_state: str | None = None
    safe_steps: tuple[Mapping[str, Any], ...] = ()
    log: tuple[str, ...] = field(default=())

    @property
    def done(self) -> int:
        """Get the number of stored points, of all streams."""
        return sum(self.counts.values())

    @property
    def planned(self) -> int:
        """Get the number of points planned, as far as it is known by now."""
        return sum(int(stage["max_points"]) for stage in self.stages.values())


def read_view(run: Run, before: RunView | None = None) -> RunView:
    """Read what there is to show.

    :param before: The view of a moment ago: what cannot have changed is taken from it.
    """
    header, events = run.header, run.events()
    counts = {name: run.count(name) for name in run.streams}
    safe = [event.data for event in events if event.kind == "safe_state"]
    results = run.results[-1].data if run.results else {}
    same = before is not None and before.counts == counts
    final = isinstance(results.get("result"), Mapping)
    virtual_time = bool((header.get("request") or {}).get("virtual_time"))
    clock = "lab " if virtual_time else ""
    return RunView(
        name=str(header.get("run", run.path.stem)),
        path=str(run.path),
        procedure=str(header.get("procedure", "")),
        sample=str((header.get("sample") or {}).get("name", "")),
        bench=str((header.get("bench") or {}).get("name", "")),
        simulated=run.simulated,
        virtual_time=virtual_time,
        status=run.status,
        started_s=_unix_s(header.get("started")),
        start_up_s=float((header.get("plan") or {}).get("start_up_s", 0.0)),
        stages=_stages(header, events),
        counts=counts,
        endpoint=str(next((e.data.get("address", "") for e in reversed(events) if e.kind == "endpoint"), "")),
        curve=before.curve if same and before is not None else _curve(run),
        spectrum=before.spectrum if same and before is not None else _newest_spectrum(run),
        threshold=before.threshold if same and before is not None and not final else _threshold(run, results),
        results=_results(results),
        safe_state=str(safe[-1].get("state")) if safe else None,
        safe_steps=tuple(safe[-1].get("steps", ())) if safe else (),
        log=tuple(line for event in events[-_LOG_LENGTH:] if (line := _line(event, clock))),
    )


def _unix_s(iso: Any) -> float:
    try:
        return datetime.fromisoformat(str(iso)).timestamp()
    except ValueError:
        return math.nan


def _stages(header: Mapping[str, Any], events: list[Event]) -> dict[str, dict[str, float]]:
    """Get the stages of the plan; of one that has begun, the number of points it really has."""
    planned = (header.get("plan") or {}).get("stages", [])
    stages = {
        str(stage["name"]): {"max_points": float(stage["max_points"]), "point_s": float(stage["point_s"])}
        for stage in planned
    }
    for event in events:
        name = event.data.get("name")
        if event.kind == "stage" and name in stages:
            stages[name]["max_points"] = float(len(event.data.get("points", ())))
    return stages


def _label(name: str, unit: str, prefix: str = "") -> str:
    """Write a column as the title of an axis: ``fluence_uj_cm2`` in ``uJ/cm^2`` becomes ``Fluence (µJ/cm²)``."""
    suffix = re.sub(r"[^a-z0-9]+", "_", unit.lower().replace("^", ""))
    words = label_text(name.removesuffix(f"_{suffix}"))
    return words[:1].upper() + words[1:] + (f" ({prefix}{unit_text(unit)})" if unit_text(unit) else "")


def _curve(run: Run) -> Curve | None:
    layout = run.streams.get(run.default_stream)
    names = [str(run.header.get(key)) for key in ("x", "signal")]
    columns = [layout.column(name) for name in names] if layout is not None else [None]
    if any(column is None or column.kind == "text" for column in columns):
        return None
    x, y = (np.array(run.column(name), float) for name in names)
    if layout is not None and layout.column("saturated_pixels") is not None:
        saturated = np.nan_to_num(np.asarray(run.column("saturated_pixels"), float)) > 0
    else:
        saturated = np.zeros(x.shape, bool)
    logarithmic = tuple(names) == NEEDED
    labels = []
    for values, column in zip((x, y), columns, strict=True):
        if column is not None:
            factor, prefix = (1.0, "") if logarithmic else _prefix(values, column.unit)
            values *= factor
            labels.append(_label(column.name, column.unit, prefix))
    return Curve(x, y, saturated, labels[0], labels[1], logarithmic=logarithmic)


def _prefix(values: Array, unit: str) -> tuple[float, str]:
    """Choose factor and prefix that make small values readable, for units that take a prefix."""
    greatest = float(np.nanmax(np.abs(values))) if np.isfinite(values).any() else 0.0
    if unit in _PREFIXED and greatest > 0:
        for factor, prefix in ((1.0, ""), (1e3, "m"), (1e6, "µ"), (1e9, "n")):
            if greatest * factor >= 1:
                return factor, prefix
    return 1.0, ""


def _newest_spectrum(run: Run) -> NewestSpectrum | None:
    """Read the spectrum of the point that was stored last, in whatever stream it is."""
    name = str(run.header.get("spectra"))
    streams = [
        stream for stream, layout in run.streams.items() if layout.array(name) is not None and run.count(stream) > 0
    ]
    if not streams:
        return None
    stream = max(streams, key=lambda stream: int(run.column("point", stream)[-1]))
    layout = run.streams[stream]
    array = layout.array(name)
    if array is None or len(array.shape) != 1:
        return None
    counts = np.asarray(run.array(name, stream)[-1], float)
    axis = run.axes.get(array.axis or "")
    mask = layout.array("mask")
    flags = np.asarray(run.array("mask", stream)[-1]) if mask is not None and mask.shape == array.shape else None
    return NewestSpectrum(
        x=axis.values if axis is not None and len(axis.values) == len(counts) else np.arange(len(counts), dtype=float),
        y=counts,
        saturated=(flags & _SATURATED) > 0 if flags is not None else np.zeros(counts.shape, bool),
        x_label=_label(axis.name, axis.unit) if axis is not None else "Pixel",
        y_label=f"Raw {unit_text(array.unit) or 'signal'}",
        x_unit=unit_text(axis.unit) if axis is not None else "",
        y_unit=unit_text(array.unit),
        caption=_caption(run, stream),
    )


def _caption(run: Run, stream: str) -> str:
    """Say which point a spectrum belongs to."""
    layout = run.streams[stream]
    parts = [f"point {int(run.column('point', stream)[-1]) + 1}"]
    if stream != run.default_stream:
        parts.append(f"{label_text(stream)} frame")
    column = layout.column(str(run.header.get("x")))
    if column is not None and column.kind != "text":
        parts.append(f"{rounded(float(run.column(column.name, stream)[-1]))} {unit_text(column.unit)}")
    if layout.column("exposure_s") is not None and layout.column("accumulations") is not None:
        exposure_s, sums = (float(run.column(key, stream)[-1]) for key in ("exposure_s", "accumulations"))
        parts.append(f"{exposure_s:.3g} s × {sums:.0f}")
    return ", ".join(parts)


def _threshold(run: Run, results: Mapping[str, Any]) -> ThresholdView | None:
    """Get the threshold of the stored analysis, else a provisional one; None for a procedure that has none."""
    layout = run.streams.get(run.default_stream)
    if layout is None or any(layout.column(name) is None for name in NEEDED):
        return None
    final = results.get("result")
    entry = final.get("threshold") if isinstance(final, Mapping) else None
    if isinstance(entry, Mapping):
        shown, ends = reading("threshold", entry), entry.get("ci95")
        low, high = (number(end) for end in ends) if isinstance(ends, list) and len(ends) == 2 else (None, None)
        if not shown.value:
            return ThresholdView(f"no threshold: {clipped(shown.reason, 160)}")
        interval = f"   95 %: {shown.ci95}" if shown.ci95 else ""
        return ThresholdView(f"threshold {shown.value} {shown.unit}{interval}", number(entry["value"]), low, high)
    return _provisional(run)


def _provisional(run: Run) -> ThresholdView:
    rows = read_rows(run, {})
    use = rows.drawable & (rows.stage != "return")
    fluence, intensity, saturated = (values[use] for values in (rows.fluence, rows.intensity, rows.saturated))
    count = int(use.sum())
    try:
        found = live_threshold(fluence, intensity, saturated=saturated, model=_model(run))
    except (NoThreshold, ValueError):
        return ThresholdView(f"no threshold in range yet ({count} points)")
    inside = count > 0 and fluence.min() < found.value < fluence.max()
    if not inside or not found.relative_sd < MOST_UNCERTAIN:
        return ThresholdView(f"no threshold in range yet ({count} points)")
    low, high = found.value * math.exp(-found.relative_sd), found.value * math.exp(found.relative_sd)
    half = (high - low) / 2
    column = run.streams[run.default_stream].column(NEEDED[0])
    unit = unit_text(column.unit) if column is not None else ""
    text = f"provisional threshold {rounded(found.value, half)} ± {rounded(half, half)} {unit}, {found.n_points} points"
    return ThresholdView(text, found.value, low, high)


def _model(run: Run) -> ThresholdModel:
    chosen = run.header.get("parameters", {}).get("threshold_model", "auto")
    return threshold_model(str(chosen), run.header.get("sample", {}).get("form"))


def _results(results: Mapping[str, Any]) -> tuple[str, ...]:
    entries = results.get("result")
    if not isinstance(entries, Mapping):
        return ()
    shown = [
        reading(label, entry)
        for name, values in entries.items()
        if name != "threshold"
        for label, entry in _flat(label_text(name), values)
    ]
    return tuple(f"{r.label} {r.value} {r.unit}".rstrip() for r in shown if r.value)


def _flat(label: str, entry: Any) -> list[tuple[str, Any]]:
    """Get a result as it stands, or one line for each of its readings where it has several."""
    if isinstance(entry, Mapping) and entry and all(isinstance(one, Mapping) for one in entry.values()):
        return [(f"{label}: {label_text(key)}", one) for key, one in entry.items()]
    return [(label, entry)]


def _line(event: Event, clock: str) -> str:
    """Write an event of the run's journal as a line of the log; empty for what tells the reader nothing.

    :param clock: What to say of the clock where it is not the one on the wall.
    """
    data = event.data
    if event.kind == "stage":
        count = len(data.get("points", ()))
        text = f"{data.get('name')}: {count} point{'' if count == 1 else 's'}"
    elif event.kind == "instruments":
        text = "open: " + ", ".join(f"{role} {entry.get('model', '')}".strip() for role, entry in data.items())
    elif event.kind == "operator":
        text = f"operator, {'done' if data.get('confirmed') else 'refused'}: {data.get('asked', '')}"
    elif event.kind == "safe_state":
        steps = [
            f"{step.get('role')}: {step.get('action')} {'confirmed' if step.get('confirmed') else 'UNCONFIRMED'}"
            for step in data.get("steps", ())
        ]
        text = "; ".join([f"safe state {data.get('state')}", *steps])
    elif event.kind == "incident" and "point" not in data:
        text = f"incident: {(data.get('error') or {}).get('what', data)}"
        if data.get("reason"):
            text += f" ({data['reason']})"
    elif event.kind in NOTICES:
        text = in_words(event.kind, data)
    elif event.kind == "status":
        text = str(data.get("status", ""))
    else:
        return ""
    return f"{clock}{datetime.fromtimestamp(event.wall_s):%H:%M:%S}  {clipped(text, 400)}"
