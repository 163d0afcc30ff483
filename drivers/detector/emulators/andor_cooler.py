"""Thermoelectric cooler of a simulated camera: a constant rate to the set-point, then some time to settle."""

from __future__ import annotations

from drivers.detector.andor_sdk2_calls import Code
from labctl.sim.incidents import Outage

AMBIENT_C = 20.0


class Cooler:
    """Sensor temperature in laboratory time.

    Once stable, the temperature is the set-point itself, so that what is measured does not depend on the moment.

    :param set_point_c: First set-point in °C.
    :param cold: Whether the sensor starts stable at the set-point, else off at ambient temperature.
    :param rate_k_s: Rate of cooling and warming in K/s.
    :param settle_s: Time from reaching the set-point to being stable.
    :param no_water: When its heat is not carried away: the sensor then warms up, whatever the cooler does.
    """

    def __init__(
        self, set_point_c: float, cold: bool, rate_k_s: float, settle_s: float, no_water: Outage | None = None
    ) -> None:
        self.on = cold
        self.set_point_c = set_point_c
        self._rate_k_s = rate_k_s
        self._settle_s = settle_s
        self._changed_s = float("-inf")
        self._from_c = set_point_c if cold else AMBIENT_C
        self._no_water = no_water
        self._dry = False

    def temperature_c(self, t: float) -> float:
        """Get the sensor temperature in °C at ``t``."""
        self._follow_water(t)
        return self._temperature_c(t)

    def _temperature_c(self, t: float) -> float:
        way_k = self._target_c - self._from_c
        if t >= self._reached_s:
            return self._target_c
        return self._from_c + max(t - self._changed_s, 0.0) * self._rate_k_s * (1 if way_k > 0 else -1)

    def state(self, t: float) -> Code:
        """Get the state as GetTemperature returns it."""
        self._follow_water(t)
        if not self.on:
            return Code.TEMP_OFF
        if self._dry:
            return Code.TEMP_DRIFT
        if t < self._reached_s:
            return Code.TEMP_NOT_REACHED
        return Code.TEMP_STABILIZED if t >= self._reached_s + self._settle_s else Code.TEMP_NOT_STABILIZED

    def set(self, t: float, *, on: bool | None = None, set_point_c: float | None = None) -> None:
        """Switch the cooler or change the set-point; nothing happens if it is so already."""
        self._follow_water(t)
        wanted = (self.on if on is None else on, self.set_point_c if set_point_c is None else set_point_c)
        if wanted != (self.on, self.set_point_c):
            self._from_c, self._changed_s = self.temperature_c(t), t
            self.on, self.set_point_c = wanted

    def _follow_water(self, t: float) -> None:
        """Begin to warm up when the water has failed, to cool when it has come back, each from that moment on."""
        if self._no_water is None:
            return
        for moment, dry in ((self._no_water.begins(t), True), (self._no_water.ends(t), False)):
            if moment is not None and moment <= t and moment > self._changed_s and dry is not self._dry:
                self._from_c, self._changed_s = self._temperature_c(moment), moment
                self._dry = dry

    @property
    def _target_c(self) -> float:
        return self.set_point_c if self.on and not self._dry else AMBIENT_C

    @property
    def _reached_s(self) -> float:
        return self._changed_s + abs(self._target_c - self._from_c) / self._rate_k_s
