"""``labctl campaign``: what it shows, and how it asks."""

from __future__ import annotations

import io
import json
import math
import random
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from labctl.cli import campaign as command
from labctl.config.campaign import load_campaign
from labctl.errors import ConfigError, InputError, LabctlError
from labctl.run import front
from labctl.run.queue import run_queue
from labctl.run.queue_work import StopAsked

CAMPAIGN = """\
name = "films"
[[run]]
name = "one"
procedure = "fluence-sweep"
bench = "simulated"
[[run]]
name = "two"
procedure = "fluence-sweep"
bench = "simulated"
sample = "cdse-cds"
"""
STEP = {"role": "shutter", "action": "close", "confirmed": False, "evidence": "no answer"}


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "films.toml"
    path.write_text(CAMPAIGN, encoding="utf-8")
    return str(path)


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> dict[int, dict[str, Any]]:
    """How the runs end, by their seed; they finish unless said otherwise."""
    outcomes: dict[int, dict[str, Any]] = {}

    def run_to_end(request: Any, on_event: Any, *, on_prompt: Any, forward_signals: bool) -> dict[str, Any]:
        assert forward_signals and on_prompt is not None
        stages = {"fine": {"max_points": 3, "point_s": 1.0}}
        begun = {"run": f"{request.out}/{request.seed}.h5", "stages": stages, "start_up_s": 0.0}
        on_event({"event": "started", "simulated": True, "virtual_time": True, **begun})
        finished = {"run": begun["run"], "status": "finished", "safe_state": "confirmed", "exit": 0, "error": None}
        return {**finished, **outcomes.get(request.seed, {})}

    monkeypatch.setattr(front, "run_to_end", run_to_end)
    return outcomes


def call(file: str, *, resume: bool = False, as_json: bool = False) -> int:
    out = str(Path(file).with_name("runs"))
    return command.campaign(file, out=out, seed=None, virtual_time=False, resume=resume, as_json=as_json)


def test_json_is_one_object(file: str, ends: dict[int, Any], capsys: pytest.CaptureFixture[str]) -> None:
    ends[1] = {"status": "failed", "exit": 1, "error": {"what": "the meter is silent"}}
    assert call(file, as_json=True) == 1
    said = capsys.readouterr()
    (line,) = said.out.splitlines()
    found = json.loads(line)
    assert (found["campaign"], found["status"], found["left"], found["exit"]) == ("films", "paused", ["two"], 1)
    assert [set(run) >= {"run", "status", "safe_state", "exit"} for run in found["runs"]] == [True, True]
    assert "the meter is silent" in said.err and "no terminal to ask at" in said.err


