"""Names of runs, ``2026-11-21/0012_fluence-sweep_A12.h5``, and where their files lie.

The number is taken by creating ``.numbers/0012`` exclusively, which is atomic on local disks and on shares, and is
never given twice. The journal lies beside the run file; where that is a network file system, which cannot carry
SQLite's write-ahead log, it lies in a spool directory of this computer and the number's file says where.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from labctl.errors import InputError, StorageError
from labctl.store.durable import write_new
from labctl.store.windows_names import LONGEST_PATH, too_long

NETWORK_TYPES = frozenset(
    [
        *("9p", "afs", "afpfs", "beegfs", "ceph", "cifs", "coda", "davfs", "drvfs", "glusterfs", "gpfs", "lustre"),
        *("ncpfs", "nfs", "nfs4", "orangefs", "prl_fs", "smb3", "smbfs", "vboxsf"),
    ]
)
LOCAL_FUSE = frozenset({"fuseblk", "fuse.ntfs", "fuse.ntfs-3g", "fuse.exfat", "fuse.ext2", "fuse.fuse-overlayfs"})
MAX_PART_LENGTH = 60

_NUMBERED = re.compile(r"(\d{4,})(?:_.*)?")
_SUFFIXES = (".journal", ".h5")
_ORIGIN = "directory.txt"
_LONGEST_ADDITION = "..journal.edit"
_DRIVE_REMOTE = 4


@dataclass(frozen=True)
class RunPaths:
    """The names that belong to one new run; none of the files exists yet.

    :param number: Number of the run on its day, from 1.
    :param name: File name without suffix, e.g. ``0012_fluence-sweep_A12``.
    :param sealed: The HDF5 file to be.
    :param journal: The journal to be, always on a local disk.
    """

    number: int
    name: str
    sealed: Path
    journal: Path

    def payload(self, stream: str) -> Path:
        """The payload file of a bulky stream, beside the journal."""
        return self.journal.with_name(f"{self.name}.{stream}.payload")


@dataclass(frozen=True)
class RunFiles:
    """Where the files of a run are, or would be."""

    journal: Path | None
    sealed: Path | None


def allocate_run(
    directory: Path | str, procedure: str, sample: str, day: date, *, spool: Path | None = None
) -> RunPaths:
    """Take the next free number of a day, safe against other processes and other computers.

    :param directory: Where runs are kept; made when missing.
    :param sample: Name of the sample; may be empty.
    :param spool: Directory on a local disk for the journals of runs on a network file system; by default in the
        user's state directory.
    :raises StorageError: If the directory cannot be written, or its path leaves no room for the names of the run.
    """
    folder = Path(directory) / day.isoformat()
    parts = [part for part in (plain_part(procedure.replace("_", "-")) or "run", plain_part(sample)) if part]
    try:
        numbers = folder / ".numbers"
        numbers.mkdir(parents=True, exist_ok=True)
        beside = folder if not is_network(folder) else _spool_folder(Path(directory), day, spool)
        number = _highest_number(folder, numbers) + 1
        while True:
            name = "_".join([f"{number:04d}", *parts])
            _check_length(folder, name)
            journal = beside / f"{name}.journal"
            entry = {"name": name, "journal": None if beside == folder else str(journal)}
            try:
                write_new(numbers / f"{number:04d}", json.dumps(entry).encode())
            except FileExistsError:
                number += 1
            else:
                return RunPaths(number, name, folder / f"{name}.h5", journal)
    except OSError as error:
        raise StorageError(
            f"no run can be started in {folder}: {error}",
            where=str(folder),
            state="nothing was written",
            todo="check that the directory exists, is writable and has free space",
        ) from error


def paths_of(journal: Path) -> RunPaths:
    """Get the names that belong to a run that exists, given its journal."""
    name = journal.name.removesuffix(".journal")
    match = _NUMBERED.fullmatch(name)
    sealed = _sealed_of_spooled(journal) or journal.with_name(f"{name}.h5")
    return RunPaths(int(match.group(1)) if match else 0, name, sealed, journal)


def _check_length(folder: Path, name: str) -> None:
    longest = f"{folder.absolute()}{os.sep}{name}{_LONGEST_ADDITION}"
    if excess := too_long(longest):
        raise StorageError(
            f"the names of the run would have {LONGEST_PATH + excess} characters; Windows takes {LONGEST_PATH}",
            where=str(folder),
            state="nothing was written",
            todo="keep the runs in a folder nearer to the root of its drive, give the sample a shorter name, or set"
            " LongPathsEnabled in the registry of Windows",
        )


def plain_part(text: str) -> str:
    """A text made fit for a file name on every system: letters, digits and ``-`` only, at most 60 characters."""
    ascii_text = unicodedata.normalize("NFKD", text.replace("µ", "u").replace("μ", "u"))
    ascii_text = ascii_text.encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9_]+", "-", ascii_text).strip("-_")[:MAX_PART_LENGTH].rstrip("-_")


def find_run(path: Path | str) -> RunFiles:
    """Where journal and sealed file of a run lie, given either of them or the path without suffix.

    Files are told apart by their suffix alone: opening a live journal to look inside would drop the locks that
    SQLite holds on it in this process.

    :raises InputError: If the suffix is that of neither, or there is no name.
    """
    given, path = str(path), Path(path)
    if not path.name:
        raise InputError(f"{given!r} names no run", todo="`labctl runs DIR` lists what there is")
    if path.suffix in _SUFFIXES:
        stem = path.name.removesuffix(path.suffix)
    elif path.is_file():
        raise InputError(
            f"{path.name} is not a run: runs are .journal or .h5 files", where=str(path), todo="give another path"
        )
    else:
        stem = path.name
    journal, sealed = path.with_name(f"{stem}.journal"), path.with_name(f"{stem}.h5")
    if path.suffix == ".journal":
        return RunFiles(path, _sealed_of_spooled(path) or sealed)
    match = _NUMBERED.fullmatch(stem)
    spooled = spooled_journal(path.parent / ".numbers" / match.group(1)) if match else None
    return RunFiles(spooled if spooled is not None and spooled.name == journal.name else journal, sealed)


def spooled_journal(number_file: Path) -> Path | None:
    """The journal that a number's file points to, if it lies in a spool directory."""
    try:
        entry = json.loads(number_file.read_bytes())
        name, journal = entry["name"], entry["journal"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Path(journal) if isinstance(journal, str) and Path(journal).name == f"{name}.journal" else None


def is_network(path: Path) -> bool:
    """Whether a directory lies on a network file system.

    Linux asks the mount table, Windows the drive type and the form of the path. On other systems the answer is no:
    there, keep the run directory on a local disk.
    """
    if sys.platform == "win32":
        import ctypes

        return is_network_windows(os.path.realpath(path), ctypes.WinDLL("kernel32").GetDriveTypeW)
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return False
    return _is_network_type(mount_type(os.path.realpath(path), mounts))


def mount_type(path: str, mountinfo: str) -> str:
    """The file system type of an absolute path by a mount table in the format of ``/proc/self/mountinfo``."""
    best, found = -1, ""
    for line in mountinfo.splitlines():
        fields, _, rest = line.partition(" - ")
        columns = fields.split(" ")
        if len(columns) < 5 or not rest:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), columns[4])
        inside = point == "/" or path == point or path.startswith(point + "/")
        if inside and len(point) >= best:
            best, found = len(point), rest.split(" ")[0]
    return found


