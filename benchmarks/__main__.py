"""All benchmarks that have a target, in one table: ``python -m benchmarks [--quick] [--directory DIR]``."""

from __future__ import annotations

import argparse
import os
import platform
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import overhead, peers, point_loop, processes, simulation, storage
from labctl.store.seal import seal


@dataclass(frozen=True)
class Extent:
    """How much is measured.

    :param points: Points acknowledged one at a time, per repetition.
    :param repeats: Repetitions of the rates; the median counts.
    :param rows: Points of the great run that is sealed, opened and followed live.
    :param memory_points: Points of the run whose memory is measured.
    :param helps: Processes of ``labctl --help``.
    :param demos: Processes of ``labctl demo``.
    :param sweep: Points of the scalar sweep in each framework.
    :param exposures: Points of 100 ms of light, with guard and journal and without.
    """

    points: int
    repeats: int
    rows: int
    memory_points: int
    helps: int
    demos: int
    sweep: int
    exposures: int


FULL = Extent(
    points=500, repeats=15, rows=1_000_000, memory_points=100_000, helps=10, demos=3, sweep=2000, exposures=200
)
QUICK = Extent(points=200, repeats=5, rows=100_000, memory_points=20_000, helps=3, demos=1, sweep=200, exposures=25)


@dataclass(frozen=True)
class Line:
    """One line of the table; ``target`` is empty where there is only something to know."""

    what: str
    value: str
    ratio: str = ""
    target: str = ""


def rate_lines(directory: Path, extent: Extent) -> Iterator[Line]:
    """Points per second of the point loop, beside the plainest SQLite loop and beside pymeasure."""
    found = point_loop.rates(directory, extent.points, extent.repeats)
    yield Line("bare SQLite, WAL, FULL: 4 scalars + 2048 px", f"{found['bare']:.0f} points/s")
    ratio = f"{found['single/bare']:.2f} of bare"
    yield Line("point loop, each point acknowledged", f"{found['single']:.0f} points/s", ratio, ">= 0.7 of bare")
    ratio = f"{found['group/bare']:.1f} of bare"
    yield Line("point loop, group commit 50 ms", f"{found['group']:.0f} points/s", ratio, ">= 10000 points/s")
    ratio = f"{found['group, scalars/pymeasure']:.2f} of pymeasure"
    yield Line("point loop, group commit, 4 scalars only", f"{found['group, scalars']:.0f} points/s", ratio)
    yield Line("pymeasure Worker, CSV, 4 scalars, not durable", f"{found['pymeasure']:.0f} points/s")


def memory_lines(extent: Extent) -> Iterator[Line]:
    """What a long run adds to the memory of the engine."""
    for kind, growth_mb in point_loop.memory_mb(extent.memory_points).items():
        yield Line(f"memory of {extent.memory_points} points, {kind}", f"{growth_mb:.0f} MB")


def storage_lines(directory: Path, extent: Extent) -> Iterator[Line]:
    """Following a live run, and opening a sealed one."""
    short_s = storage.refresh_cost(directory / "short.journal", 1000)
    great_s = storage.refresh_cost(directory / "great.journal", extent.rows)
    yield Line("live refresh by one row after 1000 rows", f"{short_s * 1e6:.0f} us")
    ratio = f"{great_s / short_s:.2f} of 1000 rows"
    yield Line(f"live refresh by one row after {extent.rows} rows", f"{great_s * 1e6:.0f} us", ratio, "about 1")
    with storage.fill_scalars(directory / "run.journal", extent.rows) as journal:
        journal.set_status("finished", t_s=0.0, wall_s=1e9)
    sealed = seal(directory / "run.journal", directory / "run.h5")
    elapsed_s, points = storage.open_scalars(sealed)
    yield Line(f"open {points} sealed points, all scalars", f"{elapsed_s:.3f} s", "", "<= 0.3 s for 1e6")


def simulation_lines() -> Iterator[Line]:
    """Cost of the simulated laboratory."""
    spectrum_ms = simulation.report()["edge spectrum, 1024 px"]
    yield Line("simulated spectrum, 1024 px", f"{spectrum_ms:.3f} ms", "", "< 1 ms")


def process_lines(directory: Path, extent: Extent) -> Iterator[Line]:
    """Cost of whole processes."""
    yield Line("labctl --help", f"{processes.help_s(extent.helps):.3f} s", "", "<= 0.25 s")
    yield Line(
        "labctl demo, from command to figure", f"{processes.demo_s(directory, extent.demos):.2f} s", "", "< 20 s"
    )
    start_s, memory_mb = processes.guard_cost(directory, 5)
    yield Line("guard and an idle engine, until it is heard", f"{start_s * 1e3:.0f} ms")
    yield Line("guard, resident memory", f"{memory_mb:.1f} MB")


def overhead_lines(directory: Path, extent: Extent) -> Iterator[Line]:
    """What guard and journal add to a sweep."""
    found = overhead.overhead(directory, extent.exposures, min(extent.repeats, 5) if extent is FULL else 1)
    yield Line("a point of 100 ms of light, bare", f"{found.bare_s * 1e3:.2f} ms")
    guarded = f"{found.guarded_s * 1e3:.2f} ms"
    yield Line("the same, with guard, journal and ledger", guarded, f"{found.share:+.2%} of bare", "< +1 %")
    yield Line("of that, processor time of the engine", "", f"{found.processor_share:+.2%} of bare")
    yield Line("a commit of bare SQLite meanwhile", f"{found.commit_s * 1e3:.2f} ms")
    yield Line("processor time of the guard", f"{found.guard_s_per_min * 1e3:.0f} ms/min")


def main() -> None:
    """Measure and print, each group as soon as it is known."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter repetitions: a minute, rough figures")
    parser.add_argument("--directory", type=Path, help="on the disk to measure; default: the temporary directory")
    arguments = parser.parse_args()
    extent = QUICK if arguments.quick else FULL
    print(
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {platform.system()}"
        f" {platform.machine()}, {os.cpu_count()} cores"
    )
    print(f"{'':46} {'measured':>18}   {'ratio':20} target")
    with tempfile.TemporaryDirectory(dir=arguments.directory) as name:
        folders = [Path(name) / kind for kind in ("rates", "storage", "processes", "overhead")]
        for folder in folders:
            folder.mkdir()
        groups = (
            process_lines(folders[2], extent),
            simulation_lines(),
            rate_lines(folders[0], extent),
            storage_lines(folders[1], extent),
            memory_lines(extent),
            overhead_lines(folders[3], extent),
        )
        for group in groups:
            for line in group:
                print(f"{line.what:46} {line.value:>18}   {line.ratio:20} {line.target}".rstrip(), flush=True)
        print("\nThe same scalar sweep in other frameworks:")
        for text in peers.table(folders[0], extent.sweep, min(extent.repeats, 5)):
            print(text, flush=True)


if __name__ == "__main__":
    main()
