"""The PM100D as power meter over its emulator; the bytes expected on the wire are written from the fact sheet."""

from __future__ import annotations

import itertools
import subprocess
import sys
from types import SimpleNamespace

import pytest
from pydantic import ValidationError

from drivers.energy_meter.emulators.coherent_labmax import CoherentLabMaxEmulator
from drivers.energy_meter.emulators.gentec_maestro import GentecMaestroEmulator
from drivers.energy_meter.emulators.pm100d import PM100DEmulator
from drivers.energy_meter.pm100d import PM100D
from drivers.power_meter.pm100d import PM100DPower
from labctl.errors import InputError, InstrumentError, InstrumentTimeout
from labctl.roles import PowerMeter
from labctl.sim.laboratory import create
from labctl.sim.server import LaboratoryServer

LAMP_NM = 365.0


def answers(emulator, data: bytes, t: float = 1.0) -> bytes:
    return b"".join(reply for _, reply in emulator.respond(t, data))


@pytest.fixture
def stand(clock, adapter_to, tap):
    """Get a function that sets up laboratory, emulator, tap and driver with its wavelength set; the lamp is on."""

    def build(start_up: bool = True, driver: dict | None = None, **options):
        laboratory = create(None, None, 0)
        laboratory.lamp.set(0.0, 1.0)
        wire = tap(PM100DEmulator(laboratory, "lamp_meter", options))
        meter = PM100DPower(adapter_to(wire, PM100DPower.LINK), clock=clock, **(driver or {}))
        if start_up:
            meter.start_up()
            meter.wavelength_nm = LAMP_NM
            wire.sent.clear()
        return laboratory, wire, meter

    return build


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        (b"SYST:SENSOR:IDN?\n", b'"S120C","16060232","2-JUN-2021",1,2,33\n'),
        (b"CONF:ENER\nSYST:ERR?\n", b'-241,"Hardware missing"\n'),
        (b"SENS:POW:UNIT DBM\nSENS:POW:UNIT?\n", b"DBM\n"),
        (b"SENS:POW:UNIT LUX\nSYST:ERR?\n", b'-104,"Data type error"\n'),
        (b"SENS:POW:RANG:AUTO 0;AUTO?\n", b"0\n"),
    ],
)
def test_emulator_speaks_scpi(sent: bytes, received: bytes) -> None:
    assert answers(PM100DEmulator(create(None, None, 0), "lamp_meter", {}), sent) == received


def test_bytes_on_the_wire(stand) -> None:
    _, wire, meter = stand(start_up=False)
    meter.start_up()
    told = [sent for sent in wire.sent if b"?" not in sent]
    assert told == [
        *(b"ABOR\n", b"CONF:POW\n", b"SENS:POW:UNIT W\n", b"SENS:POW:RANG:AUTO 1\n", b"SENS:AVER:COUN 30\n"),
    ]
    wire.sent.clear()
    meter.wavelength_nm = LAMP_NM
    assert wire.sent == [b"SENS:CORR:WAV 365\n", b"SENS:CORR:WAV?\n"]
    _ = meter.power_w
    assert wire.sent.count(b"MEAS:POW?\n") == 3


def test_the_power_is_that_of_the_lamp(stand, clock) -> None:
    laboratory, _, meter = stand()
    assert isinstance(meter, PowerMeter)
    for share in (1.0, 0.3):
        laboratory.lamp.set(clock.now(), share)
        assert meter.power_w == pytest.approx(laboratory.lamp.power_w(clock.now()), rel=3e-3)
    laboratory.lamp.set(clock.now(), 0.0)
    assert abs(meter.power_w) < 1e-8


def test_a_meter_that_shows_the_same_number_again_and_again_is_an_error_with_light(stand) -> None:
    _, wire, meter = stand()
    assert meter.power_w > 0.01
    wire.emulator.stuck = True
    with pytest.raises(InstrumentError, match="does not measure anew"):
        _ = meter.power_w


def test_averaging_makes_the_noise_smaller_and_takes_time(stand, clock) -> None:
    spreads = {}
    for averages in (1, 100):
        laboratory, _, meter = stand(driver={"averages": averages}, power_noise=0.05)
        before = clock.now()
        readings = [meter.power_w / laboratory.lamp.power_w(clock.now()) - 1 for _ in range(20)]
        spreads[averages] = sum(reading**2 for reading in readings) ** 0.5
        assert clock.now() - before > 20 * 3 * averages * 3e-3
    assert spreads[100] < 0.3 * spreads[1]


def test_nothing_is_measured_before_the_wavelength_was_set(stand) -> None:
    _, _, meter = stand(start_up=False)
    meter.start_up()
    with pytest.raises(InstrumentError, match="wavelength was not set"):
        _ = meter.power_w
    with pytest.raises(InstrumentError, match=r"10600 nm: it stands at 1064 nm[\s\S]*-222"):
        meter.wavelength_nm = 10600.0
    with pytest.raises(InputError):
        meter.wavelength_nm = float("nan")


@pytest.mark.parametrize(("sensor", "message"), [("none", "no sensor is connected"), ("pyro", "measures no power")])
def test_a_head_that_measures_no_power(stand, sensor, message) -> None:
    _, _, meter = stand(start_up=False, sensor=sensor)
    with pytest.raises(InstrumentError, match=message) as caught:
        meter.start_up()
    assert "plug in the power head" in caught.value.todo
    (entry,) = meter.readiness()
    assert not entry.ok and message in entry.text


