"""The APT mounts as attenuators: the real driver over the emulators, whole and damaged."""

from __future__ import annotations

import itertools
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.attenuator.apt_messages import CHANNEL, HOST, UNIT, Message, MessageId, StatusBits, long_message
from drivers.attenuator.apt_rotation import K10CR1, KDC101
from drivers.attenuator.emulators.apt_rotation import K10CR1Emulator, KDC101Emulator
from labctl.clock import VirtualClock
from labctl.errors import ConnectionLost, InputError, InstrumentError, InstrumentTimeout
from labctl.roles import Attenuator, Identity
from labctl.sim.laboratory import create
from labctl.sim.link import EmulatorLink
from labctl.transport.adapter import WireAdapter

MOUNTS = {"KDC101": (KDC101, KDC101Emulator), "K10CR1": (K10CR1, K10CR1Emulator)}
COUNTS_PER_DEG = {"KDC101": 1919.6418578623391, "K10CR1": 136533.33}
SERVO_COUNT_DEG = 1 / 1919.6418578623391
MOVE_45 = {
    "KDC101": bytes.fromhex("53 04 06 00 D0 01 01 00 70 51 01 00"),
    "K10CR1": bytes.fromhex("53 04 06 00 D0 01 01 00 00 C0 5D 00"),
}


def near(angle_deg):
    return pytest.approx(angle_deg, abs=2.6 * SERVO_COUNT_DEG)


def build_laboratory():
    return create({"wave_plate": {"initial_deg": 33.0}}, None, 0)


@pytest.fixture(params=MOUNTS)
def model(request):
    return request.param


@pytest.fixture
def stand(clock, adapter_to, tap, model):
    """Get a function that sets up laboratory, tapped emulator and driver; ``start_up`` unless told otherwise."""

    def build(start_up=True, **options):
        driver_class, emulator_class = MOUNTS[model]
        laboratory = build_laboratory()
        wire = tap(emulator_class(laboratory, "attenuator", options))
        driver = driver_class(adapter_to(wire, driver_class.LINK), clock=clock)
        if start_up:
            driver.start_up()
            wire.sent.clear()
        return laboratory, wire, driver

    return build


def sent_ids(wire):
    return [MessageId(int.from_bytes(data[:2], "little")) for data in wire.sent]


def to_host(what, *values):
    return long_message(what, *values, destination=HOST, source=UNIT).encode()


def is_reply(data, what):
    return int.from_bytes(data[:2], "little") == what


# Start


def test_serves_its_role_and_says_who_it_is(stand, model):
    _, _, driver = stand()
    assert isinstance(driver, Attenuator)
    serial = {"KDC101": "27255894", "K10CR1": "55123456"}[model]
    assert driver.identify() == Identity("Thorlabs", model, serial, "2.2.4")
    assert driver.resolution_deg == pytest.approx(1 / COUNTS_PER_DEG[model], rel=1e-7)


def test_line_settings():
    link = KDC101.LINK
    assert (link.baud_rate, link.data_bits, link.parity, link.stop_bits) == (115200, 8, "N", 1)
    assert link.rtscts and link.rts_pulse


def test_start_up_sends_the_known_bytes_and_homes(stand, model, clock):
    laboratory, wire, driver = stand(start_up=False)
    driver.start_up()
    speed = {
        "KDC101": "13 04 0E 00 D0 01 01 00 00 00 00 00 25 01 00 00 69 8D 06 00",
        "K10CR1": "13 04 0E 00 D0 01 01 00 00 00 00 00 59 75 00 00 55 55 5E 04",
    }[model]
    assert wire.sent[:11] == [
        bytes.fromhex(data)
        for data in (
            "12 00 00 00 50 01",
            "05 00 00 00 50 01",
            "29 04 01 00 50 01",
            "6C 04 00 00 50 01",
            "29 04 01 00 50 01",
            speed,
            "14 04 01 00 50 01",
            "3A 04 06 00 D0 01 01 00 00 00 00 00",
            "3B 04 01 00 50 01",
            "43 04 01 00 50 01",
            "29 04 01 00 50 01",
        )
    ]
    assert driver.is_homed and driver.angle_deg == 0.0
    assert laboratory.wave_plate.optical_deg(clock.now()) == pytest.approx(0.0, abs=0.05)


