"""Lines of emission."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

_GAUSS = 4.0 * np.log(2.0)


def split_gaussian(wavelength_nm: ArrayLike, peak_nm: float, fwhm_nm: float, asymmetry: float) -> np.ndarray:
    """Get a line of area 1, per nm, that is a Gaussian of its own on either side of its peak.

    :param asymmetry: Ratio of the red to the blue half width.
    """
    blue = fwhm_nm / (1.0 + asymmetry)
    offset = np.asarray(wavelength_nm, dtype=float) - peak_nm
    width = np.where(offset < 0.0, 2.0 * blue, 2.0 * (fwhm_nm - blue))
    return np.exp(-_GAUSS * (offset / width) ** 2) / (fwhm_nm * np.sqrt(np.pi / _GAUSS))
