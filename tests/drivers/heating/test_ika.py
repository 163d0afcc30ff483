from __future__ import annotations

import itertools
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.heating.emulators.ika import IKAEmulator
from drivers.heating.ika import IKAHotplate
from labctl.bench.dead_man import DeadMen
from labctl.bench.safe import RoleStep, SafeReport
from labctl.clock import VirtualClock
from labctl.errors import ConnectionLost, InputError, InstrumentError, InstrumentTimeout
from labctl.roles import DeadMan, HeatingStage, Identity, SafeStep, TellsReadiness
from labctl.sim.laboratory import create
from labctl.sim.link import EmulatorLink
from labctl.transport.adapter import WireAdapter


def answers(emulator, data: bytes, t: float = 1.0) -> bytes:
    return b"".join(reply for _, reply in emulator.respond(t, data))


def emulator_with(**options) -> IKAEmulator:
    return IKAEmulator(create(None, None, 0), "heating_stage", {"noise_k": 0.0, **options})


@pytest.fixture
def stand(clock, adapter_to, tap):
    """Get a function that sets up laboratory, wire and driver; started up unless told otherwise."""

    def build(start_up: bool = True, driver=None, **options):
        laboratory = create(None, None, 0)
        wire = tap(IKAEmulator(laboratory, "heating_stage", {"noise_k": 0.0, **options}))
        plate = IKAHotplate(adapter_to(wire, IKAHotplate.LINK), clock=clock, **{"pause_s": 0.0, **(driver or {})})
        if start_up:
            plate.start_up()
            wire.sent.clear()
        return laboratory, wire, plate

    return build


def heat(plate, temperature_c: float = 100.0) -> None:
    plate.set_temperature(temperature_c)
    plate.switch_on()


# Commands and answers of the fact sheet.
@pytest.mark.parametrize(
    ("sent", "received"),
    [
        (b"IN_NAME\r\n", b"RCT digital \r\n"),
        (b"IN_PV_1\r\n", b"25.0 1 \r\n"),
        (b"IN_PV_1 \r\n", b"25.0 1 \r\n"),
        (b"IN_PV_2\r\n", b"25.0 2 \r\n"),
        (b"IN_PV_4\r\n", b"0.0 4 \r\n"),
        (b"IN_SP_3\r\n", b"360.0 3 \r\n"),
        (b"OUT_SP_1 60\r\nSTART_1\r\nIN_SP_1\r\n", b"60.0 1 \r\n"),
        (b"OUT_SP_1 60.5\r\n", b""),
        (b"STATUS_1\r\nSTART_1\r\nSTATUS_1\r\nSTOP_1\r\nSTATUS_1\r\n", b"12 1 \r\n11 1 \r\n12 1 \r\n"),
        (b"OUT_SP_4 300\r\nIN_SP_4\r\nSTATUS_4\r\nSTART_4\r\nSTATUS_4\r\n", b"300.0 4 \r\n12 4 \r\n11 4 \r\n"),
        (b"OUT_WD1@60\r\n", b"60 \r\n"),
        (b"OUT_WD2@20\r\nOUT_WD2@0\r\n", b"20 \r\n0 \r\n"),
        (b"OUT_SP_12@20\r\nOUT_SP_42 0\r\n", b"20 \r\n0 \r\n"),
        (b"OUT_WD1@19\r\nOUT_WD1@1501\r\nOUT_WD1@0\r\n", b""),
        (b"START_1\r\nRESET\r\nSTATUS_1\r\n", b"12 1 \r\n"),
        (b"in_name\r\nIN_NAMES\r\nSTATUS_7\r\nOUT_SP_1\r\nNONSENSE\r\n\xff\r\n\r\n", b""),
        (b"OUT_NAME " + b"x" * 80 + b"\r\nIN_NAME\r\n", b"RCT digital \r\n"),
        (b"IN_PV_1", b""),
    ],
)
def test_emulator_answers_as_the_protocol_says(sent, received):
    assert answers(emulator_with(), sent) == received


