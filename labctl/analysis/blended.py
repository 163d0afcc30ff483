"""One estimate from several models that the data do not tell apart, each with its weight.

The value stays that of the best model; the intervals are quantiles of the mixture of the models' own distributions, so
that what the choice of a model leaves open is in them (Hoeting et al., Stat. Sci. 14, 382, 1999). Weights from the
BIC are exp(-BIC/2).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from labctl.analysis.estimate import Estimate

Array = NDArray[np.float64]
_SCORES = np.array([-1.95996, -1.0, 0.0, 1.0, 1.95996])


def blended(estimates: Sequence[Estimate], weights: Sequence[float]) -> Estimate:
    """Return the first estimate with the intervals of the mixture; one with an open end keeps the best one's own."""
    best = estimates[0]
    ends = np.array([[e.ci95[0], e.ci68[0], e.value, e.ci68[1], e.ci95[1]] for e in estimates])
    usable = np.all(np.isfinite(ends), axis=1)
    if len(estimates) == 1 or not np.isfinite(ends[0]).all():
        return best
    share = np.asarray(weights, dtype=float)[usable] / float(np.sum(np.asarray(weights)[usable]))
    kept = ends[usable]
    width = np.maximum(kept[:, -1] - kept[:, 0], 1e-12 * max(abs(best.value), 1e-12))
    grid = np.unique(
        np.concatenate([np.linspace(row[0] - w, row[-1] + w, 801) for row, w in zip(kept, width, strict=True)])
    )
    total = sum((s * _cumulative(grid, row) for s, row in zip(share, kept, strict=True)), np.zeros(grid.size))

    def at(score: float) -> float:
        return float(np.interp(norm.cdf(score), total, grid))

    low68, high68 = min(at(-1.0), best.value), max(at(1.0), best.value)
    low95, high95 = min(at(_SCORES[0]), best.value), max(at(_SCORES[-1]), best.value)
    return Estimate(best.value, best.unit, (low68, high68), (low95, high95))


def _cumulative(grid: Array, ends: Array) -> Array:
    """Return the cumulative distribution with the given quantiles, normal in between and beyond."""
    spread = np.maximum(
        np.maximum.accumulate(ends + 1e-12 * np.arange(5) * max(float(np.abs(ends).max()), 1e-12)), ends
    )
    score = np.interp(grid, spread, _SCORES)
    for side, (inner, outer) in ((-1, (1, 0)), (1, (3, 4))):
        beyond = side * (grid - spread[outer]) > 0
        sd = max(abs(float(spread[outer] - spread[inner])) / 0.95996, 1e-300)
        score[beyond] = _SCORES[outer] + (grid[beyond] - spread[outer]) / sd
    return np.asarray(norm.cdf(score), dtype=float)
