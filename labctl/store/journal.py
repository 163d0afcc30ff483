"""Writing the journal of a run. A point is acknowledged when its transaction is on the disk."""

from __future__ import annotations

import json
import logging
import os
import re
import sqlite3
import threading
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from labctl.clock import RealClock
from labctl.errors import StorageError
from labctl.store.durable import identity_of, sync_directory
from labctl.store.journal_format import (
    APPLICATION_ID,
    FORMAT_VERSION,
    PLAIN_WORD,
    RESERVED_STREAM_NAMES,
    STATUSES,
    STREAM_NAME,
    TABLES,
    check_format,
    connect,
    encode_checked,
    encode_json,
    labelled_crc,
    lock_path,
    storage_error,
)
from labctl.store.journal_reader import JournalReader
from labctl.store.layout import RowLayout
from labctl.store.ownership import OwnerLock
from labctl.store.payload import Payload
from labctl.store.reserve import SpaceReserve, is_full, remove_left_over

log = logging.getLogger(__name__)

MAX_GROUP_COMMIT_S = 0.05
MAX_PENDING_ROWS = 4096
MAX_PENDING_BYTES = 4 << 20
# Measured as fast as 4 KiB pages for one point at a time, and 1.5 times faster for blocks of spectra.
PAGE_SIZE = 8192

_INSERT_BLOCK = "INSERT INTO block VALUES (?,?,?,?,?,?,?,?)"


class _Stream:
    """One stream of the journal: its layout, and the records that wait for their commit."""

    def __init__(self, number: int, layout: RowLayout, acknowledged: int) -> None:
        self.number = number
        self.layout = layout
        self.acknowledged = acknowledged
        self.pending: list[tuple[bytes, bytes]] = []


