"""What a motorised stage of the simulated laboratory carries: a blade of the slit, or the samples."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from labctl.sim.noise import KeyedNoise
from labctl.sim.timeline import Timeline
from labctl.sim.truth_table import Truth


class StageTruth(Truth):
    """Where a carriage stands when the laboratory is switched on, mm."""

    initial_mm: float = 0.0


class Carriage:
    """The carriage of a stage, in laboratory time and in the coordinate of its controller.

    :param role: Whose it is.
    :param initial_mm: Where it stands when the laboratory is switched on, mm.
    :param forgets: See :class:`labctl.sim.timeline.Timeline`.

    ``first_move_s`` is when it was first moved, laboratory time; infinite before.
    """

    def __init__(
        self, role: str, initial_mm: float, noise: KeyedNoise, forgets: Callable[[float], None] | None = None
    ) -> None:
        self.role = role
        self._noise = noise
        self._mm = Timeline(initial_mm, forgets=forgets)
        self.first_move_s = np.inf
        self._luck = Timeline(0.0)

    def ramp(self, t0: float, t1: float, to_mm: float) -> None:
        """Drive evenly from where it stands at ``t0`` to ``to_mm`` at ``t1``, mm. It arrives a little elsewhere."""
        self._mm.ramp(t0, t1, to_mm)
        self.first_move_s = min(self.first_move_s, t0)
        self._luck.set(t1, float(self._noise.generator(f"arrival/{self.role}").standard_normal()))

    def stop(self, t: float) -> None:
        """Stand still from ``t`` on."""
        self._mm.set(t, self._mm.at(t))

    def at(self, t: float) -> float:
        """Get where it really stands at ``t``, mm."""
        return self._mm.at(t)

    def sample(self, t: ArrayLike) -> np.ndarray:
        """Get where it really stands at many times, mm, of the shape of ``t``."""
        return self._mm.sample(t)

    def edges(self, t0: float, t1: float) -> np.ndarray:
        """Get the times in [t0, t1] between which it stands still or drives evenly, s."""
        return self._mm.edges(t0, t1)

    def luck(self, t: float) -> float:
        """Get how it arrived where it stands: a standard normal deviate per arrival, 0 before the first."""
        return self._luck.at(t)

    @property
    def kept_from(self) -> float:
        """Oldest laboratory time that is still known, s."""
        return self._mm.kept_from
