"""A panel with what a gain rests on: shifted spots and loss run where they were measured, else the scan of the edge."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from labctl.report import style
from labctl.report.stored_spectra import column
from labctl.report.stripe_data import Scan, Stripes
from labctl.report.wording import number, rounded
from labctl.store.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]


def draw_support(
    axes: Axes, run: Run, data: Mapping[str, Any], stripes: Stripes, scan: Scan | None, *, simulated: bool
) -> None:
    """(e) Light against distance from the edge of spots and of a moved stripe; without them the scan of the edge."""
    style.panel(axes, "e", simulated=simulated)
    moved = [kind for kind in ("ses", "loss") if (stripes.of(kind) & (stripes.light > 0)).any()]
    if moved:
        _draw_moved(axes, stripes, scan, moved)
    else:
        _draw_edge(axes, run, data)


def _draw_moved(axes: Axes, stripes: Stripes, scan: Scan | None, kinds: list[str]) -> None:
    axes.set_xlabel("Distance from the edge (µm)", fontsize=11)
    axes.set_ylabel("Light / its first", fontsize=11)
    axes.set_yscale("log")
    looks = {"ses": ("o", style.BLUE, "shifted spot"), "loss": ("s", style.ORANGE, "moved stripe")}
    values: list[float] = []
    for kind in kinds:
        chosen = np.flatnonzero(stripes.of(kind) & (stripes.light > 0))
        chosen = chosen[np.argsort(stripes.offset_um[chosen], kind="stable")]
        marker, colour, name = looks[kind]
        light = stripes.light[chosen] / stripes.light[chosen[0]]
        error = stripes.error[chosen] / stripes.light[chosen[0]]
        bars = np.stack([np.minimum(error, 0.9 * light), error])
        axes.errorbar(stripes.offset_um[chosen], light, yerr=bars, fmt=marker, color=colour, ms=4, label=name, lw=1)
        values += light.tolist()
        if kind == "loss":
            _draw_loss(axes, scan, stripes.offset_um[chosen], float(stripes.light[chosen[0]]))
    low, high = min(values), max(values)
    axes.set_ylim(low / 1.25, high * (high / low) ** 0.45 * 1.2)
    style.log_axis(axes.yaxis, *axes.get_ylim(), most=5)
    style.legend(axes, loc="upper right", fontsize=8.5, labelspacing=0.25)


def _draw_loss(axes: Axes, scan: Scan | None, distance_um: Array, first: float) -> None:
    """Draw the fit of the loss run: exp(-alpha d), collected evenly or not, and what is left without stripe."""
    loss = None if scan is None else scan.data.get("loss")
    if not isinstance(loss, Mapping):
        return
    alpha, strength, offset = (number(loss.get(name)) for name in ("value", "intensity", "offset"))
    if alpha is None or strength is None or len(distance_um) < 2:
        return
    grid = np.linspace(float(distance_um[0]), float(distance_um[-1]), 200)
    reach = number(loss.get("collection_um"))
    eta = 1 / (1 + (grid / reach) ** 2) if reach else np.ones_like(grid)
    curve = (strength * np.exp(-1e-4 * alpha * grid) * eta + (offset or 0.0)) / first
    ends = loss.get("ci95")
    half = (ends[1] - ends[0]) / 2 if isinstance(ends, list) and None not in ends else None
    axes.plot(grid, curve, color=style.BLACK, lw=1.4, label=f"loss {rounded(alpha, half)} cm⁻¹")


def _draw_edge(axes: Axes, run: Run, data: Mapping[str, Any]) -> None:
    axes.set_xlabel("Far blade (mm)", fontsize=11)
    axes.set_ylabel("Light, edge scan", fontsize=11)
    far, light, error = (column(run, name, "edge") for name in ("far_mm", "band_intensity", "band_intensity_error"))
    good = np.isfinite(far) & np.isfinite(light)
    if not good.any():
        axes.set_xticks([])
        axes.set_yticks([])
        style.say(axes, "no scan of the edge")
        return
    look = {"color": style.BLUE, "ms": 4, "elinewidth": 1.0, "zorder": 3}
    axes.errorbar(far[good], light[good], yerr=np.nan_to_num(error[good]), fmt="o", **look)
    found = data.get("edge")
    if isinstance(found, Mapping) and (place := number(found.get("value"))) is not None:
        ends = found.get("ci95")
        half = 1.96 * math.inf if not isinstance(ends, list) or None in ends else (ends[1] - ends[0]) / 2
        text = f"edge {rounded(place, half)}" + (f" ± {half:.2g} µm" if math.isfinite(half) else " µm")
        axes.axvline(1e-3 * place, color=style.VERMILION, lw=1.5, label=text)
        style.legend(axes, loc="upper left", fontsize=8.5, handlelength=1.0)
    axes.locator_params(axis="x", nbins=4)
    axes.set_ylim(bottom=min(0.0, float(light[good].min())), top=1.3 * float(light[good].max()) or 1.0)
