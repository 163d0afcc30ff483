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
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from labctl.analysis.estimate import Estimate, data_hash, finite_or_none
from labctl.analysis.hinge import PARAMETERS, Array, HingeParameters, Model, fit_line, polish, search_grid

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
MIN_POINTS = 7
MIN_EACH_SIDE = 3
_RISING: tuple[tuple[Model, bool], ...] = (("hinge", False), ("hinge+saturation", True))
_KNEES = 40
_PROFILE_POINTS = 24


class NoThreshold(ValueError):
    """The data hold no threshold. ``reason`` is a short code, the message says what was seen and what to do."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class ThresholdFit:
    """Knee of a fluence sweep. Fluences are in ``unit`` and follow ``convention``."""

    value: float
    unit: str
    ci68: tuple[float, float]
    ci95: tuple[float, float]
    model: Model
    convention: str
    slope_below: float
    slope_above: float
    slope_saturated: float | None
    saturation_fluence: float | None
    softness: float
    data_range: tuple[float, float]
    n_points: int
    n_excluded: dict[str, int]
    dof: int
    chi2: float
    aic: float
    bic: float
    error_scale: float
    """Factor by which the errors were widened (1 when they explain the scatter)."""
    scatter: float
    """Weighted rms of the relative residuals of the intensity."""
    interval: str
    """How the intervals were made: "profile chi2", "profile F" or "none" (quick fit)."""
    data_sha256: str
    parameters: HingeParameters
    warnings: tuple[str, ...] = field(default=())

    @property
    def estimate(self) -> Estimate:
        """Get the threshold as a value with intervals."""
        return Estimate(self.value, self.unit, self.ci68, self.ci95)

    def curve(self, fluence: ArrayLike) -> Array:
        """Return the fitted intensity at ``fluence`` (any shape, in ``unit``), in the units of the input intensity."""
        return np.exp(self.parameters.curve(np.log(np.asarray(fluence, dtype=float))))

    def local_slope(self, fluence: ArrayLike) -> Array:
        """Return d ln I / d ln F of the fit at ``fluence`` (any shape, in ``unit``)."""
        return self.parameters.slope(np.log(np.asarray(fluence, dtype=float)))

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the curve as a dict for JSON."""
        return {
            **self.estimate.as_dict(),
            "definition": "loglog_knee",
            "model": self.model,
            "convention": self.convention,
            "slope_below": self.slope_below,
            "slope_above": self.slope_above,
            "slope_saturated": self.slope_saturated,
            "saturation_fluence": self.saturation_fluence,
            "softness": self.softness,
            "data_range": list(self.data_range),
            "n_points": self.n_points,
            "n_excluded": dict(self.n_excluded),
            "dof": self.dof,
            "chi2": finite_or_none(self.chi2),
            "aic": finite_or_none(self.aic),
            "bic": finite_or_none(self.bic),
            "error_scale": finite_or_none(self.error_scale),
            "scatter": finite_or_none(self.scatter),
            "interval": self.interval,
            "data_sha256": self.data_sha256,
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True)
class _Data:
    """The usable points, sorted by fluence, in logarithms."""

    x: Array
    y: Array
    sigma_x: Array
    sigma_y: Array
    errors_given: bool
    excluded: dict[str, int]
    sha256: str

    def below(self, top_x: float) -> _Data:
        keep = self.x <= top_x
        return replace(
            self,
            x=self.x[keep],
            y=self.y[keep],
            sigma_x=self.sigma_x[keep],
            sigma_y=self.sigma_y[keep],
            excluded=self.excluded | {"above_fit_range": int(np.sum(~keep))},
        )

    def weight(self, slope: Array | float) -> Array:
        """Return 1/sigma_eff at the local slope dy/dx of the fit."""
        return 1.0 / np.sqrt(self.sigma_y**2 + (slope * self.sigma_x) ** 2)


@dataclass(frozen=True)
class _Candidate:
    model: Model
    chi2: float
    parameters: HingeParameters


