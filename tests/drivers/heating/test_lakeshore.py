"""Lake Shore 335 and 336 over their emulators; the bytes expected on the wire are written from the fact sheet."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.heating.emulators.lakeshore import LakeShore335Emulator, LakeShore336Emulator
from drivers.heating.lakeshore import LakeShore335, LakeShore336
from labctl.clock import VirtualClock
from labctl.errors import ConnectionLost, InputError, InstrumentError, InstrumentTimeout
from labctl.roles import HeatingStage, Identity
from labctl.sim.laboratory import create
from labctl.sim.link import EmulatorLink
from labctl.sim.server import LaboratoryServer
from labctl.transport.adapter import WireAdapter

STILL = {"thermal": {"ambient_c": 22.0, "lowest_c": -260.0, "ripple_k": 0.0}}
QUIET = {"noise_k": 0.0}


def answers(emulator, data: bytes, t: float = 1.0) -> bytes:
    return b"".join(reply for _, reply in emulator.respond(t, data))


def emulator_with(factory=LakeShore336Emulator, **options):
    return factory(create(STILL, None, 0), "heating_stage", QUIET | options)


@pytest.fixture
def stand(clock, adapter_to, tap):
    """Get a function that sets up laboratory, tap and driver; ``start_up`` unless told otherwise."""

    def build(start_up: bool = True, driver=None, model="336", **options):
        laboratory = create(STILL, None, 0)
        emulator, controller = {
            "335": (LakeShore335Emulator, LakeShore335),
            "336": (LakeShore336Emulator, LakeShore336),
        }[model]
        wire = tap(emulator(laboratory, "heating_stage", QUIET | options))
        stage = controller(adapter_to(wire, controller.LINK), clock=clock, **(driver or {}))
        if start_up:
            stage.start_up()
            wire.sent.clear()
        return laboratory, wire, stage

    return build


# The bytes in this table are those of the fact sheet and of traces of other programs.
@pytest.mark.parametrize(
    ("sent", "received"),
    [
        (b"*IDN?\n", b"LSCI,MODEL336,LSA1234/0000000,1.8\r\n"),
        (b"\n*IDN?\r\n", b"LSCI,MODEL336,LSA1234/0000000,1.8\r\n"),
        (b"KRDG? A\n", b"+295.150\r\n"),
        (b"CRDG? B;KRDG? A\n", b"+22.000;+295.150\r\n"),
        (b"KRDG? 0\n", b"+295.150,+295.150,+295.150,+295.150\r\n"),
        (b"SETP 1,310.0\n", b""),
        (b"SETP 1,310.000000\nSETP? 1\n", b"+310.000\r\n"),
        (b"SETP 1,310.0;:SETP? 1;*ESR?\n", b"+310.000;128\r\n"),
        (b"*CLS\nRANGE 1,2;*ESR?\nRANGE? 1\n", b"0\r\n2\r\n"),
        (b"HTR? 1\n", b"+000.0\r\n"),
        (b"HTRST? 1;RDGST? A\n", b"0;0\r\n"),
        (b"PID? 1\nPID 1,60,30,5\nPID? 1\n", b"+50.0,+20.0,+0\r\n+60.0,+30.0,+5\r\n"),
        (b"RAMP 1,1,10\nRAMP? 1\n", b"1,10.0\r\n"),
        (b"OUTMODE 1,3,2,0\nOUTMODE? 1\n", b"3,2,0\r\n"),
        (b"INTYPE? A\n", b"2,1,0,1,1\r\n"),
        (b'INNAME A,"cold finger"\nINNAME? A\n', b"cold finger    \r\n"),
        (b"TLIMIT A,350\nTLIMIT? A\n", b"+350.0000\r\n"),
        (b"RELAY 1,1,,\nRELAY? 1\n", b"1,A,2\r\n"),
        (b"*CLS\nNONSENSE;*ESR?\n", b"32\r\n"),
        (b"*CLS\nPID 1,2000,1,1;*ESR?\nPID? 1\n", b"16\r\n+50.0,+20.0,+0\r\n"),
        (b"*CLS\nRANGE 1,4;*ESR?;*ESR?\n", b"16;0\r\n"),
        (b"*CLS\nSETP? 7;*ESR?\n", b"4\r\n"),
        (b"*CLS\nSETP 1,-5;*ESR?;SETP? 1\n", b"16;+300.000\r\n"),
        (b"CRVHDR? 21\nCRVPT? 21,1\n", b"User,0,2,+325.000,1\r\n+0.000,+0.000\r\n"),
        (b"*OPC?;*TST?;*STB?\n", b"1;0;0\r\n"),
        (b"KRDG? A", b""),
        (b"\n\r\n", b""),
    ],
)
def test_emulator_answers_as_the_protocol_says(sent, received):
    assert answers(emulator_with(), sent) == received


def test_the_335_is_smaller_and_takes_what_its_client_sends_first():
    emulator = emulator_with(LakeShore335Emulator)
    assert answers(emulator, b"\n*IDN?\n") == b"LSCI,MODEL335,LSA1234/0000000,1.8\r\n"
    assert answers(emulator, b"*CLS\nEMUL 0,0;*ESR?\n") == b"0\r\n"
    assert answers(emulator, b"KRDG? C;*ESR?\nSETP? 3;*ESR?\n") == b"4\r\n4\r\n"


@given(cuts=st.sets(st.integers(1, 50)))
@settings(max_examples=30, deadline=None)
def test_commands_may_come_in_pieces(cuts):
    stream = b"*CLS\r\nSETP 1,310\nSETP? 1;*ESR?\nRANGE 1,1\nRANGE? 1\n"
    emulator = emulator_with()
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    received = b"".join(answers(emulator, stream[a:b]) for a, b in itertools.pairwise(edges))
    assert received == b"+310.000;0\r\n1\r\n"


def test_a_ramp_begins_at_the_set_point():
    emulator = emulator_with()
    answers(emulator, b"SETP 1,295;RAMP 1,1,6;RANGE 1,3;SETP 1,355\n", 100.0)
    assert answers(emulator, b"SETP? 1;RAMPST? 1\n", 400.0) == b"+325.000;1\r\n"
    assert answers(emulator, b"SETP? 1;RAMPST? 1\n", 701.0) == b"+355.000;0\r\n"
    answers(emulator, b"SETP 1,295\n", 800.0)
    assert answers(emulator, b"RAMP 1,0,6;SETP? 1;RAMPST? 1\n", 900.0) == b"+295.000;0\r\n"


def test_the_temperature_limit_shuts_the_heater_off():
    laboratory = create(STILL, None, 0)
    emulator = LakeShore336Emulator(laboratory, "heating_stage", QUIET)
    answers(emulator, b"TLIMIT A,320;SETP 1,380;RANGE 1,3\n", 1.0)
    assert answers(emulator, b"RANGE? 1\n", 2.0) == b"3\r\n"
    assert answers(emulator, b"RANGE? 1\n", 3600.0) == b"0\r\n"
    assert not laboratory.thermal.is_controlled(3600.0)


def test_the_line_is_that_of_the_manual():
    line = LakeShore335.LINK
    assert (line.baud_rate, line.data_bits, line.parity, line.stop_bits) == (57600, 7, "O", 1)
    assert (line.write_termination, line.read_termination) == (b"\n", b"\r\n")


def test_bytes_on_the_wire(stand):
    _, wire, stage = stand()
    assert stage.set_temperature(60.0) == pytest.approx(60.0)
    assert wire.sent == [
        b"INTYPE? A;*ESR?\n",
        b"SETP 1,333.150;INTYPE? A;SETP? 1;RAMPST? 1;*ESR?\n",
    ]
    wire.sent.clear()
    stage.switch_on()
    assert b"RANGE 1,2;RANGE? 1;HTRST? 1;*ESR?\n" in wire.sent
    wire.sent.clear()
    assert stage.temperature_c == pytest.approx(22.0, abs=1.0)
    assert wire.sent == [b"KRDG? A;CRDG? A;RDGST? A;RANGE? 1;*ESR?\n"]
    wire.sent.clear()
    stage.switch_off()
    assert wire.sent == [b"RANGE 1,0;MOUT 1,0;RANGE? 1;MOUT? 1\n"]


def test_start_up_sets_the_loop_up(stand, caplog):
    _, wire, stage = stand(start_up=False, driver={"tlimit_k": 350.0, "input": "B", "output": 2}, output_mode=3)
    stage.start_up()
    assert wire.sent[0] == b"*IDN?;*ESR?\n"
    assert b"MODE 1;RANGE 2,0;OUTMODE 2,1,2,0;TLIMIT B,350.000;*ESR?\n" in wire.sent
    assert answers(wire.emulator, b"MODE?;OUTMODE? 2;TLIMIT? B\n") == b"1;1,2,0;+350.0000\r\n"
    assert stage.range_c == pytest.approx((1.4 - 273.15, 345.0 - 273.15))
    wire.sent.clear()
    stage.start_up()
    assert not any(b"OUTMODE 2," in line or b"MODE 1;" in line for line in wire.sent)


def test_a_loop_from_start_to_end(stand, clock):
    laboratory, _, stage = stand(driver={"heater_range": "high"})
    assert isinstance(stage, HeatingStage)
    assert stage.identify() == Identity("Lake Shore", "336", "LSA1234/0000000", "1.8")
    assert [ready.ok for ready in stage.readiness()] == [True, True]
    assert not stage.is_on and stage.setpoint_c == pytest.approx(26.85)
    stage.set_temperature(-196.0)
    assert stage.setpoint_c == pytest.approx(-196.0) and not laboratory.thermal.is_controlled(clock.now())
    stage.switch_on()
    assert stage.is_on and 0 <= stage.heater_percent <= 100
    clock.sleep(3600.0)
    assert stage.temperature_c == pytest.approx(-196.0, abs=0.1)
    assert stage.set_temperature(50.0) == pytest.approx(50.0)
    clock.sleep(3600.0)
    assert stage.temperature_c == pytest.approx(50.0, abs=0.1)
    stage.switch_off()
    assert not stage.is_on and stage.heater_percent == 0 and not laboratory.thermal.is_controlled(clock.now())
    assert stage.temperature_c == pytest.approx(50.0, abs=1.0)


def test_a_ramp_of_the_driver_begins_at_the_temperature(stand, clock):
    laboratory, wire, stage = stand(driver={"ramp_k_min": 6.0}, setpoint=380.0)
    assert stage.set_temperature(80.0) == pytest.approx(80.0) == stage.setpoint_c
    stage.switch_on()
    assert stage.is_ramping and stage.setpoint_c == pytest.approx(22.0, abs=0.2)
    clock.sleep(300.0)
    assert stage.setpoint_c == pytest.approx(52.0, abs=0.2)
    assert 22.0 < laboratory.thermal.temperature_c(clock.now()) < 52.0
    clock.sleep(3600.0)
    assert not stage.is_ramping and stage.temperature_c == pytest.approx(80.0, abs=0.1)
    wire.sent.clear()
    assert stage.set_temperature(70.0) == 70.0
    assert stage.is_ramping and not any(b"RAMP 1," in line for line in wire.sent)
    stage.switch_off()
    stage.set_temperature(30.0)
    stage.switch_on()
    assert stage.setpoint_c == pytest.approx(laboratory.thermal.temperature_c(clock.now()), abs=0.2)


@pytest.mark.parametrize("units", ["kelvin", "celsius"])
def test_the_set_point_is_in_the_units_of_the_input(stand, units):
    _, wire, stage = stand(units=units)
    assert stage.set_temperature(60.0) == pytest.approx(60.0) == stage.setpoint_c
    value = {"kelvin": b"SETP 1,333.150;", "celsius": b"SETP 1,60.000;"}[units]
    assert any(line.startswith(value) for line in wire.sent)
    assert wire.emulator.setpoints["1"].target_k == pytest.approx(333.15)


def test_units_changed_in_a_run_do_no_harm(stand, clock):
    _, wire, stage = stand()
    stage.set_temperature(60.0)
    answers(wire.emulator, b"INTYPE A,,,,,2\n", clock.now())
    assert stage.setpoint_c == pytest.approx(60.0)
    stage.set_temperature(70.0)
    assert wire.emulator.setpoints["1"].target_k == pytest.approx(343.15)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"units": "sensor"}, "prefers sensor units"),
        ({"temperature_limit_k": 0.0}, "has no temperature limit"),
    ],
)
def test_what_cannot_be_used_is_refused_at_the_start(stand, options, words):
    _, _, stage = stand(start_up=False, **options)
    with pytest.raises(InstrumentError, match=words):
        stage.start_up()


def test_an_input_that_is_off_is_refused(stand):
    _, wire, stage = stand(start_up=False)
    answers(wire.emulator, b"INTYPE A,0\n")
    with pytest.raises(InstrumentError, match="input A is switched off"):
        stage.start_up()


def test_another_model_is_refused(clock, adapter_to):
    stage = LakeShore335(adapter_to(emulator_with(), LakeShore335.LINK), clock=clock)
    with pytest.raises(InstrumentError, match="not the identity of a Lake Shore 335"):
        stage.start_up()
    with pytest.raises(ValueError, match="input"):
        LakeShore335.Options(input="C")


def test_a_heater_that_was_left_on_stays_on(stand, caplog):
    laboratory, _, stage = stand(heater_on=2, setpoint=330.0)
    assert "was left heating" in caplog.text and stage.is_on
    assert laboratory.thermal.is_controlled(2.0)


def test_awkward_start_switches_an_open_loop_off(stand, clock):
    laboratory, wire, stage = stand(awkward=True)
    assert not stage.is_on and not laboratory.thermal.is_controlled(clock.now())
    assert answers(wire.emulator, b"MODE?;MOUT? 1;OUTMODE? 1\n", clock.now()) == b"1;+0.000;1,1,0\r\n"
    assert stage.set_temperature(40.0) == pytest.approx(40.0)


@pytest.mark.parametrize(
    ("status", "words"), [(1, "invalid"), (16, "under range"), (32, "over range"), (64, "zero"), (128, "units over")]
)
def test_reading_faults_are_told_in_words(stand, status, words):
    _, wire, stage = stand()
    wire.emulator.sensor_status = status
    with pytest.raises(InstrumentError, match=words):
        _ = stage.temperature_c
    assert words in stage.readiness()[0].text and not stage.readiness()[0].ok


@pytest.mark.parametrize(("fault", "words"), [(1, "open heater load"), (2, "shorted heater")])
def test_heater_faults_are_told_in_words(stand, fault, words):
    laboratory, wire, stage = stand()
    wire.emulator.heater_fault = fault
    stage.set_temperature(60.0)
    with pytest.raises(InstrumentError, match=words) as caught:
        stage.switch_on()
    assert caught.value.state == "the heater is off again"
    assert not stage.readiness()[1].ok and not laboratory.thermal.is_controlled(5.0)


def test_readings_in_two_units_must_agree(stand):
    _, wire, stage = stand()
    wire.damage_reply = lambda t, data: [(t, data.replace(b"+295.150", b"+395.150"))]
    with pytest.raises(InstrumentError, match="not the same temperature"):
        _ = stage.temperature_c


def test_a_heater_that_goes_off_by_itself_is_noticed(stand, clock):
    _, wire, stage = stand()
    stage.set_temperature(60.0)
    stage.switch_on()
    answers(wire.emulator, b"RANGE 1,0\n", clock.now())
    with pytest.raises(InstrumentError, match="heater 1 has gone off by itself"):
        _ = stage.temperature_c
    stage.switch_on()
    assert stage.temperature_c < 60.0


def test_a_reset_in_the_middle_is_noticed_and_mended(stand, clock):
    _, wire, stage = stand()
    stage.set_temperature(60.0)
    stage.switch_on()
    wire.emulator.power_cycle(clock.now())
    with pytest.raises(InstrumentError, match="switched off and on"):
        _ = stage.temperature_c
    assert not stage.is_on
    stage.set_temperature(60.0)
    stage.switch_on()
    assert stage.is_on and answers(wire.emulator, b"MODE?\n", clock.now()) == b"1\r\n"


def test_a_set_point_that_is_spoilt_on_its_way_is_not_believed(stand):
    _, wire, stage = stand()
    wire.damage_reply = lambda t, data: [(t, data.replace(b"+300.000", b"+30.000", 1))]
    with pytest.raises(InstrumentError, match=r"\+30.000 and \+300.000 at once"):
        _ = stage.setpoint_c


def test_limits(stand):
    _, wire, stage = stand(driver={"lowest_k": 77.0})
    for temperature_c in (-196.2, 122.0, float("nan")):
        with pytest.raises(InputError, match="beyond the range of"):
            stage.set_temperature(temperature_c)
    assert wire.sent == []


def test_a_set_point_that_is_clamped_is_an_error(stand):
    _, wire, stage = stand()
    wire.damage_command = lambda data: data.replace(b"SETP 1,333.150", b"SETP 1,320.000")
    with pytest.raises(InstrumentError, match=r"the set-point is \+320.000 instead of 333.150"):
        stage.set_temperature(60.0)


@pytest.mark.parametrize(
    ("sent", "becomes", "words"), [(b"SETP", b"SETQ", "command error"), (b"333.150", b"-333.150", "execution error")]
)
def test_refusals_are_noticed(stand, sent, becomes, words):
    _, wire, stage = stand()
    wire.damage_command = lambda data: data.replace(b"SETP 1,333.150", b"SETP 1,333.150".replace(sent, becomes))
    with pytest.raises(InstrumentError, match=words):
        stage.set_temperature(60.0)


def test_messages_keep_their_distance(clock, adapter_to):
    moments: list[tuple[float, float]] = []

    class Timed(LakeShore336Emulator):
        def respond(self, t, data):
            replies = super().respond(t, data)
            if data:
                moments.append((t, max((moment for moment, _ in replies), default=t)))
            return replies

    emulator = Timed(create(STILL, None, 0), "heating_stage", QUIET)
    stage = LakeShore336(adapter_to(emulator, LakeShore336.LINK), clock=clock)
    stage.start_up()
    stage.set_temperature(60.0)
    stage.switch_on()
    assert len(moments) > 5
    assert all(sent - answered >= 0.05 - 1e-9 for (_, answered), (sent, _) in itertools.pairwise(moments))


def test_a_silent_controller_is_named(stand):
    _, wire, stage = stand(start_up=False)
    wire.damage_command = lambda data: b""
    with pytest.raises(InstrumentTimeout, match="does not answer"):
        stage.start_up()


COMMAND_DAMAGE = {"lost": lambda data: b"", "garbled": lambda data: bytes([data[0] ^ 0x80]) + data[1:]}
REPLY_DAMAGE = {
    "silence": lambda t, data: [],
    "late": lambda t, data: [(t + 1.2 * LakeShore336.LINK.timeout_s, data)],
    "truncated": lambda t, data: [(t, data[: len(data) // 2])],
    "terminator": lambda t, data: [(t, data.replace(b"\n", b""))],
    "separator": lambda t, data: [(t, data.replace(b";", b"", 1))],
    "garbled": lambda t, data: [(t, bytes([data[0] ^ 0x80]) + data[1:])],
}


def damage_one(wire, number, on_command, on_reply):
    """Damage the transaction ``number`` from now on, counted from 0, and no other."""
    commands, replies = itertools.count(), itertools.count()
    if on_command:
        wire.damage_command = lambda data: on_command(data) if data and next(commands) == number else data
    if on_reply:
        wire.damage_reply = lambda t, data: on_reply(t, data) if next(replies) == number else [(t, data)]


@pytest.mark.parametrize("number", range(7))
@pytest.mark.parametrize("damage", [*COMMAND_DAMAGE, *REPLY_DAMAGE])
@pytest.mark.parametrize("ramp_k_min", [None, 10.0])
def test_one_fault_anywhere_ends_in_the_right_state_or_an_error(stand, clock, ramp_k_min, damage, number):
    laboratory, wire, stage = stand(driver={"ramp_k_min": ramp_k_min})
    damage_one(wire, number, COMMAND_DAMAGE.get(damage), REPLY_DAMAGE.get(damage))
    try:
        stage.set_temperature(80.0)
        stage.switch_on()
        assert stage.temperature_c == pytest.approx(laboratory.thermal.temperature_c(clock.now()), abs=1.0)
    except InstrumentError:
        wire.damage_command, wire.damage_reply = (lambda data: data), (lambda t, data: [(t, data)])
        stage.set_temperature(80.0)
        stage.switch_on()
    clock.sleep(3600.0)
    assert stage.is_on and stage.setpoint_c == pytest.approx(80.0)
    assert stage.temperature_c == pytest.approx(80.0, abs=0.1)


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("damage", [*COMMAND_DAMAGE, *REPLY_DAMAGE])
@pytest.mark.parametrize("heater_on", [0, 3])
def test_make_safe_through_one_fault_anywhere(stand, clock, heater_on, damage, number):
    laboratory, wire, stage = stand(heater_on=heater_on)
    damage_one(wire, number, COMMAND_DAMAGE.get(damage), REPLY_DAMAGE.get(damage))
    before = clock.now()
    (step,) = stage.make_safe()
    assert clock.now() - before < 2.0
    assert step.confirmed and not laboratory.thermal.is_controlled(clock.now())


def test_make_safe_gives_the_bytes_as_evidence(stand):
    _, wire, stage = stand(heater_on=3)
    (step,) = stage.make_safe()
    assert step.confirmed and step.action == "switch heater 1 off"
    assert wire.sent == [b"RANGE 1,0;MOUT 1,0;RANGE? 1;MOUT? 1\n"]
    assert r"received b'0;+0.000\r\n'" in step.evidence
    assert stage.make_safe()[0].confirmed


def test_make_safe_of_a_dead_controller_is_unconfirmed(stand, clock):
    _, wire, stage = stand()
    wire.damage_command = lambda data: b""
    before = clock.now()
    (step,) = stage.make_safe()
    assert not step.confirmed and "HEATER MAY BE ON" in step.evidence and "ALL OFF" in step.evidence
    assert clock.now() - before < 3.0


def test_make_safe_does_not_believe_a_heater_that_stays_on(stand):
    _, wire, stage = stand(heater_on=3)
    wire.damage_command = lambda data: data.replace(b"RANGE 1,0", b"RANGE 1,3")
    (step,) = stage.make_safe()
    assert not step.confirmed and "did not go off" in step.evidence


def test_make_safe_mends_a_broken_link_and_needs_no_start_up(stand, clock):
    laboratory, _, stage = stand(start_up=False, awkward=True)
    assert stage.make_safe()[0].confirmed
    stage.adapter.connection.close()
    assert stage.make_safe()[0].confirmed and not laboratory.thermal.is_controlled(clock.now())


def test_make_safe_takes_the_link_from_a_call_under_way(stand, clock):
    laboratory, wire, stage = stand(heater_on=3)
    wire.damage_reply = lambda t, data: [(t + 0.3, data)] if b"SETP" in data or data.count(b";") > 1 else [(t, data)]
    both, errors, steps = threading.Barrier(2), [], []

    def setting():
        with clock.actor():
            both.wait()
            try:
                stage.set_temperature(60.0)
            except ConnectionLost as error:
                errors.append(error)

    def rescue():
        with clock.actor():
            both.wait()
            clock.sleep(0.07)
            steps.extend(stage.make_safe())

    threads = [threading.Thread(target=task) for task in (setting, rescue)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert len(errors) == 1 and steps[0].confirmed
    assert not laboratory.thermal.is_controlled(clock.now())


@given(cuts=st.sets(st.integers(1, 30)))
@settings(max_examples=20, deadline=None)
def test_replies_may_come_in_pieces(cuts):
    clock = VirtualClock(wall_start=0.0)

    class InPieces(LakeShore336Emulator):
        def respond(self, t, data):
            pieces = []
            for moment, reply in super().respond(t, data):
                edges = [0, *sorted(cuts), len(reply)]
                pieces += [(moment + 0.002 * n, reply[a:b]) for n, (a, b) in enumerate(itertools.pairwise(edges))]
            return [piece for piece in pieces if piece[1]]

    emulator = InPieces(create(STILL, None, 0), "heating_stage", QUIET)
    stage = LakeShore336(WireAdapter(lambda: EmulatorLink(emulator, clock), LakeShore336.LINK, clock), clock=clock)
    stage.start_up()
    assert stage.temperature_c == pytest.approx(22.0)


def serve(client: str, driver: str = "lakeshore-336", emulator: type = LakeShore336Emulator):
    """Run a client in a process of its own against a served emulator; get the JSON that it prints last."""
    instrument = SimpleNamespace(driver=driver, resource="sim:", options={})
    bench = SimpleNamespace(name="test", laboratory=None, instruments={"heating_stage": instrument})
    with LaboratoryServer(bench, factories={driver: emulator}) as addresses:
        port = addresses["instruments"]["heating_stage"]["tcp"].split(":")[1]
        command = [sys.executable, "-c", client, port]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


LAKESHORE_CLIENT = r"""
import json, sys
from lakeshore import Model336
from lakeshore.temperature_controllers import InstrumentException

