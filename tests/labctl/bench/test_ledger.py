"""The exposure ledger: sums over runs, apart by sample, spot and reality."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from labctl.bench.ledger import LEDGER_NAME, Exposure, ExposureLedger, SpotTotal
from labctl.errors import StorageError

ONE = Exposure("film", "1", "0001", 1.7e9, open_s=2.0, pulses=2000, fluence_uj_cm2=30.0, simulated=True)


def test_the_dose_is_fluence_times_pulses() -> None:
    assert ONE.dose_j_cm2 == pytest.approx(0.06)


def test_a_ledger_that_died_in_its_first_transaction_is_empty(tmp_path: Path) -> None:
    (tmp_path / LEDGER_NAME).touch()
    ledger = ExposureLedger(tmp_path)
    assert ledger.total("film", "1", simulated=True) == SpotTotal(0.0, 0, 0.0, 0)
    assert ledger.spots() == [] and ledger.open_accounts() == []
    ledger.write([ONE])
    assert ledger.total("film", "1", simulated=True).pulses == 2000


def test_a_file_of_somebody_else_is_no_empty_ledger(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / LEDGER_NAME) as connection:
        connection.execute("CREATE TABLE other (x)")
    connection.close()
    with pytest.raises(StorageError, match="could not be read"):
        ExposureLedger(tmp_path).total("film", "1", simulated=True)


def test_sums_over_runs(tmp_path: Path) -> None:
    ledger = ExposureLedger(tmp_path)
    ledger.write([ONE, replace(ONE, open_s=1.0, pulses=1000)])
    ledger.write([replace(ONE, run="0002")])
    total = ExposureLedger(tmp_path).total("film", "1", simulated=True)
    assert (total.open_s, total.pulses, total.runs) == (5.0, 5000, 2)
    assert total.dose_j_cm2 == pytest.approx(0.15)


@pytest.mark.parametrize(
    ("sample", "spot", "simulated"), [("other", "1", True), ("film", "2", True), ("film", "1", False)]
)
def test_what_is_kept_apart(tmp_path: Path, sample: str, spot: str, simulated: bool) -> None:
    ledger = ExposureLedger(tmp_path)
    ledger.write([ONE])
    assert ledger.total(sample, spot, simulated=simulated) == SpotTotal(0.0, 0, 0.0, 0)


def test_nothing_is_made_until_there_is_light(tmp_path: Path) -> None:
    ledger = ExposureLedger(tmp_path / "runs")
    ledger.write([])
    assert ledger.total("film", "1", simulated=True).runs == 0
    assert not (tmp_path / "runs").exists()


def test_no_folder_is_made_only_for_the_ledger(tmp_path: Path) -> None:
    ledger = ExposureLedger(tmp_path / "moved away")
    with pytest.raises(StorageError, match="is gone"):
        ledger.write([ONE])
    with pytest.raises(StorageError, match="is gone"):
        ledger.open_account("film", "1", "a", simulated=True, wall_s=0.0)
    assert not (tmp_path / "moved away").exists()


def test_quotes_in_names(tmp_path: Path) -> None:
    ledger = ExposureLedger(tmp_path)
    ledger.write([replace(ONE, sample="film'; DROP TABLE exposure; --")])
    assert ledger.total("film'; DROP TABLE exposure; --", "1", simulated=True).runs == 1


def test_a_damaged_ledger_is_named_and_not_replaced(tmp_path: Path) -> None:
    (tmp_path / LEDGER_NAME).write_bytes(b"this is no database" * 100)
    ledger = ExposureLedger(tmp_path)
    with pytest.raises(StorageError, match="could not be written"):
        ledger.write([ONE])
    with pytest.raises(StorageError, match="could not be read") as caught:
        ledger.total("film", "1", simulated=True)
    assert LEDGER_NAME in caught.value.where
    assert (tmp_path / LEDGER_NAME).read_bytes().startswith(b"this is no database")


def test_two_processes_write_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from labctl.bench.ledger import Exposure, ExposureLedger\n"
        "for n in range(40):\n"
        "    ExposureLedger(Path(sys.argv[1])).write([Exposure('film','1',sys.argv[2],0.0,1.0,10,1.0,True)])"
    )
    children = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), name]) for name in ("a", "b")]
    assert [child.wait(60) for child in children] == [0, 0]
    total = ExposureLedger(tmp_path).total("film", "1", simulated=True)
    assert (total.pulses, total.runs) == (800, 2)


def test_every_spot_with_mean_and_highest_fluence(tmp_path: Path) -> None:
    ledger = ExposureLedger(tmp_path)
    assert ledger.spots() == []
    other = replace(ONE, run="0002", wall_s=1.8e9, pulses=6000, fluence_uj_cm2=50.0)
    real = replace(ONE, sample="zinc", simulated=False, pulses=0)
    ledger.write([ONE, other, replace(ONE, spot="2"), real])
    zinc, first, second = ledger.spots()
    assert (zinc.sample, zinc.simulated, zinc.total.pulses) == ("zinc", False, 0)
    assert zinc.fluence_uj_cm2 != zinc.fluence_uj_cm2
    assert first.total == ledger.total("film", "1", simulated=True)
    assert first.fluence_uj_cm2 == pytest.approx(45.0)
    assert (first.highest_uj_cm2, first.last_wall_s, first.total.runs) == (50.0, 1.8e9, 2)
    assert second.spot == "2"


def test_an_account_counts_what_is_written_under_it_and_is_settled_once(tmp_path: Path) -> None:
    ledger = ExposureLedger(tmp_path)
    ledger.write([ONE, replace(ONE, run="0002")])
    account = ledger.open_account("film", "1", "0001", simulated=True, wall_s=1.75e9)
    assert ledger.open_accounts() == [account]
    ledger.write([replace(ONE, pulses=500, open_s=0.5), replace(ONE, pulses=100, open_s=0.1)], account)
    ledger.write([ONE])
    other = ledger.open_account("film", "1", "0001", simulated=True, wall_s=1.75e9)
    ledger.write([ONE], other)
    found, _ = ledger.open_accounts()
    assert (found.open_s, found.pulses, found.dose_j_cm2) == pytest.approx((0.6, 600, 0.018))
    for _ in range(2):
        ledger.settle(account, [replace(ONE, pulses=1)])
    assert [entry.number for entry in ledger.open_accounts()] == [other.number]
    assert ledger.total("film", "1", simulated=True).pulses == 8601
    ledger.settle(other, [])
    assert ledger.open_account("film", "1", "0001", simulated=True, wall_s=1.75e9).number > other.number


def test_a_ledger_from_before_there_were_accounts(tmp_path: Path) -> None:
    ledger = ExposureLedger(tmp_path)
    ledger.write([ONE])
    with sqlite3.connect(ledger.path) as connection:
        connection.execute("DROP TABLE open_account")
    connection.close()
    assert ledger.open_accounts() == []
    assert ledger.open_account("film", "1", "0003", simulated=True, wall_s=0.0).number == 1
    assert ledger.total("film", "1", simulated=True).pulses == 2000
