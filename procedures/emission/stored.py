"""Emission spectra as a run has stored them: frames subtracted, per pulse, with their errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labctl.analysis.frames import Frame, Frames
from labctl.config.bench import BenchConfig, parse_bench
from labctl.config.sample import SampleConfig, parse_sample
from labctl.errors import InputError
from procedures.emission.band import band_mask, band_sum
from procedures.emission.layout import COSMIC

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Emission:
    """Emission of every point of a stream, per pulse, frames subtracted.

    :param wavelength_nm: Shape (band pixels,).
    :param spectra: Shape (points, band pixels), counts per pulse; ``spectra_error``, their standard errors.
    :param intensity: Sum over the band, shape (points,), with its standard error.
    """

    wavelength_nm: Array
    spectra: Array
    spectra_error: Array
    intensity: Array
    intensity_error: Array


def stored_emission(
    run: Any, band_nm: tuple[float, float], counts_per_electron: float = 1.0, stream: str = "points"
) -> Emission:
    """Subtract dark and scatter frames from all spectra of a stream, of a run live or old.

    Raises InputError if a spectrum has no dark frame of its exposure.
    """
    axis = np.asarray(run.axes["wavelength_nm"].values)
    mask = band_mask(axis, band_nm)
    columns = run.columns(stream)
    rows, row_errors, sums, errors = [], [], [], []
    try:
        frames = _frames(run, counts_per_electron)
        for index in range(len(columns["point"])):
            pulses = float(columns["counted_pulses"][index])
            energy_j = float(columns["pulse_energy_j"][index])
            signal, variance = frames.emission(_frame(run, stream, index), energy_j, pulses)
            common = frames.scatter_error(energy_j, pulses)
            total, error = band_sum(signal, variance, mask, pulses / columns["accumulations"][index], common)
            rows.append(signal[mask] / pulses)
            row_errors.append(np.sqrt(variance[mask]) / pulses)
            sums.append(total / pulses)
            errors.append(error / pulses)
    except LookupError as missing:
        raise InputError(str(missing), where=str(run.path), todo="measure again; the run lacks frames") from missing
    shape = (-1, int(mask.sum()))
    spectra, spectra_error = np.array(rows).reshape(shape), np.array(row_errors).reshape(shape)
    return Emission(axis[mask], spectra, spectra_error, np.array(sums), np.array(errors))


def bench_of(run: Any) -> BenchConfig:
    """Get the bench that a run was taken on, from the text that is stored with it."""
    return parse_bench(run.header["provenance"]["files"]["bench"], run.header["bench"]["file"])


def sample_of(run: Any) -> SampleConfig | None:
    """Get the sample file the run was taken with, if there was one."""
    text = run.header["provenance"]["files"].get("sample")
    return parse_sample(text, "sample") if text else None


def _frames(run: Any, counts_per_electron: float) -> Frames:
    frames = Frames(counts_per_electron)
    for index in range(run.count("dark")):
        frames.add_dark(_frame(run, "dark", index))
    if "scatter" in run.streams and run.count("scatter"):
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
