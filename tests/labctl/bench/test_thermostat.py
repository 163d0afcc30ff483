"""The heating stage as a run uses it, over the drivers of a hot plate and of a cryostat."""

from __future__ import annotations

import math
import threading
from itertools import pairwise

import pytest

from labctl.bench.thermostat import Thermostat
from labctl.clock import VirtualClock
from labctl.config.surroundings import HeatingConfig
from labctl.errors import Aborted, InputError, InstrumentError, InstrumentTimeout, LimitError

PLATE = ("heating_stage",)
CRYOSTAT = ("heating_stage", "vacuum_gauge")


@pytest.fixture
def hot_plate(open_bench):
    return lambda **how: open_bench(PLATE, bench="simulated-stability", **how)


@pytest.fixture
def cryostat(open_bench):
    return lambda **how: open_bench(CRYOSTAT, bench="simulated-cryostat", **how)


def test_a_temperature_is_reached_and_has_stayed_within_the_tolerance(hot_plate):
    opened = hot_plate()
    thermostat = opened.bench.thermostat
    reached_c = thermostat.settle(90.0)
    assert abs(reached_c - 90.0) <= 0.6
    assert opened.truth()["temperature_c"] == pytest.approx(90.0, abs=1.0)
    log = thermostat.take_log()
    assert all(later.t_s > earlier.t_s for earlier, later in pairwise(log))
    outside = [reading.t_s for reading in log if abs(reading.temperature_c - 90.0) > 0.6]
    assert log[-1].t_s - max(outside) >= 60.0
    assert log[0].temperature_c < 30.0
    assert thermostat.take_log() == []


def test_a_set_point_that_stands_already_is_not_set_again(hot_plate, monkeypatch):
    thermostat = hot_plate().bench.thermostat
    driver, told = type(thermostat.stage), []
    set_temperature = driver.set_temperature
    monkeypatch.setattr(driver, "set_temperature", lambda self, c: (told.append(c), set_temperature(self, c))[1])
    for temperature_c in (40.0, 40.0, 40.02, 45.0):
        thermostat.begin(temperature_c)
    assert told == [40.0, 45.0]
    assert thermostat.stage.setpoint_c == pytest.approx(45.0)


def test_a_plate_that_went_off_is_switched_on_again(hot_plate):
    opened = hot_plate()
    thermostat = opened.bench.thermostat
    thermostat.settle(40.0)
    thermostat.stage.switch_off()
    thermostat.begin(40.0)
    assert thermostat.stage.is_on
    assert opened.truth()["heater_on"]


def test_it_cools_down_with_the_heater_off(hot_plate):
    opened = hot_plate()
    thermostat = opened.bench.thermostat
    thermostat.settle(60.0)
    assert thermostat.cool_down(40.0) <= 40.0
    assert not opened.truth()["heater_on"]


def test_one_cold_reading_is_no_cold_plate(hot_plate, monkeypatch):
    bench = hot_plate().bench
    readings_c = [60.0, 6.0, 59.0, 39.0, 38.9, 38.8]
    monkeypatch.setattr(type(bench.thermostat.stage), "temperature_c", property(lambda _: readings_c.pop(0)))
    assert bench.thermostat.cool_down(40.0) == 38.9
    assert [reading.temperature_c for reading in bench.thermostat.take_log()] == [60.0, 6.0, 59.0, 39.0, 38.9]


def test_one_that_does_not_settle_in_time_says_so_and_is_made_safe(hot_plate):
    opened = hot_plate(changes={'settle_timeout = "60 min"': 'settle_timeout = "2 min"'})
    with pytest.raises(InstrumentTimeout, match=r"has not settled at 120 degC within 120 s") as caught:
        opened.bench.thermostat.settle(120.0)
    assert caught.value.role == "heating_stage"
    assert opened.truth()["heater_on"]
    assert opened.bench.make_safe().state == "confirmed"
    assert not opened.truth()["heater_on"]
    with pytest.raises(InstrumentTimeout, match="has not cooled to 20 degC"):
        opened.bench.thermostat.cool_down(20.0)


def test_it_is_not_waited_for_after_a_stop(hot_plate):
    opened, stop = hot_plate(), threading.Event()
    stop.set()
    for wait in (
        lambda: opened.bench.thermostat.settle(60.0, stop),
        lambda: opened.bench.thermostat.cool_down(0, stop),
    ):
        with pytest.raises(Aborted, match="waiting for the temperature"):
            wait()
    assert opened.bench.clock.now() < 60.0


@pytest.mark.parametrize("temperature_c", [-5.0, 311.0, math.nan, math.inf])
def test_beyond_the_range_of_the_stage_nothing_is_set_nor_switched_on(hot_plate, temperature_c):
    opened = hot_plate()
    before_c = opened.bench.thermostat.stage.setpoint_c
    with pytest.raises(InputError, match="degC"):
        opened.bench.thermostat.settle(temperature_c)
    assert opened.bench.thermostat.stage.setpoint_c == before_c
    assert not opened.truth()["heater_on"]


