"""The slit that cuts the pumped stripe: its length from the film's edge, and its beginning where there is a near blade.

Lengths are counted from the edge of the film, in µm. Where the edge stands in the coordinates of the far blade, a scan
finds (:attr:`Slit.edge_mm`); until then it is what the bench file says.
"""

from __future__ import annotations

from typing import Any

from labctl.config.surroundings import SlitConfig
from labctl.errors import InputError, InstrumentError, LimitExceeded, NoPulse
from labctl.quantities import EnergyReading
from labctl.roles import EnergyMeter, LinearStage

_NARROWEST_UM = 1.0
_HEADROOM = 1.5
_FAR_TOO_LARGE = 20.0


class Slit:
    """The blades of the slit.

    :param far: Blade that sets the end of the stripe.
    :param near: Blade that sets its beginning; None where the film's edge is the beginning.
    :param config: The table ``[slit]``.
    :param meter: Energy meter behind the slit: tells whether the fluence stays the same while the stripe grows.
    """

    def __init__(
        self, far: LinearStage, near: LinearStage | None, config: SlitConfig, meter: EnergyMeter | None = None
    ) -> None:
        self.far = far
        self.near = near
        self.config = config
        self.meter = meter
        self.edge_mm = config.edge_mm
        self.warnings: list[str] = []

    def replace(self, old: object, new: Any) -> None:
        """Use another object for a blade that was connected anew."""
        if self.far is old:
            self.far = new
        if self.near is old:
            self.near = new
        if self.meter is old:
            self.meter = new

    @property
    def longest_um(self) -> float:
        """Get the length in µm over which the pump is even enough."""
        return self.config.longest_mm * 1e3

    def home(self) -> None:
        """Home every blade that does not know where it stands; the shutter must be closed."""
        for blade in (self.far, self.near):
            if blade is not None and not blade.is_homed:
                blade.home()

    def open_near(self) -> None:
        """Take the near blade out of the beam: the stripe begins at the film's edge."""
        if self.near is not None and self.config.near_out_mm is not None:
            self.near.move_to(self.config.near_out_mm)

    def place_far(self, position_mm: float) -> float:
        """Move the far blade to a position of its own coordinates, for the scan of the edge; returns it read back."""
        low, high = self.edge_range_mm
        if not low <= position_mm <= max(high, self.config.edge_mm + self.config.longest_mm):
            raise LimitExceeded(
                f"the far blade was to go to {position_mm:.4f} mm; [slit] allows {low:.4f} mm to"
                f" {self.config.edge_mm + self.config.longest_mm:.4f} mm",
                where="slit of the bench file",
                state="nothing was moved",
            )
        return self.far.move_to(position_mm)

    @property
    def edge_range_mm(self) -> tuple[float, float]:
        """Get the positions of the far blade between which the edge is looked for, in mm."""
        return self.config.edge_mm - self.config.edge_scan_mm, self.config.edge_mm + self.config.edge_scan_mm

    def set_stripe(self, length_um: float, offset_um: float = 0.0) -> tuple[float, float]:
        """Cut a stripe; returns its true length and its offset from the edge in µm, from the positions read back.

        :param length_um: Length; 0 closes the slit on the edge.
        :param offset_um: Distance of its beginning from the film's edge; needs a near blade if it is not 0.
        :raises LimitExceeded: It would reach beyond the part of the beam that is even; nothing was moved.
        """
        fits = length_um >= 0 and offset_um >= 0 and offset_um + length_um <= self.longest_um * (1 + 1e-9)
        if not fits:  # written so that a value that is not a number is refused, too
            raise LimitExceeded(
                f"a stripe from {offset_um:g} um to {offset_um + length_um:g} um was asked for; the pump is even from"
                f" the edge to {self.longest_um:g} um",
                where="slit.longest of the bench file",
                state="nothing was moved",
                todo="choose shorter stripes; slit.longest is what a profile of the beam has shown",
            )
        if offset_um > 0 and (self.near is None or self.config.near_edge_mm is None):
            raise InputError(
                "a stripe away from the edge needs a near blade",
                where="bench file",
                state="nothing was moved",
                todo="write [instruments.slit_near], or leave out the runs that need it",
            )
        begins_um = self._set_beginning(offset_um)
        reached_mm = self.far.move_to(self.edge_mm + (offset_um + length_um) * 1e-3)
        ends_um = (reached_mm - self.edge_mm) * 1e3
        return max(ends_um - begins_um, 0.0), begins_um

    def read_energy(self, expected_j: float, pulses: int) -> EnergyReading | None:
        """Measure the energy of the pulses behind the slit, shutter open.

        None without a meter there, or where the slit lets too little through to trigger it. Raises InstrumentError
        where it does not because the meter has lost its range.

        :param expected_j: Energy that is expected at the meter, in J, for its range.
        """
        if self.meter is None:
            return None
        range_j = self._choose_range(self.meter, min(expected_j * _HEADROOM, self.meter.largest_range_j))
        try:
            return self.meter.measure(pulses)
        except NoPulse as nothing:
            if (found_j := self.meter.range_j) != range_j:
                raise InstrumentError(
                    f"the meter behind the slit is on its range of {found_j:.3g} J instead of {range_j:.3g} J, where no"
                    " pulse triggers it",
                    role="slit_meter",
                    todo="see whether it was switched off and on; keep hands off its front panel during a run",
                ) from nothing
            return None

    @staticmethod
    def _choose_range(meter: EnergyMeter, needed_j: float) -> float:
        """Have the meter on a range for an energy in J; returns the range it is on."""
        before_j = meter.range_j
        if needed_j <= before_j <= _FAR_TOO_LARGE * needed_j:
            return before_j
        for _ in range(2):
            meter.range_j = needed_j
            # It has no smaller one, or the command was lost on its way.
            if (reached_j := meter.range_j) != before_j:
                return reached_j
        return before_j

    def _set_beginning(self, offset_um: float) -> float:
        config, near = self.config, self.near
        if near is None or config.near_edge_mm is None:
            return 0.0
        if offset_um < _NARROWEST_UM:
            self.open_near()
            return 0.0
        return (near.move_to(config.near_edge_mm + offset_um * 1e-3) - config.near_edge_mm) * 1e3
