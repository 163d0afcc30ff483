from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from labctl.errors import StorageError
from labctl.store import results as results_module
from labctl.store.journal import Journal
from labctl.store.results import add_note, add_result
from labctl.store.run import open_run
from labctl.store.seal import seal

MakeRun = Callable[..., Path]


def test_notes_are_added_to_a_run_that_goes(
    tmp_path: Path, make_run: MakeRun, append: Callable[[Journal, int], None]
) -> None:
    path = make_run(tmp_path / "a.journal", count=0, status=None)
    with Journal.open(path) as journal:
        noter = threading.Thread(target=lambda: [add_note(path, f"note {n}", wall_s=float(n)) for n in range(20)])
        noter.start()
        for point in range(200):
            append(journal, point)
        noter.join()
        with open_run(path) as run:
            assert [(note.wall_s, note.text) for note in run.notes] == [(float(n), f"note {n}") for n in range(20)]
            assert (run.count(), run.status) == (200, "running")


def test_notes_and_results_are_added_to_a_sealed_run_and_never_changed(tmp_path: Path, make_run: MakeRun) -> None:
    target = seal(make_run(tmp_path / "a.journal", count=5), tmp_path / "a.h5")
    with open_run(target) as run:
        add_note(tmp_path / "a", "first µ", wall_s=1.0)
        add_note(target, "second", wall_s=2.0)
        for value in range(12):
            add_result(target, "threshold", {"value": value, "unit": "uJ/cm^2"}, wall_s=float(value))
        assert run.notes == []
        run.refresh()
        assert [note.text for note in run.notes] == ["first µ", "second"]
        assert [result.data["value"] for result in run.results] == list(range(12))
        assert run.count() == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5"]


def test_an_aborted_run_takes_notes_and_results_in_both_files(tmp_path: Path, make_run: MakeRun) -> None:
    path = make_run(tmp_path / "a.journal", count=5, status="aborted")
    target = seal(path, tmp_path / "a.h5")
    add_note(path, "why")
    add_result(target, "threshold", {"value": 1.0})
    for file in (path, target):
        with open_run(file) as run:
            assert [note.text for note in run.notes] == ["why"]
            assert [result.name for result in run.results] == ["threshold"]
    before = target.read_bytes()
    seal(path, target)
    assert target.read_bytes() == before


def test_a_failure_leaves_the_sealed_file_as_it_was(
    tmp_path: Path, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = seal(make_run(tmp_path / "a.journal", count=5), tmp_path / "a.h5")
    before = target.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(results_module, "write_notes", fail)
    with pytest.raises(StorageError, match="No space left"):
        add_note(target, "x")
    assert target.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5"]


def test_what_cannot_be_added_is_refused(tmp_path: Path, make_run: MakeRun) -> None:
    path = make_run(tmp_path / "a.journal", count=1)
    for text in ("", "  ", "a\0b"):
        with pytest.raises(StorageError, match="a note needs some text"):
            add_note(path, text)
    with pytest.raises(StorageError, match="plain name"):
        add_result(path, "a\nb", {})
    with pytest.raises(StorageError, match="cannot be stored as JSON"):
        add_result(path, "threshold", {"value": object()})
    with pytest.raises(StorageError, match="there is no run b"):
        add_note(tmp_path / "b", "text")
