"""What guard and journal cost a sweep with exposures of 100 ms, in real time.

``python -m benchmarks.overhead [--directory DIR] [--points N] [--repeats N]``; the functions are used by
``python -m benchmarks`` too. A point opens the shutter of the simulated bench, exposes for 100 ms and closes it again.
The guarded run is a whole one: guard and engine in processes of their own, heartbeat, endpoint, every opening in the
journal before its light, every point acknowledged, the exposure ledger kept. The bare one is the same loop over the
same instruments, rows kept in memory, nothing else. What is added waits mostly for the disk, twice a point: how long
that takes for the plainest durable SQLite loop is measured beside it, and the processor time apart from it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.storage import bare_sqlite
from labctl.bench.bench import Bench
from labctl.clock import RealClock
from labctl.config.bench import BenchConfig, load_bench
from labctl.config.sample import SampleConfig, load_sample
from labctl.run import guard
from labctl.run.engine import Engine
from labctl.run.guard_line import GuardLine, take_standard_output
from labctl.run.plan import Plan, Point, Stage
from labctl.run.point_loop import PointLoop
from labctl.run.procedure import ArrayField, Column, DefaultPlot, Record, RowLayout, Streams, SweepProcedure
from labctl.run.request import RunRequest, prepare

ROOT = Path(__file__).resolve().parents[1]
EXPOSURE_S = 0.1
_COMMITS = 100
PIXELS = 2048
LAYOUT = RowLayout(
    (Column("number", "int"), Column("fluence_uj_cm2", "float", "uJ/cm^2")),
    (ArrayField("spectrum", (PIXELS,), "float32", "counts"),),
)


class Exposures(SweepProcedure):
    """Points of 100 ms of light each, with a spectrum of 2048 pixels."""

    NAME = "exposures"
    ROLES = ("attenuator", "shutter", "energy_meter")
    DEFAULT_PLOT = DefaultPlot("points", "number", "fluence_uj_cm2")

    count = 1
    began_s: list[float]
    processor_s: list[float]

    def plan(self, bench: BenchConfig, sample: SampleConfig | None) -> Plan:
        """One stage of equal points."""
        settings = tuple({"number": number} for number in range(self.count))
        return Plan((Stage("exposures", "points", self.count, 2 * EXPOSURE_S, settings),))

    def prepare(self, bench: Bench) -> None:
        """Set the lowest light."""
        bench.pump.shutter.shut()
        bench.pump.prepare()
        bench.pump.set_fluence(1.0)
        self._bench = bench
        self._spectrum = np.arange(PIXELS, dtype=np.float32)
        self.began_s, self.processor_s = [], []

    def streams(self, bench: Bench) -> Streams:
        """A number and a spectrum."""
        return Streams({"points": LAYOUT})

    def measure(self, point: Point) -> Record:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Expose; what follows until the next point begins is the overhead."""
        self.began_s.append(time.perf_counter())
        self.processor_s.append(time.process_time())
        with self._bench.pump.light():
            self._bench.clock.sleep(EXPOSURE_S)
        return Record({"number": point.index, "fluence_uj_cm2": 1.0}, {"spectrum": self._spectrum})

    def per_point_s(self) -> tuple[float, float]:
        """Mean time from the beginning of a point to the beginning of the next, and processor time in it, in s."""
        points = len(self.began_s) - 1
        elapsed_s = self.began_s[-1] - self.began_s[0]
        return elapsed_s / points, (self.processor_s[-1] - self.processor_s[0]) / points


class InMemory:
    """Rows in a list."""

    def __init__(self) -> None:
        self.rows: list[Mapping[str, Any]] = []

    def append(self, stream: str, **record: Any) -> None:
        """Keep a row."""
        self.rows.append(record)

    def event(self, kind: str, data: Mapping[str, Any], *, t_s: float, wall_s: float) -> None:
        """Nobody reads events."""

    def commit(self) -> None:
        """There is no disk."""


class Nobody:
    """Watches nothing."""

    def stage(self, stage: Stage, count: int) -> None:
        """Nobody looks."""

    def expect(self, duration_s: float) -> None:
        """Nobody waits."""

    def done(self, point: Point, record: Record, done: int) -> None:
        """Nobody looks."""

    def progress(self, percent: float) -> None:
        """Nobody looks."""

    def altered(self, planned: int) -> None:
        """Nobody looks."""

    def noticed(self, kind: str, data: Mapping[str, Any]) -> None:
        """Nobody looks."""


@dataclass(frozen=True)
class Overhead:
    """What a sweep pays for its safety.

    :param bare_s: Time of a point without guard and journal, in s.
    :param guarded_s: The same with both.
    :param share: What both add to a point, as a share of the bare one; median over the repetitions.
    :param processor_share: The processor time that both add in the engine, as a share of the bare point.
    :param commit_s: Time of one commit of the plainest durable SQLite loop meanwhile, in s.
    :param guard_s_per_min: Processor time of the guard, in s per minute; nan if the run was too short to tell.
    """

    bare_s: float
    guarded_s: float
    share: float
    processor_share: float
    commit_s: float
    guard_s_per_min: float


