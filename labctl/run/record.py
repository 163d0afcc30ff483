"""What a point gave: its row and arrays, and the row once it is on the disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from labctl.run.plan import Point


@dataclass(frozen=True, slots=True)
class Record:
    """What one point gave.

    :param row: One value for each column of the point's stream.
    :param arrays: One array for each array field of the stream.
    """

    row: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A point whose row is on the disk; what adaptive stages may look at."""

    point: Point
    row: Mapping[str, Any]
