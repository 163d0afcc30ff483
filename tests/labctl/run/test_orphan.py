"""A run without a guard: whose engine lives, whose hangs, and how each left its bench."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from labctl.run import orphan
from labctl.run.endpoint import Endpoint
from labctl.run.orphan import Orphan, await_record, needs_care
from labctl.store.journal import Journal
from labctl.store.seal import seal

posix = pytest.mark.skipif(os.name != "posix", reason="signals")
CONFIRMED = {"state": "confirmed", "steps": []}
WHEN = {"t_s": 0.0, "wall_s": 0.0}


def write_journal(path: Path, *kinds: str) -> Journal:
    journal = Journal.create(path, {"run": path.stem})
    for kind in kinds:
        journal.event(kind, CONFIRMED if kind == "safe_state" else {}, **WHEN)
    return journal


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run as the guard knows it: the path of the file it will be."""
    return tmp_path / "0001_run.h5"


@pytest.mark.parametrize(
    ("kinds", "needs"),
    [
        ((), False),
        (("endpoint",), True),
        (("endpoint", "instruments"), True),
        (("endpoint", "instruments", "safe_state"), False),
        (("endpoint", "instruments", "safe_state", "endpoint"), True),
        (("endpoint", "instruments", "safe_state", "endpoint", "safe_state"), False),
    ],
)
def test_the_journal_tells_how_the_last_engine_left_the_bench(run: Path, kinds: tuple[str, ...], needs: bool) -> None:
    write_journal(run.with_suffix(".journal"), *kinds).close()
    assert needs_care(str(run)) is needs


def test_a_run_that_cannot_be_read_needs_care(run: Path) -> None:
    assert needs_care(str(run))
    run.with_suffix(".journal").write_bytes(b"no journal at all")
    assert needs_care(str(run))


def hold(path: Path, ready: threading.Event) -> None:
    """Own a journal as an engine does, in a session of its own."""
    os.setsid()
    write_journal(path, "endpoint")
    ready.set()
    time.sleep(60)


@pytest.fixture
def engine(run: Path) -> Iterator[psutil.Process]:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=hold, args=(run.with_suffix(".journal"), ready))
    process.start()
    assert ready.wait(60)
    yield psutil.Process(process.pid)
    process.kill()
    process.join()


@posix
def test_an_engine_that_dies_is_noticed(run: Path, engine: psutil.Process) -> None:
    left = Orphan(str(run), "")
    assert left._lives()
    threading.Timer(0.2, engine.kill).start()
    assert left.await_end() == "the guard and the engine both died"


@posix
def test_an_engine_that_does_not_answer_is_killed(
    run: Path, engine: psutil.Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphan, "_ASK_EVERY_S", 0.05)
    engine.send_signal(signal.SIGSTOP)
    assert "it was killed" in Orphan(str(run), str(run.with_name("nobody"))).await_end()
    assert not engine.is_running() or engine.status() == psutil.STATUS_ZOMBIE


@posix
@pytest.mark.parametrize(("phase", "killed"), [("coarse", True), ("making safe", False)])
def test_an_engine_that_answers_is_given_its_time(
    run: Path, engine: psutil.Process, phase: str, killed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphan, "_ASK_EVERY_S", 0.05)
    monkeypatch.setattr(orphan, "_TO_SAFE_STATE_S", 0.3)
    endpoint = Endpoint({"status": lambda message: {"phase": phase}}, lambda: None)
    death = threading.Timer(1.5, engine.kill)
    death.start()
    try:
        assert ("it was killed" in Orphan(str(run), endpoint.address).await_end()) is killed
    finally:
        death.cancel()
        death.join()
        endpoint.close()


@posix
def test_a_run_that_somebody_else_has_resumed_is_not_ours_to_end(run: Path, engine: psutil.Process) -> None:
    left = Orphan(str(run), "")
    left._owner = "process 1"
    assert left.await_end() == "the guard and the engine both died"
    assert engine.is_running()


def test_the_front_reads_what_was_recorded(run: Path) -> None:
    write_journal(run.with_suffix(".journal"), "endpoint", "safe_state").close()
    found = await_record(str(run), 0.0)
    assert found is not None
    assert (found["status"], found["safe_state"], found["points"]) == ("crashed", "confirmed", 0)
    assert found["run"].endswith(".journal")


def test_who_is_just_recording_and_sealing_is_waited_for(run: Path) -> None:
    journal = write_journal(run.with_suffix(".journal"), "endpoint", "safe_state")
    begun, found = threading.Event(), []

    def ask() -> None:
        begun.set()
        found.append(await_record(str(run), 30.0))

    asking = threading.Thread(target=ask)
    asking.start()
    assert begun.wait(10)
    journal.event("incident", {}, **WHEN)
    journal.close()
    seal(run.with_suffix(".journal"), run)
    asking.join(40)
    assert (found[0]["run"], found[0]["status"]) == (str(run), "crashed")


def test_the_front_does_not_wait_for_ever(run: Path) -> None:
    write_journal(run.with_suffix(".journal"), "endpoint").close()
    assert await_record(str(run), 0.3) is None
