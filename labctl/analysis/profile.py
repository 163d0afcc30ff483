"""Profile of chi2 over one parameter of a curve: its interval."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from labctl.analysis.hinge import HingeParameters, Model
from labctl.analysis.s_curve import SCurve

_PROFILE_POINTS = 24
Curve = TypeVar("Curve", HingeParameters, SCurve)
Ends = tuple[float | None, float | None]
"""Lower and upper end of an interval; None where the profile does not rise enough within its range."""


@dataclass(frozen=True)
class Candidate(Generic[Curve]):
    """A model, its parameters and its chi2."""

    model: Model
    chi2: float
    parameters: Curve


@dataclass(frozen=True)
class Profile(Generic[Curve]):
    """What to walk along.

    :param refit: Minimises chi2 from given parameters, with the parameter held at a value or free; (chi2, parameters).
    :param place: Reads the parameter from a curve; a logarithm, for which the profile is close to a parabola.
    :param edges: Range of the parameter. :param step: First step of a walk.
    """

    refit: Callable[[Curve, float | None], tuple[float, Curve]]
    place: Callable[[Curve], float]
    edges: tuple[float, float]
    step: float

    def intervals(
        self, best: Candidate[Curve], limits: dict[float, float], scale: float
    ) -> tuple[Candidate[Curve], dict[float, Ends]]:
        """Return the (possibly improved) best fit and the interval of each level.

        ``limits`` is the rise of chi2 for each level, in units of the variance ``scale``.
        """
        walks = self._walks(best, scale * max(limits.values()))
        for _ in range(3):
            lowest = min((c for walk in walks for c in walk), key=lambda c: c.chi2)
            if lowest.chi2 >= best.chi2 - 1e-3 * scale:
                break
            # The walk met a better minimum than the search had found: start again from there.
            best = Candidate(best.model, *self.refit(lowest.parameters, None))
            walks = self._walks(best, scale * max(limits.values()))
        found: dict[float, Ends] = {}
        for level, limit in limits.items():
            low, high = (self._crossing(walk, best, limit * scale) for walk in walks)
            found[level] = low, high
        return best, found

    def _walks(self, best: Candidate[Curve], rise: float) -> list[list[Candidate[Curve]]]:
        return [self._walk(best, edge, rise) for edge in self.edges]

    def _walk(self, best: Candidate[Curve], edge: float, rise: float) -> list[Candidate[Curve]]:
        """Walk from the best fit towards ``edge`` until chi2 has risen by more than ``rise``; return the stations."""
        direction = 1.0 if edge > self.place(best.parameters) else -1.0
        step = self.step
        stations = [best]
        for _ in range(_PROFILE_POINTS):
            previous = stations[-1]
            target = self.place(previous.parameters) + direction * step
            beyond = (target - edge) * direction > 0
            if beyond:
                break
            chi2, parameters = self.refit(previous.parameters, target)
            stations.append(Candidate(best.model, chi2, parameters))
            climbed = np.sqrt(max(chi2 - best.chi2, 0.0) / rise)
            if climbed > 1.0:
                break
            # Aim at about six stations per side: the profile is close to a parabola, so its root is close to linear.
            gain = climbed - np.sqrt(max(previous.chi2 - best.chi2, 0.0) / rise)
            step = float(np.clip(step * 0.2 / max(gain, 0.02), 0.5 * step, 2.5 * step))
        return stations

    def _crossing(self, walk: list[Candidate[Curve]], best: Candidate[Curve], rise: float) -> float | None:
        """Return where chi2 first exceeds the minimum by ``rise``, by linear interpolation of its square root."""
        height = np.sqrt(np.maximum([c.chi2 - best.chi2 for c in walk], 0.0) / rise)
        for k in range(1, len(walk)):
            if height[k] >= 1.0:
                share = (1.0 - height[k - 1]) / (height[k] - height[k - 1])
                a, b = self.place(walk[k - 1].parameters), self.place(walk[k].parameters)
                return float(a + share * (b - a))
        return None


def threshold_intervals(
    ends: dict[float, Ends], edges: tuple[float, float]
) -> tuple[dict[float, tuple[float, float]], list[str]]:
    """Turn ends in ln(fluence) into fluences; the last fluence, and a warning, stand for one outside the data."""
    intervals: dict[float, tuple[float, float]] = {}
    warnings: list[str] = []
    for level, pair in ends.items():
        for end, edge, name in zip(pair, edges, ("lower", "upper"), strict=True):
            if end is None:
                warnings.append(
                    f"the {name} end of the {100 * level:.0f} % interval lies outside the data;"
                    f" the last fluence, {np.exp(edge):.4g}, stands for it"
                )
        low, high = (edge if end is None else end for end, edge in zip(pair, edges, strict=True))
        intervals[level] = (float(np.exp(low)), float(np.exp(high)))
    return intervals, warnings
