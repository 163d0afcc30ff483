"""Least squares of one model of a variable-stripe-length curve: search, polish, and profile over the gain.

    I(L) = a S(L - L0; g, k) + p T(L - L0) + c

S is the amplified light and T the late light of `labctl.analysis.vsl_shapes`. At given gain g, saturation depth
k = a/(g I_s) and stripe zero L0 the curve is linear in a, p >= 0 and c, so only those three are searched: first on a
grid of gains and depths that is solved in one batch, which keeps the fit out of wrong local minima, then by least
squares from its best nodes. L0 and c carry Gaussian priors, from the scan of the edge and from the frame without
stripe.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import leastsq

from labctl.analysis.bounded import from_line, to_line
from labctl.analysis.vsl_amplification import Array
from labctl.analysis.vsl_shapes import StripeShapes

GainModel = Literal["small signal", "saturation", "late light", "saturation + late light"]
PARAMETERS: dict[GainModel, int] = {"small signal": 2, "saturation": 3, "late light": 3, "saturation + late light": 4}
"""Parameters without a prior of their own."""
MODELS: tuple[GainModel, ...] = ("small signal", "saturation", "late light", "saturation + late light")
DEPTH_RANGE = (float(np.log(1e-10)), float(np.log(30.0)))
"""Range of ln k: from saturation that begins beyond g L = 20 to a stripe that is saturated from its first µm."""
LARGEST_GL = 80.0
"""Largest g times the longest stripe that is looked for."""
_LARGEST_LOSS_GL = 8.0
_PROFILE_STATIONS = 40


@dataclass(frozen=True)
class GainPrior:
    """What is known beforehand: stripe zero, cm, and what is left at no stripe, with their standard deviations.

    An error of 0 holds the value; an infinite one leaves it free.
    """

    zero_cm: float = 0.0
    zero_error_cm: float = 0.0
    offset: float = 0.0
    offset_error: float = 0.0


@dataclass(frozen=True)
class StripeCurve:
    """Parameters of one fit: gain (1/cm), depth k, zero (cm), spontaneous a and late p (per cm), offset c."""

    gain_cm1: float
    depth: float
    zero_cm: float
    spontaneous: float
    late: float
    offset: float

    @property
    def saturation(self) -> float:
        """Get the saturation intensity I_s = a/(g k); inf without saturation."""
        return self.spontaneous / (self.gain_cm1 * self.depth) if self.depth > 0 and self.gain_cm1 > 0 else np.inf

    def values(self, shapes: StripeShapes) -> Array:
        """Return the intensity at the lengths of ``shapes``, [n]."""
        amplified = shapes.amplified(np.array(self.gain_cm1), np.array(self.depth), self.zero_cm)
        return self.spontaneous * amplified + self.late * shapes.late(self.zero_cm) + self.offset


@dataclass(frozen=True)
class Fitted:
    """A model, its parameters and chi2 (those of the priors included)."""

    model: GainModel
    chi2: float
    curve: StripeCurve


@dataclass(frozen=True)
class CurveFit:
    """One model on one set of data.

    :param shapes: Curves of unit strength. :param intensity: [n]. :param weight: [n], 1/sigma.
    """

    shapes: StripeShapes
    intensity: Array
    weight: Array
    prior: GainPrior
    model: GainModel
    grid: tuple[int, int] = (44, 26)
    """Gains and depths of the grid."""

    @property
    def saturates(self) -> bool:
        """Get whether the model has a saturation intensity."""
        return self.model.startswith("saturation")

    @property
    def has_late(self) -> bool:
        """Get whether the model has light from after the gain."""
        return self.model.endswith("late light")

    @property
    def parameters(self) -> int:
        """Get the number of parameters without a prior of their own."""
        return PARAMETERS[self.model]

    def best(self) -> Fitted | None:
        """Return the best fit, or None if no node of the grid describes a stripe that emits."""
        found = [self.refit(start, None) for start in self._starts(self._grid_gains(), keep=3)]
        return min(found, key=lambda fit: fit.chi2, default=None)

    def at_gain(self, near: StripeCurve, gain_cm1: float) -> Fitted:
        """Return the best fit with the gain held, from the depth of ``near`` and from the best depth of a grid."""
        found = self.refit(near, gain_cm1)
        for start in self._starts(np.array([gain_cm1]), keep=1, zero_cm=near.zero_cm):
            found = min(found, self.refit(start, gain_cm1), key=lambda fit: fit.chi2)
        return found

    def refit(self, start: StripeCurve, fixed_gain: float | None) -> Fitted:
        """Minimise chi2 from ``start``, with the gain free or held at a value, 1/cm."""
        scale = 1.0 / float(self.shapes.length_cm[-1])
        frees_zero = self.prior.zero_error_cm > 0

        def unpack(z: Array) -> tuple[float, float, float]:
            rest = list(z)
            if fixed_gain is not None:
                gain = fixed_gain
            elif self.saturates:
                gain = scale * float(np.exp(np.clip(rest.pop(0), -12.0, np.log(LARGEST_GL))))
            else:
                gain = scale * float(np.clip(rest.pop(0), -_LARGEST_LOSS_GL * 4, LARGEST_GL))
            depth = float(np.exp(from_line(rest.pop(0), DEPTH_RANGE))) if self.saturates else 0.0
            zero = self.prior.zero_cm + self._zero_unit * float(rest.pop(0)) if frees_zero else self.prior.zero_cm
            return gain, depth, zero

        def residual(z: Array) -> Array:
            return self._solve(*unpack(z))[0]

        z0: list[float] = []
        if fixed_gain is None:
            gl = start.gain_cm1 / scale
            z0.append(float(np.log(max(gl, 1e-4))) if self.saturates else gl)
        if self.saturates:
            z0.append(to_line(float(np.log(max(start.depth, 1e-12))), DEPTH_RANGE))
        if frees_zero:
            z0.append((start.zero_cm - self.prior.zero_cm) / self._zero_unit)
        z = np.array(z0)
        if z.size:
            # With full output it says by a code, not by a warning, that it stopped short; the profile goes on from
            # there.
            found = leastsq(residual, z, ftol=1e-9, xtol=1e-9, maxfev=60 * (z.size + 1), epsfcn=1e-12, full_output=True)
            z = np.atleast_1d(found[0])
        gain, depth, zero = unpack(z)
        missed, (a, p, c) = self._solve(gain, depth, zero)
        return Fitted(self.model, float(missed @ missed), StripeCurve(gain, depth, zero, a, p, c))

    @property
    def _zero_unit(self) -> float:
        """Length in which the stripe zero is searched: its error, or 10 µm if it is not known."""
        return float(min(self.prior.zero_error_cm, 1e-3))

    def _columns(self, amplified: Array, zero_cm: float) -> Array:
        """Return the weighted linear columns, [..., n, 1 to 3]: amplified light, late light, offset."""
        stack = [amplified]
        if self.has_late:
            stack.append(np.broadcast_to(self.shapes.late(zero_cm), amplified.shape))
        if self.prior.offset_error > 0:
            stack.append(np.ones_like(amplified))
        return np.stack(stack, axis=-1) * self.weight[:, None]

    def _solve(self, gain: float, depth: float, zero: float) -> tuple[Array, tuple[float, float, float]]:
        """Return the residuals, priors behind those of the data, and a, p, c at given gain, depth and zero."""
        prior = self.prior
        basis = self._columns(self.shapes.amplified(np.array(gain), np.array(depth), zero), zero)
        target = (self.intensity - prior.offset) * self.weight
        frees_offset = prior.offset_error > 0
        if frees_offset:
            row = np.zeros(basis.shape[1])
            row[-1] = 1.0 / prior.offset_error
            basis = np.vstack([basis, row])
            target = np.append(target, 0.0)
        size = np.linalg.norm(basis, axis=0)
        size = np.where((size > 0) & np.isfinite(size), size, 1.0)
        scaled = np.nan_to_num(basis / size, posinf=1e6)
        use = np.ones(size.size, dtype=bool)
        solution = np.linalg.lstsq(scaled, target, rcond=None)[0]
        physical = 2 if self.has_late else 1
        for column in range(physical - 1, -1, -1):
            # Light cannot be negative: a part that would be is not there.
            if solution[column] < 0.0:
                use[column] = False
                solution = np.zeros(size.size)
                if use.any():
                    solution[use] = np.linalg.lstsq(scaled[:, use], target, rcond=None)[0]
        missed = scaled @ solution - target
        strength = solution / size
        if prior.zero_error_cm > 0:
            missed = np.append(missed, (zero - prior.zero_cm) / prior.zero_error_cm)
        late = float(strength[1]) if self.has_late else 0.0
        offset = prior.offset + (float(strength[-1]) if frees_offset else 0.0)
        return missed, (float(strength[0]), late, offset)

    def _grid_gains(self) -> Array:
        gl = np.geomspace(0.15, 0.6 * LARGEST_GL, self.grid[0])
        if not self.saturates:
            gl = np.concatenate([-np.geomspace(0.05, _LARGEST_LOSS_GL, 12)[::-1], [0.01, 0.05], gl])
        return gl / float(self.shapes.length_cm[-1])

    def _starts(self, gains: Array, *, keep: int, zero_cm: float | None = None) -> list[StripeCurve]:
        """Return the best nodes of a grid of gains and depths, at most one per pair of neighbouring gains."""
        depths = np.exp(np.linspace(np.log(1e-8), np.log(5.0), self.grid[1])) if self.saturates else np.array([0.0])
        gain, depth = (v.ravel() for v in np.meshgrid(gains, depths, indexing="ij"))
        nodes: list[tuple[float, int, StripeCurve]] = []
        for zero in self._grid_zeros() if zero_cm is None else (zero_cm,):
            chi2, strengths = self._batch(gain, depth, zero)
            order = np.argsort(chi2)[: 12 * keep]
            nodes += [
                (
                    float(chi2[j]),
                    int(j // depths.size),
                    StripeCurve(float(gain[j]), float(depth[j]), zero, *strengths[j]),
                )
                for j in order
                if np.isfinite(chi2[j])
            ]
        nodes.sort(key=lambda node: node[0])
        kept: list[tuple[int, StripeCurve]] = []
        for _, place, curve in nodes:
            if len(kept) < keep and all(abs(place - other) > 1 for other, _ in kept):
                kept.append((place, curve))
        return [curve for _, curve in kept]

    def _grid_zeros(self) -> tuple[float, ...]:
        centre, spread = self.prior.zero_cm, self._zero_unit
        return (centre,) if spread == 0 else (centre - 1.2 * spread, centre, centre + 1.2 * spread)

    def _batch(self, gain: Array, depth: Array, zero: float) -> tuple[Array, Array]:
        """Return chi2 [m] and a, p, c [m, 3] of many nodes at once, by their normal equations."""
        basis = self._columns(self.shapes.amplified(gain, depth, zero), zero)
        target = (self.intensity - self.prior.offset) * self.weight
        peak = np.max(np.abs(basis), axis=1, keepdims=True)
        usable = np.isfinite(peak).all(axis=(1, 2))
        peak = np.where(np.isfinite(peak) & (peak > 0), peak, 1.0)
        basis = np.where(usable[:, None, None], basis / peak, 0.0)
        normal = np.einsum("gni,gnj->gij", basis, basis)
        right = np.einsum("gni,n->gi", basis, target)
        if self.prior.offset_error > 0 and np.isfinite(self.prior.offset_error):
            normal[:, -1, -1] += (1.0 / (self.prior.offset_error * peak[:, 0, -1])) ** 2
        diagonal = np.einsum("gii->gi", normal)
        eye = np.eye(normal.shape[1])
        normal = normal + eye * (1e-12 * diagonal + 1e-300)[:, :, None]
        solution = np.linalg.solve(normal, right[:, :, None])[:, :, 0]
        if self.has_late:
            without = solution[:, 1] < 0.0
            keep = [0, 2] if solution.shape[1] == 3 else [0]
            reduced = np.linalg.solve(normal[np.ix_(without, keep, keep)], right[without][:, keep][:, :, None])[:, :, 0]
            replaced = np.zeros((int(without.sum()), solution.shape[1]))
            replaced[:, keep] = reduced
            solution[without] = replaced
        missed = np.einsum("gni,gi->gn", basis, solution) - target
        chi2 = np.einsum("gn,gn->g", missed, missed)
        chi2 = np.where(usable & (solution[:, 0] > 0.0), chi2, np.inf)
        strength = np.zeros((gain.size, 3))
        strength[:, 0] = solution[:, 0] / peak[:, 0, 0]
        if self.has_late:
            strength[:, 1] = solution[:, 1] / peak[:, 0, 1]
        strength[:, 2] = self.prior.offset
        return chi2, strength


def profile_ends(
    fit: CurveFit, best: Fitted, rises: dict[float, float]
) -> tuple[Fitted, dict[float, tuple[float, float]]]:
    """Return the (possibly improved) best fit and the interval of the gain, 1/cm, of each level.

    ``rises`` is the rise of chi2 at the end of each level's interval. An end that is not met is infinite.
    """
    walks: list[list[Fitted]] = []
    for _ in range(3):
        walks = [_walk(fit, best, max(rises.values()), direction) for direction in (-1.0, 1.0)]
        lowest = min((station for walk in walks for station in walk), key=lambda station: station.chi2)
        if lowest.chi2 >= best.chi2 - 1e-4 * max(rises.values()):
            break
        # The walk met a better minimum than the search had found: start again from there.
        best = min(lowest, fit.refit(lowest.curve, None), key=lambda found: found.chi2)
    ends: dict[float, tuple[float, float]] = {}
    for level, rise in rises.items():
        low, high = (_crossing(walk, best.chi2, rise) for walk in walks)
        ends[level] = (-np.inf if low is None else low, np.inf if high is None else high)
    return best, ends


def _walk(fit: CurveFit, best: Fitted, rise: float, direction: float) -> list[Fitted]:
    """Walk in the gain until chi2 has risen by more than ``rise``; return the stations, the best fit first."""
    length = float(fit.shapes.length_cm[-1])
    step = max(0.02 * abs(best.curve.gain_cm1), 0.03 / length)
    stations = [best]
    for _ in range(_PROFILE_STATIONS):
        previous = stations[-1]
        target = previous.curve.gain_cm1 + direction * step
        if fit.saturates and target <= 0.0:
            target = 0.5 * previous.curve.gain_cm1
        if not -4 * _LARGEST_LOSS_GL < target * length < LARGEST_GL or abs(target) * length < 1e-4:
            break
        stations.append(fit.at_gain(previous.curve, target))
        climbed = np.sqrt(max(stations[-1].chi2 - best.chi2, 0.0) / rise)
        if climbed > 1.0:
            break
        # About six stations per side: the root of the rise is close to linear.
        gained = climbed - np.sqrt(max(previous.chi2 - best.chi2, 0.0) / rise)
        step = float(np.clip(step * 0.2 / max(gained, 0.02), 0.5 * step, 2.5 * step))
    return stations


def _crossing(walk: list[Fitted], lowest: float, rise: float) -> float | None:
    height = np.sqrt(np.maximum([station.chi2 - lowest for station in walk], 0.0) / rise)
    for k in range(1, len(walk)):
        if height[k] >= 1.0:
            share = (1.0 - height[k - 1]) / (height[k] - height[k - 1])
            a, b = walk[k - 1].curve.gain_cm1, walk[k].curve.gain_cm1
            return float(a + share * (b - a))
    return None


def numeric_slope(values: Callable[[Array], Array], length_cm: Array) -> Array:
    """Return dI/dL of a curve by central differences over a thousandth of each length; same shape."""
    step = 1e-3 * np.maximum(length_cm, 1e-6)
    return (values(length_cm + step) - values(length_cm - step)) / (2.0 * step)
