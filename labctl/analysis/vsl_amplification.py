"""Light that a pumped stripe amplifies on its way to the edge: small signal, and saturating.

With the spontaneous emission a per cm, the net modal gain g and the saturation intensity I_s, the light that runs to
the edge obeys dI/dz = g I/(1 + I/I_s) + a (one-dimensional, homogeneous, one direction). Small signal (I_s infinite)::

    I(L) = (a/g) (exp(g L) - 1) = a L E(g L),   E(x) = expm1(x)/x

and in general, with b = g + a/I_s, k = a/(g I_s) and X = b^2 L/g::

    I(L) = (a/b) expm1(U),   U = X + k - omega(ln k + k + X)

omega being Wright's omega function. U solves U + k expm1(U) = X, which is how the digits that the difference loses are
got back. The light from a place x behind the edge has then been amplified exp(Gamma(L) - Gamma(L - x)) times, with
Gamma(z) = U(z)/(1 + k): the gain g/(1 + I/I_s) integrated along the stripe.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
_LARGEST_EXPONENT = 700.0
_SMALLEST_DEPTH = 1e-290
_LARGEST_DEPTH = 1e150


def growth(x: ArrayLike) -> Array:
    """Return E(x) = expm1(x)/x, 1 at x = 0; same shape. Exact to rounding for either sign; inf beyond x = 709."""
    values = np.asarray(x, dtype=float)
    zero = values == 0.0
    with np.errstate(over="ignore"):
        return np.where(zero, 1.0, np.expm1(values) / np.where(zero, 1.0, values))


def small_signal(length_cm: ArrayLike, spontaneous: ArrayLike, gain_cm1: ArrayLike) -> Array:
    """Return a L E(g L), in the unit of ``spontaneous`` times cm, for gains of either sign; arguments are broadcast."""
    length = np.asarray(length_cm, dtype=float)
    return np.asarray(spontaneous, dtype=float) * length * growth(np.asarray(gain_cm1, dtype=float) * length)


def saturable(length_cm: ArrayLike, spontaneous: ArrayLike, gain_cm1: ArrayLike, saturation: ArrayLike) -> Array:
    """Return the light at the edge of a stripe that saturates; all arguments are broadcast.

    :param spontaneous: a >= 0, intensity per cm. :param saturation: I_s > 0, an intensity; inf for none.

    Where the gain is not positive nothing saturates: the small-signal form holds.
    """
    spontaneous = np.asarray(spontaneous, dtype=float)
    gain = np.asarray(gain_cm1, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        depth = np.where(gain > 0.0, spontaneous / (gain * np.asarray(saturation, dtype=float)), 0.0)
    return spontaneous * unit_emission(length_cm, gain, depth)


def unit_emission(length_cm: ArrayLike, gain_cm1: ArrayLike, depth: ArrayLike) -> Array:
    """Return I/a, cm, of a stripe with the saturation ``depth`` k = a/(g I_s) >= 0; all arguments are broadcast."""
    length, gain, k = np.broadcast_arrays(*(np.asarray(v, dtype=float) for v in (length_cm, gain_cm1, depth)))
    result = np.array(small_signal(length, 1.0, gain))
    some = (gain > 0.0) & (k > 0.0) & (length > 0.0)
    if some.any():
        result[some] = np.expm1(_exponent(length[some], gain[some], k[some])) / (gain[some] * (1.0 + k[some]))
    return result


def light_by_origin(
    length_cm: Array, gain_cm1: float, depth: float, nodes: Array, weights: Array
) -> tuple[Array, Array]:
    """Return where in a stripe its light comes from, as nodes of a quadrature over each length.

    :param length_cm: [n]. :param depth: k. :param nodes: Of a rule on 0 to 1, [q], with its ``weights``.
    :returns: Distances x from the edge, cm, and the light that comes from there per unit of a, with the weights of the
        quadrature, cm; [n, q] each. The sum over the second gives I/a.

    For a positive gain the quadrature runs over U, which holds place and amplification in closed form:
    z = (U + k expm1(U))/(g (1 + k)^2) from the far end, amplified exp((U(L) - U)/(1 + k)) times from there on.
    """
    if gain_cm1 <= 0.0:
        x = length_cm[:, None] * nodes
        return x, length_cm[:, None] * weights * np.exp(gain_cm1 * x)
    gain, k = np.full_like(length_cm, gain_cm1), np.full_like(length_cm, depth)
    whole = _exponent(length_cm, gain, k)[:, None] if depth > 0.0 else np.minimum(gain * length_cm, 700.0)[:, None]
    u = whole * nodes
    per_cm = gain_cm1 * (1.0 + depth) ** 2
    z = (u + depth * np.expm1(u)) / per_cm
    light = weights * whole * (1.0 + depth * np.exp(u)) / per_cm * np.exp((whole - u) / (1.0 + depth))
    return np.maximum(length_cm[:, None] - z, 0.0), light


def _exponent(length: Array, gain: Array, k: Array) -> Array:
    """Return the U that solves U + k expm1(U) = X = g (1 + k)^2 L."""
    k = np.clip(k, _SMALLEST_DEPTH, _LARGEST_DEPTH)
    x = gain * (1.0 + k) ** 2 * length
    u = x + k - np.asarray(special.wrightomega(np.log(k) + k + x), dtype=float)
    ceiling = np.minimum(np.minimum(x, np.log1p(x / k)), _LARGEST_EXPONENT)
    u = np.clip(u, 0.0, ceiling)
    for _ in range(2):
        u = np.clip(u - (u + k * np.expm1(u) - x) / (1.0 + k * np.exp(u)), 0.0, ceiling)
    return u


def saturation_length_cm(gain_cm1: float, depth: float, share: float = 0.9) -> float | None:
    """Return the length at which the light has fallen to ``share`` of the small-signal light; None without saturation.

    :param depth: k = a/(g I_s).
    """
    if gain_cm1 <= 0.0 or depth <= 0.0:
        return None

    def excess(log_length: float) -> float:
        length = float(np.exp(log_length))
        return float(unit_emission(length, gain_cm1, depth) / small_signal(length, 1.0, gain_cm1)) - share

    low, high = np.log(1e-9 / gain_cm1), np.log(600.0 / gain_cm1)
    if excess(low) <= 0.0 or excess(high) >= 0.0:
        return None
    return float(np.exp(optimize.root_scalar(excess, bracket=(low, high), xtol=1e-10).root))