@pytest.mark.parametrize("options", [{"awkward": True}, {"awkward": True, "short_events": True}])
def test_awkward_start(stand, options):
    _, _, driver = stand(**options)
    assert driver.move_to(45.0) == near(45.0)


def test_start_ends_a_motion_left_over(stand, clock):
    _, wire, driver = stand(start_up=False)
    wire.emulator.respond(clock.now(), bytes.fromhex("57 04 01 01 50 01"))
    clock.sleep(2.0)
    driver.start_up()
    ids = sent_ids(wire)
    assert MessageId.STOP in ids and ids.index(MessageId.STOP) < ids.index(MessageId.HOME)
    assert driver.move_to(45.0) == near(45.0)


def test_another_model_is_refused_and_not_moved(clock, adapter_to, tap):
    wire = tap(K10CR1Emulator(build_laboratory(), "attenuator", {}))
    driver = KDC101(adapter_to(wire, KDC101.LINK), clock=clock)
    with pytest.raises(InstrumentError, match="this is a K10CR1, not a KDC101"):
        driver.start_up()
    assert set(sent_ids(wire)) == {MessageId.STOP_UPDATES, MessageId.REQUEST_INFO}


def test_another_stage_is_refused(clock, adapter_to, tap):
    wire = tap(KDC101Emulator(build_laboratory(), "attenuator", {}))
    wire.damage_reply = lambda t, data: [(t, data[:82] + b"\x09\0" + data[84:] if is_reply(data, 6) else data)]
    driver = KDC101(adapter_to(wire, KDC101.LINK), clock=clock)
    with pytest.raises(InstrumentError, match="the stage at this KDC101 is a Z825, not a PRM1-Z8"):
        driver.start_up()
    assert MessageId.HOME not in sent_ids(wire)


def test_a_speed_that_is_not_taken_is_an_error(stand):
    _, wire, driver = stand(start_up=False)
    wire.damage_command = lambda data: data if data[:2] != b"\x13\x04" else data[:16] + b"\x01\0\0\0"
    with pytest.raises(InstrumentError, match="by message 0x0413"):
        driver.start_up()
    assert MessageId.HOME not in sent_ids(wire)


def test_a_channel_that_stays_disabled_is_an_error(stand):
    _, wire, driver = stand(start_up=False, enabled=False)
    wire.damage_command = lambda data: b"" if data[:2] == b"\x10\x02" else data
    with pytest.raises(InstrumentError, match="cannot be enabled"):
        driver.start_up()


# Moves


def test_move_sends_the_known_bytes_and_turns_the_plate(stand, model, clock):
    laboratory, wire, driver = stand()
    assert driver.move_to(45.0) == near(45.0)
    assert wire.sent.count(MOVE_45[model]) == 1
    assert laboratory.wave_plate.optical_deg(clock.now()) == pytest.approx(45.0, abs=0.05)
    assert driver.angle_deg == near(45.0)


@pytest.mark.parametrize("model", MOUNTS)
@given(angle_deg=st.floats(0, 360, exclude_max=True))
@settings(max_examples=15, deadline=None)
def test_any_angle_is_reached(model, angle_deg):
    clock = VirtualClock(wall_start=0.0)
    driver_class, emulator_class = MOUNTS[model]
    emulator = emulator_class(build_laboratory(), "attenuator", {})
    driver = driver_class(WireAdapter(lambda: EmulatorLink(emulator, clock), driver_class.LINK, clock), clock=clock)
    driver.start_up()
    assert driver.move_to(angle_deg) == near(angle_deg)


@pytest.mark.parametrize("angle_deg", [-0.1, 360.0, float("nan"), float("inf")])
def test_angles_out_of_range_are_refused_before_anything_is_sent(stand, angle_deg):
    _, wire, driver = stand()
    with pytest.raises(InputError, match="outside"):
        driver.move_to(angle_deg)
    assert wire.sent == []


def test_no_move_before_homing(stand):
    _, wire, driver = stand(start_up=False)
    with pytest.raises(InstrumentError, match="zero of the mount is not known"):
        driver.move_to(45.0)
    assert wire.sent == []


