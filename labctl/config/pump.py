"""The tables ``[laser]`` and ``[pump]``: from the laser and the energy meter to the fluence on the sample."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from labctl.config.fault import Fault, as_toml
from labctl.config.quantity import InUnit
from labctl.config.table import Fraction, SpotSizeErrorMm, SpotSizeMm, Table, WavelengthNm
from labctl.quantities import Convention, FlatTopSpot, GaussianSpot, RectangleSpot, SpotGeometry, StripeSpot

SHORT_PULSE_FS = 1e4
"""Below 10 ps a pulse is over before anything decays; a film is destroyed far below the fluence that follows."""
SHORT_PULSE_FLUENCE_UJ_CM2 = 50e3


class LaserConfig(Table):
    """The excitation laser as it leaves its box."""

    wavelength_nm: WavelengthNm = Field(alias="wavelength")
    repetition_rate_hz: Annotated[float, InUnit("Hz", above=0, at_most=1e10, example="1 kHz")] = Field(
        alias="repetition_rate"
    )
    pulse_duration_fs: Annotated[float, InUnit("fs", at_least=1, at_most=1e12, example="100 fs")] = Field(
        alias="pulse_duration"
    )


class Incidence(Table):
    """How the pump meets the sample; part of every spot."""

    incidence_angle_deg: Annotated[float, InUnit("deg", at_least=0, below=90, example="0 deg")] = Field(
        alias="incidence_angle", default=0.0
    )
    reflection: Fraction = 0.0


class StripeConfig(Incidence):
    """A stripe cut by a slit along its length and Gaussian across (1/e² half width)."""

    shape: Literal["stripe"]
    length_mm: SpotSizeMm = Field(alias="length")
    length_error_mm: SpotSizeErrorMm = Field(alias="length_error", default=0.0)
    half_width_mm: SpotSizeMm = Field(alias="half_width")
    half_width_error_mm: SpotSizeErrorMm = Field(alias="half_width_error", default=0.0)

    @property
    def relative_area_error(self) -> float:
        """Get the standard error of the area as a share of it."""
        return math.hypot(self.length_error_mm / self.length_mm, self.half_width_error_mm / self.half_width_mm)

    def spot(self) -> StripeSpot:
        """Get the spot as a quantity."""
        return StripeSpot(self.length_mm, self.half_width_mm)


class GaussianConfig(Incidence):
    """An elliptical Gaussian spot with its 1/e² radii."""

    shape: Literal["gaussian"]
    radius_x_mm: SpotSizeMm = Field(alias="radius_x")
    radius_x_error_mm: SpotSizeErrorMm = Field(alias="radius_x_error", default=0.0)
    radius_y_mm: SpotSizeMm = Field(alias="radius_y")
    radius_y_error_mm: SpotSizeErrorMm = Field(alias="radius_y_error", default=0.0)

    @property
    def relative_area_error(self) -> float:
        """Get the standard error of the area as a share of it."""
        return math.hypot(self.radius_x_error_mm / self.radius_x_mm, self.radius_y_error_mm / self.radius_y_mm)

    def spot(self) -> GaussianSpot:
        """Get the spot as a quantity."""
        return GaussianSpot(self.radius_x_mm, self.radius_y_mm)


class FlatTopConfig(Incidence):
    """An evenly lit spot."""

    shape: Literal["flat_top"]
    area_mm2: Annotated[float, InUnit("mm^2", at_least=1e-8, at_most=1e4, example="0.12 mm^2")] = Field(alias="area")
    area_error_mm2: Annotated[float, InUnit("mm^2", at_least=0, at_most=1e4, example="0.01 mm^2")] = Field(
        alias="area_error", default=0.0
    )

    @property
    def relative_area_error(self) -> float:
        """Get the standard error of the area as a share of it."""
        return self.area_error_mm2 / self.area_mm2

    def spot(self) -> FlatTopSpot:
        """Get the spot as a quantity."""
        return FlatTopSpot(self.area_mm2)


class RectangleConfig(Incidence):
    """A spot quoted by its two full axes."""

    shape: Literal["rectangle"]
    axis_a_mm: SpotSizeMm = Field(alias="axis_a")
    axis_a_error_mm: SpotSizeErrorMm = Field(alias="axis_a_error", default=0.0)
    axis_b_mm: SpotSizeMm = Field(alias="axis_b")
    axis_b_error_mm: SpotSizeErrorMm = Field(alias="axis_b_error", default=0.0)

    @property
    def relative_area_error(self) -> float:
        """Get the standard error of the area as a share of it."""
        return math.hypot(self.axis_a_error_mm / self.axis_a_mm, self.axis_b_error_mm / self.axis_b_mm)

    def spot(self) -> RectangleSpot:
        """Get the spot as a quantity."""
        return RectangleSpot(self.axis_a_mm, self.axis_b_mm)


SpotConfig = Annotated[
    StripeConfig | GaussianConfig | FlatTopConfig | RectangleConfig, Field(discriminator="shape", description="a table")
]

_CONVENTIONS = {
    "stripe": ("peak_gauss", "mean_1e2"),
    "gaussian": ("peak_gauss", "mean_1e2"),
    "flat_top": ("flat_top",),
    "rectangle": ("rect_axes_product",),
}


class PumpConfig(Table):
    """From the energy meter at the pick-off to the fluence on the sample."""

    pick_off_ratio: Annotated[float, Field(gt=0, le=1e6, description="energy at the sample / energy at the meter")]
    pick_off_ratio_error: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    spot: SpotConfig
    convention: Literal["peak_gauss", "mean_1e2", "flat_top", "rect_axes_product"]

    @field_validator("convention", mode="after")
    @classmethod
    def _defined_for_spot(cls, convention: str, info: ValidationInfo) -> str:
        spot = info.data.get("spot")
        if spot is not None and convention not in _CONVENTIONS[spot.shape]:
            choices = ", ".join(f'"{name}"' for name in _CONVENTIONS[spot.shape])
            raise Fault(as_toml(convention), f"for the shape {spot.shape}: {choices}")
        return convention

    @property
    def systematic_relative_error(self) -> float:
        """Get the relative error that all fluences share: pick-off ratio and area of the spot in quadrature."""
        return math.hypot(self.pick_off_ratio_error / self.pick_off_ratio, self.spot.relative_area_error)

    def geometry(self) -> SpotGeometry:
        """Get what turns a pulse energy at the sample into a fluence."""
        return SpotGeometry(
            self.spot.spot(), Convention(self.convention), self.spot.incidence_angle_deg, self.spot.reflection
        )


def check_fluence_limit(fluence_uj_cm2: float, laser: LaserConfig) -> None:
    """Refuse a limit that is a slip of the unit.

    :raises Fault: more than 50 mJ/cm² with short pulses.
    """
    if laser.pulse_duration_fs < SHORT_PULSE_FS and fluence_uj_cm2 > SHORT_PULSE_FLUENCE_UJ_CM2:
        found = f"{fluence_uj_cm2:g} uJ/cm^2 with pulses of {laser.pulse_duration_fs:g} fs"
        raise Fault(found, "at most 50 mJ/cm^2 for pulses shorter than 10 ps", key=("fluence",))
