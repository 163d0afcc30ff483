"""What goes wrong in a simulated laboratory at a moment that its table names, so that interlocks can be tried.

Unlike the faults of :mod:`labctl.sim.faults` these are no faults of a wire: a door that somebody opens, cooling water
that fails. The tables ``[laboratory.interlock]`` and ``[laboratory.cooling]`` say when.
"""

from __future__ import annotations

from pydantic import model_validator

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
