"""Checks of a stripe-length scan: has the film bleached, and did the fluence stay the same at all lengths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from labctl.analysis.estimate import Estimate

BLEACH_LIMIT = 0.03
"""Change of the repeated lengths beyond which the film counts as changed."""
FLUENCE_LIMIT = 0.01
"""Departure of the energy behind the slit from proportionality to the length."""
_DEFAULT_RELATIVE_ERROR = 0.02
_SIGNIFICANCE = 4.0


@dataclass(frozen=True)
class Bleach:
    """Light of the repeated lengths, after to before.

    :param ratio: With intervals; None if no length was repeated. :param bleached: The ratio departs from 1 by more than
        the limit and by more than its 95 % interval. :param conclusive: Half of that is smaller than the limit.
    """

    ratio: Estimate | None
    n_repeated: int
    bleached: bool
    conclusive: bool

    def as_dict(self) -> dict[str, Any]:
        """Return a dict for JSON."""
        return {
            "ratio": None if self.ratio is None else self.ratio.as_dict(),
            "n_repeated": self.n_repeated,
            "bleached": self.bleached,
            "conclusive": self.conclusive,
        }


@dataclass(frozen=True)
class ConstantFluence:
    """Energy behind the slit against the length of the stripe.

    :param slope_per_um: Energy per µm. :param zero_um: Length at which the line has no energy.
    :param worst: Largest relative departure from the line; ``worst_um`` its length. :param significant: It is larger
        than four times its own error. :param constant: No departure is both larger than the limit and significant.
    """

    slope_per_um: float
    zero_um: float
    worst: float
    worst_um: float
    significant: bool
    constant: bool

    def as_dict(self) -> dict[str, Any]:
        """Return a dict for JSON."""
        return {
            "slope_per_um": self.slope_per_um,
            "zero_um": self.zero_um,
            "worst": self.worst,
            "worst_um": self.worst_um,
            "significant": self.significant,
            "constant": self.constant,
        }


def bleach(
    length_um: ArrayLike,
    intensity: ArrayLike,
    again_um: ArrayLike,
    intensity_again: ArrayLike,
    relative_error: float | None = None,
) -> Bleach:
    """Compare the lengths that were measured once more at the end with their first measurement.

    :param length_um: [n]. :param intensity: [n], of the same lengths. :param again_um: [m]; each is compared with the
        first measurement whose length differs by less than 1 µm. :param relative_error: Of one measurement; 2 % if
        None.
    """
    first, light = np.asarray(length_um, dtype=float), np.asarray(intensity, dtype=float)
    second, again = np.asarray(again_um, dtype=float), np.asarray(intensity_again, dtype=float)
    if first.shape != light.shape or second.shape != again.shape:
        raise ValueError(f"lengths {first.shape}, {second.shape} and intensities {light.shape}, {again.shape} differ")
    ratios = []
    for length, value in zip(second, again, strict=True):
        if first.size == 0:
            break
        near = int(np.argmin(np.abs(first - length)))
        if abs(first[near] - length) < 1.0 and light[near] > 0 and value > 0:
            ratios.append(float(np.log(value / light[near])))
    if not ratios:
        return Bleach(None, 0, False, False)
    one = _DEFAULT_RELATIVE_ERROR if relative_error is None else relative_error
    sd = float(np.sqrt(2.0) * max(one, 1e-6) / np.sqrt(len(ratios)))
    mean = float(np.mean(ratios))
    ratio = Estimate(
        float(np.exp(mean)),
        "1",
        (float(np.exp(mean - sd)), float(np.exp(mean + sd))),
        (float(np.exp(mean - 1.96 * sd)), float(np.exp(mean + 1.96 * sd))),
    )
    changed = abs(ratio.value - 1.0) > BLEACH_LIMIT and not ratio.ci95[0] <= 1.0 <= ratio.ci95[1]
    return Bleach(ratio, len(ratios), changed, 1.96 * sd < BLEACH_LIMIT)


def constant_fluence(
    length_um: ArrayLike,
    energy: ArrayLike,
    *,
    zero_um: float = 0.0,
    error: ArrayLike | None = None,
    limit: float = FLUENCE_LIMIT,
) -> ConstantFluence:
    """Check that the energy behind the slit grows in proportion to the length of the stripe.

    :param length_um: [n]. :param energy: Mean energy of a pulse at the meter behind the slit, any unit, [n].
    :param zero_um: Stripe zero. :param error: Standard deviation of each energy; 0.5 % of it if None.
    :param limit: Allowed relative departure.

    The line has a zero of its own: an error of the stripe zero is not an uneven fluence. Raises ValueError for fewer
    than three lengths.
    """
    length = np.asarray(length_um, dtype=float) - zero_um
    light = np.asarray(energy, dtype=float)
    if length.shape != light.shape or np.unique(length[(length > 0) & (light > 0)]).size < 3:
        raise ValueError("the check of the fluence needs three lengths or more, each with a positive energy")
    use = (length > 0) & (light > 0)
    length, light = length[use], light[use]
    sigma = 0.005 * light if error is None else np.maximum(np.asarray(error, dtype=float)[use], 1e-6 * light)
    slope, level = np.polyfit(length, light, 1, w=1.0 / sigma)
    line = slope * length + level
    departure = light / np.maximum(line, 1e-300) - 1.0
    worst = int(np.argmax(np.abs(departure)))
    significant = bool(abs(light[worst] - line[worst]) > _SIGNIFICANCE * sigma[worst])
    return ConstantFluence(
        slope_per_um=float(slope),
        zero_um=float(zero_um - level / slope) if slope else float("nan"),
        worst=float(departure[worst]),
        worst_um=float(length[worst] + zero_um),
        significant=significant,
        constant=not (significant and abs(departure[worst]) > limit),
    )
