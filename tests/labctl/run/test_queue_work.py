"""A campaign at work: results handed on, runs skipped, tried again, taking turns, and killed between any two lines."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from labctl.config.campaign import load_campaign
from labctl.errors import ConfigError, InputError
from labctl.run import left_runs
from labctl.run.kept_laboratory import KeptLaboratories
from labctl.run.queue import run_queue
from labctl.run.queue_history import read_history
from labctl.run.queued_runs import QueuedRun, queued_runs
from labctl.run.request import RunRequest

SWEEP = 'procedure = "fluence-sweep"\nbench = "simulated"\n'
THRESHOLD = {"threshold": {"value": 28.5, "unit": "uJ/cm^2", "convention": "peak_gauss", "ci95": [28.0, 29.0]}}
CHAIN = f"""\
name = "chain"
on_failure = "continue"

[[run]]
name = "threshold"
{SWEEP}samples = ["cdse-cds-zno", "cdse-cds"]

[[run]]
name = "above"
{SWEEP}samples = ["cdse-cds-zno", "cdse-cds"]
[run.parameters]
averages = 2
[run.parameters.expected-threshold]
from = "threshold"
result = "threshold"
times = 2
at_most = "80 uJ/cm^2"
if_missing = "skip"

[[run]]
name = "last"
{SWEEP}after = ["above"]
"""


@pytest.fixture(autouse=True)
def no_laboratory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is opened here, so no laboratory need outlive the runs."""
    monkeypatch.setattr(KeptLaboratories, "bench_for", lambda self, bench, sample, seed: bench)


class Lab:
    """Stands for front, guard and engine: each run ends as the test says, by its name and attempt.

    :param ends: Outcomes by name, one for each attempt, the last for all further ones; what is not given finishes.
    """

    def __init__(self, **ends: Any) -> None:
        self.ends = {name.replace("_", " "): list(given) for name, given in ends.items()}
        self.ran: list[str] = []
        self.requests: list[RunRequest] = []
        self.result: dict[str, Any] = THRESHOLD
        self.before: Callable[[QueuedRun], None] = lambda run: None

    def __call__(self, run: QueuedRun, request: RunRequest, on_event: Callable[[Any], None]) -> dict[str, Any]:
        before = self.ran.count(run.name)
        self.ran.append(run.name)
        self.requests.append(request)
        path = f"{request.out}/{run.number:04d}.h5"
        on_event({"event": "started", "run": path})
        self.before(run)
        given = self.ends.get(run.name, [{}])
        end = {"exit": 0, "status": "finished", **given[min(before, len(given) - 1)]}
        error = None if end["exit"] == 0 else {"what": "the meter is silent"}
        known = {"run": path, "safe_state": "confirmed", "error": error, "points": {"done": before, "planned": 9}}
        return {"result": self.result, **known, **end}


FAILED = {"exit": 1, "status": "failed"}


def work(folder: Path, lab: Any, text: str = CHAIN, **options: Any) -> dict[str, Any]:
    path = folder / "chain.toml"
    path.write_text(text, encoding="utf-8")
    options.setdefault("virtual_time", not options.get("resume", False))
    return run_queue(load_campaign(path), out=str(folder / "runs"), run_one=lab, **options)


def names(text: str, folder: Path) -> list[str]:
    path = folder / "c.toml"
    path.write_text(text, encoding="utf-8")
    return [run.name for run in queued_runs(load_campaign(path), out=str(folder))]


def test_a_table_is_run_for_each_sample_at_each_place(tmp_path: Path) -> None:
    one = f'[[run]]\nname = "a"\n{SWEEP}samples = ["x", "y.toml"]\npositions = ["A1", "A2"]\nrepeat = 2\n'
    two = f'[[run]]\nname = "b"\n{SWEEP}samples = ["y.toml", "x"]\n'
    head = 'name = "x"\n'
    by_table = names(head + one + two, tmp_path)
    assert by_table[:3] == ["a, x, A1 (1 of 2)", "a, x, A1 (2 of 2)", "a, x, A2 (1 of 2)"]
    assert by_table[-2:] == ["b, y", "b, x"]
    by_sample = names(head + 'order = "sample"\n' + one + two, tmp_path)
    assert [name.partition(", ")[2][0] for name in by_sample] == ["x"] * 5 + ["y"] * 5
    assert sorted(by_sample) == sorted(by_table)
    runs = queued_runs(load_campaign(tmp_path / "c.toml"), out=str(tmp_path))
    assert {run.request.spot for run in runs[:4]} == {"A1", "A2"}
    assert len({run.request.seed for run in runs}) == len(runs)


