"""Analysis of a whole fluence sweep: threshold by every definition, ASE line, photodamage, warnings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from labctl.analysis.definitions import Definition, other_definitions
from labctl.analysis.estimate import finite_or_none
from labctl.analysis.hinge import Array
from labctl.analysis.knee import loglog_knee
from labctl.analysis.linewidth import NO_RESPONSE, InstrumentResponse, LineResult, line_result
from labctl.analysis.photodamage import Photodamage, photodamage
from labctl.analysis.spectrum import ASELine, PLShape, TwoComponents, fit_pl_shape, fit_two_components, single_line
from labctl.analysis.sweep_arrays import SweepArrays
from labctl.analysis.threshold import NoThreshold, ThresholdFit

LINE_AT = 2.0
"""The ASE line is reported at this multiple of the threshold: it narrows above the knee and broadens in saturation."""
_LINE_RANGE = (1.4, 3.0)
_CLEARLY_ABOVE = 1.2
_PL_POINTS = 4
_PULSE_RMS_LIMIT = 0.05


@dataclass(frozen=True)
class SweepPoint:
    """What one spectrum holds. Areas in counts nm, wavelengths in nm; nan where there is no such line."""

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


@dataclass(frozen=True)
class SweepAnalysis:
    """Everything a fluence sweep says. ``threshold`` is None with ``no_threshold`` saying why."""

    threshold: ThresholdFit | None
    no_threshold: str | None
    no_threshold_reason: str | None
    definitions: dict[str, Definition]
    ase_line: LineResult | None
    pl_shape: PLShape | None
    points: tuple[SweepPoint, ...]
    photodamage: Photodamage
    jitter_factor: float | None
    """<F^s>/F^s at the slope above the knee, from the pulse fluctuation; None if that is not known."""
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return a dict for JSON."""
        shape = self.pl_shape
        return {
            "threshold": None if self.threshold is None else self.threshold.as_dict(),
            "no_threshold": self.no_threshold,
            "no_threshold_reason": self.no_threshold_reason,
            "definitions": {name: d.as_dict() for name, d in self.definitions.items()},
            "ase_line": None if self.ase_line is None else self.ase_line.as_dict(),
            "pl_shape": None
            if shape is None
            else {
                "centre_nm": shape.centre_nm,
                "fwhm_nm": shape.fwhm_nm,
                "half_width_blue_nm": shape.half_width_blue_nm,
            },
            "points": [point.as_dict() for point in self.points],
            "photodamage": self.photodamage.as_dict(),
            "jitter_factor": self.jitter_factor,
            "warnings": list(self.warnings),
        }


def jitter_factor(slope: float, pulse_rms: float) -> float:
    """Return <F^s>/F^s = 1 + s(s-1) rms^2/2: by how much pulse-to-pulse noise raises a signal of slope s.

    Second order in ``pulse_rms`` (relative): 1.011 for s = 3.5 at 5 %. The knee moves by about its logarithm divided by
    the change of slope; beyond 5 % rms sort the shots by their energy instead of correcting.
    """
    return 1.0 + 0.5 * slope * (slope - 1.0) * pulse_rms**2


