"""The guard against engines and safe-state programs of a few lines."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from labctl.run import guard

ENGINE = """
import json, sys, time
def say(m, **data):
    print(json.dumps({"m": m, **data}), flush=True)
say("started", run="a-run.h5", endpoint="", simulated=True)
say("instruments", open=True, standby=True)
say("points", points={"done": 3, "planned": 9})
"""
END = 'say("instruments", open=False, standby=False); say("final", exit=0, report={"status": "finished"})'
HOLD = "time.sleep(60)"
SAFE = """
import json, sys
print(json.dumps({"m": "ready"}), flush=True)
orders = [order for order in map(json.loads, sys.stdin) if order["m"] == "order"]
if orders:
    order = orders[0]
    print(json.dumps({"m": "heard"}), flush=True)
    print(json.dumps({"m": "safe", "report": {"state": "confirmed", "steps": []}}), flush=True)
    print(json.dumps({"m": "recorded", "run": order["run"], "points": 4, "warnings": []}), flush=True)
"""
RECORDS_WHAT_IT_IS_TOLD = """
import json, sys
print(json.dumps({"m": "ready"}), flush=True)
order = [order for order in map(json.loads, sys.stdin) if order["m"] == "order"][0]
print(json.dumps({"m": "heard"}), flush=True)
print(json.dumps({"m": "safe", "report": order["safe"]}), flush=True)
recorded = {"m": "recorded", "run": order["run"], "status": "finished", "points": 4, "warnings": []}
print(json.dumps(recorded), flush=True)
"""
NOTES_AND_HANGS = """
import json, sys, time
print(json.dumps({"m": "ready"}), flush=True)
order = [order for order in map(json.loads, sys.stdin) if order["m"] == "order"][0]
for message in ({"m": "heard"}, {"m": "safe", "report": {"state": "confirmed", "steps": []}}, *NOTES):
    print(json.dumps(message), flush=True)
