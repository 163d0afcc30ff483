"""A window in a process of its own, with a hand that clicks: ``window_program.py FOLDER start|watch|abort``.

It prints a JSON line whenever what it shows has changed, and closes the window once the run is over.
"""

from __future__ import annotations

import json
import os
import sys

os.environ["QT_QPA_PLATFORM"] = "offscreen"

from labctl.gui.app import make_application
from labctl.gui.qt import QtCore
from labctl.gui.theme import LIGHT, apply
from labctl.gui.window import Window

# Enough points that a second window is up before the run is over, little enough light for the limit of a spot.
PARAMETERS = {"fine-points": "250", "averages": "1", "pulses": "20", "exposure-max": "0.16 s"}
ABORT_FROM_POINTS = 15


class Hand(QtCore.QObject):
    """Clicks, and tells what there is to see."""

    def __init__(self, window: Window, action: str) -> None:
        super().__init__()
        self.window, self.action = window, action
        self.clicked = False
        self.told = ""
        self.timer = QtCore.QTimer(self)
        self.timer.timeout.connect(self.look)
        self.timer.start(10)
        if action == "start":
            window.setup.virtual.setChecked(True)
            for name, text in PARAMETERS.items():
                window.setup.form.fields[name].set_text(text)
            window.setup.check.click()

    def look(self) -> None:
        """Click if it is time, and tell what has changed."""
        window, now = self.window, self.window.now
        window.tick()
        points = now.view.done if now is not None and now.view is not None else 0
        if self.action == "start" and not self.clicked and window.setup.start.isEnabled():
            self.clicked = True
            window.setup.start.click()
        if self.action == "abort" and not self.clicked and points >= ABORT_FROM_POINTS:
            self.clicked = True
            window.strip.abort.click()
        seen = {
            "run": window.strip.run.word.whole,
            "safe": window.strip.safe.word.whole,
            "shutter": window.strip.shutter.word.whole,
            "title": window.windowTitle(),
            "points": points,
            "threshold": window.curve.words.whole,
            "found": window.setup.headline.text(),
            "path": str(now.view.path) if now is not None and now.view is not None else "",
        }
        line = json.dumps(seen)
        if line != self.told:
            self.told = line
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
        if now is not None and now.over:
            self.timer.stop()
            window.close()


def main(folder: str, action: str) -> int:
    """Show the window until the run is over."""
    app = make_application()
    apply(app, LIGHT)
    window = Window("simulated", folder)
    window.show()
    hand = Hand(window, action)
    code = app.exec()
    hand.timer.stop()
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
