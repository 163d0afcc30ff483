"""Analysis of a heat run: the clock from the temperatures that were read, then the course of the emission."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from labctl.analysis.stress_clock import EquivalentTime, thermal_equivalent_time
from labctl.errors import InputError
from procedures.stability.analysis import course_result, follow, lines_of
from procedures.stability.interruptions import Interruption, interruptions
from procedures.stability.schedule import MINUTE_S, time_name
from procedures.stability.stored import StoredReads, stored_log

if TYPE_CHECKING:
    from procedures.thermal_stability import ThermalStability

Array = NDArray[np.float64]

_HOT = ("hot",)
_COOLING_S = 180.0
"""Time constant with which a laboratory plate cools that was switched off, where the run does not show it."""
_STEPS = 40


def analyse_heat(run: Any, procedure: ThermalStability, report_min: Sequence[float]) -> dict[str, Any]:
    """Analyse a heat run, live or old; returns ``{"result", "course", "warnings", "temperature"}``."""
    reads = StoredReads.of(run)
    when, celsius = stored_log(run, ("heating", "points"))
    if when.size < 2:
        raise InputError("no temperature was read", where=str(run.path), todo="measure on")
    gaps = interruptions(run)
    when, celsius = _with_cooling(when, celsius, gaps)
    log_min = when / MINUTE_S

    def equivalent(t_s: Array) -> EquivalentTime:
        return thermal_equivalent_time(
            np.asarray(t_s) / MINUTE_S,
            log_min,
            celsius,
            reference_c=procedure.temperature,
            activation_ev=procedure.activation_energy,
            activation_sd_ev=procedure.activation_energy_error,
        )

    started_min = float(equivalent(np.array([_hot_began_s(run, reads)])).value[0])
    last_min = float(equivalent(reads.middle_s).value.max())
    names = {minutes: time_name(minutes) for minutes in report_min if minutes <= last_min * 1.02}
    course = follow(
        reads,
        lambda t_s: equivalent(t_s).value,
        "min",
        at=tuple(names),
        hot=_HOT,
        lines=lines_of(run, reads, procedure),
        clock_error=lambda t_s: equivalent(t_s).per_activation_sd,
        where=str(run.path),
    )
    hot = reads.columns["temperature_c"][np.isin(reads.stage, _HOT)]
    result = course_result(course, names)
    result["heating_up"] = {"value": started_min, "unit": "min"}
    if hot.size:
        result["temperature"] = {"value": float(np.nanmean(hot)), "unit": "degC"}
    warnings = course.warnings
    if gaps:
        lost_min = sum(gap.longest_s for gap in gaps) / MINUTE_S
        warnings.append(
            f"the run was interrupted {len(gaps)} times, {lost_min:.1f} min in all; the temperature meanwhile is not"
            " known: it is taken to fall from the moment that the heater was switched off"
        )
    return {
        "result": result,
        "course": course.as_dict(),
        "temperature": {"t_s": when.tolist(), "temperature_c": celsius.tolist()},
        "warnings": list(dict.fromkeys(warnings)),
    }


def _hot_began_s(run: Any, reads: StoredReads) -> float:
    """Get when the temperature had been reached."""
    if "heating" in run.streams and run.count("heating"):
        rows = run.columns("heating")
        up = rows["t_s"][rows["stage"] == "heat-up"]
        if up.size:
            return float(up[0])
    return float(reads.t_s[0])


def _with_cooling(when: Array, celsius: Array, gaps: Sequence[Interruption]) -> tuple[Array, Array]:
    """Get the log with what a plate does that is switched off while nobody reads it."""
    ambient_c = float(celsius.min())
    for gap in gaps:
        place = int(np.searchsorted(when, gap.began_s, side="right"))
        if not 0 < place < when.size:
            continue
        start_c, off_s = float(celsius[place - 1]), max(gap.began_s, float(when[place - 1]) + 1e-3)
        end_s, end_c = float(when[place]), float(celsius[place])
        if start_c - end_c < 1.0 or end_s - off_s < 1.0:
            continue
        tau_s = _COOLING_S
        if end_c > ambient_c + 2.0 and start_c > end_c:
            tau_s = (end_s - off_s) / np.log((start_c - ambient_c) / (end_c - ambient_c))
        t = np.linspace(0.0, 1.0, _STEPS)[:-1] ** 2 * (end_s - off_s)
        falling = ambient_c + (start_c - ambient_c) * np.exp(-t / tau_s)
        when = np.concatenate([when[:place], off_s + t, when[place:]])
        celsius = np.concatenate([celsius[:place], falling, celsius[place:]])
    return when, celsius
