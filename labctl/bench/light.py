"""Light on the sample: what one opening of the shutter gives to it, before and after it was given."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LightOnSample:
    """Light that the sample has received, an upper bound.

    :param open_s: Time from the command to open to the confirmed close, in s.
    :param pulses: Number of pulses in that time.
    :param fluence_uj_cm2: Mean fluence per pulse in µJ/cm², measured, or set where nothing could be measured.
    :param wall_s: Unix time of the close.
    """

    open_s: float
    pulses: int
    fluence_uj_cm2: float
    wall_s: float

    @property
    def dose_j_cm2(self) -> float:
        """Get the dose in J/cm²: fluence times pulses."""
        return self.fluence_uj_cm2 * 1e-6 * self.pulses


@dataclass(frozen=True, slots=True)
class ComingLight:
    """An opening of the shutter on the sample as it is written down before the light comes.

    Should the process die, this tells what fell at most: what had fallen before, and the rest of this opening.

    :param wall_s: Unix time of the command to open.
    :param fluence_uj_cm2: Fluence per pulse in µJ/cm², measured at this angle, else as set.
    :param repetition_rate_hz: Repetition rate of the laser.
    :param open_s: Time in s for which the shutter was open before, since the bench was opened.
    :param pulses: Pulses before, likewise.
    :param dose_j_cm2: Dose in J/cm² before, likewise.
    """

    wall_s: float
    fluence_uj_cm2: float
    repetition_rate_hz: float
    open_s: float
    pulses: int
    dose_j_cm2: float

    def until(self, wall_s: float) -> LightOnSample:
        """Get the light of this opening alone, had the shutter been open until a Unix time in s."""
        open_s = max(wall_s - self.wall_s, 0.0)
        return LightOnSample(open_s, pulses_in(open_s, self.repetition_rate_hz), self.fluence_uj_cm2, wall_s)


@dataclass(slots=True)
class Opening:
    """One opening of the shutter, from the command to open.

    :param on_sample: Whether the light reaches the sample.
    :param since_s: Time of the run's clock up to which its light is accounted for.
    :param open_s: Time from the command to open to the confirmed close, in s, as far as it is accounted for.
    """

    on_sample: bool
    since_s: float
    open_s: float = 0.0


def pulses_in(open_s: float, repetition_rate_hz: float) -> int:
    """Get the largest number of pulses that may come in a time, rounded up; a part of a millionth does not count."""
    return math.ceil(round(open_s * repetition_rate_hz, 6))