controller = Model336(ip_address="127.0.0.1", tcp_port=int(sys.argv[1]), timeout=5.0)
found = {"model": controller.model_number, "serial": controller.serial_number, "firmware": controller.firmware_version}
found["kelvin"] = controller.get_all_kelvin_reading()
found["celsius"] = controller.get_celsius_reading("A")
found["status"] = vars(controller.get_input_reading_status("A"))
controller.set_control_setpoint(1, 315.5)
found["setpoint"] = controller.get_control_setpoint(1)
controller.set_heater_pid(1, 40, 27, 0)
found["pid"] = controller.get_heater_pid(1)
controller.set_heater_output_mode(1, controller.HeaterOutputMode.CLOSED_LOOP, controller.InputChannel.CHANNEL_A)
found["outmode"] = controller.get_heater_output_mode(1)["mode"]
controller.set_setpoint_ramp_parameter(1, True, 10.5)
found["ramp"] = controller.get_setpoint_ramp_parameter(1)
controller.set_heater_range(1, controller.HeaterRange.MEDIUM)
found["range"] = controller.get_heater_range(1)
found["heater"] = controller.get_heater_output(1)
found["heater_status"] = controller.get_heater_status(1).name
controller.set_temperature_limit("A", 350)
found["limit"] = controller.get_temperature_limit("A")
found["sensor"] = controller.get_input_sensor("A").units.name
found["curve"] = controller.get_curve_header(21).curve_name.strip()
controller.set_sensor_name("A", "film")
found["name"] = controller.get_sensor_name("A").strip()
controller.all_heaters_off()
found["off"] = controller.get_heater_range(1)
try:
    controller.query("NONSENSE?")
