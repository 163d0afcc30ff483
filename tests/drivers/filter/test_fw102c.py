from __future__ import annotations

import importlib.util
import itertools
import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.filter.emulators.fw102c import FW102CEmulator
from drivers.filter.fw102c import FW102C
from labctl.errors import InputError, InstrumentError, InstrumentTimeout
from labctl.roles import FilterWheel, Identity
from labctl.sim.laboratory import create


def answers(emulator, data: bytes, t: float = 1.0) -> bytes:
    return b"".join(reply for _, reply in emulator.respond(t, data))


def emulator_with(**options) -> FW102CEmulator:
    return FW102CEmulator(create(None, None, 0), "filter", options)


@pytest.fixture
def stand(clock, adapter_to, tap):
    """Get a function that sets up laboratory, emulator, tap and driver; ``start_up`` unless told otherwise."""

    def build(start_up: bool = True, driver_options=None, **options):
        laboratory = create(None, None, 0)
        wire = tap(FW102CEmulator(laboratory, "filter", options))
        driver = FW102C(adapter_to(wire, FW102C.LINK), clock=clock, **(driver_options or {}))
        if start_up:
            driver.start_up()
            wire.sent.clear()
        return laboratory, wire, driver

    return build


# Commands of the manual; the bytes around their answers as other programs expect them.
@pytest.mark.parametrize(
    ("sent", "received"),
    [
        (b"*idn?\r", b"*idn?\rTHORLABS FW102C/FW212C Filter Wheel version 1.07\r> "),
        (b"pos?\r", b"pos?\r1\r> "),
        (b"pos=3\r", b"pos=3\r> "),
        (b"pos=3\rpos?\r", b"pos=3\r> pos?\r3\r> "),
        (b"pos=7\r", b"pos=7\rCommand error CMD_ARG_INVALID\n\r> "),
        (b"pos=0\r", b"pos=0\rCommand error CMD_ARG_INVALID\n\r> "),
        (b"pcount?\r", b"pcount?\r6\r> "),
        (b"pcount=12\rpos=11\rpos?\r", b"pcount=12\r> pos=11\r> pos?\r11\r> "),
        (b"pcount=8\r", b"pcount=8\rCommand error CMD_ARG_INVALID\n\r> "),
        (b"trig=1\rtrig?\r", b"trig=1\r> trig?\r1\r> "),
        (b"speed?\rspeed=0\rspeed?\r", b"speed?\r1\r> speed=0\r> speed?\r0\r> "),
        (b"sensors=0\rsensors?\r", b"sensors=0\r> sensors?\r0\r> "),
        (b"baud?\r", b"baud?\r1\r> "),
        (b"save\r", b"save\r> "),
        (b"speed=2\r", b"speed=2\rCommand error CMD_ARG_INVALID\n\r> "),
        (b"\r", b"\rCommand error CMD_NOT_DEFINED\n\r> "),
        (b"POS?\r", b"POS?\rCommand error CMD_NOT_DEFINED\n\r> "),
        (b"\xff\r", b"\xff\rCommand error CMD_NOT_DEFINED\n\r> "),
        (b"pos?", b""),
    ],
)
def test_emulator_answers_as_the_protocol_says(sent, received):
    assert answers(emulator_with(), sent) == received


@given(cuts=st.sets(st.integers(1, 28)))
@settings(max_examples=30, deadline=None)
def test_commands_may_come_in_pieces(cuts):
    stream = b"pos=2\rpos?\rspeed?\rpcount?\r"
    emulator = emulator_with()
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    received = b"".join(answers(emulator, stream[a:b]) for a, b in itertools.pairwise(edges))
    assert received == b"pos=2\r> pos?\r2\r> speed?\r1\r> pcount?\r6\r> "


