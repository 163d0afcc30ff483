"""What a run of a campaign takes from earlier ones: whose result, what becomes of it, and whether it can be used."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pymeasure.experiment import FloatParameter, IntegerParameter, Parameter

from labctl.config.fault import Fault, as_toml, nearest_name
from labctl.config.from_result import FromResult
from labctl.config.quantity import parse_quantity
from labctl.errors import LabctlError
from labctl.run.parameters import QuantityList
from labctl.run.pymeasure_bridge import parameters_of
from labctl.run.request import procedure_class

FLUENCE = "uJ/cm^2"
_DIFFERENCES = {"degC": "K"}
"""The unit of a difference, where a unit has an origin of its own."""
_DIGITS = 6
_WORDS = ("at least", "at most")
_KEPT = ("value", "unit", "ci68", "ci95", "convention", "definition", "reason")


@dataclass(frozen=True)
class Reference:
    """A parameter that takes its value from an earlier run.

    :param source: As the file says it.
    :param number: Number of that run in the queue.
    """

    source: FromResult
    number: int


@dataclass(frozen=True)
class Resolved:
    """The value of a parameter and where it came from.

    :param value: As it stands in a request: text with a unit.
    :param origin: ``run`` (name), ``path``, ``result``, ``field``, ``found`` (text), ``times``, ``plus``; or
        ``fallback`` true and ``why``.
    """

    parameter: str
    value: str
    origin: Mapping[str, Any]

    @property
    def text(self) -> str:
        """Get in one line what it is and where it came from."""
        origin = self.origin
        if origin.get("fallback"):
            return f"{self.parameter} = {self.value}, the fallback, because {origin['why']}"
        factors = ", ".join(f"{factor:g}" for factor in origin["times"])
        plus = f" + {origin['plus']}" if origin["plus"] else ""
        field = "" if origin["field"] == "value" else f" ({origin['field']})"
        times = f" x {factors}" if factors != "1" else ""
        source = f"{origin['result']}{field} = {origin['found']} of {origin['run']}"
        return f"{self.parameter} = {self.value}, from {source}{times}{plus} ({origin['path']})"


class Unusable(LabctlError):
    """There is no such result, or it cannot be used as the parameter."""


def compact_results(result: Any) -> dict[str, dict[str, Any]]:
    """Get of the results of a run what the queue keeps: by name, those within others by ``name.inner``."""
    return dict(_entries(result)) if isinstance(result, Mapping) else {}


def _entries(result: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, entry in result.items():
        if not isinstance(entry, Mapping):
            continue
        if "value" in entry:
            yield f"{prefix}{name}", {key: entry[key] for key in _KEPT if entry.get(key) is not None}
        elif not prefix:
            yield from _entries(entry, f"{name}.")


def parameter_of(procedure: str, name: str) -> Parameter | None:
    """Get a parameter of a procedure by name, dashes or underscores; None if there is none.

    :raises InputError: There is no such procedure.
    """
    found = parameters_of(procedure_class(procedure)())
    return found.get(name.replace("-", "_"))


def resolve(
    name: str,
    source: FromResult,
    results: Mapping[str, Mapping[str, Any]],
    parameter: Parameter,
    *,
    run: str,
    path: str,
    convention: str | None = None,
) -> Resolved:
    """Get the value of a parameter from the results of an earlier run.

    :param results: Of that run, as :func:`compact_results` gives them.
    :param run: Name of that run; ``path`` is that of its file.
    :param convention: That of the bench by which a fluence is meant, if it has one.
    :raises Unusable: there is no such result, it has another unit or convention, or it lies beyond the bounds.
    """
    entry = results.get(source.result)
    if entry is None:
        near = nearest_name(source.result, results)
        known = f"did you mean {near!r}?" if near else f"it has {', '.join(results) or 'none'}"
        raise Unusable(f"{run} has no result {source.result!r}; {known}")
    number = _number(source, entry, run)
    unit = _unit(entry)
    theirs = entry.get("convention")
    if convention and theirs and theirs != convention and _is_fluence(unit):
        raise Unusable(
            f"{source.result} of {run} is a fluence by the convention {theirs}, this bench means {convention}",
            todo=f'take result = "threshold_by_convention.{convention}"',
        )
    wanted = unit_of(parameter)
    try:
        base = parse_quantity(f"{number!r} {unit}".strip(), wanted)
        plus = _difference(source, wanted)
        values = [factor * base + plus for factor in source.factors]
        _require_within(source, wanted, values)
    except Fault as fault:
        raise Unusable(f"{source.result} of {run} gives {fault.found}; allowed: {fault.allowed}") from fault
    text = as_text(values, parameter)
    found = f"{number:.6g} {unit}".strip()
    origin = {"run": run, "path": path, "result": source.result, "field": source.field, "found": found}
    return Resolved(name, text, {**origin, "times": list(source.factors), "plus": source.plus or ""})


def fall_back(name: str, source: FromResult, why: str) -> Resolved:
    """Get the value that is taken instead of a result that cannot be used."""
    value = source.fallback
    return Resolved(name, value if isinstance(value, str) else repr(value), {"fallback": True, "why": why})


def as_text(values: Sequence[float], parameter: Parameter) -> str:
    """Write values as a request has them: with the parameter's unit, whole where it counts something."""
    whole = isinstance(parameter, IntegerParameter)
    words = [str(round(value)) if whole else f"{value:.{_DIGITS}g}" for value in values]
    return f"{', '.join(words)} {unit_of(parameter)}".strip()


