"""The tables ``[[watch]]``: conditions under which a run pauses, makes safe, or ends. Data, never code.

A condition is ``SUBJECT.QUANTITY OPERATOR VALUE``: ``detector.temperature > -50 degC``, ``shutter.interlock is open``.
The subject is a role, or the bench itself: ``pump``, ``spot``, ``disk``.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo, field_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import core_schema

from labctl.config.fault import Fault, Faults, as_toml, nearest_name, unknown_name
from labctl.config.quantity import InUnit
from labctl.config.table import LongText, ShortText, Table
from labctl.roles import Reading

Action = Literal["pause", "safe", "abort"]
"""``pause``: shutter closed, wait, go on. ``safe``: whole safe state, wait, set every role anew, go on. ``abort``."""

BENCH_READINGS: dict[str, dict[str, Reading]] = {
    "pump": {
        "fluence": Reading("last_fluence_uj_cm2", "uJ/cm^2"),
        "pulse_energy": Reading("last_pulse_energy_j", "J"),
        "average_power": Reading("last_average_power_w", "W"),
    },
    "spot": {"dose": Reading("spot_dose_j_cm2", "J/cm^2")},
    "disk": {"free": Reading("free_mb", "MB")},
}
"""What the bench itself knows, by subject and quantity: last readings at the sample, dose of the spot, space."""

NEEDS_LIGHT = ("pump", "spot")
"""Subjects that do not change while a run pauses: a pause could never end."""

_FORM = (
    'ROLE.QUANTITY, then <, <=, > or >= and a value with its unit, or "is" or "is not" and a word: '
    '"detector.temperature > -50 degC", "shutter.interlock is open"'
)
_CONDITION = re.compile(
    r"\s*([A-Za-z_]\w{0,63})\s*\.\s*([A-Za-z_]\w{0,63})\s*(<=|>=|<|>|≤|≥|\bis\s+not\b|\bis\b)\s*(\S[^<>=\n]{0,79}?)\s*",
    re.ASCII,
)
_LONGEST_TEXT = 200
_SPELLINGS = {"≤": "<=", "≥": ">="}
_ORDERS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition as written; what its value means depends on the quantity.

    :param subject: A role, or ``pump``, ``spot``, ``disk``.
    :param quantity: Name of the quantity there.
    :param operator: ``<``, ``<=``, ``>``, ``>=``, ``is`` or ``is not``.
    :param value: The value as written.
    """

    subject: str
    quantity: str
    operator: str
    value: str

    @classmethod
    def parse(cls, text: object) -> Self:
        """Read a condition.

        :raises Fault: It is not of the form.
        """
        if not isinstance(text, str) or len(text) > _LONGEST_TEXT or (found := _CONDITION.fullmatch(text)) is None:
            raise Fault(as_toml(text), _FORM)
        subject, quantity, compared, value = found.groups()
        return cls(subject, quantity, _SPELLINGS.get(compared, " ".join(compared.split())), value)

    def __str__(self) -> str:
        return f"{self.subject}.{self.quantity} {self.operator} {self.value}"

    def against(self, reading: Reading) -> Comparison:
        """Get what decides whether the condition holds for what ``reading`` gives.

        :raises Fault: An order between words, a word that it cannot be, a unit that does not convert.
        """
        if reading.words:
            if self.operator not in ("is", "is not"):
                raise Fault(as_toml(str(self)), f"is or is not, with one of {', '.join(reading.words)}")
            if self.value not in reading.words:
                raise unknown_name("word", self.value, reading.words)
            return Comparison(self.operator, self.value)
        if self.operator not in _ORDERS:
            raise Fault(as_toml(str(self)), "<, <=, > or >=: the quantity is a number")
        return Comparison(self.operator, InUnit(reading.unit).parse(self.value))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        as_text = core_schema.plain_serializer_function_ser_schema(str, when_used="json")
        return core_schema.no_info_plain_validator_function(cls.parse, serialization=as_text)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"type": "string", "examples": ["detector.temperature > -50 degC", "shutter.interlock is open"]}


@dataclass(frozen=True, slots=True)
class Comparison:
    """Whether a reading fulfils a condition.

    :param operator: As in :class:`Condition`.
    :param value: A number in the unit of the reading, or a word.
    """

    operator: str
    value: float | str

    def holds(self, found: float | str) -> bool:
        """Get whether it holds for what was read."""
        if self.operator == "is":
            return found == self.value
        if self.operator == "is not":
            return found != self.value
        return _ORDERS[self.operator](float(found), float(self.value))

    def excludes(self, other: Comparison) -> bool:
        """Get whether no reading can fulfil both."""
        if isinstance(self.value, str) or isinstance(other.value, str):
            same = self.value == other.value
            return same if self.operator != other.operator else self.operator == "is" and not same
        if self.operator[0] == other.operator[0]:
            return False
        low, high = (self, other) if self.operator[0] == ">" else (other, self)
        if low.value == high.value:
            return not (low.operator == ">=" and high.operator == "<=")
        return float(low.value) > float(high.value)


