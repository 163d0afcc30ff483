"""One owner for each resource: two runs on a machine cannot open the same instrument, whoever started them."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import socket
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

from filelock import FileLock, Timeout

from labctl.errors import InputError
from labctl.processes import no_window

log = logging.getLogger(__name__)

_SHARED_BY_NOBODY = ("sim:", "operator:")
_FOR_ALL_USERS = 0o1777
_FILE_FOR_ALL_USERS = 0o666
_USERS = "*S-1-5-32-545"
"""The group of all users, by its number: its name depends on the language of Windows."""
_RIGHTS_S = 10.0
_WINDOWS_PATH = re.compile(r"[A-Za-z]:[\\/]|\\\\")
_LOOPBACK = re.compile(r"localhost|127\.\d+\.\d+\.\d+|\[?::1\]?|0\.0\.0\.0", re.IGNORECASE)


class ResourceLocks:
    """Locks on the resources of a bench, one file each; the operating system frees them when the owner dies.

    Emulators within the process (``sim:``) belong to nobody else, and an operator (``operator:``) knows what he does:
    neither is locked.

    :param resources: Resource names as in the bench file.
    :param owner: Who holds them, e.g. the name of the run.
    :param dead_owner: Process whose locks are passed over: it was killed, but hangs in the kernel; 0 if there is none.
    """

    def __init__(self, resources: Sequence[str], owner: str, dead_owner: int = 0) -> None:
        shared = sorted(name for name in resources if not name.startswith(_SHARED_BY_NOBODY))
        self._resources = list({canonical(name): name for name in reversed(shared)}.values())[::-1]
        self._owner = owner
        self._dead_owner = dead_owner
        self._held: list[tuple[FileLock, Path]] = []

    def acquire(self) -> None:
        """Take all locks or none; raises InputError that names the owner of the first one taken. Once held, nothing."""
        if self._held:
            return
        for resource in self._resources:
            path = _lock_path(resource)
            lock = FileLock(path, mode=_FILE_FOR_ALL_USERS)
            try:
                _make_folder(path.parent)
                lock.acquire(timeout=0)
                self._held.append((lock, _owner_path(path)))
                _write_owner(path, self._owner)
            except Timeout:
                if self._dead_owner and _read_note(path).get("pid") == self._dead_owner:
                    log.warning("%s is still locked by process %d, which was killed", resource, self._dead_owner)
                    continue
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

    def name_owner(self, owner: str) -> None:
        """Say from now on who holds them, e.g. the run when it has a name."""
        self._owner = owner
        for lock, _ in self._held:
            _write_owner(Path(lock.lock_file), owner)

    def release(self) -> None:
        """Give all locks back; may be called twice."""
        while self._held:
            lock, note = self._held.pop()
            try:
                note.unlink(missing_ok=True)
            except OSError as error:  # a note that another user left behind: nobody else may take it away
                log.info("%s stays: %s", note, error)
            lock.release()


def lock_folder() -> Path:
    """Get the folder that all users of this machine share: an instrument does not care who drives it."""
    if os.name == "nt":
        return Path(os.environ.get("PROGRAMDATA", "C:/ProgramData")) / "labctl" / "locks"
    return Path("/tmp/labctl-locks")  # not the TMPDIR of a user


def canonical(resource: str) -> str:
    """Get one name for all names of the same place, as far as that is known without asking a name server."""
    if match := re.fullmatch(r"(?:serial:|(?i:ASRL)(?=/|\\|(?i:COM)))(.+?)(?:::(?i:INSTR))?", resource):
        return f"serial:{_canonical_port(match[1])}"
    if match := re.fullmatch(r"(?i:ASRL)0*(\d+)(?:::(?i:INSTR))?", resource):
        return f"serial:COM{match[1]}"  # as VISA numbers the ports of Windows
    if resource.startswith("sdk:") and _WINDOWS_PATH.match(resource[4:]):
        return f"sdk:{PureWindowsPath(resource[4:]).as_posix().lower()}"
    address = r"(?:socket|sim\+tcp)://(?P<host>.+):(?P<port>\d+)"
    visa_socket = r"(?i:TCPIP\d*::(?P<host>.+)::(?P<port>\d+)::SOCKET)"
    for form in (address, visa_socket):
        if match := re.fullmatch(form, resource):
            return f"tcp://{_canonical_host(match['host'])}:{int(match['port'])}"
    if "::" in resource:
        parts = resource.upper().split("::")
        parts[0] = re.sub(r"(?<=[A-Z])0$", "", parts[0])
        return "::".join(_canonical_host(part).upper() for part in parts)
    return resource


def _canonical_port(port: str) -> str:
    """Get one name of a serial port: ``COM12``, ``com12`` and ``\\\\.\\COM12`` are one, a link is what it leads to."""
    if port.startswith("/") and not port.startswith("//"):
        return os.path.realpath(port)
    return re.sub(r"^(?:\\\\|//)[.?][\\/]", "", port).upper()


def _canonical_host(host: str) -> str:
    own = {name.lower() for name in (socket.gethostname(), socket.gethostname().partition(".")[0])}
    return "localhost" if _LOOPBACK.fullmatch(host) or host.lower() in own else host.lower()


def _make_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    folder.mkdir(parents=True, exist_ok=True)
    if os.name == "nt":
        _open_to_all_on_windows(folder)
    else:
        folder.chmod(_FOR_ALL_USERS)


def _open_to_all_on_windows(folder: Path, run: Callable[..., Any] = subprocess.run) -> None:
    """Let every user write what another one left there: modes mean nothing on Windows, its own tool sets the rights."""
    command = ["icacls", str(folder), "/grant", f"{_USERS}:(OI)(CI)M", "/Q"]
    try:
        run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_RIGHTS_S, check=True, **no_window())
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("other users of this computer may find their instruments locked: %s: %s", folder, error)


def _lock_path(resource: str) -> Path:
    digest = hashlib.sha256(canonical(resource).encode()).hexdigest()[:20]
    return lock_folder() / f"{digest}.lock"


def _write_owner(lock: Path, owner: str) -> None:
    """Say who holds a lock; without the note the lock holds as well."""
    note = json.dumps({"owner": owner, "pid": os.getpid(), "host": socket.gethostname()})
    path = _owner_path(lock)
    flags = os.O_WRONLY | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
    try:
        # In a folder for all users the system may refuse to open another user's file with O_CREAT, though not without.
        descriptor = os.open(path, flags if path.exists() else flags | os.O_CREAT | os.O_EXCL, _FILE_FOR_ALL_USERS)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(note)
        path.chmod(_FILE_FOR_ALL_USERS)
    except OSError as error:
        log.info("the owner of %s could not be noted: %s", lock, error)


def _owner_path(lock: Path) -> Path:
    return lock.with_suffix(".owner")


def _read_note(lock: Path) -> dict[str, Any]:
    try:
        note = json.loads(_owner_path(lock).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def _read_owner(lock: Path) -> str:
    note = _read_note(lock)
    try:
        return f"{note['owner']} (process {note['pid']} on {note['host']})"
    except KeyError:
        return "another process"
