"""A run of weeks on the virtual clock: real time, memory, reading it live, and daily deaths of its engine.

648 hours of a film under a UV lamp, read every hour, through all drivers and emulators: as one command, from the start
of the process to the report; and once more on a laboratory in a process of its own, with the engine killed by
``kill -9`` once in each virtual day and the run resumed by ``labctl run --resume``.

    python -m benchmarks.long_run [--hours 648] [--samples cspbbr3-zns cspbbr3] [--kills 27] [--directory DIR]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from labctl.errors import StorageError
from labctl.run.kept_laboratory import KeptLaboratory
from labctl.store.run import Run, open_run

ROOT = Path(__file__).resolve().parents[1]
BENCH = "simulated-perovskites"
HOURS = 648.0
DAY_S = 86400.0
_PROCEDURE = "uv-stability"
_LOOK_S = 0.02
_LONGEST_S = 1800.0
_AT_ONE_PERCENT, _AT_THE_END = 0.01, 1.0


@dataclass
class Seen:
    """What another process saw of a run while it went.

    :param began_s: Start of the command (monotonic), as all times here.
    :param memory_mb: Resident memory of the engine in MB by the number of rows then.
    :param after_mb: The most while the run was sealed, analysed and reported.
    :param refresh_s: Duration of a refresh that found one new row, by the number of rows.
    :param open_s: Duration of opening the run anew, by the number of rows.
    :param rows_s: When each row was seen.
    """

    began_s: float
    ended_s: float = float("nan")
    memory_mb: dict[int, float] = field(default_factory=dict)
    after_mb: float = float("nan")
    refresh_s: dict[int, float] = field(default_factory=dict)
    open_s: dict[int, float] = field(default_factory=dict)
    rows_s: list[float] = field(default_factory=list)
    measured_s: float = float("nan")
    report: dict[str, Any] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Get the real time of the whole command."""
        return self.ended_s - self.began_s

    @property
    def rows(self) -> int:
        """Get the number of rows."""
        return len(self.rows_s)

    def parts_s(self) -> dict[str, float]:
        """Get the real time of its parts: until the first row, measuring, then sealing, analysis and report."""
        return {
            "to the first row": self.rows_s[0] - self.began_s,
            "measuring": self.measured_s - self.rows_s[0],
            "sealing, analysis, report": self.ended_s - self.measured_s,
        }

    def memory_at(self, share: float) -> float:
        """Get the resident memory when a share of the rows was there, in MB."""
        return self.memory_mb[min(self.memory_mb, key=lambda rows: abs(rows - share * self.rows))]

    def refresh_at(self, begin: float, end: float) -> float:
        """Get the median duration of a refresh by one row, between two shares of the rows, in s."""
        found = [s for rows, s in self.refresh_s.items() if begin * self.rows <= rows <= end * self.rows]
        return float(np.median(found)) if found else float("nan")


def command(hours: float, sample: str, out: Path, bench: str = BENCH, *, seed: int = 0) -> list[str]:
    """Get the command of a run."""
    values = [f"duration={hours:g} h", "every=1 h", "cycles=1", "fluence=0.7 uJ/cm^2", "atmosphere=air"]
    asked = [word for value in values for word in ("--set", value)]
    named = ["--bench", bench, "--sample", sample, "--out", str(out), "--seed", str(seed)]
    return [*_labctl(), "run", _PROCEDURE, *named, *asked, "--virtual-time", "--json"]


def resumption(run: str) -> list[str]:
    """Get the command that goes on with a run."""
    return [*_labctl(), "run", "--resume", run, "--json"]


def _labctl() -> list[str]:
    return [sys.executable, "-m", "labctl.cli.main"]


