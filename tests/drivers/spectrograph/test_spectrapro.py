"""The SpectraPro driver over its emulator; the bytes expected on the wire are written from the fact sheet."""

from __future__ import annotations

import itertools
import logging
import math
import threading
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.spectrograph.emulators.spectrapro import SpectraProEmulator
from drivers.spectrograph.spectrapro import SpectraPro
from labctl.bench.spectrometer import wavelength_axis_nm
from labctl.clock import Clock, RealClock, VirtualClock
from labctl.errors import ConnectionLost, InputError, InstrumentError, InstrumentTimeout
from labctl.roles import Spectrograph, SpectrographGeometry
from labctl.sim.laboratory import Laboratory, create
from labctl.sim.link import EmulatorLink
from labctl.transport.adapter import WireAdapter


class Wire:
    """A link that keeps what was sent and may change what is received."""

    def __init__(self, link: EmulatorLink) -> None:
        self.link = link
        self.sent = b""
        self.change: Callable[[bytes], bytes] = lambda data: data

    def send(self, data: bytes) -> None:
        self.sent += data
        self.link.send(data)

    def receive(self, timeout_s: float) -> bytes:
        return self.change(self.link.receive(timeout_s))

    def clear(self) -> None:
        self.link.clear()

    def close(self) -> None:
        self.link.close()


class Bench:
    """Laboratory, emulator, wire and driver."""

    def __init__(self, *, clock: Clock | None = None, driver: dict | None = None, **options: object) -> None:
        self.clock = clock or VirtualClock()
        self.laboratory = laboratory()
        self.emulator = SpectraProEmulator(self.laboratory, "spectrograph", options)
        self.wire: Wire
        adapter = WireAdapter(self.connect, SpectraPro.LINK, self.clock, "spectrograph")
        self.spectrograph = SpectraPro(adapter, clock=self.clock, **(driver or {}))

    def connect(self) -> Wire:
        self.wire = Wire(EmulatorLink(self.emulator, self.clock))
        return self.wire

    def ready(self, wavelength_nm: float = 600.0) -> SpectraPro:
        self.spectrograph.start_up()
        self.spectrograph.go_to(wavelength_nm)
        self.wire.sent = b""
        return self.spectrograph


def laboratory() -> Laboratory:
    return create(None, None, 0)


def fresh(**options: object) -> SpectraProEmulator:
    return SpectraProEmulator(laboratory(), "spectrograph", options)


def ask(emulator: SpectraProEmulator, data: bytes, t: float = 0.0) -> bytes:
    return b"".join(text for _, text in emulator.respond(t, data))


@pytest.mark.parametrize(
    ("sent", "reply"),
    [
        (b"?NM\r", b"?NM 0.000 nm  ok\r\n"),
        (b"FOO\r", b"FOO FOO? \r\n"),
        (b"2 GRATING\r", b"2 GRATING  ok\r\n"),
        (b"2 GRATING ?GRATING\r", b"2 GRATING ?GRATING 2  ok\r\n"),
        (b"?NM/MIN\r", b"?NM/MIN 100.000 nm/min  ok\r\n"),
        (b"NO-ECHO\r?NM\r", b"NO-ECHO  ok\r\n 0.000 nm  ok\r\n"),
        (b"no-echo\rfoo\r", b"no-echo  ok\r\nfoo? \r\n"),
        (b"NO-ECHO\rMODEL\r", b"NO-ECHO  ok\r\n SP-300i  ok\r\n"),
        (b"NO-ECHO\rEXIT-MIRROR ?MIRROR\r", b"NO-ECHO  ok\r\n no motor  ok\r\n"),
        (b"NO-ECHO\rECHO\r?TURRET\r", b"NO-ECHO  ok\r\n  ok\r\n?TURRET 1  ok\r\n"),
    ],
)
def test_emulator_speaks_as_the_sheet_says(sent: bytes, reply: bytes) -> None:
    assert ask(fresh(), sent) == reply


def test_list_of_gratings_is_marked_and_has_nine_places() -> None:
    reply = ask(fresh(), b"?GRATINGS\r")
    assert reply.startswith(b"?GRATINGS\r\n\x1a1  600 g/mm BLZ=  500NM \r\n 2  150 g/mm BLZ=  500NM \r\n")
    assert reply.endswith(b" 9  Not Installed \r\n  ok\r\n")
    assert reply.count(b"Not Installed") == 6


