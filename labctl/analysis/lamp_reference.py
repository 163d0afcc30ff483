"""What the lamp was at each sample read, from the reads of a reference before and after it.

The logarithm of the lamp is a random walk seen with noise: reads close to the sample read count most, and how far the
others count follows from the reads themselves, by maximum likelihood (a Kalman filter). A steady lamp is averaged over
many reads, a restless one interpolated between neighbours. A step that noise cannot explain, such as a dip, breaks the
walk there. The result is linear in the reads, with their covariance: two sample reads share reference reads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Array = NDArray[np.float64]

MOST_READS = 2500
"""Beyond this many reference reads only those next to a sample read count: the matrices would not fit."""
USUAL_DRIFT = 0.02
"""Drift of a lamp over a run that is expected, within a factor e or so: a walk found to be none at all, which noise
allows now and then, would make the lamp known beyond belief."""
_JUMP = 6.0
_LEAST_FOR_NOISE = 8


@dataclass(frozen=True)
class Lamp:
    """Logarithm of the lamp at the sample reads [n] and its covariance [n, n].

    ``noise`` is the relative noise of one reference read beyond its own error, nan if too few reads tell it.
    ``outside`` counts the sample reads that have no reference read on one side.
    """

    log_level: Array
    covariance: Array
    noise: float
    outside: int


def lamp_at(time_s: Array, reference_time_s: Array, reference: Array, reference_error: Array | None) -> Lamp:
    """Return the lamp at sample reads ``time_s`` [n] from reference reads [m] > 0 in any order, errors [m] or None."""
    order = np.argsort(reference_time_s, kind="stable")
    when, value = reference_time_s[order], np.log(reference[order])
    known = np.zeros(when.size) if reference_error is None else (reference_error[order] / reference[order]) ** 2
    outside = int(np.count_nonzero((time_s < when[0]) | (time_s > when[-1])))
    noise, steps, found = _walk(when, value, known)
    variance = known + noise**2
    travelled = np.concatenate([[0.0], np.cumsum(steps)])
    if when.size > MOST_READS:
        weights = _neighbours(time_s, when)
    else:
        own = _common(travelled, travelled) + np.diag(variance + 1e-12)
        level = np.linalg.solve(own, np.ones(when.size))
        gain = np.linalg.solve(own, _common(travelled, _place(time_s, when, travelled))).T
        # The lamp's level has no prior: the weights of each read add to one.
        weights = np.asarray(gain + np.outer((1.0 - gain.sum(axis=1)) / level.sum(), level), dtype=float)
    covariance = (weights * variance) @ weights.T + _wander(time_s, when, travelled, weights)
    return Lamp(weights @ value, covariance, noise if found else float("nan"), outside)


def _walk(when: Array, value: Array, known: Array) -> tuple[float, Array, bool]:
    """Return the noise of a read, the variance of the walk in each interval, and whether the reads told the noise."""
    gaps = np.diff(when)
    change = np.diff(value)
    if when.size < _LEAST_FOR_NOISE or not when[-1] > when[0]:
        # Too few to tell a walk from noise: all change is the lamp's, and interpolation between neighbours follows.
        spread = max(float(np.mean(change**2)) if change.size else 0.0, 1e-8)
        return 0.5 * float(np.sqrt(spread)), np.full(gaps.size, spread), False
    usual = float(np.median(np.abs(change))) / 0.6745
    jumps = np.where(np.abs(change) > _JUMP * max(usual, 1e-6), change**2, 0.0)
    share = gaps / (when[-1] - when[0])
    start = np.log([max(0.5 * usual**2, 1e-10), USUAL_DRIFT**2])

    def cost(p: Array) -> float:
        noise, walk = np.exp(np.clip(p, -40.0, 5.0))
        expected = 0.5 * (0.5 * (float(p[1]) - 2.0 * float(np.log(USUAL_DRIFT)))) ** 2
        return _minus_log_likelihood(value, known + noise, walk * share + jumps) + expected

    best = minimize(cost, start, method="Nelder-Mead", options={"maxfev": 120, "xatol": 0.05, "fatol": 0.01})
    noise, walk = np.exp(np.clip(best.x, -40.0, 5.0))
    return float(np.sqrt(noise)), walk * share + jumps, True


def _minus_log_likelihood(value: Array, noise: Array, steps: Array) -> float:
    mean, variance, total = float(value[0]), float(noise[0]), 0.0
    for y, n, q in zip(value[1:].tolist(), noise[1:].tolist(), steps.tolist(), strict=True):
        variance += q
        spread = variance + n
        off = y - mean
        total += np.log(spread) + off * off / spread
        mean += variance / spread * off
        variance *= n / spread
    return 0.5 * float(total)


def _place(time_s: Array, when: Array, travelled: Array) -> Array:
    """Return how far the walk has come at times [n]; outside the reads it goes on at its mean rate."""
    rate = float(travelled[-1]) / max(float(when[-1] - when[0]), 1e-300)
    inside = np.interp(time_s, when, travelled)
    return inside + rate * (np.maximum(time_s - when[-1], 0.0) - np.maximum(when[0] - time_s, 0.0))


def _common(a: Array, b: Array) -> Array:
    """Return the covariance [a, b] of a walk, from an origin before both."""
    return np.minimum(a[:, None], b[None, :]) - min(float(a.min()), float(b.min()), 0.0)


def _wander(time_s: Array, when: Array, travelled: Array, weights: Array) -> Array:
    """Return the covariance [n, n] of what the lamp does between the reference reads and the sample reads."""
    places = _place(time_s, when, travelled)
    both = np.concatenate([places, travelled])
    walk = _common(both, both)
    n = time_s.size
    cross = weights @ walk[n:, :n]
    return walk[:n, :n] - cross - cross.T + weights @ walk[n:, n:] @ weights.T


def _neighbours(time_s: Array, when: Array) -> Array:
    """Return the weights [n, m] of straight lines between the reads before and after; one at the moment is both."""
    after = np.clip(np.searchsorted(when, time_s, side="left"), 0, when.size - 1)
    before = np.clip(np.searchsorted(when, time_s, side="right") - 1, 0, when.size - 1)
    span = when[after] - when[before]
    part = np.where(span > 0, (time_s - when[before]) / np.where(span > 0, span, 1.0), 0.5)
    weights = np.zeros((time_s.size, when.size))
    rows = np.arange(time_s.size)
    np.add.at(weights, (rows, before), 1.0 - part)
    np.add.at(weights, (rows, after), part)
    return weights
