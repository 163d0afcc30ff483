"""Threshold while the sweep still runs: a rough but sturdy estimate from few points, to place the next ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from labctl.analysis.hinge import SATURATION_DISTANCE_RANGE, Array
from labctl.analysis.knee import loglog_knee
from labctl.analysis.threshold import NoThreshold

FIT_FROM_POINTS = 20
"""From this many points on the full hinge fit is used; before, it has too many free parameters."""
ERROR_FLOOR = 0.1
"""Relative error added to each coarse point: the fixed softness cannot describe the data better."""
MIN_CHI2_GAIN = 8.0
"""A knee must lower chi2 by this much against the straight line."""
_MIN_POINTS = 5
_KNEES = 80
_SOFTNESS = 0.12
# Expected slopes as (value, standard deviation): PL, ASE, saturated ASE. Wide, so that points soon overrule them.
_SLOPE_BELOW = (1.0, 0.3)
_SLOPE_RISE = (3.0, 2.0)
_SLOPE_SATURATED = (0.7, 0.4)


@dataclass(frozen=True)
class LiveThreshold:
    """Provisional threshold in the unit of the input fluence; ``relative_sd`` is its relative uncertainty."""

    value: float
    relative_sd: float
    n_points: int
    model: str


def live_threshold(
    fluence: ArrayLike,
    intensity: ArrayLike,
    *,
    fluence_error: ArrayLike | None = None,
    intensity_error: ArrayLike | None = None,
    saturated: ArrayLike | None = None,
) -> LiveThreshold:
    """Estimate the threshold from the points so far (shape [n], any order, n >= 5) in a few milliseconds.

    With few points: the mean of ln F_th over all knees of a grid, each weighted by its likelihood, with a fixed
    softness and weakly expected slopes. With 20 and more: `loglog_knee`, which takes about 40 ms.
    Raises `NoThreshold` when the slope does not rise in the data, ValueError on malformed input.
    """
    f, i = np.asarray(fluence, dtype=float), np.asarray(intensity, dtype=float)
    if f.ndim != 1 or f.shape != i.shape or not np.all(f > 0) or not np.all(np.isfinite(f)):
        raise ValueError("fluence and intensity must be one-dimensional and alike, every fluence finite and > 0")
    full = np.zeros(f.shape, bool) if saturated is None else np.asarray(saturated, dtype=bool)
    use = ~full & np.isfinite(i) & (i > 0)
    if np.unique(f[use]).size < _MIN_POINTS:
        raise NoThreshold("too few points", f"{int(use.sum())} usable points; a live threshold needs {_MIN_POINTS}")
    if int(use.sum()) >= FIT_FROM_POINTS:
        try:
            fit = loglog_knee(f, i, fluence_error=fluence_error, intensity_error=intensity_error, saturated=saturated)
        except NoThreshold:
            # The strict fit asks for more evidence than the next move needs; the grid below decides.
            pass
        else:
            return LiveThreshold(fit.value, fit.estimate.sd / fit.value, fit.n_points, fit.model)
    relative = np.full(f.shape, ERROR_FLOOR)
    if intensity_error is not None:
        relative = np.hypot(relative, np.broadcast_to(np.asarray(intensity_error, dtype=float), f.shape) / np.abs(i))
    return _grid_mean(np.log(f[use]), np.log(i[use]), 1.0 / relative[use])


def _grid_mean(x: Array, y: Array, weight: Array) -> LiveThreshold:
    low, high = np.min(x), np.max(x)
    # One coarse step of margin: the knee may lie beyond the last but one point, not beyond the data.
    knees = np.linspace(np.sort(x)[1], high, _KNEES)
    distances = np.array([SATURATION_DISTANCE_RANGE[0], 1.1, 1.6, 2.0 * (high - low)])
    knee, far = (a.ravel() for a in np.meshgrid(knees, distances, indexing="ij"))
    u = x[None, :] - knee[:, None]
    bend = _SOFTNESS * np.logaddexp(0.0, u / _SOFTNESS)
    bend_back = _SOFTNESS * np.logaddexp(0.0, (u - far[:, None]) / _SOFTNESS)
    # Unknowns: level, s1, rise s2 - s1, s3. The expected slopes enter as three further "measurements".
    columns = np.stack([np.ones_like(u), u - bend_back, bend - bend_back, bend_back], axis=2) * weight[None, :, None]
    expected = np.array([_SLOPE_BELOW, _SLOPE_RISE, _SLOPE_SATURATED])
    prior = np.zeros((3, 4))
    prior[np.arange(3), np.arange(1, 4)] = 1.0 / expected[:, 1]
    target = np.concatenate([y * weight, expected[:, 0] / expected[:, 1]])
    basis = np.concatenate([columns, np.broadcast_to(prior, (knee.size, 3, 4))], axis=1)
    normal = np.einsum("gni,gnj->gij", basis, basis)
    right = np.einsum("gni,n->gi", basis, target)
    solution = np.linalg.solve(normal, right[:, :, None])[:, :, 0]
    chi2 = np.sum((np.einsum("gni,gi->gn", basis, solution) - target) ** 2, axis=1)
    chi2 = np.where(solution[:, 2] > 0.3, chi2, np.inf)
    straight = _straight_chi2(x, y, weight)
    best = float(np.min(chi2))
    if not best < straight - MIN_CHI2_GAIN:
        raise NoThreshold(
            "slope does not change",
            f"no threshold so far between {np.exp(low):.4g} and {np.exp(high):.4g}: ln I against ln F stays straight",
        )
    likelihood = np.exp(-0.5 * (chi2 - best))
    likelihood /= likelihood.sum()
    mean = float(likelihood @ knee)
    sd = float(np.sqrt(likelihood @ (knee - mean) ** 2))
    return LiveThreshold(float(np.exp(mean)), max(sd, 0.5 * float(knees[1] - knees[0])), x.size, "grid hinge")


def _straight_chi2(x: Array, y: Array, weight: Array) -> float:
    value, spread = _SLOPE_BELOW
    basis = np.vstack([np.stack([weight, x * weight], axis=1), [[0.0, 1.0 / spread]]])
    target = np.append(y * weight, value / spread)
    solution, *_ = np.linalg.lstsq(basis, target, rcond=None)
    return float(np.sum((basis @ solution - target) ** 2))
