"""`labctl dose`: what the ledger holds, what runs that died owe to it, and what is left of a budget."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from labctl.bench.ledger import LEDGER_NAME, Exposure, ExposureLedger
from labctl.cli.dose import dose
from labctl.errors import InputError, StorageError
from labctl.store.journal import Journal

REAL = Exposure("film", "1", "2026-11-21/0001_a", 1.7e9, open_s=2.0, pulses=2000, fluence_uj_cm2=30.0, simulated=False)
RUN = "2026-11-21/0002_fluence-sweep_film"


def died(folder: Path, *, confirmed: bool = True) -> None:
    """Leave a run that died 2 s before its shutter was confirmed closed."""
    path = folder / f"{RUN}.journal"
    path.parent.mkdir()
    account = ExposureLedger(folder).open_account("film", "1", RUN, simulated=False, wall_s=1.7e9)
    light = {"wall_s": 1.7e9, "fluence_uj_cm2": 50.0, "repetition_rate_hz": 1000.0}
    before = {"open_s": 1.0, "pulses": 1000, "dose_j_cm2": 0.05}
    with Journal.create(path, {"request": {}}) as journal:
        journal.event("light", {"account": account.number, **light, **before}, t_s=0.0, wall_s=1.7e9)
        if confirmed:
            steps = [{"role": "shutter", "confirmed": True}]
            journal.event("safe_state", {"state": "confirmed", "steps": steps}, t_s=0.0, wall_s=1.7e9 + 2.0)


def call(capfd: pytest.CaptureFixture[str], folder: Path, **options: Any) -> Any:
    chosen = {"sample": None, "spot": None, "bench": None, "settle": False, "as_json": True, **options}
    assert dose(str(folder), **chosen) == 0
    out, err = capfd.readouterr()
    return json.loads(out) if chosen["as_json"] else (out, err)


def test_every_spot_with_real_light_apart_from_simulated(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    more = replace(REAL, run="2026-11-22/0001_a", fluence_uj_cm2=60.0, pulses=1000, wall_s=1.8e9)
    ExposureLedger(tmp_path).write([REAL, more, replace(REAL, simulated=True), replace(REAL, spot="2")])
    found = call(capfd, tmp_path)
    first, second, simulated = found["spots"]
    assert (first["runs"], first["pulses"], first["open_s"], first["last_wall_s"]) == (2, 3000, 4.0, 1.8e9)
    assert first["mean_fluence_uj_cm2"] == pytest.approx(40.0)
    assert first["highest_fluence_uj_cm2"] == 60.0
    assert first["dose_j_cm2"] == pytest.approx(0.12)
    assert "left_j_cm2" not in first
    assert (second["spot"], simulated["simulated"], simulated["pulses"]) == ("2", True, 2000)
    assert [entry["spot"] for entry in call(capfd, tmp_path, spot="2")["spots"]] == ["2"]
    assert call(capfd, tmp_path, sample="other")["spots"] == []


def test_the_table_says_simulated_and_units(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ExposureLedger(tmp_path).write([REAL, replace(REAL, simulated=True)])
    out, err = call(capfd, tmp_path, as_json=False, bench="simulated")
    assert err == ""
    assert out.count("SIMULATED") == 1
    assert out.count("fresh each run") == 1
    assert "dose J/cm²" in out
    assert "budget" in out
    assert call(capfd, tmp_path, as_json=False, sample="other")[1].startswith("no light on such a spot")


def test_what_is_left_of_the_budget_of_a_bench(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], bench_with: Callable[..., str]
) -> None:
    bench = str(tmp_path / bench_with(('dose_per_spot = "200 J/cm^2"', 'dose_per_spot = "0.1 J/cm^2"')))
    runs = tmp_path / "runs"
    runs.mkdir()
    ExposureLedger(runs).write([REAL, replace(REAL, spot="2", pulses=20000), replace(REAL, simulated=True)])
    found = call(capfd, runs, bench=bench)
    assert found["limit_j_cm2"] == 0.1
    assert [entry["left_j_cm2"] for entry in found["spots"]] == pytest.approx([0.04, 0.0, 0.1])


def test_light_of_a_run_that_died_counts_before_it_is_entered_and_after(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ExposureLedger(tmp_path).write([REAL])
    died(tmp_path)
    found = call(capfd, tmp_path, bench="simulated")
    (owed,) = found["owed"]
    assert (owed["run"], owed["pulses"]) == (RUN, 3000)
    assert owed["dose_j_cm2"] == pytest.approx(0.15)
    left = found["spots"][0]["left_j_cm2"]
    assert left == pytest.approx(found["limit_j_cm2"] - 0.06 - 0.15)
    _, err = call(capfd, tmp_path, as_json=False)
    assert "at most 3000 pulses" in err
    assert "--settle` enters it" in err
    settled = call(capfd, tmp_path, bench="simulated", settle=True)
    assert settled["owed"] == []
    assert settled["spots"][0]["pulses"] == 5000
    assert settled["spots"][0]["left_j_cm2"] == pytest.approx(left)


def test_light_that_may_still_be_on_leaves_nothing_known_of_the_budget(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ExposureLedger(tmp_path).write([REAL])
    died(tmp_path, confirmed=False)
    found = call(capfd, tmp_path, bench="simulated")
    assert found["spots"][0]["left_j_cm2"] is None
    assert found["owed"][0]["pulses"] is None
    assert "--resume" in found["owed"][0]["todo"]
    assert "unknown" in call(capfd, tmp_path, bench="simulated", as_json=False)[0]
    # The years from 2023 until now: an upper bound is an upper bound.
    assert call(capfd, tmp_path, settle=True)["spots"][0]["pulses"] > 1e9


def test_no_ledger_and_a_broken_one_are_named(tmp_path: Path) -> None:
    options = {"sample": None, "spot": None, "bench": None, "settle": False, "as_json": True}
    with pytest.raises(InputError, match="there is no exposure ledger"):
        dose(str(tmp_path), **options)
    (tmp_path / LEDGER_NAME).write_bytes(b"this is no database" * 100)
    with pytest.raises(StorageError, match="could not be read"):
        dose(str(tmp_path), **options)
