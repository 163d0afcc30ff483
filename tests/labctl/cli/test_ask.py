"""What `labctl run` was asked for: a new run, one that goes on, or one that is repeated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from labctl.cli.ask import Asked, request_of
from labctl.clock import RealClock
from labctl.errors import InputError
from labctl.run.engine import Engine, GuardLine
from labctl.run.plan import Plan, Stage
from labctl.run.policy import FailurePolicy
from labctl.run.request import RunRequest, prepare
from labctl.run.stored_request import request_again
from labctl.store.journal import Journal
from labctl.store.run import open_run

NOTHING = Asked(None, None, (), None, None, None, None, False, None, None, None, None)
SWEEP = ("fluences=5, 10, 20 uJ/cm^2", "return-points=0", "averages=1", "dark-frames=1", "scatter-frames=1")


class NoGuard(GuardLine):
    """A line to nobody."""

    def say(self, kind: str, **data: Any) -> None:
        pass


@pytest.fixture
def run(tmp_path: Path) -> str:
    """A run that was aborted before its first point."""
    plan = Plan((Stage("listed", "points", 1, 1.0, ({"fluence_uj_cm2": 5.0},)),))
    request = RunRequest(procedure="fluence-sweep", bench="simulated", out=str(tmp_path / "gone"), seed=7, spot="3")
    header = {"request": request.model_dump(), "parameters": {"averages": 2, "pulses": None}, "plan": plan.as_dict()}
    path = tmp_path / "runs" / "2026-11-21" / "0001_fluence-sweep_A.journal"
    path.parent.mkdir(parents=True)
    with Journal.create(path, header) as journal:
        journal.set_status("aborted", t_s=0.0, wall_s=RealClock().wall())
    return str(path)


def refused(asked: Asked) -> InputError:
    with pytest.raises(InputError) as caught:
        request_of(asked)
    assert caught.value.todo
    return caught.value


def test_a_new_run() -> None:
    request = request_of(replace(NOTHING, procedure="fluence_sweep", bench="simulated", sets=("averages=2",), seed=3))
    assert (request.bench, request.spot, request.seed) == ("simulated", "1", 3)
    assert request.out == str(Path("runs").absolute())
    assert request.parameters == {"averages": "2"}
    assert (request.resume, request.again, request.on_failure) == (None, None, None)


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({}, "nothing to run"),
        ({"procedure": "fluence-sweep", "resume": "0001"}, "a procedure and --resume to run"),
        ({"resume": "0001", "again": "0002"}, "--resume and --again to run"),
        ({"procedure": "fluence-sweep"}, "no bench was named"),
        ({"procedure": "fluence-sweep", "bench": "simulated", "on_failure": "panic"}, "--on-failure 'panic'"),
    ],
)
def test_what_does_not_go_together(given: dict[str, Any], what: str) -> None:
    assert refused(replace(NOTHING, **given)).what == what


@pytest.mark.parametrize(
    ("retries", "then", "policy"),
    [
        (None, None, None),
        (0, None, FailurePolicy(retries=0)),
        (None, "skip", FailurePolicy(then="skip")),
        (5, "abort", FailurePolicy(retries=5)),
    ],
)
def test_the_failure_policy_of_the_request(retries: int | None, then: str | None, policy: FailurePolicy | None) -> None:
    asked = replace(NOTHING, procedure="fluence-sweep", bench="simulated", retries=retries, on_failure=then)
    assert request_of(asked).on_failure == policy


def test_a_run_that_goes_on_has_all_it_was_begun_with(run: str) -> None:
    request = request_of(replace(NOTHING, resume=run, retries=4))
    assert (request.resume, request.again) == (str(Path(run)), None)
    assert (request.seed, request.spot, request.parameters) == (7, "3", {"averages": 2})
    assert request.on_failure == FailurePolicy(retries=4)
    assert Path(request.out) == Path(run).parents[1], "the folder that it was begun in is gone: that of the run"


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"sets": ("averages=3",)}, "--set "),
        ({"sample": "A"}, "--sample "),
        ({"seed": 1}, "--seed "),
        ({"virtual_time": True}, "--virtual-time "),
        ({"sample": "A", "spot": "2", "out": "x"}, "--sample, --out, --spot "),
    ],
)
def test_what_a_run_that_goes_on_has_already(run: str, given: dict[str, Any], named: str) -> None:
    assert refused(replace(NOTHING, resume=run, **given)).what.startswith(f"{named}cannot be given with --resume")


def test_a_seed_of_zero_is_given_too(run: str) -> None:
    assert "--seed" in refused(replace(NOTHING, resume=run, seed=0)).what


def test_a_run_is_repeated_elsewhere(run: str) -> None:
    request = request_of(replace(NOTHING, again=run, spot="4", seed=0, virtual_time=True, on_failure="skip"))
    assert (request.again, request.resume) == (run, None)
    assert (request.out, request.spot, request.seed, request.virtual_time) == ("runs", "4", 0, True)
    assert request.on_failure == FailurePolicy(then="skip")
    assert request.parameters == {"averages": 2}


@pytest.mark.parametrize("given", [{"sets": ("averages=3",)}, {"sample": "A"}])
def test_what_a_repeated_run_has_already(run: str, given: dict[str, Any]) -> None:
    assert "cannot be given with --again" in refused(replace(NOTHING, again=run, **given)).what


@pytest.mark.parametrize("option", ["--resume", "--again"])
def test_a_run_that_is_not_there_is_one_json_object(labctl: Callable[..., Any], option: str) -> None:
    said = labctl("run", option, "nothing.h5", "--json")
    assert said.code == 2
    assert "nothing" in said.json["error"]["what"]


@pytest.mark.slow
def test_a_run_is_repeated_and_one_that_was_ended_goes_on(labctl: Callable[..., Any], tmp_path: Path) -> None:
    """As a user does it: each prints one JSON object."""
    sets = [word for entry in SWEEP for word in ("--set", entry)]
    first = labctl("run", "fluence-sweep", "--bench", "simulated", *sets, "--virtual-time", "--json").json
    assert (first["status"], first["exit"]) == ("finished", 0)
    again = labctl("run", "--again", first["run"], "--json").json
    assert again["run"] != first["run"]
    assert again["points"] == first["points"]
    with open_run(first["run"]) as one, open_run(again["run"]) as other:
        assert one.column("band_intensity", "points").tolist() == other.column("band_intensity", "points").tolist()
    refused = labctl("run", "--resume", first["run"], "--json")
    assert refused.code == 2
    assert "there is nothing to resume" in refused.json["error"]["what"]
    broken = break_off(tmp_path, first["run"])
    last = labctl("run", "--resume", broken, "--json").json
    assert (last["status"], last["points"], last["safe_state"]) == ("finished", first["points"], "confirmed")
    assert last["run"] == broken
    shown = labctl("show", broken, "--json").json
    assert {"resumed", "reference"} <= {entry["kind"] for entry in shown["notices"]}


def break_off(folder: Path, run: str) -> str:
    """Begin that run again in this process, and abort it after eleven points."""
    engine = Engine(prepare(request_again(run, changes={"out": str(folder / "broken"), "lease": False})), NoGuard())
    done = engine.done

    def count(point: Any, record: Any, number: int) -> None:
        done(point, record, number)
        if number == 11:
            engine.abort("the test has seen enough")

    engine.done = count
    outcome = engine.run()
    assert (outcome.status, outcome.points["done"]) == ("aborted", 11)
    return outcome.run
