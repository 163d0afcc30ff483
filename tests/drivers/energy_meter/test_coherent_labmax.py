"""The LabMax driver over its emulator; the bytes expected on the wire are written from the fact sheet."""

from __future__ import annotations

import itertools
import json
import math
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.energy_meter.coherent_labmax import CoherentLabMax
from drivers.energy_meter.emulators.coherent_labmax import CoherentLabMaxEmulator
from labctl.bench.pump_beam import reading_bound_s
from labctl.clock import Clock, RealClock, VirtualClock
from labctl.errors import ConnectionLost, InputError, InstrumentError, InstrumentTimeout
from labctl.roles import EnergyMeter
from labctl.sim.laboratory import Laboratory, create
from labctl.sim.link import EmulatorLink
from labctl.transport.adapter import WireAdapter

LASER_NM = 400.0
# Nothing on PyPI talks to a LabMax: this client knows the fact sheet, pyserial, and nothing of labctl. It keeps the
# handshaking on, which the driver does not.
CLIENT = """
import json, sys, time
import serial
port = serial.Serial(sys.argv[1], 115200, timeout=2, xonxoff=True)
def lines(count):
    return [port.readline().replace(b"\\x05", b"").decode().strip() for _ in range(count)]
def do(command):
    port.write(command.encode() + b"\\r\\n")
    assert lines(1) == ["OK"], command
def ask(query):
    port.write(query.encode() + b"\\r\\n")
    data, ok = lines(2)
    assert ok == "OK", query
    return data
port.write(b"SYST:COMM:HAND ON\\r\\n")
lines(1)
do("SYST:REM")
do("SYST:COMM:SER:SERV OFF")
found = {"idn": ask("*IDN?"), "status": ask("SYST:STAT?")}
do("CONF:MEAS J")
do("CONF:RANG:AUTO OFF")
do("CONF:RANG:SEL 1E-4")
do("CONF:WAVE:CORR ON")
do("CONF:WAVE:WAVE 400")
do("CONF:READ:SEND PRI,UNIT,PER")
do("CONF:READ:CONT LAST")
found["range"], found["wavelength"] = ask("CONF:RANG:SEL?"), ask("CONF:WAVE:WAVE?")
do("INIT")
time.sleep(0.1)
found["one"] = ask("FETC:NEXT?")
do("ABOR")
do("CONF:READ:CONT STRE")
do("INIT")
while int(ask("FETC:NREC?")) < 20:
    pass
do("ABOR")
count = int(ask("FETC:NREC?"))
port.write(b"FETC:ALL?\\r\\n")
found["many"] = lines(count)
assert lines(1) == ["OK"]
print(json.dumps(found))
"""


def laboratory(shutter_open: bool = True) -> Laboratory:
    return create({"shutter": {"initially_open": shutter_open}}, None, 0)


class Stand:
    """Laboratory, emulator, tapped wire and driver; the shutter is open unless told otherwise."""

    def __init__(
        self,
        tap: type,
        *,
        shutter_open: bool = True,
        driver: Mapping[str, Any] | None = None,
        clock: Clock | None = None,
        **options: Any,
    ) -> None:
        self.clock = clock or VirtualClock(start_s=1.0)
        self.laboratory = laboratory(shutter_open)
        self.emulator = CoherentLabMaxEmulator(self.laboratory, "energy_meter", options)
        self.tap = tap(self.emulator)
        adapter = WireAdapter(lambda: EmulatorLink(self.tap, self.clock), CoherentLabMax.LINK, self.clock, "test")
        self.meter = CoherentLabMax(adapter, clock=self.clock, **(driver or {}))

    def ready(self) -> CoherentLabMax:
        self.meter.start_up()
        self.meter.wavelength_nm = LASER_NM
        self.meter.range_j = 1e-4
        self.tap.sent.clear()
        return self.meter

    def light(self, on: bool) -> None:
        self.laboratory.shutter.set(self.clock.now(), on)


@pytest.fixture
def stand(tap: type) -> Callable[..., Stand]:
    return lambda **options: Stand(tap, **options)


def emulator_in_remote(**options: Any) -> CoherentLabMaxEmulator:
    emulator = CoherentLabMaxEmulator(laboratory(), "energy_meter", {"deaf_s": 0.0, **options})
    emulator.respond(0.0, b"SYST:REM\r\nSYST:COMM:SER:SERV OFF\r\n")
    return emulator


def ask(emulator: CoherentLabMaxEmulator, data: bytes, t: float = 1.0) -> bytes:
    return b"".join(text for _, text in emulator.respond(t, data))


