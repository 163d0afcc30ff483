"""The campaign file: many runs, one after another, unattended."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, field_validator, model_validator

from labctl.config.document import TomlDocument, parse_document, read_document
from labctl.config.fault import Fault, Faults, as_toml
from labctl.config.file_table import FileTable, read_table
from labctl.config.from_result import ALLOWED, FromResult, is_plain, is_reference, read_reference
from labctl.config.locate import list_shipped, locate
from labctl.config.notify import NotifyTable
from labctl.config.quantity import InUnit
from labctl.config.raw_table import RawTable
from labctl.config.table import LongText, PathText, ShortText, Table
from labctl.config.times import QuietTable, zone_of
from labctl.config.toml_lines import Path as KeyPath
from labctl.config.toml_lines import TomlLines

MAX_TABLES = 1000
MAX_RUNS = 10_000
MAX_SEED = 2**63 - 1

OnFailure = Literal["continue", "pause", "stop"]
"""After a run that did not finish: the next one; ask whether to go on, and end where nobody can be asked; end."""

FailurePolicy = Annotated[OnFailure, Field(description='"continue", "pause" or "stop"')]
Retries = Annotated[int, Field(ge=0, le=100, description="a whole number from 0")]
RetryWaitS = Annotated[float, InUnit("s", at_least=0, at_most=7 * 86400, example="10 min")]
LeaveS = Annotated[float, InUnit("s", at_least=1, at_most=7 * 86400, example="5 min")]
_LEAVE_S = 300.0
Order = Literal["table", "sample"]
"""Which run comes next: that of the next table, or, of tables that follow one another, that of the same sample."""


class RunTable(Table):
    """One ``[[run]]``: what `labctl run` would be told."""

    procedure: Annotated[ShortText, Field(description="the name of a procedure")]
    bench: Annotated[PathText, Field(description="the name of a shipped bench, or a path beside the campaign file")]
    sample: Annotated[PathText | None, Field(description="the name of a shipped sample, or a path")] = None
    samples: Annotated[
        tuple[PathText, ...] | None,
        Field(strict=False, min_length=1, max_length=MAX_TABLES, description="an array of samples"),
    ] = None
    """The table is run for each of them."""
    spot: Annotated[ShortText, Field(description="the name of a spot on the sample")] = "1"
    positions: Annotated[
        tuple[ShortText, ...] | None,
        Field(strict=False, min_length=1, max_length=MAX_TABLES, description="an array of places on the sample"),
    ] = None
    """The table is run at each of them: as ``spot``, and as the parameter ``place`` of a procedure that has it."""
    parameters: RawTable
    seed: Annotated[int | None, Field(ge=0, le=MAX_SEED, description="a whole number from 0")] = None
    """Of the simulated laboratory, for the first run of the table; each further one has the next."""
    repeat: Annotated[int, Field(ge=1, le=MAX_RUNS, description="a whole number from 1")] = 1
    name: ShortText | None = None
    after: Annotated[
        tuple[ShortText, ...], Field(strict=False, max_length=MAX_TABLES, description="an array of names of runs")
    ] = ()
    """It is run only if these have finished."""
    on_failure: FailurePolicy | None = None
    """Instead of the campaign's; likewise the next two."""
    retries: Retries | None = None
    retry_wait_s: Annotated[RetryWaitS | None, Field(alias="retry_wait")] = None
    quiet: Annotated[Literal["run", "wait"], Field(description='"run" or "wait"')] = "run"
    """Whether it may begin in the quiet hours."""
    interleave: ShortText | None = None
    """Runs of the same group take turns on their bench."""
    leave_s: Annotated[LeaveS | None, Field(alias="leave")] = None
    """A run of a group lets others have its bench when its next point is farther away than this."""
    fill: bool = False
    """Whether it may be run earlier, while others wait, if it fits in."""

    @field_validator("parameters", mode="after")
    @classmethod
    def _plain_values(cls, parameters: RawTable) -> RawTable:
        faults: list[Fault] = []
        for name, value in parameters.data.items():
            if is_reference(value):
                faults += [
                    Fault(fault.found, fault.allowed, nearest=fault.nearest, key=(name, *fault.key))
                    for fault in read_reference(value)[1]
                ]
            elif not is_plain(value):
                faults.append(Fault(as_toml(value), ALLOWED, key=(name,)))
        if faults:
            raise Faults(faults)
        return parameters

    @model_validator(mode="after")
    def _one_meaning(self) -> RunTable:
        """Refuse keys that say the same thing twice, or that mean nothing."""
        faults: list[Fault] = []
        if self.sample is not None and self.samples is not None:
            faults.append(Fault("samples beside sample", "one of the two", key=("samples",)))
        if "spot" in self.model_fields_set and self.positions is not None:
            faults.append(Fault("positions beside spot", "one of the two", key=("positions",)))
        for key, given in (("samples", self.samples), ("positions", self.positions), ("after", self.after)):
            faults += [
                Fault(f"{as_toml(entry)} a second time", "each once", key=(key, number))
                for number, entry in enumerate(given or ())
                if entry in (given or ())[:number]
            ]
        if self.interleave is None and self.leave_s is not None:
            faults.append(
                Fault("leave without interleave", "interleave, the name of a group, beside it", key=("leave",))
            )
        if faults:
            raise Faults(faults)
        return self

    @property
    def count(self) -> int:
        """Get the number of its runs."""
        return self.repeat * len(self.samples or (None,)) * len(self.positions or (None,))

    @property
    def leave_if_idle_s(self) -> float | None:
        """Get how far away the next point must be for others to have the bench, in s; None if it keeps it."""
        return None if self.interleave is None else self.leave_s or _LEAVE_S

    def values(self) -> dict[str, Any]:
        """Get the parameters that have a value in the file."""
        return {name: value for name, value in self.parameters.data.items() if not is_reference(value)}

    def references(self) -> dict[str, FromResult]:
        """Get the parameters that take their value from an earlier run."""
        read = {name: read_reference(value)[0] for name, value in self.parameters.data.items() if is_reference(value)}
        return {name: reference for name, reference in read.items() if reference is not None}


