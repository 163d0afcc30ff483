"""What pydantic found wrong with a table, as problems with file, line, key and the nearest valid name."""

from __future__ import annotations

import copy
import re
import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from labctl.config.fault import Absent, Fault, Faults, as_toml, nearest_name
from labctl.config.quantity import InUnit
from labctl.config.toml_lines import Path, TomlLines, dotted
from labctl.errors import Problem

Model = TypeVar("Model", bound=BaseModel)

MAX_PROBLEMS = 200
"""Faults of a table that are told one by one: nobody reads more, and a file can hold 100,000."""

_QUOTED = re.compile(r"'([^']*)'")
_ABSENT = {"missing", "union_tag_not_found"}
_KINDS = {
    "string": 'text in quotes, e.g. "..."',
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number without quotes",
    "list": "an array [...]",
    "tuple": "an array [...]",
    "dict": "a table",
    "model": "a table",
    "date": "a date such as 2026-11-21",
    "finite": "a finite number",
}


def check_table(
    model: type[Model],
    data: Mapping[str, Any],
    file: str,
    lines: TomlLines,
    *,
    prefix: Path = (),
    complete: bool = True,
) -> tuple[Model | None, list[Problem]]:
    """Validate a table; return the model, or None with every problem.

    :param prefix: Keys from the document to this table.
    :param complete: False if statements with syntax errors were left out, so that absent keys mean nothing.
    """
    try:
        return model.model_validate(data), []
    except ValidationError as error:
        details = _errors_behind_tags(model, data, error)
    told = details[:MAX_PROBLEMS]
    slips = {_slip(model, detail) for detail in told if detail["type"] == "extra_forbidden"}
    problems: list[Problem] = []
    for number, detail in enumerate(details):
        path, field = _locate(model, detail)
        if len(problems) >= MAX_PROBLEMS:
            place = (*prefix, *path)
            found = f"{len(details) - number} more faults from here on"
            problems.append(Problem(file, lines.line_of(place), dotted(place), found, "none; mend those above first"))
            break
        absent = detail["type"] in _ABSENT
        if absent and (not complete or path in slips):
            continue
        for fault in _faults(model, detail, field):
            if isinstance(fault, Absent) and not complete:
                continue
            full = (*prefix, *path, *fault.key)
            line = lines.line_of(full[:-1] if absent and detail["type"] == "missing" else full)
            problems.append(Problem(file, line, dotted(full), fault.found, fault.allowed, fault.nearest))
    return None, problems


def _slip(model: type[BaseModel], detail: ErrorDetails) -> Path:
    """Get the path of the key that an unknown key was probably meant to be: it is not reported as missing as well."""
    path, _ = _locate(model, detail)
    near = nearest_name(str(path[-1]), _names(model, detail))
    return (*path[:-1], near) if near else path


def _errors_behind_tags(model: type[BaseModel], data: Mapping[str, Any], error: ValidationError) -> list[ErrorDetails]:
    """Get all errors, also those in a table whose misspelt tag (``shape = "strip"``) hides what is wrong inside."""
    kept: list[ErrorDetails] = []
    mended: dict[str, Any] | None = None
    details = error.errors(include_url=False)
    while True:
        misspelt = [(detail, near) for detail in details if (near := _nearest_tag(detail)) is not None]
        if not misspelt:
            return kept + details
        mended = copy.deepcopy(dict(data)) if mended is None else mended
        for detail, near in misspelt:
            kept.append(detail)
            table: Any = mended
            for part in _locate(model, detail)[0]:
                table = table[part]
            table[_tag_key(detail)] = near
        try:
            model.model_validate(mended)
        except ValidationError as further:
            details = further.errors(include_url=False)
        else:
            return kept


def _tag_key(detail: ErrorDetails) -> str:
    return str(detail.get("ctx", {})["discriminator"]).strip("'")


def _nearest_tag(detail: ErrorDetails) -> str | None:
    if detail["type"] != "union_tag_invalid":
        return None
    given = detail["input"][_tag_key(detail)]
    tags = _QUOTED.findall(str(detail.get("ctx", {})["expected_tags"]))
    return nearest_name(given, tags) if isinstance(given, str) else None


