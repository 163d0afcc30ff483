"""A vacuum gauge that is read off by hand."""

from __future__ import annotations

from drivers.by_hand.instrument import ByHand
from labctl.clock import Clock
from labctl.roles import Identity
from labctl.transport.adapter import WireAdapter

_TORR_MBAR = 1013.25 / 760
_MBAR = {"mbar": 1.0, "hPa": 1.0, "Pa": 0.01, "Torr": _TORR_MBAR, "torr": _TORR_MBAR}
_HIGHEST_MBAR = 2000.0


class VacuumGaugeByHand(ByHand):
    """A vacuum gauge without a cable; the operator types what it shows.

    He is asked each time: what a gauge showed before says nothing of a leak since.
    """

    ROLE = "vacuum_gauge"

    def __init__(self, adapter: WireAdapter, name: str = "vacuum gauge by hand", *, clock: Clock) -> None:
        super().__init__(adapter, name, clock=clock)

    def identify(self) -> Identity:
        """Get that it is read off by hand."""
        return Identity("", "vacuum gauge read off by hand")

    @property
    def pressure_mbar(self) -> float:
        """Measure the pressure in mbar, 0 < p < 2000, as the operator reads it off; Aborted when he refuses."""
        return self.read_off(
            "Read the pressure off the vacuum gauge.",
            "the pressure with its unit (mbar, hPa, Pa or Torr), e.g. 2.3e-6 mbar",
            _MBAR,
            lambda mbar: 0 < mbar < _HIGHEST_MBAR,
            read=True,
        )
