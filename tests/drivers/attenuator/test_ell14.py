from __future__ import annotations

import importlib.util
import itertools
import subprocess
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.attenuator.ell14 import ELL14
from drivers.attenuator.emulators.ell14 import ELL14Emulator
from labctl.clock import VirtualClock
from labctl.errors import ConnectionLost, InputError, InstrumentError, InstrumentTimeout
from labctl.roles import Attenuator, Identity
from labctl.sim.laboratory import create
from labctl.sim.link import EmulatorLink
from labctl.transport.adapter import WireAdapter

PULSE_DEG = 360 / 143360


def conversation(emulator, *commands: bytes, t: float = 0.0) -> bytes:
    """Send commands one after another, each when the last has been answered; get all that came back."""
    answer = b""
    for command in commands:
        for moment, reply in sorted(emulator.respond(t, command), key=lambda reply: reply[0]):
            t = max(t, moment)
            answer += reply
        t += 1e-3
    return answer


@pytest.fixture
def stand(clock, adapter_to, tap):
    """Get a function that sets up laboratory, emulator, tap and driver; ``start_up`` unless told otherwise."""

    def build(start_up: bool = True, address: str = "0", **options):
        laboratory = create({"wave_plate": {"initial_deg": 33.0}}, None, 0)
        wire = tap(ELL14Emulator(laboratory, "attenuator", {"address": address, **options}))
        driver = ELL14(adapter_to(wire, ELL14.LINK), clock=clock, address=address)
        if start_up:
            driver.start_up()
            wire.sent.clear()
        return laboratory, wire, driver

    return build


# The bytes in the following tables are those of the manufacturer's protocol and of traces of other programs.
@pytest.mark.parametrize(
    ("command", "reply"),
    [
        (b"0in", b"0IN0E1140051720231701016800023000\r\n"),
        (b"0gs", b"0GS00\r\n"),
        (b"0gp", b"0PO00000000\r\n"),
        (b"0ma00004600", b"0PO00004600\r\n"),
        (b"0ma00008C00", b"0PO00008C00\r\n"),
        (b"0mrFFFFFF00", b"0POFFFFFF00\r\n"),
        (b"0ho0", b"0PO00000000\r\n"),
        (b"0ho00", b"0PO00000000\r\n"),
        (b"0ho1", b"0PO00000000\r\n"),
        (b"0gj", b"0GJ00000000\r\n"),
        (b"0go", b"0HO00000000\r\n"),
        (b"0gv", b"0GV64\r\n"),
        (b"0sv32", b"0GS00\r\n"),
        (b"0sv65", b"0GS04\r\n"),
        (b"0us", b"0GS00\r\n"),
        (b"0ca3", b"3GS00\r\n"),
        (b"0st", b"0GS00\r\n"),
        (b"0zz", b"0GS03\r\n"),
        (b"1gp", b""),
        (b"\r\n", b""),
    ],
)
def test_emulator_answers_as_the_protocol_says(command, reply):
    emulator = ELL14Emulator(create(None, None, 0), "attenuator", {"jitter_pulses": 0})
    assert conversation(emulator, command) == reply
    # Whatever the end of the command was, the next one is understood.
    assert conversation(emulator, b"\r\n", b"0gv" if command != b"0ca3" else b"3gv", t=5.0)[-7:-4] in (b"0GV", b"3GV")


@pytest.mark.parametrize("end", [b"", b"\r", b"\r\n"])
@given(cuts=st.sets(st.integers(1, 30)))
@settings(max_examples=30, deadline=None)
def test_commands_are_framed_by_their_length(end, cuts):
    stream = end.join([b"0sj00000123", b"0gj", b"0ho00", b"0gp", b"0gs", b""])
    emulator = ELL14Emulator(create(None, None, 0), "attenuator", {"jitter_pulses": 0, "settle_s": 0.0})
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    pieces = [stream[a:b] for a, b in itertools.pairwise(edges)]
    assert conversation(emulator, *pieces) == b"0GS00\r\n0GJ00000123\r\n0PO00000000\r\n0PO00000000\r\n0GS00\r\n"