def analyse_sweep(
    sweep: SweepArrays,
    *,
    response: InstrumentResponse = NO_RESPONSE,
    pulse_rms: float | None = None,
    gain: tuple[ArrayLike, ArrayLike] | None = None,
) -> SweepAnalysis:
    """Analyse a fluence sweep.

    :param response: The spectrograph's own line, which is taken out of the width of the ASE line.
    :param pulse_rms: relative pulse-to-pulse noise of the laser. :param gain: (fluence, net modal gain) if known.

    A sweep without threshold is a result, not an error: ``threshold`` is then None. Malformed input raises ValueError.
    """
    threshold, verdict = _threshold(sweep)
    warnings = [str(verdict)] if verdict is not None else []
    warnings += () if threshold is None else threshold.warnings
    relative = _relative_error(sweep, threshold)
    shape, parts = None, None
    points: tuple[SweepPoint, ...] = ()
    if sweep.spectra is not None and sweep.wavelength_nm is not None:
        try:
            shape, parts = _components(sweep.wavelength_nm, sweep.spectra, sweep, threshold)
        except ValueError as reason:
            warnings.append(f"spectra not split into PL and ASE: {reason}")
        points = _points(sweep.wavelength_nm, sweep.spectra, sweep.fluence, parts)
    line = None
    if threshold is not None and parts is not None:
        line = _ase_line(sweep, parts, threshold.value, response)
        if line is None:
            warnings.append("no ASE line clearly above the threshold: its peak and width are not given")
        elif line.fwhm_deconvolved_nm is None:
            warnings.append(
                "the ASE line is no wider than the spectrograph's response: its width and Q are not resolved"
            )
    definitions: dict[str, Definition] = {}
    if threshold is not None:
        definitions = _definitions(threshold, sweep, relative, points if parts else (), gain)
    slope = 1.0 if threshold is None else threshold.slope_below
    intensity = np.where(sweep.usable, sweep.intensity, 1.0)
    damage = photodamage(sweep.fluence, intensity, relative, sweep.returned, sweep.usable, slope)
    warnings += _sweep_warnings(sweep, damage, pulse_rms)
    return SweepAnalysis(
        threshold=threshold,
        no_threshold=None if verdict is None else str(verdict),
        no_threshold_reason=None if verdict is None else verdict.reason,
        definitions=definitions,
        ase_line=line,
        pl_shape=shape,
        points=points,
        photodamage=damage,
        jitter_factor=None
        if pulse_rms is None or threshold is None
        else jitter_factor(threshold.slope_above, pulse_rms),
        warnings=tuple(warnings),
    )


def _threshold(sweep: SweepArrays) -> tuple[ThresholdFit | None, NoThreshold | None]:
    """Return the knee of the points of the sweep proper, or the verdict that there is none."""
    use = ~sweep.returned
    sf, si = sweep.fluence_error, sweep.intensity_error
    try:
        fit = loglog_knee(
            sweep.fluence[use],
            sweep.intensity[use],
            fluence_error=None if sf is None else sf[use],
            intensity_error=None if si is None else si[use],
            saturated=sweep.saturated[use],
            convention=sweep.convention,
            fluence_unit=sweep.fluence_unit,
        )
    except NoThreshold as verdict:
        return None, verdict
    return fit, None


def _definitions(
    threshold: ThresholdFit,
    sweep: SweepArrays,
    relative: Array,
    points: tuple[SweepPoint, ...],
    gain: tuple[ArrayLike, ArrayLike] | None,
) -> dict[str, Definition]:
    chosen = np.flatnonzero(sweep.usable & ~sweep.returned)
    order = chosen[np.argsort(sweep.fluence[chosen], kind="stable")]
    spectral = np.array([(points[k].pl_area, points[k].ase_area, points[k].fwhm_nm) for k in order]) if points else None
    return other_definitions(
        threshold.value,
        sweep.fluence[order],
        sweep.intensity[order],
        relative[order],
        None if spectral is None else spectral[:, 0],
        None if spectral is None else spectral[:, 1],
        None if spectral is None else spectral[:, 2],
        threshold.unit,
        None if gain is None else (np.asarray(gain[0], dtype=float), np.asarray(gain[1], dtype=float)),
    )


def _relative_error(sweep: SweepArrays, threshold: ThresholdFit | None) -> Array:
    """Return the relative error of the intensity at given fluence; without given errors, the scatter about the knee."""
    f, i, sf, si = sweep.fluence, sweep.intensity, sweep.fluence_error, sweep.intensity_error
    if si is None:
        scatter = 0.03 if threshold is None else threshold.scatter
        return np.full(f.shape, scatter)
    slope = np.ones_like(f) if threshold is None else threshold.local_slope(f)
    part = np.where(i > 0, si / np.where(i > 0, i, 1.0), 1.0)
    return np.maximum(np.hypot(part, 0.0 if sf is None else slope * sf / f), 1e-6)


