"""The pump beam on its way: laser, wave plate, shutter, pick-off, sample; what of it passes where, and when."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from labctl.sim.laser import PulsedLaser
from labctl.sim.noise import KeyedNoise
from labctl.sim.optics import WavePlate
from labctl.sim.timeline import Timeline
from labctl.sim.truth import LaboratoryTruth

_MOVING_STEPS = 16


class Shutter:
    """The pump shutter as the light sees it.

    :param forgets: See :class:`labctl.sim.timeline.Timeline`.
    """

    def __init__(self, initially_open: bool, forgets: Callable[[float], None] | None = None) -> None:
        self._open = Timeline(float(initially_open), forgets=forgets)

    def set(self, t: float, is_open: bool) -> None:
        """Let light pass, or not, from laboratory time ``t`` on."""
        self._open.set(t, float(is_open))

    def is_open(self, t: float) -> bool:
        """Whether light passes at ``t``."""
        return self._open.at(t) > 0.5

    def open_at(self, t: np.ndarray) -> np.ndarray:
        """1 where light passes, else 0; of the shape of ``t``."""
        return self._open.sample(t)

    @property
    def kept_from(self) -> float:
        """Oldest laboratory time that is still known, s."""
        return self._open.kept_from

    def edges(self, t0: float, t1: float) -> np.ndarray:
        """Get ``t0``, the times between at which the shutter switched, and ``t1``."""
        return self._open.edges(t0, t1)


class PumpBeam:
    """Everything that the pump passes before the sample.

    :param forgets: See :class:`labctl.sim.timeline.Timeline`.
    """

    def __init__(self, truth: LaboratoryTruth, noise: KeyedNoise, forgets: Callable[[float], None]) -> None:
        self.truth = truth
        self.laser = PulsedLaser(truth.laser, noise)
        self.wave_plate = WavePlate(truth.wave_plate, forgets)
        self.shutter = Shutter(truth.shutter.initially_open, forgets)
        self.in_sample = Timeline(1.0, forgets=forgets)
        self.behind_pick_off = Timeline(1.0, forgets=forgets)

    @property
    def full_fluence_uj_cm2(self) -> float:
        """Get the mean fluence on the sample with nothing in the way, without the laser's noise, uJ/cm2."""
        return self.truth.laser.energy_uj * self.truth.meter.ratio / self.truth.illuminated.area_cm2

    def light(self, t: np.ndarray) -> np.ndarray:
        """Share of the laser's energy that passes plate and shutter at times ``t``."""
        return self.shutter.open_at(t) * self.wave_plate.transmission(t)

    def pieces(self, t0: float, t1: float) -> np.ndarray:
        """Times that cut [t0, t1] where shutter, plate or sample changed; moves of the plate into small steps."""
        signals = (self.shutter, self.wave_plate, self.in_sample, self.behind_pick_off)
        parts = [signal.edges(t0, t1) for signal in signals]
        edges = np.unique(np.concatenate(parts))
        return in_steps(edges, self.wave_plate.optical_deg(edges))

    def open_share(self, t0: float, t1: float) -> float:
        """Share of [t0, t1] in which the shutter let light pass."""
        if t1 <= t0:
            return 0.0
        edges = self.shutter.edges(t0, t1)
        return float(self.shutter.open_at(0.5 * (edges[1:] + edges[:-1])) @ (np.diff(edges) / (t1 - t0)))

    def mean_light(self, t0: float, t1: float, passes: Timeline | None = None) -> float:
        """Mean share of the laser's energy over [t0, t1]: at the meter, or behind what else it ``passes``."""
        if t1 <= t0:
            return 0.0
        pieces = self.pieces(t0, t1)
        middle = 0.5 * (pieces[1:] + pieces[:-1])
        light = self.light(middle) if passes is None else self.light(middle) * passes.sample(middle)
        # Weights first: where nothing changed the only weight is exactly 1, and the result the same at any time.
        return float(light @ (np.diff(pieces) / (t1 - t0)))

    def kept_from(self, t0: float) -> float:
        """Get ``t0``, or the oldest laboratory time that is still known if that is later, s."""
        signals = (self.shutter, self.wave_plate, self.in_sample, self.behind_pick_off)
        return max(t0, *(signal.kept_from for signal in signals))

    def pulses_between(self, t0: float, t1: float) -> float:
        """Count the pulses in [t0, t1) that pass the shutter."""
        if t1 <= t0:
            return 0.0
        edges = self.shutter.edges(max(t0, self.shutter.kept_from), t1)
        passes = self.shutter.open_at(0.5 * (edges[1:] + edges[:-1])) > 0.5
        return float(np.diff(self.laser.pulses_before(edges))[passes].sum())


def in_steps(edges: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Cut pieces of time, between whose ``edges`` a ``position`` changes, into small steps."""
    moving = np.flatnonzero(np.diff(position))
    if not moving.size:
        return edges
    fine = [np.linspace(edges[i], edges[i + 1], _MOVING_STEPS, endpoint=False) for i in moving]
    return np.unique(np.concatenate([edges, *fine]))
