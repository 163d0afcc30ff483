"""Analysis of a run under water: the course against the time since the water was added."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labctl.analysis.stress_clock import dose_j_cm2
from labctl.errors import InputError
from procedures.stability.analysis import course_result, follow, lines_of
from procedures.stability.interruptions import interruptions
from procedures.stability.lamp_analysis import with_dark_gaps
from procedures.stability.procedure import StabilityProcedure
from procedures.stability.schedule import HOUR_S, time_name
from procedures.stability.stored import StoredReads, stored_log

Array = NDArray[np.float64]


def analyse_wet(run: Any, procedure: StabilityProcedure, report_min: Sequence[float]) -> dict[str, Any]:
    """Analyse a run under water, live or old; returns ``{"result", "course", "warnings"}``; the clock is in h."""
    reads = StoredReads.of(run)
    if "operator" not in run.streams or not run.count("operator"):
        raise InputError("no water was added", where=str(run.path), todo="measure on")
    added_s = float(run.column("t_s", "operator")[0])

    def hours(t_s: Array) -> Array:
        return np.maximum(t_s - added_s, 0.0) / HOUR_S

    last_h = float(hours(reads.middle_s).max())
    names = {minutes / 60: time_name(minutes) for minutes in report_min if minutes / 60 <= last_h * 1.02}
    lines = lines_of(run, reads, procedure)
    course = follow(reads, hours, "h", at=tuple(names), lines=lines, where=str(run.path))
    result = course_result(course, names)
    when, irradiance = stored_log(run, ("points",))
    if when.size > 1:
        when, irradiance = with_dark_gaps(when, irradiance, interruptions(run))
        dose = float(dose_j_cm2(when[-1:], when, np.maximum(irradiance, 0.0))[0])
        result["dose"] = {"value": dose, "unit": "J/cm^2"}
    return {"result": result, "course": course.as_dict(), "warnings": course.warnings}