def test_a_move_answers_when_it_has_ended() -> None:
    emulator = fresh(slew_nm_s=500.0, grating_change_s=10.0, reply_s=0.0)
    assert emulator.respond(0.0, b"NO-ECHO\r500.000 GOTO\r")[-1] == (1.0, b"  ok\r\n")
    assert emulator.respond(2.0, b"3 GRATING\r")[-1] == (12.0, b"  ok\r\n")
    assert emulator.respond(3.0, b"?NM\r")[-1] == (12.0, b" 500.000 nm  ok\r\n")


def test_a_move_that_does_not_block_is_polled_and_stopped() -> None:
    emulator = fresh(reply_s=0.0)
    assert ask(emulator, b"NO-ECHO\r600.0 NM/MIN\r100.0 >NM\r", 0.0).endswith(b"  ok\r\n  ok\r\n")
    assert ask(emulator, b"MONO-?DONE\r?NM\r", 5.0) == b" 0  ok\r\n 50.000 nm  ok\r\n"
    assert ask(emulator, b"MONO-STOP\rMONO-?DONE\r?NM\r", 6.0) == b"  ok\r\n 1  ok\r\n 60.000 nm  ok\r\n"


def test_wavelength_is_clamped_and_an_absent_grating_passed_over_silently() -> None:
    emulator = fresh()
    assert ask(emulator, b"NO-ECHO\r5 GRATING ?GRATING\r") == b"NO-ECHO  ok\r\n 1  ok\r\n"
    assert ask(emulator, b"9999.0 GOTO\r", 10.0) == b"  ok\r\n"
    assert ask(emulator, b"?NM\r", 99.0) == b" 2800.000 nm  ok\r\n"


@given(cuts=st.lists(st.integers(0, 90), max_size=8))
@settings(max_examples=50, deadline=None)
def test_any_fragmentation_gives_the_same_replies(cuts: list[int]) -> None:
    message = b"?NM\rFOO\r\n500 GOTO ?NM\rNO-ECHO\r2 GRATING\r?GRATINGS\r\rMODEL\r"
    whole = ask(fresh(), message)
    assert whole.count(b" ok\r\n") == 7
    emulator, edges = fresh(), sorted({0, *(min(cut, len(message)) for cut in cuts), len(message)})
    assert b"".join(ask(emulator, message[a:b]) for a, b in itertools.pairwise(edges)) == whole


def test_it_is_a_spectrograph() -> None:
    spectrograph = Bench().ready()
    assert isinstance(spectrograph, Spectrograph)
    assert spectrograph.identify().model == "SP-300i"
    assert spectrograph.geometry == SpectrographGeometry(300.0, 15.2, 1.38)


def test_a_model_that_is_not_known_is_left_empty() -> None:
    identity = Bench(knows_model=False).ready().identify()
    assert (identity.model, identity.serial) == ("", "30012345")


def test_bytes_on_the_wire() -> None:
    bench = Bench()
    bench.spectrograph.start_up()
    assert bench.wire.sent.startswith(b"\rNO-ECHO\r")
    bench.wire.sent = b""
    assert bench.spectrograph.go_to(546.07) == 546.07
    assert bench.wire.sent == b"?GRATING\r546.070 GOTO\r?NM\r"
    bench.wire.sent = b""
    assert bench.spectrograph.select_grating(3).lines_per_mm == 1200.0
    assert bench.wire.sent == b"?GRATING\r?NM\r3 GRATING\r?NM\r?GRATING\r"


@pytest.mark.parametrize("options", [{}, {"echo": False}, {"awkward": True}, {"awkward": True, "echo": False}])
def test_start_up_with_and_without_echo_and_garbage(options: dict[str, bool]) -> None:
    bench = Bench(**options)
    spectrograph = bench.ready(650.0)
    assert spectrograph.wavelength_nm == 650.0
    assert [grating.number for grating in spectrograph.gratings] == [1, 2, 3]
    assert bench.laboratory.spectrograph.at(bench.clock.now()) == (650.0, 600.0)


def test_start_up_moves_nothing() -> None:
    bench = Bench()
    bench.spectrograph.start_up()
    assert b"GOTO" not in bench.wire.sent and b"GRATING " not in bench.wire.sent
    assert bench.spectrograph.wavelength_nm == 0.0