def test_people_see_a_table(file: str, ends: dict[int, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert call(file) == 0
    said = capsys.readouterr()
    assert "run 2 of 2: two" in said.err and "SIMULATED" in said.err
    assert "campaign films" in said.out and "finished: 0 left" in said.out


def test_an_unconfirmed_safe_state_is_said_loudly(
    file: str, ends: dict[int, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    ends[0] = {"status": "crashed", "exit": 4, "safe_state": "unconfirmed", "safe_report": {"steps": [STEP]}}
    assert call(file) == 4
    said = capsys.readouterr()
    assert "SAFE STATE UNCONFIRMED" in said.err and "shutter: close: no answer" in said.err
    assert "unsafe: 2 left, next one" in said.out


def test_a_fault_in_the_file_is_refused_whole(tmp_path: Path) -> None:
    path = tmp_path / "films.toml"
    path.write_text(CAMPAIGN.replace("fluence-sweep", "fluence-swep").replace("[[run]]", "[[rum]]", 1))
    with pytest.raises(ConfigError, match="rum"):
        call(str(path))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("typed", "answer"), [("y\n", True), ("Yes\n", True), ("n\n", False), ("\n", False), ("", False)]
)
def test_the_terminal_is_asked(monkeypatch: pytest.MonkeyPatch, typed: str, answer: bool) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(typed))
    assert command.ask_at_terminal("Go on?", StopAsked()) is answer


def test_a_question_ends_with_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    class Silent(Terminal):
        def readline(self, *_: Any) -> str:  # type: ignore[override]
            release.wait(30.0)
            return ""

    monkeypatch.setattr(sys, "stdin", Silent())
    stop_asked = StopAsked()
    threading.Timer(0.2, stop_asked.set).start()
    assert command.ask_at_terminal("Go on?", stop_asked) is False
    release.set()


def status(file: str, *, as_json: bool = False) -> int:
    state = command.state_file(Path(file).name, str(Path(file).with_name("runs")))
    assert state is not None
    return command.show_campaign(state, as_json=as_json)


def test_another_terminal_sees_how_far_a_campaign_is(
    file: str, ends: dict[int, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[dict[str, Any]] = []
    ends[1] = {"status": "failed", "exit": 1, "error": {"what": "the meter is silent"}}

    def look(run: Any, request: Any, on_event: Any) -> dict[str, Any]:
        on_event({"event": "started", "run": f"{request.out}/{request.seed}.h5"})
        status(file, as_json=True)
        seen.append(json.loads(capsys.readouterr().out))
        known = {"run": "x.h5", "status": "finished", "safe_state": "confirmed", "exit": 0, "error": None}
        return {**known, **ends.get(request.seed, {})}

    out = str(Path(file).with_name("runs"))
    run_queue(load_campaign(file), out=out, run_one=look)
    assert [entry["status"] for entry in seen] == ["running", "running"]
    assert [[run["status"] for run in entry["runs"]] for entry in seen] == [
        ["running", "left"],
        ["finished", "running"],
    ]
    assert [entry["left"] for entry in seen] == [["one", "two"], ["two"]]
    assert status(file) == 0
    said = capsys.readouterr()
    assert "paused: 1 left, next two" in said.out and "the meter is silent" in said.out
    assert "report" in said.out and "--resume" in said.err
    state = Path(out) / "films.campaign.jsonl"
    killed = state.read_bytes().splitlines(keepends=True)[:-2]
    state.write_bytes(b"".join(killed) + b'{"event": "en')
    assert status(file) == 0
    said = capsys.readouterr()
    assert "broken off: 1 left" in said.out and "goes on" in said.err


def test_a_campaign_is_named_in_many_ways(file: str, ends: dict[int, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    call(file)
    folder = Path(file).parent
    state = folder / "runs" / "films.campaign.jsonl"
    monkeypatch.chdir(folder)
    for name, out in [("films", None), ("films.toml", "runs"), (file, "runs"), (str(state), None), ("films", "runs")]:
        found = command.state_file(name, out)
        assert found is not None and found.absolute() == state, name
    for name in ("none", "runs/2026-11-21/0001_x", "", "\0", "/"):
        assert command.state_file(name, None) is None
    (folder / "films.h5").touch()
    assert command.state_file("films", None) is None, "a run of that name comes first"
    with pytest.raises(InputError, match="no campaign"):
        command.show_campaign(Path("none.campaign.jsonl"), as_json=False)


def test_messages_that_were_not_sent_are_told(
    file: str, ends: dict[int, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(file)
    path.write_text(
        'name = "films"\n[notify]\nurls = ["json://127.0.0.1:9/x?cto=1&rto=1"]\n' + CAMPAIGN.split("\n", 1)[1]
    )
    assert call(file) == 0
    said = capsys.readouterr()
    assert "1 messages could not be sent" in said.err and "campaign films: finished, 0 runs left" in said.err


@pytest.mark.parametrize("seed", range(150))
def test_a_state_file_may_hold_anything(tmp_path: Path, capsys: pytest.CaptureFixture[str], seed: int) -> None:
    """Whatever stands in it, it is shown, or one clear error says why not."""
    draw = random.Random(seed)
    plan = [{"number": n, "name": f"run {n}", "procedure": "p", "sample": "s"} for n in (1, 2)]
    kept = {"kept": {"result": {"t": {"value": 1.0, "unit": "nm"}}, "points": {"done": 1, "planned": 2}, "files": {}}}
    entries: list[Any] = [
        {"event": "queue", "campaign": "c", "file": "f", "runs": 2, "plan": plan, "virtual_time": True, "clock_s": 1.0},
        {"event": "begun", "number": 1, "request": {"parameters": {}}, "asked": {}, "resolved": []},
        {"event": "named", "number": 1, "run": "x.h5"},
        {
            "event": "ended",
            "number": 1,
            "run": "x",
            "status": "waiting",
            "safe_state": "",
            "exit": 0,
            "due_s": 1e9,
            **kept,
        },
        {"event": "waiting", "until_s": 1e9, "why": "w", "number": 1},
        {"event": "over", "status": "paused", "todo": "t", "report": "r"},
    ]
    entries = [{**entry, "at": "2026-11-21T10:00:00+00:00"} for entry in entries]
    for _ in range(draw.choice((1, 1, 2))):
        entry = draw.choice(entries)
        odd: Any = draw.choice([None, 3, -1, 1e400, "x", [], {}, [1], {"a": 1}, True, "9" * 400, [[]], [{}], math.nan])
        where = draw.choice([entry, entry, *(value for value in entry.values() if isinstance(value, dict) and value)])
        where[draw.choice(list(where))] = odd
    state = tmp_path / "c.campaign.jsonl"
    state.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
    for as_json in (False, True):
        try:
            assert command.show_campaign(state, as_json=as_json) == 0
        except LabctlError as error:
            assert error.what
