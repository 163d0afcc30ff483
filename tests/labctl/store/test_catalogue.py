from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from labctl.errors import StorageError
from labctl.store import catalogue, naming, run_index
from labctl.store.catalogue import list_runs
from labctl.store.journal import Journal
from labctl.store.naming import allocate_run
from labctl.store.results import add_note, add_result
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


def test_sealed_runs_are_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = sealed_run(tmp_path)
    opened: list[Path] = []

    class Counting(catalogue.SealedReader):
        def __init__(self, path: Path | str) -> None:
            opened.append(Path(path))
            super().__init__(path)

    monkeypatch.setattr(catalogue, "SealedReader", Counting)
    first = list_runs(tmp_path)
    assert [summary.results["threshold"]["value"] for summary in first] == [28.5]
    assert list_runs(tmp_path) == first and opened == [path]
    add_note(path, "looks bleached")
    (again,) = list_runs(tmp_path)
    assert "looks bleached" in again.words and len(opened) == 2
    path.unlink()
    assert list_runs(tmp_path) == []


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"format": 9}', b'{"format": 1, "runs": 3}', b"[" * 100_000, b"\xff" * 10],
)
def test_an_index_is_disposable(tmp_path: Path, content: bytes) -> None:
    sealed_run(tmp_path)
    expected = list_runs(tmp_path)
    index = tmp_path / run_index.NAME
    assert index.is_file()
    index.write_bytes(content)
    assert list_runs(tmp_path) == expected
    index.unlink()
    assert list_runs(tmp_path) == expected


def test_an_index_that_lies_in_form_hides_no_run(tmp_path: Path) -> None:
    sealed_run(tmp_path)
    list_runs(tmp_path)
    index = tmp_path / run_index.NAME
    known = json.loads(index.read_bytes())
    for entry in known["runs"].values():
        entry["entry"] = {"status": 3}
    index.write_text(json.dumps(known))
    assert [summary.status for summary in list_runs(tmp_path)] == ["finished"]


def test_a_folder_that_cannot_be_written_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed_run(tmp_path)

    def refused(*_: object, **__: object) -> None:
        raise PermissionError("read only")

    monkeypatch.setattr(Path, "write_text", refused)
    assert len(list_runs(tmp_path)) == 1
    assert not (tmp_path / run_index.NAME).exists()


def test_a_running_one_shows_notes_and_results(tmp_path: Path) -> None:
    with Journal.create(tmp_path / "0001_x.journal", {"run": "0001_x", "procedure": "p"}) as journal:
        add_note(journal.path, "a note")
        add_result(journal.path, "p", {"result": {"threshold": {"value": 3.0, "unit": "nm"}}})
        (found,) = list_runs(tmp_path)
        assert (found.status, found.key_result) == ("running", ("threshold", {"value": 3.0, "unit": "nm"}))
        assert "a note" in found.words


def sealed_run(folder: Path) -> Path:
    journal = Journal.create(folder / "0001_x.journal", {"run": "0001_x", "procedure": "p", "sample": {"name": "A"}})
    with journal:
        journal.set_status("finished", t_s=1.0, wall_s=1.0)
    add_result(journal.path, "p", {"result": {"threshold": {"value": 28.5, "unit": "uJ/cm^2", "chi2": 3}}})
    path = folder / "0001_x.h5"
    seal(journal.path, path)
    journal.path.unlink(missing_ok=True)
    return path