def test_the_prompt_comes_when_the_wheel_stands_and_meanwhile_no_light_passes():
    laboratory = create(None, None, 0)
    emulator = FW102CEmulator(laboratory, "filter", {"step_fast_s": 0.5, "reply_s": 0.0})
    ((arrives, reply),) = emulator.respond(10.0, b"pos=5\r")
    assert (arrives, reply) == (11.0, b"pos=5\r> ")  # two steps backwards, over 6
    assert [laboratory.filters.position(t) for t in (9.9, 10.5, 11.0)] == [1, 0, 5]
    ((arrives, reply),) = emulator.respond(10.2, b"pos?\r")
    assert (arrives, reply) == (11.0, b"pos?\r5\r> ")


def test_settings_survive_a_power_cycle_if_saved():
    emulator = emulator_with()
    answers(emulator, b"speed=0\rsave\rsensors=0\r")
    emulator.power_cycle(5.0)
    assert answers(emulator, b"speed?\rsensors?\rpos?\r", 10.0) == b"\0\0speed?\r0\r> sensors?\r1\r> pos?\r1\r> "


def test_start_up_switches_the_sensors_off_and_does_not_turn(stand):
    _, wire, driver = stand(start_up=False, position=4)
    driver.start_up()
    assert wire.sent == [
        *(b"pcount?\r", b"pcount?\r", b"sensors=0\r", b"sensors?\r", b"speed?\r", b"pos?\r"),
    ]
    assert driver.position == 4


def test_serves_its_role_and_says_who_it_is(stand):
    _, _, driver = stand(positions=12)
    assert isinstance(driver, FilterWheel)
    assert driver.identify() == Identity("Thorlabs", "FW102C/FW212C", firmware="1.07")
    assert driver.positions == 12


def test_old_firmware_that_does_not_know_its_name(stand):
    _, _, driver = stand(version="")
    assert driver.identify() == Identity("Thorlabs", "FW102C/FW212C")


def test_selecting_turns_waits_and_reads_back(stand, clock):
    laboratory, wire, driver = stand()
    before = clock.now()
    assert driver.select(3) == 3
    assert wire.sent == [b"pos?\r", b"pos=3\r", b"pos?\r"]
    assert clock.now() - before == pytest.approx(1.4, abs=0.05)
    assert laboratory.filters.position(clock.now()) == 3
    wire.sent.clear()
    assert driver.select(3) == 3 and wire.sent == [b"pos?\r"]


def test_a_prompt_that_comes_at_once_is_not_believed(stand, clock):
    laboratory, _, driver = stand(prompt_first=True)
    assert driver.select(4) == 4
    assert laboratory.filters.position(clock.now()) == 4


def test_the_speed_is_set_and_slow_moves_are_waited_for(stand, clock):
    laboratory, wire, driver = stand(driver_options={"speed": "slow"}, positions=12, step_slow_s=1.9)
    assert answers(wire.emulator, b"speed?\r", clock.now()) == b"speed?\r0\r> "
    assert driver.select(7) == 7
    assert laboratory.filters.position(clock.now()) == 7


def test_a_wheel_turned_by_hand_is_read(stand, clock):
    _, wire, driver = stand()
    driver.select(2)
    wire.emulator.turn_by_hand(clock.now(), 3)
    assert driver.position == 3


@pytest.mark.parametrize("position", [0, 7, -1])
def test_a_position_that_is_not_there_is_refused_before_anything_is_sent(stand, position):
    _, wire, driver = stand()
    with pytest.raises(InputError, match="no position"):
        driver.select(position)
    assert wire.sent == []


def test_a_wheel_that_is_stuck_is_noticed(stand):
    _, _, driver = stand(stuck=True)
    with pytest.raises(InstrumentError, match="stands at 1 instead of 2"):
        driver.select(2)


def test_a_wheel_of_the_wrong_type_is_refused(stand):
    with pytest.raises(InstrumentError, match="set for a wheel of 6 positions instead of 12") as caught:
        stand(driver_options={"positions": 12})
    assert "pcount=12" in caught.value.todo


