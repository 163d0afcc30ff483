"""What the pump lights on the sample: how large it is, and over which length it amplifies.

The sample sees one fluence per pulse, F = E / area, whatever convention a bench quotes: for a Gaussian profile the
fluence at the peak, for a flat one the even fluence. A peak is what a spectrograph looks at that takes the light of the
middle of the spot, or of a stripe's narrow bright line.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, Protocol

from pydantic import Field

from labctl.sim.truth_table import Positive, Truth


class Illuminated(Protocol):
    """An area of the sample that the pump lights."""

    @property
    def area_cm2(self) -> float:
        """Get the area that turns a pulse energy into the fluence that the sample sees, cm2."""
        ...

    @property
    def length_mm(self) -> float:
        """Get the length over which light within the area is amplified, mm."""
        ...


class StripeTruth(Truth):
    """Excitation stripe on the sample: slit-cut length, mm; half width across at 1/e2, um."""

    length_mm: Positive = 1.0
    half_width_um: Positive = 150.0

    @property
    def area_cm2(self) -> float:
        """Get L w sqrt(pi/2): the fluence is that on the axis."""
        return 0.1 * self.length_mm * 1e-4 * self.half_width_um / math.sqrt(2.0 / math.pi)


class GaussianSpotTruth(Truth):
    """Gaussian spot: 1/e2 radii, um. It amplifies along the longer 1/e2 diameter."""

    shape: Literal["gaussian"]
    radius_x_um: Positive
    radius_y_um: Positive

    @property
    def area_cm2(self) -> float:
        """Get pi w_x w_y / 2: the fluence is that at the peak."""
        return 0.5e-8 * math.pi * self.radius_x_um * self.radius_y_um

    @property
    def length_mm(self) -> float:
        """Get the longer 1/e2 diameter, mm."""
        return 2e-3 * max(self.radius_x_um, self.radius_y_um)


class RectangleSpotTruth(Truth):
    """Evenly lit rectangle, um. It amplifies along its longer side."""

    shape: Literal["rectangle"]
    axis_a_um: Positive
    axis_b_um: Positive

    @property
    def area_cm2(self) -> float:
        """Get a b."""
        return 1e-8 * self.axis_a_um * self.axis_b_um

    @property
    def length_mm(self) -> float:
        """Get the longer side, mm."""
        return 1e-3 * max(self.axis_a_um, self.axis_b_um)


class FlatTopSpotTruth(Truth):
    """Evenly lit disc of a given area, mm2. It amplifies along its diameter."""

    shape: Literal["flat_top"]
    area_mm2: Positive

    @property
    def area_cm2(self) -> float:
        """Get the area."""
        return 1e-2 * self.area_mm2

    @property
    def length_mm(self) -> float:
        """Get the diameter, mm."""
        return 2.0 * math.sqrt(self.area_mm2 / math.pi)


SpotTruth = Annotated[GaussianSpotTruth | RectangleSpotTruth | FlatTopSpotTruth, Field(discriminator="shape")]
