"""The points of a fluence sweep made ready for a fit in logarithms: checked, sorted, unusable ones counted out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from labctl.analysis.estimate import data_hash
from labctl.analysis.hinge import Array


@dataclass(frozen=True)
class SweepPoints:
    """The usable points, sorted by fluence, in logarithms."""

    x: Array
    y: Array
    sigma_x: Array
    sigma_y: Array
    errors_given: bool
    excluded: dict[str, int]
    sha256: str

    @property
    def distinct(self) -> int:
        """Get the number of different fluences."""
        return int(np.unique(np.round(self.x, 6)).size)

    def below(self, top_x: float) -> SweepPoints:
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


def prepare(
    fluence: ArrayLike,
    intensity: ArrayLike,
    fluence_error: ArrayLike | None,
    intensity_error: ArrayLike | None,
    saturated: ArrayLike | None,
) -> SweepPoints:
    """Check the arrays of a sweep, leave out what a fit in logarithms cannot use, sort by fluence."""
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
    return SweepPoints(
        x=x,
        y=y,
        # Without intensity errors the scatter of the residuals already holds that of the fluence.
        sigma_x=np.zeros(order.size) if sf is None or si is None else sf[order] / f[order],
        sigma_y=np.ones(order.size) if si is None else si[order] / i[order],
        errors_given=si is not None,
        excluded=excluded,
        sha256=data_hash(f, i, sf, si, full),
    )


def _errors(name: str, values: ArrayLike | None, like: Array) -> Array | None:
    if values is None:
        return None
    errors = np.broadcast_to(np.asarray(values, dtype=float), like.shape)
    if not np.all(errors >= 0) or not np.all(np.isfinite(errors)):
        raise ValueError(f"{name} must be finite and >= 0")
    return errors
