"""The runs of a campaign, made from its file, and all that is wrong with any of them before the first one starts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from labctl.config.bench import load_bench
from labctl.config.campaign import MAX_SEED, CampaignConfig, OnFailure, RunTable
from labctl.config.fault import as_toml, nearest_name
from labctl.config.sample import load_sample
from labctl.config.toml_lines import Path as KeyPath
from labctl.config.toml_lines import dotted
from labctl.errors import ConfigError, InputError, LabctlError, Problem
from labctl.installed import entry_points
from labctl.run.preflight import Preflight, preflight
from labctl.run.procedure import SweepProcedure
from labctl.run.request import PROCEDURES, PreparedRun, RunRequest, prepare, procedure_class


@dataclass(frozen=True)
class QueuedRun:
    """One run of a campaign.

    :param number: Its place in the queue, from 1; repetitions count.
    :param name: What it is called in messages.
    :param request: What to run.
    :param on_failure: What to do if it does not finish.
    :param table: Which ``[[run]]`` of the file it comes from, from 0.
    """

    number: int
    name: str
    request: RunRequest
    on_failure: OnFailure
    table: int


def queued_runs(campaign: CampaignConfig, *, out: str, seed: int = 0, virtual_time: bool = False) -> list[QueuedRun]:
    """Get the runs of a campaign in their order.

    :param out: Folder for the runs.
    :param seed: Seed of the first run; a run without one in the file gets the next.
    :raises InputError: a path holds bytes that are no text.
    """
    runs: list[QueuedRun] = []
    for table, entry in enumerate(campaign.runs):
        for repetition in range(entry.repeat):
            first = seed + len(runs) if entry.seed is None else entry.seed + repetition
            request = RunRequest(
                procedure=entry.procedure,
                parameters=entry.parameters.data,
                bench=campaign.place("benches", entry.bench),
                sample=None if entry.sample is None else campaign.place("samples", entry.sample),
                out=out,
                spot=entry.spot,
                seed=first % (MAX_SEED + 1),
                virtual_time=virtual_time,
            )
            name = _name(entry, repetition)
            runs.append(QueuedRun(len(runs) + 1, name, request, entry.on_failure or campaign.on_failure, table))
    try:
        for run in runs:
            run.request.model_dump_json()
    except ValueError as error:
        raise InputError(f"the path of a campaign holds bytes that are no text: {error}") from error
    return runs


def _name(entry: RunTable, repetition: int) -> str:
    name = entry.name or " ".join(part for part in (entry.procedure, entry.sample or entry.bench) if part)
    return f"{name} ({repetition + 1} of {entry.repeat})" if entry.repeat > 1 else name


def check_runs(campaign: CampaignConfig, runs: Sequence[QueuedRun], begun: Container[int] = ()) -> None:
    """Read and check everything that every run needs, limits and disk included, before anything is opened.

    Repetitions of a run differ in their seed alone and are checked once. Dose and disk are summed over all runs.

    :param runs: What is still to be done.
    :param begun: Numbers of runs that were begun: what is left of them is planned from their journal, not here.
    :raises ConfigError: every fault of every run, each with the file and line where it stands.
    """
    problems: list[Problem] = []
    sums = _Sums()
    times = Counter(run.table for run in runs if run.number not in begun)
    first = {run.table: run for run in reversed(runs) if run.number not in begun}
    started = {run.table: run for run in runs if run.number in begun and run.table not in first}
    for table, run in sorted({**started, **first}.items()):
        check = _Check(campaign, run, only_read=table in started)
        problems += check.problems()
        if check.planned is not None and check.prepared is not None:
            for key, found, allowed in sums.add(check.prepared, check.planned, times[table]):
                problems.append(check.problem(key, found, allowed))
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)), todo="correct the lines named above; nothing was started")


class _Sums:
    """What all runs together ask of the sample's spots and of the disk."""

    def __init__(self) -> None:
        self._dose_j_cm2: dict[tuple[str, str], float] = {}
        self._disk_mb = 0.0

    def add(self, prepared: PreparedRun, planned: Preflight, times: int) -> Iterator[tuple[str, str, str]]:
        """Add a run that is done some times; give key, finding and bound where all of them are too much."""
        if prepared.sample is not None and not prepared.simulated:
            spot = (prepared.sample.sample.name, prepared.request.spot)
            before = self._dose_j_cm2.get(spot, planned.spot_dose_j_cm2)
            dose = self._dose_j_cm2[spot] = before + times * planned.plan.dose_j_cm2
            limit = planned.dose_limit_j_cm2
            if limit is not None and dose > limit and not planned.refusals and planned.plan.dose_j_cm2 > 0:
                found = f"a spot that would have received {dose:.3g} J/cm^2 by then, the runs before it counted"
                yield "spot", found, f"at most {limit:.3g} J/cm^2 (limits.dose_per_spot); use a fresh spot"
        self._disk_mb += times * planned.disk_need_mb
        free_mb = planned.disk_free_mb - planned.disk_reserve_mb
        if self._disk_mb > free_mb and not planned.refusals:
            found = f"runs that may need {self._disk_mb:.0f} MB by then, those before it counted"
            yield "", found, f"at most {free_mb:.0f} MB, which the disk has beyond limits.disk_reserve"


