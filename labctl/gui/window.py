"""The window: strip, setup, plots, log. It shows a run and asks the engine; it measures nothing and holds no lease."""

from __future__ import annotations

from pathlib import Path

from labctl.clock import RealClock
from labctl.gui.discovery import Discovery
from labctl.gui.follow import Following, RunFollower
from labctl.gui.plots import CurvePlot, SpectrumPlot
from labctl.gui.prompt_bar import PromptBar
from labctl.gui.qt import Qt, QtCore, QtGui, QtWidgets
from labctl.gui.setup_panel import SetupPanel
from labctl.gui.standing import goes_on, is_live, run_word, safe_word, title_of
from labctl.gui.strip import Strip
from labctl.gui.theme import DARK, LIGHT, apply
from labctl.store.catalogue import RunSummary

TICK_MS = 40
"""25 looks per second at the newest state; what came in between is not drawn."""
SAME_KEY_MS = 50
_LOG_LINES = 500
_ABORT_KEYS = (Qt.Key.Key_Escape, Qt.Key.Key_F12)


class Window(QtWidgets.QMainWindow):
    """The main window. :meth:`tick` draws what is new; a timer calls it.

    :param bench: Bench to begin with.
    :param folder: Output folder to begin with, where runs that go on are looked for.
    """

    def __init__(self, bench: str = "simulated", folder: str = "runs") -> None:
        super().__init__()
        self._clock = RealClock()
        self._theme = LIGHT
        self.follower: RunFollower | None = None
        self._shown = -1
        self._logged: tuple[str, ...] = ()
        self._last_word = ""
        self._ended = False
        self.last_run = ""
        """After closing: the run that was shown and goes on, if there is one."""
        self._close_when_started = False
        self.strip, self.prompt, self.setup = Strip(), PromptBar(), SetupPanel(bench)
        self.setup.out.setText(folder)
        self.spectrum, self.curve = SpectrumPlot(), CurvePlot()
        self.going = QtWidgets.QListWidget()
        self.going_label = QtWidgets.QLabel("Runs that go on: choose one to attach to")
        self.log = QtWidgets.QPlainTextEdit()
        self.look = QtWidgets.QPushButton("Dark")
        self.discovery = Discovery(folder)
        self._lay_out()
        self._connect()
        self.setWindowTitle(title_of(None))
        self.strip.show_state(None, self._clock.wall())
        self.say(f"runs that go on are looked for in {folder}")
        self.timer = QtCore.QTimer(self)
        self.timer.setInterval(TICK_MS)
        self.timer.timeout.connect(self.tick)
        self.timer.start()

    def _lay_out(self) -> None:
        self.log.setReadOnly(True)
        self.log.setMaximumBlockCount(_LOG_LINES)
        self.log.setLineWrapMode(QtWidgets.QPlainTextEdit.LineWrapMode.WidgetWidth)
        self.log.setMinimumHeight(60)
        self.going.setMaximumHeight(74)
        for widget in (self.going, self.going_label):
            widget.setVisible(False)
        self.look.setObjectName("flat")
        plots = QtWidgets.QSplitter(Qt.Orientation.Horizontal)
        plots.addWidget(self.spectrum)
        plots.addWidget(self.curve)
        plots.setChildrenCollapsible(False)
        plots.setSizes([500, 500])
        right = QtWidgets.QSplitter(Qt.Orientation.Vertical)
        right.addWidget(plots)
        right.addWidget(self.log)
        right.setStretchFactor(0, 1)
        right.setSizes([560, 110])
        right.setChildrenCollapsible(False)
        left = QtWidgets.QVBoxLayout()
        left.setSpacing(6)
        left.addWidget(self.going_label)
        left.addWidget(self.going)
        left.addWidget(self.setup, 1)
        body = QtWidgets.QHBoxLayout()
        body.setSpacing(8)
        body.addLayout(left)
        body.addWidget(right, 1)
        central = QtWidgets.QWidget()
        rows = QtWidgets.QVBoxLayout(central)
        rows.setContentsMargins(8, 8, 8, 2)
        rows.setSpacing(8)
        rows.addWidget(self.strip)
        rows.addWidget(self.prompt)
        rows.addLayout(body, 1)
        self.setCentralWidget(central)
        bar = self.statusBar()
        if bar is not None:
            bar.addWidget(QtWidgets.QLabel("labctl is never the laser interlock."))
            bar.addPermanentWidget(self.look)
            bar.setSizeGripEnabled(False)
            bar.setContentsMargins(8, 0, 8, 0)
        self.resize(1366, 768)

    def _connect(self) -> None:
        self.strip.abort_clicked.connect(self.abort)
        self.strip.pause_clicked.connect(self.pause_or_go_on)
        self.prompt.answered.connect(self._answer)
        self.setup.started.connect(self._on_started)
        self.setup.said.connect(self.say)
        self.setup.folder_changed.connect(self.discovery.look_at)
        self.setup.starter.finished.connect(self._on_start_ended)
        self.going.itemClicked.connect(lambda item: self.attach(item.data(Qt.ItemDataRole.UserRole)))
        self.look.clicked.connect(self._switch_look)
        # An event filter, not a shortcut: a shortcut is dead while a list or a file dialog is open.
        self._keys = AbortKeys(self)
        app = QtWidgets.QApplication.instance()
        if app is not None:
            app.installEventFilter(self._keys)

    @property
    def now(self) -> Following | None:
        """Get the newest state of the run that is shown."""
        return self.follower.newest() if self.follower is not None else None

    def attach(self, run: str | Path) -> None:
        """Show a run from now on; the one shown before goes on unseen."""
        if self.follower is not None:
            self.follower.close()
        self.follower = RunFollower(run)
        self._shown, self._logged, self._last_word, self._ended = -1, (), "", False
        self.say(f"attached to {self.follower.path.name}")
        self.tick()

    def abort(self) -> None:
        """Ask the engine of the shown run to end it safely."""
        now = self.now
        if self.follower is None or now is None or not is_live(now):
            self.say("ABORT: no run is attached, nothing to end")
        elif self.follower.abort("ABORT in the window"):
            self.say("ABORT asked: the run ends as soon as it can, then the bench is made safe")
        else:
            self.say(
                "ABORT: the engine cannot be reached; if it is dead, its guard makes the bench safe. Look at the bench"
            )
        self.tick()

    def pause_or_go_on(self) -> None:
        """Ask the engine of the shown run to pause after the present point, or to go on."""
        now = self.now
        if self.follower is None or now is None or not now.engine.connected:
            self.say("no run goes on that could pause")
            return
        paused = now.engine.paused or now.engine.pausing
        sent = self.follower.go_on() if paused else self.follower.pause("Pause in the window")
        asked = "asked to go on" if paused else "asked to pause after the present point"
        self.say(asked if sent else "the engine cannot be reached")
        self.tick()

    def tick(self) -> None:
        """Draw what is new, and nothing else."""
        self._show_going()
        now = self.now
        self.setup.hold("a run goes on; watch it or abort it" if is_live(now) else "")
        if now is None:
            return
        self.strip.show_state(now, self._clock.wall())
        if now.sequence == self._shown:
            return
        self._shown = now.sequence
        self.setWindowTitle(title_of(now))
        self.prompt.show_question(now.engine.question)
        view = now.view
        if view is None:
            return
        self.spectrum.show_spectrum(view.spectrum)
        self.curve.show_curve(view.curve, view.threshold, view.results)
        self._show_log(now)

    def say(self, text: str) -> None:
        """Write a line into the log."""
        self._append(f"{QtCore.QTime.currentTime().toString('HH:mm:ss')}  {text}")

    def _append(self, line: str) -> None:
        self.log.appendPlainText(line)
        bar = self.log.verticalScrollBar()
        if bar is not None:
            bar.setValue(bar.maximum())

    def going_on(self) -> str:
        """Get the path of the shown run if it still goes on, else an empty text."""
        now = self.now
        return now.view.path if now is not None and now.view is not None and goes_on(now) else ""

    def closeEvent(self, a0: QtGui.QCloseEvent | None) -> None:
        """Leave; a run goes on. While one is being started, the window waits for its name."""
        if self.setup.starter.running and a0 is not None:
            self._close_when_started = True
            self.say("closing as soon as the run has begun; it goes on")
            a0.ignore()
            return
        self.timer.stop()
        app = QtWidgets.QApplication.instance()
        if app is not None:
            app.removeEventFilter(self._keys)
        self.setup.close_commands()
        self.discovery.close()
        self.last_run = self.going_on()
        if self.follower is not None:
            self.follower.close()
        super().closeEvent(a0)

    def _show_log(self, now: Following) -> None:
        """Add the lines of the run's journal that are new, and what changed in how the run stands."""
        lines = now.view.log if now.view is not None else ()
        fresh = lines[len(self._logged) :] if lines[: len(self._logged)] == self._logged else lines
        self._logged = lines
        for line in fresh:
            self._append(line)
        word = run_word(now)
        if word.text != self._last_word:
            self._last_word = word.text
            ended = "" if is_live(now) else f"; safe state {safe_word(now).text}"
            self.say(f"{word.line}{f': {word.detail}' if word.detail else ''}{ended}")
        if now.engine.final is not None and not self._ended:
            self._ended = True
            for warning in now.engine.final.get("warnings", ()):
                self.say(f"warning: {warning}")

    def _show_going(self) -> None:
        """Attach to the only run that goes on; offer a list where there are several."""
        found = self.discovery.found() or ()
        self._list(found)
        if len(found) == 1 and not is_live(self.now) and not self.setup.starter.running:
            stem = found[0].path.with_suffix("")
            if self.follower is None or self.follower.path.absolute() != stem.absolute():
                self.attach(found[0].path)

    def _list(self, found: tuple[RunSummary, ...]) -> None:
        paths = [str(summary.path) for summary in found]
        several = len(found) > 1
        self.going_label.setVisible(several)
        self.going.setVisible(several)
        shown = [self.going.item(row) for row in range(self.going.count())]
        if [item.data(Qt.ItemDataRole.UserRole) for item in shown if item is not None] == paths:
            return
        self.going.clear()
        for summary in found:
            item = QtWidgets.QListWidgetItem(f"{summary.run}{'  SIMULATED' if summary.simulated else ''}")
            item.setData(Qt.ItemDataRole.UserRole, str(summary.path))
            self.going.addItem(item)

    def _answer(self, number: int, done: bool, said: str) -> None:
        if self.follower is not None and self.follower.answer(number, done=done, said=said):
            self.say(f"operator: {'done' if done else 'refused'}{f', {said}' if said else ''}")
        else:
            self.say("the answer did not reach the engine")

    def _on_started(self, run: str) -> None:
        if not self._close_when_started:
            self.attach(run)
        else:
            self.follower = self.follower or RunFollower(run)

    def _on_start_ended(self, _answer: object) -> None:
        if self._close_when_started:
            QtCore.QTimer.singleShot(0, lambda: self.setVisible(not self.close()))

    def _switch_look(self) -> None:
        self.set_dark(self._theme is LIGHT)

    def set_dark(self, dark: bool) -> None:
        """Take the dark look, or the light one."""
        self._theme = DARK if dark else LIGHT
        self.look.setText("Light" if dark else "Dark")
        app = QtWidgets.QApplication.instance()
        if isinstance(app, QtWidgets.QApplication):
            apply(app, self._theme)
        self.spectrum.dress(self._theme)
        self.curve.dress(self._theme)


class AbortKeys(QtCore.QObject):
    """Turns Esc and F12, wherever they are typed, into an abort while a run goes on.

    :param window: Its window.
    """

    def __init__(self, window: Window) -> None:
        super().__init__(window)
        self._window = window
        self._last_ms = -SAME_KEY_MS

    def eventFilter(self, a0: QtCore.QObject | None, a1: QtCore.QEvent | None) -> bool:
        """Take the key if it is one of ours; one press arrives several times, at window, widget and parents."""
        if not isinstance(a1, QtGui.QKeyEvent) or a1.type() != QtCore.QEvent.Type.KeyPress:
            return False
        if a1.key() not in _ABORT_KEYS or not is_live(self._window.now):
            return False
        stamp_ms = round(self._window._clock.now() * 1000)
        if not a1.isAutoRepeat() and stamp_ms - self._last_ms > SAME_KEY_MS:
            self._window.abort()
        self._last_ms = stamp_ms
        return True
