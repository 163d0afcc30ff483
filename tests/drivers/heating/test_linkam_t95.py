"""The Linkam T95 over its emulator; the bytes expected on the wire are written from the fact sheet."""

from __future__ import annotations

import itertools
import re
import socket
import subprocess
import sys
import threading
import time
from importlib.util import find_spec

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.heating.emulators.linkam_t95 import LinkamT95Emulator
from drivers.heating.linkam_t95 import LinkamStatus, LinkamT95
from labctl.clock import RealClock, VirtualClock
from labctl.errors import ConnectionLost, InputError, InstrumentError, InstrumentTimeout
from labctl.roles import HeatingStage, Identity
from labctl.sim.laboratory import create
from labctl.sim.link import EmulatorLink
from labctl.transport.adapter import WireAdapter

STILL = {"thermal": {"ambient_c": 24.0, "lowest_c": -150.0, "ripple_k": 0.0}}
QUIET = {"noise_k": 0.0}


def answers(emulator, data: bytes, t: float = 1.0) -> bytes:
    return b"".join(reply for _, reply in emulator.respond(t, data))


def emulator_with(**options) -> LinkamT95Emulator:
    return LinkamT95Emulator(create(STILL, None, 0), "heating_stage", QUIET | options)


def body_at(temperature_c: float):
    """Get a laboratory whose body stands at a temperature from t = 0 on."""
    table = {"thermal": {"ambient_c": temperature_c, "lowest_c": temperature_c - 1.0, "ripple_k": 0.0}}
    return create(table, None, 0)


@pytest.fixture
def stand(clock, adapter_to, tap):
    """Get a function that sets up laboratory, tap and driver; ``start_up`` unless told otherwise."""

    def build(start_up: bool = True, driver=None, **options):
        laboratory = create(STILL, None, 0)
        wire = tap(LinkamT95Emulator(laboratory, "heating_stage", QUIET | options))
        stage = LinkamT95(adapter_to(wire, LinkamT95.LINK), clock=clock, **(driver or {}))
        if start_up:
            stage.start_up()
            wire.sent.clear()
        return laboratory, wire, stage

    return build


# The bytes in this table are those of the fact sheet.
@pytest.mark.parametrize(
    ("sent", "received"),
    [
        (b"T\r", b"\x01\x80\x80\x80\x80\x80\x30\x30\x66\x30\r"),
        (b"S\r", b""),
        (b"T\rR11000\r", b"\x01\x80\x80\x80\x80\x8000f0\r\r"),
        (b"T\rL1-1000\rS\rT\r", b"\x01\x80\x80\x80\x80\x8000f0\r\r\r\x20\x80\x83\x80\x80\x8000f0\r"),
        (b"T\rL1500\rS\rT\r", b"\x01\x80\x80\x80\x80\x8000f0\r\r\r\x10\x80\x80\x80\x80\x8000f0\r"),
        (b"T\rL1240\rS\rT\r", b"\x01\x80\x80\x80\x80\x8000f0\r\r\r\x30\x80\x80\x80\x80\x8000f0\r"),
        (b"T\rL1500\rS\rO\rT\r", b"\x01\x80\x80\x80\x80\x8000f0\r\r\r\r\x50\x80\x80\x80\x80\x8000f0\r"),
        (b"T\rL1500\rS\rO\rH\rT\r", b"\x01\x80\x80\x80\x80\x8000f0\r\r\r\r\r\x10\x80\x80\x80\x80\x8000f0\r"),
        (b"T\rL1500\rS\rE\rT\r", b"\x01\x80\x80\x80\x80\x8000f0\r\r\r\r\x01\x80\x80\x80\x80\x8000f0\r"),
        (b"T\rR115000\rL1-1000\rS\rT\r", b"\x01\x80\x80\x80\x80\x8000f0\r\r\r\r\x20\x81\x9e\x80\x80\x8000f0\r"),
        (b"T\rL1-1000\rPm0\rP7\rS\rT\r", b"\x01\x80\x80\x80\x80\x8000f0\r\r\r\r\r\x20\x80\x87\x80\x80\x8000f0\r"),
        (b"T\rD\r", b"\x01\x80\x80\x80\x80\x8000f0\r00f00000\r"),
        (b"T\rB\rPa0\rPN\r", b"\x01\x80\x80\x80\x80\x8000f0\r\r\r\r"),
        (b"T\rX\rL1\rPO\r\xff\r", b"\x01\x80\x80\x80\x80\x8000f0\r"),
        (b"T", b""),
        (b"\r", b""),
    ],
)
def test_emulator_answers_as_the_protocol_says(sent, received):
    assert answers(emulator_with(), sent) == received


