"""Gain from a stripe-length scan and a scan of a short shifted spot (SES), which takes the collection out.

The light of an element at the distance x behind the edge is collected with an efficiency eta(x) that falls with x, and
a stripe-length scan alone reads that as a smaller gain. A short pumped spot at x shows the same efficiency, after the
loss alpha on the way through unpumped film: S(x) = w (a + p) eta(x) exp(-alpha x). Early and late emission are both in
it, in the same shape, for nothing is amplified in a spot so short. So the light of a stripe is, with Gamma the gain
integrated along it (`labctl.analysis.vsl_amplification`),

    I(L) = A int_0^L S(x) exp(alpha x) exp(Gamma(L) - Gamma(L - x)) dx + P int_0^L S(x) exp(delta x) dx + c

A, P and c are free: neither the width w of the spot nor its share of late light need be known. Without saturation the
first exponents are exp((g + alpha) x), the integral form of ln(I_VSL'/I_SES) = (g + alpha) x: only g + alpha can be
told, and g needs the loss. Where the stripe saturates Gamma follows from the closed form, for saturation happens in
the film, whatever is collected of it. Late light, emitted after the gain has gone, leaves through a film that is
transparent (delta = alpha, the p L of an even stripe). Were it absorbed as by the unpumped film (delta = 0) the
gain would come out lower; stripes and spots with a scatter of 2 % cannot tell. What that would make is a part of the
budget, weighted by how much the data are for it.

ln S is smoothed by a polynomial whose degree BIC chooses.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from labctl.analysis.estimate import Estimate
from labctl.analysis.vsl_amplification import Array, light_by_origin
from labctl.analysis.vsl_fit import MODELS, CurveFit, GainModel, GainPrior
from labctl.analysis.vsl_gain import GainFit, NoGain, StripePoints, fit_shapes

LateLight = Literal["transparent", "absorbed"]
_LATE_LIGHT: tuple[LateLight, LateLight] = ("transparent", "absorbed")
MIN_SPOTS = 5
_HIGHEST_DEGREE = 6
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)
_NODES, _WEIGHTS = 0.5 * (_NODES + 1.0), 0.5 * _WEIGHTS
_GRID = (26, 13)
_CLEARLY = 6.0
"""By so much BIC must be lower to say that late light looks absorbed: 20 to 1."""


@dataclass(frozen=True)
class SpotCurve:
    """ln S(x) as a polynomial of x/scale, its value at the edge taken off.

    :param coefficients: Ascending. :param covariance: Theirs. :param scale_cm: Largest distance.
    """

    coefficients: Array
    covariance: Array
    scale_cm: float

    def __call__(self, distance_cm: Array) -> Array:
        """Return S(x)/S(0), same shape; beyond the last spot the last value holds."""
        u = np.clip(distance_cm / self.scale_cm, 0.0, 1.0)
        return np.exp(np.polynomial.polynomial.polyval(u, self.coefficients) - self.coefficients[0])


@dataclass(frozen=True)
class ShiftedSpotStripe:
    """Curves of unit strength of a stripe whose collection and loss a spot has shown.

    :param length_cm: Lengths as read, [n]. :param spot: S(x). :param loss_cm1: alpha; 0 if only g + alpha is wanted.
    :param late_light: What late light goes through.
    """

    length_cm: Array
    spot: SpotCurve
    loss_cm1: float
    late_light: LateLight

    def at(self, length_cm: Array) -> ShiftedSpotStripe:
        """Return the stripe at other lengths."""
        return replace(self, length_cm=length_cm)

    def amplified(self, gain_cm1: Array, depth: Array, zero_cm: float) -> Array:
        """Return the amplified part, [..., n], by Gauss-Legendre quadrature over each length."""
        length = self._true(zero_cm)
        rows = []
        for g, k in zip(np.ravel(gain_cm1), np.ravel(depth), strict=True):
            distance, light = light_by_origin(length, float(g), float(k), _NODES, _WEIGHTS)
            rows.append(np.sum(light * self.spot(distance) * np.exp(self.loss_cm1 * distance), axis=1))
        return np.array(rows).reshape(*np.shape(gain_cm1), length.size)

    def late(self, zero_cm: float) -> Array:
        """Return the late part, [n]."""
        length = self._true(zero_cm)[:, None]
        distance = length * _NODES
        lossless = self.loss_cm1 if self.late_light == "transparent" else 0.0
        return np.sum(length * _WEIGHTS * self.spot(distance) * np.exp(lossless * distance), axis=1)

    def _true(self, zero_cm: float) -> Array:
        return np.maximum(self.length_cm - zero_cm, 0.0)


@dataclass(frozen=True)
class ShiftedSpotGain:
    """Gain with the collection taken out.

    :param gain_plus_loss: g + alpha. :param gain: g; None without a loss. :param fit: The fit behind them.
    :param spot_error_cm1: Standard deviation of the gain from the scatter of the spots, part of both intervals.
    :param loss_error_cm1: That from the loss, beside the interval. :param degree: Of the polynomial of ln S.
    :param late_light: What the data are for; the gain is that of transparent late light in any case.
    :param late_spread_cm1: How far the gain of absorbed late light lies off, times the root of its weight by BIC.
    """

    gain_plus_loss: Estimate
    gain: Estimate | None
    fit: GainFit
    spot_error_cm1: float
    loss_error_cm1: float
    degree: int
    late_light: LateLight
    late_spread_cm1: float
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return a dict for JSON."""
        return {
            "gain_plus_loss": self.gain_plus_loss.as_dict(),
            "gain": None if self.gain is None else self.gain.as_dict(),
            "fit": self.fit.as_dict(),
            "spot_error_cm1": self.spot_error_cm1,
            "loss_error_cm1": self.loss_error_cm1,
            "degree": self.degree,
            "late_light": self.late_light,
            "late_spread_cm1": self.late_spread_cm1,
            "warnings": list(self.warnings),
        }


