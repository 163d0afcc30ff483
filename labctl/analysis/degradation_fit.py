"""Fit of the degradation laws to a stability curve: search, choice by BIC, intervals from profiles of chi2.

The amplitude is free and the baseline reads are data: fixing the curve at their mean would hand their error to every
point. Reads at the temperature of the stress carry a factor of their own, the reversible thermal quench Q = hot
amplitude over cold amplitude; the reads after cooling down tell it from the irreversible loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from scipy.optimize import leastsq
from scipy.stats import t as student

from labctl.analysis.degradation_laws import LAWS, Bounds, Law
from labctl.analysis.estimate import Estimate
from labctl.analysis.profile_walk import ProfileWalk, Station
from labctl.analysis.stability_reads import StabilityPoints

Array = NDArray[np.float64]
Constraint = Callable[[float, Array], float]
"""Of a clock reading or value x and theta: 0 where the quantity asked for is x."""

LEVELS = (0.6827, 0.95)
RISE_EVIDENCE = 6.0
"""By how much the BIC of a law that rises must be lower: noise in the first reads looks like a small rise."""
EQUAL_EVIDENCE = 2.0
"""Laws whose BIC differ by less are equally good; the one with the fewest parameters is then taken."""
_POLISHED = 4
_CONSTRAINT_SHARE = 1e-2


@dataclass(frozen=True)
class CurveData:
    """Points of a curve and the matrix that whitens them. Arrays [p], ``white`` [p, p]."""

    clock: Array
    intensity: Array
    white: Array
    hot: NDArray[np.bool_]
    scale_known: bool
    noise_dof: int

    @classmethod
    def of(cls, points: StabilityPoints) -> CurveData:
        """Whiten with the covariance that leaves out the error of the baseline, which the fit determines itself."""
        covariance = points.fit_covariance
        jitter = 1e-10 * float(np.max(np.diag(covariance))) * np.eye(points.clock.size)
        lower = np.linalg.cholesky(covariance + jitter)
        white = solve_triangular(lower, np.eye(points.clock.size), lower=True)
        return cls(points.clock, points.intensity, white, points.hot, points.scale_known, points.noise_dof)

    @property
    def span(self) -> tuple[float, float]:
        """Get the first clock reading above zero and the last."""
        later = self.clock[self.clock > 0]
        if later.size == 0:
            raise ValueError("every read is a baseline read: nothing was stressed")
        return float(later.min()), float(later.max())

    @cached_property
    def target(self) -> Array:
        """Get the whitened data, [p]."""
        return self.white @ self.intensity

    @cached_property
    def groups(self) -> Array:
        """Get the columns [p, 1 or 2] that pick cold and hot points."""
        columns = [mask.astype(float) for mask in (~self.hot, self.hot) if mask.any()]
        return np.stack(columns, axis=1)

    @property
    def knows_quench(self) -> bool:
        """Get whether there are both cold and hot points."""
        return bool(self.hot.any() and not self.hot.all())


@dataclass(frozen=True)
class LawFit:
    """One law fitted to a curve. ``theta`` as in the law; ``amplitudes`` of cold and hot points.

    ``chi2`` is in units of the errors given; ``scale`` is the variance by which they are too small (set when the laws
    are compared), ``bic`` and ``aic`` use it. ``dof`` counts points less parameters.
    """

    law: Law
    data: CurveData
    limits: Bounds
    theta: Array
    chi2: float
    amplitudes: Array
    parameters_free: int
    scale: float = 1.0
    spread_dof: int = 0

    @property
    def dof(self) -> int:
        """Get the number of points less the number of free parameters."""
        return self.data.clock.size - self.parameters_free

    @property
    def bic(self) -> float:
        """Get chi2 + k ln n."""
        return self.chi2 / self.scale + self.parameters_free * float(np.log(self.data.clock.size))

    @property
    def rank(self) -> float:
        """Get what laws are compared by: the BIC, and for a law that rises the evidence asked of it."""
        return self.bic + (RISE_EVIDENCE if self.law.rises else 0.0)

    @property
    def aic(self) -> float:
        """Get chi2 + 2 k."""
        return self.chi2 / self.scale + 2.0 * self.parameters_free

    @property
    def quench(self) -> float | None:
        """Get Q, the intensity of hot over that of cold points of the same age; None without both."""
        return float(self.amplitudes[1] / self.amplitudes[0]) if self.data.knows_quench else None

    def values(self, clock: Array) -> Array:
        """Return I/I(0) of the cold sample at ``clock``, same shape."""
        return self.law.shape(np.asarray(clock, dtype=float), self.theta)

    def errors(self, clock: Array) -> Array:
        """Return the standard deviations of `values` to first order, same shape."""
        gradient = _gradient(lambda p: self.law.shape(np.asarray(clock, dtype=float), p), self.theta, self.limits)
        return np.sqrt(np.maximum(np.einsum("nk,kl,nl->n", gradient, self.covariance, gradient), 0.0))

    @cached_property
    def covariance(self) -> Array:
        """Get the covariance of theta, [k, k], widened by ``scale``."""
        if self.theta.size == 0:
            return np.zeros((0, 0))
        j = _gradient(lambda p: _residual(self.data, self.law, p)[0], self.theta, self.limits)
        return np.asarray(np.linalg.pinv(j.T @ j, rcond=1e-12) * self.scale, dtype=float)

    def residuals(self) -> tuple[Array, Array]:
        """Return data minus curve, and the standard deviations of the points, both [p]."""
        shape = self.law.shape(self.data.clock, self.theta)
        curve = (self.data.groups * shape[:, None]) @ self.amplitudes
        inverse = np.linalg.inv(self.data.white)
        return self.data.intensity - curve, np.sqrt(np.sum(inverse**2, axis=1))

    def quantile(self, level: float) -> float:
        """Return the two-sided quantile of chi2's square root for a level; Student's, as the scale is estimated."""
        return float(student.ppf(0.5 + 0.5 * level, max(self.spread_dof, 1)))

    def value_estimate(self, clock: float, *, walk: bool = True) -> Estimate:
        """Return I/I(0) at one clock reading; ``walk`` as in `profiled`."""
        value = float(self.values(np.array([clock]))[0])

        def constraint(x: float, p: Array) -> float:
            return float(self.law.shape(np.array([clock]), p)[0]) - x

        return self.profiled(constraint, value, "1", (0.0, np.inf), walk=walk)

    def parameter_estimates(self) -> dict[str, Estimate]:
        """Return the law's parameters by name; their unit is "clock" where they carry that of the clock."""
        found: dict[str, Estimate] = {}
        for k, (name, value) in enumerate(zip(self.law.parameters, self.law.report(self.theta), strict=True)):

            def constraint(x: float, p: Array, k: int = k) -> float:
                return self.law.report(p)[k] / x - 1.0 if x > 0 else self.law.report(p)[k] - x

            unit = "clock" if self.law.on_clock[k] else "1"
            found[name] = self.profiled(constraint, value, unit, (0.0, np.inf))
        return found

    def quench_estimate(self) -> Estimate | None:
        """Return the reversible thermal quench factor Q with profile intervals; None without hot and cold points."""
        best = self.quench
        if best is None:
            return None
        if self.theta.size == 0:
            return Estimate.from_sd(best, self._quench_sd(), "1")

        def constraint(x: float, p: Array) -> float:
            amplitudes = _residual(self.data, self.law, p)[1]
            return float(amplitudes[1] / amplitudes[0]) - x

        return self.profiled(constraint, best, "1", (0.0, np.inf), least_sd=self._quench_sd(), held=True)

    def _quench_sd(self) -> float:
        shape = self.law.shape(self.data.clock, self.theta)
        basis = self.data.white @ (self.data.groups * shape[:, None])
        covariance = np.linalg.pinv(basis.T @ basis) * self.scale
        cold, hot = self.amplitudes
        slope = np.array([-hot / cold**2, 1.0 / cold])
        return float(np.sqrt(slope @ covariance @ slope))

    def profiled(
        self,
        constraint: Constraint,
        value: float,
        unit: str,
        edges: tuple[float, float],
        *,
        least_sd: float = 0.0,
        held: bool = False,
        walk: bool = True,
    ) -> Estimate:
        """Return ``value`` with the intervals in which chi2, minimised under the constraint, rises as Student's t says.

        An end beyond ``edges`` becomes the edge. ``held``: x is the quench factor, an amplitude rather than a function
        of theta, and the data are fitted with it. ``walk`` False takes first-order errors instead of the profile:
        enough for a law that is only an alternative.
        """
        if self.theta.size == 0:
            return Estimate(value, unit, (value, value), (value, value))
        slope = _gradient(lambda p: np.array([constraint(value, p)]), self.theta, self.limits)[0]
        constraint_sd = float(np.sqrt(max(slope @ self.covariance @ slope, 0.0)))
        step = 1e-4 * max(abs(value), 1e-6)
        rate = abs(constraint(value + step, self.theta) - constraint(value - step, self.theta)) / (2 * step)
        sd = max(constraint_sd / rate if rate > 0 else 0.0, least_sd)
        if not (np.isfinite(sd) and sd > 1e-12 * max(abs(value), 1e-12)):
            return Estimate(value, unit, (value, value), (value, value))

        if not walk:
            ends68, ends95 = (
                (max(value - q * sd, edges[0]), min(value + q * sd, edges[1]))
                for q in (self.quantile(level) for level in LEVELS)
            )
            return Estimate(value, unit, ends68, ends95)

        def refit(x: float, theta: Array) -> tuple[float, Array]:
            if held:
                return _minimise(self.data, self.law, self.limits, theta, quench=x)[:2]
            width = _CONSTRAINT_SHARE * constraint_sd
            return _minimise(self.data, self.law, self.limits, theta, constraint=lambda p: constraint(x, p) / width)[:2]

        ends = {level: [value, value] for level in LEVELS}
        for side, edge in enumerate(edges):
            at = 2 * side - 1
            path = ProfileWalk(refit, self.chi2, self.scale, Station(0.0, value, self.theta), at * sd, edge)
            for level in LEVELS:
                ends[level][side] = path.reach(self.quantile(level))
        low, high = ((float(ends[level][0]), float(ends[level][1])) for level in LEVELS)
        return Estimate(value, unit, low, high)


