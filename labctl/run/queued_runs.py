"""The runs of a campaign, made from its file: for each sample, at each place, each repetition, with what they need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from labctl.config.campaign import MAX_SEED, CampaignConfig, OnFailure, RunTable
from labctl.config.fault import Fault, as_toml, nearest_name
from labctl.config.from_result import FROM
from labctl.config.toml_lines import Path as KeyPath
from labctl.errors import InputError, LabctlError
from labctl.run.dependencies import Reference, parameter_of
from labctl.run.request import RunRequest

_PLACE = "place"
"""The parameter of a procedure that says where on the sample it measures."""


@dataclass(frozen=True)
class QueuedRun:
    """One run of a campaign.

    :param number: Its place in the queue, from 1; repetitions count.
    :param name: What it is called in messages.
    :param request: What to run; without the parameters of :attr:`references`.
    :param on_failure: What to do if it does not finish.
    :param table: Which ``[[run]]`` of the file it comes from, from 0.
    :param repetition: Which one of that table for its sample and place, from 0.
    :param retries: How often it is tried again, each time after ``retry_wait_s``.
    :param references: Parameters that take their value from earlier runs.
    :param after: Numbers of runs that must have finished.
    :param quiet_wait: Whether it does not begin in the quiet hours.
    :param group: Name of the group in which it takes turns; None if it does not.
    :param leave_s: How far away its next point must be for others to have the bench, in s.
    :param fill: Whether it may be run earlier while others wait.
    :param broken: What the file says of earlier runs that are not there: key, found, allowed, nearest.
    """

    number: int
    name: str
    request: RunRequest
    on_failure: OnFailure
    table: int
    repetition: int = 0
    retries: int = 0
    retry_wait_s: float = 0.0
    references: Mapping[str, Reference] = field(default_factory=dict)
    after: tuple[int, ...] = ()
    quiet_wait: bool = False
    group: str | None = None
    leave_s: float | None = None
    fill: bool = False
    broken: tuple[tuple[KeyPath, str, str, str | None], ...] = ()

    @property
    def needs(self) -> frozenset[int]:
        """Get the numbers of the runs that must be over before it."""
        return frozenset((*self.after, *(reference.number for reference in self.references.values())))

    def asked(self) -> dict[str, Any]:
        """Get what the file asks for, as data: what must not change once the run was begun."""
        request = self.request.model_dump(mode="json")
        asked = {key: request.get(key) for key in WHAT}
        if self.references:
            asked["references"] = {
                name: {**reference.source.model_dump(mode="json", by_alias=True), "number": reference.number}
                for name, reference in self.references.items()
            }
        return asked


WHAT = ("procedure", "parameters", "bench", "sample", "spot", "seed", "virtual_time")
"""What a request says of the measurement itself."""


def queued_runs(campaign: CampaignConfig, *, out: str, seed: int = 0, virtual_time: bool = False) -> list[QueuedRun]:
    """Get the runs of a campaign in their order.

    :param out: Folder for the runs.
    :param seed: Seed of the first run; a run without one in the file gets the next.
    :raises InputError: a path holds bytes that are no text.
    """
    runs: list[QueuedRun] = []
    for table, entry in enumerate(campaign.runs):
        runs += _runs_of(campaign, table, entry, out, seed, len(runs), virtual_time)
    if campaign.order == "sample":
        runs = _by_sample(campaign, runs)
    runs = [replace(run, number=number) for number, run in enumerate(runs, start=1)]
    names = _Names(campaign, runs)
    runs = [_linked(run, campaign.runs[run.table], names) for run in runs]
    try:
        for run in runs:
            run.request.model_dump_json()
    except ValueError as error:
        raise InputError(f"the path of a campaign holds bytes that are no text: {error}") from error
    return runs


def _runs_of(
    campaign: CampaignConfig, table: int, entry: RunTable, out: str, seed: int, before: int, virtual_time: bool
) -> Iterator[QueuedRun]:
    """Give the runs of one table: for each sample, at each place, each repetition."""
    samples: Sequence[str | None] = entry.samples or (entry.sample,)
    places = entry.positions or (entry.spot,)
    has_place = entry.positions is not None and _has_place(entry.procedure)
    values = entry.values()
    for index, (sample, place, repetition) in enumerate(product(samples, places, range(entry.repeat))):
        first = seed + before + index if entry.seed is None else entry.seed + index
        request = RunRequest(
            procedure=entry.procedure,
            parameters={**values, _PLACE: place} if has_place else values,
            bench=campaign.place("benches", entry.bench),
            sample=None if sample is None else campaign.place("samples", sample),
            out=out,
            spot=place,
            seed=first % (MAX_SEED + 1),
            virtual_time=virtual_time,
        )
        yield QueuedRun(
            index,
            _name(entry, sample, place, repetition),
            request,
            entry.on_failure or campaign.on_failure,
            table,
            repetition,
            retries=campaign.retries if entry.retries is None else entry.retries,
            retry_wait_s=campaign.retry_wait_s if entry.retry_wait_s is None else entry.retry_wait_s,
            quiet_wait=entry.quiet == "wait",
            group=entry.interleave,
            leave_s=entry.leave_if_idle_s,
            fill=entry.fill,
        )


def _has_place(procedure: str) -> bool:
    try:
        return parameter_of(procedure, _PLACE) is not None
    except LabctlError:  # said with all that is wrong with the run
        return False


def _name(entry: RunTable, sample: str | None, place: str, repetition: int) -> str:
    name = entry.name or " ".join(part for part in (entry.procedure, sample or entry.bench) if part)
    parts = [name]
    if entry.samples is not None and sample is not None and entry.name:
        stems = [Path(one).stem for one in entry.samples]
        parts.append(Path(sample).stem if stems.count(Path(sample).stem) == 1 else sample)
    if entry.positions is not None:
        parts.append(place)
    name = ", ".join(parts)
    return f"{name} ({repetition + 1} of {entry.repeat})" if entry.repeat > 1 else name


def _by_sample(campaign: CampaignConfig, runs: Sequence[QueuedRun]) -> list[QueuedRun]:
    """Get the runs with tables of several samples, where such tables follow one another, taken sample by sample."""
    ordered: list[QueuedRun] = []
    block: list[QueuedRun] = []

    def close() -> None:
        ranks = {sample: rank for rank, sample in enumerate(dict.fromkeys(run.request.sample for run in block))}
        ordered.extend(sorted(block, key=lambda run: ranks[run.request.sample]))
        block.clear()

    for run in runs:
        if campaign.runs[run.table].samples is None:
            close()
            ordered.append(run)
        else:
            block.append(run)
    close()
    return ordered


class _Names:
    """Finds the run that a name in a campaign file means, seen from another run."""

    def __init__(self, campaign: CampaignConfig, runs: Sequence[QueuedRun]) -> None:
        self._tables = campaign.runs
        self._by_name: dict[str, list[QueuedRun]] = {}
        for run in runs:
            table = campaign.runs[run.table].name
            for name in {run.name, *([table] if table else [])}:
                self._by_name.setdefault(name, []).append(run)

    def runs(self, name: str, seen_from: QueuedRun) -> list[QueuedRun]:
        """Get the runs of that name: those for the same sample and place, where there are several.

        :raises Fault: there is none, or it comes later.
        """
        found = self._by_name.get(name)
        if not found:
            near = nearest_name(name, self._by_name)
            raise Fault(f"{as_toml(name)}, no run of this campaign", "the name of an earlier run", nearest=near)
        for same in (lambda run: run.request.sample, lambda run: run.request.spot):
            alike = [run for run in found if same(run) == same(seen_from)]
            found = alike or found
        if any(run.number >= seen_from.number for run in found):
            raise Fault(f"{as_toml(name)}, which is not run before {as_toml(seen_from.name)}", "an earlier run")
        return found

    def run(self, name: str, seen_from: QueuedRun) -> QueuedRun:
        """Get the one run of that name; of repetitions the one that corresponds, else the last.

        :raises Fault: as :meth:`runs`, or it is not clear which of several is meant.
        """
        found = self.runs(name, seen_from)
        if len({(run.table, run.request.sample, run.request.spot) for run in found}) > 1:
            names = ", ".join(as_toml(run.name) for run in found[:5])
            raise Fault(f"{as_toml(name)}, which may be any of {len(found)} runs", f"one of {names}")
        if len(found) == self._tables[seen_from.table].repeat:
            return next((run for run in found if run.repetition == seen_from.repetition), found[-1])
        return found[-1]


def _linked(run: QueuedRun, entry: RunTable, names: _Names) -> QueuedRun:
    """Get a run with the runs that it names; what is not there is noted."""
    broken: list[tuple[KeyPath, str, str, str | None]] = []
    references: dict[str, Reference] = {}
    after: list[int] = []
    for name, source in entry.references().items():
        try:
            references[name] = Reference(source, names.run(source.run, run).number)
        except Fault as fault:
            broken.append((("parameters", name, FROM), fault.found, fault.allowed, fault.nearest))
    for position, name in enumerate(entry.after):
        try:
            after += [earlier.number for earlier in names.runs(name, run)]
        except Fault as fault:
            broken.append((("after", position), fault.found, fault.allowed, fault.nearest))
    return replace(run, references=references, after=tuple(after), broken=tuple(broken))
