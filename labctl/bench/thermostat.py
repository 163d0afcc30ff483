"""The heating stage as a run uses it: a temperature that is reached and has settled, and no heating without vacuum."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import Any

from labctl.clock import Clock
from labctl.config.surroundings import HeatingConfig
from labctl.errors import Aborted, InputError, InstrumentError, InstrumentTimeout
from labctl.roles import HeatingStage, VacuumGauge

_SET_AGAIN_K = 0.05
"""A set-point that differs by less is the same one, rounded by the device."""


@dataclass(frozen=True, slots=True)
class TemperatureReading:
    """A temperature and when it was read.

    :param t_s: Time of the run's clock in s.
    :param temperature_c: Temperature in °C.
    """

    t_s: float
    temperature_c: float


class Thermostat:
    """Brings the heating stage to a temperature and waits until it has settled.

    :param stage: The heating stage.
    :param config: The table ``[heating]``.
    :param clock: Clock of the run.
    :param gauge: Vacuum gauge; needed where the bench says ``vacuum_below``.
    """

    def __init__(
        self, stage: HeatingStage, config: HeatingConfig, clock: Clock, gauge: VacuumGauge | None = None
    ) -> None:
        if config.vacuum_below_mbar is not None and gauge is None:
            raise InputError(
                "heating.vacuum_below needs a vacuum gauge",
                where="bench file",
                state="nothing was moved",
                todo='write [instruments.vacuum_gauge]; read by hand: driver = "manual", resource = "operator:"',
            )
        self.stage = stage
        self.config = config
        self.clock = clock
        self.gauge = gauge
        self.warnings: list[str] = []
        self._log: list[TemperatureReading] = []
        self._pressure_mbar: float | None = None

    def replace(self, old: object, new: Any) -> None:
        """Use another object for an instrument that was connected anew."""
        if self.stage is old:
            self.stage = new
        if self.gauge is old:
            self.gauge = new

    def read(self) -> float:
        """Measure the temperature in °C; it is kept for :meth:`take_log`."""
        temperature_c = self.stage.temperature_c
        if not math.isfinite(temperature_c):
            raise InstrumentError(
                f"the heating stage reads {temperature_c} degC", role="heating_stage", todo="look at its sensor"
            )
        self._log.append(TemperatureReading(self.clock.now(), temperature_c))
        return temperature_c

    def take_log(self) -> list[TemperatureReading]:
        """Get and forget the temperatures that were read since the last call."""
        taken, self._log = self._log, []
        return taken

    def require_vacuum(self) -> float | None:
        """Measure the pressure in mbar where the bench asks for vacuum; raises InstrumentError if it is too high.

        None where no vacuum is needed. A gauge that is read by hand is read once: nobody stands beside it all night.
        """
        limit_mbar = self.config.vacuum_below_mbar
        if limit_mbar is None or self.gauge is None:
            return None
        by_hand = getattr(getattr(self.gauge, "LINK", None), "by_hand", False)
        if by_hand and self._pressure_mbar is not None:
            return self._pressure_mbar
        pressure_mbar = self.gauge.pressure_mbar
        # Written like this a pressure that is not a number is too high as well.
        if not pressure_mbar <= limit_mbar:
            raise InstrumentError(
                f"the pressure is {pressure_mbar:.3g} mbar; nothing is heated or cooled above {limit_mbar:.3g} mbar",
                role="vacuum_gauge",
                state="the heating stage was not switched on",
                todo="pump down; look for a leak",
            )
        self._pressure_mbar = pressure_mbar
        return pressure_mbar

    def begin(self, temperature_c: float) -> None:
        """Set a temperature in °C and have it controlled; returns at once.

        Raises InstrumentError without the vacuum that the bench asks for, InputError beyond the stage's range.
        """
        low_c, high_c = self.stage.range_c
        if not low_c <= temperature_c <= high_c:
            raise InputError(
                f"{temperature_c:g} degC was asked for; the heating stage goes from {low_c:g} to {high_c:g} degC",
                state="nothing was moved",
            )
        self.require_vacuum()
        if abs(self.stage.setpoint_c - temperature_c) > _SET_AGAIN_K or not self.stage.is_on:
            self.stage.set_temperature(temperature_c)
        if not self.stage.is_on:
            self.stage.switch_on()

    def settle(self, temperature_c: float, stop: threading.Event | None = None) -> float:
        """Bring the stage to a temperature and wait until it has stayed within the tolerance; returns what it reads.

        :raises InstrumentTimeout: It has not settled within ``settle_timeout``.
        :raises Aborted: On ``stop``.
        """
        self.begin(temperature_c)
        return self._wait_until_within(temperature_c, stop or threading.Event())

    def cool_down(self, below_c: float, stop: threading.Event | None = None) -> float:
        """Switch the heating off and wait until the stage is at most ``below_c`` °C; returns what it reads.

        One reading is not believed: a digit that was lost on its way makes any plate cold.
        """
        self.stage.switch_off()
        stop = stop or threading.Event()
        deadline = self.clock.now() + self.config.timeout_s
        while (found_c := self.read()) > below_c or (found_c := self.read()) > below_c:
            if self.clock.now() > deadline:
                raise self._late(f"has not cooled to {below_c:g} degC", found_c)
            self._wait(stop)
        return found_c

    def _wait_until_within(self, temperature_c: float, stop: threading.Event) -> float:
        config = self.config
        deadline = self.clock.now() + config.timeout_s
        since_s: float | None = None
        while True:
            found_c, now_s = self.read(), self.clock.now()
            if abs(found_c - temperature_c) > config.tolerance_k:
                since_s = None
            elif since_s is None:
                since_s = now_s
            if since_s is not None and now_s - since_s >= config.settle_s:
                return found_c
            if now_s > deadline:
                raise self._late(f"has not settled at {temperature_c:g} degC", found_c)
            self._wait(stop)

    def _wait(self, stop: threading.Event) -> None:
        if self.clock.wait(stop, self.config.reading_every_s):
            raise Aborted("stopped while waiting for the temperature")

    def _late(self, what: str, found_c: float) -> InstrumentTimeout:
        return InstrumentTimeout(
            f"the heating stage {what} within {self.config.timeout_s:g} s: it reads {found_c:.1f} degC",
            role="heating_stage",
            todo="look at its sensor and its contact; give heating.settle_timeout more time, or a wider tolerance",
        )
