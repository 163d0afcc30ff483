"""Files that are on the disk when a function returns, under a name that was free."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

from labctl.clock import RealClock
from labctl.errors import StorageError

_PATIENCE_S = 2.0
_RETRY_S = 0.02


def sync_file(path: Path) -> None:
    """Force the content of a file to the disk."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(path: Path) -> None:
    """Force the names in a directory to the disk.

    Windows has no call for it: NTFS keeps names in a log of its own, in their order, so a name may be lost with the
    power, but not one without those that were given later. What it stands for is on the disk either way.
    """
    if sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def rename_new(source: Path, target: Path) -> None:
    """Give ``source`` the name ``target`` in one step, and never replace anything.

    A hard link refuses an existing name. Where a file system knows no links, the name is taken first by an empty file
    of our own; a kill between these two steps leaves an empty file, which :func:`is_placeholder` recognises.

    :raises StorageError: If ``target`` exists.
    """
    try:
        if sys.platform == "win32":
            patiently(lambda: source.rename(target))
        else:
            _link_and_unlink(source, target)
    except FileExistsError as error:
        raise StorageError(
            f"{target.name} exists already; nothing is ever overwritten",
            where=str(target),
            state=f"the new data is complete in {source}",
            todo="give another name, or move the existing file away",
        ) from error
    sync_directory(target.parent)


def replace(source: Path, target: Path) -> None:
    """Give ``source`` the name ``target`` in one step, in place of the file of that name."""
    patiently(lambda: source.replace(target))
    sync_directory(target.parent)


def patiently(change: Callable[[], object], platform: str = sys.platform) -> None:
    """Change a name; on Windows try for 2 s, because virus scanners and indexers open every new file for a moment."""
    clock = RealClock()
    give_up_s = clock.now() + _PATIENCE_S
    while True:
        try:
            change()
            return
        except PermissionError:
            if platform != "win32" or clock.now() > give_up_s:
                raise
            clock.sleep(_RETRY_S)


def identity_of(path: Path) -> tuple[int, int] | None:
    """Which file has this name now; None if there is none, and on Windows, where an open file keeps its name."""
    if sys.platform == "win32":
        return None
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def is_placeholder(path: Path) -> bool:
    """Whether ``path`` is the empty file that an interrupted :func:`rename_new` leaves."""
    try:
        return path.stat().st_size == 0
    except OSError:
        return False


def write_new(path: Path, data: bytes) -> None:
    """Create a file of that content, synced; refuse an existing name.

    :raises FileExistsError: If ``path`` exists.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o644)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    sync_directory(path.parent)


def sha256(path: Path) -> str:
    """The SHA-256 checksum of a file, as hexadecimal digits. Not for a journal that is being written."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _link_and_unlink(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
        source.replace(target)
    else:
        source.unlink()
