"""The chamber around the sample, and its pressure."""

from __future__ import annotations

import math

from labctl.sim.history import History
from labctl.sim.truth_table import Positive, Truth


class VacuumTruth(Truth):
    """The chamber: pressure of the air and pressure that the pump comes to, mbar; time constant of pumping, s."""

    air_mbar: Positive = 1013.0
    base_mbar: Positive = 1e-6
    pump_tau_s: Positive = 30.0


class Vacuum:
    """The chamber around the sample: vented until somebody pumps it down."""

    def __init__(self, truth: VacuumTruth) -> None:
        self.truth = truth
        self._pumping: History[bool] = History(False)

    def pump_down(self, t: float) -> None:
        """Begin to pump at ``t``."""
        if not self._pumping.at(t)[1]:
            self._pumping.set(t, True)

    def vent(self, t: float) -> None:
        """Let the air in at ``t``."""
        self._pumping.set(t, False)

    def pressure_mbar(self, t: float) -> float:
        """Get the true pressure at ``t``, mbar."""
        since, pumping = self._pumping.at(t)
        if not pumping:
            return self.truth.air_mbar
        return self.truth.base_mbar + self.truth.air_mbar * math.exp(-(t - since) / self.truth.pump_tau_s)
