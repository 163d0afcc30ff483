"""All light of a run is entered in one ledger: the one beside its journal, wherever that lies."""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from labctl.bench.ledger import LEDGER_NAME, ExposureLedger
from labctl.config.bench import load_bench
from labctl.config.locate import locate
from labctl.run.earlier import read_earlier
from labctl.run.engine import Engine
from labctl.run.guard_line import GuardLine
from labctl.run.light import earlier_light, owed_light
from labctl.run.plan import Plan, Stage
from labctl.run.request import RunRequest, prepare
from labctl.run.stored_request import StoredFiles, request_to_resume
from labctl.store.journal import Journal
from labctl.store.naming import allocate_run

RUN = "2026-11-21/0001_fluence-sweep_a"


def aborted_run(folder: Path, out: str) -> Path:
    """Write the journal of a run that was aborted before its first point, and light of it in its ledger."""
    journal = folder / f"{RUN}.journal"
    journal.parent.mkdir(parents=True)
    write_aborted(journal, out)
    (folder / LEDGER_NAME).touch()
    return journal


def write_aborted(journal: Path, out: str) -> None:
    asked = RunRequest(procedure="fluence-sweep", bench="simulated").model_dump() | {"out": out}
    plan = Plan((Stage("dark", "dark", 1, 1.0, ({},)),))
    header = {"request": asked, "parameters": {}, "plan": plan.as_dict(), "provenance": {}}
    with Journal.create(journal, header) as written:
        written.set_status("aborted", t_s=0.0, wall_s=0.0)


def test_the_folder_stays_the_same_wherever_the_request_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "a")
    request = RunRequest(procedure="fluence-sweep", bench="simulated")
    assert request.out == str(tmp_path / "a" / "runs")
    text = request.model_dump_json()
    monkeypatch.chdir(tmp_path / "b")
    assert RunRequest.model_validate_json(text).out == request.out


@pytest.mark.parametrize("written", ["runs", "{}/runs"])
def test_a_run_resumed_from_elsewhere_goes_on_in_its_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    """Also a run whose header has the folder as it was typed, and though there is a folder of that name here."""
    journal = aborted_run(tmp_path / "home" / "runs", written.format(tmp_path / "home"))
    (tmp_path / "elsewhere" / "runs").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert request_to_resume(str(journal)).out == str(tmp_path / "home" / "runs")
    monkeypatch.chdir(journal.parent)
    assert request_to_resume(journal.name).out == str(tmp_path / "home" / "runs")


def test_whatever_a_request_says_the_engine_takes_the_folder_of_the_run(tmp_path: Path) -> None:
    journal = aborted_run(tmp_path / "home", str(tmp_path / "home"))
    request = request_to_resume(str(journal)).model_copy(update={"out": str(tmp_path / "other")})
    assert prepare(request).request.out == str(tmp_path / "home")


def test_a_copied_run_goes_on_in_the_copy_and_says_so(tmp_path: Path) -> None:
    aborted_run(tmp_path / "home", str(tmp_path / "home"))
    shutil.copytree(tmp_path / "home", tmp_path / "copy")
    journal = tmp_path / "copy" / f"{RUN}.journal"
    assert request_to_resume(str(journal)).out == str(tmp_path / "copy")
    bench = load_bench("simulated")
    (warning,) = StoredFiles(earlier=read_earlier(journal)).warnings(bench)
    assert f"begun in {tmp_path / 'home'} and lies in {tmp_path / 'copy'} now" in warning
    assert StoredFiles(earlier=read_earlier(tmp_path / "home" / f"{RUN}.journal")).warnings(bench) == ()
    shutil.rmtree(tmp_path / "home")
    assert StoredFiles(earlier=read_earlier(journal)).warnings(bench) == ()


def test_a_journal_in_the_spool_of_a_network_folder_knows_that_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labctl.store.naming.is_network", lambda path: True)
    share = tmp_path / "share"
    paths = allocate_run(share, "fluence-sweep", "a", date(2026, 11, 21), spool=tmp_path / "spool")
    assert paths.journal.is_relative_to(tmp_path / "spool")
    write_aborted(paths.journal, str(share))
    assert request_to_resume(str(paths.sealed)).out == str(share)


class MovesTheFolder(Engine):
    """Moves the folder of the runs away when some points are stored, at the next entry into the ledger."""

    def done(self, point: Any, record: Any, done: int) -> None:
        super().done(point, record, done)
        if done == 5:
            folder = Path(self.prepared.request.out)
            folder.rename(folder.with_name("moved"))
            self._last_ledger_s = float("-inf")


@pytest.mark.slow
def test_a_folder_that_moves_during_the_run_is_not_made_anew_and_the_light_is_settled(tmp_path: Path) -> None:
    source = locate("benches", "simulated")
    parameters = {"fluences": "5, 10, 20, 30 uJ/cm^2", "averages": 1, "pulses": 20, "dark_frames": 1}
    request = RunRequest(
        procedure="fluence-sweep",
        parameters={**parameters, "scatter_frames": 0, "return_points": 0, "exposure_max": "0.02 s"},
        bench=str(source),
        out=str(tmp_path / "runs"),
        virtual_time=True,
    )
    outcome = MovesTheFolder(prepare(request), GuardLine()).run()
    assert (outcome.status, outcome.safe_state) == ("failed", "confirmed")
    assert not (tmp_path / "runs").exists()
    (journal,) = (tmp_path / "moved").rglob("*.journal")
    again = prepare(request_to_resume(str(journal)))
    assert earlier_light(again).dose_j_cm2 > 0
    outcome = Engine(again, GuardLine()).run()
    assert outcome.status == "finished", outcome.error
    assert not (tmp_path / "runs").exists()
    assert owed_light(tmp_path / "moved") == []
    assert again.sample is not None
    ledger = ExposureLedger(tmp_path / "moved")
    assert ledger.total(again.sample.sample.name, "1", simulated=True).runs == 1
