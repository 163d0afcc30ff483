"""What operators want, from any thread, and over the endpoint of a run that goes."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from labctl.errors import InputError
from labctl.run.endpoint import EndpointClient
from labctl.run.plan import Plan, Stage
from labctl.run.steering import Alteration, Steering, read_alteration
from labctl.store.run import open_run


@pytest.mark.parametrize(
    "data",
    [
        {"what": "extend", "stage": "", "points": 3, "every_s": None},
        {"what": "shorten", "stage": "fine", "points": 1, "every_s": None},
        {"what": "retime", "stage": "decay", "points": None, "every_s": 600.0},
    ],
)
def test_an_alteration_survives_the_wire(data: dict[str, Any]) -> None:
    assert read_alteration(data).model_dump() == data


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({}, "what: Field required"),
        ({"what": "explode", "points": 1}, "'extend', 'shorten' or 'retime'"),
        ({"what": "extend"}, "extend takes points and not every_s"),
        ({"what": "extend", "points": 0}, "points"),
        ({"what": "extend", "points": 10**9}, "points"),
        ({"what": "extend", "points": 1, "every_s": 1.0}, "extend takes points and not every_s"),
        ({"what": "retime", "points": 1}, "retime takes every_s and not points"),
        ({"what": "retime", "every_s": float("inf")}, "every_s"),
        ({"what": "retime", "every_s": -1.0}, "every_s"),
        ({"what": "shorten", "points": 1, "colour": "red"}, "colour"),
    ],
)
def test_what_is_no_alteration_is_refused(data: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        read_alteration(data)
    assert words in caught.value.what
    assert "labctl alter --help" in caught.value.todo


def test_a_pause_lasts_until_somebody_ends_it() -> None:
    steering = Steering()
    assert steering.pause_reason == ""
    steering.pause("filter swapped")
    steering.pause("and the fibre")
    assert steering.pause_reason == "and the fibre"
    steering.go_on()
    assert steering.pause_reason == ""


def test_alterations_are_taken_once_and_in_order() -> None:
    steering = Steering()
    asked = [Alteration(what="extend", points=number) for number in (1, 2, 3)]
    for alteration in asked:
        steering.alter(alteration)
    assert steering.take_alterations() == asked
    assert steering.take_alterations() == []


def test_the_first_disturbance_is_told_and_only_once() -> None:
    steering = Steering()
    steering.disturb("the computer slept for 60 s")
    steering.disturb("the computer slept for 1 s")
    assert steering.take_disturbance() == "the computer slept for 60 s"
    assert steering.take_disturbance() == ""


def test_no_wish_is_lost_between_threads() -> None:
    steering = Steering()
    count = 200
    taken: list[Alteration] = []

    def ask() -> None:
        for _ in range(count):
            steering.alter(Alteration(what="extend", points=1))

    askers = [threading.Thread(target=ask) for _ in range(4)]
    for asker in askers:
        asker.start()
    while any(asker.is_alive() for asker in askers):
        taken += steering.take_alterations()
    taken += steering.take_alterations()
    assert len(taken) == 4 * count


@pytest.fixture
def paused(start: Any) -> Any:
    """A run on the simulated bench that an operator has paused; its endpoint."""
    run = start(parameters={"fine_points": 0, "return_points": 0, "coarse_points": 5, "dark_frames": 1})
    started = run.wait_for(lambda event: event.get("event") == "started")
    run.wait_for(lambda event: event.get("phase") == "preparing")
    with open_run(started["run"]) as stored:
        address = stored.events("endpoint")[-1].data["address"]

    def ask(command: str, **data: Any) -> dict[str, Any]:
        with EndpointClient(address) as client:
            return client.ask(command, **data)

    assert ask("pause", reason="lunch")["pausing"] == "after the present point"
    run.wait_for(lambda event: event.get("notice") == "paused")
    return run, ask


@pytest.mark.slow
def test_an_operator_steers_a_run_that_goes_from_another_process(paused: Any) -> None:
    run, ask = paused
    assert ask("status")["paused"] is True
    alteration = {"what": "extend", "stage": "coarse", "points": 2}
    assert ask("alter", alteration=alteration)["altering"] == "after the present point"
    assert "labctl alter --help" in ask("alter", alteration={"what": "explode"})["error"]
    assert ask("continue")["continuing"] is True
    outcome = run.end()
    assert (outcome["status"], outcome["safe_state"]) == ("finished", "confirmed")
    with open_run(outcome["run"]) as stored:
        assert stored.count("points") == 7
        assert [event.data["reason"] for event in stored.events("paused")] == ["lunch"]
        (altered,) = stored.events("altered")
        assert altered.data["alteration"]["points"] == 2


def test_what_no_stage_allows_is_refused_at_once() -> None:
    steering = Steering()
    steering.know(Plan((Stage("coarse", "points", 2, 1.0, ({}, {})),)))
    for alteration, said in (
        (Alteration(what="extend", points=1, stage="corse"), "there is no stage 'corse'"),
        (Alteration(what="retime", every_s=10.0), "no schedule"),
    ):
        with pytest.raises(InputError, match=said):
            steering.alter(alteration)
    steering.alter(Alteration(what="shorten", points=1))
    assert len(steering.take_alterations()) == 1
