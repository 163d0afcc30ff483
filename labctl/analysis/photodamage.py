"""Photodamage check: the emission at the lowest fluences before the sweep and after its return there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labctl.analysis.estimate import Estimate

Array = NDArray[np.float64]

TOLERANCE = 0.03
"""A ratio outside 1 +- 3 % is photodamage..."""
_QUANTILE_99 = 2.5758
"""...provided noise alone does so in less than 1 % of sweeps: the 99 % interval must exclude 1."""
_NEAR = 2.0
"""Fluences within this factor of the returned ones serve as "before"."""


@dataclass(frozen=True)
class Photodamage:
    """Ratio after/before, or None with the reason. ``damaged`` is the flag; ``conclusive`` whether 3 % would show."""

    ratio: Estimate | None
    damaged: bool
    conclusive: bool
    n_before: int
    n_after: int
    reason: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return a dict for JSON."""
        return {
            "ratio": None if self.ratio is None else self.ratio.as_dict(),
            "damaged": self.damaged,
            "conclusive": self.conclusive,
            "n_before": self.n_before,
            "n_after": self.n_after,
            "reason": self.reason,
        }


def photodamage(
    fluence: Array,
    intensity: Array,
    relative_error: Array,
    returned: NDArray[np.bool_],
    usable: NDArray[np.bool_],
    slope: float = 1.0,
) -> Photodamage:
    """Compare returned points with those of the sweep, both brought to one fluence by I proportional to F^slope.

    Arrays of shape [n] in the order of acquisition. ``relative_error`` is that of intensity at given fluence (both
    errors together). As "before" count only points that no higher fluence had preceded: a point of the fine pass comes
    after the coarse pass has already been to the top, and would hide the damage done there.
    """
    before_top = np.maximum.accumulate(np.where(returned, 0.0, fluence))
    after = returned & usable
    if not after.any():
        return Photodamage(None, False, False, 0, 0, "the sweep did not return to its lowest fluences")
    near = (fluence >= fluence[after].min() / _NEAR) & (fluence <= fluence[after].max() * _NEAR)
    before = ~returned & usable & near & (fluence >= 0.999 * before_top)
    if not before.any():
        reason = "no point near the returned fluences was taken before higher ones (descending sweep?)"
        return Photodamage(None, False, False, 0, int(after.sum()), reason)
    level = np.log(intensity) - slope * np.log(fluence)
    mean_before, sd_before = _weighted_mean(level[before], relative_error[before])
    mean_after, sd_after = _weighted_mean(level[after], relative_error[after])
    sd = float(np.hypot(sd_before, sd_after))
    log_ratio = mean_after - mean_before
    ratio = Estimate(
        float(np.exp(log_ratio)),
        "1",
        (float(np.exp(log_ratio - sd)), float(np.exp(log_ratio + sd))),
        (float(np.exp(log_ratio - 1.95996 * sd)), float(np.exp(log_ratio + 1.95996 * sd))),
    )
    damaged = abs(ratio.value - 1.0) > TOLERANCE and abs(log_ratio) > _QUANTILE_99 * sd
    conclusive = damaged or sd * _QUANTILE_99 < 2 * TOLERANCE
    return Photodamage(ratio, damaged, conclusive, int(before.sum()), int(after.sum()))


def _weighted_mean(values: Array, sd: Array) -> tuple[float, float]:
    """Return mean and its standard deviation; the latter widened when the values scatter more than ``sd`` says."""
    weight = 1.0 / np.maximum(sd, 1e-6) ** 2
    mean = float(np.sum(weight * values) / np.sum(weight))
    chi2 = float(np.sum(weight * (values - mean) ** 2)) / max(values.size - 1, 1)
    return mean, float(np.sqrt(max(chi2, 1.0) / np.sum(weight)))