@dataclass(frozen=True)
class _Selection:
    chosen: _Candidate
    weight: Array
    scale: float
    """Variance scale s^2 by which chi2 is divided."""
    bic_flat: float
    """Lowest BIC among the models without a rising knee."""

    def bic(self, candidate: _Candidate) -> float:
        return candidate.chi2 / self.scale + PARAMETERS[candidate.model] * float(np.log(self.weight.size))


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
    data = _prepare(fluence, intensity, fluence_error, intensity_error, saturated)
    _require_points(data)
    window = data
    selection = _select(data)
    for _ in range(4):
        top = selection.chosen.parameters.log_threshold + float(np.log(FIT_RANGE_TOP))
        narrowed = data.below(top)
        if narrowed.x.size == window.x.size or narrowed.x.size < MIN_POINTS:
            break
        window = narrowed
        selection = _select(window)
    _require_knee(window, selection)
    return _result(window, selection, convention, fluence_unit, quick)


def _prepare(
    fluence: ArrayLike,
    intensity: ArrayLike,
    fluence_error: ArrayLike | None,
    intensity_error: ArrayLike | None,
    saturated: ArrayLike | None,
) -> _Data:
    f = np.asarray(fluence, dtype=float)
    i = np.asarray(intensity, dtype=float)
    if f.ndim != 1 or f.shape != i.shape:
        raise ValueError(f"fluence and intensity must be one-dimensional and alike, got shapes {f.shape} and {i.shape}")
    if not np.all(f > 0) or not np.all(np.isfinite(f)):
        raise ValueError("every fluence must be finite and > 0: check the energy readings of the sweep")
    sf = _errors("fluence_error", fluence_error, f)
    si = _errors("intensity_error", intensity_error, f)
    full = np.zeros(f.shape, bool) if saturated is None else np.asarray(saturated, dtype=bool)
    if full.shape != f.shape:
        raise ValueError(f"saturated must have shape {f.shape}, got {full.shape}")
    positive = np.isfinite(i) & (i > 0)
    if si is not None and np.any(positive & ~full & (si == 0)):
        raise ValueError("intensity_error must be > 0 where intensity is used; pass None if the errors are unknown")
    keep = positive & ~full
    order = np.flatnonzero(keep)[np.argsort(f[keep], kind="stable")]
    excluded = {"saturated": int(full.sum()), "not_positive": int(np.sum(~positive & ~full)), "above_fit_range": 0}
    x, y = np.log(f[order]), np.log(i[order])
    return _Data(
        x=x,
        y=y,
        # Without intensity errors the scatter of the residuals already holds that of the fluence.
        sigma_x=np.zeros(order.size) if sf is None or si is None else sf[order] / f[order],
        sigma_y=np.full(order.size, _scatter(x, y)) if si is None else si[order] / i[order],
        errors_given=si is not None,
        excluded=excluded,
        sha256=data_hash(f, i, sf, si, full),
    )


def _scatter(x: Array, y: Array) -> float:
    """Return the standard deviation of y about the best grid hinge: a start for the errors when none were given."""
    if np.unique(x).size < MIN_POINTS:
        return 1.0
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


def _errors(name: str, values: ArrayLike | None, like: Array) -> Array | None:
    if values is None:
        return None
    errors = np.broadcast_to(np.asarray(values, dtype=float), like.shape)
    if not np.all(errors >= 0) or not np.all(np.isfinite(errors)):
        raise ValueError(f"{name} must be finite and >= 0")
    return errors


def _require_points(data: _Data) -> None:
    distinct = np.unique(np.round(data.x, 6)).size
    if distinct < MIN_POINTS:
        raise NoThreshold(
            "too few points",
            f"only {distinct} usable fluences (excluded: {data.excluded}); the knee needs at least {MIN_POINTS}",
        )


