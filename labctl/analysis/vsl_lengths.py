"""Which stripe lengths to measure."""

from __future__ import annotations

import numpy as np

from labctl.analysis.vsl_amplification import Array

SMALLEST_COUNT = 20
SHORTEST_GL = 0.25
"""First length, in units of 1/g, if that is not shorter than ``SHORTEST_UM``."""
SHORTEST_UM = 10.0
"""Shorter stripes depend on the error of the stripe zero more than on anything else."""
DENSE_GL = 3.0
_DENSE_SHARE = 0.5


def lengths_um(expected_gain_cm1: float, longest_um: float, count: int = 28) -> Array:
    """Return stripe lengths, µm, ascending: half of them up to g L = 3, the others evenly up to the longest.

    Several lie below g L = 1, where the light is still proportional to the length; the last ones are in saturation if
    the stripe is long enough for it. Rounded to 0.1 µm.

    :param expected_gain_cm1: Rough net gain, > 0. :param longest_um: Longest even stripe. :param count: At least 20.
    """
    if count < SMALLEST_COUNT:
        raise ValueError(f"a gain needs at least {SMALLEST_COUNT} stripe lengths, not {count}")
    if not expected_gain_cm1 > 0 or not longest_um > 2.0 * SHORTEST_UM:
        raise ValueError(
            f"expected gain {expected_gain_cm1} /cm must be positive, and the longest stripe {longest_um} um"
            f" longer than {2 * SHORTEST_UM} um"
        )
    per_gl = 1e4 / expected_gain_cm1
    shortest = min(max(SHORTEST_GL * per_gl, SHORTEST_UM), 0.25 * longest_um)
    bend = DENSE_GL * per_gl
    if bend >= 0.9 * longest_um or bend <= shortest:
        return np.round(np.linspace(shortest, longest_um, count), 1)
    dense = round(_DENSE_SHARE * count)
    first = np.linspace(shortest, bend, dense)
    rest = np.linspace(bend, longest_um, count - dense + 1)[1:]
    return np.round(np.concatenate([first, rest]), 1)