def fit_law(data: CurveData, law: Law) -> LawFit:
    """Fit one law from a grid of starts, the best few of them polished."""
    limits = law.bounds(*data.span)
    free = len(limits) + data.groups.shape[1]
    if not limits:
        residual, amplitudes = _residual(data, law, np.zeros(0))
        return LawFit(law, data, limits, np.zeros(0), float(residual @ residual), amplitudes, free)
    grid = law.start_grid(limits)
    order = np.argsort(_grid_chi2(data, law, grid))
    best: tuple[float, Array, Array] | None = None
    for start in _apart(grid[order], limits):
        found = _minimise(data, law, limits, start)
        if best is None or found[0] < best[0]:
            best = found
    if best is None:
        raise ValueError(f"no start for the law {law.name}")
    return LawFit(law, data, limits, best[1], best[0], best[2], free)


def fit_laws(data: CurveData, laws: Sequence[Law] = LAWS) -> list[LawFit]:
    """Fit every law that has fewer parameters than there are points; return them best first.

    The errors are common to all: where the best law leaves more scatter than they say, they are widened by the factor
    that it asks for; narrowed only if their size was not known.
    """
    distinct = np.unique(data.clock).size
    kinds = data.groups.shape[1]
    fits = [fit_law(data, law) for law in laws if len(law.bounds(*data.span)) + kinds < min(distinct, data.clock.size)]
    if not fits:
        raise ValueError(f"{data.clock.size} points at {distinct} clock readings are too few for any law")
    lowest = min(fit.chi2 / fit.dof for fit in fits)
    ranked = sorted(_scaled(fits, lowest), key=lambda fit: fit.rank)
    equal = [fit for fit in ranked if fit.rank - ranked[0].rank < EQUAL_EVIDENCE]
    chosen = min(equal, key=lambda fit: fit.parameters_free)
    return _scaled([chosen, *(fit for fit in ranked if fit is not chosen)], chosen.chi2 / chosen.dof)


