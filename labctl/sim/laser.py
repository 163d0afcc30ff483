"""The simulated pump laser: pulse energies with white noise and slow drift."""

from __future__ import annotations

import numpy as np

from labctl.sim.noise import KeyedNoise
from labctl.sim.truth import LaserTruth

_HUNDRED_HOURS_S = 360_000.0


class PulsedLaser:
    """A laser with pulses at multiples of the pulse period, in laboratory time.

    Pulses seen by different instruments are drawn independently of each other: which pulse falls into which
    exposure depends on times that real hardware does not repeat, and the data must not. What the instruments share is
    the drift.
    """

    def __init__(self, truth: LaserTruth, noise: KeyedNoise) -> None:
        self.truth = truth
        self._noise = noise

    @property
    def pulse_period_s(self) -> float:
        """Time between two pulses, s."""
        return 1.0 / self.truth.repetition_rate_hz

    def next_pulse(self, t: float) -> float:
        """Get the time of the first pulse at or after laboratory time ``t``, s."""
        # A pulse at t itself must count in spite of the rounding of t.
        return float(np.ceil(t * self.truth.repetition_rate_hz - 1e-6)) / self.truth.repetition_rate_hz

    def pulses_before(self, t: np.ndarray) -> np.ndarray:
        """Count the pulses before laboratory times ``t``, from time 0 on; as :meth:`next_pulse` reads times."""
        return np.ceil(t * self.truth.repetition_rate_hz - 1e-6)

    def mean_energy_uj(self) -> float:
        """Mean pulse energy in front of the attenuator at the announced schedule time, drift included, uJ."""
        truth = self.truth
        energy_uj = truth.energy_uj * (1.0 + self._noise.drift("laser", truth.drift_rms, truth.drift_tau_s))
        if not truth.ageing_per_100_h:
            return energy_uj
        return energy_uj * max(0.0, 1.0 - truth.ageing_per_100_h * self._noise.schedule_s / _HUNDRED_HOURS_S)

    def pulse_energies_uj(self, n: int, source: str) -> np.ndarray:
        """Draw ``n`` pulse energies in front of the attenuator for the instrument ``source``, uJ, shape (n,)."""
        white = self._noise.generator(f"laser/{source}").standard_normal(n)
        return self.mean_energy_uj() * np.maximum(1.0 + self.truth.rms * white, 0.0)
