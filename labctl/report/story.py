"""What was done in a run, in sentences, from its plan and parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from labctl.report.wording import duration_text, label_text, number
from labctl.store.run import Run

Stages = list[Mapping[str, Any]]
Parameters = Mapping[str, Any]
_BEFORE = {
    "thermal-stability": "The film was held at {temperature} °C and its emission read on a schedule.",
    "uv-stability": "The sample stood under the lamp and its emission was read on a schedule.",
    "water-stability": "Water was added and the emission read on a schedule.",
    "ase-stability": "One spot was pumped shot after shot and its amplified emission read block by block.",
    "temperature-series": "The emission was read at one temperature after the other, from the lowest up.",
}


def story(run: Run) -> tuple[str, ...]:
    """Tell what was done; empty where the run has no plan."""
    plan, parameters = run.header.get("plan"), run.header.get("parameters")
    found = plan.get("stages") if isinstance(plan, Mapping) else None
    stages = [stage for stage in found if isinstance(stage, Mapping)] if isinstance(found, list) else []
    if not stages:
        return ()
    given = parameters if isinstance(parameters, Mapping) else {}
    procedure = str(run.header.get("procedure"))
    told: Callable[[str, Stages, Parameters], list[str]] = _other
    if procedure == "vsl-scan":
        told = _stripes
    elif procedure in _BEFORE:
        told = _stability
    return tuple(told(procedure, stages, given))


def _settings(stage: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = stage.get("settings")
    return [entry for entry in found if isinstance(entry, Mapping)] if isinstance(found, list) else []


def _values(stage: Mapping[str, Any], name: str) -> list[float]:
    found = [number(entry.get(name)) for entry in _settings(stage)]
    return [value for value in found if value is not None]


def _count(stage: Mapping[str, Any]) -> int:
    return int(number(stage.get("max_points")) or 0)


def _range(values: list[float], unit: str) -> str:
    low, high = min(values), max(values)
    return f"{low:.4g} {unit}" if low == high else f"{low:.4g} to {high:.4g} {unit}"


def _kind(stage: Mapping[str, Any]) -> str:
    return str(stage.get("name", "")).partition("-")[0]


def _other(procedure: str, stages: Stages, parameters: Parameters) -> list[str]:
    parts = [f"{label_text(str(stage.get('name', '')))} ({_count(stage)} points at most)" for stage in stages]
    return [f"In this order: {', '.join(parts)}."]


def _stripes(procedure: str, stages: Stages, parameters: Parameters) -> list[str]:
    said = [
        "A stripe of the film, from its edge to the far blade of the slit, was pumped, and the light that leaves"
        " through the edge was measured against the length of the stripe. The fluence is the same at all lengths."
    ]
    for stage in stages:
        name, count = _kind(stage), _count(stage)
        fluence = _values(stage, "fluence_uj_cm2")
        at = f" at {_range(fluence, 'µJ/cm²')}" if fluence else ""
        if name == "dark":
            said.append(f"Dark frames at {count} exposures.")
        elif name == "edge":
            said.append(f"{count} positions of the far blade{at}, to find the edge of the film.")
        elif name == "closed":
            said.append(f"The slit closed on the edge{at}: what is seen then is taken off all spectra.")
        elif name == "lengths":
            lengths = _values(stage, "length_um")
            reach = f", {_range(lengths, 'µm')}, from short to long" if lengths else ""
            said.append(f"{count} lengths{at}{reach}.")
        elif name == "bleach":
            said.append(f"The first {count} lengths once more, to see whether the film has changed.")
        elif name == "ses":
            said.append(
                f"A spot {_given(parameters, 'ses_width')} µm wide at {count} distances from the edge: it shows how the"
                " collection of the light falls off."
            )
        elif name == "loss":
            said.append(
                f"A stripe {_given(parameters, 'loss_length')} µm long, moved away from the edge in {count} steps: what"
                " its light loses on the way through unpumped film is the propagation loss."
            )
    return [*said, "The shutter was open only while a spectrum was taken."]


def _given(parameters: Parameters, name: str) -> str:
    value = number(parameters.get(name))
    return "?" if value is None else f"{value:.4g}"


def _stability(procedure: str, stages: Stages, parameters: Parameters) -> list[str]:
    said = [_BEFORE[procedure].format(temperature=_given(parameters, "temperature"))]
    if procedure == "water-stability" and parameters.get("uv") is True:
        said.append("The sample stood under the lamp at the same time.")
    atmosphere = str(parameters.get("atmosphere") or "")
    if atmosphere:
        known = f"Atmosphere: {atmosphere}, as stated for the run." if atmosphere != "not stated" else ""
        said.append(known or "The atmosphere was not stated.")
    cycles = number(parameters.get("cycles"))
    if procedure == "ase-stability":
        said.append(f"Pump and read: {_given(parameters, 'fluence')} µJ/cm².")
    elif cycles:
        spectra = "1 spectrum" if cycles == 1 else f"{cycles:.0f} spectra"
        said.append(
            f"A read is {spectra} of the sample, between two of the reference where there is one."
            f" Excitation of a read: {_given(parameters, 'fluence')} µJ/cm²."
        )
    said += [text for stage in stages if (text := _reads(stage))]
    if "pause_stress" in parameters:
        paused = parameters["pause_stress"] is True
        said.append(
            "The lamp was switched off while the emission was read."
            if paused
            else "The lamp stayed on while the emission was read; its light on the detector was measured and taken off."
        )
    if procedure == "ase-stability":
        return [*said, "The pump shone on the spot during each block; shots are those that the counter counted."]
    going = "" if procedure == "temperature-series" else "; the stress went on between the reads"
    return [*said, f"The excitation was on only while a spectrum was taken{going}."]


def _reads(stage: Mapping[str, Any]) -> str:
    """Tell a stage of reads with its schedule, or of something that was waited for."""
    name, count = label_text(str(stage.get("name", ""))), _count(stage)
    times = stage.get("times_s")
    due = [value for value in map(number, times) if value is not None] if isinstance(times, list) else []
    celsius = _values(stage, "temperature_c")
    if name == "dark":
        return f"Dark frames at {count} exposures."
    points = f"{count} point{'' if count == 1 else 's'}"
    text = f"Stage {name}: {points}"
    if len(due) > 1:
        first = "at once" if min(due) == 0 else f"after {duration_text(min(due))}"
        text += f", the first {first}, the last after {duration_text(max(due))}"
    kelvin = _values(stage, "temperature_k")
    if kelvin:
        text += f", {_range(kelvin, 'K')}"
    if celsius:
        text += f", {_range(celsius, '°C')}"
    return f"{text}."