@pytest.mark.parametrize(("temperature_c", "digits"), [(-1.0, b"fff6"), (-50.0, b"fe0c"), (24.0, b"00f0")])
def test_negative_temperatures_are_two_s_complement(clock, adapter_to, temperature_c, digits):
    emulator = LinkamT95Emulator(body_at(temperature_c), "heating_stage", QUIET)
    assert answers(emulator, b"T\r") == b"\x01\x80\x80\x80\x80\x80" + digits + b"\r"
    stage = LinkamT95(adapter_to(emulator, LinkamT95.LINK), clock=clock)
    stage.start_up()
    assert stage.temperature_c == temperature_c


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (b"\x10\x81\x9e\x80\x80\x8000F0", LinkamStatus(0x10, 0x01, 30, 24.0)),
        (b"\x01\x82\x80\x80\x80\x80fe0c", LinkamStatus(0x01, 0x02, 0, -50.0)),
        (b"\x20\xaf\xe5\x80\x80\x80fff6", LinkamStatus(0x20, 0x2F, 5, -1.0)),
    ],
)
def test_status_is_read(reply, status):
    assert LinkamStatus.parse(reply) == status
    assert ("open circuit" in status.faults) == bool(status.errors & 2)
    assert "cooling rate" not in status.faults


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"\x01\x80\x80\x80\x80\x8000f",
        b"\x01\x80\x80\x80\x80\x8000f00",
        b"\x02\x80\x80\x80\x80\x8000f0",
        b"\x01\x00\x80\x80\x80\x8000f0",
        b"\x01\x80\x80\x80\x00\x8000f0",
        b"\x01\x80\x80\x80\x80\x8000g0",
        b"\x01\x80\x80\x80\x80\x80 0f0",
    ],
)
def test_what_is_no_status_is_refused(reply):
    with pytest.raises(ValueError, match="no status"):
        LinkamStatus.parse(reply)


@given(st.integers(-32768, 32767), st.sampled_from([0x01, 0x10, 0x20, 0x30, 0x40, 0x50]), st.integers(0, 0x7F))
@settings(max_examples=50, deadline=None)
def test_every_temperature_survives(tenths, state, errors):
    reply = bytes([state, 0x80 | errors, 0x80, 0x80, 0x80, 0x80]) + b"%04x" % (tenths & 0xFFFF)
    status = LinkamStatus.parse(reply)
    assert (status.temperature_c, status.state, status.errors) == (tenths / 10, state, errors)
    assert b"\r" not in reply


@given(cuts=st.sets(st.integers(1, 40)))
@settings(max_examples=30, deadline=None)
def test_commands_may_come_in_pieces(cuts):
    stream = b"T\rR11000\rL1500\rS\rT\r"
    emulator = emulator_with()
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    received = b"".join(answers(emulator, stream[a:b]) for a, b in itertools.pairwise(edges))
    assert received == b"\x01\x80\x80\x80\x80\x8000f0\r\r\r\r\x10\x80\x80\x80\x80\x8000f0\r"


def test_the_line_is_that_of_the_manual():
    line = LinkamT95.LINK
    assert (line.baud_rate, line.data_bits, line.parity, line.stop_bits) == (19200, 8, "N", 1)
    assert (line.write_termination, line.read_termination) == (b"\r", b"\r")


def test_bytes_on_the_wire(stand):
    _, wire, stage = stand(driver={"rate_k_min": 20})
    stage.set_temperature(-50.0)
    assert wire.sent == [b"R12000\r", b"L1-500\r", b"T\r"]
    wire.sent.clear()
    stage.switch_on()
    assert wire.sent == [b"R12000\r", b"L1-500\r", b"T\r", b"S\r", b"T\r"]
    wire.sent.clear()
    stage.switch_off()
    assert wire.sent == [b"E\r", b"T\r"]


