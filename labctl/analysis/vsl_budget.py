"""What beside the scatter of the points makes a gain uncertain: the parts, and their sum in quadrature.

None of these shows in chi2. The figures for edge and pump profile are those of a simulation study of the method: 3 %
each for an edge known to 3 µm and a pump that varies by less than a tenth along the stripe.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from labctl.analysis.estimate import Estimate
from labctl.analysis.vsl_fit import CurveFit, GainPrior
from labctl.analysis.vsl_gain import GainFit

EDGE_SHARE = 0.03
PUMP_PROFILE_SHARE = 0.03


@dataclass(frozen=True)
class BudgetPart:
    """One part: standard deviation, 1/cm, and how it was had; not ``counted`` if the interval holds it already."""

    name: str
    sd_cm1: float
    how: str
    counted: bool = True


@dataclass(frozen=True)
class Budget:
    """The parts, their sum in quadrature, and the gain with that sum and the statistical interval together."""

    parts: tuple[BudgetPart, ...]
    systematic_cm1: float
    total: Estimate

    def as_dict(self) -> dict[str, Any]:
        """Return a dict for JSON."""
        return {
            "parts": [
                {"name": part.name, "sd_cm1": part.sd_cm1, "how": part.how, "counted": part.counted}
                for part in self.parts
            ],
            "systematic_cm1": self.systematic_cm1,
            "total": self.total.as_dict(),
        }


def budget(
    gain: Estimate,
    fit: GainFit,
    prior: GainPrior,
    *,
    pump_profile_share: float = PUMP_PROFILE_SHARE,
    further: tuple[BudgetPart, ...] = (),
) -> Budget:
    """Return the budget of a gain.

    :param gain: The gain stated. :param fit: The fit it comes from. :param prior: The prior of that fit.
    :param pump_profile_share: Relative error from the unevenness of the pump along the stripe.
    :param further: Parts that only the caller knows, as that of the loss.
    """
    value = abs(gain.value)
    if prior.zero_error_cm > 0:
        edge = BudgetPart(
            "edge",
            edge_error_cm1(fit, prior),
            f"the fit repeated with the stripe zero held {1e4 * prior.zero_error_cm:.2g} um off on either side;"
            " the zero was free within that, so the interval holds it",
            counted=False,
        )
    else:
        edge = BudgetPart("edge", EDGE_SHARE * value, f"{100 * EDGE_SHARE:.0f} % for an edge found to 3 um")
    profile = BudgetPart(
        "pump profile", pump_profile_share * value, f"{100 * pump_profile_share:.2g} % for the pump along the stripe"
    )
    spread = BudgetPart("model", fit.model_spread_cm1, "standard deviation over the models, weighted by BIC")
    parts = (edge, profile, spread, *further)
    systematic = float(np.sqrt(sum(part.sd_cm1**2 for part in parts if part.counted)))
    return Budget(parts, systematic, _with(gain, systematic))


def edge_error_cm1(fit: GainFit, prior: GainPrior) -> float:
    """Return half the change of the gain between stripe zeros one standard deviation off on either side, 1/cm."""
    gains = []
    for sign in (-1.0, 1.0):
        moved = GainPrior(prior.zero_cm + sign * prior.zero_error_cm, 0.0, prior.offset, prior.offset_error)
        held = CurveFit(fit.shapes, fit.points.intensity, 1.0 / fit.sigma, moved, fit.model)
        gains.append(held.refit(fit.curve, None).curve.gain_cm1)
    return 0.5 * abs(gains[1] - gains[0])


def _with(gain: Estimate, sd: float) -> Estimate:
    ends = []
    for (low, high), factor in ((gain.ci68, 1.0), (gain.ci95, 1.96)):
        ends.append(
            (
                gain.value - float(np.hypot(gain.value - low, factor * sd)),
                gain.value + float(np.hypot(high - gain.value, factor * sd)),
            )
        )
    return Estimate(gain.value, gain.unit, ends[0], ends[1])
