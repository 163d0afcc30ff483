"""Dead men are armed for a run, fed by its life, and disarmed once they are safe."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from drivers.attenuator.ell14 import ELL14
from labctl.bench.bench import Bench
from labctl.bench.dead_man import DeadMen
from labctl.bench.safe import RoleStep, SafeReport
from labctl.clock import RealClock, VirtualClock
from labctl.config.bench import load_bench
from labctl.errors import BenchOpenError, InstrumentError
from labctl.roles import DeadMan, SafeStep

TIMEOUT_S = 0.04
PATIENCE_S = 20.0


class Hotplate:
    """A hot plate whose heater goes off when no command comes in time."""

    def __init__(self) -> None:
        self.fed = 0
        self.said: list[str] = []
        self.refuses = ""

    def arm(self, timeout_s: float) -> float:
        self._say("arm")
        return timeout_s

    def feed(self) -> None:
        self._say("feed")
        self.fed += 1

    def disarm(self) -> None:
        self._say("disarm")

    def _say(self, what: str) -> None:
        if what == self.refuses:
            raise InstrumentError(f"no {what}")
        self.said.append(what)


def until(reached: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not reached():
        assert time.monotonic() < deadline_s
        time.sleep(TIMEOUT_S / 10)


def report(*, confirmed: bool) -> SafeReport:
    return SafeReport((RoleStep("heating", SafeStep("switch the heater off", confirmed, "said so")),))


@pytest.fixture
def plate() -> Hotplate:
    return Hotplate()


@pytest.fixture
def feeding(plate: Hotplate) -> Iterator[Callable[..., DeadMen]]:
    made: list[DeadMen] = []

    def begin(alive: Callable[[], bool] = lambda: True, instruments: dict[str, Any] | None = None) -> DeadMen:
        made.append(DeadMen({"heating": plate} if instruments is None else instruments, alive, TIMEOUT_S))
        return made[-1]

    yield begin
    for entry in made:
        entry.leave(report(confirmed=True))


def test_a_toy_is_one(plate: Hotplate) -> None:
    assert isinstance(plate, DeadMan)
    assert not isinstance(object(), DeadMan)


def test_armed_fed_and_disarmed_once_it_is_safe(plate: Hotplate, feeding: Callable[..., DeadMen]) -> None:
    dead_men = feeding(instruments={"heating": plate, "shutter": object()})
    assert dead_men.arm() == {}
    assert dead_men.roles == ("heating",)
    until(lambda: plate.fed >= 3)
    dead_men.judge(report(confirmed=True))
    dead_men.leave(report(confirmed=True))
    assert plate.said[0] == "arm"
    assert plate.said[-1] == "disarm"
    assert not dead_men.warnings
    fed = plate.fed
    time.sleep(TIMEOUT_S)
    assert plate.fed == fed


def test_a_run_that_is_late_feeds_nobody(plate: Hotplate, feeding: Callable[..., DeadMen]) -> None:
    asked: list[int] = []

    def late() -> bool:
        asked.append(plate.fed)
        return False

    feeding(late).arm()
    until(lambda: len(asked) >= 3)
    assert plate.said == ["arm"]


def test_one_that_is_not_safe_stays_armed(plate: Hotplate, feeding: Callable[..., DeadMen]) -> None:
    dead_men = feeding()
    dead_men.arm()
    dead_men.judge(report(confirmed=False))
    dead_men.leave(report(confirmed=False))
    assert "disarm" not in plate.said
    assert "stays armed" in dead_men.warnings[0]


def test_one_that_cannot_be_fed_is_a_warning(plate: Hotplate, feeding: Callable[..., DeadMen]) -> None:
    plate.refuses = "feed"
    dead_men = feeding()
    dead_men.arm()
    until(lambda: bool(dead_men.warnings))
    time.sleep(TIMEOUT_S)
    assert dead_men.warnings == ["heating: its dead man could not be fed, and may have switched it off"]


def test_one_that_was_replaced_is_armed_anew(plate: Hotplate, feeding: Callable[..., DeadMen]) -> None:
    instruments = {"heating": plate}
    feeding(instruments=instruments).arm()
    new = instruments["heating"] = Hotplate()
    until(lambda: new.fed >= 2)
    assert new.said[0] == "arm"


def test_one_that_cannot_be_disarmed_does_no_harm(plate: Hotplate, feeding: Callable[..., DeadMen]) -> None:
    plate.refuses = "disarm"
    dead_men = feeding()
    dead_men.arm()
    dead_men.leave(report(confirmed=True))
    assert plate.said[0] == "arm"


@pytest.fixture
def with_watchdog(monkeypatch: pytest.MonkeyPatch) -> Hotplate:
    """Let the attenuator have a dead man: any instrument may."""
    plate = Hotplate()
    for name in ("arm", "feed", "disarm"):
        monkeypatch.setattr(ELL14, name, lambda self, *values, call=getattr(plate, name): call(*values), raising=False)
    return plate


def test_a_bench_arms_for_a_run_and_disarms_when_it_is_safe(with_watchdog: Hotplate) -> None:
    roles = ["shutter", "attenuator"]
    with Bench.open(load_bench("simulated"), RealClock(), roles=roles, run_is_alive=lambda: True) as bench:
        assert bench.warnings == []
        assert with_watchdog.said == ["arm"]
    assert with_watchdog.said == ["arm", "disarm"]


@pytest.mark.parametrize("opening", [{"clock": VirtualClock(), "run_is_alive": lambda: True}, {"clock": RealClock()}])
def test_nothing_is_armed_in_virtual_time_or_without_a_run(with_watchdog: Hotplate, opening: dict[str, Any]) -> None:
    with Bench.open(load_bench("simulated"), roles=["shutter", "attenuator"], **opening):
        pass
    assert with_watchdog.said == []


def test_one_that_cannot_be_armed_is_an_instrument_that_failed(with_watchdog: Hotplate) -> None:
    with_watchdog.refuses = "arm"
    with pytest.raises(BenchOpenError, match="no arm"):
        Bench.open(load_bench("simulated"), RealClock(), roles=["shutter", "attenuator"], run_is_alive=lambda: True)
