"""Smooth hinge in log-log axes: the curve, its batched linear solution, and the search for its best parameters.

With x = ln(fluence) and y = ln(intensity) the curve is a straight line of slope s1 that bends upwards at x_t to the
slope s2 and, with saturation, bends back to the slope s3 at x_t + D::

    y = y0 + s1 (x - x_t) + (s2 - s1) d softplus((x - x_t)/d) - (s2 - s3) d softplus((x - x_t - D)/d)

At fixed (x_t, d, D) the curve is linear in the other parameters, so a grid of thousands of trial positions is solved in
one batch; the best of them are then polished together. That grid is what keeps the fit out of wrong local minima.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import leastsq

from labctl.analysis.bounded import from_line, to_line

Array = NDArray[np.float64]
Model = Literal["line", "concave", "hinge", "hinge+saturation", "lasing"]

SOFTNESS_RANGE = (0.01, 0.25)
"""Allowed range of d (in ln fluence): sharper than any sampling shows, to a bend over a factor of three."""
SOFTNESS_PRIOR = (0.12, 0.5)
"""Median of d and standard deviation of ln d expected before the data speak; adds (ln(d/median)/sd)^2 to chi2.

Softness and knee trade against each other in sparse data. This lowers the scatter of the threshold by a fifth and
shifts it, at 3 % noise, by at most 0.5 % for d from 0.005 to 0.15 and by 2 % at d = 0.22 with saturation.
"""
SATURATION_DISTANCE_RANGE = (float(np.log(2.1)), 2.5)
"""Allowed range of D: saturation sets in between 2.1 and 12 times the threshold fluence.

The lower bound is part of the threshold's definition, as a soft knee is a convention of some per cent: gain saturation
bends the curve of a real film smoothly from 1.4 times the threshold on, and with D free a steeper hinge chases that
bend and takes the knee with it, 8 to 12 % up. On a gently saturating film D therefore sits on this bound, and the knee
goes about as its square root downwards: see docs/decisions/0005, and ``DISTANCE_BOUNDS_IN_USE``.
"""
DISTANCE_BOUNDS_IN_USE = (float(np.log(1.9)), float(np.log(2.4)))
"""Lower bounds of D that would be as sensible: the knees they give say how much of the threshold is convention."""
SATURATED_SLOPE_RANGE = (0.0, 1.5)
"""Allowed range of s3: the output of a saturated amplifier grows about linearly with its pump, or levels off.

