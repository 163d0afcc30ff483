"""The papers' fit, I(L) = (a/g)(exp(g L) - 1), over all lengths and over short ones, and whether it may be believed.

It is always computed, because published gains come from it. It holds for a stripe that neither saturates nor emits
anything after the gain has gone. Where it does not hold it still fits well to the eye and gives gains that are too
small by a third to two thirds, and a cut at short lengths does not save it from late light.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from labctl.analysis.estimate import Estimate
from labctl.analysis.vsl_fit import GainPrior
from labctl.analysis.vsl_gain import GainFit, NoGain, StripePoints, fit_shapes
from labctl.analysis.vsl_shapes import EvenStripe

BIC_MARGIN = 2.0
"""A small-signal fit this much worse in BIC than the best model is not to be trusted."""
CUTS_GL = (None, 3.0, 2.0)
"""Largest g L that enters each fit, g from the full model; None: all lengths."""
_MIN_POINTS = 5


@dataclass(frozen=True)
class SmallSignalFit:
    """One small-signal fit. ``gain`` is None if the range holds too few lengths or no fit.

    :param cut_gl: Largest g L, None for all lengths. :param trusted: Whether nothing speaks against it;
        ``reasons`` says what does.
    """

    cut_gl: float | None
    gain: Estimate | None
    n_points: int
    chi2: float | None
    trusted: bool
    reasons: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return a dict for JSON."""
        return {
            **({"value": None} if self.gain is None else self.gain.as_dict()),
            "cut_gl": self.cut_gl,
            "n_points": self.n_points,
            "chi2": self.chi2,
            "trusted": self.trusted,
            "reasons": list(self.reasons),
        }


def small_signal_fits(full: GainFit, prior: GainPrior) -> tuple[SmallSignalFit, ...]:
    """Return the papers' fit over all lengths and over those up to each cut, judged against the ``full`` model.

    :param full: Fit of an even stripe (`labctl.analysis.vsl_gain.fit_gain`). :param prior: The prior it used.
    """
    return tuple(_one(full, prior, cut) for cut in CUTS_GL)


def _one(full: GainFit, prior: GainPrior, cut: float | None) -> SmallSignalFit:
    points = full.points
    gl = full.gain.value * (points.length_cm - full.curve.zero_cm)
    use = np.ones(gl.shape, dtype=bool) if cut is None else gl <= cut
    count = int(use.sum())
    if count < _MIN_POINTS:
        reason = f"only {count} lengths in this range"
        return SmallSignalFit(cut, None, count, None, False, (reason,))
    part = StripePoints(
        points.length_cm[use],
        points.intensity[use],
        full.sigma[use],
        points.excluded + int(np.sum(~use)),
        points.sha256,
    )
    try:
        # The errors are those of the full model: its sigma holds the relative error already.
        simple = fit_shapes(EvenStripe(part.length_cm), part, prior, relative_error=0.0, models=("small signal",))
    except NoGain as verdict:
        return SmallSignalFit(cut, None, count, None, False, (str(verdict),))
    reasons = _reasons(full, simple, cut)
    return SmallSignalFit(cut, simple.gain, count, simple.chi2, not reasons, reasons)


def _reasons(full: GainFit, simple: GainFit, cut: float | None) -> tuple[str, ...]:
    """Return what speaks against the small-signal fit."""
    reasons = []
    by_model = {v.model: v for v in full.models}
    if cut is None and "small signal" in by_model:
        behind = by_model["small signal"].bic - full.bic
        if behind > BIC_MARGIN:
            reasons.append(f"the model {full.model!r} describes the data better (BIC lower by {behind:.3g})")
    if full.saturates and full.saturation_length_um is not None:
        longest = simple.data_range_um[1]
        if longest > full.saturation_length_um:
            reasons.append(
                f"the light saturates from {full.saturation_length_um:.0f} um on; the range goes to {longest:.0f} um"
            )
    if full.has_late_light:
        reasons.append(
            f"{100 * (1 - full.amplified_share):.0f} % of the emission comes after the gain has gone: not amplified"
        )
    low, high = full.gain.ci95
    if simple.gain.ci95[1] < low or simple.gain.ci95[0] > high:
        reasons.append(f"its gain lies outside the 95 % interval of the full model, {low:.4g} to {high:.4g} /cm")
    return tuple(reasons)
