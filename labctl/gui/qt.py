"""The one place that names the Qt binding; everything else of the window takes Qt from here."""

from __future__ import annotations

import os

from labctl.errors import InputError

# pyqtgraph would otherwise take the first binding it finds, and two in one process do not get on.
os.environ["PYQTGRAPH_QT_LIB"] = "PyQt5"

try:
    import pyqtgraph as pg
    from PyQt5 import QtCore, QtGui, QtWidgets
except ImportError as error:
    raise InputError(
        f"the window needs PyQt5 and pyqtgraph: {error}",
        state="nothing was moved; the command line works without them",
        todo='pip install "labctl-bench[gui]"',
    ) from error

Qt = QtCore.Qt
Signal = QtCore.pyqtSignal

__all__ = ["Qt", "QtCore", "QtGui", "QtWidgets", "Signal", "pg"]
