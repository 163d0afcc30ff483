"""The DC2200 driver over its emulator; the bytes expected on the wire are written from the fact sheet."""

from __future__ import annotations

import itertools
import subprocess
import sys
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from drivers.lamp.dc2200 import DC2200
from drivers.lamp.emulators.dc2200 import DC2200Emulator
from labctl.errors import ConnectionLost, InputError, InstrumentError, InstrumentTimeout
from labctl.roles import AdjustableLamp, Identity, Lamp
from labctl.sim.laboratory import create
from labctl.sim.server import LaboratoryServer

ON, OFF = b"OUTPUT1:STATE ON\n", b"OUTPUT1:STATE OFF\n"
NO_ERROR = b'0,"No error"\n'
UNDEFINED = b'-113,"Undefined header"\n'


def answers(emulator, data: bytes, t: float = 1.0) -> bytes:
    return b"".join(reply for _, reply in emulator.respond(t, data))


def emulator_with(**options) -> DC2200Emulator:
    return DC2200Emulator(create(None, None, 0), "lamp", options)


@pytest.fixture
def stand(clock, adapter_to, tap):
    """Get a function that sets up laboratory, emulator, tap and driver; ``start_up`` unless told otherwise."""

    def build(start_up: bool = True, driver: dict | None = None, laboratory: dict | None = None, **options):
        room = create(laboratory, None, 0)
        wire = tap(DC2200Emulator(room, "lamp", options))
        lamp = DC2200(adapter_to(wire, DC2200.LINK), clock=clock, **(driver or {}))
        if start_up:
            lamp.start_up()
            wire.sent.clear()
        return room, wire, lamp

    return build


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        (b"*IDN?\n", b"Thorlabs,DC2200,M00123456,1.2.3\n"),
        (b"SYST:ERR?\n", NO_ERROR),
        (b"SOURCE1:MODE CC\nSOURCE1:CCURENT:CURRENT 0.005\nOUTPUT1:STATE ON\nOUTPUT1:STATE?\n", b"1\n"),
        (b"OUTP1:STAT?\n", b"0\n"),
        (b"OUTPUT1:STATE ON;STATE?\n", b"1\n"),
        (b"OUTPUT1:TERMINAL 2\nOUTPUT1:TERMINAL?\n", b"2\n"),
        (b"SOURCE1:CCURRENT:CURRENT 0.005\nSYST:ERR?\n", UNDEFINED),
        (b"SOURCE1:CCURENT:CURRENT 0.005\nSYST:ERR?\n", NO_ERROR),
        (b"SOURCE1:PWM:FREQUENCY 10\nSYST:ERR?\nSYST:ERR?\n", UNDEFINED + NO_ERROR),
        (b"SOURCE1:PWM:FREQ 10\nSYST:ERR?\n", NO_ERROR),
        (b"SOURCE1:PWM:FREQ 30E3\nSYST:ERR?\n", b'-222,"Data out of range"\n'),
        (b"SOURCE1:CBRIGHTNESS:BRIGHTNESS 30\nSYST:ERR?\n", NO_ERROR),
        (b"SOURCE1:MODE 2\nSOURCE1:MODE?\n", b"CB\n"),
        (b"SOURCE1:CURRENT:LIMIT:TRIPPED?;:OUTPUT1:PROTECTION:INTLOCK:TRIPPED?\n", b"0;0\n"),
        (b"OUTPUT1:PROTECTION:TEMPERATURE:DRIVER:TRIPPED?\nOUTPUT1:PROTECTION:TEMPERATURE:HEAD:TRIPPED?\n", b"0\n0\n"),
        (b"OUTPUT1:STATE MAYBE\nSYST:ERR?\n", b'-104,"Data type error"\n'),
        (b"OUTPUT1:STATE?", b""),
    ],
)
def test_emulator_speaks_as_the_sheet_says(sent: bytes, received: bytes) -> None:
    assert answers(emulator_with(), sent) == received


