"""Many trials of each way, what was promised for them, and the table."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fault_table.plans import PLANS
from kill_table.laboratory import Served
from kill_table.trial import Instant, Key, Seen, Terminal, lost, resume, set_points, stored_rows, watch
from kill_table.ways import WAYS, Way
from labctl.config.bench import load_bench
from labctl.config.sample import load_sample
from labctl.errors import LabctlError
from labctl.run.orphan import open_newest
from labctl.run.request import RunRequest
from labctl.run.stored_request import request_to_resume
from labctl.sim.server import LaboratoryServer

PROCEDURE, BENCH, SAMPLE = "fluence-sweep", "simulated", "cdse-cds-zno"
_BEYOND = 1.05
_TWICE = 4


@dataclass(frozen=True)
class Reference:
    """A run that nobody ended.

    :param duration_s: From the start of its engine to its end, real time.
    :param row_s: Longest real time from one row to the next.
    """

    duration_s: float
    row_s: float
    keys: frozenset[Key]
    set_points: dict[tuple[str, int], float]


@dataclass
class Trial:
    """What came of one run that was ended.

    :param instant: When it was to be ended.
    :param rows: Acknowledged rows.
    :param run: Path of the run; empty if it was ended before it had a name.
    :param resumed: Whether it had to be resumed.
    :param problems: Broken promises.
    """

    way: str
    seed: int
    instant: Instant
    seen: Seen
    rows: int = 0
    run: str = ""
    resumed: bool = False
    problems: list[str] = field(default_factory=list)

    def status(self) -> str:
        """Get the status of the run as it is stored; raises StorageError."""
        with open_newest(self.run) as run:
            return run.status

    @property
    def dark_s(self) -> float:
        """Get the real time in s from the end to the last light that was seen; NaN if none was."""
        return self.seen.last_light_s - self.seen.died_s

    def __str__(self) -> str:
        light = f"light for {self.dark_s:.2f} s" if self.seen.lit and self.seen.hit else "dark"
        status = self.seen.outcome.get("status")
        place = f"{self.way} {self.seed}, {self.instant}: {light}, {self.rows} rows, {status}"
        return "\n".join([place, *(f"    {problem}" for problem in self.problems)])


class KillTable:
    """Trials against one laboratory, which outlives them all.

    :param folder: For the runs.
    :param laboratory: The laboratory.
    """

    def __init__(self, folder: Path, laboratory: Served) -> None:
        self._folder = folder
        self._laboratory = laboratory
        self._made = 0
        self.reference = self._refer()

    def trial(self, name: str, seed: int) -> Trial:
        """End a run in a way, at an instant that follows from the seed, and resume it; every fourth is ended twice."""
        trial, notes = self._end(self._start(), name, seed, self._instant(name, seed))
        try:
            if trial.run and seed % _TWICE == _TWICE - 1 and trial.status() != "finished":
                again = self._start(request_to_resume(trial.run))
                second, more = self._end(again, name, seed, Instant(self.reference.row_s / 2, rows=1))
                trial.run, notes = second.run or trial.run, notes + more
                trial.problems += [f"ended again: {problem}" for problem in second.problems]
            trial.rows = len(notes)
            if trial.run:
                self._judge_the_data(trial, notes)
            elif notes:
                trial.problems.append("rows were acknowledged, and nobody knows the run")
        except LabctlError as error:
            trial.problems.append(f"the run cannot be read: {error}")
        return trial

    def _end(self, terminal: Terminal, name: str, seed: int, instant: Instant) -> tuple[Trial, list[dict[str, Any]]]:
        """End a run, and judge the bench; returns the notes of what was acknowledged, too."""
        seen = watch(terminal, self._laboratory, WAYS[name], instant)
        trial = Trial(name, seed, instant, seen, run=str(seen.outcome.get("run") or ""))
        _judge_the_bench(trial, WAYS[name], lit_at_last=bool(self._laboratory.state()["shutter_open"]))
        return trial, terminal.acknowledged()

    def _refer(self) -> Reference:
        terminal = self._start()
        seen = watch(terminal, self._laboratory)
        outcome, notes = seen.outcome, terminal.acknowledged()
        if outcome.get("status") != "finished" or not notes:
            raise RuntimeError(f"the run that nobody ended did not finish: {outcome}")
        with open_newest(outcome["run"]) as run:
            keys, points = frozenset(stored_rows(run)), set_points(run)
        times = [note["at_s"] for note in notes]
        row_s = max(later - earlier for earlier, later in pairwise(times))
        return Reference(seen.ended_s - seen.began_s, row_s, keys, points)

    def _instant(self, name: str, seed: int) -> Instant:
        """Even seeds: anywhere from the start to a little after the end. Odd ones: anywhere among the rows."""
        dice = random.Random(f"{name} {seed}")
        if seed % 2 == 0:
            return Instant(dice.random() * _BEYOND * self.reference.duration_s)
        rows = len(self.reference.keys)
        return Instant(dice.random() * self.reference.row_s, rows=dice.randrange(rows) + 1)

    def _start(self, request: RunRequest | None = None) -> Terminal:
        folder = self._folder / f"{self._made:04d}"
        self._made += 1
        folder.mkdir()
        new = RunRequest(
            procedure=PROCEDURE,
            bench=self._laboratory.bench,
            sample=SAMPLE,
            parameters=dict(PLANS[PROCEDURE].every),
            out=str(folder / "runs"),
            virtual_time=True,
        )
        return Terminal(request or new, folder)

    def _judge_the_data(self, trial: Trial, notes: list[dict[str, Any]]) -> None:
        with open_newest(trial.run) as run:
            status = run.status
            trial.problems += lost(notes, stored_rows(run))
        if status == "finished":
            return
        trial.resumed = True
        outcome = resume(trial.run, self._folder)
        if (outcome.get("status"), outcome.get("safe_state"), outcome["exit"]) != ("finished", "confirmed", 0):
            what = outcome.get("error") or outcome["complaints"]
            trial.problems.append(f"{status}, and resuming it did not finish: {what}")
            return
        with open_newest(outcome["run"]) as run:
            stored, points = stored_rows(run), set_points(run)
        trial.problems += [f"after resuming: {problem}" for problem in lost(notes, stored)]
        if missing := {key[:2] for key in self.reference.keys} - {key[:2] for key in stored}:
            trial.problems.append(f"after resuming there is no {sorted(missing)}")
        if points != self.reference.set_points:
            trial.problems.append(f"after resuming other set-points: {points}")


def _judge_the_bench(trial: Trial, way: Way, *, lit_at_last: bool) -> None:
    seen = trial.seen
    if seen.hit and trial.dark_s > way.within_s:
        trial.problems.append(f"the shutter was open for {trial.dark_s:.2f} s after the end")
    if lit_at_last:
        trial.problems.append("THE SHUTTER IS OPEN")
    state = seen.outcome.get("safe_state")
    nothing_opened = state == "not-needed" and math.isnan(seen.last_light_s)
    if state != "confirmed" and not nothing_opened:
        trial.problems.append(f"the safe state is {state}: {seen.outcome.get('error')}")
    if seen.left:
        trial.problems.append(f"processes that did not end: {', '.join(seen.left)}")


def kill_table(ways: Sequence[str], count: int, *, others: int | None = None) -> Iterator[Trial]:
    """End ``count`` runs in each way; gives the trials as they are made.

    :param others: As ``count``, for every way but the first.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="kill-table-"))).resolve()
        server = LaboratoryServer(load_bench(BENCH), load_sample(SAMPLE), seed=0)
        table = KillTable(folder, Served(folder, stack.enter_context(server), raw=False))
        for number, name in enumerate(ways):
            for seed in range(count if number == 0 or others is None else others):
                yield table.trial(name, seed)


def text_of(trials: Sequence[Trial]) -> str:
    """Get the table, then every broken promise."""
    lines = [
        "| way | trials | hit it alive | with light on | dark after / s: min, median, max | rows acknowledged"
        " | resumed | broken promises |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for way in dict.fromkeys(trial.way for trial in trials):
        mine = [trial for trial in trials if trial.way == way]
        dark = [trial.dark_s for trial in mine if trial.seen.lit and trial.seen.hit]
        spread = f"{min(dark):.2f}, {statistics.median(dark):.2f}, {max(dark):.2f}" if dark else ""
        cells = [
            way,
            len(mine),
            sum(trial.seen.hit for trial in mine),
            sum(trial.seen.lit for trial in mine),
            spread,
            sum(trial.rows for trial in mine),
            sum(trial.resumed for trial in mine),
            sum(bool(trial.problems) for trial in mine),
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join([*lines, *(str(trial) for trial in trials if trial.problems)])