def test_beyond_the_limit_of_the_bench_nothing_is_set_nor_switched_on(hot_plate):
    opened = hot_plate()
    before_c = opened.bench.thermostat.stage.setpoint_c
    with pytest.raises(LimitError, match=r"limits\.roles\.heating_stage\.temperature"):
        opened.bench.thermostat.settle(151.0)
    assert opened.bench.thermostat.stage.setpoint_c == before_c
    assert not opened.bench.thermostat.stage.is_on
    assert not opened.truth()["heater_on"]


def test_a_stage_that_is_connected_anew_is_used_from_then_on(hot_plate):
    opened = hot_plate()
    thermostat = opened.bench.thermostat
    thermostat.settle(40.0)
    new = opened.bench.reopen("heating_stage")
    new.start_up()
    assert thermostat.stage is new
    assert not opened.truth()["heater_on"], "a plate that was left heating is switched off when it is started"
    assert abs(thermostat.settle(40.0) - 40.0) <= 0.6
    assert opened.truth()["heater_on"]


def test_the_bench_file_may_leave_the_heater_on_between_runs(hot_plate):
    kept = 'keep_on = ["detector.cooler", "heating_stage.heater"]'
    opened = hot_plate(changes={'keep_on = ["detector.cooler"]': kept})
    opened.bench.thermostat.settle(40.0)
    report = opened.bench.make_safe()
    assert report.state == "confirmed"
    assert [(entry.role, entry.step.action) for entry in report.steps] == [("heating_stage", "leave as it is")]
    assert opened.truth()["heater_on"]
    shipped = hot_plate()
    shipped.bench.thermostat.settle(40.0)
    assert shipped.bench.make_safe().state == "confirmed"
    assert not shipped.truth()["heater_on"]


def test_nothing_is_heated_or_cooled_without_vacuum(cryostat):
    opened = cryostat()
    assert opened.truth()["pressure_mbar"] > 1000
    for temperature_c in (-196.0, 40.0):
        with pytest.raises(InstrumentError, match=r"nothing is heated or cooled above 0\.001 mbar") as caught:
            opened.bench.thermostat.begin(temperature_c)
        assert caught.value.role == "vacuum_gauge"
        assert caught.value.state == "the heating stage was not switched on"
        assert not opened.truth()["heater_on"]
        assert not opened.bench.thermostat.stage.is_on


def test_in_vacuum_it_settles_and_a_gauge_by_hand_is_read_once(cryostat):
    opened = cryostat()
    asked = []
    opened.bench.instruments["vacuum_gauge"].on_confirmed = lambda _, said: asked.append(said)
    opened.bench.ask_operator("pump down", "Pump the chamber down.")
    opened.bench.clock.sleep(900.0)
    thermostat = opened.bench.thermostat
    for temperature_c in (-100.0, -60.0):
        assert abs(thermostat.settle(temperature_c) - temperature_c) <= 0.2
    assert opened.truth()["temperature_c"] == pytest.approx(-60.0, abs=0.4)
    assert len(asked) == 1
    assert thermostat.require_vacuum() == pytest.approx(1e-6, rel=0.5)


def test_a_vacuum_that_is_asked_for_needs_a_gauge(hot_plate):
    stage, clock = hot_plate().bench.instruments["heating_stage"], VirtualClock()
    config = HeatingConfig.model_validate({"vacuum_below": "1e-3 mbar"})
    with pytest.raises(InputError, match="needs a vacuum gauge"):
        Thermostat(stage, config, clock)


class GaugeWithAWire:
    """A gauge that leaks, or says nothing that is a number."""

    def __init__(self, *pressures_mbar: float) -> None:
        self._pressures = list(pressures_mbar)

    @property
    def pressure_mbar(self) -> float:
        return self._pressures.pop(0)


def test_a_gauge_with_a_wire_is_read_each_time_and_nonsense_is_no_vacuum(hot_plate):
    bench = hot_plate().bench
    config = HeatingConfig.model_validate({"vacuum_below": "1e-3 mbar"})
    gauge = GaugeWithAWire(1e-5, 0.1, math.nan)
    thermostat = Thermostat(bench.instruments["heating_stage"], config, bench.clock, gauge)  # type: ignore[arg-type]
    thermostat.begin(30.0)
    for _ in range(2):
        with pytest.raises(InstrumentError, match="the pressure is"):
            thermostat.begin(40.0)
    assert thermostat.stage.setpoint_c == pytest.approx(30.0)


def test_a_temperature_that_is_no_number_is_an_error(hot_plate, monkeypatch):
    bench = hot_plate().bench
    monkeypatch.setattr(type(bench.thermostat.stage), "temperature_c", math.nan)
    with pytest.raises(InstrumentError, match="reads nan degC"):
        bench.thermostat.read()
    assert bench.thermostat.take_log() == []