class CampaignConfig(FileTable):
    """A campaign file."""

    name: ShortText
    description: LongText = ""
    on_failure: FailurePolicy = "pause"
    retries: Retries = 0
    """How often a run that failed is tried again before its ``on_failure`` applies."""
    retry_wait_s: Annotated[RetryWaitS, Field(alias="retry_wait")] = 600.0
    order: Annotated[Order, Field(description='"table" or "sample"')] = "table"
    time_zone: Annotated[ShortText | None, Field(description='the name of a time zone, e.g. "Europe/Berlin"')] = None
    """Of the quiet hours and of the digest; that of the computer if none is named."""
    quiet: QuietTable | None = None
    notify: NotifyTable | None = None
    runs: Annotated[
        tuple[RunTable, ...],
        Field(
            alias="run", strict=False, min_length=1, max_length=MAX_TABLES, description="one table [[run]] for each run"
        ),
    ]

    _folder: Path | None = PrivateAttr(None)
    _lines: TomlLines = PrivateAttr(TomlLines({}, (), ()))

    def line_of(self, path: KeyPath) -> int:
        """Get the line of a key, e.g. of ``("run", 0, "bench")``."""
        return self._lines.line_of(path)

    @property
    def folder(self) -> Path:
        """Get the folder from which its paths start."""
        return self._folder or Path()

    def place(self, kind: Literal["benches", "samples"], name: str) -> str:
        """Get what a run is to be told for a bench or sample of the file: paths start from the campaign's folder."""
        if self._folder is None or name in list_shipped(kind) or name.startswith("~"):
            return name
        return str(self._folder / name)

    @field_validator("runs", mode="after")
    @classmethod
    def _countable(cls, runs: tuple[RunTable, ...]) -> tuple[RunTable, ...]:
        total = sum(run.count for run in runs)
        if total > MAX_RUNS:
            raise Fault(f"{total} runs, repetitions counted", f"at most {MAX_RUNS}")
        first: dict[str, int] = {}
        faults: list[Fault] = []
        for number, run in enumerate(runs):
            if run.name is not None and first.setdefault(run.name, number) != number:
                faults.append(Fault(f"{as_toml(run.name)} a second time", "each name once", key=(number, "name")))
        if faults:
            raise Faults(faults)
        return runs

    @field_validator("time_zone", mode="after")
    @classmethod
    def _known_zone(cls, name: str | None) -> str | None:
        if name is not None:
            zone_of(name)
        return name

    @model_validator(mode="after")
    def _quiet_when(self) -> CampaignConfig:
        """Runs that wait for the end of the quiet hours need to know when that is."""
        faults = [
            Fault(
                '"wait", and the campaign has no quiet hours',
                "a table [quiet] with from and to",
                key=("run", n, "quiet"),
            )
            for n, run in enumerate(self.runs)
            if run.quiet == "wait" and self.quiet is None
        ]
        if faults:
            raise Faults(faults)
        return self


def load_campaign(name_or_path: str | Path) -> CampaignConfig:
    """Read a campaign file; its benches, samples and procedures are not opened.

    :param name_or_path: Name of a shipped campaign, or a path.
    :raises ConfigError: every fault in it.
    """
    path = locate("campaigns", name_or_path)
    return _campaign(read_document(path), path.parent.absolute())


def parse_campaign(text: str, file: str) -> CampaignConfig:
    """Read a campaign from text; paths in it are taken as they are.

    :raises ConfigError: every fault in it.
    """
    return _campaign(parse_document(text, file), None)


def _campaign(document: TomlDocument, folder: Path | None) -> CampaignConfig:
    campaign = read_table(CampaignConfig, document, _with_raw_tables(document))
    campaign._folder, campaign._lines = folder, document.lines
    return campaign


def _with_raw_tables(document: TomlDocument) -> dict[str, Any]:
    """Get the data with the parameters of each run wrapped, so that they keep their file and lines."""
    data = dict(document.data)
    runs = data.get("run")
    if isinstance(runs, list):
        data["run"] = [_with_parameters(run, number, document) for number, run in enumerate(runs)]
    return data


def _with_parameters(run: object, number: int, document: TomlDocument) -> object:
    if not isinstance(run, Mapping):
        return run
    given = run.get("parameters", {})
    if not isinstance(given, Mapping):
        return run
    return {**run, "parameters": RawTable(document.file, ("run", number, "parameters"), document.lines, given)}
