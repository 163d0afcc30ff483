"""The form of a procedure's parameters."""

from __future__ import annotations

from typing import ClassVar

import pytest

from labctl.gui.fields import ParameterField, with_unit
from labctl.gui.form import ParameterForm
from labctl.gui.preflight_text import verdict_of
from labctl.gui.qt import Qt, QtCore, QtGui, QtWidgets
from labctl.run.parameters import choice, flag, quantity, quantity_list, whole
from labctl.run.procedure import SweepProcedure


class Other(SweepProcedure):
    """Another one."""

    NAME: ClassVar[str] = "other"
    ROLES: ClassVar[tuple[str, ...]] = ()

    angles: int = whole("Angles", minimum=6, maximum=1000, default=25)


class Sweep(SweepProcedure):
    """A procedure with a parameter of every kind."""

    NAME: ClassVar[str] = "sweep"
    ROLES: ClassVar[tuple[str, ...]] = ()

    centre: float | None = quantity(
        "Centre", "uJ/cm^2", minimum=1e-6, maximum=1e6, optional=True, description="from the sample file if not given"
    )
    fluences: tuple[float, ...] | None = quantity_list("Listed fluences", "uJ/cm^2", minimum=1e-9)
    order: str = choice("Order", choices=("ascending", "descending"), default="ascending")
    averages: int = whole("Exposures summed", minimum=1, maximum=1000, default=3)
    exposure: float = quantity("Exposure", "s", minimum=1e-4, maximum=100.0, default=2.56)
    zero: bool = flag("Zero the meter", default=True)


@pytest.fixture
def form(app, monkeypatch: pytest.MonkeyPatch) -> ParameterForm:
    monkeypatch.setattr("labctl.gui.form.procedure_class", {"sweep": Sweep, "other": Other}.__getitem__)
    made = ParameterForm()
    made.show_procedure("sweep")
    return made


@pytest.mark.parametrize(
    ("text", "whole"),
    [("3", "3 s"), ("3 ms", "3 ms"), ("", ""), ("2.8, 5.6", "2.8, 5.6 s"), ("2, 3 s", "2, 3 s"), ("abc", "abc")],
)
def test_a_bare_number_gets_the_unit_beside_it(text: str, whole: str) -> None:
    assert with_unit(text, "s") == whole


def test_every_parameter_has_a_field_with_unit_and_limits(form: ParameterForm) -> None:
    assert list(form.fields) == sorted(["centre", "fluences", "order", "averages", "exposure", "zero"])
    exposure = form.fields["exposure"]
    assert exposure.text() == "2.56 s"
    assert "from 0.0001 to 100 s" in exposure.editor.toolTip() and "--set exposure" in exposure.editor.toolTip()
    assert "from the sample file" in form.fields["centre"].editor.toolTip()
    assert isinstance(form.fields["order"].editor, QtWidgets.QComboBox)
    assert isinstance(form.fields["zero"].editor, QtWidgets.QCheckBox)


def test_an_untouched_form_sets_nothing(form: ParameterForm) -> None:
    assert form.settings() == {}
    assert form.faults() == {}


def test_what_was_changed_is_set(form: ParameterForm) -> None:
    form.fields["averages"].set_text("5")
    form.fields["exposure"].set_text("300 ms")
    form.fields["fluences"].set_text("2.8, 28")
    form.fields["order"].set_text("descending")
    form.fields["zero"].set_text("false")
    assert form.faults() == {}
    assert form.settings() == {
        "averages": "5",
        "exposure": "300 ms",
        "fluences": "2.8, 28 uJ/cm^2",
        "order": "descending",
        "zero": "false",
    }


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("averages", "2000", "▲ 2000 lies outside 1 to 1000"),
        ("averages", "2.5", "▲ '2.5' is not a whole number from 1 to 1000"),
        ("averages", "", "▲ a value is needed"),
        ("exposure", "abc", "a number and a unit that converts to s"),
        ("exposure", "3 nm", "converts to s"),
        ("exposure", "500", "100 s"),
        ("fluences", "1, x", "uJ/cm"),
    ],
)
def test_a_fault_is_marked_where_it_is_and_said_in_words(form: ParameterForm, name: str, text: str, said: str) -> None:
    field = form.fields[name]
    field.set_text(text)
    assert field.editor.property("fault") == "true"
    assert said.replace("uJ/cm", "µJ/cm") in field.fault.text() and not field.fault.isHidden()
    assert isinstance(field.editor, QtWidgets.QLineEdit) and field.editor.text() == text, "what was typed stays"
    assert list(form.faults()) == [name]
    field.set_text("8")
    assert field.fault.isHidden() and field.editor.property("fault") == "false"


def test_an_optional_parameter_may_be_emptied_again(form: ParameterForm) -> None:
    form.fields["centre"].set_text("30")
    form.fields["centre"].set_text("")
    assert form.faults() == {} and form.settings() == {}


def test_the_mouse_wheel_edits_nothing(form: ParameterForm) -> None:
    for name in ("order", "averages"):
        before = form.fields[name].text()
        editor = form.fields[name].editor
        turn = QtGui.QWheelEvent(
            QtCore.QPointF(5, 5),
            QtCore.QPointF(5, 5),
            QtCore.QPoint(0, 0),
            QtCore.QPoint(0, -240),
            Qt.MouseButton.NoButton,
            Qt.KeyboardModifier.NoModifier,
            Qt.ScrollPhase.NoScrollPhase,
            False,
        )
        QtWidgets.QApplication.sendEvent(editor, turn)
        assert form.fields[name].text() == before


def test_another_procedure_has_other_fields(form: ParameterForm) -> None:
    form.show_procedure("other")
    assert list(form.fields) == ["angles"]
    form.fields["angles"].set_text("7")
    assert form.settings() == {"angles": "7"}


def test_problems_of_a_check_go_to_their_fields(form: ParameterForm) -> None:
    problems = [{"key": "averages", "allowed": "fewer"}, {"key": "benches", "found": "x", "allowed": "y"}]
    assert form.show_problems(problems) == problems[1:]
    assert form.fields["averages"].fault.text() == "▲ allowed: fewer"


def test_a_field_without_a_default_or_limits(app) -> None:
    field = ParameterField("note", {"title": "Note", "default": "x"})
    assert field.text() == "x" and field.is_default


def test_verdicts() -> None:
    plan = {
        "max_points": 45,
        "duration_s": 611.0,
        "start_up_s": 300.0,
        "open_s": 20.0,
        "dose_j_cm2": 68.0,
        "bounds": {"fluence_uj_cm2": [0.66, 417.0]},
    }
    answer = {"plan": plan, "refusals": [], "warnings": ["be quick"], "disk_need_mb": 1.4, "disk_free_mb": 78000.0}
    verdict = verdict_of(answer)
    assert verdict.accepted and verdict.headline == "✓ may start"
    assert verdict.lines == (
        "▲ be quick",
        "at most 45 points, about 10 min 11 s (5 min 0 s of it before the first)",
        "light on the sample for at most 20.0 s",
        "dose at most 68 J/cm²",
        "fluence 0.66 to 417 µJ/cm²",
        "disk: 1.4 MB of 78 GB free",
    )
    assert not verdict_of({**answer, "refusals": ["too much"]}).accepted
    refused = verdict_of({"error": {"what": "no such bench", "todo": "name another"}})
    assert not refused.accepted and refused.lines == ("no such bench", "→ name another")
