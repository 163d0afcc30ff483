"""Threshold of a fluence sweep as the knee of ln(intensity) against ln(fluence).

The default definition, ``loglog_knee``: the position x_t of a smooth hinge (`labctl.analysis.hinge`) fitted to
ln I(ln F), with a saturation branch when the data ask for it. The knee of a film that saturates smoothly depends on
the range fitted, so the range belongs to the definition: all unsaturated points up to ``FIT_RANGE_TOP`` times the
threshold.

Errors. sigma_eff^2 = sigma_lnI^2 + (dy/dx)^2 sigma_lnF^2, with the slope of the fit, iterated. Intervals are profiles
over x_t. With intensity errors given, chi2 is scaled by max(1, chi2/dof), so a curve that the hinge does not describe
gives a wider interval, never a narrower one. Without them the relative error is taken as the same at every point, its
size as the residual scatter. Whenever a scale came from the residuals the limits are those of the F distribution, else
those of chi2 (1 and 3.84).

How soon the saturation branch may begin is part of the definition. What other sensible choices would give stands beside
the interval as ``definition_error``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from labctl.analysis.hinge import (
    DISTANCE_BOUNDS_IN_USE,
    PARAMETERS,
    SATURATION_DISTANCE_RANGE,
    Array,
    HingeParameters,
    Model,
    fit_line,
    polish,
    search_grid,
)
from labctl.analysis.misfit import erratic_share
from labctl.analysis.profile import Candidate, Profile, threshold_intervals
from labctl.analysis.sweep_points import SweepPoints, prepare
from labctl.analysis.threshold import Misfit, NoThreshold, ThresholdFit

__all__ = ["NoThreshold", "ThresholdFit", "loglog_knee"]

FIT_RANGE_TOP = 6.0
"""Points above this multiple of the threshold are left out: saturation there tells nothing about the knee."""
BIC_GAIN_SATURATION = 2.0
"""The saturation branch is kept when it lowers BIC by more than this."""
BIC_GAIN_KNEE = 6.0
"""A rising knee must beat both the straight line and the falling knee by this much BIC ("strong evidence")."""
MIN_SLOPE_RISE = 0.2
"""A knee whose slope rises by less than this is no ASE threshold, however significant."""
MISFIT_WARNING = 4.0
"""chi2/dof above which a warning says so. A film that saturates gently reaches 2 with errors of 1 %."""
MISFIT_SCATTER = 0.03
"""A hinge is an idealisation good to a percent or two: points known better than that always miss it, and only a scatter
beyond this share is worth a word. The interval is widened in either case."""
MISFIT_SHAPE = 0.10
"""Healthy curves bend otherwise than a hinge: PL saturates below the threshold, and quantum rings reach, just above it,
twice the slope that the hinge gives them. Where neighbouring points agree and only the shape is another (3 to 4 % for
rings), a warning follows beyond this share."""
ERRATIC = 0.5
"""Departures count as scatter when this share of them is not common to neighbouring points; healthy films and rings
stay below 0.35, noise and damage during the sweep give 1 and more."""
BOUND_REACHED = 0.005
"""D closer than this to an end of its range has been held there by it."""
MIN_POINTS = 7
MIN_EACH_SIDE = 3
_RISING: tuple[tuple[Model, bool], ...] = (("hinge", False), ("hinge+saturation", True))
_KNEES = 40
Knee = Candidate[HingeParameters]


@dataclass(frozen=True)
class _Selection:
    chosen: Knee
    weight: Array
    scale: float
    """Variance scale s^2 by which chi2 is divided."""
    bic_flat: float
    """Lowest BIC among the models without a rising knee."""

    def chi2_scaled(self, candidate: Knee) -> float:
        return candidate.chi2 / self.scale

    def bic(self, candidate: Knee) -> float:
        return self.chi2_scaled(candidate) + PARAMETERS[candidate.model] * float(np.log(self.weight.size))


def loglog_knee(
    fluence: ArrayLike,
    intensity: ArrayLike,
    *,
    fluence_error: ArrayLike | None = None,
    intensity_error: ArrayLike | None = None,
    saturated: ArrayLike | None = None,
    convention: str = "peak_gauss",
    fluence_unit: str = "uJ/cm^2",
    quick: bool = False,
) -> ThresholdFit:
    """Fit the knee of ln(intensity) against ln(fluence).

    All arrays have shape [n], in any order; repeated fluences are welcome. ``fluence`` > 0 in ``fluence_unit``;
    ``intensity`` is background-subtracted, in any linear unit; points <= 0 are left out and counted. Errors are
    standard deviations in the units of their quantity. ``saturated`` marks points (detector full scale) that never
    enter a fit. ``quick`` skips the profile: the intervals are then infinite (for a live curve).

    Raises `NoThreshold` when the data hold none, ValueError on malformed input.
    """
    data = prepare(fluence, intensity, fluence_error, intensity_error, saturated)
    _require_points(data)
    if not data.errors_given:
        data = replace(data, sigma_y=np.full(data.x.size, _scatter(data.x, data.y)))
    window = data
    selection = _select(data)
    for _ in range(4):
        top = selection.chosen.parameters.log_threshold + float(np.log(FIT_RANGE_TOP))
        narrowed = data.below(top)
        if narrowed.x.size == window.x.size or narrowed.distinct < MIN_POINTS:
            break
        window = narrowed
        selection = _select(window)
    _require_knee(window, selection)
    return _result(window, selection, convention, fluence_unit, quick)


def _scatter(x: Array, y: Array) -> float:
    """Return the standard deviation of y about the best grid hinge: a start for the errors when none were given."""
    weight = np.ones_like(x)
    knees = np.linspace(x[1], x[-2], _KNEES)
    residuals = [fit_line(x, y, weight)[2]]
    dofs = [x.size - 2]
    for model, saturation in _RISING:
        if x.size > PARAMETERS[model] + 1:
            starts = search_grid(x, y, weight * 1e3, knees, saturation=saturation, keep=1)
            residuals += [chi2 / 1e6 for chi2, _ in starts]
            dofs += [x.size - PARAMETERS[model]] * len(starts)
    return max(float(np.sqrt(min(r / d for r, d in zip(residuals, dofs, strict=True)))), 1e-4)


def _require_points(data: SweepPoints) -> None:
    if data.distinct < MIN_POINTS:
        raise NoThreshold(
            "too few points",
            f"only {data.distinct} usable fluences (excluded: {data.excluded}); the knee needs at least {MIN_POINTS}",
        )


def _select(data: SweepPoints) -> _Selection:
    """Choose among line, falling knee, knee, and knee with saturation; all with the same effective errors."""
    x, y = data.x, data.y
    n = x.size
    distinct = np.unique(x)
    knees = np.linspace(distinct[1], distinct[-2], _KNEES)
    weight = data.weight(1.5)
    rising: list[Knee] = []
    for iteration in range(3):
        if iteration == 0:
            rising = [
                best
                for model, saturation in _RISING
                if n > PARAMETERS[model] + 1 and (best := _search(x, y, weight, knees, model, saturation)) is not None
            ]
        else:
            rising = [Candidate(c.model, *polish(x, y, weight, c.parameters)) for c in rising]
        if not rising:
            break
        # The richest model follows the data best, so its slope sets the effective errors of all.
        weight = data.weight(rising[-1].parameters.slope(x))
    flat = [Candidate("line", fit_line(x, y, weight)[2], HingeParameters(float(x.mean()), 0.0, 0.0, 0.0, 0.1))]
    falling = search_grid(x, y, weight, knees, saturation=False, rising=False, keep=1)
    if falling:
        flat.append(Candidate("concave", *polish(x, y, weight, falling[0][1])))
    if not rising:
        raise NoThreshold(
            "slope does not change",
            "no threshold in range: the slope of ln I against ln F never rises"
            " (the threshold may lie below the lowest fluence or above the highest)",
        )
    rising = [Candidate(c.model, *polish(x, y, weight, c.parameters)) for c in rising]
    scale = _variance_scale([*rising, *flat], n)
    draft = _Selection(rising[0], weight, scale, 0.0)
    bic_flat = min(draft.bic(c) for c in flat)
    chosen = rising[0]
    if len(rising) > 1 and draft.bic(rising[1]) < draft.bic(rising[0]) - BIC_GAIN_SATURATION:
        chosen = rising[1]
    return _Selection(chosen, weight, scale, bic_flat)


def _search(x: Array, y: Array, weight: Array, knees: Array, model: Model, saturation: bool) -> Knee | None:
    starts = search_grid(x, y, weight, knees, saturation=saturation)
    if not starts:
        return None
    chi2, parameters = min((polish(x, y, weight, p) for _, p in starts), key=lambda found: found[0])
    return Candidate(model, chi2, parameters)


def _variance_scale(candidates: list[Knee], n: int) -> float:
    """Return s^2: the smallest residual variance that any model reaches, at least 1."""
    return max(1.0, min(c.chi2 / max(n - PARAMETERS[c.model], 1) for c in candidates))


def _require_knee(data: SweepPoints, selection: _Selection) -> None:
    chosen = selection.chosen
    p = chosen.parameters
    rise = p.slope_above - p.slope_below
    if selection.bic(chosen) > selection.bic_flat - BIC_GAIN_KNEE or rise < MIN_SLOPE_RISE:
        raise NoThreshold(
            "slope does not change",
            f"no threshold in range: a knee (slope {p.slope_below:.2f} to {p.slope_above:.2f} at"
            f" {np.exp(p.log_threshold):.4g}) explains the data no better than a curve without one",
        )
    distinct = np.unique(np.round(data.x, 6))
    below = int(np.sum(distinct < p.log_threshold))
    above = int(np.sum(distinct > p.log_threshold))
    for side, count, remedy in (("below", below, "lower"), ("above", above, "higher")):
        if count < MIN_EACH_SIDE:
            raise NoThreshold(
                f"too few points {side} the knee",
                f"a knee shows near {np.exp(p.log_threshold):.4g}, but only {count} fluences lie {side} it;"
                f" measure at {remedy} fluences",
            )


def _result(data: SweepPoints, selection: _Selection, convention: str, unit: str, quick: bool) -> ThresholdFit:
    chosen = selection.chosen
    dof = data.x.size - PARAMETERS[chosen.model]
    scale = max(1.0, chosen.chi2 / max(dof, 1))
    estimated = not data.errors_given or scale > 1.0
    warnings: list[str] = []
    levels = (0.6827, 0.95)
    if quick:
        intervals = {level: (0.0, np.inf) for level in levels}
        interval, definition_error = "none", None
    else:
        rises = {q: float(special.fdtri(1, max(dof, 1), q) if estimated else special.chdtri(1, 1 - q)) for q in levels}
        profile = _profile(data, selection.weight)
        chosen, ends = profile.intervals(chosen, rises, scale)
        intervals, warnings = threshold_intervals(ends, profile.edges)
        interval = "profile F" if estimated else "profile chi2"
        definition_error = _definition_error(data, selection.weight, chosen)
    p = chosen.parameters
    k = PARAMETERS[chosen.model]
    misfit = chosen.chi2 / max(dof, 1)
    scatter = float(np.sqrt(misfit / np.mean(selection.weight**2)))
    improbable = data.errors_given and misfit > MISFIT_WARNING and special.chdtrc(max(dof, 1), chosen.chi2) < 1e-3
    departure: Misfit = "none"
    if improbable:
        erratic = erratic_share(data.x, data.y - p.curve(data.x), 1.0 / selection.weight) > ERRATIC
        departure = "scatter" if erratic else "shape"
    if departure == "scatter" and scatter > MISFIT_SCATTER:
        warnings.append(
            f"the points scatter by {100 * scatter:.0f} % about the curve, beyond their errors (chi2/dof ="
            f" {misfit:.1f}): they are less well known than stated, or laser or sample changed during the sweep; the"
            f" interval of the threshold is {np.sqrt(scale):.1f} times as wide for it"
        )
    elif departure == "shape" and scatter > MISFIT_SHAPE:
        warnings.append(
            f"the points follow a smooth curve that is no hinge (it departs from one by {100 * scatter:.0f} %): look at"
            f" the figure before using the threshold, whose interval is {np.sqrt(scale):.1f} times as wide for it"
        )
    return ThresholdFit(
        value=float(np.exp(p.log_threshold)),
        unit=unit,
        ci68=intervals[levels[0]],
        ci95=intervals[levels[1]],
        model=chosen.model,
        convention=convention,
        slope_below=p.slope_below,
        slope_above=p.slope_above,
        slope_saturated=p.slope_saturated,
        saturation_fluence=None if p.distance is None else float(np.exp(p.log_threshold + p.distance)),
        softness=p.softness,
        data_range=(float(np.exp(data.x[0])), float(np.exp(data.x[-1]))),
        n_points=int(data.x.size),
        n_excluded=data.excluded,
        dof=dof,
        chi2=chosen.chi2,
        chi2_scaled=selection.chi2_scaled(chosen),
        aic=selection.chi2_scaled(chosen) + 2 * k,
        bic=selection.bic(chosen),
        error_scale=float(np.sqrt(scale)),
        scatter=scatter,
        misfit=departure,
        interval=interval,
        distance_at_bound=_at_bound(p),
        definition_error=definition_error,
        data_sha256=data.sha256,
        parameters=p,
        warnings=tuple(warnings),
    )


def _profile(data: SweepPoints, weight: Array) -> Profile[HingeParameters]:
    def refit(start: HingeParameters, knee: float | None) -> tuple[float, HingeParameters]:
        return polish(data.x, data.y, weight, start, fixed_knee=knee)

    return Profile(refit, lambda p: p.log_threshold, (float(data.x[0]), float(data.x[-1])), step=0.008)


def _at_bound(p: HingeParameters) -> bool:
    return p.distance is not None and min(abs(p.distance - end) for end in SATURATION_DISTANCE_RANGE) < BOUND_REACHED


def _definition_error(data: SweepPoints, weight: Array, chosen: Knee) -> float:
    """Return half the relative spread of the knee over the lower bounds of D that are in use, 0 without saturation."""
    if chosen.parameters.distance is None:
        return 0.0
    knees = [chosen.parameters.log_threshold]
    for bound in DISTANCE_BOUNDS_IN_USE:
        allowed = (bound, SATURATION_DISTANCE_RANGE[1])
        found = polish(data.x, data.y, weight, chosen.parameters, distance_range=allowed)[1]
        knees.append(found.log_threshold)
    return float(0.5 * np.ptp(np.exp(np.array(knees) - knees[0])))
