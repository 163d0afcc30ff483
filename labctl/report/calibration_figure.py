"""The figure of an attenuator calibration: energy against angle, with Malus' law as fitted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from labctl.report import style
from labctl.report.generic_figure import draw_signal
from labctl.report.wording import number
from labctl.store.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(run: Run, data: Mapping[str, Any]) -> Figure:
    """Draw the readings, and the fit where the stored result holds it."""
    figure, axes = draw_signal(run, data)
    result = data.get("result")
    law = _malus(result) if isinstance(result, Mapping) else None
    if law is None:
        return figure
    low, high = axes.get_xlim()
    angle = np.linspace(low, high, 500)
    theta0, bottom, top = law
    energy = bottom + (top - bottom) * np.cos(2 * np.radians(angle - theta0)) ** 2
    axes.plot(angle, energy, color=style.BLACK, zorder=2, label="Malus' law, half-wave plate")
    axes.set_xlim(low, high)
    axes.legend(loc="best", fontsize=12)
    return figure


def _malus(result: Mapping[str, Any]) -> tuple[float, float, float] | None:
    """Get angle of full transmission (°), lowest and highest energy (J) from the stored fit."""
    entries = [result.get(name) for name in ("theta0", "minimum_energy", "full_energy")]
    theta0, low, high = (number(entry.get("value")) if isinstance(entry, Mapping) else None for entry in entries)
    return None if theta0 is None or low is None or high is None else (theta0, low, high)
