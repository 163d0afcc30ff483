"""Following a run, and saying how it stands."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from labctl.gui import follow
from labctl.gui.discovery import Discovery
from labctl.gui.follow import Following, RunFollower
from labctl.gui.standing import is_live, progress_of, run_word, safe_word, shutter_word, title_of

pytestmark = pytest.mark.skipif(os.name != "posix", reason="Unix sockets")


@pytest.fixture
def follower(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., RunFollower]]:
    monkeypatch.setattr(follow, "LOOK_EVERY_S", 0.02)
    monkeypatch.setattr(follow, "GUARD_PATIENCE_S", 0.3)
    begun: list[RunFollower] = []

    def begin(path: Path) -> RunFollower:
        begun.append(RunFollower(path))
        return begun[-1]

    yield begin
    for one in begun:
        one.close()


def wait_for(follower: RunFollower, true: Callable[[Following], object]) -> Following:
    deadline = time.monotonic() + 20.0
    while not true(follower.newest()):
        assert time.monotonic() < deadline, follower.newest()
        time.sleep(0.005)
    return follower.newest()


def connected(now: Following) -> bool:
    return now.engine.connected and now.engine.phase != ""


def test_nothing_is_claimed_of_no_run() -> None:
    assert run_word(None).text == "no run"
    assert safe_word(None).text == shutter_word(None).text == "–"
    assert not is_live(None)
    assert title_of(None) == "labctl"


def test_a_run_that_goes_on(live, follower) -> None:
    run = live()
    run.add(6)
    now = wait_for(follower(run.path), lambda now: connected(now) and now.engine.done == 6)
    assert (run_word(now).text, run_word(now).detail) == ("RUNNING", "coarse")
    assert safe_word(now).text == "RUN GOES ON"
    assert shutter_word(now).text == "NOT REPORTED", "no event tells of the shutter, so none is invented"
    share, points = progress_of(now, now.view.started_s + 20.0)
    assert (share, points.text, points.detail) == (0.2, "6 / 30 points", "0:44 left")
    assert title_of(now).startswith("0001_") and "SIMULATED" in title_of(now)
    run.add(3)
    wait_for(follower(run.path.with_suffix(".h5")), lambda now: now.view is not None and now.view.done == 9)


def test_a_real_run_is_not_called_simulated(live, follower) -> None:
    now = wait_for(follower(live(simulated=False).path), lambda now: now.view is not None)
    assert "SIMULATED" not in title_of(now)


def test_progress_is_not_complete_before_the_end(live, follower) -> None:
    run = live()
    run.add(30)
    now = wait_for(follower(run.path), lambda now: now.engine.done == 30)
    assert progress_of(now, now.view.started_s)[0] < 1.0
    run.end()
    now = wait_for(follower(run.path), lambda now: now.over)
    assert progress_of(now, now.view.started_s)[0] == 1.0


def test_an_abort_is_asked_once_and_confirmed_by_the_engine(live, follower) -> None:
    run = live()
    front = follower(run.path)
    wait_for(front, connected)
    assert front.abort("ABORT in the window")
    now = wait_for(front, lambda now: now.engine.aborting)
    assert [message["reason"] for message in run.asked] == ["ABORT in the window"]
    assert run_word(now).text == "ABORTING"
    run.end("aborted")
    now = wait_for(front, lambda now: now.over)
    assert (run_word(now).text, safe_word(now).text, shutter_word(now).text) == ("ABORTED", "CONFIRMED", "CLOSED")
    assert not front.abort("again"), "nobody is there to be asked"


@pytest.mark.parametrize(
    ("state", "word", "tone"),
    [
        ("unconfirmed", "UNCONFIRMED", "alarm"),
        ("lost-with-run", "LOST WITH RUN", "warn"),
        ("not-needed", "NOT NEEDED", "neutral"),
    ],
)
def test_how_the_bench_was_left(live, follower, state: str, word: str, tone: str) -> None:
    run = live()
    run.end("failed", state)
    now = wait_for(follower(run.path), lambda now: now.over)
    assert (run_word(now).text, safe_word(now).text, safe_word(now).tone) == ("FAILED", word, tone)
    assert shutter_word(now).text == "UNCONFIRMED"


def test_an_engine_that_dies_leaves_the_safe_state_unconfirmed_until_somebody_reports(live, follower) -> None:
    run = live()
    front = follower(run.path)
    wait_for(front, connected)
    run.die()
    now = wait_for(front, lambda now: now.engine.gone)
    assert (run_word(now).text, safe_word(now).text) == ("ENGINE GONE", "UNCONFIRMED")
    now = wait_for(front, lambda now: now.over)
    assert (run_word(now).text, safe_word(now).text) == ("CRASHED", "UNCONFIRMED")
    assert "look at the bench" in safe_word(now).detail


def test_an_engine_out_of_reach_is_no_engine_that_is_gone(live, follower) -> None:
    run = live(served=False)
    now = wait_for(follower(run.path), lambda now: now.view is not None)
    assert (run_word(now).text, safe_word(now).text) == ("NOT REACHED", "UNKNOWN")
    assert is_live(now)


def test_the_journal_is_let_go_before_it_is_sealed(live, follower) -> None:
    run = live()
    front = follower(run.path)
    wait_for(front, connected)
    run.status["phase"] = "sealing and analysis"
    run.add(2)
    wait_for(front, lambda now: now.engine.phase == "sealing and analysis" and front._run is None)
    assert front.newest().engine.connected and front.newest().view is not None


def test_a_run_that_is_not_there_is_trouble_not_an_end(tmp_path: Path, follower) -> None:
    now = wait_for(follower(tmp_path / "0001_nothing"), lambda now: now.trouble)
    assert "there is no run" in now.trouble and not now.over
    assert run_word(now).text == "LOOKING"


def test_closing_leaves_the_run_alone(live, follower) -> None:
    run = live()
    front = follower(run.path)
    wait_for(front, connected)
    front.close()
    run.add(1)
    assert run.asked == []


def test_discovery_finds_what_goes_on_and_nothing_else(live, tmp_path: Path) -> None:
    ended, going = live(), live()
    ended.end()
    folders = (tmp_path / "elsewhere", tmp_path / "runs")
    discovery = Discovery(folders[0])
    try:
        for folder, names in zip(folders, ([], [going.paths.name]), strict=True):
            discovery.look_at(folder)
            deadline = time.monotonic() + 20.0
            while (found := discovery.found()) is None:
                assert time.monotonic() < deadline
                time.sleep(0.005)
            assert [summary.run for summary in found] == names
    finally:
        discovery.close()
