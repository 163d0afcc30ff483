"""How a fault changes what was received: always the same for the same transaction, nothing is drawn by chance."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from typing import Any

import numpy as np

from labctl.transport.call_table import DTYPES
from labctl.transport.settings import Parameter

_HIGH_BIT = 0x80
_STRIDE = 7
"""Prime to most lengths of replies, so that neighbouring transactions are spoilt at different places."""


class Spoiler(Enum):
    """What happens to what was received."""

    NOISE = auto()
    """A byte or number becomes one that cannot be: the high bit is set, a number leaves every range."""
    DIGIT = auto()
    """A digit or number becomes another one, as good as the first."""
    CUT = auto()
    """The second half is missing."""
    DROP = auto()
    """A byte is missing."""


def spoil_bytes(data: bytes, spoiler: Spoiler, number: int) -> bytes | None:
    """Spoil a reply on a wire.

    :param number: Number of the transaction; says at which place.
    :returns: The bytes that arrive, or None where there is nothing to spoil.
    """
    if not data:
        return None
    place = number * _STRIDE % len(data)
    match spoiler:
        case Spoiler.NOISE:
            return data[:place] + bytes([data[place] ^ _HIGH_BIT]) + data[place + 1 :]
        case Spoiler.CUT:
            return data[: len(data) // 2]
        case Spoiler.DROP:
            return data[:place] + data[place + 1 :]
        case Spoiler.DIGIT:
            digits = [index for index, byte in enumerate(data) if chr(byte).isdecimal()]
            if not digits:
                return None
            place = digits[number * _STRIDE % len(digits)]
            other = (data[place] - ord("0") + 1 + number % 9) % 10
            return data[:place] + bytes([ord("0") + other]) + data[place + 1 :]


def spoil_outputs(
    parameters: Sequence[Parameter], outputs: Sequence[Any], spoiler: Spoiler, number: int
) -> list[Any] | None:
    """Spoil one output of a library function.

    :param parameters: What the outputs are, in order.
    :param number: Number of the transaction; says which output, and where in it.
    :returns: The outputs that come back, or None where there is nothing to spoil.
    """
    spoilt = list(outputs)
    for step in range(len(spoilt)):
        index = (number + step) % len(spoilt)
        changed = _spoil_output(parameters[index], spoilt[index], spoiler, number)
        if changed is not None:
            spoilt[index] = changed
            return spoilt
    return None


def _spoil_output(parameter: Parameter, value: Any, spoiler: Spoiler, number: int) -> Any:
    if parameter.kind == "text_out":
        spoilt = spoil_bytes(str(value).encode("latin-1"), spoiler, number)
        return None if spoilt is None else spoilt.decode("latin-1")
    if parameter.kind == "out":
        return None if spoiler is Spoiler.CUT else _spoil_number(value, parameter.type, spoiler)
    array = np.array(value, DTYPES[parameter.type])
    if spoiler is Spoiler.CUT:
        array[len(array) // 2 :] = 0
        return array
    place = number * _STRIDE % len(array)
    array[place] = _spoil_number(array[place].item(), parameter.type, spoiler)
    return array


def _spoil_number(value: Any, kind: str, spoiler: Spoiler) -> Any:
    if kind.startswith("f"):
        return float("nan") if spoiler is Spoiler.NOISE else value * 1.25 + 0.5
    if spoiler is Spoiler.NOISE:
        return np.iinfo(DTYPES[kind]).max - 1
    return value + 1 if value < np.iinfo(DTYPES[kind]).max else value - 1
