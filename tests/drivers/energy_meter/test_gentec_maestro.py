"""The Maestro driver over its emulator; the bytes expected on the wire are written from the fact sheet."""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.energy_meter.emulators.gentec_maestro import GentecMaestroEmulator, range_label
from drivers.energy_meter.gentec_maestro import GentecMaestro, full_scale_j
from labctl.bench.bench_sections import meter_reading_s
from labctl.bench.pump_beam import reading_bound_s
from labctl.clock import Clock, RealClock, VirtualClock
from labctl.config.bench import load_bench
from labctl.errors import ConnectionLost, InputError, InstrumentError, InstrumentTimeout
from labctl.roles import EnergyMeter
from labctl.sim.laboratory import Laboratory, create
from labctl.sim.link import EmulatorLink
from labctl.transport.adapter import WireAdapter

LASER_NM = 400.0
QCODES_PYTHON = os.environ.get("LABCTL_QCODES_PYTHON", sys.executable)
CLIENT = """
import json, sys, warnings
warnings.simplefilter("ignore")
from qcodes_contrib_drivers.drivers.Gentec.Gentec_Maestro import Gentec_Maestro
meter = Gentec_Maestro("meter", f"ASRL{sys.argv[1]}::INSTR", visalib="@py", terminator="\\r\\n")
found = {"idn": meter.get_idn(), "power_up": meter.wavelength()}
meter.wavelength(400)
found["told"] = meter.wavelength()
found["zero"] = [meter.zero_offset_enabled()]
meter.set_zero_offset()
found["zero"].append(meter.zero_offset_enabled())
meter.clear_zero_offset()
found["zero"].append(meter.zero_offset_enabled())
found["energies"] = [meter.power() for _ in range(5)]
meter.close()
print("FOUND " + json.dumps(found))
"""


def laboratory(shutter_open: bool = True) -> Laboratory:
    return create({"shutter": {"initially_open": shutter_open}}, None, 0)


def quiet_emulator(**options: Any) -> GentecMaestroEmulator:
    return GentecMaestroEmulator(laboratory(), "energy_meter", options)


def ask(emulator: GentecMaestroEmulator, data: bytes, t: float = 1.0) -> bytes:
    return b"".join(text for _, text in emulator.respond(t, data))


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
        self.emulator = GentecMaestroEmulator(self.laboratory, "energy_meter", options)
        self.tap = tap(self.emulator)
        adapter = WireAdapter(lambda: EmulatorLink(self.tap, self.clock), GentecMaestro.LINK, self.clock, "test")
        self.meter = GentecMaestro(adapter, clock=self.clock, **(driver or {}))

    def ready(self) -> GentecMaestro:
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


@pytest.mark.parametrize(
    ("sent", "reply"),
    [
        (b"*GWL\r\n", b"PWC : 1064\r\n"),
        (b"*PWC00400*GWL", b"PWC : 400\r\n"),
        (b"*PWC01064\r\n*GWL\r\n", b"PWC : 1064\r\n"),
        (b"*SCS12\r\n*GCR\r\n", b"Range : 12 \r\n"),
        (b"*SCS41\r\n*GCR\r\n", b"Range : 16 \r\n"),
        (b"*SSD*GCR", b"Range : 15 \r\n"),
        (b"*GAS*SAS1*GAS\r\n", b"AutoScale : 0 \r\nAutoScale : 1 \r\n"),
        (b"*GZO\r\n", b"Zero : 0 \r\n"),
        (b"*GUM\r\n*GUO\r\n", b"User Multiplier : 1 \r\nUser Offset : 0 \r\n"),
        (b"*TLA 15.4%\r\n", b"ACK\r\n"),
        (b"*STL15.4", b""),
        (b"*XYZ\r\n*STS\r\n", b""),
    ],
)
def test_emulator_speaks_as_the_manual_says(sent: bytes, reply: bytes) -> None:
    assert ask(quiet_emulator(), sent) == reply


def test_ranges_are_listed_with_their_index_as_in_the_manual() -> None:
    assert [range_label(index) for index in range(22, 28)] == ["100.0 m", "300 m", "1.000", "3.00", "10.00", "30.0"]
    assert [full_scale_j(index) for index in (0, 1, 16, 22, 25, 41)] == [1e-12, 3e-12, 1e-4, 0.1, 3.0, 3e8]
    assert ask(quiet_emulator(ranges=(16, 17)), b"*DVS\r\n") == b"[16] : 100.0 u\r\n[17] : 300 u\r\n"


