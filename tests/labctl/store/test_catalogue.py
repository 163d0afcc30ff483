from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from labctl.errors import StorageError
from labctl.store import naming
from labctl.store.catalogue import list_runs
from labctl.store.journal import Journal
from labctl.store.naming import allocate_run
from labctl.store.seal import seal

MakeRun = Callable[..., Path]


def test_runs_in_every_state_are_listed_and_broken_ones_with_the_reason(tmp_path: Path, make_run: MakeRun) -> None:
    day = tmp_path / "2026-11-21"
    day.mkdir()
    seal(make_run(day / "0001_a.journal", count=4), day / "0001_a.h5")
    seal(make_run(day / "0002_b.journal", count=3, status="aborted"), day / "0002_b.h5")
    (day / "0002_b.1.h5").write_bytes((day / "0002_b.h5").read_bytes())
    make_run(day / "0003_c.journal", count=2, status=None)
    live = make_run(day / "0004_d.journal", count=1, status=None)
    (day / "0005_e.h5").write_bytes(b"broken")
    (day / "0006_f.journal").touch()
    (day / ".0007_g.h5.partial").touch()
    with Journal.open(live):
        runs = list_runs(tmp_path)
    assert [(run.path.name, run.status, run.points) for run in runs] == [
        ("0001_a.h5", "finished", 4),
        ("0002_b.h5", "aborted", 3),
        ("0003_c.journal", "crashed", 2),
        ("0004_d.journal", "running", 1),
        ("0005_e.h5", "unreadable", 0),
        ("0006_f.journal", "unreadable", 0),
    ]
    first = runs[0]
    assert (first.procedure, first.sample, first.started[:10], first.simulated) == (
        *("fluence-sweep", "A12", "2026-11-21", True),
    )
    assert "cannot be read" in runs[4].reason and "is empty: its run never began" in runs[5].reason


def test_a_run_whose_journal_is_spooled_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(naming, "is_network", lambda path: True)
    paths = allocate_run(tmp_path / "share", "vsl", "A", date(2026, 11, 21), spool=tmp_path / "spool")
    with Journal.create(paths.journal, {"run": paths.name}):
        assert [(run.run, run.status) for run in list_runs(tmp_path / "share")] == [("0001_vsl_A", "running")]


def test_a_missing_directory_is_an_error(tmp_path: Path) -> None:
    assert list_runs(tmp_path) == []
    with pytest.raises(StorageError, match="no directory"):
        list_runs(tmp_path / "none")
