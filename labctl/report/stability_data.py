"""What the figure of a stability run shows, taken from a stored run in any state."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labctl.analysis.degradation_laws import BY_NAME
from labctl.analysis.stress_clock import thermal_equivalent_time
from labctl.report.stored_spectra import column, texts
from labctl.report.wording import number, unit_text
from labctl.store.run import Run

Array = NDArray[np.float64]
Chosen = NDArray[np.bool_]
BASELINE, HOT, SLOPE = "baseline", "hot", "slope"
_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_HOUR_S, _DAY_S = 3600.0, 86400.0
DOSES = ("J/cm2", "J/cm^2")
SHOTS = ("shots", "shot", "pulses")


@dataclass(frozen=True)
class Reads:
    """The reads of a run, all [n]; NaN where a run does not have a column.

    :param time_s: Since the start of the stress, 0 before; ``run_s`` since the start of the run.
    :param intensity: Sample over reference, the baseline being 1; ``reference``, the reference alone likewise, and
        ``energy``, that of the pump. ``second``: a second band.
    """

    stage: NDArray[np.str_]
    index: NDArray[np.int64]
    run_s: Array
    time_s: Array
    intensity: Array
    error: Array
    reference: Array
    reference_error: Array
    energy: Array
    second: Array
    second_error: Array
    peak_nm: Array
    fwhm_nm: Array
    temperature_c: Array
    irradiance_mw_cm2: Array
    lamp_dose_j_cm2: Array
    dose_j_cm2: Array
    shots: Array
    saturated: Chosen

    @property
    def baseline(self) -> Chosen:
        """Get which reads were taken before the stress."""
        return self.stage == BASELINE

    @property
    def hot(self) -> Chosen:
        """Get which reads were taken at the temperature of the stress."""
        return self.stage == HOT


@dataclass(frozen=True)
class Points:
    """Points against the clock that wears the sample, all [n]; ``normalised`` is False before there is a baseline."""

    clock: Array
    intensity: Array
    error: Array
    hot: Chosen
    baseline: Chosen
    normalised: bool = True


@dataclass(frozen=True)
class Curve:
    """The chosen law, or the smoothed course, with the ends of its 95 % band where they are known; all [m]."""

    clock: Array
    intensity: Array
    low: Array | None
    high: Array | None


def read_reads(run: Run, data: Mapping[str, Any]) -> Reads:
    """Read the columns of the reads; rows of other kinds are left out.

    Without a reference the emission is taken over the pump energy to the power that the analysis found, else to 1.
    """
    kind = texts(run, "kind")
    # Those that tell how steeply the emission follows the pump are no part of the course.
    index = np.flatnonzero(((kind == "read") | (kind == "")) & (texts(run, "stage") != SLOPE))
    stage = texts(run, "stage")[index]

    def rows(name: str) -> Array:
        return column(run, name)[index]

    baseline = stage == BASELINE
    ratio, error = rows("ratio"), rows("ratio_error")
    energy = rows("pulse_energy_j")
    energy = energy / _level(energy, energy, baseline)
    power = _pump_exponent(data)
    if power is not None:
        ratio, error = (rows(name) / energy**power for name in ("sample_intensity", "sample_intensity_error"))
    if not np.isfinite(ratio).any():
        ratio = rows("relative_intensity")
    second, second_error = rows("second_intensity") / energy, rows("second_intensity_error") / energy
    second_level = _level(second, second_error, baseline)
    level = _level(ratio, error, baseline)
    reference, reference_error = rows("reference_intensity"), rows("reference_intensity_error")
    bright = _level(reference, reference_error, baseline)
    return Reads(
        stage=stage,
        index=index,
        run_s=np.asarray(run.column("t_s"), float)[index] if index.size else np.zeros(0),
        time_s=rows("stress_s"),
        intensity=ratio / level,
        error=np.nan_to_num(error / level),
        reference=reference / bright,
        reference_error=np.nan_to_num(reference_error / bright),
        energy=energy,
        second=second / second_level,
        second_error=np.nan_to_num(second_error / second_level),
        peak_nm=rows("peak_nm"),
        fwhm_nm=rows("fwhm_nm"),
        temperature_c=rows("temperature_c"),
        irradiance_mw_cm2=rows("irradiance_mw_cm2"),
        lamp_dose_j_cm2=rows("lamp_dose_j_cm2"),
        dose_j_cm2=rows("dose_j_cm2"),
        shots=rows("shots"),
        saturated=np.nan_to_num(rows("saturated_pixels")) > 0,
    )


def _pump_exponent(data: Mapping[str, Any]) -> float | None:
    """Get the power with which the emission follows the pump, where the analysis took that out."""
    result = data.get("result")
    return _value(result.get("pump_exponent")) if isinstance(result, Mapping) else None


def _level(values: Array, errors: Array, baseline: Chosen) -> float:
    """Get the mean of the baseline, weighted by the errors; of the first read where there is none; NaN without any."""
    good = np.isfinite(values)
    chosen = baseline & good
    if not chosen.any():
        known = values[good][:1]
        level = float(known[0]) if known.size else math.nan
    else:
        sure = bool(np.isfinite(errors[chosen]).all() and (errors[chosen] > 0).all())
        level = float(np.average(values[chosen], weights=errors[chosen] ** -2 if sure else None))
    return level if level > 0 else math.nan


def course_of(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Get the stored course of the emission; empty if the run was not analysed."""
    found = data.get("course")
    return found if isinstance(found, Mapping) else {}