Left free, s3 runs to large negative values on sweeps that end soon after saturation starts and takes D and d with it.
"""

PARAMETERS: dict[Model, int] = {"line": 2, "concave": 5, "hinge": 5, "hinge+saturation": 7, "lasing": 4}
_GRID_SOFTNESS = np.array([0.02, 0.06, 0.11, 0.16, 0.23])
_GRID_DISTANCES = np.array([0.72, 0.85, 1.0, 1.2, 1.5, 1.9])


@dataclass(frozen=True)
class HingeParameters:
    """One hinge; slopes are d ln I / d ln F. ``distance`` and ``slope_saturated`` are None without saturation."""

    log_threshold: float
    level: float
    slope_below: float
    slope_above: float
    softness: float
    distance: float | None = None
    slope_saturated: float | None = None

    def curve(self, x: Array) -> Array:
        """Return y = ln(intensity) at x = ln(fluence), same shape."""
        u = x - self.log_threshold
        y = self.level + self.slope_below * u + (self.slope_above - self.slope_below) * _bend(u, self.softness)
        if self.distance is not None and self.slope_saturated is not None:
            y = y - (self.slope_above - self.slope_saturated) * _bend(u - self.distance, self.softness)
        return y

    def slope(self, x: Array) -> Array:
        """Return dy/dx at x = ln(fluence), same shape."""
        u = x - self.log_threshold
        s = self.slope_below + (self.slope_above - self.slope_below) * _step(u, self.softness)
        if self.distance is not None and self.slope_saturated is not None:
            s = s - (self.slope_above - self.slope_saturated) * _step(u - self.distance, self.softness)
        return s


def _bend(u: Array, d: Array | float) -> Array:
    return d * np.logaddexp(0.0, u / d)


def _step(u: Array, d: Array | float) -> Array:
    return 0.5 * (1.0 + np.tanh(0.5 * u / d))


def _softness_pull(softness: Array | float) -> Array:
    median, spread = SOFTNESS_PRIOR
    return np.log(np.asarray(softness) / median) / spread


def fit_line(x: Array, y: Array, weight: Array) -> tuple[float, float, float]:
    """Return (level at x = 0, slope, chi2) of the weighted straight line; ``weight`` is 1/sigma."""
    basis = np.stack([np.ones_like(x), x], axis=1) * weight[:, None]
    (level, slope), *_ = np.linalg.lstsq(basis, y * weight, rcond=None)
    residual = (y - level - slope * x) * weight
    return float(level), float(slope), float(residual @ residual)


def search_grid(
    x: Array, y: Array, weight: Array, knees: Array, *, saturation: bool, rising: bool = True, keep: int = 4
) -> list[tuple[float, HingeParameters]]:
    """Return the best (chi2, parameters) of a grid of knees, softnesses and saturation distances, best first.

    ``weight`` is 1/sigma of y. ``rising=False`` looks for the concave bend (slope falls at the knee) instead.
    At most one candidate per pair of neighbouring knees is returned, so that the starts differ.
    """
    distances = _GRID_DISTANCES if saturation else np.array([np.inf])
    knee, soft, far = (a.ravel() for a in np.meshgrid(knees, _GRID_SOFTNESS, distances, indexing="ij"))
    # The softplus depends on (knee, softness) only: evaluate it once per pair, the second bend per triple.
    u = x[None, :] - knee[:, None]
    columns = [np.ones_like(u), u, _bend(u, soft[:, None])]
    if saturation:
        columns.append(-_bend(u - far[:, None], soft[:, None]))
    basis = np.stack(columns, axis=2) * weight[None, :, None]
    target = y * weight
    low, high = SATURATED_SLOPE_RANGE
    normal = np.einsum("gni,gnj->gij", basis, basis)
    right = np.einsum("gni,n->gi", basis, target)
    diagonal = np.einsum("gii->gi", normal)
    normal = normal + np.eye(normal.shape[1]) * (1e-10 * diagonal + 1e-300)[:, :, None]
    solution = np.linalg.solve(normal, right[:, :, None])[:, :, 0]
    residual = np.einsum("gni,gi->gn", basis, solution) - target
    chi2 = np.einsum("gn,gn->g", residual, residual)
    allowed = solution[:, 2] > 0 if rising else solution[:, 2] < 0
    if saturation:
        saturated = solution[:, 1] + solution[:, 2] - solution[:, 3]
        # Nodes a little outside the allowed slopes still make good starts; the polish puts them inside.
        allowed &= (solution[:, 3] > 0) & (saturated > low - 3.0) & (saturated < high + 1.0)
    chi2 = np.where(allowed, chi2 + _softness_pull(soft) ** 2, np.inf)
    found: list[tuple[float, HingeParameters]] = []
    spacing = 1.5 * (knees[1] - knees[0]) if knees.size > 1 else 0.0
    for index in np.argsort(chi2):
        if len(found) == keep or not np.isfinite(chi2[index]):
            break
        if any(abs(knee[index] - p.log_threshold) < spacing for _, p in found):
            continue
        place = float(knee[index]), float(soft[index]), float(far[index])
        found.append((float(chi2[index]), _from_linear(*place, solution[index])))
    return found


def _from_linear(knee: float, soft: float, far: float, solution: Array) -> HingeParameters:
    level, s1, rise = (float(v) for v in solution[:3])
    if solution.size == 3:
        return HingeParameters(knee, level, s1, s1 + rise, soft)
    s2 = s1 + rise
    return HingeParameters(knee, level, s1, s2, soft, far, s2 - float(solution[3]))


def polish(
    x: Array,
    y: Array,
    weight: Array,
    start: HingeParameters,
    *,
    fixed_knee: float | None = None,
    distance_range: tuple[float, float] = SATURATION_DISTANCE_RANGE,
) -> tuple[float, HingeParameters]:
    """Minimise chi2 (with the prior of d) from ``start``; return (chi2, parameters).

    With ``fixed_knee`` x_t is held there, for a profile. x_t (to the data), d, D and s3 are kept in their ranges
    by a sine map, the slope change at the knee positive by an exponential; a concave start stays concave.
    """
    sign = 1.0 if start.slope_above > start.slope_below else -1.0
    saturation = start.distance is not None
    knee_range = float(np.min(x)), float(np.max(x))
    free = [start.level, start.slope_below, np.log(max(abs(start.slope_above - start.slope_below), 1e-6))]
    free.append(to_line(start.softness, SOFTNESS_RANGE))
    if saturation and start.distance is not None and start.slope_saturated is not None:
        free.append(to_line(start.slope_saturated, SATURATED_SLOPE_RANGE))
        free.append(to_line(start.distance, distance_range))
    if fixed_knee is None:
        free.append(to_line(start.log_threshold, knee_range))

    def unpack(p: Array) -> HingeParameters:
        knee = from_line(p[-1], knee_range) if fixed_knee is None else fixed_knee
        s2 = p[1] + sign * np.exp(min(p[2], 5.0))
        soft = from_line(p[3], SOFTNESS_RANGE)
        if not saturation:
            return HingeParameters(knee, float(p[0]), float(p[1]), float(s2), soft)
        s3 = from_line(p[4], SATURATED_SLOPE_RANGE)
        distance = from_line(p[5], distance_range)
        return HingeParameters(knee, float(p[0]), float(p[1]), float(s2), soft, distance, float(s3))

    def residual(p: Array) -> Array:
        h = unpack(p)
        return np.append((h.curve(x) - y) * weight, _softness_pull(h.softness))

    def jacobian(p: Array) -> Array:
        h = unpack(p)
        u = x - h.log_threshold
        rise, d = h.slope_above - h.slope_below, h.softness
        bend, step = _bend(u, d), _step(u, d)
        by_soft = rise * (bend - u * step) / d
        by_knee = -h.slope_below - rise * step
        columns = [np.ones_like(x), u, rise * bend, by_soft]
        if h.distance is not None and h.slope_saturated is not None:
            v, fall = u - h.distance, h.slope_above - h.slope_saturated
            bend3, step3 = _bend(v, d), _step(v, d)
            columns[1], columns[2] = u - bend3, rise * (bend - bend3)
            columns[3] = by_soft - fall * (bend3 - v * step3) / d
            by_knee = by_knee + fall * step3
            by_distance = fall * step3 * _slope_of_map(p[5], distance_range)
            columns += [bend3 * _slope_of_map(p[4], SATURATED_SLOPE_RANGE), by_distance]
        columns[3] = columns[3] * _slope_of_map(p[3], SOFTNESS_RANGE)
        if fixed_knee is None:
            columns.append(by_knee * _slope_of_map(p[-1], knee_range))
        pull = np.zeros(p.size)
        pull[3] = _slope_of_map(p[3], SOFTNESS_RANGE) / (d * SOFTNESS_PRIOR[1])
        return np.vstack([np.stack(columns, axis=1) * weight[:, None], pull])

    # leastsq also forms a covariance, which may overflow when a slope is not determined; it is not used here.
    with np.errstate(over="ignore", invalid="ignore"):
        solved = leastsq(residual, np.array(free), Dfun=jacobian, full_output=True, ftol=1e-9, xtol=1e-7, maxfev=120)[0]
    r = residual(solved)
    return float(r @ r), unpack(solved)


def _slope_of_map(z: float, limits: tuple[float, float]) -> float:
    low, high = limits
    return float((high - low) * 0.5 * np.cos(z))
