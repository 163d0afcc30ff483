"""The PM100D driver over its emulator; the bytes expected on the wire are written from the fact sheet."""

from __future__ import annotations

import itertools
import re
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.energy_meter.emulators.pm100d import PM100DEmulator
from drivers.energy_meter.pm100d import PM100D
from labctl.clock import Clock, RealClock, VirtualClock
from labctl.errors import ConnectionLost, InputError, InstrumentError, InstrumentTimeout, NoPulse
from labctl.roles import EnergyMeter
from labctl.sim.laboratory import Laboratory, create
from labctl.sim.link import EmulatorLink
from labctl.sim.server import LaboratoryServer
from labctl.transport.adapter import WireAdapter

LASER_NM = 400.0


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
    """Laboratory, emulator, wire and driver; the shutter is open unless told otherwise."""

    def __init__(self, *, clock: Clock | None = None, shutter_open: bool = True, driver: dict | None = None, **options):
        self.clock = clock or VirtualClock()
        self.laboratory = laboratory(shutter_open)
        self.emulator = PM100DEmulator(self.laboratory, "energy_meter", options)
        self.wires: list[Wire] = []
        adapter = WireAdapter(self.connect, PM100D.LINK, self.clock, "energy_meter")
        self.meter = PM100D(adapter, clock=self.clock, **(driver or {}))

    def connect(self) -> Wire:
        self.wires.append(Wire(EmulatorLink(self.emulator, self.clock)))
        return self.wires[-1]

    @property
    def wire(self) -> Wire:
        return self.wires[-1]

    def ready(self) -> PM100D:
        self.meter.start_up()
        self.meter.wavelength_nm = LASER_NM
        return self.meter


def laboratory(shutter_open: bool = True, **tables: dict) -> Laboratory:
    return create({"shutter": {"initially_open": shutter_open}, **tables}, None, 0)


def quiet_emulator(**options) -> PM100DEmulator:
    return PM100DEmulator(laboratory(), "energy_meter", options)


def ask(emulator: PM100DEmulator, data: bytes, t: float = 0.0) -> bytes:
    return b"".join(text for _, text in emulator.respond(t, data))


@pytest.mark.parametrize(
    ("sent", "reply"),
    [
        (b"*IDN?\n", b"THORLABS,PM100D,P0012345,2.8.0\n"),
        (b"SYST:ERR?\n", b'0,"No error"\n'),
        (b"SENS:CORR:WAV 800\nSENS:CORR:WAV?\n", b"8.000000E+02\n"),
        (b"Sense:Correction:WAVelength 800\r\nsense:CORR:wavelength?\r\n", b"8.000000E+02\n"),
        (b"SENS:AVER:COUN 10;COUN?\n", b"10\n"),
        (b"SENS:CORR:WAV 800;:SENS:AVER:COUN 3\nSENS:CORR:WAV?;:SENS:AVER:COUN?\n", b"8.000000E+02;3\n"),
        (b"SENS:CORR:WAV?;SENS:AVER:COUN?;*IDN?\n", b"1.064000E+03;1;THORLABS,PM100D,P0012345,2.8.0\n"),
        (b"SENS:ENER:RANG 2E-6\nSENS:ENER:RANG?\n", b"1.000000E-05\n"),
        (b"SENS:ENER:RANG 1\nSENS:ENER:RANG?;:SYST:ERR?\n", b'1.000000E-04;-222,"Data out of range"\n'),
        (b"SENS:CORR:WAV? MIN\n", b"1.850000E+02\n"),
        (b"CONF:POW\nSYST:ERR?\n", b'-241,"Hardware missing"\n'),
    ],
)
def test_emulator_speaks_scpi(sent: bytes, reply: bytes) -> None:
    assert ask(quiet_emulator(), sent) == reply


@pytest.mark.parametrize("header", [b"FOO?", b"SENSO:CORR:WAV?", b"SYST:SENSO:IDN?", b"SENS:CORR:WAVE?", b"*FOO?"])
def test_an_unknown_header_gets_no_reply_and_is_queued(header: bytes) -> None:
    emulator = quiet_emulator()
    assert ask(emulator, header + b"\n") == b""
    assert ask(emulator, b"SYST:ERR?\nSYST:ERR?\n") == b'-113,"Undefined header"\n0,"No error"\n'


def test_the_sensor_is_a_pyro_head_for_energy_with_settable_wavelength() -> None:
    fields = ask(quiet_emulator(), b"SYST:SENSOR:IDN?\n").decode().strip().split(",")
    assert fields[0].startswith('"') and fields[3] == "3"
    assert int(fields[5]) & 2 and int(fields[5]) & 32 and not int(fields[5]) & 1