def test_a_result_is_handed_on_for_the_same_sample(tmp_path: Path) -> None:
    lab = Lab()
    thresholds = {1: 20.0, 2: 30.0}

    def measure(run: QueuedRun) -> None:
        lab.result = {"threshold": {**THRESHOLD["threshold"], "value": thresholds.get(run.number, 1.0)}}

    lab.before = measure
    outcome = work(tmp_path, lab)
    assert (outcome["status"], outcome["exit"]) == ("finished", 0)
    assert lab.ran == [
        "threshold, cdse-cds-zno",
        "threshold, cdse-cds",
        "above, cdse-cds-zno",
        "above, cdse-cds",
        "last",
    ]
    above = [request.parameters for request in lab.requests[2:4]]
    assert above == [{"averages": 2, "expected-threshold": f"{twice} uJ/cm^2"} for twice in (40, 60)]
    origin = lab.requests[3].origin["expected-threshold"]
    assert (origin["run"], origin["result"], origin["times"]) == ("threshold, cdse-cds", "threshold", [2.0])
    assert outcome["runs"][3]["taken"][0]["value"] == "60 uJ/cm^2"
    assert Path(outcome["report"]).read_text(encoding="utf-8").count("60 µJ/cm²") == 2


def test_without_its_result_a_run_is_skipped(tmp_path: Path) -> None:
    outcome = work(tmp_path, Lab(**{"threshold, cdse-cds": [FAILED]}))
    statuses = {run["name"]: (run["status"], run.get("why", "")) for run in outcome["runs"]}
    assert statuses["above, cdse-cds-zno"] == ("finished", "")
    assert statuses["above, cdse-cds"] == ("skipped", "threshold, cdse-cds was failed")
    assert statuses["last"] == ("skipped", "above, cdse-cds did not finish")
    assert (outcome["status"], outcome["exit"], outcome["left"]) == ("failed", 1, [])


def test_a_result_beyond_its_bounds_is_none(tmp_path: Path) -> None:
    outcome = work(tmp_path, Lab(), CHAIN.replace("80 uJ", "50 uJ"))
    assert [run["status"] for run in outcome["runs"][2:]] == ["skipped"] * 3
    assert "57 uJ/cm^2" in outcome["runs"][2]["why"]


