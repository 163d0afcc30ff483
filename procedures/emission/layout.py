"""What a stored spectrum or frame holds, and back again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labctl.analysis.frames import Frame
from labctl.config.filters import NAME_BYTES
from labctl.quantities import Spectrum
from labctl.run.procedure import ArrayField, Column, RowLayout

SATURATED, COSMIC = 1, 2
"""Bits of a mask."""

FILTER_COLUMNS = (
    Column("filter", "text", "", "Filter before the slit; none on a bench without filters", width=NAME_BYTES),
    Column("filter_position", "int", "", "Its position as read back, from 1; 0 on a bench without filters"),
)

FRAME_COLUMNS = (
    Column("exposure_s", "float", "s", "True exposure of one accumulation"),
    Column("accumulations", "int", "", "Exposures summed"),
    Column("pulse_energy_j", "float", "J", "Energy per pulse at the sample plane; 0 with the shutter closed"),
    Column("pulse_energy_error_j", "float", "J", "Random standard error of the mean over the pulses of the frame"),
    Column("counted_pulses", "float", "", "Mean number of pulses in the exposures: repetition rate times exposure"),
    Column("saturated_pixels", "int", "", "Pixels at or near the ceiling of the ADC"),
    Column("cosmic_pixels", "int", "", "Pixels hit by a cosmic ray"),
    Column("sensor_c", "float", "degC", "Temperature of the sensor before the first exposure"),
    *FILTER_COLUMNS,
)


def frame_layout(pixels: int) -> RowLayout:
    """Rows of dark and scatter frames."""
    return RowLayout(FRAME_COLUMNS, spectrum_arrays(pixels))


def spectrum_arrays(pixels: int) -> tuple[ArrayField, ArrayField]:
    """A spectrum of raw counts, nothing subtracted, and its mask."""
    return (
        ArrayField(
            "spectrum", (pixels,), "<f4", "counts", "Raw counts, summed over the accumulations", "wavelength_nm"
        ),
        ArrayField("mask", (pixels,), "|u1", "", "Bit 0: saturated; bit 1: cosmic ray", "wavelength_nm"),
    )


def frame_row(frame: Spectrum, energy_j: float, energy_error_j: float, pulses: float) -> dict[str, Any]:
    """Compose the row of a frame; without pump, energy and pulses are 0."""
    return {
        "exposure_s": frame.exposure_s,
        "accumulations": frame.accumulations,
        "pulse_energy_j": energy_j,
        "pulse_energy_error_j": energy_error_j,
        "counted_pulses": pulses,
        "saturated_pixels": int(frame.saturated.sum()),
        "cosmic_pixels": int(frame.cosmic.sum()),
        "sensor_c": frame.temperature_c,
        "filter": frame.filter_name,
        "filter_position": frame.filter_position,
    }


def arrays_of(spectrum: Spectrum) -> dict[str, NDArray[Any]]:
    """Raw counts, and the mask of pixels that cannot be used as they are."""
    mask = np.where(spectrum.saturated, SATURATED, 0) | np.where(spectrum.cosmic, COSMIC, 0)
    return {"spectrum": spectrum.counts.astype(np.float32), "mask": mask.astype(np.uint8)}


def stored_frame(row: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Frame:
    """Get a frame as it was stored."""
    counts = np.asarray(arrays["spectrum"], dtype=np.float64)
    cosmic = (np.asarray(arrays["mask"]) & COSMIC) > 0
    return Frame(counts, float(row["exposure_s"]), int(row["accumulations"]), cosmic)
