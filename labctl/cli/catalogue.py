"""What there is: procedures, drivers, samples."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from labctl.cli.output import print_json, say, show
from labctl.config.bench import load_bench
from labctl.config.locate import list_shipped
from labctl.config.registry import driver_entries
from labctl.config.sample import load_sample
from labctl.errors import LabctlError
from labctl.run.request import PROCEDURES, procedure_class


def procedures(*, as_json: bool) -> int:
    """List procedures with parameters, units and limits; one that cannot be loaded does not hide the others."""
    described, failures = [], []
    for name in sorted({entry.name for entry in entry_points(group=PROCEDURES)}):
        try:
            described.append(procedure_class(name).describe())
        except LabctlError as error:
            failures.append(error)
    if as_json:
        print_json({"procedures": described, "failures": [error.as_dict() for error in failures]})
        return 0
    for procedure in described:
        roles = [*procedure["roles"], *(f"{role} if there is one" for role in procedure["optional_roles"])]
        show(f"{procedure['name']}: {procedure['title']}  [{', '.join(roles)}]")
        for name, parameter in procedure["parameters"].items():
            show(f"  {name:22} {_describe(parameter)}")
    for error in failures:
        say(f"error: {error}")
    return 0


def _describe(parameter: dict[str, Any]) -> str:
    text = parameter["title"]
    if parameter.get("units"):
        text += f", in {parameter['units']}"
    if "minimum" in parameter or "maximum" in parameter:
        text += f", {parameter.get('minimum', '')} to {parameter.get('maximum', '')}"
    if parameter.get("choices"):
        text += f", one of {', '.join(map(str, parameter['choices']))}"
    if parameter["default"] is not None:
        text += f" (default {parameter['default']})"
    return text


def drivers(*, as_json: bool) -> int:
    """List drivers by name; one that cannot be loaded does not hide the others."""
    found, failures = [], []
    for name, entry in sorted(driver_entries().items()):
        try:
            driver = entry.load()
        except Exception as error:  # a driver of another package may fail in any way at its import
            failures.append({"name": name, "driver": entry.value, "error": f"{type(error).__name__}: {error}"})
            continue
        found.append({"name": name, "role": getattr(driver, "ROLE", ""), "text": _first_line(driver)})
    if as_json:
        print_json({"drivers": found, "failures": failures})
        return 0
    for driver in found:
        show(f"{driver['name']:22} {driver['role']:14} {driver['text']}")
    for failure in failures:
        say(f"error: {failure['name']} cannot be loaded from {failure['driver']}: {failure['error']}")
    return 0


def _first_line(driver: Any) -> str:
    return (driver.__doc__ or "").strip().partition("\n")[0]


def samples(*, as_json: bool) -> int:
    """List shipped samples and benches."""
    shipped = {name: load_sample(name).sample for name in list_shipped("samples")}
    benches = {name: load_bench(name, check_drivers=False).description for name in list_shipped("benches")}
    if as_json:
        described = {name: sample.model_dump(mode="json") for name, sample in shipped.items()}
        print_json({"samples": described, "benches": benches})
        return 0
    for name, sample in shipped.items():
        show(f"sample {name:24} {sample.material}, {sample.form}")
    for name, description in benches.items():
        show(f"bench  {name:24} {description}")
    return 0
