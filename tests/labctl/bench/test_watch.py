"""The watch: what trips, after how long, with what action; and when a run may go on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.bench.bench import Bench
from labctl.bench.set_values import QuantityLimit
from labctl.bench.watch import Tripped, Watch
from labctl.clock import VirtualClock
from labctl.config.bench import BenchConfig, load_bench
from labctl.config.locate import locate
from labctl.config.sample import load_sample
from labctl.config.watch import WatchConfig
from labctl.errors import (
    Aborted,
    ConnectionLost,
    ExitCode,
    InputError,
    InstrumentError,
    InterlockTripped,
    LimitExceeded,
)
from labctl.roles import Identity, Reading, SafeStep
from labctl.sim.faults import Fault, Kind, Transaction, injected


class Stage:
    """A heating stage with a door; what it reads is set by the test."""

    READINGS: ClassVar = {
        "temperature": Reading("state.temperature_c", "degC"),
        "door": Reading("door_open", words=("closed", "open")),
        "mode": Reading("mode", words=("off", "ramp", "hold")),
    }

    class State:
        temperature_c: Any = 20.0

    def __init__(self) -> None:
        self.state = self.State()
        self.door_open: Any = False
        self.mode: Any = "off"
        self.failures: list[Exception] = []
        self.asked = 0
        self.reconnected = 0
        self.adapter = self

    def __getattribute__(self, name: str) -> Any:
        if name == "state":
            self.asked += 1
            failures: list[Exception] = object.__getattribute__(self, "failures")
            if failures:
                raise failures.pop(0)
        return object.__getattribute__(self, name)

    def try_to_reconnect(self) -> str:
        self.reconnected += 1
        return ""

    def identify(self) -> Identity:
        return Identity("toy", "stage")

    def make_safe(self) -> Sequence[SafeStep]:
        return []

    def close(self) -> None:
        pass


class Light:
    """What is known of the light at the sample."""

    last_fluence_uj_cm2: float | None = None
    last_pulse_energy_j: float | None = None
    last_average_power_w: float | None = None
    spot_dose_j_cm2 = 0.0


class Watched:
    """A watch on a toy stage with a clock of its own."""

    def __init__(
        self, *tables: dict[str, Any], limits: Sequence[QuantityLimit] = (), folder: Path | None = None
    ) -> None:
        self.stage, self.light, self.clock = Stage(), Light(), VirtualClock()
        watches = [WatchConfig.model_validate({"name": str(number), **table}) for number, table in enumerate(tables)]
        self.watch = Watch(watches, limits, {"stage": self.stage}, self.clock, light=lambda: self.light, folder=folder)

    def names(self) -> list[str]:
        tripped = self.watch.check()
        return [] if tripped is None else [tripped.name]


HOT = {"when": "stage.temperature > 100 degC", "action": "pause"}


def test_nothing_is_asked_where_nothing_is_watched() -> None:
    watched = Watched()
    assert watched.watch.check() is None
    assert watched.watch.readings() == ()
    assert watched.stage.asked == 0


def test_a_condition_trips_while_it_holds() -> None:
    watched = Watched({**HOT, "message": "Look at the oven."})
    assert watched.watch.check() is None
    watched.stage.state.temperature_c = 120.5
    tripped = watched.watch.check()
    assert tripped is not None
    assert (tripped.action, tripped.condition, tripped.reading) == (
        "pause",
        "stage.temperature > 100 degC",
        "120.5 degC",
    )
    assert str(tripped) == "0: stage.temperature > 100 degC, read: 120.5 degC. Look at the oven."
    assert tripped.resume_when == "no longer: stage.temperature > 100 degC"
    assert not watched.watch.may_resume(tripped)
    watched.stage.state.temperature_c = 100.0
    assert watched.watch.may_resume(tripped)
    assert watched.watch.check() is None


def test_states_are_words() -> None:
    watched = Watched(
        {"when": "stage.door is open", "action": "safe"}, {"when": "stage.mode is not hold", "action": "pause"}
    )
    watched.stage.mode = "hold"
    assert watched.names() == []
    watched.stage.door_open = True
    assert watched.names() == ["0"]
    watched.stage.door_open, watched.stage.mode = False, "ramp"
    assert watched.names() == ["1"]


def test_the_grace_time_runs_on_the_clock_of_the_run_and_begins_anew() -> None:
    watched = Watched({**HOT, "grace": "10 s"})
    watched.stage.state.temperature_c = 120.0
    assert watched.names() == []
    watched.clock.sleep(9.9)
    assert watched.names() == []
    watched.clock.sleep(0.1)
    tripped = watched.watch.check()
    assert tripped is not None and tripped.held_s == pytest.approx(10.0)
    watched.stage.state.temperature_c = 20.0
    assert watched.names() == []
    watched.stage.state.temperature_c = 120.0
    assert watched.names() == []
    watched.clock.sleep(10.0)
    assert watched.names() == ["0"]


def test_looking_starts_no_grace_time() -> None:
    watched = Watched({**HOT, "grace": "10 s"})
    watched.stage.state.temperature_c = 120.0
    (seen,) = watched.watch.readings()
    assert (seen.holds, seen.reading) == (True, "120 degC")
    watched.clock.sleep(11.0)
    assert watched.names() == []


def test_the_run_goes_on_only_when_it_is_told_to() -> None:
    watched = Watched({**HOT, "resume_when": "stage.temperature < 80 degC"})
    watched.stage.state.temperature_c = 120.0
    tripped = watched.watch.check()
    assert tripped is not None and tripped.resume_when == "stage.temperature < 80 degC"
    watched.stage.state.temperature_c = 90.0
    assert watched.watch.check() is None
    assert not watched.watch.may_resume(tripped)
    watched.stage.state.temperature_c = 79.0
    assert watched.watch.may_resume(tripped)


def test_another_condition_keeps_the_run_paused() -> None:
    watched = Watched(HOT, {"when": "stage.door is open", "action": "pause"})
    watched.stage.state.temperature_c = 120.0
    tripped = watched.watch.check()
    assert tripped is not None
    watched.stage.state.temperature_c, watched.stage.door_open = 20.0, True
    assert not watched.watch.may_resume(tripped)
    watched.stage.door_open = False
    assert watched.watch.may_resume(tripped)


def test_what_is_worse_comes_first_and_is_told_during_a_pause() -> None:
    watched = Watched(
        HOT,
        {"when": "stage.door is open", "action": "safe"},
        {"when": "stage.temperature > 200 degC", "action": "abort", "message": "Burning."},
    )
    watched.stage.state.temperature_c = 120.0
    paused = watched.watch.check()
    assert paused is not None and paused.name == "0"
    assert watched.watch.worse(paused) is None
    watched.stage.door_open = True
    worse = watched.watch.worse(paused)
    assert worse is not None and worse.action == "safe" and watched.names() == ["1"]
    watched.stage.state.temperature_c = 250.0
    assert watched.names() == ["2"]
    with pytest.raises(InterlockTripped, match="200 degC") as caught:
        watched.watch.may_resume(paused)
    assert caught.value.exit_code == ExitCode.FAILED
    assert caught.value.todo == "Burning."


def test_no_pause_is_for_ever() -> None:
    watched = Watched({**HOT, "longest_pause": "1 hour"})
    watched.stage.state.temperature_c = 120.0
    tripped = watched.watch.check()
    assert tripped is not None
    watched.clock.sleep(3600.0)
    assert not watched.watch.may_resume(tripped)
    watched.clock.sleep(1.0)
    with pytest.raises(InterlockTripped, match="still held after a pause of 3601 s"):
        watched.watch.may_resume(tripped)


@pytest.mark.parametrize("reading", [math.nan, math.inf, "hot", None])
def test_a_reading_that_means_nothing_counts_as_if_the_condition_held(reading: Any) -> None:
    watched = Watched({**HOT, "resume_when": "stage.temperature < 80 degC"})
    watched.stage.state.temperature_c = reading
    tripped = watched.watch.check()
    assert tripped is not None and not tripped.readable
    assert not watched.watch.may_resume(tripped)
    assert "counts as if it held" in str(tripped.error())
    watched.stage.state.temperature_c = 20.0
    assert watched.watch.may_resume(tripped)


@pytest.mark.parametrize("reading", ["ajar", 1, None])
def test_a_word_that_it_cannot_say_counts_too(reading: Any) -> None:
    watched = Watched({"when": "stage.mode is hold", "action": "abort"})
    watched.stage.mode = reading
    tripped = watched.watch.check()
    assert tripped is not None and "none of off, ramp, hold" in tripped.reading


def test_a_quantity_is_asked_twice_before_it_counts_as_unreadable() -> None:
    watched = Watched(HOT)
    watched.stage.failures = [InstrumentError("garbled")]
    assert watched.names() == []
    assert watched.stage.reconnected == 0
    watched.stage.failures = [ConnectionLost("unplugged"), ConnectionLost("still unplugged")]
    tripped = watched.watch.check()
    assert tripped is not None and tripped.reading == "still unplugged"
    assert watched.stage.reconnected == 2
    watched.stage.failures = [ZeroDivisionError("a driver of somebody")] * 2
    tripped = watched.watch.check()
    assert tripped is not None and tripped.reading == "ZeroDivisionError: a driver of somebody"
    (seen,) = watched.watch.last
    assert (seen.holds, seen.readable) == (True, False)


def test_an_unreadable_quantity_has_the_grace_time_of_its_condition() -> None:
    watched = Watched({**HOT, "grace": "5 s"})
    watched.stage.failures = [InstrumentError("silence")] * 2
    assert watched.names() == []
    watched.clock.sleep(5.0)
    watched.stage.failures = [InstrumentError("silence")] * 2
    assert watched.names() == ["0"]


def test_an_operator_who_refuses_ends_the_run() -> None:
    watched = Watched(HOT)
    watched.stage.failures = [Aborted("no")]
    with pytest.raises(Aborted):
        watched.watch.check()


def test_what_the_bench_does_not_know_yet_trips_nothing() -> None:
    watched = Watched({"when": "pump.fluence < 5 uJ/cm^2", "action": "abort"})
    assert watched.names() == []
    (seen,) = watched.watch.last
    assert (seen.reading, seen.holds, seen.readable) == ("not known yet", False, True)
    watched.light.last_fluence_uj_cm2 = 4.0
    assert watched.names() == ["0"]


def test_quantities_of_the_bench(tmp_path: Path) -> None:
    watched = Watched(
        {"when": "pump.pulse_energy > 5 uJ", "action": "abort"},
        {"when": "pump.average_power > 5 mW", "action": "abort"},
        {"when": "spot.dose > 100 J/cm^2", "action": "abort"},
        {"when": "disk.free < 1 kB", "action": "pause"},
        {"when": "disk.free > 1 kB", "action": "pause"},
        folder=tmp_path / "not" / "there" / "yet",
    )
    assert watched.names() == ["4"]
    watched.light.last_pulse_energy_j = 5.1e-6
    assert watched.names() == ["0"]
    watched.light.last_pulse_energy_j, watched.light.last_average_power_w = 4e-6, 5.1e-3
    assert watched.names() == ["1"]
    watched.light.last_average_power_w, watched.light.spot_dose_j_cm2 = 1e-3, 101.0
    assert watched.names() == ["2"]


def test_a_limit_of_a_reading_ends_the_run() -> None:
    limit = QuantityLimit("stage", "temperature", "degC", -10.0, 200.0, overshoot=2.0)
    watched = Watched({"when": "stage.temperature > 201 degC", "action": "abort"}, limits=[limit])
    for temperature_c in (-12.0, 202.0):
        watched.stage.state.temperature_c = temperature_c
        tripped = watched.watch.check()
        assert tripped is None or not tripped.is_limit
    for temperature_c, bound in ((202.1, "at most"), (-12.1, "at least")):
        watched.stage.state.temperature_c = temperature_c
        tripped = watched.watch.check()
        assert tripped is not None and tripped.is_limit and tripped.action == "abort"
        assert tripped.name == f"limit of stage.temperature ({bound})"
        error = tripped.error()
        assert isinstance(error, LimitExceeded) and "limits.roles" in error.where


def test_a_condition_on_a_role_that_is_not_open_is_named_as_idle() -> None:
    watched = Watched(
        {"when": "oven.temperature > 1 degC", "action": "abort"},
        {**HOT, "resume_when": "oven.temperature < 1 degC"},
    )
    assert watched.watch.idle == ["0", "1"]
    assert watched.watch.check() is None


def test_a_condition_that_an_instrument_cannot_answer_is_refused_at_once() -> None:
    with pytest.raises(InputError, match="unknown quantity of stage") as caught:
        Watched({"when": "stage.humidity > 1", "action": "abort"})
    assert "[[watch]] '0'" in caught.value.where


def test_each_quantity_is_asked_once_for_all_conditions() -> None:
    watched = Watched(HOT, {**HOT, "resume_when": "stage.temperature < 80 degC"}, HOT)
    watched.watch.check()
    assert watched.stage.asked == 1


def test_what_tripped_can_be_written_down() -> None:
    watched = Watched(HOT)
    watched.stage.state.temperature_c = 120.0
    tripped = watched.watch.check()
    assert tripped is not None
    assert Tripped(**tripped.as_dict()) == tripped
    assert watched.watch.last[0].as_dict()["condition"] == "stage.temperature > 100 degC"


@given(st.lists(st.tuples(st.floats(0.0, 200.0), st.floats(0.1, 30.0)), max_size=20), st.floats(0.0, 60.0))
def test_it_trips_when_all_looks_for_the_grace_time_saw_it_hold(
    looks: list[tuple[float, float]], grace_s: float
) -> None:
    watched = Watched({**HOT, "grace": f"{grace_s!r} s"})
    since: float | None = None
    for temperature_c, wait_s in looks:
        watched.stage.state.temperature_c = temperature_c
        now = watched.clock.now()
        since = None if temperature_c <= 100.0 else now if since is None else since
        assert (watched.names() == ["0"]) is (since is not None and now - since >= grace_s)
        watched.clock.sleep(wait_s)


@pytest.fixture
def open_with(tmp_path: Path) -> Callable[[str, str], Bench]:
    """Open the shipped bench with more tables, and what goes wrong in its laboratory."""
    shipped = locate("benches", "simulated")

    def write(tables: str, laboratory: str) -> Bench:
        text = shipped.read_text(encoding="utf-8")
        text = text.replace('"calibrations/', f'"{(shipped.parent / "calibrations").as_posix()}/')
        path = tmp_path / "bench.toml"
        path.write_text(f"{text}\n{tables}\n{laboratory}", encoding="utf-8")
        config: BenchConfig = load_bench(path)
        return Bench.open(config, VirtualClock(), sample=load_sample("cdse-cds-zno"), folder=tmp_path)

    return write


WARM = """
[[watch]]
name = "warm"
when = "detector.temperature > -50 degC"
action = "pause"
resume_when = "detector.temperature < -55 degC"
"""
DOOR = """
[[watch]]
name = "door"
when = "shutter.interlock is open"
action = "safe"
"""
BRIGHT = """
[[watch]]
name = "bright"
when = "pump.fluence > 150 uJ/cm^2"
action = "abort"
[[watch]]
name = "dose"
when = "spot.dose > 0.5 J/cm^2"
action = "abort"
"""


def test_a_detector_that_loses_its_water(open_with: Callable[[str, str], Bench]) -> None:
    with open_with(WARM, "[laboratory.cooling]\nfails_at_s = 1000.0\nreturns_after_s = 300.0") as bench:
        bench.spectrometer.detector.cool_to(-60)
        tripped = bench.watch.check()
        assert tripped is not None and tripped.name == "warm"
        while not bench.watch.may_resume(tripped):
            bench.clock.sleep(10.0)
        assert bench.clock.now() == pytest.approx(75 / 0.25, abs=20)
        bench.clock.sleep(1000.0 - bench.clock.now())
        assert bench.watch.check() is None
        bench.clock.sleep(60.0)
        tripped = bench.watch.check()
        assert tripped is not None and tripped.reading.startswith("-4")
        assert not bench.spectrometer.detector.cooler.locked
        bench.clock.sleep(240.0)
        assert not bench.watch.may_resume(tripped)
        bench.clock.sleep(300.0)
        assert bench.watch.may_resume(tripped)


def test_a_door_that_opens(open_with: Callable[[str, str], Bench]) -> None:
    with open_with(DOOR, "[laboratory.interlock]\nopens_at_s = 5.0\ncloses_after_s = 20.0") as bench:
        assert bench.watch.check() is None
        bench.clock.sleep(6.0 - bench.clock.now())
        tripped = bench.watch.check()
        assert tripped is not None and (tripped.action, tripped.reading) == ("safe", "open")
        with pytest.raises(InstrumentError, match="interlock"):
            bench.instruments["shutter"].open()  # pyright: ignore[reportAttributeAccessIssue]
        bench.clock.sleep(25.0 - bench.clock.now())
        assert bench.watch.may_resume(tripped)
        bench.instruments["shutter"].open()  # pyright: ignore[reportAttributeAccessIssue]


def test_light_and_dose_of_a_real_pump(open_with: Callable[[str, str], Bench]) -> None:
    with open_with(BRIGHT, "") as bench:
        assert bench.watch.check() is None
        pump = bench.pump
        pump.prepare()
        assert [seen.reading for seen in bench.watch.readings()] == ["not known yet", "0 J/cm^2"]
        for fluence, expected in ((50.0, None), (200.0, "bright"), (50.0, None)):
            pump.set_fluence(fluence)
            with pump.light():
                pump.read_fluence(100)
            tripped = bench.watch.check()
            assert (tripped and tripped.name) == expected
        while (tripped := bench.watch.check()) is None:
            with pump.light():
                pump.read_fluence(100)
        assert tripped.name == "dose"
        assert pump.spot_dose_j_cm2 > 0.5


def test_a_connection_that_broke_is_made_anew(open_with: Callable[[str, str], Bench]) -> None:
    with open_with(DOOR, "") as bench:
        bench.instruments["shutter"].close()
        assert bench.watch.check() is None
        assert bench.watch.last[0].reading == "closed"


def test_an_unplugged_shutter_trips(open_with: Callable[[str, str], Bench]) -> None:
    unplugged = False

    def watch(transaction: Transaction) -> Fault | None:
        return Fault(Kind.UNPLUGGED) if unplugged and transaction.role == "shutter" else None

    with injected(watch), open_with(DOOR, "") as bench:
        assert bench.watch.check() is None
        unplugged = True
        tripped = bench.watch.check()
        assert tripped is not None and not tripped.readable
        assert (tripped.action, tripped.name) == ("safe", "door")
        assert not bench.watch.may_resume(tripped)
