"""The queue of a campaign: what follows what, what is kept, what ends it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labctl.config.campaign import load_campaign
from labctl.config.locate import locate
from labctl.errors import ConfigError, InputError, StorageError
from labctl.run import left_runs
from labctl.run import queue as queue_module
from labctl.run.campaign_checks import check_runs
from labctl.run.preflight import preflight
from labctl.run.queue import run_queue
from labctl.run.queue_state import QueueState
from labctl.run.queue_work import StopAsked
from labctl.run.queued_runs import QueuedRun, queued_runs
from labctl.run.request import RunRequest, prepare
from labctl.store.run import open_run

THREE = """\
name = "films"
on_failure = "{policy}"

[[run]]
name = "one"
procedure = "fluence-sweep"
bench = "simulated"

[[run]]
name = "two"
procedure = "fluence-sweep"
bench = "simulated"
sample = "cdse-cds"
seed = 40
parameters = {{ averages = 2 }}

[[run]]
name = "three"
procedure = "attenuator-calibration"
bench = "simulated"
"""


class Lab:
    """Stands for front, guard and engine: each run ends as the test says.

    :param exits: Exit code by name of the run; the rest finish.
    """

    def __init__(self, **exits: int) -> None:
        self.exits = exits
        self.ran: list[str] = []
        self.requests: list[RunRequest] = []
        self.before: Callable[[str], None] = lambda name: None

    def __call__(self, run: QueuedRun, request: RunRequest, on_event: Callable[[Any], None]) -> dict[str, Any]:
        self.ran.append(run.name)
        self.requests.append(request)
        path = f"{request.out}/{len(self.ran):04d}.h5"
        on_event({"event": "started", "run": path})
        self.before(run.name)
        code = self.exits.get(run.name, 0)
        if code == 3:
            on_event({"event": "aborting", "reason": "SIGINT"})
        status = {0: "finished", 1: "failed", 2: "refused", 3: "aborted", 4: "failed"}[code]
        safe = "unconfirmed" if code == 4 else "confirmed"
        error = None if code == 0 else {"what": "the meter is silent"}
        return {"run": path, "status": status, "safe_state": safe, "exit": code, "error": error}


def write(folder: Path, policy: str = "pause", text: str = THREE) -> Path:
    path = folder / "films.toml"
    path.write_text(text.format(policy=policy), encoding="utf-8")
    return path


def work(folder: Path, lab: Callable[..., dict[str, Any]], policy: str = "pause", **options: Any) -> dict[str, Any]:
    options.setdefault("virtual_time", not options.get("resume", False))
    return run_queue(load_campaign(write(folder, policy)), out=str(folder / "runs"), run_one=lab, **options)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "runs" / "films.campaign.jsonl").read_text().splitlines()]


def test_runs_follow_one_another_and_are_written_down(tmp_path: Path) -> None:
    lab = Lab()
    outcome = work(tmp_path, lab, seed=5)
    assert (outcome["campaign"], outcome["status"], outcome["exit"], outcome["left"]) == ("films", "finished", 0, [])
    assert [run["name"] for run in outcome["runs"]] == lab.ran == ["one", "two", "three"]
    assert {(run["status"], run["safe_state"], run["exit"]) for run in outcome["runs"]} == {
        ("finished", "confirmed", 0)
    }
    assert [request.seed for request in lab.requests] == [5, 40, 7]
    assert lab.requests[1].parameters == {"averages": 2} and lab.requests[1].virtual_time
    events = [entry["event"] for entry in lines(tmp_path)]
    assert events == ["queue", *["begun", "named", "ended"] * 3, "over"]


def test_repetitions_have_seeds_of_their_own(tmp_path: Path) -> None:
    text = THREE.replace("seed = 40", "seed = 40\nrepeat = 3")
    lab = Lab()
    run_queue(load_campaign(write(tmp_path, text=text)), out=str(tmp_path / "runs"), run_one=lab)
    assert lab.ran == ["one", "two (1 of 3)", "two (2 of 3)", "two (3 of 3)", "three"]
    assert [request.seed for request in lab.requests] == [0, 40, 41, 42, 4]


@pytest.mark.parametrize("code", [1, 2])
def test_what_follows_a_failure_is_configured(tmp_path: Path, code: int) -> None:
    for policy, ran, status, left in [
        ("continue", ["one", "two", "three"], "failed", []),
        ("pause", ["one", "two"], "paused", ["two", "three"]),
        ("stop", ["one", "two"], "stopped", ["two", "three"]),
    ]:
        (folder := tmp_path / policy).mkdir()
        lab = Lab(two=code)
        outcome = work(folder, lab, policy)
        assert (lab.ran, outcome["status"], outcome["exit"], outcome["left"]) == (ran, status, 1, left)
        assert "--resume" in outcome["todo"] or policy == "continue"


def test_a_run_may_say_for_itself_what_follows_its_failure(tmp_path: Path) -> None:
    text = THREE.replace("seed = 40", 'seed = 40\non_failure = "stop"')
    lab = Lab(one=1, two=1)
    outcome = run_queue(load_campaign(write(tmp_path, "continue", text)), out=str(tmp_path / "runs"), run_one=lab)
    assert (lab.ran, outcome["status"]) == (["one", "two"], "stopped")


@pytest.mark.parametrize(("answer", "ran"), [(True, ["one", "two", "three"]), (False, ["one"])])
def test_a_pause_asks(tmp_path: Path, answer: bool, ran: list[str]) -> None:
    asked: list[str] = []

    def ask(question: str, stop_asked: StopAsked) -> bool:
        asked.append(question)
        return answer

    lab = Lab(one=1)
    work(tmp_path, lab, ask=ask)
    assert lab.ran == ran
    assert asked == ["one failed. Go on?"]


@pytest.mark.parametrize("policy", ["continue", "pause", "stop"])
def test_never_on_after_an_unconfirmed_safe_state(tmp_path: Path, policy: str) -> None:
    lab = Lab(two=4)
    outcome = work(tmp_path, lab, policy, ask=lambda *_: True)
    assert (lab.ran, outcome["status"], outcome["exit"]) == (["one", "two"], "unsafe", 4)
    assert outcome["runs"][1]["safe_state"] == "unconfirmed"


@pytest.mark.parametrize("policy", ["continue", "pause", "stop"])
def test_an_abort_ends_the_queue(tmp_path: Path, policy: str) -> None:
    lab = Lab(two=3)
    outcome = work(tmp_path, lab, policy, ask=lambda *_: True)
    assert (lab.ran, outcome["status"], outcome["exit"]) == (["one", "two"], "aborted", 3)
    assert outcome["left"] == ["two", "three"]


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_between_runs_ends_the_queue(tmp_path: Path, number: signal.Signals) -> None:
    lab = Lab()
    lab.before = lambda name: os.kill(os.getpid(), number) if name == "one" else None
    before = signal.getsignal(number)
    outcome = work(tmp_path, lab)
    assert (lab.ran, outcome["status"], outcome["exit"]) == (["one"], "aborted", 3)
    assert signal.getsignal(number) == before


def test_resume_goes_on_with_the_first_run_that_is_not_done(tmp_path: Path) -> None:
    first = Lab(one=1, two=3)
    work(tmp_path, first, "continue", seed=9)
    assert first.ran == ["one", "two"]
    second = Lab(three=1)
    outcome = work(tmp_path, second, "stop", resume=True)
    assert second.ran == ["two", "three"]
    assert [request.seed for request in second.requests] == [40, 11]
    assert all(request.virtual_time for request in second.requests)
    third = Lab()
    outcome = work(tmp_path, third, "stop", resume=True)
    assert third.ran == ["three"]
    assert [(run["name"], run["status"], run["attempts"]) for run in outcome["runs"]] == [
        ("one", "failed", 1),
        ("two", "finished", 2),
        ("three", "finished", 2),
    ]
    assert (outcome["status"], outcome["exit"], outcome["left"]) == ("failed", 1, [])
    fourth = Lab()
    assert work(tmp_path, fourth, "stop", resume=True)["status"] == "failed"
    assert fourth.ran == []


def test_without_resume_a_campaign_begins_anew(tmp_path: Path) -> None:
    work(tmp_path, Lab(one=1))
    told: list[str] = []
    lab = Lab()
    assert work(tmp_path, lab, tell=told.append)["status"] == "finished"
    assert lab.ran == ["one", "two", "three"]
    assert "3 of 3 runs are not done" in told[0]


def test_resume_after_an_unconfirmed_safe_state_makes_safe_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work(tmp_path, Lab(two=4))
    states = ["unconfirmed", "unconfirmed", "confirmed"]
    made: list[str] = []

    def make_safe(prepared: Any) -> dict[str, Any]:
        made.append(prepared.bench.name)
        return {"state": states[len(made) - 1], "steps": []}

    monkeypatch.setattr(left_runs, "make_safe", make_safe)
    for _ in range(2):
        lab = Lab()
        outcome = work(tmp_path, lab, resume=True)
        assert (lab.ran, outcome["status"], outcome["exit"]) == ([], "unsafe", 4)
    lab = Lab()
    assert work(tmp_path, lab, resume=True)["exit"] == 0
    assert (lab.ran, made) == (["two", "three"], ["simulated"] * 3)
    assert work(tmp_path, Lab(), resume=True)["exit"] == 0
    assert len(made) == 3


class Killed(BaseException):
    """Stands for the end of the process: nothing more is written."""


def kill_at(name: str) -> Lab:
    lab = Lab()

    def end(begun: str) -> None:
        if begun == name:
            raise Killed

    lab.before = end
    return lab


def test_a_run_whose_end_was_not_noted_is_begun_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Killed):
        work(tmp_path, kill_at("two"))
    made: list[Any] = []
    monkeypatch.setattr(left_runs, "make_safe", lambda prepared: made.append(prepared) or {"state": "confirmed"})
    lab = Lab()
    assert work(tmp_path, lab, resume=True)["status"] == "finished"
    assert lab.ran == ["two", "three"]
    assert len(made) == 1, "its file is lost: nobody knows how it left the bench"


def test_a_run_that_finished_unnoted_is_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Killed):
        work(tmp_path, kill_at("two"))
    ended = {"run": "r.h5", "status": "finished", "safe_state": "confirmed", "exit": 0}
    monkeypatch.setattr(left_runs, "end_of", lambda path: ended)
    lab = Lab()
    outcome = work(tmp_path, lab, resume=True)
    assert (lab.ran, outcome["status"]) == (["three"], "finished")
    assert outcome["runs"][1]["run"] == "r.h5"


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_torn_last_line_was_never_written(tmp_path: Path, cut: int) -> None:
    work(tmp_path, Lab(three=1))
    path = tmp_path / "runs" / "films.campaign.jsonl"
    content = path.read_bytes()
    path.write_bytes(content[: -(7 * cut)])
    lab = Lab()
    assert work(tmp_path, lab, resume=True)["exit"] == 0
    assert lab.ran == ["three"]
    assert all(isinstance(entry, dict) for entry in lines(tmp_path))


@pytest.mark.parametrize(
    "line", [b"{", b"3", b"[]", b'{"event": "x"}', b"\xff", b'{"event": "ended", "number": 9}', b"[" * 100_000]
)
def test_a_state_file_that_says_nonsense_is_refused(tmp_path: Path, line: bytes) -> None:
    work(tmp_path, Lab(one=1))
    path = tmp_path / "runs" / "films.campaign.jsonl"
    path.write_bytes(path.read_bytes() + line + b"\n" + path.read_bytes())
    with pytest.raises(InputError, match="cannot be read"):
        work(tmp_path, Lab(), resume=True)


def test_there_may_be_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="never begun here"):
        work(tmp_path, Lab(), resume=True)
    assert not (tmp_path / "runs").exists()
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "films.campaign.jsonl").write_bytes(b'{"event": "que')
    with pytest.raises(InputError, match="never begun here"):
        work(tmp_path, Lab(), resume=True)


def test_what_was_begun_must_not_change(tmp_path: Path) -> None:
    work(tmp_path, Lab(two=1))
    out = str(tmp_path / "runs")
    changed = write(tmp_path, text=THREE.replace("averages = 2", "averages = 3"))
    with pytest.raises(InputError, match=r"two \(number 2\)"):
        run_queue(load_campaign(changed), out=out, resume=True, run_one=Lab())
    later = write(tmp_path, text=THREE.replace('"attenuator-calibration"', '"fluence-sweep"'))
    assert run_queue(load_campaign(later), out=out, resume=True, run_one=Lab())["status"] == "finished"


@pytest.mark.parametrize("options", [{"seed": 3}, {"virtual_time": True}])
def test_a_campaign_goes_on_as_it_was_begun(tmp_path: Path, options: dict[str, Any]) -> None:
    work(tmp_path, Lab(two=1), virtual_time=False)
    with pytest.raises(InputError, match="was begun"):
        work(tmp_path, Lab(), resume=True, **options)


def test_everything_is_checked_before_the_first_run(tmp_path: Path) -> None:
    text = (
        THREE.replace('sample = "cdse-cds"', 'sample = "cdse-csd"')
        .replace("averages = 2", 'averages = 0, fluences = "3 mm"')
        .replace('"attenuator-calibration"\nbench = "simulated"', '"atenuator-calibration"\nbench = "bad.toml"')
    )
    (tmp_path / "bad.toml").write_text('name = "bad"\n[instruments.shutter]\ndriver = "thorlabs-sc11"\nresource = "x"')
    lab = Lab()
    with pytest.raises(ConfigError) as caught:
        run_queue(load_campaign(write(tmp_path, text=text)), out=str(tmp_path / "runs"), run_one=lab)
    found = {(Path(problem.file).name, problem.line, problem.key): problem for problem in caught.value.problems}
    assert set(found) == {
        ("films.toml", 13, "run[1].sample"),
        ("films.toml", 15, "run[1].parameters.averages"),
        ("films.toml", 15, "run[1].parameters.fluences"),
        ("films.toml", 19, "run[2].procedure"),
        ("bad.toml", 3, "instruments.shutter.driver"),
        ("bad.toml", 4, "instruments.shutter.resource"),
    }
    assert found["films.toml", 13, "run[1].sample"].nearest == "cdse-cds"
    assert found["films.toml", 19, "run[2].procedure"].nearest == "attenuator-calibration"
    assert lab.ran == []
    assert not (tmp_path / "runs" / "films.campaign.jsonl").exists()


def test_a_run_beyond_the_limits_is_found_before_the_first_run(tmp_path: Path) -> None:
    text = THREE.replace("averages = 2", 'fluences = "28, 5600 uJ/cm^2"')
    with pytest.raises(ConfigError) as caught:
        run_queue(load_campaign(write(tmp_path, text=text)), out=str(tmp_path / "runs"), run_one=Lab())
    assert {(problem.line, problem.key) for problem in caught.value.problems} == {(9, "run[1]")}
    assert any("5600" in problem.found and "limits.fluence" in problem.found for problem in caught.value.problems)


def test_two_campaigns_do_not_share_a_state(tmp_path: Path) -> None:
    lab = Lab()

    def second(name: str) -> None:
        with pytest.raises(InputError, match=f"goes on already, in process {os.getpid()}"):
            work(tmp_path, Lab())

    lab.before = second
    assert work(tmp_path, lab)["status"] == "finished"
    assert work(tmp_path, Lab())["status"] == "finished"


def test_a_state_that_cannot_be_kept_ends_the_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    lab.before = lambda name: monkeypatch.setattr("labctl.run.queue_state.os.fsync", full) if name == "two" else None
    with pytest.raises(StorageError, match="No space left on device"):
        work(tmp_path, lab)
    assert lab.ran == ["one", "two"]


def test_the_state_is_synced_before_a_run_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab()
    seen: list[int] = []
    synced: list[int] = []
    fsync = os.fsync
    monkeypatch.setattr(
        "labctl.run.queue_state.os.fsync", lambda number: (synced.append(os.fstat(number).st_size), fsync(number))
    )
    state = tmp_path / "runs" / "films.campaign.jsonl"
    lab.before = lambda name: seen.append(state.stat().st_size - synced[-1])
    work(tmp_path, lab)
    assert seen == [0, 0, 0]


def test_a_state_can_be_used_from_another_thread(tmp_path: Path) -> None:
    outcomes: list[Any] = []
    thread = threading.Thread(target=lambda: outcomes.append(work(tmp_path, Lab())))
    thread.start()
    thread.join(60.0)
    assert outcomes[0]["status"] == "finished"


def test_the_lock_goes_with_its_owner(tmp_path: Path) -> None:
    with QueueState(tmp_path, "x"):
        assert (tmp_path / ".x.campaign.lock").exists()
    assert not (tmp_path / ".x.campaign.lock").exists()


@pytest.mark.slow
def test_a_campaign_is_killed_and_resumed(tmp_path: Path) -> None:
    """The real thing: engine, guard and runs; the front is killed during the second run."""
    text = (
        THREE.replace('"attenuator-calibration"', '"fluence-sweep"')
        .replace("{{ averages = 2 }}", "{{ averages = 1 }}")
        .format(policy="stop")
    )
    path = tmp_path / "films.toml"
    path.write_text(text, encoding="utf-8")
    out = str(tmp_path / "runs")
    code = (
        "import os, signal\n"
        "from labctl.config.campaign import load_campaign\n"
        "from labctl.run import front, queue\n"
        "def run_one(run, request, on_event):\n"
        "    def follow(event):\n"
        "        on_event(event)\n"
        "        if run.number == 2 and event.get('done', 0) >= 3:\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return front.run_to_end(request, follow)\n"
        f"queue.run_queue(load_campaign({str(path)!r}), out={out!r}, virtual_time=True, run_one=run_one)\n"
    )
    if os.name != "posix":
        pytest.skip("signals")
    done = subprocess.run([sys.executable, "-c", code], timeout=100, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    outcome = run_queue(load_campaign(path), out=out, resume=True)
    assert (outcome["status"], outcome["exit"], outcome["left"]) == ("finished", 0, [])
    assert [run["attempts"] for run in outcome["runs"]] == [1, 2, 1]
    assert {run["safe_state"] for run in outcome["runs"]} == {"confirmed"}
    with open_run(outcome["runs"][1]["run"]) as run:
        assert len(run.events("resumed")) == 1, "it went on where it broke off"
    numbers = {path.name.partition("_")[0] for path in Path(out).rglob("*.h5")}
    assert len({run["run"] for run in outcome["runs"]}) == len(numbers) == 3


def real_bench(folder: Path) -> None:
    """Write a bench whose resources are real; nothing opens them."""
    source = locate("benches", "simulated")
    text = source.read_text(encoding="utf-8").split("[laboratory.laser]")[0]
    head, detector, tail = text.partition("[instruments.detector]")
    text = head.replace('resource = "sim:"', 'resource = "socket://127.0.0.1:9"') + detector
    text += tail.replace('resource = "sim:"', 'resource = "sdk:andor"').replace('"365 day"', '"36500 day"')
    text = text.replace('"calibrations/', f'"{(source.parent / "calibrations").as_posix()}/')
    (folder / "real.toml").write_text(text.replace('max_age = "365 day"', 'max_age = "36500 day"'), encoding="utf-8")


def test_dose_and_disk_are_summed_over_the_runs(tmp_path: Path) -> None:
    real_bench(tmp_path)
    one = '[[run]]\nprocedure = "fluence-sweep"\nbench = "real.toml"\n'
    path = tmp_path / "films.toml"

    def found(text: str) -> list[tuple[int | None, str]]:
        path.write_text(f'name = "x"\n{text}', encoding="utf-8")
        campaign = load_campaign(path)
        try:
            check_runs(campaign, queued_runs(campaign, out=str(tmp_path / "runs")))
        except ConfigError as error:
            assert "by then" in str(error)
            return [(problem.line, problem.key) for problem in error.problems]
        return []

    assert found(one) == []
    assert found(one + "repeat = 9000\n") == [(2, "run[0].spot"), (2, "run[0]")]
    path.write_text(f'name = "x"\n{one}', encoding="utf-8")
    (run,) = queued_runs(load_campaign(path), out=str(tmp_path / "runs"))
    planned = preflight(prepare(run.request))
    assert planned.dose_limit_j_cm2 is not None
    most = int(planned.dose_limit_j_cm2 / planned.plan.dose_j_cm2)
    assert found(one + f"repeat = {most}\n") == []
    assert found(one + f"repeat = {most}\n" + one) == [(6, "run[1].spot")]
    assert found(one + f"repeat = {most}\n" + one + 'spot = "2"\n') == []


def test_runs_that_are_done_are_not_planned_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a real bench their light is in the ledger by now: planned once more they would count twice."""
    work(tmp_path, Lab(two=1))
    checked: list[str] = []

    def check(campaign: Any, runs: list[QueuedRun], begun: set[int], **_: Any) -> None:
        checked.extend(f"{run.name}{' begun' if run.number in begun else ''}" for run in runs)

    monkeypatch.setattr(queue_module, "check_runs", check)
    work(tmp_path, Lab(), resume=True)
    assert checked == ["two begun", "three"]
