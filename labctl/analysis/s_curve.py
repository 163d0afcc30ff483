"""The S-curve of a laser: output against pump, its grid search and the polish of its parameters.

Steady state of dn/dt = P - n/tau - beta n p/tau, dp/dt = -gamma p + beta n (p + 1)/tau: with r = F/F_th the photons in
the mode are p(r) = [(r - 1) + sqrt((r - 1)^2 + 4 beta r)]/(2 beta), about r far below and (r - 1)/beta above the
threshold. What is seen is I = S p(F/F_th) + B F; B is the emission that goes past the mode. A curve without B, fitted
to data with it, is wrong by tens of per cent in F_th and by a factor in beta.

Pulses scatter in energy and the detector averages over them, which rounds the threshold as a larger beta would: with
``pulse_rms`` the curve is the mean over a normal distribution of pulse energies.

The fit works in A = S/beta, the slope of the mode's output far above the threshold, and in the share S/(S + B F_th) of
the mode far below it: both are plain in the data, S and B are not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import leastsq

from labctl.analysis.bounded import from_line, to_line

Array = NDArray[np.float64]

LOG_BETA_RANGE = (float(np.log(1e-9)), 0.0)
"""Allowed range of ln(beta)."""
LOG_SHARE_RANGE = (float(np.log(1e-5)), 0.0)
"""Allowed range of ln of the share of the mode in the emission far below the threshold."""
_NODES = np.arange(-4.0, 4.01, 0.25)
"""Equal steps: a Gauss quadrature has too few nodes for the bend, which may be much narrower than the scatter."""
_WEIGHTS = np.exp(-0.5 * _NODES**2) / np.exp(-0.5 * _NODES**2).sum()
_LEAST_ENERGY = 0.02
_GRID_LOG_BETAS = np.log(np.geomspace(1e-7, 0.5, 24))


@dataclass(frozen=True)
class SCurve:
    """One S-curve. ``scale`` is S, in the unit of the intensity; ``background`` is B, per unit of fluence."""

    log_threshold: float
    log_beta: float
    scale: float
    background: float
    pulse_rms: float = 0.0

    @property
    def beta(self) -> float:
        """Get the share of the spontaneous emission that goes into the mode."""
        return float(np.exp(self.log_beta))

    def intensity(self, x: Array) -> Array:
        """Return I at x = ln(fluence), same shape."""
        ratio = np.exp(x - self.log_threshold)
        photons = _pulse_mean(lambda r: mode_photons(r, self.beta), ratio, self.pulse_rms)
        return self.scale * photons + self.background * np.exp(x)

    def curve(self, x: Array) -> Array:
        """Return y = ln(intensity) at x = ln(fluence), same shape."""
        return np.log(self.intensity(x))

    def slope(self, x: Array) -> Array:
        """Return dy/dx at x = ln(fluence), same shape."""
        ratio = np.exp(x - self.log_threshold)
        photons = _pulse_mean(lambda r: r * photons_per_pump(r, self.beta), ratio, self.pulse_rms)
        return (self.scale * photons + self.background * np.exp(x)) / self.intensity(x)


def mode_photons(ratio: Array, beta: Array | float) -> Array:
    """Return the photons in the mode at ``ratio`` = pump/threshold, > 0; both roots written without cancellation."""
    above = ratio - 1.0
    root = np.sqrt(above**2 + 4.0 * beta * ratio)
    return np.where(above > 0, (root + above) / (2.0 * beta), 2.0 * ratio / (root + np.abs(above)))


def photons_per_pump(ratio: Array, beta: Array | float) -> Array:
    """Return dp/dr, from the derivative of beta p^2 - (r - 1) p - r = 0."""
    return (mode_photons(ratio, beta) + 1.0) / np.sqrt((ratio - 1.0) ** 2 + 4.0 * beta * ratio)


def _pulse_mean(function: Callable[[Array], Array], ratio: Array, pulse_rms: float) -> Array:
    """Return the mean of ``function`` over pulses whose energies scatter by ``pulse_rms``."""
    if not pulse_rms:
        return function(ratio)
    energies = np.maximum(1.0 + pulse_rms * _NODES, _LEAST_ENERGY)
    return function(ratio[..., None] * energies) @ _WEIGHTS


@dataclass(frozen=True)
class CurveGrid:
    """Every S-curve of a grid of F_th and beta, with the best S and B >= 0 at each; all arrays have shape [grid].

    ``background`` is B F_th, in the unit of the intensity.
    """

    log_threshold: Array
    log_beta: Array
    scale: Array
    background: Array
    chi2: Array


def curve_grid(x: Array, y: Array, weight: Array, thresholds: Array) -> CurveGrid:
    """Solve the grid of ``thresholds`` (ln F_th) and beta; for the arrays see :func:`search_grid`.

    The sum of two positive terms is linear in them; its relative residual stands for that of the logarithm.
    """
    knee, log_beta = (a.ravel() for a in np.meshgrid(thresholds, _GRID_LOG_BETAS, indexing="ij"))
    ratio, beta = np.exp(x[None, :] - knee[:, None]), np.exp(log_beta)[:, None]
    photons = mode_photons(ratio, beta)
    scaled = np.exp(-y) * weight
    scale, background = _two_not_negative(photons * scaled, ratio * scaled, weight)
    # Relative residuals would call a point that is far too low nearly right: what counts is the logarithm.
    sums = scale[:, None] * photons + background[:, None] * ratio
    chi2 = np.sum(((np.log(np.maximum(sums, 1e-300)) - y) * weight) ** 2, axis=1)
    return CurveGrid(knee, log_beta, scale, background, np.where(scale > 0, chi2, np.inf))


def search_grid(
    x: Array, y: Array, weight: Array, thresholds: Array, *, pulse_rms: float = 0.0, keep: int = 4
) -> list[tuple[float, SCurve]]:
    """Return the best curves (chi2, curve) of a grid of F_th and beta, S and B >= 0 solved for at each.

    :param x: ln(fluence). :param y: ln(intensity). :param weight: 1/sigma of y. :param thresholds: ln F_th to try.
    At most ``keep`` curves are returned, no two of them with neighbouring thresholds. ``pulse_rms`` is only handed on
    to them.
    """
    grid = curve_grid(x, y, weight, thresholds)
    found: list[tuple[float, SCurve]] = []
    spacing = 1.5 * (thresholds[1] - thresholds[0]) if thresholds.size > 1 else 0.0
    for k in np.argsort(grid.chi2):
        if len(found) == keep or not np.isfinite(grid.chi2[k]):
            break
        knee = float(grid.log_threshold[k])
        if any(abs(knee - curve.log_threshold) < spacing for _, curve in found):
            continue
        per_fluence = float(grid.background[k] * np.exp(-knee))
        curve = SCurve(knee, float(grid.log_beta[k]), float(grid.scale[k]), per_fluence, pulse_rms)
        found.append((float(grid.chi2[k]), curve))
    return found


def _two_not_negative(first: Array, second: Array, target: Array) -> tuple[Array, Array]:
    """Solve rows of first a + second b = target for a, b >= 0 by least squares; arrays [grid, n], target [n]."""
    aa, ab, bb = (np.einsum("gn,gn->g", u, v) for u, v in ((first, first), (first, second), (second, second)))
    at, bt = first @ target, second @ target
    determinant = np.maximum(aa * bb - ab**2, 1e-300)
    a, b = (bb * at - ab * bt) / determinant, (aa * bt - ab * at) / determinant
    only_first = b < 0
    a, b = np.where(only_first, at / aa, a), np.where(only_first, 0.0, b)
    only_second = a < 0
    return np.where(only_second, 0.0, a), np.where(only_second, bt / bb, b)


def polish(
    x: Array,
    y: Array,
    weight: Array,
    start: SCurve,
    *,
    log_threshold: float | None = None,
    log_beta: float | None = None,
) -> tuple[float, SCurve]:
    """Minimise chi2 from ``start``; return (chi2, curve). ``log_threshold`` or ``log_beta`` is held if given.

    F_th stays within the data, beta and the share of the mode within their ranges, by sine maps.
    """
    knees = float(np.min(x)), float(np.max(x))
    below = start.scale + start.background * np.exp(start.log_threshold)
    free = [np.log(start.scale) - start.log_beta, to_line(np.log(start.scale / below), LOG_SHARE_RANGE)]
    if log_beta is None:
        free.append(to_line(start.log_beta, LOG_BETA_RANGE))
    if log_threshold is None:
        free.append(to_line(start.log_threshold, knees))

    def unpack(p: Array) -> SCurve:
        knee = from_line(p[-1], knees) if log_threshold is None else log_threshold
        beta = from_line(p[2], LOG_BETA_RANGE) if log_beta is None else log_beta
        scale = float(np.exp(np.clip(p[0] + beta, -600, 600)))
        background = scale * float(np.expm1(-from_line(p[1], LOG_SHARE_RANGE))) * np.exp(-knee)
        return SCurve(float(knee), float(beta), scale, float(background), start.pulse_rms)

    def residual(p: Array) -> Array:
        return (unpack(p).curve(x) - y) * weight

    # leastsq also forms a covariance, which may overflow at a bound; it is not used here.
    with np.errstate(over="ignore", invalid="ignore"):
        solved = leastsq(residual, np.array(free), full_output=True, ftol=1e-9, xtol=1e-7, maxfev=400)[0]
    r = residual(solved)
    return float(r @ r), unpack(solved)