def test_busy_while_moving_then_announces_the_position():
    emulator = ELL14Emulator(create(None, None, 0), "a", {"jitter_pulses": 0, "reply_s": 0.0, "speed_deg_s": 90.0})
    ((ends_s, position),) = emulator.respond(0.0, b"0ma00008C00")
    assert ends_s == pytest.approx(1.0 + 0.05) and position == b"0PO00008C00\r\n"
    assert emulator.respond(0.5, b"0gs") == [(0.5, b"0GS09\r\n")]
    assert emulator.respond(0.5, b"0gp") == [(0.5, b"0PO000042AB\r\n")]
    assert emulator.respond(0.5, b"0ma00000000") == [(0.5, b"0GS09\r\n")]
    assert emulator.respond(2.0, b"0gs") == [(2.0, b"0GS00\r\n")]


def test_half_a_command_is_given_up():
    emulator = ELL14Emulator(create(None, None, 0), "attenuator", {})
    assert emulator.respond(0.0, b"0ma0000") == []
    gives_up_s = emulator.next_event()
    assert gives_up_s is not None
    assert emulator.respond(gives_up_s, b"") == [(gives_up_s, b"0GS01\r\n")]
    assert conversation(emulator, b"0gs", t=1.0) == b"0GS00\r\n"


def test_rest_position_depends_on_the_target_alone():
    def rests(*targets):
        emulator = ELL14Emulator(create(None, None, 0), "attenuator", {})
        replies = [conversation(emulator, b"0ma%08X" % target, t=10.0 * n) for n, target in enumerate(targets)]
        return dict(zip(targets, replies, strict=True))

    assert rests(100, 5000, 17920) == rests(17920, 100, 5000)
    off = [int(reply[3:11], 16) - target for target, reply in rests(*range(1000, 60000, 1000)).items()]
    assert set(off) == {-2, -1, 0, 1, 2}


def test_start_up_identifies_and_homes_once_and_nothing_else_moves(stand):
    laboratory, wire, driver = stand(start_up=False)
    driver.start_up()
    assert wire.sent == [b"0gj", b"0in", b"0gs", b"0ho0", b"0gs", b"0gp", b"0sj00000191", b"0gj"]
    assert driver.angle_deg == 0.0
    assert laboratory.wave_plate.optical_deg(driver.clock.now()) == pytest.approx(0.0, abs=0.05)


def test_serves_its_role_and_says_who_it_is(stand):
    _, _, driver = stand()
    assert isinstance(driver, Attenuator)
    assert driver.identify() == Identity("Thorlabs", "ELL14", "11400517", "17")
    assert driver.resolution_deg == pytest.approx(PULSE_DEG)


def test_move_sends_the_known_bytes_and_turns_the_plate(stand, clock):
    laboratory, wire, driver = stand(jitter_pulses=0)
    assert driver.move_to(45.0) == 45.0
    assert wire.sent == [b"0gp", b"0gs", b"0ma00004600", b"0gs", b"0gp", b"0gj"]
    assert driver.move_to(90.0) == 90.0
    assert wire.sent[8] == b"0ma00008C00"
    assert laboratory.wave_plate.optical_deg(clock.now()) == pytest.approx(90.0, abs=0.05)


@given(angle_deg=st.floats(0, 360, exclude_max=True))
@settings(max_examples=50, deadline=None)
def test_any_angle_is_reached_within_the_jitter(angle_deg):
    clock = VirtualClock(wall_start=0.0)
    emulator = ELL14Emulator(create(None, None, 0), "attenuator", {})
    driver = ELL14(WireAdapter(lambda: EmulatorLink(emulator, clock), ELL14.LINK, clock), clock=clock)
    driver.start_up()
    error = driver.move_to(angle_deg) - angle_deg
    assert abs((error + 180) % 360 - 180) <= 2.6 * PULSE_DEG


@pytest.mark.parametrize("angle_deg", [-0.1, 360.0, float("nan"), float("inf")])
def test_angles_out_of_range_are_refused_before_anything_is_sent(stand, angle_deg):
    _, wire, driver = stand()
    with pytest.raises(InputError, match="outside"):
        driver.move_to(angle_deg)
    assert wire.sent == []


def test_moves_are_at_least_100_ms_apart(stand, clock):
    _, wire, driver = stand()
    moments = []
    inner = wire.emulator.respond

    def respond(t, data):
        replies = inner(t, data)
        moments.extend((t, moment) for moment, _ in replies if data[1:3] in (b"ma", b"ho"))
        return replies

    wire.emulator.respond = respond
    driver.move_to(10.0)
    driver.move_to(20.0)
    driver.home()
    assert len(moments) == 3
    assert all(later[0] - earlier[1] >= 0.1 for earlier, later in itertools.pairwise(moments))


