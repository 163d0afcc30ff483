"""Marks on the course of a stability run: what is left at stated readings of the clock, and lifetimes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from labctl.report import style
from labctl.report.stability_data import DOSES, SHOTS, Points
from labctl.report.wording import interval, number, rounded, unit_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DARK_PURPLE = "#8A3F6B"


def draw_stated(axes: Axes, course: Mapping[str, Any]) -> None:
    """Mark what the run states to be left, with 95 % intervals."""
    stated = [(number(entry.get("clock")), entry.get("intensity")) for entry in _entries(course.get("values"))]
    ends = interval(course.get("clock_range"))
    stated.append((None if ends is None else ends[1], course.get("end")))
    label: str | None = "left, 95 %"
    for clock, entry in stated:
        value = number(entry.get("value")) if isinstance(entry, Mapping) else None
        if clock is None or value is None or not isinstance(entry, Mapping):
            continue
        limits = interval(entry.get("ci95")) or (value, value)
        bars = [[max(value - limits[0], 0.0)], [max(limits[1] - value, 0.0)]]
        look = {"color": style.VERMILION, "ms": 6, "capsize": 4, "elinewidth": 1.6, "zorder": 5}
        axes.errorbar([clock], [value], yerr=bars, fmt="D", label=label, **look)
        label = None


def height_of(course: Mapping[str, Any]) -> float:
    """Get the largest I/I(0) of the course; 1 if none is stored."""
    found = course.get("maximum")
    entry = found.get("intensity") if isinstance(found, Mapping) else None
    return (number(entry.get("value")) if isinstance(entry, Mapping) else None) or 1.0


def draw_lifetime(axes: Axes, life: Any, share: float, height: float, unit: str, points: Points) -> None:
    """Mark a lifetime: a point with its interval, or an arrow from its lower limit on."""
    if not isinstance(life, Mapping):
        return
    level = share * (height if life.get("reference") == "maximum" else 1.0)
    right = axes.get_xlim()[1]
    letter = "N" if unit in SHOTS else "D" if unit in DOSES else "T"
    name = f"{letter}{round(100 * share)}"
    axes.axhline(level, color=style.PURPLE, lw=0.8, ls=":", zorder=1)
    entry = life.get("estimate")
    value = number(entry.get("value")) if isinstance(entry, Mapping) else None
    shown = unit_text(unit)
    if value is not None and isinstance(entry, Mapping):
        ends = entry.get("ci95")
        low, high = (number(end) for end in ends) if isinstance(ends, list) and len(ends) == 2 else (None, None)
        half = (high - low) / 2 if low is not None and high is not None else None
        text = f"{name} {rounded(value, half)} {shown}" + (", extrapolated" if life.get("extrapolated") else "")
        axes.plot([low if low is not None else value, high if high is not None else right], [level, level], "-",
                  color=style.PURPLE, lw=3, alpha=0.8, zorder=4, solid_capstyle="butt")  # fmt: skip
        if value <= right:
            axes.plot([value], [level], "|", color=style.PURPLE, ms=16, mew=2.2, zorder=5)
    else:
        limit = number(life.get("longer_than"))
        if limit is None:
            return
        text = f"{name} > {rounded(limit, 0.05 * limit)} {shown}, one-sided 95 %"
        _arrow(axes, min(limit, right), level)
    at_right, above = _freest(points, level, right)
    axes.annotate(
        text,
        (0.985 if at_right else 0.015, level),
        (0, 4 if above else -4),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right" if at_right else "left",
        va="bottom" if above else "top",
        size=10,
        color=_DARK_PURPLE,
        zorder=2.5,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.6},
    )


def _freest(points: Points, level: float, longest: float) -> tuple[bool, bool]:
    """Get where a text at a level hides the fewest points: at the right or the left, above or below."""

    def hidden(place: tuple[bool, bool]) -> int:
        at_right, above = place
        half = points.clock > 0.5 * longest if at_right else points.clock <= 0.5 * longest
        distance = points.intensity - level if above else level - points.intensity
        return int((half & (distance > -0.01) & (distance < 0.09)).sum())

    return min(((True, True), (False, True), (True, False), (False, False)), key=hidden)


def _arrow(axes: Axes, start: float, level: float) -> None:
    """Draw an arrow to the right from a lower limit on."""
    axes.annotate(
        "",
        (0.995, level),
        (start, level),
        xycoords=("axes fraction", "data"),
        textcoords="data",
        arrowprops={"arrowstyle": "-|>", "color": style.PURPLE, "lw": 2.2, "shrinkA": 0, "shrinkB": 0},
        zorder=4,
    )
    axes.plot([start], [level], "|", color=style.PURPLE, ms=14, mew=2.2, zorder=5)


def _entries(values: Any) -> list[Mapping[str, Any]]:
    return [entry for entry in values if isinstance(entry, Mapping)] if isinstance(values, list | tuple) else []