@given(cuts=st.sets(st.integers(1, 60)))
@settings(max_examples=30, deadline=None)
def test_commands_may_come_in_pieces(cuts):
    stream = b"OUT_SP_1 60\r\nSTART_1\r\nIN_SP_1\r\nSTATUS_1\r\nOUT_WD1@60\r\n"
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    emulator = emulator_with()
    received = b"".join(answers(emulator, stream[a:b]) for a, b in itertools.pairwise(edges))
    assert received == b"60.0 1 \r\n11 1 \r\n60 \r\n"


def test_the_set_point_stays_below_the_safety_limit():
    emulator = emulator_with(safety_c=150.0, clamp_k=50.0)
    assert answers(emulator, b"OUT_SP_1 120\r\nIN_SP_1\r\n") == b"100.0 1 \r\n"
    emulator.turn_down_safety(2.0, 100.0)
    assert answers(emulator, b"IN_SP_1\r\n", 3.0) == b"50.0 1 \r\n"


def test_watchdog_1_trips_at_its_moment_whether_or_not_anybody_looks():
    laboratory = create(None, None, 0)
    emulator = IKAEmulator(laboratory, "heating_stage", {})
    answers(emulator, b"OUT_SP_1 100\r\nSTART_1\r\nSTART_4\r\nOUT_WD1@60\r\n", 10.0)
    answers(emulator, b"OUT_WD1@60\r\n", 69.0)
    assert laboratory.thermal.is_controlled(128.9) and not laboratory.thermal.is_controlled(129.0)
    assert answers(emulator, b"STATUS_1\r\nSTATUS_4\r\n", 200.0) == b"12 1 \r\n12 4 \r\n"
    assert emulator.tripped
    # Er 2 cannot be cleared over the interface.
    assert answers(emulator, b"START_1\r\nOUT_WD2@0\r\nRESET\r\nSTART_1\r\nSTATUS_1\r\n", 201.0) == b"0 \r\n12 1 \r\n"
    emulator.power_cycle(300.0)
    assert answers(emulator, b"OUT_SP_1 100\r\nSTART_1\r\nSTATUS_1\r\n", 301.0) == b"11 1 \r\n"
    assert laboratory.thermal.is_controlled(2000.0)


def test_watchdog_2_falls_back_and_can_be_cancelled():
    laboratory = create(None, None, 0)
    emulator = IKAEmulator(laboratory, "heating_stage", {})
    answers(emulator, b"OUT_SP_12@40\r\nOUT_SP_1 100\r\nSTART_1\r\nOUT_WD2@60\r\n", 10.0)
    assert laboratory.thermal.temperature_c(5000.0) == pytest.approx(40.0, abs=2.0)
    assert answers(emulator, b"OUT_SP_1 100\r\nIN_SP_1\r\nSTATUS_1\r\n", 70.0) == b"40.0 1 \r\n11 1 \r\n"
    assert answers(emulator, b"OUT_WD2@0\r\nOUT_SP_1 100\r\nIN_SP_1\r\n", 71.0) == b"0 \r\n100.0 1 \r\n"
    assert laboratory.thermal.temperature_c(5000.0) == pytest.approx(100.0, abs=2.0)


def test_feeding_does_not_disturb_the_temperature():
    courses = []
    for fed in (True, False):
        laboratory = create(None, None, 0)
        emulator = IKAEmulator(laboratory, "heating_stage", {})
        answers(emulator, b"OUT_SP_1 100\r\nSTART_1\r\n", 1.0)
        for t in range(10, 1500, 10):
            answers(emulator, b"OUT_WD1@60\r\n" if fed else b"IN_NAME\r\n", float(t))
        courses.append([laboratory.thermal.temperature_c(t) for t in (100.0, 700.0, 1000.0, 1499.0)])
    assert courses[0] == courses[1]


def test_operating_mode_b_goes_on_after_power_on_and_a_does_not():
    for mode, status in ((b"B", b"11 1 \r\n"), (b"A", b"12 1 \r\n")):
        emulator = emulator_with()
        answers(emulator, b"SET_MODE_" + mode + b"\r\nOUT_SP_1 100\r\nSTART_1\r\n")
        emulator.power_cycle(50.0)
        assert answers(emulator, b"STATUS_1\r\n", 51.0) == status


