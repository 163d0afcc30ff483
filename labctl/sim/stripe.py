"""Light from the edge of a stripe that a slit cuts: away from the edge, seen through a lens, unevenly pumped.

What :func:`labctl.sim.sample.amplified_emission` is for a stripe at the edge of the film and for a spectrograph that
collects all light alike.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from labctl.sim.amplification import amplified_emission

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(12)
_NODES, _WEIGHTS = 0.5 * (_NODES + 1.0), 0.5 * _WEIGHTS
_SLABS = 32


def collection(x: np.ndarray, x0: float) -> np.ndarray:
    """Get the share of light from a distance x to the edge that is collected: 1/(1 + (x/x0)^2)."""
    return 1.0 / (1.0 + (x / x0) ** 2)


def collected_spontaneous(a: np.ndarray, begin: float, length: float, x0: float) -> np.ndarray:
    """Integrate a times the collection over the stripe."""
    return a * x0 * (np.arctan((begin + length) / x0) - np.arctan(begin / x0))


def collected_amplified(
    a: np.ndarray, g: np.ndarray, saturation: float, begin: float, length: float, x0: float
) -> np.ndarray:
    """Get the amplified light of a stripe of which what starts far from the edge is collected less.

    Light that starts at x leaves the edge amplified exp(Gamma(L) - Gamma(L - x)) times, Gamma(z) being the gain
    g/(1 + I/I_s) integrated from the far end to z, and is collected with the share of x. With I = (a/b)(e^u - 1),
    b = g + a/I_s, k = a/(g I_s), the place is z = I/(b I_s) + (g/b^2) u and Gamma = (g/b) u, so that the integral over
    the origins becomes one of (1 + k e^u) exp(-(g/b) u) collection(L - z) over u, by Gauss-Legendre. Without saturation
    (g <= 0), or next to no gain, it is one over x.

    :param begin: Distance from the edge of the film to the stripe; losses on that way are not in the result.
    """
    whole = amplified_emission(a, g, saturation, length)
    spontaneous, gain = np.broadcast_arrays(a, g)
    amplified = (gain * length >= 1e-3) & (spontaneous > 0.0)
    share = np.empty(whole.shape)
    if (~amplified).any():
        x = length * _NODES
        weights = _WEIGHTS * np.exp(np.multiply.outer(gain[~amplified], x))
        share[~amplified] = weights @ collection(begin + x, x0) / weights.sum(axis=-1)
    if amplified.any():
        source, rate = spontaneous[amplified][:, None], gain[amplified][:, None]
        b = rate + source / saturation
        u = np.log1p(b * whole[amplified][:, None] / source) * _NODES
        grown = np.exp(u)
        z = (source / (b * b * saturation)) * (grown - 1.0) + rate / (b * b) * u
        weights = _WEIGHTS * (1.0 + source / (rate * saturation) * grown) * np.exp(-(rate / b) * u)
        share[amplified] = (weights * collection(begin + length - z, x0)).sum(axis=-1) / weights.sum(axis=-1)
    return whole * share


def unevenly_pumped(
    light: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    profile: Callable[[np.ndarray], np.ndarray],
    saturation: float,
    begin: float,
    length: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Get spontaneous and amplified light of a stripe along which the fluence changes, in slabs of even pump.

    :param light: Gets emission a and gain g, per unit length, from the pump in units of that of the even beam.
    :param profile: That pump at distances from the edge of the film.
    """
    step = length / _SLABS
    pump = profile(begin + step * (np.arange(_SLABS)[::-1] + 0.5))
    first, _ = light(pump[0])
    spontaneous, amplified = np.zeros_like(first), np.zeros_like(first)
    for share in pump:
        a, g = light(share)
        spontaneous = spontaneous + a * step
        amplified = _through_slab(amplified, a, np.broadcast_to(g, np.shape(a)), saturation, step)
    return spontaneous, amplified


def _through_slab(entering: np.ndarray, a: np.ndarray, g: np.ndarray, saturation: float, step: float) -> np.ndarray:
    """Let light pass a slab: as if it came from a longer stripe of the same pump."""
    leaving = entering * np.exp(np.minimum(g, 0.0) * step) + amplified_emission(a, np.minimum(g, 0.0), saturation, step)
    gains = (g > 0.0) & (a > 0.0)
    if gains.any():
        source, rate, light = a[gains], g[gains], entering[gains]
        b = rate + source / saturation
        before = light / (b * saturation) + rate / (b * b) * np.log1p(b * light / source)
        leaving[gains] = amplified_emission(source, rate, saturation, before + step)
    return leaving
