"""A motor with its encoder and its screw, and the carriage that it pushes through the simulated laboratory."""

from __future__ import annotations

import math
from collections.abc import Callable

from pydantic import BaseModel, ConfigDict, Field

from labctl.sim.laboratory import Laboratory

_KEY_PER_MM = 1e6


class DriveOptions(BaseModel):
    """How a simulated stage is built.

    :param left_limit_mm: Software limit below, in the coordinate of a homed stage; :param right_limit_mm: above.
    :param lowest_stop_mm: Hard end of the travel, where the carriage runs into its mount; :param highest_stop_mm: the
        other one.
    :param velocity: Velocity, mm/s. :param acceleration: Acceleration, mm/s².
    :param home_velocity: Velocity of the search for the reference mark, which lies at 0, mm/s.
    :param home_search_s: Time that the search takes besides, s.
    :param settle_s: Time after the motion until the controller takes it for ended, s.
    :param encoder_mm: Step of the encoder, mm.
    :param backlash_um: By how much the carriage lags behind the screw when it arrives from above, µm.
    :param repeatability_um: Spread of the place where the carriage comes to rest, µm; the same for one target.
    :param reply_s: Time from a command to its reply, s.
    :param stuck: The motor does not turn.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    left_limit_mm: float = -5.0
    right_limit_mm: float = 50.0
    lowest_stop_mm: float = -6.0
    highest_stop_mm: float = 51.0
    velocity: float = Field(default=2.0, gt=0)
    acceleration: float = Field(default=8.0, gt=0)
    home_velocity: float = Field(default=2.0, gt=0)
    home_search_s: float = Field(default=1.5, ge=0)
    settle_s: float = Field(default=0.05, ge=0)
    encoder_mm: float = Field(default=1e-4, gt=0)
    backlash_um: float = Field(default=1.0, ge=0)
    repeatability_um: float = Field(default=0.3, ge=0)
    reply_s: float = Field(default=0.003, ge=0)
    stuck: bool = False


class Drive:
    """The motor as its controller sees it, and the carriage as the laboratory does.

    The encoder sits at the motor: it knows nothing of backlash. Its counter is 0 where the motor stands at power-up,
    and at the reference mark once that was found.

    :param laboratory: Where the carriage stands.
    :param role: Role on the bench.
    :param options: How it is built.
    """

    def __init__(self, laboratory: Laboratory, role: str, options: DriveOptions) -> None:
        self._options = options
        self._carriage = laboratory.stage(role)
        self._noise = laboratory.noise
        self._rest_key = f"{role} rest"
        self.stuck = options.stuck
        self.velocity, self.acceleration = options.velocity, options.acceleration
        start = self._carriage.at(0.0)
        # A motion at even speed, in mm of the screw: begins, ends, from, to.
        self._motion = (0.0, 0.0, start, start)
        self._zero_mm = start

    @property
    def ends_s(self) -> float:
        """When the last motion ends, or has ended."""
        return self._motion[1] + self._options.settle_s

    def is_moving(self, t: float) -> bool:
        """Get whether a motion is under way, or settles."""
        return self._motion[1] > self._motion[0] and t < self.ends_s

    def counter_mm(self, t: float) -> float:
        """Get what the encoder shows."""
        step = self._options.encoder_mm
        return round((self._screw_mm(t) - self._zero_mm) / step) * step

    def target_mm(self) -> float:
        """Get where the counter will be when the last motion has ended."""
        return self._motion[3] - self._zero_mm

    def go(self, t: float, target_mm: float) -> str:
        """Move to a reading of the counter; get what will go wrong at the end: ``""``, ``+``, ``-`` or ``stuck``."""
        return self._go(t, target_mm + self._zero_mm, self._duration_s)

    def search_mark(self, t: float) -> str:
        """Go to the reference mark; :meth:`found_mark` is to be called when that has ended."""

        def duration_s(way_mm: float) -> float:
            return way_mm / self._options.home_velocity + self._options.home_search_s

        return self._go(t, 0.0, duration_s)

    def found_mark(self) -> None:
        """Count from the reference mark."""
        self._zero_mm = 0.0

    def define(self, t: float, reading_mm: float) -> None:
        """Let the counter show something else where the motor stands."""
        self._zero_mm = self._screw_mm(t) - reading_mm

    def halt(self, t: float) -> None:
        """Slow down and stop."""
        begins_s, ends_s, start_mm, end_mm = self._motion
        if t >= ends_s or end_mm == start_mm:
            self._motion = (begins_s, min(ends_s, t), start_mm, end_mm) if t < ends_s else self._motion
            return
        here_mm = self._screw_mm(t)
        speed = abs(end_mm - start_mm) / (ends_s - begins_s)
        way_mm = min(0.5 * speed * speed / self.acceleration, abs(end_mm - here_mm))
        rest_mm = here_mm + math.copysign(way_mm, end_mm - start_mm)
        stops_s = t + 2.0 * way_mm / speed
        self._motion = (t, stops_s, here_mm, rest_mm)
        self._carriage.ramp(t, stops_s, self._carriage_mm(here_mm, rest_mm))

    def power_cycle(self, t: float) -> None:
        """Lose the supply: the motor stands at once, and counts from there."""
        here_mm = self._screw_mm(t)
        self._carriage.stop(t)
        self._motion = (t, t, here_mm, here_mm)
        self._zero_mm = here_mm
        self.velocity, self.acceleration = self._options.velocity, self._options.acceleration

    def _go(self, t: float, screw_mm: float, duration_s: Callable[[float], float]) -> str:
        here_mm = self._screw_mm(t)
        if self.stuck:
            self._motion = (t, t + 1.0, here_mm, here_mm)
            return "stuck"
        end_mm = min(max(screw_mm, self._options.lowest_stop_mm), self._options.highest_stop_mm)
        self._motion = (t, t + duration_s(abs(end_mm - here_mm)), here_mm, end_mm)
        if end_mm != here_mm:
            self._carriage.ramp(t, self._motion[1], self._carriage_mm(here_mm, end_mm))
        return "" if end_mm == screw_mm else "+" if end_mm < screw_mm else "-"

    def _duration_s(self, way_mm: float) -> float:
        if way_mm * self.acceleration < self.velocity**2:
            return 2.0 * math.sqrt(way_mm / self.acceleration)
        return way_mm / self.velocity + self.velocity / self.acceleration

    def _carriage_mm(self, start_mm: float, end_mm: float) -> float:
        """Get where the carriage comes to rest; a property of target and sense, so that no order of moves matters."""
        luck = self._noise.fixed(self._rest_key, round(end_mm * _KEY_PER_MM)).standard_normal()
        lag_um = self._options.backlash_um if end_mm < start_mm else 0.0
        return end_mm + 1e-3 * (lag_um + self._options.repeatability_um * float(luck))

    def _screw_mm(self, t: float) -> float:
        begins_s, ends_s, start_mm, end_mm = self._motion
        if t >= ends_s:
            return end_mm
        return start_mm + (end_mm - start_mm) * max(t - begins_s, 0.0) / (ends_s - begins_s)
