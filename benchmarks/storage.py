"""How fast runs are stored and opened, as ratios measured in one run on one disk.

``python benchmarks/storage.py [--directory DIR] [--points N] [--rounds N]``; other benchmarks use its functions too.
"""

from __future__ import annotations

import argparse
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from labctl.store.journal import Journal
from labctl.store.layout import ArrayField, Column, RowLayout
from labctl.store.run import open_run
from labctl.store.seal import seal

PIXELS = 2048
SCALARS = RowLayout(
    (
        Column("fluence_uj_cm2", "float", "uJ/cm^2"),
        Column("energy_j", "float", "J"),
        Column("signal_counts", "float", "counts"),
        Column("pulses", "int"),
    )
)
POINTS = RowLayout(SCALARS.columns, (ArrayField("spectrum", (PIXELS,), "float32", "counts", axis="wavelength_nm"),))
HEADER = {"run": "benchmark", "default_stream": "points", "x": "fluence_uj_cm2", "signal": "signal_counts"}


def row(index: int) -> dict[str, float | int]:
    """The scalars of one point."""
    return {"fluence_uj_cm2": 0.1 * index, "energy_j": 1e-6, "signal_counts": 1e4, "pulses": 100}


def spectra(count: int = 64) -> np.ndarray:
    """Noisy spectra of shape (count, 2048), float32, keyed by their index."""
    line = 2000.0 * np.exp(-(((np.arange(PIXELS) - 900) / 60.0) ** 2))
    noise = [np.random.default_rng([0, index]).poisson(line + 300.0) for index in range(count)]
    return np.asarray(noise, np.float32)


def time_each(action: Callable[[int], None], count: int) -> float:
    """Call ``action(index)`` ``count`` times; return calls per second."""
    start = time.perf_counter()
    for index in range(count):
        action(index)
    return count / (time.perf_counter() - start)


def bare_sqlite(directory: Path, count: int) -> float:
    """Points per second of the plainest loop: one INSERT of scalars and spectrum per transaction, WAL, FULL."""
    path = directory / "bare.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE point(id INTEGER PRIMARY KEY, t REAL, a REAL, b REAL, c REAL, d INTEGER, s BLOB)")
    data = spectra()

    def insert(index: int) -> None:
        values = (index, 0.0, 0.1 * index, 1e-6, 1e4, 100, data[index % len(data)].tobytes())
        connection.execute("INSERT INTO point VALUES (?,?,?,?,?,?,?)", values)

    rate = time_each(insert, count)
    connection.close()
    return rate


def journal_points(directory: Path, count: int, group_commit_s: float, name: str) -> float:
    """Points per second through the journal, the last of them acknowledged."""
    data = spectra()
    with Journal.create(directory / f"{name}.journal", HEADER, group_commit_s=group_commit_s) as journal:
        journal.add_stream("points", POINTS)

        def append(index: int) -> None:
            arrays = {"spectrum": data[index % len(data)]}
            journal.append("points", point=index, attempt=0, t_s=0.1 * index, wall_s=1e9, row=row(index), arrays=arrays)

        start = time.perf_counter()
        for index in range(count):
            append(index)
        journal.commit()
        rate = count / (time.perf_counter() - start)
        assert journal.acknowledged("points") == count
    return rate


def fill_scalars(path: Path, count: int) -> Journal:
    """A journal of ``count`` points without arrays, still open."""
    journal = Journal.create(path, HEADER, group_commit_s=0.05)
    journal.add_stream("points", SCALARS)
    for index in range(count):
        journal.append("points", point=index, attempt=0, t_s=0.1 * index, wall_s=1e9, row=row(index))
    journal.commit()
    return journal


def open_scalars(path: Path) -> tuple[float, int]:
    """Seconds to open a run and read all its scalars, and how many points it holds."""
    start = time.perf_counter()
    with open_run(path) as run:
        columns = run.columns()
        total = sum(float(np.sum(values)) for values in columns.values())
    elapsed_s = time.perf_counter() - start
    assert np.isfinite(total)
    return elapsed_s, len(columns["point"])


def refresh_cost(path: Path, count: int, repeats: int = 50) -> float:
    """Median seconds for a reader of a live run of ``count`` points to take in one new point."""
    with fill_scalars(path, count) as journal, open_run(path) as run:
        costs = []
        for index in range(count, count + repeats):
            journal.append("points", point=index, attempt=0, t_s=0.0, wall_s=1e9, row=row(index))
            journal.commit()
            start = time.perf_counter()
            run.refresh()
            latest = run["signal_counts"][-1]
            costs.append(time.perf_counter() - start)
            assert latest == 1e4 and run.count() == index + 1
    return float(np.median(costs))


def one_round(directory: Path, count: int) -> tuple[float, float, float]:
    """Points per second bare, one at a time, and in groups, one right after the other: the speed of a disk drifts."""
    directory.mkdir()
    bare = bare_sqlite(directory, count)
    single = journal_points(directory, count, 0.0, "single")
    group = journal_points(directory, 10 * count, 0.05, "group")
    shutil.rmtree(directory)
    return bare, single, group


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, help="on the disk to measure; default: the temporary directory")
    parser.add_argument("--points", type=int, default=1000, help="points with a spectrum, in each round")
    parser.add_argument("--rounds", type=int, default=5, help="the median of so many is printed")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.directory) as name:
        directory = Path(name)
        count = arguments.points
        rates = [one_round(directory / str(number), count) for number in range(arguments.rounds)]
        bare, single, group = np.median(rates, axis=0)
        ratios = np.median([[r[1] / r[0], r[2] / r[0]] for r in rates], axis=0)
        print(f"bare SQLite FULL, 4 scalars + {PIXELS} px      {bare:9.0f} points/s")
        print(f"journal, one at a time                   {single:9.0f} points/s   {ratios[0]:5.2f} of bare")
        print(f"journal, group commit 50 ms              {group:9.0f} points/s   {ratios[1]:5.2f} of bare")

        million = directory / "million.journal"
        with fill_scalars(million, 1_000_000) as journal:
            journal.set_status("finished", t_s=0.0, wall_s=1e9)
        elapsed_s, points = open_scalars(million)
        print(f"open {points} points, journal            {elapsed_s:9.3f} s")
        start = time.perf_counter()
        sealed = seal(million, directory / "million.h5")
        print(f"seal them                                {time.perf_counter() - start:9.3f} s")
        elapsed_s, points = open_scalars(sealed)
        print(f"open {points} points, sealed             {elapsed_s:9.3f} s")

        costs = {n: refresh_cost(directory / f"live{n}.journal", n) for n in (1_000, 10_000, 100_000, 1_000_000)}
        for n, cost_s in costs.items():
            print(
                f"live refresh after {n:8d} points        {cost_s * 1e6:9.0f} us  {cost_s / costs[1_000]:5.2f} of 1000"
            )


if __name__ == "__main__":
    main()
