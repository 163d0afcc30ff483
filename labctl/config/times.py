"""Times of the day and of the week in a configuration file, and the hours in which a laboratory is to be quiet."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, NamedTuple
from zoneinfo import ZoneInfo

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import core_schema

from labctl.config.fault import Fault, as_toml
from labctl.config.table import Table

_TIME = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])")
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
"""As :meth:`datetime.date.weekday` counts them."""

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


class TimeOfDay(NamedTuple):
    """A time by the clock on the wall, written ``"22:00"``."""

    hour: int
    minute: int

    def __str__(self) -> str:
        return f"{self.hour:02d}:{self.minute:02d}"

    @classmethod
    def parse(cls, text: object) -> TimeOfDay:
        """Read it; raises Fault."""
        if isinstance(text, cls):
            return text
        match = _TIME.fullmatch(text.strip()) if isinstance(text, str) and len(text) < 20 else None
        if match is None or not match.group().isascii():
            raise Fault(as_toml(text), 'a time of day in quotes, e.g. "22:00"')
        return cls(int(match.group(1)), int(match.group(2)))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        as_text = core_schema.plain_serializer_function_ser_schema(str, when_used="json")
        return core_schema.no_info_plain_validator_function(cls.parse, serialization=as_text)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"type": "string", "pattern": f"^{_TIME.pattern}$"}


class QuietTable(Table):
    """``[quiet]``: hours in which runs of tables with ``quiet = "wait"`` do not begin."""

    begins: Annotated[TimeOfDay, Field(alias="from", description='a time of day, e.g. "22:00"')]
    ends: Annotated[TimeOfDay, Field(alias="to", description='a time of day, e.g. "07:00"')]
    weekdays: Annotated[
        tuple[Weekday, ...],
        Field(strict=False, min_length=1, max_length=7, description='an array, e.g. ["mon", "tue"]'),
    ] = WEEKDAYS
    """Days on which the quiet hours begin."""

    @model_validator(mode="after")
    def _some_hours(self) -> QuietTable:
        if self.begins == self.ends:
            raise Fault(f"quiet hours from {self.begins} to {self.ends}", "two different times")
        return self


def zone_of(name: str) -> ZoneInfo:
    """Get a time zone by its name, e.g. ``Europe/Berlin``; raises Fault."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        allowed = 'the name of a time zone, e.g. "Europe/Berlin"; leave it out for that of the computer'
        raise Fault(as_toml(name), allowed) from None
