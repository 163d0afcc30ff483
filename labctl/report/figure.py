"""From a run to its figure: each procedure may have its own, the others share one."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from labctl.report import (
    calibration_figure,
    generic_figure,
    series_figure,
    stability_figure,
    stripe_figure,
    style,
    sweep_figure,
)
from labctl.store.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Draw = Callable[[Run, Mapping[str, Any]], "Figure"]

FIGURES: dict[str, tuple[Draw, Callable[[Run], bool]]] = {
    "fluence-sweep": (sweep_figure.draw, sweep_figure.can_draw),
    "vsl-scan": (stripe_figure.draw, stripe_figure.can_draw),
    **dict.fromkeys(
        ("thermal-stability", "uv-stability", "water-stability", "ase-stability"),
        (stability_figure.draw, stability_figure.can_draw),
    ),
    "temperature-series": (series_figure.draw, series_figure.can_draw),
    "attenuator-calibration": (calibration_figure.draw, lambda run: True),
}
"""By the name of the procedure: what draws its figure, and whether a given run has what that needs."""


def latest_result(run: Run) -> dict[str, Any]:
    """Get what the last analysis by the run's own procedure stored; empty if it was never analysed."""
    mine = [result for result in run.results if result.name == run.header.get("procedure")]
    return dict(mine[-1].data) if mine else {}


def draw_figure(run: Run) -> Figure:
    """Draw the figure of a run in any state; call it, and save, within :func:`labctl.report.style.look`."""
    draw, can_draw = FIGURES.get(str(run.header.get("procedure")), (generic_figure.draw, lambda run: True))
    if not can_draw(run):
        draw = generic_figure.draw
    return draw(run, latest_result(run))


def figure_png(run: Run) -> bytes:
    """Draw the figure of a run as PNG."""
    with style.look(), warnings.catch_warnings():
        # A name in a script that the font does not have shows as boxes here, and in full on the page.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        drawn = draw_figure(run)
        buffer = io.BytesIO()
        drawn.savefig(buffer, format="png", dpi=style.DPI)
    return buffer.getvalue()
