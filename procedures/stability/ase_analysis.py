"""Analysis of a run under its own pump: the course against the pulses that have passed, by the trigger counter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from labctl.analysis.estimate import Estimate
from labctl.errors import InputError
from procedures.emission.stored import bench_of
from procedures.stability.analysis import Course, course_result, follow, lifetime_result, lines_of
from procedures.stability.interruptions import interruptions
from procedures.stability.memory import BASELINE, SLOPE
from procedures.stability.schedule import MINUTE_S, time_name
from procedures.stability.stored import StoredReads

if TYPE_CHECKING:
    from procedures.ase_stability import AseStability

Array = NDArray[np.float64]

_EXPONENTS = (0.3, 12.0)
"""Between these a slope is believed; beyond, it is noise."""
_LEAST_SPREAD = 0.03


def pump_exponent(reads: Sequence[tuple[str, float, float]]) -> float:
    """Get the power with which the emission follows the pump: slope of ln intensity over ln energy; 1 if unknown.

    :param reads: Stage, energy and intensity of the reads before the stress.
    """
    known = [(energy, intensity) for _, energy, intensity in reads if energy > 0 and intensity > 0]
    if len(known) < 3:
        return 1.0
    x, y = np.log(np.array(known)).T
    if np.ptp(x) < _LEAST_SPREAD:
        return 1.0
    return float(np.clip(np.polyfit(x - x.mean(), y, 1)[0], *_EXPONENTS))


def analyse_blocks(run: Any, procedure: AseStability, report_min: Sequence[float]) -> dict[str, Any]:
    """Analyse such a run, live or old; returns ``{"result", "course", "second_band", "warnings"}``.

    Clock readings are pulses; the times at which results are wanted are turned into pulses of an open shutter.
    """
    everything = StoredReads.of(run)
    reads = everything.only(everything.stage != SLOPE)
    laser = bench_of(run).laser
    if laser is None:
        raise InputError("the bench of the run has no laser", where=str(run.path))
    shots, warnings = _shots(run, reads, laser.repetition_rate_hz)
    names = {minutes * MINUTE_S * laser.repetition_rate_hz: time_name(minutes) for minutes in report_min}
    names = {count: name for count, name in names.items() if count <= shots[-1] * 1.02}

    def followed(of: StoredReads, exponent: float, *, with_lines: bool) -> Course:
        return follow(
            of,
            lambda t_s: np.interp(t_s, reads.middle_s, shots),
            "shots",
            at=tuple(names),
            lines=lines_of(run, of, procedure) if with_lines else None,
            pump=of.energy_j**exponent / np.nanmean(of.energy_j) ** exponent,
            where=str(run.path),
        )

    early = np.isin(everything.stage, (SLOPE, BASELINE))
    exponent = _exponent(everything, everything.sample[:, 0], early)
    course = followed(reads, exponent, with_lines=True)
    result = _named(course_result(course, names), course)
    result["shots"] = {"value": int(reads.columns["shots"][-1]), "unit": "shots"}
    result["dose"] = {"value": float(reads.columns["dose_j_cm2"][-1]), "unit": "J/cm^2"}
    result["pump_exponent"] = {"value": exponent, "unit": "1"}
    analysed = {"result": result, "course": course.as_dict(), "second_band": None}
    warnings += course.warnings
    second = everything.columns["second_intensity"]
    if np.isfinite(second).all():
        errors = everything.columns["second_intensity_error"]
        band = everything.with_signal(second, errors)
        other = followed(band.only(everything.stage != SLOPE), _exponent(everything, second, early), with_lines=False)
        analysed["second_band"] = other.as_dict()
        result |= {f"second_{name}": value for name, value in _named(course_result(other, names), other).items()}
        warnings += [f"second band: {text}" for text in other.warnings]
    return {**analysed, "warnings": list(dict.fromkeys(warnings))}


def _exponent(reads: StoredReads, intensity: Array, early: NDArray[np.bool_]) -> float:
    rows = zip(reads.stage[early], reads.energy_j[early, 0], intensity[early], strict=True)
    return pump_exponent([(str(stage), float(energy), float(value)) for stage, energy, value in rows])


def _named(result: dict[str, Any], course: Course) -> dict[str, Any]:
    """Name lifetimes by what they are counted in, and give the line its own words."""
    found = course.found
    named = {name: value for name, value in result.items() if name not in ("t80", "t50", "ts80")}
    named["n80"], named["n50"] = (lifetime_result(life, "shots") for life in (found.t80, found.t50))
    if course.shift is not None and course.shift.start is not None:
        start: Estimate = course.shift.start
        named["peak"] = start.as_dict()
    return named


def _shots(run: Any, reads: StoredReads, rate_hz: float) -> tuple[Array, list[str]]:
    """Get the pulses that had passed at each read, with those of blocks that a crash has cut off, and warnings."""
    shots = np.asarray(reads.columns["shots"], dtype=float).copy()
    warnings: list[str] = []
    openings = [event.t_s for event in run.events("light")]
    for gap in interruptions(run):
        stored_s = max((t_s for t_s in reads.t_s if t_s <= gap.began_s), default=0.0)
        lit = [t_s for t_s in openings if stored_s < t_s < gap.began_s]
        if not lit:
            continue
        lost = (gap.began_s - max(lit)) * rate_hz
        shots[reads.t_s > gap.ended_s] += lost
        warnings.append(
            f"a block was cut off: {lost:.3g} pulses at most passed uncounted, by the time that the shutter was open;"
            " the course counts them, the result `shots` does not"
        )
    return shots, warnings