def test_or_the_campaign_stops_or_falls_back(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    lab = Lab(**{"threshold, cdse-cds": [FAILED]})
    outcome = work(tmp_path / "1", lab, CHAIN.replace('"skip"', '"stop"'))
    assert (outcome["status"], outcome["left"]) == ("stopped", ["above, cdse-cds", "last"])
    assert "if_missing" in outcome["todo"]
    (tmp_path / "2").mkdir()
    lab = Lab(**{"threshold, cdse-cds": [FAILED]})
    outcome = work(tmp_path / "2", lab, CHAIN.replace('if_missing = "skip"', 'fallback = "50 uJ/cm^2"'))
    assert lab.requests[3].parameters["expected-threshold"] == "50 uJ/cm^2"
    assert outcome["runs"][3]["taken"][0]["origin"]["fallback"]


def problems(folder: Path, text: str) -> dict[str, str]:
    lab = Lab()
    with pytest.raises(ConfigError) as caught:
        work(folder, lab, text)
    assert lab.ran == [] and not list(folder.glob("runs/*.jsonl"))
    return {problem.key: f"{problem.found}; {problem.nearest}" for problem in caught.value.problems}


def test_names_of_runs_are_checked_before_the_first(tmp_path: Path) -> None:
    wrong = CHAIN.replace('from = "threshold"', 'from = "treshold"').replace('["above"]', '["above", "last", "nobody"]')
    found = problems(tmp_path, wrong)
    assert set(found) == {"run[1].parameters.expected-threshold.from", "run[2].after[1]", "run[2].after[2]"}
    assert found["run[1].parameters.expected-threshold.from"].endswith("; threshold")
    one_sample = CHAIN.replace('samples = ["cdse-cds-zno", "cdse-cds"]\n[run.par', "[run.par")
    assert "may be any of 2 runs" in problems(tmp_path, one_sample)["run[1].parameters.expected-threshold.from"]


def test_units_and_the_worst_case_are_checked_before_the_first(tmp_path: Path) -> None:
    found = problems(tmp_path, CHAIN.replace('"80 uJ/cm^2"', '"80 nm"'))
    assert "nm" in found["run[1].parameters.expected-threshold"]
    listed = CHAIN.replace("expected-threshold]", "fluences]").replace("80 uJ", "5600 uJ")
    assert "limits." in problems(tmp_path, listed)["run[1]"]
    assert (
        "unknown"
        in problems(tmp_path, CHAIN.replace("expected-threshold]", "brightness]"))["run[1].parameters.brightness"]
    )


def test_what_cannot_be_checked_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    work(
        tmp_path,
        Lab(),
        CHAIN.replace('at_most = "80 uJ/cm^2"\n', "").replace('result = "threshold"', 'result = "knee"'),
        tell=said.append,
    )
    assert any("result 'knee'" in text for text in said)
    assert any("no at_most" in text for text in said)


RETRIED = CHAIN.replace('"continue"', '"stop"\nretries = 2\nretry_wait = "10 min"')


def test_a_failed_run_is_tried_again(tmp_path: Path) -> None:
    lab = Lab(last=[FAILED, FAILED, {}])
    outcome = work(tmp_path, lab, RETRIED)
    assert (outcome["status"], lab.ran.count("last"), outcome["runs"][4]["attempts"]) == ("finished", 3, 3)
    last = lab.requests[-3:]
    started = [request.virtual_wall_s or 0.0 for request in last]
    assert [round(after - before) for before, after in pairwise(started)] == [600, 600]
    assert "attempt that failed: the meter is silent" in Path(outcome["report"]).read_text(encoding="utf-8")


def test_but_not_for_ever(tmp_path: Path) -> None:
    lab = Lab(last=[FAILED])
    outcome = work(tmp_path, lab, RETRIED)
    assert (outcome["status"], lab.ran.count("last")) == ("stopped", 3)


@pytest.mark.parametrize(("code", "status"), [(2, "stopped"), (3, "aborted"), (4, "unsafe")])
def test_only_what_failed_is_tried_again(tmp_path: Path, code: int, status: str) -> None:
    lab = Lab(last=[{"exit": code, "status": "failed"}])
    assert work(tmp_path, lab, RETRIED)["status"] == status
    assert lab.ran.count("last") == 1


def test_a_signal_ends_the_wait_before_a_retry(tmp_path: Path) -> None:
    lab = Lab(last=[FAILED])
    lab.before = lambda run: threading.Timer(0.3, _interrupt).start() if run.name == "last" else None
    outcome = work(tmp_path, lab, RETRIED, virtual_time=False)
    assert (outcome["status"], outcome["exit"], lab.ran.count("last")) == ("aborted", 3, 1)
    round_ = read_history(Path(outcome["state"])).rounds[-1]
    assert round_.over["status"] == "aborted" and not round_.runs[5].done


def _interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


TURNS = f"""\
name = "turns"
[[run]]
name = "a"
{SWEEP}interleave = "aging"
leave = "5 min"
[[run]]
name = "b"
{SWEEP}interleave = "aging"
[[run]]
name = "c"
{SWEEP}
"""


class Aging:
    """Runs of a group: each measures a point, then waits for the next one, by its own virtual clock."""

    def __init__(self, every_s: dict[str, float], points: int = 4) -> None:
        self.every_s = every_s
        self.points = points
        self.began: dict[str, float] = {}
        self.done: dict[str, int] = {}
        self.turns: list[tuple[str, int]] = []
        self.stays: list[bool] = []
        self.before: Callable[[QueuedRun], None] = lambda run: None

    def __call__(self, run: QueuedRun, request: RunRequest, on_event: Callable[[Any], None]) -> dict[str, Any]:
        now_s = request.virtual_wall_s
        assert now_s is not None
        path = f"{request.out}/{run.number:04d}.h5"
        on_event({"event": "started", "run": path})
        began_s = self.began.setdefault(run.name, now_s)
        self.turns.append((run.name, round(now_s - min(self.began.values()))))
        self.stays.append(request.leave_if_idle_s is None)
        self.before(run)
        every_s = self.every_s.get(run.name)
        self.done[run.name] = self.done.get(run.name, 0) + 1
        points = {"done": self.done[run.name], "planned": self.points}
        known = {"run": path, "safe_state": "confirmed", "exit": 0, "points": points}
        if every_s is None or request.leave_if_idle_s is None or self.done[run.name] == self.points:
            return {**known, "status": "finished"}
        due_s = began_s + every_s * self.done[run.name]
        took_s = 30.0
        wait_s = max(due_s - now_s - took_s, 0.0)
        return {**known, "status": "waiting", "next_due_in_s": wait_s, "next_due_wall_s": now_s + took_s + wait_s}


def test_long_runs_take_turns_on_one_bench(tmp_path: Path) -> None:
    lab = Aging({"a": 1000.0, "b": 3000.0}, points=3)
    outcome = work(tmp_path, lab, TURNS)
    assert outcome["status"] == "finished"
    assert lab.turns[:5] == [("a", 0), ("b", 30), ("a", 1000), ("a", 2000), ("b", 3030)]
    assert [name for name, _ in lab.turns] == ["a", "b", "a", "a", "b", "c"]
    assert lab.stays == [False, False, False, False, True, True], "who is alone keeps the bench"
    waits = [one for one in lines(tmp_path) if one["event"] == "waiting"]
    assert [one["why"] for one in waits] == ["the next point of a is due"] * 2 + ["the next point of b is due"]


def test_a_gap_is_filled(tmp_path: Path) -> None:
    lab = Aging({"a": 90_000.0, "b": 90_000.0}, points=2)
    work(tmp_path, lab, TURNS + "fill = true\n")
    assert [name for name, _ in lab.turns] == ["a", "b", "c", "a", "b"]


def test_whoever_waits_for_nothing_has_failed(tmp_path: Path) -> None:
    class Stuck(Aging):
        def __call__(self, run: QueuedRun, request: RunRequest, on_event: Callable[[Any], None]) -> dict[str, Any]:
            outcome = super().__call__(run, request, on_event)
            return {**outcome, "status": "waiting", "next_due_in_s": 0.0, "points": {"done": 1, "planned": 9}}

    lab = Stuck({"a": 1000.0, "b": 1000.0})
    outcome = work(tmp_path, lab, TURNS)
    assert outcome["status"] == "paused"
    assert len(lab.turns) < 20


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "runs" / "chain.campaign.jsonl").read_text().splitlines()]


