"""An energy meter that is read off by hand."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from drivers.by_hand.instrument import ByHand
from labctl.clock import Clock
from labctl.quantities import EnergyReading
from labctl.roles import Identity
from labctl.transport.adapter import WireAdapter

_JOULES = {"J": 1.0, "mJ": 1e-3, "uJ": 1e-6, "nJ": 1e-9, "pJ": 1e-12}


class EnergyMeterByHand(ByHand):
    """An energy meter without a cable; the operator types what it shows.

    Its range is the operator's business: what is asked for is remembered and not passed on.

    :param pulse_spread: Standard deviation from pulse to pulse in units of the mean: a display does not show it.
    :param largest_range_j: Its largest range, in J.
    """

    ROLE = "energy_meter"

    class Options(BaseModel):
        """Options in the bench file."""

        model_config = ConfigDict(frozen=True, extra="forbid")

        pulse_spread: Annotated[float, Field(ge=0, le=1)] = 0.03
        largest_range_j: Annotated[float, Field(gt=0)] = 1.0

    def __init__(
        self,
        adapter: WireAdapter,
        name: str = "energy meter by hand",
        *,
        clock: Clock,
        pulse_spread: float = 0.03,
        largest_range_j: float = 1.0,
    ) -> None:
        super().__init__(adapter, name, clock=clock)
        self._pulse_spread = pulse_spread
        self._largest_range_j = largest_range_j
        self._range_j = largest_range_j
        self._wavelength_nm = math.nan

    def identify(self) -> Identity:
        """Get that it is read off by hand."""
        return Identity("", "energy meter read off by hand")

    @property
    def wavelength_nm(self) -> float:
        """Control the wavelength of the calibration in nm; nan until it has been set."""
        return self._wavelength_nm

    @wavelength_nm.setter
    def wavelength_nm(self, value: float) -> None:
        if value != self._wavelength_nm:
            self.tell(f"Set the energy meter to a wavelength of {value:g} nm.", wavelength_nm=value)
            self._wavelength_nm = value

    @property
    def range_j(self) -> float:
        """Control the measuring range in J; remembered only."""
        return self._range_j

    @range_j.setter
    def range_j(self, value: float) -> None:
        self._range_j = value

    @property
    def largest_range_j(self) -> float:
        """Get the largest measuring range in J."""
        return self._largest_range_j

    def zero(self) -> float:
        """Have the meter zeroed with the beam blocked; the offset that was removed is not known: nan."""
        self.tell("Zero the energy meter; the beam is blocked.", zero=True)
        return math.nan

    def measure(self, pulses: int) -> EnergyReading:
        """Have the mean energy of about ``pulses`` pulses read off and typed."""
        mean_j = self.read_off(
            f"Read the mean energy of about {pulses} pulses off the energy meter.",
            "the mean energy with its unit, e.g. 12.3 uJ",
            _JOULES,
            lambda energy_j: energy_j > 0,
            pulses=pulses,
        )
        return EnergyReading(mean_j, self._pulse_spread * mean_j, pulses)