def test_an_old_value_remains_until_a_new_pulse() -> None:
    emulator = quiet_emulator()
    assert ask(emulator, b"*NVU\r\n", 1.0) == b"New Data Available\r\n"
    first = ask(emulator, b"*CVU\r\n", 1.1)
    assert first.startswith(b"Current Value : ") and first.endswith(b"\r\n")
    emulator._laboratory.shutter.set(1.1001, False)
    assert ask(emulator, b"*NVU\r\n", 2.0) == b"New Data Not Available\r\n"
    assert ask(emulator, b"*CVU\r\n", 2.1) == ask(emulator, b"*CVU\r\n", 2.2) == first


def test_continuous_transmission_is_as_fast_as_the_wire() -> None:
    emulator = quiet_emulator()
    assert ask(emulator, b"*CAU\r\n", 1.0) == b""
    lines = ask(emulator, b"", 2.0).splitlines()
    assert 380 < len(lines) < 450 and len(set(lines)) > 100
    emulator.respond(2.0, b"*CSU\r\n")
    assert ask(emulator, b"", 3.0) == b""


@given(cuts=st.lists(st.integers(0, 70), max_size=8))
@settings(max_examples=50, deadline=None)
def test_any_fragmentation_gives_the_same_replies(cuts: list[int]) -> None:
    message = b"*VER\r\n*PWC00532*GWL\r\n*TLA 2.5\r\n*NVU*CVU\r\n*BAD\r\n*SCS15\r\n*GCR\r\n*DVS\r\n"
    whole = ask(quiet_emulator(), message)
    assert whole.count(b"\n") == 13
    emulator, edges = quiet_emulator(), sorted({0, *(min(cut, len(message)) for cut in cuts), len(message)})
    assert b"".join(ask(emulator, message[a:b]) for a, b in itertools.pairwise(edges)) == whole


def test_it_is_an_energy_meter(stand: Callable[..., Stand]) -> None:
    meter = stand().ready()
    assert isinstance(meter, EnergyMeter)
    assert (meter.identify().vendor, meter.identify().model) == ("Gentec-EO", "MAESTRO")


def test_bytes_on_the_wire(stand: Callable[..., Stand]) -> None:
    bench = stand(driver={"trigger_percent": 0.2})
    bench.meter.start_up()
    assert b"*STL0.20\r\n" in bench.tap.sent and b"*SAS0\r\n" in bench.tap.sent
    bench.tap.sent.clear()
    bench.meter.wavelength_nm = 400.0
    bench.meter.range_j = 4e-5
    assert bench.tap.sent == [b"*PWC00400\r\n", b"*GWL\r\n", b"*SCS16\r\n", b"*GCR\r\n"]
    bench.tap.sent.clear()
    bench.meter.measure(10)
    assert bench.tap.sent.count(b"*CVU\r\n") == 11 and bench.tap.sent.count(b"*NVU\r\n") >= 11


@pytest.mark.parametrize("options", [{}, {"replies": "terse"}, {"acknowledges": True}, {"awkward": True}])
def test_both_forms_of_replies_and_an_awkward_start(stand: Callable[..., Stand], options: dict) -> None:
    plain = stand().ready().measure(50)
    bench = stand(**options)
    meter = bench.ready()
    assert meter.wavelength_nm == 400.0 and meter.range_j == 1e-4
    assert meter.measure(50).mean_j == pytest.approx(plain.mean_j, rel=0.02)


def test_values_are_those_of_the_laser_with_its_spread(stand: Callable[..., Stand]) -> None:
    bench = stand(zero_offset_j=0.0)
    readings = [bench.ready().measure(100) for _ in range(10)]
    truth = bench.laboratory.truth.laser
    expected_j = truth.energy_uj * 1e-6 * float(bench.laboratory.wave_plate.transmission(0.0))
    assert readings[0].pulses == 100
    assert statistics.fmean(reading.mean_j for reading in readings) == pytest.approx(expected_j, rel=0.08)
    spread = statistics.fmean(reading.std_j / reading.mean_j for reading in readings)
    assert spread == pytest.approx((0.015**2 + 0.005**2) ** 0.5, rel=0.1)


@pytest.mark.parametrize("pulses", [1, 2, 10, 100, 1000])
def test_a_reading_takes_no_longer_than_its_bound(stand: Callable[..., Stand], pulses: int) -> None:
    bench = stand()
    meter = bench.ready()
    started_s = bench.clock.now()
    assert meter.measure(pulses).pulses == max(pulses, 2)
    assert bench.clock.now() - started_s < reading_bound_s(pulses, 1000.0, GentecMaestro.PACE)


