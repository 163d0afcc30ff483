"""What installed packages register: entry points by group, read from the disk once and kept while nothing changes."""

from __future__ import annotations

import os
import sys
from functools import lru_cache
from importlib.metadata import EntryPoint
from importlib.metadata import entry_points as read_entry_points


def entry_points(group: str) -> tuple[EntryPoint, ...]:
    """Get the entry points of a group; none of them is imported.

    The standard library opens a file of every installed package each time. What it found is kept until ``sys.path``, or
    one of the folders in it, changes: a package that is installed meanwhile is seen.
    """
    return _scan(group, tuple((entry, _changed_ns(entry)) for entry in sys.path))


def _changed_ns(entry: str) -> int:
    try:
        return os.stat(entry or os.curdir).st_mtime_ns  # noqa: PTH116 - asked often, and pathlib costs more than the answer
    except OSError:
        return 0


@lru_cache(maxsize=32)
def _scan(group: str, _places: tuple[tuple[str, int], ...]) -> tuple[EntryPoint, ...]:
    return tuple(read_entry_points(group=group))
