"""Sealing: from the journal of an ended run to its HDF5 file, verified value by value, safe to kill at any instant.

The steps are: write under a temporary name, sync, open again, compare everything with the journal, rename without
overwriting, sync the directory, and only then, if the run is finished, remove the journal. Whatever step a kill hits,
the journal or the verified file is there, and sealing again completes the work.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from labctl.clock import RealClock
from labctl.errors import StorageError
from labctl.store.compare import first_difference
from labctl.store.durable import is_placeholder, rename_new, sha256, sync_directory, sync_file
from labctl.store.journal_format import encode_json, lock_path
from labctl.store.journal_reader import JournalReader
from labctl.store.nexus import write_run
from labctl.store.ownership import OwnerLock
from labctl.store.reserve import remove_left_over
from labctl.store.results import add_result, checked_result, edit_lock, partial_path
from labctl.store.sealed_reader import SealedReader
from labctl.store.source import Result

log = logging.getLogger(__name__)


def seal(
    journal_path: Path | str,
    target_path: Path | str,
    *,
    process: Mapping[str, Mapping[str, Any]] | None = None,
    wall_s: float | None = None,
) -> Path:
    """Write the sealed file of an ended run.

    Calling it again after success, or after a kill, is harmless. A run that was resumed after an earlier sealing is
    sealed anew; the earlier file is kept beside it as ``NAME.1.h5``.

    :param journal_path: The journal; nobody may have it open for writing. A run whose writer died is ``crashed``.
    :param target_path: The HDF5 file to make.
    :param process: Results by the name of the analysis; each must have a JSON form.
    :param wall_s: Unix seconds to date the results with; now, if not given.
    :return: ``target_path``.
    :raises StorageError: If the run still goes, the file cannot be written, or what was read back differs.
    """
    journal, target = Path(journal_path), Path(target_path)
    dated = RealClock().wall() if wall_s is None else wall_s
    results = [checked_result(name, data, dated) for name, data in (process or {}).items()]
    if not journal.exists() and not target.exists():
        raise StorageError(
            f"there is no run file {target.name}",
            where=str(target),
            state="nothing was written",
            todo="find out where the run was moved to; `labctl run --resume RUN` goes on with it there",
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        if journal.parent.is_dir():
            stack.enter_context(edit_lock(journal))
        stack.enter_context(edit_lock(target))
        # A kill between the two halves of a rename leaves the temporary name as a second name of the sealed file.
        partial_path(target).unlink(missing_ok=True)
        if journal.exists():
            _seal_locked(journal, target, results)
        else:
            SealedReader(target).close()
            _clear_away(journal)
    _add_missing(target, results)
    return target


def copy_to_share(path: Path | str, directory: Path | str, *, retries: int = 3, retry_s: float = 2.0) -> Path:
    """Copy a sealed file to a share and verify the copy by its SHA-256 checksum.

    :param retries: How many more times to try after a failure.
    :param retry_s: Real seconds before another try.
    :return: The path of the copy.
    :raises StorageError: If another file of that name is there, or every try failed.
    """
    source, folder = Path(path), Path(directory)
    clock = RealClock()
    try:
        checksum = sha256(source)
    except OSError as error:
        raise StorageError(f"{source.name} cannot be read: {error}", where=str(source)) from error
    for attempt in range(retries + 1):
        try:
            return _copy_once(source, folder, checksum)
        except OSError as error:
            if attempt == retries:
                raise StorageError(
                    f"{source.name} could not be copied to the share in {retries + 1} tries: {error}",
                    where=str(folder),
                    state=f"the run is safe in {source}",
                    todo="check the connection to the share and copy the file again",
                ) from error
            clock.sleep(retry_s)
    raise ValueError("retries must be 0 or more")


def _seal_locked(journal: Path, target: Path, results: list[Result]) -> None:
    owner = OwnerLock(lock_path(journal))
    owner.acquire(timeout_s=1.0)
    try:
        remove_left_over(journal)
        with JournalReader(journal, mine=True) as source:
            status = "crashed" if source.stored_status == "running" else source.stored_status
            if is_placeholder(target):
                target.unlink()
            if not target.exists() or _is_outgrown(source, target, status):
                _write_verified(source, target, status, [*source.results(), *results])
        if status == "finished":
            _remove_journal(journal)
    finally:
        owner.release()


def _is_outgrown(source: JournalReader, target: Path, status: str) -> bool:
    """Whether ``target`` is an earlier state of this run; it is then set aside under a name of its own.

    :raises StorageError: If it belongs to another run.
    """
    with SealedReader(target) as sealed:
        difference = first_difference(source, sealed, status, at_least=True)
        if not difference:
            return False
        if encode_json(sealed.header, "the header") != encode_json(source.header, "the header"):
            raise StorageError(
                f"{target.name} exists already and belongs to another run; nothing is ever overwritten",
                where=str(target),
                state=f"the run is complete in its journal {source.path}",
                todo="seal it under another name",
            )
    number = 1
    while (aside := target.with_name(f"{target.stem}.{number}.h5")).exists():
        number += 1
    rename_new(target, aside)
    return True


def _write_verified(source: JournalReader, target: Path, status: str, results: list[Result]) -> None:
    partial = partial_path(target)
    try:
        write_run(partial, source, status, results)
        sync_file(partial)
        with SealedReader(partial) as sealed:
            difference = first_difference(source, sealed, status)
        if difference:
            raise StorageError(
                f"what was read back from the sealed file differs from the journal: {difference}",
                where=str(partial),
                state=f"the journal {source.path} is complete and stays",
                todo="check the disk and the memory of this computer, then seal again",
            )
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError | RuntimeError | ValueError | TypeError):
            raise StorageError(
                f"the run could not be sealed: {error}",
                where=str(target),
                state=f"the journal {source.path} is complete and stays",
                todo="check free space and permissions, then seal again",
            ) from error
        raise
    rename_new(partial, target)


def _clear_away(journal: Path) -> None:
    """Remove what a sealing that was killed while it removed the journal has left of it."""
    if journal.parent.is_dir():
        with OwnerLock(lock_path(journal)):
            _remove_journal(journal)


def _remove_journal(journal: Path) -> None:
    # The main file goes first, also for a disk that loses power: a log without its file is harmless, a file without
    # its log would look complete.
    for path in (journal, *(journal.with_name(journal.name + suffix) for suffix in ("-wal", "-shm"))):
        try:
            path.unlink(missing_ok=True)
            if path == journal:
                sync_directory(journal.parent)
        except PermissionError as error:
            # Windows keeps a file that a reader has open. It is complete, and the next sealing removes it.
            log.warning("the journal of the sealed run stays for now: %s", error)
            return
    remove_left_over(journal)
    sync_directory(journal.parent)


def _add_missing(target: Path, results: list[Result]) -> None:
    """Add the results that an earlier, interrupted sealing or an earlier analysis has not stored."""
    with SealedReader(target) as sealed:
        stored = [(result.name, checked_result(result.name, result.data, 0.0).data) for result in sealed.results()]
    for result in results:
        if (result.name, result.data) not in stored:
            add_result(target, result.name, result.data, wall_s=result.wall_s)


def _copy_once(source: Path, folder: Path, checksum: str) -> Path:
    target, partial = folder / source.name, partial_path(folder / source.name)
    folder.mkdir(parents=True, exist_ok=True)
    partial.unlink(missing_ok=True)
    if is_placeholder(target):
        target.unlink()
    if target.exists():
        if sha256(target) == checksum:
            return target
        raise StorageError(
            f"{target.name} is on the share already, with other content; nothing is ever overwritten",
            where=str(target),
            state=f"the run is safe in {source}",
            todo="move the file on the share away, or copy to another directory",
        )
    shutil.copyfile(source, partial)
    sync_file(partial)
    if sha256(partial) != checksum:
        partial.unlink()
        raise OSError("the checksum of the copy differs")
    rename_new(partial, target)
    return target
