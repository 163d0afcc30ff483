"""A parameter between two bounds as a number without any, for least squares that knows no bounds."""

from __future__ import annotations

import numpy as np


def to_line(value: float, limits: tuple[float, float]) -> float:
    """Get the number on the line that stands for ``value`` within ``limits`` (low, high)."""
    low, high = limits
    # A start exactly on a bound has no gradient there and would never leave it.
    share = min(max((value - low) / (high - low), 0.01), 0.99)
    return float(np.arcsin(2.0 * share - 1.0))


def from_line(z: float, limits: tuple[float, float]) -> float:
    """Get the value within ``limits`` (low, high) that a number on the line stands for."""
    low, high = limits
    return float(low + (high - low) * 0.5 * (1.0 + np.sin(z)))