def test_a_plan_counts_with_the_pace_of_the_meter() -> None:
    bench = load_bench("simulated")
    entry = bench.instruments["energy_meter"].model_copy(update={"driver": "gentec-maestro"})
    swapped = bench.model_copy(update={"instruments": {**bench.instruments, "energy_meter": entry}})
    assert meter_reading_s(bench, 100) == pytest.approx(0.55)
    assert meter_reading_s(swapped, 100) == pytest.approx(2.4)


def test_what_was_pending_does_not_get_into_a_reading(stand: Callable[..., Stand]) -> None:
    bench = stand(shutter_open=False)
    meter = bench.ready()
    bench.emulator._last_j, bench.emulator._pending = 9e-5, True
    bench.light(True)
    assert meter.measure(2).mean_j == pytest.approx(4e-5, rel=0.2)


def test_values_do_not_depend_on_time_or_on_what_was_pending(stand: Callable[..., Stand]) -> None:
    def reading(wait_s: float, pending: bool) -> float:
        bench = stand()
        meter = bench.ready()
        bench.clock.sleep(wait_s)
        bench.laboratory.announce(3, 0, 10.0)
        bench.emulator._pending = pending
        return meter.measure(20).mean_j

    assert reading(0.0, False) == reading(0.123456, True) == reading(17.0, False)


def test_without_pulses_it_times_out(stand: Callable[..., Stand]) -> None:
    bench = stand(shutter_open=False, driver={"reading_timeout_s": 0.5})
    meter = bench.ready()
    with pytest.raises(InstrumentTimeout, match=r"no pulse reached the energy meter within 0\.5 s"):
        meter.measure(10)
    bench.light(True)
    assert meter.measure(10).pulses == 10


def test_pulses_below_the_trigger_level_are_not_seen(stand: Callable[..., Stand]) -> None:
    with pytest.raises(InstrumentTimeout, match="no pulse"):
        stand(driver={"trigger_percent": 90.0}).ready().measure(10)


def test_over_range_is_refused(stand: Callable[..., Stand]) -> None:
    meter = stand().ready()
    meter.range_j = 2e-6
    assert meter.range_j == 3e-6
    with pytest.raises(InstrumentError, match="exceed the measuring range of 3e-06 J") as caught:
        meter.measure(10)
    assert "9.9E37" in str(caught.value)


def test_a_reading_at_full_scale_is_refused_too(stand: Callable[..., Stand]) -> None:
    bench = stand()
    bench.tap.damage_reply = lambda t, data: [
        (t, b"0.0001\r\n" if data.startswith(b"Current") and bench.clock.now() > 5 else data)
    ]
    meter = bench.ready()
    bench.clock.sleep(5)
    with pytest.raises(InstrumentError, match=r"exceed the measuring range of 0\.0001 J"):
        meter.measure(10)


def test_ranges(stand: Callable[..., Stand]) -> None:
    meter = stand().ready()
    assert meter.largest_range_j == 1e-4
    with pytest.raises(InstrumentError, match=r"no range of 0.001 J; its largest is 0.0001 J"):
        meter.range_j = 1e-3


def test_a_range_that_means_something_else_is_noticed(stand: Callable[..., Stand]) -> None:
    bench = stand()
    bench.tap.damage_reply = lambda t, data: [(t, data.replace(b"300 n", b"200 n"))]
    with pytest.raises(InstrumentError, match="range 11 is 2e-07 J"):
        bench.meter.start_up()


def test_a_clamped_or_forgotten_wavelength_is_refused(stand: Callable[..., Stand]) -> None:
    bench = stand()
    bench.meter.start_up()
    with pytest.raises(InstrumentError, match="wavelength was not set"):
        bench.meter.measure(10)
    with pytest.raises(InstrumentError, match="25000 nm: it stands at 20000 nm"):
        bench.meter.wavelength_nm = 25000.0
    with pytest.raises(InstrumentError, match="wavelength was not set"):
        bench.meter.measure(10)


def test_a_meter_that_was_switched_off_is_noticed(stand: Callable[..., Stand]) -> None:
    bench = stand()
    meter = bench.ready()
    bench.emulator.power_up()
    with pytest.raises(InstrumentError, match="the wavelength stands at 1064 instead of 400 nm"):
        meter.measure(10)


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


def test_zeroing_removes_the_offset(stand: Callable[..., Stand]) -> None:
    bench = stand(shutter_open=False)
    meter = bench.ready()
    assert meter.zero() == pytest.approx(3e-8, abs=2e-9)
    assert b"*SOU\r\n" in bench.tap.sent and b"*GZO\r\n" in bench.tap.sent
    bench.light(True)
    zeroed = meter.measure(100).mean_j
    assert stand().ready().measure(100).mean_j - zeroed == pytest.approx(3e-8, abs=2e-9)


