"""Net modal gain from the light of stripes of many lengths: choice of the model, interval, spread over the models.

Four models are compared (`labctl.analysis.vsl_fit`): with and without saturation, with and without light that is
emitted after the gain has gone. All share the same errors, that of the richest model's curve: sigma^2 = error^2 + (r
I)^2 + (dI/dL sigma_L)^2, with r the relative error per length. Without a given r it is what makes chi2 of the richest
model equal to its degrees of freedom. The model of the lowest BIC gives the gain; a richer one must be lower by more
than 2.

Intervals are profiles over the gain, and they take in the choice of the model: a gain belongs to the interval if any of
the models reaches it with a BIC that lies above the lowest by no more than the rise of the profile. A model that is
nearly as good as the chosen one so widens the interval; one that is clearly worse does not.

The rises are those of the F distribution (4.3 instead of 3.84 for 22 degrees of freedom) even where the errors are
given: they were rarely known better than the scatter of the points shows, and the choice of the model costs a little
too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special

from labctl.analysis.estimate import Estimate, data_hash, finite_or_none
from labctl.analysis.vsl_amplification import Array, saturation_length_cm
from labctl.analysis.vsl_fit import (
    MODELS,
    PARAMETERS,
    CurveFit,
    Fitted,
    GainModel,
    GainPrior,
    StripeCurve,
    numeric_slope,
    profile_ends,
)
from labctl.analysis.vsl_shapes import EvenStripe, StripeShapes

UNIT = "cm^-1"
MIN_LENGTHS = 7
FIRST_RELATIVE_ERROR = 0.02
MISFIT_WARNING = 2.5
BIC_GAIN = 2.0
"""A further parameter is kept when it lowers BIC by more than this."""
_LEVELS = (0.6827, 0.95)


class NoGain(ValueError):
    """The data hold no gain that could be fitted; the text says why and what to do."""


@dataclass(frozen=True)
class StripePoints:
    """Lengths (cm, ascending) and intensities that enter a fit, all [n].

    :param error: Standard deviation of each intensity by itself, 0 where only the relative error counts.
    """

    length_cm: Array
    intensity: Array
    error: Array
    excluded: int
    sha256: str


@dataclass(frozen=True)
class ModelVerdict:
    """What one model says: gain (1/cm), chi2, BIC, and its weight exp(-(BIC - lowest)/2) among all."""

    model: GainModel
    gain_cm1: float
    chi2: float
    bic: float
    weight: float


@dataclass(frozen=True)
class GainFit:
    """Gain of one stripe-length scan.

    :param gain: Net modal gain. :param models: Every model that was compared, lowest BIC first.
    :param curve: Parameters of the chosen one. :param saturation_length_um: Where saturation has taken a tenth of the
        light; None if none is seen. :param amplified_share: Share of the emission that is there while the gain lives.
    :param model_spread_cm1: Standard deviation of the gain over the models, weighted by BIC.
    :param relative_error: Relative error per length that was used; ``error_estimated`` if the data gave it.
    :param error_scale: Factor on all errors (from chi2/dof of the best description, at least 1).
    """

    gain: Estimate
    model: GainModel
    models: tuple[ModelVerdict, ...]
    curve: StripeCurve
    zero_um: float
    saturation_length_um: float | None
    amplified_share: float
    model_spread_cm1: float
    relative_error: float
    error_estimated: bool
    error_scale: float
    n_points: int
    n_excluded: int
    data_range_um: tuple[float, float]
    dof: int
    chi2: float
    interval: str
    data_sha256: str
    shapes: StripeShapes
    points: StripePoints
    sigma: Array
    warnings: tuple[str, ...]

    @property
    def bic(self) -> float:
        """Get the BIC of the chosen model."""
        return next(verdict.bic for verdict in self.models if verdict.model == self.model)

    @property
    def aic(self) -> float:
        """Get the AIC of the chosen model."""
        k = self.n_points - self.dof
        return self.bic - k * float(np.log(self.n_points)) + 2 * k

    @property
    def saturates(self) -> bool:
        """Get whether the chosen model saturates."""
        return self.model.startswith("saturation")

    @property
    def has_late_light(self) -> bool:
        """Get whether the chosen model has light from after the gain."""
        return self.model.endswith("late light")

    def as_dict(self) -> dict[str, Any]:
        """Return a dict for JSON; the points and the curve's arrays are not in it."""
        return {
            **self.gain.as_dict(),
            "model": self.model,
            "models": [
                {"model": m.model, "gain_cm1": m.gain_cm1, "chi2": m.chi2, "bic": m.bic, "weight": m.weight}
                for m in self.models
            ],
            "zero_um": self.zero_um,
            "spontaneous_per_cm": self.curve.spontaneous,
            "late_per_cm": self.curve.late,
            "offset": self.curve.offset,
            "saturation_intensity": finite_or_none(self.curve.saturation),
            "saturation_length_um": self.saturation_length_um,
            "amplified_share": finite_or_none(self.amplified_share),
            "model_spread_cm1": self.model_spread_cm1,
            "relative_error": self.relative_error,
            "error_estimated": self.error_estimated,
            "error_scale": self.error_scale,
            "n_points": self.n_points,
            "n_excluded": self.n_excluded,
            "data_range_um": list(self.data_range_um),
            "dof": self.dof,
            "chi2": self.chi2,
            "aic": self.aic,
            "bic": self.bic,
            "interval": self.interval,
            "data_sha256": self.data_sha256,
            "warnings": list(self.warnings),
        }


