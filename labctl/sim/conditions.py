"""What the samples on the carrier have gone through: light on each of them; heat, UV light and water on all."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from labctl.sim.accumulated import Accumulated
from labctl.sim.beam import PumpBeam, in_steps
from labctl.sim.carriage import Carriage
from labctl.sim.degradation import HeatTruth, SampleState, arrhenius
from labctl.sim.history import History
from labctl.sim.lamp import UVLamp
from labctl.sim.places import Places
from labctl.sim.thermal import ThermalBody

_HOUR_S = 3600.0


class Conditions:
    """The state of every sample in laboratory time, at a cost that does not grow with it.

    :param heat: The sample's law of heat: it sets the clock.
    :param carriage: Gets the carriage of the samples, or None.
    """

    def __init__(
        self,
        beam: PumpBeam,
        thermal: ThermalBody,
        lamp: UVLamp,
        places: Places,
        heat: HeatTruth | None,
        carriage: Callable[[], Carriage | None],
    ) -> None:
        self.thermal = thermal
        self._beam = beam
        self._lamp = lamp
        self._places = places
        self._heat = heat
        self._carriage = carriage
        self._water: History[bool] = History(False, self.settle)
        self._light = Accumulated(self._light_between)
        self._heat_h = Accumulated(self._heat_between)
        self._uv_j_cm2 = Accumulated(lamp.dose_j_cm2)
        self._water_h = Accumulated(self._water_between)

    def settle(self, until_s: float) -> None:
        """Add up what has come together before somebody forgets how."""
        for part in (self._light, self._heat_h, self._uv_j_cm2, self._water_h):
            part.settle(until_s)

    def fresh_spot(self, t: float, place: int) -> None:
        """Move a sample at ``t`` so that light falls where none has fallen yet."""
        self._light.restart(t, place)

    def add_water(self, t: float) -> None:
        """Cover the samples with water at ``t``."""
        if not self._water.at(t)[1]:
            self._water.set(t, True)

    def dose_uj_cm2(self, t: float, newest_s: float, place: int = 0) -> float:
        """Fluence summed over all pulses that have hit a sample's spot until ``t``, uJ/cm2, from the mean energy."""
        return float(self._light.at(t, newest_s)[0, place])

    def state(self, t: float, newest_s: float, place: int = 0) -> SampleState:
        """Get the state of a sample at ``t``.

        :param newest_s: Newest laboratory time that anybody has asked about, s.
        """
        fluence, shots = self._light.at(t, newest_s)[:, place]
        return SampleState(
            accumulated_fluence_uj_cm2=float(fluence),
            shots=round(float(shots)),
            heat_h=float(self._heat_h.at(t, newest_s)),
            uv_j_cm2=float(self._uv_j_cm2.at(t, newest_s)),
            water_h=float(self._water_h.at(t, newest_s)),
            temperature_c=self.thermal.temperature_c(t),
        )

    def _light_between(self, t0: float, t1: float) -> np.ndarray:
        """Fluence and pulses on each sample in [t0, t1], shape (2, samples)."""
        found = np.zeros((2, len(self._places.names)))
        # A timeline forgets after an hour and a thousand commands; but it says so before.
        t0 = self._beam.kept_from(t0)
        if t1 <= t0:
            return found
        pieces = self._beam.pieces(t0, t1)
        carriage = self._carriage()
        if carriage is not None:
            pieces = np.unique(np.concatenate([pieces, carriage.edges(max(t0, carriage.kept_from), t1)]))
            pieces = in_steps(pieces, carriage.sample(np.maximum(pieces, carriage.kept_from)))
        middle = 0.5 * (pieces[1:] + pieces[:-1])
        light = self._beam.light(middle)
        reaches = self._beam.behind_pick_off.sample(middle) * self._beam.in_sample.sample(middle)
        if not (light * reaches).any():
            return found
        fluence = (light * reaches) * np.diff(pieces) * self._beam.truth.laser.repetition_rate_hz
        fluence = fluence * self._beam.full_fluence_uj_cm2
        hits = np.where((light > 0) & (reaches > 0), np.diff(self._beam.laser.pulses_before(pieces)), 0.0)
        where = self._places.sample(carriage, middle)
        for place in range(found.shape[1]):
            found[:, place] = fluence[where == place].sum(), hits[where == place].sum()
        return found

    def _heat_between(self, t0: float, t1: float) -> float:
        heat = self._heat
        if heat is None or t1 <= t0:
            return 0.0
        ambient_c = self.thermal.ambient_c
        return self.thermal.integral(t0, t1, lambda celsius: arrhenius(celsius, heat, ambient_c)) / _HOUR_S

    def _water_between(self, t0: float, t1: float) -> float:
        return sum(end - start for start, end, _, wet in self._water.pieces(t0, t1) if wet) / _HOUR_S