def test_a_move_goes_straight_to_its_target(stand, clock):
    """The controller's own correction of backlash, on at switch-on, would go beyond and come back."""
    laboratory, _wire, driver = stand()
    driver.move_to(50.0)
    start_s = clock.now()
    driver.move_to(40.0)
    passed = laboratory.wave_plate.optical_deg([start_s + 0.01 * n for n in range(int(100 * (clock.now() - start_s)))])
    assert passed.min() > 39.9


def test_writes_are_spaced(stand, clock):
    _, wire, driver = stand()
    moments = []
    inner = wire.emulator.respond

    def respond(t, data):
        if data:
            moments.append(t)
        return inner(t, data)

    wire.emulator.respond = respond
    driver.move_to(10.0)
    assert len(moments) > 4
    assert min(later - earlier for earlier, later in itertools.pairwise(moments)) > 0.0049


def test_updates_in_between_are_tolerated_and_never_taken_for_an_answer(stand, clock):
    _, wire, driver = stand()
    old = {
        "update": wire.emulator._status_message(clock.now(), wire.emulator.UNIT.status).encode(),
        "event": Message(MessageId.MOVE_COMPLETED, (CHANNEL, 0), None, HOST, UNIT).encode(),
    }
    wire.damage_reply = lambda t, data: [(t, old["update"] + data + old["event"] + old["update"])]
    for angle_deg in (45.0, 20.0):
        assert driver.move_to(angle_deg) == near(angle_deg)


def test_regular_updates_do_no_harm(stand, clock):
    _, wire, driver = stand()
    wire.emulator.respond(clock.now(), bytes.fromhex("11 00 00 00 50 01"))
    clock.sleep(100.0)
    assert driver.move_to(45.0) == near(45.0)
    assert driver.angle_deg == near(45.0)


@pytest.mark.parametrize("model", ["KDC101"], indirect=True)
def test_events_of_a_servo_are_acknowledged(stand):
    _, wire, driver = stand()
    heard = []
    wire.damage_reply = lambda t, data: heard.append(is_reply(data, MessageId.MOVE_COMPLETED)) or [(t, data)]
    for n in range(60):
        driver.move_to(1.0 + n % 2)
    assert sum(heard) == 60
    assert wire.sent.count(bytes.fromhex("92 04 00 00 50 01")) >= 59


@pytest.mark.parametrize("model", ["K10CR1"], indirect=True)
def test_events_of_a_stepper_are_not(stand):
    _, wire, driver = stand()
    driver.move_to(1.0)
    driver.move_to(2.0)
    assert MessageId.ACKNOWLEDGE_DC_STATUS not in sent_ids(wire)


def test_a_lost_event_costs_time_only(stand, clock):
    _, wire, driver = stand()
    wire.damage_reply = lambda t, data: [] if is_reply(data, MessageId.MOVE_COMPLETED) else [(t, data)]
    assert driver.move_to(10.0) == near(10.0)


@given(cuts=st.sets(st.integers(1, 20), max_size=12), gap_s=st.sampled_from([0.0, 0.002, 0.02]))
@settings(max_examples=15, deadline=None)
def test_replies_may_come_in_pieces(cuts, gap_s):
    clock = VirtualClock(wall_start=0.0)

    class InPieces(KDC101Emulator):
        line_free_s = 0.0

        def respond(self, t, data):
            pieces = []
            for moment, reply in super().respond(t, data):
                edges = [0, *sorted(cut for cut in cuts if cut < len(reply)), len(reply)]
                begins_s = max(moment, self.line_free_s)
                pieces += [(begins_s + gap_s * n, reply[a:b]) for n, (a, b) in enumerate(itertools.pairwise(edges))]
                self.line_free_s = pieces[-1][0]
            return pieces

    emulator = InPieces(build_laboratory(), "attenuator", {"velocity_deg_s": 25.0})
    driver = KDC101(WireAdapter(lambda: EmulatorLink(emulator, clock), KDC101.LINK, clock), clock=clock)
    driver.start_up()
    assert driver.move_to(3.0) == near(3.0)


# Faults of the mount