time.sleep(60)
"""
DEAF = "import time; time.sleep(60)"


@pytest.fixture
def watched(tmp_path: Path):
    """Have an engine guarded; returns what the guard said."""

    def run(engine: str, safe: str = SAFE, **limits: float) -> list[dict[str, Any]]:
        python = [sys.executable, "-I", "-S", "-c"]
        defaults = {"liveness_s": 0.4, "start_s": 5.0, "safe_s": 5.0, "record_s": 5.0}
        log, remove = str(tmp_path / "log"), [str(tmp_path / "request"), str(tmp_path / "log")]
        Path(remove[0]).touch()
        config = {"engine": [*python, ENGINE + engine], "safe": [*python, safe], "log": log, "remove": remove}
        command = [sys.executable, "-I", "-S", guard.__file__, json.dumps(config | defaults | limits)]
        done = subprocess.run(command, capture_output=True, timeout=60)
        messages = [json.loads(line) for line in done.stdout.splitlines()]
        assert all(message.pop("v") == guard.VERSION for message in messages)
        assert messages[-1]["m"] == "final", done.stderr
        assert done.returncode == messages[-1]["exit"]
        assert not any(Path(path).exists() for path in remove)
        return messages

    return run


def test_what_the_engine_says_at_its_end_is_passed_on(watched):
    assert [message["m"] for message in watched(END)] == ["started", "final"]
    assert watched(END)[-1] == {"m": "final", "exit": 0, "report": {"status": "finished"}}


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        ("sys.exit(7)", "exit status 7"),
        ("raise RuntimeError", "exit status 1"),
        (f'say("alive"); {HOLD}', "no sign of life for 0.4 s"),
        ('say("expect", s=0.2)\nfor _ in range(300): say("alive"); time.sleep(0.1)', "no progress"),
        ('print(5, flush=True); print("[", flush=True); say("expect"); sys.exit(3)', "exit status 3"),
    ],
)
def test_an_engine_that_dies_hangs_or_is_stuck(watched, engine, said):
    _, safe, final = watched(engine)
    assert safe == {"m": "safe_state", "state": "confirmed"}
    assert final["exit"] == 1
    report = final["report"]
    assert (report["status"], report["safe_state"], report["run"]) == ("crashed", "confirmed", "a-run.h5")
    assert report["points"] == {"done": 4, "planned": 9}
    assert said in report["error"]["what"]


def test_the_log_of_a_dead_engine_is_in_the_report(watched):
    report = watched('raise RuntimeError("the reason")')[-1]["report"]
    assert "the reason" in report["error"]["log"]


def test_announced_quiet_outlasts_the_liveness_limit(watched):
    assert watched(f'say("alive"); say("quiet", s=5.0); time.sleep(1.0); {END}')[-1]["exit"] == 0


def test_progress_ends_the_quiet(watched):
    final = watched(f'say("alive"); say("quiet", s=60.0); say("expect", s=60.0); {HOLD}')[-1]
    assert "no sign of life" in final["report"]["error"]["what"]


def test_the_engine_hears_when_somebody_stands_by(watched):
    final = watched(f'told = json.loads(sys.stdin.readline()); assert told == {{"m": "standby"}}; {END}')[-1]
    assert final["exit"] == 0


def test_the_engine_hears_nothing_while_nobody_stands_by(watched):
    engine = f"import select; assert not select.select([sys.stdin], [], [], 0.5)[0]; {END}"
    assert watched(f'say("quiet", s=9.0); {engine}', DEAF)[-1]["exit"] == 0


def with_bench(monkeypatch):
    """Have the engine tell of its bench: more than any pipe holds."""
    told = 'say("bench", text="x" * 300_000)\nsay("started"'
    monkeypatch.setattr(sys.modules[__name__], "ENGINE", ENGINE.replace('say("started"', told))


def test_a_bench_that_nobody_reads_does_not_hold_the_guard_up(watched, monkeypatch):
    with_bench(monkeypatch)
    assert watched(f'say("quiet", s=9.0); time.sleep(0.5); {END}', DEAF)[-1]["exit"] == 0


@pytest.mark.parametrize("dies", [False, True], ids=["the one that stands by", "another, at the order"])
def test_each_program_hears_first_which_bench_it_is_for(watched, tmp_path, monkeypatch, dies):
    with_bench(monkeypatch)
    seen, once = tmp_path / "seen", tmp_path / "once"
    note = f"first = json.loads(sys.stdin.readline()); open({str(seen)!r}, 'a').write(str(len(first['text'])) + ' ')\n"
    first_fails = f"import os\nif not os.path.exists({str(once)!r}): open({str(once)!r}, 'w'); sys.exit(1)\n"
    safe = f"import json, sys\n{note}{first_fails if dies else ''}{SAFE}"
    final = watched("json.loads(sys.stdin.readline()); sys.exit(1)", safe)[-1]
    assert final["report"]["safe_state"] == "confirmed"
    assert seen.read_text().split() == ["300000"] * (2 if dies else 1)


def test_the_engine_hears_why_nobody_can_stand_by(watched, tmp_path):
    starts = tmp_path / "starts"
    safe = f"""
