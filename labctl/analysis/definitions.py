"""The other definitions of an ASE threshold, reported beside the knee because they differ by up to 35 %.

Width-based definitions see the onset of ASE, slope-based ones its dominance (Anni, Molecules 2020, 25, 2992; Milanese
et al., Molecules 2022, 27, 4261). A threshold without its definition is therefore not comparable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import make_smoothing_spline

from labctl.analysis.hinge import Array

FWHM_ONSET = 0.95
"""The line counts as narrowing once its width has fallen below this share of the PL width."""


@dataclass(frozen=True)
class Definition:
    """One threshold by another definition: ``value`` in ``unit``, or None and the reason."""

    value: float | None
    unit: str
    meaning: str
    reason: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return a dict for JSON."""
        return {"value": self.value, "unit": self.unit, "meaning": self.meaning, "reason": self.reason}


_MEANINGS = {
    "ase_equals_pl": "areas of the ASE line and the PL line are equal",
    "fwhm_onset": f"width of the whole line falls below {FWHM_ONSET:.2f} of the PL width",
    "fwhm_half": "width of the whole line is half-way between that of PL and the narrowest",
    "linear_intercept": "straight line through 1.3 to 2.1 times the knee on linear axes meets the PL line",
    "max_curvature": "largest curvature of ln I against ln F",
    "max_slope": "largest slope of ln I against ln F",
    "net_gain_zero": "net modal gain is zero (transparency)",
}


def other_definitions(
    knee: float,
    fluence: Array,
    intensity: Array,
    relative_error: Array,
    pl_area: Array | None,
    ase_area: Array | None,
    line_fwhm_nm: Array | None,
    unit: str,
    gain: tuple[Array, Array] | None = None,
) -> dict[str, Definition]:
    """Return every other definition by name.

    Arrays of shape [n], sorted by fluence, positive and not saturated; ``pl_area``, ``ase_area``, ``line_fwhm_nm`` (of
    the whole line) are None without spectra, single values may be nan. ``gain`` is (fluence, net modal gain) from
    stripe-length runs, if there are any.
    """
    spectra_missing = None, "no spectra"
    equal = spectra_missing if pl_area is None or ase_area is None else _equal_areas(fluence, ase_area, pl_area)
    onset, half = (spectra_missing, spectra_missing) if line_fwhm_nm is None else _widths(fluence, line_fwhm_nm, knee)
    curvature, slope = _steepest(fluence, intensity, relative_error, knee)
    found = {
        "ase_equals_pl": equal,
        "fwhm_onset": onset,
        "fwhm_half": half,
        "linear_intercept": _linear_intercept(fluence, intensity, relative_error, knee),
        "max_curvature": curvature,
        "max_slope": slope,
        "net_gain_zero": _gain_zero(gain),
    }
    return {name: Definition(value, unit, _MEANINGS[name], reason) for name, (value, reason) in found.items()}


_Found = tuple[float | None, str | None]


def _equal_areas(fluence: Array, ase: Array, pl: Array) -> _Found:
    good = np.isfinite(ase) & np.isfinite(pl) & (ase > 0) & (pl > 0)
    x, ratio = np.log(fluence[good]), np.log(ase[good] / pl[good])
    if not (np.any(ratio < 0) and np.any(ratio > 0)):
        return None, "the ASE area does not cross the PL area within the sweep"
    near = np.abs(ratio) < 1.5
    if near.sum() >= 4:
        slope, offset = np.polyfit(x[near], ratio[near], 1)
        crossing = -offset / slope if slope > 0 else np.nan
        if x[near].min() <= crossing <= x[near].max():
            return float(np.exp(crossing)), None
    return _first_crossing(x, ratio)


def _first_crossing(x: Array, y: Array) -> _Found:
    """Return exp(x) where y changes sign from - to + for good, by linear interpolation."""
    last_below = int(np.flatnonzero(y < 0)[-1])
    if last_below + 1 >= x.size:
        return None, "the quantity does not stay beyond its mark within the sweep"
    a, b = y[last_below], y[last_below + 1]
    return float(np.exp(x[last_below] - a * (x[last_below + 1] - x[last_below]) / (b - a))), None