def _components(
    wavelength_nm: Array, spectra: Array, sweep: SweepArrays, threshold: ThresholdFit | None
) -> tuple[PLShape, list[TwoComponents]]:
    """Freeze the PL shape on the lowest fluences, then split every spectrum, from the highest fluence down."""
    fluence, usable = sweep.fluence, sweep.usable
    ascending = np.argsort(fluence, kind="stable")
    low = [k for k in ascending if usable[k] and not sweep.returned[k]]
    if threshold is not None:
        below = [k for k in low if fluence[k] < 0.5 * threshold.value]
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


def _points(
    wavelength_nm: Array, spectra: Array, fluence: Array, parts: list[TwoComponents] | None
) -> tuple[SweepPoint, ...]:
    nan = float("nan")
    points = []
    for k in range(fluence.size):
        line = single_line(wavelength_nm, spectra[k])
        part = None if parts is None else parts[k]
        points.append(
            SweepPoint(
                fluence=float(fluence[k]),
                band_integral=line.band_integral,
                peak_nm=line.peak_nm,
                fwhm_nm=line.fwhm_nm,
                pl_area=nan if part is None else part.pl_area,
                pl_area_error=nan if part is None else part.pl_area_error,
                ase_area=nan if part is None else part.ase_area,
                ase_area_error=nan if part is None else part.ase_area_error,
                ase_peak_nm=nan if part is None else part.ase_peak_nm,
                ase_fwhm_nm=nan if part is None else part.ase_fwhm_nm,
            )
        )
    return tuple(points)


def _ase_line(
    sweep: SweepArrays, parts: list[TwoComponents], threshold: float, response: InstrumentResponse
) -> LineResult | None:
    """Return the ASE line at twice the threshold, from a straight line through the points around it."""
    fluence = sweep.fluence
    found = np.array([part.significant for part in parts]) & sweep.usable
    near = found & (fluence > _LINE_RANGE[0] * threshold) & (fluence < _LINE_RANGE[1] * threshold)
    if near.sum() < 3:
        near = found & (fluence > _CLEARLY_ABOVE * threshold)
    if not near.any():
        return None
    u = np.log(fluence[near] / (LINE_AT * threshold))
    chosen = [part for part, use in zip(parts, near, strict=True) if use]
    peak, peak_sd = _at_zero(u, np.array([(p.ase_peak_nm, p.ase_peak_error_nm) for p in chosen]))
    fwhm, fwhm_sd = _at_zero(u, np.array([(p.ase_fwhm_nm, p.ase_fwhm_error_nm) for p in chosen]))
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


def _sweep_warnings(sweep: SweepArrays, damage: Photodamage, pulse_rms: float | None) -> list[str]:
    warnings = []
    swept = sweep.fluence[~sweep.returned]
    if swept.size >= 4 and np.mean(np.diff(swept) < 0) > 0.5:
        warnings.append(
            "the fluence was swept downwards: photodamage at the top then shifts the threshold (up to +13 %)"
        )
    if sweep.saturated.any():
        warnings.append(f"{int(sweep.saturated.sum())} saturated points were left out of all fits")
    dropped = int(np.sum(~sweep.usable & ~sweep.saturated))
    if dropped:
        warnings.append(f"{dropped} points with intensity <= 0 after background subtraction were left out")
    if damage.damaged and damage.ratio is not None:
        change = 100 * (damage.ratio.value - 1)
        warnings.append(
            f"photodamage: the emission at the lowest fluences changed by {change:+.1f} %; use a fresh spot"
        )
    elif damage.ratio is None:
        warnings.append(f"photodamage not checked: {damage.reason}")
    elif not damage.conclusive:
        spread = 100 * damage.ratio.sd
        warnings.append(f"photodamage check inconclusive: ratio {damage.ratio.value:.3f} known to {spread:.1f} % only")
    if pulse_rms is not None and pulse_rms > _PULSE_RMS_LIMIT:
        warnings.append(f"pulse noise {100 * pulse_rms:.1f} % rms biases steep signals: sort the shots by energy")
    return warnings
