"""The limits of a bench. They act here, below every front and every procedure; none can go round them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from labctl.errors import LimitError, LimitExceeded
from labctl.quantities import SpotGeometry

_READING_TOLERANCE = 1.05
"""A set value may reach the limit; a reading may pass it by the scatter of the laser."""

_ROUNDED = 1 - 1e-9


@dataclass(frozen=True, slots=True)
class PumpLimits:
    """Upper limits of the pump at the sample.

    :param fluence_uj_cm2: Fluence in µJ/cm² under the bench's convention.
    :param pulse_energy_j: Energy per pulse at the sample in J, or None.
    :param dose_j_cm2: Dose per spot in J/cm², or None.
    :param average_power_w: Pulse energy at the sample times repetition rate in W, or None.
    :param repetition_rate_hz: Repetition rate of the laser; needed for the average power only.
    """

    fluence_uj_cm2: float
    pulse_energy_j: float | None = None
    dose_j_cm2: float | None = None
    average_power_w: float | None = None
    repetition_rate_hz: float = math.nan

    def highest_fluence_uj_cm2(self, geometry: SpotGeometry) -> float:
        """Get the highest fluence in µJ/cm² that may be set on a spot: by its own limit, and by those of the energy."""
        energies_j = [self.pulse_energy_j, self._energy_of_the_power_j]
        # Less the rounding of the way there and back: the highest fluence itself must not be refused.
        fluences = [geometry.fluence(energy_j).uj_cm2 * _ROUNDED for energy_j in energies_j if energy_j is not None]
        return min([self.fluence_uj_cm2, *fluences])

    @property
    def _energy_of_the_power_j(self) -> float | None:
        """Get the pulse energy in J at which the average power reaches its limit."""
        return None if self.average_power_w is None else self.average_power_w / self.repetition_rate_hz

    def _over_power(self, pulse_energy_j: float, tolerance: float = 1.0) -> bool:
        most_j = self._energy_of_the_power_j
        return most_j is not None and not pulse_energy_j <= most_j * tolerance

    def check_set_value(self, fluence_uj_cm2: float, pulse_energy_j: float) -> None:
        """Refuse a set value beyond a limit, before anything moves; raises LimitError."""
        # Written so that a value that is not a number is refused, too.
        if not fluence_uj_cm2 <= self.fluence_uj_cm2:
            raise LimitError(
                f"a fluence of {fluence_uj_cm2:.4g} uJ/cm^2 lies beyond the limit of {self.fluence_uj_cm2:.4g} uJ/cm^2",
                where="limits.fluence of the bench",
                todo="ask for less; the limit itself is changed in the bench file only",
            )
        if self.pulse_energy_j is not None and not pulse_energy_j <= self.pulse_energy_j:
            raise LimitError(
                f"a pulse energy of {pulse_energy_j:.4g} J lies beyond the limit of {self.pulse_energy_j:.4g} J",
                where="limits.pulse_energy of the bench",
                todo="ask for less; the limit itself is changed in the bench file only",
            )
        if self._over_power(pulse_energy_j):
            raise LimitError(
                f"an average power of {pulse_energy_j * self.repetition_rate_hz:.4g} W lies beyond the limit of"
                f" {self.average_power_w:.4g} W",
                where="limits.average_power of the bench",
                todo="ask for less, or lower the repetition rate; the limit itself is changed in the bench file only",
            )

    def check_reading(self, fluence_uj_cm2: float, pulse_energy_j: float) -> None:
        """Refuse to go on after a reading beyond a limit; raises LimitExceeded."""
        over_fluence = not fluence_uj_cm2 <= self.fluence_uj_cm2 * _READING_TOLERANCE
        over_energy = self.pulse_energy_j is not None and not pulse_energy_j <= self.pulse_energy_j * _READING_TOLERANCE
        if over_fluence or over_energy:
            raise LimitExceeded(
                f"the sample got {fluence_uj_cm2:.4g} uJ/cm^2 ({pulse_energy_j:.4g} J per pulse), beyond the limit of"
                f" {self.fluence_uj_cm2:.4g} uJ/cm^2",
                where="pump beam, energy meter",
                todo="calibrate the attenuator anew; check what changed in the laser",
            )
        self._check_power(pulse_energy_j)

    def check_energy(self, pulse_energy_j: float) -> None:
        """Refuse to go on after a pulse energy behind the pick-off beyond the limit; raises LimitExceeded.

        For light that does not reach the sample, so that no fluence belongs to it.
        """
        if self.pulse_energy_j is not None and not pulse_energy_j <= self.pulse_energy_j * _READING_TOLERANCE:
            raise LimitExceeded(
                f"{pulse_energy_j:.4g} J per pulse went through, beyond the limit of {self.pulse_energy_j:.4g} J",
                where="limits.pulse_energy of the bench; energy meter",
                todo="put a neutral-density filter before the attenuator; the limit is changed in the bench file only",
            )
        self._check_power(pulse_energy_j)

    def _check_power(self, pulse_energy_j: float) -> None:
        if self._over_power(pulse_energy_j, _READING_TOLERANCE):
            raise LimitExceeded(
                f"{pulse_energy_j * self.repetition_rate_hz:.4g} W went through on average, beyond the limit of"
                f" {self.average_power_w:.4g} W",
                where="limits.average_power of the bench; energy meter",
                todo="calibrate the attenuator anew; check what changed in the laser",
            )

    def check_dose(self, dose_j_cm2: float, coming_j_cm2: float = 0.0) -> None:
        """Refuse to go on beyond the dose per spot; raises LimitExceeded.

        :param dose_j_cm2: What the spot has received.
        :param coming_j_cm2: What it is about to receive.
        """
        if self.dose_j_cm2 is not None and not dose_j_cm2 + coming_j_cm2 <= self.dose_j_cm2:
            more = f" and would receive {coming_j_cm2:.4g} J/cm^2 more" if coming_j_cm2 else ""
            raise LimitExceeded(
                f"the spot has received {dose_j_cm2:.4g} J/cm^2{more},"
                f" beyond the limit of {self.dose_j_cm2:.4g} J/cm^2",
                where="limits.dose_per_spot of the bench",
                todo="move to a fresh spot",
            )
