"""The campaign file: many runs, one after another, unattended."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, field_validator

from labctl.config.document import TomlDocument, parse_document, read_document
from labctl.config.fault import Fault, Faults, as_toml
from labctl.config.file_table import FileTable, read_table
from labctl.config.locate import list_shipped, locate
from labctl.config.raw_table import RawTable
from labctl.config.table import LongText, PathText, ShortText, Table
from labctl.config.toml_lines import Path as KeyPath
from labctl.config.toml_lines import TomlLines

MAX_TABLES = 1000
MAX_RUNS = 10_000
MAX_SEED = 2**63 - 1

OnFailure = Literal["continue", "pause", "stop"]
"""After a run that did not finish: the next one; ask whether to go on, and end where nobody can be asked; end."""

FailurePolicy = Annotated[OnFailure, Field(description='"continue", "pause" or "stop"')]


class RunTable(Table):
    """One ``[[run]]``: what `labctl run` would be told."""

    procedure: Annotated[ShortText, Field(description="the name of a procedure")]
    bench: Annotated[PathText, Field(description="the name of a shipped bench, or a path beside the campaign file")]
    sample: Annotated[PathText | None, Field(description="the name of a shipped sample, or a path")] = None
    spot: Annotated[ShortText, Field(description="the name of a spot on the sample")] = "1"
    parameters: RawTable
    seed: Annotated[int | None, Field(ge=0, le=MAX_SEED, description="a whole number from 0")] = None
    """Of the simulated laboratory, for the first repetition; each further one has the next."""
    repeat: Annotated[int, Field(ge=1, le=MAX_RUNS, description="a whole number from 1")] = 1
    name: ShortText | None = None
    on_failure: FailurePolicy | None = None
    """Instead of the campaign's."""

    @field_validator("parameters", mode="after")
    @classmethod
    def _plain_values(cls, parameters: RawTable) -> RawTable:
        faults = [
            Fault(as_toml(value), "text, a number, true or false, or an array of these", key=(name,))
            for name, value in parameters.data.items()
            if not _is_plain(value)
        ]
        if faults:
            raise Faults(faults)
        return parameters


def _is_plain(value: object) -> bool:
    """Whether a value says the same in a run's request, which is JSON: no dates, no tables, no nan."""
    if isinstance(value, list):
        return all(not isinstance(entry, list) and _is_plain(entry) for entry in value)
    return isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))


class CampaignConfig(FileTable):
    """A campaign file."""

    name: ShortText
    description: LongText = ""
    on_failure: FailurePolicy = "pause"
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

    def place(self, kind: Literal["benches", "samples"], name: str) -> str:
        """Get what a run is to be told for a bench or sample of the file: paths start from the campaign's folder."""
        if self._folder is None or name in list_shipped(kind) or name.startswith("~"):
            return name
        return str(self._folder / name)

    @field_validator("runs", mode="after")
    @classmethod
    def _countable(cls, runs: tuple[RunTable, ...]) -> tuple[RunTable, ...]:
        total = sum(run.repeat for run in runs)
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
