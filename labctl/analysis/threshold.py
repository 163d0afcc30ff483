"""The result of a threshold fit, and the verdict that there is none."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from labctl.analysis.estimate import Estimate, finite_or_none
from labctl.analysis.hinge import Array, HingeParameters, Model

Misfit = Literal["none", "shape", "scatter"]


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
    """Points minus parameters of the model, which are the fields of ``parameters``."""
    chi2: float
    """With the effective errors as given, before any widening; the expected softness counts as one more datum."""
    chi2_scaled: float
    """``chi2`` in units of the smallest chi2/dof that any model reached, if above 1: one unit for all, to compare."""
    aic: float
    """chi2_scaled + 2 k, with k parameters."""
    bic: float
    """chi2_scaled + k ln(n_points)."""
    error_scale: float
    """Factor by which the errors were widened, sqrt(chi2/dof) of this model (1 when they explain the scatter)."""
    scatter: float
    """Weighted rms of the relative residuals of the intensity."""
    misfit: Misfit
    """How the points miss the curve beyond their errors: "shape" along a smooth curve of their own, "scatter" each by
    itself, "none" not at all."""
    interval: str
    """How the intervals were made: "profile chi2", "profile F" or "none" (quick fit)."""
    distance_at_bound: bool
    """Saturation begins as soon as the definition allows: it then decides where the knee is, not the data."""
    definition_error: float | None
    """Half the relative spread of the knee over other sensible bounds (``DISTANCE_BOUNDS_IN_USE``); not part of the
    intervals, and the same for all films measured alike. 0 without saturation branch, None for a quick fit."""
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
        """Return everything as a dict for JSON; ``parameters`` are those of `HingeParameters`, which give the curve."""
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
            "chi2_scaled": finite_or_none(self.chi2_scaled),
            "aic": finite_or_none(self.aic),
            "bic": finite_or_none(self.bic),
            "error_scale": finite_or_none(self.error_scale),
            "scatter": finite_or_none(self.scatter),
            "misfit": self.misfit,
            "interval": self.interval,
            "distance_at_bound": self.distance_at_bound,
            "definition_error": self.definition_error,
            "parameters": asdict(self.parameters),
            "data_sha256": self.data_sha256,
            "warnings": list(self.warnings),
        }
