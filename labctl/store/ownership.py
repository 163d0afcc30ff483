"""Who owns a file: an advisory lock that the operating system drops when its owner dies.

The lock is on a file of its own. It must never be on the journal itself: closing any descriptor of an SQLite file
drops SQLite's own locks in the whole process (POSIX), and a second process could then delete the live log.
"""

from __future__ import annotations

import os
import sys
import weakref
from contextlib import suppress
from pathlib import Path

from labctl.clock import RealClock
from labctl.errors import StorageError

POLL_S = 0.01

if sys.platform == "win32":
    import msvcrt

    _LOCK_OFFSET = 1 << 30

    def _try_lock(descriptor: int, *, shared: bool) -> bool:
        os.lseek(descriptor, _LOCK_OFFSET, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        os.lseek(descriptor, _LOCK_OFFSET, os.SEEK_SET)
        with suppress(OSError):
            msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _try_lock(descriptor: int, *, shared: bool) -> bool:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


class OwnerLock:
    """An exclusive lock on ``path``, held by this process until released or until the process ends.

    The lock file is made when needed and may be removed on release.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor is not None

    def acquire(self, timeout_s: float = 0.0) -> None:
        """Take the lock.

        :param timeout_s: Real seconds to wait for another owner.
        :raises StorageError: If somebody else owns it; the message names the process.
        """
        clock = RealClock()
        deadline = clock.now() + timeout_s
        while not self._try():
            if clock.now() >= deadline:
                raise StorageError(
                    f"{self.path.stem.lstrip('.')} is in use by {owner_of(self.path) or 'another process'}",
                    where=str(self.path),
                    state="nothing was changed",
                    todo="wait until the other process has finished with the run, or end it",
                )
            clock.sleep(POLL_S)

    def release(self, *, remove: bool = True) -> None:
        """Give the lock back, and by default remove the lock file."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        _open_locks.discard(self)
        if remove and sys.platform != "win32":
            self.path.unlink(missing_ok=True)
        _unlock(descriptor)
        os.close(descriptor)
        if remove and sys.platform == "win32":
            with suppress(OSError):
                self.path.unlink(missing_ok=True)

    def _try(self) -> bool:
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise StorageError(f"the lock cannot be made: {error}", where=str(self.path)) from error
        if not _try_lock(descriptor, shared=False):
            os.close(descriptor)
            return False
        if not _is_same_file(descriptor, self.path):
            os.close(descriptor)
            return False
        with suppress(OSError):  # a full disk must not keep a run from being ended: the lock holds without a name in it
            os.ftruncate(descriptor, 0)
            os.lseek(descriptor, 0, os.SEEK_SET)
            os.write(descriptor, f"process {os.getpid()}".encode())
        self._descriptor = descriptor
        _open_locks.add(self)
        return True

    def __enter__(self) -> OwnerLock:
        self.acquire(timeout_s=30.0)
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


_open_locks: weakref.WeakSet[OwnerLock] = weakref.WeakSet()


def _close_in_child() -> None:
    """A forked child must not keep its parent's locks alive after the parent has died."""
    for lock in list(_open_locks):
        if lock._descriptor is not None:
            os.close(lock._descriptor)
            lock._descriptor = None
    _open_locks.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


def is_owned(path: Path) -> bool:
    """Whether a living process holds the lock ``path``. Nothing is created."""
    try:
        descriptor = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    except OSError:
        return False
    try:
        if not _try_lock(descriptor, shared=True):
            return True
        _unlock(descriptor)
        return False
    finally:
        os.close(descriptor)


def owner_of(path: Path) -> str:
    """What the owner wrote into its lock file; empty if that cannot be read."""
    try:
        return path.read_bytes()[:100].decode("utf-8", "replace")
    except OSError:
        return ""


def _is_same_file(descriptor: int, path: Path) -> bool:
    """Whether ``path`` still names the locked file: its last owner may have removed it meanwhile, except on Windows."""
    if sys.platform == "win32":
        return True
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False
