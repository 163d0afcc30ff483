"""The safe state: order, every step tried, nothing confirmed that was not."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from labctl.bench.safe import make_safe
from labctl.roles import SAFE_ORDER, SafeStep
from labctl.transport.operator import OperatorLink


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


class OnAWire(Toy):
    """Confirms at the second try, or never."""

    def __init__(self, done: list[str], role: str, tries: int, connection: Any = None) -> None:
        super().__init__(done, role, False)
        self._tries = tries
        self.adapter = SimpleNamespace(connection=connection, try_to_reconnect=self._reconnect)

    def _reconnect(self) -> str:
        self._done.append("reconnect")
        return ""

    def make_safe(self) -> list[SafeStep]:
        self._tries -= 1
        self._done.append(self._role)
        return [SafeStep("make it safe", self._tries <= 0, f"{self._tries} left")]


def test_a_second_try_over_a_new_connection_comes_after_all_first_ones() -> None:
    done: list[str] = []
    report = make_safe({"energy_meter": Toy(done, "energy_meter", True), "shutter": OnAWire(done, "shutter", 2)})
    assert done == ["shutter", "energy_meter", "reconnect", "shutter"]
    assert report.state == "confirmed"
    assert report.steps[0].step.evidence == "0 left; at the second try, after: 1 left"


def test_there_is_no_third_try() -> None:
    done: list[str] = []
    report = make_safe({"shutter": OnAWire(done, "shutter", 3)})
    assert done == ["shutter", "reconnect", "shutter"]
    assert report.state == "unconfirmed"


def test_an_operator_who_refused_is_not_asked_again() -> None:
    done: list[str] = []
    make_safe({"shutter": OnAWire(done, "shutter", 2, OperatorLink(None))})
    assert done == ["shutter"]


class Hanging(Toy):
    """Its make_safe does not come back before it is let go."""

    def __init__(self, done: list[str], role: str, let_go: threading.Event, *, reconnects: bool = False) -> None:
        super().__init__(done, role, True)
        self._let_go = let_go
        if reconnects:
            self.adapter = SimpleNamespace(connection=None, try_to_reconnect=self._reconnect)

    def _reconnect(self) -> str:
        self._let_go.set()
        return ""

    def make_safe(self) -> list[SafeStep]:
        steps = super().make_safe()
        assert self._let_go.wait(30)
        return steps


@pytest.fixture
def let_go() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def test_who_hangs_keeps_nobody_from_his_turn_and_is_named(let_go: threading.Event) -> None:
    instruments, done = toys(detector=True, attenuator=RuntimeError("bug"))
    instruments["shutter"] = Hanging(done, "shutter", let_go)
    report = make_safe(instruments, turn_s=0.05, late_s=0.05)
    assert done == ["shutter", "detector", "attenuator"]
    steps = {entry.role: entry.step for entry in report.steps}
    assert report.state == "unconfirmed"
    assert not steps["shutter"].confirmed
    assert "did not come back within 0.1 s" in steps["shutter"].evidence
    assert steps["detector"].confirmed
    assert "turn of shutter" in [thread.name for thread in threading.enumerate() if thread.daemon]


def test_what_is_confirmed_late_counts(let_go: threading.Event) -> None:
    instruments, done = toys(detector=True)
    instruments["shutter"] = Hanging(done, "shutter", let_go)
    plain = instruments["detector"].make_safe

    def make_safe_and_let_go() -> list[SafeStep]:
        let_go.set()
        return plain()

    instruments["detector"].make_safe = make_safe_and_let_go
    report = make_safe(instruments, turn_s=0.05, late_s=30.0)
    assert report.state == "confirmed"
    assert [entry.role for entry in report.steps] == ["shutter", "detector"]


def test_who_hung_on_a_broken_wire_may_confirm_over_a_new_one(let_go: threading.Event) -> None:
    instruments: dict[str, Any] = {"shutter": Hanging([], "shutter", let_go, reconnects=True)}
    report = make_safe(instruments, turn_s=0.05, late_s=0.0)
    assert report.state == "confirmed"
    assert "at the second try, after: the driver did not come back" in report.steps[0].step.evidence


def test_what_would_end_a_program_does_not_end_the_safe_state() -> None:
    instruments, done = toys(detector=True)
    instruments["shutter"] = SimpleNamespace(make_safe=leave_the_program)
    report = make_safe(instruments, turn_s=5.0, late_s=0.0)
    assert (done, report.state) == (["detector"], "unconfirmed")


def leave_the_program() -> list[SafeStep]:
    raise SystemExit


def test_in_virtual_time_no_thread_is_made() -> None:
    seen: list[threading.Thread] = []
    instrument: Any = SimpleNamespace(make_safe=lambda: seen.append(threading.current_thread()) or [])
    make_safe({"shutter": instrument}, inline=True)
    assert seen == [threading.main_thread()]