def test_zeroing_in_the_light_is_refused(stand: Callable[..., Stand]) -> None:
    bench = stand()
    with pytest.raises(InstrumentError, match="cannot zero: pulses reach the head"):
        bench.ready().zero()
    assert b"*SOU\r\n" not in bench.tap.sent


def test_a_zero_that_is_no_offset_is_cleared(stand: Callable[..., Stand]) -> None:
    bench = stand(shutter_open=False, zero_offset_j=2e-6)
    with pytest.raises(InstrumentError, match=r"zeroing removed 2e-06 J"):
        bench.ready().zero()
    assert bench.tap.sent[-1] == b"*COU\r\n"


def test_zeroing_that_does_not_end(stand: Callable[..., Stand]) -> None:
    with pytest.raises(InstrumentTimeout, match="zeroing has not ended within 2 s"):
        stand(shutter_open=False, zeroing_s=1e3, driver={"zero_timeout_s": 2.0}).ready().zero()


@pytest.mark.parametrize("garbage", [b"\xff\xfe\r\n", b"Current Val\r\n", b"1.2.3\r\n", b"Range : 99\r\n"])
def test_a_garbled_reply_is_an_error_that_shows_it_and_the_next_command_works(
    stand: Callable[..., Stand], garbage: bytes
) -> None:
    bench = stand()
    meter = bench.ready()
    bench.tap.damage_reply = lambda t, data: [(t, garbage)]
    with pytest.raises(InstrumentError) as caught:
        meter.measure(2)
    assert repr(garbage)[2:-1].replace("\\r\\n", "") in str(caught.value)
    bench.tap.damage_reply = lambda t, data: [(t, data)]
    assert meter.measure(2).pulses == 2


def test_a_late_reply_answers_nothing_else(stand: Callable[..., Stand]) -> None:
    bench = stand()
    meter = bench.ready()
    bench.tap.damage_reply = lambda t, data: [(t + 0.55, data)]
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
    while b"*NVU\r\n" not in bench.tap.sent:
        thread.join(0.001)
    (step,) = meter.make_safe()
    assert step.confirmed and "400 nm" in step.evidence
    thread.join(10)
    assert isinstance(failed[0], ConnectionLost)


def test_safe_state_stops_the_transmission(stand: Callable[..., Stand]) -> None:
    bench = stand()
    bench.ready().adapter.write("*CAU")
    for _ in range(2):
        (step,) = bench.meter.make_safe()
        assert step.confirmed and "400 nm" in step.evidence
    assert bench.emulator.next_event() is None


def test_safe_state_of_a_dead_meter_is_unconfirmed(stand: Callable[..., Stand]) -> None:
    bench = stand()
    bench.ready().close()
    (step,) = bench.meter.make_safe()
    assert not step.confirmed and "closed" in step.evidence


@pytest.mark.skipif(
    sys.executable == QCODES_PYTHON and find_spec("qcodes_contrib_drivers") is None,
    reason="LABCTL_QCODES_PYTHON names no environment with qcodes_contrib_drivers (extra clients-qcodes)",
)
def test_the_unmodified_qcodes_driver_in_a_process_of_its_own(serve_on_pty: Callable[..., Any], tmp_path: Path) -> None:
    # It keeps settings and logs below the home directory.
    environment = {**os.environ, "HOME": str(tmp_path), "USERPROFILE": str(tmp_path)}
    with serve_on_pty("energy_meter", "gentec-maestro", TerseMaestro) as pty:
        command = [QCODES_PYTHON, "-c", CLIENT, pty]
        client = subprocess.run(
            command, capture_output=True, text=True, timeout=100, check=False, cwd=tmp_path, env=environment
        )
    assert client.returncode == 0, client.stderr
    (line,) = (line for line in client.stdout.splitlines() if line.startswith("FOUND "))
    found = json.loads(line.removeprefix("FOUND "))
    assert found["idn"] == {"vendor": "Gentec", "model": "MAESTRO", "firmware": "1.00.18"}
    assert (found["power_up"], found["told"]) == (1064, 400)
    assert found["zero"] == [False, True, False]
    assert all(1e-5 < energy_j < 1e-4 for energy_j in found["energies"])


class TerseMaestro(GentecMaestroEmulator):
    """A Maestro as that client reads it, in the light."""

    def __init__(self, laboratory: Laboratory, role: str, options: Mapping[str, Any]) -> None:
        laboratory.shutter.set(0.0, True)
        super().__init__(laboratory, role, {**options, "replies": "terse", "zeroing_s": 0.0})
