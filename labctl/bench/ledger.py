"""The exposure ledger: what every sample spot has received, across runs.

One SQLite file in the folder of the runs, so that it travels with the data it explains.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from labctl.errors import StorageError

LEDGER_NAME = "exposure-ledger.sqlite"
_BUSY_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Exposure:
    """Light that a spot received.

    :param sample: Name of the sample.
    :param spot: Name of the spot on it.
    :param run: Name of the run.
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


class ExposureLedger:
    """Appends exposures and sums them.

    :param directory: Folder of the runs; the ledger file is made in it when the first exposure is written.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / LEDGER_NAME

    def write(self, exposures: list[Exposure]) -> None:
        """Append exposures in one durable transaction; raises StorageError."""
        if not exposures:
            return
        rows = [
            (e.sample, e.spot, e.run, e.wall_s, e.open_s, e.pulses, e.fluence_uj_cm2, e.dose_j_cm2, e.simulated)
            for e in exposures
        ]
        try:
            connection = self._connect()
            try:
                with connection:
                    connection.executemany("INSERT INTO exposure VALUES (?,?,?,?,?,?,?,?,?)", rows)
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise StorageError(
                f"the exposure ledger could not be written: {error}",
                where=str(self.path),
                state="the run's own file holds the dose of every point",
                todo="free or repair the disk; the dose can be entered from the run file",
            ) from error

    def total(self, sample: str, spot: str, *, simulated: bool) -> SpotTotal:
        """Sum what a spot has received so far; simulated light and real light are kept apart. Raises StorageError."""
        if not self.path.exists():
            return SpotTotal(0.0, 0, 0.0, 0)
        try:
            connection = self._connect()
            try:
                row = connection.execute(
                    "SELECT COALESCE(SUM(open_s),0), COALESCE(SUM(pulses),0), COALESCE(SUM(dose_j_cm2),0),"
                    " COUNT(DISTINCT run) FROM exposure WHERE sample=? AND spot=? AND simulated=?",
                    (sample, spot, simulated),
                ).fetchone()
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise StorageError(
                f"the exposure ledger could not be read: {error}",
                where=str(self.path),
                state="nothing was moved; what the spot has received is not known",
                todo="put the file aside and start a new one; the dose of old runs is in their own files",
            ) from error
        return SpotTotal(float(row[0]), int(row[1]), float(row[2]), int(row[3]))

    def _connect(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, timeout=_BUSY_TIMEOUT_S)
        try:
            # Rollback journal, not write-ahead log: it works on a share, and two processes may open it at once.
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS exposure (sample TEXT, spot TEXT, run TEXT, wall_s REAL, open_s REAL,"
                " pulses INTEGER, fluence_uj_cm2 REAL, dose_j_cm2 REAL, simulated INTEGER)"
            )
        except sqlite3.Error:
            connection.close()
            raise
        return connection
