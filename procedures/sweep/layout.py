"""What a row of the fluence sweep holds."""

from __future__ import annotations

from labctl.run.procedure import ArrayField, Column, RowLayout

_FRAME = (
    Column("exposure_s", "float", "s", "True exposure of one accumulation"),
    Column("accumulations", "int", "", "Exposures summed"),
    Column("pulse_energy_j", "float", "J", "Energy per pulse at the sample plane; 0 with the shutter closed"),
    Column("counted_pulses", "int", "", "Pulses within the exposures"),
    Column("cosmic_pixels", "int", "", "Pixels hit by a cosmic ray"),
    Column("sensor_c", "float", "degC", "Temperature of the sensor"),
)

POINT_COLUMNS = (
    Column("stage", "text", "", "Stage of the plan", width=16),
    Column("fluence_set_uj_cm2", "float", "uJ/cm^2", "Fluence asked for"),
    Column("fluence_uj_cm2", "float", "uJ/cm^2", "Fluence reached, from the energy meter"),
    Column("fluence_error_uj_cm2", "float", "uJ/cm^2", "Its random standard error"),
    Column("pulse_energy_j", "float", "J", "Energy per pulse at the sample"),
    Column("pulse_energy_std_j", "float", "J", "Standard deviation from pulse to pulse"),
    Column("angle_deg", "float", "deg", "Angle of the attenuator as read back"),
    Column("band_intensity", "float", "counts", "Emission integrated over the band, per pulse"),
    Column("band_intensity_error", "float", "counts", "Its standard error from counting and read noise"),
    Column("peak_nm", "float", "nm", "Wavelength of the strongest line"),
    Column("fwhm_nm", "float", "nm", "Width of that line at half maximum, as measured"),
    Column("ase_intensity", "float", "counts", "Narrow part of the two-component fit, per pulse"),
    Column("pl_intensity", "float", "counts", "Broad part of the two-component fit, per pulse"),
    Column("excitons_per_particle", "float", "", "Mean number of excitons per particle, F sigma / (h nu)"),
    Column("exposure_s", "float", "s", "True exposure of one accumulation"),
    Column("accumulations", "int", "", "Exposures summed"),
    Column("counted_pulses", "int", "", "Pulses within the exposures"),
    Column("peak_rate", "float", "counts/s", "Rate of the brightest pixel of the band above dark"),
    Column("saturated_pixels", "int", "", "Pixels of the band at or near the ceiling of the ADC"),
    Column("cosmic_pixels", "int", "", "Pixels hit by a cosmic ray"),
    Column("overlap_exposure_s", "float", "s", "Exposure of the overlap measurement; NaN where there was none"),
    Column("overlap_ratio", "float", "", "Rate at the overlap exposure over the rate of this point"),
    Column("open_s", "float", "s", "Time the shutter was open for this point"),
    Column("dose_j_cm2", "float", "J/cm^2", "Dose on the spot since the start of the run"),
    Column("sensor_c", "float", "degC", "Temperature of the sensor"),
)


def point_layout(pixels: int) -> RowLayout:
    """Rows of the sweep; the spectrum holds raw counts, nothing subtracted."""
    return RowLayout(
        POINT_COLUMNS,
        (
            ArrayField(
                "spectrum", (pixels,), "<f4", "counts", "Raw counts, summed over the accumulations", "wavelength_nm"
            ),
            ArrayField("mask", (pixels,), "|u1", "", "Bit 0: saturated; bit 1: cosmic ray", "wavelength_nm"),
        ),
    )


def frame_layout(pixels: int) -> RowLayout:
    """Rows of dark and scatter frames."""
    spectrum = ArrayField(
        "spectrum", (pixels,), "<f4", "counts", "Raw counts, summed over the accumulations", "wavelength_nm"
    )
    return RowLayout(_FRAME, (spectrum,))