@pytest.mark.parametrize("interim_busy", [False, True])
def test_busy_before_the_position_is_waited_out(stand, interim_busy, clock):
    _, _, driver = stand(interim_busy=interim_busy, speed_deg_s=10.0)
    before = clock.now()
    assert driver.move_to(30.0) == pytest.approx(30.0, abs=3 * PULSE_DEG)
    assert clock.now() - before > 3.0


def test_a_position_that_comes_before_the_end_is_not_believed(stand):
    _, wire, driver = stand(speed_deg_s=30.0)
    wire.damage_reply = lambda t, data: [(min(t, driver.clock.now() + 0.01), data)]
    assert driver.move_to(30.0) == pytest.approx(30.0, abs=3 * PULSE_DEG)
    assert wire.sent.count(b"0gs") > 10


@pytest.mark.parametrize("options", [{"awkward": True}, {"awkward": True, "interim_busy": True}])
def test_awkward_start(stand, options):
    _, _, driver = stand(**options)
    assert driver.move_to(45.0) == pytest.approx(45.0, abs=3 * PULSE_DEG)


def test_another_address(stand):
    _, wire, driver = stand(address="B")
    driver.move_to(45.0)
    assert b"Bma00004600" in wire.sent


def test_wrong_address_is_named(clock, adapter_to):
    emulator = ELL14Emulator(create(None, None, 0), "attenuator", {"address": "2"})
    driver = ELL14(adapter_to(emulator, ELL14.LINK), clock=clock)
    with pytest.raises(InstrumentTimeout, match="address"):
        driver.start_up()


def test_wrong_model_is_refused_and_not_moved(stand):
    _, wire, driver = stand(start_up=False)
    wire.damage_reply = lambda t, data: [(t, data.replace(b"IN0E", b"IN09"))]
    with pytest.raises(InstrumentError, match="ELL9"):
        driver.start_up()
    assert b"0ho0" not in wire.sent


@pytest.mark.parametrize("option", [{"address": "G"}, {"address": "10"}, {"adress": "0"}])
def test_wrong_options_are_refused(clock, adapter_to, option):
    with pytest.raises(ValueError):
        ELL14(adapter_to(ELL14Emulator(create(None, None, 0), "a", {}), ELL14.LINK), clock=clock, **option)


@given(cuts=st.sets(st.integers(1, 12)))
@settings(max_examples=20, deadline=None)
def test_replies_may_come_in_pieces(cuts):
    clock = VirtualClock(wall_start=0.0)

    class InPieces(ELL14Emulator):
        def respond(self, t, data):
            pieces = []
            for moment, reply in super().respond(t, data):
                edges = [0, *sorted(cuts), len(reply)]
                pieces += [(moment + 0.002 * n, reply[a:b]) for n, (a, b) in enumerate(itertools.pairwise(edges))]
            return [piece for piece in pieces if piece[1]]

    emulator = InPieces(create(None, None, 0), "attenuator", {})
    driver = ELL14(WireAdapter(lambda: EmulatorLink(emulator, clock), ELL14.LINK, clock), clock=clock)
    driver.start_up()
    assert driver.move_to(45.0) == pytest.approx(45.0, abs=3 * PULSE_DEG)


def test_stuck_plate_is_an_error_in_words(stand):
    _, wire, driver = stand()
    wire.emulator.stuck = True
    with pytest.raises(InstrumentError, match="mechanical time-out") as caught:
        driver.move_to(45.0)
    assert "0GS02" in caught.value.exchange.received
    wire.emulator.stuck = False
    assert driver.move_to(45.0) == pytest.approx(45.0, abs=3 * PULSE_DEG)


@pytest.mark.parametrize(("code", "words"), [(8, "thermal error"), (13, "over-current"), (14, "reserved")])
def test_every_status_has_words(stand, code, words):
    _, wire, driver = stand()
    wire.damage_reply = lambda t, data: [(t, data if wire.sent[-1] != b"0ma00004600" else b"0GS%02X\r\n" % code)]
    with pytest.raises(InstrumentError, match=words):
        driver.move_to(45.0)