def spot_curve(distance_um: ArrayLike, intensity: ArrayLike, error: ArrayLike | None = None) -> SpotCurve:
    """Return the smooth curve of the light of a spot against its distance from the edge.

    :param distance_um: Distances of the middle of the spot, µm, >= 0, [m]. :param intensity: Background-free, [m].
    :param error: Standard deviations; without them all have the same relative error, that of the scatter.

    Raises `NoGain` if fewer than five spots shine.
    """
    distance = 1e-4 * np.asarray(distance_um, dtype=float)
    light = np.asarray(intensity, dtype=float)
    sigma = np.full(light.shape, np.nan) if error is None else np.asarray(error, dtype=float)
    if distance.ndim != 1 or not distance.shape == light.shape == sigma.shape:
        raise ValueError(f"distances {distance.shape}, intensities {light.shape} and errors must be equally long lists")
    use = (light > 0) & np.isfinite(distance) & (distance >= 0)
    if int(use.sum()) < MIN_SPOTS:
        raise NoGain(f"only {int(use.sum())} shifted spots shine; the collection needs {MIN_SPOTS} or more")
    scale = float(distance[use].max())
    u, y = distance[use] / scale, np.log(light[use])
    relative = np.ones_like(y) if error is None else np.maximum(sigma[use] / light[use], 1e-6)
    found: list[tuple[float, Array, Array]] = []
    for degree in range(1, min(_HIGHEST_DEGREE, u.size - 3) + 1):
        basis = np.vander(u, degree + 1, increasing=True) / relative[:, None]
        coefficients, *_ = np.linalg.lstsq(basis, y / relative, rcond=None)
        chi2 = float(np.sum((basis @ coefficients - y / relative) ** 2))
        excess = max(chi2 / (u.size - degree - 1), 1e-12)
        bic = u.size * float(np.log(max(chi2, 1e-12) / u.size)) + degree * float(np.log(u.size))
        covariance: Array = np.asarray(excess * np.linalg.pinv(basis.T @ basis), dtype=float)
        found.append((bic, np.asarray(coefficients, dtype=float), covariance))
    _, coefficients, covariance = min(found, key=lambda candidate: candidate[0])
    return SpotCurve(coefficients, covariance, scale)


