"""From the reads of a stability run to its results: what is left, lifetimes, quench, the line's shift and width."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.analysis.lifetime_rules import Lifetime
from labctl.analysis.split_line import BandLines
from labctl.analysis.stability import StabilityAnalysis, analyse_stability
from labctl.analysis.stability_shift import LineChange, line_change
from labctl.errors import InputError
from procedures.emission.stored import bench_of
from procedures.stability.stored import StoredReads, band_lines

Array = NDArray[np.float64]
Clock = Callable[[Array], Array]

_METERED_DRIFT = 0.01
"""Drift over a run that is assumed without a reference, where each read is divided by the energy of its pulses."""


@dataclass(frozen=True)
class Course:
    """The course of the emission against one clock."""

    found: StabilityAnalysis
    shift: LineChange | None
    broadening: LineChange | None

    @property
    def warnings(self) -> list[str]:
        """Get what is to be said of it."""
        texts = list(self.found.warnings)
        for name, change in (("peak", self.shift), ("width", self.broadening)):
            texts += [f"{name}: {text}" for text in change.warnings] if change is not None else []
        return texts

    def as_dict(self) -> dict[str, Any]:
        """Return a dict for JSON."""
        return {
            **self.found.as_dict(),
            "peak_nm": self.shift.as_dict() if self.shift is not None else None,
            "fwhm_nm": self.broadening.as_dict() if self.broadening is not None else None,
        }


def follow(
    reads: StoredReads,
    clock: Clock,
    unit: str,
    *,
    at: Sequence[float] = (),
    hot: Sequence[str] = (),
    lines: BandLines | None = None,
    clock_error: Callable[[Array], ArrayLike] | None = None,
    pump: Array | None = None,
    where: str = "",
) -> Course:
    """Analyse the reads against a clock; raises InputError if they say nothing.

    :param clock: Its reading at times in s since the start of the run. :param at: Readings that are asked for.
    :param hot: Stages whose reads were taken at the temperature of the stress.
    :param lines: The line of each read. :param clock_error: What one standard deviation of the clock's error adds.
    :param pump: What the signal is divided by, shape (points, cycles), whether or not there is a reference.
    """
    series = reads.stability(clock, unit, hot=hot, pump=pump)
    divide = pump is not None or not reads.has_reference
    try:
        found = analyse_stability(
            series,
            at=at,
            divide_by_pump=divide,
            clock_error=None if clock_error is None else np.where(series.baseline, 0.0, clock_error(series.time_s)),
            lamp_drift=_METERED_DRIFT,
        )
        if lines is None:
            return Course(found, None, None)
        single = reads.lines_reads(clock, unit, hot=hot)
        changes = [
            line_change(single, found, value, error, unit="nm", at=at)
            for value, error in (
                (lines.peak_nm, lines.peak_error_nm),
                (lines.fwhm_nm, lines.fwhm_error_nm),
            )
        ]
    except ValueError as reason:
        raise InputError(f"the reads cannot be analysed: {reason}", where=where) from reason
    return Course(found, changes[0], changes[1])


def lines_of(run: Any, reads: StoredReads, procedure: Any) -> BandLines | None:
    """Fit the line of each read."""
    bench = bench_of(run)
    gain = bench.spectrometer.counts_per_electron if bench.spectrometer else 1.0
    return band_lines(run, reads, procedure.band_nm(bench), gain)


def course_result(course: Course, names: Mapping[float, str]) -> dict[str, Any]:
    """Get the results by name.

    :param names: Ending of the name by reading of the clock, e.g. ``{20.0: "20min"}``.
    """
    found = course.found
    result: dict[str, Any] = {"remaining": found.end.as_dict()}
    for value in found.values:
        if value.intensity is not None:
            result[f"remaining_{names[value.clock]}"] = value.intensity.as_dict()
    result["t80"] = lifetime_result(found.t80, found.clock_unit)
    result["t50"] = lifetime_result(found.t50, found.clock_unit)
    if found.burn_in is not None:
        result["ts80"] = lifetime_result(found.burn_in.lifetime, found.clock_unit)
    if found.maximum.rises:
        result["maximum"] = found.maximum.intensity.as_dict()
        result["maximum_at"] = found.maximum.clock.as_dict()
    if found.quench is not None:
        result["quench"] = found.quench.as_dict()
    for name, change in (("shift_nm", course.shift), ("broadening_nm", course.broadening)):
        if change is None:
            continue
        if change.end is not None:
            result[name] = change.end.as_dict()
        for clock, estimate in change.values:
            result[f"{name.removesuffix('_nm')}_{names[clock]}_nm"] = estimate.as_dict()
    return result


def lifetime_result(life: Lifetime, unit: str) -> dict[str, Any]:
    """Get a lifetime as a result; without one the lower limit and the reason."""
    if life.estimate is not None:
        return {**life.estimate.as_dict(), "of": life.reference, "extrapolated": life.extrapolated}
    limit = life.as_dict()["longer_than"]
    return {"value": None, "unit": unit, "longer_than": limit, "of": life.reference, "reason": life.reason}
