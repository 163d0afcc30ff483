from __future__ import annotations

import multiprocessing
import sqlite3
import threading
from pathlib import Path

import numpy as np
import pytest

from labctl.errors import StorageError
from labctl.store import journal as journal_module
from labctl.store.journal import Journal
from labctl.store.journal_reader import JournalReader
from labctl.store.layout import Column, RowLayout
from labctl.store.run import open_run

SCALAR = RowLayout((Column("x", "float"),))


def add(journal: Journal, point: int, stream: str = "points") -> None:
    journal.append(stream, point=point, attempt=0, t_s=0.0, wall_s=0.0, row={"x": float(point)})


def start(path: Path, group_commit_s: float = 0.0) -> Journal:
    journal = Journal.create(path, {"run": path.stem}, group_commit_s=group_commit_s)
    journal.add_stream("points", SCALAR)
    return journal


def test_each_point_is_readable_as_soon_as_its_append_returns(tmp_path: Path) -> None:
    with start(tmp_path / "a.journal") as journal, JournalReader(tmp_path / "a.journal") as reader:
        for point in range(5):
            add(journal, point)
            assert journal.acknowledged("points") == point + 1
            reader.refresh()
            assert reader.column("points", "x").tolist() == list(range(point + 1))
        assert reader.status == "running"
    reader = JournalReader(tmp_path / "a.journal")
    assert reader.status == "crashed"
    reader.close()


def test_group_commit_acknowledges_in_time_without_further_appends(tmp_path: Path) -> None:
    with start(tmp_path / "a.journal", 0.02) as journal:
        add(journal, 0)
        waiting = threading.Event()
        for _ in range(500):
            if journal.acknowledged("points"):
                break
            waiting.wait(0.01)
        assert journal.acknowledged("points") == 1
        for point in range(1, 10_000):
            add(journal, point)
        journal.commit()
        assert journal.acknowledged("points") == 10_000
    with sqlite3.connect(tmp_path / "a.journal") as connection:
        blocks = connection.execute("SELECT count(*), max(count) FROM block").fetchone()
    connection.close()
    assert blocks[0] < 1000 and 1 < blocks[1] <= journal_module.MAX_PENDING_ROWS
    assert not any("commit a.journal" in thread.name for thread in threading.enumerate())


def test_a_full_block_is_committed_by_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "MAX_PENDING_ROWS", 10)
    monkeypatch.setattr(journal_module.Journal, "_start_timer", lambda self: None)
    with start(tmp_path / "a.journal", 0.05) as journal:
        for point in range(25):
            add(journal, point)
        assert journal.acknowledged("points") == 20


def test_an_event_commits_what_was_pending_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module.Journal, "_start_timer", lambda self: None)
    with start(tmp_path / "a.journal", 0.05) as journal:
        add(journal, 0)
        assert journal.acknowledged("points") == 0
        journal.event("incident", {"value": np.float32(0.5), "where": tmp_path}, t_s=1.0, wall_s=2.0)
        assert journal.acknowledged("points") == 1
        add(journal, 1)
        journal.set_status("aborted", t_s=2.0, wall_s=3.0, reason="asked")
        assert journal.acknowledged("points") == 2
        with pytest.raises(StorageError, match="the run is aborted; it takes no more points"):
            add(journal, 2)
    with open_run(tmp_path / "a.journal") as run:
        assert [event.kind for event in run.events()] == ["incident", "status"]
        assert run.events("incident")[0].data == {"value": 0.5, "where": str(tmp_path)}
        assert run.events("status")[0].data == {"status": "aborted", "reason": "asked"}
        assert [event.seq for event in run.events()] == [2, 4]
        assert run.status == "aborted"


