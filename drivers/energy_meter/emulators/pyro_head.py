"""A pyroelectric energy head in the beam of the simulated laboratory, whatever meter it is plugged into.

Constructed: its responsivity curve and the drift of its zero.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np


class PyroHead:
    """What a meter gets from its head.

    :param laboratory: The simulated laboratory.
    :param role: Role of the meter.
    :param offset_j: Offset of the electronics, J.
    :param drift_j: Rms of the drift of the offset within an hour, J.
    """

    def __init__(self, laboratory: Any, role: str, offset_j: float, drift_j: float) -> None:
        self._laboratory = laboratory
        self._source = f"{role}/zero"
        self._energies_j = laboratory.slit_meter_energy_j if role == "slit_meter" else laboratory.meter_energy_j
        self._offset_j = offset_j
        self._drift_j = drift_j

    def zero_j(self, schedule_s: float | None = None) -> float:
        """Get the offset at the announced schedule time, or at ``schedule_s``, in J."""
        return self._offset_j + self._laboratory.noise.drift(self._source, self._drift_j, 3600.0, schedule_s)

    def energies_j(self, t: float, count: int) -> np.ndarray:
        """Draw the pulses that arrive at the head, where it stands, among the next ``count`` of the laser."""
        return self._energies_j(t, count)

    def pulses_j(self, t: float, count: int, wavelength_nm: float) -> np.ndarray:
        """Draw the pulses that arrive among the next ``count`` of the laser, as shown for a calibration wavelength."""
        return self.energies_j(t, count) * self.response(wavelength_nm) + self.zero_j()

    def mean_j(self, t: float, wavelength_nm: float) -> float:
        """Get the mean energy of a pulse at ``t``, were the shutter open, in J; draws nothing."""
        passed = float(self._laboratory.wave_plate.transmission(t))
        return 1e-6 * self._laboratory.laser.mean_energy_uj() * passed * self.response(wavelength_nm)

    def first_pulse(self, after: float, until: float) -> float | None:
        """Get the time of the first pulse in [after, until] that reached the head, or None."""
        shutter = self._laboratory.shutter
        edges = shutter.edges(after, until)
        for start, end in itertools.pairwise(edges):
            pulse = self._laboratory.next_pulse(start)
            if pulse <= end and shutter.is_open(0.5 * (start + end)):
                return pulse
        return None

    def last_pulse(self, after: float, until: float) -> float | None:
        """Get the time of the last pulse in (after, until] that reached the head, or None."""
        period, shutter = self._laboratory.pulse_period_s, self._laboratory.shutter
        edges = shutter.edges(max(after, until - 3000.0), until)
        for start, end in reversed(list(itertools.pairwise(edges))):
            pulse = math.floor(end / period + 1e-6) * period
            if shutter.is_open(0.5 * (start + end)) and pulse >= start and pulse > after + 0.5 * period:
                return pulse
        return None

    def lit(self, times: np.ndarray) -> np.ndarray:
        """Get whether light reaches the head at each of ``times``."""
        return self._laboratory.shutter.open_at(times) > 0.5

    def response(self, wavelength_nm: float) -> float:
        """Get what the meter shows for 1 J: the coating absorbs less at long waves, which it corrects as told."""
        return _absorptance(self._laboratory.truth.laser.wavelength_nm) / _absorptance(wavelength_nm)


def _absorptance(wavelength_nm: float) -> float:
    """Share of the light that the black coating absorbs; a mild fall towards the infra-red."""
    return 0.95 - 0.12 * math.log10(wavelength_nm / 400.0)