@pytest.mark.parametrize(
    ("sent", "reply"),
    [
        (b"SYST:STAT?\r\n", b"00000884\r\n"),
        (b"CONF:MEAS J\r\nCONF:MEAS?\r\n", b"J\r\n"),
        (b"CONF:MEAS:MODE J\r\nCONF:MEAS:MODE?\r\n", b""),
        (b"CONF:WAVE:CORR ON\rCONF:WAVE:WAVE 800\rCONF:WAVE:WAVE?\r", b"800\r\n"),
        (b"CONF:RANG:SEL? MIN\r\n", b"1.000E-07\r\n"),
        (b"SYSTem:COMMunicate:HANDshaking ON\r\nCONFigure:MEASure?\r\n", b"OK\r\nW\r\nOK\r\n"),
        (b"SYST:COMM:HAND ON\r\nCONF:MEAS X\r\nFOO?\r\n", b"OK\r\n"),
        (b"SYST:LOC\r\nCONF:MEAS J\r\nCONF:MEAS?\r\n", b"W\r\n"),
    ],
)
def test_emulator_speaks_as_the_sheet_says(sent: bytes, reply: bytes) -> None:
    assert ask(emulator_in_remote(), sent) == reply


def test_a_record_has_value_unit_and_period() -> None:
    emulator = emulator_in_remote()
    ask(emulator, b"CONF:MEAS J\nCONF:READ:SEND PRI,UNIT,PER\nCONF:READ:CONT LAST\nINIT\n", 1.0)
    assert ask(emulator, b"FETC:NREC?\n", 1.1) == b"1\r\n"
    value, unit, period = ask(emulator, b"FETC:NEXT?\n", 1.2).strip().split(b",")
    assert 1e-5 < float(value) < 1e-4 and (unit, period) == (b"J", b"1000")


def test_records_are_the_pulses_since_init() -> None:
    emulator = emulator_in_remote()
    ask(emulator, b"CONF:MEAS J\nCONF:READ:CONT STRE\nINIT\n", 1.0)
    emulator._laboratory.shutter.set(1.0505, False)
    ask(emulator, b"ABOR\n", 1.2)
    count = int(ask(emulator, b"FETC:NREC?\n", 5.0))
    assert 45 <= count <= 50
    assert ask(emulator, b"FETC:ALL?\n", 5.1).count(b"\r\n") == count
    assert ask(emulator, b"FETC:NREC?\n", 6.0) == b"0\r\n"


def test_service_bytes_come_until_they_are_switched_off() -> None:
    emulator = CoherentLabMaxEmulator(laboratory(), "energy_meter", {"deaf_s": 0.0})
    assert ask(emulator, b"SYST:STAT?\r\n") == b"\x0500000884\r\n"
    assert ask(emulator, b"SYST:COMM:SER:SERV OFF\r\nSYST:STAT?\r\n") == b"00000884\r\n"


def test_without_a_pause_a_command_is_lost() -> None:
    emulator = CoherentLabMaxEmulator(laboratory(), "energy_meter", {})
    emulator.respond(1.0, b"SYST:REM\r\n")
    assert ask(emulator, b"SYST:STAT?\r\n", 1.01) == b""
    assert ask(emulator, b"SYST:STAT?\r\n", 1.11) == b"\x0500000884\r\n"


@given(cuts=st.lists(st.integers(0, 90), max_size=8))
@settings(max_examples=50, deadline=None)
def test_any_fragmentation_gives_the_same_replies(cuts: list[int]) -> None:
    message = b"*IDN?\r\nCONF:WAVE:WAVE 500\rCONF:WAVE:WAVE?\nBAD?\r\nSYST:COMM:HAND ON\r\nCONF:RANG:SEL 1E-5;SEL?\r\n"
    whole = ask(emulator_in_remote(), message)
    assert whole.count(b"\n") == 6
    emulator, edges = emulator_in_remote(), sorted({0, *(min(cut, len(message)) for cut in cuts), len(message)})
    assert b"".join(ask(emulator, message[a:b]) for a, b in itertools.pairwise(edges)) == whole


def test_it_is_an_energy_meter(stand: Callable[..., Stand]) -> None:
    meter = stand().ready()
    assert isinstance(meter, EnergyMeter)
    identity = meter.identify()
    assert (identity.vendor, identity.model, identity.firmware) == ("Coherent", "LabMax-TOP", "V1.60")


