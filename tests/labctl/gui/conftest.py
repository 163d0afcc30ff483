"""A window on no screen, and a run to look at: a live journal and endpoint, without engine and instruments."""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from labctl.run.endpoint import Endpoint
from labctl.store.journal import Journal
from labctl.store.layout import ArrayField, Column, RowLayout
from labctl.store.naming import RunPaths, allocate_run

if TYPE_CHECKING:
    from labctl.gui.qt import QtWidgets
    from labctl.gui.window import Window

if importlib.util.find_spec("PyQt5") is None or importlib.util.find_spec("pyqtgraph") is None:
    collect_ignore_glob = ["test_*.py"]  # the extra `gui` is not installed

# One size of everything, whatever machine the tests run on; read when the first window is made.
os.environ.setdefault("QT_FONT_DPI", "96")
os.environ.setdefault("QT_SCALE_FACTOR", "1")

PIXELS = 32
PATIENCE_S = 20.0
STARTED_S = 1.79e9
THRESHOLD_UJ_CM2 = 28.0
FLUENCES = np.geomspace(2.8, 140.0, 30)


def until(true: Callable[[], Any], patience_s: float = PATIENCE_S) -> None:
    """Let Qt work until something is so; fails if it never is."""
    from labctl.gui.qt import QtWidgets

    deadline = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < deadline, "it never came about"
        app = QtWidgets.QApplication.instance()
        if app is not None:
            app.processEvents()
        time.sleep(0.005)


def intensity(fluence: float) -> float:
    """A knee: slope 1 below the threshold, 4 above."""
    return 100.0 * fluence * max(1.0, fluence / THRESHOLD_UJ_CM2) ** 3