def read_points(run: Run, reads: Reads, data: Mapping[str, Any]) -> Points:
    """Get the points: as the analysis normalised them where they are stored, else as they were read."""
    course = course_of(data)
    if (stored := _stored_points(course)) is not None:
        return stored
    clock = np.where(reads.baseline, 0.0, clock_of(run, reads, data))
    return _scaled(clock, reads.intensity, reads.error, reads, course)


def _stored_points(course: Mapping[str, Any]) -> Points | None:
    stored = course.get("points")
    if not isinstance(stored, Mapping):
        return None
    found = [floats(stored.get(name)) for name in ("clock", "intensity", "error", "hot", "baseline")]
    columns = [values for values in found if values is not None]
    if len(columns) != len(found) or len({len(values) for values in columns}) != 1:
        return None
    clock, intensity, error, hot, baseline = columns
    return Points(clock, intensity, error, hot > 0, baseline > 0)


def read_second(run: Run, reads: Reads, data: Mapping[str, Any]) -> tuple[Points, Mapping[str, Any]] | None:
    """Get the points of a second band with their stored course; None if there is none."""
    if not np.isfinite(reads.second).any():
        return None
    found = data.get("second_band")
    course = found if isinstance(found, Mapping) else {}
    if (stored := _stored_points(course)) is not None:
        return stored, course
    clock = np.where(reads.baseline, 0.0, clock_of(run, reads, data))
    return _scaled(clock, reads.second, reads.second_error, reads, course), course


def _scaled(clock: Array, intensity: Array, error: Array, reads: Reads, course: Mapping[str, Any]) -> Points:
    """Get points in units of the start as the law sees it: all reads tell it together."""
    start = 1.0
    good = np.isfinite(clock) & np.isfinite(intensity) & (error > 0)
    curve = read_curve(course, float(clock[good].max())) if good.any() else None
    if curve is not None:
        factor = _value(course.get("quench")) or 1.0
        unit = np.interp(clock[good], curve.clock, curve.intensity) * np.where(reads.hot[good], factor, 1.0)
        weight = error[good] ** -2
        start = float((weight * unit * intensity[good]).sum() / (weight * unit**2).sum())
        start = start if start > 0 else 1.0
    return Points(clock, intensity / start, error / start, reads.hot, reads.baseline, bool(reads.baseline.any()))


def clock_of(run: Run, reads: Reads, data: Mapping[str, Any]) -> Array:
    """Get the reading of the clock at each read, in the unit of the stored course, [n]; of time without one."""
    unit = clock_unit(run, reads, data)
    if unit in DOSES:
        lamp = reads.lamp_dose_j_cm2
        return lamp if np.isfinite(lamp).any() and np.nanmax(lamp) > 0 else reads.dose_j_cm2
    if unit in SHOTS:
        return reads.shots
    heated = _equivalent_s(run, reads, data)
    return (reads.time_s if heated is None else heated) / _SECONDS.get(unit, 1.0)


def clock_unit(run: Run, reads: Reads, data: Mapping[str, Any]) -> str:
    """Get the unit of the clock: that of the stored course, else one that fits the time, or shots where counted."""
    unit = str(course_of(data).get("clock_unit") or "")
    if unit:
        return unit
    if str(run.header.get("procedure")) == "ase-stability" and np.nanmax(reads.shots, initial=0.0) > 0:
        return "shots"
    return fitting_unit(reads.time_s)


