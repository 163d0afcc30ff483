"""The band that is integrated: its pixels, and its sum with the error of that."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from labctl.errors import InputError

Array = NDArray[np.float64]
_MIN_PIXELS = 32


def band_mask(wavelength_nm: Array, band_nm: tuple[float, float]) -> NDArray[np.bool_]:
    """Get the pixels within a band, shape (pixels,); raises InputError if the window holds too few of them."""
    mask = (wavelength_nm >= band_nm[0]) & (wavelength_nm <= band_nm[1])
    if mask.sum() < _MIN_PIXELS:
        raise InputError(
            f"the band {band_nm[0]:g} to {band_nm[1]:g} nm holds {int(mask.sum())} pixels",
            where=f"the window of the spectrograph is {wavelength_nm[0]:.1f} to {wavelength_nm[-1]:.1f} nm",
            todo="choose another band or another centre wavelength",
        )
    return mask


def band_sum(
    signal: Array,
    variance: Array,
    mask: NDArray[np.bool_],
    pulses_per_exposure: float,
    common_error: Array | float = 0.0,
) -> tuple[float, float]:
    """Get the sum over the band and its standard error, in the unit of ``signal``.

    ``variance`` is that of each pixel by itself, ``common_error`` a standard deviation that goes the same way in all.
    The laser does not trigger the exposures: one of n + f pulses on average holds n or n + 1 of them, with the
    probabilities 1 - f and f, if it begins anywhere between two pulses; that is a standard deviation of
    sqrt(f (1 - f)) pulses. Exposures that follow each other in a fixed cycle may all err alike, so their number does
    not lessen it.
    """
    total = float(signal[mask].sum())
    share = pulses_per_exposure % 1.0
    by_pulses = math.sqrt(share * (1 - share)) / max(pulses_per_exposure, 1.0)
    common = float(np.broadcast_to(common_error, signal.shape)[mask].sum())
    return total, math.hypot(math.sqrt(float(variance[mask].sum())), by_pulses * total, common)
