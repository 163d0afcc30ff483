"""Running a command of labctl as a process of its own: what the window does, the command line can do as well."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from labctl.gui.qt import QtCore, Signal


class LabctlCommand(QtCore.QObject):
    """Runs one command at a time, ``--json`` added; tells what came of it.

    The process ends by itself, or with this object; a run that was started detached goes on all the same.
    """

    finished = Signal(dict)
    """The command's JSON object, or ``{"error": {"what": ...}}``."""

    def __init__(self) -> None:
        super().__init__()
        self._process: QtCore.QProcess | None = None

    @property
    def running(self) -> bool:
        """Get whether a command is at work."""
        return self._process is not None

    def start(self, arguments: Sequence[str]) -> None:
        """Start a command; a former one that is still at work is dropped."""
        self.drop()
        process = QtCore.QProcess(self)
        self._process = process
        process.finished.connect(lambda *_: self._ended(process))
        process.errorOccurred.connect(lambda *_: self._ended(process))
        # -P: a file of the user's in the working directory must not stand in for a module.
        process.start(sys.executable, ["-P", "-X", "utf8", "-m", "labctl.cli.main", *arguments, "--json"])
        process.closeWriteChannel()

    def drop(self) -> None:
        """End a command whose answer nobody waits for any more."""
        process, self._process = self._process, None
        if process is not None:
            process.blockSignals(True)
            process.kill()
            process.waitForFinished(2000)
            process.deleteLater()

    def _ended(self, process: QtCore.QProcess) -> None:
        if process is not self._process or process.state() != QtCore.QProcess.ProcessState.NotRunning:
            return
        self._process = None
        said = bytes(process.readAllStandardOutput()).decode("utf-8", "replace")
        complaint = bytes(process.readAllStandardError()).decode("utf-8", "replace").strip()
        process.deleteLater()
        self.finished.emit(_answer(said, complaint))


def _answer(said: str, complaint: str) -> dict[str, Any]:
    try:
        answer = json.loads(said)
    except ValueError:
        answer = None
    if isinstance(answer, dict):
        return answer
    return {"error": {"what": f"the command gave no answer: {complaint[-500:] or 'it ended without a word'}"}}


def as_typed(arguments: Sequence[str], platform: str = os.name) -> str:
    """Write a command as one would type it: a shell of POSIX and one of Windows quote otherwise."""
    command = ["labctl", *arguments]
    return shlex.join(command) if platform == "posix" else subprocess.list2cmdline(command)
