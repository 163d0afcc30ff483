"""Reading a journal, also while it is being written, without disturbing its writer."""

from __future__ import annotations

import sqlite3
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from labctl.errors import StorageError
from labctl.store.journal_format import (
    STATUSES,
    check_crc,
    check_format,
    connect_to_read,
    decode_checked,
    decode_mapping,
    lock_path,
    storage_error,
)
from labctl.store.layout import RowLayout
from labctl.store.ownership import is_owned
from labctl.store.source import Axis, Event, Note, Result

_Block = tuple[int, int, bytes]
"""Sequence number, number of its first record, packed records."""


class _Columns:
    """The records of one stream read so far, one growing buffer for each field."""

    def __init__(self, layout: RowLayout) -> None:
        self.layout = layout
        self.count = 0
        self.starts: list[int] = []
        self.sequences: list[int] = []
        dtype = layout.record_dtype
        self._buffers = {name: np.empty(0, dtype[name]) for name in dtype.names or ()}

    def add(self, blocks: list[_Block]) -> None:
        """Append blocks. Arrays handed out before stay valid: only memory behind them is written."""
        data = b"".join(rows for _, _, rows in blocks)
        new = self.layout.unpack(data, len(data) // self.layout.record_dtype.itemsize)
        end = self.count + len(new)
        for name, buffer in self._buffers.items():
            if end > len(buffer):
                grown = np.empty(max(end, 2 * len(buffer)), buffer.dtype)
                grown[: self.count] = buffer[: self.count]
                self._buffers[name] = buffer = grown
            buffer[self.count : end] = new[name]
        self.count = end
        self.sequences += [sequence for sequence, _, _ in blocks]
        self.starts += [first for _, first, _ in blocks]

    def column(self, name: str) -> np.ndarray[Any, Any]:
        """All values of one field, read-only."""
        values = self._buffers[name][: self.count]
        values.flags.writeable = False
        return values


class JournalReader:
    """A journal as a :class:`labctl.store.source.RunSource`. Every refresh costs what is new, not what is there.

    :param mine: Whether the caller itself holds the lock of the journal.
    :raises StorageError: If the file is missing, corrupt, or not a journal.
    """

    def __init__(self, path: Path | str, *, mine: bool = False) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise StorageError(f"there is no journal {self.path.name}", where=str(self.path))
        self.sequence = 0
        self._columns: dict[str, _Columns] = {}
        self._numbers: dict[int, str] = {}
        self._events: list[Event] = []
        self._connection = connect_to_read(self.path, owned=not mine and is_owned(lock_path(self.path)))
        try:
            check_format(self._connection, self.path)
            with self._reading():
                text = self._one("SELECT header, status FROM run WHERE id=1")[0]
            self.header: dict[str, Any] = decode_checked(text, "the header of the run", self.path)
            self.refresh()
        except BaseException:
            self._connection.close()
            raise

    @property
    def stored_status(self) -> str:
        """The status as written: a run whose writer died still says ``running``."""
        return self._status

    @property
    def status(self) -> str:
        """The status as of the last refresh; ``crashed`` if it says running and no living process owns it."""
        return "crashed" if self._status == "running" and not self._owned else self._status

    @property
    def streams(self) -> tuple[str, ...]:
        return tuple(self._columns)

    def stream_number(self, stream: str) -> int:
        """The number of a stream inside the journal."""
        return next(number for number, name in self._numbers.items() if name == stream)

    def layout(self, stream: str) -> RowLayout:
        return self._columns[stream].layout

    def count(self, stream: str) -> int:
        return self._columns[stream].count

    def column(self, stream: str, name: str) -> np.ndarray[Any, Any]:
        return self._columns[stream].column(name)

    def refresh(self) -> None:
        """Read what was committed since the last time: streams, records, events, status."""
        # The owner is asked first: if it ends in between, its last words are read and the status is not running.
        owned = is_owned(lock_path(self.path))
        with self._reading():
            if self._one("SELECT count(*) FROM stream")[0] != len(self._columns):
                self._read_streams()
            new, last = self._read_blocks()
            events = self._read_events()
            status = self._one("SELECT status FROM run WHERE id=1")[0]
        if status not in STATUSES:
            raise self._corrupt(f"{status!r} is not a status")
        for columns, blocks in new:
            columns.add(blocks)
        self._events += events
        self.sequence = max(last, events[-1].seq) if events else last
        self._status, self._owned = status, owned

    def read_array(self, stream: str, name: str, start: int, stop: int) -> np.ndarray[Any, Any]:
        columns = self._columns[stream]
        field = columns.layout.array(name)
        if field is None:
            raise StorageError(f"stream {stream!r} has no array {name!r}", where=str(self.path))
        out = np.empty((max(0, stop - start), *field.shape), field.stored_dtype)
        if stop <= start:
            return out
        first_block = bisect_right(columns.starts, start) - 1
        last_block = bisect_right(columns.starts, stop - 1) - 1
        query = "SELECT seq, first, count, arrays_crc, arrays FROM block "
        query += "WHERE stream=? AND seq BETWEEN ? AND ? ORDER BY seq"
        bounds = (self.stream_number(stream), columns.sequences[first_block], columns.sequences[last_block])
        with self._reading():
            for sequence, first, count, crc, data in self._connection.execute(query, bounds):
                check_crc(data, crc, f"the arrays of block {sequence}", self.path)
                values = columns.layout.unpack_arrays(data, count)[name]
                low, high = max(start, first), min(stop, first + count)
                out[low - start : high - start] = values[low - first : high - first]
        return out

    def axes(self) -> dict[str, Axis]:
        axes: dict[str, Axis] = {}
        with self._reading():
            query = "SELECT name, unit, description, crc, data FROM axis ORDER BY id"
            for name, unit, description, crc, data in self._connection.execute(query):
                check_crc(data, crc, f"axis {name!r}", self.path, name, unit, description)
                axes[name] = Axis(name, np.frombuffer(data, "<f8"), unit, description)
        return axes

    def events(self) -> list[Event]:
        return list(self._events)

    def notes(self) -> list[Note]:
        with self._reading():
            rows = self._connection.execute("SELECT wall_s, text FROM note ORDER BY id").fetchall()
        return [Note(wall_s, text) for wall_s, text in rows]

    def results(self) -> list[Result]:
        with self._reading():
            rows = self._connection.execute("SELECT name, wall_s, data FROM result ORDER BY id").fetchall()
        return [
            Result(name, wall_s, decode_checked(data, f"the result {name!r}", self.path, name, wall_s))
            for name, wall_s, data in rows
        ]

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> JournalReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """One consistent, short read transaction: a long one would keep the writer's log from being folded in."""
        try:
            self._connection.execute("BEGIN")
            try:
                yield
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
        except (sqlite3.Error, TypeError, ValueError, LookupError, AttributeError, OverflowError, MemoryError) as error:
            raise storage_error(self.path, error, "the journal cannot be read") from error

    def _one(self, query: str) -> tuple[Any, ...]:
        row = self._connection.execute(query).fetchone()
        if row is None:
            raise self._corrupt("the journal has no header")
        return row

    def _read_streams(self) -> None:
        query = "SELECT id, name, layout FROM stream WHERE id>? ORDER BY id"
        for number, name, layout in self._connection.execute(query, (len(self._columns),)):
            decode_checked(layout, f"the layout of {name!r}", self.path, name)
            self._numbers[number] = name
            self._columns[name] = _Columns(RowLayout.from_json(layout))

    def _read_blocks(self) -> tuple[list[tuple[_Columns, list[_Block]]], int]:
        query = "SELECT seq, stream, first, count, rows_crc, rows FROM block WHERE seq>? ORDER BY seq"
        targets = {number: self._columns[name] for number, name in self._numbers.items()}
        blocks: dict[int, list[_Block]] = {number: [] for number in targets}
        ends = {number: columns.count for number, columns in targets.items()}
        sizes = {number: columns.layout.record_dtype.itemsize for number, columns in targets.items()}
        last = self.sequence
        for sequence, number, first, count, crc, rows in self._connection.execute(query, (last,)):
            if zlib.crc32(rows) != crc:
                raise self._corrupt(f"block {sequence}: the checksum does not fit")
            if first != ends.get(number) or count * sizes[number] != len(rows):
                raise self._corrupt(f"block {sequence} does not follow the one before")
            blocks[number].append((sequence, first, rows))
            ends[number] += count
            last = sequence
        return [(targets[number], found) for number, found in blocks.items() if found], last

    def _read_events(self) -> list[Event]:
        query = "SELECT seq, kind, t_s, wall_s, crc, data FROM event WHERE seq>? ORDER BY seq"
        events: list[Event] = []
        last = self._events[-1].seq if self._events else 0
        for sequence, kind, t_s, wall_s, crc, text in self._connection.execute(query, (last,)):
            check_crc(text.encode(), crc, f"event {sequence}", self.path, kind, t_s, wall_s)
            events.append(Event(sequence, kind, t_s, wall_s, decode_mapping(text, f"event {sequence}")))
        return events

    def _corrupt(self, what: str) -> StorageError:
        return StorageError(what, where=str(self.path), state="the file is corrupt", todo="restore it from a copy")


def read_summary(path: Path) -> tuple[str, dict[str, Any], int]:
    """Status, header and number of records in the main stream of a journal, without reading its records.

    :raises StorageError: If it is missing, corrupt, or not a journal.
    """
    owned = is_owned(lock_path(path))
    connection = connect_to_read(path, owned=owned)
    try:
        check_format(connection, path)
        row = connection.execute("SELECT header, status FROM run WHERE id=1").fetchone()
        if row is None or row[1] not in STATUSES:
            raise StorageError("the journal has no header", where=str(path), state="the file is corrupt")
        header = decode_checked(row[0], "the header of the run", path)
        streams = {name: number for number, name in connection.execute("SELECT id, name FROM stream ORDER BY id DESC")}
        number = streams.get(header.get("default_stream"), streams.get("points", min(streams.values(), default=0)))
        query = "SELECT first + count FROM block WHERE stream=? ORDER BY seq DESC LIMIT 1"
        last = connection.execute(query, (number,)).fetchone()
        count = int(last[0]) if last is not None else 0
    except (sqlite3.Error, TypeError, ValueError, LookupError, AttributeError, OverflowError, MemoryError) as error:
        raise storage_error(path, error, "the journal cannot be read") from error
    finally:
        connection.close()
    status = "crashed" if row[1] == "running" and not owned else row[1]
    return status, header, count