def test_a_probe_in_the_air_lets_the_plate_heat_up_to_its_safety_limit():
    laboratory = create(None, None, 0)
    emulator = IKAEmulator(laboratory, "heating_stage", {"probe": "out", "safety_c": 200.0})
    answers(emulator, b"OUT_SP_1 100\r\nSTART_1\r\n")
    assert laboratory.thermal.temperature_c(5000.0) == pytest.approx(200.0, abs=2.0)
    assert answers(emulator, b"IN_PV_1\r\n", 5000.0).startswith(b"25.")


def test_serves_its_role_and_says_who_it_is(stand):
    _, _, plate = stand()
    assert isinstance(plate, HeatingStage) and isinstance(plate, DeadMan) and isinstance(plate, TellsReadiness)
    assert plate.identify() == Identity("IKA", "RCT digital")
    assert plate.range_c == (0.0, 310.0)
    assert IKAHotplate.LINK.data_bits == 7 and IKAHotplate.LINK.parity == "E" and IKAHotplate.LINK.stop_bits == 1


@pytest.mark.parametrize(("model", "name"), [("RET control-visc", "IKARET"), ("C-MAG HS", "C-MAG HS7")])
def test_another_model(stand, model, name):
    _, _, plate = stand(driver={"model": model}, model=model)
    assert plate.identify().model == name
    _, _, plate = stand(driver={"model": model}, model=model, device_name="oven 3")
    assert plate.identify().model == "oven 3"
    _, _, plate = stand(driver={"model": model})
    with pytest.raises(InstrumentError, match="calls itself 'RCT digital'"):
        plate.identify()


def test_heating_writes_the_set_point_before_and_after_the_start_and_reads_all_back(stand, clock):
    laboratory, wire, plate = stand(restores_front_panel=True, front_panel_c=20.0)
    heat(plate, 60.0)
    assert wire.sent == [
        *(b"OUT_SP_1 60.0\r\n", b"IN_SP_1\r\n"),
        *(b"IN_PV_2\r\n", b"IN_PV_1\r\n", b"START_1\r\n", b"STATUS_1\r\n", b"OUT_SP_1 60.0\r\n", b"IN_SP_1\r\n"),
    ]
    assert plate.is_on and plate.setpoint_c == 60.0
    clock.sleep(3600.0)
    assert plate.temperature_c == pytest.approx(laboratory.thermal.temperature_c(clock.now()), abs=0.1)
    assert plate.plate_temperature_c == pytest.approx(60.0, abs=1.0)
    plate.switch_off()
    assert not plate.is_on and not laboratory.thermal.is_controlled(clock.now())


def test_commands_keep_their_distance(stand, clock):
    _, wire, plate = stand(driver={"pause_s": 0.5}, drops_fast=True)
    before = clock.now()
    heat(plate, 60.0)
    assert clock.now() - before >= 0.5 * (len(wire.sent) - 1)
    assert plate.is_on


def test_commands_that_are_dropped_without_a_pause_do_not_pass_unnoticed(stand):
    with pytest.raises(InstrumentTimeout):
        stand(driver={"pause_s": 0.0}, drops_fast=True)[2].set_temperature(50.0)


def test_a_set_point_above_what_the_safety_limit_allows_is_refused(stand):
    _, _, plate = stand(safety_c=120.0, clamp_k=50.0)
    with pytest.raises(InstrumentError, match="did not take a set-point of 100") as caught:
        plate.set_temperature(100.0)
    assert "IN_SP_3) stands at 120 degC" in caught.value.todo and "it holds 70 degC" in caught.value.state
    assert plate.safety_limit_c == 120.0


def test_a_set_point_that_cannot_be_is_refused_before_anything_is_sent(stand):
    _, wire, plate = stand()
    for wrong_c in (-1.0, 310.5, float("nan")):
        with pytest.raises(InputError, match="beyond the RCT digital"):
            plate.set_temperature(wrong_c)
    assert wire.sent == []


def test_set_points_are_rounded_as_the_plate_does_and_no_further(stand):
    _, _, plate = stand(step_k=1.0)
    assert plate.set_temperature(60.4) == 60.0
    heat(plate, 60.4)
    assert plate.temperature_c < 60.0
    _, _, plate = stand()
    assert plate.set_temperature(60.04) == 60.0 and plate.set_temperature(61.2) == 61.2


