"""The main line of a spectrum with no model of its shape: peak, width, height and band integral."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class SingleLine:
    """Peak (sub-pixel), full width at half maximum, height and band integral (counts nm) of a spectrum's main line."""

    peak_nm: float
    fwhm_nm: float
    peak_counts: float
    band_integral: float


def single_line(wavelength_nm: ArrayLike, counts: ArrayLike) -> SingleLine:
    """Return peak, width and band integral of the main line; width nan when a flank leaves the window.

    :param wavelength_nm: [n_px], ascending. :param counts: [n_px], background-subtracted.
    The peak is that of a parabola through the top fifth, the flanks are straight lines through the points around half
    maximum; the spectrum is smoothed over an eighth of the line's width to find them.
    """
    x, rows = spectral_input(wavelength_nm, counts)
    y = rows[0]
    integral = float(np.trapezoid(y, x))
    smooth = _moving_mean(y, 5)
    for _ in range(2):
        top = int(np.argmax(smooth))
        above = _run_around(smooth > 0.5 * smooth[top], top)
        smooth = _moving_mean(y, max(1, (above.stop - above.start) // 8 | 1))
    top = int(np.argmax(smooth))
    height = float(smooth[top])
    if not height > 0:
        return SingleLine(float("nan"), float("nan"), height, integral)
    cap = _run_around(smooth > 0.8 * height, top)
    peak = float(x[top])
    if cap.stop - cap.start >= 5:
        middle = float(x[cap].mean())
        a, b, c = np.polyfit(x[cap] - middle, y[cap], 2)
        if a < 0 and abs(b / (2 * a)) < x[cap.stop - 1] - x[cap.start]:
            peak, height = middle - b / (2 * a), float(c - b * b / (4 * a))
    body = _run_around(smooth > 0.5 * height, top)
    if body.start == 0 or body.stop == y.size:
        return SingleLine(peak, float("nan"), height, integral)
    left = _flank(x, smooth, body.start, slice(0, top + 1), 0.5 * height, height)
    right = _flank(x, smooth, body.stop, slice(top, y.size), 0.5 * height, height)
    return SingleLine(peak, right - left, height, integral)


def spectral_input(wavelength_nm: ArrayLike, spectra: ArrayLike) -> tuple[Array, Array]:
    """Return wavelengths [n_px] and spectra [m, n_px] as arrays; one spectrum becomes a row.

    Raises ValueError unless there are 16 pixels at least, ascending, and every count is finite.
    """
    x = np.asarray(wavelength_nm, dtype=float)
    rows = np.atleast_2d(np.asarray(spectra, dtype=float))
    if x.ndim != 1 or x.size < 16 or not np.all(np.diff(x) > 0):
        raise ValueError("wavelength_nm must be one-dimensional, ascending, and have at least 16 pixels")
    if rows.ndim != 2 or rows.shape[1] != x.size or not np.all(np.isfinite(rows)):
        raise ValueError(f"spectra must be finite with {x.size} pixels in the last axis, got shape {rows.shape}")
    return x, rows


def _moving_mean(y: Array, width: int) -> Array:
    if width < 2:
        return y
    padded = np.pad(y, width // 2, mode="edge")
    return np.convolve(padded, np.full(width, 1.0 / width), mode="valid").astype(float)


def _run_around(mask: NDArray[np.bool_], index: int) -> slice:
    """Return the unbroken run of True around ``index``."""
    false = np.flatnonzero(~mask)
    before, after = false[false < index], false[false > index]
    return slice(int(before[-1]) + 1 if before.size else 0, int(after[0]) if after.size else mask.size)


def _flank(x: Array, y: Array, index: int, side: slice, level: float, height: float) -> float:
    """Return where y crosses ``level`` between ``index - 1`` and ``index``, from a line through the points around.

    Only those on the same ``side`` of the top: in a line of few pixels, or on a background at half its height, the
    other flank is among them, and the flanks found could change places.
    """
    near = np.flatnonzero(np.abs(y[side] - level) < 0.15 * height) + side.start
    near = near[np.abs(near - index) <= max(2, near.size)]
    run = near[np.abs(near - index) <= 12]
    crossing = x[index - 1] + (level - y[index - 1]) * (x[index] - x[index - 1]) / (y[index] - y[index - 1])
    if run.size >= 4:
        slope, offset = np.polyfit(x[run] - x[index], y[run] - level, 1)
        fitted = x[index] - offset / slope if slope != 0 else crossing
        if x[run[0]] <= fitted <= x[run[-1]]:
            return float(fitted)
    return float(crossing)
