from __future__ import annotations

import itertools
import subprocess
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.shutter.emulators.sc10 import SC10Emulator
from drivers.shutter.sc10 import SC10
from labctl.clock import VirtualClock
from labctl.errors import ConnectionLost, InstrumentError, InstrumentTimeout
from labctl.roles import Identity, Shutter
from labctl.sim.laboratory import create
from labctl.sim.link import EmulatorLink
from labctl.transport.adapter import WireAdapter


def answers(emulator, data: bytes, t: float = 1.0) -> bytes:
    return b"".join(reply for _, reply in emulator.respond(t, data))


def emulator_with(**options) -> SC10Emulator:
    return SC10Emulator(create(None, None, 0), "shutter", options)


@pytest.fixture
def stand(clock, adapter_to, tap):
    """Get a function that sets up laboratory, emulator, tap and driver; ``start_up`` unless told otherwise."""

    def build(start_up: bool = True, **options):
        laboratory = create(None, None, 0)
        wire = tap(SC10Emulator(laboratory, "shutter", options))
        driver = SC10(adapter_to(wire, SC10.LINK), clock=clock)
        if start_up:
            driver.start_up()
            wire.sent.clear()
        return laboratory, wire, driver

    return build


# The bytes in this table are those of the manual and of traces of other programs.
@pytest.mark.parametrize(
    ("sent", "received"),
    [
        (b"id?\r", b"id?\rTHORLABS SC10 VERSION 1.07\r> "),
        (b"ens?\r", b"ens?\r0\r> "),
        (b"ens\r", b"ens\r> "),
        (b"ens\rens?\r", b"ens\r> ens?\r1\r> "),
        (b"ens\rens\rens?\r", b"ens\r> ens\r> ens?\r0\r> "),
        (b"closed?\r", b"closed?\r1\r> "),
        (b"interlock?\r", b"interlock?\r0\r> "),
        (b"mode=1\r", b"mode=1\r> "),
        (b"mode=5\rmode?\r", b"mode=5\r> mode?\r5\r> "),
        (b"mode=6\r", b"mode=6\rCMD_ARG_INVALID\r> "),
        (b"open=123456\ropen?\r", b"open=123456\r> open?\r123456\r> "),
        (b"open=1234567\r", b"open=1234567\rCMD_NOT_DEFINED\r> "),
        (b"rep=0\r", b"rep=0\rCMD_ARG_INVALID\r> "),
        (b"rep=99\rrep?\r", b"rep=99\r> rep?\r99\r> "),
        (b"trig=1\r", b"trig=1\r> "),
        (b"ens=1\r", b"ens=1\rCMD_NOT_DEFINED\r> "),
        (b"ENS\r", b"ENS\rCMD_NOT_DEFINED\r> "),
        (b"\xff\r", b"\xff\rCMD_NOT_DEFINED\r> "),
        (b"mode=3\rsave\rmode=1\rresp\rmode?\r", b"mode=3\r> save\r> mode=1\r> resp\r> mode?\r3\r> "),
        (b"ens?", b""),
        (b"\r", b""),
    ],
)
def test_emulator_answers_as_the_protocol_says(sent, received):
    assert answers(emulator_with(), sent) == received


def test_emulator_gives_help_before_the_prompt():
    text = answers(emulator_with(), b"?\r")
    assert text.startswith(b"?\r") and b"INTERLOCK?" in text and text.endswith(b"\r> ")


@given(cuts=st.sets(st.integers(1, 24)))
@settings(max_examples=30, deadline=None)
def test_commands_may_come_in_pieces(cuts):
    stream = b"ens\rens?\rclosed?\rmode?\r"
    emulator = emulator_with(open_s=0.0)
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    received = b"".join(answers(emulator, stream[a:b]) for a, b in itertools.pairwise(edges))
    assert received == b"ens\r> ens?\r1\r> closed?\r0\r> mode?\r1\r> "


def test_blade_takes_its_time_and_then_there_is_light():
    laboratory = create(None, None, 0)
    emulator = SC10Emulator(laboratory, "shutter", {"open_s": 0.012, "close_s": 0.02})
    answers(emulator, b"ens\r", t=5.0)
    assert answers(emulator, b"closed?\r", t=5.011) == b"closed?\r1\r> "
    assert answers(emulator, b"closed?\r", t=5.012) == b"closed?\r0\r> "
    assert not laboratory.shutter.is_open(5.011) and laboratory.shutter.is_open(5.012)
    answers(emulator, b"ens\r", t=6.0)
    assert laboratory.shutter.is_open(6.019) and not laboratory.shutter.is_open(6.02)


