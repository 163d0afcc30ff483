"""The figure of a run that has none of its own: its signal against its x, with error bars where there are some."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from labctl.report import style
from labctl.report.titles import sample_text, subtitle
from labctl.report.wording import clipped, label_text, unit_text
from labctl.store.layout import Column
from labctl.store.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
_LOG_ABOVE = 100.0
_MANY = 400
_MOST = 20_000
"""More points than this make no other picture, only a slower one; they are thinned out evenly."""


def draw(run: Run, data: Mapping[str, Any]) -> Figure:
    """Draw the signal that the run's header names against the x that it names."""
    figure, _ = draw_signal(run, data)
    return figure


def draw_signal(run: Run, data: Mapping[str, Any]) -> tuple[Figure, Axes]:
    """Draw as :func:`draw`, and return the panel too, for what a procedure adds to it."""
    figure = style.new_figure()
    procedure = label_text(str(run.header.get("procedure", "run")))
    heading = clipped(f"{procedure.capitalize()}: {sample_text(run)}", 88)
    top = style.head(figure, heading, subtitle(run, data), simulated=run.simulated)
    axes = figure.add_axes((0.09, 0.1, 0.88, top - 0.13))
    style.panel(axes, "", simulated=run.simulated)
    x_column, y_column = (_named(run, run.header.get(key)) for key in ("x", "signal"))
    if y_column is None:
        axes.set_xticks([])
        axes.set_yticks([])
        still = " yet" if run.status == "running" else ""
        style.say(axes, f"the run has no points to draw{still}: it names no column as its signal")
        return figure, axes
    y = np.asarray(run.column(y_column.name), float)
    x = np.arange(len(y), dtype=float) if x_column is None else np.asarray(run.column(x_column.name), float)
    axes.set_xlabel("Point" if x_column is None else axis_label(x_column), parse_math=False)
    axes.set_ylabel(axis_label(y_column), parse_math=False)
    good = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    if not good.size:
        axes.set_xticks([])
        axes.set_yticks([])
        style.say(axes, "no points" + (" yet" if run.status == "running" else " with a value"))
        return figure, axes
    if good.size > _MOST:
        axes.set_title(f"{_MOST} of {good.size} points", size=11)
        good = good[np.linspace(0, good.size - 1, _MOST).astype(int)]
    few = good.size <= _MANY
    error = _error_of(run, y_column.name) if few else None
    axes.errorbar(
        x[good],
        y[good],
        yerr=None if error is None else np.maximum(np.nan_to_num(error[good]), 0.0),
        fmt="o" if few else ".",
        color=style.BLUE,
        ms=6 if few else 2,
        elinewidth=1.0,
        zorder=3,
        label="measured",
    )
    for axis, values, scale in ((axes.xaxis, x[good], axes.set_xscale), (axes.yaxis, y[good], axes.set_yscale)):
        low, high = float(values.min()), float(values.max())
        if low > 0 and high / low > _LOG_ABOVE:
            scale("log")
            style.log_axis(axis, low, high)
    return figure, axes


def axis_label(column: Column) -> str:
    """Write a column as the label of an axis: its description and its unit."""
    unit = unit_text(column.unit)
    return clipped(column.description or label_text(column.name), 70) + (f" ({unit})" if unit else "")


def _named(run: Run, name: Any) -> Column | None:
    layout = run.streams.get(run.default_stream)
    column = None if layout is None else layout.column(str(name))
    return None if column is None or column.kind == "text" else column


def _error_of(run: Run, name: str) -> Array | None:
    """Get the column that is named as the error of another: ``energy_error_j`` for ``energy_j``."""
    for column in run.streams[run.default_stream].columns:
        if "_error" in column.name and column.name.replace("_error", "", 1) == name and column.kind != "text":
            return np.asarray(run.column(column.name), float)
    return None
