"""Mutated journals: damaged bytes of the file or its log, and tables with strange but well-formed content."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import zlib
from pathlib import Path

from run_fuzz.json_data import mutated_text
from run_fuzz.raw_bytes import damaged

_SCHEMA = (
    "DROP TABLE note",
    "CREATE TABLE other(x)",
    "CREATE VIEW data AS SELECT * FROM block",
    "CREATE TRIGGER t AFTER INSERT ON note BEGIN DELETE FROM block; END",
    "CREATE INDEX i ON block(stream)",
    "ALTER TABLE run ADD COLUMN generated TEXT AS (hex(header))",
    "PRAGMA user_version=99",
    "PRAGMA application_id=7",
    "PRAGMA journal_mode=DELETE",
    "PRAGMA encoding='UTF-16'",
    "ALTER TABLE block RENAME TO row",
    "DROP TABLE run",
)
_ROWS = (
    "DELETE FROM run",
    "INSERT INTO run SELECT 2, header, status FROM run",
    "UPDATE run SET status='superb'",
    "UPDATE run SET status='running'",
    "UPDATE run SET status=x'00'",
    "DELETE FROM stream",
    "UPDATE stream SET name='../points'",
    "UPDATE stream SET name='x'",
    "UPDATE stream SET id=id+5",
    "INSERT INTO stream SELECT id+50, name, layout FROM stream",
    "DELETE FROM block WHERE seq % 3 = 0",
    "UPDATE block SET stream=77",
    "UPDATE block SET first=first+1",
    "UPDATE block SET count=-1",
    "UPDATE block SET count=count*1000000000",
    "UPDATE block SET seq=9223372036854775807 - seq",
    "UPDATE block SET rows=zeroblob(length(rows)), rows_crc=0",
    "UPDATE block SET rows='text'",
    "UPDATE block SET arrays=zeroblob(0), arrays_crc=0",
    "UPDATE block SET rows_crc='x'",
    "UPDATE event SET kind=x'ff'",
    "UPDATE event SET t_s='soon'",
    "UPDATE event SET t_s=9e999",
    "DELETE FROM event",
    "UPDATE event SET kind='safe_state'",
    "UPDATE event SET kind='instruments'",
    "UPDATE event SET kind='stage'",
    "UPDATE axis SET unit=x'80'",
    "UPDATE axis SET name='point'",
    "UPDATE axis SET data=zeroblob(3), crc=0",
    "DELETE FROM axis",
    "INSERT INTO note(wall_s, text) VALUES ('x', x'00')",
    "INSERT INTO note(wall_s, text) VALUES (1e300, 'later')",
    "INSERT INTO result(wall_s, name, data) VALUES (1e300, 'x/y', '{\"value\": [[1],[2,3]]}')",
    "INSERT INTO result(wall_s, name, data) VALUES (0, '', '[]')",
)
_TEXTS = (("run", "header"), ("run", "header"), ("stream", "layout"), ("event", "data"), ("result", "data"))


def mutate_journal(original: Path, target: Path, seed: int) -> str:
    """Write a mutated copy of a journal and its log; returns what was done. ``bytes`` means that damage was done."""
    chance = random.Random(seed)
    log, target_log = (path.with_name(f"{path.name}-wal") for path in (original, target))
    shutil.copyfile(original, target)
    if log.exists():
        shutil.copyfile(log, target_log)
    if chance.random() < 0.6:
        victim = target_log if log.exists() and chance.random() < 0.5 else target
        kind, content = damaged(victim.read_bytes(), chance)
        victim.write_bytes(content)
        return f"bytes: {kind} of the {'log' if victim == target_log else 'file'}"
    connection = sqlite3.connect(target, isolation_level=None)
    try:
        return _mutate_tables(connection, chance)
    finally:
        connection.close()


def _mutate_tables(connection: sqlite3.Connection, chance: random.Random) -> str:
    fate = chance.random()
    if fate < 0.5:
        table, column = chance.choice(_TEXTS)
        return _mutate_text(connection, table, column, chance)
    if fate < 0.6:
        return _mutate_values(connection, chance)
    statement = chance.choice(_SCHEMA if fate < 0.7 else _ROWS)
    try:
        connection.execute(statement)
    except sqlite3.Error as error:
        return f"tables: refused by SQLite: {error}"
    return f"tables: {statement}"


def _mutate_text(connection: sqlite3.Connection, table: str, column: str, chance: random.Random) -> str:
    rows = connection.execute(f"SELECT rowid, {column} FROM {table}").fetchall()
    if not rows:
        return "tables: nothing there"
    number, text = chance.choice(rows)
    new = mutated_text(text, chance)
    if chance.random() < 0.7:
        new = _without_checksum(new)
    connection.execute(f"UPDATE {table} SET {column}=? WHERE rowid=?", (new, number))
    if table == "event":
        crc = zlib.crc32(new.encode("utf-8", "surrogatepass"))
        connection.execute("UPDATE event SET crc=? WHERE rowid=?", (crc, number))
    return f"tables: {column} of {table}"


def _without_checksum(text: str) -> str:
    """What is read without complaint, as if an older labctl had written it."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if isinstance(data, dict):
        data.pop("labctl_crc32", None)
    return json.dumps(data)


def _mutate_values(connection: sqlite3.Connection, chance: random.Random) -> str:
    """Other numbers, with a checksum that fits: a file that was made so."""
    number, rows, arrays = chance.choice(connection.execute("SELECT seq, rows, arrays FROM block").fetchall())
    column, blob = ("rows", rows) if chance.random() < 0.6 or not arrays else ("arrays", arrays)
    data = bytearray(blob)
    for _ in range(8):
        start = chance.randrange(0, max(1, len(data) - 8))
        data[start : start + 8] = chance.choice((b"\xff" * 8, b"\0" * 8, b"\0\0\0\0\0\0\xf0\x7f", chance.randbytes(8)))
    query = f"UPDATE block SET {column}=?, {column}_crc=? WHERE seq=?"
    connection.execute(query, (bytes(data), zlib.crc32(data), number))
    return f"tables: values in {column}"