class LiveRun:
    """A run that somebody else takes: its journal grows when told to, its endpoint notes what it is asked.

    :param folder: Output folder.
    :param served: Whether its engine can be reached.
    """

    def __init__(self, folder: Path, *, simulated: bool = True, served: bool = True) -> None:
        self.asked: list[dict[str, Any]] = []
        self.status: dict[str, Any] = {"phase": "coarse", "done": 0, "planned": 30, "aborting": False, "question": None}
        commands = {"abort": self._abort, "answer": self._answer, "status": self._status}
        commands |= {"pause": self._pause, "continue": self._continue}
        self.endpoint = Endpoint(commands, lambda: None)
        self.paths: RunPaths = allocate_run(folder, "fluence-sweep", "A12", _day())
        header = {
            "run": self.paths.name,
            "procedure": "fluence-sweep",
            "sample": {"name": "A12"},
            "bench": {"name": "simulated"},
            "request": {"virtual_time": False},
            "plan": {"stages": [{"name": "coarse", "max_points": 30, "point_s": 2.0}], "start_up_s": 10.0},
            "simulated": simulated,
            "started": "2026-11-21T10:00:00+00:00",
            "default_stream": "points",
            "x": "fluence_uj_cm2",
            "signal": "band_intensity",
            "spectra": "spectrum",
        }
        self.journal = Journal.create(self.paths.journal, header)
        self.journal.add_stream("points", _layout())
        self.journal.set_axis("wavelength_nm", np.linspace(600.0, 660.0, PIXELS), "nm")
        self.count = 0
        if served:
            self.say("endpoint", {"address": self.endpoint.address})
        self.say("stage", {"name": "coarse", "points": [{}] * 30})

    @property
    def path(self) -> Path:
        """Path of its journal."""
        return self.paths.journal

    def say(self, kind: str, data: dict[str, Any]) -> None:
        """Write an event into the journal."""
        self.journal.event(kind, data, t_s=1.0, wall_s=STARTED_S)

    def _pause(self, message: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(message)
        self.status["pausing"] = True
        return {"pausing": "after the present point"}

    def _continue(self, message: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(message)
        self.status |= {"pausing": False, "paused": False}
        self.endpoint.publish({"event": "noticed", **self.status})
        return {"continuing": True}

    def add(self, count: int, *, saturated: int = 0) -> None:
        """Store points."""
        for _ in range(count):
            fluence = float(FLUENCES[self.count % len(FLUENCES)])
            row = {
                "stage": "coarse",
                "fluence_uj_cm2": fluence,
                "band_intensity": intensity(fluence),
                "exposure_s": 0.1,
                "accumulations": 3,
                "saturated_pixels": saturated,
            }
            spectrum = np.full(PIXELS, float(self.count), np.float32)
            spectrum[PIXELS // 2] = 1000.0
            mask = np.zeros(PIXELS, np.uint8)
            mask[:saturated] = 1
            arrays = {"spectrum": spectrum, "mask": mask}
            self.journal.append(
                "points", point=self.count, attempt=0, t_s=1.0, wall_s=STARTED_S, row=row, arrays=arrays
            )
            self.count += 1
        self.status["done"] = self.count
        self.endpoint.publish({"event": "point", **self.status})

    def ask(self, text: str, wants: str = "") -> None:
        """Ask the operator."""
        self.status["question"] = {"id": 7, "text": text, "wants": wants}
        self.endpoint.publish({"event": "prompt", **self.status["question"]})

    def end(self, status: str = "finished", safe_state: str | None = "confirmed") -> None:
        """End the run as the engine does: safe state, status, final word."""
        safe_report: dict[str, Any] = {}
        if safe_state is not None:
            step = {"role": "shutter", "action": "close shutter", "confirmed": safe_state == "confirmed"}
            safe_report = {"state": safe_state, "steps": [step]}
            self.say("safe_state", safe_report)
        self.journal.set_status(status, t_s=2.0, wall_s=STARTED_S)
        self.journal.close()
        report = {"status": status, "safe_state": safe_state, "safe_report": safe_report}
        report["warnings"] = ["the film looks tired"]
        self.endpoint.publish({"event": "final", "exit": 0, "report": report})
        self.endpoint.close()

    def die(self) -> None:
        """End without a word, as a killed engine does."""
        self.journal.close()
        self.endpoint.close()

    def close(self) -> None:
        """Give everything back."""
        self.journal.close()
        self.endpoint.close()

    def _abort(self, message: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(message)
        self.status["aborting"] = True
        return {"aborting": True}

    def _answer(self, message: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(message)
        self.status["question"] = None
        return {"answered": message["id"]}

    def _status(self, message: dict[str, Any]) -> dict[str, Any]:
        return dict(self.status)


def _day() -> Any:
    from datetime import date

    return date(2026, 11, 21)


def _layout() -> RowLayout:
    columns = (
        Column("stage", "text", width=16),
        Column("fluence_uj_cm2", "float", "uJ/cm^2"),
        Column("band_intensity", "float", "counts/pulse"),
        Column("exposure_s", "float", "s"),
        Column("accumulations", "int"),
        Column("saturated_pixels", "int"),
    )
    arrays = (
        ArrayField("spectrum", (PIXELS,), "float32", "counts", axis="wavelength_nm"),
        ArrayField("mask", (PIXELS,), "uint8", axis="wavelength_nm"),
    )
    return RowLayout(columns, arrays)


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Callable[..., LiveRun]]:
    """Begin a run in ``tmp_path / "runs"``."""
    begun: list[LiveRun] = []

    def begin(**options: Any) -> LiveRun:
        begun.append(LiveRun(tmp_path / "runs", **options))
        return begun[-1]

    yield begin
    for run in begun:
        run.close()


@pytest.fixture(scope="session")
def app() -> Iterator[QtWidgets.QApplication]:
    """The Qt application, one for all tests; a first window opens the files that Qt keeps open."""
    from labctl.gui.app import make_application
    from labctl.gui.qt import QtWidgets
    from labctl.gui.theme import LIGHT, apply

    made = make_application()
    apply(made, LIGHT)
    first = QtWidgets.QLabel("µ")
    first.show()
    made.processEvents()
    first.close()
    yield made


@pytest.fixture
def window(app: QtWidgets.QApplication, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Window]:
    """A window that looks for runs in ``tmp_path / "runs"``; its timer stands still, tests call ``tick``."""
    from labctl.gui import discovery, follow
    from labctl.gui.qt import QtCore
    from labctl.gui.window import Window

    monkeypatch.setattr(discovery, "LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(follow, "LOOK_EVERY_S", 0.05)
    made = Window("simulated", str(tmp_path / "runs"))
    made.timer.stop()
    made.show()
    yield made
    made.close()
    made.deleteLater()
    app.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete)
    app.processEvents()
