"""The figure of a stability run: what is left against time, dose or shots, the line's shift, reference and stress."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from labctl.report import style
from labctl.report.clock_axis import add_doses, doses_of, scale_clock
from labctl.report.lifetime_marks import draw_lifetime, draw_stated, height_of
from labctl.report.result_names import LAW_NAMES
from labctl.report.stability_data import (
    Curve,
    Points,
    Reads,
    clock_label,
    clock_of,
    clock_unit,
    course_of,
    fitting_unit,
    in_unit,
    read_curve,
    read_points,
    read_reads,
    read_second,
)
from labctl.report.stability_spectra_panel import draw_spectra
from labctl.report.stress_panel import draw_stress
from labctl.report.titles import subtitle, title
from labctl.report.wording import interval, number, rounded
from labctl.store.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
_MANY = 150
_AXIS_ABOVE = 0.045
"""Height of a second axis on top of the panels, as a share of the figure."""


def can_draw(run: Run) -> bool:
    """Get whether the run has the columns of a stability run."""
    layout = run.streams.get(run.default_stream)
    return layout is not None and any(layout.column(name) is not None for name in ("relative_intensity", "ratio"))


def draw(run: Run, data: Mapping[str, Any]) -> Figure:
    """Draw the run; ``data`` is the stored result of its analysis, or empty: then the reads as they are."""
    simulated, course = run.simulated, course_of(data)
    reads = read_reads(run, data)
    points = read_points(run, reads, data)
    unit = clock_unit(run, reads, data)
    figure = style.new_figure()
    top = style.head(figure, title(run, data), subtitle(run, data), simulated=simulated)
    doses = doses_of(clock_of(run, reads, data), unit, reads)
    place: dict[str, Any] = {"bottom": 0.085, "top": top - (_AXIS_ABOVE if doses is not None else 0.0)}
    left = figure.add_gridspec(2, left=0.078, right=0.425, height_ratios=(2.7, 1), hspace=0.33, **place)
    middle = figure.add_gridspec(2, left=0.505, right=0.725, height_ratios=(1, 1), hspace=0.06, **place)
    right = figure.add_gridspec(2, left=0.805, right=0.985, height_ratios=(1, 1), hspace=0.3, **place)
    course_axes = figure.add_subplot(left[0])
    _draw_course(
        course_axes, points, read_second(run, reads, data), course, unit, run.status, doses, simulated=simulated
    )
    label = clock_label(run, unit, analysed=bool(course))
    course_axes.set_xlabel(label, parse_math=False)
    _draw_reference(figure.add_subplot(left[1]), reads, simulated=simulated)
    peak = figure.add_subplot(middle[0])
    width = figure.add_subplot(middle[1], sharex=peak)
    clock = np.where(reads.baseline, 0.0, clock_of(run, reads, data))
    curve = read_curve(course, float(np.nanmax(points.clock, initial=0.0)))
    for axes, letter, name, values, key in (
        (peak, "c", "Peak shift (nm)", reads.peak_nm, "peak_nm"),
        (width, "d", "FWHM change (nm)", reads.fwhm_nm, "fwhm_nm"),
    ):
        style.panel(axes, letter, simulated=simulated)
        axes.set_ylabel(name, fontsize=11)
        _draw_line(axes, clock, values, reads, course.get(key), curve)
    peak.tick_params(labelbottom=False)
    width.set_xlabel(label, parse_math=False, fontsize=11)
    scale_clock(peak, clock[np.isfinite(clock)])
    figure.align_ylabels([peak, width])
    draw_spectra(figure.add_subplot(right[0]), run, reads, simulated=simulated)
    draw_stress(figure.add_subplot(right[1]), run, reads, simulated=simulated)
    return figure


def _draw_course(
    axes: Axes,
    points: Points,
    second: tuple[Points, Mapping[str, Any]] | None,
    course: Mapping[str, Any],
    unit: str,
    status: str,
    doses: tuple[Array, Array] | None = None,
    *,
    simulated: bool,
) -> None:
    """(a) Emission over that of the baseline, the chosen law with its band, and the lifetimes."""
    style.panel(axes, "a", simulated=simulated, mark=(0.5, 0.25))
    axes.set_ylabel("Emission / its start" if points.normalised else "Emission / first read")
    good = np.isfinite(points.clock) & np.isfinite(points.intensity)
    if not good.any():
        axes.set_xticks([])
        axes.set_yticks([])
        style.say(axes, "no reads" + (" yet" if status == "running" else " with a value"))
        return
    for chosen, name, look in (
        (good & ~points.hot & ~points.baseline, "read", {"color": style.BLUE, "mfc": style.BLUE}),
        (good & points.hot, "read hot", {"color": style.ORANGE, "mfc": "white"}),
        (good & points.baseline, "baseline", {"color": style.GREEN, "mfc": "white"}),
    ):
        if chosen.any():
            _draw_points(axes, points, chosen, name, look)
    longest = float(points.clock[good].max())
    curve = read_curve(course, longest)
    if curve is not None:
        _draw_curve(axes, curve, course, points)
    elif not points.hot.any() and good.sum() > 2:
        _guide(axes, points, good)
    if second is not None:
        _draw_second(axes, *second)
    draw_stated(axes, course)
    scale_clock(axes, points.clock[good])
    if doses is not None and axes.get_xscale() == "linear":
        add_doses(axes, *doses)
    top = max(float(np.nanmax(points.intensity[good])), 1.0)
    lowest = min(float(np.nanmin(points.intensity[good])), 0.0)
    axes.set_ylim(1.2 * lowest - 0.02 * top, 1.3 * top)
    for name, share in (("t80", 0.8), ("t50", 0.5)):
        draw_lifetime(axes, course.get(name), share, height_of(course), unit, points)
    style.legend(axes, loc="upper right", labelspacing=0.35, ncols=2, columnspacing=1.2)


def _guide(axes: Axes, points: Points, good: Any) -> None:
    """Connect points of which no curve is stored."""
    order = np.flatnonzero(good)[np.argsort(points.clock[good], kind="stable")]
    axes.plot(
        points.clock[order], points.intensity[order], color=style.GREY, lw=0.8, zorder=2, label="to guide the eye"
    )


def _draw_second(axes: Axes, points: Points, course: Mapping[str, Any]) -> None:
    """Draw a second band of the emission with its law."""
    good = np.isfinite(points.clock) & np.isfinite(points.intensity)
    if not good.any():
        return
    _draw_points(axes, points, good, "second band", {"color": style.SKY, "mfc": "white"})
    curve = read_curve(course, float(points.clock[good].max()))
    if curve is not None:
        if curve.low is not None and curve.high is not None:
            axes.fill_between(curve.clock, curve.low, curve.high, color=style.SKY, alpha=0.3, lw=0, zorder=2)
        name = LAW_NAMES.get(str(course.get("law")), str(course.get("law")))
        axes.plot(curve.clock, curve.intensity, "-.", color=style.SKY, lw=1.5, zorder=3.5, label=name)


def _draw_points(axes: Axes, points: Points, chosen: Any, name: str, look: Mapping[str, Any]) -> None:
    few = np.count_nonzero(chosen) <= _MANY
    axes.errorbar(
        points.clock[chosen],
        points.intensity[chosen],
        yerr=np.maximum(np.nan_to_num(points.error[chosen]), 0.0),
        fmt="o",
        ms=5.5 if few else 3,
        mew=1.3 if few else 0.7,
        elinewidth=1.0 if few else 0.5,
        zorder=3,
        label=name,
        **look,
    )


def _draw_curve(axes: Axes, curve: Curve, course: Mapping[str, Any], points: Points) -> None:
    name = str(course.get("law"))
    if curve.low is not None and curve.high is not None:
        axes.fill_between(curve.clock, curve.low, curve.high, color=style.GREY, alpha=0.35, lw=0, zorder=2)
    band = ", 95 % band" if curve.low is not None else ""
    axes.plot(curve.clock, curve.intensity, color=style.BLACK, lw=1.7, zorder=4, label=LAW_NAMES.get(name, name) + band)
    quench = course.get("quench")
    factor = number(quench.get("value")) if isinstance(quench, Mapping) else None
    if factor is not None and points.hot.any():
        text = f"the same, hot (× {rounded(factor, 0.05)})"
        axes.plot(curve.clock, factor * curve.intensity, "--", color=style.ORANGE, lw=1.4, zorder=3.5, label=text)


def _draw_reference(axes: Axes, reads: Reads, *, simulated: bool) -> None:
    """(b) What the reference did meanwhile: it is divided out."""
    style.panel(axes, "b", simulated=simulated)
    axes.set_ylabel("Reference", fontsize=11)
    seconds = reads.run_s - (reads.run_s[0] if reads.run_s.size else 0.0)
    unit = fitting_unit(seconds)
    axes.set_xlabel(f"Time since the first read ({unit})", fontsize=11)
    good = np.isfinite(reads.reference)
    if not good.any():
        _draw_energy(axes, in_unit(seconds, unit), reads)
        return
    look = {"color": style.GREEN, "ms": 3.5 if good.sum() <= _MANY else 2, "elinewidth": 0.8}
    error = reads.reference_error[good]
    axes.errorbar(in_unit(seconds[good], unit), 100 * (reads.reference[good] - 1), yerr=100 * error, fmt="o", **look)
    axes.axhline(0, color=style.GREY, lw=0.9)
    axes.set_ylabel("Reference − 1 (%)", fontsize=11)
    _limit(axes, 100 * (reads.reference[good] - 1))
    axes.locator_params(axis="y", nbins=4)


def _draw_energy(axes: Axes, time: Array, reads: Reads) -> None:
    """Without a reference, show what the energy of the pump did."""
    good = np.isfinite(reads.energy)
    if not good.any():
        axes.set_xticks([])
        axes.set_yticks([])
        style.say(axes, "no reference: drift of the light is in the curve")
        return
    axes.plot(time[good], 100 * (reads.energy[good] - 1), "o", color=style.GREEN, ms=3.5 if good.sum() <= _MANY else 2)
    axes.axhline(0, color=style.GREY, lw=0.9)
    axes.set_ylabel("Pump − 1 (%)", fontsize=11)
    axes.locator_params(axis="y", nbins=4)
    axes.set_title("no reference: the pump energy, taken out of the curve", size=9.5, loc="right", pad=3)


def _limit(axes: Axes, values: Array) -> None:
    """Keep a few reads that are far off from pressing all others flat; says how many lie beyond."""
    low, high = (float(q) for q in np.quantile(values, [0.05, 0.95]))
    reach = max(high - low, 1.0)
    beyond = int(((values < low - reach) | (values > high + reach)).sum())
    if not beyond:
        return
    axes.set_ylim(low - reach, high + reach)
    text = f"{beyond} read{'' if beyond == 1 else 's'} beyond this range"
    axes.text(0.98, 0.94, text, transform=axes.transAxes, ha="right", va="top", size=9, color="#444444")


def _draw_line(axes: Axes, clock: Array, values: Array, reads: Reads, change: Any, curve: Curve | None) -> None:
    """(c, d) Peak or width of the line against its mean over the baseline, with what the analysis says of it."""
    good = np.isfinite(values) & np.isfinite(clock)
    start = values[good & reads.baseline] if (good & reads.baseline).any() else values[good][:1]
    if not good.any():
        axes.set_yticks([])
        style.say(axes, "no line was found")
        return
    moved = values - float(np.median(start))
    axes.axhline(0, color=style.GREY, lw=0.9)
    for chosen, colour, face in (
        (good & ~reads.hot, style.BLUE, style.BLUE),
        (good & reads.hot, style.ORANGE, "white"),
    ):
        size = 4.5 if chosen.sum() <= _MANY else 2.5
        axes.plot(clock[chosen], moved[chosen], "o", ms=size, mew=1.1, color=colour, mfc=face)
    low, high = (float(q) for q in np.quantile(moved[good], [0.01, 0.99]))
    if isinstance(change, Mapping):
        _draw_change(axes, change, float(clock[good].max()), curve)
        end = change.get("end")
        ends = interval(end.get("ci95")) if isinstance(end, Mapping) else None
        low, high = (min(low, ends[0]), max(high, ends[1])) if ends is not None else (low, high)
    margin = max(0.25 * (high - low), 0.05)
    axes.set_ylim(low - margin, high + 2.6 * margin)


def _draw_change(axes: Axes, change: Mapping[str, Any], at: float, curve: Curve | None) -> None:
    """Mark the lasting change, last cold reads against the baseline, and the change in proportion to the loss."""
    slope = _number_of(change.get("per_loss"))
    if slope is not None and curve is not None:
        name = "in proportion to the loss"
        axes.plot(curve.clock, slope * (1 - curve.intensity), color=style.BLACK, lw=1.3, zorder=4, label=name)
        style.legend(axes, loc="upper left", fontsize=9, handlelength=1.0)
    entry = change.get("end")
    value = _number_of(entry)
    if value is None or not isinstance(entry, Mapping):
        return
    ends = interval(entry.get("ci95")) or (value, value)
    half = (ends[1] - ends[0]) / 2
    bars = [[max(value - ends[0], 0.0)], [max(ends[1] - value, 0.0)]]
    look = {"color": style.VERMILION, "ms": 6, "capsize": 4, "elinewidth": 1.6, "zorder": 5}
    text = f"at the end {'+' if value > 0 else ''}{rounded(value, half)} ± {rounded(half, half)} nm (95 %)"
    axes.errorbar([at], [value], yerr=bars, fmt="D", label=text, **look)
    style.legend(axes, loc="upper left", fontsize=9, handlelength=1.0)


def _number_of(entry: Any) -> float | None:
    return number(entry.get("value")) if isinstance(entry, Mapping) else None