def shifted_spot_gain(
    points: StripePoints,
    prior: GainPrior,
    spot: SpotCurve,
    *,
    loss: Estimate | None = None,
    relative_error: float | None = None,
    length_error_cm: float = 0.0,
) -> ShiftedSpotGain:
    """Fit the gain of a stripe-length scan whose collection a scan of a spot has shown.

    :param points: The stripes (`labctl.analysis.vsl_gain.stripe_points`). :param prior: Zero and offset.
    :param spot: From `spot_curve`. :param loss: alpha, 1/cm; without it only g + alpha is given.
    :param relative_error: As for `labctl.analysis.vsl_gain.fit_gain`, as is ``length_error_cm``.
    """
    alpha = 0.0 if loss is None else loss.value
    fits: list[tuple[GainFit, ShiftedSpotStripe]] = []
    relative = relative_error
    models: tuple[GainModel, ...] = MODELS
    for late_light in _LATE_LIGHT if alpha > 0 else _LATE_LIGHT[:1]:
        shapes = ShiftedSpotStripe(points.length_cm, spot, alpha, late_light)
        fit = fit_shapes(shapes, points, prior, relative, length_error_cm, models, _GRID)
        fits.append((fit, shapes))
        if not fit.has_late_light:
            break
        # The other choice is judged for the same model with the same errors.
        relative = fit.relative_error
        models = (fit.model,)
    best, shapes = fits[0]
    late_light: LateLight = "transparent"
    spread, warnings = 0.0, list(best.warnings)
    if len(fits) > 1:
        absorbed = fits[1][0]
        lead = best.bic - absorbed.bic
        spread = abs(absorbed.gain.value - best.gain.value) * float(np.sqrt(special.expit(0.5 * lead)))
        if lead > _CLEARLY:
            late_light = "absorbed"
            warnings.append(
                f"late light looks as if the film absorbed it on its way; the gain would then be"
                f" {absorbed.gain.value:.1f} cm^-1"
            )
    if 1e4 * spot.scale_cm < 0.95 * best.data_range_um[1]:
        warnings.append(
            f"the shifted spots reach {1e4 * spot.scale_cm:.0f} um, the stripes {best.data_range_um[1]:.0f} um:"
            " beyond the last spot its value was taken"
        )
    spot_error = _spot_error(best, shapes, prior)
    return ShiftedSpotGain(
        gain_plus_loss=_widened(best.gain, spot_error, alpha),
        gain=None if loss is None else _widened(best.gain, spot_error, 0.0),
        fit=best,
        spot_error_cm1=spot_error,
        loss_error_cm1=0.0 if loss is None else loss.sd,
        degree=spot.coefficients.size - 1,
        late_light=late_light,
        late_spread_cm1=spread,
        warnings=tuple(warnings),
    )


def _widened(gain: Estimate, sd: float, shift: float) -> Estimate:
    """Return the gain, shifted, with each side of its intervals widened in quadrature."""
    ends = []
    for (low, high), reach in ((gain.ci68, sd), (gain.ci95, 1.96 * sd)):
        below, above = float(np.hypot(gain.value - low, reach)), float(np.hypot(high - gain.value, reach))
        ends.append((gain.value + shift - below, gain.value + shift + above))
    return Estimate(gain.value + shift, gain.unit, ends[0], ends[1])


def _spot_error(best: GainFit, shapes: ShiftedSpotStripe, prior: GainPrior) -> float:
    """Return the standard deviation of the gain from the scatter of the spots, along the axes of its covariance."""
    size, axes = np.linalg.eigh(shapes.spot.covariance)
    moved = 0.0
    for variance, axis in zip(size, axes.T, strict=True):
        if variance <= 0:
            continue
        spot = replace(shapes.spot, coefficients=shapes.spot.coefficients + np.sqrt(variance) * axis)
        fit = CurveFit(replace(shapes, spot=spot), best.points.intensity, 1.0 / best.sigma, prior, best.model, _GRID)
        moved += (fit.refit(best.curve, None).curve.gain_cm1 - best.gain.value) ** 2
    return float(np.sqrt(moved))
