"""Lamp light as the stress: switched on and off, its irradiance read and kept, its dose summed."""

from __future__ import annotations

from collections.abc import Callable

from labctl.bench.stress_lamp import StressLamp
from labctl.clock import Clock

LogEntries = list[tuple[float, float]]


class LampStress:
    """Lights the lamp, and keeps what it gives.

    :param lamp: Gets the lamp of the bench.
    :param clock: Clock of the run.
    """

    def __init__(self, lamp: Callable[[], StressLamp], clock: Clock) -> None:
        self._lamp = lamp
        self._clock = clock
        self._log: LogEntries = []
        self._last: tuple[float, float] | None = None
        self.dose_j_cm2 = 0.0
        """Dose in this part of the run, trapezoids between readings, in J/cm²."""

    @property
    def last_mw_cm2(self) -> float:
        """Get the last irradiance in mW/cm²; 0 before the first."""
        return self._last[1] if self._last is not None else 0.0

    @property
    def is_on(self) -> bool:
        """Measure whether the lamp is on."""
        return self._lamp().is_on

    def switch_on(self) -> None:
        """Light the lamp, if it is off: at first, and whenever something has put it out."""
        lamp = self._lamp()
        if lamp.is_on:
            return
        if self.last_mw_cm2 > 0:
            self._say_that_it_went_out(lamp)
        self._keep(0.0)
        lamp.switch_on()
        self.read()

    def _say_that_it_went_out(self, lamp: StressLamp) -> None:
        """Nobody knows when: the dose counts half the time, which errs by as much either way."""
        before_s, before_mw_cm2 = self._last or (self._clock.now(), 0.0)
        dark_s = self._clock.now() - before_s
        error_j_cm2 = 0.5e-3 * before_mw_cm2 * dark_s
        lamp.warnings.append(
            f"the lamp was found off, up to {dark_s:.0f} s after it shone with {before_mw_cm2:.3g} mW/cm^2, and was lit"
            f" again: the dose counts half of that time and may be wrong by {error_j_cm2:.3g} J/cm^2"
        )

    def switch_off(self) -> None:
        """Put the lamp out, if it is on; with its last irradiance kept."""
        lamp = self._lamp()
        if not lamp.is_on:
            return
        self.read()
        lamp.switch_off()
        self._keep(0.0)

    def read(self) -> float:
        """Measure the irradiance in mW/cm²."""
        found = self._lamp().irradiance_mw_cm2()
        self._keep(found)
        return found

    def take_log(self) -> LogEntries:
        """Get and forget the irradiances since the last call: (time of the run's clock in s, mW/cm²)."""
        taken, self._log = self._log, []
        return taken

    def _keep(self, irradiance_mw_cm2: float) -> None:
        now_s = self._clock.now()
        if self._last is not None:
            before_s, before = self._last
            self.dose_j_cm2 += 0.5e-3 * (before + irradiance_mw_cm2) * (now_s - before_s)
        self._last = (now_s, irradiance_mw_cm2)
        self._log.append((now_s, irradiance_mw_cm2))
