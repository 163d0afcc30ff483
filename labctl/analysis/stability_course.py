"""The course of a stability run as it is drawn: its points and the fitted curve with a band, few enough to store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from labctl.analysis.degradation_fit import LawFit
from labctl.analysis.smooth_course import SmoothCourse
from labctl.analysis.stability_reads import StabilityPoints

Array = NDArray[np.float64]

MOST_DRAWN = 200
"""Points of a run, and of its curve, that are stored for a figure at most."""
_DIGITS = 7


@dataclass(frozen=True)
class DrawnPoints:
    """Points for a figure, sorted by clock, all [n <= 200]; of longer runs means of neighbours of the same kind.

    ``intensity`` is in units of the fitted start of the cold sample, hot points as they were read; ``error`` its
    standard deviation, widened as in the fit and without that of the start, which the band of the curve holds.
    """

    clock: Array
    intensity: Array
    error: Array
    hot: NDArray[np.bool_]
    baseline: NDArray[np.bool_]

    def as_dict(self) -> dict[str, Any]:
        """Return a dict for JSON."""
        numbers = {name: _rounded(getattr(self, name)) for name in ("clock", "intensity", "error")}
        return {**numbers, "hot": self.hot.tolist(), "baseline": self.baseline.tolist()}


@dataclass(frozen=True)
class DrawnCurve:
    """I/I(0) of the cold sample from clock 0 to the last read, with its 95 % band, all [m <= 200]."""

    clock: Array
    intensity: Array
    low95: Array
    high95: Array

    def as_dict(self) -> dict[str, Any]:
        """Return a dict for JSON."""
        return {name: _rounded(getattr(self, name)) for name in ("clock", "intensity", "low95", "high95")}


def drawn_points(points: StabilityPoints, start: float, spread: float) -> DrawnPoints:
    """Return the points of a run for a figure.

    :param start: The fitted start of the cold sample in units of ``points.intensity``. :param spread: The factor by
        which the errors of the points are widened.
    """
    mean = _means(2 * points.baseline.astype(int) + points.hot)
    clock = mean @ points.clock
    order = np.argsort(clock, kind="stable")
    mean = mean[order]
    variance = np.einsum("gp,pq,gq->g", mean, points.fit_covariance, mean, optimize=True)
    return DrawnPoints(
        clock[order],
        mean @ points.intensity / start,
        spread * np.sqrt(variance) / start,
        mean @ points.hot > 0.5,
        mean @ points.baseline > 0.5,
    )


def _means(kind: NDArray[np.int64]) -> Array:
    """Return the matrix [g <= 200, p] that averages neighbours of the same kind, [p], if there are too many."""
    if kind.size <= MOST_DRAWN:
        return np.eye(kind.size)
    kinds = np.unique(kind)
    group = np.zeros(kind.size, dtype=int)
    used = 0
    for one in kinds:
        of_it = np.flatnonzero(kind == one)
        groups = max(1, of_it.size * (MOST_DRAWN - kinds.size) // kind.size)
        group[of_it] = used + np.arange(of_it.size) * groups // of_it.size
        used += groups
    mean = np.zeros((used, kind.size))
    mean[group, np.arange(kind.size)] = 1.0 / np.bincount(group)[group]
    return mean


def drawn_curve(
    course: LawFit | SmoothCourse,
    close: Sequence[LawFit],
    weights: Sequence[float],
    span: tuple[float, float],
    moved: Callable[[Array], Array] | None,
) -> DrawnCurve:
    """Return the fitted curve for a figure, with the band that the errors of first order make.

    :param close: The laws that the data leave open, with :param weights:, none for a smoothed course.
    :param span: The first clock reading above 0 and the last.
    :param moved: The curve fitted with the clock moved by one standard deviation of its error, if that is known.
    """
    first, end = span
    clock = np.unique(
        np.concatenate([np.geomspace(0.1 * first, end, MOST_DRAWN // 2), np.linspace(0, end, MOST_DRAWN // 2)])
    )
    value = course.values(clock)
    if isinstance(course, SmoothCourse):
        variance, wide = course.errors(clock) ** 2, float(norm.ppf(0.975))
    else:
        of_laws = [fit.errors(clock) ** 2 + (fit.values(clock) - value) ** 2 for fit in close]
        variance, wide = np.average(of_laws, axis=0, weights=weights), course.quantile(0.95)
    if moved is not None:
        variance = variance + (moved(clock) - value) ** 2
    half = wide * np.sqrt(variance)
    return DrawnCurve(clock, value, np.maximum(value - half, np.minimum(value, 0.0)), value + half)


def _rounded(values: Array) -> list[float]:
    return [float(f"{value:.{_DIGITS}g}") for value in values]
