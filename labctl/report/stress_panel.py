"""A panel with what a sample was put under: temperature, or irradiance of the lamp, or pulses per second."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from labctl.report import style
from labctl.report.stability_data import Reads, fitting_unit, in_unit
from labctl.report.stored_spectra import column
from labctl.store.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]
_MOST = 4000


def draw_stress(axes: Axes, run: Run, reads: Reads, *, simulated: bool, letter: str = "f") -> None:
    """Temperature or irradiance against time since the start of the run, from logs and reads."""
    style.panel(axes, letter, simulated=simulated)
    for name, label, colour in (
        ("irradiance_mw_cm2", "Irradiance (mW/cm²)", style.PURPLE),
        ("temperature_c", "Temperature (°C)", style.VERMILION),
    ):
        when, value = _trace(run, name)
        if when.size and np.ptp(value) + abs(float(value.max())) > 0:
            unit = fitting_unit(when)
            axes.plot(in_unit(when, unit), value, ".-", color=colour, ms=3, lw=1.0)
            axes.set_xlabel(f"Time since the start ({unit})", fontsize=11)
            axes.set_ylabel(label, fontsize=11)
            low, high = min(float(value.min()), 0.0), float(value.max())
            axes.set_ylim(low, high + 0.1 * (high - low or 1.0))
            return
    from matplotlib.ticker import EngFormatter

    shots = reads.shots
    if np.nanmax(shots, initial=0.0) > 0:
        unit = fitting_unit(reads.run_s)
        axes.plot(in_unit(reads.run_s, unit), shots, ".-", color=style.PURPLE, ms=4, lw=1.0)
        axes.set_xlabel(f"Time since the start ({unit})", fontsize=11)
        axes.set_ylabel("Shots, by the counter", fontsize=11)
        axes.yaxis.set_major_formatter(EngFormatter(sep=" "))
        return
    axes.set_xticks([])
    axes.set_yticks([])
    style.say(axes, "no heat and no lamp\nin this run")


def _trace(run: Run, name: str) -> tuple[Array, Array]:
    """Get a trace in order of time: the column of all points, and the logs that hold the same quantity."""
    stream = run.default_stream
    if stream not in run.streams or not run.count(stream):
        return np.zeros(0), np.zeros(0)
    times, values = [np.asarray(run.column("t_s"), float)], [column(run, name)]
    if not np.isfinite(values[0]).any():
        return np.zeros(0), np.zeros(0)
    logged = (stream, "heating") if name == "temperature_c" else (stream,)
    for source in logged:
        for when, value in (_log(run, source),):
            times.append(when)
            values.append(value)
    when, value = np.concatenate(times), np.concatenate(values)
    good = np.flatnonzero(np.isfinite(when) & np.isfinite(value))
    good = good[np.argsort(when[good], kind="stable")]
    if good.size > _MOST:
        good = good[np.linspace(0, good.size - 1, _MOST).astype(int)]
    return when[good], value[good]


def _log(run: Run, stream: str) -> tuple[Array, Array]:
    """Get the log that the records of a stream hold: times since the start of the run, and values."""
    if stream not in run.streams or not run.count(stream):
        return np.zeros(0), np.zeros(0)
    if run.streams[stream].array("log_before_s") is None or run.streams[stream].array("log_value") is None:
        return np.zeros(0), np.zeros(0)
    t_s = np.asarray(run.column("t_s", stream), float)
    before = np.asarray(run.array("log_before_s", stream), float)
    return (t_s[:, None] - before).ravel(), np.asarray(run.array("log_value", stream), float).ravel()
