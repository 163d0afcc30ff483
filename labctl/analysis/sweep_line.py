"""What the spectra of a sweep hold point by point, and a line's peak and width at twice the threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from labctl.analysis.estimate import finite_or_none
from labctl.analysis.hinge import Array
from labctl.analysis.linewidth import InstrumentResponse, LineResult, line_result
from labctl.analysis.single_line import SingleLine

LINE_AT = 2.0
"""A line is reported at this multiple of the threshold: ASE narrows above the knee and broadens in saturation."""
LINE_RANGE = (1.4, 3.0)
CLEARLY_ABOVE = 1.2


@dataclass(frozen=True)
class SweepPoint:
    """What one spectrum holds. Areas in counts nm, wavelengths in nm; nan where there is no such line.

    ``ase`` is the narrow line: ASE of a film, the modes of a cavity.
    """

    fluence: float
    band_integral: float
    peak_nm: float
    fwhm_nm: float
    pl_area: float
    pl_area_error: float
    ase_area: float
    ase_area_error: float
    ase_peak_nm: float
    ase_fwhm_nm: float

    def as_dict(self) -> dict[str, float | None]:
        """Return a dict for JSON; nan becomes None."""
        return {name: finite_or_none(value) for name, value in vars(self).items()}

    @classmethod
    def unsplit(cls, fluence: float, line: SingleLine) -> SweepPoint:
        """Make the point of a spectrum that is not told apart into its parts."""
        return cls(fluence, line.band_integral, line.peak_nm, line.fwhm_nm, *([float("nan")] * 6))


@dataclass(frozen=True)
class LineAt:
    """A line as one spectrum shows it, at a fluence in thresholds; nm, with standard deviations."""

    pump: float
    peak_nm: float
    peak_sd_nm: float
    fwhm_nm: float
    fwhm_sd_nm: float


def line_at_twice_threshold(lines: Sequence[LineAt], response: InstrumentResponse) -> LineResult | None:
    """Return the line at twice the threshold, from a straight line through the points around; None without any."""
    near = [line for line in lines if LINE_RANGE[0] < line.pump < LINE_RANGE[1]]
    if len(near) < 3:
        near = [line for line in lines if line.pump > CLEARLY_ABOVE]
    if not near:
        return None
    u = np.log(np.array([line.pump for line in near]) / LINE_AT)
    peak, peak_sd = _at_zero(u, np.array([(line.peak_nm, line.peak_sd_nm) for line in near]))
    fwhm, fwhm_sd = _at_zero(u, np.array([(line.fwhm_nm, line.fwhm_sd_nm) for line in near]))
    return line_result(peak, peak_sd, fwhm, fwhm_sd, response)


def _at_zero(u: Array, values: Array) -> tuple[float, float]:
    """Return value and standard deviation at u = 0 of a weighted line (or mean, if all u have one sign)."""
    y, sd = values[:, 0], np.maximum(values[:, 1], 1e-9)
    # The points' own errors miss what the line shape does not describe: a floor keeps one point from deciding alone.
    weight = 1.0 / np.hypot(sd, np.median(sd))
    straight = u.size >= 3 and u.min() < 0 < u.max()
    basis = (np.stack([np.ones_like(u), u], axis=1) if straight else np.ones((u.size, 1))) * weight[:, None]
    solution, *_ = np.linalg.lstsq(basis, y * weight, rcond=None)
    residual = basis @ solution - y * weight
    variance = max(1.0, float(residual @ residual) / max(u.size - basis.shape[1], 1))
    covariance = np.linalg.pinv(basis.T @ basis) * variance
    return float(solution[0]), float(np.sqrt(covariance[0, 0]))
