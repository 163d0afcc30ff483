"""What is added to a run after the fact: notes and results of analyses. They are added, never changed.

A run that still has its journal takes them there, next to its writer; a sealed file is copied, extended, synced and
put in the place of the old one in one step, so a kill leaves the one or the other, complete.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import h5py

from labctl.clock import RealClock
from labctl.errors import StorageError
from labctl.store.checked_file import append_checksums
from labctl.store.durable import replace, sync_file
from labctl.store.journal_format import (
    PLAIN_WORD,
    check_format,
    connect,
    decode_mapping,
    encode_checked,
    encode_json,
    storage_error,
)
from labctl.store.naming import RunFiles, find_run
from labctl.store.nexus import LIBRARY_VERSION, write_notes, write_result
from labctl.store.ownership import OwnerLock
from labctl.store.sealed_reader import SealedReader
from labctl.store.source import Note, Result

_Extension = Callable[[SealedReader, h5py.File], None]
"""Extends a copy (second argument) of a sealed file (first argument)."""


def add_note(run: Path | str, text: str, *, wall_s: float | None = None) -> None:
    """Add a note to a run in any state, also while it is being taken.

    :param run: The journal, the sealed file, or the path without suffix.
    :param wall_s: Unix seconds; now, if not given.
    :raises StorageError: If there is no such run, the note is empty, or it cannot be written.
    """
    if not text.strip() or "\0" in text:
        raise StorageError("a note needs some text, without NUL characters", state="nothing was written")
    note = Note(RealClock().wall() if wall_s is None else float(wall_s), text)

    def add(before: SealedReader, file: h5py.File) -> None:
        del file["entry/notes"]
        write_notes(file["entry"], [*before.notes(), note])

    _add(run, "INSERT INTO note(wall_s, text) VALUES (?,?)", (note.wall_s, note.text), add)


def add_result(run: Path | str, name: str, data: Mapping[str, Any], *, wall_s: float | None = None) -> None:
    """Add the result of an analysis to a run, as a new entry; earlier ones of the same name stay.

    :param run: The journal, the sealed file, or the path without suffix.
    :param name: Name of the analysis, e.g. ``threshold``.
    :param data: JSON data; a ``value`` beside a ``unit`` becomes a dataset with that unit.
    :param wall_s: Unix seconds; now, if not given.
    :raises StorageError: If there is no such run, or the result cannot be stored.
    """
    result = checked_result(name, data, RealClock().wall() if wall_s is None else float(wall_s))
    text = encode_checked(result.data, f"the result {name!r}", result.name, result.wall_s)

    def add(_before: SealedReader, file: h5py.File) -> None:
        write_result(file["entry/process"], result)

    insert = "INSERT INTO result(wall_s, name, data) VALUES (?,?,?)"
    _add(run, insert, (result.wall_s, result.name, text), add)


def checked_result(name: str, data: Mapping[str, Any], wall_s: float) -> Result:
    """A result as it will be read back.

    :raises StorageError: If its name or data cannot be stored.
    """
    if not PLAIN_WORD.fullmatch(name) or not isinstance(data, Mapping):
        raise StorageError(
            f"the result {name!r} needs a plain name and a mapping of values", state="nothing was written"
        )
    return Result(name, wall_s, decode_mapping(encode_json(dict(data), f"the result {name!r}"), f"the result {name!r}"))


def edit_lock(path: Path) -> OwnerLock:
    """The lock on adding to a run file, or on sealing or replacing it; gone after use."""
    return OwnerLock(path.with_name(f".{path.name}.edit"))


def partial_path(target: Path) -> Path:
    """The temporary name beside ``target`` under which it is written."""
    return target.with_name(f".{target.name}.partial")


def _add(run: Path | str, insert: str, values: tuple[Any, ...], add_to_file: _Extension) -> None:
    """Add to the journal, to the sealed file, or to both where both exist."""
    files: RunFiles = find_run(run)
    with ExitStack() as stack:
        for path in (files.journal, files.sealed):
            if path is not None and path.parent.is_dir():
                stack.enter_context(edit_lock(path))
        journal_exists = files.journal is not None and files.journal.is_file()
        sealed_exists = files.sealed is not None and files.sealed.is_file()
        if not journal_exists and not sealed_exists:
            raise StorageError(f"there is no run {Path(run).name}", where=str(run), state="nothing was written")
        if files.journal is not None and journal_exists:
            _insert(files.journal, insert, values)
        if files.sealed is not None and sealed_exists:
            _extend(files.sealed, add_to_file)


def _insert(journal: Path, insert: str, values: tuple[Any, ...]) -> None:
    connection = connect(journal)
    try:
        check_format(connection, journal)
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(insert, values)
    except sqlite3.Error as error:
        raise storage_error(journal, error, "the journal could not be written") from error
    finally:
        connection.close()


def _extend(sealed: Path, add_to_file: _Extension) -> None:
    partial = partial_path(sealed)
    try:
        partial.unlink(missing_ok=True)
        with SealedReader(sealed) as before:
            shutil.copyfile(sealed, partial)
            with h5py.File(partial, "r+", libver=LIBRARY_VERSION) as file:
                add_to_file(before, file)
        append_checksums(partial)
        sync_file(partial)
        SealedReader(partial).close()
        replace(partial, sealed)
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        partial.unlink(missing_ok=True)
        raise StorageError(
            f"nothing could be added to {sealed.name}: {error}",
            where=str(sealed),
            state="the file is as it was",
            todo="check free space and permissions",
        ) from error
