"""What a row of the fluence sweep holds."""

from __future__ import annotations

from labctl.run.procedure import Column, RowLayout
from procedures.emission.layout import FILTER_COLUMNS, spectrum_arrays

POINT_COLUMNS = (
    Column("stage", "text", "", "Stage of the plan", width=16),
    Column("fluence_set_uj_cm2", "float", "uJ/cm^2", "Fluence asked for"),
    Column("fluence_uj_cm2", "float", "uJ/cm^2", "Fluence reached, from the energy meter"),
    Column("fluence_error_uj_cm2", "float", "uJ/cm^2", "Its random standard error"),
    Column("pulse_energy_j", "float", "J", "Energy per pulse at the sample"),
    Column("pulse_energy_std_j", "float", "J", "Standard deviation from pulse to pulse"),
    Column("angle_deg", "float", "deg", "Angle of the attenuator as read back"),
    Column("band_intensity", "float", "counts/pulse", "Emission integrated over the band"),
    Column(
        "band_intensity_error",
        "float",
        "counts/pulse",
        "Its standard error: counting, read-out, frames subtracted, pulses counted",
    ),
    Column("peak_nm", "float", "nm", "Wavelength of the strongest line"),
    Column("fwhm_nm", "float", "nm", "Width of that line at half maximum, as measured"),
    Column("ase_intensity", "float", "counts/pulse", "Narrow part of the two-component fit"),
    Column("pl_intensity", "float", "counts/pulse", "Broad part of the two-component fit"),
    Column("excitons_per_particle", "float", "", "Mean number of excitons per particle, F sigma / (h nu)"),
    Column("exposure_s", "float", "s", "True exposure of one accumulation"),
    Column("accumulations", "int", "", "Exposures summed"),
    Column("counted_pulses", "float", "", "Mean number of pulses in the exposures: repetition rate times exposure"),
    Column("peak_rate", "float", "counts/s", "Rate of the brightest pixel of the band above dark"),
    Column("saturated_pixels", "int", "", "Pixels of the band at or near the ceiling of the ADC"),
    Column("cosmic_pixels", "int", "", "Pixels hit by a cosmic ray"),
    Column("overlap_exposure_s", "float", "s", "Overlap with the point before; NaN where there was none"),
    Column("overlap_ratio", "float", "", "Rate at that exposure over the rate of this point"),
    Column("overlap_next_exposure_s", "float", "s", "Overlap with the point after, at its shorter exposure, or NaN"),
    Column("overlap_next_ratio", "float", "", "Rate at that exposure over the rate of this point"),
    Column("open_s", "float", "s", "Time the shutter was open for this point"),
    Column("dose_j_cm2", "float", "J/cm^2", "Dose on the spot since the start of the run"),
    Column("sensor_c", "float", "degC", "Temperature of the sensor before the first exposure"),
    *FILTER_COLUMNS,
)


def point_layout(pixels: int) -> RowLayout:
    """Rows of the sweep; the spectrum holds raw counts, nothing subtracted."""
    return RowLayout(POINT_COLUMNS, spectrum_arrays(pixels))