@given(cuts=st.sets(st.integers(1, 110), max_size=6))
@settings(max_examples=30, deadline=None)
def test_any_fragmentation_gives_the_same_replies(cuts) -> None:
    stream = (
        b"SOURCE1:MODE CB\nSOURCE1:CBRIGHTNESS:BRIGHTNESS 30\r\nOUTPUT1:STATE ON\nBAD?\nOUTPUT1:STATE?\nSYST:ERR?\n"
    )
    emulator, edges = emulator_with(), [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    received = b"".join(answers(emulator, stream[a:b]) for a, b in itertools.pairwise(edges))
    assert received == b"1\n" + UNDEFINED


def test_setting_a_mode_does_not_light_the_led() -> None:
    laboratory = create(None, None, 0)
    emulator = DC2200Emulator(laboratory, "lamp", {})
    answers(emulator, b"SOURCE1:MODE CB\nSOURCE1:CBRIGHTNESS:BRIGHTNESS 30\n")
    assert not laboratory.lamp.is_on(2.0)


def test_satisfies_its_roles_and_says_who_it_is(stand) -> None:
    _, _, lamp = stand()
    assert isinstance(lamp, Lamp) and isinstance(lamp, AdjustableLamp)
    assert lamp.has_readback is True
    assert lamp.identify() == Identity("Thorlabs", "DC2200", "M00123456", "1.2.3")


def test_off_mode_value_on_each_read_back_and_the_queue_asked(stand, clock) -> None:
    room, wire, lamp = stand(driver={"brightness_percent": 30.0})
    lamp.switch_on()
    told = [sent for sent in wire.sent if b"?" not in sent]
    assert told == [OFF, b"SOURCE1:MODE CB\n", b"SOURCE1:CBRIGHTNESS:BRIGHTNESS 30\n", ON]
    for command in told[1:]:
        after = wire.sent[wire.sent.index(command) + 1 :]
        assert after[0] == b"SYST:ERR?\n"
        assert after[1].startswith(command.split(b" ")[0] + b"?")
    assert lamp.is_on and room.lamp.is_on(clock.now())
    assert lamp.current_a == pytest.approx(0.3 * 0.7, rel=0.01)


def test_constant_current_by_its_misspelled_header(stand, clock) -> None:
    room, wire, lamp = stand(driver={"mode": "current", "current_a": 0.35, "terminal": 2}, terminal=2)
    lamp.switch_on()
    told = [sent for sent in wire.sent if b"?" not in sent]
    # A driver fresh from power-up is in mode CC already.
    assert told == [OFF, b"OUTPUT1:TERMINAL 2\n", b"SOURCE1:CCURENT:CURRENT 0.35\n", ON]
    assert room.lamp.is_on(clock.now()) and lamp.current_a == pytest.approx(0.35, rel=0.01)
    assert lamp.set_brightness(50.0) == 50.0
    assert b"SOURCE1:CCURENT:CURRENT 0.175\n" in wire.sent
    assert lamp.is_on and lamp.current_a == pytest.approx(0.175, rel=0.01)


def test_a_lamp_that_shines_as_wanted_is_left_alone(stand) -> None:
    _, wire, lamp = stand(driver={"brightness_percent": 30.0})
    lamp.switch_on()
    wire.sent.clear()
    lamp.switch_on()
    assert all(b"?" in sent for sent in wire.sent)


def test_brightness_is_set_with_the_lamp_off_and_while_it_shines(stand, clock) -> None:
    room, wire, lamp = stand()
    assert lamp.set_brightness(20.0) == 20.0
    assert not lamp.is_on and not room.lamp.is_on(clock.now())
    lamp.switch_on()
    dim = room.lamp.power_w(clock.now())
    wire.sent.clear()
    assert lamp.set_brightness(40.0) == 40.0
    assert [sent for sent in wire.sent if b"?" not in sent] == [b"SOURCE1:CBRIGHTNESS:BRIGHTNESS 40\n"]
    assert room.lamp.power_w(clock.now()) == pytest.approx(2 * dim, rel=0.01)


def test_a_lamp_that_went_out_meanwhile_is_not_lit_again(stand, clock) -> None:
    room, wire, lamp = stand(driver={"brightness_percent": 30.0})
    lamp.switch_on()
    reset = itertools.count()

    def power_cycle_at_the_mode(t: float, data: bytes):
        if data == b"CB\n" and next(reset) == 0:
            wire.emulator.power_cycle(t)
        return [(t, data)]

    wire.damage_reply = power_cycle_at_the_mode
    with pytest.raises(InstrumentError, match="went out while its brightness was set") as caught:
        lamp.set_brightness(40.0)
    assert caught.value.state == "the lamp is off" and not room.lamp.is_on(clock.now())


def test_a_lamp_that_went_out_before_is_not_taken_for_one_that_is_off(stand, clock) -> None:
    _, wire, lamp = stand(driver={"brightness_percent": 30.0})
    lamp.switch_on()
    wire.emulator.power_cycle(clock.now())
    with pytest.raises(InstrumentError, match="went out"):
        lamp.set_brightness(40.0)
    assert lamp.set_brightness(40.0) == 40.0 and not lamp.is_on


def test_a_digit_that_changes_on_its_way_back_is_noticed(stand) -> None:
    _, wire, lamp = stand()
    replies = itertools.count()

    def change_the_last(t: float, data: bytes):
        changed = data == b"4.000000E+01\n" and next(replies) == 1
        return [(t, b"4.000007E+01\n" if changed else data)]

    wire.damage_reply = change_the_last
    with pytest.raises(InstrumentError, match=r"read as 40\.0001 and as 40"):
        lamp.set_brightness(40.0)
    assert lamp.set_brightness(40.0) == 40.0


@pytest.mark.parametrize("percent", [0.0, -1.0, 100.1, float("nan"), float("inf")])
def test_senseless_brightness_is_refused_before_anything_is_sent(stand, percent) -> None:
    _, wire, lamp = stand()
    with pytest.raises(InputError, match="cannot shine"):
        lamp.set_brightness(percent)
    assert wire.sent == []


def test_no_brightness_is_assumed(stand) -> None:
    _, wire, lamp = stand()
    with pytest.raises(InputError, match="no brightness was chosen"):
        lamp.switch_on()
    assert wire.sent == []


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "current"},
        {"current_a": 0.1},
        {"mode": "current", "current_a": 0.1, "brightness_percent": 5.0},
        {"brightness_percent": 0.0},
        {"terminal": 3},
        {"colour": "blue"},
    ],
)
def test_senseless_options(options) -> None:
    with pytest.raises(ValidationError):
        DC2200.Options(**options)