@pytest.mark.parametrize("connect", [1, 2])
def test_start_up_may_be_repeated(connect: int) -> None:
    bench = Bench()
    for _ in range(connect):
        bench.ready()
        bench.spectrograph.adapter.reconnect()
    bench.spectrograph.start_up()
    assert bench.spectrograph.wavelength_nm == 600.0


def test_the_laboratory_follows_and_the_camera_axis_agrees() -> None:
    bench = Bench(grating_change_s=10.0, slew_nm_s=500.0)
    spectrograph = bench.ready(620.0)
    start = bench.clock.now()
    grating = spectrograph.select_grating(2)
    assert 10.0 <= bench.clock.now() - start < 11.0
    centre_nm, lines_per_mm = bench.laboratory.spectrograph.at(bench.clock.now())
    assert (centre_nm, lines_per_mm) == (620.0, grating.lines_per_mm)
    ours = wavelength_axis_nm(620.0, grating.lines_per_mm, spectrograph.geometry, 1024, 26.0)
    theirs = bench.laboratory.spectrograph.wavelengths_nm(620.0, 150.0, 1024, 26.0)
    assert abs(ours - theirs).max() < 0.1


def test_a_wavelength_out_of_range_is_an_error() -> None:
    spectrograph = Bench().ready()
    with pytest.raises(InstrumentError, match=r"went to 2800\.000 nm instead of 3000\.000 nm"):
        spectrograph.go_to(3000.0)
    assert spectrograph.wavelength_nm == 2800.0


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_senseless_wavelengths_are_bad_input(value: float) -> None:
    bench = Bench()
    spectrograph = bench.ready()
    with pytest.raises(InputError):
        spectrograph.go_to(value)
    assert bench.wire.sent == b""


@pytest.mark.parametrize("wavelength_nm", [0.0, 50.0, 83.0])
def test_zero_order_only_when_asked_for(wavelength_nm: float) -> None:
    bench = Bench()
    spectrograph = bench.ready()
    with pytest.raises(InputError, match="zero order falls on the detector"):
        spectrograph.go_to(wavelength_nm)
    assert b"GOTO" not in bench.wire.sent
    assert spectrograph.go_to(wavelength_nm, allow_zero_order=True) == wavelength_nm


