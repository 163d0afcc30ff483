from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from drivers.shutter.emulators.uniblitz_vcm_d1 import UniblitzVCMD1Emulator
from drivers.shutter.uniblitz_vcm_d1 import UniblitzVCMD1
from labctl.errors import ConnectionLost
from labctl.roles import Shutter
from labctl.sim.laboratory import create


@pytest.fixture
def stand(clock, adapter_to, tap):
    """Get a function that sets up laboratory, emulator, tap and driver; ``start_up`` unless told otherwise."""

    def build(start_up: bool = True, unit: int | None = None, **options):
        laboratory = create(None, None, 0)
        wire = tap(UniblitzVCMD1Emulator(laboratory, "shutter", {"unit": unit, **options}))
        driver = UniblitzVCMD1(adapter_to(wire, UniblitzVCMD1.LINK), clock=clock, unit=unit)
        if start_up:
            driver.start_up()
            wire.sent.clear()
        return laboratory, wire, driver

    return build


def test_satisfies_the_role(stand):
    _, _, driver = stand()
    assert isinstance(driver, Shutter)
    assert driver.has_readback is False
    assert driver.identify().model == "VCM-D1"


@pytest.mark.parametrize(
    ("unit", "opens", "closes"), [(None, b"@", b"A"), (0, b"\xc0", b"\xc1"), (3, b"\xf0", b"\xf1")]
)
def test_bytes_of_the_sheet(stand, unit, opens, closes):
    laboratory, wire, driver = stand(unit=unit)
    driver.open()
    assert laboratory.shutter.is_open(driver.clock.now())
    driver.shut()
    assert not laboratory.shutter.is_open(driver.clock.now())
    assert wire.sent == [opens, closes]


def test_every_address_of_a_shared_line_is_one_byte():
    with pytest.raises(ValidationError):
        UniblitzVCMD1.Options(unit=8)


@pytest.mark.parametrize("travel_s", [0.001, 0.035])
def test_returns_when_the_blade_has_had_its_time(stand, travel_s):
    laboratory, _, driver = stand(delay_s=travel_s)
    driver.open()
    assert laboratory.shutter.is_open(driver.clock.now())


def test_a_shutter_left_open_is_closed_at_start_up_and_taken_for_open_before(stand, clock):
    laboratory, wire, driver = stand(start_up=False, awkward=True)
    assert driver.is_open
    driver.start_up()
    assert not driver.is_open and not laboratory.shutter.is_open(clock.now())
    assert wire.sent == [b"A"]


def test_make_safe_closes_and_never_says_confirmed(stand, clock):
    laboratory, wire, driver = stand()
    driver.open()
    wire.sent.clear()
    (step,) = driver.make_safe()
    assert not laboratory.shutter.is_open(clock.now())
    assert wire.sent == [b"A", b"A"]
    assert not step.confirmed
    assert "cannot report" in step.evidence and "b'A'" in step.evidence


def test_one_lost_byte_does_not_leave_the_light_on(stand, clock):
    laboratory, wire, driver = stand()
    driver.open()
    lost: list[bytes] = []

    def lose_first(data: bytes) -> bytes:
        lost.append(data)
        return b"" if len(lost) == 1 else data

    wire.damage_command = lose_first
    driver.make_safe()
    assert not laboratory.shutter.is_open(clock.now())


def test_a_stuck_blade_cannot_be_noticed_and_is_not_called_closed(stand, clock):
    laboratory, wire, driver = stand()
    driver.open()
    wire.emulator.stuck = True
    (step,) = driver.make_safe()
    assert laboratory.shutter.is_open(clock.now())
    assert not step.confirmed and "assumed" in step.evidence


def test_a_dead_line_is_told_in_the_evidence(stand):
    _, wire, driver = stand()

    def dead(data: bytes) -> bytes:
        raise ConnectionLost("the port is gone")

    wire.damage_command = dead
    (step,) = driver.make_safe()
    assert not step.confirmed and "the port is gone" in step.evidence


def test_emulator_is_silent_and_obeys_its_own_address_only():
    laboratory = create(None, None, 0)
    emulator = UniblitzVCMD1Emulator(laboratory, "shutter", {"unit": 2, "delay_s": 0.0})
    assert emulator.respond(1.0, b"@\xd0x\xe0?\r\n") == []
    assert emulator.next_event() is None
    assert laboratory.shutter.is_open(1.0)
    emulator.respond(2.0, b"\xd1")
    assert laboratory.shutter.is_open(2.0)
    emulator.respond(3.0, b"\xe1")
    assert not laboratory.shutter.is_open(3.0)
    assert (1.0, b"\xe0") in emulator.log


def test_trigger_opens_for_the_time_set_on_the_panel():
    laboratory = create(None, None, 0)
    emulator = UniblitzVCMD1Emulator(laboratory, "shutter", {"delay_s": 0.0, "pulse_s": 0.2})
    emulator.respond(1.0, b"B")
    assert laboratory.shutter.is_open(1.1) and not laboratory.shutter.is_open(1.3)
    emulator.respond(2.0, b"@")
    emulator.respond(2.1, b"C")
    assert not laboratory.shutter.is_open(2.2)


STRANGER = """
import sys, serial
with serial.Serial(sys.argv[1], 9600, timeout=0.2) as port:
    port.write(b"@")
    print(port.read(10))
    port.write(b"A")
    print(port.read(10))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="ptys are POSIX")
def test_a_stranger_on_the_pty_hears_nothing(serve_on_pty):
    with serve_on_pty("shutter", "uniblitz-vcm-d1", UniblitzVCMD1Emulator) as pty:
        said = subprocess.run(
            [sys.executable, "-c", STRANGER, pty], capture_output=True, text=True, timeout=30, check=True
        )
    assert said.stdout.split() == ["b''", "b''"]