@pytest.mark.parametrize("options", [{"awkward": True}, {"awkward": True, "version": ""}])
def test_an_awkward_start(stand, options):
    laboratory, _, driver = stand(position=2, **options)
    assert driver.position == 2
    assert laboratory.filters.position(5.0) == 2


def test_nothing_answers(stand, tap):
    _, wire, driver = stand(start_up=False)
    wire.damage_reply = lambda t, data: []
    with pytest.raises(InstrumentTimeout, match="does not answer"):
        driver.start_up()


def test_a_late_answer_does_not_answer_the_next_question(stand, clock):
    _, wire, driver = stand()
    late_s = clock.now() + 1.5
    wire.damage_reply = lambda t, data: [(max(t, late_s), data)]
    with pytest.raises(InstrumentTimeout):
        _ = driver.position
    assert driver.select(5) == 5
    assert driver.position == 5


@pytest.mark.parametrize("answer", [b"pos?\rx\r> ", b"pos?\r9\r> ", b"pos?\r\r> ", b"pos?\rCommand error X\n\r> "])
def test_an_answer_that_is_no_position_shows_its_bytes(stand, answer):
    _, wire, driver = stand()
    wire.damage_reply = lambda t, data: [(t, answer)]
    with pytest.raises(InstrumentError) as caught:
        _ = driver.position
    assert "pos?" in str(caught.value)


def test_a_command_that_is_refused(stand):
    _, wire, driver = stand()
    wire.damage_command = lambda data: data.replace(b"pos=2", b"pos=9")
    with pytest.raises(InstrumentError):
        driver.select(2)
    wire.damage_command = lambda data: data
    assert driver.select(2) == 2


@pytest.mark.parametrize("in_step", [True, False])
def test_make_safe_leaves_the_wheel_and_says_where_it_stands(stand, in_step):
    _, wire, driver = stand()
    driver.select(4)
    driver._in_step = in_step
    wire.sent.clear()
    (step,) = driver.make_safe()
    assert step.confirmed and "position 4" in step.evidence
    assert not any(sent.startswith(b"pos=") for sent in wire.sent)


def test_make_safe_of_a_dead_wheel_says_so(stand):
    _, wire, driver = stand()
    wire.damage_reply = lambda t, data: []
    (step,) = driver.make_safe()
    assert not step.confirmed and "does not answer" in step.evidence


CLIENT = """
import json, sys
from pylablib.devices import Thorlabs
wheel = Thorlabs.FW((sys.argv[1], 115200))
seen = {"id": wheel.get_id(), "pcount": wheel.get_pcount(), "pos": [wheel.get_position()]}
for position in (2, 6, 3):
    seen["pos"].append(wheel.set_position(position))
seen["speed"] = [wheel.get_speed_mode(), wheel.set_speed_mode("low")]
seen["sensors"] = [wheel.get_sensor_mode(), wheel.set_sensor_mode("off")]
seen["trigger"] = wheel.set_trigger_mode("out")
try:
    wheel.set_position(9)
except Thorlabs.ThorlabsError as error:
    seen["error"] = str(error)
wheel.close()
print(json.dumps(seen))
"""


@pytest.mark.skipif(importlib.util.find_spec("pylablib") is None, reason="pylablib (extra `clients`) is not installed")
def test_pylablib_turns_the_served_wheel(serve_on_pty):
    with serve_on_pty("filter", "thorlabs-fw102c", FW102CEmulator) as pty:
        done = subprocess.run([sys.executable, "-c", CLIENT, pty], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["id"] == "THORLABS FW102C/FW212C Filter Wheel version 1.07"
    assert seen["pcount"] == 6 and seen["pos"] == [1, 2, 6, 3]
    assert seen["speed"] == ["high", "low"] and seen["sensors"] == ["on", "off"] and seen["trigger"] == "out"
