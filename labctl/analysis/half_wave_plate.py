"""The law of Malus of a half-wave plate before a polariser: transmitted energy against angle, there and back.

    E(θ) = T0 + (T1 − T0) cos²[2 (θ − θ0)]

The factor 2 is that of a half-wave plate: the polarisation turns twice as far as the plate.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

PERIOD_DEG = 90.0
"""The transmission repeats after a quarter turn of the plate."""


def transmitted(angle_deg: ArrayLike, minimum: float, maximum: float, theta0_deg: float) -> NDArray[np.float64]:
    """Return the energy at angles in deg (any shape), in the unit of ``minimum`` T0 and ``maximum`` T1.

    :param theta0_deg: Angle of full transmission, deg.
    """
    turn = np.deg2rad(2.0 * (np.asarray(angle_deg, dtype=float) - theta0_deg))
    return minimum + (maximum - minimum) * np.cos(turn) ** 2


def angle_deg(energy: float, minimum: float, maximum: float, theta0_deg: float) -> float:
    """Return the angle in [θ0, θ0 + 45°] that gives ``energy``.

    :raises ValueError: An energy outside ``minimum`` to ``maximum``.
    """
    if not minimum <= energy <= maximum:
        raise ValueError(f"{energy:.4g} lies outside {minimum:.4g} to {maximum:.4g}")
    share = (energy - minimum) / (maximum - minimum)
    return theta0_deg + math.degrees(math.acos(math.sqrt(share))) / 2
