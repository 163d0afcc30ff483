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
