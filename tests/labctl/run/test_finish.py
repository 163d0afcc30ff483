"""What happens after the light is off."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from labctl.errors import StorageError
from labctl.run import finish as module
from labctl.run.finish import finish
from labctl.run.outcome import Outcome
from labctl.store.naming import RunPaths


@pytest.fixture
def steps(monkeypatch) -> list[str]:
    """Stand-ins for sealing, analysis and report that say what was done."""
    done: list[str] = []

    def seal(journal: Path, target: Path) -> Path:
        done.append("seal")
        target.write_bytes(b"sealed")
        return target

    def analyse(path: Path) -> dict:
        done.append("analyse")
        return {"result": {"threshold": {"value": 28.0}}, "warnings": ["something"]}

    def report(path: Path) -> dict[str, str]:
        done.append("report")
        figure = path.with_suffix(".png")
        figure.write_bytes(b"figure")
        return {"figure": str(figure)}

    monkeypatch.setattr(module, "seal", seal)
    monkeypatch.setattr(module, "analyse_run", analyse)
    monkeypatch.setattr(module, "report_run", report)
    return done


PREPARED = SimpleNamespace(procedure=SimpleNamespace(write_products=lambda run, analysed: {}))


def paths(folder: Path, spool: Path | None = None) -> RunPaths:
    (spool or folder).mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    return RunPaths(1, "0001_sweep", folder / "0001_sweep.h5", (spool or folder) / "0001_sweep.journal")


def outcome(done: int = 5) -> Outcome:
    return Outcome(simulated=True, points={"done": done, "planned": 5})


def test_seals_analyses_and_reports(tmp_path, steps):
    result = outcome()
    finish(paths(tmp_path), PREPARED, result)
    assert steps == ["seal", "analyse", "report"]
    assert result.result["threshold"]["value"] == 28.0
    assert result.warnings == ["something"]
    assert Path(result.files["figure"]).exists()


def test_a_run_without_points_is_reported_but_not_analysed(tmp_path, steps):
    finish(paths(tmp_path), PREPARED, outcome(done=0))
    assert steps == ["seal", "report"]


def test_a_failed_analysis_is_a_warning_and_the_report_is_written(tmp_path, steps, monkeypatch):
    def fail(path: Path) -> dict:
        raise ValueError("a singular matrix")

    monkeypatch.setattr(module, "analyse_run", fail)
    result = outcome()
    finish(paths(tmp_path), PREPARED, result)
    assert result.warnings == ["the run was not analysed: ValueError: a singular matrix"]
    assert "report" in steps


def test_a_run_that_cannot_be_sealed_is_its_journal(tmp_path, steps, monkeypatch):
    def fail(journal: Path, target: Path) -> Path:
        raise StorageError("the disk is full")

    monkeypatch.setattr(module, "seal", fail)
    result = outcome()
    finish(paths(tmp_path), PREPARED, result)
    assert result.run.endswith(".journal")
    assert result.warnings[0] == "the run could not be sealed: the disk is full"


def test_a_run_for_a_share_is_sealed_locally_and_copied_with_all_that_belongs_to_it(tmp_path, steps):
    share, spool = tmp_path / "share", tmp_path / "spool"
    result = outcome()
    finish(paths(share, spool), PREPARED, result)
    assert Path(result.run) == share / "0001_sweep.h5"
    assert Path(result.files["figure"]).parent == share
    assert Path(result.run).read_bytes() == (spool / "0001_sweep.h5").read_bytes() == b"sealed"


def test_a_share_that_is_gone_leaves_the_local_run(tmp_path, steps, monkeypatch):
    share, spool = tmp_path / "share", tmp_path / "spool"
    where = paths(share, spool)
    share.rmdir()
    share.write_text("a file where the share was")
    monkeypatch.setattr("labctl.store.seal.RealClock.sleep", lambda self, duration_s: None)
    result = outcome()
    finish(where, PREPARED, result)
    assert Path(result.run) == spool / "0001_sweep.h5"
    assert any("not on the share" in text for text in result.warnings)
