"""Roles that labctl does not have."""

from __future__ import annotations

from typing import Protocol

from labctl.roles import Instrument


class Hygrometer(Instrument, Protocol):
    """Measures the humidity around the sample."""

    @property
    def humidity_percent(self) -> float:
        """Measure the relative humidity in %, 0 to 100."""
        ...

    def heat(self, on: bool) -> None:
        """Control the heater that dries the sensor; reads back."""
        ...
