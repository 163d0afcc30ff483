"""Thermoelectric cooler of a simulated camera: a constant rate to the set-point, then some time to settle."""

from __future__ import annotations

from drivers.detector.andor_sdk2_calls import Code

AMBIENT_C = 20.0


class Cooler:
    """Sensor temperature in laboratory time.

    Once stable, the temperature is the set-point itself, so that what is measured does not depend on the moment.

    :param set_point_c: First set-point in °C.
    :param cold: Whether the sensor starts stable at the set-point, else off at ambient temperature.
    :param rate_k_s: Rate of cooling and warming in K/s.
    :param settle_s: Time from reaching the set-point to being stable.
    """

    def __init__(self, set_point_c: float, cold: bool, rate_k_s: float, settle_s: float) -> None:
        self.on = cold
        self.set_point_c = set_point_c
        self._rate_k_s = rate_k_s
        self._settle_s = settle_s
        self._changed_s = float("-inf")
        self._from_c = set_point_c if cold else AMBIENT_C

    def temperature_c(self, t: float) -> float:
        """Get the sensor temperature in °C at ``t``."""
        way_k = self._target_c - self._from_c
        if t >= self._reached_s:
            return self._target_c
        return self._from_c + (t - self._changed_s) * self._rate_k_s * (1 if way_k > 0 else -1)

    def state(self, t: float) -> Code:
        """Get the state as GetTemperature returns it."""
        if not self.on:
            return Code.TEMP_OFF
        if t < self._reached_s:
            return Code.TEMP_NOT_REACHED
        return Code.TEMP_STABILIZED if t >= self._reached_s + self._settle_s else Code.TEMP_NOT_STABILIZED

    def set(self, t: float, *, on: bool | None = None, set_point_c: float | None = None) -> None:
        """Switch the cooler or change the set-point; nothing happens if it is so already."""
        wanted = (self.on if on is None else on, self.set_point_c if set_point_c is None else set_point_c)
        if wanted != (self.on, self.set_point_c):
            self._from_c, self._changed_s = self.temperature_c(t), t
            self.on, self.set_point_c = wanted

    @property
    def _target_c(self) -> float:
        return self.set_point_c if self.on else AMBIENT_C

    @property
    def _reached_s(self) -> float:
        return self._changed_s + abs(self._target_c - self._from_c) / self._rate_k_s
