"""Real runs under windows that die, come twice, abort, and lose their engine."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from labctl.gui.standing import is_live
from labctl.gui.window import Window
from labctl.run.endpoint import EndpointClient
from labctl.run.front import RunFront, run_to_end
from labctl.run.request import RunRequest
from labctl.store.naming import find_run
from labctl.store.run import open_run

from .conftest import until
from .window_program import PARAMETERS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.skipif(os.name != "posix", reason="signals, Unix sockets"),
]

PATIENCE_S = 150.0
PROGRAM = Path(__file__).with_name("window_program.py")
Seen = dict[str, Any]


class WindowProcess:
    """A window in a process of its own."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.last: Seen = {}

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self._lines.put(line)
        self._lines.put(None)

    def until(self, true: Callable[[Seen], bool]) -> Seen:
        """Wait until it shows something."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            line = self._lines.get(timeout=max(deadline - time.monotonic(), 0.01))
            assert line is not None, f"the window ended: {self.last}; {self.complaint()}"
            self.last = json.loads(line)
            if true(self.last):
                return self.last

    def end(self) -> Seen:
        """Wait until it closes by itself; returns what it showed last."""
        while (line := self._lines.get(timeout=PATIENCE_S)) is not None:
            self.last = json.loads(line)
        assert self.process.wait(PATIENCE_S) == 0, self.complaint()
        return self.last

    def complaint(self) -> str:
        return self.process.stderr.read() if self.process.stderr is not None else ""

    def close(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


@pytest.fixture
def show(tmp_path: Path) -> Iterator[Callable[[str], WindowProcess]]:
    """Open a window in another process."""
    opened: list[WindowProcess] = []

    def begin(action: str) -> WindowProcess:
        opened.append(WindowProcess([sys.executable, str(PROGRAM), str(tmp_path / "runs"), action]))
        return opened[-1]

    yield begin
    for one in opened:
        one.close()


def request(folder: Path) -> RunRequest:
    parameters = {name.replace("-", "_"): text for name, text in PARAMETERS.items()}
    return RunRequest(
        procedure="fluence-sweep",
        bench="simulated",
        parameters=parameters,
        out=str(folder),
        virtual_time=True,
        lease=False,
    )


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The outcome of the same run without any window."""
    outcome = run_to_end(request(tmp_path_factory.mktemp("alone")))
    assert outcome["status"] == "finished"
    return outcome


@pytest.fixture
def detach(tmp_path: Path) -> Iterator[Callable[[], RunFront]]:
    """Start a run that goes on by itself, in ``tmp_path / "runs"``; it is aborted with the test."""
    begun: list[RunFront] = []

    def begin() -> RunFront:
        begun.append(RunFront(request(tmp_path / "runs")))
        assert begun[-1].wait_started() is not None
        return begun[-1]

    yield begin
    for front in begun:
        front.abort("the test is over")
        for _ in front.events():
            pass
        front.close()


def outcome_of(front: RunFront) -> dict[str, Any]:
    """Wait for the end of a run."""
    for _ in front.events():
        pass
    # What the fixture asks for later must find an end again.
    front._events.put(None)
    return front.outcome()


def assert_same_data(first: str, second: str) -> None:
    """Rows, spectra and results, bit by bit; only the wall's time differs."""
    with open_run(first) as one, open_run(second) as two:
        assert one.status == two.status == "finished"
        assert one.streams == two.streams
        for stream, layout in one.streams.items():
            assert one.count(stream) == two.count(stream) > 0
            for name in ("point", "attempt", "t_s", *(column.name for column in layout.columns)):
                np.testing.assert_array_equal(one.column(name, stream), two.column(name, stream), err_msg=name)
            for array in layout.arrays:
                np.testing.assert_array_equal(one.array(array.name, stream)[:], two.array(array.name, stream)[:])
        assert len(one.results) == len(two.results) == 1
        assert json.dumps(one.results[0].data, sort_keys=True) == json.dumps(two.results[0].data, sort_keys=True)