def _select(data: _Data) -> _Selection:
    """Choose among line, falling knee, knee, and knee with saturation; all with the same effective errors."""
    x, y = data.x, data.y
    n = x.size
    distinct = np.unique(x)
    knees = np.linspace(distinct[1], distinct[-2], _KNEES)
    weight = data.weight(1.5)
    rising: list[_Candidate] = []
    for iteration in range(3):
        if iteration == 0:
            rising = [
                best
                for model, saturation in _RISING
                if n > PARAMETERS[model] + 1 and (best := _search(x, y, weight, knees, model, saturation)) is not None
            ]
        else:
            rising = [_Candidate(c.model, *polish(x, y, weight, c.parameters)) for c in rising]
        if not rising:
            break
        # The richest model follows the data best, so its slope sets the effective errors of all.
        weight = data.weight(rising[-1].parameters.slope(x))
    flat = [_Candidate("line", fit_line(x, y, weight)[2], HingeParameters(float(x.mean()), 0.0, 0.0, 0.0, 0.1))]
    falling = search_grid(x, y, weight, knees, saturation=False, rising=False, keep=1)
    if falling:
        flat.append(_Candidate("concave", *polish(x, y, weight, falling[0][1])))
    if not rising:
        raise NoThreshold(
            "slope does not change",
            "no threshold in range: the slope of ln I against ln F never rises"
            " (the threshold may lie below the lowest fluence or above the highest)",
        )
    rising = [_Candidate(c.model, *polish(x, y, weight, c.parameters)) for c in rising]
    scale = _variance_scale([*rising, *flat], n)
    draft = _Selection(rising[0], weight, scale, 0.0)
    bic_flat = min(draft.bic(c) for c in flat)
    chosen = rising[0]
    if len(rising) > 1 and draft.bic(rising[1]) < draft.bic(rising[0]) - BIC_GAIN_SATURATION:
        chosen = rising[1]
    return _Selection(chosen, weight, scale, bic_flat)


def _search(x: Array, y: Array, weight: Array, knees: Array, model: Model, saturation: bool) -> _Candidate | None:
    starts = search_grid(x, y, weight, knees, saturation=saturation)
    if not starts:
        return None
    chi2, parameters = min((polish(x, y, weight, p) for _, p in starts), key=lambda found: found[0])
    return _Candidate(model, chi2, parameters)


def _variance_scale(candidates: list[_Candidate], n: int) -> float:
    """Return s^2: the smallest residual variance that any model reaches, at least 1."""
    return max(1.0, min(c.chi2 / max(n - PARAMETERS[c.model], 1) for c in candidates))


def _require_knee(data: _Data, selection: _Selection) -> None:
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


def _result(data: _Data, selection: _Selection, convention: str, unit: str, quick: bool) -> ThresholdFit:
    chosen = selection.chosen
    dof = data.x.size - PARAMETERS[chosen.model]
    scale = max(1.0, chosen.chi2 / max(dof, 1))
    estimated = not data.errors_given or scale > 1.0
    warnings: list[str] = []
    levels = (0.6827, 0.95)
    if quick:
        limits = {level: (0.0, np.inf) for level in levels}
        interval = "none"
    else:
        chosen, limits, warnings = _profile(data, selection, levels, dof, scale, estimated)
        interval = "profile F" if estimated else "profile chi2"
    p = chosen.parameters
    k = PARAMETERS[chosen.model]
    misfit = chosen.chi2 / max(dof, 1)
    if data.errors_given and misfit > MISFIT_WARNING and stats.chi2.sf(chosen.chi2, max(dof, 1)) < 1e-3:
        warnings.append(
            f"the hinge does not describe the data within their errors (chi2/dof = {misfit:.1f});"
            " the interval was widened accordingly"
        )
    return ThresholdFit(
        value=float(np.exp(p.log_threshold)),
        unit=unit,
        ci68=limits[levels[0]],
        ci95=limits[levels[1]],
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
        aic=chosen.chi2 / selection.scale + 2 * k,
        bic=selection.bic(chosen),
        error_scale=float(np.sqrt(scale)),
        scatter=float(np.sqrt(chosen.chi2 / max(dof, 1) / np.mean(selection.weight**2))),
        interval=interval,
        data_sha256=data.sha256,
        parameters=p,
        warnings=tuple(warnings),
    )


