"""The runs in a directory, from their headers alone; a broken file is listed with the reason."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labctl.errors import StorageError
from labctl.store.journal_reader import read_summary
from labctl.store.naming import find_run, spooled_journal
from labctl.store.nexus import main_stream, searchable
from labctl.store.sealed_reader import SealedReader

_SET_ASIDE = re.compile(r"\.\d+\.h5$")
"""An earlier state of a run that was resumed after sealing."""


@dataclass(frozen=True)
class RunSummary:
    """One run of a directory.

    :param path: The sealed file, or the journal while there is none.
    :param status: ``running``, ``crashed``, ``finished``, ``aborted``, ``failed``, or ``unreadable``.
    :param started: ISO time; empty if unknown.
    :param points: Acknowledged records of the main stream.
    :param reason: Why the run is unreadable; empty otherwise.
    """

    path: Path
    status: str
    run: str = ""
    procedure: str = ""
    sample: str = ""
    started: str = ""
    points: int = 0
    simulated: bool = False
    reason: str = ""


def key_result(results: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]] | None:
    """Get the result of a run that is shown where there is room for one: the first that has a value.

    :param results: Name to ``{"value", "unit", ...}``, the main one first.
    """
    for name, entry in results.items():
        value = entry.get("value") if isinstance(entry, Mapping) else None
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return str(name), entry
    return None


def list_runs(directory: Path | str) -> list[RunSummary]:
    """All runs in a directory and its sub-directories, ordered by path. A run with both files is listed once.

    :raises StorageError: If the directory does not exist.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise StorageError(f"there is no directory {directory}", where=str(directory))
    return [summarise(stem) for stem in sorted(_stems(directory))]


def list_running(directory: Path | str) -> list[RunSummary]:
    """The runs of a directory that are being taken at this moment, ordered by path; only journals are opened.

    A directory that does not exist yet has none.
    """
    directory = Path(directory)
    stems = sorted(_stems(directory)) if directory.is_dir() else []
    journals = [(stem, find_run(f"{stem}.h5").journal) for stem in stems]
    found = [summarise(stem) for stem, journal in journals if journal is not None and journal.is_file()]
    return [summary for summary in found if summary.status == "running"]


def summarise(stem: Path) -> RunSummary:
    """The summary of one run, given its path without suffix. Never raises for a broken file.

    The journal, where there is one, is asked first: it is the more recent.
    """
    files = find_run(f"{stem}.h5")
    existing = [path for path in (files.journal, files.sealed) if path is not None and path.is_file()]
    shown = files.sealed if files.sealed in existing else next(iter(existing), stem)
    failure = StorageError("the run has no file", where=str(stem))
    for path in existing:
        try:
            status, header, points = read_summary(path) if path.suffix == ".journal" else _sealed_summary(path)
        except StorageError as error:
            failure = error
        else:
            return _summary(shown or stem, status, header, points)
    return RunSummary(shown or stem, "unreadable", run=stem.name, reason=failure.what)


def _summary(path: Path, status: str, header: dict[str, Any], points: int) -> RunSummary:
    words = {key: str(searchable(header.get(key, ""))) for key in ("run", "procedure", "sample", "started")}
    return RunSummary(path, status, points=points, simulated=bool(header.get("simulated", False)), **words)


def _sealed_summary(path: Path) -> tuple[str, dict[str, Any], int]:
    with SealedReader(path) as sealed:
        main = main_stream(sealed)
        return sealed.status, sealed.header, sealed.count(main) if main is not None else 0


def _stems(directory: Path) -> set[Path]:
    """Paths without suffix: of the files there, and of runs whose journal lies in the spool of this computer."""
    files = [path for suffix in (".h5", ".journal") for path in directory.rglob(f"*{suffix}")]
    stems = {
        path.with_name(path.name.removesuffix(path.suffix))
        for path in files
        if not path.name.startswith(".") and not _SET_ASIDE.search(path.name) and path.is_file()
    }
    for number in directory.rglob(".numbers/*"):
        journal = spooled_journal(number)
        if journal is not None and journal.is_file():
            stems.add(number.parent.parent / journal.name.removesuffix(".journal"))
    return stems
