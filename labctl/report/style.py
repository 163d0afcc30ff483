"""The look of our figures: size, fonts, colours for every eye, axes with readable decades, the SIMULATED banner."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart with any colour vision (https://jfly.uni-koeln.de/color/).
BLACK = "#000000"
ORANGE = "#E69F00"
SKY = "#56B4E9"
BLUE = "#0072B2"
VERMILION = "#D55E00"
PURPLE = "#CC79A7"
GREEN = "#009E73"
GREY = "#8A8A8A"
INK = "#222222"

WIDTH_IN, HEIGHT_IN = 13.333, 7.5
"""A slide of 16:9; at 160 dots per inch 2133 by 1200 pixels."""
DPI = 160
BODY_TOP, BODY_TOP_SIMULATED = 0.855, 0.815
"""Where the panels end and the title begins, as a share of the height."""

_RC: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 12,
    "axes.labelsize": 13,
    "axes.titlesize": 13,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.9,
    "axes.axisbelow": True,
    "xtick.labelsize": 12,
    "ytick.labelsize": 12,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.direction": "in",
    "ytick.direction": "in",
    "xtick.top": True,
    "ytick.right": True,
    "xtick.major.size": 5,
    "ytick.major.size": 5,
    "xtick.minor.size": 2.5,
    "ytick.minor.size": 2.5,
    "legend.fontsize": 10.5,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "lines.linewidth": 1.6,
    "text.color": INK,
    "text.usetex": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


@contextmanager
def look() -> Iterator[None]:
    """Apply our look to everything made and drawn within, whatever the user's own settings are."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        # The format is chosen by whoever saves; no window and no pyplot take part.
        matplotlib.rcParams.update(_RC)
        yield


def new_figure() -> Figure:
    """Get an empty slide."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN), dpi=DPI)
    FigureCanvasAgg(figure)
    return figure


def head(figure: Figure, title: str, subtitle: str, *, simulated: bool) -> float:
    """Write title and subtitle, and the banner of a simulated run; returns where the panels may end.

    Text from files is never read as mathematics: a ``$`` in the name of a sample is a ``$``.
    """
    top = 1.0
    if simulated:
        from matplotlib.patches import Rectangle

        strip = 0.045
        figure.add_artist(Rectangle((0, 1 - strip), 1, strip, transform=figure.transFigure, color=VERMILION, lw=0))
        figure.text(
            0.5,
            1 - strip / 2,
            "SIMULATED  ·  taken with emulated instruments  ·  SIMULATED",
            ha="center",
            va="center_baseline",
            color="white",
            weight="bold",
            size=13,
        )
        top -= strip
    head_line = {"ha": "left", "va": "top", "parse_math": False}
    for text in (
        figure.text(0.02, top - 0.025, title, size=18, weight="bold", **head_line),
        figure.text(0.02, top - 0.083, subtitle, size=11.5, color="#444444", **head_line),
    ):
        # Names of any length and letters of any width: the line shrinks until it fits the slide.
        share = text.get_window_extent().width / (0.96 * figure.bbox.width)
        text.set_fontsize(float(text.get_fontsize()) / max(share, 1.0))
    return BODY_TOP_SIMULATED if simulated else BODY_TOP


def panel(
    axes: Axes, letter: str, *, simulated: bool, mark: tuple[float, float] = (0.5, 0.5), tilt: float = 0.0
) -> None:
    """Letter a panel; on a simulated run mark it too, at ``mark``, so that a cropped panel still says so."""
    from matplotlib.transforms import ScaledTranslation

    figure = axes.figure
    outside = axes.transAxes + ScaledTranslation(-0.98, 0.0, figure.dpi_scale_trans)
    axes.text(0.0, 1.0, letter, transform=outside, ha="left", va="top", weight="bold", size=16)
    if simulated:
        axes.text(
            *mark,
            "SIMULATED",
            transform=axes.transAxes,
            ha="center",
            va="center",
            rotation=tilt,
            size=26,
            weight="bold",
            color=VERMILION,
            alpha=0.13,
            zorder=0.5,
            clip_on=True,
        )


def legend(axes: Axes, **where: Any) -> None:
    """Add a legend on a white ground, what was measured before what was fitted; of error bars the marker alone."""
    from matplotlib.container import ErrorbarContainer

    handles, names = axes.get_legend_handles_labels()
    entries = sorted(zip(handles, names, strict=True), key=lambda entry: not isinstance(entry[0], ErrorbarContainer))
    if not entries:
        return
    shown = [handle[0] if isinstance(handle, ErrorbarContainer) else handle for handle, _ in entries]
    box = axes.legend(shown, [name for _, name in entries], frameon=True, **where)
    box.get_frame().set(facecolor="white", edgecolor="none", alpha=0.85)
    box.set_zorder(5)
    for text in box.get_texts():
        text.set_parse_math(False)


def smoothed(values: Any, width: int) -> Any:
    """Average a curve [n] over ``width`` neighbours for the eye; NaN stays NaN and takes no part."""
    import numpy as np

    good, kernel = np.isfinite(values), np.ones(max(width, 1))
    weight = np.convolve(good.astype(float), kernel, "same")
    total = np.convolve(np.where(good, values, 0.0), kernel, "same")
    return np.where(good, total / np.maximum(weight, 1.0), np.nan)


def say(axes: Axes, text: str) -> None:
    """Say in words, in the middle of a panel, why it shows nothing."""
    axes.text(
        0.5,
        0.5,
        text,
        transform=axes.transAxes,
        ha="center",
        va="center",
        size=13,
        color="#555555",
        wrap=True,
        parse_math=False,
        bbox={"facecolor": "white", "edgecolor": "#BBBBBB", "boxstyle": "round,pad=0.6", "alpha": 0.9},
    )


def log_axis(axis: Any, low: float, high: float, most: int = 9) -> None:
    """Label a logarithmic axis that spans ``low`` to ``high``.

    1, 2, 5 within two decades, more within half a decade, else up to ``most`` whole decades.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    decades = math.log10(high / low)
    if decades < 2.3:
        subs: tuple[float, ...] = (1.0, 2.0, 5.0) if decades > 0.7 else (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)
        axis.set_major_locator(LogLocator(subs=subs, numticks=40))
    else:
        axis.set_major_locator(LogLocator(numticks=most))
    axis.set_minor_locator(LogLocator(subs=tuple(range(2, 10)), numticks=60))
    plain = low > 0.9e-3 and high < 1e5
    axis.set_major_formatter(FuncFormatter(_plain if plain else _power))
    axis.set_minor_formatter(NullFormatter())


def _plain(value: float, _position: int | None = None) -> str:
    return f"{value:.6g}" if value > 0 else ""


def _power(value: float, _position: int | None = None) -> str:
    if not value > 0:
        return ""
    exponent = math.floor(math.log10(value) + 1e-9)
    factor = value / 10**exponent
    return rf"$10^{{{exponent}}}$" if abs(factor - 1) < 1e-6 else rf"${factor:.3g}\times10^{{{exponent}}}$"
