"""What the sample stage brings into the beam: the sample, a reference that does not age, a dark place, more samples."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from labctl.config.surroundings import DARK_PLACE, REFERENCE_PLACE, SAMPLE_PLACE
from labctl.errors import InputError, InstrumentError
from labctl.roles import LinearStage

_TOLERANCE_MM = 0.05
"""Far below the size of any place, far above what a stage misses."""


class Places:
    """The sample stage and the names of its positions.

    :param stage: The stage.
    :param positions_mm: Position of each place in mm (``[places]`` of the bench file).
    """

    def __init__(self, stage: LinearStage, positions_mm: Mapping[str, float]) -> None:
        self.stage = stage
        self.positions_mm = positions_mm
        self.warnings: list[str] = []

    def replace(self, old: object, new: Any) -> None:
        """Use another object for a stage that was connected anew."""
        if self.stage is old:
            self.stage = new

    @property
    def has_reference(self) -> bool:
        """Get whether a reference can be brought into the beam."""
        return REFERENCE_PLACE in self.positions_mm

    @property
    def has_dark(self) -> bool:
        """Get whether there is a place without emission."""
        return DARK_PLACE in self.positions_mm

    def go_to(self, place: str = SAMPLE_PLACE) -> float:
        """Bring a place into the beam; returns the position read back in mm.

        :raises InputError: There is no such place; nothing was moved.
        """
        wanted_mm = require_place(place, self.positions_mm)
        reached_mm = self.stage.move_to(wanted_mm)
        if abs(reached_mm - wanted_mm) > _TOLERANCE_MM:
            raise InstrumentError(
                f"the sample stage stands at {reached_mm:.3f} mm instead of {wanted_mm:.3f} mm ({place})",
                role="sample_stage",
                todo="home the stage; see whether something blocks it",
            )
        return reached_mm


def require_place(place: str, positions_mm: Mapping[str, float]) -> float:
    """Get the position of a place in mm; raises InputError with the nearest name for one that is not there."""
    if place in positions_mm:
        return positions_mm[place]
    near = difflib.get_close_matches(place, list(positions_mm), n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise InputError(
        f"the sample stage has no place {place!r}",
        where="places of the bench file",
        state="nothing was moved",
        todo=f"{hint}its places are {', '.join(positions_mm)}",
    )
