"""Analysis of a stored fluence sweep: frames subtracted, then threshold, line and photodamage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labctl.analysis.ase import analyse_sweep
from labctl.analysis.frames import Frame, Frames
from labctl.analysis.linewidth import NO_RESPONSE, InstrumentResponse
from labctl.analysis.sweep_arrays import SweepArrays
from labctl.config.bench import BenchConfig, parse_bench
from labctl.config.sample import SampleConfig, parse_sample
from labctl.errors import InputError
from procedures.emission.band import band_mask, band_sum
from procedures.emission.layout import COSMIC
from procedures.sweep.results import population_warnings, sweep_result

Array = NDArray[np.float64]
_OVERLAP_TOLERANCE = 0.03
_MIN_POINTS = 5


@dataclass(frozen=True)
class Emission:
    """Emission of every point of a sweep, per pulse, frames subtracted.

    :param wavelength_nm: Shape (band pixels,).
    :param spectra: Shape (points, band pixels), counts per pulse.
    :param intensity: Sum over the band, shape (points,), with its standard error.
    """

    wavelength_nm: Array
    spectra: Array
    intensity: Array
    intensity_error: Array


def emission(run: Any, band_nm: tuple[float, float], counts_per_electron: float = 1.0) -> Emission:
    """Subtract dark and scatter frames from all spectra of a run, live or old.

    Raises InputError if a spectrum has no dark frame of its exposure.
    """
    axis = np.asarray(run.axes["wavelength_nm"].values)
    mask = band_mask(axis, band_nm)
    columns = run.columns("points")
    rows, sums, errors = [], [], []
    try:
        frames = _frames(run, counts_per_electron)
        for index in range(len(columns["point"])):
            pulses = float(columns["counted_pulses"][index])
            energy_j = float(columns["pulse_energy_j"][index])
            signal, variance = frames.emission(_frame(run, "points", index), energy_j, pulses)
            common = frames.scatter_error(energy_j, pulses)
            total, error = band_sum(signal, variance, mask, pulses / columns["accumulations"][index], common)
            rows.append(signal[mask] / pulses)
            sums.append(total / pulses)
            errors.append(error / pulses)
    except LookupError as missing:
        raise InputError(str(missing), where=str(run.path), todo="measure again; the run lacks frames") from missing
    return Emission(axis[mask], np.array(rows).reshape(-1, int(mask.sum())), np.array(sums), np.array(errors))


def bench_of(run: Any) -> BenchConfig:
    """Get the bench that a run was taken on, from the text that is stored with it."""
    return parse_bench(run.header["provenance"]["files"]["bench"], run.header["bench"]["file"])


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
    light = emission(run, band_nm, bench.spectrometer.counts_per_electron if bench.spectrometer else 1.0)
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
    sample, parameters = _sample(run), run.header["parameters"]
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


def _frames(run: Any, counts_per_electron: float) -> Frames:
    frames = Frames(counts_per_electron)
    for index in range(run.count("dark")):
        frames.add_dark(_frame(run, "dark", index))
    if run.count("scatter"):
        scatter = run.columns("scatter")
        energy_j, pulses = float(scatter["pulse_energy_j"][0]), float(scatter["counted_pulses"][0])
        # Runs of earlier versions do not say how well the energy is known.
        error_j = float(scatter["pulse_energy_error_j"][0]) if "pulse_energy_error_j" in scatter else 0.0
        frames.add_scatter(_frame(run, "scatter", 0), energy_j, pulses, error_j)
    return frames


def _frame(run: Any, stream: str, index: int) -> Frame:
    """Get a stored frame or spectrum; runs of earlier versions have no mask with their frames."""
    counts = np.asarray(run.array("spectrum", stream)[index], dtype=float)
    masked = run.streams[stream].array("mask") is not None
    mask = np.asarray(run.array("mask", stream)[index]) if masked else np.zeros(counts.shape, np.uint8)
    exposure_s, accumulations = (run.column(name, stream)[index] for name in ("exposure_s", "accumulations"))
    return Frame(counts, float(exposure_s), int(accumulations), (mask & COSMIC) > 0)


def _pulse_rms(columns: Mapping[str, Any]) -> float | None:
    """Relative scatter from pulse to pulse, the median over all points."""
    ratio = columns["pulse_energy_std_j"] / columns["pulse_energy_j"]
    return float(np.median(ratio[np.isfinite(ratio)])) if np.isfinite(ratio).any() else None


def _response(bench: BenchConfig) -> InstrumentResponse:
    spectrometer = bench.spectrometer
    if spectrometer is None:
        return NO_RESPONSE
    return InstrumentResponse(spectrometer.instrument_fwhm_nm, spectrometer.instrument_fwhm_error_nm)


def _sample(run: Any) -> SampleConfig | None:
    """Get the sample file the run was taken with, if there was one."""
    text = run.header["provenance"]["files"].get("sample")
    return parse_sample(text, "sample") if text else None


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
