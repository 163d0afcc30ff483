"""The exposure ledger: what every sample spot has received, across runs.

One SQLite file in the folder of the runs, so that it travels with the data it explains.

A run opens an account before its first light and settles it when the shutter is confirmed closed and all is written
down. An account that is still open when its run is dead tells that light may be missing: see :mod:`labctl.run.light`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labctl.errors import StorageError

LEDGER_NAME = "exposure-ledger.sqlite"
_BUSY_TIMEOUT_S = 10.0
_TABLES = (
    "CREATE TABLE IF NOT EXISTS exposure (sample TEXT, spot TEXT, run TEXT, wall_s REAL, open_s REAL,"
    " pulses INTEGER, fluence_uj_cm2 REAL, dose_j_cm2 REAL, simulated INTEGER)",
    "CREATE TABLE IF NOT EXISTS open_account (number INTEGER PRIMARY KEY AUTOINCREMENT, sample TEXT, spot TEXT,"
    " run TEXT, simulated INTEGER, wall_s REAL, open_s REAL, pulses INTEGER, dose_j_cm2 REAL)",
)


@dataclass(frozen=True, slots=True)
class Exposure:
    """Light that a spot received.

    :param sample: Name of the sample.
    :param spot: Name of the spot on it.
    :param run: Name of the run with its day, e.g. ``2026-11-21/0012_fluence-sweep_A12``.
    :param wall_s: Unix time at which the shutter was closed again.
    :param open_s: Time the shutter was open, in s.
    :param pulses: Number of pulses in that time.
    :param fluence_uj_cm2: Mean fluence per pulse in µJ/cm².
    :param simulated: Whether the light was an emulator's.
    """

    sample: str
    spot: str
    run: str
    wall_s: float
    open_s: float
    pulses: int
    fluence_uj_cm2: float
    simulated: bool

    @property
    def dose_j_cm2(self) -> float:
        """Get the dose in J/cm²: fluence times pulses."""
        return self.fluence_uj_cm2 * 1e-6 * self.pulses


@dataclass(frozen=True, slots=True)
class SpotTotal:
    """Sum over all exposures of one spot: shutter-open time in s, pulses, dose in J/cm², number of runs."""

    open_s: float
    pulses: int
    dose_j_cm2: float
    runs: int


@dataclass(frozen=True, slots=True)
class SpotRecord:
    """Everything the ledger knows of one spot.

    :param simulated: Whether this is the light of emulators; real light of the same spot has a record of its own.
    :param fluence_uj_cm2: Mean fluence per pulse in µJ/cm², over all pulses; nan without a pulse.
    :param highest_uj_cm2: Highest mean fluence of an exposure in µJ/cm².
    :param last_wall_s: Unix time at which its last exposure ended.
    """

    sample: str
    spot: str
    simulated: bool
    total: SpotTotal
    fluence_uj_cm2: float
    highest_uj_cm2: float
    last_wall_s: float


@dataclass(frozen=True, slots=True)
class Account:
    """A run whose light is not all written down yet.

    :param number: Number of the account, never given twice.
    :param wall_s: Unix time at which it was opened.
    :param open_s: Shutter-open time in s that has been written under it.
    :param pulses: Pulses, likewise.
    :param dose_j_cm2: Dose in J/cm², likewise.
    """

    number: int
    sample: str
    spot: str
    run: str
    simulated: bool
    wall_s: float
    open_s: float = 0.0
    pulses: int = 0
    dose_j_cm2: float = 0.0


class ExposureLedger:
    """Appends exposures and sums them.

    :param directory: Folder of the runs; the ledger file is made in it when the first account is opened or the first
        exposure written. The folder itself is never made: a ledger apart from its runs would be believed.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / LEDGER_NAME

    def write(self, exposures: Sequence[Exposure], account: Account | None = None) -> None:
        """Append exposures in one durable transaction; raises StorageError.

        :param account: The account under which they are written; None if there is none.
        """
        if not exposures:
            return
        with self._writing() as connection:
            _insert(connection, exposures)
            if account is not None:
                sums = (
                    sum(exposure.open_s for exposure in exposures),
                    sum(exposure.pulses for exposure in exposures),
                    sum(exposure.dose_j_cm2 for exposure in exposures),
                )
                connection.execute(
                    "UPDATE open_account SET open_s=open_s+?, pulses=pulses+?, dose_j_cm2=dose_j_cm2+? WHERE number=?",
                    (*sums, account.number),
                )

    def open_account(self, sample: str, spot: str, run: str, *, simulated: bool, wall_s: float) -> Account:
        """Note durably that a run is about to give light to a spot; raises StorageError."""
        who = (sample, spot, run, simulated)
        with self._writing() as connection:
            number = connection.execute(
                "INSERT INTO open_account (sample, spot, run, simulated, wall_s, open_s, pulses, dose_j_cm2)"
                " VALUES (?,?,?,?,?,0,0,0)",
                (*who, wall_s),
            ).lastrowid
        return Account(number or 0, *who, wall_s)

    def settle(self, account: Account, exposures: Sequence[Exposure]) -> None:
        """Append the last exposures of a run and close its account, in one durable transaction; raises StorageError.

        An account that is closed already stays so, and nothing is appended: no light is counted twice.
        """
        with self._writing() as connection:
            if connection.execute("DELETE FROM open_account WHERE number=?", (account.number,)).rowcount == 1:
                _insert(connection, exposures)

    def open_accounts(self) -> list[Account]:
        """Get the accounts that are not settled, of runs that go on and of runs that died; raises StorageError."""
        if not self.path.exists():
            return []
        with self._reading() as connection:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name='open_account'").fetchone():
                return []
            rows = connection.execute("SELECT * FROM open_account ORDER BY number").fetchall()
        return [_account(row) for row in rows]

    def total(self, sample: str, spot: str, *, simulated: bool, run: str | None = None) -> SpotTotal:
        """Sum what a spot has received so far; simulated light and real light are kept apart. Raises StorageError.

        :param run: Only from this run; from all if None.
        """
        if not self.path.exists():
            return SpotTotal(0.0, 0, 0.0, 0)
        with self._reading() as connection:
            if _is_unborn(connection):
                return SpotTotal(0.0, 0, 0.0, 0)
            row = connection.execute(
                "SELECT COALESCE(SUM(open_s),0), COALESCE(SUM(pulses),0), COALESCE(SUM(dose_j_cm2),0),"
                " COUNT(DISTINCT run) FROM exposure WHERE sample=? AND spot=? AND simulated=? AND run=COALESCE(?,run)",
                (sample, spot, simulated, run),
            ).fetchone()
        return SpotTotal(float(row[0]), int(row[1]), float(row[2]), int(row[3]))

    def of_run(self, *names: str) -> list[Exposure]:
        """Get what has been entered for a run so far; raises StorageError.

        :param names: The names it may have in the ledger.
        """
        if not self.path.exists():
            return []
        with self._reading() as connection:
            if _is_unborn(connection):
                return []
            rows = connection.execute(
                "SELECT sample, spot, run, wall_s, open_s, pulses, fluence_uj_cm2, simulated FROM exposure"
                f" WHERE run IN ({','.join('?' * len(names))})",
                names,
            ).fetchall()
        return [Exposure(*row[:-1], simulated=bool(row[-1])) for row in rows]

    def spots(self) -> list[SpotRecord]:
        """Get every spot that has received light, in the order of names, real light first; raises StorageError."""
        if not self.path.exists():
            return []
        with self._reading() as connection:
            if _is_unborn(connection):
                return []
            rows = connection.execute(
                "SELECT sample, spot, simulated, SUM(open_s), SUM(pulses), SUM(dose_j_cm2), COUNT(DISTINCT run),"
                " MAX(fluence_uj_cm2), MAX(wall_s) FROM exposure GROUP BY sample, spot, simulated"
                " ORDER BY simulated, sample, spot"
            ).fetchall()
        return [_record(row) for row in rows]

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One durable transaction."""
        try:
            if not self.path.parent.is_dir():
                raise FileNotFoundError(f"its folder {self.path.parent} is gone")
            connection = sqlite3.connect(self.path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
            try:
                # Rollback journal, not write-ahead log: it works on a share, and two processes may open it at once.
                connection.execute("PRAGMA synchronous=FULL")
                connection.execute("BEGIN IMMEDIATE")
                for table in _TABLES:
                    connection.execute(table)
                yield connection
                connection.execute("COMMIT")
            finally:
                connection.close()
        except (sqlite3.Error, OSError) as error:
            raise StorageError(
                f"the exposure ledger could not be written: {error}",
                where=str(self.path),
                state="the run's own file holds the dose of every point",
                todo="free or repair the disk, or put the folder back; what a run still owes is in its journal, and"
                " `labctl dose DIR --settle` enters it",
            ) from error

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            # Open for writing where that is allowed: what a process that died left half-written is then rolled back.
            connection = sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=rw", uri=True, timeout=_BUSY_TIMEOUT_S)
            try:
                yield connection
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise StorageError(
                f"the exposure ledger could not be read: {error}",
                where=str(self.path),
                state="nothing was moved; what the spot has received is not known",
                todo="put the file aside and start a new one; the dose of old runs is in their own files",
            ) from error


def _is_unborn(connection: sqlite3.Connection) -> bool:
    """Get whether a ledger died in its first transaction: nothing is in it, and nothing was to come yet."""
    return connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0] == 0


def _insert(connection: sqlite3.Connection, exposures: Iterable[Exposure]) -> None:
    rows = [
        (e.sample, e.spot, e.run, e.wall_s, e.open_s, e.pulses, e.fluence_uj_cm2, e.dose_j_cm2, e.simulated)
        for e in exposures
    ]
    connection.executemany("INSERT INTO exposure VALUES (?,?,?,?,?,?,?,?,?)", rows)


def _account(row: Sequence[Any]) -> Account:
    number, sample, spot, run, simulated, *rest = row
    return Account(number, sample, spot, run, bool(simulated), *rest)


def _record(row: Sequence[Any]) -> SpotRecord:
    sample, spot, simulated, open_s, pulses, dose_j_cm2, runs, highest, last_wall_s = row
    mean_uj_cm2 = dose_j_cm2 * 1e6 / pulses if pulses else float("nan")
    total = SpotTotal(open_s, pulses, dose_j_cm2, runs)
    return SpotRecord(sample, spot, bool(simulated), total, mean_uj_cm2, highest, last_wall_s)
