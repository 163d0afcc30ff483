"""Edge of a film from a scan of the blade: where the stripe begins to have a length.

At a low pump the light of the whole line grows in proportion to the stripe, I = c + s R(x - x_e), with R a ramp that
the sharpness of the blade's image rounds: R = w phi(u/w) + u Phi(u/w), a straight edge convolved with a Gaussian of
standard deviation w. Loss and gain bend the ramp; a quadratic term is kept when BIC asks for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import special
from scipy.optimize import leastsq

from labctl.analysis.estimate import Estimate, data_hash
from labctl.analysis.vsl_amplification import Array
from labctl.analysis.vsl_gain import NoGain

MIN_POSITIONS = 8
MIN_EACH_SIDE = 3
_FIRST_RELATIVE_ERROR = 0.02
_GRID = 80


@dataclass(frozen=True)
class EdgeFit:
    """Position of the edge.

    :param position: µm, in the coordinate of the blade. :param rounding_um: w, how sharp the blade is imaged.
    :param slope: Light per µm. :param offset: Light without stripe. :param bent: Whether the ramp is curved.
    """

    position: Estimate
    rounding_um: float
    slope: float
    offset: float
    bent: bool
    relative_error: float
    chi2: float
    dof: int
    data_sha256: str

    def as_dict(self) -> dict[str, Any]:
        """Return a dict for JSON."""
        return {
            **self.position.as_dict(),
            "rounding_um": self.rounding_um,
            "slope": self.slope,
            "offset": self.offset,
            "bent": self.bent,
            "relative_error": self.relative_error,
            "chi2": self.chi2,
            "dof": self.dof,
            "data_sha256": self.data_sha256,
        }


def find_edge(
    position_um: ArrayLike, intensity: ArrayLike, *, error: ArrayLike | None = None, direction: int = 1
) -> EdgeFit:
    """Find the edge in a scan of the blade.

    :param position_um: Blade, µm, [n]. :param intensity: Light of the whole line at low pump, [n], not necessarily
        background-free. :param error: Standard deviation of each by itself (counting, read-out).
    :param direction: +1 if the stripe grows with the position, -1 if it shrinks.

    The relative scatter of the points beyond ``error`` is estimated. Raises `NoGain` if no edge lies within the scan
    with three positions on either side, ValueError on malformed input.
    """
    x, y = np.asarray(position_um, dtype=float), np.asarray(intensity, dtype=float)
    own = np.zeros_like(y) if error is None else np.asarray(error, dtype=float)
    if x.ndim != 1 or not x.shape == y.shape == own.shape or direction not in (1, -1):
        raise ValueError(
            f"positions {x.shape}, intensities {y.shape} and errors must be equally long; direction +1 or -1"
        )
    use = np.isfinite(x) & np.isfinite(y)
    x, y, own = direction * x[use], y[use], own[use]
    if np.unique(x).size < MIN_POSITIONS:
        raise NoGain(f"only {np.unique(x).size} usable positions; an edge needs at least {MIN_POSITIONS}")
    dark = x <= np.quantile(x, 0.15)
    noise = max(float(np.std(y[dark], ddof=1)) if dark.sum() > 2 else 0.0, 1e-4 * float(np.ptp(y)), 1e-300)
    relative = _FIRST_RELATIVE_ERROR
    sigma = np.sqrt(np.maximum(own, noise) ** 2 + (relative * np.abs(y - np.min(y))) ** 2)
    fits: dict[bool, tuple[Array, float, Array | None]] = {}
    for _ in range(3):
        fits = {bent: _fit(x, y, sigma, bent) for bent in (False, True)}
        z, chi2, _ = fits[True]
        level = np.abs(_curve(z, x, True) - z[1])
        factor = float(np.sqrt(max(chi2, 1e-12) / max(x.size - z.size, 1)))
        relative = float(np.clip(relative * factor, 1e-4, 0.5))
        sigma = np.sqrt(np.maximum(own, noise) ** 2 + (relative * level) ** 2)
    fits = {bent: _fit(x, y, sigma, bent) for bent in (False, True)}
    cost = float(np.log(x.size))
    bent = fits[True][1] + cost < fits[False][1]
    z, chi2, covariance = fits[bent]
    place, dof = float(z[0]), max(x.size - z.size, 1)
    covariance = _require(x, place, z, covariance)
    sd = float(np.sqrt(covariance[0, 0] * max(1.0, chi2 / dof)))
    reach = [float(special.stdtrit(dof, 0.5 + 0.5 * q)) * sd for q in (0.6827, 0.95)]
    value = direction * place
    return EdgeFit(
        Estimate(value, "um", (value - reach[0], value + reach[0]), (value - reach[1], value + reach[1])),
        rounding_um=float(np.exp(z[3])),
        slope=float(z[2]),
        offset=float(z[1]),
        bent=bent,
        relative_error=relative,
        chi2=chi2,
        dof=dof,
        data_sha256=data_hash(position_um, intensity, error),
    )


def _curve(z: Array, x: Array, bent: bool) -> Array:
    """Return the light for z = edge, offset, slope, ln w and, if bent, the relative curvature over the scan."""
    u, w = x - z[0], np.exp(np.clip(z[3], -3.0, 5.0))
    ramp = w * np.exp(-0.5 * np.minimum((u / w) ** 2, 1400.0)) / np.sqrt(2 * np.pi) + u * special.ndtr(u / w)
    return z[1] + z[2] * ramp * (1.0 + (z[4] * ramp / np.ptp(x) if bent else 0.0))


def _fit(x: Array, y: Array, sigma: Array, bent: bool) -> tuple[Array, float, Array | None]:
    """Return parameters, chi2 and covariance, from the best sharp hinge of a grid of edges."""
    best: tuple[float, Array] | None = None
    for place in np.linspace(x.min(), x.max(), _GRID)[1:-1]:
        basis = np.stack([np.ones_like(x), np.maximum(x - place, 0.0)], axis=1) / sigma[:, None]
        (offset, slope), *_ = np.linalg.lstsq(basis, y / sigma, rcond=None)
        chi2 = float(np.sum((basis @ np.array([offset, slope]) - y / sigma) ** 2))
        if slope > 0 and (best is None or chi2 < best[0]):
            best = chi2, np.array([place, offset, slope])
    if best is None:
        raise NoGain("the light does not grow with the blade: no edge in this scan, or the direction is the other one")
    width = float(np.median(np.abs(np.diff(np.sort(x)))))
    start = np.array([*best[1], np.log(max(0.5 * width, 0.5)), *([0.0] if bent else [])])
    # The width of the image has a weak prior: a scan in coarse steps does not show it.
    out = leastsq(
        lambda z: np.append((_curve(z, x, bent) - y) / sigma, (z[3] - start[3]) / 1.0),
        start,
        maxfev=600,
        full_output=True,
    )
    z = np.asarray(out[0], dtype=float)
    chi2 = float(np.sum(((_curve(z, x, bent) - y) / sigma) ** 2))
    return z, chi2, None if out[1] is None else np.asarray(out[1])


def _require(x: Array, place: float, z: Array, covariance: Array | None) -> Array:
    """Return the covariance of an edge that the scan shows; raises NoGain if it shows none."""
    below, above = int(np.sum(x < place)), int(np.sum(x > place))
    if covariance is None or z[2] <= 0:
        raise NoGain("the scan of the blade shows no edge")
    if z[2] < 4.0 * float(np.sqrt(covariance[2, 2])):
        raise NoGain("the light grows too little with the blade to show an edge: pump more, or expose longer")
    if below < MIN_EACH_SIDE or above < MIN_EACH_SIDE:
        raise NoGain(
            f"the edge seems to lie near {place:.1f} um with {below} positions before and {above} behind it:"
            f" scan so that at least {MIN_EACH_SIDE} lie on either side"
        )
    return covariance
