"""Space on the disk that is taken before a run starts, so that a disk that fills up meanwhile cannot end it halfway.

A file beside the journal holds it. When the disk is full, the journal takes from it piece by piece; its last part is
kept for the words with which a run ends: safe state, incident, status. The file goes when the journal is closed. One
that a killed run has left goes when its journal is opened or sealed the next time.

On Linux the file system allocates the space without writing it. Elsewhere zeros are written, about 1 s per GB on a fast
disk, because the length alone reserves nothing: macOS has no such call, and Windows may keep the file sparse. A file
system that compresses (ZFS, a compressed folder of NTFS) reserves nothing either way.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import sqlite3
from contextlib import suppress
from pathlib import Path

from labctl.errors import StorageError

log = logging.getLogger(__name__)

LAST_WORDS_BYTES = 8 << 20
"""What the end of a run may need: a commit of pending records, the log in which it is written, and some events."""
_PIECE_BYTES = 4 << 20
_ZEROS = bytes(1 << 20)
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_SQLITE_FULL = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE})
"""A write of SQLite that failed may be tried again; a sync never, because the system forgets what a failed one lost."""


class SpaceReserve:
    """Space that is kept free for one journal by the owner of the journal.

    :param path: The file that holds it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None
        self._size_bytes = 0

    @classmethod
    def take(cls, journal: Path, size_bytes: int) -> SpaceReserve:
        """Reserve space beside a journal; 0 bytes reserve nothing.

        :raises StorageError: If the disk has not that much, or cannot be written; nothing is then left behind.
        """
        reserve = cls(reserve_path(journal))
        if size_bytes <= 0:
            return reserve
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
            reserve._descriptor = os.open(reserve.path, flags, 0o644)
            _allocate(reserve._descriptor, size_bytes)
        except OSError as error:
            free = free_bytes(journal.parent)
            reserve.release()
            raise StorageError(
                f"{size_bytes / 1e6:.0f} MB cannot be reserved for the run ({free / 1e6:.0f} MB are free): {error}",
                where=str(journal.parent),
                state="nothing was begun",
                todo="free some space, or keep the runs on another disk",
            ) from error
        reserve._size_bytes = size_bytes
        return reserve

    @property
    def size_bytes(self) -> int:
        """How much is still kept."""
        return self._size_bytes

    def shrink_to(self, size_bytes: int) -> None:
        """Give back what is beyond ``size_bytes``; a disk that does not take it back is logged."""
        if self._descriptor is None or size_bytes >= self._size_bytes:
            return
        try:
            os.ftruncate(self._descriptor, max(size_bytes, 0))
        except OSError as error:
            log.warning("reserved space could not be given back: %s", error)
        self._size_bytes = max(size_bytes, 0)

    def make_room(self, error: Exception, *, last_words: bool = False) -> bool:
        """Give back a piece after a write that failed.

        :param error: Why it failed; only a full disk is a reason.
        :param last_words: Whether the last part may be used too.
        :return: Whether to try the write again.
        """
        floor = 0 if last_words else LAST_WORDS_BYTES
        if self._size_bytes <= floor or not is_full(error):
            return False
        self.shrink_to(0 if last_words else max(floor, self._size_bytes - max(_PIECE_BYTES, self._size_bytes // 8)))
        return True

    def release(self) -> None:
        """Give everything back; again is harmless."""
        descriptor, self._descriptor = self._descriptor, None
        self._size_bytes = 0
        if descriptor is not None:
            os.close(descriptor)
            _remove(self.path)


def reserve_path(journal: Path) -> Path:
    """The file that holds the reserved space of a journal."""
    return journal.with_name(f"{journal.name}.reserve")


def remove_left_over(journal: Path) -> None:
    """Give back what a killed run has kept; for the owner of its journal."""
    _remove(reserve_path(journal))


def is_full(error: Exception) -> bool:
    """Whether a write failed because the disk, or the share of the user in it, is full."""
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", None) in _SQLITE_FULL
    return isinstance(error, OSError) and error.errno in _FULL


def used_bytes(journal: Path) -> int:
    """The size of a journal with its log; what cannot be looked at counts nothing: the next write tells why."""
    size = 0
    for path in (journal, journal.with_name(f"{journal.name}-wal")):
        with suppress(OSError):
            size += path.stat().st_size
    return size


def free_bytes(folder: Path) -> int:
    """Free space in a directory; 0 if that cannot be told."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 0


def _allocate(descriptor: int, size_bytes: int) -> None:
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, size_bytes)
            return
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise
    for start in range(0, size_bytes, len(_ZEROS)):
        piece = memoryview(_ZEROS)[: size_bytes - start]
        while piece:
            piece = piece[os.write(descriptor, piece) :]
    os.fsync(descriptor)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("the file of the reserved space stays: %s", error)
