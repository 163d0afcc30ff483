"""The tables of a journal: an SQLite file, one for each run, which is the truth while the run goes.

Blocks of records and events share one sequence number, so their order is known and a reader asks only for what is new.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import sys
import zlib
from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import quote

import numpy as np

from labctl.errors import StorageError

APPLICATION_ID = 0x6C616263
FORMAT_VERSION = 1
STATUSES = ("running", "finished", "aborted", "failed", "waiting")
TABLES = {
    "run": "CREATE TABLE run(id INTEGER PRIMARY KEY, header TEXT NOT NULL, status TEXT NOT NULL)",
    "stream": "CREATE TABLE stream(id INTEGER PRIMARY KEY, name TEXT NOT NULL, layout TEXT NOT NULL)",
    "axis": "CREATE TABLE axis(id INTEGER PRIMARY KEY, name TEXT NOT NULL, unit TEXT NOT NULL, "
    "description TEXT NOT NULL, crc INTEGER NOT NULL, data BLOB NOT NULL)",
    "block": "CREATE TABLE block(seq INTEGER PRIMARY KEY, stream INTEGER NOT NULL, first INTEGER NOT NULL, "
    "count INTEGER NOT NULL, rows_crc INTEGER NOT NULL, arrays_crc INTEGER NOT NULL, rows BLOB NOT NULL, "
    "arrays BLOB NOT NULL)",
    "event": "CREATE TABLE event(seq INTEGER PRIMARY KEY, t_s REAL NOT NULL, wall_s REAL NOT NULL, "
    "kind TEXT NOT NULL, crc INTEGER NOT NULL, data TEXT NOT NULL)",
    "note": "CREATE TABLE note(id INTEGER PRIMARY KEY, wall_s REAL NOT NULL, text TEXT NOT NULL)",
    "result": "CREATE TABLE result(id INTEGER PRIMARY KEY, wall_s REAL NOT NULL, name TEXT NOT NULL, "
    "data TEXT NOT NULL)",
}

STREAM_NAME = re.compile(r"[a-z][a-z0-9_]{0,59}")
RESERVED_STREAM_NAMES = frozenset(
    [
        *("data", "instrument", "sample", "process", "provenance", "events", "notes", "axes"),
        *("title", "start_time", "end_time", "program_name", "entry_identifier", "experiment_description"),
        *("status", "simulated"),
    ]
)
_CHECKSUM = "labctl_crc32"
PLAIN_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_ .:/-]{0,99}")
"""Names of events and results."""


def encode_json(data: Any, what: str) -> str:
    """JSON text of plain data; NumPy values, paths and dates become plain.

    :raises StorageError: If something in it has no JSON form.
    """
    try:
        text = json.dumps(data, default=_plain, ensure_ascii=False)
        text.encode()
        return text
    except (TypeError, ValueError, RecursionError) as error:
        raise StorageError(f"{what} cannot be stored as JSON: {error}", state="nothing was written") from error


def decode_json(text: str, what: str) -> Any:
    """Plain data from JSON text.

    :raises StorageError: If it is not JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise StorageError(f"{what} is not readable: {error}", state="the file is corrupt") from error


def decode_mapping(text: str, what: str) -> dict[str, Any]:
    """A JSON object; anything else is refused."""
    data = decode_json(text, what)
    if not isinstance(data, dict):
        raise StorageError(f"{what} is not a JSON object", state="the file is corrupt")
    return data


def encode_checked(data: Mapping[str, Any], what: str, *labels: object) -> str:
    """A JSON object with its own checksum in it.

    :param labels: What stands beside it and is checked with it, such as its name.
    :raises StorageError: If something in it has no JSON form.
    """
    plain = decode_mapping(encode_json(dict(data), what), what)
    plain.pop(_CHECKSUM, None)
    return encode_json({**plain, _CHECKSUM: labelled_crc(encode_json(plain, what).encode(), *labels)}, what)


