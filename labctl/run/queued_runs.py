"""The runs of a campaign, made from its file, and all that is wrong with any of them before the first one starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from labctl.run.preflight import preflight
from labctl.run.procedure import SweepProcedure
from labctl.run.request import PROCEDURES, RunRequest, prepare, procedure_class


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


def check_runs(campaign: CampaignConfig, runs: Sequence[QueuedRun]) -> None:
    """Read and check everything that every run needs, limits and disk included, before anything is opened.

    Repetitions of a run differ in their seed alone and are checked once.

    :raises ConfigError: every fault of every run, each with the file and line where it stands.
    """
    problems: list[Problem] = []
    checked: set[int] = set()
    for run in runs:
        if run.table not in checked:
            checked.add(run.table)
            problems += _Placing(campaign, run).problems()
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)), todo="correct the lines named above; nothing was started")


class _Placing:
    """Finds what is wrong with one run and says where in the files that stands."""

    def __init__(self, campaign: CampaignConfig, run: QueuedRun) -> None:
        self._campaign = campaign
        self._run = run
        self._found: list[Problem] = []

    def problems(self) -> list[Problem]:
        request = self._run.request
        procedure = self._procedure()
        self._try("bench", lambda: load_bench(request.bench))
        if request.sample is not None:
            sample = request.sample
            self._try("sample", lambda: load_sample(sample))
        if not self._found:
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
        planned = preflight(prepare(self._run.request, procedure))
        for reason in planned.refusals:
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
        path: KeyPath = ("run", self._run.table, *([key] if key else []))
        line = self._campaign.line_of(path)
        self._found.append(Problem(self._campaign.file, line, dotted(path), found, allowed, nearest))
