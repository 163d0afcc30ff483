"""Labels that never widen the window."""

from __future__ import annotations

from labctl.gui.qt import Qt, QtGui, QtWidgets


class ElidedLabel(QtWidgets.QLabel):
    """One line that is cut with an ellipsis where it does not fit; the tool tip has all of it.

    :param role: What the style sheet calls it.
    """

    def __init__(self, text: str = "", role: str = "") -> None:
        super().__init__()
        self._whole = ""
        self.setProperty("role", role)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setSizePolicy(QtWidgets.QSizePolicy.Policy.Ignored, QtWidgets.QSizePolicy.Policy.Fixed)
        self.setMinimumHeight(self.fontMetrics().height())
        self.say(text)

    @property
    def whole(self) -> str:
        """Get the text, also what is cut."""
        return self._whole

    def say(self, text: str) -> None:
        """Show a text."""
        if text != self._whole:
            self._whole = text
            self._elide()

    def resizeEvent(self, a0: QtGui.QResizeEvent | None) -> None:
        super().resizeEvent(a0)
        self._elide()

    def _elide(self) -> None:
        room = max(self.contentsRect().width() - 2 * max(self.indent(), 0), 0)
        shown = self.fontMetrics().elidedText(self._whole, Qt.TextElideMode.ElideRight, room)
        self.setText(shown)
        self.setToolTip(self._whole if shown != self._whole else "")


def words(text: str = "", role: str = "") -> QtWidgets.QLabel:
    """Make a label that wraps, of plain text."""
    label = QtWidgets.QLabel(text)
    label.setProperty("role", role)
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setWordWrap(True)
    label.setMinimumWidth(0)
    return label