def test_stopping_elsewhere_is_an_error(stand):
    _, wire, driver = stand(jitter_pulses=0)
    wire.damage_command = lambda data: data.replace(b"ma00004600", b"ma00004300")
    with pytest.raises(InstrumentError, match=r"stopped at 43\.071 deg instead of 45\.000 deg"):
        driver.move_to(45.0)


def test_power_cycle_is_noticed_and_homing_mends_it(stand, clock):
    _, wire, driver = stand()
    driver.move_to(45.0)
    wire.emulator.power_cycle(clock.now())
    with pytest.raises(InstrumentError, match="was reset, or turned by hand"):
        driver.move_to(50.0)
    assert not driver.is_homed and wire.sent[-1] == b"0gp"
    with pytest.raises(InstrumentError, match="zero of the mount is not known"):
        _ = driver.angle_deg
    driver.home()
    assert driver.move_to(50.0) == pytest.approx(50.0, abs=3 * PULSE_DEG)


def test_a_reset_between_the_reading_of_the_position_and_the_move_is_noticed(stand, clock):
    laboratory, wire, driver = stand()
    driver.move_to(45.0)
    respond = wire.emulator.respond

    def reset_before_the_move(t, data):
        if b"ma" in data:
            wire.emulator.power_cycle(t)
        return respond(t, data)

    wire.emulator.respond = reset_before_the_move
    with pytest.raises(InstrumentError, match=r"the mount was reset: its jog step is 0 pulses.* to 401") as caught:
        driver.move_to(50.0)
    assert "may stand anywhere" in caught.value.state
    assert laboratory.wave_plate.optical_deg(clock.now()) == pytest.approx(95.0, abs=0.1)
    wire.emulator.respond = respond
    with pytest.raises(InstrumentError, match="zero of the mount is not known"):
        driver.move_to(50.0)
    driver.home()
    assert driver.move_to(50.0) == pytest.approx(50.0, abs=3 * PULSE_DEG)


def test_a_mount_that_keeps_no_jog_step_is_refused(stand):
    _, wire, driver = stand()
    respond = wire.emulator.respond
    wire.emulator.respond = lambda t, data: [(t, b"0GS03\r\n")] if b"sj" in data else respond(t, data)
    with pytest.raises(InstrumentError, match="does not take a jog step"):
        driver.home()
    assert not driver.is_homed


def fault_once(wire, damage):
    """Damage the reply to the next move, and no other."""
    left = [damage]

    def apply(t, data):
        if wire.sent[-1][1:3] == b"ma" and left:
            return left.pop()(t, data)
        return [(t, data)]

    wire.damage_reply = apply


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda t, data: [], InstrumentTimeout),
        (lambda t, data: [(t, data[:-3])], InstrumentTimeout),
        (lambda t, data: [(t, b"\x00\xff" + data)], InstrumentError),
        (lambda t, data: [(t, data.replace(b"PO", b"P"))], InstrumentError),
        (lambda t, data: [(t, data[:6] + data[7:])], InstrumentError),
        (lambda t, data: [(t + 20.0, data)], InstrumentTimeout),
        (lambda t, data: [(t, b"0GS03\r\n")], InstrumentError),
        (lambda t, data: [(t, b"1" + data[1:])], InstrumentTimeout),
    ],
    ids=["lost", "truncated", "noise", "letter lost", "digit lost", "late", "refused", "address garbled"],
)
def test_a_damaged_reply_is_an_error_and_the_next_move_is_right(stand, damage, error):
    _, wire, driver = stand()
    driver.move_to(20.0)
    fault_once(wire, damage)
    with pytest.raises(error) as caught:
        driver.move_to(45.0)
    assert "may stand anywhere" in caught.value.state
    for angle_deg in (10.0, 50.0, 20.0):
        assert driver.move_to(angle_deg) == pytest.approx(angle_deg, abs=3 * PULSE_DEG)
        assert driver.angle_deg == pytest.approx(angle_deg, abs=3 * PULSE_DEG)


def test_late_position_is_not_taken_for_a_new_one(stand, clock):
    _, wire, driver = stand()
    wire.damage_reply = lambda t, data: [(t + 0.7 if wire.sent[-1] == b"0gp" else t, data)]
    with pytest.raises(InstrumentTimeout):
        _ = driver.angle_deg
    wire.damage_reply = lambda t, data: [(t, data)]
    assert driver.move_to(45.0) == pytest.approx(45.0, abs=3 * PULSE_DEG)


