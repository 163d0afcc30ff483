"""The safe-state program: what it needs to stand by, what it says if it cannot, and that nothing is opened then."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labctl.config.locate import locate
from labctl.run.engine import Engine
from labctl.run.guard_line import GuardLine
from labctl.run.request import PreparedRun, RunRequest, prepare
from labctl.run.safe_program import LeftBench, bench_message, make_safe
from labctl.store.run import open_run

NOBODY = "sim+tcp://127.0.0.1:1"


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """A bench whose instruments live in a laboratory that nobody serves."""
    source = locate("benches", "simulated")
    text = source.read_text(encoding="utf-8").replace('"sim:"', f'"{NOBODY}"')
    path = tmp_path / "bench.toml"
    path.write_text(text.replace('"calibrations/', f'"{(source.parent / "calibrations").as_posix()}/'), "utf-8")
    return path


def prepared(bench: Path, tmp_path: Path) -> PreparedRun:
    asked = RunRequest(procedure="fluence-sweep", bench=str(bench), out=str(tmp_path / "runs"), virtual_time=True)
    return prepare(asked)


def stand_by(*lines: dict[str, Any]) -> tuple[int, list[dict[str, Any]]]:
    """Start the program as the guard does and tell it something; get its exit code and what it said."""
    told = "".join(json.dumps(line) + "\n" for line in lines)
    command = [sys.executable, "-P", "-X", "utf8", "-m", "labctl.run.safe_program"]
    done = subprocess.run(command, input=told.encode(), capture_output=True, timeout=60)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def test_the_text_is_all_it_needs(bench: Path, tmp_path: Path) -> None:
    """Neither the file nor the sample that it names is there."""
    told = bench_message(prepared(bench, tmp_path))
    told["text"] = told["text"].replace('default_sample = "cdse-cds-zno"', 'default_sample = "lost.toml"')
    bench.unlink()
    assert stand_by({"m": "bench", **told}, {"m": "dismissed"}) == (0, [{"m": "ready"}])


@pytest.mark.parametrize("old, new", [('driver = "', 'driver = "lost-'), ("[instruments", "[[[")])
def test_it_says_why_it_is_not_ready(bench: Path, tmp_path: Path, old: str, new: str) -> None:
    told = bench_message(prepared(bench, tmp_path))
    told["text"] = told["text"].replace(old, new)
    code, (said,) = stand_by({"m": "bench", **told}, {"m": "dismissed"})
    assert (code, said["m"]) == (1, "unready")
    assert "bench.toml" in said["reason"]


def test_without_a_bench_it_is_not_ready() -> None:
    said = stand_by({"m": "run", "run": "a-run.h5", "endpoint": ""})[1]
    assert [message["m"] for message in said] == ["unready"]
    assert stand_by()[1][0]["m"] == "unready"


@pytest.fixture
def line() -> Iterator[GuardLine]:
    """A line to a guard that reads it."""
    ours, theirs = os.pipe()
    yield GuardLine(theirs)
    os.close(ours)
    os.close(theirs)


def test_the_engine_opens_nothing_if_nobody_can_stand_by(
    bench: Path, tmp_path: Path, line: GuardLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Any] = []
    monkeypatch.setattr("labctl.bench.bench.Bench.open", lambda *arguments, **named: opened.append(arguments))
    line.hear({"m": "unready", "reason": "the driver cannot be imported"})
    outcome = Engine(prepared(bench, tmp_path), line).run()
    assert not opened
    assert (outcome.exit_code, outcome.safe_state) == (2, "not-needed")
    assert outcome.error is not None
    assert outcome.error["state"] == "nothing was moved"
    assert "the driver cannot be imported" in outcome.error["what"]
    with open_run(outcome.run) as run:
        assert run.points_done == 0


def test_a_run_that_nobody_would_make_safe_any_more_is_ended(line: GuardLine) -> None:
    line.hear({"m": "standby"})
    assert not line.told_to_end
    line.hear({"m": "unready", "reason": "it ended 3 times"})
    assert line.told_to_end.endswith("it ended 3 times")


def test_a_bench_left_by_a_run_without_any_process(bench: Path, tmp_path: Path) -> None:
    """Its procedure cannot be found any more, nor its sample: the bench is tried all the same."""
    asked = RunRequest(procedure="uninstalled", bench=str(bench), sample="lost.toml", virtual_time=True)
    report = make_safe(LeftBench.of_request(asked))
    assert report["state"] == "unconfirmed"
    assert [step["role"] for step in report["steps"]] == ["shutter", "detector"]
    assert all("127.0.0.1" in step["evidence"] for step in report["steps"])
