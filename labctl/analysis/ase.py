"""Analysis of a whole fluence sweep: threshold by every definition, line, photodamage, warnings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from labctl.analysis.cavity_spectra import cavity_parts
from labctl.analysis.definitions import Definition, other_definitions
from labctl.analysis.estimate import Estimate
from labctl.analysis.film_spectra import film_parts
from labctl.analysis.hinge import Array
from labctl.analysis.knee import loglog_knee
from labctl.analysis.lasing import LARGEST_PULSE_RMS, LasingFit, lasing_threshold
from labctl.analysis.linewidth import NO_RESPONSE, InstrumentResponse, LineResult
from labctl.analysis.photodamage import Photodamage, photodamage
from labctl.analysis.spectrum import PLShape
from labctl.analysis.sweep_arrays import SweepArrays
from labctl.analysis.sweep_line import SweepPoint
from labctl.analysis.sweep_parts import SpectralParts
from labctl.analysis.threshold import NoThreshold, ThresholdFit

ThresholdModel = Literal["auto", "knee", "lasing"]
_PULSE_RMS_LIMIT = 0.05


@dataclass(frozen=True)
class SweepAnalysis:
    """Everything a fluence sweep says. ``threshold`` is None with ``no_threshold`` saying why."""

    threshold: ThresholdFit | LasingFit | None
    no_threshold: str | None
    no_threshold_reason: str | None
    definitions: dict[str, Definition]
    parts: SpectralParts
    photodamage: Photodamage
    jitter_factor: float | None
    """<F^s>/F^s at the slope above the knee, from the pulse fluctuation; None if that is not known, or in the fit."""
    warnings: tuple[str, ...]

    @property
    def ase_line(self) -> LineResult | None:
        """Get the narrow line at twice the threshold: ASE, or the strongest mode of a cavity."""
        return self.parts.line

    @property
    def pl_shape(self) -> PLShape | None:
        """Get the PL line well below the threshold."""
        return self.parts.pl_shape

    @property
    def pl_peak(self) -> Estimate | None:
        """Get its peak, nm."""
        return self.parts.pl_peak

    @property
    def ase_shift(self) -> Estimate | None:
        """Get the peak of the ASE minus that of the PL, nm."""
        return self.parts.ase_shift

    @property
    def points(self) -> tuple[SweepPoint, ...]:
        """Get what each spectrum holds; empty without spectra."""
        return self.parts.points

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
            "modes_nm": list(self.parts.modes_nm),
            "points": [point.as_dict() for point in self.points],
            "photodamage": self.photodamage.as_dict(),
            "jitter_factor": self.jitter_factor,
            "warnings": list(self.warnings),
        }


def threshold_model(model: str, form: str | None) -> ThresholdModel:
    """Choose the model of a sweep: ``auto`` is lasing for a cavity, a knee for other forms, open for an unknown one."""
    if model == "lasing" or (model == "auto" and form == "cavity"):
        return "lasing"
    return "auto" if model == "auto" and form is None else "knee"


def jitter_factor(slope: float, pulse_rms: float) -> float:
    """Return <F^s>/F^s = 1 + s(s-1) rms^2/2: by how much pulse-to-pulse noise raises a signal of slope s.

    Second order in ``pulse_rms`` (relative): 1.011 for s = 3.5 at 5 %. The knee moves by about its logarithm divided by
    the change of slope; beyond 5 % rms sort the shots by their energy instead of correcting.
    """
    return 1.0 + 0.5 * slope * (slope - 1.0) * pulse_rms**2


def analyse_sweep(
    sweep: SweepArrays,
    *,
    model: ThresholdModel = "auto",
    cavity: bool = False,
    response: InstrumentResponse = NO_RESPONSE,
    pulse_rms: float | None = None,
    gain: tuple[ArrayLike, ArrayLike] | None = None,
) -> SweepAnalysis:
    """Analyse a fluence sweep.

    :param model: What the threshold is: the knee of a film, or F_th of the S-curve of a laser; ``auto`` takes the
        S-curve for a cavity. :param cavity: The spectra hold modes, not an ASE line.
    :param response: The spectrograph's own line, which is taken out of the width of the line.
    :param pulse_rms: relative pulse-to-pulse noise of the laser. :param gain: (fluence, net modal gain) if known.

    A sweep without threshold is a result, not an error: ``threshold`` is then None. Malformed input raises ValueError.
    """
    lasing = model == "lasing" or (model == "auto" and cavity)
    threshold, verdict = _threshold(sweep, pulse_rms, lasing=lasing)
    warnings = [str(verdict)] if verdict is not None else []
    warnings += () if threshold is None else threshold.warnings
    relative = _relative_error(sweep, threshold)
    parts = SpectralParts(())
    if sweep.spectra is not None and sweep.wavelength_nm is not None:
        split = cavity_parts if cavity else film_parts
        value = None if threshold is None else threshold.value
        parts = split(sweep.wavelength_nm, sweep.spectra, sweep, value, response)
        warnings += parts.warnings
    definitions: dict[str, Definition] = {}
    if threshold is not None:
        definitions = _definitions(threshold, sweep, relative, parts.points if parts.split else (), gain)
        if lasing:
            definitions = {"loglog_knee": _knee(sweep), **definitions}
    slope = 1.0 if threshold is None else threshold.local_slope(sweep.fluence)
    intensity = np.where(sweep.usable, sweep.intensity, 1.0)
    damage = photodamage(sweep.fluence, intensity, relative, sweep.returned, sweep.usable, slope)
    warnings += _sweep_warnings(sweep, damage, None if lasing else pulse_rms)
    return SweepAnalysis(
        threshold=threshold,
        no_threshold=None if verdict is None else str(verdict),
        no_threshold_reason=None if verdict is None else verdict.reason,
        definitions=definitions,
        parts=parts,
        photodamage=damage,
        jitter_factor=None
        if pulse_rms is None or threshold is None or lasing
        else jitter_factor(threshold.slope_above, pulse_rms),
        warnings=tuple(warnings),
    )


def _threshold(
    sweep: SweepArrays, pulse_rms: float | None, *, lasing: bool
) -> tuple[ThresholdFit | LasingFit | None, NoThreshold | None]:
    """Return the threshold of the points of the sweep proper, or the verdict that there is none."""
    use = ~sweep.returned
    sf, si = sweep.fluence_error, sweep.intensity_error
    fluence_error, intensity_error = None if sf is None else sf[use], None if si is None else si[use]
    try:
        if lasing:
            return lasing_threshold(
                sweep.fluence[use],
                sweep.intensity[use],
                fluence_error=fluence_error,
                intensity_error=intensity_error,
                saturated=sweep.saturated[use],
                pulse_rms=None if pulse_rms is None else min(pulse_rms, LARGEST_PULSE_RMS),
                convention=sweep.convention,
                fluence_unit=sweep.fluence_unit,
            ), None
        return loglog_knee(
            sweep.fluence[use],
            sweep.intensity[use],
            fluence_error=fluence_error,
            intensity_error=intensity_error,
            saturated=sweep.saturated[use],
            convention=sweep.convention,
            fluence_unit=sweep.fluence_unit,
        ), None
    except NoThreshold as verdict:
        return None, verdict


def _knee(sweep: SweepArrays) -> Definition:
    """Return the knee of a laser's curve, which a film's threshold would be, as one more definition."""
    knee, verdict = _threshold(sweep, None, lasing=False)
    value, reason = (None, str(verdict)) if knee is None else (knee.value, None)
    return Definition(value, sweep.fluence_unit, "knee of ln I against ln F, as for a film", reason)


def _definitions(
    threshold: ThresholdFit | LasingFit,
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


def _relative_error(sweep: SweepArrays, threshold: ThresholdFit | LasingFit | None) -> Array:
    """Return the relative error of the intensity at given fluence; without given errors, the scatter about the knee."""
    f, i, sf, si = sweep.fluence, sweep.intensity, sweep.fluence_error, sweep.intensity_error
    if si is None:
        scatter = 0.03 if threshold is None else threshold.scatter
        return np.full(f.shape, scatter)
    slope = np.ones_like(f) if threshold is None else threshold.local_slope(f)
    part = np.where(i > 0, si / np.where(i > 0, i, 1.0), 1.0)
    return np.maximum(np.hypot(part, 0.0 if sf is None else slope * sf / f), 1e-6)


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