def test_bytes_on_the_wire(stand: Callable[..., Stand]) -> None:
    bench = stand(driver={"trigger_percent": 0.2})
    bench.meter.start_up()
    for command in (
        b"SYST:REM\r\n",
        b"SYST:COMM:HAND OFF\r\n",
        b"SYST:COMM:SER:SERV OFF\r\n",
        b"CONF:MEAS J\r\n",
        b"CONF:READ:SEND PRI,UNIT,PER\r\n",
        b"CONF:READ:HEAD OFF\r\n",
        b"CONF:READ:CONT STRE\r\n",
        b"CONF:RANG:AUTO OFF\r\n",
        b"TRIG:PERC:LEV 0.2\r\n",
    ):
        assert command in bench.tap.sent
    bench.tap.sent.clear()
    bench.meter.wavelength_nm = 400.0
    bench.meter.range_j = 4e-5
    assert bench.tap.sent == [
        *(b"CONF:WAVE:CORR ON\r\n", b"CONF:WAVE:CORR?\r\n", b"CONF:WAVE:WAVE 400\r\n", b"CONF:WAVE:WAVE?\r\n"),
        *(b"CONF:RANG:SEL 4e-05\r\n", b"CONF:RANG:SEL?\r\n"),
    ]
    bench.tap.sent.clear()
    bench.meter.measure(10)
    start = bench.tap.sent.index(b"INIT\r\n")
    assert bench.tap.sent[start:] == [
        *(b"INIT\r\n", b"FETC:NREC?\r\n", b"ABOR\r\n", b"FETC:NREC?\r\n", b"FETC:ALL?\r\n")
    ]


def test_the_pro_is_told_in_its_own_words(stand: Callable[..., Stand]) -> None:
    bench = stand(model="Pro")
    meter = bench.meter
    meter.start_up()
    assert b"CONF:MEAS:MODE J\r\n" in bench.tap.sent and b"CONF:ITEMSELECT PRI,SEQ,PER\r\n" in bench.tap.sent
    assert b"CONF:READ:SEND PRI,UNIT,PER\r\n" not in bench.tap.sent
    assert meter.identify().model == "LabMax-Pro SSIM"
    assert bench.ready().measure(50).mean_j == pytest.approx(stand().ready().measure(50).mean_j, rel=1e-3)


def test_a_lost_record_of_the_pro_is_noticed(stand: Callable[..., Stand]) -> None:
    bench = stand(model="Pro")
    meter = bench.ready()
    bench.tap.damage_reply = lambda t, data: [(t, data.replace(b",7,1000", b",8,1000"))]
    with pytest.raises(InstrumentError, match="a record is missing between"):
        meter.measure(20)


@pytest.mark.parametrize("options", [{}, {"handshake": True}, {"awkward": True}])
def test_an_awkward_start(stand: Callable[..., Stand], options: dict) -> None:
    bench = stand(**options)
    meter = bench.ready()
    assert not bench.emulator._handshake and not bench.emulator._service and bench.emulator._remote
    assert meter.wavelength_nm == 400.0 and meter.range_j == 1e-4
    assert meter.measure(50).mean_j == pytest.approx(stand().ready().measure(50).mean_j, rel=0.02)
    assert bench.emulator.unknown == []


def test_handshaking_and_service_bytes_in_the_middle_do_no_harm(stand: Callable[..., Stand]) -> None:
    bench = stand()
    meter = bench.ready()
    bench.emulator._handshake = bench.emulator._service = True
    for _ in range(3):
        assert meter.measure(20).pulses == 20
        assert meter.wavelength_nm == 400.0


def test_values_are_those_of_the_laser_with_its_spread(stand: Callable[..., Stand]) -> None:
    bench = stand(zero_offset_j=0.0)
    meter = bench.ready()
    readings = [meter.measure(100) for _ in range(10)]
    truth = bench.laboratory.truth.laser
    expected_j = truth.energy_uj * 1e-6 * float(bench.laboratory.wave_plate.transmission(0.0))
    assert readings[0].pulses == 100
    assert statistics.fmean(reading.mean_j for reading in readings) == pytest.approx(expected_j, rel=0.08)
    spread = statistics.fmean(reading.std_j / reading.mean_j for reading in readings)
    assert spread == pytest.approx((0.015**2 + 0.005**2) ** 0.5, rel=0.1)


@pytest.mark.parametrize("pulses", [1, 2, 10, 100, 1200])
def test_a_reading_takes_no_longer_than_its_bound(stand: Callable[..., Stand], pulses: int) -> None:
    bench = stand()
    meter = bench.ready()
    started_s = bench.clock.now()
    assert meter.measure(pulses).pulses == max(pulses, 2)
    assert bench.clock.now() - started_s < reading_bound_s(pulses, 1000.0, CoherentLabMax.PACE)


