"""The safe state: order, every step tried, nothing confirmed that was not."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from labctl.bench.safe import make_safe
from labctl.roles import SAFE_ORDER, SafeStep


class Toy:
    def __init__(self, done: list[str], role: str, outcome: bool | Exception) -> None:
        self._done, self._role, self._outcome = done, role, outcome

    def make_safe(self) -> list[SafeStep]:
        self._done.append(self._role)
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return [SafeStep(f"make {self._role} safe", self._outcome, "said so")]


def toys(**outcomes: bool | Exception) -> tuple[dict[str, Any], list[str]]:
    done: list[str] = []
    return {role: Toy(done, role, outcome) for role, outcome in outcomes.items()}, done


def test_all_confirmed() -> None:
    instruments, done = toys(**dict.fromkeys(reversed(SAFE_ORDER), True))
    report = make_safe(instruments)
    assert report.state == "confirmed"
    assert report.unconfirmed == ()
    assert done == list(SAFE_ORDER)
    assert done[0] == "shutter"


def test_a_role_without_a_place_in_the_order_comes_last() -> None:
    instruments, done = toys(zebra=True, aardvark=True, shutter=True)
    make_safe(instruments)
    assert done == ["shutter", "aardvark", "zebra"]


def test_every_step_is_tried_though_others_fail() -> None:
    instruments, done = toys(
        shutter=RuntimeError("bug"), detector=False, attenuator=OSError("gone"), energy_meter=KeyError("x")
    )
    report = make_safe(instruments)
    assert done == ["shutter", "detector", "attenuator", "energy_meter"]
    assert report.state == "unconfirmed"
    assert [entry.role for entry in report.unconfirmed] == done
    assert report.steps[0].step.evidence == "RuntimeError: bug"


def test_one_unconfirmed_step_is_enough() -> None:
    instruments, _ = toys(shutter=True, detector=False)
    report = make_safe(instruments)
    assert report.state == "unconfirmed"
    assert [entry.role for entry in report.unconfirmed] == ["detector"]


def test_nothing_open() -> None:
    assert make_safe({}).state == "not-needed"


def test_the_report_is_json() -> None:
    instruments, _ = toys(shutter=True, detector=ValueError("x"))
    report = json.loads(json.dumps(make_safe(instruments).as_dict()))
    assert report["state"] == "unconfirmed"
    assert report["steps"][0] == {
        "role": "shutter",
        "action": "make shutter safe",
        "confirmed": True,
        "evidence": "said so",
    }


def test_the_simulated_bench(open_bench: Callable[..., Any]) -> None:
    opened = open_bench()
    opened.bench.pump.shutter.open()
    report = opened.bench.make_safe()
    assert report.state == "confirmed"
    assert {entry.role for entry in report.steps} == set(opened.bench.instruments)
    assert not opened.truth()["shutter_open"]
    assert opened.bench.make_safe().state == "confirmed"


def test_a_stuck_shutter_is_unconfirmed_and_the_others_are_safe(open_bench: Callable[..., Any]) -> None:
    opened = open_bench()
    opened.bench.pump.shutter.open()
    opened.emulator("shutter").stuck = True
    report = opened.bench.make_safe()
    assert report.state == "unconfirmed"
    assert [entry.role for entry in report.unconfirmed] == ["shutter"]
    assert "LIGHT MAY BE ON" in report.unconfirmed[0].step.evidence
    assert len({entry.role for entry in report.steps}) == 5
