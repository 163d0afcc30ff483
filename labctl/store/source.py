"""What the two forms of a run, journal and sealed file, offer to whoever reads them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from labctl.store.layout import RowLayout

SEALED_FORMAT = 1
"""Version of the layout of sealed files."""


@dataclass(frozen=True)
class Event:
    """One event of a run: plan, status, incident, read-back, calibration, safe state...

    :param seq: Order among all events and record blocks of the run.
    :param t_s: Monotonic seconds of the run.
    :param wall_s: Unix seconds.
    """

    seq: int
    kind: str
    t_s: float
    wall_s: float
    data: dict[str, Any]


@dataclass(frozen=True)
class Note:
    """A remark by a person, made at ``wall_s`` (Unix seconds); never changed."""

    wall_s: float
    text: str


@dataclass(frozen=True)
class Result:
    """The outcome of one analysis, stored at ``wall_s`` (Unix seconds); never changed."""

    name: str
    wall_s: float
    data: dict[str, Any]


@dataclass(frozen=True)
class Axis:
    """An axis that all points of a run share; ``values`` is 1-D float64 in ``unit``."""

    name: str
    values: np.ndarray[Any, Any] = field(repr=False)
    unit: str
    description: str = ""


class RunSource(Protocol):
    """One form of a run on the disk."""

    path: Path

    @property
    def header(self) -> dict[str, Any]:
        """What the run is, as the engine wrote it."""
        ...

    @property
    def status(self) -> str:
        """``running``, ``crashed``, ``finished``, ``aborted`` or ``failed``."""
        ...

    @property
    def streams(self) -> tuple[str, ...]:
        """The names of the streams."""
        ...

    def layout(self, stream: str) -> RowLayout:
        """The layout of a stream."""
        ...

    def count(self, stream: str) -> int:
        """How many records a stream holds."""
        ...

    def column(self, stream: str, name: str) -> np.ndarray[Any, Any]:
        """A column, or one of the record fields, of shape (count,); text is not yet decoded."""
        ...

    def read_array(self, stream: str, name: str, start: int, stop: int) -> np.ndarray[Any, Any]:
        """The arrays of the records ``start`` to ``stop`` - 1; shape (stop - start, *shape)."""
        ...

    def axes(self) -> dict[str, Axis]:
        """The axes that all points share, by name."""
        ...

    def events(self) -> list[Event]:
        """All events in order."""
        ...

    def notes(self) -> list[Note]:
        """All notes in order."""
        ...

    def results(self) -> list[Result]:
        """All results in order."""
        ...

    def refresh(self) -> None:
        """Take in what was written since."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


def array_slabs(count: int, bytes_per_record: int, slab_bytes: int = 16 << 20) -> Iterator[tuple[int, int]]:
    """Ranges of records that hold about ``slab_bytes`` bytes each, so that memory stays bounded."""
    step = max(1, slab_bytes // max(1, bytes_per_record))
    for start in range(0, count, step):
        yield start, min(start + step, count)