def test_energy_goes_over_the_wire_with_seven_digits() -> None:
    assert re.fullmatch(rb"\d\.\d{6}E-0\d\n", ask(quiet_emulator(), b"MEAS:ENER?\n"))


@given(cuts=st.lists(st.integers(0, 90), max_size=8))
@settings(max_examples=50, deadline=None)
def test_any_fragmentation_gives_the_same_replies(cuts: list[int]) -> None:
    message = b"*IDN?\r\nCONF:ENER;READ?\nSENS:CORR:WAV 500;WAV?\nBAD\nMEAS:ENER?;*IDN?\nSYST:ERR?\nFETC?\n"
    whole = ask(quiet_emulator(), message)
    assert whole.count(b"\n") == 6
    emulator, edges = quiet_emulator(), sorted({0, *(min(cut, len(message)) for cut in cuts), len(message)})
    parts = [message[a:b] for a, b in itertools.pairwise(edges)]
    assert b"".join(ask(emulator, part) for part in parts) == whole


def test_it_is_an_energy_meter() -> None:
    assert isinstance(Bench().ready(), EnergyMeter)


def test_bytes_on_the_wire() -> None:
    bench = Bench()
    meter = bench.ready()
    meter.range_j = 1e-4
    bench.wire.sent = b""
    meter.measure(100)
    lines = bench.wire.sent.split(b"\n")
    assert b"SENS:AVER:COUN 10" in lines and lines.count(b"READ?") == 10
    bench.wire.sent = b""
    meter.wavelength_nm = 532.0
    assert bench.wire.sent == b"SENS:CORR:WAV 532\nSENS:CORR:WAV?\n"
    bench.laboratory.shutter.set(bench.clock.now(), False)
    bench.wire.sent = b""
    meter.zero()
    sent = bench.wire.sent
    assert sent.startswith(b"SENS:CORR:COLL:ZERO:INIT\n") and sent.endswith(b"SENS:CORR:COLL:ZERO:MAGN?\n")
    assert b"SENS:CORR:COLL:ZERO:STAT?\n" in sent


def test_a_hundred_pulses_take_a_third_of_a_second_and_agree_with_the_laser() -> None:
    bench = Bench(zero_offset_j=0.0)
    meter = bench.ready()
    meter.measure(100)
    start = bench.clock.now()
    reading = meter.measure(100)
    assert 0.2 < bench.clock.now() - start < 0.35
    assert reading.pulses == 100
    truth = bench.laboratory.truth.laser
    expected_j = truth.energy_uj * 1e-6 * float(bench.laboratory.wave_plate.transmission(0.0))
    assert reading.mean_j == pytest.approx(expected_j, rel=0.08)
    assert 0.2 * truth.rms < reading.std_j / reading.mean_j < 2.5 * truth.rms


def test_the_spread_is_that_of_single_pulses_whether_the_meter_averages_or_not() -> None:
    spreads = []
    for averaging in (True, False):
        meter = Bench(driver={"averaging": averaging}).ready()
        readings = [meter.measure(100) for _ in range(20)]
        assert all(reading.pulses == 100 for reading in readings)
        spreads.append(statistics.fmean(reading.std_j / reading.mean_j for reading in readings))
    laser, head = 0.015, 0.005
    for spread in spreads:
        assert spread == pytest.approx((laser**2 + head**2) ** 0.5, rel=0.2)


@pytest.mark.parametrize(("pulses", "reported"), [(1, 2), (2, 2), (9, 9), (10, 10), (15, 20), (101, 110)])
def test_at_least_the_pulses_asked_for(pulses: int, reported: int) -> None:
    assert Bench().ready().measure(pulses).pulses == reported


def test_values_do_not_depend_on_the_time_of_day() -> None:
    assert Bench().ready().measure(50) == Bench(clock=VirtualClock(1234.5678)).ready().measure(50)


def test_a_forgotten_wavelength_is_refused_and_a_wrong_one_is_wrong() -> None:
    bench = Bench(zero_offset_j=0.0)
    bench.meter.start_up()
    with pytest.raises(InstrumentError, match="wavelength was not set"):
        bench.meter.measure(10)
    bench.meter.wavelength_nm = 1064.0
    wrong = bench.meter.measure(100).mean_j
    bench.meter.wavelength_nm = LASER_NM
    assert wrong / bench.meter.measure(100).mean_j == pytest.approx(1.057, abs=0.02)