except InstrumentException as error:
    found["refused"] = str(error)
print(json.dumps(found))
"""


@pytest.mark.skipif(find_spec("lakeshore") is None, reason="the client lakeshore (MIT, `clients`) is not installed")
def test_the_maker_s_own_client_in_another_process():
    found = serve(LAKESHORE_CLIENT)
    assert (found["model"], found["serial"], found["firmware"]) == ("MODEL336", "LSA1234", "1.8")
    assert len(found["kelvin"]) == 4 and found["kelvin"][0] - found["celsius"] == pytest.approx(273.15, abs=0.1)
    assert not any(found["status"].values())
    assert found["setpoint"] == 315.5 and found["limit"] == 350.0
    assert list(found["pid"].values()) == [40.0, 27.0, 0.0]
    assert list(found["ramp"].values()) == [True, 10.5]
    assert (found["outmode"], found["range"], found["off"]) == (1, 2, 0)
    assert found["heater_status"] == "NO_ERROR" and 0 <= found["heater"] <= 100
    assert (found["sensor"], found["curve"], found["name"]) == ("KELVIN", "User", "film")
    assert "Invalid Command" in found["refused"]


PYMEASURE_CLIENT = r"""
import json, sys
from pymeasure.instruments.lakeshore import LakeShore3xx