def test_interlock_closes_and_keeps_closed():
    laboratory = create(None, None, 0)
    emulator = SC10Emulator(laboratory, "shutter", {})
    answers(emulator, b"ens\r", t=1.0)
    emulator.trip_interlock(2.0)
    assert answers(emulator, b"interlock?\rens?\rens\rens?\rclosed?\r", t=3.0) == (
        b"interlock?\r1\r> ens?\r0\r> ens\r> ens?\r0\r> closed?\r1\r> "
    )
    assert not laboratory.shutter.is_open(3.0)


def test_only_manual_mode_moves_the_blade():
    emulator = emulator_with(mode=5)
    assert answers(emulator, b"ens\rens?\r", t=1.0) == b"ens\r> ens?\r1\r> "
    assert answers(emulator, b"closed?\r", t=2.0) == b"closed?\r1\r> "


def test_start_up_asks_and_touches_nothing_on_a_closed_shutter(stand):
    _, wire, driver = stand(start_up=False)
    driver.start_up()
    assert wire.sent == [b"id?\r", b"id?\r", b"ens?\r", b"closed?\r", b"mode?\r", b"interlock?\r"]


@pytest.mark.parametrize("options", [{"enabled": True}, {"awkward": True}, {"mode": 4}, {"awkward": True, "mode": 3}])
def test_start_up_closes_a_shutter_left_open_and_sets_manual_mode(stand, clock, options):
    laboratory, wire, driver = stand(**options)
    assert not driver.is_open and not laboratory.shutter.is_open(clock.now())
    assert not wire.emulator.enabled
    assert answers(wire.emulator, b"mode?\r", clock.now()) == b"mode?\r1\r> "


def test_mode_is_changed_only_while_disabled(stand):
    _, wire, driver = stand(start_up=False, enabled=True, mode=4)
    driver.start_up()
    assert wire.sent.index(b"ens\r") < wire.sent.index(b"mode=1\r")


def test_serves_its_role_and_says_who_it_is(stand):
    _, _, driver = stand()
    assert isinstance(driver, Shutter) and driver.has_readback
    assert driver.identify() == Identity("Thorlabs", "SC10", "", "1.07")


def test_another_instrument_is_refused(stand):
    _, wire, driver = stand(start_up=False)
    wire.damage_reply = lambda t, data: [(t, data.replace(b"SC10", b"TSP01"))]
    with pytest.raises(InstrumentError, match="not the identity of an SC10"):
        driver.start_up()


def test_open_and_shut_send_the_known_bytes_and_move_light(stand, clock):
    laboratory, wire, driver = stand(open_s=0.0, close_s=0.0)
    driver.open()
    assert wire.sent == [b"interlock?\r", b"mode?\r", b"ens?\r", b"ens\r", b"ens?\r", b"closed?\r"]
    assert driver.is_open and laboratory.shutter.is_open(clock.now())
    wire.sent.clear()
    driver.shut()
    assert wire.sent == [b"ens?\r", b"ens\r", b"ens?\r", b"closed?\r"]
    assert not driver.is_open and not laboratory.shutter.is_open(clock.now())


def test_open_and_shut_do_nothing_twice(stand):
    _, wire, driver = stand()
    for action in (driver.open, driver.open, driver.shut, driver.shut):
        action()
    assert wire.sent.count(b"ens\r") == 2


@pytest.mark.parametrize("delay_s", [0.01, 0.02, 0.2])
def test_waits_for_the_blade(stand, delay_s):
    laboratory, _, driver = stand(open_s=delay_s, close_s=delay_s)
    driver.open()
    assert laboratory.shutter.is_open(driver.clock.now())
    driver.shut()
    assert not laboratory.shutter.is_open(driver.clock.now())


def test_what_is_watched_asks_and_toggles_nothing(stand):
    _, wire, driver = stand()
    wire.sent.clear()
    assert (driver.interlock_is_open, driver.is_open) == (False, False)
    wire.emulator.trip_interlock(2.0)
    interlock, mode = driver.readiness()
    assert (driver.interlock_is_open, interlock.ok, mode.ok) == (True, False, True)
    assert "close the circuit" in interlock.text
    assert set(wire.sent) == {b"interlock?\r", b"closed?\r", b"mode?\r"}


def test_interlock_refuses_to_open(stand):
    _, wire, driver = stand(interlock=True)
    with pytest.raises(InstrumentError, match="interlock") as caught:
        driver.open()
    assert "circuit" in caught.value.todo and "not opened" in caught.value.state
    assert b"ens\r" not in wire.sent
    assert "interlock?\\r1\\r> " in str(caught.value)


def test_interlock_that_trips_while_open(stand, clock):
    _, wire, driver = stand()
    driver.open()
    wire.emulator.trip_interlock(clock.now())
    clock.sleep(0.1)
    assert not driver.is_open
    driver.shut()
    assert b"ens\r" not in wire.sent[wire.sent.index(b"ens\r") + 1 :]