def test_quiet_hours_are_waited_for_in_virtual_time(tmp_path: Path) -> None:
    text = CHAIN.replace("[[run]]", '[quiet]\nfrom = "00:00"\nto = "23:59"\n[[run]]\nquiet = "wait"', 1)
    lab = Lab()
    work(tmp_path, lab, text.replace('name = "chain"', 'name = "chain"\ntime_zone = "Europe/Berlin"'))
    first_s = lab.requests[0].virtual_wall_s
    assert first_s is not None and 0.0 <= (first_s + 3600.0) % 86400.0 - 86340.0 < 60.0, "23:59 in winter's Berlin"


def test_what_will_be_skipped_is_not_waited_for(tmp_path: Path) -> None:
    quiet = CHAIN.replace("[[run]]", '[quiet]\nfrom = "00:00"\nto = "23:59"\n[[run]]', 1)
    text = quiet.replace('name = "above"', 'name = "above"\nquiet = "wait"')
    lab = Lab(**{"threshold, cdse-cds": [FAILED], "threshold, cdse-cds-zno": [FAILED]})
    outcome = work(tmp_path, lab, text)
    assert [run["status"] for run in outcome["runs"]] == ["failed"] * 2 + ["skipped"] * 3
    assert not [one for one in lines(tmp_path) if one["event"] == "waiting"]