def test_stuck_plate_is_an_error_and_can_be_mended(stand):
    _, wire, driver = stand()
    wire.emulator.stuck = True
    with pytest.raises(InstrumentError, match="motion error") as caught:
        driver.move_to(45.0)
    assert "may stand anywhere" in caught.value.state and not driver.is_homed
    wire.emulator.stuck = False
    driver.home()
    assert driver.move_to(45.0) == near(45.0)


def test_stuck_while_homing(stand):
    _, _, driver = stand(start_up=False, stuck=True)
    with pytest.raises(InstrumentError, match="motion error"):
        driver.start_up()
    assert not driver.is_homed


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Message(MessageId.ERROR, (0, 0), None, HOST, UNIT).encode(), "gives no reason"),
        (
            to_host(MessageId.RICH_ERROR, 0x0453, 10004, b"Supply too low."),
            "fault 10004 about .*0x0453: Supply too low",
        ),
        (to_host(MessageId.RICH_ERROR, 0, 3, b"Too hot."), "fault 3: Too hot"),
    ],
)
def test_error_response_fails_the_command_with_its_text(stand, model, reply, words):
    _, wire, driver = stand()
    wire.damage_reply = lambda t, data: [(t, reply + data if MOVE_45[model] in wire.sent else data)]
    with pytest.raises(InstrumentError, match=words) as caught:
        driver.move_to(45.0)
    assert "may stand anywhere" in caught.value.state
    wire.damage_reply = lambda t, data: [(t, data)]
    assert driver.move_to(30.0) == near(30.0)


def test_refusal_of_a_disabled_channel(stand, clock):
    _, wire, driver = stand()
    wire.emulator.respond(clock.now(), bytes.fromhex("10 02 01 02 50 01"))
    with pytest.raises(InstrumentError, match="the motor is disabled"):
        driver.move_to(45.0)
    assert MessageId.MOVE_ABSOLUTE not in sent_ids(wire)
    driver.start_up()
    assert driver.move_to(45.0) == near(45.0)


def test_limit_switch_is_named(stand, model):
    _, wire, driver = stand()
    wire.emulator.limit_counts = round(20 * COUNTS_PER_DEG[model])
    with pytest.raises(InstrumentError, match=r"stopped at 20\.00.* instead of 45\.0000 deg; .*forward limit"):
        driver.move_to(45.0)


def test_power_cycle_is_noticed_and_homing_mends_it(stand, clock):
    _, wire, driver = stand()
    driver.move_to(45.0)
    wire.emulator.power_cycle(clock.now())
    with pytest.raises(InstrumentError, match="lost its zero"):
        driver.move_to(50.0)
    assert not driver.is_homed and MessageId.MOVE_ABSOLUTE not in sent_ids(wire)[-2:]
    with pytest.raises(InstrumentError, match="zero of the mount is not known"):
        _ = driver.angle_deg
    driver.home()
    assert driver.move_to(50.0) == near(50.0)


def test_power_cycle_during_a_move(stand, clock):
    _, wire, driver = stand()

    def switch_off(data):
        if data[:2] == b"\x29\x04" and clock.now() > off_s and not done:
            done.append(wire.emulator.power_cycle(clock.now()))
        return data

    done, off_s = [], clock.now() + 1.0
    wire.damage_command = switch_off
    with pytest.raises(InstrumentError, match="lost its zero"):
        driver.move_to(90.0)
    assert done and not driver.is_homed


@pytest.mark.parametrize("what", ["counter set", "turned by hand"])
def test_a_counter_that_changed_is_noticed(stand, clock, what):
    _, wire, driver = stand()
    driver.move_to(45.0)
    if what == "counter set":
        wire.emulator.respond(clock.now(), bytes.fromhex("10 04 06 00 D0 01 01 00 05 00 00 00"))
    else:
        wire.emulator.turn_by_hand(clock.now(), 2.0)
        clock.sleep(1.0)
    with pytest.raises(InstrumentError, match=r"counter was set, or it was turned by hand"):
        _ = driver.angle_deg


def test_a_motion_that_does_not_end_is_a_timeout(stand, clock):
    _, wire, driver = stand()
    moving = to_host(MessageId.GET_STATUS_BITS, CHANNEL, 0x80000510)
    wire.damage_reply = lambda t, data: [(t, moving if is_reply(data, MessageId.GET_STATUS_BITS) else data)]
    before = clock.now()
    with pytest.raises(InstrumentTimeout, match="has not ended within 50 s"):
        driver.move_to(45.0)
    assert 50 < clock.now() - before < 52