def test_a_wavelength_out_of_range_is_refused_not_clipped() -> None:
    meter = Bench().ready()
    for name in ("wavelength_nm", "wavelength"):
        with pytest.raises(InstrumentError, match=r"10600 nm: it stands at 400 nm[\s\S]*-222"):
            setattr(meter, name, 10600.0)
    assert meter.wavelength_nm == 400.0
    with pytest.raises(InstrumentError, match="wavelength was not set"):
        meter.measure(10)


def test_ranges() -> None:
    meter = Bench().ready()
    meter.range_j = 2e-6
    assert meter.range_j == 1e-5
    with pytest.raises(InstrumentError, match="exceed the measuring range of 1e-05 J"):
        meter.measure(10)
    with pytest.raises(InstrumentError, match=r"refused a range of 0\.001 J[\s\S]*-222"):
        meter.range_j = 1e-3
    meter.range_j = 1e-4
    assert meter.measure(10).mean_j > 1e-5


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_senseless_settings_are_bad_input(value: float) -> None:
    bench = Bench()
    meter = bench.ready()
    bench.wire.sent = b""
    with pytest.raises(InputError):
        meter.range_j = value
    with pytest.raises(InputError):
        meter.wavelength_nm = value
    with pytest.raises(InputError):
        meter.measure(0)
    assert bench.wire.sent == b""


def test_zeroing_removes_the_offset() -> None:
    bench = Bench(shutter_open=False)
    meter = bench.ready()
    assert meter.zero() == pytest.approx(3e-8, abs=2e-9)
    assert meter.zero() == pytest.approx(3e-8, abs=2e-9)
    bench.laboratory.shutter.set(bench.clock.now(), True)
    zeroed = meter.measure(100).mean_j
    bench = Bench()
    assert bench.ready().measure(100).mean_j - zeroed == pytest.approx(3e-8, abs=2e-9)


def test_the_zero_drifts_and_zeroing_again_does_not_change_the_data_of_a_resumed_run() -> None:
    def reading(schedule_s: float, *, zeroed_at: tuple[float, ...]) -> float:
        bench = Bench(shutter_open=False, zero_drift_j=1e-6, driver={"zero_limit_j": 1e-5})
        meter = bench.ready()
        for moment in zeroed_at:
            bench.laboratory.announce(3, 0, moment)
            meter.zero()
        bench.laboratory.shutter.set(bench.clock.now(), True)
        bench.laboratory.announce(7, 0, schedule_s)
        return meter.measure(20).mean_j

    assert reading(3600.0, zeroed_at=(0.0,)) == reading(3600.0, zeroed_at=(0.0, 1800.0))
    assert abs(reading(3600.0, zeroed_at=(0.0,)) - reading(7200.0, zeroed_at=(0.0,))) > 1e-8


def test_zeroing_in_the_light_is_refused() -> None:
    with pytest.raises(InstrumentError, match=r"zeroing removed .* more than 1e-06 J"):
        Bench().ready().zero()


def test_zeroing_that_does_not_end() -> None:
    bench = Bench(zeroing_s=1000.0)
    meter = bench.ready()
    with pytest.raises(InstrumentTimeout, match="zeroing has not ended within 30 s"):
        meter.zero()
    assert bench.wire.sent.endswith(b"SENS:CORR:COLL:ZERO:ABOR\n")
    assert meter.wavelength_nm == LASER_NM


@pytest.mark.parametrize("interruptible", [True, False])
def test_without_pulses_it_times_out_and_the_late_reading_answers_nothing_else(interruptible: bool) -> None:
    bench = Bench(shutter_open=False, interruptible=interruptible)
    meter = bench.ready()
    with pytest.raises(InstrumentTimeout, match="no pulse reached the energy meter") as caught:
        meter.measure(10)
    assert caught.value.exchange.sent == r"b'READ?\n'"
    assert ("meter answers again" if interruptible else "does not answer") in caught.value.state
    assert isinstance(caught.value, NoPulse) is interruptible
    bench.laboratory.shutter.set(bench.clock.now(), True)
    assert meter.wavelength_nm == LASER_NM
    assert meter.identify().model == "PM100D"
    assert meter.measure(10).mean_j > 1e-5


def test_pulses_below_the_threshold_are_not_seen() -> None:
    bench = Bench(driver={"trigger_percent": 90.0})
    with pytest.raises(NoPulse, match="no pulse"):
        bench.ready().measure(10)
    assert b"SENS:PEAK:THR 90\nSENS:PEAK:THR?\n" in bench.wires[0].sent


