"""One field of a form for one parameter: its title, its unit, its limits, and in words what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labctl.gui.label import words
from labctl.gui.qt import Qt, QtGui, QtWidgets, Signal
from labctl.gui.theme import set_property
from labctl.report.wording import typeset


class CalmCombo(QtWidgets.QComboBox):
    """A list of choices that the mouse wheel does not change."""

    def wheelEvent(self, e: QtGui.QWheelEvent | None) -> None:
        if e is not None:
            e.ignore()


class ParameterField(QtWidgets.QWidget):
    """A field for one parameter, as ``SweepProcedure.describe()`` tells of it.

    :param name: Name on the command line.
    :param described: ``title``, ``default`` and, where there are, ``units``, ``minimum``, ``maximum``, ``choices``,
        ``description``.
    """

    changed = Signal()

    def __init__(self, name: str, described: Mapping[str, Any]) -> None:
        super().__init__()
        self.name = name
        self._default = described["default"]
        self.units = str(described.get("units") or "")
        self.editor = self._make_editor(described)
        self.editor.setToolTip(_tool_tip(name, described))
        title = words(typeset(str(described["title"])))
        title.setToolTip(self.editor.toolTip())
        title.setBuddy(self.editor)
        unit = QtWidgets.QLabel(typeset(self.units))
        unit.setProperty("role", "muted")
        unit.setMinimumWidth(46)
        self.fault = words(role="error")
        self.fault.setVisible(False)
        self.editor.setFixedWidth(100)
        grid = QtWidgets.QGridLayout(self)
        grid.setContentsMargins(0, 2, 0, 2)
        grid.setHorizontalSpacing(8)
        grid.setVerticalSpacing(1)
        grid.addWidget(title, 0, 0)
        grid.addWidget(self.editor, 0, 1)
        grid.addWidget(unit, 0, 2)
        grid.addWidget(self.fault, 1, 0, 1, 3)
        grid.setColumnStretch(0, 1)

    def _make_editor(self, described: Mapping[str, Any]) -> QtWidgets.QWidget:
        if isinstance(self._default, bool):
            box = QtWidgets.QCheckBox()
            box.setChecked(self._default)
            box.toggled.connect(self.changed)
            return box
        if described.get("choices"):
            combo = CalmCombo()
            combo.addItems([str(choice) for choice in described["choices"]])
            combo.setCurrentText(str(self._default))
            combo.currentTextChanged.connect(self.changed)
            return combo
        line = QtWidgets.QLineEdit(_text(self._default))
        line.setAlignment(Qt.AlignmentFlag.AlignRight)
        line.setPlaceholderText("not set" if self._default is None else "")
        line.textChanged.connect(self.changed)
        return line

    def text(self) -> str:
        """Get the value as it would stand on the command line; empty where nothing is set."""
        if isinstance(self.editor, QtWidgets.QCheckBox):
            return "true" if self.editor.isChecked() else "false"
        if isinstance(self.editor, QtWidgets.QComboBox):
            return self.editor.currentText()
        return with_unit(self.editor.text().strip(), self.units) if isinstance(self.editor, QtWidgets.QLineEdit) else ""

    def set_text(self, text: str) -> None:
        """Enter a value."""
        if isinstance(self.editor, QtWidgets.QCheckBox):
            self.editor.setChecked(text == "true")
        elif isinstance(self.editor, QtWidgets.QComboBox):
            self.editor.setCurrentText(text)
        elif isinstance(self.editor, QtWidgets.QLineEdit):
            self.editor.setText(text)

    @property
    def is_default(self) -> bool:
        """Get whether the field still says what the procedure does by itself."""
        if isinstance(self._default, bool):
            return self.text() == str(self._default).lower()
        return self.text() == with_unit(_text(self._default), self.units)

    def show_fault(self, text: str) -> None:
        """Mark the field and say what is wrong with it; empty text takes the mark away."""
        self.fault.setText(f"▲ {typeset(text)}" if text else "")
        self.fault.setVisible(bool(text))
        set_property(self.editor, "fault", "true" if text else "false")


def with_unit(text: str, units: str) -> str:
    """Give a bare number, or a list that ends with one, the unit that stands beside the field."""
    last = text.rpartition(",")[2].strip()
    try:
        float(last.replace("−", "-"))
    except ValueError:
        return text
    return f"{text} {units}".rstrip()


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, list | tuple):
        return ", ".join(_text(entry) for entry in value)
    return str(value)


def _tool_tip(name: str, described: Mapping[str, Any]) -> str:
    lines = [str(described["description"])] if described.get("description") else []
    low, high = described.get("minimum"), described.get("maximum")
    units = typeset(str(described.get("units") or ""))
    if low is not None and high is not None:
        lines.append(f"from {_text(low)} to {_text(high)} {units}".rstrip())
    elif low is not None:
        lines.append(f"at least {_text(low)} {units}".rstrip())
    if described["default"] is None:
        lines.append("may stay empty")
    return "\n".join([*lines, f"--set {name}=..."])