def _widths(fluence: Array, width: Array, knee: float) -> tuple[_Found, _Found]:
    good = np.isfinite(width) & (width > 0)
    x, w = np.log(fluence[good]), width[good]
    low = fluence[good] < 0.7 * knee
    if low.sum() < 2 or (~low).sum() < 2:
        missing = None, "too few widths below and above the knee"
        return missing, missing
    plateau, narrowest = float(np.median(w[low])), float(w.min())
    if narrowest > 0.8 * plateau:
        missing = None, f"the line does not narrow (from {plateau:.3g} to {narrowest:.3g} nm)"
        return missing, missing
    return _first_crossing(x, FWHM_ONSET * plateau - w), _first_crossing(x, 0.5 * (plateau + narrowest) - w)


def _linear_intercept(fluence: Array, intensity: Array, relative_error: Array, knee: float) -> _Found:
    above = (fluence > 1.3 * knee) & (fluence < 2.1 * knee)
    below = fluence < 0.7 * knee
    if above.sum() < 3 or below.sum() < 2:
        return None, "too few points below 0.7 or between 1.3 and 2.1 times the knee"
    weight = 1.0 / (intensity * relative_error)
    slope, offset = np.polyfit(fluence[above], intensity[above], 1, w=weight[above])
    w = weight[below]
    pl = float(np.sum(w**2 * fluence[below] * intensity[below]) / np.sum(w**2 * fluence[below] ** 2))
    if not slope > pl:
        return None, "the line above the knee is no steeper than the PL line"
    crossing = -offset / (slope - pl)
    if not fluence[0] < crossing < fluence[-1]:
        return None, "the two straight lines meet outside the sweep"
    return float(crossing), None


def _steepest(fluence: Array, intensity: Array, relative_error: Array, knee: float) -> tuple[_Found, _Found]:
    """Return (largest curvature, largest slope) of a smoothing spline through ln I (ln F)."""
    x, y, weight = _merged(np.log(fluence), np.log(intensity), 1.0 / relative_error**2)
    if x.size < 10:
        missing = None, "a smoothing spline needs at least 10 fluences"
        return missing, missing
    spline = make_smoothing_spline(x, y, w=weight / weight.mean())
    grid = np.linspace(max(x[1], np.log(0.5 * knee)), min(x[-2], np.log(3.0 * knee)), 400)
    steepest = _inner_maximum(grid, spline(grid, nu=1), "slope")
    # Beyond the steepest point a curvature maximum belongs to the onset of saturation, or to noise.
    rise = grid if steepest[0] is None else grid[grid < np.log(steepest[0])]
    return _inner_maximum(rise, spline(rise, nu=2), "curvature"), steepest


def _inner_maximum(x: Array, values: Array, name: str) -> _Found:
    top = int(np.argmax(values))
    if top in (0, x.size - 1):
        return None, f"the {name} has no maximum between 0.5 and 3 times the knee"
    return float(np.exp(x[top])), None


def _merged(x: Array, y: Array, weight: Array) -> tuple[Array, Array, Array]:
    """Average points closer than 1 % in fluence: a spline needs distinct, and not crowded, abscissae."""
    group: NDArray[np.intp] = np.concatenate([[0], np.cumsum(np.diff(x) > 0.01)])
    total = np.bincount(group, weight)
    mean_x, mean_y = np.bincount(group, weight * x) / total, np.bincount(group, weight * y) / total
    return mean_x, mean_y, total.astype(float)


def _gain_zero(gain: tuple[Array, Array] | None) -> _Found:
    if gain is None:
        return None, "a sweep at one stripe length does not contain the gain; needs stripe-length runs"
    order = np.argsort(gain[0])
    fluence, value = np.asarray(gain[0], dtype=float)[order], np.asarray(gain[1], dtype=float)[order]
    if not (np.any(value < 0) and np.any(value > 0)):
        return None, "the measured net gain does not change sign"
    return _first_crossing(np.log(fluence), value)
