"""The runs in a directory, from their headers and results alone; a broken file is listed with the reason."""

from __future__ import annotations

import json
import math
import re
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labctl.errors import StorageError
from labctl.store.journal_format import check_format, connect_to_read, decode_checked, lock_path, storage_error
from labctl.store.journal_reader import read_summary
from labctl.store.naming import find_run, spooled_journal
from labctl.store.nexus import main_stream, searchable
from labctl.store.ownership import is_owned
from labctl.store.run_index import RunIndex
from labctl.store.sealed_reader import SealedReader
from labctl.store.source import Note, Result

_SET_ASIDE = re.compile(r"\.\d+\.h5$")
"""An earlier state of a run that was resumed after sealing."""
_MOST_WORDS = 4000
_WORDS = ("status", "run", "procedure", "sample", "started", "spot", "words")


@dataclass(frozen=True)
class RunSummary:
    """One run of a directory.

    :param path: The sealed file, or the journal while there is none.
    :param status: ``running``, ``crashed``, ``finished``, ``aborted``, ``failed``, ``waiting``, or ``unreadable``.
    :param started: ISO time; empty if unknown.
    :param points: Acknowledged records of the main stream.
    :param reason: Why the run is unreadable; empty otherwise.
    :param spot: Name of the spot on the sample.
    :param results: What its last analysis gave, by name: ``value``, ``unit``, ``ci68``, ``ci95``.
    :param words: What a search for text looks through: names, parameters, notes.
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
    spot: str = ""
    results: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    words: str = ""

    @property
    def key_result(self) -> tuple[str, Mapping[str, Any]] | None:
        """Get the result that is shown where there is room for one, with its name."""
        return key_result(self.results)


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

    Sealed files that have not changed since the last time are not opened (:mod:`labctl.store.run_index`).

    :raises StorageError: If the directory does not exist.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise StorageError(f"there is no directory {directory}", where=str(directory))
    index = RunIndex(directory, _sealed_entry, _is_entry)
    found = [summarise(stem, index) for stem in sorted(_stems(directory))]
    index.keep()
    return found


def list_running(directory: Path | str) -> list[RunSummary]:
    """The runs of a directory that are being taken at this moment, ordered by path; only journals are opened.

    A directory that does not exist yet has none.
    """
    directory = Path(directory)
    stems = sorted(_stems(directory)) if directory.is_dir() else []
    journals = [(stem, find_run(f"{stem}.h5").journal) for stem in stems]
    found = [summarise(stem) for stem, journal in journals if journal is not None and journal.is_file()]
    return [summary for summary in found if summary.status == "running"]


def summarise(stem: Path, index: RunIndex | None = None) -> RunSummary:
    """The summary of one run, given its path without suffix. Never raises for a broken file.

    The journal, where there is one, is asked first: it is the more recent.

    :param index: Knows sealed files that have not changed.
    """
    files = find_run(f"{stem}.h5")
    existing = [path for path in (files.journal, files.sealed) if path is not None and path.is_file()]
    shown = files.sealed if files.sealed in existing else next(iter(existing), stem)
    failure = StorageError("the run has no file", where=str(stem))
    for path in existing:
        try:
            if path.suffix == ".journal":
                entry = _journal_entry(path)
            else:
                entry = _sealed_entry(path) if index is None else index.look_up(path)
            return _summary(shown or stem, entry)
        except StorageError as error:
            failure = error
        except (
            OSError,
            ValueError,
            TypeError,
            KeyError,
            AttributeError,
        ) as error:  # gone meanwhile, or an index that lies
            failure = StorageError(f"{type(error).__name__}: {error}", where=str(path))
    return RunSummary(shown or stem, "unreadable", run=stem.name, reason=failure.what)


def _summary(path: Path, entry: Mapping[str, Any]) -> RunSummary:
    words = {key: str(entry[key]) for key in _WORDS}
    results = {str(name): dict(one) for name, one in entry["results"].items()}
    return RunSummary(path, points=int(entry["points"]), simulated=bool(entry["simulated"]), results=results, **words)


def _journal_entry(path: Path) -> dict[str, Any]:
    status, header, points = read_summary(path)
    results, notes = _additions(path)
    return _entry(status, header, points, results, notes)


def _additions(path: Path) -> tuple[list[Result], list[Note]]:
    """Read results and notes of a journal, without its records."""
    connection = connect_to_read(path, owned=is_owned(lock_path(path)))
    try:
        check_format(connection, path)
        notes = connection.execute("SELECT wall_s, text FROM note ORDER BY id").fetchall()
        rows = connection.execute("SELECT name, wall_s, data FROM result ORDER BY id").fetchall()
        results = [
            Result(name, wall_s, decode_checked(data, f"the result {name!r}", path, name, wall_s))
            for name, wall_s, data in rows
        ]
        return results, [Note(wall_s, str(text)) for wall_s, text in notes]
    except (sqlite3.Error, TypeError, ValueError, LookupError, AttributeError, OverflowError, MemoryError) as error:
        raise storage_error(path, error, "the journal cannot be read") from error
    finally:
        connection.close()


def _sealed_entry(path: Path) -> dict[str, Any]:
    with SealedReader(path) as sealed:
        main = main_stream(sealed)
        points = sealed.count(main) if main is not None else 0
        return _entry(sealed.status, sealed.header, points, sealed.results(), sealed.notes())


def _entry(
    status: str, header: Mapping[str, Any], points: int, results: Sequence[Result], notes: Sequence[Note]
) -> dict[str, Any]:
    """Get what is kept of a run: plain data, little of it."""
    words = {key: str(searchable(header.get(key, ""))) for key in ("run", "procedure", "sample", "started")}
    mine = [result for result in results if result.name == words["procedure"]] or list(results)
    found = mine[-1].data.get("result") if mine else None
    request = header.get("request")
    parameters = header.get("parameters")
    said = [header.get(key) for key in ("sample", "bench")]
    texts = [*words.values(), *(note.text for note in notes), json.dumps([said, parameters], default=str)]
    return {
        **words,
        "status": status,
        "points": points,
        "simulated": bool(header.get("simulated", False)),
        "spot": str(request.get("spot", "")) if isinstance(request, Mapping) else "",
        "results": _numbers(found) if isinstance(found, Mapping) else {},
        "words": " ".join(texts)[:_MOST_WORDS],
    }


def _is_entry(entry: Any) -> bool:
    """Whether something has the form of what :func:`_entry` gives."""
    return (
        isinstance(entry, dict)
        and all(isinstance(entry.get(key), str) for key in _WORDS)
        and isinstance(entry.get("points"), int)
        and isinstance(entry.get("results"), dict)
        and all(isinstance(one, dict) for one in entry["results"].values())
        and "simulated" in entry
    )


def _numbers(results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Get the results that have a value, with their unit and intervals."""
    return {
        str(name): {key: entry[key] for key in ("value", "unit", "ci68", "ci95") if key in entry}
        for name, entry in results.items()
        if isinstance(entry, Mapping) and isinstance(entry.get("value"), int | float)
    }


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
