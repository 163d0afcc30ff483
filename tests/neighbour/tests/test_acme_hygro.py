from __future__ import annotations

import pytest
from neighbour_lab.acme_hygro import AcmeHygro
from neighbour_lab.emulators.acme_hygro import AcmeHygroEmulator

from labctl.clock import VirtualClock
from labctl.errors import InstrumentError
from labctl.sim.laboratory import create
from labctl.sim.link import EmulatorLink
from labctl.transport.adapter import WireAdapter


class Wire:
    """The emulator with its wire tapped, and damaged on request."""

    def __init__(self, emulator) -> None:
        self.emulator = emulator
        self.sent = b""
        self.damage = lambda reply: reply

    def respond(self, t, data):
        self.sent += data
        return [(when, self.damage(reply)) for when, reply in self.emulator.respond(t, data)]

    def next_event(self):
        return self.emulator.next_event()


@pytest.fixture
def wire():
    return Wire(AcmeHygroEmulator(create(None, None, seed=0), "hygrometer", {}))


@pytest.fixture
def hygrometer(wire):
    clock = VirtualClock()
    return AcmeHygro(WireAdapter(lambda: EmulatorLink(wire, clock), AcmeHygro.LINK, clock), clock=clock)


def test_humidity_with_the_bytes_of_the_manual(hygrometer, wire):
    hygrometer.heat(False)
    assert hygrometer.humidity_percent == pytest.approx(43, abs=1)
    assert wire.sent == b"HEAT=0\rHEAT?\rRH?\r"


@pytest.mark.parametrize("reply", [b"RH=143.2\r", b"RH=4", b"SN=A-17\r", b"\xff\xfe\r", b""])
def test_a_reply_that_makes_no_sense_is_an_error_with_its_bytes(hygrometer, wire, reply):
    wire.damage = lambda _: reply
    with pytest.raises(InstrumentError) as caught:
        print(hygrometer.humidity_percent)
    assert "RH?" in str(caught.value)


def test_safe_state_is_read_back_and_a_dead_line_is_told(hygrometer, wire):
    (step,) = hygrometer.make_safe()
    assert step.confirmed and not wire.emulator.heater_on
    wire.damage = lambda _: b""
    (step,) = hygrometer.make_safe()
    assert not step.confirmed
