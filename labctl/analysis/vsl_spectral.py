"""Gain spectrum g(lambda) of a stripe-length scan, where it changes sign, and the ratio of two lengths for display.

Every group of pixels is fitted with the model that the band fit chose, and shares with it what cannot depend on
wavelength, or hardly does: the stripe zero, the share of the emission that is there while the gain lives, and the
saturation intensity per pixel (the same for all wavelengths; where the detection is uneven the spectra must be
corrected for it first). Left to each group are its spontaneous emission and its gain, of either sign. Where the gain
is zero the light is proportional to the length, whatever those shared values are: errors of them stretch the spectrum
but do not move its zeros.

The points of a length share its scatter, so errors of neighbouring groups are not independent: a scan that bends a
little bends at all wavelengths, and where only a few per cent of the emission are amplified that moves the zeros by
some nm. If the loss is known, from a loss run, the light far to the red of the gain line serves as the reference of
each length: there the net gain is minus the loss. What it misses there is divided out everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import leastsq

from labctl.analysis.estimate import Estimate
from labctl.analysis.vsl_amplification import Array
from labctl.analysis.vsl_bands import Band, band_mean
from labctl.analysis.vsl_gain import GainFit
from labctl.analysis.vsl_shapes import StripeShapes

BIN_NM = 2.0
_FAINTEST = 0.004
"""Groups whose light is weaker than this share of the strongest, per length, have no gain worth showing."""
_WING_WIDTHS = 2.5
"""From this many half widths of the gain line to the red of its peak on, a Gaussian line has 1 % of its height left."""
_WING_NOISE = 0.01
"""A wing known worse than this per length is no reference."""
_UNREFERENCED_SHARE = 0.2
"""Error common to all groups without such a reference, in units of the peak gain: model spectra with 2 % scatter per
length missed the zeros of rings by up to 4 nm, on the steep side of which the gain changes by a fifth of its peak."""
_FLOOR_SHARE = 0.01
_WINDOW_NM = 4.1
Side = Literal["blue", "red"]
_SIDES: tuple[Side, Side] = ("blue", "red")


@dataclass(frozen=True)
class GainSpectrum:
    """Net gain against wavelength: [m] each, ascending; nan where the light is too weak.

    :param peak_gain: Vertex of a parabola through the top of the spectrum, 1/cm; ``peak_nm`` where it is.
    :param sign_changes: Wavelength at which the gain goes through zero on each side of the peak, where it does.
    :param referenced: Whether the red wing of the line served as the reference of each length.
    """

    wavelength_nm: Array
    gain_cm1: Array
    sd_cm1: Array
    bin_nm: float
    peak_gain: Estimate | None
    peak_nm: float | None
    sign_changes: dict[Side, Estimate]
    referenced: bool

    def as_dict(self) -> dict[str, Any]:
        """Return a dict for JSON."""
        return {
            "wavelength_nm": self.wavelength_nm.tolist(),
            "gain_cm1": [float(g) if np.isfinite(g) else None for g in self.gain_cm1],
            "sd_cm1": [float(g) if np.isfinite(g) else None for g in self.sd_cm1],
            "bin_nm": self.bin_nm,
            "peak_gain": None if self.peak_gain is None else self.peak_gain.as_dict(),
            "peak_nm": self.peak_nm,
            "sign_changes": {side: e.as_dict() for side, e in self.sign_changes.items()},
            "referenced": self.referenced,
        }


@dataclass(frozen=True)
class _Shared:
    """What all groups have in common: curves of unit strength, zero (cm), share amplified while the gain lives, I_s."""

    shapes: StripeShapes
    zero_cm: float
    share: float
    saturation: float

    @property
    def length_cm(self) -> Array:
        """Get the true lengths, cm, [n]."""
        return self.shapes.length_cm - self.zero_cm

    def light(self, emission: float, gain: float) -> Array:
        """Return the light of a group whose whole spontaneous emission per cm is ``emission``."""
        early = self.share * emission
        depth = early / (gain * self.saturation) if gain > 0.0 else 0.0
        amplified = self.shapes.amplified(np.array(gain), np.array(depth), self.zero_cm)
        return (1.0 - self.share) * emission * self.shapes.late(self.zero_cm) + early * amplified


def gain_spectrum(
    band_fit: GainFit,
    band: Band,
    length_um: ArrayLike,
    wavelength_nm: ArrayLike,
    spectra: ArrayLike,
    errors: ArrayLike | None = None,
    bin_nm: float = BIN_NM,
    loss: Estimate | None = None,
) -> GainSpectrum:
    """Return the net gain of groups of pixels ``bin_nm`` wide.

    :param band_fit: Fit of the band, with or without shifted spots. :param band: Its band, about which the groups are
        laid.
    :param length_um: [n]. :param wavelength_nm: [pixels]. :param spectra: Background-free, [n, pixels]; ``errors``
        alike.
    :param loss: Propagation loss, 1/cm, from a loss run.
    """
    wavelength = np.asarray(wavelength_nm, dtype=float)
    light = np.asarray(spectra, dtype=float)
    noise = None if errors is None else np.asarray(errors, dtype=float)
    length, zero = 1e-4 * np.asarray(length_um, dtype=float), band_fit.curve.zero_cm
    order = np.argsort(length, kind="stable")
    order = order[length[order] > zero]
    shapes = band_fit.shapes.at(length[order])
    shared = _Shared(shapes, zero, band_fit.amplified_share, band_fit.curve.saturation)
    groups = _groups(band, wavelength, light[order], None if noise is None else noise[order], bin_nm)
    scatter = band_fit.error_scale * band_fit.relative_error
    gains, sds = _gains(shared, groups, scatter, band_fit.gain.value)
    reference = None if loss is None else _wing(shared, groups, gains, sds, loss.value)
    common = 0.0
    if reference is not None and loss is not None:
        factor, left = reference
        groups = _Groups(groups.centre_nm, groups.light / factor, groups.error)
        gains, sds = _gains(shared, groups, max(left, 1e-3), band_fit.gain.value)
        common = loss.sd
    peak, peak_nm = _peak(groups.centre_nm, gains, sds, bin_nm)
    changes: dict[Side, Estimate] = {}
    if peak is not None and peak_nm is not None and peak.value > 0:
        if reference is None:
            common = _UNREFERENCED_SHARE * peak.value
        for side in _SIDES:
            change = _sign_change(groups.centre_nm, gains, sds, peak_nm, side)
            if change is not None:
                changes[side] = _with_common(change, groups.centre_nm, gains, common)
    return GainSpectrum(groups.centre_nm, gains, sds, bin_nm, peak, peak_nm, changes, reference is not None)


@dataclass(frozen=True)
class _Groups:
    """Groups of pixels: centres [m], mean light and its standard deviation [m, n], zero if none is known."""

    centre_nm: Array
    light: Array
    error: Array


def _groups(band: Band, wavelength: Array, light: Array, noise: Array | None, bin_nm: float) -> _Groups:
    first = int(np.ceil((wavelength.min() + 0.5 * bin_nm - band.centre_nm) / bin_nm))
    last = int(np.floor((wavelength.max() - 0.5 * bin_nm - band.centre_nm) / bin_nm))
    centres = band.centre_nm + bin_nm * np.arange(first, last + 1, dtype=np.float64)
    rows = [band_mean(Band(c, bin_nm), wavelength, light, noise) for c in centres]
    errors = [np.zeros_like(mean) if error is None else error for mean, error in rows]
    return _Groups(centres, np.array([mean for mean, _ in rows]), np.array(errors))


def _gains(shared: _Shared, groups: _Groups, scatter: float, band_gain: float) -> tuple[Array, Array]:
    """Return gain and standard deviation of each group, [m]; nan where it is too dark."""
    per_length = np.median(groups.light / shared.length_cm, axis=1)
    gains, sds = np.full(groups.centre_nm.shape, np.nan), np.full(groups.centre_nm.shape, np.nan)
    for k in np.flatnonzero(per_length > _FAINTEST * per_length.max()):
        gains[k], sds[k] = _fit(shared, groups.light[k], groups.error[k], scatter, band_gain)
    return gains, sds


def _wing(shared: _Shared, groups: _Groups, gains: Array, sds: Array, loss_cm1: float) -> tuple[Array, float] | None:
    """Return the factor [n] by which each length departs from the loss in the red wing, and how well it is known."""
    known = np.flatnonzero(np.isfinite(gains) & np.isfinite(sds))
    if known.size < 4:
        return None
    top = int(known[np.argmax((gains - sds)[known])])
    half = 0.5 * (gains[top] - loss_cm1)
    fallen = known[(known > top) & (gains[known] < half)]
    if fallen.size == 0 or gains[top] <= 0:
        return None
    begin = groups.centre_nm[top] + _WING_WIDTHS * (groups.centre_nm[fallen[0]] - groups.centre_nm[top])
    wing = known[groups.centre_nm[known] >= begin]
    if wing.size == 0:
        return None
    light = groups.light[wing].sum(axis=0)
    left = float(np.median(np.sqrt(np.sum(groups.error[wing] ** 2, axis=0)) / np.maximum(light, 1e-300)))
    if not np.all(light > 0) or left > _WING_NOISE:
        return None
    factor = light / shared.light(1.0, -loss_cm1)
    return factor / float(np.exp(np.mean(np.log(factor)))), left


def display_ratio(
    length_um: ArrayLike, spectra: ArrayLike, short_um: float, zero_um: float = 0.0
) -> tuple[float, Array] | None:
    """Return (L in µm, ln(I(2L)/I(L) - 1)/L in 1/cm for each pixel) of a length near ``short_um`` and one twice as
    long.

    For a small signal without late light that is the gain; otherwise it is a picture, and comes out too small. nan
    where I(2L) <= I(L). None if no measured length is within 10 % of twice the other.
    """
    length = np.asarray(length_um, dtype=float) - zero_um
    light = np.asarray(spectra, dtype=float)
    positive = np.flatnonzero(length > 0)
    if positive.size < 2:
        return None
    short = int(positive[np.argmin(np.abs(length[positive] - short_um))])
    long = int(np.argmin(np.abs(length - 2.0 * length[short])))
    if long == short or abs(length[long] / length[short] - 2.0) > 0.2:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = light[long] / light[short] - length[long] / length[short] + 1.0
        gain = np.where((light[short] > 0) & (ratio > 0), np.log(ratio), np.nan) / (1e-4 * length[short])
    return float(length[short]), gain


def _fit(shared: _Shared, light: Array, error: Array, scatter: float, band_gain: float) -> tuple[float, float]:
    """Return gain and its standard deviation of one group of pixels."""
    sigma = np.hypot(scatter * np.abs(light), error)
    sigma = np.maximum(sigma, 1e-9 * np.max(np.abs(light)))
    weight = 1.0 / sigma
    top = float(shared.length_cm[-1])
    short = shared.length_cm <= max(shared.length_cm[2], 0.1 * top)
    emission = max(float(np.median(light[short] / shared.length_cm[short])), 1e-12 * float(np.max(np.abs(light))))

    def residual(z: Array) -> Array:
        missed = (shared.light(emission * float(np.exp(np.clip(z[0], -9.0, 9.0))), float(z[1]) / top) - light) * weight
        return np.nan_to_num(missed, nan=1e9, posinf=1e9, neginf=-1e9)

    trials = top * np.concatenate([[-10.0, 0.0], np.linspace(0.1, 1.4, 11) * max(abs(band_gain), 1.0 / top)])
    start = min(trials, key=lambda gl: float(np.sum(residual(np.array([0.0, gl])) ** 2)))
    found = leastsq(residual, np.array([0.0, start]), maxfev=200, epsfcn=1e-10, full_output=True)
    z, covariance = np.asarray(found[0]), found[1]
    if covariance is None or not covariance[1, 1] > 0:
        return np.nan, np.nan
    excess = max(1.0, float(np.sum(residual(z) ** 2)) / max(light.size - 2, 1))
    return float(z[1]) / top, float(np.sqrt(excess * covariance[1, 1])) / top


def _peak(centres: Array, gains: Array, sds: Array, bin_nm: float) -> tuple[Estimate | None, float | None]:
    """Return height and place of the top: a parabola through the five groups about the largest gain."""
    known = np.isfinite(gains) & np.isfinite(sds) & (sds > 0)
    if not known.any():
        return None, None
    top = int(np.argmax(np.where(known, gains - sds, -np.inf)))
    near = np.flatnonzero(known & (np.abs(centres - centres[top]) <= 2.01 * bin_nm))
    if near.size < 4:
        return Estimate.from_sd(float(gains[top]), float(sds[top]), "cm^-1"), float(centres[top])
    offset = centres[near] - centres[top]
    c2, c1, c0 = np.polyfit(offset, gains[near], 2, w=1.0 / sds[near])
    if c2 >= 0 or abs(c1 / c2) > 4.0 * bin_nm:
        return Estimate.from_sd(float(gains[top]), float(sds[top]), "cm^-1"), float(centres[top])
    # The groups share the scatter of the lengths: averaging them does not make the peak better known than one of them.
    return Estimate.from_sd(float(c0 - 0.25 * c1**2 / c2), float(sds[top]), "cm^-1"), float(
        centres[top] - 0.5 * c1 / c2
    )


def _with_common(change: Estimate, centres: Array, gains: Array, common_cm1: float) -> Estimate:
    """Return the place of the zero with what an error common to all groups adds, by the slope of the gain there."""
    known = np.isfinite(gains)
    near = known & (np.abs(centres - change.value) < 6.0)
    if common_cm1 == 0.0 or near.sum() < 2:
        return change
    slope = abs(float(np.polyfit(centres[near], gains[near], 1)[0]))
    return Estimate.from_sd(change.value, float(np.hypot(change.sd, common_cm1 / max(slope, 0.1))), change.unit)


def _sign_change(centres: Array, gains: Array, sds: Array, peak_nm: float, side: Side) -> Estimate | None:
    """Return where the gain falls through zero beside its peak.

    The place is looked for in means of three neighbouring groups, weighted with their errors: dark groups scatter
    widely. A weighted straight line through the groups within 4 nm of it gives the zero.
    """
    beside = centres >= peak_nm if side == "red" else centres <= peak_nm
    known = np.flatnonzero(np.isfinite(gains) & np.isfinite(sds) & (sds > 0) & beside)
    walk = known[np.argsort(np.abs(centres[known] - peak_nm))]
    if walk.size < 5:
        return None
    # A common floor keeps groups without noise of their own from outweighing all others.
    sigma = np.hypot(sds[walk], _FLOOR_SHARE * float(gains[walk[0]]))
    weight, g = 1.0 / sigma**2, gains[walk]
    mean = np.convolve(weight * g, np.ones(3), mode="same") / np.convolve(weight, np.ones(3), mode="same")
    below = np.flatnonzero(mean <= 0.0)
    if below.size == 0 or below[0] == 0:
        return None
    offset = centres[walk] - centres[walk[below[0]]]
    near = np.abs(offset) <= _WINDOW_NM
    if near.sum() < 3:
        return None
    slope, level = np.polyfit(offset[near], g[near], 1, w=1.0 / sigma[near])
    if slope == 0.0 or (slope > 0) != (side == "blue"):
        return None
    # Errors of groups are common more often than not: their mean is taken, not their mean over sqrt(n).
    sd = float(np.average(sds[walk][near], weights=weight[near])) / abs(float(slope))
    return Estimate.from_sd(float(centres[walk[below[0]]] - level / slope), sd, "nm")