def _faults(model: type[BaseModel], detail: ErrorDetails, field: FieldInfo | None) -> list[Fault]:
    context = detail.get("ctx", {})
    cause = context.get("error")
    if isinstance(cause, Fault):
        return [cause]
    if isinstance(cause, Faults):
        return list(cause.faults)
    kind, value = detail["type"], detail["input"]
    if kind == "missing":
        return [Fault("no such key", f"the key is required: {_wanted(field)}")]
    if kind == "extra_forbidden":
        name, names = str(detail["loc"][-1]), list(_names(model, detail))
        return [Fault(f"an unknown key {as_toml(name)}", ", ".join(names), nearest=nearest_name(name, names))]
    if kind in ("literal_error", "enum"):
        return [_choice(value, _QUOTED.findall(str(context["expected"])))]
    if kind == "union_tag_invalid":
        tag = _tag_key(detail)
        return [_choice(value.get(tag), _QUOTED.findall(str(context["expected_tags"])), key=(tag,))]
    if kind == "union_tag_not_found":
        tag = _tag_key(detail)
        choices = sorted(tag for member in _models(field.annotation if field else None) for tag in _tags(member))
        return [Fault("no such key", f"the key is required: {', '.join(choices)}", key=(tag,))]
    for word, wanted in _KINDS.items():
        if kind.startswith((f"{word}_type", f"{word}_parsing", f"{word}_from", f"{word}_number", f"{word}_attributes")):
            return [Fault(as_toml(value), wanted)]
    return [Fault(as_toml(value), detail["msg"].removeprefix("Input should be ").removeprefix("Value error, "))]


def _choice(value: object, choices: list[str], key: Path = ()) -> Fault:
    near = nearest_name(value, choices) if isinstance(value, str) else None
    return Fault(as_toml(value), ", ".join(f'"{choice}"' for choice in choices), nearest=near, key=key)


def _wanted(field: FieldInfo | None) -> str:
    """Say what a field takes, from its unit and its description."""
    if field is None:
        return "see the description of the file format"
    units = [entry.wanted for entry in field.metadata if isinstance(entry, InUnit)]
    if units:
        return units[0]
    tables = any(_models(field.annotation))
    words = ", ".join(f'"{word}"' for word in get_args(field.annotation) if isinstance(word, str))
    return field.description or words or ("a table" if tables else getattr(field.annotation, "__name__", "a value"))


def _locate(model: type[BaseModel], detail: ErrorDetails) -> tuple[Path, FieldInfo | None]:
    """Turn pydantic's location into a path of the file (without union tags), with the field that stands there."""
    path: list[str | int] = []
    field: FieldInfo | None = None
    for part, is_key, _, found in _walk(model, detail):
        if is_key:
            path.append(part)
            field = found or field
    return tuple(path), field


def _names(model: type[BaseModel], detail: ErrorDetails) -> Iterator[str]:
    """Get the keys that are valid in the table where an unknown key was found."""
    *_, (_, _, tables, _) = _walk(model, detail)
    for table in tables:
        yield from map(str, _fields(table))


def _walk(
    model: type[BaseModel], detail: ErrorDetails
) -> Iterator[tuple[str | int, bool, list[type[BaseModel]], FieldInfo | None]]:
    """Follow a location: each part, whether it is a key of the file, the models it may belong to, and its field."""
    tables: list[type[BaseModel]] = [model]
    for part in detail["loc"]:
        if part == "[key]":
            continue
        tagged = [table for table in tables if part in _tags(table)] if len(tables) > 1 else []
        if tagged:
            tables = tagged
            yield part, False, tables, None
            continue
        here = tables
        field = next((fields[part] for fields in map(_fields, tables) if part in fields), None)
        if field is not None:
            tables = list(_models(field.annotation))
        yield part, True, here, field


def _fields(table: type[BaseModel]) -> dict[str | int, FieldInfo]:
    return {field.alias or name: field for name, field in table.model_fields.items()}


def _tags(table: type[BaseModel]) -> set[str]:
    """Get the values of the literal fields by which a union tells its members apart."""
    literals = (field.annotation for field in table.model_fields.values() if get_origin(field.annotation) is Literal)
    return {value for literal in literals for value in get_args(literal) if isinstance(value, str)}


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Get the models in an annotation, inside optionals, unions, arrays and tables of tables."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        if issubclass(annotation, BaseModel):
            yield annotation
        return
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _models(get_args(annotation)[0])
    elif origin is Union or isinstance(annotation, types.UnionType) or isinstance(origin, type):
        for argument in get_args(annotation):
            yield from _models(argument)
