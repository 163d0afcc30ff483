"""The table ``[limits]``: bounds that the bench layer holds for every front and every procedure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Self, TypeVar

from pydantic import AfterValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, PlainSerializer
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import core_schema

from labctl.config.fault import Absent, Fault, Faults, as_toml, nearest_name
from labctl.config.quantity import InUnit
from labctl.config.registry import require_role
from labctl.config.table import FluenceUjCm2, PulseEnergyUj, Table

_FORM = 'the highest value, e.g. "200 degC", or { at_least = "-90 degC", at_most = "20 degC" }'
_BOUNDS = ("at_least", "at_most")
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class ByName(Mapping[str, _Value], Generic[_Value]):
    """A table by its keys; cannot be changed."""

    _entries: Mapping[str, _Value]

    def __getitem__(self, name: str) -> _Value:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Lowest and highest value of a quantity as written; what they mean depends on the quantity."""

    at_least: str | None
    at_most: str | None

    @classmethod
    def parse(cls, value: object) -> Self:
        """Read text, the highest value, or a table with the lowest or the highest or both.

        :raises Faults: Anything else.
        """
        if isinstance(value, str):
            return cls(None, value)
        if not isinstance(value, Mapping) or not value:
            raise Fault(as_toml(value), _FORM)
        faults = [
            Fault(f"an unknown key {as_toml(key)}", ", ".join(_BOUNDS), nearest=nearest_name(key, _BOUNDS), key=(key,))
            for key in value
            if key not in _BOUNDS
        ]
        faults += [
            Fault(as_toml(entry), 'text with a number and a unit, e.g. "200 degC"', key=(key,))
            for key, entry in value.items()
            if key in _BOUNDS and not isinstance(entry, str)
        ]
        if faults:
            raise Faults(faults)
        return cls(value.get("at_least"), value.get("at_most"))

    def in_unit(self, unit: str) -> tuple[float | None, float | None]:
        """Get the lowest and the highest value in ``unit``.

        :raises Fault: A value that does not convert, or bounds that nothing lies between.
        """
        low, high = (None if text is None else InUnit(unit).parse(text) for text in (self.at_least, self.at_most))
        if low is not None and high is not None and low > high:
            raise Fault(f"at_least = {as_toml(self.at_least)}", f"at most at_most = {as_toml(self.at_most)}")
        return low, high

    def written(self) -> str | dict[str, str]:
        """Get the bounds as they would stand in a file."""
        if self.at_least is None and self.at_most is not None:
            return self.at_most
        return {name: text for name in _BOUNDS if (text := getattr(self, name)) is not None}

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(cls.parse)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        text: JsonSchemaValue = {"type": "string", "examples": ["200 degC"]}
        table = {"type": "object", "additionalProperties": False, "properties": dict.fromkeys(_BOUNDS, text)}
        return {"anyOf": [text, table]}


def _written(roles: Mapping[str, Mapping[str, Bounds]]) -> dict[str, dict[str, Any]]:
    return {role: {name: bounds.written() for name, bounds in limited.items()} for role, limited in roles.items()}


RoleLimits = Annotated[
    Mapping[
        Annotated[str, AfterValidator(require_role)],
        Annotated[Mapping[str, Bounds], AfterValidator(ByName)],
    ],
    Field(description="one table [limits.roles.ROLE] with QUANTITY = " + _FORM),
    AfterValidator(ByName),
    PlainSerializer(_written),
]


class LimitsConfig(Table):
    """Bounds that the bench layer holds. A bench with a pump has all that belong to it."""

    fluence_uj_cm2: FluenceUjCm2 | None = Field(alias="fluence", default=None)
    pulse_energy_uj: PulseEnergyUj | None = Field(alias="pulse_energy", default=None)
    dose_per_spot_j_cm2: Annotated[float, InUnit("J/cm^2", above=0, at_most=1e12, example="200 J/cm^2")] | None = Field(
        alias="dose_per_spot", default=None
    )
    average_power_mw: Annotated[float, InUnit("mW", above=0, at_most=1e6, example="5 mW")] | None = Field(
        alias="average_power", default=None
    )
    """Pulse energy at the sample times repetition rate."""
    disk_reserve_mb: Annotated[float, InUnit("MB", at_least=1, at_most=1e8, example="200 MB")] = Field(
        alias="disk_reserve", default=200.0
    )
    roles: RoleLimits = Field(default_factory=lambda: ByName({}))
    """Bounds of what the instruments are set to and read, by role and quantity."""


_OF_THE_PUMP = {
    "fluence": '"28 uJ/cm^2"',
    "pulse_energy": '"5 uJ"',
    "dose_per_spot": '"200 J/cm^2"',
}


def require_pump_limits(limits: LimitsConfig) -> None:
    """Check that a bench with a pump states what limits it.

    :raises Faults: Every limit that is missing.
    """
    given = {field.alias for name, field in LimitsConfig.model_fields.items() if getattr(limits, name) is not None}
    missing = [
        Absent("no such key", f"the key is required on a bench with [pump], e.g. {example}", key=(key,))
        for key, example in _OF_THE_PUMP.items()
        if key not in given
    ]
    if missing:
        raise Faults(missing)


def limit_faults(tables: Any, offered: Mapping[str, Mapping[str, str]]) -> list[Fault]:
    """Check role limits as they stand in a file against what the drivers offer; keys are those below ``limits.roles``.

    :param tables: The table ``[limits.roles]`` as read; what is wrong with its form is not told again.
    :param offered: Unit of each quantity that can be set or read as a number, by role and name.
    """
    faults: list[Fault] = []
    for role, quantities in tables.items() if isinstance(tables, Mapping) else ():
        if role not in offered or not isinstance(quantities, Mapping):
            continue
        for name, value in quantities.items():
            if name not in offered[role]:
                allowed = ", ".join(sorted(offered[role])) or "nothing: its driver offers nothing to limit"
                near = nearest_name(name, offered[role])
                found = f"{as_toml(name)}, an unknown quantity of {role}"
                faults.append(Fault(found, allowed, nearest=near, key=(role, name)))
                continue
            try:
                bounds = Bounds.parse(value)
            except (Fault, Faults):
                continue
            try:
                bounds.in_unit(offered[role][name])
            except Fault as fault:
                faults.append(Fault(fault.found, fault.allowed, nearest=fault.nearest, key=(role, name, *fault.key)))
    return faults
