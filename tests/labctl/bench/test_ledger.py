"""The exposure ledger: sums over runs, apart by sample, spot and reality."""

from __future__ import annotations

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
