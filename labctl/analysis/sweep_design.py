"""Which fluences to measure: a coarse pass over the range, then a fine pass around the threshold found live."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

CORE_RANGE = (0.5, 2.0)
"""The part of the fine pass, in thresholds, that decides where the knee is."""
CORE_SHARE = 0.6
FINE_RANGE = (0.2, 3.5)
"""The whole fine pass, in thresholds. Above it the emission saturates and the film suffers."""


def coarse_fluences(guess: float, points: int = 8, span: tuple[float, float] = (0.1, 5.0)) -> NDArray[np.float64]:
    """Return ``points`` ascending fluences, equal in logarithm, from 0.1 to 5 times the guessed threshold.

    :param guess: Expected threshold, > 0, any fluence unit; the result has the same.
    """
    if not guess > 0 or points < 2 or not 0 < span[0] < span[1]:
        raise ValueError(f"need guess > 0, points >= 2 and 0 < span[0] < span[1]; got {guess}, {points}, {span}")
    return np.geomspace(span[0] * guess, span[1] * guess, points)


def refine_fluences(threshold: float, points: int = 24, low: float = 0.0, high: float = np.inf) -> NDArray[np.float64]:
    """Return the ascending fluences of the fine pass: 60 % within 0.5 to 2 thresholds, the rest from 0.2 to 3.5.

    Deterministic, so that a resumed run plans the same points. Where the bounds cut a part of the range off, its points
    move into what is left, so that there are always ``points`` of them (all within the bounds).

    :param threshold: Live estimate of the threshold, > 0.
    :param points: How many, >= 5.
    :param low: Least fluence the bench allows. :param high: Largest one. All in the unit of ``threshold``.
    :raises ValueError: Malformed input, or no part of the fine range lies within the bounds.
    """
    if not (np.isfinite(threshold) and threshold > 0) or points < 5:
        raise ValueError(f"need a finite threshold > 0 and at least 5 points; got {threshold} and {points}")
    bottom, top = max(low, FINE_RANGE[0] * threshold), min(high, FINE_RANGE[1] * threshold)
    if not bottom < top:
        raise ValueError(
            f"the fine pass needs fluences from {FINE_RANGE[0] * threshold:.4g} to {FINE_RANGE[1] * threshold:.4g},"
            f" but the limits are {low:.4g} to {high:.4g}: the threshold estimate or the limits are wrong"
        )
    core_low = float(np.clip(CORE_RANGE[0] * threshold, bottom, top))
    core_high = float(np.clip(CORE_RANGE[1] * threshold, bottom, top))
    below, core, above = _share_out(points, np.log([bottom, core_low, core_high, top]))
    parts = [
        np.geomspace(bottom, core_low, below, endpoint=False),
        np.geomspace(core_low, core_high, core),
        np.geomspace(core_high, top, above + 1)[1:],
    ]
    # Rounding in geomspace may step over a hard limit by one unit in the last place.
    return np.clip(np.concatenate(parts), bottom, top)


def gap_fluences(fluences: Sequence[float], count: int) -> NDArray[np.float64]:
    """Return ``count`` ascending fluences that halve, in logarithm, the widest gaps between those there are.

    :param fluences: At least two different ones, > 0. :raises ValueError: If there are fewer.
    """
    known = sorted({float(value) for value in fluences})
    if len(known) < 2 or known[0] <= 0 or count < 0:
        raise ValueError(f"gaps need at least two different fluences > 0, got {known}")
    gaps = [(-math.log(high / low), low, high) for low, high in pairwise(known)]
    heapq.heapify(gaps)
    new: list[float] = []
    for _ in range(count):
        width, low, high = gaps[0]
        middle = math.sqrt(low * high)
        heapq.heapreplace(gaps, (width / 2, low, middle))
        heapq.heappush(gaps, (width / 2, middle, high))
        new.append(middle)
    return np.sort(new)


def _share_out(points: int, edges: NDArray[np.float64]) -> tuple[int, int, int]:
    """Share the points between below, core and above: 60 % to the core, the others by length in ln(fluence)."""
    below, core, above = np.diff(edges)
    if core <= 0:
        return (points, 0, 0) if below > 0 else (0, 0, points)
    if below + above <= 0:
        return 0, points, 0
    rest = points - round(CORE_SHARE * points)
    count_below = round(rest * below / (below + above))
    return count_below, points - rest, rest - count_below
