"""The figure of a stability run: what is left against time, dose or shots, the line's shift, reference and stress."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from labctl.report import style
from labctl.report.result_names import LAW_NAMES
from labctl.report.stability_data import (
    DOSES,
    SHOTS,
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
)
from labctl.report.stability_spectra_panel import draw_spectra
from labctl.report.stress_panel import draw_stress
from labctl.report.titles import subtitle, title
from labctl.report.wording import interval, number, rounded, unit_text
from labctl.store.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
_MANY = 150
_AXIS_ABOVE = 0.045
"""Height of a second axis on top of the panels, as a share of the figure."""
_EARLY = 0.06
"""Where half of the reads lie within this share of the run, its clock is drawn logarithmically."""


def can_draw(run: Run) -> bool:
    """Get whether the run has the columns of a stability run."""
    layout = run.streams.get(run.default_stream)
    return layout is not None and any(layout.column(name) is not None for name in ("relative_intensity", "ratio"))


def draw(run: Run, data: Mapping[str, Any]) -> Figure:
    """Draw the run; ``data`` is the stored result of its analysis, or empty: then the reads as they are."""
    simulated, course = run.simulated, course_of(data)
    reads = read_reads(run)
    points = read_points(run, reads, data)
    unit = clock_unit(run, reads, data)
    figure = style.new_figure()
    top = style.head(figure, title(run, data), subtitle(run, data), simulated=simulated)
    doses = _doses(clock_of(run, reads, data), unit, reads)
    place: dict[str, Any] = {"bottom": 0.085, "top": top - (_AXIS_ABOVE if doses is not None else 0.0)}
    left = figure.add_gridspec(2, left=0.078, right=0.425, height_ratios=(2.7, 1), hspace=0.33, **place)
    middle = figure.add_gridspec(2, left=0.505, right=0.725, height_ratios=(1, 1), hspace=0.06, **place)
    right = figure.add_gridspec(2, left=0.805, right=0.985, height_ratios=(1, 1), hspace=0.3, **place)
    course_axes = figure.add_subplot(left[0])
    _draw_course(course_axes, points, course, unit, run.status, doses, simulated=simulated)
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
    _scale_clock(peak, clock[np.isfinite(clock)])
    figure.align_ylabels([peak, width])
    draw_spectra(figure.add_subplot(right[0]), run, reads, simulated=simulated)
    draw_stress(figure.add_subplot(right[1]), run, reads, simulated=simulated)
    return figure


def _draw_course(
    axes: Axes,
    points: Points,
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
    _draw_stated(axes, course)
    _scale_clock(axes, points.clock[good])
    if doses is not None and axes.get_xscale() == "linear":
        _add_doses(axes, *doses)
    top = max(float(np.nanmax(points.intensity[good])), 1.0)
    lowest = min(float(np.nanmin(points.intensity[good])), 0.0)
    axes.set_ylim(1.2 * lowest - 0.02 * top, 1.3 * top)
    for name, share in (("t80", 0.8), ("t50", 0.5)):
        _draw_lifetime(axes, course.get(name), share, _height(course), unit)
    style.legend(axes, loc="upper right", labelspacing=0.35, ncols=2, columnspacing=1.2)


def _doses(clock: Array, unit: str, reads: Reads) -> tuple[Array, Array] | None:
    """Get clock and dose, both rising, for a second axis: of the lamp, or of the pump where shots are counted."""
    dose = reads.dose_j_cm2 if unit in SHOTS else reads.lamp_dose_j_cm2
    good = np.flatnonzero(np.isfinite(clock) & np.isfinite(dose) & ~reads.baseline)
    good = good[np.argsort(clock[good], kind="stable")]
    if unit in DOSES or good.size < 2 or not float(dose[good].max()) > 0:
        return None
    later, most = clock[good], np.maximum.accumulate(dose[good])
    rising = np.flatnonzero((np.diff(later, prepend=-1.0) > 0) & (np.diff(most, prepend=-1.0) > 0))
    return (later[rising], most[rising]) if rising.size > 1 else None


def _add_doses(axes: Axes, clock: Array, dose: Array) -> None:
    """Add an axis with the dose on top; it reaches as far as the reads do."""
    from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator

    ticks = MaxNLocator(5, steps=(1, 2, 5, 10)).tick_values(0.0, float(dose[-1]))
    ticks = ticks[(ticks >= dose[0]) & (ticks <= dose[-1])]
    above = axes.twiny()
    above.set_xlim(axes.get_xlim())
    above.xaxis.set_major_locator(FixedLocator(np.interp(ticks, dose, clock).tolist()))
    above.xaxis.set_major_formatter(FixedFormatter([f"{tick:g}" for tick in ticks]))
    above.xaxis.set_minor_locator(FixedLocator([]))
    above.set_xlabel("Dose (J/cm²)", fontsize=11, labelpad=3)
    above.tick_params(bottom=False, labelsize=10.5, pad=2)
    axes.tick_params(top=False, which="both")
    axes.set_zorder(above.get_zorder() + 1)
    axes.patch.set_visible(False)


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


def _draw_stated(axes: Axes, course: Mapping[str, Any]) -> None:
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


def _height(course: Mapping[str, Any]) -> float:
    """Get the largest I/I(0) of the course; 1 if none is stored."""
    found = course.get("maximum")
    entry = found.get("intensity") if isinstance(found, Mapping) else None
    return (number(entry.get("value")) if isinstance(entry, Mapping) else None) or 1.0


def _draw_lifetime(axes: Axes, life: Any, share: float, height: float, unit: str) -> None:
    """Mark a lifetime: a point with its interval, or an arrow from its lower limit on."""
    if not isinstance(life, Mapping):
        return
    level = share * (height if life.get("reference") == "maximum" else 1.0)
    right = axes.get_xlim()[1]
    name = f"T{round(100 * share)}"
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
    axes.annotate(
        text,
        (0.985, level),
        (0, 4),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right",
        va="bottom",
        size=10,
        color="#8A3F6B",
        zorder=2.5,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.6},
    )


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


def _scale_clock(axes: Axes, clock: Array) -> None:
    """Give a panel its clock axis: linear, or logarithmic past the first read where most reads come early."""
    later = clock[clock > 0]
    longest = float(later.max()) if later.size else 0.0
    if not longest:
        axes.set_xlim(-0.05, 1.0)
        return
    if later.size > 5 and float(np.median(later)) < _EARLY * longest:
        first = float(later.min())
        axes.set_xscale("symlog", linthresh=first, linscale=0.5)
        axes.set_xlim(-0.3 * first, 1.3 * longest)
        _label_symlog(axes, first, longest)
    else:
        axes.set_xlim(-0.03 * longest, 1.04 * longest)
        _few_ticks(axes, longest)


def _label_symlog(axes: Axes, first: float, longest: float) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

    decades = range(math.floor(math.log10(first)), math.ceil(math.log10(longest)) + 1)
    axes.xaxis.set_major_locator(FixedLocator([0.0, *(10.0**power for power in decades)]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}" if value < 1e5 else f"{value:.0e}"))
    axes.xaxis.set_minor_locator(FixedLocator([k * 10.0**power for power in decades for k in range(2, 10)]))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _few_ticks(axes: Axes, longest: float) -> None:
    from matplotlib.ticker import EngFormatter, MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(5, steps=(1, 2, 2.5, 5, 10)))
    if longest >= 2e4:
        axes.xaxis.set_major_formatter(EngFormatter(sep=" "))


def _draw_reference(axes: Axes, reads: Reads, *, simulated: bool) -> None:
    """(b) What the reference did meanwhile: it is divided out."""
    style.panel(axes, "b", simulated=simulated)
    axes.set_ylabel("Reference", fontsize=11)
    seconds = reads.run_s - (reads.run_s[0] if reads.run_s.size else 0.0)
    unit = fitting_unit(seconds)
    axes.set_xlabel(f"Time since the first read ({unit})", fontsize=11)
    good = np.isfinite(reads.reference)
    if not good.any():
        axes.set_xticks([])
        axes.set_yticks([])
        style.say(axes, "read without a reference: the lamp's drift is in the curve")
        return
    look = {"color": style.GREEN, "ms": 3.5 if good.sum() <= _MANY else 2, "elinewidth": 0.8}
    error = reads.reference_error[good]
    axes.errorbar(in_unit(seconds[good], unit), 100 * (reads.reference[good] - 1), yerr=100 * error, fmt="o", **look)
    axes.axhline(0, color=style.GREY, lw=0.9)
    axes.set_ylabel("Reference − 1 (%)", fontsize=11)
    _limit(axes, 100 * (reads.reference[good] - 1))
    axes.locator_params(axis="y", nbins=4)


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
        value = _number_of(change.get("end"))
        low, high = min(low, value or 0.0), max(high, value or 0.0)
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


def _entries(values: Any) -> list[Mapping[str, Any]]:
    return [entry for entry in values if isinstance(entry, Mapping)] if isinstance(values, list | tuple) else []
