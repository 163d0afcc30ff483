"""A filter holder that is set by hand."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from drivers.by_hand.instrument import ByHand
from labctl.clock import Clock
from labctl.errors import InputError
from labctl.roles import Identity
from labctl.transport.adapter import WireAdapter


class FilterByHand(ByHand):
    """A holder before the slit; the operator puts the filter in that the bench file gives a number.

    :param positions: How many filters, or positions, there are.
    """

    ROLE = "filter"

    class Options(BaseModel):
        """Options in the bench file."""

        model_config = ConfigDict(frozen=True, extra="forbid")

        positions: Annotated[int, Field(ge=1, le=99)] = 6

    def __init__(self, adapter: WireAdapter, name: str = "filter by hand", *, clock: Clock, positions: int = 6) -> None:
        super().__init__(adapter, name, clock=clock)
        self._positions = positions
        self._position: int | None = None

    def identify(self) -> Identity:
        """Get that it is set by hand."""
        return Identity("", "filter holder set by hand")

    @property
    def positions(self) -> int:
        """Get the number of positions, from the bench file."""
        return self._positions

    @property
    def position(self) -> int:
        """Get the position that the operator said last; asked for if he has said none."""
        if self._position is None:
            self._position = self._read_off("Look which filter stands before the slit; leave it.", read=True)
        return self._position

    def select(self, position: int) -> int:
        """Have a filter put in; returns the position that the operator says."""
        if not 1 <= position <= self._positions:
            raise InputError(
                f"there is no filter position {position}", where=self.name, todo=f"give 1 to {self._positions}"
            )
        self._position = None
        ask = f"Put the filter of position {position} before the slit; the bench file says which that is."
        self._position = self._read_off(ask, position=position)
        return self._position

    def _read_off(self, ask: str, **act: int | bool) -> int:
        wants = f"the position that stands there, 1 to {self._positions}"
        return int(self.read_off(ask, wants, {"": 1.0}, lambda value: value in range(1, self._positions + 1), **act))
