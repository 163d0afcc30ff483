"""Axes whose ticks can be read: no prefixes on counts, and 1, 2, 5 on short logarithmic axes."""

from __future__ import annotations

import math
from typing import Any

from labctl.gui.qt import pg

_SHORT_DECADES = 2.3
_SHORTER_DECADES = 0.7
_PLAIN = (1e-3, 1e5)
_SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def plain_axis(side: str) -> Any:
    """Make an axis of plain numbers."""
    axis = pg.AxisItem(side)
    axis.enableAutoSIPrefix(False)
    return axis


class LogAxis(pg.AxisItem):
    """An axis for values that are given as their decimal logarithms."""

    def __init__(self, side: str) -> None:
        super().__init__(side)
        self.enableAutoSIPrefix(False)

    def tickValues(self, minVal: float, maxVal: float, size: float) -> list[tuple[float, list[float]]]:
        """Get the labelled ticks, then those between, as logarithms."""
        labelled, between = log_ticks(minVal, maxVal)
        return [(1.0, labelled), (0.1, between)]

    def tickStrings(self, values: list[float], scale: float, spacing: float) -> list[str]:
        """Label the ticks of one kind."""
        if spacing < 1.0:
            return [""] * len(values)
        low, high = self.range
        plain = 10**low > 0.9 * _PLAIN[0] and 10**high < _PLAIN[1]
        return [_text(10**value, plain=plain) for value in values]


def log_ticks(low: float, high: float) -> tuple[list[float], list[float]]:
    """Get labelled and unlabelled ticks from ``low`` to ``high``, all as decimal logarithms."""
    decades = high - low
    if not 0 < decades < 60:
        return [], []
    if decades < _SHORTER_DECADES:
        factors: tuple[float, ...] = (1, 1.5, 2, 3, 4, 5, 6, 8)
    else:
        factors = (1, 2, 5) if decades < _SHORT_DECADES else (1,)
    every = max(1, math.ceil(decades / 8))
    labelled, between = [], []
    for exponent in range(math.floor(low), math.ceil(high) + 1):
        steps = range(1, 10) if every == 1 else range(1, 2)
        on = set(factors) if exponent % every == 0 else set()
        for factor in sorted({*map(float, steps), *on}):
            value = exponent + math.log10(factor)
            if low <= value <= high:
                (labelled if factor in on else between).append(value)
    return labelled, between


def _text(value: float, *, plain: bool) -> str:
    if plain:
        return f"{value:.4g}"
    exponent = math.floor(math.log10(value) + 1e-9)
    factor = value / 10**exponent
    power = f"10{str(exponent).translate(_SUPERSCRIPT)}"
    return power if abs(factor - 1) < 1e-6 else f"{factor:.3g}·{power}"