controller = LakeShore3xx(f"TCPIP::127.0.0.1::{sys.argv[1]}::SOCKET", visa_library="@py")
found = {"id": controller.id, "kelvin": controller.input_A.kelvin, "celsius": controller.input_B.celsius}
controller.output_1.setpoint = 310
found["setpoint"] = controller.output_1.setpoint
controller.output_1.range = "low"
found["range"] = controller.output_1.range
found["output"] = controller.output_1.output
controller.output_1.range = "off"
controller.output_1.mout = 25
found["off"], found["mout"] = controller.output_1.range, controller.output_1.mout
print(json.dumps(found))
"""


def test_pymeasure_s_client_in_another_process():
    found = serve(PYMEASURE_CLIENT)
    assert found["id"] == "LSCI,MODEL336,LSA1234/0000000,1.8"
    assert found["kelvin"] - found["celsius"] == pytest.approx(273.15, abs=0.1)
    assert (found["setpoint"], found["range"], found["off"], found["mout"]) == (310.0, "low", "off", 25.0)
    assert 0 <= found["output"] <= 100


def test_the_335_works_likewise(stand, clock):
    _, _, stage = stand(model="335", driver={"input": "B", "output": 2})
    assert stage.identify().model == "335"
    stage.set_temperature(40.0)
    stage.switch_on()
    clock.sleep(3600.0)
    assert stage.temperature_c == pytest.approx(40.0, abs=0.1)
    assert stage.make_safe()[0].confirmed and not stage.is_on