@pytest.mark.parametrize("mode_switches_off", [True, False])
@pytest.mark.parametrize("terminal", [1, 2])
def test_an_awkward_start_ends_dark_and_in_step(stand, clock, terminal, mode_switches_off) -> None:
    room, wire, lamp = stand(
        start_up=False,
        awkward=True,
        terminal=terminal,
        mode_switches_off=mode_switches_off,
        driver={"terminal": terminal},
    )
    assert room.lamp.is_on(clock.now()) and wire.emulator.is_on
    lamp.start_up()
    assert not lamp.is_on and not room.lamp.is_on(clock.now())
    lamp.set_brightness(10.0)
    lamp.switch_on()
    assert room.lamp.is_on(clock.now())


def test_the_interlock_keeps_the_lamp_off(stand, clock) -> None:
    room, wire, lamp = stand(interlock=True, driver={"brightness_percent": 30.0})
    assert lamp.interlock_is_open and lamp.tripped == "interlock"
    interlock, protection = lamp.readiness()
    assert not interlock.ok and "close the interlock circuit" in interlock.text
    assert protection.ok
    with pytest.raises(InstrumentError, match="interlock protection") as caught:
        lamp.switch_on()
    assert caught.value.state == "the lamp is off" and ON not in wire.sent
    wire.emulator.restore_interlock()
    assert lamp.readiness()[0].text == "closed"
    lamp.switch_on()
    assert room.lamp.is_on(clock.now())


def test_an_interlock_that_opens_puts_the_lamp_out_and_closing_it_does_not_light_it(stand, clock) -> None:
    room, wire, lamp = stand(driver={"brightness_percent": 30.0})
    lamp.switch_on()
    wire.emulator.trip_interlock(clock.now())
    assert not lamp.is_on and lamp.tripped == "interlock" and not room.lamp.is_on(clock.now())
    wire.emulator.restore_interlock()
    assert not lamp.is_on


def test_the_circuit_of_the_room_puts_the_lamp_out_though_nobody_asks(stand, clock) -> None:
    room, _, lamp = stand(driver={"brightness_percent": 30.0}, laboratory={"interlock": {"opens_at_s": 60.0}})
    lamp.switch_on()
    clock.sleep(120.0)
    assert not room.lamp.is_on(clock.now())
    assert lamp.interlock_is_open and not lamp.is_on


