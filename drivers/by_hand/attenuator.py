"""A rotating attenuator that is turned by hand."""

from __future__ import annotations

from drivers.by_hand.instrument import ByHand
from labctl.clock import Clock
from labctl.errors import InputError
from labctl.roles import Identity
from labctl.transport.adapter import WireAdapter

_DIAL_DEG = 0.1


class AttenuatorByHand(ByHand):
    """A wave plate or graded wheel with a dial; the operator turns it and reads the dial off."""

    ROLE = "attenuator"

    def __init__(self, adapter: WireAdapter, name: str = "attenuator by hand", *, clock: Clock) -> None:
        super().__init__(adapter, name, clock=clock)
        self._angle_deg: float | None = None

    def identify(self) -> Identity:
        """Get that it is turned by hand."""
        return Identity("", "rotation mount turned by hand")

    @property
    def angle_deg(self) -> float:
        """Get the angle in degrees that was last read off; asked for if none was."""
        if self._angle_deg is None:
            self._angle_deg = self._read_off("Read the dial of the attenuator; do not turn it.", read=True)
        return self._angle_deg

    @property
    def resolution_deg(self) -> float:
        """Get the smallest step in degrees: a tenth of a degree can be read off a dial."""
        return _DIAL_DEG

    def home(self) -> None:
        """Nothing to find: the dial is its own mark."""

    def move_to(self, angle_deg: float) -> float:
        """Have the attenuator turned, 0 ≤ angle < 360; returns the angle that the operator reads off the dial."""
        if not 0 <= angle_deg < 360:
            raise InputError(f"{angle_deg!r} deg is not on the dial", where=self.name, todo="give 0 to 360 deg")
        self._angle_deg = None
        self._angle_deg = self._read_off(f"Turn the attenuator to {angle_deg:.1f} deg.", angle_deg=angle_deg)
        return self._angle_deg

    def _read_off(self, ask: str, **act: float | bool) -> float:
        units = {"": 1.0, "deg": 1.0}
        return self.read_off(ask, "the angle on the dial, e.g. 23.4 deg", units, lambda deg: 0 <= deg < 360, **act)
