"""The calibrated attenuator, a half-wave plate before a polariser: from energy to angle and back.

The fit only sets the angle. What the sample got is always taken from the energy meter.
"""

from __future__ import annotations

from dataclasses import dataclass

from labctl.analysis import half_wave_plate
from labctl.errors import InputError

PERIOD_DEG = half_wave_plate.PERIOD_DEG
"""Turned by this much, the attenuator transmits the same."""


@dataclass(frozen=True, slots=True)
class MalusLaw:
    """The law of Malus (`labctl.analysis.half_wave_plate`) in units of energy at the meter.

    :param minimum_j: Energy T0 at the meter at full extinction, in J.
    :param maximum_j: Energy T1 at the meter at full transmission, in J.
    :param theta0_deg: Angle of full transmission in degrees as the mount reports it.
    """

    minimum_j: float
    maximum_j: float
    theta0_deg: float

    def energy_j(self, angle_deg: float) -> float:
        """Get the expected energy at the meter in J at an angle in degrees."""
        return float(half_wave_plate.transmitted(angle_deg, self.minimum_j, self.maximum_j, self.theta0_deg))

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
        return half_wave_plate.angle_deg(energy_j, self.minimum_j, self.maximum_j, self.theta0_deg)