@pytest.mark.parametrize(("where", "word"), [("DRIVER", "driver temperature"), ("HEAD", "head temperature")])
def test_a_lamp_that_is_too_hot(stand, clock, where, word) -> None:
    room, wire, lamp = stand(driver={"brightness_percent": 30.0})
    lamp.switch_on()
    wire.emulator.overheat(clock.now(), where)
    assert not lamp.is_on and lamp.tripped == word and not room.lamp.is_on(clock.now())
    assert not lamp.readiness()[1].ok and "cool" in lamp.readiness()[1].text
    with pytest.raises(InstrumentError, match=f"the {word} protection"):
        lamp.switch_on()


def test_a_current_beyond_the_limit_is_not_taken_for_set(stand, clock) -> None:
    room, wire, lamp = stand(driver={"mode": "current", "current_a": 2.0})
    with pytest.raises(InstrumentError, match=r"took 0\.7 A instead of 2 A") as caught:
        lamp.switch_on()
    assert "limit of 0.7 A" in caught.value.todo and ON not in wire.sent
    assert lamp.tripped == "current limit" and not room.lamp.is_on(clock.now())


def test_a_missing_head_is_said_by_the_error_queue(stand) -> None:
    _, _, lamp = stand(head=False, driver={"brightness_percent": 30.0})
    with pytest.raises(InstrumentError, match=r"STATE ON' was refused: -241"):
        lamp.switch_on()


def test_a_head_that_carries_no_current_is_noticed(stand, clock) -> None:
    _, wire, lamp = stand(driver={"brightness_percent": 30.0})
    wire.emulator._share = lambda: 0.0
    with pytest.raises(InstrumentError, match=r"only 0 A flow through the LED, 0\.21 A") as caught:
        lamp.switch_on()
    assert caught.value.state == "the lamp is off" and not wire.emulator.is_on


def test_a_lamp_that_does_not_go_off_says_so(stand) -> None:
    _, wire, lamp = stand(driver={"brightness_percent": 30.0})
    lamp.switch_on()
    wire.emulator.stuck = True
    with pytest.raises(InstrumentError, match="did not go off") as caught:
        lamp.switch_off()
    assert "LAMP IS ON" in caught.value.state
    (step,) = lamp.make_safe()
    assert not step.confirmed and "THE LAMP MAY BE ON" in step.evidence


def test_a_lamp_that_does_not_go_on_says_so(stand) -> None:
    _, wire, lamp = stand(driver={"brightness_percent": 30.0})
    wire.emulator.stuck = True
    with pytest.raises(InstrumentError, match="keeps its output off"):
        lamp.switch_on()


def test_a_power_cycle_is_seen(stand, clock) -> None:
    _, wire, lamp = stand(driver={"brightness_percent": 30.0})
    lamp.switch_on()
    wire.emulator.power_cycle(clock.now())
    assert not lamp.is_on
    lamp.switch_on()
    assert lamp.is_on and lamp.current_a == pytest.approx(0.21, rel=0.01)


def test_something_else_at_the_end_of_the_cable(stand) -> None:
    _, wire, lamp = stand(start_up=False)
    wire.damage_reply = lambda t, data: [(t, data.replace(b"DC2200", b"PM100D"))]
    with pytest.raises(InstrumentError, match="is no DC2200"):
        lamp.start_up()


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda t, data: [], InstrumentTimeout),
        (lambda t, data: [(t, data.rstrip(b"\n"))], InstrumentTimeout),
        (lambda t, data: [(t, b"\xb1" + data[1:])], InstrumentError),
        (lambda t, data: [(t, b"2\n")], InstrumentError),
        (lambda t, data: [(t, b"\n")], InstrumentError),
    ],
    ids=["silence", "truncated", "garbled", "no flag", "empty"],
)
def test_a_state_that_is_not_told_is_an_error_with_its_bytes(stand, damage, error) -> None:
    _, wire, lamp = stand(driver={"brightness_percent": 30.0})
    wire.damage_reply = damage
    with pytest.raises(error) as caught:
        _ = lamp.is_on
    assert "OUTPUT1:STATE?" in caught.value.exchange.sent
    wire.damage_reply = lambda t, data: [(t, data)]
    assert lamp.is_on is False