def test_a_reading_that_is_lost_is_no_missing_pulse() -> None:
    bench = Bench()
    meter = bench.ready()
    meter.measure(10)
    wire, before = bench.wire, bench.wire.sent.count(b"READ?")
    wire.change = lambda data: (
        b"" if wire.sent.endswith(b"READ?\n") and wire.sent.count(b"READ?") == before + 3 else data
    )
    with pytest.raises(InstrumentTimeout, match="a reading was lost on its way, though pulses come") as caught:
        meter.measure(10)
    assert not isinstance(caught.value, NoPulse)
    assert wire.sent.count(b"READ?") == before + 4
    assert meter.measure(10).pulses == 10


def test_an_awkward_start() -> None:
    bench = Bench(awkward=True)
    meter = bench.ready()
    assert meter.identify() == meter.identify()
    assert meter.measure(20).pulses == 20
    assert meter.check_errors() == []


@pytest.mark.parametrize(("sensor", "message"), [("none", "no sensor is connected"), ("photodiode", "no pulse energy")])
def test_a_head_that_measures_no_energy(sensor: str, message: str) -> None:
    with pytest.raises(InstrumentError, match=message):
        Bench(sensor=sensor).meter.start_up()


@pytest.mark.parametrize(("sensor", "found"), [("none", "no sensor is connected"), ("photodiode", "no pulse energy")])
def test_readiness_is_the_head(sensor: str, found: str) -> None:
    (entry,) = Bench(sensor=sensor).meter.readiness()
    assert not entry.ok and not entry.waits
    assert found in entry.text and "plug in" in entry.text
    bench = Bench()
    meter = bench.ready()
    meter.measure(10)
    (entry,) = meter.readiness()
    assert (entry.name, entry.ok, entry.text) == ("sensor", True, "ES111C")
    assert meter.measure(10).pulses == 10


def test_a_power_cycle_is_noticed() -> None:
    bench = Bench()
    meter = bench.ready()
    meter.measure(10)
    bench.emulator.power_up()
    with pytest.raises(InstrumentError, match="switched off, or set by hand"):
        meter.measure(10)
    assert bench.ready().measure(10).pulses == 10


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda data: b"", InstrumentTimeout),
        (lambda data: data.rstrip(b"\n"), InstrumentTimeout),
        (lambda data: data.replace(b".", b"\xb1"), InstrumentError),
        (lambda data: b"Q" + data, InstrumentError),
        (lambda data: b"NAN\n" if data else b"", InstrumentError),
    ],
    ids=["silence", "truncated", "garbled", "extra byte", "not a number"],
)
def test_wire_faults(change: Callable[[bytes], bytes], error: type[Exception]) -> None:
    bench = Bench()
    meter = bench.ready()
    bench.wire.change = change
    with pytest.raises(error) as caught:
        meter.measure(10)
    assert isinstance(caught.value, InstrumentError) and caught.value.exchange.sent
    for wire in bench.wires:
        wire.change = lambda data: data
    assert meter.measure(10).pulses == 10


def test_a_lost_digit_in_one_reading_is_noticed() -> None:
    bench = Bench()
    meter = bench.ready()
    seen: list[bytes] = []

    def lose_one(data: bytes) -> bytes:
        if re.fullmatch(rb"\d\.\d{6}E-05\n", data):
            seen.append(data)
            return data[:4] + data[5:] if len(seen) == 7 else data
        return data

    bench.wire.change = lose_one
    with pytest.raises(InstrumentError, match="a byte was lost"):
        meter.measure(100)


def test_a_wrong_exponent_in_one_reading_is_noticed() -> None:
    bench = Bench()
    meter = bench.ready()
    seen: list[bytes] = []

    def wrong_once(data: bytes) -> bytes:
        if re.fullmatch(rb"\d\.\d{6}E-05\n", data):
            seen.append(data)
            return data.replace(b"E-05", b"E-06") if len(seen) == 4 else data
        return data

    bench.wire.change = wrong_once
    with pytest.raises(InstrumentError, match="factor 3"):
        meter.measure(100)


def test_safe_state_when_idle_and_while_a_reading_waits() -> None:
    bench = Bench(shutter_open=False)
    meter = bench.ready()
    for _ in range(2):
        (step,) = meter.make_safe()
        assert step.confirmed and "400 nm" in step.evidence
    meter.write("READ?")
    (step,) = meter.make_safe()
    assert step.confirmed and "400 nm" in step.evidence


