"""Opening a run in any state, from its journal or its sealed file."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from labctl.errors import StorageError
from labctl.store.journal_reader import JournalReader
from labctl.store.layout import RECORD_FIELDS, RowLayout, decode_text
from labctl.store.naming import RunFiles, find_run
from labctl.store.sealed_reader import SealedReader
from labctl.store.source import Axis, Event, Note, Result, RunSource

if TYPE_CHECKING:
    import xarray

REFERENCE_STREAM = "reference"
"""Stream of the points that are measured again when a run goes on after a gap."""


class LazyArray:
    """The arrays of all records of a stream, read from the disk when indexed.

    ``lazy[7]`` is one record's array, ``lazy[10:20]`` ten of them, ``lazy[mask]`` and ``lazy[[3, 5]]`` a choice;
    further indices act on the result: ``lazy[7, :100]``. ``numpy.asarray(lazy)`` reads everything.
    """

    def __init__(self, source: RunSource, stream: str, name: str) -> None:
        field = source.layout(stream).array(name)
        if field is None:
            known = ", ".join(a.name for a in source.layout(stream).arrays) or "none"
            raise StorageError(f"stream {stream!r} has no array {name!r} (there is {known})", where=str(source.path))
        self.unit = field.unit
        self.axis = field.axis
        self.dtype = field.stored_dtype
        self.shape = (source.count(stream), *field.shape)
        self._read = lambda start, stop: source.read_array(stream, name, start, stop)

    @property
    def ndim(self) -> int:
        """Number of dimensions, the record included."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray[Any, Any]:
        first, rest = (key[0], key[1:]) if isinstance(key, tuple) and key else (key, ())
        values = self._records(slice(None) if isinstance(first, tuple) or first is Ellipsis else first)
        if not rest:
            return values
        return values[rest] if isinstance(first, int | np.integer) else values[(slice(None), *rest)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        values = self._read(0, len(self))
        return values if dtype is None else values.astype(dtype)

    def __repr__(self) -> str:
        return f"<LazyArray shape {self.shape}, {self.dtype}, unit {self.unit!r}>"

    def _records(self, key: Any) -> np.ndarray[Any, Any]:
        if isinstance(key, int | np.integer) and not isinstance(key, bool):
            index = int(key) + (len(self) if key < 0 else 0)
            if not 0 <= index < len(self):
                raise IndexError(f"record {key} of {len(self)}")
            return self._read(index, index + 1)[0]
        if isinstance(key, slice):
            start, stop, step = key.indices(len(self))
            if step == 1:
                return self._read(start, max(start, stop))
        chosen = np.arange(len(self))[key]
        out = np.empty((len(chosen), *self.shape[1:]), self.dtype)
        for position, index in enumerate(chosen):
            out[position] = self._read(int(index), int(index) + 1)[0]
        return out


class Run:
    """A run, open for reading. Use :func:`open_run`, and close it or use it in a ``with`` block.

    ``source`` is the file behind it in its raw form.
    """

    def __init__(self, source: RunSource, files: RunFiles) -> None:
        self.source = source
        self._files = files

    @property
    def path(self) -> Path:
        """The file that is read: the journal or the sealed file."""
        return self.source.path

    @property
    def header(self) -> dict[str, Any]:
        """What the run is: procedure, parameters, bench, sample, provenance..."""
        return self.source.header

    @property
    def status(self) -> str:
        """``running``, ``crashed``, ``finished``, ``aborted`` or ``failed``; of a live run, as of the last refresh."""
        return self.source.status

    @property
    def simulated(self) -> bool:
        """Whether any instrument was an emulator."""
        return bool(self.header.get("simulated", False))

    @property
    def streams(self) -> dict[str, RowLayout]:
        """The layouts of the streams by name."""
        return {name: self.source.layout(name) for name in self.source.streams}

    @property
    def default_stream(self) -> str:
        """The stream of the points."""
        return str(self.header.get("default_stream", "points"))

    @property
    def axes(self) -> dict[str, Axis]:
        """The axes that all points share, by name."""
        return self.source.axes()

    @property
    def notes(self) -> list[Note]:
        """The notes in order."""
        return self.source.notes()

    @property
    def results(self) -> list[Result]:
        """The results of analyses in order; several of one name are possible, the last is the newest."""
        return self.source.results()

    def events(self, kind: str | None = None) -> list[Event]:
        """The events in order, all or those of one kind."""
        return [event for event in self.source.events() if kind is None or event.kind == kind]

    def count(self, stream: str | None = None) -> int:
        """How many records a stream holds; of the points, if none is named."""
        name = self._stream(stream)
        return self.source.count(name)

    @property
    def points_done(self) -> int:
        """How many points of the plan are stored; points measured again as a reference do not count."""
        return sum(self.count(name) for name in self.streams if name != REFERENCE_STREAM)

    @property
    def points_planned(self) -> int | None:
        """How many points the plan has, as far as it is known by now: stages that have begun may have been altered.

        None for a run that does not say.
        """
        plan = self.header.get("plan")
        if not isinstance(plan, dict):
            return None
        try:
            stages = [(stage["name"], int(stage["max_points"])) for stage in plan["stages"]]
            # Only the loop over points writes when a stage began; others do not know their points beforehand.
            events = [event.data for event in self.events("stage") if "began_s" in event.data]
            begun = {data["name"]: len(data["points"]) for data in events}
        except (KeyError, TypeError, ValueError):
            bound = plan.get("max_points")
            return bound if isinstance(bound, int) else None
        return sum(begun.get(name, bound) for name, bound in stages)

    def columns(self, stream: str | None = None) -> dict[str, np.ndarray[Any, Any]]:
        """All columns of a stream, and ``point``, ``attempt``, ``t_s``, ``wall_s``; each of shape (count,).

        Numbers are read-only views, text is of NumPy type ``U``.
        """
        name = self._stream(stream)
        names = (*RECORD_FIELDS, *(column.name for column in self.source.layout(name).columns))
        return {column: self.column(column, name) for column in names}

    def column(self, name: str, stream: str | None = None) -> np.ndarray[Any, Any]:
        """One column of a stream, of shape (count,).

        :raises StorageError: If there is no such column.
        """
        stream = self._stream(stream)
        column = self.source.layout(stream).column(name)
        if column is None and name not in RECORD_FIELDS:
            known = ", ".join([c.name for c in self.source.layout(stream).columns])
            raise StorageError(f"stream {stream!r} has no column {name!r} (there is {known})", where=str(self.path))
        values = self.source.column(stream, name)
        return decode_text(column, values) if column is not None and column.kind == "text" else values

    def array(self, name: str, stream: str | None = None) -> LazyArray:
        """The arrays of a stream by name, read when indexed.

        :raises StorageError: If there is no such array.
        """
        return LazyArray(self.source, self._stream(stream), name)

    def __getitem__(self, name: str) -> np.ndarray[Any, Any] | LazyArray:
        """A column or an array of the points."""
        if self.source.layout(self._stream(None)).array(name) is not None:
            return self.array(name)
        return self.column(name)

    def to_xarray(self, stream: str | None = None) -> xarray.Dataset:
        """A stream as an :class:`xarray.Dataset` along ``record``, with units and the shared axes as coordinates."""
        import xarray

        stream = self._stream(stream)
        layout = self.source.layout(stream)
        axes = self.axes
        units = {"t_s": "s", "wall_s": "s"} | {c.name: c.unit for c in layout.columns}
        variables: dict[str, Any] = {
            name: ("record", values, {"units": units[name]} if units.get(name) else {})
            for name, values in self.columns(stream).items()
        }
        coordinates: dict[str, Any] = {name: variables.pop(name) for name in RECORD_FIELDS}
        for field in layout.arrays:
            dimensions = ["record", *(f"{field.name}_{n}" for n in range(len(field.shape)))]
            axis = axes.get(field.axis) if field.axis else None
            if axis is not None and len(axis.values) == field.shape[-1] and axis.name not in units:
                dimensions[-1] = axis.name
                coordinates[axis.name] = (axis.name, axis.values, {"units": axis.unit})
            variables[field.name] = (dimensions, np.asarray(self.array(field.name, stream)), {"units": field.unit})
        attributes = {"status": self.status, "simulated": int(self.simulated), "stream": stream}
        attributes |= {k: str(self.header[k]) for k in ("run", "procedure", "started") if k in self.header}
        return xarray.Dataset(variables, coordinates, attributes)

    def refresh(self) -> None:
        """Take in what was written since; costs what is new. A run sealed meanwhile is read on from its sealed file."""
        if isinstance(self.source, JournalReader) and not self.source.path.exists():
            sealed = self._files.sealed
            if sealed is None or not sealed.is_file():
                raise StorageError(f"the journal {self.path.name} is gone", where=str(self.path))
            self.source.close()
            self.source = SealedReader(sealed)
        else:
            self.source.refresh()

    def close(self) -> None:
        """Close the file."""
        self.source.close()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _stream(self, name: str | None) -> str:
        name = name or self.default_stream
        if name not in self.source.streams:
            known = ", ".join(self.source.streams) or "none"
            raise StorageError(f"the run has no stream {name!r} (there is {known})", where=str(self.path))
        return name


@contextmanager
def understood(path: Path | str) -> Iterator[None]:
    """Turn a stumble over the content of a run file into a clear error, for whoever makes something of a run.

    Checksums tell damage from what was written; a file that was made on purpose may still hold anything.

    :raises StorageError: If what is done in the block stumbles.
    """
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError, MemoryError) as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise StorageError(
            f"{Path(path).name} holds something that labctl cannot make sense of: {type(error).__name__}: {error}",
            where=f"{path}; {Path(place.filename).name}, line {place.lineno}",
            state="the run is unchanged",
            todo="if labctl itself wrote the file, this is a fault in labctl: report it with the place named here",
        ) from error


def open_run(path: Path | str) -> Run:
    """Open a run for reading, in any state, also while it is being taken.

    :param path: The journal, the sealed file, or the path without suffix. Where only the other one of the two exists,
        that is opened; without a suffix, the journal is preferred, because it is the more complete.
    :raises StorageError: If there is no such run, or it is corrupt.
    """
    files = find_run(path)
    order = [files.sealed, files.journal] if Path(path).suffix == ".h5" else [files.journal, files.sealed]
    for candidate in order:
        if candidate is not None and candidate.is_file():
            try:
                source = JournalReader(candidate) if candidate.suffix == ".journal" else SealedReader(candidate)
            except StorageError:
                if candidate.is_file():
                    raise
                continue
            return Run(source, files)
    raise StorageError(
        f"there is no run {Path(path).name}", where=str(path), todo="`labctl runs DIR` lists what there is"
    )