class Journal:
    """The journal of one run, open for writing by one owner; safe to call from several threads.

    Use :meth:`create` or :meth:`open`. An append that raises has stored nothing. With group commit, records accepted
    before stay pending after a failure and are tried again by the next commit.
    """

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        lock: OwnerLock,
        group_commit_s: float,
        reserve: SpaceReserve,
    ) -> None:
        self.path = path
        self.reserve = reserve
        self.header: dict[str, Any] = {}
        self._connection = connection
        self._lock = lock
        self._identity = identity_of(path)
        self._last_words = False
        self._changed = threading.Condition(threading.RLock())
        self._streams: dict[str, _Stream] = {}
        self._payloads: list[Payload] = []
        self._sequence = 0
        self._status = "running"
        self._closed = False
        self._unsettled = False
        self._pending_rows = 0
        self._pending_bytes = 0
        self._group_commit_s = group_commit_s
        self._deadline_s = 0.0
        self._timer_error: StorageError | None = None
        self._timer: threading.Thread | None = None
        self._clock = RealClock()

    @classmethod
    def create(
        cls, path: Path | str, header: Mapping[str, Any], *, group_commit_s: float = 0.0, reserve_bytes: int = 0
    ) -> Journal:
        """Begin the journal of a new run, with status ``running``.

        :param path: A name that is free, on a local disk.
        :param header: What the run is, as JSON data.
        :param group_commit_s: 0 commits every record before :meth:`append` returns. Up to 0.05: records share a
            commit at most that many real seconds after the first of them was appended.
        :param reserve_bytes: Space to keep free for the run until it is closed; see :mod:`labctl.store.reserve`.
        :raises StorageError: If the name is taken, the file cannot be written, or the space is not there.
        """
        path = Path(path)
        _check_group(group_commit_s)
        header_text = encode_checked(header, "the header of the run")
        lock = OwnerLock(lock_path(path))
        connection = None
        created = False
        try:
            lock.acquire(timeout_s=1.0)
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
            created = True
            connection = connect(path)
            connection.execute(f"PRAGMA page_size={PAGE_SIZE}")
            _make_durable(connection, path)
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version={FORMAT_VERSION}")
            for statement in TABLES.values():
                connection.execute(statement)
            connection.execute("INSERT INTO run VALUES (1, ?, 'running')", (header_text,))
            connection.execute("COMMIT")
            reserve = SpaceReserve.take(path, reserve_bytes)
            sync_directory(path.parent)
        except (OSError, sqlite3.Error, StorageError) as error:
            if connection is not None:
                connection.close()
            if created:
                path.unlink(missing_ok=True)
                remove_left_over(path)
            lock.release()
            if isinstance(error, FileExistsError):
                raise StorageError(
                    f"{path.name} exists already; nothing is ever overwritten",
                    where=str(path),
                    todo="take another name",
                ) from error
            if isinstance(error, StorageError):
                raise
            raise storage_error(path, error, "the journal cannot be made") from error
        journal = cls(path, connection, lock, group_commit_s, reserve)
        journal.header = dict(header)
        journal._start_timer()
        return journal

    @classmethod
    def open(cls, path: Path | str, *, group_commit_s: float = 0.0, reserve_bytes: int = 0) -> Journal:
        """Open an existing journal to go on with it (resume), and own it.

        :param reserve_bytes: Space to keep free, as for :meth:`create`; what a killed run kept is given back first.
        :raises StorageError: If there is none, it is not a journal, a living process owns it, or space is missing.
        """
        path = Path(path)
        _check_group(group_commit_s)
        if not path.is_file():
            raise StorageError(f"there is no journal {path.name}", where=str(path))
        lock = OwnerLock(lock_path(path))
        lock.acquire(timeout_s=1.0)
        connection = None
        try:
            remove_left_over(path)
            with JournalReader(path, mine=True) as reader:
                connection = connect(path)
                check_format(connection, path)
                _make_durable(connection, path)
                journal = cls(path, connection, lock, group_commit_s, SpaceReserve.take(path, reserve_bytes))
                journal.header = reader.header
                journal._status = reader.stored_status
                journal._sequence = reader.sequence
                for name in reader.streams:
                    number = reader.stream_number(name)
                    journal._streams[name] = _Stream(number, reader.layout(name), reader.count(name))
        except (sqlite3.Error, StorageError) as error:
            if connection is not None:
                connection.close()
            lock.release()
            if isinstance(error, StorageError):
                raise
            raise storage_error(path, error, "the journal cannot be opened") from error
        journal._start_timer()
        return journal

    @property
    def status(self) -> str:
        """``running``, ``finished``, ``aborted`` or ``failed``."""
        return self._status

    @property
    def streams(self) -> dict[str, RowLayout]:
        """The layouts of the streams by name."""
        return {name: stream.layout for name, stream in self._streams.items()}

    def add_stream(self, name: str, layout: RowLayout) -> None:
        """Declare a stream. The same declaration again, as on resume, is accepted.

        :raises StorageError: If the name is not usable, or taken by another layout.
        """
        if not STREAM_NAME.fullmatch(name) or name in RESERVED_STREAM_NAMES:
            raise StorageError(
                f"{name!r} is not a name for a stream",
                where=str(self.path),
                todo=f"lower-case letters, digits and _; not one of {', '.join(sorted(RESERVED_STREAM_NAMES))}",
            )
        with self._changed:
            self._check_open()
            known = self._streams.get(name)
            if known is not None:
                if known.layout != layout:
                    raise StorageError(f"stream {name!r} exists with another layout", where=str(self.path))
                return
            number = len(self._streams) + 1
            text = encode_checked(json.loads(layout.to_json()), f"the layout of {name!r}", name)
            self._write([("INSERT INTO stream VALUES (?,?,?)", (number, name, text))])
            self._streams[name] = _Stream(number, layout, 0)

    def set_axis(self, name: str, values: Any, unit: str, description: str = "") -> None:
        """Store an axis that all points share, such as the wavelengths of the spectra.

        :param values: 1-D, stored as float64.
        :raises StorageError: If an axis of that name with other values exists.
        """
        data = np.ascontiguousarray(values, "<f8")
        if data.ndim != 1 or data.size == 0 or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,99}", name):
            raise StorageError(f"axis {name!r}: one dimension and a plain name are needed", where=str(self.path))
        blob = data.tobytes()
        with self._changed:
            self._check_open()
            known = self._connection.execute("SELECT unit, data FROM axis WHERE name=?", (name,)).fetchone()
            if known is not None:
                if known != (unit, blob):
                    raise StorageError(
                        f"axis {name!r} exists with other values or another unit; stored data never changes",
                        where=str(self.path),
                    )
                return
            insert = "INSERT INTO axis(name, unit, description, crc, data) VALUES (?,?,?,?,?)"
            self._write([(insert, (name, unit, description, labelled_crc(blob, name, unit, description), blob))])

    def add_payload(self, payload: Payload) -> None:
        """Sync this payload file before each commit, so that no record refers to bytes that could still be lost."""
        with self._changed:
            payload.make_room = self._make_room
            self._payloads.append(payload)

    def append(
        self,
        stream: str,
        *,
        point: int,
        attempt: int,
        t_s: float,
        wall_s: float,
        row: Mapping[str, Any],
        arrays: Mapping[str, Any] | None = None,
    ) -> None:
        """Append one record; without group commit it is acknowledged when this returns.

        :param point: Plan index.
        :param t_s: Monotonic seconds of the run.
        :param wall_s: Unix seconds.
        :param row: One value for each column of the stream.
        :param arrays: One array for each array field of the stream.
        :raises StorageError: If the record does not fit the layout, or the disk fails; it is then not stored.
        """
        with self._changed:
            target = self._streams.get(stream)
            if target is None or self._closed or self._status != "running" or self._timer_error is not None:
                self._refuse_append(stream)
            packed = target.layout.pack(point, attempt, t_s, wall_s, row)
            blob = target.layout.pack_arrays(arrays)
            if self._group_commit_s == 0.0:
                self._insert_one(target, packed, blob)
                return
            target.pending.append((packed, blob))
            self._pending_rows += 1
            self._pending_bytes += len(packed) + len(blob)
            if self._pending_rows >= MAX_PENDING_ROWS or self._pending_bytes >= MAX_PENDING_BYTES:
                try:
                    self._write([])
                except StorageError:
                    target.pending.pop()
                    self._pending_rows -= 1
                    self._pending_bytes -= len(packed) + len(blob)
                    raise
            elif self._pending_rows == 1:
                self._deadline_s = self._clock.now() + self._group_commit_s
                self._changed.notify_all()

    def commit(self) -> None:
        """Acknowledge every record appended so far.

        :raises StorageError: If the disk fails, or failed in a group commit meanwhile.
        """
        with self._changed:
            self._check_open()
            self._raise_timer_error()
            self._write([])

    def acknowledged(self, stream: str) -> int:
        """How many records of the stream are on the disk."""
        try:
            return self._streams[stream].acknowledged
        except KeyError:
            raise StorageError(f"there is no stream {stream!r}", where=str(self.path)) from None

    def event(self, kind: str, data: Mapping[str, Any], *, t_s: float, wall_s: float) -> None:
        """Record an event (plan, incident, read-back, calibration...), committed with whatever was pending before it.

        :raises StorageError: If the disk fails; the event is then not stored.
        """
        if not PLAIN_WORD.fullmatch(kind):
            raise StorageError(f"{kind!r} is not a kind of event: one plain word is needed", where=str(self.path))
        text = encode_json(dict(data), f"the event {kind!r}")
        with self._changed:
            self._check_open()
            self._write([], _event(t_s, wall_s, kind, text))

    def set_status(self, status: str, *, t_s: float, wall_s: float, **details: Any) -> None:
        """Set ``running``, ``finished``, ``aborted`` or ``failed``, with an event of kind ``status``.

        Records are accepted only while the status is ``running``; resuming sets it again. A finished run stays so.

        :raises StorageError: If there is no such status, the run is finished already, or the disk fails.
        """
        if status not in STATUSES:
            raise StorageError(f"{status!r} is not a status of a run: {', '.join(STATUSES)}", where=str(self.path))
        text = encode_json({"status": status, **details}, "the status event")
        with self._changed:
            self._check_open()
            if self._status == "finished" != status:
                raise StorageError(f"a finished run cannot become {status}", where=str(self.path))
            self._last_words = status != "running"
            update = ("UPDATE run SET status=? WHERE id=1", (status,))
            self._write([update], _event(t_s, wall_s, "status", text))
            self._status = status

    def close(self) -> None:
        """Commit what is pending, stop the commit thread, give the journal back. The status stays as it is.

        :raises StorageError: If the last commit fails; the journal is closed nevertheless.
        """
        with self._changed:
            if self._closed:
                return
            self._last_words = True
            try:
                self._write([])
            finally:
                self._closed = True
                self._changed.notify_all()
                try:
                    # SQLite may want some space when it closes, to fold its log into the file.
                    self.reserve.release()
                    self._connection.close()
                finally:
                    self._lock.release()
        if self._timer is not None and self._timer is not threading.current_thread():
            self._timer.join(timeout=10.0)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _insert_one(self, stream: _Stream, packed: bytes, blob: bytes) -> None:
        """The hot path: one record, one implicit transaction."""
        if self._unsettled:
            self._settle()
        self._check_presence()
        crc = zlib.crc32
        sequence = self._sequence + 1
        first = stream.acknowledged
        self._unsettled = True
        try:
            for payload in self._payloads:
                payload.sync()
            self._connection.execute(
                _INSERT_BLOCK,
                (sequence, stream.number, first, 1, crc(packed), crc(blob) if blob else 0, packed, blob),
            )
        except (sqlite3.Error, OSError) as error:
            self._unsettled = False
            if self._make_room(error):
                self._insert_one(stream, packed, blob)
                return
            raise storage_error(self.path, error, "the point could not be stored") from error
        self._sequence = sequence
        stream.acknowledged = first + 1
        self._unsettled = False

    def _write(
        self, statements: list[tuple[str, tuple[Any, ...]]], event: tuple[float, float, str, int, str] | None = None
    ) -> None:
        """Write the pending blocks, then the event, then the statements, in one transaction."""
        if self._unsettled:
            self._settle()
        filled = [stream for stream in self._streams.values() if stream.pending]
        if not filled and not statements and event is None:
            return
        if filled:
            self._check_presence()
        sequence = self._sequence
        self._unsettled = True
        try:
            for payload in self._payloads:
                payload.sync()
            self._connection.execute("BEGIN IMMEDIATE")
            for stream in filled:
                sequence += 1
                rows = b"".join([packed for packed, _ in stream.pending])
                arrays = b"".join([blob for _, blob in stream.pending])
                values = (sequence, stream.number, stream.acknowledged, len(stream.pending))
                checksums = (zlib.crc32(rows), zlib.crc32(arrays))
                self._connection.execute(_INSERT_BLOCK, (*values, *checksums, rows, arrays))
            if event is not None:
                sequence += 1
                self._connection.execute("INSERT INTO event VALUES (?,?,?,?,?,?)", (sequence, *event))
            for statement, values in statements:
                self._connection.execute(statement, values)
            self._connection.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            self._roll_back()
            self._unsettled = False
            if self._make_room(error):
                self._write(statements, event)
                return
            raise storage_error(self.path, error, "the journal could not be written") from error
        self._sequence = sequence
        for stream in filled:
            stream.acknowledged += len(stream.pending)
            stream.pending.clear()
        self._pending_rows = 0
        self._pending_bytes = 0
        self._unsettled = False

    def _make_room(self, error: Exception) -> bool:
        """Give back reserved space if the disk is full; whether to try again. Its last part is for what ends a run."""
        with self._changed:
            if self.reserve.make_room(error, last_words=self._last_words):
                log.warning("%s: the disk is full; reserved space is used", self.path.name)
                return True
            if is_full(error) and not self._last_words:
                self._last_words = True
                # Folding the log into the file would use up what is left for the last words; it is whole as it is.
                self._connection.execute("PRAGMA wal_autocheckpoint=0")
            return False

    def _check_presence(self) -> None:
        """Refuse to acknowledge what nobody could find: POSIX lets a file be written after it was removed."""
        if self._identity is not None and identity_of(self.path) != self._identity:
            raise StorageError(
                "the journal is gone: it was removed or renamed, or its disk was taken away, while the run went",
                where=str(self.path),
                state="what was acknowledged before is in the file that had this name",
                todo="find out who moved it; if it was renamed, it can be opened under its new name",
            )

    def _settle(self) -> None:
        """Learn from the file how far the last write came, if an exception such as KeyboardInterrupt cut it off."""
        self._roll_back()
        try:
            last = self._connection.execute(
                "SELECT max(seq) FROM (SELECT seq FROM block UNION ALL SELECT seq FROM event)"
            )
            sequence = last.fetchone()[0] or 0
            query = "SELECT first + count FROM block WHERE stream=? ORDER BY seq DESC LIMIT 1"
            counts = {s.number: self._connection.execute(query, (s.number,)).fetchone() for s in self._streams.values()}
            status = self._connection.execute("SELECT status FROM run WHERE id=1").fetchone()[0]
        except sqlite3.Error as error:
            raise storage_error(self.path, error, "the journal cannot be read") from error
        self._sequence, self._status = sequence, status
        for stream in self._streams.values():
            stored = counts[stream.number]
            if stored is not None and stored[0] != stream.acknowledged:
                del stream.pending[: stored[0] - stream.acknowledged]
                stream.acknowledged = stored[0]
        self._pending_rows = sum(len(stream.pending) for stream in self._streams.values())
        self._pending_bytes = sum(len(rows) + len(blob) for s in self._streams.values() for rows, blob in s.pending)
        self._unsettled = False

    def _roll_back(self) -> None:
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            log.exception("%s: the failed transaction could not be rolled back", self.path)

    def _check_open(self) -> None:
        if self._closed:
            raise StorageError("the journal is closed", where=str(self.path))

    def _refuse_append(self, stream: str) -> NoReturn:
        self._check_open()
        self._raise_timer_error()
        if stream not in self._streams:
            known = ", ".join(self._streams) or "none"
            raise StorageError(f"there is no stream {stream!r} (there is {known})", where=str(self.path))
        raise StorageError(
            f"the run is {self._status}; it takes no more points",
            where=str(self.path),
            todo="set the status to running first, as resume does",
        )

    def _raise_timer_error(self) -> None:
        error, self._timer_error = self._timer_error, None
        if error is not None:
            self._deadline_s = self._clock.now() + self._group_commit_s
            self._changed.notify_all()
            raise StorageError(
                f"a group commit failed: {error.what}", where=error.where, state=error.state, todo=error.todo
            )

    def _start_timer(self) -> None:
        if self._group_commit_s > 0.0:
            self._timer = threading.Thread(target=self._commit_in_time, name=f"commit {self.path.name}", daemon=True)
            self._timer.start()

    def _commit_in_time(self) -> None:
        """Keep the bound of the group commit when no further append comes. Ends with :meth:`close`."""
        with self._changed:
            while not self._closed:
                remaining_s = self._deadline_s - self._clock.now()
                if not self._pending_rows or self._timer_error is not None:
                    self._changed.wait()
                elif remaining_s > 0.0:
                    self._changed.wait(remaining_s)
                else:
                    try:
                        self._write([])
                    except StorageError as error:
                        log.error("a group commit failed: %s", error)
                        self._timer_error = error


def _event(t_s: float, wall_s: float, kind: str, text: str) -> tuple[float, float, str, int, str]:
    times = float(t_s), float(wall_s)
    return (*times, kind, labelled_crc(text.encode(), kind, *times), text)


def _check_group(group_commit_s: float) -> None:
    if not 0.0 <= group_commit_s <= MAX_GROUP_COMMIT_S:
        raise StorageError(f"group_commit_s is 0 to {MAX_GROUP_COMMIT_S} s, not {group_commit_s}")


def _make_durable(connection: sqlite3.Connection, path: Path) -> None:
    mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
    if mode != "wal":
        raise StorageError(
            f"{path.parent} cannot hold a journal: SQLite's write-ahead log is not possible there (mode {mode})",
            where=str(path),
            todo="choose a directory on a local disk",
        )
    connection.execute("PRAGMA synchronous=FULL")
    # Only macOS knows this: there an ordinary sync stops at the cache of the drive.
    connection.execute("PRAGMA fullfsync=ON")
    connection.execute("PRAGMA wal_autocheckpoint=1000")
