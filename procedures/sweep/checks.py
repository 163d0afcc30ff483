"""What a fluence sweep refuses, or warns of, before anything is opened."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from labctl.analysis.knee import MIN_POINTS
from labctl.errors import InputError

MIN_FINE_POINTS = 5


def check_numbers(*, fine_points: int, fluences: Sequence[float] | None) -> None:
    """Refuse parameters that contradict each other; raises InputError."""
    if 0 < fine_points < MIN_FINE_POINTS:
        raise InputError(f"a fine pass of {fine_points} points is too short", todo="set fine-points to 0 or 5 and more")
    if fluences is not None and any(a == b for a, b in pairwise(sorted(fluences))):
        raise InputError("a fluence is listed twice", todo="list each fluence once")


def excitation_warnings(known_nm: float | None, pump_nm: float | None) -> list[str]:
    """Say that excitons cannot be computed, where the sample's cross-section is for another line than the pump.

    :param known_nm: Wavelength of the cross-section that is not used; None if there is none.
    """
    if known_nm is None or pump_nm is None:
        return []
    return [
        f"the sample's cross-section is for {known_nm:g} nm, the pump has {pump_nm:g} nm: excitons per particle are not"
        " computed; give cross-section if you know it"
    ]


def order_warnings(order: str) -> list[str]:
    """Warn of an order in which photodamage moves the threshold."""
    if order == "ascending":
        return []
    return ["descending order: photodamage at high fluence shifts the threshold (+13 % at 10 % loss)"]


def listed_warnings(fluences: Sequence[float] | None) -> list[str]:
    """Warn of a list too short for a threshold."""
    if fluences is None or len(fluences) >= MIN_POINTS:
        return []
    return [f"{len(fluences)} listed fluences give no threshold: its fit needs at least {MIN_POINTS} different ones"]


def operator_warnings(scatter_frames: int, *, simulated: bool) -> list[str]:
    """Say that somebody must be there; a simulated laboratory helps itself."""
    if simulated or not scatter_frames:
        return []
    return ["an operator is asked to move the sample out of the beam and back; scatter-frames=0 does without"]