def test_readiness_names_the_head(stand) -> None:
    _, _, meter = stand()
    assert [(entry.ok, entry.text) for entry in meter.readiness()] == [(True, "S120C")]


def test_a_power_cycle_is_noticed(stand, clock) -> None:
    _, wire, meter = stand()
    assert meter.power_w > 0
    wire.emulator.power_cycle(clock.now())
    with pytest.raises(InstrumentError, match="switched off, or set by hand"):
        _ = meter.power_w


def test_an_awkward_start(stand) -> None:
    laboratory, _, meter = stand(awkward=True)
    assert meter.power_w == pytest.approx(laboratory.lamp.power_w(2.0), rel=0.02)


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize(
    ("harm", "error"),
    [
        (lambda data: b"", InstrumentTimeout),
        (lambda data: data[:-1], InstrumentTimeout),
        (lambda data: b"\xb1" + data[1:], InstrumentError),
        (lambda data: data[:4] + data[5:], InstrumentError),
        (lambda data: b"9.900000E+37\n", InstrumentError),
        (lambda data: data.replace(b"E-02", b"E-05"), None),
    ],
    ids=["lost", "truncated", "garbled", "a byte less", "over-range", "exponent"],
)
def test_one_spoilt_reading_gives_an_error_or_the_right_power(stand, clock, harm, error, place) -> None:
    laboratory, wire, meter = stand()
    readings = itertools.count()

    def damage(t, data):
        is_reading = data.endswith(b"E-02\n")
        harmed = harm(data) if is_reading and next(readings) == place else data
        return [(t, harmed)] if harmed else []

    wire.damage_reply = damage
    if error is None:
        assert meter.power_w == pytest.approx(laboratory.lamp.power_w(clock.now()), rel=0.01)
        return
    with pytest.raises(error) as caught:
        _ = meter.power_w
    assert caught.value.exchange.sent
    wire.damage_reply = lambda t, data: [(t, data)]
    assert meter.power_w == pytest.approx(laboratory.lamp.power_w(clock.now()), rel=0.01)


def test_make_safe_says_how_it_stands(stand) -> None:
    _, wire, meter = stand()
    for _ in range(2):
        (step,) = meter.make_safe()
        assert step.confirmed and "365 nm" in step.evidence
    wire.damage_reply = lambda t, data: []
    (step,) = meter.make_safe()
    assert not step.confirmed


@pytest.mark.parametrize("options", [{"averages": 0}, {"reading_timeout_s": 0.0}, {"averaging": True}])
def test_senseless_options(options) -> None:
    with pytest.raises(ValidationError):
        PM100DPower.Options(**options)


def lit_laboratory():
    return create({"shutter": {"initially_open": True}}, None, 0)


def test_as_slit_meter_it_stands_behind_the_slit(clock, adapter_to) -> None:
    laboratory, means = lit_laboratory(), {}
    for role in ("energy_meter", "slit_meter"):
        emulator = PM100DEmulator(laboratory, role, {"zero_offset_j": 0.0, "zero_drift_j": 0.0})
        meter = PM100D(adapter_to(emulator, PM100D.LINK), clock=clock)
        meter.start_up()
        meter.wavelength_nm = laboratory.truth.laser.wavelength_nm
        means[role] = meter.measure(100).mean_j
    share = laboratory.truth.meter.ratio * laboratory.truth.slit.meter_share
    assert means["slit_meter"] == pytest.approx(share * means["energy_meter"], rel=0.02)


@pytest.mark.parametrize("emulator", [PM100DEmulator, CoherentLabMaxEmulator, GentecMaestroEmulator])
def test_every_energy_meter_asks_the_laboratory_by_its_role(emulator) -> None:
    laboratory = lit_laboratory()
    heads = {role: emulator(laboratory, role, {})._head for role in ("energy_meter", "slit_meter")}
    energies_j = {role: head.energies_j(1.0, 500).mean() for role, head in heads.items()}
    share = laboratory.truth.meter.ratio * laboratory.truth.slit.meter_share
    assert energies_j["slit_meter"] == pytest.approx(share * energies_j["energy_meter"], rel=0.02)


_CLIENT = """
import sys, warnings
warnings.simplefilter("ignore")
from pymeasure.instruments.thorlabs import ThorlabsPM100USB
meter = ThorlabsPM100USB(sys.argv[1], visa_library="@py", read_termination="\\n")
print(meter.sensor_name, meter.is_energy_sensor, meter.is_power_sensor)
meter.wavelength = 365
print(meter.wavelength)
print(meter.power)
print(meter.check_errors())
"""


def test_the_unmodified_pymeasure_driver_in_a_process_of_its_own() -> None:
    pytest.importorskip("pyvisa_py", reason="pyvisa-py is the VISA library of this client")
    instruments = {"lamp_meter": SimpleNamespace(driver="pm100d", resource="sim:", options={})}
    bench = SimpleNamespace(name="meter", instruments=instruments, laboratory=None)
    with LaboratoryServer(bench, factories={"pm100d": PM100DEmulator}) as addresses:
        host, port = addresses["instruments"]["lamp_meter"]["tcp"].split(":")
        command = [sys.executable, "-c", _CLIENT, f"TCPIP::{host}::{port}::SOCKET"]
        client = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert client.returncode == 0, client.stderr
    sensor, wavelength, power, errors = client.stdout.splitlines()
    assert sensor == '"S120C" False True' and float(wavelength) == LAMP_NM
    assert abs(float(power)) < 1e-8 and errors == "[]"