def test_t_comes_first_and_commands_keep_their_distance(clock, tap, adapter_to):
    moments: list[tuple[float, bytes]] = []

    class Timed(LinkamT95Emulator):
        def respond(self, t, data):
            if data:
                moments.append((t, data))
            return super().respond(t, data)

    emulator = Timed(create(STILL, None, 0), "heating_stage", QUIET)
    stage = LinkamT95(adapter_to(emulator, LinkamT95.LINK), clock=clock)
    stage.start_up()
    stage.set_temperature(100.0)
    stage.switch_on()
    assert moments[0][1] == b"T\r"
    assert all(later - sooner >= 0.3 - 1e-9 for (sooner, _), (later, _) in itertools.pairwise(moments))


def test_a_ramp_to_its_end(stand, clock):
    laboratory, _, stage = stand()
    assert isinstance(stage, HeatingStage)
    assert stage.identify() == Identity("Linkam", "T92/T93/TMS94/T95")
    assert not stage.is_on and stage.setpoint_c == 24.0
    assert stage.set_temperature(80.04) == stage.setpoint_c == 80.0
    assert not stage.is_on and not laboratory.thermal.is_controlled(clock.now())
    stage.switch_on()
    assert stage.is_on and stage.status.state == 0x10
    clock.sleep(3600.0)
    assert stage.status.state == 0x30
    assert stage.temperature_c == pytest.approx(80.0, abs=0.5)
    assert stage.set_temperature(-50.0) == -50.0
    assert stage.status.state == 0x20 and stage.status.pump_speed == 6
    clock.sleep(3600.0)
    assert stage.temperature_c == pytest.approx(-50.0, abs=0.5)
    stage.switch_off()
    assert not stage.is_on and not laboratory.thermal.is_controlled(clock.now())


def test_limits_beyond_the_stage_are_refused(stand):
    _, wire, stage = stand(driver={"lowest_c": 20.0, "highest_c": 350.0})
    assert stage.range_c == (20.0, 350.0)
    for temperature_c in (19.9, 350.1, float("nan"), float("inf")):
        with pytest.raises(InputError, match="beyond the stage's range"):
            stage.set_temperature(temperature_c)
    assert wire.sent == []
    with pytest.raises(ValueError, match="lowest_c must lie below"):
        LinkamT95.Options(lowest_c=100.0, highest_c=50.0)


def test_a_stage_that_was_left_running_stays_where_it_is(stand, clock, caplog):
    laboratory, _, stage = stand(start_up=False, running=True, limit_c=300.0)
    clock.sleep(600.0)
    found_c = laboratory.thermal.temperature_c(clock.now())
    stage.start_up()
    assert "was left heating" in caplog.text
    assert stage.is_on and stage.setpoint_c == pytest.approx(found_c, abs=0.2)
    clock.sleep(3600.0)
    assert stage.temperature_c == pytest.approx(found_c, abs=1.5)


def test_awkward_start(stand):
    _, _, stage = stand(start_up=False, awkward=True)
    with pytest.raises(InstrumentError, match="nobody knows the limit"):
        _ = stage.setpoint_c
    stage.start_up()
    assert stage.set_temperature(50.0) == 50.0
    stage.switch_on()
    assert stage.status.state == 0x10


def test_a_leading_empty_line_is_tolerated(stand):
    _, _, stage = stand(leading_empty_line=True)
    stage.set_temperature(50.0)
    stage.switch_on()
    assert stage.is_on and stage.temperature_c == pytest.approx(24.0, abs=0.2)


@pytest.mark.parametrize(
    ("bits", "words"), [(0x02, "open circuit, or no stage"), (0x04, "over-current"), (0x08, "300 degC")]
)
def test_error_bits_are_told_in_words(stand, bits, words):
    _, wire, stage = stand()
    stage.set_temperature(50.0)
    wire.emulator.error_bits = bits
    with pytest.raises(InstrumentError, match=words):
        _ = stage.temperature_c
    with pytest.raises(InstrumentError, match=words):
        stage.switch_on()
    (ready,) = stage.readiness()
    assert not ready.ok and words in ready.text
    assert not stage.is_on
    wire.emulator.error_bits = 0
    assert stage.readiness()[0].ok


