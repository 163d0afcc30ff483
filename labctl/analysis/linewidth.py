"""Line widths and quality factors, raw and with the spectrograph's own width removed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from labctl.analysis.estimate import Estimate

Shape = Literal["gaussian", "lorentzian", "voigt"]


@dataclass(frozen=True)
class InstrumentResponse:
    """Line of a spectrograph for monochromatic light: full width at half maximum with its standard error, nm.

    ``shape`` says how it combines with the line measured, see `deconvolve_width`.
    """

    fwhm_nm: float = 0.0
    fwhm_error_nm: float = 0.0
    shape: Shape = "gaussian"


NO_RESPONSE = InstrumentResponse()
"""A spectrograph that does not broaden lines."""


@dataclass(frozen=True)
class LineResult:
    """Peak, full width at half maximum and Q = lambda/width of a line. Lengths in nm, Q without unit.

    The deconvolved values are None when the line is no wider than the instrument: its width is then not resolved.
    """

    peak_nm: Estimate
    fwhm_nm: Estimate
    fwhm_deconvolved_nm: Estimate | None
    q: Estimate
    q_deconvolved: Estimate | None
    shape: Shape
    instrument_fwhm_nm: float

    def as_dict(self) -> dict[str, Any]:
        """Return a dict for JSON."""
        deconvolved, q = self.fwhm_deconvolved_nm, self.q_deconvolved
        return {
            "peak_nm": self.peak_nm.as_dict(),
            "fwhm_nm": self.fwhm_nm.as_dict(),
            "fwhm_deconvolved_nm": None if deconvolved is None else deconvolved.as_dict(),
            "q": self.q.as_dict(),
            "q_deconvolved": None if q is None else q.as_dict(),
            "shape": self.shape,
            "instrument_fwhm_nm": self.instrument_fwhm_nm,
        }


def deconvolve_width(fwhm_nm: float, instrument_fwhm_nm: float, shape: Shape = "gaussian") -> float | None:
    """Return the width of the line itself, or None if it is not resolved (observed <= instrument).

    ``gaussian``: both Gaussian, w^2 = observed^2 - instrument^2. ``lorentzian``: both Lorentzian, w = observed -
    instrument. ``voigt``: Lorentzian line, Gaussian instrument, by inverting observed = 0.5346 w + sqrt(0.2166 w^2 +
    instrument^2) (Olivero and Longbothum 1977, within 0.02 %). All full widths at half maximum, nm.
    """
    if not fwhm_nm > 0 or not instrument_fwhm_nm >= 0:
        raise ValueError(f"need fwhm_nm > 0 and instrument_fwhm_nm >= 0; got {fwhm_nm} and {instrument_fwhm_nm}")
    if fwhm_nm <= instrument_fwhm_nm:
        return None
    if shape == "gaussian":
        return float(np.sqrt(fwhm_nm**2 - instrument_fwhm_nm**2))
    if shape == "lorentzian":
        return float(fwhm_nm - instrument_fwhm_nm)
    if shape == "voigt":
        # (observed - a w)^2 = b w^2 + instrument^2, the root with observed > a w.
        a, b = 0.5346, 0.2166
        square = a * a - b
        discriminant = (a * fwhm_nm) ** 2 - square * (fwhm_nm**2 - instrument_fwhm_nm**2)
        return float((a * fwhm_nm - np.sqrt(discriminant)) / square)
    raise ValueError(f"shape must be gaussian, lorentzian or voigt, got {shape!r}")


def line_result(
    peak_nm: float,
    peak_sd_nm: float,
    fwhm_nm: float,
    fwhm_sd_nm: float,
    response: InstrumentResponse = NO_RESPONSE,
) -> LineResult:
    """Combine a measured peak and width (standard deviations beside them, nm) with the instrument's line.

    The error of the instrument's width enters the deconvolved values. Errors are propagated to first order; the
    intervals of Q are those of the width turned over, so not symmetric.
    """
    instrument_fwhm_nm, shape = response.fwhm_nm, response.shape
    peak, fwhm = Estimate.from_sd(peak_nm, peak_sd_nm, "nm"), Estimate.from_sd(fwhm_nm, fwhm_sd_nm, "nm")
    own = deconvolve_width(fwhm_nm, instrument_fwhm_nm, shape)
    deconvolved = None
    if own is not None:
        step = 1e-4 * min(fwhm_nm, fwhm_nm - instrument_fwhm_nm)
        by_fwhm = ((deconvolve_width(fwhm_nm + step, instrument_fwhm_nm, shape) or own) - own) / step
        # Wider instrument, narrower line; the shift of scale w -> c w gives that derivative without a second step.
        by_instrument = (own - fwhm_nm * by_fwhm) / instrument_fwhm_nm if instrument_fwhm_nm > 0 else 0.0
        deconvolved = Estimate.from_sd(
            own, float(np.hypot(by_fwhm * fwhm_sd_nm, by_instrument * response.fwhm_error_nm)), "nm"
        )
    return LineResult(
        peak_nm=peak,
        fwhm_nm=fwhm,
        fwhm_deconvolved_nm=deconvolved,
        q=_quality(peak_nm, fwhm),
        q_deconvolved=None if deconvolved is None else _quality(peak_nm, deconvolved),
        shape=shape,
        instrument_fwhm_nm=instrument_fwhm_nm,
    )


def _quality(peak_nm: float, width: Estimate) -> Estimate:
    def turned(ends: tuple[float, float]) -> tuple[float, float]:
        low, high = ends
        return peak_nm / high, (peak_nm / low if low > 0 else float("inf"))

    return Estimate(peak_nm / width.value, "1", turned(width.ci68), turned(width.ci95))
