"""The spectra of a sweep on a film: PL and ASE told apart at every point, the ASE line, its shift from the PL."""

from __future__ import annotations

import numpy as np

from labctl.analysis.estimate import Estimate
from labctl.analysis.hinge import Array
from labctl.analysis.linewidth import InstrumentResponse
from labctl.analysis.single_line import single_line
from labctl.analysis.spectrum import ASELine, PLShape, TwoComponents, fit_pl_shape, fit_two_components
from labctl.analysis.sweep_arrays import SweepArrays
from labctl.analysis.sweep_line import LineAt, SweepPoint, line_at_twice_threshold
from labctl.analysis.sweep_parts import SpectralParts

_PL_POINTS = 4
_PL_ALONE = 0.5


def film_parts(
    wavelength_nm: Array, spectra: Array, sweep: SweepArrays, threshold: float | None, response: InstrumentResponse
) -> SpectralParts:
    """Split all spectra into PL and ASE; what cannot be found is None, with a warning.

    :param wavelength_nm: [n_px]. :param spectra: [n, n_px], those of ``sweep``. :param threshold: In its unit.
    """
    singles = [single_line(wavelength_nm, spectrum) for spectrum in spectra]
    plain = tuple(SweepPoint.unsplit(float(f), line) for f, line in zip(sweep.fluence, singles, strict=True))
    try:
        shape, parts = _components(wavelength_nm, spectra, sweep, threshold)
    except ValueError as reason:
        return SpectralParts(plain, warnings=(f"spectra not split into PL and ASE: {reason}",))
    points = tuple(_point(point, part) for point, part in zip(plain, parts, strict=True))
    if threshold is None:
        # Whether the lowest spectra are PL alone is not known then: their peak may be that of the ASE.
        return SpectralParts(points, split=True, pl_shape=shape)
    pl_peak = None
    if any(sweep.usable & (sweep.fluence < _PL_ALONE * threshold)):
        pl_peak = Estimate.from_sd(shape.centre_nm, shape.centre_error_nm, "nm")
    lines = [
        LineAt(float(f / threshold), part.ase_peak_nm, part.ase_peak_error_nm, part.ase_fwhm_nm, part.ase_fwhm_error_nm)
        for f, part, usable in zip(sweep.fluence, parts, sweep.usable, strict=True)
        if part.significant and usable
    ]
    line = line_at_twice_threshold(lines, response)
    warnings: list[str] = []
    shift = None
    if line is None:
        warnings.append("no ASE line clearly above the threshold: its peak and width are not given")
    else:
        if pl_peak is not None:
            apart_nm, error_nm = line.peak_nm.value - pl_peak.value, np.hypot(line.peak_nm.sd, pl_peak.sd)
            shift = Estimate.from_sd(apart_nm, float(error_nm), "nm")
        if line.fwhm_deconvolved_nm is None:
            warnings.append(
                "the ASE line is no wider than the spectrograph's response: its width and Q are not resolved"
            )
    return SpectralParts(
        points, split=True, pl_shape=shape, pl_peak=pl_peak, line=line, ase_shift=shift, warnings=tuple(warnings)
    )


def _components(
    wavelength_nm: Array, spectra: Array, sweep: SweepArrays, threshold: float | None
) -> tuple[PLShape, list[TwoComponents]]:
    """Freeze the PL shape on the lowest fluences, then split every spectrum, from the highest fluence down."""
    fluence, usable = sweep.fluence, sweep.usable
    ascending = np.argsort(fluence, kind="stable")
    low = [k for k in ascending if usable[k] and not sweep.returned[k]]
    if threshold is not None:
        below = [k for k in low if fluence[k] < _PL_ALONE * threshold]
        low = below or low
    if not low:
        raise ValueError("no usable spectrum at low fluence")
    # Some more than the lowest few if they are faint: the shape is worth the light of all that are free of ASE.
    shape = fit_pl_shape(wavelength_nm, spectra[low if threshold is not None else low[:_PL_POINTS]])
    expected: ASELine | None = None
    parts: dict[int, TwoComponents] = {}
    for k in sorted(range(fluence.size), key=lambda k: (not usable[k], -fluence[k])):
        parts[k] = fit_two_components(wavelength_nm, spectra[k], shape, expected=expected)
        if parts[k].line is not None and usable[k]:
            expected = parts[k].line
    return shape, [parts[k] for k in range(fluence.size)]


def _point(plain: SweepPoint, part: TwoComponents) -> SweepPoint:
    return SweepPoint(
        fluence=plain.fluence,
        band_integral=plain.band_integral,
        peak_nm=plain.peak_nm,
        fwhm_nm=plain.fwhm_nm,
        pl_area=part.pl_area,
        pl_area_error=part.pl_area_error,
        ase_area=part.ase_area,
        ase_area_error=part.ase_area_error,
        ase_peak_nm=part.ase_peak_nm,
        ase_fwhm_nm=part.ase_fwhm_nm,
    )