def test_resume_goes_on_where_the_journal_ended(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    with start(path) as journal:
        add(journal, 0)
        journal.set_status("aborted", t_s=0.0, wall_s=0.0)
    with Journal.open(path) as journal:
        assert journal.header == {"run": "a"}
        assert journal.acknowledged("points") == 1
        journal.set_status("running", t_s=1.0, wall_s=1.0)
        journal.add_stream("points", SCALAR)
        journal.add_stream("dark", SCALAR)
        add(journal, 1)
        add(journal, 0, "dark")
        journal.set_status("finished", t_s=1.0, wall_s=1.0)
        with pytest.raises(StorageError, match="finished run cannot become running"):
            journal.set_status("running", t_s=1.0, wall_s=1.0)
    with open_run(path) as run:
        assert run["x"].tolist() == [0.0, 1.0]  # type: ignore[union-attr]
        assert run.columns("dark")["x"].tolist() == [0.0]
        assert run.status == "finished"


def test_a_journal_has_one_owner_and_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    with start(path) as journal:
        add(journal, 0)
        with pytest.raises(StorageError, match=r"a\.journal is in use by process \d+"):
            Journal.open(path)
    with pytest.raises(StorageError, match="exists already"):
        Journal.create(path, {})
    with pytest.raises(StorageError, match="there is no journal"):
        Journal.open(tmp_path / "b.journal")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.journal"]


def _sleep_forever(ready) -> None:  # type: ignore[no-untyped-def]
    ready.set()
    threading.Event().wait()


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_does_not_keep_a_dead_owner_alive(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    journal = start(tmp_path / "a.journal")
    child = context.Process(target=_sleep_forever, args=(ready,))
    child.start()
    try:
        assert ready.wait(20)
        with open_run(journal.path) as run:
            assert run.status == "running"
            journal.close()
            run.refresh()
            assert run.status == "crashed"
    finally:
        child.kill()
        child.join()
        child.close()


@pytest.mark.parametrize("group_commit_s", [0.0, 0.05])
def test_a_full_disk_refuses_the_point_and_keeps_the_acknowledged_ones(tmp_path: Path, group_commit_s: float) -> None:
    path = tmp_path / "a.journal"
    layout = RowLayout((Column("remark", "text", width=20_000),))
    journal = Journal.create(path, {}, group_commit_s=group_commit_s)
    journal.add_stream("points", layout)
    pages = journal._connection.execute("PRAGMA page_count").fetchone()[0]
    journal._connection.execute(f"PRAGMA max_page_count={pages + 30}")
    accepted = 0
    with pytest.raises(StorageError, match="full") as caught:
        for point in range(100):
            row = {"remark": str(point)}
            journal.append("points", point=point, attempt=0, t_s=0.0, wall_s=0.0, row=row)
            journal.commit()
            accepted += 1
    assert "everything acknowledged before is intact" in str(caught.value)
    assert 0 < accepted == journal.acknowledged("points")
    with open_run(path) as run:
        assert run["remark"].tolist() == [str(point) for point in range(accepted)]  # type: ignore[union-attr]
        journal._connection.execute("PRAGMA max_page_count=1000000")
        journal.commit()
        journal.append("points", point=99, attempt=0, t_s=0.0, wall_s=0.0, row={"remark": "after"})
        journal.close()
        run.refresh()
        assert run["remark"][-1] == "after"
        assert len(set(run["point"].tolist())) == run.count()  # type: ignore[union-attr]


def test_a_failed_group_commit_surfaces_on_the_next_append_and_loses_nothing(tmp_path: Path) -> None:
    with start(tmp_path / "a.journal", 0.01) as journal:
        good = journal._connection

        class Broken:
            in_transaction = False

            def execute(self, *_: object) -> None:
                raise sqlite3.OperationalError("disk I/O error")

        journal._connection = Broken()  # type: ignore[assignment]
        add(journal, 0)
        waiting = threading.Event()
        while journal._timer_error is None:
            waiting.wait(0.01)
        with journal._changed:
            with pytest.raises(StorageError, match=r"a group commit failed: .*disk I/O error"):
                add(journal, 1)
            journal._connection = good
        add(journal, 2)
        journal.commit()
        assert journal.acknowledged("points") == 2
    with open_run(tmp_path / "a.journal") as run:
        assert run["x"].tolist() == [0.0, 2.0]  # type: ignore[union-attr]


class InterruptedAfter:
    """A connection that passes statements on, and raises KeyboardInterrupt before or after the n-th."""

    def __init__(self, connection: sqlite3.Connection, statements: int, *, before: bool) -> None:
        self.connection = connection
        self.left = statements
        self.before = before

    def __getattr__(self, name: str) -> object:
        return getattr(self.connection, name)

    def execute(self, *arguments: object) -> object:
        self.left -= 1
        if self.left == 0 and self.before:
            raise KeyboardInterrupt
        cursor = self.connection.execute(*arguments)  # type: ignore[arg-type]
        if self.left == 0:
            raise KeyboardInterrupt
        return cursor


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("statements", [1, 2, 3, 4])
@pytest.mark.parametrize("group_commit_s", [0.0, 0.05])
def test_an_interrupt_amid_a_write_keeps_the_order_of_the_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group_commit_s: float, statements: int, before: bool
) -> None:
    monkeypatch.setattr(journal_module.Journal, "_start_timer", lambda self: None)
    with start(tmp_path / "a.journal", group_commit_s) as journal:
        for point in range(3):
            add(journal, point)
        good = journal._connection
        journal._connection = InterruptedAfter(good, statements, before=before)  # type: ignore[assignment]
        try:
            for point in range(3, 6):
                add(journal, point)
            journal.event("note", {}, t_s=0.0, wall_s=0.0)
        except KeyboardInterrupt:
            pass
        else:
            assert statements > 3
        journal._connection = good
        add(journal, 100)
        journal.commit()
        count = journal.acknowledged("points")
    with open_run(tmp_path / "a.journal") as run:
        points = run["point"].tolist()  # type: ignore[union-attr]
        assert len(points) == count and points[-1] == 100
        assert points[:-1] == list(range(len(points) - 1)) and len(points) >= 4


def test_several_threads_may_append(tmp_path: Path) -> None:
    with start(tmp_path / "a.journal", 0.02) as journal:
        threads = [
            threading.Thread(target=lambda k=k: [add(journal, 1000 * k + n) for n in range(300)]) for k in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    with open_run(tmp_path / "a.journal") as run:
        assert sorted(run["point"].tolist()) == [1000 * k + n for k in range(4) for n in range(300)]  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["Points", "data", "events", "a/b", "", "1a"])
def test_a_stream_needs_a_usable_name(tmp_path: Path, name: str) -> None:
    with start(tmp_path / "a.journal") as journal, pytest.raises(StorageError, match="not a name for a stream"):
        journal.add_stream(name, SCALAR)


def test_misuse_is_refused_with_a_reason(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="group_commit_s"):
        Journal.create(tmp_path / "b.journal", {}, group_commit_s=0.06)
    with pytest.raises(StorageError, match="header of the run cannot be stored"):
        Journal.create(tmp_path / "b.journal", {"f": print})
    with pytest.raises(StorageError):
        Journal.create(tmp_path / "missing" / "b.journal", {})
    journal = start(tmp_path / "a.journal")
    with pytest.raises(StorageError, match="no stream 'dark'"):
        add(journal, 0, "dark")
    with pytest.raises(StorageError, match="another layout"):
        journal.add_stream("points", RowLayout((Column("y", "int"),)))
    with pytest.raises(StorageError, match="not a status"):
        journal.set_status("crashed", t_s=0.0, wall_s=0.0)
    with pytest.raises(StorageError, match="kind of event"):
        journal.event("", {}, t_s=0.0, wall_s=0.0)
    with pytest.raises(StorageError, match="cannot be stored as JSON"):
        journal.event("plan", {"x": object()}, t_s=0.0, wall_s=0.0)
    journal.set_axis("wavelength_nm", [1.0, 2.0], "nm")
    journal.set_axis("wavelength_nm", [1.0, 2.0], "nm")
    with pytest.raises(StorageError, match="never changes"):
        journal.set_axis("wavelength_nm", [1.0, 3.0], "nm")
    with pytest.raises(StorageError, match="one dimension"):
        journal.set_axis("delay_ps", np.zeros((2, 2)), "ps")
    journal.close()
    journal.close()
    with pytest.raises(StorageError, match="closed"):
        add(journal, 0)
    with pytest.raises(StorageError, match="closed"):
        journal.commit()