import json
open({str(starts)!r}, "a").write("x")
print(json.dumps({{"m": "unready", "reason": "no such driver"}}), flush=True)
"""
    told = {"m": "unready", "reason": "no such driver"}
    final = watched(f"assert json.loads(sys.stdin.readline()) == {told}; time.sleep(0.3); {END}", safe)[-1]
    assert final["exit"] == 0
    assert starts.read_text() == "x", "nothing is gained by another"


def test_a_standby_that_dies_again_and_again_is_given_up(watched):
    reason = "it ended 3 times, the last time with exit status 7"
    engine = f'say("quiet", s=9.0); assert json.loads(sys.stdin.readline())["reason"] == {reason!r}; {END}'
    assert watched(engine, "raise SystemExit(7)")[-1]["exit"] == 0


@pytest.mark.parametrize("safe", ["raise RuntimeError", DEAF, "print(5)"])
def test_a_safe_program_that_fails_is_tried_anew_and_then_called_unconfirmed(watched, safe):
    final = watched("sys.exit(1)", safe, safe_s=0.5)[-1]
    assert (final["exit"], final["report"]["safe_state"]) == (4, "unconfirmed")


def test_an_engine_that_does_not_go_after_its_last_word_has_still_said_it(watched):
    final = watched(f"{END}; sys.stdout.close(); {HOLD}".replace("time.sleep(60)", "time.sleep(1)"))[-1]
    assert final["report"] == {"status": "finished"}


def test_nothing_is_made_safe_when_no_instrument_was_open(watched, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ENGINE", ENGINE.replace("open=True", "open=False"))
    messages = watched("sys.exit(1)")
    assert [message["m"] for message in messages] == ["started", "final"]
    assert messages[-1]["report"]["safe_state"] == "not-needed"


def test_an_engine_that_dies_after_it_made_safe_is_believed_and_recorded(watched):
    engine = 'say("instruments", open=False, standby=False, safe_state="confirmed"); sys.exit(1)'
    _, safe, final = watched(engine, RECORDS_WHAT_IT_IS_TOLD)
    assert safe == {"m": "safe_state", "state": "confirmed"}
    assert final["report"]["safe_report"] == {"state": "confirmed", "steps": []}
    assert (final["report"]["status"], final["exit"]) == ("finished", 1), "nobody has said that it is sealed"


def test_an_engine_that_dies_while_it_seals_a_finished_run_has_finished(watched):
    engine = 'say("instruments", open=False, standby=False, safe_state="confirmed"); sys.exit(9)'
    seals = RECORDS_WHAT_IT_IS_TOLD.replace('"points": 4', '"points": 4, "sealed": True')
    final = watched(engine, seals)[-1]
    assert (final["exit"], final["report"]["status"], final["report"]["error"]) == (0, "finished", None)
    assert "exit status 9" in final["report"]["warnings"][0]


def test_an_engine_that_dies_without_saying_how_it_left_the_bench_is_not_believed(watched):
    _, safe, final = watched('say("instruments", open=False, standby=False); sys.exit(1)')
    assert safe == {"m": "safe_state", "state": "confirmed"}
    assert (final["report"]["status"], final["report"]["safe_state"]) == ("crashed", "confirmed")


def test_who_stands_by_knows_the_run_before_anything_happens(watched, tmp_path):
    seen = tmp_path / "seen"
    safe = SAFE.replace(
        "orders = ", f"lines = sys.stdin.readlines(); open({str(seen)!r}, 'w').writelines(lines)\norders = "
    )
    watched(
        "json.loads(sys.stdin.readline()); time.sleep(0.3); sys.exit(1)",
        safe.replace("map(json.loads, sys.stdin)", "map(json.loads, lines)"),
    )
    run, order = map(json.loads, seen.read_text().splitlines())
    assert run == {"m": "run", "run": "a-run.h5", "endpoint": ""}
    assert (order["m"], order["run"]) == ("order", "a-run.h5")


def test_who_stands_by_is_dismissed_when_all_went_well(watched, tmp_path):
    left = tmp_path / "left"
    safe = f"""
import json, sys
print(json.dumps({{"m": "ready"}}), flush=True)
for line in sys.stdin:
    with open({str(left)!r}, "a") as file:
        file.write(line)
