"""The bar that shows what an operator is to do; it blocks nothing, ABORT least of all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labctl.gui.label import words
from labctl.gui.qt import QtWidgets, Signal


class PromptBar(QtWidgets.QFrame):
    """Shows an operator's question until it is answered, here or in another front."""

    answered = Signal(int, bool, str)
    """Number of the question, whether it is done, and what was typed."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("prompt")
        self._question: Mapping[str, Any] | None = None
        self._answered: Any = None
        self.text = words(role="heading")
        self.said = QtWidgets.QLineEdit()
        self.done = QtWidgets.QPushButton("Done")
        self.refuse = QtWidgets.QPushButton("Refuse (aborts the run)")
        self.done.clicked.connect(lambda: self._answer(done=True))
        self.said.returnPressed.connect(lambda: self._answer(done=True))
        self.refuse.clicked.connect(lambda: self._answer(done=False))
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(12, 8, 12, 8)
        row.addWidget(self.text, 1)
        for widget in (self.said, self.done, self.refuse):
            row.addWidget(widget)
        self.setVisible(False)

    def show_question(self, question: Mapping[str, Any] | None) -> None:
        """Show a question, or none; one that was answered here stays hidden until the engine drops it."""
        number = question.get("id") if question is not None else None
        shown = self._question.get("id") if self._question is not None else None
        if question is None or number == self._answered:
            self._question = None
            self.setVisible(False)
            if question is None:
                self._answered = None
            return
        if number == shown:
            return
        self._question = question
        wants = str(question.get("wants") or "")
        self.text.setText(f"OPERATOR:  {question.get('text', '')}")
        self.said.clear()
        self.said.setPlaceholderText(wants)
        self.said.setVisible(bool(wants))
        self.setVisible(True)

    def _answer(self, *, done: bool) -> None:
        question, said = self._question, self.said.text().strip()
        if question is None:
            return
        if done and question.get("wants") and not said:
            self.said.setFocus()
            return
        self._answered = question.get("id")
        self._question = None
        self.setVisible(False)
        self.answered.emit(int(question.get("id", 0)), done, said)
