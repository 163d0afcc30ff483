"""What goes wrong in a simulated laboratory at a moment that its table names, so that interlocks can be tried.

Unlike the faults of :mod:`labctl.sim.faults` these have a time and no transaction: a door that somebody opens, cooling
water that fails, a plug that is loose. The tables ``[laboratory.interlock]``, ``[laboratory.cooling]`` and
``[[laboratory.drop_offs]]`` say when.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import model_validator

from labctl.sim.emulator import Reply, WireEmulator
from labctl.sim.truth_table import NotNegative, Positive, Truth


class InterlockTruth(Truth):
    """The interlock circuit of the room, to which shutters with an interlock are wired.

    :param opens_at_s: When it opens, in s after the first instrument that is wired to it was spoken to; never if left
        out.
    :param closes_after_s: After so long it is closed again, in s; never if left out.
    """

    opens_at_s: NotNegative | None = None
    closes_after_s: Positive | None = None

    @model_validator(mode="after")
    def _opens_before_it_closes(self) -> InterlockTruth:
        if self.closes_after_s is not None and self.opens_at_s is None:
            raise ValueError("closes_after_s needs opens_at_s")
        return self


class CoolingTruth(Truth):
    """The cooling water of the cameras.

    :param fails_at_s: When it fails, in s after the first camera was spoken to; never if left out.
    :param returns_after_s: After so long it flows again, in s; never if left out.
    """

    fails_at_s: NotNegative | None = None
    returns_after_s: Positive | None = None

    @model_validator(mode="after")
    def _fails_before_it_returns(self) -> CoolingTruth:
        if self.returns_after_s is not None and self.fails_at_s is None:
            raise ValueError("returns_after_s needs fails_at_s")
        return self


class DropOffTruth(Truth):
    """A wire whose plug is loose: for a while nothing that is sent to an instrument arrives, and nothing comes back.

    :param role: The instrument; a vendor library has no wire.
    :param at_s: When it begins, in s of laboratory time, which a campaign in virtual time counts through all its runs.
    :param lasts_s: How long it lasts, s.
    """

    role: str
    at_s: NotNegative
    lasts_s: Positive


class LooseWire:
    """An emulator whose wire drops off for a while; with its state it goes on as if nothing had been sent.

    :param emulator: The emulator.
    :param drop_offs: When nothing arrives.
    """

    def __init__(self, emulator: WireEmulator, drop_offs: Sequence[DropOffTruth]) -> None:
        self._emulator = emulator
        self._drop_offs = tuple(drop_offs)

    def respond(self, t: float, data: bytes) -> Sequence[Reply]:
        if self._is_off(t):
            self._emulator.respond(t, b"")
            return []
        return [reply for reply in self._emulator.respond(t, data) if not self._is_off(reply[0])]

    def next_event(self) -> float | None:
        return self._emulator.next_event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._emulator, name)

    def _is_off(self, t: float) -> bool:
        return any(entry.at_s <= t < entry.at_s + entry.lasts_s for entry in self._drop_offs)


class Outage:
    """Something that is missing for a while: the closed interlock, the cooling water.

    Times count from the first moment that anybody asks about, since the clock of a laboratory begins anywhere.

    :param starts_s: When it begins, s; None for never.
    :param lasts_s: How long it lasts, s; None for ever.
    """

    def __init__(self, starts_s: float | None, lasts_s: float | None) -> None:
        self._starts_s = starts_s
        self._lasts_s = lasts_s
        self._origin_s: float | None = None

    def begins(self, t: float) -> float | None:
        """Get the laboratory time at which it begins, whatever it is at ``t``; None for never."""
        if self._origin_s is None:
            self._origin_s = t
        return None if self._starts_s is None else self._origin_s + self._starts_s

    def ends(self, t: float) -> float | None:
        """Get the laboratory time at which it ends; None for never."""
        begins = self.begins(t)
        return None if begins is None or self._lasts_s is None else begins + self._lasts_s

    def is_on(self, t: float) -> bool:
        """Get whether it lasts at ``t``."""
        begins, ends = self.begins(t), self.ends(t)
        return begins is not None and begins <= t and (ends is None or t < ends)
