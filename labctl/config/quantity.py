"""Quantities written with their unit: text such as ``"28 uJ/cm^2"`` in, a float in the field's own unit out.

The number and the unit are taken apart here and only the unit names go to pint, because pint's own text parser is an
expression evaluator: it would compute ``"2 * 3 mm"`` and never return from ``"9**9**9**9 mm"``.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pydantic_core import core_schema

from labctl.config.fault import Fault, as_toml, nearest_name

if TYPE_CHECKING:
    from pint import UnitRegistry
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue

COMMON_UNITS = (
    *("pm", "nm", "um", "mm", "cm", "m", "fs", "ps", "ns", "us", "ms", "s", "min", "hour", "day"),
    *(
        "nJ",
        "uJ",
        "mJ",
        "J",
        "nW",
        "uW",
        "mW",
        "W",
        "mHz",
        "Hz",
        "kHz",
        "MHz",
        "GHz",
        "degC",
        "K",
        "deg",
        "mrad",
        "rad",
    ),
    *("mV", "V", "kV", "uA", "mA", "A", "kB", "MB", "GB", "TB", "percent", "ppm", "mbar", "bar", "Pa"),
)
"""Units offered as the nearest name for one that is unknown."""

_LOGARITHMIC = frozenset(
    ("decibel", "decibelwatt", "decibelmilliwatt", "decibelmicrowatt", "decade", "octave", "neper")
)
"""To pint 1 dB is a pure number, and so an angle: no field of ours means that."""
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_FACTOR = re.compile(r"([A-Za-z_]+)(?:(?:\^|\*\*)?([+-]?[1-9]))?")
_JOIN = re.compile(r"\s*([*/])\s*|\s+")
_SPELLINGS = (
    ("\N{MICRO SIGN}", "u"),
    ("\N{GREEK SMALL LETTER MU}", "u"),
    ("\N{MINUS SIGN}", "-"),
    ("\N{DEGREE SIGN}C", "degC"),
    ("\N{DEGREE SIGN}", "deg"),
    ("\N{MIDDLE DOT}", "*"),
    ("\N{SUPERSCRIPT MINUS}\N{SUPERSCRIPT ONE}", "^-1"),
    ("\N{SUPERSCRIPT MINUS}\N{SUPERSCRIPT TWO}", "^-2"),
    ("\N{SUPERSCRIPT TWO}", "^2"),
    ("\N{SUPERSCRIPT THREE}", "^3"),
    ("%", "percent"),
)


@lru_cache(maxsize=1)
def unit_registry() -> UnitRegistry[Any]:
    """Get the one pint registry of the process, which pymeasure uses as well."""
    import pint

    return pint.get_application_registry()  # pyright: ignore[reportReturnType]


@lru_cache(maxsize=1024)
def _units(text: str) -> Any:
    return unit_registry().parse_units(text)


@lru_cache(maxsize=1024)
def _meanings(name: str) -> tuple[tuple[str, str, str], ...]:
    """Get prefix, unit and suffix of each reading of a unit's name; raises LookupError if it is unknown (as yet)."""
    found = unit_registry().parse_unit_name(name)
    if not found:
        raise LookupError(name)
    return found


