"""Profile of chi2 over the position of the knee: the interval of the threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from labctl.analysis.hinge import Array, HingeParameters, Model, polish
from labctl.analysis.sweep_points import SweepPoints

_PROFILE_POINTS = 24


@dataclass(frozen=True)
class Candidate:
    """A model, its parameters and its chi2."""

    model: Model
    chi2: float
    parameters: HingeParameters


def profile_intervals(
    data: SweepPoints, weight: Array, chosen: Candidate, limits: dict[float, float], scale: float
) -> tuple[Candidate, dict[float, tuple[float, float]], list[str]]:
    """Return the (possibly improved) best fit, the interval of each level in fluence, and warnings.

    ``weight`` is 1/sigma_eff, ``limits`` the rise of chi2 for each level, in units of the variance ``scale``.
    """
    distinct = np.unique(data.x)
    edges = (float(distinct[0]), float(distinct[-1]))
    for _ in range(3):
        walks = [_walk(data, weight, chosen, edge, scale * max(limits.values())) for edge in edges]
        lowest = min((c for walk in walks for c in walk), key=lambda c: c.chi2)
        if lowest.chi2 >= chosen.chi2 - 1e-3 * scale:
            break
        # The walk met a better minimum than the search had found: start again from there.
        chosen = Candidate(chosen.model, *polish(data.x, data.y, weight, lowest.parameters))
    else:
        walks = [_walk(data, weight, chosen, edge, scale * max(limits.values())) for edge in edges]
    intervals: dict[float, tuple[float, float]] = {}
    warnings: list[str] = []
    for level, limit in limits.items():
        ends = [_crossing(walk, chosen, limit * scale) for walk in walks]
        for end, edge, name in zip(ends, edges, ("lower", "upper"), strict=True):
            if end is None:
                warnings.append(
                    f"the {name} end of the {100 * level:.0f} % interval lies outside the data;"
                    f" the last fluence, {np.exp(edge):.4g}, stands for it"
                )
        low, high = (edge if end is None else end for end, edge in zip(ends, edges, strict=True))
        intervals[level] = (float(np.exp(low)), float(np.exp(high)))
    return chosen, intervals, warnings


def _walk(data: SweepPoints, weight: Array, chosen: Candidate, edge: float, rise: float) -> list[Candidate]:
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
        stations.append(Candidate(chosen.model, chi2, parameters))
        climbed = np.sqrt(max(chi2 - chosen.chi2, 0.0) / rise)
        if climbed > 1.0:
            break
        # Aim at about six stations per side: the profile is close to a parabola, so its root is close to linear.
        gain = climbed - np.sqrt(max(previous.chi2 - chosen.chi2, 0.0) / rise)
        step = float(np.clip(step * 0.2 / max(gain, 0.02), 0.5 * step, 2.5 * step))
    return stations


def _crossing(walk: list[Candidate], chosen: Candidate, rise: float) -> float | None:
    """Return x_t where chi2 first exceeds the minimum by ``rise``, by linear interpolation of its square root."""
    height = np.sqrt(np.maximum([c.chi2 - chosen.chi2 for c in walk], 0.0) / rise)
    for k in range(1, len(walk)):
        if height[k] >= 1.0:
            share = (1.0 - height[k - 1]) / (height[k] - height[k - 1])
            a, b = walk[k - 1].parameters.log_threshold, walk[k].parameters.log_threshold
            return float(a + share * (b - a))
    return None
