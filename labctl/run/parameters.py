"""Parameters of a procedure: pymeasure's, with full precision, units that are checked, and an optional "not set"."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
from pymeasure.experiment import BooleanParameter, FloatParameter, IntegerParameter, ListParameter, Parameter

from labctl.config.fault import Fault, as_toml
from labctl.config.quantity import InUnit

_NUMBER = re.compile(r"[+\-\N{MINUS SIGN}]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+\-\N{MINUS SIGN}]?[0-9]+)?")


class Quantity(FloatParameter):
    """A float with a unit. As text it must carry a unit that converts; as a number it is in :attr:`units`.

    :param name: Title, for forms and messages.
    :param units: Unit of the value, as pint writes it; ``""`` for a pure number.
    :param minimum: Lowest value accepted, in ``units``; the next one likewise.
    :param optional: Whether the parameter may stay unset (``None``).
    """

    def __init__(
        self,
        name: str,
        units: str = "",
        *,
        minimum: float = -math.inf,
        maximum: float = math.inf,
        optional: bool = False,
        default: float | None = None,
        description: str | None = None,
    ) -> None:
        self.optional = optional
        super().__init__(name, units=units, minimum=minimum, maximum=maximum, default=default, description=description)

    def convert(self, value: Any) -> float:
        bounds = InUnit(
            self.units or "",
            at_least=self.minimum if math.isfinite(self.minimum) else None,
            at_most=self.maximum if math.isfinite(self.maximum) else None,
        )
        return _in_unit(bounds, value)

    def __str__(self) -> str:
        return f"{self._value!r} {self.units}".rstrip() if self.is_set() else ""


class QuantityList(Parameter):
    """A list of floats with one unit, as text ``"2.8, 5.6, 28 uJ/cm^2"`` or as numbers in :attr:`units`."""

    def __init__(
        self,
        name: str,
        units: str,
        *,
        minimum: float = -math.inf,
        optional: bool = True,
        description: str | None = None,
    ) -> None:
        self.units = units
        self.minimum = minimum
        self.optional = optional
        super().__init__(name, default=None, description=description)

    def convert(self, value: Any) -> tuple[float, ...]:
        bounds = InUnit(self.units, at_least=self.minimum if math.isfinite(self.minimum) else None)
        if isinstance(value, np.ndarray):
            value = value.tolist()
        entries = _entries(value) if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
        if not entries:
            raise Fault(as_toml(value), f'at least one number, e.g. "2.8, 5.6, 28 {self.units}"')
        return tuple(_in_unit(bounds, entry) for entry in entries)

    def __str__(self) -> str:
        return f"{', '.join(repr(number) for number in self._value)} {self.units}" if self._value is not None else ""


def _in_unit(bounds: InUnit, value: Any) -> float:
    """Read text with a unit, or a number that is in the unit already."""
    if isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool):
        try:
            value = f"{float(value)!r} {bounds.unit}".rstrip()
        except OverflowError:
            raise Fault(as_toml(value), bounds.wanted) from None
    return bounds.parse(value)


def _entries(text: str) -> list[str]:
    """Take a list apart at its commas; entries without a unit get that of the last. No entry in empty text."""
    if not text.strip():
        return []
    entries = [entry.strip() for entry in text.split(",")]
    unit = _NUMBER.sub("", entries[-1], count=1).strip()
    return [f"{entry} {unit}" if _NUMBER.fullmatch(entry) else entry for entry in entries]


class Whole(IntegerParameter):
    """A whole number; ``2.5`` and ``True`` are refused rather than rounded."""

    def __init__(self, name: str, *, optional: bool = False, **options: Any) -> None:
        self.optional = optional
        super().__init__(name, **options)

    def convert(self, value: Any) -> int:
        text = str(value).strip()
        if isinstance(value, bool | np.bool_) or not text.lstrip("+-").isdigit():
            raise ValueError(f"{value!r} is not a whole number from {self.minimum} to {self.maximum}")
        if not self.minimum <= int(text) <= self.maximum:
            raise ValueError(f"{text} lies outside {self.minimum} to {self.maximum}")
        return int(text)


class Flag(BooleanParameter):
    """True or false; also ``yes``, ``no``, ``on``, ``off``."""

    optional = False

    def convert(self, value: Any) -> bool:
        words = {"yes": True, "on": True, "no": False, "off": False}
        return super().convert(words.get(value.lower(), value) if isinstance(value, str) else value)


class Choice(ListParameter):
    """One of a few words."""

    optional = False

    def convert(self, value: Any) -> Any:
        try:
            return super().convert(value)
        except ValueError:
            raise ValueError(f"{value!r} is not one of {', '.join(map(str, self.choices or ()))}") from None


class Name(Parameter):
    """The name of something, e.g. of a filter of the bench; empty text leaves it unset."""

    optional = True

    def convert(self, value: Any) -> str:
        if not isinstance(value, str) or not value.strip():
            raise Fault(as_toml(value), "a name")
        return value.strip()


def quantity(name: str, units: str = "", **options: Any) -> Any:
    """Declare a :class:`Quantity`: ``slit_um: float = quantity("Slit width", "um", minimum=10, default=50)``.

    pymeasure replaces the parameter by its plain value on the instance, so the attribute is annotated with that type;
    these functions exist because a class cannot say so to a type checker. Likewise the next ones.
    """
    return Quantity(name, units, **options)


def quantity_list(name: str, units: str, **options: Any) -> Any:
    """Declare a :class:`QuantityList`; annotate it ``tuple[float, ...] | None``."""
    return QuantityList(name, units, **options)


def whole(name: str, **options: Any) -> Any:
    """Declare a :class:`Whole`; annotate it ``int``."""
    return Whole(name, **options)


def flag(name: str, **options: Any) -> Any:
    """Declare a :class:`Flag`; annotate it ``bool``."""
    return Flag(name, **options)


def named(name: str, **options: Any) -> Any:
    """Declare a :class:`Name`; annotate it ``str | None``."""
    return Name(name, default=None, **options)


def choice(name: str, **options: Any) -> Any:
    """Declare a :class:`Choice`; annotate it with the type of its choices."""
    return Choice(name, **options)
