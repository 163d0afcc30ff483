"""Threshold of a laser: F_th of the S-curve (`labctl.analysis.s_curve`) fitted to ln(intensity) over ln(fluence).

Errors are treated as for the knee of a film (`labctl.analysis.knee`): effective variance with the slope of the fit,
iterated; intervals by profiles; chi2 scaled by max(1, chi2/dof). A relative error of ``INTENSITY_FLOOR`` joins those
given, so that a few bright points do not decide alone.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from labctl.analysis.estimate import Estimate, finite_or_none
from labctl.analysis.hinge import PARAMETERS, Array, Model, fit_line
from labctl.analysis.knee import BIC_GAIN_KNEE, MIN_EACH_SIDE, MIN_POINTS, MISFIT_SCATTER, MISFIT_WARNING
from labctl.analysis.profile import Candidate, Profile, threshold_intervals
from labctl.analysis.s_curve import LOG_BETA_RANGE, SCurve, polish, search_grid
from labctl.analysis.sweep_points import SweepPoints, prepare
from labctl.analysis.threshold import NoThreshold

INTENSITY_FLOOR = 0.005
"""Relative error of every intensity beside that of its photons: no detector is linear to better than this."""
MIN_RISE = 1.5
"""The curve must be steeper above the threshold than below by this factor, on linear axes, to be one."""
LARGEST_PULSE_RMS = 0.25
"""More than this is no normal distribution of energies any more."""
_THRESHOLDS = 60
_LEVELS = (0.6827, 0.95)


@dataclass(frozen=True)
class LasingFit:
    """Threshold of a laser from its S-curve. Fluences are in ``unit`` and follow ``convention``."""

    value: float
    unit: str
    ci68: tuple[float, float]
    ci95: tuple[float, float]
    beta: Estimate
    """Share of the spontaneous emission that goes into the mode."""
    parameters: SCurve
    convention: str
    data_range: tuple[float, float]
    n_points: int
    n_excluded: dict[str, int]
    dof: int
    chi2: float
    """With the effective errors as given, before any widening."""
    chi2_scaled: float
    """``chi2`` in units of chi2/dof, if above 1."""
    error_scale: float
    """Factor by which the errors were widened, sqrt(chi2/dof) (1 when they explain the scatter)."""
    scatter: float
    """Weighted rms of the relative residuals of the intensity."""
    interval: str
    """How the intervals were made: "profile chi2" or "profile F"."""
    data_sha256: str
    warnings: tuple[str, ...] = field(default=())

    @property
    def estimate(self) -> Estimate:
        """Get the threshold as a value with intervals."""
        return Estimate(self.value, self.unit, self.ci68, self.ci95)

    @property
    def model(self) -> Model:
        """Get the name of the model."""
        return "lasing"

    @property
    def slope_below(self) -> float:
        """Get d ln I / d ln F at the lowest fluence of the fit."""
        return float(self.local_slope(self.data_range[0]))

    @property
    def slope_above(self) -> float:
        """Get d ln I / d ln F at the highest fluence of the fit."""
        return float(self.local_slope(self.data_range[1]))

    def curve(self, fluence: ArrayLike) -> Array:
        """Return the fitted intensity at ``fluence`` (any shape, in ``unit``), in the units of the input intensity."""
        return self.parameters.intensity(np.log(np.asarray(fluence, dtype=float)))

    def local_slope(self, fluence: ArrayLike) -> Array:
        """Return d ln I / d ln F of the fit at ``fluence`` (any shape, in ``unit``)."""
        return self.parameters.slope(np.log(np.asarray(fluence, dtype=float)))

    def as_dict(self) -> dict[str, Any]:
        """Return everything as a dict for JSON; ``parameters`` are those of `SCurve`, which give the curve."""
        k = PARAMETERS["lasing"]
        return {
            **self.estimate.as_dict(),
            "definition": "lasing_s_curve",
            "model": self.model,
            "convention": self.convention,
            "beta": self.beta.as_dict(),
            "background_share": self.background_share,
            "pulse_rms": self.parameters.pulse_rms or None,
            "data_range": list(self.data_range),
            "n_points": self.n_points,
            "n_excluded": dict(self.n_excluded),
            "dof": self.dof,
            "chi2": finite_or_none(self.chi2),
            "chi2_scaled": finite_or_none(self.chi2_scaled),
            "aic": finite_or_none(self.chi2_scaled + 2 * k),
            "bic": finite_or_none(self.chi2_scaled + k * np.log(self.n_points)),
            "error_scale": finite_or_none(self.error_scale),
            "scatter": finite_or_none(self.scatter),
            "interval": self.interval,
            "parameters": asdict(self.parameters),
            "data_sha256": self.data_sha256,
            "warnings": list(self.warnings),
        }

    @property
    def background_share(self) -> float:
        """Get the share B F of the emission far below the threshold that does not come from the mode."""
        past = self.parameters.background * self.value
        return past / (past + self.parameters.scale)


def lasing_threshold(
    fluence: ArrayLike,
    intensity: ArrayLike,
    *,
    fluence_error: ArrayLike | None = None,
    intensity_error: ArrayLike | None = None,
    saturated: ArrayLike | None = None,
    pulse_rms: float | None = None,
    convention: str = "peak_gauss",
    fluence_unit: str = "uJ/cm^2",
) -> LasingFit:
    """Fit the S-curve of a laser.

    All arrays have shape [n], in any order. ``fluence`` > 0 in ``fluence_unit``; ``intensity`` is
    background-subtracted, in any linear unit; points <= 0 are left out and counted. Errors are standard deviations in
    the units of their quantity. ``saturated`` marks points (detector full scale) that never enter a fit.
    ``pulse_rms`` is the relative scatter of the pulse energies within a point, which is then part of the curve.

    Raises `NoThreshold` when the data hold none, ValueError on malformed input.
    """
    if pulse_rms is not None and not 0 <= pulse_rms <= LARGEST_PULSE_RMS:
        raise ValueError(f"pulse_rms must be within 0 and {LARGEST_PULSE_RMS}, got {pulse_rms}")
    data = prepare(fluence, intensity, fluence_error, intensity_error, saturated)
    if data.distinct < MIN_POINTS:
        raise NoThreshold(
            "too few points",
            f"only {data.distinct} usable fluences (excluded: {data.excluded}); an S-curve needs at least {MIN_POINTS}",
        )
    if data.errors_given:
        data = replace(data, sigma_y=np.hypot(data.sigma_y, INTENSITY_FLOOR))
    best, weight = _best(data, pulse_rms or 0.0)
    if not data.errors_given:
        # The errors are all alike and of the size of the residuals.
        size = max(np.sqrt(best.chi2 / max(data.x.size - PARAMETERS["lasing"], 1)), 1e-4)
        data = replace(data, sigma_y=np.full(data.x.size, size))
        weight = data.weight(0.0)
        best = Candidate(best.model, *polish(data.x, data.y, weight, best.parameters))
    scale = max(1.0, best.chi2 / max(data.x.size - PARAMETERS["lasing"], 1))
    _require_threshold(data, weight, best, scale)
    return _result(data, weight, best, scale, convention, fluence_unit, jitter_known=pulse_rms is not None)


def _best(data: SweepPoints, pulse_rms: float) -> tuple[Candidate[SCurve], Array]:
    """Search the grid and polish its best curves, with the effective errors of the best; return them too."""
    distinct = np.unique(data.x)
    weight = data.weight(1.5)
    starts = search_grid(
        data.x, data.y, weight, np.linspace(distinct[1], distinct[-2], _THRESHOLDS), pulse_rms=pulse_rms
    )
    if not starts:
        raise NoThreshold("slope does not change", "no threshold in range: no S-curve comes near the data")
    curves = [curve for _, curve in starts]
    found: list[tuple[float, SCurve]] = starts
    for _ in range(3):
        found = sorted((polish(data.x, data.y, weight, curve) for curve in curves), key=lambda pair: pair[0])
        curves = [curve for _, curve in found]
        weight = data.weight(curves[0].slope(data.x))
    return Candidate("lasing", *polish(data.x, data.y, weight, found[0][1])), weight


def _require_threshold(data: SweepPoints, weight: Array, best: Candidate[SCurve], scale: float) -> None:
    curve = best.parameters
    knee = curve.log_threshold
    per_threshold = curve.background * np.exp(knee)
    rise = (curve.scale / curve.beta + per_threshold) / (curve.scale + per_threshold)
    log_n = float(np.log(data.x.size))
    # Both in units of the errors, widened as the better of the two asks.
    line = fit_line(data.x, data.y, weight)[2]
    unit = min(scale, max(1.0, line / max(data.x.size - PARAMETERS["line"], 1)))
    gain = (line - best.chi2) / unit - (PARAMETERS["lasing"] - PARAMETERS["line"]) * log_n
    if gain < BIC_GAIN_KNEE or rise < MIN_RISE:
        raise NoThreshold(
            "slope does not change",
            f"no threshold in range: an S-curve (rise by a factor {rise:.3g} at {np.exp(knee):.4g}) explains the data"
            " no better than a straight line of ln I against ln F",
        )
    distinct = np.unique(np.round(data.x, 6))
    counts = int(np.sum(distinct < knee)), int(np.sum(distinct > knee))
    for side, count, remedy in zip(("below", "above"), counts, ("lower", "higher"), strict=True):
        if count < MIN_EACH_SIDE:
            raise NoThreshold(
                f"too few points {side} the threshold",
                f"no threshold in range: one shows near {np.exp(knee):.4g}, but only {count} fluences lie {side} it;"
                f" measure at {remedy} fluences",
            )


def _result(
    data: SweepPoints,
    weight: Array,
    best: Candidate[SCurve],
    scale: float,
    convention: str,
    unit: str,
    *,
    jitter_known: bool,
) -> LasingFit:
    dof = max(data.x.size - PARAMETERS["lasing"], 1)
    estimated = not data.errors_given or scale > 1.0
    rises = {q: float(special.fdtri(1, dof, q) if estimated else special.chdtri(1, 1 - q)) for q in _LEVELS}

    def along_threshold(start: SCurve, value: float | None) -> tuple[float, SCurve]:
        return polish(data.x, data.y, weight, start, log_threshold=value)

    def along_beta(start: SCurve, value: float | None) -> tuple[float, SCurve]:
        return polish(data.x, data.y, weight, start, log_beta=value)

    edges = float(data.x[0]), float(data.x[-1])
    over_threshold = Profile(along_threshold, lambda curve: curve.log_threshold, edges, step=0.004)
    over_beta = Profile(along_beta, lambda curve: curve.log_beta, LOG_BETA_RANGE, step=0.03)
    best, ends = over_threshold.intervals(best, rises, scale)
    best, beta_ends = over_beta.intervals(best, rises, scale)
    intervals, warnings = threshold_intervals(ends, edges)
    betas = [_beta_interval(*beta_ends[level]) for level in _LEVELS]
    misfit = best.chi2 / dof
    scatter = float(np.sqrt(misfit / np.mean(weight**2)))
    improbable = data.errors_given and misfit > MISFIT_WARNING and special.chdtrc(dof, best.chi2) < 1e-3
    if improbable and scatter > MISFIT_SCATTER:
        warnings.append(
            f"the S-curve does not describe the data within their errors (chi2/dof = {misfit:.1f}, scatter"
            f" {100 * scatter:.0f} %); the interval was widened accordingly"
        )
    if not jitter_known:
        warnings.append("the pulse-to-pulse noise is not known: 5 % of it would make beta too large by 6 to 13 %")
    curve = best.parameters
    return LasingFit(
        value=float(np.exp(curve.log_threshold)),
        unit=unit,
        ci68=intervals[_LEVELS[0]],
        ci95=intervals[_LEVELS[1]],
        beta=Estimate(curve.beta, "1", *betas),
        parameters=curve,
        convention=convention,
        data_range=(float(np.exp(data.x[0])), float(np.exp(data.x[-1]))),
        n_points=int(data.x.size),
        n_excluded=data.excluded,
        dof=dof,
        chi2=best.chi2,
        chi2_scaled=best.chi2 / scale,
        error_scale=float(np.sqrt(scale)),
        scatter=scatter,
        interval="profile F" if estimated else "profile chi2",
        data_sha256=data.sha256,
        warnings=tuple(warnings),
    )


def _beta_interval(low: float | None, high: float | None) -> tuple[float, float]:
    """Return the interval of beta; 0 or 1 stands for an end that the data do not give."""
    return (0.0 if low is None else float(np.exp(low))), (1.0 if high is None else float(np.exp(high)))