def test_a_cooling_rate_that_cannot_be_had_is_no_fault(stand):
    _, _, stage = stand(driver={"rate_k_min": 100})
    stage.set_temperature(-100.0)
    stage.switch_on()
    assert stage.status.errors == 1 and stage.temperature_c == pytest.approx(24.0, abs=1.0)
    assert "cooling rate cannot be achieved" in stage.readiness()[0].text


def test_a_reset_in_the_middle_is_noticed_and_mended(stand, clock):
    laboratory, wire, stage = stand()
    stage.set_temperature(80.0)
    stage.switch_on()
    wire.emulator.power_cycle(clock.now())
    with pytest.raises(InstrumentError, match="stopped by itself"):
        _ = stage.temperature_c
    assert not stage.is_on
    stage.set_temperature(80.0)
    stage.switch_on()
    assert stage.temperature_c < 80.0 and laboratory.thermal.is_controlled(clock.now())


def test_a_limit_that_was_changed_by_hand_is_noticed(stand, clock):
    _, wire, stage = stand()
    stage.set_temperature(80.0)
    stage.switch_on()
    answers(wire.emulator, b"L1600\r", clock.now())
    clock.sleep(3600.0)
    with pytest.raises(InstrumentError, match="not at the limit of 80 degC"):
        _ = stage.temperature_c


def test_a_limit_that_does_not_arrive_is_noticed_by_the_direction(stand):
    _, wire, stage = stand()
    wire.damage_command = lambda data: data.replace(b"L1800", b"L1100")
    stage.set_temperature(80.0)
    with pytest.raises(InstrumentError, match="does not go to its limit of 80 degC: it is cooling") as caught:
        stage.switch_on()
    assert caught.value.state == "the stage is stopped again"
    assert not stage.is_on


def test_a_temperature_that_no_stage_has_is_not_believed(stand):
    _, wire, stage = stand()
    wire.damage_reply = lambda t, data: [(t, data.replace(b"00f0", b"70f0"))]
    with pytest.raises(InstrumentError, match=r"2891\.2 degC is no temperature of a stage"):
        _ = stage.temperature_c


def test_a_limit_that_was_never_acknowledged_is_unknown(stand):
    _, wire, stage = stand()
    wire.damage_reply = lambda t, data: [] if data == b"\r" else [(t, data)]
    with pytest.raises(InstrumentTimeout):
        stage.set_temperature(80.0)
    wire.damage_reply = lambda t, data: [(t, data)]
    assert stage.setpoint_c == 24.0
    real = wire.emulator.respond
    wire.emulator.respond = lambda t, data: [] if data.startswith(b"L1") and real(t, data) else real(t, data)
    with pytest.raises(InstrumentTimeout):
        stage.set_temperature(80.0)
    with pytest.raises(InstrumentError, match="nobody knows the limit"):
        _ = stage.setpoint_c
    wire.emulator.respond = real
    assert stage.set_temperature(80.0) == stage.setpoint_c == 80.0


def test_a_hold_by_hand_is_left(stand, clock):
    _, wire, stage = stand()
    stage.set_temperature(80.0)
    stage.switch_on()
    answers(wire.emulator, b"O\r", clock.now())
    stage.set_temperature(120.0)
    assert stage.status.state == 0x10 and b"H\r" in wire.sent


def test_a_link_error_is_noticed(stand):
    _, wire, stage = stand()
    real, refused = wire.emulator.respond, []

    def refuse_once(t, data):
        if data.startswith(b"L1") and not refused:
            refused.append(data)
            return wire.emulator.refuse(t, data)
        return real(t, data)

    wire.emulator.respond = refuse_once
    with pytest.raises(InstrumentError, match="error on the serial link"):
        stage.set_temperature(80.0)
    assert stage.set_temperature(80.0) == 80.0