def test_values_do_not_depend_on_time_or_on_what_was_left_over(stand: Callable[..., Stand]) -> None:
    def reading(wait_s: float, left_over: bool) -> list[float]:
        bench = stand()
        meter = bench.ready()
        bench.clock.sleep(wait_s)
        bench.laboratory.announce(3, 0, 10.0)
        if left_over:
            bench.emulator._stored = [(1, 9e-5, 1000)] * 3
        return [meter.measure(20).mean_j for _ in range(2)]

    assert reading(0.0, False) == reading(0.123456, True) == reading(17.0, False)


def test_without_pulses_it_times_out(stand: Callable[..., Stand]) -> None:
    bench = stand(shutter_open=False, driver={"reading_timeout_s": 0.5})
    meter = bench.ready()
    with pytest.raises(InstrumentTimeout, match=r"no pulse reached the energy meter within 0\.5 s; 0 of 10 had come"):
        meter.measure(10)
    bench.light(True)
    assert meter.measure(10).pulses == 10
    assert not bench.emulator._collecting


def test_light_that_ends_early_is_a_time_out_too(stand: Callable[..., Stand]) -> None:
    bench = stand()
    meter = bench.ready()
    bench.laboratory.shutter.set(bench.clock.now() + 0.2, False)
    with pytest.raises(InstrumentTimeout, match=r"1\d\d of 400 had come"):
        meter.measure(400)


def test_pulses_below_the_trigger_level_are_not_seen(stand: Callable[..., Stand]) -> None:
    with pytest.raises(InstrumentTimeout, match="no pulse"):
        bench = stand(trigger_percent=90.0)
        bench.ready().measure(10)


def test_over_range_is_refused(stand: Callable[..., Stand]) -> None:
    meter = stand().ready()
    meter.range_j = 2e-6
    assert meter.range_j == 1e-5
    with pytest.raises(InstrumentError, match=r"exceed the measuring range of 1\.000E-05 J") as caught:
        meter.measure(10)
    assert "9.9E37" in str(caught.value)


def test_ranges_and_wavelengths_that_the_meter_clamps_are_refused(stand: Callable[..., Stand]) -> None:
    meter = stand().ready()
    assert meter.largest_range_j == 1e-4
    with pytest.raises(InstrumentError, match=r"refused a range of 0\.001 J: it stands at 0\.0001 J"):
        meter.range_j = 1e-3
    with pytest.raises(InstrumentError, match="25000 nm: it stands at 12000 nm"):
        meter.wavelength_nm = 25000.0
    with pytest.raises(InstrumentError, match="wavelength was not set"):
        meter.measure(10)


def test_a_meter_that_was_switched_off_is_noticed(stand: Callable[..., Stand]) -> None:
    bench = stand()
    meter = bench.ready()
    bench.emulator.power_up()
    with pytest.raises(InstrumentError, match="CONF:WAVE:WAVE stands at 1064 instead of 400"):
        meter.measure(10)
    assert bench.ready().measure(10).pulses == 10


def test_a_head_for_power_only_is_refused(stand: Callable[..., Stand]) -> None:
    bench = stand()
    bench.tap.damage_command = lambda data: data.replace(b"CONF:MEAS J", b"CONF:MEAS W")
    with pytest.raises(InstrumentError, match="refused CONF:MEAS J: it stands at W") as caught:
        bench.meter.start_up()
    assert caught.value.todo == "plug in an energy head"


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_senseless_settings_are_bad_input(stand: Callable[..., Stand], value: float) -> None:
    bench = stand()
    meter = bench.ready()
    with pytest.raises(InputError):
        meter.range_j = value
    with pytest.raises(InputError):
        meter.wavelength_nm = value
    with pytest.raises(InputError):
        meter.measure(0)
    assert bench.tap.sent == []


def test_zeroing_removes_the_offset_which_the_meter_does_not_tell(stand: Callable[..., Stand]) -> None:
    bench = stand(shutter_open=False)
    meter = bench.ready()
    assert math.isnan(meter.zero())
    bench.light(True)
    zeroed = meter.measure(100).mean_j
    assert stand().ready().measure(100).mean_j - zeroed == pytest.approx(3e-8, abs=4e-9)


def test_zeroing_in_the_light_is_refused(stand: Callable[..., Stand]) -> None:
    bench = stand()
    with pytest.raises(InstrumentError, match="cannot zero: pulses reach the head"):
        bench.ready().zero()
    assert b"CONF:ZERO\r\n" not in bench.tap.sent


