"""The counter's driver over its emulator; the bytes expected on the wire are written from the manual's pages."""

from __future__ import annotations

import itertools
import subprocess
import sys
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from drivers.counter.emulators.keysight_53220a import Keysight53220AEmulator
from drivers.counter.keysight_53220a import Keysight53220A
from labctl.errors import InstrumentError, InstrumentTimeout
from labctl.roles import TriggerCounter
from labctl.sim.laboratory import create
from labctl.sim.server import LaboratoryServer


def answers(emulator, data: bytes, t: float = 1.0) -> bytes:
    return b"".join(reply for _, reply in emulator.respond(t, data))


class Room:
    """A laboratory that knows only how many pulses have passed."""

    def __init__(self) -> None:
        self.passed = 12345

    def pulses_passed(self, t: float) -> int:
        return self.passed


@pytest.fixture
def stand(clock, adapter_to, tap):
    """Get a function that sets up room, emulator, tap and driver; ``start_up`` unless told otherwise."""

    def build(start_up: bool = True, driver: dict | None = None, **options):
        room = Room()
        wire = tap(Keysight53220AEmulator(room, "trigger_counter", options))
        counter = Keysight53220A(adapter_to(wire, Keysight53220A.LINK), clock=clock, **(driver or {}))
        if start_up:
            counter.start_up()
            wire.sent.clear()
        return room, wire, counter

    return build


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        (b"SYST:ERR?\n", b'+0,"No error"\n'),
        (b"*ESR?\n*ESR?\n*CLS\n*ESR?\n", b"+128\n+128\n+0\n"),
        (b"CONF:TOT:TIM INF,(@1)\nSENS:TOT:GATE:TIME?\n", b"+9.900000000000000E+037\n"),
        (b"CONF:TOT:TIM 0.5,(@2)\nTOT:GATE:TIME?\n", b"+5.000000000000000E-001\n"),
        (b"CONFigure:TOTalize:TIMed\nSENSe:TOTalize:GATE:TIME?\n", b"+1.000000000000000E-001\n"),
        (b"CONF:TOT:TIM 5000\nSYST:ERR?\n", b'-222,"Data out of range"\n'),
        (b"STAT:OPER:COND?\nCONF:TOT:TIM INF\nINIT\nSTAT:OPER:COND?\nABOR\nSTAT:OPER:COND?\n", b"+0\n+16\n+0\n"),
        (b"CONF:TOT:TIM INF\nINIT\nINIT\nSYST:ERR?\n", b'-213,"Init ignored"\n'),
        (b"CONF:TOT:TIM INF\nINIT\nSENS:TOT:DATA?\n", b"+0.000000000000000E+000\n"),
        (b"SENS:TOT:DATA?\nSYST:ERR?\n", b'+9.910000000000000E+037\n-230,"Data corrupt or stale"\n'),
        (b"INP1:COUP DC;SLOP NEG\nINP1:COUP?;SLOP?\n", b"DC;NEG\n"),
        (b"INP2:LEV 0.25\nINP2:LEV?\n", b"+2.500000000000000E-001\n"),
        (b"TOTALLY?\nSYST:ERR?\n", b'-113,"Undefined header"\n'),
    ],
)
def test_emulator_speaks_as_the_manual_says(sent: bytes, received: bytes) -> None:
    assert answers(Keysight53220AEmulator(Room(), "trigger_counter", {}), sent) == received


@given(cuts=st.sets(st.integers(1, 80), max_size=6))
@settings(max_examples=30, deadline=None)
def test_any_fragmentation_gives_the_same_replies(cuts) -> None:
    stream = b"CONF:TOT:TIM INF,(@1)\nINP1:LEV 1\r\nINIT\n*CLS\nSENS:TOT:DATA?\n*ESR?;:STAT:OPER:COND?\n"
    emulator = Keysight53220AEmulator(Room(), "trigger_counter", {})
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    received = b"".join(answers(emulator, stream[a:b]) for a, b in itertools.pairwise(edges))
    assert received == b"+0.000000000000000E+000\n+0;+16\n"