class WatchConfig(Table):
    """A watch condition."""

    name: ShortText
    when: Annotated[Condition, Field(description=_FORM)]
    grace_s: Annotated[float, InUnit("s", at_least=0, at_most=86_400, example="10 s")] = Field(
        alias="grace", default=0.0
    )
    """So long it must hold before it acts."""
    action: Annotated[Action, Field(description='"pause", "safe" or "abort"')]
    resume_when: Annotated[Condition, Field(description=_FORM)] | None = None
    """When the run goes on; when ``when`` no longer holds if not given."""
    longest_pause_s: Annotated[float, InUnit("s", at_least=1, at_most=30 * 86_400, example="2 hour")] = Field(
        alias="longest_pause", default=12 * 3600.0
    )
    """A run that has waited so long ends."""
    message: LongText = ""

    @field_validator("resume_when", mode="after")
    @classmethod
    def _can_resume(cls, resume_when: Condition | None, info: ValidationInfo) -> Condition | None:
        if resume_when is not None and info.data.get("action") == "abort":
            raise Fault(as_toml(str(resume_when)), 'no resume_when with action = "abort": the run has ended')
        return resume_when


WatchTables = Annotated[
    tuple[WatchConfig, ...], Field(strict=False, max_length=64, description="one table [[watch]] for each condition")
]


def check_watches(watches: tuple[WatchConfig, ...]) -> None:
    """Check what needs no instrument: each name once, and no pause that could not end.

    :raises Faults: Every fault, with its key below ``watch``.
    """
    faults: list[Fault] = []
    for index, watch in enumerate(watches):
        if watch.name in {other.name for other in watches[:index]}:
            faults.append(Fault(as_toml(watch.name), "a name given once", key=(index, "name")))
        if watch.when.subject in NEEDS_LIGHT and watch.action != "abort":
            allowed = f'"abort": {watch.when.subject}.{watch.when.quantity} changes in the light only, so no pause ends'
            faults.append(Fault(as_toml(watch.action), allowed, key=(index, "action")))
        if watch.resume_when is not None and watch.resume_when.subject in NEEDS_LIGHT:
            allowed = "a quantity that is read while the shutter is closed"
            faults.append(Fault(as_toml(str(watch.resume_when)), allowed, key=(index, "resume_when")))
    if faults:
        raise Faults(faults)


def watch_faults(watches: Any, subjects: Collection[str], offered: Mapping[str, Mapping[str, Reading]]) -> list[Fault]:
    """Check conditions as they stand in a file against what there is to be asked; faults are keyed below ``watch``.

    :param watches: The array ``[[watch]]`` as read; what is wrong with its form is not told again.
    :param subjects: What the bench has: roles, ``disk``, and with a pump ``pump`` and ``spot``.
    :param offered: Readings by subject and name, as far as they are known.
    """
    faults: list[Fault] = []
    for index, table in enumerate(watches if isinstance(watches, list) else []):
        tests: dict[str, tuple[Condition, Comparison]] = {}
        for key in ("when", "resume_when"):
            try:
                condition = Condition.parse(table.get(key)) if isinstance(table, Mapping) else None
            except Fault:
                continue
            if condition is None:
                continue
            try:
                if condition.subject not in subjects:
                    raise unknown_name("subject", condition.subject, subjects)
                if condition.subject in offered:
                    tests[key] = (condition, condition.against(require_reading(condition, offered[condition.subject])))
            except Fault as fault:
                faults.append(Fault(fault.found, fault.allowed, nearest=fault.nearest, key=(index, key)))
        if len(tests) == 2:
            (when, trips), (resume_when, resumes) = tests["when"], tests["resume_when"]
            same = (when.subject, when.quantity) == (resume_when.subject, resume_when.quantity)
            if same and not trips.excludes(resumes):
                allowed = f"what cannot be while {when} holds"
                faults.append(Fault(as_toml(str(resume_when)), allowed, key=(index, "resume_when")))
    return faults


def require_reading(condition: Condition, offered: Mapping[str, Reading]) -> Reading:
    """Get the reading that a condition is about.

    :raises Fault: The instrument offers none of this name.
    """
    if condition.quantity in offered:
        return offered[condition.quantity]
    if not offered:
        raise Fault(
            as_toml(str(condition)),
            f"a quantity of another role: the driver for {condition.subject} offers none to watch",
        )
    names = ", ".join(sorted(offered))
    raise Fault(
        f"{as_toml(condition.quantity)}, an unknown quantity of {condition.subject}",
        names,
        nearest=nearest_name(condition.quantity, offered),
    )
