"""The one place that knows how pymeasure keeps the parameters, columns and metadata of a Procedure (0.16).

Used in both directions: by our own procedures, which are pymeasure Procedures with stricter parameters, and by
:mod:`labctl.run.foreign_procedure`, which runs procedures that were written for pymeasure alone.
"""

from __future__ import annotations

import inspect
import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from pymeasure.experiment import FloatParameter, IntegerParameter, Measurable, Parameter, Procedure

from labctl.config.fault import Fault, as_toml, nearest_name
from labctl.config.quantity import InUnit
from labctl.errors import ConfigError, Problem
from labctl.store.layout import RECORD_FIELDS

_TITLE_WITH_UNIT = re.compile(r"(?P<text>.*?)\s*\((?P<unit>\S+)\)\s*")
_SPELLED = {"μ": "u", "Ω": "ohm", "°": "deg", "%": " percent"}
_LONGEST_NAME = 80


def parameters_of(procedure: Procedure) -> dict[str, Parameter]:
    """Get the parameters of a procedure by attribute name."""
    return procedure._parameters


def is_optional(parameter: Parameter) -> bool:
    """Get whether a parameter may stay unset; never one of pymeasure's own."""
    return bool(getattr(parameter, "optional", False))


def set_parameters(procedure: Procedure, values: Mapping[str, Any], title: str) -> None:
    """Set parameters at once and strictly, names with dashes or underscores.

    pymeasure itself drops unknown names, converts values only when a run begins, and rounds 2.5 to the integer 2.

    :param title: Name of the procedure, for the message.
    :raises ConfigError: naming every unknown name and every value that cannot be accepted.
    """
    parameters = parameters_of(procedure)
    problems: list[Problem] = []
    for given, value in values.items():
        name = given.replace("-", "_")
        parameter = parameters.get(name)
        if parameter is None:
            allowed = ", ".join(sorted(parameters)) or "none"
            near = nearest_name(name, parameters)
            problems.append(Problem("parameters", None, given, "an unknown name", allowed, near))
        elif value is not None or not is_optional(parameter):
            try:
                parameter.value = _strict(parameter, value)
                setattr(procedure, name, parameter.value)
            except Fault as fault:
                problems.append(Problem("parameters", None, given, fault.found, fault.allowed, fault.nearest))
            except Exception as error:
                # A parameter may be of a class of the user's own: whatever it raises, the value was not accepted.
                problems.append(Problem("parameters", None, given, as_toml(value), str(error) or type(error).__name__))
    if problems:
        raise ConfigError(problems, todo=f"see `labctl procedures` for the parameters of {title}")


def refresh_parameters(procedure: Procedure) -> None:
    """Cast all values again and enter them in pymeasure's table; unset optional ones stay unset.

    pymeasure writes an unset value into its files as nothing and reads it back as empty text.
    """
    for name, parameter in parameters_of(procedure).items():
        value = getattr(procedure, name)
        if is_optional(parameter) and (value is None or (isinstance(value, str) and not value)):
            setattr(procedure, name, None)
        else:
            parameter.value = value
            setattr(procedure, name, parameter.value)


def unset_parameters(procedure: Procedure) -> list[str]:
    """Get the names of parameters that need a value and have none."""
    parameters = parameters_of(procedure).items()
    return [name for name, entry in parameters if getattr(procedure, name) is None and not is_optional(entry)]


def parameter_data(procedure: Procedure) -> dict[str, Any]:
    """Get all values as JSON-serialisable data, floats in full precision, unset ones as None."""
    return {name: as_data(getattr(procedure, name)) for name in parameters_of(procedure)}


def parameter_units(procedure: Procedure) -> dict[str, str]:
    """Get the unit of every parameter that has one, by name."""
    units = {name: getattr(parameter, "units", None) for name, parameter in parameters_of(procedure).items()}
    return {name: str(unit) for name, unit in units.items() if unit}


def describe_parameters(procedure: Procedure) -> dict[str, dict[str, Any]]:
    """Get title, default, units, limits, choices and description of every parameter, as JSON-serialisable data."""
    described = {}
    for name, parameter in parameters_of(procedure).items():
        entry: dict[str, Any] = {"title": parameter.name, "default": as_data(parameter.default)}
        for key in ("units", "minimum", "maximum", "choices", "description"):
            value = getattr(parameter, key, None)
            if value is not None and value not in (math.inf, -math.inf):
                entry[key] = as_data(value)
        described[name.replace("_", "-")] = entry
    return described


def forget_metadata(procedure: Procedure) -> None:
    """Make metadata ready to be evaluated anew: pymeasure takes values of an earlier run for assigned by hand."""
    for name, entry in procedure.metadata_objects().items():
        if entry.fget is not None:
            setattr(procedure, name, None)


def evaluated_metadata(procedure: Procedure) -> dict[str, dict[str, Any]]:
    """Have the metadata take their present values; returns title, value and unit of each, JSON-serialisable.

    Whatever a function of the procedure raises meanwhile is passed on.
    """
    procedure.evaluate_metadata()
    return {
        name: {"title": entry.name, "value": as_data(entry.value), "unit": entry.units or ""}
        for name, entry in procedure.metadata_objects().items()
    }