def test_what_is_told_to_begin_counting(stand) -> None:
    _, wire, counter = stand(driver={"channel": 2, "slope": "negative", "level_v": 0.8}, channel=2)
    assert isinstance(counter, TriggerCounter)
    counter.restart()
    assert [sent for sent in wire.sent if b"?" not in sent] == [
        *(b"ABOR\n", b"*CLS\n", b"CONF:TOT:TIM INF,(@2)\n", b"INP2:COUP DC\n", b"INP2:IMP 50\n", b"INP2:SLOP NEG\n"),
        *(b"INP2:LEV 0.8\n", b"INIT\n"),
    ]


def test_getting_in_step_never_ends_a_count(stand) -> None:
    room, wire, counter = stand()
    room.passed += 7
    wire.damage_reply = lambda t, data: []
    with pytest.raises(InstrumentTimeout):
        _ = counter.count
    wire.damage_reply = lambda t, data: [(t, data)]
    assert counter.count == 7
    assert not any(sent.startswith((b"ABOR", b"*RST", b"INIT")) for sent in wire.sent)


@pytest.mark.parametrize(
    "count", [0, 1, 17_999_999, 18_000_000, 18_000_001, 2**31 - 1, 2**31, 2**31 + 1, 2**32 + 1, 10**15 - 1]
)
def test_exact_to_one(stand, count) -> None:
    room, _, counter = stand()
    room.passed += count
    assert counter.count == count
    room.passed += 1
    assert counter.count == count + 1


@given(count=st.integers(0, 2**53 - 1))
@settings(max_examples=200, deadline=None)
def test_every_count_is_read_as_the_integer_it_is(count) -> None:
    emulator = Keysight53220AEmulator(room := Room(), "trigger_counter", {})
    answers(emulator, b"CONF:TOT:TIM INF\nINIT\n")
    room.passed += count
    counter = Keysight53220A.__new__(Keysight53220A)
    assert counter._exact(answers(emulator, b"SENS:TOT:DATA?\n").decode()) == count


def test_counts_the_pulses_that_pass_the_shutter_of_the_laboratory(clock, adapter_to) -> None:
    laboratory = create(None, None, 0)
    emulator = Keysight53220AEmulator(laboratory, "trigger_counter", {})
    counter = Keysight53220A(adapter_to(emulator, Keysight53220A.LINK), clock=clock)
    counter.start_up()
    laboratory.shutter.set(10.0, True)
    laboratory.shutter.set(12.5, False)
    clock.sleep_until(20.0)
    expected = laboratory.pulses_passed(20.0)
    assert counter.count == expected == pytest.approx(2.5 / laboratory.pulse_period_s, abs=1)
    laboratory.shutter.set(30.0, True)
    clock.sleep_until(31.0)
    first, second = counter.count, counter.count
    assert expected < first <= second <= laboratory.pulses_passed(clock.now())


def test_restarting_begins_from_0(stand) -> None:
    room, _, counter = stand()
    room.passed += 500
    assert counter.count == 500
    counter.restart()
    assert counter.count == 0
    room.passed += 3
    assert counter.count == 3


def test_a_counter_restarted_behind_our_back_is_noticed_and_stays_lost(stand, clock) -> None:
    room, wire, counter = stand()
    room.passed += 500
    assert counter.count == 500
    wire.emulator.restart_behind_our_back(clock.now())
    room.passed += 499
    with pytest.raises(InstrumentError, match="fell from 500 to 499"):
        _ = counter.count
    room.passed += 100
    with pytest.raises(InstrumentError, match="lost"):
        _ = counter.count
    counter.restart()
    assert counter.count == 0


def test_an_overflow_that_wraps_is_noticed(stand) -> None:
    room, _, counter = stand()
    room.passed += 2**32 - 1
    assert counter.count == 2**32 - 1
    room.passed -= 2**32 - 1
    with pytest.raises(InstrumentError, match=r"fell from 4294967295 to 0: .*overflowed"):
        _ = counter.count


@pytest.mark.parametrize("event", ["power_cycle", "press_preset"])
def test_a_counter_that_was_switched_off_or_stopped_is_noticed(stand, clock, event) -> None:
    room, wire, counter = stand()
    room.passed += 5
    assert counter.count == 5
    getattr(wire.emulator, event)(clock.now())
    (entry,) = counter.readiness()
    assert not entry.ok
    with pytest.raises(InstrumentError, match="lost"):
        _ = counter.count
    (step,) = counter.make_safe()
    assert step.confirmed and "not counting" in step.evidence
    counter.restart()
    room.passed += 2
    assert counter.count == 2