def test_blade_that_does_not_open_is_disabled_again(stand):
    _, wire, driver = stand()
    wire.emulator.stuck = True
    with pytest.raises(InstrumentError, match="did not open") as caught:
        driver.open()
    assert "closed again" in caught.value.state and "shutter head" in caught.value.todo
    assert not wire.emulator.enabled


def test_blade_that_does_not_close_is_loud_and_never_toggled_on(stand, clock):
    laboratory, wire, driver = stand()
    driver.open()
    wire.emulator.stuck = True
    for _ in range(3):
        with pytest.raises(InstrumentError, match="did not close") as caught:
            driver.shut()
        assert "LIGHT MAY BE ON" in caught.value.state and "by hand" in caught.value.todo
    (step,) = driver.make_safe()
    assert not step.confirmed and "closed?\\r0\\r> " in step.evidence
    assert not wire.emulator.enabled and laboratory.shutter.is_open(clock.now())


def test_power_cycle_in_the_middle(stand, clock):
    _, wire, driver = stand(mode=4)
    driver.open()
    wire.emulator.power_cycle(clock.now())
    clock.sleep(0.1)
    assert not driver.is_open
    with pytest.raises(InstrumentError, match="mode 4 instead of 1: it was reset"):
        driver.open()
    assert not wire.emulator.enabled
    driver.start_up()
    driver.open()
    assert driver.is_open


# Each loses or garbles something around one command; "ens?" without its "?" is the toggle itself.
COMMAND_DAMAGE = {
    "first byte lost": lambda data: data[1:],
    "CR lost": lambda data: data[:-1],
    "question mark lost": lambda data: data.replace(b"?", b""),
    "garbled": lambda data: b"\xa5" + data[1:],
    "all lost": lambda data: b"",
    "doubled": lambda data: data + data,
}
REPLY_DAMAGE = {
    "lost": lambda t, data: [],
    "late": lambda t, data: [(t + 0.6, data)],
    "truncated": lambda t, data: [(t, data[:-3])],
    "prompt lost": lambda t, data: [(t, data[:-2])],
    "echo garbled": lambda t, data: [(t, b"x" + data[1:])],
    "value lost": lambda t, data: [(t, data.split(b"\r")[0] + b"\r> ")],
    "value garbled": lambda t, data: [(t, data.replace(b"0\r> ", b"7\r> ").replace(b"1\r> ", b"x\r> "))],
    "noise before": lambda t, data: [(t, b"\x00\xff" + data)],
    "device error": lambda t, data: [(t, data.split(b"\r")[0] + b"\rCMD_NOT_DEFINED\r> ")],
}


def damage_one(wire, number, on_command=None, on_reply=None):
    """Damage the command with this number from now on, or its reply; nothing else."""
    start = len(wire.sent)

    def is_due():
        return len(wire.sent) - start == number + 1

    wire.damage_command = lambda data: on_command(data) if on_command and is_due() else data
    wire.damage_reply = lambda t, data: on_reply(t, data) if on_reply and is_due() else [(t, data)]


@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize("damage", [*COMMAND_DAMAGE, *REPLY_DAMAGE])
@pytest.mark.parametrize("action", ["open", "shut"])
def test_after_one_fault_anywhere_the_shutter_is_known_and_works(stand, clock, action, damage, number):
    laboratory, wire, driver = stand()
    if action == "shut":
        driver.open()
    damage_one(wire, number, COMMAND_DAMAGE.get(damage), REPLY_DAMAGE.get(damage))
    try:
        getattr(driver, action)()
        raised = False
    except InstrumentError:
        raised = True
    wire.damage_command, wire.damage_reply = (lambda data: data), (lambda t, data: [(t, data)])
    clock.sleep(1.0)
    # It either did as it was told, or raised and left the beam off; and shut() mends a single fault itself.
    assert laboratory.shutter.is_open(clock.now()) == (action == "open" and not raised)
    assert not (action == "shut" and raised)
    driver.open()
    assert driver.is_open and laboratory.shutter.is_open(clock.now())
    driver.shut()
    assert not driver.is_open and not laboratory.shutter.is_open(clock.now())


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("damage", [*COMMAND_DAMAGE, *REPLY_DAMAGE])
@pytest.mark.parametrize("is_open", [False, True])
def test_make_safe_through_one_fault_anywhere(stand, clock, is_open, damage, number):
    laboratory, wire, driver = stand()
    if is_open:
        driver.open()
    damage_one(wire, number, COMMAND_DAMAGE.get(damage), REPLY_DAMAGE.get(damage))
    before = clock.now()
    (step,) = driver.make_safe()
    assert clock.now() - before < 1.5
    clock.sleep(1.0)
    assert step.confirmed
    assert not laboratory.shutter.is_open(clock.now())


