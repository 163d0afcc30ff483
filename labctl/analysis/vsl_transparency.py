"""Fluence of transparency: where the gains of stripe-length scans at several fluences go through zero."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from labctl.analysis.estimate import Estimate
from labctl.analysis.vsl_gain import NoGain

_NEAREST = 4


def transparency_fluence(
    fluence: ArrayLike, gain_cm1: ArrayLike, gain_error_cm1: ArrayLike, unit: str = "uJ/cm^2"
) -> Estimate:
    """Return the fluence at which the gain is zero.

    A straight line in g against ln F through the (up to four) fluences about the change of sign; the interval is
    Fieller's, all fluences where the line differs from zero by less than its error.

    :param fluence: > 0, [n], each with its own fit. :param gain_cm1: [n]. :param gain_error_cm1: Standard deviations.

    Raises `NoGain` if the gain does not change sign within the fluences, ValueError on malformed input.
    """
    f, g, s = (np.asarray(v, dtype=float) for v in (fluence, gain_cm1, gain_error_cm1))
    if f.ndim != 1 or not f.shape == g.shape == s.shape or np.any(f <= 0) or np.any(s <= 0):
        raise ValueError("fluences > 0, gains and errors > 0 must be equally long lists")
    order = np.argsort(f)
    x, g, s = np.log(f[order]), g[order], s[order]
    rising = np.flatnonzero((g[:-1] <= 0) & (g[1:] > 0))
    if rising.size == 0:
        raise NoGain(
            f"the gain does not change sign between {f.min():.4g} and {f.max():.4g} {unit}:"
            f" it is {'positive' if np.all(g > 0) else 'not positive'} throughout; measure at"
            f" {'lower' if np.all(g > 0) else 'higher'} fluences"
        )
    at = int(rising[-1])
    begin = max(0, min(at - 1, x.size - _NEAREST))
    near = slice(begin, begin + _NEAREST)
    x, g, s = x[near], g[near], s[near]
    middle = float(np.average(x, weights=1.0 / s**2))
    basis = np.stack([np.ones_like(x), x - middle], axis=1) / s[:, None]
    covariance = np.linalg.pinv(basis.T @ basis)
    level, slope = covariance @ basis.T @ (g / s)
    excess = max(1.0, float(np.sum((basis @ np.array([level, slope]) - g / s) ** 2)) / max(x.size - 2, 1))
    covariance = covariance * excess
    if slope <= 0:
        raise NoGain("the gain does not rise with the fluence where it changes sign")
    zero = middle - level / slope
    ends = [_fieller(level, slope, covariance, middle, float(special.ndtri(0.5 + 0.5 * q))) for q in (0.6827, 0.95)]
    (low68, high68), (low95, high95) = ends
    return Estimate(float(np.exp(zero)), unit, (low68, high68), (low95, high95))


def _fieller(level: float, slope: float, covariance: np.ndarray, middle: float, reach: float) -> tuple[float, float]:
    """Return the fluences where |level + slope u| = reach sd(u); 0 and inf where the slope is not significant."""
    a = slope**2 - reach**2 * covariance[1, 1]
    b = 2.0 * (level * slope - reach**2 * covariance[0, 1])
    c = level**2 - reach**2 * covariance[0, 0]
    root = b * b - 4.0 * a * c
    if a <= 0 or root < 0:
        return 0.0, float("inf")
    low, high = sorted((-b + sign * float(np.sqrt(root))) / (2.0 * a) for sign in (-1.0, 1.0))
    return float(np.exp(middle + low)), float(np.exp(middle + high))
