"""Who is told what of a campaign, and when."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from labctl.clock import RealClock
from labctl.config.campaign import CampaignConfig, parse_campaign
from labctl.run import queue_watch
from labctl.run.digest import make_digest
from labctl.run.notifications import Messenger
from labctl.run.queue_clock import QueueClock
from labctl.run.queue_watch import QueueWatch
from labctl.run.queued_runs import QueuedRun, queued_runs

TEXT = """\
name = "films"
time_zone = "Europe/Berlin"
[notify]
urls = ["json://localhost"]
digest = "08:00"
stall = "1 min"
[[run]]
name = "one"
procedure = "fluence-sweep"
bench = "simulated"
on_failure = "continue"
"""


class Told(Messenger):
    """A messenger that sends nothing, and remembers."""

    def __init__(self, folder: Path) -> None:
        super().__init__((), folder / "x.jsonl")
        self.told: list[tuple[str, str, str, tuple[str, ...]]] = []
        self._occasions = frozenset({"failure", "unconfirmed", "stall", "finish", "digest"})

    @property
    def active(self) -> bool:
        return True

    def tell(self, occasion: str, title: str, text: str, attach: Any = ()) -> None:
        self.told.append((occasion, title, text, tuple(attach)))


CAMPAIGN = parse_campaign(TEXT, "c.toml")
(RUN,) = queued_runs(CAMPAIGN, out="runs")


@pytest.fixture
def told(tmp_path: Path) -> Told:
    return Told(tmp_path)


def watch(folder: Path, told: Told, clock: QueueClock | None = None, campaign: CampaignConfig = CAMPAIGN) -> QueueWatch:
    return QueueWatch(campaign, folder / "c.campaign.jsonl", clock or QueueClock(virtual=False), told)


def test_failures_and_ends_are_told(tmp_path: Path, told: Told) -> None:
    mine = watch(tmp_path, told)
    mine.begun(RUN)
    mine.sign(RUN, {"event": "started", "run": "x", "simulated": True, "stages": {}, "start_up_s": 0.0})
    mine.failed(RUN, "failed: the meter is silent")
    mine.unconfirmed(RUN, {"safe_report": {"steps": [{"role": "shutter", "action": "close", "evidence": "no answer"}]}})
    mine.over(
        {"status": "unsafe", "left": ["one"], "runs": [{"name": "one", "status": "failed"}], "todo": "go", "report": ""}
    )
    assert [(occasion, title) for occasion, title, _, _ in told.told] == [
        ("failure", "SIMULATED: campaign films: one failed"),
        ("unconfirmed", "SIMULATED: campaign films: SAFE STATE UNCONFIRMED after one"),
        ("finish", "SIMULATED: campaign films: unsafe, 1 runs left"),
    ]
    assert "The next run follows." in told.told[0][2]
    assert "shutter: close: no answer" in told.told[1][2]
    assert "do: go" in told.told[2][2]


def test_a_question_to_an_operator_is_told_at_once(tmp_path: Path, told: Told) -> None:
    mine = watch(tmp_path, told)
    mine.begun(RUN)
    mine.sign(RUN, {"event": "prompt", "text": "swap the filter"})
    ((occasion, title, text, _),) = told.told
    assert (occasion, title) == ("stall", "campaign films: waits for somebody") and "swap the filter" in text


class Clock(RealClock):
    """The clock of the computer, set forward."""

    ahead_s = 0.0

    def now(self) -> float:
        return super().now() + self.ahead_s


def test_a_run_that_gives_no_sign_is_told_once(tmp_path: Path, told: Told) -> None:
    mine = watch(tmp_path, told)
    mine._real = clock = Clock()
    mine.begun(RUN)
    stages = {"fine": {"max_points": 9, "point_s": 10.0}}
    mine.sign(
        RUN, {"event": "started", "run": "no such run", "simulated": False, "stages": stages, "start_up_s": 300.0}
    )
    clock.ahead_s += 300.0 + 1800.0
    mine._look_for_a_stall()
    assert told.told == [], "it may still cool its detector"
    mine.sign(RUN, {"event": "point", "phase": "fine"})
    clock.ahead_s += 95.0
    mine._look_for_a_stall()
    assert told.told == []
    clock.ahead_s += 10.0
    mine._look_for_a_stall()
    mine._look_for_a_stall()
    assert [(occasion, title) for occasion, title, _, _ in told.told] == [
        ("stall", "campaign films: one makes no progress")
    ]
    mine.sign(RUN, {"event": "point", "phase": "fine"})
    clock.ahead_s += 200.0
    mine.ended()
    mine._look_for_a_stall()
    assert len(told.told) == 1, "between runs nothing stalls"


def test_a_schedule_is_no_stall(tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_watch, "longest_gap_s", lambda path: 3600.0)
    mine = watch(tmp_path, told)
    mine._real = clock = Clock()
    mine.begun(RUN)
    mine.sign(RUN, {"event": "started", "run": "x", "simulated": False, "stages": {"uv": {"point_s": 1.0}}})
    mine.sign(RUN, {"event": "point", "phase": "uv"})
    clock.ahead_s += 3600.0
    mine._look_for_a_stall()
    assert told.told == []
    clock.ahead_s += 70.0
    mine._look_for_a_stall()
    assert len(told.told) == 1


def test_a_digest_comes_once_a_day(tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    answer = {"title": "1 of 2 runs done", "text": "since yesterday", "picture": True}
    monkeypatch.setattr(queue_watch, "_ask_program", lambda what: asked.append(what) or answer)
    clock = QueueClock(virtual=True, now_s=1795215600.0)  # 2026-11-21 00:00 in Berlin
    mine = watch(tmp_path, told, clock)
    mine._digest_if_due()
    clock.advance_to(1795215600.0 + 8 * 3600 - 1)
    mine._digest_if_due()
    assert told.told == []
    for hours in (8, 12, 31.9, 32.1, 200, 201):
        clock.advance_to(1795215600.0 + hours * 3600)
        mine._digest_if_due()
    assert [occasion for occasion, *_ in told.told] == ["digest"] * 3
    assert told.told[0][1] == "campaign films: daily digest, 1 of 2 runs done"
    assert [round((one["now_s"] - one["since_s"]) / 3600, 1) for one in asked] == [8.0, 24.1, 167.9]


def test_a_digest_that_cannot_be_made_says_so(tmp_path: Path, told: Told) -> None:
    clock = QueueClock(virtual=True, now_s=1795215600.0)
    mine = watch(tmp_path, told, clock)
    clock.advance_to(1795215600.0 + 9 * 3600)
    mine._digest_if_due()
    ((_, title, text, attach),) = told.told
    assert "not made" in title and "labctl show" in text and attach == ()


def test_the_watch_ends_with_its_block(tmp_path: Path, told: Told) -> None:
    with watch(tmp_path, told) as mine:
        assert mine._thread is not None and mine._thread.is_alive()
        mine._thread.join(0.0)
        mine._closed.set()
        mine._thread.join(10.0)
        assert not mine._thread.is_alive()


def state_of(folder: Path, run: str) -> Path:
    """Write the state of a campaign with one run that is done, one that waits, and one that is left."""
    plan = [{"number": n, "name": name, "procedure": "p", "sample": "s"} for n, name in enumerate("abc", start=1)]
    result = {"threshold": {"value": 28.5, "unit": "uJ/cm^2", "ci95": [27.5, 29.5]}}
    ended = {"event": "ended", "run": run, "safe_state": "confirmed", "exit": 0}
    entries = [
        {"event": "queue", "campaign": "films", "file": "f.toml", "runs": 3, "plan": plan, "virtual_time": False},
        {"event": "begun", "number": 1, "request": {}},
        {**ended, "number": 1, "status": "failed", "exit": 1, "kept": {"error": "the meter is silent"}},
        {"event": "begun", "number": 1, "request": {}},
        {**ended, "number": 1, "status": "finished", "kept": {"result": result, "points": {"done": 9, "planned": 9}}},
        {"event": "begun", "number": 2, "request": {}},
        {
            **ended,
            "number": 2,
            "status": "waiting",
            "due_s": 1795300000.0,
            "kept": {"points": {"done": 3, "planned": 30}},
        },
        {"event": "waiting", "until_s": 1795300000.0, "why": "the next point of b is due", "number": 2},
    ]
    path = folder / "films.campaign.jsonl"
    path.write_text("".join(json.dumps({**one, "at": "2026-11-21T10:00:00+00:00"}) + "\n" for one in entries))
    return path


def test_a_digest_tells_what_ended_what_goes_on_and_what_is_left(tmp_path: Path) -> None:
    digest = make_digest(state_of(tmp_path, "no such run"), 0.0, 1795290000.0)
    assert digest.title == "1 of 3 runs done" and digest.png == b""
    for words in (
        "a: finished, 9 of 9 points, threshold 28.5 µJ/cm² (27.5 to 29.5)",
        "b: waiting, 3 of 30 points",
        "a: the meter is silent",
        "next point due",
        "left: 2 of 3 runs, first b",
    ):
        assert words in digest.text
    assert "no run has ended" in make_digest(tmp_path / "films.campaign.jsonl", 1.9e9, 1.9e9).text


def test_a_digest_is_made_by_a_program_with_a_figure(tmp_path: Path, finished: Path) -> None:
    state = state_of(tmp_path, str(finished))
    asked = {"state": str(state), "since_s": 0.0, "now_s": 1795290000.0, "picture": str(tmp_path / "d.png")}
    command = [sys.executable, "-m", "labctl.run.digest"]
    done = subprocess.run(command, input=json.dumps(asked).encode(), capture_output=True, timeout=100, check=True)
    found = json.loads(done.stdout)
    assert found["picture"] and found["title"] == "1 of 3 runs done"
    assert (tmp_path / "d.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A run with a few points, and a signal that it names in its header."""
    from labctl.store.journal import Journal
    from labctl.store.layout import Column, RowLayout

    header = {
        "run": "0001_uv_A",
        "procedure": "uv",
        "x": "exposure_s",
        "signal": "intensity",
        "default_stream": "points",
        "simulated": True,
        "sample": {"name": "A"},
        "plan": {"stages": [{"name": "uv", "max_points": 9, "times_s": [0.0, 60.0, 3660.0]}]},
    }
    path = tmp_path / "0001_uv_A.journal"
    with Journal.create(path, header) as journal:
        columns = (
            Column("exposure_s", "float", "s", "Time in the light"),
            Column("intensity", "float", "counts", "PL"),
        )
        journal.add_stream("points", RowLayout(columns))
        for number in range(9):
            row = {"exposure_s": 3600.0 * number, "intensity": 100.0 - number}
            journal.append("points", point=number, attempt=0, t_s=float(number), wall_s=1.0, row=row, arrays={})
        journal.set_status("aborted", t_s=10.0, wall_s=10.0)
    return path


def test_the_longest_gap_comes_from_the_plan(finished: Path, tmp_path: Path) -> None:
    assert queue_watch.longest_gap_s(str(finished)) == 3600.0
    assert queue_watch.longest_gap_s(str(tmp_path / "nothing.journal")) == 0.0


def test_a_run_needs_nobody(tmp_path: Path) -> None:
    """Without [notify] there is neither a thread nor a file."""
    plain = parse_campaign(
        TEXT.replace('[notify]\nurls = ["json://localhost"]\ndigest = "08:00"\nstall = "1 min"\n', ""), "c"
    )
    with QueueWatch(plain, tmp_path / "c", QueueClock(virtual=False), Messenger((), tmp_path / "x")) as mine:
        mine.begun(RUN)
        mine.failed(RUN, "why")
        mine._digest_if_due()
        assert mine._thread is None
    assert list(tmp_path.iterdir()) == [] and isinstance(RUN, QueuedRun)
