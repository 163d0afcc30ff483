"""Points per second and memory of the engine's own point loop, with instruments that cost nothing.

``python -m benchmarks.point_loop [--directory DIR] [--points N] [--repeats N]``; the functions are used by
``python -m benchmarks`` too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
from pymeasure.experiment import IntegerParameter, Procedure, Results
from pymeasure.experiment.workers import Worker

from benchmarks.storage import HEADER, POINTS, SCALARS, bare_sqlite, row, spectra
from labctl.clock import RealClock
from labctl.run.engine import GuardLine
from labctl.run.plan import Plan, Point, Stage
from labctl.run.point_loop import PointLoop
from labctl.run.procedure import Record, SweepProcedure
from labctl.store.journal import MAX_GROUP_COMMIT_S, Journal
from labctl.store.layout import RowLayout

ROOT = Path(__file__).resolve().parents[1]


class NoInstruments(SweepProcedure):
    """Points that are there at once: four scalars, with a spectrum of 2048 pixels or without."""

    NAME = "no-instruments"

    with_spectrum = True
    spectra: np.ndarray

    def measure(self, point: Point) -> Record:
        """Give scalars and a spectrum that was made beforehand."""
        if not self.with_spectrum:
            return Record(row(point.index))
        return Record(row(point.index), {"spectrum": self.spectra[point.index % len(self.spectra)]})


class Table:
    """A bench without instruments."""

    def announce(self, point: int, attempt: int, schedule_s: float) -> None:
        """Nothing needs to know."""


class Watcher:
    """Tells the guard of progress as the engine does; no front is attached."""

    def __init__(self) -> None:
        self._guard = GuardLine()

    def stage(self, stage: Stage, count: int) -> None:
        """Nobody looks."""

    def expect(self, duration_s: float) -> None:
        """Say when the next sign of progress comes."""
        self._guard.expect(duration_s)

    def done(self, point: Point, record: Record, done: int) -> None:
        """Nobody looks."""

    def progress(self, percent: float) -> None:
        """Nobody looks."""


def point_loop(path: Path, count: int, group_commit_s: float, *, with_spectrum: bool = True) -> float:
    """Points per second through the point loop, from its start until the last point is acknowledged."""
    layout: RowLayout = POINTS if with_spectrum else SCALARS
    procedure = NoInstruments()
    procedure.with_spectrum = with_spectrum
    procedure.spectra = spectra()
    settings = tuple({"fluence_uj_cm2": 0.1 * index} for index in range(count))
    plan = Plan((Stage("sweep", "points", count, 0.0, settings),))
    with (
        Journal.create(path, HEADER, group_commit_s=group_commit_s) as journal,
        Path(os.devnull).open("w") as nowhere,
        redirect_stdout(nowhere),
    ):
        journal.add_stream("points", layout)
        loop = PointLoop(procedure, plan, Table(), journal, RealClock(), stop=threading.Event(), observer=Watcher())
        start = time.perf_counter()
        loop.run()
        elapsed_s = time.perf_counter() - start
        assert loop.done == journal.acknowledged("points") == count
    return count / elapsed_s


class Emitter(Procedure):
    """The same four scalars, written by pymeasure itself."""

    count = IntegerParameter("Number of points", default=10_000)
    DATA_COLUMNS = list(row(0))  # noqa: RUF012 - pymeasure wants it like this

    def execute(self) -> None:
        """Emit all points."""
        for index in range(self.count):
            self.emit("results", row(index))


def pymeasure_points(path: Path, count: int) -> float:
    """Points per second of pymeasure's Worker and Results: scalars into a CSV file, flushed, not synced."""
    worker = Worker(Results(Emitter(count=count), str(path)))
    start = time.perf_counter()
    worker.start()
    worker.join(600)
    elapsed_s = time.perf_counter() - start
    assert worker.results.procedure.status == Procedure.FINISHED
    return count / elapsed_s