def trial_values(source: FromResult, parameter: Parameter) -> tuple[list[str], bool]:
    """Get values with which a run is checked before its real one is known, and whether they bound that one from above.

    The lowest and the highest that may come, and the fallback. Without bounds it is the parameter's own default, its
    middle, or 1: that tells whether the unit fits, not whether the limits hold.

    :raises Fault: a bound, the term or the fallback does not fit the parameter.
    """
    unit, factors = unit_of(parameter), source.factors
    if not isinstance(parameter, FloatParameter | IntegerParameter | QuantityList):
        raise Fault("the result of a run", "a value: this parameter is no number")
    if unit in _DIFFERENCES and factors != (1.0,):
        raise Fault(f"times = {as_toml(source.times)} of a temperature in {unit}", 'plus, with a difference in "K"')
    if len(factors) > 1 and not isinstance(parameter, QuantityList):
        raise Fault(f"{len(factors)} values", "one: this parameter is no list")
    _difference(source, unit)
    low, high = _bounds(source, unit)
    if low is not None and high is not None and low > high:
        raise Fault(
            f"at_least = {as_toml(source.at_least)} above at_most = {as_toml(source.at_most)}", "the lower first"
        )
    trials = [[low * share for share in _shares(factors, min(factors))]] if low is not None else []
    trials += [[high * share for share in _shares(factors, max(factors))]] if high is not None else []
    texts = [as_text(values, parameter) for values in trials]
    if source.fallback is not None:
        texts.append(fall_back("", source, "").value)
    if not texts:
        middle = _some_value(parameter)
        texts.append(as_text([middle * share for share in _shares(factors, max(factors))], parameter))
    return texts, high is not None


def _bounds(source: FromResult, unit: str) -> tuple[float | None, float | None]:
    low, high = (None if bound is None else parse_quantity(bound, unit) for bound in _given(source))
    return low, high


def _given(source: FromResult) -> tuple[str | None, str | None]:
    return source.at_least, source.at_most


def _shares(factors: Sequence[float], end: float) -> list[float]:
    """Get the factors as shares of the one at an end; all 1 where there is nothing to share."""
    return [factor / end if end > 0 else 1.0 for factor in factors]


def _some_value(parameter: Parameter) -> float:
    default = parameter.default
    if isinstance(default, int | float) and not isinstance(default, bool):
        return float(default)
    given = [getattr(parameter, key, None) for key in ("minimum", "maximum")]
    low, high = (float(end) if isinstance(end, int | float) and math.isfinite(end) else None for end in given)
    if low is not None and high is not None and low > 0:
        return math.sqrt(low * high)
    return min(max(1.0, low if low is not None else 1.0), high if high is not None else math.inf)


def _require_within(source: FromResult, unit: str, values: Sequence[float]) -> None:
    low, high = _bounds(source, unit)
    for value in values:
        if (low is not None and value < low) or (high is not None and value > high):
            bounds = [f"{word} {bound}" for word, bound in zip(_WORDS, _given(source), strict=True) if bound]
            raise Fault(f"{value:.6g} {unit}".strip(), ", ".join(bounds))


def _number(source: FromResult, entry: Mapping[str, Any], run: str) -> float:
    name, _, end = source.field.partition(".")
    value: Any = entry.get(name)
    if end:
        value = value[int(end)] if isinstance(value, list | tuple) and len(value) == 2 else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e300:
        why = f": {entry['reason']}" if entry.get("reason") else ""
        raise Unusable(f"{source.result} of {run} has no {source.field}{why}")
    return float(value)


def _unit(entry: Mapping[str, Any]) -> str:
    unit = str(entry.get("unit") or "")
    return "" if unit == "1" else unit


def unit_of(parameter: Parameter) -> str:
    """Get the unit of a parameter, as pint writes it; empty for a plain number."""
    return str(getattr(parameter, "units", None) or "")


def _difference(source: FromResult, unit: str) -> float:
    if not isinstance(source.plus, str):
        if source.plus and unit:
            raise Fault(f"plus = {source.plus:g}, a number without a unit", f'text with a unit, e.g. "1 {unit}"')
        return source.plus
    return parse_quantity(source.plus, _DIFFERENCES.get(unit, unit))


def _is_fluence(unit: str) -> bool:
    try:
        parse_quantity(f"1 {unit}", FLUENCE)
    except Fault:
        return False
    return True


Warn = Callable[[str], object]


def check_source(source: FromResult, procedure: str, warn: Warn, unit: str) -> None:
    """Check that a procedure has such a result, as far as it says which it has, and in a unit that converts.

    :param procedure: Name of the procedure of the run that the result is taken from.
    :param warn: Told of what cannot be checked.
    :param unit: That of the parameter.
    :raises Fault: it has no such result, or one in another unit.
    """
    declared: Mapping[str, str] = getattr(procedure_class(procedure), "RESULTS", {})
    known = declared.get(source.result)
    if known is None:
        near = nearest_name(source.result, declared)
        if near is not None and "." not in source.result:
            raise Fault(f"{as_toml(source.result)}, no result of {procedure}", ", ".join(declared), nearest=near)
        warn(f"{procedure} does not say whether it has a result {source.result!r}: that is seen when it has run")
        return
    try:
        parse_quantity(f"1 {known}" if known not in ("", "1") else "1", unit)
    except Fault as fault:
        raise Fault(
            f"{as_toml(source.result)}, a result of {procedure} in {known or 'no unit'}", f"one that converts to {unit}"
        ) from fault
