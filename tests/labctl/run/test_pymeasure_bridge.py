"""What pymeasure keeps of a procedure, as we read and set it."""

# ruff: noqa: RUF012 - DATA_COLUMNS as everybody writes them for pymeasure

from __future__ import annotations

import enum
import json
from typing import Any

import numpy as np
import pytest
from pymeasure.experiment import (
    BooleanParameter,
    FloatParameter,
    IntegerParameter,
    ListParameter,
    Measurable,
    Metadata,
    Parameter,
    Procedure,
    Results,
    VectorParameter,
)

from labctl.errors import ConfigError
from labctl.run.parameters import quantity, quantity_list
from labctl.run.procedure import SweepProcedure
from labctl.run.pymeasure_bridge import (
    declared_titles,
    describe_parameters,
    evaluated_metadata,
    name_columns,
    parameter_data,
    set_parameters,
    unset_parameters,
)


class Slit(enum.Enum):
    WIDE = 1
    NARROW = 2


class Everything(Procedure):
    """Every kind of parameter that pymeasure has."""

    top = FloatParameter("Top", units="V", default=1.0, minimum=-5, maximum=5)
    signal = FloatParameter("Signal", units="a.u.", default=0.0)
    count = IntegerParameter("Count", default=3, minimum=1, maximum=100)
    fast = BooleanParameter("Fast", default=False)
    gain = ListParameter("Gain", choices=["low", "high"], default="low")
    slit = ListParameter("Slit", choices=list(Slit), default=Slit.WIDE)
    axis = VectorParameter("Axis", default=[1.0, 0.0, 0.0])
    operator = Parameter("Operator")
    DATA_COLUMNS = ["Voltage (V)"]


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("top", 1.550123456789, 1.550123456789),
        ("top", "1.550123456789", 1.550123456789),
        ("top", "2 V", 2.0),
        ("top", "2V", 2.0),
        ("top", "250 mV", 0.25),
        ("top", np.float32(0.5), 0.5),
        ("top", np.int64(3), 3.0),
        ("signal", "3.5 a.u.", 3.5),
        ("count", 7.0, 7),
        ("count", "7", 7),
        ("count", np.int32(7), 7),
        ("fast", "true", True),
        ("gain", "high", "high"),
        ("slit", "Slit.NARROW", Slit.NARROW),
        ("axis", "[0, 1, 0]", [0.0, 1.0, 0.0]),
        ("operator", "Ada", "Ada"),
    ],
)
def test_values_are_converted_at_once(name: str, given: Any, value: Any) -> None:
    procedure = Everything()
    set_parameters(procedure, {name: given}, "everything")
    found = getattr(procedure, name)
    assert found == value
    assert type(found) is type(value)
    assert procedure.parameter_objects()[name].value == value


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("tpo", 1.0, ["an unknown name", "did you mean 'top'?"]),
        ("top", "1 kg", ["1 kg", "V"]),
        ("top", "5.1", ["5.1", "-5 to 5 V"]),
        ("top", "5100 mV", ["5100 mV", "-5 to 5 V"]),
        ("top", "nan", ["nan", "-5 to 5 V"]),
        ("top", True, ["true", "-5 to 5 V"]),
        ("top", None, ["None", "-5 to 5 V"]),
        ("top", [1.0], ["array", "-5 to 5 V"]),
        ("signal", "3 counts", ["3 counts"]),
        ("count", 2.5, ["2.5", "whole number from 1 to 100"]),
        ("count", "1e9", ["1e9", "1 to 100"]),
        ("count", False, ["false", "1 to 100"]),
        ("fast", "maybe", ["maybe"]),
        ("gain", "medium", ["medium", "low", "high"]),
        ("axis", "", ['""']),
        ("axis", "[1, 2]", ["[1, 2]", "2 instead of 3"]),
    ],
)
def test_what_cannot_be_accepted_is_refused_at_once(name: str, given: Any, words: list[str]) -> None:
    procedure = Everything()
    before = parameter_data(procedure)
    with pytest.raises(ConfigError) as caught:
        set_parameters(procedure, {name: given}, "everything")
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert parameter_data(procedure) == before


def test_all_faults_are_named_together() -> None:
    with pytest.raises(ConfigError) as caught:
        set_parameters(Everything(), {"tpo": 1, "count": 2.5, "gain": "x", "top": 2.0}, "everything")
    assert [problem.key for problem in caught.value.problems] == ["tpo", "count", "gain"]


def test_names_may_have_dashes_as_on_the_command_line() -> None:
    class Dashed(Procedure):
        step_size = FloatParameter("Step", default=1.0)
        DATA_COLUMNS = ["x"]

    procedure = Dashed()
    set_parameters(procedure, {"step-size": "0.1"}, "dashed")
    assert procedure.step_size == 0.1