def fitting_unit(seconds: Array) -> str:
    """Get the unit in which times are best read."""
    longest = float(np.nanmax(seconds, initial=0.0))
    return "d" if longest > 5 * _DAY_S else "h" if longest > 3 * _HOUR_S else "min"


def in_unit(seconds: Array, unit: str) -> Array:
    """Get times in a unit of time."""
    return seconds / _SECONDS[unit]


def clock_label(run: Run, unit: str, *, analysed: bool) -> str:
    """Name the axis of the clock."""
    parameters = run.header.get("parameters")
    temperature = number(parameters.get("temperature")) if isinstance(parameters, Mapping) else None
    if unit in DOSES:
        return "Dose (J/cm²)"
    if unit in SHOTS:
        return "Laser shots on the spot"
    names = {
        "thermal-stability": f"Time at {temperature:g} °C" if temperature is not None else "Time in the heat",
        "uv-stability": "Time under the lamp",
        "water-stability": "Time in water",
        "ase-stability": "Time under the laser",
    }
    procedure = str(run.header.get("procedure"))
    name = names.get(procedure, "Time")
    equivalent = ", equivalent" if procedure == "thermal-stability" and analysed else ""
    return f"{name}{equivalent} ({unit_text(unit)})"


def _equivalent_s(run: Run, reads: Reads, data: Mapping[str, Any]) -> Array | None:
    """Get the time at the temperature of the stress that ages as much, in s; None without a log of temperatures."""
    log, parameters = data.get("temperature"), run.header.get("parameters")
    if not isinstance(log, Mapping) or not isinstance(parameters, Mapping):
        return None
    when, celsius = floats(log.get("t_s")), floats(log.get("temperature_c"))
    reference_c, energy = number(parameters.get("temperature")), number(parameters.get("activation_energy"))
    if when is None or celsius is None or reference_c is None or energy is None or not reads.run_s.size:
        return None
    try:
        found = thermal_equivalent_time(reads.run_s, when, celsius, reference_c=reference_c, activation_ev=energy)
    except ValueError:
        return None
    return found.value


def read_curve(course: Mapping[str, Any], longest: float) -> Curve | None:
    """Get the curve of the course: as stored, else from the law's parameters, then without its band."""
    stored = course.get("curve")
    if isinstance(stored, Mapping):
        clock, intensity = floats(stored.get("clock")), floats(stored.get("intensity"))
        if clock is not None and intensity is not None and len(clock) == len(intensity) > 1:
            low, high = floats(stored.get("low95")), floats(stored.get("high95"))
            whole = low is not None and high is not None and len(low) == len(high) == len(clock)
            return Curve(clock, intensity, low if whole else None, high if whole else None)
    law = BY_NAME.get(str(course.get("law")))
    parameters = course.get("parameters")
    if law is None or not isinstance(parameters, Mapping) or not longest > 0:
        return None
    values = [_value(parameters.get(name)) for name in law.parameters]
    if any(value is None for value in values):
        return None
    theta = _theta(np.array(values, float), law.on_clock)
    clock = np.unique(np.concatenate([[0.0], np.geomspace(1e-4 * longest, longest, 200), np.linspace(0, longest, 200)]))
    return Curve(clock, law.shape(clock, theta), None, None) if np.isfinite(theta).all() else None


def _theta(values: Array, on_clock: tuple[bool, ...]) -> Array:
    """Get what a law is fitted with from what it reports: the logarithm of its first scale, then of their ratios."""
    theta, first = values.copy(), math.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        for place, scales in enumerate(on_clock):
            if scales:
                theta[place] = np.log(values[place]) - (0.0 if math.isnan(first) else first)
                first = theta[place] if math.isnan(first) else first
    return theta


def _value(entry: Any) -> float | None:
    return number(entry.get("value")) if isinstance(entry, Mapping) else None


def floats(values: Any) -> Array | None:
    """Get a stored list as floats, NaN for what is no number; None if it is no list."""
    if not isinstance(values, list | tuple):
        return None
    found = [float(v) if isinstance(v, bool) else number(v) for v in values]
    return np.array([math.nan if v is None else v for v in found])