@dataclass(frozen=True)
class InUnit:
    """Marks a float field that is written as text with a unit, and gives its range.

    Use it as ``length_mm: Annotated[float, InUnit("mm", at_least=0.01, at_most=100)]``; the bounds are in ``unit``.

    :param unit: The unit of the float, as pint writes it; ``""`` for a plain number.
    :param above: Values must be greater.
    :param at_least: Values must be greater or equal.
    :param below: Values must be smaller.
    :param at_most: Values must be smaller or equal.
    :param example: A value as a user would write it.
    """

    unit: str
    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    at_most: float | None = None
    example: str = ""

    def parse(self, text: object) -> float:
        """Read ``text`` and convert it to :attr:`unit`.

        :raises Fault: no unit, unknown unit, wrong dimension, not finite, or out of range (given in the user's unit).
        """
        if isinstance(text, bool) or not isinstance(text, str):
            kind = "a number without a unit" if isinstance(text, int | float) and not isinstance(text, bool) else ""
            raise Fault(f"{as_toml(text)}, {kind}" if kind else as_toml(text), self.wanted)
        number, unit = self._split(text)
        value = self._convert(text, number, unit)
        if not self._holds(value):
            raise Fault(as_toml(text), self._range_in(unit))
        return value

    @property
    def wanted(self) -> str:
        """Get what the field accepts, for messages."""
        if not self.unit:
            return 'a number, e.g. "0.5" or "50 %"'
        example = self.example or f"1 {self.unit}"
        return f'text with a number and a unit that converts to {self.unit}, e.g. "{example}"'

    def _split(self, text: str) -> tuple[float, str]:
        plain = text.strip()
        for spelling, ascii_name in _SPELLINGS:
            plain = plain.replace(spelling, ascii_name)
        match = _NUMBER.match(plain)
        if len(text) > 80 or match is None:
            raise Fault(as_toml(text), self.wanted)
        number, unit = float(match.group()), plain[match.end() :].strip()
        if self.unit and not unit:
            raise Fault(f"{as_toml(text)}, a number without a unit", self.wanted)
        return number, self._clean_unit(text, unit)

    def _clean_unit(self, text: str, unit: str) -> str:
        """Check the unit's grammar and every name in it; return it as pint reads it without evaluating anything."""
        factors: list[str] = []
        position, join = 0, "*"
        for per in ("/", "1/"):  # 115 /cm, and as most people write it, 115 1/cm
            if unit.startswith(per):
                position, join = len(per), "/"
        while position < len(unit):
            match = _FACTOR.match(unit, position)
            if match is None:
                raise Fault(as_toml(text), self.wanted)
            name, power = match.group(1), int(match.group(2) or 1)
            try:
                known = _meanings(name)
            except LookupError:
                near = self._nearest_unit(name)
                raise Fault(f"{as_toml(text)}, an unknown unit {name!r}", self.wanted, nearest=near) from None
            if any(entry[1] in _LOGARITHMIC for entry in known):
                raise Fault(f"{as_toml(text)}, a ratio on a logarithmic scale", self.wanted)
            factors.append(f"{name}**{power if join == '*' else -power}" if (power, join) != (1, "*") else name)
            position = match.end()
            if position < len(unit):
                joint = _JOIN.match(unit, position)
                if joint is None or joint.end() == len(unit):
                    raise Fault(as_toml(text), self.wanted)
                position, join = joint.end(), joint.group(1) or "*"
        return " * ".join(factors)

    def _nearest_unit(self, name: str) -> str | None:
        """Get the unit most like ``name``; one that converts to :attr:`unit` comes before any other."""
        registry = unit_registry()
        target = registry.parse_units(self.unit)
        fitting = [unit for unit in COMMON_UNITS if registry.parse_units(unit).is_compatible_with(target)]
        swapped = next((unit for unit in fitting if sorted(unit) == sorted(name)), None)
        return swapped or nearest_name(name, fitting, cutoff=0.5) or nearest_name(name, COMMON_UNITS)

    def _convert(self, text: str, number: float, unit: str) -> float:
        import pint

        registry = unit_registry()
        try:
            given, target = _units(unit), _units(self.unit)
            if given == target:
                value = number
            else:
                # Fifteen digits: 150 um shall be 0.15 mm, not 0.15000000000000002 mm.
                value = float(f"{float(registry.Quantity(number, given).to(target).magnitude):.15g}")
        except (pint.PintError, ArithmeticError, ValueError, KeyError):
            raise Fault(f"{as_toml(text)}, which does not convert to {self.unit or 'a number'}", self.wanted) from None
        if not math.isfinite(value):
            raise Fault(f"{as_toml(text)}, which is not finite", self.wanted)
        return value

    def _holds(self, value: float) -> bool:
        return (
            (self.above is None or value > self.above)
            and (self.at_least is None or value >= self.at_least)
            and (self.below is None or value < self.below)
            and (self.at_most is None or value <= self.at_most)
        )

    def _range_in(self, unit: str) -> str:
        registry = unit_registry()
        given, target = registry.parse_units(unit), registry.parse_units(self.unit)
        shown = unit.replace(" * ", " ").replace("**", "^")

        def limit(value: float) -> str:
            return f"{registry.Quantity(value, target).to(given).magnitude:.6g} {shown}".rstrip()

        bounds = (
            ("more than", self.above),
            ("at least", self.at_least),
            ("less than", self.below),
            ("at most", self.at_most),
        )
        return ", ".join(f"{word} {limit(value)}" for word, value in bounds if value is not None)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        as_text = core_schema.plain_serializer_function_ser_schema(self.write, when_used="json")
        return core_schema.no_info_plain_validator_function(self.parse, serialization=as_text)

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        text: JsonSchemaValue = {"type": "string", "examples": [self.example or f"1 {self.unit}"], "x-unit": self.unit}
        text["pattern"] = r"^\s*[+\-−]?(\d+\.?\d*|\.\d+)([eE][+\-]?\d+)?\s*" + (
            r"[^\s\d.+\-]" if self.unit else r"%?\s*$"
        )
        if limits := self._range_in(self.unit):
            text["x-range"] = limits
        return text

    def write(self, value: float) -> str:
        """Write a value in :attr:`unit` as a user would, without loss of digits."""
        return f"{value!r} {self.unit}".rstrip()


def parse_quantity(
    text: str,
    unit: str,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
) -> float:
    """Read text with a unit and convert it: ``parse_quantity("28 uJ/cm^2", "uJ/cm^2")`` is 28.0.

    A bare number is refused unless ``unit`` is ``""`` (a pure number). The bounds are in ``unit``.

    :raises Fault: with ``found``, ``allowed`` and ``nearest``, ready for a :class:`labctl.errors.Problem`.
    """
    return InUnit(unit, above=above, at_least=at_least, below=below, at_most=at_most).parse(text)
