"""The numbers of a sweep that a reader looks for first; their names are those of ``--json``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from labctl.analysis.ase import SweepAnalysis
from labctl.analysis.estimate import Estimate
from labctl.analysis.lasing import LasingFit
from labctl.config.bench import BenchConfig
from labctl.config.sample import ExcitationConfig, SampleConfig
from labctl.quantities import Convention, RectangleSpot, SpotGeometry, effective_population, excitons_per_particle

LONG_PULSE_FS = 1e6
"""Beyond a nanosecond multiexcitons decay while they are made."""

_READINGS = {
    Convention.PEAK_GAUSS: "peak of the Gaussian spot",
    Convention.MEAN_1E2: "mean inside the 1/e^2 width",
    Convention.FLAT_TOP: "energy over the area of the flat-top spot",
    Convention.RECT_AXES_PRODUCT: "energy over the product of the full axes",
    Convention.PEAK_GAUSS_FWHM: "peak of the Gaussian spot",
}
_AXES = {
    Convention.PEAK_GAUSS: ", the quoted axes read as 1/e^2 diameters",
    Convention.MEAN_1E2: ", the quoted axes read as 1/e^2 diameters",
    Convention.PEAK_GAUSS_FWHM: ", the quoted axes read as full widths at half maximum",
}


def sweep_result(
    found: SweepAnalysis, bench: BenchConfig, sample: SampleConfig | None, parameters: Mapping[str, Any]
) -> dict[str, Any]:
    """Collect the results, name -> ``{"value", "unit", "ci68", "ci95", ...}``; only what was found is in it.

    ``threshold_by_convention`` holds such an entry for each convention instead.
    """
    result: dict[str, Any] = {}
    if found.threshold is not None:
        threshold = found.threshold.estimate
        systematic = bench.pump.systematic_relative_error if bench.pump else None
        result["threshold"] = {**found.threshold.as_dict(), "systematic_relative_error": systematic}
        if bench.pump is not None:
            ratio_error = bench.pump.pick_off_ratio_error / bench.pump.pick_off_ratio
            energy_uj = bench.pump.geometry().pulse_energy_j(1.0) * 1e6
            result["threshold_energy"] = {
                **_scaled(threshold, energy_uj, "uJ").as_dict(),
                "systematic_relative_error": ratio_error,
            }
            result["threshold_by_convention"] = _by_convention(threshold, bench.pump.geometry(), systematic)
        result.update(_excitons(threshold, bench, sample, parameters, systematic))
        if isinstance(found.threshold, LasingFit):
            result["beta"] = found.threshold.beta.as_dict()
    result.update(_lines(found, bench))
    return result


def population_warnings(result: Mapping[str, Any], bench: BenchConfig) -> list[str]:
    """Say of a long pulse that what it excites is not what is there at a time."""
    if "excitons_at_threshold" not in result or bench.laser is None or bench.laser.pulse_duration_fs <= LONG_PULSE_FS:
        return []
    excited = (
        f"excitons at the threshold count what a pulse of {bench.laser.pulse_duration_fs * 1e-6:g} ns excites, not what"
        " is there at a time: multiexcitons decay during it"
    )
    if "effective_population" not in result:
        return [f"{excited}, the population is smaller; a multiexciton_lifetime in the sample file would tell it"]
    effective = result["effective_population"]
    return [
        f"{excited}; with their lifetime of {effective['lifetime_ns']:g} ns the effective population is"
        f" {effective['value']:.3g}"
    ]


def _scaled(estimate: Estimate, factor: float, unit: str) -> Estimate:
    low68, high68, low95, high95 = (factor * end for end in (*estimate.ci68, *estimate.ci95))
    return Estimate(factor * estimate.value, unit, (low68, high68), (low95, high95))


def _by_convention(threshold: Estimate, geometry: SpotGeometry, systematic: float | None) -> dict[str, Any]:
    """The same threshold under every convention that is defined for the spot, each with how it reads the spot."""
    entries: dict[str, Any] = {}
    for convention, same in geometry.conventions().items():
        reading = _READINGS[convention]
        if isinstance(geometry.spot, RectangleSpot):
            reading += _AXES.get(convention, "")
        estimate = _scaled(threshold, geometry.area_cm2 / same.area_cm2, threshold.unit)
        entries[str(convention)] = {
            **estimate.as_dict(),
            "reading": reading,
            "systematic_relative_error": systematic,
        }
    return entries


def _excitons(
    threshold: Estimate,
    bench: BenchConfig,
    sample: SampleConfig | None,
    parameters: Mapping[str, Any],
    systematic: float | None,
) -> dict[str, Any]:
    """Excitons per particle at the threshold, and for a long pulse how many of them are there at a time."""
    cross_section = parameters.get("cross_section")
    if cross_section is None or bench.laser is None:
        return {}
    excitation = sample.sample.excitation if sample is not None else None
    common = _excitons_systematic(systematic, cross_section, excitation)
    per_fluence = excitons_per_particle(1.0, cross_section, bench.laser.wavelength_nm)
    excited = _scaled(threshold, per_fluence, "1")
    entries = {"excitons_at_threshold": {**excited.as_dict(), **common}}
    lifetime_ns = None if excitation is None else excitation.multiexciton_lifetime_ns
    if bench.laser.pulse_duration_fs > LONG_PULSE_FS and lifetime_ns is not None:
        share = effective_population(1.0, bench.laser.pulse_duration_fs * 1e-6, lifetime_ns)
        entries["effective_population"] = {
            **_scaled(excited, share, "1").as_dict(),
            **common,
            "lifetime_ns": lifetime_ns,
        }
    return entries


def _excitons_systematic(
    fluence: float | None, cross_section_cm2: float, excitation: ExcitationConfig | None
) -> dict[str, float | bool | None]:
    """Relative error that the fluences and the cross-section have in common for all points; says what it holds.

    The error in the sample file belongs to the cross-section in it, not to one that was given in its place.
    """
    known = (
        excitation.cross_section_error_cm2
        if excitation is not None and math.isclose(excitation.cross_section_cm2, cross_section_cm2, rel_tol=1e-9)
        else None
    )
    total = None if fluence is None else math.hypot(fluence, (known or 0.0) / cross_section_cm2)
    return {"systematic_relative_error": total, "cross_section_error_known": known is not None}


def _lines(found: SweepAnalysis, bench: BenchConfig) -> dict[str, Any]:
    """Peaks and widths: of the PL, and of the ASE or the strongest mode."""
    parts = found.parts
    axis_error = bench.spectrometer.wavelength_error_nm if bench.spectrometer else None
    entries: dict[str, Any] = {}
    if parts.pl_peak is not None:
        entries["pl_peak"] = {**parts.pl_peak.as_dict(), "systematic_error_nm": axis_error}
    if parts.ase_shift is not None:
        entries["ase_shift"] = parts.ase_shift.as_dict()
    line = parts.line
    if line is not None:
        name = "lasing" if parts.modes_nm else "ase"
        named = {
            f"{name}_peak": line.peak_nm,
            f"{name}_fwhm": line.fwhm_nm,
            f"{name}_fwhm_deconvolved": line.fwhm_deconvolved_nm,
            "q": line.q,
            "q_deconvolved": line.q_deconvolved,
        }
        entries.update({key: estimate.as_dict() for key, estimate in named.items() if estimate is not None})
        entries[f"{name}_peak"]["systematic_error_nm"] = axis_error
        for key in (f"{name}_fwhm_deconvolved", "q_deconvolved"):
            if key in entries:
                entries[key]["line_shape"] = line.shape
    if parts.mode_spacing is not None:
        entries["mode_spacing"] = {**parts.mode_spacing.as_dict(), "modes": len(parts.modes_nm)}
    return entries
