"""Malus's law for a half-wave plate before a polariser: from transmission to angle and back.

The fit only sets the angle. What the sample got is always taken from the energy meter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from labctl.errors import InputError

PERIOD_DEG = 90.0
"""The transmission of a half-wave plate before a polariser repeats after a quarter turn of the plate."""


@dataclass(frozen=True, slots=True)
class MalusLaw:
    """T(θ) = T0 + (T1 − T0) cos²(2 (θ − θ0)), in units of energy at the meter.

    The factor 2 is that of a half-wave plate: the polarisation turns twice as far as the plate.

    :param minimum_j: Energy T0 at the meter at full extinction, in J.
    :param maximum_j: Energy T1 at the meter at full transmission, in J.
    :param theta0_deg: Angle of full transmission in degrees as the mount reports it.
    """

    minimum_j: float
    maximum_j: float
    theta0_deg: float

    def energy_j(self, angle_deg: float) -> float:
        """Get the expected energy at the meter in J at an angle in degrees."""
        projection = math.cos(math.radians(2 * (angle_deg - self.theta0_deg))) ** 2
        return self.minimum_j + (self.maximum_j - self.minimum_j) * projection

    def angle_deg(self, energy_j: float) -> float:
        """Get the angle in [θ0, θ0 + 45°] that should give ``energy_j`` at the meter.

        Raises InputError beyond what the laser and the extinction of the polariser allow.
        """
        if not self.minimum_j <= energy_j <= self.maximum_j:
            raise InputError(
                f"the attenuator cannot give {energy_j:.4g} J at the meter",
                where=f"attenuator; calibrated range {self.minimum_j:.4g} J to {self.maximum_j:.4g} J",
                todo="choose a fluence within range, change the fixed neutral-density filter, or calibrate anew",
            )
        share = (energy_j - self.minimum_j) / (self.maximum_j - self.minimum_j)
        return self.theta0_deg + math.degrees(math.acos(math.sqrt(share))) / 2
