"""Light on the sample: what one opening of the shutter gave to it."""

from __future__ import annotations

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