class _Check:
    """Finds what is wrong with one run and says where in the files that stands."""

    def __init__(self, campaign: CampaignConfig, run: QueuedRun, *, only_read: bool) -> None:
        self._campaign = campaign
        self._run = run
        self._only_read = only_read
        self._found: list[Problem] = []
        self.prepared: PreparedRun | None = None
        self.planned: Preflight | None = None

    def problems(self) -> list[Problem]:
        request = self._run.request
        procedure = self._procedure()
        self._try("bench", lambda: load_bench(request.bench))
        if request.sample is not None:
            sample = request.sample
            self._try("sample", lambda: load_sample(sample))
        if not self._found and not self._only_read:
            self._try("", lambda: self._check_whole(procedure))
        return self._found

    def _procedure(self) -> SweepProcedure | None:
        request = self._run.request
        names = sorted(entry.name for entry in entry_points(group=PROCEDURES))
        if request.procedure.replace("_", "-") not in names:
            near = nearest_name(request.procedure, names)
            self._add("procedure", f"{as_toml(request.procedure)}, an unknown procedure", ", ".join(names), near)
            return None
        found: list[SweepProcedure] = []
        self._try("procedure", lambda: found.append(procedure_class(request.procedure)(**request.parameters)))
        return found[0] if found else None

    def _check_whole(self, procedure: SweepProcedure | None) -> None:
        self.prepared = prepare(self._run.request, procedure)
        self.planned = preflight(self.prepared)
        for reason in self.planned.refusals:
            self._add("", f"a run that the preflight refuses ({reason})", "a run within the limits of its bench")

    def _try(self, key: str, check: Callable[[], Any]) -> None:
        """Run one check and place what it finds at a key of this run, unless it stands in a file of its own."""
        try:
            check()
        except ConfigError as error:
            self._found += [self._placed(key, problem) for problem in error.problems]
        except LabctlError as error:
            where = f" ({error.where})" if error.where else ""
            self._add(key, f"what cannot be carried out: {error.what}{where}", error.todo or "a run that can be")

    def _placed(self, key: str, problem: Problem) -> Problem:
        path: KeyPath = ("run", self._run.table)
        if problem.file == "parameters":
            path = (*path, "parameters", problem.key)
        elif problem.line is None:
            path = (*path, key) if key else path
        else:
            return problem
        line = self._campaign.line_of(path)
        return Problem(self._campaign.file, line, dotted(path), problem.found, problem.allowed, problem.nearest)

    def _add(self, key: str, found: str, allowed: str, nearest: str | None = None) -> None:
        self._found.append(self.problem(key, found, allowed, nearest))

    def problem(self, key: str, found: str, allowed: str, nearest: str | None = None) -> Problem:
        """Place a fault at a key of this run; at the run itself if the key is empty."""
        path: KeyPath = ("run", self._run.table, *([key] if key else []))
        line = self._campaign.line_of(path)
        return Problem(self._campaign.file, line, dotted(path), found, allowed, nearest)
