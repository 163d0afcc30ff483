"""Several runs on one figure, each in a panel of its own: its signal against its x, as its header names them."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labctl.report import style
from labctl.report.wording import clipped, label_text, unit_text
from labctl.store.layout import Column
from labctl.store.run import Run

_MOST_POINTS = 2000
_LOG_ABOVE = 100.0
_HOUR_S, _DAY_S = 3600.0, 86400.0


@dataclass(frozen=True)
class Curve:
    """The curve of one run; at least two points.

    :param x: In the unit of its label; ``y`` likewise.
    """

    name: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    x_label: str
    y_label: str
    simulated: bool

    @classmethod
    def of(cls, name: str, run: Run) -> Curve | None:
        """Get the curve of a run in any state; None if it has none yet, or names no column as its signal."""
        signal, x_column = (_column(run, str(run.header.get(key))) for key in ("signal", "x"))
        if signal is None:
            return None
        y = np.asarray(run.column(signal.name), float)
        x = np.asarray(run.column("t_s" if x_column is None else x_column.name), float)
        x_label = "Time (s)" if x_column is None else _label(x_column)
        if x_column is None or x_column.unit == "s":
            x, x_label = _in_fitting_unit(x, x_label)
        good = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
        if good.size < 2:
            return None
        if good.size > _MOST_POINTS:
            good = good[np.linspace(0, good.size - 1, _MOST_POINTS).astype(int)]
        return cls(name, x[good], y[good], x_label, _label(signal), run.simulated)


def curves_png(curves: Sequence[Curve], title: str, subtitle: str) -> bytes:
    """Draw curves as PNG, each in its panel."""
    with style.look(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = style.new_figure()
        simulated = any(curve.simulated for curve in curves)
        top = style.head(figure, clipped(title, 88), subtitle, simulated=simulated)
        columns = min(len(curves), 3)
        rows = math.ceil(len(curves) / columns)
        grid = figure.add_gridspec(
            rows, columns, left=0.075, right=0.985, bottom=0.1, top=top - 0.05, wspace=0.36, hspace=0.5
        )
        for number, curve in enumerate(curves):
            _panel(figure.add_subplot(grid[number // columns, number % columns]), curve)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=style.DPI / 2)
    return buffer.getvalue()


def _panel(axes: Any, curve: Curve) -> None:
    # A line tells the course of what was measured one after the other, and nothing where x goes to and fro.
    along = bool(np.all(np.diff(curve.x) >= 0))
    axes.plot(curve.x, curve.y, ".-" if along else ".", color=style.BLUE, ms=5, lw=0.8)
    axes.set_title(clipped(curve.name, 36), loc="left", size=12, parse_math=False)
    axes.set_xlabel(curve.x_label, size=11, parse_math=False)
    axes.set_ylabel(curve.y_label, size=11, parse_math=False)
    axes.tick_params(labelsize=10)
    for axis, values, scale in ((axes.xaxis, curve.x, axes.set_xscale), (axes.yaxis, curve.y, axes.set_yscale)):
        low, high = float(values.min()), float(values.max())
        if low > 0 and high / low > _LOG_ABOVE:
            scale("log")
            style.log_axis(axis, low, high)
    if curve.simulated:
        axes.text(
            0.5,
            0.5,
            "SIMULATED",
            transform=axes.transAxes,
            ha="center",
            va="center",
            size=18,
            weight="bold",
            color=style.VERMILION,
            alpha=0.13,
        )


def _column(run: Run, name: str) -> Column | None:
    layout = run.streams.get(run.default_stream)
    column = None if layout is None else layout.column(name)
    return None if column is None or column.kind == "text" else column


def _label(column: Column) -> str:
    """Write a column as the label of a small panel, its unit in full."""
    unit = unit_text(column.unit)
    return clipped(column.description or label_text(column.name), 24) + (f" ({unit})" if unit else "")


def _in_fitting_unit(seconds: NDArray[np.float64], label: str) -> tuple[NDArray[np.float64], str]:
    longest = float(np.nanmax(seconds)) if seconds.size else 0.0
    scale, unit = (_DAY_S, "d") if longest > 3 * _DAY_S else (_HOUR_S, "h") if longest > 2 * _HOUR_S else (1.0, "s")
    return seconds / scale, label.replace("(s)", f"({unit})")