def test_zeroing_that_does_not_end(stand: Callable[..., Stand]) -> None:
    with pytest.raises(InstrumentTimeout):
        stand(shutter_open=False, zeroing_s=1e3, driver={"zero_timeout_s": 2.0}).ready().zero()


@pytest.mark.parametrize(
    ("before", "after"),
    [(b",J,", b",W,"), (b",J,", b"J"), (b"E-05,", b"E-0\xff,"), (b",J,1000", b"")],
)
def test_a_garbled_record_is_an_error_and_the_next_reading_works(
    stand: Callable[..., Stand], before: bytes, after: bytes
) -> None:
    bench = stand()
    meter = bench.ready()
    bench.tap.damage_reply = lambda t, data: [(t, data.replace(before, after))]
    with pytest.raises(InstrumentError):
        meter.measure(5)
    bench.tap.damage_reply = lambda t, data: [(t, data)]
    assert meter.measure(5).pulses == 5


def test_a_lost_line_is_a_time_out_and_the_next_reading_works(stand: Callable[..., Stand]) -> None:
    bench = stand()
    meter = bench.ready()
    lost = iter([True])
    bench.tap.damage_reply = lambda t, data: [] if b",J," in data and next(lost, False) else [(t, data)]
    with pytest.raises(InstrumentTimeout):
        meter.measure(5)
    assert meter.measure(5).pulses == 5


def test_a_late_reply_answers_nothing_else(stand: Callable[..., Stand]) -> None:
    bench = stand()
    meter = bench.ready()
    bench.tap.damage_reply = lambda t, data: [(t + 1.05, data)]
    with pytest.raises(InstrumentTimeout):
        _ = meter.range_j
    bench.tap.damage_reply = lambda t, data: [(t, data)]
    assert meter.wavelength_nm == 400.0


def test_safe_state_while_another_thread_waits_for_a_pulse(stand: Callable[..., Stand]) -> None:
    bench = stand(clock=RealClock(), shutter_open=False)
    meter = bench.ready()
    failed: list[Exception] = []

    def measure() -> None:
        try:
            meter.measure(10)
        except InstrumentError as error:
            failed.append(error)

    thread = threading.Thread(target=measure)
    thread.start()
    while b"FETC:NREC?\r\n" not in bench.tap.sent:
        thread.join(0.001)
    (step,) = meter.make_safe()
    assert step.confirmed and "400 nm" in step.evidence
    thread.join(10)
    assert isinstance(failed[0], ConnectionLost)


def test_safe_state_stops_a_collection(stand: Callable[..., Stand]) -> None:
    bench = stand()
    meter = bench.ready()
    meter.adapter.write("INIT")
    bench.clock.sleep(0.1)
    for _ in range(2):
        (step,) = meter.make_safe()
        assert step.confirmed and "400 nm" in step.evidence and "00000884" in step.evidence
        assert not bench.emulator._collecting


def test_safe_state_on_a_new_connection(stand: Callable[..., Stand]) -> None:
    bench = stand(awkward=True)
    started_s = bench.clock.now()
    (step,) = bench.meter.make_safe()
    assert step.confirmed and not bench.emulator._collecting
    assert bench.clock.now() - started_s < 1.0


def test_closing_gives_the_front_panel_back(stand: Callable[..., Stand]) -> None:
    bench = stand()
    bench.ready().close()
    assert bench.tap.sent == [b"SYST:LOC\r\n"] and not bench.emulator._remote
    (step,) = bench.meter.make_safe()
    assert not step.confirmed and "closed" in step.evidence


def test_a_client_that_knows_only_the_fact_sheet(serve_on_pty: Callable[..., Any]) -> None:
    with serve_on_pty("energy_meter", "coherent-labmax", LitLabMax) as pty:
        command = [sys.executable, "-c", CLIENT, pty]
        client = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert client.returncode == 0, client.stderr
    found = json.loads(client.stdout)
    assert found["idn"].startswith("Coherent, Inc") and found["status"] == "00000884"
    assert (float(found["range"]), float(found["wavelength"])) == (1e-4, 400.0)
    records = [record.split(",") for record in (found["one"], *found["many"])]
    assert len(records) > 20
    assert all(1e-5 < float(value) < 1e-4 and (unit, per) == ("J", "1000") for value, unit, per in records)


class LitLabMax(CoherentLabMaxEmulator):
    """A LabMax in the light."""

    def __init__(self, laboratory: Laboratory, role: str, options: Mapping[str, Any]) -> None:
        laboratory.shutter.set(0.0, True)
        super().__init__(laboratory, role, options)