def assert_finished(seen: Seen) -> None:
    assert (seen["run"], seen["safe"], seen["shutter"]) == ("✓ FINISHED", "✓ CONFIRMED", "✓ CLOSED")
    assert seen["threshold"].startswith("threshold 2") and "SIMULATED" in seen["title"]


def test_a_window_killed_in_the_middle_changes_nothing(show, alone: dict[str, Any]) -> None:
    first = show("start")
    seen = first.until(lambda seen: seen["points"] >= 15)
    assert seen["run"] == "▶ RUNNING" and "SIMULATED" in seen["title"]
    first.process.send_signal(signal.SIGKILL)
    first.process.wait(PATIENCE_S)
    second = show("watch")
    seen = second.until(lambda seen: seen["run"] == "▶ RUNNING")
    assert seen["path"] == first.last["path"]
    assert_finished(second.end())
    sealed = find_run(seen["path"]).sealed
    assert sealed is not None
    assert_same_data(str(sealed), alone["run"])


def test_two_windows_do_not_disturb(show, detach: Callable[[], RunFront], alone: dict[str, Any]) -> None:
    windows = [show("watch"), show("watch")]
    for window in windows:
        window.until(lambda seen: seen["run"] == "– no run")
    front = detach()
    for window in windows:
        window.until(lambda seen: seen["run"] == "▶ RUNNING")
    for window in windows:
        assert_finished(window.end())
    assert_same_data(outcome_of(front)["run"], alone["run"])


def test_abort_from_the_window(show, detach: Callable[[], RunFront]) -> None:
    window = show("abort")
    window.until(lambda seen: seen["run"] == "– no run")
    front = detach()
    seen = window.end()
    assert (seen["run"], seen["safe"], seen["shutter"]) == ("■ ABORTED", "✓ CONFIRMED", "✓ CLOSED")
    outcome = outcome_of(front)
    assert (outcome["status"], outcome["safe_state"], outcome["exit"]) == ("aborted", "confirmed", 3)
    assert "ABORT in the window" in outcome["error"]["where"]
    assert outcome["points"]["done"] >= 15


def points_seen(window: Window) -> int:
    """Get how many points the window has read; none before it has opened the journal."""
    return window.now.view.done if window.now is not None and window.now.view is not None else 0


def test_the_window_outlives_the_engine(window: Window, detach: Callable[[], RunFront]) -> None:
    front = detach()
    until(lambda: window.tick() or points_seen(window) >= 15, PATIENCE_S)
    guard = psutil.Process(front._guard.pid)
    (engine,) = [child for child in guard.children() if "labctl.run.engine" in child.cmdline()]
    engine.kill()
    until(lambda: window.tick() or window.strip.run.word.whole == "✕ ENGINE GONE")
    until(lambda: window.tick() or window.strip.run.word.whole == "✕ CRASHED", PATIENCE_S)
    assert window.strip.safe.word.whole == "▲ LOST WITH RUN", "the bench was simulated in the engine"
    assert "incident: the engine ended unexpectedly" in window.log.toPlainText()
    assert window.strip.points.word.whole.startswith(str(points_seen(window)))
    window.tick()
    assert window.setup.check.isEnabled() and not is_live(window.now)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_closing_says_how_to_end_the_run(
    tmp_path: Path, detach: Callable[[], RunFront], number: signal.Signals
) -> None:
    front = detach()
    started = front._started or {}
    with EndpointClient(started["endpoint"]) as engine:
        engine.ask("pause", reason="a window may be slow to come")
    command = [sys.executable, "-m", "labctl.cli.main", "gui", "--out", str(tmp_path / "runs")]
    window = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    )
    try:
        until(lambda: _reads_a_journal(window.pid), PATIENCE_S)
        time.sleep(1.0)
        window.send_signal(number)
        _, said = window.communicate(timeout=PATIENCE_S)
    finally:
        window.kill()
        window.communicate(timeout=PATIENCE_S)
    assert window.returncode == 0, said
    assert "the run goes on without the window" in said and "labctl abort" in said
    with open_run(str(started["run"])) as run:
        assert run.status == "running"


def _reads_a_journal(pid: int) -> bool:
    return any(file.path.endswith(".journal") for file in psutil.Process(pid).open_files())
