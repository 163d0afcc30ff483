"""Spectra of a stored run, in any state, freed of dark and scattered pump light."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from labctl.analysis.frames import Frame, Frames
from labctl.config.bench import parse_bench
from labctl.errors import LabctlError
from labctl.store.run import Run

Array = NDArray[np.float64]
SATURATED, COSMIC = 1, 2
_LIGHT = ("counted_pulses", "pulse_energy_j")


def column(run: Run, name: str, stream: str | None = None) -> Array:
    """Get a column as floats, NaN throughout where the stream does not have it; empty without the stream."""
    stream = stream or run.default_stream
    if stream not in run.streams:
        return np.zeros(0)
    found = run.streams[stream].column(name)
    if found is None or found.kind == "text":
        return np.full(run.count(stream), np.nan)
    return np.asarray(run.column(name, stream), float)


def texts(run: Run, name: str, stream: str | None = None) -> NDArray[np.str_]:
    """Get a column as texts, empty texts where the stream does not have it."""
    stream = stream or run.default_stream
    if stream not in run.streams:
        return np.zeros(0, dtype=np.str_)
    if run.streams[stream].column(name) is None:
        return np.full(run.count(stream), "", dtype=np.str_)
    return np.asarray(run.column(name, stream), dtype=np.str_)


def wavelengths_nm(run: Run, name: str, stream: str) -> Array | None:
    """Get the wavelengths of an array's pixels; None if the stream has no such array or it is no spectrum."""
    field = run.streams[stream].array(name) if stream in run.streams else None
    axis = run.axes.get(field.axis or "") if field is not None else None
    if field is None or axis is None or len(field.shape) != 1 or len(axis.values) != field.shape[0]:
        return None
    return np.asarray(axis.values, float)


def emission(run: Run, frames: Frames, stream: str, index: int, name: str = "spectrum") -> tuple[Array, Array] | None:
    """Get the emission of one record, counts per pulse and pixel, and its standard error; both [pixels].

    None without its dark frame or without light. Saturated pixels are NaN.
    """
    pulses, energy_j = (float(column(run, light, stream)[index]) for light in _LIGHT)
    frame = read_frame(run, stream, name, index)
    if frame is None or not pulses > 0:
        return None
    try:
        # Without an energy there is no telling how much pump was scattered: none is subtracted.
        signal, variance = frames.emission(frame, energy_j if math.isfinite(energy_j) else 0.0, pulses)
    except LookupError:
        return None
    signal[(read_mask(run, stream, signal.shape, index) & SATURATED) > 0] = np.nan
    return signal / pulses, np.sqrt(variance) / pulses


def read_frames(run: Run, name: str = "spectrum") -> Frames:
    """Get the dark frames and, where it was measured, the pump scatter of a run."""
    frames = Frames(_counts_per_electron(run))
    for index in range(_count(run, "dark", name)):
        if (frame := read_frame(run, "dark", name, index)) is not None:
            frames.add_dark(frame)
    last = _count(run, "scatter", name) - 1
    frame = read_frame(run, "scatter", name, last) if last >= 0 else None
    if frame is not None:
        pulses, energy_j = (float(column(run, light, "scatter")[last]) for light in _LIGHT)
        with suppress(ValueError, LookupError):
            frames.add_scatter(frame, energy_j, pulses)
    return frames


def read_frame(run: Run, stream: str, name: str, index: int) -> Frame | None:
    """Get a stored frame or spectrum, or None if it does not say how it was exposed."""
    exposure_s, sums = (float(column(run, exposed, stream)[index]) for exposed in ("exposure_s", "accumulations"))
    if not (math.isfinite(exposure_s) and sums > 0):
        return None
    counts = np.asarray(run.array(name, stream)[index], float)
    return Frame(counts, exposure_s, int(sums), (read_mask(run, stream, counts.shape, index) & COSMIC) > 0)


def read_mask(run: Run, stream: str, shape: Sequence[int], index: int) -> NDArray[np.uint8]:
    """Get the flags of the pixels of one record; none is set where the stream has no mask."""
    if run.streams[stream].array("mask") is None:
        return np.zeros(tuple(shape), np.uint8)
    return np.asarray(run.array("mask", stream)[index])


def _count(run: Run, stream: str, name: str) -> int:
    return run.count(stream) if stream in run.streams and run.streams[stream].array(name) is not None else 0


def _counts_per_electron(run: Run) -> float:
    """Get the camera's gain from the bench file that is stored with the run; 1 where it does not say."""
    origin = run.header.get("provenance")
    files = origin.get("files") if isinstance(origin, Mapping) else None
    with suppress(LabctlError, KeyError, TypeError, ValueError, AttributeError):
        spectrometer = parse_bench(str((files or {})["bench"]), "bench").spectrometer
        return spectrometer.counts_per_electron if spectrometer is not None else 1.0
    return 1.0