def decode_checked(text: str, what: str, path: Path, *labels: object) -> dict[str, Any]:
    """The data of :func:`encode_checked`; older files carry no checksum.

    :raises StorageError: If it is not a JSON object, or not the one that was written.
    """
    data = decode_mapping(text, what)
    crc = data.pop(_CHECKSUM, None)
    if crc is not None:
        check_crc(json.dumps(data, ensure_ascii=False).encode("utf-8", "surrogatepass"), crc, what, path, *labels)
    return data


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Open an SQLite file in autocommit mode; nothing in its schema is trusted.

    :param read_only: Leave the file and its log untouched, whatever their state.
    :raises StorageError: If it cannot be opened.
    """
    uri = f"{sqlite_uri(path.absolute())}?mode={'ro' if read_only else 'rw'}"
    try:
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=10.0)
        _distrust(connection)
        return connection
    except sqlite3.Error as error:
        raise storage_error(path, error, "the journal cannot be opened") from error


def _distrust(connection: sqlite3.Connection) -> None:
    """Let nothing in the file act: no function in its schema, no trigger, no view, no extension, no odd page.

    Extensions are off in a new connection. The switches beyond the first two are known to Python from 3.12.
    """
    connection.execute("PRAGMA trusted_schema=OFF")
    connection.execute("PRAGMA cell_size_check=ON")
    if sys.version_info >= (3, 12):
        connection.setconfig(sqlite3.SQLITE_DBCONFIG_DEFENSIVE, True)
        for switch in ("ENABLE_TRIGGER", "ENABLE_VIEW", "ENABLE_LOAD_EXTENSION", "DQS_DDL", "DQS_DML"):
            connection.setconfig(getattr(sqlite3, f"SQLITE_DBCONFIG_{switch}"), False)


def sqlite_uri(path: PurePath) -> str:
    """The URI of an absolute path. SQLite refuses a host, so the server of a Windows share is part of the path."""
    text = quote(os.fsencode(path.as_posix()), safe="/:")
    return f"file://{text}" if text.startswith("/") else f"file:///{text}"


def connect_to_read(path: Path, *, owned: bool) -> sqlite3.Connection:
    """Open a journal for queries only.

    A live journal is not touched at all. Where nobody owns it, SQLite may fold what a crash left in its log into the
    file, as part of closing; that changes no data.

    :param owned: Whether another process is writing it.
    :raises StorageError: If it cannot be opened.
    """
    connection = connect(path, read_only=owned)
    connection.execute("PRAGMA query_only=ON")
    return connection


def check_format(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a file that is not exactly a journal: other tables, views and triggers included.

    :raises StorageError: If it is none.
    """
    try:
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        schema = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name").fetchall()
    except (sqlite3.Error, ValueError) as error:
        raise storage_error(path, error, "the journal cannot be read") from error
    if application != APPLICATION_ID or schema != [("table", name, name, TABLES[name]) for name in sorted(TABLES)]:
        what = "is empty: its run never began" if not schema else "is not a journal of labctl"
        raise StorageError(f"{path.name} {what}", where=str(path), state="nothing was changed")
    if version != FORMAT_VERSION:
        raise StorageError(
            f"{path.name} has journal format {version}; this program reads {FORMAT_VERSION}",
            where=str(path),
            todo="read it with the version of labctl that wrote it",
        )


def storage_error(path: Path, error: Exception, what: str) -> StorageError:
    """The error that tells what SQLite said."""
    name = getattr(error, "sqlite_errorname", "")
    return StorageError(
        f"{what}: {error} ({name})" if name else f"{what}: {error}",
        where=str(path),
        state="everything acknowledged before is intact",
        todo="check free space, permissions and the health of the disk",
    )


def labelled_crc(data: bytes, *labels: object) -> int:
    """The CRC-32 of data and of what stands beside it: its name, unit, time..."""
    return zlib.crc32(repr(labels).encode("utf-8", "surrogatepass"), zlib.crc32(data))


def check_crc(data: bytes, crc: int, what: str, path: Path, *labels: object) -> None:
    """Compare a CRC-32, of the data with their labels or, as in older files, of the data alone.

    :raises StorageError: If it differs.
    """
    if crc not in (labelled_crc(data, *labels), zlib.crc32(data)):
        raise StorageError(
            f"{what}: the checksum does not fit",
            where=str(path),
            state="the file is corrupt",
            todo="restore the file from a copy",
        )


def lock_path(journal: Path) -> Path:
    """The lock file that the writer of a journal holds."""
    return journal.with_name(journal.name + ".lock")


def _plain(value: object) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, date | datetime):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple | set | frozenset):
        return list(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
