"""Amplification of spontaneous emission along a stripe."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import special


def amplified_emission(a: ArrayLike, g: ArrayLike, saturation: float, length: ArrayLike) -> np.ndarray:
    """Intensity at the end of a stripe: dI/dz = g I/(1 + I/I_s) + a for g > 0, no saturation for g <= 0.

    With b = g + a/I_s, k = a/(g I_s), X = b^2 L/g the solution is (a/b) expm1(X + k - omega(ln k + k + X)), omega the
    Wright omega function. Near g = 0 that is the difference of large numbers; there the small-signal form
    a expm1(g L)/g is used, with the saturation to first order in g L (error below 1e-6 for g L < 1e-3).

    :param a: Spontaneous emission per unit length.
    :param g: Net gain per unit length, either sign; broadcast against ``a``.
    :param saturation: Saturation intensity I_s, in the unit of the result.
    :param length: Stripe length, in the unit of 1/g; a number, or broadcast against ``a``.
    """
    inputs = (np.asarray(a, dtype=float), np.asarray(g, dtype=float), np.asarray(length, dtype=float))
    spontaneous, gain, length = np.broadcast_arrays(*inputs)
    product = gain * length
    # expm1(x)/x is 1 + x/2 to machine precision where the division fails.
    tiny = np.abs(product) < 1e-8
    safe = np.where(tiny, 1.0, product)
    small_signal = np.where(tiny, 1.0 + 0.5 * product, np.expm1(np.minimum(safe, 700.0)) / safe)
    result = np.asarray(spontaneous * length * small_signal)
    depth = spontaneous * length / saturation
    nearly_zero = (product > 0.0) & (product < 1e-3)
    if nearly_zero.any():
        r = depth[nearly_zero]
        series = r / 3.0 - r**2 / 4.0 + r**3 / 5.0
        exact = 0.5 - (r - np.log1p(r)) / np.where(r > 0.0, r, 1.0) ** 2
        first_order = np.where(r < 1e-2, series, exact)
        result[nearly_zero] -= spontaneous[nearly_zero] * length[nearly_zero] * product[nearly_zero] * first_order
    amplified = (product >= 1e-3) & (spontaneous > 0.0)
    if amplified.any():
        source, rate = spontaneous[amplified], gain[amplified]
        b = rate + source / saturation
        k = source / (rate * saturation)
        x = b * b * length[amplified] / rate
        result[amplified] = source / b * np.expm1(x + k - special.wrightomega(np.log(k) + k + x))
    return result