def test_parameters_without_a_value_are_named() -> None:
    procedure = Everything()
    assert unset_parameters(procedure) == ["operator"]
    set_parameters(procedure, {"operator": "Ada"}, "everything")
    assert unset_parameters(procedure) == []


def test_values_and_descriptions_are_data() -> None:
    procedure = Everything()
    set_parameters(procedure, {"top": 1.0 / 3.0}, "everything")
    described = json.loads(json.dumps(describe_parameters(procedure)))
    assert described["top"] == {"title": "Top", "default": 1.0, "units": "V", "minimum": -5, "maximum": 5}
    assert described["slit"]["choices"] == ["Slit.WIDE", "Slit.NARROW"]
    assert json.loads(json.dumps(parameter_data(procedure)))["top"] == 1.0 / 3.0


def test_stored_values_make_the_same_procedure_again() -> None:
    procedure = Everything()
    set_parameters(procedure, {"slit": "Slit.NARROW", "top": 0.1 + 0.2, "operator": "Ada"}, "everything")
    again = Everything()
    set_parameters(again, json.loads(json.dumps(parameter_data(procedure))), "everything")
    assert parameter_data(again) == parameter_data(procedure)


def test_metadata_take_their_value_when_asked() -> None:
    class Cold(Procedure):
        temperature = Metadata("Temperature", fget="read", units="K")
        place = Metadata("Place", default="cryostat")
        DATA_COLUMNS = ["x"]

        def read(self) -> np.float64:
            return np.float64(4.2)

    assert evaluated_metadata(Cold()) == {
        "temperature": {"title": "Temperature", "value": 4.2, "unit": "K"},
        "place": {"title": "Place", "value": "cryostat", "unit": ""},
    }


@pytest.mark.parametrize(
    ("title", "name", "unit", "text"),
    [
        ("Source Voltage (V)", "source_voltage", "V", "Source Voltage"),
        ("Current(uA)", "current", "uA", "Current"),
        ("Power (W/cm^2)", "power", "W/cm^2", "Power"),
        ("Field (V/(m*s))", "field", "V/(m*s)", "Field"),
        ("f(x) (V)", "f_x", "V", "f(x)"),
        ("Time (since start)", "time_since_start", "", "Time (since start)"),
        ("Ψ", "column", "", "Ψ"),
        ("µW", "uw", "", "µW"),
        ("2nd Harmonic", "_2nd_harmonic", "", "2nd Harmonic"),
        ("Größe", "grosse", "", "Größe"),
        ("Point", "point_value", "", "Point"),
        ("x" * 200, "x" * 80, "", "x" * 200),
    ],
)
def test_columns_get_plain_names_and_keep_their_unit(title: str, name: str, unit: str, text: str) -> None:
    (column,) = name_columns([title])
    assert (column.title, column.name, column.unit, column.text) == (title, name, unit, text)


def test_columns_never_share_a_name() -> None:
    titles = ["Current (A)", "Current (mA)", "current", "Current", "Current (A) ", "Ψ", "Φ"]
    names = [column.name for column in name_columns(titles)]
    assert names[:4] == ["current", "current_ma", "current_value", "current_value_2"]
    assert len(set(names)) == len(titles)


def test_columns_of_measurables_are_those_of_the_procedure_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Measurable, "DATA_COLUMNS", [])

    class One(Procedure):
        a = Measurable("A")
        hidden = Measurable("hidden", measure=False)

    class Two(Procedure):
        b = Measurable("B")

    assert (declared_titles(One), declared_titles(Two)) == (["A"], ["B"])


class Optional(SweepProcedure):
    NAME = "optional-of-the-test"
    DATA_COLUMNS = ["x"]

    centre: float | None = quantity("Centre", "nm", optional=True)
    lines: tuple[float, ...] | None = quantity_list("Lines", "nm")
    slit_um: float = quantity("Slit", "um", default=50.123456789)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, (None, None, 50.123456789)),
        ({"centre": "0.63 um", "lines": "600.5, 640 nm"}, (630.0, (600.5, 640.0), 50.123456789)),
    ],
)
def test_pymeasures_file_gives_our_parameters_back(tmp_path: Any, values: dict[str, Any], expected: Any) -> None:
    """pymeasure writes an unset value as nothing; stock parameters lose digits beyond the sixth."""
    path = str(tmp_path / "x.csv")
    Results(Optional(**values), path)
    loaded = Results.load(path, procedure_class=Optional).procedure
    assert (loaded.centre, loaded.lines, loaded.slit_um) == expected
