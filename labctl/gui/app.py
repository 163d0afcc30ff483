"""Opening the window and staying until it is closed."""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path
from types import TracebackType

from labctl.errors import InputError
from labctl.gui.qt import Qt, QtCore, QtGui, QtWidgets
from labctl.gui.theme import DARK, LIGHT, apply
from labctl.gui.window import Window
from labctl.processes import end_signals

log = logging.getLogger(__name__)

_SIGNAL_LOOK_MS = 200
_DARK_BELOW = 100


def open_window(bench: str, folder: str = "runs") -> str:
    """Show the window until it is closed; returns the path of the run that goes on without it, or an empty text.

    :raises InputError: If there is no screen.
    """
    app = make_application()
    dark = app.palette().color(QtGui.QPalette.ColorRole.Window).lightness() < _DARK_BELOW
    apply(app, DARK if dark else LIGHT)
    window = Window(bench, folder)
    window.set_dark(dark)
    _survive_faults(window)
    signals = _end_on_signals(window)
    window.show()
    app.exec()
    signals.stop()
    return window.last_run


def make_application() -> QtWidgets.QApplication:
    """Make the Qt application; raises InputError where there is no screen, which Qt itself answers by aborting."""
    if sys.platform == "linux" and not any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    ):
        raise InputError(
            "there is no screen to show a window on",
            where="DISPLAY and WAYLAND_DISPLAY are not set",
            todo="use `labctl run`, `show` and `abort`; over ssh, forward the display with `ssh -X`",
        )
    QtWidgets.QApplication.setAttribute(Qt.ApplicationAttribute.AA_EnableHighDpiScaling)
    QtWidgets.QApplication.setAttribute(Qt.ApplicationAttribute.AA_UseHighDpiPixmaps)
    app = QtWidgets.QApplication(["labctl"])
    app.setApplicationName("labctl")
    if not QtGui.QFontDatabase().families():
        _add_fonts()
    return app


def _add_fonts() -> None:
    """Take Matplotlib's fonts on a system that has none: a window without letters is of no use."""
    import matplotlib

    for name in ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSansMono.ttf"):
        QtGui.QFontDatabase.addApplicationFont(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name))


def _survive_faults(window: Window) -> None:
    """Have a fault in the window logged: Qt would end the process, and with it the ABORT button."""

    def on_fault(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        log.error("a fault in the window", exc_info=(kind, error, trace))
        window.say(f"a fault in the window, report it: {kind.__name__}: {error}")

    sys.excepthook = on_fault


def _end_on_signals(window: Window) -> QtCore.QTimer:
    """Close the window on INT, TERM, HUP and BREAK. Python sees them only when its own code runs: a timer runs some."""
    for number in end_signals():
        signal.signal(number, lambda *_: window.close())
    timer = QtCore.QTimer()
    timer.timeout.connect(lambda: None)
    timer.start(_SIGNAL_LOOK_MS)
    return timer
