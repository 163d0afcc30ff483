"""A parameter of a campaign's run that takes its value from the result of an earlier run of the campaign."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from labctl.config.fault import Fault, as_toml
from labctl.config.problems import check_table
from labctl.config.table import ShortText, Table
from labctl.config.toml_lines import TomlLines

FROM = "from"
"""The key that tells such a table from a value."""
ALLOWED = 'text, a number, true or false, an array of these, or { from = "a run", result = "its result" }'
MAX_FACTORS = 100

ResultField = Literal["value", "ci68.0", "ci68.1", "ci95.0", "ci95.1"]
_Factor = Annotated[float, Field(ge=-1e12, le=1e12, description="a number")]


class FromResult(Table):
    """``{ from = "threshold", result = "threshold", times = 3, at_most = "120 uJ/cm^2" }``."""

    run: Annotated[ShortText, Field(alias=FROM, description="the name of an earlier run of this campaign")]
    result: Annotated[ShortText, Field(description="the name of a result of that run; dots go into it")]
    field: ResultField = "value"
    """What of the result: its value, or an end of an interval."""
    times: Annotated[
        float | tuple[_Factor, ...],
        Field(
            union_mode="left_to_right", description="a number, or an array of numbers for a parameter that is a list"
        ),
    ] = 1.0
    plus: Annotated[str | float, Field(description='text with a unit, e.g. "5 K", or a number')] = 0.0
    """Added after :attr:`times`; a difference, so "K" where the parameter is in degC."""
    at_least: ShortText | None = None
    """A value below it cannot be used: what :attr:`if_missing` says is done. The next one likewise."""
    at_most: ShortText | None = None
    if_missing: Annotated[Literal["skip", "stop"] | None, Field(description='"skip" or "stop"')] = None
    """What becomes of this run, or of the campaign, where there is no such result; stop if nothing is said."""
    fallback: Annotated[str | int | float | None, Field(description="a value of the parameter")] = None
    """The value that is taken instead."""

    @field_validator("times", mode="before")
    @classmethod
    def _factors(cls, times: Any) -> Any:
        many = isinstance(times, list)
        given = times if many else [times]
        if not given or len(given) > MAX_FACTORS:
            raise Fault(as_toml(times), f"1 to {MAX_FACTORS} numbers")
        for factor in given:
            number = isinstance(factor, int | float) and not isinstance(factor, bool)
            if not number or not -1e12 <= factor <= 1e12:
                raise Fault(as_toml(times) if not many else as_toml(factor), "a number, or an array of numbers")
        return tuple(map(float, given)) if many else float(times)

    @field_validator("plus", mode="before")
    @classmethod
    def _term(cls, plus: Any) -> Any:
        if isinstance(plus, bool) or not isinstance(plus, str | int | float):
            raise Fault(as_toml(plus), 'text with a unit, e.g. "5 K", or a number')
        if not isinstance(plus, str) and not -1e300 < plus < 1e300:
            raise Fault(as_toml(plus), "a finite number")
        return plus if isinstance(plus, str) else float(plus)

    @field_validator("fallback", mode="before")
    @classmethod
    def _plain(cls, fallback: Any) -> Any:
        if not is_plain(fallback) or isinstance(fallback, list):
            raise Fault(as_toml(fallback), "text or a number")
        return fallback

    @field_validator("fallback", mode="after")
    @classmethod
    def _one_way_out(cls, fallback: Any, info: ValidationInfo) -> Any:
        if fallback is not None and info.data.get("if_missing") is not None:
            raise Fault("a fallback beside if_missing", "one of the two")
        return fallback

    @property
    def factors(self) -> tuple[float, ...]:
        """Get the numbers that the result is multiplied by."""
        return self.times if isinstance(self.times, tuple) else (self.times,)

    @property
    def otherwise(self) -> Literal["skip", "stop", "fallback"]:
        """Get what is done where the result cannot be used."""
        return "fallback" if self.fallback is not None else self.if_missing or "stop"


def is_plain(value: object) -> bool:
    """Get whether a value says the same in a run's request, which is JSON: no dates, no tables, no nan."""
    if isinstance(value, list):
        return all(not isinstance(entry, list) and is_plain(entry) for entry in value)
    return isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))


def is_reference(value: object) -> bool:
    """Get whether a value of a parameter is a table that names a run."""
    return isinstance(value, Mapping) and FROM in value


def read_reference(value: Mapping[str, Any]) -> tuple[FromResult | None, list[Fault]]:
    """Read such a table; returns None with what is wrong with it."""
    read, problems = check_table(FromResult, value, "", TomlLines({}, (), ()))
    return read, [
        Fault(problem.found, problem.allowed, nearest=problem.nearest, key=(problem.key.partition("[")[0],))
        for problem in problems
    ]
