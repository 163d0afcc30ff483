"""Auto-exposure: a ladder of exposures, so that dark frames can be taken beforehand, and the choice on it.

How long exposures are, and of how many pulses, follows from the repetition rate where nobody says otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from labctl.roles import Detector

STEP = 2.0
TARGET = 0.55
"""Share of the full scale that the brightest pixel should reach: with steps of two it lands in 0.28 to 0.55, and the
pulse-to-pulse noise of the laser stays clear of saturation."""
FEW_PULSES = 10
"""An exposure of fewer pulses has a mean energy of its own, and one pulse more or less is more than a tenth of it."""
_SHORTEST_S, _LONGEST_S = 0.01, 2.56
_STEPS = 5
_READING_S = 2.5
_READING_PULSES = (20, 100)


def default_exposures_s(repetition_rate_hz: float) -> tuple[float, float]:
    """Get shortest and longest exposure in s: 0.01 and 2.56 s, longer where these hold few pulses."""
    shortest_s = max(_SHORTEST_S, FEW_PULSES / repetition_rate_hz) if repetition_rate_hz > 0 else _SHORTEST_S
    return shortest_s, max(_LONGEST_S, shortest_s * STEP**_STEPS)


def default_reading_pulses(repetition_rate_hz: float) -> int:
    """Get the number of pulses in a reading of the energy meter: 100, fewer of a slow laser, no fewer than 20."""
    low, high = _READING_PULSES
    return min(max(round(_READING_S * repetition_rate_hz), low), high)


@dataclass(frozen=True)
class ExposureLadder:
    """Exposures from ``shortest_s`` upward in steps of two, none longer than ``limit_s``."""

    shortest_s: float
    limit_s: float

    @classmethod
    def of_whole_pulses(cls, shortest_s: float, limit_s: float, repetition_rate_hz: float) -> ExposureLadder:
        """Get a ladder whose exposures hold whole numbers of pulses, none less than ``shortest_s``."""
        if repetition_rate_hz > 0:
            shortest_s = math.ceil(round(shortest_s * repetition_rate_hz, 6)) / repetition_rate_hz
        return cls(shortest_s, max(limit_s, shortest_s))

    @cached_property
    def exposures_s(self) -> tuple[float, ...]:
        """Get all exposures in s, ascending."""
        steps = math.floor(math.log(self.limit_s / self.shortest_s, STEP) + 1e-9)
        return tuple(self.shortest_s * STEP**step for step in range(steps + 1))

    @property
    def longest_s(self) -> float:
        """Get the longest exposure in s."""
        return self.exposures_s[-1]

    @property
    def middle_s(self) -> float:
        """Get an exposure in the middle of the ladder, in s."""
        return self.exposures_s[len(self.exposures_s) // 2]

    def choose(self, peak_rate: float | None, detector: Detector) -> float:
        """Get the longest exposure at which the brightest pixel stays below the target.

        :param peak_rate: Expected rate of the brightest pixel above dark, in counts per second; None if unknown.
        """
        if peak_rate is None:
            return self.middle_s
        allowed_s = TARGET * detector.full_scale_counts / max(peak_rate, 1e-9)
        return max((exposure for exposure in self.exposures_s if exposure <= allowed_s), default=self.shortest_s)

    def beside(self, exposure_s: float, longest_s: float) -> float | None:
        """Get the exposure one step above if that is at most ``longest_s``, else one step below; None for neither."""
        others = (exposure_s * STEP, exposure_s / STEP)
        fitting = (s for s in others if s <= longest_s and self.shortest_s * 0.999 <= s <= self.longest_s * 1.001)
        return next(fitting, None)

    def shorter(self, exposure_s: float) -> float:
        """Get the exposure two steps below, or the shortest."""
        return max(self.shortest_s, exposure_s / STEP**2)


def predicted_peak_rate(rows: Sequence[Mapping[str, Any]], fluence_uj_cm2: float) -> float | None:
    """Predict the rate of the brightest pixel at a fluence from the rows measured so far, in counts per second.

    Between measured fluences by interpolation, above them by extrapolation with the last slope, in log-log; below the
    lowest in proportion. A function of the rows alone, so that a resumed run chooses the same exposures. None without
    rows.
    """
    known = {float(row["fluence_uj_cm2"]): float(row["peak_rate"]) for row in rows if row["peak_rate"] > 0}
    if not known:
        return None
    x, y = np.log(np.array(sorted(known.items())).T)
    target = math.log(fluence_uj_cm2)
    if len(x) == 1 or target <= x[0]:
        return float(np.exp(y[0] + (target - x[0])))
    if target <= x[-1]:
        return float(np.exp(np.interp(target, x, y)))
    slope = (y[-1] - y[-2]) / max(x[-1] - x[-2], 0.05)
    return float(np.exp(y[-1] + np.clip(slope, 1.0, 6.0) * (target - x[-1])))
