"""The strip at the top: how the run stands, shutter, safe state, SIMULATED, and the ABORT button."""

from __future__ import annotations

from labctl.gui.follow import Following
from labctl.gui.label import ElidedLabel
from labctl.gui.qt import QtCore, QtWidgets, Signal
from labctl.gui.standing import NEUTRAL, WARN, Word, is_live, progress_of, run_word, safe_word, shutter_word
from labctl.gui.theme import set_property

_STEPS = 1000


class Chip(QtWidgets.QFrame):
    """One state of the strip: its name, its word, and a second line.

    :param name: What it is the state of.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.setObjectName("chip")
        self.setProperty("tone", NEUTRAL)
        self.name = ElidedLabel(name, "name")
        self.word = ElidedLabel("", "word")
        self.detail = ElidedLabel("", "detail")
        font = self.font()
        font.setPointSizeF(font.pointSizeF() * 0.85)
        self.name.setFont(font)
        self.detail.setFont(font)
        self.rows = QtWidgets.QVBoxLayout(self)
        self.rows.setContentsMargins(10, 5, 10, 5)
        self.rows.setSpacing(1)
        for label in (self.name, self.word, self.detail):
            label.setMinimumHeight(label.fontMetrics().height())
            self.rows.addWidget(label)

    def show_word(self, word: Word) -> None:
        """Show a state."""
        self.word.say(word.line)
        self.detail.say(word.detail)
        set_property(self, "tone", word.tone)


class Strip(QtWidgets.QWidget):
    """The strip."""

    abort_clicked = Signal()
    pause_clicked = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.run, self.points = Chip("RUN"), Chip("PROGRESS")
        self.shutter, self.safe = Chip("SHUTTER"), Chip("SAFE STATE")
        self.simulated = Chip("INSTRUMENTS")
        self.simulated.show_word(Word("◇", "SIMULATED", WARN, "emulators take part"))
        self.simulated.setVisible(False)
        self.bar = QtWidgets.QProgressBar()
        self.bar.setRange(0, _STEPS)
        self.bar.setTextVisible(False)
        self.points.rows.addWidget(self.bar)
        self.abort = QtWidgets.QPushButton("■  ABORT\nEsc · F12")
        self.abort.setObjectName("abort")
        self.abort.setFocusPolicy(QtCore.Qt.FocusPolicy.NoFocus)
        self.abort.setMinimumWidth(130)
        self.abort.setToolTip(
            "Ends the run as soon as it can and makes the bench safe.\n"
            "This is software: it is never the laser interlock."
        )
        self.abort.setSizePolicy(QtWidgets.QSizePolicy.Policy.Fixed, QtWidgets.QSizePolicy.Policy.Expanding)
        self.abort.clicked.connect(self.abort_clicked)
        self.pause = QtWidgets.QPushButton()
        self.pause.setFocusPolicy(QtCore.Qt.FocusPolicy.NoFocus)
        self.pause.setMinimumWidth(100)
        self.pause.setSizePolicy(QtWidgets.QSizePolicy.Policy.Fixed, QtWidgets.QSizePolicy.Policy.Expanding)
        self.pause.clicked.connect(self.pause_clicked)
        for chip in (self.run, self.shutter, self.safe, self.simulated):
            chip.rows.addStretch(1)
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(6)
        for chip, stretch in (
            (self.run, 5),
            (self.points, 5),
            (self.shutter, 4),
            (self.safe, 4),
            (self.simulated, 4),
        ):
            row.addWidget(chip, stretch)
        row.addWidget(self.pause)
        row.addWidget(self.abort)
        self.setFixedHeight(self.sizeHint().height())

    def show_state(self, now: Following | None, wall_s: float) -> None:
        """Show how a run stands.

        :param wall_s: Unix time, for the time left.
        """
        self.run.show_word(run_word(now))
        share, points = progress_of(now, wall_s)
        self.points.show_word(points)
        self.bar.setValue(round(_STEPS * share))
        self.shutter.show_word(shutter_word(now))
        self.safe.show_word(safe_word(now))
        self.simulated.setVisible(now is not None and now.view is not None and now.view.simulated)
        set_property(self.abort, "idle", not is_live(now))
        engine = now.engine if now is not None else None
        self.pause.setEnabled(engine is not None and engine.connected and not engine.aborting)
        paused = engine is not None and (engine.paused or engine.pausing)
        self.pause.setText("▶  Continue" if paused else "❚❚  Pause")
        self.pause.setToolTip(
            "Goes on; every instrument is set up anew first."
            if paused
            else "Pauses after the present point, with the shutter closed."
        )
