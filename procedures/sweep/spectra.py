"""Numbers from one emission spectrum while the sweep runs."""

from __future__ import annotations

import math
from copy import copy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labctl.analysis.single_line import single_line
from labctl.analysis.spectrum import ASELine, PLShape, fit_pl_shape, fit_two_components

Array = NDArray[np.float64]
_SHAPE_SPECTRA = 3
_MIN_LINE_PIXELS = 8.0
_MIN_LINE_INSTRUMENTS = 3.0


@dataclass(frozen=True)
class LineColumns:
    """Line and parts of one spectrum: peak and width in nm, parts in counts summed over pixels; NaN if not found."""

    peak_nm: float
    fwhm_nm: float
    ase_intensity: float
    pl_intensity: float

    def columns(self) -> dict[str, float]:
        """The values by column name."""
        return {
            "peak_nm": self.peak_nm,
            "fwhm_nm": self.fwhm_nm,
            "ase_intensity": self.ase_intensity,
            "pl_intensity": self.pl_intensity,
        }


class LiveLines:
    """Splits spectra into PL and ASE with the PL shape frozen from the lowest fluences measured so far.

    The final analysis does this again with all spectra; these values are for the eye while the sweep runs.

    :param wavelength_nm: Wavelength axis, shape (pixels,).
    :param mask: Pixels of the band.
    :param pl_below_uj_cm2: The shape of the PL is taken from spectra below this fluence only. From the top down, there
        is none to begin with, and no parts.
    :param instrument_fwhm_nm: Width of a laser line: a line that is no wider is no ASE.
    """

    def __init__(
        self,
        wavelength_nm: Array,
        mask: NDArray[np.bool_],
        *,
        pl_below_uj_cm2: float = math.inf,
        instrument_fwhm_nm: float = 0.0,
    ) -> None:
        self._mask = mask
        self._wavelength_nm = wavelength_nm[mask]
        self._dispersion_nm = float(np.mean(np.diff(self._wavelength_nm)))
        self._pl_below_uj_cm2 = pl_below_uj_cm2
        self._narrowest_nm = max(_MIN_LINE_PIXELS * self._dispersion_nm, _MIN_LINE_INSTRUMENTS * instrument_fwhm_nm)
        self._lowest: dict[float, Array] = {}
        self._shape: PLShape | None = None
        self._expected: ASELine | None = None

    def copy(self) -> LiveLines:
        """Get another one that knows the same and learns apart from this one."""
        twin = copy(self)
        twin._lowest = dict(self._lowest)
        return twin

    def measure(self, emission: Array, fluence_uj_cm2: float) -> LineColumns:
        """Measure one spectrum of shape (pixels,), background subtracted, per pulse."""
        spectrum = emission[self._mask]
        self._learn_shape(spectrum, fluence_uj_cm2)
        line = single_line(self._wavelength_nm, spectrum)
        if self._shape is None:
            return LineColumns(line.peak_nm, line.fwhm_nm, math.nan, math.nan)
        parts = fit_two_components(self._wavelength_nm, spectrum, self._shape, expected=self._expected)
        if parts.line is not None and parts.ase_height > parts.pl_height and parts.ase_fwhm_nm > self._narrowest_nm:
            # What is expected steers all later fits: only a line that nobody would overlook may.
            self._expected = parts.line
        per_pixel = 1 / self._dispersion_nm
        return LineColumns(line.peak_nm, line.fwhm_nm, parts.ase_area * per_pixel, parts.pl_area * per_pixel)

    def _learn_shape(self, spectrum: Array, fluence_uj_cm2: float) -> None:
        """Keep the spectra of the lowest fluences and fit the PL shape to their sum."""
        if fluence_uj_cm2 >= self._pl_below_uj_cm2:
            return
        self._lowest[fluence_uj_cm2] = spectrum
        if len(self._lowest) > _SHAPE_SPECTRA:
            del self._lowest[max(self._lowest)]
            if fluence_uj_cm2 not in self._lowest:
                return
        try:
            self._shape = fit_pl_shape(self._wavelength_nm, np.array(list(self._lowest.values())))
        except ValueError:
            self._shape = None
