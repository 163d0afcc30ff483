"""How a motor with a velocity profile moves: speed up, run, slow down."""

from __future__ import annotations

import math
from dataclasses import dataclass

_REST = 1e-9


@dataclass(frozen=True, slots=True)
class Leg:
    """A time of constant acceleration.

    :param begins_s: When it begins. :param ends_s: When it ends.
    :param position: Position at its beginning, counts.
    :param velocity: Velocity at its beginning, counts/s.
    :param acceleration: Acceleration, counts/s².
    """

    begins_s: float
    ends_s: float
    position: float
    velocity: float
    acceleration: float

    def at(self, t: float) -> tuple[float, float]:
        """Get position and velocity at ``t``, counts and counts/s; outside of the leg those of its nearer end."""
        dt = min(max(t, self.begins_s), self.ends_s) - self.begins_s
        return (
            self.position + self.velocity * dt + 0.5 * self.acceleration * dt * dt,
            self.velocity + self.acceleration * dt,
        )


@dataclass(frozen=True, slots=True)
class Motion:
    """A motion from rest to rest, or one that is under way.

    :param begins_s: When it begins.
    :param ends_s: When it ends; before its beginning there is no motion.
    :param target: Where it ends, counts.
    :param legs: Its parts, one after the other; none for a motor that stands.
    """

    begins_s: float
    ends_s: float
    target: int
    legs: tuple[Leg, ...] = ()

    def is_under_way(self, t: float) -> bool:
        """Get whether the motor turns, or settles, at ``t``."""
        return t < self.ends_s

    def at(self, t: float) -> tuple[float, float]:
        """Get position and velocity at ``t``, counts and counts/s."""
        for leg in self.legs:
            if t < leg.ends_s:
                return leg.at(t)
        return float(self.target), 0.0


def standing(t: float, position: int) -> Motion:
    """Stand still from ``t`` on."""
    return Motion(t, t, position)


def travel(t: float, start: float, target: int, speed: float, acceleration: float, settle_s: float = 0.0) -> Motion:
    """Go from rest at ``start`` to rest at ``target``, counts, with a trapezoidal profile; then settle.

    :param speed: Highest speed, counts/s. :param acceleration: Acceleration, counts/s².
    """
    way = abs(target - start)
    sense = 1.0 if target >= start else -1.0
    if way < _REST:
        return Motion(t, t + settle_s, target)
    peak = min(speed, math.sqrt(way * acceleration))
    ramp_s = peak / acceleration
    run_s = max(way / peak - ramp_s, 0.0)
    ramp_way = 0.5 * peak * ramp_s
    legs = (
        Leg(t, t + ramp_s, start, 0.0, sense * acceleration),
        Leg(t + ramp_s, t + ramp_s + run_s, start + sense * ramp_way, sense * peak, 0.0),
        Leg(t + ramp_s + run_s, t + 2 * ramp_s + run_s, target - sense * ramp_way, sense * peak, -sense * acceleration),
    )
    return Motion(t, t + 2 * ramp_s + run_s + settle_s, target, legs)


def halt(motion: Motion, t: float, acceleration: float) -> Motion:
    """Slow down from the velocity at ``t``; an infinite ``acceleration`` stops at once."""
    position, velocity = motion.at(t)
    stop_s = abs(velocity) / acceleration
    target = round(position + 0.5 * velocity * stop_s)
    sense = math.copysign(1.0, velocity)
    legs = (Leg(t, t + stop_s, position, velocity, -sense * acceleration),) if stop_s else ()
    return Motion(t, t + stop_s, target, legs)