def rates(directory: Path, count: int, repeats: int) -> dict[str, float]:
    """Medians of points per second and of their ratios within one repetition; all kinds take turns.

    The plainest SQLite loop runs before and after ours, so that a drift of the disk flatters neither.
    """
    found: dict[str, list[float]] = {}
    for repeat in range(repeats):
        folder = directory / str(repeat)
        folder.mkdir()
        before = bare_sqlite(folder, count)
        (folder / "bare.db").unlink()
        now = {"single": point_loop(folder / "single.journal", count, 0.0)}
        now["bare"] = (before + bare_sqlite(folder, count)) / 2
        now["group"] = point_loop(folder / "group.journal", 5 * count, MAX_GROUP_COMMIT_S)
        now["group, scalars"] = point_loop(
            folder / "scalars.journal", 20 * count, MAX_GROUP_COMMIT_S, with_spectrum=False
        )
        now["pymeasure"] = pymeasure_points(folder / "pymeasure.csv", 10 * count)
        now["single/bare"] = now["single"] / now["bare"]
        now["group/bare"] = now["group"] / now["bare"]
        now["group, scalars/pymeasure"] = now["group, scalars"] / now["pymeasure"]
        for name, rate in now.items():
            found.setdefault(name, []).append(rate)
        for path in folder.iterdir():
            path.unlink()
    return {name: float(np.median(values)) for name, values in found.items()}


def memory_mb(count: int) -> dict[str, float]:
    """MB that a run of ``count`` points with group commit adds to a process of its own, spectra included or not."""
    return {name: _in_child(name, count) for name in ("scalars", "spectra")}


def _in_child(kind: str, count: int) -> float:
    command = [sys.executable, "-m", "benchmarks.point_loop", "--memory-of", kind, "--points", str(count)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=600)
    return float(json.loads(done.stdout))


def _peak_mb() -> float:
    """Greatest resident memory of this process so far; nan where the system does not tell.

    Not by getrusage: on Linux a child begins with the figure of the process that started it.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return float("nan")
    return float(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) * 1024e-6


def _measure_memory(kind: str, count: int, directory: Path) -> float:
    """Growth of the greatest resident memory over that of a run of 100 points."""
    with_spectrum = kind == "spectra"
    point_loop(directory / "first.journal", 100, MAX_GROUP_COMMIT_S, with_spectrum=with_spectrum)
    before = _peak_mb()
    point_loop(directory / "run.journal", count, MAX_GROUP_COMMIT_S, with_spectrum=with_spectrum)
    return _peak_mb() - before


def show(found: dict[str, Any]) -> None:
    """Print the rates."""
    print(f"bare SQLite FULL, 4 scalars + 2048 px          {found['bare']:9.0f} points/s")
    print(f"point loop, one at a time                      {found['single']:9.0f} points/s", end="")
    print(f"   {found['single/bare']:5.2f} of bare")
    print(f"point loop, group commit 50 ms                 {found['group']:9.0f} points/s", end="")
    print(f"   {found['group/bare']:5.2f} of bare")
    print(f"point loop, group commit, 4 scalars only       {found['group, scalars']:9.0f} points/s", end="")
    print(f"   {found['group, scalars/pymeasure']:5.2f} of pymeasure")
    print(f"pymeasure Worker and Results, CSV, 4 scalars   {found['pymeasure']:9.0f} points/s   not durable")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, help="on the disk to measure; default: the temporary directory")
    parser.add_argument("--points", type=int, default=500, help="points acknowledged one at a time, per repetition")
    parser.add_argument("--repeats", type=int, default=15, help="repetitions; the median counts")
    parser.add_argument("--memory-of", choices=("scalars", "spectra"), help="only print the MB a run of --points adds")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.directory) as name:
        if arguments.memory_of:
            print(json.dumps(_measure_memory(arguments.memory_of, arguments.points, Path(name))))
            return
        show(rates(Path(name), arguments.points, arguments.repeats))
        for kind, growth in memory_mb(100_000).items():
            print(f"memory added by 1e5 points, group commit, {kind:8} {growth:6.1f} MB")


if __name__ == "__main__":
    main()