def test_a_set_point_that_gets_lost_after_the_start_switches_the_heater_off_again(stand):
    _, wire, plate = stand(restores_front_panel=True, front_panel_c=300.0)
    plate.set_temperature(60.0)
    seen = []

    def lose_what_follows_the_start(data: bytes) -> bytes:
        seen.append(data)
        return b"" if b"START_1\r\n" in seen and data.startswith(b"OUT_SP_1") else data

    wire.damage_command = lose_what_follows_the_start
    with pytest.raises(InstrumentError, match="did not take a set-point of 60") as caught:
        plate.switch_on()
    assert caught.value.state == "the heater is off"
    wire.damage_command = lambda data: data
    assert not plate.is_on


def test_one_command_that_gets_lost_is_sent_again(stand):
    _, wire, plate = stand()
    for word in (b"OUT_SP_1", b"START_1", b"STOP_1", b"STATUS_1", b"IN_SP_1"):
        lost = []

        def lose_one(data: bytes, word=word, lost=lost) -> bytes:
            if data.startswith(word) and not lost:
                lost.append(data)
                return b""
            return data

        wire.damage_command = lose_one
        heat(plate, 70.0)
        assert plate.is_on and plate.setpoint_c == 70.0
        plate.switch_off()
        assert lost and not plate.is_on


@pytest.mark.parametrize("unplugged_c", [-200.0, 0.0, 999.9, 1200.0])
def test_nothing_is_heated_with_an_implausible_probe(stand, clock, unplugged_c):
    laboratory, wire, plate = stand()
    heat(plate, 120.0)
    clock.sleep(1800.0)
    plate.switch_off()
    wire.emulator.options = wire.emulator.options.model_copy(update={"unplugged_c": unplugged_c})
    wire.emulator.move_probe(clock.now(), "unplugged")
    with pytest.raises(InstrumentError, match="IN_PV_1") as caught:
        plate.switch_on()
    assert "not switched on" in caught.value.state
    assert not plate.is_on and not laboratory.thermal.is_controlled(clock.now())
    assert not plate.readiness()[0].ok


def test_a_probe_that_slips_out_is_noticed_while_heating_and_starves_the_watchdog(stand, clock):
    laboratory, wire, plate = stand()
    heat(plate, 120.0)
    plate.arm(60.0)
    wire.emulator.move_probe(clock.now(), "out")
    for _ in range(100):
        clock.sleep(15.0)
        try:
            plate.feed()
        except InstrumentError as error:
            found = error
            break
    assert "the probe (IN_PV_1) reads 25 degC" in found.what and found.state == "the heater is on"
    with pytest.raises(InstrumentError, match="the probe"):
        _ = plate.temperature_c
    clock.sleep(60.0)
    assert not laboratory.thermal.is_controlled(clock.now())


def test_without_a_probe_the_surface_is_the_temperature(stand):
    _, wire, plate = stand(driver={"sensor": "plate"}, probe="unplugged", unplugged_c=999.9)
    assert plate.temperature_c == 25.0
    assert wire.sent == [b"IN_PV_2\r\n"]


def test_a_plate_found_heating_is_switched_off_at_the_start(stand, clock):
    laboratory, _, plate = stand(start_up=False, heating=True, front_panel_c=150.0)
    assert laboratory.thermal.is_controlled(clock.now())
    plate.start_up()
    assert not plate.is_on and not laboratory.thermal.is_controlled(clock.now())


@pytest.mark.parametrize(
    "options",
    [
        {"awkward": True},
        {"watchdog_s": 20, "watchdog_mode": 2, "heating": True, "front_panel_c": 80.0},
        {"speed_rpm": 300.0},
        {"echo_channel": True},
    ],
)
def test_an_awkward_start(stand, clock, options):
    _, wire, plate = stand(start_up=False, **options)
    clock.sleep(30.0)
    plate.start_up()
    assert plate.arm(60.0) == 60.0
    heat(plate, 60.0)
    assert plate.is_on and plate.setpoint_c == 60.0
    clock.sleep(30.0)
    assert wire.emulator.is_heating(clock.now())


def test_a_plate_that_has_tripped_says_what_to_do(stand):
    _, _, plate = stand(tripped=True)
    plate.set_temperature(60.0)
    with pytest.raises(InstrumentError, match="heater is still off after START_1") as caught:
        plate.switch_on()
    assert "Er 2" in caught.value.todo and "off and on" in caught.value.todo