class Watched:
    """A command that runs, with its engine and its journal looked at from outside.

    :param words: The command.
    :param folder: Folder of its runs.
    """

    def __init__(self, words: Sequence[str], folder: Path) -> None:
        self.seen = Seen(time.monotonic())
        self._folder = folder
        self._printed = folder / "printed"
        folder.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with self._printed.open("wb") as printed, (folder / "complaints").open("wb") as complaints:
            self._front = psutil.Popen(
                list(words), stdin=subprocess.DEVNULL, stdout=printed, stderr=complaints, env=environment
            )
        self._engine: psutil.Process | None = None
        self._run: Run | None = None
        self._has_run = False

    def to_end(self, kill_at_s: float | None = None) -> Seen:
        """Look on until the command ends.

        :param kill_at_s: Kill the engine as soon as a row is later than this moment of the run, in s.
        """
        seen = self.seen
        while self._front.poll() is None:
            if time.monotonic() - seen.began_s > _LONGEST_S:
                self._front.terminate()
                raise RuntimeError(f"the run has not ended: {(self._folder / 'complaints').read_text()[-2000:]}")
            self._look()
            if kill_at_s is not None and self._last_s() >= kill_at_s and self.kill():
                kill_at_s = None
            time.sleep(_LOOK_S)
        seen.ended_s = time.monotonic()
        if self._run is not None:
            self._run.close()
        text = self._printed.read_text(encoding="utf-8")
        seen.report = json.loads(text) if text.strip() else {}
        return seen

    def kill(self) -> bool:
        """Kill the engine; get whether it lived."""
        if self._engine is None or not self._engine.is_running():
            return False
        self._engine.kill()
        return True

    def _look(self) -> None:
        seen = self.seen
        if self._engine is None:
            self._engine = self._find_engine()
            return
        try:
            memory_mb = self._engine.memory_info().rss * 1e-6
        except psutil.Error:
            return
        if self._run is None:
            self._run = self._open()
            return
        if not np.isnan(seen.measured_s):
            seen.after_mb = max(seen.after_mb, memory_mb)
            return
        before = seen.rows
        began_s = time.perf_counter()
        try:
            self._run.refresh()
            duration_s = time.perf_counter() - began_s
            rows = sum(self._run.count(name) for name in self._run.streams)
            running = self._run.status == "running"
        except StorageError:
            running, rows, duration_s = False, before, float("nan")
        now_s = time.monotonic()
        seen.rows_s += [now_s] * (rows - before)
        if rows == before + 1:
            seen.refresh_s[rows] = duration_s
        if rows > before:
            seen.memory_mb[rows] = memory_mb
            self._time_opening(rows)
        self._has_run = self._has_run or running
        # What is resumed has not begun yet as long as its journal says how it ended before.
        if self._has_run and not running:
            seen.measured_s, seen.after_mb = now_s, memory_mb

    def _time_opening(self, rows: int) -> None:
        if rows % 50 != 7 or self._run is None:
            return
        began_s = time.perf_counter()
        with open_run(self._run.path) as again:
            again.count("points") if "points" in again.streams else 0
        self.seen.open_s[rows] = time.perf_counter() - began_s

    def _find_engine(self) -> psutil.Process | None:
        try:
            for process in self._front.children(recursive=True):
                if "labctl.run.engine" in process.cmdline():
                    return process
        except psutil.Error:
            pass
        return None

    def _open(self) -> Run | None:
        for journal in self._folder.rglob("*.journal"):
            try:
                return open_run(journal)
            except StorageError:
                return None
        return None

    def _last_s(self) -> float:
        """Get the time of the last row under stress, in s since the start of the run."""
        run = self._run
        if run is None or "points" not in run.streams or not run.count("points"):
            return 0.0
        return float(run.column("t_s", "points")[-1])


def whole(hours: float, sample: str, folder: Path) -> Seen:
    """Run without interruption; raises RuntimeError if it does not finish."""
    seen = Watched(command(hours, sample, folder), folder).to_end()
    if seen.report.get("status") != "finished":
        raise RuntimeError(f"the run did not finish: {seen.report}")
    return seen


@dataclass
class Broken:
    """A run whose engine was killed again and again.

    :param kills: Engines killed.
    :param lost: Rows that had been seen and are not stored as they were.
    :param restarts_s: Real time from each kill to the first row afterwards.
    """

    kills: int = 0
    lost: list[str] = field(default_factory=list)
    restarts_s: list[float] = field(default_factory=list)
    seconds: float = 0.0
    report: dict[str, Any] = field(default_factory=dict)