def _profile(
    data: _Data, selection: _Selection, levels: tuple[float, float], dof: int, scale: float, estimated: bool
) -> tuple[_Candidate, dict[float, tuple[float, float]], list[str]]:
    """Return the (possibly improved) best fit, the interval of each level in fluence, and warnings."""
    chosen, weight = selection.chosen, selection.weight
    quantile = {q: float(stats.f.ppf(q, 1, max(dof, 1)) if estimated else stats.chi2.ppf(q, 1)) for q in levels}
    distinct = np.unique(data.x)
    edges = (float(distinct[0]), float(distinct[-1]))
    for _ in range(3):
        walks = [_walk(data, weight, chosen, edge, scale * max(quantile.values())) for edge in edges]
        lowest = min((c for walk in walks for c in walk), key=lambda c: c.chi2)
        if lowest.chi2 >= chosen.chi2 - 1e-3 * scale:
            break
        # The walk met a better minimum than the search had found: start again from there.
        chosen = _Candidate(chosen.model, *polish(data.x, data.y, weight, lowest.parameters))
    else:
        walks = [_walk(data, weight, chosen, edge, scale * max(quantile.values())) for edge in edges]
    limits: dict[float, tuple[float, float]] = {}
    warnings: list[str] = []
    for level, limit in quantile.items():
        ends = [_crossing(walk, chosen, limit * scale) for walk in walks]
        for end, edge, name in zip(ends, edges, ("lower", "upper"), strict=True):
            if end is None:
                warnings.append(
                    f"the {name} end of the {100 * level:.0f} % interval lies outside the data;"
                    f" the last fluence, {np.exp(edge):.4g}, stands for it"
                )
        low, high = (edge if end is None else end for end, edge in zip(ends, edges, strict=True))
        limits[level] = (float(np.exp(low)), float(np.exp(high)))
    return chosen, limits, warnings


def _walk(data: _Data, weight: Array, chosen: _Candidate, edge: float, rise: float) -> list[_Candidate]:
    """Walk x_t from the best fit towards ``edge`` until chi2 has risen by more than ``rise``; return the stations."""
    start = chosen.parameters.log_threshold
    direction = 1.0 if edge > start else -1.0
    step = 0.008
    stations = [chosen]
    for _ in range(_PROFILE_POINTS):
        previous = stations[-1]
        target = previous.parameters.log_threshold + direction * step
        beyond = (target - edge) * direction > 0
        if beyond:
            break
        chi2, parameters = polish(data.x, data.y, weight, previous.parameters, fixed_knee=target)
        stations.append(_Candidate(chosen.model, chi2, parameters))
        climbed = np.sqrt(max(chi2 - chosen.chi2, 0.0) / rise)
        if climbed > 1.0:
            break
        # Aim at about six stations per side: the profile is close to a parabola, so its root is close to linear.
        gain = climbed - np.sqrt(max(previous.chi2 - chosen.chi2, 0.0) / rise)
        step = float(np.clip(step * 0.2 / max(gain, 0.02), 0.5 * step, 2.5 * step))
    return stations


def _crossing(walk: list[_Candidate], chosen: _Candidate, rise: float) -> float | None:
    """Return x_t where chi2 first exceeds the minimum by ``rise``, by linear interpolation of its square root."""
    height = np.sqrt(np.maximum([c.chi2 - chosen.chi2 for c in walk], 0.0) / rise)
    for k in range(1, len(walk)):
        if height[k] >= 1.0:
            share = (1.0 - height[k - 1]) / (height[k] - height[k - 1])
            a, b = walk[k - 1].parameters.log_threshold, walk[k].parameters.log_threshold
            return float(a + share * (b - a))
    return None