"""
    watched(f"json.loads(sys.stdin.readline()); time.sleep(0.3); {END}", safe)
    assert json.loads(left.read_text().splitlines()[0])["m"] == "run"


def test_a_standby_that_died_is_replaced_before_it_is_needed(watched, tmp_path):
    """The first one ends at once; the engine waits until another is there."""
    once = tmp_path / "once"
    safe = f"import os, sys\nif not os.path.exists({str(once)!r}): open({str(once)!r}, 'w'); sys.exit(1)\n" + SAFE
    messages = watched("assert json.loads(sys.stdin.readline())['m'] == 'standby'; sys.exit(1)", safe)
    assert messages[-1]["report"]["safe_state"] == "confirmed"


def test_a_standby_that_hears_nothing_costs_one_second_and_not_the_time_of_a_safe_state(watched, tmp_path):
    """It is stopped, as by a debugger: another one makes safe."""
    process = tmp_path / "process"
    safe = f"import os\nif not os.path.exists({str(process)!r}): open({str(process)!r}, 'w').write(str(os.getpid()))\n"
    engine = f"""
import os, signal
json.loads(sys.stdin.readline())
os.kill(int(open({str(process)!r}).read()), signal.SIGSTOP)
sys.exit(1)
"""
    messages = watched(engine, safe + SAFE, safe_s=50.0)
    assert messages[-1]["report"]["safe_state"] == "confirmed"


@pytest.mark.parametrize(
    ("endpoint", "traces"),
    [
        ("", []),
        ("/tmp/a#b/engine", ["/tmp/a#b/engine", "/tmp/a#b"]),
        ("127.0.0.1:5000#/home/me/engines/x/engine", ["/home/me/engines/x/engine", "/home/me/engines/x"]),
    ],
)
def test_what_the_endpoint_of_a_dead_engine_leaves(endpoint, traces):
    assert guard.traces_of(endpoint) == traces


@pytest.mark.parametrize("refused", [False, True])
def test_a_program_in_a_job_is_ended_by_its_job_and_by_itself(tmp_path, monkeypatch, refused):
    class Job:
        ended = 0

        def terminate(self):
            self.ended += 1
            if refused:
                raise OSError("Windows refuses TerminateJobObject (error 5)")

    job = Job()
    monkeypatch.setattr(guard, "_job_of", lambda process: job)
    with (tmp_path / "log").open("wb") as log:
        program = guard.Program([sys.executable, "-c", DEAF], log)
    program.kill()
    assert (job.ended, program.has_ended(0.0)) == (1, True)
    assert program.await_message("end", timeout_s=5.0) is None
    program.process.stdout.close()


def test_the_guard_finds_its_modules_without_a_search_path():
    assert guard._beside("job_object").JobObject.__doc__
    assert guard.processes.own_session("nt") == {"creationflags": 0x08000200}


@pytest.mark.parametrize(
    ("notes", "limits"),
    [([], {"safe_s": 1.0, "record_s": 50.0}), ([{"m": "noted"}], {"safe_s": 50.0, "record_s": 0.5})],
)
def test_a_disk_that_hangs_the_record_does_not_keep_the_safe_state_back(watched, notes, limits):
    messages = watched("sys.exit(3)", f"NOTES = {notes}\n{NOTES_AND_HANGS}", **limits)
    assert [message["m"] for message in messages[-2:]] == ["safe_state", "final"]
    report = messages[-1]["report"]
    assert (report["status"], report["safe_state"], messages[-1]["exit"]) == ("crashed", "confirmed", 1)
    assert "could not be recorded" in report["warnings"][0]


def test_a_signal_does_not_end_the_guard(tmp_path):
    engine = "import json, os, signal, time; time.sleep(0.3)\n" + "".join(
        f"os.kill(os.getppid(), signal.{name}); " for name in ("SIGINT", "SIGTERM", "SIGHUP")
    )
    engine += 'print(json.dumps({"m": "final", "exit": 0, "report": {"status": "finished"}}))'
    python = [sys.executable, "-I", "-S", "-c"]
    limits = dict.fromkeys(("liveness_s", "start_s", "safe_s", "record_s"), 5.0)
    config = {"engine": [*python, engine], "safe": [], "log": str(tmp_path / "log"), "remove": [], **limits}
    done = subprocess.run([sys.executable, "-I", "-S", guard.__file__, json.dumps(config)], capture_output=True)
    assert done.returncode == 0, done.stderr
