"""What a row of the stripe scan holds."""

from __future__ import annotations

from labctl.run.procedure import Column, RowLayout
from procedures.emission.layout import FILTER_COLUMNS, spectrum_arrays

STRIPE_COLUMNS = (
    Column("stage", "text", "", "Stage of the plan", width=16),
    Column("fluence_set_uj_cm2", "float", "uJ/cm^2", "Fluence asked for"),
    Column("fluence_uj_cm2", "float", "uJ/cm^2", "Fluence reached, from the energy meter before the slit"),
    Column("fluence_error_uj_cm2", "float", "uJ/cm^2", "Its random standard error"),
    Column("pulse_energy_j", "float", "J", "Energy per pulse at the sample with the whole stripe open"),
    Column("pulse_energy_std_j", "float", "J", "Standard deviation from pulse to pulse"),
    Column("angle_deg", "float", "deg", "Angle of the attenuator as read back"),
    Column("length_set_um", "float", "um", "Stripe length asked for"),
    Column("length_um", "float", "um", "Stripe length from the film's edge, or from the near blade, read back"),
    Column("offset_um", "float", "um", "Distance of the stripe's beginning from the film's edge, read back"),
    Column("far_mm", "float", "mm", "Position of the far blade as read back"),
    Column("edge_mm", "float", "mm", "Position of the far blade at the film's edge, as known at this point"),
    Column("edge_error_um", "float", "um", "Its standard error; NaN before the edge was looked for"),
    Column("band_intensity", "float", "counts/pulse", "Emission integrated over the band"),
    Column("band_intensity_error", "float", "counts/pulse", "Its standard error from counting, read-out and frames"),
    Column("peak_nm", "float", "nm", "Wavelength of the strongest line"),
    Column("fwhm_nm", "float", "nm", "Width of that line at half maximum, as measured"),
    Column("slit_energy_j", "float", "J", "Mean energy at the meter behind the slit; NaN without one or without light"),
    Column("slit_energy_error_j", "float", "J", "Its standard error"),
    Column("exposure_s", "float", "s", "True exposure of one accumulation"),
    Column("accumulations", "int", "", "Exposures summed"),
    Column("counted_pulses", "float", "", "Mean number of pulses in the exposures: repetition rate times exposure"),
    Column("peak_rate", "float", "counts/s", "Rate of the brightest pixel of the band above dark"),
    Column("saturated_pixels", "int", "", "Pixels of the band at or near the ceiling of the ADC"),
    Column("cosmic_pixels", "int", "", "Pixels hit by a cosmic ray"),
    Column("open_s", "float", "s", "Time the shutter was open for this point"),
    Column("dose_j_cm2", "float", "J/cm^2", "Dose on the spot since the start of the run"),
    Column("sensor_c", "float", "degC", "Temperature of the sensor before the first exposure"),
    *FILTER_COLUMNS,
)


def stripe_layout(pixels: int) -> RowLayout:
    """Rows of the scan; the spectrum holds raw counts, nothing subtracted."""
    return RowLayout(STRIPE_COLUMNS, spectrum_arrays(pixels))