@pytest.mark.parametrize("text", [CHAIN.replace("[[run]]", "retries = 1\n[[run]]", 1), TURNS], ids=["chain", "turns"])
def test_it_goes_on_after_a_kill_between_any_two_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """Whatever part of the state file is there, the same runs come out, with the same values, and none is left."""
    monkeypatch.setattr(left_runs, "make_safe", lambda left: {"state": "confirmed", "steps": []})
    monkeypatch.setattr("labctl.run.queue.check_runs", lambda *_, **__: None)

    def lab() -> Any:
        if text == TURNS:
            return Aging({"a": 1000.0, "b": 3000.0}, points=3)
        return Lab(**{"threshold, cdse-cds": [FAILED], "last": [FAILED, {}]})

    (whole := tmp_path / "whole").mkdir()
    expected = work(whole, lab(), text)
    content = (whole / "runs" / "chain.campaign.jsonl").read_bytes().splitlines(keepends=True)
    assert len(content) > 12
    for cut in range(1, len(content)):
        (folder := tmp_path / str(cut)).mkdir()
        (folder / "runs").mkdir()
        part = b"".join(content[:cut]) + content[cut][: cut % 7]
        (folder / "runs" / "chain.campaign.jsonl").write_bytes(part.replace(str(whole).encode(), str(folder).encode()))
        outcome = work(folder, lab(), text, resume=True)
        assert outcome["left"] == [], cut
        kept = [(run["name"], run["status"], run.get("taken", [])) for run in outcome["runs"]]
        wanted = [(run["name"], run["status"], run.get("taken", [])) for run in expected["runs"]]
        if text != TURNS:
            # How often one is tried again counts from the resumption.
            kept, wanted = ([(one, taken) for one, _, taken in found if one != "last"] for found in (kept, wanted))
        assert kept == wanted, cut


def test_what_was_resolved_stays_though_the_earlier_run_is_another_now(tmp_path: Path) -> None:
    lab = Lab(**{"above, cdse-cds-zno": [{"exit": 3, "status": "aborted"}]})
    work(tmp_path, lab)
    state = tmp_path / "runs" / "chain.campaign.jsonl"
    state.write_text(state.read_text().replace('"value": 28.5', '"value": 10.0'))
    lab = Lab()
    work(tmp_path, lab, resume=True)
    assert lab.ran == ["above, cdse-cds-zno", "above, cdse-cds", "last"]
    assert [request.parameters["expected-threshold"] for request in lab.requests[:2]] == ["57 uJ/cm^2", "20 uJ/cm^2"]


def test_a_reference_that_was_used_must_not_change(tmp_path: Path) -> None:
    work(tmp_path, Lab(**{"above, cdse-cds-zno": [{"exit": 3, "status": "aborted"}]}))
    with pytest.raises(InputError, match="above, cdse-cds-zno"):
        work(tmp_path, Lab(), CHAIN.replace("times = 2", "times = 1.5"), resume=True)
    assert work(tmp_path, Lab(), resume=True)["status"] == "finished"


def test_a_state_file_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    text = f'name = "chain"\n[[run]]\nname = "one"\n{SWEEP}[[run]]\nname = "two"\n{SWEEP}'
    lab = Lab()
    work(tmp_path, lab, text)
    request = {**lab.requests[0].model_dump(mode="json"), "resume": None}
    for key in ("leave_if_idle_s", "virtual_start_s", "virtual_wall_s", "origin"):
        del request[key]
    old = [
        {"event": "queue", "campaign": "chain", "file": "chain.toml", "runs": 2, "seed": 0, "virtual_time": True},
        {"event": "begun", "number": 1, "request": request},
        {"event": "named", "number": 1, "run": "x.h5"},
        {"event": "ended", "number": 1, "run": "x.h5", "status": "finished", "safe_state": "confirmed", "exit": 0},
    ]
    state = tmp_path / "runs" / "chain.campaign.jsonl"
    state.write_text("".join(json.dumps({**line, "at": "2026-11-21T10:00:00+00:00"}) + "\n" for line in old))
    lab = Lab()
    assert work(tmp_path, lab, text, resume=True)["status"] == "finished"
    assert lab.ran == ["two"]