def test_a_power_cycle_says_what_it_is(stand, clock) -> None:
    _, wire, counter = stand()
    wire.emulator.power_cycle(clock.now())
    with pytest.raises(InstrumentError, match="switched off and on"):
        _ = counter.count


def test_a_count_that_was_never_begun(stand) -> None:
    _, _, counter = stand(start_up=False)
    with pytest.raises(InstrumentError, match="never begun"):
        _ = counter.count


def test_an_awkward_start(stand) -> None:
    room, _, counter = stand(awkward=True)
    room.passed += 9
    assert counter.count == 9


def test_the_level_is_set_after_the_counter_has_chosen_its_own(stand) -> None:
    _, wire, _ = stand(driver={"level_v": 0.5})
    assert answers(wire.emulator, b"INP1:LEV?\n") == b"+5.000000000000000E-001\n"


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (b"+1.800000000E+009\n", None),
        (b"1800000000\n", None),
        (b"+1.8E+009\n", "not an exact count"),
        (b"+1.800000000000000E+017\n", "not an exact count"),
        (b"+1.800000050000000E+007\n", "not an exact count"),
        (b"-1.800000000000000E+007\n", "not an exact count"),
        (b"+9.900000000000000E+037\n", "no count to tell"),
        (b"+9.910000000000000E+037\n", "no count to tell"),
        (b"NAN\n", "not a number"),
        (b"\n", "not a number"),
        (b"+1.8000000000\xb0E+009\n", "not a number"),
    ],
)
def test_replies_that_cannot_be_exact(stand, reply, message) -> None:
    _, wire, counter = stand()
    wire.damage_reply = lambda t, data: [(t, reply if len(data) == 24 else data)]
    if message is None:
        assert counter.count == 1_800_000_000
    else:
        with pytest.raises(InstrumentError, match=message) as caught:
            _ = counter.count
        assert "SENS:TOT:DATA?" in caught.value.exchange.sent


def test_one_spoilt_reply_gives_the_right_count_or_an_error_and_never_costs_the_count(stand) -> None:
    """Silence, a lost byte, a flipped digit: at every exchange of a reading, one after the other."""
    harms = [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data[:3] + data[4:],
        lambda data: data.replace(b"1", b"7"),
        lambda data: data.replace(b"E+007", b"E+009"),
        lambda data: data.replace(b"+0\n", b"+128\n").replace(b"+16\n", b"+0\n"),
    ]
    room, wire, counter = stand()
    room.passed += 18_000_001
    assert counter.count == 18_000_001
    exchanges = len(wire.sent)
    for harm, place in itertools.product(harms, range(exchanges)):
        seen = itertools.count()

        def damage(t, data, harm=harm, place=place, seen=seen):
            return [(t, harmed)] if (harmed := harm(data) if next(seen) == place else data) else []

        wire.damage_reply = damage
        try:
            assert counter.count == 18_000_001
        except InstrumentError as error:
            assert error.exchange.sent
        wire.damage_reply = lambda t, data: [(t, data)]
        assert counter.count == 18_000_001


@pytest.mark.parametrize("kind", ["command lost", "late", "reset", "disconnected"])
@pytest.mark.parametrize("action", ["count", "restart"])
def test_other_faults_at_every_exchange(stand, clock, kind, action) -> None:
    """The right count or an error; what it costs is the count of a counter that was reset, and nothing else."""
    for place in range(40):
        room, wire, counter = stand()
        room.passed += 18_000_001
        expected = counter.count if action == "count" else 0
        wire.sent.clear()
        asked = itertools.count()

        def damage(t, data, wire=wire, counter=counter, place=place, asked=asked):
            if next(asked) != place:
                return [(t, data)]
            if kind == "reset":
                wire.emulator.power_cycle(t)
            elif kind == "disconnected":
                counter.adapter.connection.close()
            return [(t + 3.0 if kind == "late" else t, data)]

        if kind == "command lost":
            wire.damage_command = lambda data, place=place, asked=asked: b"" if data and next(asked) == place else data
        else:
            wire.damage_reply = damage
        try:
            if action == "count":
                assert counter.count == expected
            else:
                counter.restart()
        except InstrumentError as error:
            assert error.where
        spoilt = next(asked) > place
        wire.damage_reply, wire.damage_command = lambda t, data: [(t, data)], lambda data: data
        clock.sleep(5.0)
        if kind == "disconnected":
            counter.adapter.reconnect()
        try:
            assert counter.count == expected
        except InstrumentError as error:
            assert kind == "reset" or action == "restart", error
        counter.restart()
        room.passed += 3
        assert counter.count == 3
        if not spoilt:
            return
    raise AssertionError("no end of exchanges")


