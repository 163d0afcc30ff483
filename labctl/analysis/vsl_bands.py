"""Bands of the spectra of a stripe-length scan: where the amplified light is, and its intensity at each length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from labctl.analysis.vsl_amplification import Array, Mask

BAND_WIDTH_NM = 2.0
"""Width of the band that gives the gain, about an eighth of the gain line: the mean gain over it is lower than the peak
by half a percent. Over a whole line the effective gain is lower by a tenth and more; see docs/decisions/0021."""
_SMOOTHING_NM = 1.0
_RIM_SHARE = 0.06
"""Part of the window at each end that shows the floor ..."""
_DIM = 0.15
"""... if it is dimmer than this share of the line."""


@dataclass(frozen=True)
class Band:
    """A range of wavelengths, nm."""

    centre_nm: float
    width_nm: float

    def within(self, wavelength_nm: Array) -> Mask:
        """Return which wavelengths belong to the band, as booleans of the same shape."""
        return np.abs(wavelength_nm - self.centre_nm) <= 0.5 * self.width_nm

    def as_dict(self) -> dict[str, Any]:
        """Return a dict for JSON."""
        return {"centre_nm": self.centre_nm, "width_nm": self.width_nm}


def band_mean(
    band: Band, wavelength_nm: Array, spectra: Array, errors: Array | None = None
) -> tuple[Array, Array | None]:
    """Return the mean of the spectra [..., pixels] over a band, [...], and its standard deviation if errors are given.

    A mean, not a sum: it stays the intensity per pixel, so that bands of different widths can be compared.
    Raises ValueError if no pixel falls into the band.
    """
    use = band.within(wavelength_nm)
    if not use.any():
        raise ValueError(
            f"no pixel lies within {band.width_nm} nm about {band.centre_nm:.2f} nm; the spectra cover"
            f" {wavelength_nm.min():.1f} to {wavelength_nm.max():.1f} nm"
        )
    light = np.mean(spectra[..., use], axis=-1)
    if errors is None:
        return light, None
    return light, np.sqrt(np.sum(errors[..., use] ** 2, axis=-1)) / int(use.sum())


def floor(wavelength_nm: Array, spectra: Array) -> Array:
    """Return what lies under the line of each spectrum [n, pixels], same shape: scattered pump light, above all.

    Pump light is scattered wherever the stripe is: it does not fade with the line when the stripe moves away from the
    edge, and no frame with a closed slit shows it. The floor is a straight line through the two ends of the window, or
    at the height of that one where the line is not; 0 where the line fills the window.
    """
    rim = max(4, round(_RIM_SHARE * wavelength_nm.size))
    if wavelength_nm.size < 4 * rim:
        return np.zeros_like(spectra)
    whole = np.mean(spectra, axis=0)
    top = float(_smooth(wavelength_nm, whole).max())
    dim = [end for end in (slice(0, rim), slice(-rim, None)) if float(np.mean(whole[end])) < _DIM * top]
    if not dim:
        return np.zeros_like(spectra)
    place = [float(np.mean(wavelength_nm[end])) for end in dim]
    height = [np.mean(spectra[:, end], axis=1, keepdims=True) for end in dim]
    if len(dim) == 1:
        return np.broadcast_to(height[0], spectra.shape)
    share = (wavelength_nm - place[0]) / (place[1] - place[0])
    return np.asarray(height[0] + share * (height[1] - height[0]), dtype=float)


def floor_of_one_line(wavelength_nm: Array, spectra: Array) -> Array:
    """Return the floor of spectra [n, pixels] that hold one and the same line in different strengths, same shape.

    Each spectrum is the line and a parabola. The shape of the line is the mean spectrum above its straight floor; what
    that straight line misses is a parabola again, and changes nothing but the unit of the line.
    """
    shape = np.mean(spectra - floor(wavelength_nm, spectra), axis=0)
    u = (wavelength_nm - wavelength_nm.mean()) / np.ptp(wavelength_nm)
    parabola = np.stack([np.ones_like(u), u, u * u], axis=1)
    basis = np.column_stack([shape / max(float(np.max(np.abs(shape))), 1e-300), parabola])
    strengths, *_ = np.linalg.lstsq(basis, spectra.T, rcond=None)
    return np.asarray((parabola @ strengths[1:]).T, dtype=float)


def amplified_band(
    length_um: ArrayLike, wavelength_nm: ArrayLike, spectra: ArrayLike, width_nm: float = BAND_WIDTH_NM
) -> Band:
    """Return the band about the peak of what the long stripes emit beyond their share of the short ones' light.

    The short third of the lengths gives the spontaneous line per length; it is taken off the spectra of the longest
    third, each normalised to its own peak so that the saturated ones do not outweigh the others. Without amplified
    light what is left has no peak, and the band lies about the peak of the line itself.

    :param length_um: [n], > 0. :param wavelength_nm: [pixels]. :param spectra: Background-free, [n, pixels].
    """
    length = np.asarray(length_um, dtype=float)
    wavelength = np.asarray(wavelength_nm, dtype=float)
    light = np.asarray(spectra, dtype=float)
    order = np.argsort(length, kind="stable")
    third = max(2, length.size // 3)
    short, long = order[:third], order[-third:]
    line = light[short].sum(axis=0) / length[short].sum()
    smooth_line = _smooth(wavelength, line)
    excess = _smooth(wavelength, light[long] - length[long, None] * line)
    heights = excess.max(axis=-1)
    grown = heights > 0.2 * float(smooth_line.max()) * length[long]
    if not grown.any():
        return Band(_peak(wavelength, smooth_line), width_nm)
    mean = np.mean(excess[grown] / heights[grown, None], axis=0)
    return Band(_peak(wavelength, mean), width_nm)


def _smooth(wavelength: Array, light: Array) -> Array:
    """Return light [..., pixels] averaged over a moving window of about 1 nm."""
    step = float(np.median(np.abs(np.diff(wavelength))))
    half = max(0, round(0.5 * _SMOOTHING_NM / step))
    if half == 0:
        return light
    kernel = np.ones(2 * half + 1) / (2 * half + 1)
    flat = light.reshape(-1, light.shape[-1])
    padded = np.pad(flat, ((0, 0), (half, half)), mode="edge")
    return np.array([np.convolve(row, kernel, mode="valid") for row in padded]).reshape(light.shape)


def _peak(wavelength: Array, light: Array) -> float:
    """Return the vertex of a parabola through the top tenth of a line."""
    top = int(np.argmax(light))
    near = (light > 0.9 * light[top]) & (np.abs(wavelength - wavelength[top]) < 5.0)
    if near.sum() < 4:
        return float(wavelength[top])
    offset = wavelength[near] - wavelength[top]
    curvature, slope, _ = np.polyfit(offset, light[near], 2)
    if curvature >= 0:
        return float(wavelength[top])
    return float(wavelength[top] + np.clip(-0.5 * slope / curvature, offset.min(), offset.max()))