class Emit(Protocol):
    """Takes what a procedure emits."""

    def __call__(self, topic: str, record: Any) -> None:
        """Take one record of a topic."""
        ...


def connect(procedure: Procedure, emit: Emit, should_stop: Callable[[], bool]) -> None:
    """Give a procedure what pymeasure's Worker would give it: where records go, and whether to stop."""
    procedure.emit = emit
    procedure.should_stop = should_stop
    procedure.is_last = lambda: True


def emit_row(procedure: Procedure, row: Mapping[str, Any]) -> None:
    """Hand a row to the Worker that runs the procedure."""
    procedure.emit("results", row)


def emit_progress(procedure: Procedure, percent: float) -> None:
    """Tell the Worker that runs the procedure how far it is."""
    procedure.emit("progress", percent)


def report_failed(procedure: Procedure) -> None:
    """Make a run that ends a failed one; a Worker keeps the status that ``shutdown()`` leaves, if it is not running."""
    procedure.status = Procedure.FAILED
    procedure.emit("status", Procedure.FAILED)


@dataclass(frozen=True, slots=True)
class ColumnTitle:
    """A column as pymeasure declares it, and what we call it.

    :param title: As in ``DATA_COLUMNS``, e.g. ``"Source Voltage (V)"``.
    :param name: In lower case with underscores, e.g. ``source_voltage``.
    :param unit: What stands in the parentheses at the end, e.g. ``V``; empty if there are none.
    """

    title: str
    name: str
    unit: str

    @property
    def text(self) -> str:
        """Get the title without its unit."""
        match = _TITLE_WITH_UNIT.fullmatch(self.title)
        return match["text"] if match else self.title


def declared_titles(procedure: type[Procedure]) -> list[str]:
    """Get the titles of a procedure's columns.

    Without ``DATA_COLUMNS``, pymeasure takes those of all Measurables of the program; here only its own count.
    """
    if procedure.DATA_COLUMNS:
        return [str(title) for title in procedure.DATA_COLUMNS]
    measurables = (member for _, member in inspect.getmembers(procedure) if isinstance(member, Measurable))
    return [member.name for member in measurables if member.measure]


def name_columns(titles: Sequence[str]) -> list[ColumnTitle]:
    """Give every column a name of its own: ``Current (A)`` and ``Current (mA)`` become ``current``, ``current_ma``."""
    named: list[ColumnTitle] = []
    taken: set[str] = set(RECORD_FIELDS)
    for title in titles:
        match = _TITLE_WITH_UNIT.fullmatch(title)
        text, unit = (match["text"], match["unit"]) if match else (title, "")
        name = free = _snake_case(text) or "column"
        if free in taken:
            name = free = f"{name}_{_snake_case(unit) or 'value'}"
        number = 2
        while free in taken:
            free, number = f"{name}_{number}", number + 1
        taken.add(free)
        named.append(ColumnTitle(title, free, unit))
    return named


def as_data(value: Any) -> Any:
    """Get a value as JSON-serialisable data; what JSON has no type for becomes text."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): as_data(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [as_data(entry) for entry in value]
    return str(value)


def _snake_case(text: str) -> str:
    spelled = "".join(_SPELLED.get(char, char) for char in unicodedata.normalize("NFKC", text))
    plain = unicodedata.normalize("NFKD", spelled.casefold()).encode("ascii", "ignore").decode()
    name = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")[:_LONGEST_NAME]
    return f"_{name}" if name[:1].isdigit() else name


def _strict(parameter: Parameter, value: Any) -> Any:
    """Check a value for one of pymeasure's own number parameters; others convert for themselves."""
    convert = type(parameter).convert
    if convert is FloatParameter.convert:
        return _number(parameter, value)
    if convert is IntegerParameter.convert:
        number = _number(parameter, value)
        if not number.is_integer():
            raise Fault(as_toml(value), f"a whole {_allowed(parameter)}")
        return int(number)
    return value


def _number(parameter: Any, value: Any) -> float:
    number = _read(parameter.units or "", value.strip()) if isinstance(value, str) else value
    if isinstance(number, bool | np.bool_) or not isinstance(number, int | float | np.integer | np.floating):
        raise Fault(as_toml(value), _allowed(parameter))
    if not (math.isfinite(number) and parameter.minimum <= number <= parameter.maximum):
        raise Fault(as_toml(value), _allowed(parameter))
    return float(number)


def _read(units: str, text: str) -> float:
    """Read a number that is alone, or carries the parameter's own unit however it is spelled, or one that converts."""
    for number in (text, text.removesuffix(units)):
        try:
            return float(number)
        except ValueError:
            continue
    return InUnit(units).parse(text)


def _allowed(parameter: Any) -> str:
    return f"number from {parameter.minimum:.12g} to {parameter.maximum:.12g} {parameter.units or ''}".rstrip()
