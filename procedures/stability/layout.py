"""What a row of a stability run holds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labctl.run.procedure import ArrayField, Column, Record, RowLayout
from procedures.emission.layout import FILTER_COLUMNS, spectrum_arrays

Array = NDArray[np.float64]

LOG_ENTRIES = 256
"""Readings of temperature or irradiance that a record holds at most; longer logs are thinned."""
READ, LAMP = "read", "lamp"
"""Kinds of points: a read of the emission; the lamp alone."""

READ_COLUMNS = (
    Column("stage", "text", "", "Stage of the plan", width=16),
    Column("kind", "text", "", "read: of the emission; lamp: of the lamp alone", width=8),
    Column("place", "text", "", "Place of the sample stage; empty on a bench without one", width=40),
    Column("stress_s", "float", "s", "Time since the stress began, 0 before; from the wall clock, for the eye"),
    Column("stress_began_unix_s", "float", "s", "Unix time at which it began; 0 before"),
    Column("temperature_c", "float", "degC", "Temperature of the heating stage, mean of before and after the read"),
    Column("irradiance_mw_cm2", "float", "mW/cm^2", "Irradiance of the lamp on the sample; NaN without a lamp"),
    Column("lamp_dose_j_cm2", "float", "J/cm^2", "Dose of the lamp on the sample since the start of the run"),
    Column("stress_paused", "bool", "", "Whether the lamp was off while the emission was read"),
    Column("shots", "int", "", "Pulses that have passed since the start, from the trigger counter; 0 without one"),
    Column("pressure_mbar", "float", "mbar", "Pressure around the sample; NaN without a gauge"),
    Column("relative_intensity", "float", "1", "Sample over reference, in units of the baseline; for the eye"),
    Column("ratio", "float", "1", "Sample over reference, mean over the cycles; without a reference over the energy"),
    Column("ratio_error", "float", "1", "Its standard error, from the scatter over the cycles and from counting"),
    Column("sample_intensity", "float", "counts/pulse", "Emission of the sample over the band, mean over the cycles"),
    Column("sample_intensity_error", "float", "counts/pulse", "Its standard error, from scatter and counting"),
    Column("reference_intensity", "float", "counts/pulse", "The same of the reference; NaN without one"),
    Column("reference_intensity_error", "float", "counts/pulse", "Its standard error"),
    Column("peak_nm", "float", "nm", "Wavelength of the strongest line, for the eye"),
    Column("fwhm_nm", "float", "nm", "Width of that line at half maximum, for the eye"),
    Column("fluence_set_uj_cm2", "float", "uJ/cm^2", "Fluence asked for"),
    Column("fluence_uj_cm2", "float", "uJ/cm^2", "Fluence reached on the sample, mean over the cycles"),
    Column("fluence_error_uj_cm2", "float", "uJ/cm^2", "Its random standard error"),
    Column("pulse_energy_j", "float", "J", "Energy per pulse at the sample plane, mean over the cycles"),
    Column("exposure_s", "float", "s", "True exposure of one accumulation on the sample"),
    Column("accumulations", "int", "", "Exposures summed in the spectrum, over all cycles"),
    Column("counted_pulses", "float", "", "Mean number of pulses in them: repetition rate times exposure"),
    Column("peak_rate", "float", "counts/s", "Rate of the sample's brightest pixel of the band above dark"),
    Column("reference_exposure_s", "float", "s", "True exposure of one accumulation on the reference"),
    Column("reference_accumulations", "int", "", "Exposures summed in the reference spectrum"),
    Column("reference_peak_rate", "float", "counts/s", "Rate of its brightest pixel above dark"),
    Column("saturated_pixels", "int", "", "Pixels of the band at or near the ceiling of the ADC"),
    Column("cosmic_pixels", "int", "", "Pixels hit by a cosmic ray"),
    Column("open_s", "float", "s", "Time the shutter was open on the sample for this point"),
    Column("dose_j_cm2", "float", "J/cm^2", "Dose of the pump on the spot since the start of the run"),
    Column("sensor_c", "float", "degC", "Temperature of the sensor before the first exposure"),
    *FILTER_COLUMNS,
)

SECOND_COLUMNS = (
    Column("block_shots", "int", "", "Pulses that have passed since the point before"),
    Column("second_intensity", "float", "counts/pulse", "Emission over the second band; NaN without one"),
    Column("second_intensity_error", "float", "counts/pulse", "Its standard error"),
)
"""Further columns of a run under its own pump."""

HEATING_COLUMNS = (
    Column("stage", "text", "", "Stage of the plan", width=16),
    Column("asked_c", "float", "degC", "Temperature asked for"),
    Column("reached_c", "float", "degC", "Temperature reached"),
    Column("took_s", "float", "s", "Time it took"),
    Column("pressure_mbar", "float", "mbar", "Pressure around the sample; NaN without a gauge"),
)

OPERATOR_COLUMNS = (
    Column("stage", "text", "", "Stage of the plan", width=16),
    Column("action", "text", "", "What the operator was asked to do", width=64),
)

LOG_ARRAYS = (
    ArrayField("log_before_s", (LOG_ENTRIES,), "<f8", "s", "When each value was read, before t_s; NaN where none"),
    ArrayField("log_value", (LOG_ENTRIES,), "<f4", "", "Temperature in degC, or irradiance in mW/cm^2"),
)

_CYCLE_ARRAYS = (
    ("sample_before_s", "s", "Middle of each spectrum of the sample, before t_s"),
    ("sample_cycles", "counts/pulse", "Emission of the sample over the band in each cycle"),
    ("sample_cycles_error", "counts/pulse", "Its standard error from counting, read-out and frames"),
    ("energy_cycles_j", "J", "Energy per pulse at the sample plane"),
)
_REFERENCE_ARRAYS = (
    ("reference_before_s", "s", "Middle of each spectrum of the reference, before t_s"),
    ("reference_cycles", "counts/pulse", "Emission of the reference over the band"),
    ("reference_cycles_error", "counts/pulse", "Its standard error from counting, read-out and frames"),
)


def read_layout(pixels: int, cycles: int, more: Sequence[Column] = ()) -> RowLayout:
    """Rows of the reads; spectra hold raw counts, nothing subtracted, summed over the cycles."""
    spectrum, mask = spectrum_arrays(pixels)
    arrays = [
        spectrum,
        mask,
        ArrayField(
            "reference_spectrum", (pixels,), "<f4", "counts", "Raw counts of the last reference", "wavelength_nm"
        ),
        ArrayField("lamp_light", (pixels,), "<f4", "counts/s", "Light of the stress lamp above dark", "wavelength_nm"),
        *(ArrayField(name, (cycles,), "<f8", unit, text) for name, unit, text in _CYCLE_ARRAYS),
        *(ArrayField(name, (cycles + 1,), "<f8", unit, text) for name, unit, text in _REFERENCE_ARRAYS),
        *LOG_ARRAYS,
    ]
    return RowLayout((*READ_COLUMNS, *more), tuple(arrays))


def lamp_record(columns: Mapping[str, Any], pixels: int, cycles: int, arrays: Mapping[str, NDArray[Any]]) -> Record:
    """Compose the record of a point at which the lamp alone was read; what belongs to a read is empty in it."""
    empty: dict[str, Any] = {"float": math.nan, "int": 0, "bool": False, "text": ""}
    row = {**{column.name: empty[column.kind] for column in READ_COLUMNS}, **columns, "kind": LAMP}
    blank = {
        field.name: np.full(field.shape, np.nan, field.dtype)
        for field in read_layout(pixels, cycles).arrays
        if field.axis is None
    }
    spectra = {
        field.name: np.zeros(field.shape, field.dtype)
        for field in read_layout(pixels, cycles).arrays
        if field.axis is not None
    }
    return Record(row, {**blank, **spectra, **arrays})


def heating_layout() -> RowLayout:
    """Rows of heating up and cooling down, with the temperatures on the way."""
    return RowLayout(HEATING_COLUMNS, LOG_ARRAYS)


def operator_layout() -> RowLayout:
    """Rows of what was done by hand."""
    return RowLayout(OPERATOR_COLUMNS)


def log_arrays(entries: Sequence[tuple[float, float]], now_s: float) -> dict[str, NDArray[np.generic]]:
    """Store a log of (time of the run's clock in s, value); one longer than :data:`LOG_ENTRIES` is thinned evenly."""
    before, values = np.full(LOG_ENTRIES, np.nan), np.full(LOG_ENTRIES, np.nan, dtype=np.float32)
    if entries:
        count = min(len(entries), LOG_ENTRIES)
        kept = np.unique(np.round(np.linspace(0, len(entries) - 1, count)).astype(int))
        before[: kept.size] = [now_s - entries[index][0] for index in kept]
        values[: kept.size] = [entries[index][1] for index in kept]
    return {"log_before_s": before, "log_value": values}
