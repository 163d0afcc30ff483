"""A smooth curve through stability points that follow none of the laws, with its errors.

A Gaussian process with Matern 5/2 covariance about a straight line: what a local polynomial of degree two does, but
with the width of the window, the noise and the errors from one likelihood (Rasmussen and Williams 2006, chapters 2 and
5). It takes the covariance of the points as it is, so that shared reference reads count once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

from labctl.analysis.stability_reads import StabilityPoints

Array = NDArray[np.float64]
_DRAWS = 400
_STARTS = (0.05, 0.15, 0.5)
_MOST_COMPARED = 200
"""Means of neighbours from which length, height and noise are found: the effort goes with the third power, and a
window that is worth smoothing over holds several of them."""


@dataclass(frozen=True)
class SmoothCourse:
    """The fitted process. ``clock``, ``intensity`` [p]; ``noise`` [p, p] the covariance of the points, as scaled.

    ``length`` is the distance over which the curve forgets its value, in units of the clock.
    """

    clock: Array
    intensity: Array
    noise: Array
    length: float
    height: float
    noise_factor: float

    @property
    def end(self) -> float:
        """Get the last clock reading; beyond it the curve says nothing."""
        return float(self.clock.max())

    @property
    def start(self) -> float:
        """Get the curve at clock 0 in units of ``intensity``; `values` is in units of it."""
        return float(self._mean(np.zeros(1))[0])

    def values(self, clock: Array) -> Array:
        """Return I/I(0) at ``clock``, same shape."""
        mean = self._mean(np.append(np.asarray(clock, dtype=float).ravel(), 0.0))
        return (mean[:-1] / mean[-1]).reshape(np.shape(clock))

    def errors(self, clock: Array) -> Array:
        """Return the standard deviations of `values`, same shape; the error of the start is in them."""
        asked = np.append(np.asarray(clock, dtype=float).ravel(), 0.0)
        mean, covariance = self._mean(asked), self._covariance(asked)
        ratio = mean[:-1] / mean[-1]
        variance = np.diag(covariance)[:-1] - 2 * ratio * covariance[:-1, -1] + ratio**2 * covariance[-1, -1]
        return (np.sqrt(np.maximum(variance, 0.0)) / abs(mean[-1])).reshape(np.shape(clock))

    def draws(self, clock: Array) -> Array:
        """Return curves [400, n] that the data allow, each divided by its own start; the same ones at every call."""
        asked = np.append(np.asarray(clock, dtype=float), 0.0)
        values, vectors = np.linalg.eigh(self._covariance(asked))
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        normal = np.random.default_rng(0).standard_normal((_DRAWS, asked.size))
        curves = self._mean(asked) + normal @ root.T
        return curves[:, :-1] / curves[:, -1:]

    @cached_property
    def _solved(self) -> _Solved:
        kernel = _matern(self.clock, self.clock, self.length, self.height)
        return _solve(kernel + self.noise, _line(self.clock, self.end), self.intensity)

    def _mean(self, asked: Array) -> Array:
        cross = _matern(asked, self.clock, self.length, self.height)
        return _line(asked, self.end) @ self._solved.line + cross @ self._solved.weights

    def _covariance(self, asked: Array) -> Array:
        solved = self._solved
        cross = _matern(asked, self.clock, self.length, self.height)
        back = cho_solve(solved.factor, cross.T)
        own = _matern(asked, asked, self.length, self.height) - cross @ back
        # The straight line has no prior of its own; its error from the points comes on top.
        rest = _line(asked, self.end) - back.T @ _line(self.clock, self.end)
        return own + rest @ solved.line_covariance @ rest.T


@dataclass(frozen=True)
class _Solved:
    factor: tuple[Array, bool]
    line: Array
    line_covariance: Array
    weights: Array
    log_likelihood: float


def fit_smooth_course(points: StabilityPoints, cold: Array | None = None) -> SmoothCourse:
    """Fit the process by its restricted likelihood.

    :param cold: [p] points with the thermal quench of the hot ones taken out; without, as they are.
    The errors of the points are widened by a common factor if they scatter more; narrowed only if their size was not
    known.
    """
    every, whole = points.clock, points.intensity if cold is None else cold
    all_noise = points.fit_covariance * np.outer(whole / points.intensity, whole / points.intensity)
    clock, y, noise = _means(every, whole, all_noise)
    span = float(every.max())
    step = float(np.min(np.diff(np.unique(clock)))) if np.unique(clock).size > 1 else span
    line = _line(clock, span)
    lower = (np.log(0.5 * step), np.log(1e-4), np.log(1.0 if points.scale_known else 0.05))
    upper = (np.log(3.0 * span), np.log(10.0), np.log(20.0))

    def cost(p: Array) -> float:
        kernel = _matern(clock, clock, float(np.exp(p[0])), float(np.exp(p[1])))
        try:
            return -_solve(kernel + np.exp(2 * p[2]) * noise, line, y).log_likelihood
        except np.linalg.LinAlgError:
            return 1e12

    found = [
        minimize(
            cost,
            np.clip([np.log(share * span), np.log(max(float(np.std(y)), 1e-3)), np.log(1.1)], lower, upper),
            method="L-BFGS-B",
            bounds=list(zip(lower, upper, strict=True)),
        )
        for share in _STARTS
    ]
    length, height, factor = np.exp(min(found, key=lambda f: float(f.fun)).x)
    return SmoothCourse(every, whole, float(factor) ** 2 * all_noise, float(length), float(height), float(factor))


def _means(clock: Array, y: Array, noise: Array) -> tuple[Array, Array, Array]:
    """Get means of neighbours and their covariance, if there are more points than the search can take."""
    if clock.size <= _MOST_COMPARED:
        return clock, y, noise
    group = np.empty(clock.size, dtype=int)
    group[np.argsort(clock, kind="stable")] = np.arange(clock.size) * _MOST_COMPARED // clock.size
    share = np.zeros((_MOST_COMPARED, clock.size))
    share[group, np.arange(clock.size)] = 1.0
    share /= share.sum(axis=1, keepdims=True)
    return share @ clock, share @ y, share @ noise @ share.T


def _line(clock: Array, span: float) -> Array:
    return np.stack([np.ones(clock.size), clock / span], axis=1)


def _matern(a: Array, b: Array, length: float, height: float) -> Array:
    r = np.sqrt(5.0) * np.abs(a[:, None] - b[None, :]) / length
    return height**2 * (1.0 + r + r * r / 3.0) * np.exp(-r)


def _solve(covariance: Array, line: Array, y: Array) -> _Solved:
    jitter = 1e-10 * float(np.mean(np.diag(covariance))) * np.eye(y.size)
    factor = cho_factor(covariance + jitter, lower=True)
    solved = cho_solve(factor, line)
    normal = line.T @ solved
    line_covariance = np.linalg.inv(normal)
    coefficients = line_covariance @ (solved.T @ y)
    rest = y - line @ coefficients
    weights = cho_solve(factor, rest)
    likelihood = -0.5 * float(rest @ weights) - float(np.log(np.diag(factor[0])).sum())
    return _Solved(
        factor, coefficients, line_covariance, weights, likelihood - 0.5 * float(np.linalg.slogdet(normal)[1])
    )