def test_a_plate_that_lost_its_power_is_noticed(stand, clock):
    _, wire, plate = stand()
    heat(plate)
    wire.emulator.power_cycle(clock.now())
    with pytest.raises(InstrumentError, match="off, though it was switched on"):
        _ = plate.temperature_c
    with pytest.raises(InstrumentError, match="off, though it was switched on"):
        plate.feed()
    plate.start_up()
    assert plate.temperature_c == pytest.approx(25.0, abs=1.0)


def test_after_a_power_cycle_the_watchdog_falls_back_as_before(stand, clock):
    laboratory, wire, plate = stand()
    plate.arm(60.0)
    wire.emulator.power_cycle(clock.now())
    plate.start_up()
    heat(plate)
    plate.feed()
    clock.sleep(61.0)
    assert not laboratory.thermal.is_controlled(clock.now())


def test_the_watchdog_is_armed_fed_and_cancelled(stand, clock):
    laboratory, wire, plate = stand()
    assert plate.arm(60.0) == 60.0
    assert wire.sent == [b"OUT_SP_12@0\r\n", b"OUT_SP_42@0\r\n", b"OUT_WD2@60\r\n"]
    heat(plate)
    for _ in range(20):
        clock.sleep(50.0)
        plate.feed()
    assert plate.is_on and laboratory.thermal.is_controlled(clock.now())
    assert wire.sent[-3:-1] == [b"STATUS_1\r\n", b"IN_SP_1\r\n"]
    plate.disarm()
    assert wire.sent[-1] == b"OUT_WD2@0\r\n"
    clock.sleep(500.0)
    assert laboratory.thermal.is_controlled(clock.now())
    assert plate.arm(3.0) == 20.0 and plate.arm(1e6) == 1500.0 and plate.arm(20.5) == 21.0


def test_a_watchdog_that_has_acted_is_noticed_and_a_new_start_makes_it_good(stand, clock):
    laboratory, wire, plate = stand()
    plate.arm(60.0)
    heat(plate)
    clock.sleep(61.0)
    assert not laboratory.thermal.is_controlled(clock.now()) and wire.emulator.fell_back is False
    with pytest.raises(InstrumentError, match=r"holds 0 degC, though 100 degC were set"):
        plate.feed()
    assert wire.emulator.fell_back
    with pytest.raises(InstrumentError, match="holds 0 degC"):
        _ = plate.temperature_c
    with pytest.raises(InstrumentError, match="did not take a set-point") as caught:
        plate.set_temperature(90.0)
    assert "watchdog" in caught.value.todo
    plate.start_up()
    plate.arm(60.0)
    heat(plate)
    assert laboratory.thermal.is_controlled(clock.now())


def test_watchdog_1_trips_for_good_and_cannot_be_cancelled(stand, clock):
    laboratory, wire, plate = stand(driver={"watchdog": 1})
    assert plate.arm(60.0) == 60.0 and wire.sent == [b"OUT_WD1@60\r\n"]
    heat(plate)
    clock.sleep(59.0)
    plate.feed()
    assert plate.is_on
    with pytest.raises(InstrumentError, match="cannot be cancelled") as caught:
        plate.disarm()
    assert wire.sent[-1] == b"OUT_WD1@1500\r\n" and "1500 s" in caught.value.state
    clock.sleep(1501.0)
    assert not laboratory.thermal.is_controlled(clock.now())
    with pytest.raises(InstrumentError, match="off, though it was switched on") as caught:
        plate.feed()
    assert "Er 2" in caught.value.todo and wire.emulator.tripped


def test_an_echo_that_differs_is_refused(stand):
    _, wire, plate = stand()
    wire.damage_reply = lambda t, data: [(t, data.replace(b"60 ", b"90 "))]
    with pytest.raises(InstrumentError, match="OUT_WD2@60 by 90"):
        plate.arm(60.0)


class Meals:
    """A clock for whoever feeds, on virtual time: it lives for so many meals, and is then left."""

    virtual = False

    def __init__(self, clock: VirtualClock, meals: int) -> None:
        self.clock = clock
        self.left = meals
        self.over = threading.Event()

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        if self.left == 0:
            self.over.set()
            return True
        self.left -= 1
        self.clock.sleep(timeout_s)
        return False