def stripe_points(
    length_um: ArrayLike, intensity: ArrayLike, error: ArrayLike | None = None, excluded: ArrayLike | None = None
) -> StripePoints:
    """Return the usable points, ascending in length; raises ValueError on malformed input.

    Left out and counted: points marked in ``excluded`` (a saturated detector), lengths <= 0, numbers that are not
    finite, and intensities <= 0 that have no error of their own.
    """
    length = np.asarray(length_um, dtype=float)
    light = np.asarray(intensity, dtype=float)
    sigma = np.zeros_like(light) if error is None else np.asarray(error, dtype=float)
    left_out = np.zeros(light.shape, dtype=bool) if excluded is None else np.asarray(excluded, dtype=bool)
    if length.ndim != 1 or not length.shape == light.shape == sigma.shape == left_out.shape:
        raise ValueError(
            f"stripe lengths {length.shape}, intensities {light.shape}, errors {sigma.shape} and exclusions"
            f" {left_out.shape} must be one-dimensional and equally long"
        )
    if np.any(sigma < 0):
        raise ValueError("errors of the intensity must not be negative")
    use = ~left_out & np.isfinite(length) & np.isfinite(light) & np.isfinite(sigma) & (length > 0)
    use &= (light > 0) | (sigma > 0)
    order = np.flatnonzero(use)[np.argsort(length[use], kind="stable")]
    return StripePoints(
        1e-4 * length[order],
        light[order],
        sigma[order],
        int(length.size - order.size),
        data_hash(length, light, None if error is None else sigma),
    )


def fit_gain(
    length_um: ArrayLike,
    intensity: ArrayLike,
    *,
    error: ArrayLike | None = None,
    relative_error: float | None = None,
    length_error_um: float = 0.0,
    zero_um: float = 0.0,
    zero_error_um: float = 3.0,
    offset: float = 0.0,
    offset_error: float = 0.0,
    excluded: ArrayLike | None = None,
    models: tuple[GainModel, ...] = MODELS,
) -> GainFit:
    """Fit the net modal gain of an evenly pumped, evenly collected stripe.

    :param length_um: Stripe lengths as read, µm, [n]. :param intensity: Light of a band, [n], any linear unit.
    :param error: Standard deviation of each intensity by itself (counting, read-out), [n], without what
        ``relative_error`` stands for: the scatter from length to length, estimated from the data if None.
    :param length_error_um: Standard deviation of each length by itself.
    :param zero_um: Reading at which the stripe has no length, from the scan of the edge, with its standard deviation;
        0 holds it. :param offset: What is left without stripe, with its standard deviation; 0 holds it.
    :param models: Models to choose from.

    Raises `NoGain` when the data cannot give one, ValueError on malformed input.
    """
    points = stripe_points(length_um, intensity, error, excluded)
    _require_points(points)
    prior = GainPrior(1e-4 * zero_um, 1e-4 * zero_error_um, offset, offset_error)
    return fit_shapes(EvenStripe(points.length_cm), points, prior, relative_error, 1e-4 * length_error_um, models)