def overhead(directory: Path, count: int, repeats: int) -> Overhead:
    """Measure both kinds in turns, the bare one before and after the other, each in a process of its own."""
    found: list[tuple[float, ...]] = []
    before = _bare_s(directory / "bare.json", count)
    for repeat in range(repeats):
        folder = directory / f"overhead-{repeat}"
        folder.mkdir()
        commit_s = 1 / bare_sqlite(folder, _COMMITS)
        (period_s, processor_s), guard_s_per_min = _guarded_s(folder, count)
        after = _bare_s(folder / "bare.json", count)
        bare_s, bare_processor_s = ((one + other) / 2 for one, other in zip(before, after, strict=True))
        processor_share = (processor_s - bare_processor_s) / bare_s
        found.append((bare_s, period_s, period_s / bare_s - 1, processor_share, commit_s, guard_s_per_min))
        before = after
    return Overhead(*(float(np.median(values)) for values in zip(*found, strict=True)))


def _bare_s(result: Path, count: int) -> tuple[float, float]:
    command = [*_program(), "--bare", str(result), "--points", str(count)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=600, stdout=subprocess.DEVNULL)
    return _read(result)


def _guarded_s(folder: Path, count: int) -> tuple[tuple[float, float], float]:
    """Get time and processor time of a point, and the processor time of the guard in s per minute."""
    result = folder / "guarded.json"
    engine = [*_program(), "--guarded", str(result), "--points", str(count)]
    limits = {"liveness_s": 10.0, "start_s": 60.0, "safe_s": 10.0, "record_s": 10.0}
    config = {"engine": engine, "safe": engine, **limits, "log": str(folder / "engine.log"), "remove": []}
    command = [sys.executable, "-I", "-S", guard.__file__, json.dumps(config)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        heard = threading.Thread(target=process.stdout.read, daemon=True)
        heard.start()
        used = _processor_time(process)
        heard.join(timeout=10)
    if not result.is_file():
        raise RuntimeError(f"the guarded run failed: {(folder / 'engine.log').read_text()[-2000:]}")
    return _read(result), used


def _read(result: Path) -> tuple[float, float]:
    period_s, processor_s = json.loads(result.read_text())
    return period_s, processor_s


def _processor_time(process: subprocess.Popen[str]) -> float:
    """Look at the processor time of a process until it ends; get it in s per minute, nan after a second or less."""
    watched = psutil.Process(process.pid)
    seen: list[tuple[float, float]] = []
    while process.poll() is None:
        try:
            times = watched.cpu_times()
        except psutil.NoSuchProcess:
            break
        seen.append((time.perf_counter(), times.user + times.system))
        time.sleep(0.2)
    process.wait(timeout=60)
    if len(seen) < 2 or seen[-1][0] - seen[0][0] < 1.0:
        return float("nan")
    return (seen[-1][1] - seen[0][1]) / (seen[-1][0] - seen[0][0]) * 60.0


def _program() -> list[str]:
    return [sys.executable, "-m", "benchmarks.overhead"]


def _exposures(count: int) -> Exposures:
    procedure = Exposures()
    procedure.count = count
    return procedure


def _run_bare(result: Path, count: int) -> None:
    """The loop alone."""
    procedure, config, clock = _exposures(count), load_bench("simulated"), RealClock()
    sample = load_sample("cdse-cds-zno")
    bench = Bench.open(config, clock, roles=procedure.ROLES, sample=sample)
    try:
        procedure.prepare(bench)
        plan = procedure.plan(config, sample)
        PointLoop(procedure, plan, bench, InMemory(), clock, stop=threading.Event(), observer=Nobody()).run()
    finally:
        bench.make_safe()
        bench.close()
    result.write_text(json.dumps(procedure.per_point_s()))


def _run_guarded(result: Path, count: int) -> None:
    """A whole run, as the guard starts one."""
    line = GuardLine(take_standard_output())
    line.listen()
    procedure = _exposures(count)
    request = RunRequest(procedure=procedure.NAME, bench="simulated", out=str(result.parent / "runs"), lease=False)
    outcome = Engine(prepare(request, procedure), line).run()
    if outcome.status != "finished" or outcome.points["done"] != count:
        raise SystemExit(f"the run did not finish: {outcome.error}")
    result.write_text(json.dumps(procedure.per_point_s()))
    line.say("final", exit=outcome.exit_code, report=outcome.as_dict())


def show(found: Overhead) -> None:
    """Print figures."""
    print(f"a point of 100 ms of light, bare               {found.bare_s * 1e3:9.2f} ms")
    print(f"with guard, journal, ledger and endpoint       {found.guarded_s * 1e3:9.2f} ms   +{found.share:.2%}")
    print(f"of that, processor time of the engine          {'':12}   +{found.processor_share:.2%}")
    print(f"a commit of the plainest SQLite loop meanwhile {found.commit_s * 1e3:9.2f} ms")
    print(f"processor time of the guard                    {found.guard_s_per_min * 1e3:9.0f} ms per minute")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, help="on the disk to measure; default: the temporary directory")
    parser.add_argument("--points", type=int, default=200, help="points of a run")
    parser.add_argument("--repeats", type=int, default=5, help="repetitions; the median counts")
    parser.add_argument("--bare", type=Path, metavar="RESULT", help="only the bare loop")
    parser.add_argument("--guarded", type=Path, metavar="RESULT", help="only the guarded run, as the guard starts it")
    arguments = parser.parse_args()
    if arguments.bare:
        _run_bare(arguments.bare, arguments.points)
    elif arguments.guarded:
        _run_guarded(arguments.guarded, arguments.points)
    else:
        with tempfile.TemporaryDirectory(dir=arguments.directory) as name:
            show(overhead(Path(name), arguments.points, arguments.repeats))


if __name__ == "__main__":
    main()
