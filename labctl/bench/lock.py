"""One owner for each resource: two runs cannot open the same instrument."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock, Timeout
from platformdirs import user_state_path

from labctl.errors import InputError

_IN_PROCESS = "sim:"


class ResourceLocks:
    """Locks on the resources of a bench, one file each; the operating system frees them when the owner dies.

    Emulators within the process (``sim:``) belong to nobody else and are not locked.

    :param resources: Resource names as in the bench file.
    :param owner: Who holds them, e.g. the name of the run.
    """

    def __init__(self, resources: Sequence[str], owner: str) -> None:
        self._resources = sorted({name for name in resources if not name.startswith(_IN_PROCESS)})
        self._owner = owner
        self._held: list[tuple[FileLock, Path]] = []

    def acquire(self) -> None:
        """Take all locks or none; raises InputError that names the owner of the first one taken."""
        for resource in self._resources:
            path = _lock_path(resource)
            lock = FileLock(path)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                lock.acquire(timeout=0)
                self._held.append((lock, _owner_path(path)))
                note = {"owner": self._owner, "pid": os.getpid(), "host": socket.gethostname()}
                _owner_path(path).write_text(json.dumps(note), encoding="utf-8")
            except Timeout:
                self.release()
                raise InputError(
                    f"the resource {resource} is in use by {_read_owner(path)}",
                    where="lock of the bench",
                    todo="wait for that run to end, or end it; `labctl show` tells how far it is",
                ) from None
            except OSError as error:
                self.release()
                raise InputError(
                    f"the resource {resource} cannot be locked: {error}",
                    where=str(path),
                    todo="make that folder writable; without a lock two runs could drive one instrument",
                ) from error

    def release(self) -> None:
        """Give all locks back; may be called twice."""
        while self._held:
            lock, note = self._held.pop()
            note.unlink(missing_ok=True)
            lock.release()


def _lock_path(resource: str) -> Path:
    digest = hashlib.sha256(resource.encode()).hexdigest()[:20]
    return user_state_path("labctl") / "locks" / f"{digest}.lock"


def _owner_path(lock: Path) -> Path:
    return lock.with_suffix(".owner")


def _read_owner(lock: Path) -> str:
    try:
        note = json.loads(_owner_path(lock).read_text(encoding="utf-8"))
        return f"{note['owner']} (process {note['pid']} on {note['host']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
