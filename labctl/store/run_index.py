"""A disposable index of the sealed runs of a folder, so that listing a thousand of them opens none a second time.

It lies in the folder, as ``.runs-index.json``; an entry holds for a file of the same size and time of change. Whatever
is wrong with it, it is made anew; where it cannot be written, nothing is lost but time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

FORMAT = 1
NAME = ".runs-index.json"
_MAX_BYTES = 200_000_000

Entry = dict[str, Any]


class RunIndex:
    """The index of one folder. :meth:`look_up` reads from it, :meth:`keep` writes it back.

    :param read: Reads what the index keeps of a sealed file; may raise.
    :param is_entry: Tells whether something has the form of what ``read`` gives.
    """

    def __init__(self, folder: Path, read: Callable[[Path], Entry], is_entry: Callable[[Any], bool]) -> None:
        self._path = folder / NAME
        self._folder = folder
        self._read = read
        self._is_entry = is_entry
        self._known = _load(self._path)
        self._used: dict[str, Any] = {}
        self._changed = False

    def look_up(self, path: Path) -> Entry:
        """Get what is known of a sealed file, read from it if it is new or has changed."""
        name = path.relative_to(self._folder).as_posix()
        status = path.stat()
        stamp = [status.st_size, status.st_mtime_ns]
        known = self._known.get(name)
        if isinstance(known, Mapping) and known.get("stamp") == stamp and self._is_entry(known.get("entry")):
            self._used[name] = known
            return known["entry"]
        entry = self._read(path)
        self._used[name] = {"stamp": stamp, "entry": entry}
        self._changed = True
        return entry

    def keep(self) -> None:
        """Write the index of the files that were looked up, in one step; a folder that is not ours is left alone."""
        if not self._changed and len(self._used) == len(self._known):
            return
        scratch = self._path.with_name(f"{NAME}.{os.getpid()}")
        with suppress(OSError, ValueError):
            scratch.write_text(json.dumps({"format": FORMAT, "runs": self._used}), encoding="utf-8")
            scratch.replace(self._path)
        with suppress(OSError):
            scratch.unlink(missing_ok=True)


def _load(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError, RecursionError, MemoryError):
        if path.stat().st_size <= _MAX_BYTES:
            found = json.loads(path.read_bytes())
            if isinstance(found, dict) and found.get("format") == FORMAT and isinstance(found.get("runs"), dict):
                return found["runs"]
    return {}