def _scaled(fits: Sequence[LawFit], scale: float) -> list[LawFit]:
    """Return the fits with errors widened by a variance ``scale``; made smaller only if their size was not known."""
    used = max(scale, 1.0 if fits[0].data.scale_known else 1e-12)
    return [replace(fit, scale=used, spread_dof=fit.dof + (fit.data.noise_dof if used == 1.0 else 0)) for fit in fits]


def _apart(starts: Array, limits: Bounds) -> list[Array]:
    """Return the first few starts that are not neighbours of one another."""
    width = np.array([high - low for low, high in limits])
    chosen: list[Array] = []
    for start in starts:
        if all(np.max(np.abs(start - other) / width) > 0.12 for other in chosen):
            chosen.append(start)
        if len(chosen) == _POLISHED:
            break
    return chosen


def _grid_chi2(data: CurveData, law: Law, grid: Array) -> Array:
    shapes = law.shape(data.clock, grid)
    basis = np.einsum("pq,mqg->mpg", data.white, shapes[:, :, None] * data.groups[None])
    target = data.target
    normal = np.einsum("mpg,mph->mgh", basis, basis) + 1e-9 * np.eye(basis.shape[2])
    right = np.einsum("mpg,p->mg", basis, target)
    amplitudes = np.linalg.solve(normal, right[..., None])[..., 0]
    return float(target @ target) - np.einsum("mg,mg->m", amplitudes, right)