def test_make_safe_gives_the_bytes_as_evidence(stand):
    _, wire, driver = stand()
    driver.open()
    wire.sent.clear()
    (step,) = driver.make_safe()
    assert step.confirmed
    assert r"sent b'ens?\r', received b'ens?\r1\r> '" in step.evidence
    assert r"sent b'ens?\r', received b'ens?\r0\r> '" in step.evidence
    assert step.evidence.endswith(r"sent b'closed?\r', received b'closed?\r1\r> '")
    wire.sent.clear()
    assert driver.make_safe()[0].confirmed and b"ens\r" not in wire.sent


def test_make_safe_never_toggles_blindly(stand, clock):
    _, wire, driver = stand()
    wire.damage_reply = lambda t, data: [] if b"ens" in data else [(t, data)]
    (step,) = driver.make_safe()
    assert not step.confirmed and "LIGHT MAY BE ON" in step.evidence
    assert b"ens\r" not in wire.sent


def test_make_safe_of_a_dead_unit_is_quick_and_unconfirmed(stand, clock):
    _, wire, driver = stand()
    wire.damage_command = lambda data: b""
    before = clock.now()
    (step,) = driver.make_safe()
    assert not step.confirmed and "does not answer" in step.evidence
    assert clock.now() - before < 2.0


def test_make_safe_mends_a_broken_link(stand, clock):
    laboratory, _, driver = stand()
    driver.open()
    driver.adapter.connection.close()
    assert driver.make_safe()[0].confirmed
    assert not laboratory.shutter.is_open(clock.now())


def test_make_safe_before_start_up(stand, clock):
    laboratory, _, driver = stand(start_up=False, awkward=True)
    assert driver.make_safe()[0].confirmed
    assert not laboratory.shutter.is_open(clock.now())


@pytest.mark.parametrize("after_s", [0.0005, 0.002, 0.004, 0.006, 0.008, 0.010, 0.015, 0.02, 0.05])
def test_make_safe_beats_an_opening_under_way(stand, clock, after_s):
    laboratory, wire, driver = stand(open_s=0.4)
    both = threading.Barrier(2)
    errors, steps = [], []

    def opening():
        with clock.actor():
            both.wait()
            try:
                driver.open()
            except ConnectionLost as error:
                errors.append(error)

    def rescue():
        with clock.actor():
            both.wait()
            clock.sleep(after_s)
            steps.extend(driver.make_safe())

    threads = [threading.Thread(target=task) for task in (opening, rescue)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert len(errors) == 1 and steps[0].confirmed
    clock.sleep(1.0)
    assert not wire.emulator.enabled and not laboratory.shutter.is_open(clock.now())


@given(cuts=st.sets(st.integers(1, 12)))
@settings(max_examples=20, deadline=None)
def test_replies_may_come_in_pieces(cuts):
    clock = VirtualClock(wall_start=0.0)

    class InPieces(SC10Emulator):
        def respond(self, t, data):
            pieces = []
            for moment, reply in super().respond(t, data):
                edges = [0, *sorted(cuts), len(reply)]
                pieces += [(moment + 0.002 * n, reply[a:b]) for n, (a, b) in enumerate(itertools.pairwise(edges))]
            return [piece for piece in pieces if piece[1]]

    emulator = InPieces(create(None, None, 0), "shutter", {})
    driver = SC10(WireAdapter(lambda: EmulatorLink(emulator, clock), SC10.LINK, clock), clock=clock)
    driver.start_up()
    driver.open()
    assert driver.is_open


def test_silent_unit_is_named(stand):
    _, wire, driver = stand(start_up=False)
    wire.damage_command = lambda data: b""
    with pytest.raises(InstrumentTimeout, match="does not answer"):
        driver.start_up()


CLIENT = r"""
import serial, sys, time

port = serial.Serial(sys.argv[1], 9600, timeout=2)

def send(command):
    port.write(command + b"\r")
    return port.read_until(b"> ")

for command in (b"id?", b"mode=1", b"ens?", b"ens", b"ens?"):
    print(send(command))
time.sleep(0.1)
print(send(b"closed?"))
print(send(b"ens"))
time.sleep(0.1)
print(send(b"closed?"))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a pty is needed")
def test_client_written_from_the_manual_in_another_process(serve_on_pty):
    with serve_on_pty("shutter", "thorlabs-sc10", SC10Emulator) as path:
        command = [sys.executable, "-c", CLIENT, path]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        r"b'id?\rTHORLABS SC10 VERSION 1.07\r> '",
        r"b'mode=1\r> '",
        r"b'ens?\r0\r> '",
        r"b'ens\r> '",
        r"b'ens?\r1\r> '",
        r"b'closed?\r0\r> '",
        r"b'ens\r> '",
        r"b'closed?\r1\r> '",
    ]
