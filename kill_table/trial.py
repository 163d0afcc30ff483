"""One run that is ended at an instant, looked at from outside, and resumed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from kill_table.engine import TAP, checksum, plain
from kill_table.laboratory import Served
from kill_table.ways import Way
from labctl.run.request import RunRequest
from labctl.store.layout import RECORD_FIELDS
from labctl.store.run import Run

ROOT = Path(__file__).resolve().parents[1]
_LOOK_S = 0.005
_FIND_S = 0.02
_START_S = 60.0
_END_S = 240.0
_GONE_S = 60.0
_MODULES = {"guard.py": "guard", "kill_table.engine": "engine", "labctl.run.safe_program": "standby"}

Key = tuple[str, int, int]


@dataclass(frozen=True)
class Instant:
    """When a run is to be ended.

    :param delay_s: Real time in s after its engine has started, or after its last of ``rows`` rows.
    :param rows: Acknowledged rows to wait for; None for the start.
    """

    delay_s: float
    rows: int | None = None

    def __str__(self) -> str:
        return f"{self.delay_s:.3f} s after " + ("the start" if self.rows is None else f"row {self.rows}")


@dataclass
class Seen:
    """What was seen of a run from outside.

    :param began_s: When its engine was there (monotonic).
    :param ended_s: When its front was gone.
    :param died_s: When it was ended; NaN if it was left alone.
    :param lit: Whether the shutter was open just after that.
    :param last_light_s: When the shutter was last seen open, from :attr:`died_s` on; NaN if it never was.
    :param hit: Whether the engine was still there to be ended.
    :param outcome: What the front printed.
    :param left: Names of processes that did not end.
    """

    began_s: float
    ended_s: float = float("nan")
    died_s: float = float("nan")
    lit: bool = False
    last_light_s: float = float("nan")
    hit: bool = False
    outcome: dict[str, Any] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)


class Terminal:
    """A terminal with a run in its foreground.

    :param request: What to run.
    :param folder: For request, tap and what is printed.
    """

    def __init__(self, request: RunRequest, folder: Path) -> None:
        self.tap = folder / "tap"
        self._printed = folder / "printed"
        self._folder = folder
        file = folder / "request.json"
        file.write_text(request.model_dump_json(), encoding="utf-8")
        self._holder, terminal = os.openpty()
        environment = {**os.environ, TAP: str(self.tap), "PYTHONPATH": str(ROOT)}
        with self._printed.open("wb") as printed, (folder / "complaints").open("wb") as complaints:
            self.front = psutil.Popen(
                [sys.executable, "-m", "kill_table.front", str(file)],
                stdin=terminal,
                stdout=printed,
                stderr=complaints,
                env=environment,
                cwd=ROOT,
            )
        os.close(terminal)

    def processes(self) -> dict[str, psutil.Process]:
        """Get the processes of the run that live, by name."""
        found: dict[str, psutil.Process] = {"front": self.front}
        for process in self.front.children(recursive=True):
            try:
                words = [word.rpartition("/")[2] for word in process.cmdline()]
            except psutil.Error:
                continue
            found.update({name: process for word, name in _MODULES.items() if word in words})
        return found

    def hang_up(self) -> None:
        """Close the terminal, as with the window or the connection it belongs to; may be called twice."""
        holder, self._holder = self._holder, -1
        if holder >= 0:
            os.close(holder)

    def outcome(self) -> dict[str, Any]:
        """Get what the front printed; empty if it printed nothing."""
        text = self._printed.read_text(encoding="utf-8")
        return json.loads(text) if text.strip() else {}

    def acknowledged(self) -> list[dict[str, Any]]:
        """Get the notes of all rows that were acknowledged."""
        if not self.tap.exists():
            return []
        whole = self.tap.read_bytes().rpartition(b"\n")[0]
        return [json.loads(line) for line in whole.splitlines()]


def watch(terminal: Terminal, laboratory: Served, way: Way | None = None, instant: Instant | None = None) -> Seen:
    """Follow a run to its end, and end it on the way in a certain way at a certain instant."""
    processes = _await_engine(terminal)
    seen = Seen(time.monotonic())
    try:
        if way is not None and instant is not None:
            _await(terminal, instant, processes)
            _end(terminal, way, processes, seen)
        _look_on(terminal, laboratory, seen)
    finally:
        terminal.hang_up()
        _, alive = psutil.wait_procs(list(processes.values()), timeout=_GONE_S)
        seen.left = [name for name, process in processes.items() if process in alive]
        for process in alive:
            process.kill()
    seen.outcome = terminal.outcome()
    return seen


def _await_engine(terminal: Terminal) -> dict[str, psutil.Process]:
    give_up_s = time.monotonic() + _START_S
    while "engine" not in (processes := terminal.processes()):
        if time.monotonic() > give_up_s or terminal.front.poll() is not None:
            raise RuntimeError("the run has not begun")
        time.sleep(_LOOK_S)
    return processes


def _await(terminal: Terminal, instant: Instant, processes: dict[str, psutil.Process]) -> None:
    """Wait for the instant, or the end of the run; keep track of its processes."""
    since_s = found_s = time.monotonic()
    while terminal.front.poll() is None:
        now_s = time.monotonic()
        if instant.rows is not None and len(terminal.acknowledged()) < instant.rows:
            since_s = now_s
        if now_s >= since_s + instant.delay_s:
            return
        if now_s - found_s > _FIND_S and "standby" not in processes:
            processes.update(terminal.processes())
            found_s = time.monotonic()
        time.sleep(min(_LOOK_S, max(since_s + instant.delay_s - now_s, 0.0)))


def _end(terminal: Terminal, way: Way, processes: dict[str, psutil.Process], seen: Seen) -> None:
    seen.hit = processes["engine"].is_running() and processes["engine"].status() != psutil.STATUS_ZOMBIE
    if way.hangs_up:
        terminal.hang_up()
    else:
        way.end(processes)
    seen.died_s = time.monotonic()


def _look_on(terminal: Terminal, laboratory: Served, seen: Seen) -> None:
    """Look at the shutter until the front is gone."""
    first = True
    give_up_s = time.monotonic() + _END_S
    while terminal.front.poll() is None:
        if time.monotonic() > give_up_s:
            raise RuntimeError("the run does not end")
        if laboratory.state()["shutter_open"]:
            seen.last_light_s = time.monotonic()
            seen.lit = seen.lit or first
        first = False
        time.sleep(_LOOK_S)
    seen.ended_s = time.monotonic()


def stored_rows(run: Run) -> dict[Key, dict[str, Any]]:
    """Get all rows of a run by stream, point and attempt, in the form of the tap."""
    rows: dict[Key, dict[str, Any]] = {}
    for stream, layout in run.streams.items():
        columns = {name: values for name, values in run.columns(stream).items() if name not in RECORD_FIELDS}
        points, attempts = run.column("point", stream), run.column("attempt", stream)
        arrays = {entry.name: np.asarray(run.array(entry.name, stream)) for entry in layout.arrays}
        for number, (point, attempt) in enumerate(zip(points, attempts, strict=True)):
            rows[stream, int(point), int(attempt)] = {
                "row": {name: plain(values[number]) for name, values in columns.items()},
                "arrays": {name: checksum(values[number]) for name, values in arrays.items()},
            }
    return rows


def lost(notes: list[dict[str, Any]], stored: Mapping[Key, Mapping[str, Any]]) -> list[str]:
    """Name the acknowledged rows that are not stored, or with other values."""
    found = []
    for note in notes:
        stream, point, attempt = note["key"]
        row = stored.get((stream, point, attempt))
        if row is None:
            found.append(f"point {point} of {stream} was acknowledged and is lost")
        elif row["row"] != note["row"] or row["arrays"] != note["arrays"]:
            found.append(f"point {point} of {stream} is stored with other values")
    return found


def set_points(run: Run) -> dict[tuple[str, int], float]:
    """Get the set-points of a run by stage and point."""
    stages, points = run.column("stage", "points"), run.column("point", "points")
    values = run.column("fluence_set_uj_cm2", "points")
    return {(str(s), int(p)): float(v) for s, p, v in zip(stages, points, values, strict=True)}


def resume(run: str, folder: Path) -> dict[str, Any]:
    """Resume a run with the command line; returns what it printed."""
    command = [sys.executable, "-m", "labctl.cli.main", "run", "--resume", run, "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, capture_output=True, timeout=_END_S, env=environment)
    return {**json.loads(done.stdout or b"{}"), "exit": done.returncode, "complaints": done.stderr.decode()[-1000:]}
