"""Analysis of a stored fluence sweep: frames subtracted, then threshold, line and photodamage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labctl.analysis.ase import analyse_sweep
from labctl.analysis.linewidth import NO_RESPONSE, InstrumentResponse
from labctl.analysis.sweep_arrays import SweepArrays
from labctl.config.bench import BenchConfig
from labctl.errors import InputError
from procedures.emission.stored import sample_of, stored_emission
from procedures.sweep.results import population_warnings, sweep_result

Array = NDArray[np.float64]
_OVERLAP_TOLERANCE = 0.03
_MIN_POINTS = 5


def analyse(run: Any, band_nm: tuple[float, float], bench: BenchConfig) -> dict[str, Any]:
    """Analyse a sweep; returns ``{"result", "definitions", "photodamage", "points", "warnings", ...}``.

    :param bench: The bench that it was taken on, see :func:`bench_of`.

    Raises InputError if the run has too few points to say anything.
    """
    count = run.count("points") if "points" in run.streams else 0
    if count < _MIN_POINTS:
        raise InputError(
            f"{count} points are too few for a threshold", where=str(run.path), todo=f"measure at least {_MIN_POINTS}"
        )
    columns = run.columns("points")
    light = stored_emission(run, band_nm, bench.spectrometer.counts_per_electron if bench.spectrometer else 1.0)
    sweep = SweepArrays.of(
        columns["fluence_uj_cm2"],
        light.intensity,
        fluence_error=columns["fluence_error_uj_cm2"],
        intensity_error=light.intensity_error,
        saturated=columns["saturated_pixels"] > 0,
        wavelength_nm=light.wavelength_nm,
        spectra=light.spectra,
        stage=columns["stage"],
        convention=bench.pump.convention if bench.pump else "peak_gauss",
    )
    sample, parameters = sample_of(run), run.header["parameters"]
    found = analyse_sweep(
        sweep,
        # Runs of earlier versions do not have the parameter.
        model=parameters.get("threshold_model", "auto"),
        cavity=sample is not None and sample.sample.form == "cavity",
        response=_response(bench),
        pulse_rms=_pulse_rms(columns),
    )
    full = found.as_dict()
    result = sweep_result(found, bench, sample, parameters)
    warnings = [*full.pop("warnings"), *_overlap_warnings(columns), *population_warnings(result, bench)]
    return {"result": result, **full, "warnings": warnings}


def _pulse_rms(columns: Mapping[str, Any]) -> float | None:
    """Relative scatter from pulse to pulse, the median over all points."""
    ratio = columns["pulse_energy_std_j"] / columns["pulse_energy_j"]
    return float(np.median(ratio[np.isfinite(ratio)])) if np.isfinite(ratio).any() else None


def _response(bench: BenchConfig) -> InstrumentResponse:
    spectrometer = bench.spectrometer
    if spectrometer is None:
        return NO_RESPONSE
    return InstrumentResponse(spectrometer.instrument_fwhm_nm, spectrometer.instrument_fwhm_error_nm)


def _overlap_warnings(columns: Mapping[str, Any]) -> list[str]:
    """Warn where the rate changed with the exposure beyond the scatter of the laser: detector or shutter not linear."""
    known = [columns[name] for name in ("overlap_ratio", "overlap_next_ratio") if name in columns]
    ratios = np.concatenate(known)
    ratios = ratios[np.isfinite(ratios)]
    if not len(ratios) or abs(float(np.median(ratios)) - 1) <= _OVERLAP_TOLERANCE:
        return []
    return [
        f"the rate changes with the exposure (median ratio {np.median(ratios):.3f} over {len(ratios)} overlaps):"
        " the detector or the shutter is not linear"
    ]