def test_lost_byte_of_a_command_moves_nothing(stand):
    _laboratory, wire, driver = stand()
    wire.damage_command = lambda data: data[:-1] if data[1:3] == b"ma" else data
    with pytest.raises(InstrumentError, match="communication time-out"):
        driver.move_to(45.0)
    wire.damage_command = lambda data: data
    assert driver.angle_deg == pytest.approx(0.0, abs=3 * PULSE_DEG)


def test_button_messages_are_skipped(stand):
    _, wire, driver = stand()
    wire.damage_reply = lambda t, data: [(t, b"0BO00000010\r\n0BS\r\n" + data)]
    assert driver.move_to(45.0) == pytest.approx(45.0, abs=3 * PULSE_DEG)


def test_flood_of_messages_ends(stand):
    _, wire, driver = stand()
    wire.damage_reply = lambda t, data: [(t, b"0BO00000010\r\n" * 100 + data)]
    with pytest.raises(InstrumentError, match="flooded"):
        _ = driver.angle_deg


def test_make_safe_leaves_the_plate_and_says_where_it_is(stand):
    _laboratory, wire, driver = stand(jitter_pulses=0)
    driver.move_to(45.0)
    wire.sent.clear()
    for _ in range(2):
        (step,) = driver.make_safe()
        assert step.confirmed and "b'0PO00004600\\r\\n'" in step.evidence and "45.000 deg" in step.evidence
    assert wire.sent == [b"0gj", b"0gs", b"0gp"] * 2


def test_make_safe_before_homing_moves_nothing(stand):
    _, wire, driver = stand(start_up=False, awkward=True)
    (step,) = driver.make_safe()
    assert step.confirmed
    assert {command[1:3] for command in wire.sent} == {b"gj", b"gs", b"gp"}


def test_make_safe_waits_for_a_short_move_and_reports_a_long_one(clock, adapter_to):
    emulator = ELL14Emulator(create(None, None, 0), "attenuator", {"speed_deg_s": 90.0})
    driver = ELL14(adapter_to(emulator, ELL14.LINK), clock=clock)
    emulator.respond(clock.now(), b"0ma00004600")
    assert driver.make_safe()[0].confirmed
    emulator.respond(clock.now(), b"0ma0001C000")
    (step,) = driver.make_safe()
    assert not step.confirmed and "busy" in step.evidence


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


def test_make_safe_interrupts_a_move_under_way(stand, clock):
    _, _wire, driver = stand(speed_deg_s=30.0)
    inside, errors = threading.Event(), []
    steps = []

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
    assert len(steps) == 1 and "GS09" in steps[0].evidence


CLIENTS = {
    "thorlabs_elliptec": """
import sys, time
from thorlabs_elliptec import ELLx
stage = ELLx(serial_port=sys.argv[1], x=14)
stage.home(blocking=True)
for angle in (45.0, 90.0):
    stage.move_absolute(angle, blocking=True)
    time.sleep(0.3)
    print(stage.get_position())
print(stage.serial_number, stage.model_number)
stage.close()
""",
    "elliptec": """
import sys
import elliptec
controller = elliptec.Controller(sys.argv[1])
rotator = elliptec.Rotator(controller)
print(rotator.home(), file=sys.stderr)
for angle in (45.0, 90.0):
    rotator.set_angle(angle)
    print(rotator.get_angle())
print(rotator.serial_no, "ELL%d" % rotator.motor_type)
controller.close_connection()
""",
}


@pytest.mark.skipif(sys.platform == "win32", reason="a pty is needed")
@pytest.mark.parametrize("client", CLIENTS)
def test_independent_client_in_another_process(client, serve_on_pty):
    if importlib.util.find_spec(client) is None:
        pytest.skip(f"{client} is not installed (extra `clients`)")
    with serve_on_pty("attenuator", "thorlabs-ell14", ELL14Emulator) as path:
        command = [sys.executable, "-c", CLIENTS[client], path]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    first, second, identity = done.stdout.strip().splitlines()
    assert float(first) == pytest.approx(45.0, abs=0.02)
    assert float(second) == pytest.approx(90.0, abs=0.02)
    assert identity.startswith("11400517 ELL14")