def test_safe_state_while_another_thread_waits_for_a_pulse() -> None:
    bench = Bench(clock=RealClock(), shutter_open=False)
    meter = bench.ready()
    failed: list[Exception] = []

    def measure() -> None:
        try:
            meter.measure(10)
        except InstrumentError as error:
            failed.append(error)

    thread = threading.Thread(target=measure)
    thread.start()
    while not bench.wire.sent.endswith(b"READ?\n"):
        thread.join(0.001)
    (step,) = meter.make_safe()
    assert step.confirmed and "400 nm" in step.evidence
    thread.join(10)
    assert isinstance(failed[0], ConnectionLost)


def test_safe_state_on_a_new_connection_stops_a_waiting_reading() -> None:
    bench = Bench(shutter_open=False)
    bench.ready().write("READ?")
    adapter = WireAdapter(bench.connect, PM100D.LINK, bench.clock, "energy_meter")
    (step,) = PM100D(adapter, clock=bench.clock).make_safe()
    assert step.confirmed
    assert bench.emulator.next_event() is None


def test_safe_state_of_a_dead_meter_is_unconfirmed() -> None:
    bench = Bench()
    meter = bench.ready()
    meter.close()
    (step,) = meter.make_safe()
    assert not step.confirmed and "closed" in step.evidence


_CLIENT = """
import sys, warnings
warnings.simplefilter("ignore")
from pymeasure.instruments.thorlabs import ThorlabsPM100USB
# On a SOCKET resource VISA knows the end of a reply only by its last character.
meter = ThorlabsPM100USB(sys.argv[1], visa_library="@py", read_termination="\\n")
print(meter.sensor_name, meter.is_energy_sensor, meter.is_power_sensor, meter.wavelength_settable)
print(meter.wavelength)
meter.wavelength = 400
print(meter.wavelength)
meter.wavelength = 99999
print(meter.wavelength, meter.wavelength_max)
meter.wavelength = 400
print(meter.energy)
print(meter.energy)
print(meter.id)
print(meter.check_errors())
"""


def test_the_unmodified_pymeasure_driver_in_a_process_of_its_own() -> None:
    pytest.importorskip("pyvisa_py", reason="pyvisa-py is the VISA library of this client")
    instruments = {"energy_meter": SimpleNamespace(driver="pm100d", resource="sim:", options={})}
    bench = SimpleNamespace(name="meter", instruments=instruments, laboratory={"shutter": {"initially_open": True}})
    with LaboratoryServer(bench, factories={"pm100d": PM100DEmulator}) as addresses:
        host, port = addresses["instruments"]["energy_meter"]["tcp"].split(":")
        command = [sys.executable, "-c", _CLIENT, f"TCPIP::{host}::{port}::SOCKET"]
        client = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert client.returncode == 0, client.stderr
    sensor, power_up, told, clipped, first, second, identity, errors = client.stdout.splitlines()
    assert sensor == '"ES111C" True False True'
    assert (float(power_up), float(told)) == (1064.0, 400.0)
    assert clipped.split() == ["2500.0", "2500.0"]
    assert float(first) == pytest.approx(float(second), rel=0.2)
    assert 1e-5 < float(first) < 1e-4
    assert identity == "THORLABS,PM100D,P0012345,2.8.0"
    assert errors == "[]"


def test_a_meter_that_was_switched_off_during_a_reading_gives_none():
    bench = Bench()
    meter = bench.ready()
    replies = itertools.count()

    def power_cycle_at_the_fifth_block(data: bytes) -> bytes:
        if data.count(b"E-") and next(replies) == 8:
            bench.emulator.power_cycle(bench.clock.now())
        return data

    meter.measure(20)
    bench.wire.change = power_cycle_at_the_fifth_block
    with pytest.raises(InstrumentError, match="switched off"):
        meter.measure(20)


def test_a_meter_that_repeats_its_last_reading_is_found_out():
    bench = Bench()
    meter = bench.ready()
    meter.measure(20)
    bench.emulator.stuck = True
    with pytest.raises(InstrumentError, match="repeats an old one"):
        meter.measure(20)


def test_a_zeroing_that_never_began_is_no_zeroing():
    bench = Bench()
    meter = bench.ready()
    start, asked = bench.emulator._start_zeroing, []

    def lose_the_first(t: float, unit) -> None:
        asked.append(t)
        if len(asked) > 1:
            start(t, unit)

    bench.emulator._commands["SENSe:CORRection:COLLect:ZERO[:INITiate]"] = lose_the_first
    bench.laboratory.shutter.set(bench.clock.now(), False)
    meter.zero()
    assert len(asked) == 2
    bench.emulator._commands["SENSe:CORRection:COLLect:ZERO[:INITiate]"] = lambda t, unit: None
    with pytest.raises(InstrumentError, match="does not begin to zero"):
        meter.zero()
