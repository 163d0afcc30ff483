"""The axis of the clock that wears a sample: time, dose or shots, with the dose above where it is known."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from labctl.report.stability_data import DOSES, SHOTS, Reads

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]
_EARLY = 0.06
"""Where half of the reads lie within this share of the run, its clock is drawn logarithmically."""


def doses_of(clock: Array, unit: str, reads: Reads) -> tuple[Array, Array] | None:
    """Get clock and dose, both rising, for a second axis: of the lamp, or of the pump where shots are counted."""
    dose = reads.dose_j_cm2 if unit in SHOTS else reads.lamp_dose_j_cm2
    good = np.flatnonzero(np.isfinite(clock) & np.isfinite(dose) & ~reads.baseline)
    good = good[np.argsort(clock[good], kind="stable")]
    if unit in DOSES or good.size < 2 or not float(dose[good].max()) > 0:
        return None
    later, most = clock[good], np.maximum.accumulate(dose[good])
    rising = np.flatnonzero((np.diff(later, prepend=-1.0) > 0) & (np.diff(most, prepend=-1.0) > 0))
    return (later[rising], most[rising]) if rising.size > 1 else None


def add_doses(axes: Axes, clock: Array, dose: Array) -> None:
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


def scale_clock(axes: Axes, clock: Array) -> None:
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
