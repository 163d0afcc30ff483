"""Walk along a profile of chi2 to where it has risen enough: the end of an interval."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_MOST_STATIONS = 12
_CLOSE = 0.02
"""A station whose height is within this share of the one asked is the end."""


@dataclass(frozen=True)
class Station:
    """A place on the profile: its height, the square root of the rise of chi2, and the curve's parameters there."""

    height: float
    place: float
    theta: Array


@dataclass
class ProfileWalk:
    """A walk from the best fit to one side.

    :param refit: (place, start theta) -> chi2 minimised with the quantity held at the place, and theta.
    :param chi2: at the best fit. :param scale: variance in units of which chi2 rises. :param best: the best fit, at
        height 0. :param step: about one standard deviation, with the sign of the side. :param edge: where to stop.
    """

    refit: Callable[[float, Array], tuple[float, Array]]
    chi2: float
    scale: float
    best: Station
    step: float
    edge: float
    stations: list[Station] = field(default_factory=list)

    def reach(self, height: float) -> float:
        """Return the place at which the profile has the given height, or the edge if it stays below."""
        if not self.stations:
            self.stations.append(self.best)
        for _ in range(_MOST_STATIONS):
            nearest = min(self.stations, key=lambda s: abs(s.height - height))
            if abs(nearest.height - height) < _CLOSE * height:
                return nearest.place
            place = self._next(height)
            if (place - self.edge) * self.step >= 0:
                place = self.edge
                if not np.isfinite(place) or any(s.place == place for s in self.stations):
                    return place
            chi2, theta = self.refit(place, nearest.theta)
            risen = float(np.sqrt(max(chi2 - self.chi2, 0.0) / self.scale))
            self.stations.append(Station(risen, place, theta))
        ordered = sorted(self.stations, key=lambda s: s.height)
        return float(np.interp(height, [s.height for s in ordered], [s.place for s in ordered]))

    def _next(self, height: float) -> float:
        """Return where to look: between the stations around ``height``, else beyond the farthest one."""
        above = [s for s in self.stations if s.height >= height]
        if above:
            high = min(above, key=lambda s: s.height)
            low = max((s for s in self.stations if s.height < height), key=lambda s: s.height)
            return low.place + (high.place - low.place) * (height - low.height) / (high.height - low.height)
        farthest = max(self.stations, key=lambda s: abs(s.place - self.best.place))
        covered = abs(farthest.place - self.best.place)
        if covered == 0:
            return self.best.place + self.step * height
        # The square root of chi2 is close to straight; a flat profile is crossed in bounded strides.
        stride = min(max(height / max(farthest.height, 1e-3), 1.2), 3.0)
        return self.best.place + float(np.sign(self.step)) * covered * stride
