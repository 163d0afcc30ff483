"""The same scalar sweep in labctl, pymeasure, QCoDeS and bluesky: ``python -m benchmarks.peers [--points N]``.

One quantity is set and three are read at every point, by instruments that cost nothing, so that what is left is the
framework: its loop, and what it does to keep the point. Each framework appears as its users run it, and once more with
every point synced to the disk before the next one is taken, which only labctl does by itself. What was written is read
back and counted. All take turns within a repetition.

QCoDeS and bluesky are not needed by anything else here: ``pip install labctl-bench[peers]``.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from pymeasure.experiment import BooleanParameter, IntegerParameter, Procedure, Results
from pymeasure.experiment.workers import Worker

from benchmarks.point_loop import point_loop
from benchmarks.storage import row
from labctl.store.journal import MAX_GROUP_COMMIT_S

NAMES = list(row(0))


@dataclass(frozen=True)
class Way:
    """One way to take the sweep.

    :param framework: Whose loop it is.
    :param kept: What has happened to a point when the next one is taken.
    :param durable: Whether that survives a power cut.
    :param sweep: Takes a folder and a number of points; returns points per second.
    """

    framework: str
    kept: str
    durable: bool
    sweep: Callable[[Path, int], float]


class Synced:
    """Syncs a file that somebody else writes and flushes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def __call__(self) -> None:
        """Return when all that was written is on the disk."""
        if self._descriptor is None:
            self._descriptor = os.open(self._path, os.O_RDWR)
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Let the file go."""
        if self._descriptor is not None:
            os.close(self._descriptor)


@contextmanager
def quiet(*names: str) -> Iterator[None]:
    """Keep a framework from telling of every run, in its log or on standard output."""
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
            yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


class ScalarSweep(Procedure):
    """The sweep as a pymeasure Procedure."""

    count = IntegerParameter("Number of points", default=1000)
    synced = BooleanParameter("Sync every point", default=False)
    DATA_COLUMNS = NAMES
    sync: Synced

    def execute(self) -> None:
        """Emit all points."""
        for index in range(self.count):
            self.emit("results", row(index))
            if self.synced:
                self.sync()


def pymeasure_sweep(folder: Path, count: int, *, synced: bool) -> float:
    """Worker and Results into a CSV file, flushed at each point, and synced if asked for."""
    path = folder / f"pymeasure-{synced}.csv"
    procedure = ScalarSweep(count=count, synced=synced)
    procedure.sync = Synced(path)
    worker = Worker(Results(procedure, str(path)))
    start = time.perf_counter()
    worker.start()
    worker.join(600)
    elapsed_s = time.perf_counter() - start
    procedure.sync.close()
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    assert len(lines) == count + 1
    return count / elapsed_s


def qcodes_sweep(folder: Path, count: int, *, synced: bool) -> float:
    """Measurement into QCoDeS' SQLite file: written every 5 s as it comes, or at each point if asked for."""
    from qcodes.dataset import Measurement, initialise_or_create_database_at, load_or_create_experiment
    from qcodes.parameters import ManualParameter

    with quiet("qcodes"):
        initialise_or_create_database_at(str(folder / f"qcodes-{synced}.db"))
        experiment = load_or_create_experiment("benchmark", sample_name="none")
        parameters = [ManualParameter(name) for name in NAMES]
        swept, *read = parameters
        measurement = Measurement(exp=experiment)
        measurement.register_parameter(swept)
        for parameter in read:
            measurement.register_parameter(parameter, setpoints=(swept,))
        with measurement.run() as saver:
            start = time.perf_counter()
            for index in range(count):
                values = row(index)
                for parameter in parameters:
                    parameter(values[parameter.name])
                saver.add_result(*((parameter, parameter()) for parameter in parameters))
                if synced:
                    saver.flush_data_to_database(block=True)
            saver.flush_data_to_database(block=True)
            elapsed_s = time.perf_counter() - start
        stored = saver.dataset.get_parameter_data(NAMES[-1])[NAMES[-1]]
        assert all(len(stored[name]) == count for name in (NAMES[0], NAMES[-1]))
        experiment.conn.close()
    return count / elapsed_s


class Soft:
    """A bluesky device that is set and read at once."""

    parent = None

    def __init__(self, name: str) -> None:
        self.name = name
        self.value: float | int = 0.0

    def set(self, value: float) -> Any:
        """Set it; done when this returns."""
        from bluesky.protocols import Status

        self.value = value
        done: Status = Done()
        return done

    def read(self) -> dict[str, Any]:
        """Get the value with its time."""
        return {self.name: {"value": self.value, "timestamp": time.time()}}

    def describe(self) -> dict[str, Any]:
        """Get what the value is."""
        return {self.name: {"source": "none", "dtype": "number", "shape": []}}


class Done:
    """The status of something that took no time."""

    done = True
    success = True

    def exception(self, timeout: float | None = 0.0) -> None:
        """Nothing failed."""

    def add_callback(self, callback: Callable[[Any], None]) -> None:
        """Call back at once."""
        callback(self)