Rows = dict[tuple[str, int, int], tuple[float, ...]]


def rows_of(path: Path | str) -> Rows:
    """Get the numbers of all rows by stream, point and attempt."""
    found: Rows = {}
    with open_run(path) as run:
        for stream in run.streams:
            columns = run.columns(stream)
            numeric = [values for name, values in columns.items() if values.dtype.kind in "fiub" and name != "attempt"]
            keys = zip(run.column("point", stream), run.column("attempt", stream), strict=True)
            for number, (point, attempt) in enumerate(keys):
                found[stream, int(point), int(attempt)] = tuple(float(values[number]) for values in numeric)
    return found


def killed_daily(hours: float, sample: str, folder: Path, kills: int, say: Callable[[str], None] = print) -> Broken:
    """Run in a laboratory of its own, with the engine killed ``kills`` times, evenly over the run, and resumed."""
    found = Broken()
    began_s = time.monotonic()
    with KeptLaboratory(BENCH, sample, 0, folder / "laboratory") as laboratory:
        bench = laboratory.start()
        words = command(hours, sample, folder / "runs", bench)
        kept: Rows = {}
        killed_s: float | None = None
        for number in range(kills + 1):
            # Not always at the same hour of the day.
            share = (number + 0.3 + 0.4 * (number * 0.618 % 1.0)) / kills if number < kills else None
            at_s = None if share is None else share * hours * 3600.0
            seen = Watched(words, folder / "runs").to_end(at_s)
            if killed_s is not None and seen.rows_s:
                known = len(kept)
                first = seen.rows_s[min(known, len(seen.rows_s) - 1)]
                found.restarts_s.append(first - killed_s)
            found.report = seen.report
            status = str(seen.report.get("status"))
            (journal,) = (folder / "runs").rglob("*.journal") if status != "finished" else (Path(seen.report["run"]),)
            now = rows_of(journal)
            found.lost += [str(key) for key, row in kept.items() if not _same(now.get(key), row)]
            kept = now
            if status == "finished":
                break
            found.kills += 1
            killed_s = time.monotonic()
            say(f"  killed after {len(now)} rows: {status}, safe state {seen.report.get('safe_state')}")
            words = resumption(str(journal))
    found.seconds = time.monotonic() - began_s
    return found


def _same(now: tuple[float, ...] | None, before: tuple[float, ...]) -> bool:
    return now is not None and bool(np.array_equal(now, before, equal_nan=True))


@dataclass(frozen=True)
class Compared:
    """Two runs of the same plan, read by read.

    :param same_set_points: Whether points, stages and set-points are the same.
    :param time_rms: Rms of the relative difference of the normalised emission at the same point.
    :param dose_rms: The same, after what the other dose explains has been taken off.
    :param noise: Rms of what one read scatters about a smooth curve, for comparison.
    :param dose: Dose of the second at the end in units of that of the first.
    """

    reads: int
    same_set_points: bool
    time_rms: float
    dose_rms: float
    noise: float
    dose: float


def compared(one: Path | str, other: Path | str) -> Compared:
    """Compare the reads of two runs."""
    first, second = _reads(one), _reads(other)
    same = all(np.array_equal(first[name], second[name]) for name in ("point", "stage", "fluence_set_uj_cm2"))
    if not same:
        return Compared(len(first["point"]), False, float("nan"), float("nan"), float("nan"), float("nan"))
    level = [reads["ratio"] / reads["ratio"][reads["stage"] == "baseline"].mean() for reads in (first, second)]
    doses = [reads["lamp_dose_j_cm2"] for reads in (first, second)]
    difference = np.log(level[1] / level[0])
    lit = first["stage"] == "uv"
    # A local slope of the logarithm of the emission against dose, from the first run.
    smooth = np.polynomial.Polynomial.fit(doses[0][lit] ** 0.8, np.log(level[0][lit]), 5)
    expected = smooth(doses[1] ** 0.8) - smooth(doses[0] ** 0.8)
    scatter = np.log(level[0][lit]) - smooth(doses[0][lit] ** 0.8)
    return Compared(
        len(lit),
        same,
        float(np.sqrt((difference[lit] ** 2).mean())),
        float(np.sqrt(((difference - expected)[lit] ** 2).mean())),
        float(np.sqrt((scatter**2).mean())),
        float(doses[1][-1] / doses[0][-1]),
    )


