"""The form of a procedure's parameters, made from what the procedure declares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labctl.errors import ConfigError, LabctlError
from labctl.gui.fields import ParameterField
from labctl.gui.qt import QtWidgets, Signal
from labctl.run.request import procedure_class


class ParameterForm(QtWidgets.QWidget):
    """A field for each parameter; what is typed is checked by the procedure itself, at once."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.fields: dict[str, ParameterField] = {}
        self._procedure: Any = None
        self.setObjectName("clear")
        self._rows = QtWidgets.QVBoxLayout(self)
        self._rows.setContentsMargins(0, 0, 6, 0)
        self._rows.setSpacing(0)

    def show_procedure(self, name: str) -> None:
        """Make the fields of a procedure; raises LabctlError if it cannot be loaded."""
        while self._rows.count():
            item = self._rows.takeAt(0)
            widget = item.widget() if item is not None else None
            if widget is not None:
                widget.setParent(None)
                widget.deleteLater()
        self.fields = {}
        self._procedure = procedure_class(name)
        for parameter, described in self._procedure.describe()["parameters"].items():
            field = ParameterField(parameter, described)
            field.changed.connect(lambda field=field: self._edited(field))
            self.fields[parameter] = field
            self._rows.addWidget(field)
        self._rows.addStretch(1)

    def settings(self) -> dict[str, str]:
        """Get the values that differ from the defaults, by name, as text."""
        return {name: field.text() for name, field in self.fields.items() if not field.is_default and field.text()}

    def faults(self) -> dict[str, str]:
        """Get what is wrong, by name; also shows it."""
        found = {name: self._fault_of(field) for name, field in self.fields.items()}
        for name, text in found.items():
            self.fields[name].show_fault(text)
        return {name: text for name, text in found.items() if text}

    def show_problems(self, problems: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Mark the fields that a check has named; returns the problems that belong to none."""
        others = []
        for problem in problems:
            field = self.fields.get(str(problem.get("key", "")).replace("_", "-"))
            if field is None:
                others.append(problem)
            else:
                field.show_fault(_complaint(field.text(), str(problem.get("allowed", ""))))
        return others

    def _edited(self, field: ParameterField) -> None:
        field.show_fault(self._fault_of(field))
        self.changed.emit()

    def _fault_of(self, field: ParameterField) -> str:
        text = field.text()
        if not text:
            return "" if field.is_default else "a value is needed"
        try:
            self._procedure(**{field.name: text})
        except ConfigError as error:
            return "; ".join(_complaint(text, problem.allowed) for problem in error.problems)
        except LabctlError as error:
            return error.what
        return ""


def _complaint(text: str, allowed: str) -> str:
    """Say what is wrong: some parameters answer with a whole sentence on the value, others with what they accept."""
    return allowed if allowed.startswith((text, repr(text))) else f"allowed: {allowed}"
