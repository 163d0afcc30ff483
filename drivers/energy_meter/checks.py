"""What may be asked of an energy meter at all."""

from __future__ import annotations

import math

from labctl.errors import InputError


def require_positive(what: str, value: float) -> None:
    """Refuse a number that is not finite and positive; raises InputError."""
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"{value!r} is no {what}", where="energy_meter", todo="give a positive number")