def _reads(path: Path | str) -> Mapping[str, Any]:
    names = ("point", "stage", "ratio", "lamp_dose_j_cm2", "fluence_set_uj_cm2", "t_s")
    with open_run(path) as run:
        is_read = run.column("kind", "points") == "read"
        return {name: np.asarray(run.column(name, "points"))[is_read] for name in names}


def show_whole(sample: str, seen: Seen) -> None:
    """Print what an uninterrupted run cost."""
    print(f"{sample}: {seen.rows} rows, {seen.seconds:.1f} s from command to report (target 60 s)")
    for name, seconds in seen.parts_s().items():
        print(f"    {name:28} {seconds:6.1f} s")
    one, half, end = (seen.memory_at(share) for share in (_AT_ONE_PERCENT, 0.5, _AT_THE_END))
    print(f"    engine's memory at 1 % / 50 % / the end of measuring: {one:.0f} / {half:.0f} / {end:.0f} MB", end="")
    print(f" (target {one + 20:.0f} MB); sealing, analysis, report: {seen.after_mb:.0f} MB")
    early, late = seen.refresh_at(0.0, 0.1), seen.refresh_at(0.9, 1.0)
    print(f"    live refresh by a row: {early * 1e6:.0f} us at the start, {late * 1e6:.0f} us at the end", end="")
    print(f" ({late / early:.2f})")
    opened = list(seen.open_s.items())
    print("    opened anew: " + ", ".join(f"{s * 1e3:.1f} ms at {rows} rows" for rows, s in (opened[0], opened[-1])))
    for name in ("remaining", "t80", "t50", "dose"):
        print(f"    {name}: {_in_words(seen.report['result'].get(name, {}))}")


def show_broken(broken: Broken, same: Compared) -> None:
    """Print what daily deaths cost and changed."""
    rest_s = sum(broken.restarts_s)
    print(f"killed {broken.kills} times: {broken.seconds:.0f} s, of which {rest_s:.0f} s from death to the next row")
    print(f"    acknowledged rows lost or changed: {len(broken.lost)} {broken.lost[:3]}")
    print(f"    set-points the same: {same.same_set_points}; {same.reads} reads")
    print(f"    difference of the curves, rms: {same.time_rms:.2e} at the same point, {same.dose_rms:.2e} at the same")
    print(f"    dose; one read scatters by {same.noise:.2e}; dose {same.dose:.4f} of the uninterrupted one")
    for name in ("remaining", "t80", "t50", "dose"):
        print(f"    {name}: {_in_words(broken.report['result'].get(name, {}))}")


def _in_words(entry: Mapping[str, Any]) -> str:
    if entry.get("value") is None:
        return f"longer than {entry.get('longer_than', float('nan')):.4g} {entry.get('unit', '')}"
    low, high = entry["ci68"]
    return f"{entry['value']:.4g} {entry['unit']} ({low:.4g} to {high:.4g})"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=HOURS)
    parser.add_argument("--samples", nargs="+", default=["cspbbr3-zns", "cspbbr3"])
    parser.add_argument("--kills", type=int, help="deaths of the engine; one a day if left out, 0 for none")
    parser.add_argument("--directory", type=Path, help="on the disk to measure; default: the temporary directory")
    arguments = parser.parse_args()
    kills = round(arguments.hours * 3600.0 / DAY_S) if arguments.kills is None else arguments.kills
    with tempfile.TemporaryDirectory(dir=arguments.directory) as name:
        for sample in arguments.samples:
            folder = Path(name) / sample
            seen = whole(arguments.hours, sample, folder / "whole")
            show_whole(sample, seen)
            if kills:
                broken = killed_daily(arguments.hours, sample, folder / "killed", kills)
                show_broken(broken, compared(seen.report["run"], broken.report["run"]))


if __name__ == "__main__":
    main()
