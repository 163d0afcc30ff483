"""Shift and broadening of the emission line over a stability run, against its start.

What wears the emission usually moves and widens the line in proportion to the loss, so the whole run is fitted with
line(t) = start + slope (1 - I(t)), and a constant on top for reads at the temperature of the stress, whose line is
moved by the heat alone and reversibly. Beside it stands the plain difference of the last reads and the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student

from labctl.analysis.estimate import Estimate
from labctl.analysis.misfit import erratic_share
from labctl.analysis.split_line import mean_line
from labctl.analysis.stability import StabilityAnalysis
from labctl.analysis.stability_reads import StabilityReads

Array = NDArray[np.float64]
_SMOOTH_MISFIT = 4.0
_LEAST_ERRATIC = 0.2
_LEAST_LOSS = 0.02


@dataclass(frozen=True)
class LineChange:
    """Change of one quantity of the line (peak or width) against the baseline, all in its unit.

    ``start`` is its value at clock 0. ``values`` are (clock, change) at the clock readings asked, from the line in the
    loss; ``per_loss`` its slope, the change at full loss. ``end`` is the mean of the last cold reads less that of the
    baseline. ``thermal`` is the reversible change of hot reads. None where the reads do not give it.
    """

    start: Estimate
    values: tuple[tuple[float, Estimate], ...]
    per_loss: Estimate | None
    end: Estimate | None
    thermal: Estimate | None
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return a dict for JSON."""
        return {
            "start": self.start.as_dict(),
            "values": [{"clock": clock, "change": change.as_dict()} for clock, change in self.values],
            "per_loss": None if self.per_loss is None else self.per_loss.as_dict(),
            "end": None if self.end is None else self.end.as_dict(),
            "thermal": None if self.thermal is None else self.thermal.as_dict(),
            "warnings": list(self.warnings),
        }


def line_change(
    reads: StabilityReads,
    analysis: StabilityAnalysis,
    value: ArrayLike,
    error: ArrayLike,
    *,
    unit: str,
    at: Sequence[float] = (),
) -> LineChange:
    """Return how a quantity of the line changed over a run.

    :param value: [n], of each read, nan where no line was found; :param error: [n], standard deviations, as
        `fit_band_lines` gives them. :param at: clock readings at which the change is asked.
    Raises ValueError without a baseline read that has a line.
    """
    y, sd = np.asarray(value, dtype=float), np.asarray(error, dtype=float)
    if y.shape != reads.clock.shape or sd.shape != reads.clock.shape:
        raise ValueError(f"value and error must have shape {reads.clock.shape} like the reads")
    good = np.isfinite(y) & np.isfinite(sd) & (sd > 0)
    baseline = good & reads.baseline
    if not baseline.any():
        raise ValueError("no baseline read has a line to compare with")
    start, start_sd = mean_line(y[baseline], sd[baseline])
    warnings: list[str] = []
    if not good.all():
        warnings.append(f"{np.count_nonzero(~good)} of {good.size} reads have no line")
    cold_end = good & ~reads.baseline & ~reads.hot
    end = None
    if cold_end.any():
        last = cold_end & (reads.point == reads.point[cold_end][np.argmax(reads.clock[cold_end])])
        same = cold_end & (reads.clock >= float(reads.clock[last].min()))
        mean, mean_sd = mean_line(y[same], sd[same])
        end = Estimate.from_sd(mean - start, float(np.hypot(mean_sd, start_sd)), unit)
    fit = _fit_loss(reads, analysis, y, sd, good, warnings)
    if fit is None:
        return LineChange(Estimate.from_sd(start, start_sd, unit), (), None, end, None, tuple(warnings))
    slope, slope_sd, thermal, quantiles = fit
    changes = []
    for clock in at:
        loss = 1.0 - float(analysis.curve(np.array([clock]))[0])
        loss_sd = float(analysis.course.errors(np.array([clock]))[0])
        changes.append(
            (float(clock), _estimate(slope * loss, np.hypot(slope_sd * loss, slope * loss_sd), unit, quantiles))
        )
    return LineChange(
        Estimate.from_sd(start, start_sd, unit),
        tuple(changes),
        _estimate(slope, slope_sd, unit, quantiles),
        end,
        None if thermal is None else _estimate(*thermal, unit, quantiles),
        tuple(warnings),
    )


_Quantiles = tuple[float, float]


def _fit_loss(
    reads: StabilityReads,
    analysis: StabilityAnalysis,
    y: Array,
    sd: Array,
    good: NDArray[np.bool_],
    warnings: list[str],
) -> tuple[float, float, tuple[float, float] | None, _Quantiles] | None:
    """Return slope and error against the loss, the offset of hot reads, and Student's quantiles; None without loss."""
    clock = reads.clock[good]
    loss = 1.0 - analysis.curve(clock)
    hot = reads.hot[good]
    if float(np.ptp(loss)) < _LEAST_LOSS:
        warnings.append("the emission lost less than 2 %: the change of the line is not related to the loss")
        return None
    columns = [np.ones(loss.size), loss]
    offset = bool(hot.any() and not hot.all())
    if offset:
        columns.append(hot.astype(float))
    weight = 1.0 / sd[good]
    basis = np.stack(columns, axis=1) * weight[:, None]
    if clock.size <= basis.shape[1]:
        return None
    covariance = np.linalg.pinv(basis.T @ basis)
    found = covariance @ (basis.T @ (y[good] * weight))
    rest = y[good] * weight - basis @ found
    dof = clock.size - basis.shape[1]
    covariance = covariance * max(float(rest @ rest) / dof, 1.0)
    order = np.argsort(clock, kind="stable")
    share = erratic_share(clock[order], (rest / weight)[order], sd[good][order])
    if share < max(1.0 - _SMOOTH_MISFIT / float(np.sqrt(clock.size)), _LEAST_ERRATIC):
        warnings.append("the line does not change in proportion to the loss: compare the last reads with the first")
    spread = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    quantiles = float(student.ppf(0.84134, dof)), float(student.ppf(0.975, dof))
    thermal = (float(found[2]), float(spread[2])) if offset else None
    return float(found[1]), float(spread[1]), thermal, quantiles


def _estimate(value: float, sd: float, unit: str, quantiles: _Quantiles) -> Estimate:
    narrow, wide = (float(q * sd) for q in quantiles)
    return Estimate(float(value), unit, (value - narrow, value + narrow), (value - wide, value + wide))