def fit_shapes(
    shapes: StripeShapes,
    points: StripePoints,
    prior: GainPrior,
    relative_error: float | None = None,
    length_error_cm: float = 0.0,
    models: tuple[GainModel, ...] = MODELS,
    grid: tuple[int, int] = (44, 26),
) -> GainFit:
    """Fit the gain with given curves of amplified and late light; see `fit_gain` for the other arguments."""
    n = points.length_cm.size
    usable: tuple[GainModel, ...] = tuple(m for m in models if n > PARAMETERS[m] + 2)
    sigma, relative = _errors(shapes, points, prior, relative_error, length_error_cm, usable, grid)
    weight = 1.0 / sigma
    fits: dict[GainModel, CurveFit] = {m: CurveFit(shapes, points.intensity, weight, prior, m, grid) for m in usable}
    found: dict[GainModel, Fitted] = {m: best for m, fit in fits.items() if (best := fit.best()) is not None}
    if not found:
        raise NoGain(
            "no model describes the light as growing with the stripe: is it the emission of the stripe at all?"
        )
    scale = max(1.0, min(f.chi2 / max(n - fits[m].parameters, 1) for m, f in found.items()))
    best, ends = _intervals(fits, found, scale)
    found[best.model] = best
    verdicts = _verdicts(fits, found, scale)
    dof = n - fits[best.model].parameters
    curve = best.curve
    saturation = saturation_length_cm(curve.gain_cm1, curve.depth)
    emitted = curve.spontaneous + curve.late
    return GainFit(
        gain=Estimate(curve.gain_cm1, UNIT, ends[_LEVELS[0]], ends[_LEVELS[1]]),
        model=best.model,
        models=verdicts,
        curve=curve,
        zero_um=1e4 * curve.zero_cm,
        saturation_length_um=None if saturation is None else 1e4 * saturation,
        amplified_share=curve.spontaneous / emitted if emitted > 0 else np.nan,
        model_spread_cm1=_spread(verdicts),
        relative_error=relative,
        error_estimated=relative_error is None,
        error_scale=float(np.sqrt(scale)),
        n_points=n,
        n_excluded=points.excluded,
        data_range_um=(1e4 * float(points.length_cm[0]), 1e4 * float(points.length_cm[-1])),
        dof=dof,
        chi2=best.chi2,
        interval="profile F",
        data_sha256=points.sha256,
        shapes=shapes,
        points=points,
        sigma=sigma,
        warnings=_warnings(best, points, prior, scale, relative_error),
    )


def _require_points(points: StripePoints) -> None:
    distinct = np.unique(points.length_cm).size
    if distinct < MIN_LENGTHS:
        raise NoGain(
            f"only {distinct} usable stripe lengths ({points.excluded} were left out); a gain needs at least"
            f" {MIN_LENGTHS}, and 20 or more to tell saturation and late light apart"
        )


def _errors(
    shapes: StripeShapes,
    points: StripePoints,
    prior: GainPrior,
    given: float | None,
    length_error_cm: float,
    models: tuple[GainModel, ...],
    grid: tuple[int, int],
) -> tuple[Array, float]:
    """Return sigma [n] of the intensities and the relative error that is in it."""
    if not models:
        raise NoGain("too few stripe lengths for any model")
    relative = FIRST_RELATIVE_ERROR if given is None else given
    level, slope = np.abs(points.intensity - prior.offset), np.zeros_like(points.intensity)
    sigma = _sigma(points, relative, level, slope, length_error_cm)
    if given == 0.0 and length_error_cm == 0.0:
        return sigma, 0.0
    curve: StripeCurve | None = None
    for _ in range(2 if given is None else 1):
        # The richest model follows the data best, so its curve sets the errors of all.
        fit = CurveFit(shapes, points.intensity, 1.0 / sigma, prior, models[-1], grid)
        best = fit.best() if curve is None else fit.refit(curve, None)
        if best is None:
            break
        curve = best.curve
        level = np.abs(curve.values(shapes) - curve.offset)
        if length_error_cm > 0:
            slope = numeric_slope(lambda length, c=curve: c.values(shapes.at(length)), points.length_cm)
        if given is None:
            # Zero and offset have priors, but where those are wide they follow the points like any parameter.
            followed = fit.parameters + (prior.zero_error_cm > 0) + (prior.offset_error > 0)
            dof = max(points.length_cm.size - followed, 1)
            missed = points.intensity - curve.values(shapes)
            relative = relative_scatter(missed, np.hypot(points.error, slope * length_error_cm), level, dof)
        sigma = _sigma(points, relative, level, slope, length_error_cm)
    return sigma, relative