@pytest.mark.parametrize("watchdog", [1, 2])
def test_a_run_that_freezes_lets_the_plate_cool(stand, clock, monkeypatch, watchdog):
    laboratory, wire, plate = stand(driver={"watchdog": watchdog})
    heat(plate)
    meals = Meals(clock, 16)
    frozen_after = 8
    monkeypatch.setattr("labctl.bench.dead_man.RealClock", lambda: meals)
    dead_men = DeadMen({"heating_stage": plate}, lambda: meals.left >= frozen_after)
    begun_s = clock.now()
    assert dead_men.arm() == {} and dead_men.roles == ("heating_stage",)
    assert meals.over.wait(30.0)
    fed = [command for command in wire.sent if command.startswith(b"OUT_WD")]
    assert len(fed) == 1 + frozen_after and dead_men.warnings == []
    last_meal_s = begun_s + 15.0 * frozen_after
    assert laboratory.thermal.is_controlled(last_meal_s + 55.0)
    assert not laboratory.thermal.is_controlled(last_meal_s + 65.0)
    assert not wire.emulator.is_heating(clock.now()) and wire.emulator.tripped == (watchdog == 1)


def test_a_run_that_ends_properly_leaves_a_plate_that_does_not_trip(stand, clock, monkeypatch):
    _, wire, plate = stand()
    meals = Meals(clock, 4)
    monkeypatch.setattr("labctl.bench.dead_man.RealClock", lambda: meals)
    heat(plate)
    dead_men = DeadMen({"heating_stage": plate}, lambda: True)
    dead_men.arm()
    assert meals.over.wait(30.0)
    report = SafeReport(tuple(RoleStep("heating_stage", step) for step in plate.make_safe()))
    assert report.state == "confirmed"
    dead_men.leave(report)
    clock.sleep(5000.0)
    heat(plate)
    assert plate.is_on and not wire.emulator.fell_back and not wire.emulator.tripped


@pytest.mark.parametrize("state", ["off", "heating", "tripped", "fell back", "out of step", "stirring"])
def test_make_safe_in_each_state(stand, clock, state):
    laboratory, wire, plate = stand(tripped=state == "tripped", speed_rpm=200.0 if state == "stirring" else 0.0)
    if state in ("heating", "fell back", "out of step"):
        plate.arm(60.0)
        heat(plate, 150.0)
        clock.sleep(55.0)
    if state == "fell back":
        clock.sleep(10.0)
    if state == "out of step":
        wire.damage_reply = lambda t, data: []
        with pytest.raises(InstrumentTimeout):
            _ = plate.setpoint_c
        wire.damage_reply = lambda t, data: [(t, data)]
    wire.sent.clear()
    steps = plate.make_safe()
    assert wire.sent[0] == b"STOP_1\r\n"
    assert [step.action for step in steps] == ["switch off the heater", "lower the set-point", "stop the stirrer"]
    assert all(step.confirmed for step in steps), steps
    assert (
        answers(wire.emulator, b"STATUS_1\r\nSTATUS_4\r\nIN_SP_1\r\n", clock.now()) == b"12 1 \r\n12 4 \r\n0.0 1 \r\n"
    )
    assert not laboratory.thermal.is_controlled(clock.now())


def test_the_evidence_of_the_safe_state_says_how_hot_the_plate_is(stand, clock):
    _, _, plate = stand()
    heat(plate, 150.0)
    clock.sleep(3600.0)
    heater = plate.make_safe()[0]
    assert "received b'12 1 " in heater.evidence and "THE PLATE IS STILL HOT: 15" in heater.evidence
    clock.sleep(36000.0)
    assert "the plate: 25 degC" in plate.make_safe()[0].evidence


def test_make_safe_of_a_dead_plate_says_what_to_do(stand, clock):
    _, wire, plate = stand()
    heat(plate)
    wire.damage_command = lambda data: b""
    before = clock.now()
    steps = plate.make_safe()
    assert not any(step.confirmed for step in steps)
    assert "THE PLATE MAY HEAT" in steps[0].evidence
    assert clock.now() - before < 5.0