def _is_network_type(kind: str) -> bool:
    return kind in NETWORK_TYPES or (kind.startswith("fuse") and kind not in LOCAL_FUSE)


def is_network_windows(absolute: str, drive_type: Callable[[str], int]) -> bool:
    """Whether an absolute path of Windows lies on a share: by its form, or by the type of its drive.

    :param drive_type: GetDriveTypeW.
    """
    path = absolute.replace("/", "\\")
    if path.upper().startswith("\\\\?\\UNC\\"):
        return True
    path = re.sub(r"^\\\\[?.]\\", "", path)
    return path.startswith("\\\\") or drive_type(path[:2] + "\\") == _DRIVE_REMOTE


def _highest_number(folder: Path, numbers: Path) -> int:
    found = [_NUMBERED.fullmatch(path.name.split(".")[0]) for path in (*folder.iterdir(), *numbers.iterdir())]
    return max((int(match.group(1)) for match in found if match), default=0)


def _spool_folder(directory: Path, day: date, spool: Path | None) -> Path:
    if spool is None:
        import platformdirs

        spool = platformdirs.user_state_path("labctl") / "spool"
    origin = os.path.realpath(directory)
    base = spool / hashlib.sha256(origin.encode()).hexdigest()[:16]
    folder = base / day.isoformat()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        write_new(base / _ORIGIN, origin.encode())
    except FileExistsError:
        pass
    return folder


def _sealed_of_spooled(journal: Path) -> Path | None:
    try:
        directory = Path((journal.parent.parent / _ORIGIN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return directory / journal.parent.name / f"{journal.name.removesuffix('.journal')}.h5"