def test_a_late_answer_does_not_answer_the_next_question(stand, clock) -> None:
    _, wire, lamp = stand(driver={"brightness_percent": 30.0})
    lamp.switch_on()
    late_s = clock.now() + 1.2
    wire.damage_reply = lambda t, data: [(max(t, late_s), data)]
    with pytest.raises(InstrumentTimeout):
        _ = lamp.is_on
    wire.damage_reply = lambda t, data: [(t, data)]
    assert lamp.interlock_is_open is False
    lamp.switch_off()
    assert lamp.is_on is False


def test_each_lost_reply_while_switching_on_leaves_it_off_or_on_as_told(stand, clock) -> None:
    _, wire, lamp = stand(driver={"brightness_percent": 30.0})
    lamp.switch_on()
    exchanges = len([sent for sent in wire.sent if b"?" in sent])
    for lost in range(exchanges):
        room, wire, lamp = stand(driver={"brightness_percent": 30.0})
        asked = itertools.count()
        wire.damage_reply = lambda t, data, lost=lost, asked=asked: [] if next(asked) == lost else [(t, data)]
        try:
            lamp.switch_on()
        except InstrumentError as error:
            assert error.state == "the lamp is off"
            assert not wire.emulator.is_on
        else:
            assert wire.emulator.is_on
        assert lamp.is_on == room.lamp.is_on(clock.now())


@pytest.mark.parametrize("state", ["off", "on", "on and half a command", "on and in error", "on and not in step"])
def test_make_safe_in_each_state(stand, clock, state) -> None:
    room, wire, lamp = stand(driver={"brightness_percent": 30.0})
    if state != "off":
        lamp.switch_on()
    if "half" in state:
        lamp.adapter.write_bytes(b"SOURCE1:MO")
    elif "error" in state:
        lamp.adapter.write_bytes(b"NONSENSE\n" * 20)
    elif "step" in state:
        lamp.adapter.write_bytes(b"OUTPUT1:STATE?\n")
        lamp._line.out_of_step = True
    for _ in range(2):
        (step,) = lamp.make_safe()
        assert step.confirmed and "OUTPUT1:STATE?" in step.evidence and r"b'0\n'" in step.evidence
        assert not room.lamp.is_on(clock.now()) and not wire.emulator.is_on


def test_make_safe_on_a_connection_of_its_own(stand, clock, adapter_to) -> None:
    room, wire, lamp = stand(driver={"brightness_percent": 30.0})
    lamp.switch_on()
    (step,) = DC2200(adapter_to(wire, DC2200.LINK), clock=clock).make_safe()
    assert step.confirmed and not room.lamp.is_on(clock.now())
    assert wire.sent[-1] == b"OUTPUT1:STATE?\n"


def test_make_safe_tells_it_to_go_dark_before_anything_else(stand) -> None:
    _, wire, lamp = stand(driver={"brightness_percent": 30.0})
    lamp.switch_on()
    wire.sent.clear()
    lamp.make_safe()
    assert wire.sent[0] == OFF


def test_each_lost_reply_while_making_safe_still_ends_confirmed(stand) -> None:
    for lost in range(3):
        _, wire, lamp = stand(driver={"brightness_percent": 30.0})
        lamp.switch_on()
        asked = itertools.count()
        wire.damage_reply = lambda t, data, lost=lost, asked=asked: [] if next(asked) == lost else [(t, data)]
        (step,) = lamp.make_safe()
        assert step.confirmed and not wire.emulator.is_on


def test_make_safe_of_a_silent_lamp_is_unconfirmed_but_told_to_go_dark(stand, clock) -> None:
    room, wire, lamp = stand(driver={"brightness_percent": 30.0})
    lamp.switch_on()
    wire.damage_reply = lambda t, data: []
    before = clock.now()
    (step,) = lamp.make_safe()
    assert not step.confirmed and "switch the LED driver off" in step.evidence
    assert not room.lamp.is_on(clock.now())
    assert clock.now() - before < 2.5


def test_make_safe_connects_anew(stand, clock) -> None:
    room, _, lamp = stand(driver={"brightness_percent": 30.0})
    lamp.switch_on()
    lamp.adapter.connection.close()
    with pytest.raises(ConnectionLost):
        _ = lamp.is_on
    (step,) = lamp.make_safe()
    assert step.confirmed and not room.lamp.is_on(clock.now())