def test_make_safe_with_a_heater_that_stays_on(stand):
    _, wire, plate = stand()
    heat(plate)
    wire.damage_command = lambda data: b"" if data.startswith(b"STOP_1") else data
    heater, setpoint, motor = plate.make_safe()
    assert not heater.confirmed and "the heater is on after STOP_1" in heater.evidence
    assert setpoint.confirmed and motor.confirmed


def test_make_safe_over_a_new_connection(clock):
    emulator = IKAEmulator(create(None, None, 0), "heating_stage", {})
    links = []

    def connect() -> EmulatorLink:
        links.append(EmulatorLink(emulator, clock))
        return links[-1]

    plate = IKAHotplate(WireAdapter(connect, IKAHotplate.LINK, clock), clock=clock)
    plate.start_up()
    heat(plate)
    links[-1].close()
    with pytest.raises(ConnectionLost):
        _ = plate.temperature_c
    assert all(step.confirmed for step in plate.make_safe())
    assert len(links) == 2 and not emulator.is_heating(clock.now())


def test_a_late_answer_does_not_answer_the_next_question(stand, clock):
    _, wire, plate = stand()
    plate.set_temperature(80.0)
    late = [1.2]
    wire.damage_reply = lambda t, data: [(t + (late.pop() if late else 0.0), data)]
    assert plate.is_on is False
    plate.switch_on()
    assert plate.is_on and plate.setpoint_c == 80.0


@pytest.mark.parametrize(
    "answer",
    [b"24.5 2 \r\n", b"24.5\r\n", b"24,5 1 \r\n", b"24.5 1 x\r\n", b"\xb24.5 1 \r\n", b"nan 1 \r\n", b" 1 \r\n"],
)
def test_an_answer_that_is_no_temperature_shows_its_bytes(stand, answer):
    _, wire, plate = stand()
    wire.damage_reply = lambda t, data: [(t, answer if b" 1 " in data else data)]
    with pytest.raises(InstrumentError) as caught:
        _ = plate.temperature_c
    assert repr(answer) in str(caught.value) and "IN_PV_1" in str(caught.value)


def test_a_decimal_point_that_gets_lost_is_asked_for_again(stand):
    _, wire, plate = stand()
    assert plate.temperature_c == 25.0
    damages = [b"."]
    wire.damage_reply = lambda t, data: [(t, data.replace(damages.pop() if damages else b"?", b""))]
    assert plate.plate_temperature_c == 25.0 and damages == []


def test_a_plate_that_shows_fewer_decimals_from_a_hundred_on_is_read(stand):
    _, wire, plate = stand()
    wire.damage_reply = lambda t, data: [(t, data.replace(b"100.0", b"100"))]
    assert plate.set_temperature(60.5) == 60.5 and plate.set_temperature(100.0) == 100.0
    assert plate.set_temperature(99.9) == 99.9


def test_nothing_answers(stand):
    _, wire, plate = stand(start_up=False)
    wire.damage_reply = lambda t, data: []
    with pytest.raises(InstrumentTimeout) as caught:
        plate.start_up()
    assert "even parity" in caught.value.todo


def test_the_stirrer(stand):
    _, _, plate = stand()
    assert plate.set_speed(300.0) == 300.0 and plate.speed_rpm == 300.0
    assert plate.set_speed(0.0) == 0.0 and plate.speed_rpm == 0.0
    for wrong_rpm in (20.0, 1600.0, float("nan")):
        with pytest.raises(InputError, match="cannot turn"):
            plate.set_speed(wrong_rpm)


def test_what_a_bench_file_may_say():
    assert IKAHotplate.Options.model_validate({"watchdog": 1, "sensor": "plate"}).pause_s == 0.5
    for wrong in ({"watchdog": 3}, {"sensor": "air"}, {"fall_back_c": 60.0}, {"pause": 1.0}):
        with pytest.raises(ValueError, match="validation error"):
            IKAHotplate.Options.model_validate(wrong)


def test_a_safe_step_has_one_line(stand):
    _, wire, plate = stand()
    wire.damage_command = lambda data: b""
    assert all(isinstance(step, SafeStep) and "\n" not in step.evidence for step in plate.make_safe())
