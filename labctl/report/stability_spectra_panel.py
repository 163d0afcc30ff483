"""A panel with the spectra of a stability run: before the stress, on the way, and at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from labctl.analysis.stress_clock import ZERO_CELSIUS_K
from labctl.report import style
from labctl.report.stability_data import Reads, fitting_unit, in_unit
from labctl.report.stored_spectra import column, emission, read_frames, wavelengths_nm
from labctl.store.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]
_MOST_SPECTRA = 5
_SMOOTH_NM = 1.0


def draw_spectra(
    axes: Axes, run: Run, reads: Reads, *, simulated: bool, letter: str = "e", by_temperature: bool = False
) -> None:
    """Spectra of the sample per pulse from the first read to the last, the light of the stress lamp taken off."""
    style.panel(axes, letter, simulated=simulated)
    axes.set_xlabel("Wavelength (nm)", fontsize=11)
    axes.set_ylabel("Counts per pulse and px", fontsize=11)
    wavelength = wavelengths_nm(run, "spectrum", run.default_stream)
    lines = [] if wavelength is None else _spectra(run, reads, by_temperature=by_temperature)
    if wavelength is None or not lines:
        axes.set_xticks([])
        axes.set_yticks([])
        style.say(axes, "no spectra" + (" yet" if run.status == "running" else ""))
        return
    from matplotlib import colormaps

    colours = colormaps["viridis"](np.linspace(0.0, 0.93, len(lines)))
    width = max(round(_SMOOTH_NM / max(abs(float(np.median(np.diff(wavelength)))), 1e-9)), 1)
    top, lit = 0.0, np.zeros(len(wavelength), bool)
    for (label, spectrum), colour in zip(lines, colours, strict=True):
        shown = style.smoothed(spectrum, width)
        axes.plot(wavelength, shown, color=colour, lw=1.3, label=label)
        highest = float(np.nanmax(shown, initial=0.0))
        top = max(top, highest)
        lit |= shown > 0.02 * highest
    if top > 0:
        axes.set_ylim(-0.05 * top, 1.6 * top)
        axes.set_xlim(
            max(wavelength[lit].min() - 3, wavelength.min()), min(wavelength[lit].max() + 3, wavelength.max())
        )
    style.legend(axes, loc="upper right", fontsize=8.5, labelspacing=0.2, handlelength=1.0, ncols=2)
    axes.locator_params(axis="x", nbins=4)


def _spectra(run: Run, reads: Reads, *, by_temperature: bool) -> list[tuple[str, Array]]:
    """Get a few spectra with their times: the first of the baseline, others evenly over the stress, the last."""
    if not reads.index.size:
        return []
    frames = read_frames(run)
    chosen = np.unique(np.linspace(0, reads.index.size - 1, _MOST_SPECTRA).astype(int))
    unit = fitting_unit(reads.time_s)
    found = []
    for place in chosen:
        index = int(reads.index[place])
        light = emission(run, frames, run.default_stream, index)
        if light is None or not np.isfinite(light[0]).any():
            continue
        time = float(in_unit(np.nan_to_num(reads.time_s[place : place + 1]), unit)[0])
        stage = str(reads.stage[place])
        label = stage if stage in ("baseline", "after") else f"{time:.3g} {unit}"
        if by_temperature:
            label = f"{reads.temperature_c[place] + ZERO_CELSIUS_K:.0f} K"
        found.append((label, light[0] - _lamp_light(run, index)))
    return found


def _lamp_light(run: Run, index: int) -> Array | float:
    """Get the light of the stress lamp in one record, per pulse of the pump; 0 where none was taken."""
    stream = run.default_stream
    if run.streams[stream].array("lamp_light") is None:
        return 0.0
    seconds, sums, pulses = (
        float(column(run, name)[index]) for name in ("exposure_s", "accumulations", "counted_pulses")
    )
    return np.asarray(run.array("lamp_light", stream)[index], float) * seconds * sums / pulses
