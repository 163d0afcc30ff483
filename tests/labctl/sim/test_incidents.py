"""What goes wrong in the simulated laboratory at a moment of its table."""

from __future__ import annotations

import pytest

from drivers.detector.andor_sdk2_calls import Code
from drivers.detector.emulators.andor_cooler import AMBIENT_C, Cooler
from drivers.shutter.emulators.sc10 import SC10Emulator
from labctl.config.bench import load_bench
from labctl.errors import ConfigError
from labctl.sim.incidents import DropOffTruth, LooseWire, Outage
from labctl.sim.laboratory import Laboratory, create

START_S = 1e6
"""Clocks begin anywhere."""


def ask(shutter: SC10Emulator, t: float, command: bytes) -> str:
    return b"".join(data for _, data in shutter.respond(t, command + b"\r")).decode().split("\r")[1]


def laboratory_with(**interlock: float) -> Laboratory:
    return create({"interlock": interlock}, None, seed=0)


def test_times_count_from_the_first_question() -> None:
    outage = Outage(10.0, 5.0)
    assert not outage.is_on(START_S)
    assert [outage.is_on(START_S + t) for t in (9.9, 10.0, 14.9, 15.0)] == [False, True, True, False]
    for_ever = Outage(0.0, None)
    assert for_ever.is_on(START_S) and for_ever.is_on(START_S + 1e9)
    never = Outage(None, None)
    assert not never.is_on(START_S) and never.begins(START_S) is None and never.ends(START_S) is None


@pytest.mark.parametrize("table", [{"interlock": {"closes_after_s": 1.0}}, {"cooling": {"returns_after_s": 1.0}}])
def test_an_end_needs_a_beginning(table: dict[str, dict[str, float]]) -> None:
    with pytest.raises(ConfigError, match="needs"):
        create(table, None, seed=0)


def test_the_light_goes_out_when_the_circuit_opens_though_nobody_asks() -> None:
    laboratory = laboratory_with(opens_at_s=10.0, closes_after_s=5.0)
    shutter = SC10Emulator(laboratory, "shutter", {})
    assert ask(shutter, START_S, b"interlock?") == "0"
    shutter.respond(START_S + 1.0, b"ens\r")
    assert laboratory.shutter.is_open(START_S + 9.9)
    assert not laboratory.shutter.is_open(START_S + 10.1)
    assert not laboratory.shutter.is_open(START_S + 20.0)
    assert (ask(shutter, START_S + 20.0, b"interlock?"), ask(shutter, START_S + 20.0, b"ens?")) == ("0", "0")
    assert ask(shutter, START_S + 20.0, b"closed?") == "1"
    shutter.respond(START_S + 21.0, b"ens\r")
    assert laboratory.shutter.is_open(START_S + 1000.0)


def test_an_open_circuit_keeps_the_shutter_closed() -> None:
    laboratory = laboratory_with(opens_at_s=10.0, closes_after_s=5.0)
    shutter = SC10Emulator(laboratory, "shutter", {})
    ask(shutter, START_S, b"interlock?")
    assert ask(shutter, START_S + 12.0, b"interlock?") == "1"
    shutter.respond(START_S + 12.5, b"ens\r")
    assert ask(shutter, START_S + 13.0, b"ens?") == "0"
    assert not laboratory.shutter.is_open(START_S + 14.0)


def test_a_shutter_closed_in_time_stays_closed() -> None:
    laboratory = laboratory_with(opens_at_s=10.0)
    shutter = SC10Emulator(laboratory, "shutter", {})
    ask(shutter, START_S, b"ens?")
    shutter.respond(START_S + 1.0, b"ens\r")
    shutter.respond(START_S + 2.0, b"ens\r")
    assert not laboratory.shutter.is_open(START_S + 3.0)
    assert ask(shutter, START_S + 30.0, b"closed?") == "1"


def test_a_sensor_without_water_warms_up_and_cools_down_again() -> None:
    cooler = Cooler(-60.0, True, 0.25, 60.0, Outage(100.0, 40.0))
    assert (cooler.temperature_c(START_S), cooler.state(START_S)) == (-60.0, Code.TEMP_STABILIZED)
    assert cooler.temperature_c(START_S + 99.0) == -60.0
    assert cooler.temperature_c(START_S + 120.0) == pytest.approx(-55.0)
    assert cooler.state(START_S + 120.0) is Code.TEMP_DRIFT
    assert cooler.temperature_c(START_S + 150.0) == pytest.approx(-52.5)
    assert cooler.state(START_S + 150.0) is Code.TEMP_NOT_REACHED
    assert cooler.temperature_c(START_S + 180.0) == -60.0
    assert cooler.state(START_S + 200.0) is Code.TEMP_NOT_STABILIZED
    assert cooler.state(START_S + 241.0) is Code.TEMP_STABILIZED


def test_nobody_need_look_while_the_water_is_away() -> None:
    cooler = Cooler(-60.0, True, 0.25, 60.0, Outage(100.0, 40.0))
    assert cooler.temperature_c(START_S) == -60.0
    assert cooler.temperature_c(START_S + 150.0) == pytest.approx(-52.5)
    for_ever = Cooler(-60.0, True, 0.25, 60.0, Outage(0.0, None))
    for_ever.temperature_c(START_S)
    assert for_ever.temperature_c(START_S + 1e4) == AMBIENT_C


def test_what_is_sent_into_a_loose_plug_never_arrives_and_what_is_said_is_lost() -> None:
    shutter = SC10Emulator(laboratory_with(), "shutter", {})
    wire = LooseWire(shutter, [DropOffTruth(role="shutter", at_s=START_S + 10.0, lasts_s=5.0)])
    assert ask(wire, START_S, b"ens?") == "0"
    assert wire.respond(START_S + 12.0, b"ens\r") == []
    assert ask(wire, START_S + 15.0, b"ens?") == "0"
    assert wire.respond(START_S + 9.9, b"")[:0] == []


def test_the_bench_with_the_loose_plug_is_the_stability_bench_otherwise() -> None:
    loose, sound = load_bench("simulated-loose-plug"), load_bench("simulated-stability")
    fields = {"name", "description", "laboratory"}
    assert loose.model_dump(exclude=fields) == sound.model_dump(exclude=fields)
    assert loose.laboratory is not None
    assert sound.laboratory is not None
    others = {key: value for key, value in loose.laboratory.data.items() if key != "drop_offs"}
    assert others == dict(sound.laboratory.data)
    (drop_off,) = loose.laboratory.data["drop_offs"]
    assert drop_off["role"] == "energy_meter"
