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
_SLOPE_ERROR = 0.2
"""How well d ln I / d ln F is known at one fluence. PL saturates on the way to the threshold: within a sweep's lowest
points the slope of quantum rings falls from 0.95 to 0.75, and no single one brings points a factor apart together."""


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
    slope: Array | float = 1.0,
) -> Photodamage:
    """Compare each returned point with those of the sweep at nearly the same fluence.

    Arrays of shape [n] in the order of acquisition. ``relative_error`` is that of intensity at given fluence (both
    errors together); ``slope`` is d ln I / d ln F at each point, or one for all, and takes away what is left of the
    difference in fluence. A point of the sweep counts the less the further from the returned one it lies, because the
    slope is only known to 0.2. As "before" count only points that no higher fluence had preceded: a point of the fine
    pass comes after the coarse pass has already been to the top, and would hide the damage done there.
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
    log_ratio, sd = _log_ratio(
        np.log(fluence), np.log(intensity), relative_error, np.broadcast_to(slope, fluence.shape), before, after
    )
    ratio = Estimate(
        float(np.exp(log_ratio)),
        "1",
        (float(np.exp(log_ratio - sd)), float(np.exp(log_ratio + sd))),
        (float(np.exp(log_ratio - 1.95996 * sd)), float(np.exp(log_ratio + 1.95996 * sd))),
    )
    damaged = abs(ratio.value - 1.0) > TOLERANCE and abs(log_ratio) > _QUANTILE_99 * sd
    conclusive = damaged or sd * _QUANTILE_99 < 2 * TOLERANCE
    return Photodamage(ratio, damaged, conclusive, int(before.sum()), int(after.sum()))


def _log_ratio(
    x: Array, y: Array, relative_error: Array, slope: Array, before: NDArray[np.bool_], after: NDArray[np.bool_]
) -> tuple[float, float]:
    """Return ln(after/before) and its standard deviation; x, y are the logarithms of fluence and intensity, [n].

    The deviation is widened when the returned points disagree by more than their errors.
    """
    sd = np.maximum(relative_error, 1e-6)
    distance = x[after][:, None] - x[before][None, :]
    share = 1.0 / (sd[before] ** 2 + (_SLOPE_ERROR * distance) ** 2)
    share /= share.sum(axis=1, keepdims=True)
    expected = np.sum(share * (y[before] + slope[before] * distance), axis=1)
    change = y[after] - expected
    by_slope = _SLOPE_ERROR * np.sum(share * np.abs(distance), axis=1)
    variance = sd[after] ** 2 + share**2 @ sd[before] ** 2 + by_slope**2
    weight = 1.0 / variance
    weight /= weight.sum()
    mean = float(weight @ change)
    # Returned points may share a point before, and a slope that is wrong is wrong for all of them.
    noise = float(weight**2 @ sd[after] ** 2 + (weight @ share) ** 2 @ sd[before] ** 2 + (weight @ by_slope) ** 2)
    scatter = float(np.sum((change - mean) ** 2 / variance)) / max(change.size - 1, 1)
    return mean, float(np.sqrt(noise * max(scatter, 1.0)))