def bluesky_sweep(folder: Path, count: int, *, synced: bool) -> float:
    """RunEngine with bluesky's JSON-lines writer, which opens its file anew for each document; synced if asked for."""
    from bluesky import RunEngine
    from bluesky import plan_stubs as stubs
    from bluesky import preprocessors as decorators
    from bluesky.callbacks.json_writer import JSONLinesWriter

    path = folder / f"bluesky-{synced}.jsonl"
    devices = [Soft(name) for name in NAMES]
    engine = RunEngine(context_managers=[])
    engine.subscribe(JSONLinesWriter(str(folder), path.name))
    sync = Synced(path)
    if synced:
        engine.subscribe(lambda name, document: sync())

    @decorators.run_decorator(md={})
    def plan() -> Iterator[Any]:
        for index in range(count):
            for device in devices[1:]:
                device.value = row(index)[device.name]
            yield from stubs.mv(devices[0], row(index)[devices[0].name])
            yield from stubs.create("primary")
            for device in devices:
                yield from stubs.read(device)
            yield from stubs.save()

    with quiet("bluesky"):
        start = time.perf_counter()
        engine(plan())
        elapsed_s = time.perf_counter() - start
    sync.close()
    assert sum('"name": "event"' in line for line in path.read_text().splitlines()) == count
    return count / elapsed_s


def ways() -> list[Way]:
    """What can be run here: QCoDeS and bluesky only where they are installed."""
    found = [
        Way(
            "labctl",
            "acknowledged: committed and synced",
            True,
            lambda folder, count: point_loop(folder / "one.journal", count, 0.0, with_spectrum=False),
        ),
        Way(
            "labctl, group commit",
            "committed and synced within 50 ms",
            True,
            lambda folder, count: point_loop(folder / "group.journal", count, MAX_GROUP_COMMIT_S, with_spectrum=False),
        ),
        Way("pymeasure", "in the system's cache (CSV)", False, lambda f, n: pymeasure_sweep(f, n, synced=False)),
        Way("pymeasure, synced", "synced", True, lambda f, n: pymeasure_sweep(f, n, synced=True)),
    ]
    if find_spec("qcodes"):
        found += [
            Way("QCoDeS", "in memory up to 5 s (SQLite)", False, lambda f, n: qcodes_sweep(f, n, synced=False)),
            Way("QCoDeS, flushed", "committed and synced", True, lambda f, n: qcodes_sweep(f, n, synced=True)),
        ]
    if find_spec("bluesky"):
        found += [
            Way("bluesky", "in the system's cache (JSON)", False, lambda f, n: bluesky_sweep(f, n, synced=False)),
            Way("bluesky, synced", "synced", True, lambda f, n: bluesky_sweep(f, n, synced=True)),
        ]
    return found


def compare(directory: Path, count: int, repeats: int) -> list[tuple[Way, float, float]]:
    """Medians over the repetitions: each way, its points per second, and labctl's rate of equal durability over it."""
    rates: dict[str, list[float]] = {}
    known = ways()
    for repeat in range(repeats):
        for way in known:
            with tempfile.TemporaryDirectory(dir=directory, prefix=f"{repeat}-") as folder:
                rates.setdefault(way.framework, []).append(way.sweep(Path(folder), count))
    lines = []
    for way in known:
        ours = rates["labctl" if way.durable else "labctl, group commit"]
        ratios = np.array(ours) / np.array(rates[way.framework])
        lines.append((way, float(np.median(rates[way.framework])), float(np.median(ratios))))
    return lines


def table(directory: Path, count: int, repeats: int) -> Iterator[str]:
    """The lines of the table; says what is missing."""
    yield f"{count} points, 1 quantity set and 3 read, median of {repeats} repetitions in turns"
    yield f"{'':22} {'a point, when the next is taken, is':36} {'points/s':>10} {'us/point':>9}   labctl is"
    for way, rate, ratio in compare(directory, count, repeats):
        against = "" if way.framework.startswith("labctl") else f"{ratio:.3g} times as fast"
        if against and not way.durable:
            against += " (group commit)"
        yield f"{way.framework:22} {way.kept:36} {rate:10.0f} {1e6 / rate:9.1f}   {against}".rstrip()
    yield "versions: " + ", ".join(f"{name} {_version(name)}" for name in ("pymeasure", "qcodes", "bluesky"))


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed (pip install labctl-bench[peers])"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--directory", type=Path, help="on the disk to measure; default: the temporary directory")
    parser.add_argument("--points", type=int, default=2000, help="points of the sweep")
    parser.add_argument("--repeats", type=int, default=5, help="repetitions; the median counts")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.directory) as name:
        for line in table(Path(name), arguments.points, arguments.repeats):
            print(line, flush=True)


if __name__ == "__main__":
    main()
