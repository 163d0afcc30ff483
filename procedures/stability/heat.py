"""Heat as the stress: the stage is held at its temperature, and every temperature that is read is kept."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

from labctl.bench.thermostat import Thermostat

LogEntries = list[tuple[float, float]]
_HELD = 3.0
"""Deviation, in tolerances, from which on the stage counts as having left its temperature."""


class Heat:
    """Holds a temperature.

    :param thermostat: Gets the heating stage.
    :param target_c: Temperature of the stress in °C.
    :param stop: Set to end waiting.
    """

    def __init__(self, thermostat: Callable[[], Thermostat], target_c: float, stop: threading.Event) -> None:
        self._thermostat = thermostat
        self.target_c = target_c
        self._stop = stop

    def read(self) -> float:
        """Measure the temperature in °C."""
        return self._thermostat().read()

    def settle(self) -> float:
        """Bring the stage to its temperature; returns what it reads in °C."""
        return self._thermostat().settle(self.target_c, self._stop)

    def hold(self) -> float:
        """Bring the stage back if it has left its temperature, e.g. because it was switched off; returns °C."""
        thermostat = self._thermostat()
        found_c = thermostat.read()
        away = abs(found_c - self.target_c) > _HELD * thermostat.config.tolerance_k
        if away or not thermostat.stage.is_on:
            return self.settle()
        thermostat.require_vacuum()
        return found_c

    def cool_down(self, below_c: float) -> float:
        """Switch the heating off and wait; returns °C."""
        return self._thermostat().cool_down(below_c, self._stop)

    def pressure_mbar(self) -> float:
        """Measure the pressure where the bench asks for vacuum, else NaN."""
        pressure = self._thermostat().require_vacuum()
        return math.nan if pressure is None else pressure

    def take_log(self) -> LogEntries:
        """Get and forget the temperatures since the last call: (time of the run's clock in s, °C)."""
        return [(reading.t_s, reading.temperature_c) for reading in self._thermostat().take_log()]
