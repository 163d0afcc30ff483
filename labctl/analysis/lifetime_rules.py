"""Lifetimes by the rules of the ISOS consensus (Khenkin et al., Nat. Energy 5, 35, 2020).

T80 is when the emission has fallen to 80 % of its start. If it rises first, to 80 % of its maximum, still counted from
clock 0. TS80 leaves a burn-in out: it belongs to the straight line that the curve follows after it, extrapolated back
to clock 0. A lifetime beyond the data is not extrapolated past 1.5 times their end; then a lower limit is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from scipy.stats import t as student

from labctl.analysis.degradation_fit import LawFit
from labctl.analysis.estimate import Estimate, finite_or_none
from labctl.analysis.smooth_course import SmoothCourse

Array = NDArray[np.float64]
Reference = Literal["start", "maximum"]

FURTHEST = 1.5
"""How far beyond the last read a lifetime may be extrapolated, in units of its clock reading."""
RISE_SIGNIFICANCE = 3.0
"""By how many standard deviations a maximum must exceed the start to count as a rise."""
STRAIGHT = 0.01
"""Largest departure from a straight line, of I/I(0), of what counts as past the burn-in."""
_LEAST_POINTS_ON_LINE = 5
_LATEST_BURN_IN = 0.5
_LEAST_AFTER_BURN_IN = 0.3
_ONE_SIDED = float(norm.ppf(0.95))


@dataclass(frozen=True)
class Lifetime:
    """When the emission falls to ``share`` of its ``reference``; in the unit of the clock.

    ``estimate`` is None if it does not within 1.5 times the last clock reading; ``longer_than`` is then the lower limit
    (95 %, one-sided). An upper end of an interval that lies beyond is infinite. ``extrapolated``: beyond the last read.
    """

    share: float
    reference: Reference
    estimate: Estimate | None
    longer_than: float | None
    extrapolated: bool
    reason: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return a dict for JSON."""
        return {
            "share": self.share,
            "reference": self.reference,
            "estimate": None if self.estimate is None else self.estimate.as_dict(),
            "longer_than": None if self.longer_than is None else finite_or_none(self.longer_than),
            "extrapolated": self.extrapolated,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class Maximum:
    """The largest I/I(0) within the data and its clock reading; ``rises``: it is above the start beyond doubt."""

    clock: Estimate
    intensity: Estimate
    rises: bool

    def as_dict(self) -> dict[str, Any]:
        """Return a dict for JSON."""
        return {"clock": self.clock.as_dict(), "intensity": self.intensity.as_dict(), "rises": self.rises}


@dataclass(frozen=True)
class BurnIn:
    """The straight line after the burn-in: where it begins, its value at clock 0, its fall per unit, and TS80."""

    ends_at: float
    start_intensity: Estimate
    slope: Estimate
    lifetime: Lifetime

    def as_dict(self) -> dict[str, Any]:
        """Return a dict for JSON."""
        return {
            "ends_at": self.ends_at,
            "start_intensity": self.start_intensity.as_dict(),
            "slope": self.slope.as_dict(),
            "lifetime": self.lifetime.as_dict(),
        }


def clock_grid(first: float, end: float) -> Array:
    """Return clock readings from 0 to 1.5 times the end, dense where a fast decay needs it."""
    longest = FURTHEST * end
    return np.unique(
        np.concatenate([[0.0, end], np.geomspace(1e-3 * first, longest, 500), np.linspace(0.0, longest, 601)])
    )


@dataclass(frozen=True)
class Summit:
    """Place and height of the largest I/I(0) within the data; ``rises``: it is above the start beyond doubt."""

    clock: float
    height: float
    rises: bool


def summit_of(course: LawFit | SmoothCourse, end: float) -> Summit:
    """Return the summit of a curve between clock 0 and ``end``."""
    grid = np.linspace(0.0, end, 2001)
    curve = course.values(grid)
    top = int(np.argmax(curve))
    place, height = _vertex(grid, curve, top)
    sd = float(course.errors(np.array([place]))[0])
    return Summit(place, height, height - 1.0 > RISE_SIGNIFICANCE * sd and top > 0)


def maximum_of(course: LawFit | SmoothCourse, end: float, unit: str) -> Maximum:
    """Return the summit of a curve with its intervals."""
    top = summit_of(course, end)
    if isinstance(course, SmoothCourse):
        coarse = np.linspace(0.0, end, 301)
        draws = course.draws(coarse)
        clock = _from_draws(coarse[np.argmax(draws, axis=1)], top.clock, unit)
        return Maximum(clock, _from_draws(draws.max(axis=1), top.height, "1"), top.rises)
    law, step, grid = course.law, end / 2000, np.linspace(0.0, end, 2001)

    def flat(x: float, p: Array) -> float:
        near = law.shape(np.clip(np.array([x - step, x + step]), 0.0, None), p)
        return float(near[1] - near[0]) / step

    def high(x: float, p: Array) -> float:
        return float(np.max(law.shape(grid, p))) - x

    clock = Estimate(top.clock, unit, (top.clock, top.clock), (top.clock, top.clock))
    if step < top.clock < end - step:
        clock = course.profiled(flat, top.clock, unit, (step, end))
    return Maximum(clock, course.profiled(high, top.height, "1", (0.0, np.inf)), top.rises)


def lifetime(
    course: LawFit | SmoothCourse, share: float, first: float, end: float, unit: str, *, walk: bool = True
) -> Lifetime:
    """Return when the curve falls to ``share``: of its start, or of its maximum if it rises first.

    :param first: first clock reading above 0, :param end: the last. :param walk: as in `LawFit.profiled`.
    """
    top = summit_of(course, end)
    longest = end if isinstance(course, SmoothCourse) else FURTHEST * end
    grid = clock_grid(first, end)
    grid = grid[grid <= longest]
    reference: Reference = "maximum" if top.rises else "start"
    level = share * (top.height if top.rises else 1.0)
    after = grid >= (top.clock if top.rises else 0.0)
    place = crossing(grid[after], course.values(grid[after]), level)
    if place is None:
        # A limit is what was seen: it lies no later than the last read.
        limit = min(_lower_limit(course, grid[after], level), end)
        why = f"the emission stays above {100 * share:.0f} % of its {reference} up to the last read at {end:.4g} {unit}"
        return Lifetime(share, reference, None, limit, False, why)
    if isinstance(course, SmoothCourse):
        estimate = _smooth_crossing(course, grid, share, top.rises, place, unit)
    else:

        def reached(x: float, p: Array) -> float:
            base = float(np.max(course.law.shape(grid[grid <= end], p))) if top.rises else 1.0
            return float(course.law.shape(np.array([x]), p)[0]) / base - share

        found = course.profiled(reached, place, unit, (0.0, longest), walk=walk)
        estimate = Estimate(place, unit, _open(found.ci68, longest), _open(found.ci95, longest))
    return Lifetime(share, reference, estimate, None, place > end)


def after_burn_in(
    course: LawFit | SmoothCourse, clock: Array, intensity: Array, error: Array, unit: str
) -> BurnIn | None:
    """Return the line after the burn-in and TS80, or None if the curve is straight from the start or never.

    The line must hold for the last half of the run, and begin while 30 % of the emission are left: the last of a dying
    sample is no stabilised state.

    :param clock: [p], sorted; with :param intensity: I/I(0) of the cold sample and :param error: standard deviations.
    """
    end = float(clock[-1])
    top = summit_of(course, end)
    candidates = np.unique(clock[: max(clock.size - _LEAST_POINTS_ON_LINE + 1, 0)])
    candidates = candidates[candidates >= (top.clock if top.rises else 0.0)]
    begins = next((float(c) for c in candidates if c < end and _departure(course, float(c), end) < STRAIGHT), None)
    if begins is None or begins == 0.0 or begins > _LATEST_BURN_IN * end:
        return None
    if float(course.values(np.array([begins]))[0]) < _LEAST_AFTER_BURN_IN:
        return None
    on = clock >= begins
    basis = np.stack([np.ones(int(on.sum())), clock[on]], axis=1) / error[on, None]
    target = intensity[on] / error[on]
    covariance = np.linalg.inv(basis.T @ basis)
    start, slope = covariance @ (basis.T @ target)
    rest = target - basis @ np.array([start, slope])
    dof = max(int(on.sum()) - 2, 1)
    covariance = covariance * max(float(rest @ rest) / dof, 1.0)
    sd = np.sqrt(np.diag(covariance))
    place = -0.2 * start / slope if slope < 0 else np.inf
    wider = float(student.ppf(0.975, dof))
    # A slope that could be zero gives no upper end: the interval is that of the slope relative to the start.
    ratio = -slope / start
    ratio_sd = float(np.sqrt(covariance[1, 1] - 2 * ratio * -covariance[0, 1] + ratio**2 * covariance[0, 0]) / start)
    if place <= FURTHEST * end:
        ends = [
            tuple(0.2 / r if r > 0 else np.inf for r in (ratio + k * ratio_sd, ratio - k * ratio_sd))
            for k in (1, wider)
        ]
        low, high = (_open((float(e[0]), float(e[1])), FURTHEST * end) for e in ends)
        life = Lifetime(0.8, "start", Estimate(float(place), unit, low, high), None, bool(place > end))
    else:
        steepest = ratio + float(student.ppf(0.95, dof)) * ratio_sd
        limit = min(0.2 / steepest, end) if steepest > 0 else end
        why = f"the line after the burn-in stays above 80 % of its start up to the last read at {end:.4g} {unit}"
        life = Lifetime(0.8, "start", None, float(limit), False, why)
    return BurnIn(
        begins,
        Estimate.from_sd(float(start), float(sd[0]), "1"),
        Estimate.from_sd(float(slope), float(sd[1]), f"1/{unit}"),
        life,
    )


def crossing(clock: Array, curve: Array, level: float) -> float | None:
    """Return where a curve [n] first falls below ``level``, None if it does not."""
    below = np.flatnonzero(curve < level)
    if below.size == 0:
        return None
    k = int(below[0])
    if k == 0:
        return float(clock[0])
    share = (curve[k - 1] - level) / (curve[k - 1] - curve[k])
    return float(clock[k - 1] + share * (clock[k] - clock[k - 1]))


def _vertex(x: Array, y: Array, k: int) -> tuple[float, float]:
    if not 0 < k < x.size - 1:
        return float(x[k]), float(y[k])
    curvature = y[k - 1] - 2 * y[k] + y[k + 1]
    if not curvature < 0:
        return float(x[k]), float(y[k])
    shift = 0.5 * (y[k - 1] - y[k + 1]) / curvature
    return float(x[k] + shift * (x[1] - x[0])), float(y[k] - 0.25 * (y[k - 1] - y[k + 1]) * shift)


def _open(interval: tuple[float, float], longest: float) -> tuple[float, float]:
    return interval[0], (np.inf if interval[1] >= longest else interval[1])


def _lower_limit(course: LawFit | SmoothCourse, grid: Array, level: float) -> float:
    low = course.values(grid) - _ONE_SIDED * course.errors(grid)
    found = crossing(grid, low, level)
    return float(grid[-1]) if found is None else found


def _from_draws(values: Array, best: float, unit: str) -> Estimate:
    a, b, c, d = (float(q) for q in np.quantile(values, [0.025, 0.15866, 0.84134, 0.975]))
    return Estimate(best, unit, (b, c), (a, d))


def _smooth_crossing(course: SmoothCourse, grid: Array, share: float, rises: bool, place: float, unit: str) -> Estimate:
    times = []
    for curve in course.draws(grid):
        begin = int(np.argmax(curve)) if rises else 0
        found = crossing(grid[begin:], curve[begin:], share * (curve[begin] if rises else 1.0))
        times.append(np.inf if found is None else found)
    ordered = np.sort(times)

    def at(p: float) -> float:
        return float(ordered[min(int(p * ordered.size), ordered.size - 1)])

    return Estimate(place, unit, (at(0.15866), at(0.84134)), (at(0.025), at(0.975)))


def _departure(course: LawFit | SmoothCourse, begin: float, end: float) -> float:
    x = np.linspace(begin, end, 101)
    y = course.values(x)
    return float(np.max(np.abs(y - np.polyval(np.polyfit(x, y, 1), x))))
