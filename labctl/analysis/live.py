"""Threshold while the sweep still runs: a rough but sturdy estimate from few points, to place the next ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from labctl.analysis.hinge import SATURATION_DISTANCE_RANGE, Array
from labctl.analysis.knee import loglog_knee
from labctl.analysis.lasing import lasing_threshold
from labctl.analysis.s_curve import curve_grid
from labctl.analysis.threshold import NoThreshold

FIT_FROM_POINTS = 20
"""From this many points on the full hinge fit is used; before, it has too many free parameters."""
ERROR_FLOOR = 0.1
"""Relative error added to each coarse point: the fixed softness cannot describe the data better."""
MIN_CHI2_GAIN = 8.0
"""A knee must lower chi2 by this much against the straight line."""
LASING_CHI2_GAIN = 2.0
"""An S-curve must describe the points better than a knee by this much chi2; on films it never does."""
_LASING = "grid S-curve"
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
    model: Literal["auto", "knee", "lasing"] = "auto",
) -> LiveThreshold:
    """Estimate the threshold from the points so far (shape [n], any order, n >= 5) in a few milliseconds.

    With few points: the mean of ln F_th over all curves of a grid, each weighted by its likelihood; knees have a fixed
    softness and weakly expected slopes. With 20 and more: `loglog_knee` or `lasing_threshold`, which take about 40 ms.
    ``auto`` takes the S-curve of a laser where it describes the points clearly better than a knee: that is so wherever
    there is a jump.
    Raises `NoThreshold` when the slope does not rise in the data, ValueError on malformed input.
    """
    f, i = np.asarray(fluence, dtype=float), np.asarray(intensity, dtype=float)
    if f.ndim != 1 or f.shape != i.shape or not np.all(f > 0) or not np.all(np.isfinite(f)):
        raise ValueError("fluence and intensity must be one-dimensional and alike, every fluence finite and > 0")
    full = np.zeros(f.shape, bool) if saturated is None else np.asarray(saturated, dtype=bool)
    use = ~full & np.isfinite(i) & (i > 0)
    if np.unique(f[use]).size < _MIN_POINTS:
        raise NoThreshold("too few points", f"{int(use.sum())} usable points; a live threshold needs {_MIN_POINTS}")
    relative = np.full(f.shape, ERROR_FLOOR)
    if intensity_error is not None:
        relative = np.hypot(relative, np.broadcast_to(np.asarray(intensity_error, dtype=float), f.shape) / np.abs(i))
    found = _from_grids(np.log(f[use]), np.log(i[use]), 1.0 / relative[use], model)
    verdict = NoThreshold(
        "slope does not change",
        f"no threshold so far between {f[use].min():.4g} and {f[use].max():.4g}: ln I against ln F stays straight",
    )
    if int(use.sum()) >= FIT_FROM_POINTS:
        lasing = model == "lasing" or (found is not None and found.model == _LASING)
        fit = lasing_threshold if lasing else loglog_knee
        try:
            best = fit(f, i, fluence_error=fluence_error, intensity_error=intensity_error, saturated=saturated)
            return LiveThreshold(best.value, best.estimate.sd / best.value, best.n_points, best.model)
        except NoThreshold as reason:
            # The strict fit asks for more evidence than the next move needs: the grids decide.
            verdict = reason
    if found is None:
        raise verdict
    return found


def _from_grids(x: Array, y: Array, weight: Array, model: str) -> LiveThreshold | None:
    """Return the better of knee and S-curve, as far as they are asked for; None if neither beats a straight line."""
    limit = _straight_chi2(x, y, weight) - MIN_CHI2_GAIN
    knee = None if model == "lasing" else _knee_mean(x, y, weight)
    lasing = None if model == "knee" else _lasing_mean(x, y, weight)
    found = None
    if knee is not None and knee[0] < limit:
        found, limit = knee[1], min(limit, knee[0] - LASING_CHI2_GAIN)
    if lasing is not None and lasing[0] < limit:
        found = lasing[1]
    return found


def _lasing_mean(x: Array, y: Array, weight: Array) -> tuple[float, LiveThreshold] | None:
    """Return the least chi2 of the S-curves of a grid and the mean of their thresholds; None if none has a mode."""
    thresholds = np.linspace(np.sort(x)[1], np.max(x), _KNEES)
    grid = curve_grid(x, y, weight, thresholds)
    best = float(np.min(grid.chi2))
    return (best, _mean(grid.log_threshold, grid.chi2, thresholds, x.size, _LASING)) if np.isfinite(best) else None


def _mean(knees: Array, chi2: Array, grid: Array, points: int, model: str) -> LiveThreshold:
    likelihood = np.exp(-0.5 * (chi2 - np.min(chi2)))
    likelihood /= likelihood.sum()
    mean = float(likelihood @ knees)
    sd = float(np.sqrt(likelihood @ (knees - mean) ** 2))
    return LiveThreshold(float(np.exp(mean)), max(sd, 0.5 * float(grid[1] - grid[0])), points, model)


def _knee_mean(x: Array, y: Array, weight: Array) -> tuple[float, LiveThreshold] | None:
    """Return the least chi2 of the knees of a grid and the mean of their thresholds; None if no slope rises."""
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
    best = float(np.min(chi2))
    return (best, _mean(knee, chi2, knees, x.size, "grid hinge")) if np.isfinite(best) else None


def _straight_chi2(x: Array, y: Array, weight: Array) -> float:
    value, spread = _SLOPE_BELOW
    basis = np.vstack([np.stack([weight, x * weight], axis=1), [[0.0, 1.0 / spread]]])
    target = np.append(y * weight, value / spread)
    solution, *_ = np.linalg.lstsq(basis, target, rcond=None)
    return float(np.sum((basis @ solution - target) ** 2))