def _residual(data: CurveData, law: Law, theta: Array, quench: float | None = None) -> tuple[Array, Array]:
    """Return whitened data minus curve with the best amplitudes, and these."""
    groups = data.groups
    if quench is not None:
        groups = groups @ np.array([[1.0], [quench]])
    basis = data.white @ (groups * law.shape(data.clock, theta)[:, None])
    target = data.target
    normal = basis.T @ basis
    amplitudes = np.linalg.solve(normal + 1e-12 * np.trace(normal) * np.eye(normal.shape[0]), basis.T @ target)
    return target - basis @ amplitudes, amplitudes


def _minimise(
    data: CurveData,
    law: Law,
    limits: Bounds,
    start: Array,
    *,
    constraint: Callable[[Array], float] | None = None,
    quench: float | None = None,
) -> tuple[float, Array, Array]:
    """Return chi2, theta and amplitudes of the minimum next to ``start``; the constraint is held by a stiff spring."""
    low, high = np.array(limits).T

    def theta_of(z: Array) -> Array:
        return low + (high - low) * 0.5 * (1.0 + np.sin(z))

    def residual(z: Array) -> Array:
        theta = theta_of(z)
        found = _residual(data, law, theta, quench)[0]
        return found if constraint is None else np.append(found, constraint(theta))

    # A start on a bound has no gradient there and would never leave it.
    z0 = np.arcsin(2.0 * np.clip((start - low) / (high - low), 1e-3, 1.0 - 1e-3) - 1.0)
    with np.errstate(over="ignore", invalid="ignore"):
        solved = leastsq(residual, z0, full_output=True, ftol=1e-9, xtol=1e-8, maxfev=400)[0]
    theta = theta_of(np.atleast_1d(solved))
    found, amplitudes = _residual(data, law, theta, quench)
    return float(found @ found), theta, amplitudes


def _gradient(function: Callable[[Array], Array], theta: Array, limits: Bounds) -> Array:
    """Return the derivatives [n, k] of a function of theta, by steps that stay within the limits."""
    columns = []
    for k, (low, high) in enumerate(limits):
        step = 1e-5 * (high - low)
        up, down = theta.copy(), theta.copy()
        up[k], down[k] = min(theta[k] + step, high), max(theta[k] - step, low)
        columns.append((function(up) - function(down)) / (up[k] - down[k]))
    return np.stack(columns, axis=1) if columns else np.zeros((function(theta).size, 0))


def comparison(fits: Sequence[LawFit]) -> list[dict[str, Any]]:
    """Return the laws with chi2, dof, AIC and BIC (both above the lowest), for a report."""
    return [
        {
            "law": fit.law.name,
            "formula": fit.law.formula,
            "chi2": fit.chi2,
            "dof": fit.dof,
            "aic": fit.aic - min(other.aic for other in fits),
            "bic": fit.bic - min(other.bic for other in fits),
        }
        for fit in fits
    ]
