"""Checks a library call against the call table, before the library sees anything.

A C function takes whatever it is given: a wrong count or a number that does not fit is a crash or a silently
different value there. Here it is an InputError.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from labctl.errors import InputError
from labctl.transport.settings import LibrarySettings, Parameter

_INTEGER_RANGES = {
    "i32": (-(1 << 31), (1 << 31) - 1),
    "u32": (0, (1 << 32) - 1),
    "i64": (-(1 << 63), (1 << 63) - 1),
    "u16": (0, (1 << 16) - 1),
}
_LARGEST_F32 = 3.4028234663852886e38
_LARGEST_COUNT = 1 << 28

ITEM_SIZES = {"i32": 4, "u32": 4, "i64": 8, "u16": 2, "f32": 4, "f64": 8}
"""Bytes of a scalar or element."""

DTYPES = {"i32": "<i4", "u32": "<u4", "i64": "<i8", "u16": "<u2", "f32": "<f4", "f64": "<f8"}
"""NumPy's name of a scalar type."""


def check_call(settings: LibrarySettings, function: str, arguments: Sequence[Any]) -> None:
    """Check name, number, type and range of the arguments of a call; raises InputError."""
    given = [parameter for parameter in parameters_of(settings, function) if parameter.kind != "out"]
    if len(given) != len(arguments):
        raise _refused(
            settings, function, arguments, f"{function} takes {len(given)} argument(s), not {len(arguments)}"
        )
    for number, (parameter, argument) in enumerate(zip(given, arguments, strict=True), start=1):
        fault = _fault(parameter, argument)
        if fault:
            raise _refused(settings, function, arguments, f"argument {number} of {function} {fault}")


def parameters_of(settings: LibrarySettings, function: str) -> tuple[Parameter, ...]:
    """Get the parameters of a function; raises InputError for one that is not in the call table."""
    functions: Mapping[str, tuple[Parameter, ...]] = settings.functions
    if function not in functions:
        raise InputError(f"the call table of {settings.name} has no function {function!r}", where=settings.name)
    return functions[function]


def _fault(parameter: Parameter, argument: Any) -> str:
    if parameter.kind == "text_in":
        return _text_fault(argument)
    if parameter.kind == "array_in":
        return _array_fault(parameter, argument)
    if parameter.kind in {"text_out", "array_out", "struct_out"}:
        if _is_integer(argument) and 0 < argument <= _LARGEST_COUNT:
            return ""
        return f"is the size of a buffer, 1 to {_LARGEST_COUNT}, not {argument!r}"
    return _scalar_fault(parameter, argument)


def _scalar_fault(parameter: Parameter, argument: Any) -> str:
    if parameter.type in _INTEGER_RANGES:
        low, high = _INTEGER_RANGES[parameter.type]
        if not _is_integer(argument):
            return f"must be an integer, not {argument!r}"
        return "" if low <= argument <= high else f"must lie in {low} to {high} ({parameter.type}), not {argument}"
    if isinstance(argument, bool) or not isinstance(argument, (int, float)) or not math.isfinite(argument):
        return f"must be a finite number, not {argument!r}"
    if parameter.type == "f32" and abs(argument) > _LARGEST_F32:
        return f"is too large for a 32-bit float: {argument!r}"
    return ""


def _text_fault(argument: Any) -> str:
    if not isinstance(argument, str):
        return f"must be text, not {argument!r}"
    if "\0" in argument or not argument.isprintable():
        return f"must be printable text, not {argument!r}"
    return ""


def _array_fault(parameter: Parameter, argument: Any) -> str:
    if isinstance(argument, str) or not hasattr(argument, "__len__") or len(argument) == 0:
        return f"must be a sequence of numbers, not {argument!r}"
    for item in argument:
        fault = _scalar_fault(parameter, item.item() if hasattr(item, "item") else item)
        if fault:
            return f"holds an element that {fault}"
    return ""


def _is_integer(argument: Any) -> bool:
    return isinstance(argument, int) and not isinstance(argument, bool)


def _refused(settings: LibrarySettings, function: str, arguments: Sequence[Any], what: str) -> InputError:
    return InputError(
        what, where=f"{settings.name}, {function}{tuple(arguments)!r}", state="the library was not called"
    )
