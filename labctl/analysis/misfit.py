"""How points depart from a fitted curve: like noise, or like a curve of another shape."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def erratic_share(x: Array, residual: Array, sigma: Array) -> float:
    """Return the share of a departure that neighbouring points do not have in common.

    :param x: [n], ascending, repeated values allowed. :param residual: [n], data minus curve.
    :param sigma: [n], standard deviations; their common scale does not matter.

    Each residual is compared with the straight line between its two neighbours; the mean square of these differences is
    divided by that of the residuals themselves, both in units of their errors (von Neumann's ratio, for unequal steps).
    It is about 1 for noise of any size and near 0 for a smooth misfit. 1 for fewer than three points, or no misfit.
    """
    total = float(np.mean((residual / sigma) ** 2))
    if x.size < 3 or not total > 0:
        return 1.0
    span = x[2:] - x[:-2]
    part = np.where(span > 0, (x[1:-1] - x[:-2]) / np.where(span > 0, span, 1.0), 0.5)
    beside = residual[1:-1] - (1 - part) * residual[:-2] - part * residual[2:]
    variance = sigma[1:-1] ** 2 + ((1 - part) * sigma[:-2]) ** 2 + (part * sigma[2:]) ** 2
    return float(np.mean(beside**2 / variance)) / total