def _sigma(points: StripePoints, relative: float, level: Array, slope: Array, length_error_cm: float) -> Array:
    total = np.sqrt(points.error**2 + (relative * level) ** 2 + (slope * length_error_cm) ** 2)
    # A perfect curve without any error still needs finite weights.
    return np.maximum(total, 1e-9 * np.max(np.abs(points.intensity)))


def relative_scatter(missed: Array, error: Array, level: Array, dof: int) -> float:
    """Return the relative error with which chi2 equals ``dof``; 1e-5 if the other errors explain the scatter.

    :param missed: [n]. :param error: [n], those other errors. :param level: What the relative error is one of, [n].
    """
    fixed = error**2

    def excess(log_relative: float) -> float:
        variance = fixed + (np.exp(log_relative) * level) ** 2
        return float(np.sum(missed**2 / np.maximum(variance, 1e-300))) - dof

    low, high = float(np.log(1e-5)), 0.0
    if excess(low) <= 0.0:
        return float(np.exp(low))
    if excess(high) >= 0.0:
        return 1.0
    return float(np.exp(optimize.root_scalar(excess, bracket=(low, high)).root))


def _intervals(
    fits: dict[GainModel, CurveFit], found: dict[GainModel, Fitted], scale: float
) -> tuple[Fitted, dict[float, tuple[float, float]]]:
    """Return the best fit and the union of the profiles of all models that come near its BIC."""
    n = next(iter(fits.values())).intensity.size

    def bic(fitted: Fitted) -> float:
        return fitted.chi2 / scale + fits[fitted.model].parameters * float(np.log(n))

    best = min(found.values(), key=lambda fitted: bic(fitted) + BIC_GAIN * fits[fitted.model].parameters)
    dof = max(n - fits[best.model].parameters, 1)
    rises = {q: float(special.fdtri(1, dof, q)) for q in _LEVELS}
    best, ends = profile_ends(fits[best.model], best, {q: scale * rise for q, rise in rises.items()})
    lowest = bic(best)
    for model, fitted in found.items():
        left = {q: rise - (bic(fitted) - lowest) for q, rise in rises.items()}
        left = {q: scale * rise for q, rise in left.items() if rise > 0.0}
        if model == best.model or not left:
            continue
        for q, (low, high) in profile_ends(fits[model], fitted, left)[1].items():
            ends[q] = min(ends[q][0], low), max(ends[q][1], high)
    return best, ends


def _verdicts(
    fits: dict[GainModel, CurveFit], found: dict[GainModel, Fitted], scale: float
) -> tuple[ModelVerdict, ...]:
    n = next(iter(fits.values())).intensity.size
    plain = [
        ModelVerdict(m, f.curve.gain_cm1, f.chi2, f.chi2 / scale + fits[m].parameters * float(np.log(n)), 0.0)
        for m, f in found.items()
    ]
    lowest = min(v.bic for v in plain)
    weights = np.exp(-0.5 * (np.array([v.bic for v in plain]) - lowest))
    weights /= weights.sum()
    weighed = [replace(v, weight=float(w)) for v, w in zip(plain, weights, strict=True)]
    return tuple(sorted(weighed, key=lambda v: v.bic))


def _spread(verdicts: tuple[ModelVerdict, ...]) -> float:
    gains, weights = np.array([v.gain_cm1 for v in verdicts]), np.array([v.weight for v in verdicts])
    mean = float(gains @ weights)
    return float(np.sqrt(weights @ (gains - mean) ** 2))


def _warnings(
    best: Fitted, points: StripePoints, prior: GainPrior, scale: float, relative_error: float | None
) -> tuple[str, ...]:
    warnings = []
    if points.length_cm.size < 20:
        warnings.append(f"{points.length_cm.size} stripe lengths are few: measure 20 or more")
    if relative_error is not None and scale > MISFIT_WARNING:
        warnings.append(
            f"the points miss every model by {np.sqrt(scale):.1f} times their errors; the interval is as much wider"
        )
    gl = best.curve.gain_cm1 * float(points.length_cm[-1])
    if 0 < gl < 1:
        warnings.append(f"the longest stripe reaches only g L = {gl:.2f}: the gain rests on a slight curvature")
    if prior.zero_error_cm > 0:
        pull = abs(best.curve.zero_cm - prior.zero_cm) / prior.zero_error_cm
        if pull > 3:
            warnings.append(
                f"the stripe zero moved by {pull:.1f} times its error from where the scan of the edge put it:"
                " find the edge anew"
            )
    return tuple(warnings)