def test_a_counter_that_does_not_begin(stand) -> None:
    _, wire, counter = stand()
    wire.damage_command = lambda data: data.replace(b"INIT\n", b"")
    with pytest.raises(InstrumentError, match="does not count"):
        counter.restart()


def test_a_setting_that_is_refused(stand) -> None:
    _, wire, counter = stand()
    wire.damage_command = lambda data: data.replace(b"COUP DC", b"COUP XX")
    with pytest.raises(InstrumentError, match="refused its settings"):
        counter.restart()


def test_a_gate_that_would_close(stand) -> None:
    _, wire, counter = stand()
    wire.damage_command = lambda data: data.replace(b"TIM INF,", b"TIM 1,")
    with pytest.raises(InstrumentError, match="closes after 1 s instead of never"):
        counter.restart()


def test_another_instrument_at_the_end_of_the_cable(stand) -> None:
    _, wire, counter = stand(start_up=False)
    wire.damage_reply = lambda t, data: [(t, data.replace(b"53220A", b"33220A"))]
    with pytest.raises(InstrumentError, match="33220A is none of the counters"):
        counter.start_up()


def test_make_safe_leaves_it_counting(stand, clock, adapter_to) -> None:
    room, wire, counter = stand()
    for each in (counter, counter, Keysight53220A(adapter_to(wire, Keysight53220A.LINK), clock=clock)):
        (step,) = each.make_safe()
        assert step.confirmed and step.evidence.startswith("counting")
    room.passed += 4
    assert counter.count == 4
    counter.close()
    (step,) = counter.make_safe()
    assert not step.confirmed and "closed" in step.evidence


@pytest.mark.parametrize("options", [{"channel": 3}, {"level_v": 9.0}, {"impedance_ohm": 75}, {"gate": "ext"}])
def test_senseless_options(options) -> None:
    with pytest.raises(ValidationError):
        Keysight53220A.Options(**options)


_CLIENT = """
import sys
import pyvisa
counter = pyvisa.ResourceManager("@py").open_resource(sys.argv[1], read_termination="\\n", write_termination="\\n")
print(counter.query("*IDN?"))
for command in ("*RST", "*CLS", "CONF:TOT:TIM INF,(@1)", "INP1:LEV 1.0", "INIT"):
    counter.write(command)
first, second = (float(counter.query("SENS:TOT:DATA?")) for _ in range(2))
print(first, second)
print(counter.query("STAT:OPER:COND?"))
"""


def test_plain_pyvisa_in_a_process_of_its_own() -> None:
    pytest.importorskip("pyvisa_py", reason="pyvisa-py is the VISA library of this client")
    instruments = {"trigger_counter": SimpleNamespace(driver="53220a", resource="sim:", options={})}
    bench = SimpleNamespace(name="counter", instruments=instruments, laboratory={"shutter": {"initially_open": True}})
    with LaboratoryServer(bench, factories={"53220a": Keysight53220AEmulator}) as addresses:
        host, port = addresses["instruments"]["trigger_counter"]["tcp"].split(":")
        command = [sys.executable, "-c", _CLIENT, f"TCPIP::{host}::{port}::SOCKET"]
        client = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert client.returncode == 0, client.stderr
    identity, counts, state = client.stdout.splitlines()
    assert identity.startswith("Agilent Technologies,53220A,")
    first, second = map(float, counts.split())
    assert first.is_integer() and 0 <= first <= second and state == "+16"