def test_homing_may_take_long(stand, clock):
    _, wire, driver = stand()
    driver.move_to(350.0)
    homing = wire.emulator._kept[MessageId.GET_HOMING]
    wire.emulator._kept[MessageId.GET_HOMING] = (*homing[:3], homing[3] // 2, homing[4])
    before = clock.now()
    driver.home()
    assert clock.now() - before > 60
    assert driver.move_to(10.0) == near(10.0)


def test_homing_that_never_begins_is_noticed(stand):
    _, wire, driver = stand()
    wire.damage_command = lambda data: b"" if data[:2] == b"\x43\x04" else data
    with pytest.raises(InstrumentError, match="did not begin to home"):
        driver.home()
    assert not driver.is_homed


# Faults of the wire


def corrupt_once(wire, what, damage):
    left = [damage]

    def apply(t, data):
        return left.pop()(t, data) if is_reply(data, what) and left else [(t, data)]

    wire.damage_reply = apply


@pytest.mark.parametrize("what", [MessageId.GET_STATUS_BITS, MessageId.GET_POSITION])
@pytest.mark.parametrize(
    "damage",
    [
        lambda t, data: [],
        lambda t, data: [(t, data[:-3])],
        lambda t, data: [(t, b"\x00\xff\x13" + data)],
        lambda t, data: [(t, data[:3] + data[4:])],
        lambda t, data: [(t, data[:4] + b"\x99" + data[5:])],
        lambda t, data: [(t + 0.7, data)],
        lambda t, data: [(t, b"\x77" + data[1:])],
    ],
    ids=["lost", "truncated", "noise", "byte of the header lost", "address garbled", "late", "identifier garbled"],
)
def test_a_damaged_reply_is_an_error_and_the_next_move_is_right(stand, what, damage):
    _, wire, driver = stand()
    driver.move_to(5.0)
    corrupt_once(wire, what, damage)
    with pytest.raises(InstrumentError):
        for _ in range(2):
            driver.move_to(10.0)
    for angle_deg in (20.0, 15.0):
        assert driver.move_to(angle_deg) == near(angle_deg)
        assert driver.angle_deg == near(angle_deg)


def test_a_lost_move_is_an_error(stand, model):
    _, wire, driver = stand()
    wire.damage_command = lambda data: b"" if data == MOVE_45[model] else data
    with pytest.raises(InstrumentError, match=r"stopped at 0\.0000 deg instead of 45\.0000 deg"):
        driver.move_to(45.0)


def test_half_a_move_is_given_up_by_the_controller(stand, model):
    _, wire, driver = stand()
    wire.damage_command = lambda data: data[:7] if data == MOVE_45[model] else data
    with pytest.raises(InstrumentError):
        driver.move_to(45.0)
    wire.damage_command = lambda data: data
    driver.home()
    assert driver.move_to(45.0) == near(45.0)


def test_flood_of_messages_ends(stand):
    _, wire, driver = stand()
    update = to_host(MessageId.GET_DC_STATUS, CHANNEL, 0, 0, 0, 0)
    wire.damage_reply = lambda t, data: [(t, update * 3000 + data)]
    with pytest.raises(InstrumentError, match="floods"):
        _ = driver.angle_deg


def test_silence_is_named(stand):
    _, wire, driver = stand(start_up=False)
    wire.damage_reply = lambda t, data: []
    with pytest.raises(InstrumentTimeout, match="does not answer"):
        driver.start_up()


# Safe state and goodbye


def test_make_safe_leaves_a_plate_at_rest_and_says_where_it_is(stand):
    _, wire, driver = stand()
    driver.move_to(45.0)
    wire.sent.clear()
    for _ in range(2):
        (step,) = driver.make_safe()
        assert (
            step.confirmed and step.action.startswith("leave") and "deg)" in step.evidence and "homed" in step.evidence
        )
    assert MessageId.STOP not in sent_ids(wire) and MessageId.MOVE_ABSOLUTE not in sent_ids(wire)
    assert driver.angle_deg == near(45.0)


@pytest.mark.parametrize("options", [{}, {"awkward": True}, {"enabled": False}])
def test_make_safe_before_homing_moves_nothing(stand, options):
    _, wire, driver = stand(start_up=False, **options)
    (step,) = driver.make_safe()
    assert step.confirmed
    assert set(sent_ids(wire)) == {
        MessageId.STOP_UPDATES,
        MessageId.REQUEST_INFO,
        MessageId.REQUEST_STATUS_BITS,
        MessageId.REQUEST_POSITION,
    }


@pytest.mark.parametrize("command", ["57 04 01 01 50 01", "43 04 01 00 50 01"], ids=["runs on", "homes"])
def test_make_safe_stops_a_motion(stand, clock, command):
    laboratory, wire, driver = stand()
    driver.move_to(90.0)
    wire.emulator.respond(clock.now(), bytes.fromhex(command))
    clock.sleep(1.0)
    before = clock.now()
    (step,) = driver.make_safe()
    assert step.confirmed and step.action.startswith("stop") and clock.now() - before < 1.0
    assert bytes.fromhex("65 04 01 02 50 01") in wire.sent
    stands = laboratory.wave_plate.optical_deg([clock.now(), clock.now() + 30.0])
    assert stands[0] == stands[1]
    with pytest.raises(InstrumentError, match="zero of the mount is not known"):
        driver.move_to(10.0)


def test_make_safe_stops_at_once_what_does_not_slow_down(stand, clock):
    _, wire, driver = stand()
    wire.emulator.respond(clock.now(), bytes.fromhex("57 04 01 01 50 01"))
    wire.damage_command = lambda data: b"" if data == bytes.fromhex("65 04 01 02 50 01") else data
    clock.sleep(1.0)
    (step,) = driver.make_safe()
    assert step.confirmed and bytes.fromhex("65 04 01 01 50 01") in wire.sent


def test_make_safe_reports_what_does_not_stop(stand, clock):
    _, wire, driver = stand()
    wire.emulator.respond(clock.now(), bytes.fromhex("57 04 01 01 50 01"))
    wire.damage_command = lambda data: b"" if data[:2] == b"\x65\x04" else data
    before = clock.now()
    (step,) = driver.make_safe()
    assert not step.confirmed and "moving forward" in step.evidence and clock.now() - before < 1.6


def test_make_safe_of_a_dead_mount_is_quick_and_unconfirmed(stand, clock):
    _, wire, driver = stand()
    wire.damage_reply = lambda t, data: []
    before = clock.now()
    (step,) = driver.make_safe()
    assert not step.confirmed and "does not answer" in step.evidence
    assert clock.now() - before < 1.0


def test_make_safe_on_a_broken_link_does_not_raise(stand):
    _, _, driver = stand()
    driver.adapter.connection.close()
    (step,) = driver.make_safe()
    assert not step.confirmed and "closed" in step.evidence
    driver.close()


def test_make_safe_interrupts_a_move_under_way(stand, clock):
    _, _wire, driver = stand()
    inside, errors, steps = threading.Event(), [], []

    def move():
        with clock.actor():
            inside.set()
            try:
                driver.move_to(90.0)
            except InstrumentError as error:
                errors.append(error)

    def rescue():
        with clock.actor():
            inside.wait()
            clock.sleep(1.0)
            steps.extend(driver.make_safe())

    threads = [threading.Thread(target=task) for task in (rescue, move)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert len(errors) == 1 and isinstance(errors[0], ConnectionLost)
    assert len(steps) == 1 and steps[0].confirmed and steps[0].action.startswith("stop")


def test_close_says_goodbye_and_leaves_the_plate(stand, clock):
    laboratory, wire, driver = stand()
    driver.move_to(45.0)
    wire.sent.clear()
    driver.close()
    assert wire.sent == [bytes.fromhex("02 00 00 00 50 01")]
    assert laboratory.wave_plate.optical_deg(clock.now()) == pytest.approx(45.0, abs=0.05)


def test_status_bits_are_flags_of_32_bits():
    assert StatusBits(0xFFFFFFFF) & 0x80000000 == StatusBits.ENABLED
