"""The points of a fluence sweep as its analysis takes them: checked, in the order of acquisition."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.analysis.hinge import Array

RETURN_STAGE = "return"
"""Label of the points taken after the sweep at its lowest fluences."""


@dataclass(frozen=True)
class SweepArrays:
    """A fluence sweep of n points in the order of acquisition (the photodamage check needs it).

    :param fluence: [n] in ``fluence_unit``, > 0, by ``convention``. :param intensity: [n], background-subtracted.
    :param fluence_error: [n] standard deviations; likewise ``intensity_error``. None if they are unknown.
    :param saturated: [n], points whose detector was at full scale; they enter no fit.
    :param returned: [n], points taken after the sweep at its lowest fluences.
    :param wavelength_nm: [n_px], ascending. :param spectra: [n, n_px], background-subtracted counts per pulse or s.
    """

    fluence: Array
    intensity: Array
    fluence_error: Array | None
    intensity_error: Array | None
    saturated: NDArray[np.bool_]
    returned: NDArray[np.bool_]
    wavelength_nm: Array | None
    spectra: Array | None
    convention: str
    fluence_unit: str

    @classmethod
    def of(
        cls,
        fluence: ArrayLike,
        intensity: ArrayLike,
        *,
        fluence_error: ArrayLike | None = None,
        intensity_error: ArrayLike | None = None,
        saturated: ArrayLike | None = None,
        stage: ArrayLike | None = None,
        wavelength_nm: ArrayLike | None = None,
        spectra: ArrayLike | None = None,
        convention: str = "peak_gauss",
        fluence_unit: str = "uJ/cm^2",
    ) -> SweepArrays:
        """Check columns and make arrays of them; errors may be one number for all points.

        :param stage: [n] labels; "return" marks the points of the return, any other label is the sweep.
        :raises ValueError: Shapes that do not fit together.
        """
        f, i = np.asarray(fluence, dtype=float), np.asarray(intensity, dtype=float)
        full = np.zeros(f.shape, bool) if saturated is None else np.asarray(saturated, dtype=bool)
        returned = np.zeros(f.shape, bool) if stage is None else np.asarray(stage).astype(str) == RETURN_STAGE
        if f.ndim != 1 or not f.shape == i.shape == full.shape == returned.shape:
            raise ValueError(
                "fluence, intensity, saturated and stage must be [n],"
                f" got {f.shape}, {i.shape}, {full.shape}, {returned.shape}"
            )
        if (wavelength_nm is None) != (spectra is None):
            raise ValueError("spectra and their wavelengths go together: give both or none")
        wavelengths = None if wavelength_nm is None else np.asarray(wavelength_nm, dtype=float)
        rows = None if spectra is None else np.asarray(spectra, dtype=float)
        if wavelengths is not None and rows is not None and rows.shape != (f.size, wavelengths.size):
            raise ValueError(f"spectra must have shape {(f.size, wavelengths.size)}, got {rows.shape}")
        return cls(
            fluence=f,
            intensity=i,
            fluence_error=_per_point(fluence_error, f),
            intensity_error=_per_point(intensity_error, f),
            saturated=full,
            returned=returned,
            wavelength_nm=wavelengths,
            spectra=rows,
            convention=convention,
            fluence_unit=fluence_unit,
        )

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Get which points have a place on logarithmic axes, [n]."""
        return np.isfinite(self.intensity) & (self.intensity > 0) & ~self.saturated


def _per_point(values: ArrayLike | None, like: Array) -> Array | None:
    return None if values is None else np.broadcast_to(np.asarray(values, dtype=float), like.shape)
