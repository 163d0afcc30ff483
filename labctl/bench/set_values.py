"""Set values held to the limits of the bench, at the instrument itself.

An opened instrument is of a class made here, whose settings refuse what lies beyond a limit: procedures, scripts and
composites can only reach the instrument through it. Making safe and closing are never refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from typing import Any

from labctl.config.limits import Bounds
from labctl.config.offered import limited_units, offered_readings, offered_settings
from labctl.errors import LimitError

_NEVER_REFUSED = ("make_safe", "close")

_making_safe: ContextVar[bool] = ContextVar("making safe", default=False)


@dataclass(frozen=True, slots=True)
class QuantityLimit:
    """Lowest and highest value of one quantity of one instrument, in ``unit``; None where there is no bound.

    :param overshoot: By how much a reading may pass a bound that a set value may reach, in ``unit``.
    """

    role: str
    quantity: str
    unit: str
    at_least: float | None = None
    at_most: float | None = None
    overshoot: float = 0.0

    def check_set_value(self, value: Any) -> None:
        """Refuse a set value beyond the limit, before anything moves; raises LimitError."""
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = float("nan")
        # Written so that a value that is not a number is refused, too.
        above = self.at_least is None or number >= self.at_least
        below = self.at_most is None or number <= self.at_most
        if not (above and below and number == number):
            raise LimitError(
                f"{self.role}: {self.quantity} = {_shown(value, self.unit)} lies beyond the limit: {self.in_words}",
                where=f"limits.roles.{self.role}.{self.quantity} of the bench",
                todo="ask for what the limit allows; the limit itself is changed in the bench file only",
            )

    @property
    def in_words(self) -> str:
        """Get the bounds as text."""
        bounds = (("at least", self.at_least), ("at most", self.at_most))
        return ", ".join(f"{word} {bound:g} {self.unit}".rstrip() for word, bound in bounds if bound is not None)


def set_limits(role: str, driver: Any, bounds: Mapping[str, Bounds]) -> list[tuple[str, QuantityLimit]]:
    """Get the limits of what an instrument is set to, each with the method or property that sets it.

    :raises Fault: A bound that does not convert to the unit of the quantity.
    """
    found: list[tuple[str, QuantityLimit]] = []
    for name, setting in offered_settings(role, driver).items():
        if name in bounds:
            limit = QuantityLimit(role, name, setting.unit, *bounds[name].in_unit(setting.unit))
            found.append((setting.attribute, limit))
    return found


def reading_limits(role: str, driver: Any, bounds: Mapping[str, Bounds]) -> list[QuantityLimit]:
    """Get the limits of what is read of an instrument.

    :raises Fault: A bound that does not convert to the unit of the quantity.
    """
    return [
        QuantityLimit(role, name, entry.unit, *bounds[name].in_unit(entry.unit), overshoot=entry.overshoot)
        for name, entry in offered_readings(driver).items()
        if name in bounds and not entry.words
    ]


def unknown_limits(role: str, driver: Any, bounds: Mapping[str, Bounds]) -> list[str]:
    """Get the limited quantities that the instrument does not have: nothing would hold them."""
    return sorted(set(bounds) - set(limited_units(role, driver)))


def held_to_limits(driver: type, limits: Sequence[tuple[str, QuantityLimit]]) -> type:
    """Get the driver's class with settings that refuse what lies beyond ``limits``; itself if there are none."""
    if not limits:
        return driver
    members: dict[str, Any] = {"__doc__": driver.__doc__, "__module__": driver.__module__}
    for attribute, limit in limits:
        setter = members.get(attribute, getattr(driver, attribute))
        members[attribute] = _checked_property(setter, limit) if _is_data(setter) else _checked_method(setter, limit)
    for name in _NEVER_REFUSED:
        members[name] = _unchecked(getattr(driver, name))
    return type(driver.__name__, (driver,), members)


def _is_data(member: Any) -> bool:
    return inspect.isdatadescriptor(member)


def _checked_method(method: Callable[..., Any], limit: QuantityLimit) -> Callable[..., Any]:
    signature = inspect.signature(method)
    value_name = list(signature.parameters)[1]

    @wraps(method)
    def checked(self: Any, *args: Any, **kwargs: Any) -> Any:
        given = signature.bind(self, *args, **kwargs)
        given.apply_defaults()
        if not _making_safe.get():
            limit.check_set_value(given.arguments[value_name])
        return method(self, *args, **kwargs)

    return checked


def _checked_property(member: Any, limit: QuantityLimit) -> property:
    def get(self: Any) -> Any:
        return member.__get__(self, type(self))

    def set_(self: Any, value: Any) -> None:
        if not _making_safe.get():
            limit.check_set_value(value)
        member.__set__(self, value)

    return property(get, set_, doc=getattr(member, "__doc__", None))


def _unchecked(method: Callable[..., Any]) -> Callable[..., Any]:
    """A safe state must not be refused because it lies beyond a limit that is meant for measuring."""

    @wraps(method)
    def unchecked(self: Any, *args: Any, **kwargs: Any) -> Any:
        with _no_limits():
            return method(self, *args, **kwargs)

    return unchecked


@contextmanager
def _no_limits() -> Iterator[None]:
    token = _making_safe.set(True)
    try:
        yield
    finally:
        _making_safe.reset(token)


def _shown(value: Any, unit: str) -> str:
    return f"{value:g} {unit}".rstrip() if isinstance(value, int | float) else repr(value)[:80]
