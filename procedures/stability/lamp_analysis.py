"""Analysis of a run under a lamp: the dose from the irradiances that were read, the course against time and dose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labctl.analysis.estimate import Estimate
from labctl.analysis.stress_clock import dose_j_cm2, photons_per_cm2
from labctl.errors import InputError
from procedures.emission.stored import bench_of
from procedures.stability.analysis import course_result, follow, lifetime_result, lines_of
from procedures.stability.interruptions import Interruption, interruptions
from procedures.stability.procedure import StabilityProcedure
from procedures.stability.schedule import HOUR_S, time_name
from procedures.stability.stored import StoredReads, stored_log

Array = NDArray[np.float64]
_MOMENT_S = 1e-3


def analyse_lit(run: Any, procedure: StabilityProcedure, report_min: Sequence[float]) -> dict[str, Any]:
    """Analyse a run under a lamp; returns ``{"result", "course", "by_dose", "lamp", "warnings"}``.

    ``course`` is that against the time under the lamp in h, ``by_dose`` that against the dose in J/cm².
    """
    reads = StoredReads.of(run)
    when, irradiance = stored_log(run, ("points",))
    if when.size < 2:
        raise InputError("the lamp was not read", where=str(run.path), todo="measure on")
    gaps = interruptions(run)
    when, irradiance = with_dark_gaps(when, irradiance, gaps)
    lines = lines_of(run, reads, procedure)
    last_h = float(lit_hours(reads.middle_s, when, irradiance).max())
    names = {minutes / 60: time_name(minutes) for minutes in report_min if minutes / 60 <= last_h * 1.02}
    course = follow(
        reads,
        lambda t_s: lit_hours(t_s, when, irradiance),
        "h",
        at=tuple(names),
        lines=lines,
        where=str(run.path),
    )
    lamp = bench_of(run).lamp
    share = lamp.irradiance_error_mw_cm2 / lamp.irradiance_mw_cm2 if lamp is not None else 0.0

    def dose(t_s: Array) -> Array:
        return dose_j_cm2(t_s, when, np.maximum(irradiance, 0.0))

    by_dose = follow(reads, dose, "J/cm^2", clock_error=lambda t_s: share * dose(t_s), where=str(run.path))
    total = float(dose(when[-1:])[0])
    result = course_result(course, names)
    result["dose"] = Estimate.from_sd(total, share * total, "J/cm^2").as_dict()
    result["photons"] = {
        "value": float(photons_per_cm2(total, lamp.wavelength_nm)) if lamp is not None else None,
        "unit": "1/cm^2",
    }
    result["d80"] = lifetime_result(by_dose.found.t80, "J/cm^2")
    result["d50"] = lifetime_result(by_dose.found.t50, "J/cm^2")
    if by_dose.found.maximum.rises:
        result["maximum_at_dose"] = by_dose.found.maximum.clock.as_dict()
    on = irradiance[irradiance > 0]
    if on.size:
        result["irradiance"] = {"value": float(np.median(on)), "unit": "mW/cm^2"}
    warnings = [*course.warnings, *by_dose.found.warnings]
    if gaps:
        lost_h = sum(gap.longest_s for gap in gaps) / HOUR_S
        warnings.append(
            f"the run was interrupted {len(gaps)} times, {lost_h:.2f} h in all; a lamp that was found off afterwards is"
            " taken to have gone out when the bench was made safe"
        )
    return {
        "result": result,
        "course": course.as_dict(),
        "by_dose": by_dose.as_dict(),
        "lamp": {"t_s": when.tolist(), "irradiance_mw_cm2": irradiance.tolist()},
        "warnings": list(dict.fromkeys(warnings)),
    }


def lit_hours(t_s: Array, when: Array, irradiance: Array) -> Array:
    """Get for how long the lamp had shone at times [n], in h, from a log of its irradiance [m]."""
    lit = (irradiance[:-1] > 0) & (irradiance[1:] > 0)
    passed = np.concatenate([[0.0], np.cumsum(np.diff(when) * lit)])
    after = np.maximum(t_s - when[-1], 0.0) if irradiance[-1] > 0 else 0.0
    return (np.interp(t_s, when, passed) + after) / HOUR_S


def with_dark_gaps(when: Array, irradiance: Array, gaps: Sequence[Interruption]) -> tuple[Array, Array]:
    """Get the log with the moments at which a lamp went out that was found off when the run went on."""
    for gap in gaps:
        place = int(np.searchsorted(when, gap.began_s, side="right"))
        if 0 < place < when.size and irradiance[place - 1] > 0 and irradiance[place] <= 0:
            out_s = max(gap.began_s, float(when[place - 1]) + _MOMENT_S)
            when = np.concatenate([when[:place], [out_s, out_s + _MOMENT_S], when[place:]])
            irradiance = np.concatenate([irradiance[:place], [irradiance[place - 1], 0.0], irradiance[place:]])
    return when, irradiance
