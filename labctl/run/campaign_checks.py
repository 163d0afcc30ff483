"""All that is wrong with any run of a campaign, found before the first one starts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import Any

from labctl.config.bench import load_bench
from labctl.config.campaign import CampaignConfig
from labctl.config.fault import Fault, as_toml, nearest_name
from labctl.config.from_result import FromResult
from labctl.config.sample import load_sample
from labctl.config.toml_lines import Path as KeyPath
from labctl.config.toml_lines import dotted
from labctl.errors import ConfigError, LabctlError, Problem
from labctl.installed import entry_points
from labctl.run.dependencies import check_source, parameter_of, trial_values, unit_of
from labctl.run.preflight import Preflight, preflight
from labctl.run.procedure import SweepProcedure
from labctl.run.queued_runs import QueuedRun
from labctl.run.request import PROCEDURES, PreparedRun, RunRequest, prepare, procedure_class


def check_runs(
    campaign: CampaignConfig,
    runs: Sequence[QueuedRun],
    begun: Container[int] = (),
    *,
    every: Sequence[QueuedRun] | None = None,
    warn: Callable[[str], None] = lambda text: None,
) -> None:
    """Read and check everything that every run needs, limits and disk included, before anything is opened.

    Runs of a table that differ in their seed alone are checked once. Dose and disk are summed over all runs.

    :param runs: What is still to be done.
    :param begun: Numbers of runs that were begun: what is left of them is planned from their journal, not here.
    :param every: All runs of the campaign, those that are done too; ``runs`` if not given.
    :param warn: Told of what cannot be checked beforehand.
    :raises ConfigError: every fault of every run, each with the file and line where it stands.
    """
    problems: list[Problem] = []
    warnings: dict[str, None] = {}
    sums = _Sums()
    numbered = {run.number: run for run in (every or runs)}
    times = Counter(_kind(run) for run in runs if run.number not in begun)
    first = {_kind(run): run for run in reversed(runs) if run.number not in begun}
    started = {_kind(run): run for run in runs if run.number in begun and _kind(run) not in first}
    for kind, run in sorted({**started, **first}.items(), key=lambda entry: entry[1].number):
        check = _Check(campaign, run, numbered, warnings.setdefault, only_read=kind in started)
        problems += check.problems()
        for prepared, planned in check.worst():
            for key, found, allowed in sums.add(prepared, planned, times[kind]):
                problems.append(check.problem(key, found, allowed))
    for text in warnings:
        warn(text)
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)), todo="correct the lines named above; nothing was started")


def _kind(run: QueuedRun) -> tuple[int, str | None, str]:
    """Get what runs have in common that differ in their seed alone."""
    return run.table, run.request.sample, run.request.spot


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

    def __init__(
        self,
        campaign: CampaignConfig,
        run: QueuedRun,
        numbered: Mapping[int, QueuedRun],
        warn: Callable[[str], object],
        *,
        only_read: bool,
    ) -> None:
        self._campaign = campaign
        self._run = run
        self._numbered = numbered
        self._warn = warn
        self._only_read = only_read
        self._found: list[Problem] = []
        self._planned: list[tuple[PreparedRun, Preflight]] = []

    def problems(self) -> list[Problem]:
        run = self._run
        for path, found, allowed, near in run.broken:
            self._add(path, found, allowed, near)
        known = self._is_known()
        requests, bounded = self._trials() if known else ([run.request], True)
        procedures = [self._procedure(request) for request in requests] if known else [None]
        self._try("bench", lambda: load_bench(run.request.bench))
        if run.request.sample is not None:
            sample = run.request.sample
            self._try(
                "sample" if self._campaign.runs[run.table].samples is None else "samples", lambda: load_sample(sample)
            )
        if not self._found and not self._only_read:
            for request, procedure in zip(requests, procedures, strict=True):
                self._try("", lambda request=request, procedure=procedure: self._check_whole(request, procedure))
            self._found = self._found if bounded else self._only_said()
        return self._found

    def worst(self) -> Iterator[tuple[PreparedRun, Preflight]]:
        """Give what was planned: of a run whose parameters are not known yet that with the highest dose."""
        if self._planned:
            yield max(self._planned, key=lambda entry: entry[1].plan.dose_j_cm2)

    def _is_known(self) -> bool:
        name = self._run.request.procedure
        names = sorted(entry.name for entry in entry_points(group=PROCEDURES))
        if name.replace("_", "-") in names:
            return True
        self._add(("procedure",), f"{as_toml(name)}, an unknown procedure", ", ".join(names), nearest_name(name, names))
        return False

    def _trials(self) -> tuple[list[RunRequest], bool]:
        """Get the run as it will be asked for at most and at least, and whether its real values will lie between."""
        request, trials = self._run.request, {}
        bounded = True
        for name, reference in self._run.references.items():
            try:
                trials[name], has_bounds = self._trial(name, reference.source, reference.number)
            except Fault as fault:
                self._add(("parameters", name, *fault.key), fault.found, fault.allowed, fault.nearest)
            except LabctlError as error:
                self._add(("parameters", name), error.what, error.todo or "a run that can be carried out")
            else:
                bounded = bounded and has_bounds
        count = max((len(values) for values in trials.values()), default=1)
        requests = []
        for number in range(count):
            values = {name: given[min(number, len(given) - 1)] for name, given in trials.items()}
            requests.append(request.model_copy(update={"parameters": {**request.parameters, **values}}))
        return requests, bounded

    def _trial(self, name: str, source: FromResult, number: int) -> tuple[list[str], bool]:
        parameter = parameter_of(self._run.request.procedure, name)
        if parameter is None:
            return ["1"], True  # the procedure itself says that it has no such parameter
        trials, bounded = trial_values(source, parameter)
        place = f"{self._campaign.file}:{self._campaign.line_of(self._path(('parameters', name)))}"
        earlier = self._numbered[number].request.procedure
        check_source(source, earlier, lambda text: self._warn(f"{place}: {text}"), unit_of(parameter))
        if not bounded:
            self._warn(
                f"{place}: {name} has no at_most: whether it is within the limits is seen when its value is known"
            )
        return trials, bounded

    def _only_said(self) -> list[Problem]:
        """What a guessed value meets is no fault of the file."""
        for problem in self._found:
            self._warn(f"{problem.file}:{problem.line}: with a value that was made up for this check: {problem.found}")
        return []

    def _procedure(self, request: RunRequest) -> SweepProcedure | None:
        found: list[SweepProcedure] = []
        self._try("procedure", lambda: found.append(procedure_class(request.procedure)(**request.parameters)))
        return found[0] if found else None

    def _check_whole(self, request: RunRequest, procedure: SweepProcedure | None) -> None:
        prepared = prepare(request, procedure)
        planned = preflight(prepared)
        self._planned.append((prepared, planned))
        for reason in planned.refusals:
            self._add((), f"a run that the preflight refuses ({reason})", "a run within the limits of its bench")

    def _try(self, key: str, check: Callable[[], Any]) -> None:
        """Run one check and place what it finds at a key of this run, unless it stands in a file of its own."""
        try:
            check()
        except ConfigError as error:
            self._found += [self._placed(key, problem) for problem in error.problems]
        except LabctlError as error:
            where = f" ({error.where})" if error.where else ""
            found = f"what cannot be carried out: {error.what}{where}"
            self._add((key,) if key else (), found, error.todo or "a run that can be")

    def _placed(self, key: str, problem: Problem) -> Problem:
        if problem.file == "parameters":
            path: KeyPath = ("parameters", problem.key)
        elif problem.line is None:
            path = (key,) if key else ()
        else:
            return problem
        path = self._path(path)
        line = self._campaign.line_of(path)
        return Problem(self._campaign.file, line, dotted(path), problem.found, problem.allowed, problem.nearest)

    def _add(self, key: KeyPath, found: str, allowed: str, nearest: str | None = None) -> None:
        path = self._path(key)
        line = self._campaign.line_of(path)
        self._found.append(Problem(self._campaign.file, line, dotted(path), found, allowed, nearest))

    def problem(self, key: str, found: str, allowed: str) -> Problem:
        """Place a fault at a key of this run; at the run itself if the key is empty."""
        path = self._path((key,) if key else ())
        return Problem(self._campaign.file, self._campaign.line_of(path), dotted(path), found, allowed)

    def _path(self, key: KeyPath) -> KeyPath:
        return ("run", self._run.table, *key)