def test_where_the_zero_order_falls_follows_the_grating(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    spectrograph = bench.ready(300.0)
    with caplog.at_level(logging.WARNING):
        spectrograph.select_grating(2)
    assert "zero order is on the detector" in caplog.text
    with pytest.raises(InputError, match="stay above 333 nm"):
        spectrograph.go_to(330.0)
    axis_nm = bench.laboratory.spectrograph.wavelengths_nm(333.0, 150.0, 1154, 26.0)
    assert abs(axis_nm.min()) < 20.0


def test_gratings_that_are_not_there_and_mirrors() -> None:
    bench = Bench(installed={1: "300 g/mm BLZ=  500 nm", 2: "1200 g/mm BLZ=  1.6UM", 3: "MIRROR"})
    spectrograph = bench.ready()
    assert [(g.number, g.lines_per_mm, g.blaze) for g in spectrograph.gratings] == [
        (1, 300.0, "500 nm"),
        (2, 1200.0, "1.6UM"),
        (3, 0.0, "MIRROR"),
    ]
    with pytest.raises(InputError, match="grating 4 is not installed"):
        spectrograph.select_grating(4)
    with pytest.raises(InputError, match="mirror"):
        spectrograph.select_grating(3)
    assert b"GRATING\r" not in bench.wire.sent
    assert spectrograph.grating.number == 1


def test_a_grating_that_was_not_selected_is_an_error() -> None:
    bench = Bench()
    spectrograph = bench.ready()
    del bench.emulator._installed[2]
    with pytest.raises(InstrumentError, match="grating 1 is in the beam instead of 2"):
        spectrograph.select_grating(2)


def test_the_wavelength_is_restored_after_a_grating_change() -> None:
    bench = Bench(grating_shift_nm=1.7)
    spectrograph = bench.ready()
    spectrograph.select_grating(3)
    assert b"3 GRATING\r?NM\r?GRATING\r600.000 GOTO\r?NM\r" in bench.wire.sent
    assert spectrograph.wavelength_nm == 600.0


def test_a_power_cycle_is_noticed_by_its_echo() -> None:
    bench = Bench()
    spectrograph = bench.ready()
    bench.emulator.power_up(bench.clock.now())
    with pytest.raises(InstrumentError, match="echoes again"):
        spectrograph.select_grating(2)
    assert bench.ready().wavelength_nm == 600.0


def test_a_power_cycle_is_noticed_by_the_wavelength() -> None:
    bench = Bench(echo=False)
    spectrograph = bench.ready()
    bench.emulator.power_up(bench.clock.now())
    with pytest.raises(InstrumentError, match=r"stands at 0\.000 nm instead of 600\.000 nm"):
        _ = spectrograph.wavelength_nm
    assert spectrograph.wavelength_nm == 0.0


def test_a_late_reply_answers_nothing_else() -> None:
    bench = Bench(grating_change_s=60.0)
    spectrograph = bench.ready()
    with pytest.raises(InstrumentTimeout, match=r"2 GRATING: no complete reply within 25 s") as caught:
        spectrograph.select_grating(2)
    assert "may still be moving" in caught.value.state
    for _ in range(3):
        with pytest.raises(InstrumentTimeout, match="has not answered"):
            _ = spectrograph.wavelength_nm
    bench.clock.sleep(30.0)
    assert spectrograph.wavelength_nm == 600.0
    assert spectrograph.grating.number == 2
    assert spectrograph.go_to(500.0) == 500.0


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda data: b"", InstrumentTimeout),
        (lambda data: data.replace(b"\n", b""), InstrumentTimeout),
        (lambda data: data.replace(b".", b"\xb1"), InstrumentError),
        (lambda data: data.replace(b"600.000", b"60.000"), InstrumentError),
        (lambda data: data.replace(b" nm", b""), InstrumentError),
        (lambda data: b"?NM? \r\n" if data else b"", InstrumentError),
        (lambda data: b"\r\nAddress Error \r\nA=3F4F4445 PC=81444" + data if data else b"", InstrumentError),
    ],
    ids=["silence", "no end", "garbled", "lost digit", "lost unit", "not understood", "address error"],
)
def test_wire_faults(change: Callable[[bytes], bytes], error: type[Exception]) -> None:
    bench = Bench()
    spectrograph = bench.ready()
    bench.wire.change = change
    with pytest.raises(error) as caught:
        _ = spectrograph.wavelength_nm
    assert isinstance(caught.value, InstrumentError) and "?NM" in caught.value.exchange.sent
    bench.wire.change = lambda data: data
    assert spectrograph.go_to(700.0) == 700.0
    assert spectrograph.wavelength_nm == 700.0


def test_a_truncated_list_of_gratings_is_an_error() -> None:
    bench = Bench()
    bench.wire.change = lambda data: data.replace(b" 2  150 g/mm BLZ=  500NM \r\n", b"")
    with pytest.raises(InstrumentError, match="list of gratings cannot be read"):
        bench.spectrograph.start_up()


def test_safe_state_reports_where_it_stands() -> None:
    bench = Bench()
    spectrograph = bench.ready()
    for _ in range(2):
        (step,) = spectrograph.make_safe()
        assert step.confirmed and "at 600.000 nm" in step.evidence
    assert b"GOTO" not in bench.wire.sent


def test_safe_state_on_a_new_connection() -> None:
    bench = Bench()
    bench.ready()
    adapter = WireAdapter(bench.connect, SpectraPro.LINK, bench.clock, "spectrograph")
    (step,) = SpectraPro(adapter, clock=bench.clock).make_safe()
    assert step.confirmed and "at 600.000 nm" in step.evidence


def test_safe_state_while_another_thread_moves_waits_for_the_end_of_the_move() -> None:
    bench = Bench(clock=RealClock(), grating_change_s=1.5, slew_nm_s=1e5)
    spectrograph = bench.ready()
    failed: list[Exception] = []

    def change() -> None:
        try:
            spectrograph.select_grating(2)
        except InstrumentError as error:
            failed.append(error)

    thread = threading.Thread(target=change)
    thread.start()
    while not bench.wire.sent.endswith(b"2 GRATING\r"):
        thread.join(0.001)
    (step,) = spectrograph.make_safe()
    assert step.confirmed and "at 600.000 nm" in step.evidence
    thread.join(10)
    assert isinstance(failed[0], ConnectionLost)


def test_safe_state_of_a_dead_controller_is_unconfirmed() -> None:
    bench = Bench()
    spectrograph = bench.ready()
    spectrograph.close()
    (step,) = spectrograph.make_safe()
    assert not step.confirmed and "closed" in step.evidence