_CLIENT = """
import sys
import pyvisa
lamp = pyvisa.ResourceManager("@py").open_resource(sys.argv[1], read_termination="\\n", write_termination="\\n")
print(lamp.query("*IDN?"))
lamp.write("SOURCE1:MODE CC")
lamp.write("SOURCE1:CCURRENT:CURRENT 0.005")
print(lamp.query("SYST:ERR?"))
lamp.write("SOURCE1:CCURENT:CURRENT 0.005")
print(lamp.query("SYST:ERR?"))
lamp.write("OUTPUT1:STATE ON")
print(lamp.query("OUTPUT1:STATE?"))
print(lamp.query("SENSE3:CURRENT:DATA?"))
lamp.write("OUTPUT1:STATE OFF")
print(lamp.query("OUTPUT1:STATE?"))
"""


def test_plain_pyvisa_in_a_process_of_its_own() -> None:
    pytest.importorskip("pyvisa_py", reason="pyvisa-py is the VISA library of this client")
    instruments = {"lamp": SimpleNamespace(driver="dc2200", resource="sim:", options={})}
    bench = SimpleNamespace(name="lamp", instruments=instruments, laboratory=None)
    with LaboratoryServer(bench, factories={"dc2200": DC2200Emulator}) as addresses:
        host, port = addresses["instruments"]["lamp"]["tcp"].split(":")
        command = [sys.executable, "-c", _CLIENT, f"TCPIP::{host}::{port}::SOCKET"]
        client = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert client.returncode == 0, client.stderr
    identity, refused, taken, lit, current, dark = client.stdout.splitlines()
    assert identity == "Thorlabs,DC2200,M00123456,1.2.3"
    assert refused == '-113,"Undefined header"' and taken == '0,"No error"'
    assert (lit, dark) == ("1", "0")
    assert float(current) == pytest.approx(5e-3, rel=0.01)


def _spoil(kind: str, wire, lamp, clock, place: int) -> None:
    """Spoil the exchange number ``place`` from now on, in one of the ways of the fault table."""
    asked = itertools.count()
    if kind == "command lost":
        wire.damage_command = lambda data: b"" if data and next(asked) == place else data
        return

    def damage(t: float, data: bytes):
        if next(asked) != place:
            return [(t, data)]
        match kind:
            case "lost":
                return []
            case "truncated":
                return [(t, data[: len(data) // 2])]
            case "garbled":
                return [(t, b"\xb1" + data[1:])]
            case "late":
                return [(t + 1.5, data)]
            case "reset":
                wire.emulator.power_cycle(t)
                return [(t, data)]
            case _:
                lamp.adapter.connection.close()
                return []

    wire.damage_reply = damage


@pytest.mark.parametrize("kind", ["command lost", "lost", "truncated", "garbled", "late", "reset", "disconnected"])
@pytest.mark.parametrize("action", ["switch_on", "set_brightness", "switch_off", "make_safe"])
def test_every_fault_at_every_exchange(stand, clock, kind, action) -> None:
    """Whatever is spoilt: no lie about the light, a confirmed safe state after it, and a second try that succeeds."""
    for place in range(40):
        room, wire, lamp = stand(driver={"brightness_percent": 30.0})
        if action != "switch_on":
            lamp.switch_on()
        wire.sent.clear()
        _spoil(kind, wire, lamp, clock, place)
        try:
            steps = getattr(lamp, action)(*([50.0] if action == "set_brightness" else []))
        except InstrumentError as error:
            assert "MAY BE ON" in error.state or not wire.emulator.is_on or action == "switch_off"
        else:
            if action == "make_safe":
                assert all(step.confirmed for step in steps)
            # Whoever is switched off and on after the last look at it cannot be known to be.
            assert wire.emulator.is_on == (action in ("switch_on", "set_brightness")) or kind == "reset"
        spoilt = len([sent for sent in wire.sent if b"?" in sent or kind == "command lost"]) > place
        wire.damage_reply, wire.damage_command = lambda t, data: [(t, data)], lambda data: data
        clock.sleep(3.0)
        (step,) = lamp.make_safe()
        assert step.confirmed and not wire.emulator.is_on and not room.lamp.is_on(clock.now())
        lamp.set_brightness(30.0)
        lamp.switch_on()
        assert lamp.is_on and room.lamp.is_on(clock.now())
        if not spoilt:
            return
    raise AssertionError("no end of exchanges")
