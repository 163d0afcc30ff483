"""A panel with every gain that a stripe-length scan gives: the stated one, other models, the papers' simple fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from labctl.report import style
from labctl.report.stripe_data import Scan
from labctl.report.wording import interval, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LEAST_WEIGHT = 0.01


@dataclass(frozen=True)
class _Row:
    text: str
    value: float | None
    ends: tuple[float, float] | None
    colour: str
    marker: str


def draw_gains(axes: Axes, scan: Scan | None, *, simulated: bool) -> None:
    """(f) Gains with their 95 % intervals, one below the other."""
    style.panel(axes, "f", simulated=simulated)
    axes.set_xlabel("Net modal gain (cm⁻¹), 95 %", fontsize=11)
    axes.set_yticks([])
    rows = [] if scan is None else [row for row in _rows(scan) if row.value is not None]
    if not rows:
        axes.set_xticks([])
        verdict = "" if scan is None else str(scan.data.get("no_gain") or "")
        style.say(axes, f"no gain: {verdict}" if verdict else "no gain was found")
        return
    ends = [end for row in rows for end in (row.ends or ()) if np.isfinite(end)] + [row.value or 0.0 for row in rows]
    low, high = min(0.0, *ends), max(0.0, *ends)
    main = abs(rows[0].value or 0.0)
    low, high = max(low, -1.5 * main), min(high, 3 * main) if main else high
    margin = 0.06 * (high - low) or 1.0
    axes.set_xlim(low - margin, high + margin)
    axes.set_ylim(len(rows) - 0.35, -0.75)
    axes.axvline(0, color=style.GREY, lw=0.8)
    axes.axvline(rows[0].value or 0.0, color=style.VERMILION, lw=0.8, alpha=0.6)
    for place, row in enumerate(rows):
        if row.ends is not None:
            axes.plot(row.ends, [place, place], color=row.colour, lw=2.0, solid_capstyle="butt")
        axes.plot([row.value or 0.0], [place], row.marker, color=row.colour, ms=6)
        words = axes.text(0.02, place - 0.3, row.text, transform=axes.get_yaxis_transform(), size=8.5, va="center")
        words.set_bbox({"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.8})


def _rows(scan: Scan) -> list[_Row]:
    fit, data = scan.fit, scan.data
    budget = _mapping(data.get("budget"))
    method = str(data.get("method") or "stripe")
    rows = [_row("stated: " + (str(fit.get("model")) if method == "stripe" else method), data.get("gain"))]
    rows.append(_row("with the systematic errors", budget.get("total"), style.BLACK))
    shifted = _mapping(data.get("shifted_spots"))
    if shifted:
        rows.append(_row("stripe alone, evenly collected", fit, style.BLUE, "o"))
        rows.append(_row("gain + loss, from the spots", shifted.get("gain_plus_loss"), style.BLUE, "o"))
    for model in fit.get("models") or ():
        weight, name = number(_mapping(model).get("weight")) or 0.0, str(_mapping(model).get("model"))
        if name != fit.get("model"):
            says = f"weight {100 * weight:.0f} %" if weight >= _LEAST_WEIGHT else "ruled out"
            rows.append(_Row(f"{name} ({says})", number(model.get("gain_cm1")), None, style.GREY, "o"))
    for simple in scan.simple_fits:
        cut = number(simple.get("cut_gl"))
        name = "simple fit, all lengths" if cut is None else f"simple fit, gL < {cut:g}"
        doubt = "" if simple.get("trusted") is True else ": not to be trusted"
        rows.append(_row(name + doubt, simple, style.ORANGE, "^"))
    return rows


def _row(text: str, entry: Any, colour: str = style.VERMILION, marker: str = "D") -> _Row:
    found = _mapping(entry)
    return _Row(text, number(found.get("value")), interval(found.get("ci95")), colour, marker)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