def test_a_silent_controller_is_named(stand):
    _, wire, stage = stand(start_up=False)
    wire.damage_command = lambda data: b""
    with pytest.raises(InstrumentTimeout, match="does not answer"):
        stage.start_up()


def test_another_instrument_is_named(stand):
    _, wire, stage = stand(start_up=False)
    wire.damage_reply = lambda t, data: [(t, b"ERROR\r")]
    with pytest.raises(InstrumentError, match=re.escape("b'ERROR' is no status")):
        stage.start_up()


COMMAND_DAMAGE = {"lost": lambda data: b"", "garbled": lambda data: bytes([data[0] ^ 0x80]) + data[1:]}
REPLY_DAMAGE = {
    "silence": lambda t, data: [],
    "late": lambda t, data: [(t + 1.2 * LinkamT95.LINK.timeout_s, data)],
    "truncated": lambda t, data: [(t, data[: len(data) // 2])],
    "byte lost": lambda t, data: [(t, data[:3] + data[4:])],
    "garbled": lambda t, data: [(t, bytes([data[0] ^ 0x80]) + data[1:])],
}


def damage_one(wire, number, on_command, on_reply):
    """Damage the transaction ``number`` from now on, counted from 0, and no other."""
    commands, replies = itertools.count(), itertools.count()
    if on_command:
        wire.damage_command = lambda data: on_command(data) if data and next(commands) == number else data
    if on_reply:
        wire.damage_reply = lambda t, data: on_reply(t, data) if next(replies) == number else [(t, data)]


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("damage", [*COMMAND_DAMAGE, *REPLY_DAMAGE])
def test_one_fault_anywhere_ends_in_the_right_state_or_an_error(stand, clock, damage, number):
    laboratory, wire, stage = stand()
    damage_one(wire, number, COMMAND_DAMAGE.get(damage), REPLY_DAMAGE.get(damage))
    try:
        stage.set_temperature(80.0)
        stage.switch_on()
        assert stage.temperature_c == pytest.approx(laboratory.thermal.temperature_c(clock.now()), abs=1.0)
    except InstrumentError:
        wire.damage_command, wire.damage_reply = (lambda data: data), (lambda t, data: [(t, data)])
        stage.set_temperature(80.0)
        stage.switch_on()
    assert stage.setpoint_c == 80.0
    clock.sleep(3600.0)
    assert stage.temperature_c == pytest.approx(80.0, abs=0.5)


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("damage", [*COMMAND_DAMAGE, *REPLY_DAMAGE])
@pytest.mark.parametrize("running", [False, True])
def test_make_safe_through_one_fault_anywhere(stand, clock, running, damage, number):
    laboratory, wire, stage = stand(running=running, limit_c=300.0)
    damage_one(wire, number, COMMAND_DAMAGE.get(damage), REPLY_DAMAGE.get(damage))
    before = clock.now()
    (step,) = stage.make_safe()
    assert clock.now() - before < 3.0
    assert step.confirmed and not laboratory.thermal.is_controlled(clock.now())


def test_make_safe_gives_the_bytes_as_evidence(stand):
    _, wire, stage = stand(running=True, limit_c=300.0)
    (step,) = stage.make_safe()
    assert step.confirmed and step.action == "stop heating and cooling"
    assert wire.sent == [b"E\r", b"T\r"]
    assert r"sent b'E\r', received b'\r'; sent b'T\r', received b'\x01\x80" in step.evidence
    assert stage.make_safe()[0].confirmed


def test_make_safe_of_a_dead_controller_is_unconfirmed(stand, clock):
    _, wire, stage = stand()
    wire.damage_command = lambda data: b""
    before = clock.now()
    (step,) = stage.make_safe()
    assert not step.confirmed and "MAY BE HEATING" in step.evidence and "mains switch" in step.evidence
    assert clock.now() - before < 4.0


def test_make_safe_does_not_believe_a_controller_that_goes_on(stand):
    _, wire, stage = stand(running=True, limit_c=300.0)
    wire.damage_command = lambda data: b"B\r" if data == b"E\r" else data
    (step,) = stage.make_safe()
    assert not step.confirmed and "did not stop: it is holding at the limit" in step.evidence


def test_make_safe_mends_a_broken_link(stand, clock):
    laboratory, _, stage = stand(running=True, limit_c=300.0)
    stage.adapter.connection.close()
    assert stage.make_safe()[0].confirmed
    assert not laboratory.thermal.is_controlled(clock.now())


def test_make_safe_before_start_up_and_after_a_reset(stand, clock):
    laboratory, wire, stage = stand(start_up=False, awkward=True)
    assert stage.make_safe()[0].confirmed
    assert not laboratory.thermal.is_controlled(clock.now())
    stage.start_up()
    wire.emulator.power_cycle(clock.now())
    assert stage.make_safe()[0].confirmed


def test_make_safe_takes_the_link_from_a_call_under_way(stand, clock):
    laboratory, _, stage = stand(running=True, limit_c=300.0)
    both, errors, steps = threading.Barrier(2), [], []

    def setting():
        with clock.actor():
            both.wait()
            try:
                stage.set_temperature(200.0)
            except ConnectionLost as error:
                errors.append(error)

    def rescue():
        with clock.actor():
            both.wait()
            clock.sleep(0.1)
            steps.extend(stage.make_safe())

    threads = [threading.Thread(target=task) for task in (setting, rescue)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert len(errors) == 1 and steps[0].confirmed
    assert not laboratory.thermal.is_controlled(clock.now())


@given(cuts=st.sets(st.integers(1, 10)))
@settings(max_examples=20, deadline=None)
def test_replies_may_come_in_pieces(cuts):
    clock = VirtualClock(wall_start=0.0)

    class InPieces(LinkamT95Emulator):
        def respond(self, t, data):
            pieces = []
            for moment, reply in super().respond(t, data):
                edges = [0, *sorted(cuts), len(reply)]
                pieces += [(moment + 0.002 * n, reply[a:b]) for n, (a, b) in enumerate(itertools.pairwise(edges))]
            return [piece for piece in pieces if piece[1]]

    emulator = InPieces(create(STILL, None, 0), "heating_stage", QUIET)
    stage = LinkamT95(WireAdapter(lambda: EmulatorLink(emulator, clock), LinkamT95.LINK, clock), clock=clock)
    stage.start_up()
    assert stage.temperature_c == 24.0


class LewisLink:
    """A socket to lewis, whose known fault is mended: it answers a command by the text ``b''`` and a CR."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=5)

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def receive(self, timeout_s: float) -> bytes:
        self._socket.settimeout(max(timeout_s, 1e-3))
        try:
            return self._socket.recv(4096).replace(b"b''\r", b"\r")
        except TimeoutError:
            return b""

    def clear(self) -> None:
        while self.receive(1e-3):
            pass

    def close(self) -> None:
        self._socket.close()


@pytest.mark.slow
@pytest.mark.skipif(find_spec("lewis") is None, reason="the emulator lewis is not installed (GPL, `clients`)")
def test_driver_against_the_emulator_of_somebody_else_in_another_process():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    stream = f"stream: {{bind_address: 127.0.0.1, port: {port}}}"
    run = "import sys; from lewis.scripts.run import run_simulation; run_simulation()"
    command = [sys.executable, "-c", run, "-o", "none", "linkam_t95", "-p", stream]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            try:
                LewisLink(port).close()
                break
            except OSError:
                time.sleep(0.2)
        clock = RealClock()
        adapter = WireAdapter(lambda: LewisLink(port), LinkamT95.LINK, clock, "lewis")
        stage = LinkamT95(adapter, clock=clock, rate_k_min=60, lowest_c=0.0)
        stage.start_up()
        assert (stage.is_on, stage.temperature_c, stage.setpoint_c) == (False, 24.0, 24.0)
        assert stage.set_temperature(30.0) == 30.0
        stage.switch_on()
        assert stage.is_on and stage.status.state == 0x10
        time.sleep(2.0)
        assert 25.0 < stage.temperature_c <= 30.0
        assert stage.set_temperature(20.0) == 20.0 and stage.status.state == 0x20
        (step,) = stage.make_safe()
        assert step.confirmed and not stage.is_on
        stage.close()
    finally:
        process.terminate()
        process.wait(timeout=20)
