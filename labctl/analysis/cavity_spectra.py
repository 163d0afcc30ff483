"""The spectra of a sweep on a laser cavity: its modes, the line of the strongest, what goes past them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from labctl.analysis.estimate import Estimate
from labctl.analysis.hinge import Array
from labctl.analysis.linewidth import InstrumentResponse, LineResult
from labctl.analysis.modes import find_modes, fit_mode, mode_spacing, strongest
from labctl.analysis.single_line import single_line
from labctl.analysis.spectrum import PLShape, fit_pl_shape
from labctl.analysis.sweep_arrays import SweepArrays
from labctl.analysis.sweep_line import CLEARLY_ABOVE, LINE_RANGE, LineAt, SweepPoint, line_at_twice_threshold
from labctl.analysis.sweep_parts import SpectralParts

_PL_ALONE = 0.6
_MODE_WIDTHS = (20.0, 10.0, 5.0, 2.5, 1.5)
"""Within so many widths of a mode a pixel may show its wings; the widest that leaves enough pixels free is taken."""
_NEAR_WIDTHS = (2.5, 1.5)
"""The same for the PL line below the threshold, where the modes are faint: its peak may lie beside them."""
_MIN_FREE = 0.2
_KNOWN = 0.2
"""A width that is not known to this share says nothing; far below the threshold the mode is lost in the PL."""


def cavity_parts(
    wavelength_nm: Array, spectra: Array, sweep: SweepArrays, threshold: float | None, response: InstrumentResponse
) -> SpectralParts:
    """Find the modes of a cavity and split all spectra into them and the rest; None for what is not found.

    :param wavelength_nm: [n_px]. :param spectra: [n, n_px], those of ``sweep``. :param threshold: In its unit.
    """
    singles = [single_line(wavelength_nm, spectrum) for spectrum in spectra]
    points = tuple(SweepPoint.unsplit(float(f), line) for f, line in zip(sweep.fluence, singles, strict=True))
    if threshold is None:
        return SpectralParts(points)
    swept = sweep.usable & ~sweep.returned
    pump = sweep.fluence / threshold
    lasing = swept & (pump > LINE_RANGE[0]) & (pump < LINE_RANGE[1])
    if lasing.sum() < 3:
        lasing = swept & (pump > CLEARLY_ABOVE)
    total = spectra[lasing].sum(axis=0)
    modes = find_modes(wavelength_nm, total) if lasing.any() else np.empty(0)
    if not modes.size:
        warning = "no mode stands out above the threshold: its line and Q are not given"
        return SpectralParts(points, warnings=(warning,))
    line, lines, warnings = _line(wavelength_nm, spectra, lasing, sweep.usable, pump, modes, response)
    width = single_line(wavelength_nm, total).fwhm_nm if line is None else line.fwhm_nm.value
    free, beside = (_between(wavelength_nm, modes, width, choices) for choices in (_MODE_WIDTHS, _NEAR_WIDTHS))
    below = swept & (pump < _PL_ALONE)
    shape, pl_peak = _pl(wavelength_nm[beside], spectra[below][:, beside])
    past = spectra[below].sum(axis=0)
    split = float(past[free] @ past[free]) > 0 and bool(free.any())
    # The width of a mode and the PL together, or of several modes, says nothing.
    points = tuple(
        replace(point, fwhm_nm=lines[k].fwhm_nm if k in lines else float("nan")) for k, point in enumerate(points)
    )
    if split:
        points = tuple(
            _split(point, wavelength_nm, spectrum, past, free, lines.get(k))
            for k, (point, spectrum) in enumerate(zip(points, spectra, strict=True))
        )
    return SpectralParts(
        points,
        split=split,
        pl_shape=shape,
        pl_peak=pl_peak,
        line=line,
        mode_spacing=mode_spacing(modes, strongest(wavelength_nm, total, modes)),
        modes_nm=tuple(float(mode) for mode in modes),
        warnings=warnings,
    )


def _between(wavelength_nm: Array, modes: Array, width_nm: float, choices: tuple[float, ...]) -> NDArray[np.bool_]:
    """Return the pixels that show what goes past the modes, [n_px]; none if the modes leave too few."""
    distance = np.abs(wavelength_nm[:, None] - modes[None, :]).min(axis=1)
    for widths in choices:
        free = distance > widths * width_nm
        if free.mean() >= _MIN_FREE:
            return free
    return np.zeros(wavelength_nm.size, bool)


def _pl(wavelength_nm: Array, spectra: Array) -> tuple[PLShape | None, Estimate | None]:
    """Return the PL line from the pixels beside the modes, below the threshold; None where the window does not hold it.

    Below the threshold the modes stand in the PL already, and would pull its peak towards them.
    """
    if not spectra.size or wavelength_nm.size < 64:
        return None, None
    try:
        shape = fit_pl_shape(wavelength_nm, spectra)
    except ValueError:
        return None, None
    return shape, Estimate.from_sd(shape.centre_nm, shape.centre_error_nm, "nm")


def _line(
    wavelength_nm: Array,
    spectra: Array,
    lasing: NDArray[np.bool_],
    usable: NDArray[np.bool_],
    pump: Array,
    modes: Array,
    response: InstrumentResponse,
) -> tuple[LineResult | None, dict[int, LineAt], tuple[str, ...]]:
    """Return the line of the strongest mode; its shape is chosen on the sum of the spectra around twice threshold."""
    total = spectra[lasing].sum(axis=0)
    mode_nm = strongest(wavelength_nm, total, modes)
    best = fit_mode(wavelength_nm, total, mode_nm, modes, response)
    if best is None:
        return None, {}, ("the strongest mode is too narrow or cut by the window: its width and Q are not given",)
    lines: dict[int, LineAt] = {}
    for k in np.flatnonzero(usable):
        fit = fit_mode(wavelength_nm, spectra[k], mode_nm, modes, response, shapes=(best.shape,))
        # A fit that went to a neighbour, or to the noise, says nothing of this mode.
        if fit is None or abs(fit.peak_nm - best.peak_nm) > best.fwhm_nm:
            continue
        if 0.3 < fit.fwhm_nm / best.fwhm_nm < 3 and fit.fwhm_sd_nm < _KNOWN * fit.fwhm_nm:
            lines[int(k)] = LineAt(float(pump[k]), fit.peak_nm, fit.peak_sd_nm, fit.fwhm_nm, fit.fwhm_sd_nm)
    line = line_at_twice_threshold(list(lines.values()), replace(response, shape=best.shape))
    if line is not None and line.fwhm_deconvolved_nm is None:
        return line, lines, ("the mode is no wider than the spectrograph's response: its Q is not resolved",)
    return line, lines, ()


def _split(
    point: SweepPoint, wavelength_nm: Array, spectrum: Array, past: Array, free: NDArray[np.bool_], line: LineAt | None
) -> SweepPoint:
    """Subtract what goes past the modes: the spectrum from below the threshold, scaled to the pixels between them."""
    square = float(past[free] @ past[free])
    scale = float(spectrum[free] @ past[free]) / square
    rest = spectrum - scale * past
    noise = float(np.std(rest[free]))
    area = float(np.trapezoid(past, wavelength_nm))
    pixel = float(np.median(np.diff(wavelength_nm)))
    scale_error = noise / np.sqrt(square)
    return replace(
        point,
        pl_area=scale * area,
        pl_area_error=scale_error * area,
        ase_area=float(np.trapezoid(rest, wavelength_nm)),
        ase_area_error=float(np.hypot(noise * pixel * np.sqrt(spectrum.size), scale_error * area)),
        ase_peak_nm=point.ase_peak_nm if line is None else line.peak_nm,
        ase_fwhm_nm=point.ase_fwhm_nm if line is None else line.fwhm_nm,
    )
