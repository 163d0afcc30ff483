"""The relay driver over its emulator; the bytes expected on the wire are those of the fact sheet."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from drivers.lamp.emulators.relay import LampRelayEmulator
from drivers.lamp.relay import LampRelay, command
from labctl.errors import ConnectionLost
from labctl.roles import AdjustableLamp, Lamp
from labctl.sim.laboratory import create

FORMS = ("lcus", "modbus-ascii")


@pytest.fixture
def stand(clock, adapter_to, tap):
    """Get a function that sets up laboratory, emulator, tap and driver; ``start_up`` unless told otherwise."""

    def build(start_up: bool = True, form: str = "lcus", channel: int = 1, **options):
        laboratory = create(None, None, 0)
        wire = tap(LampRelayEmulator(laboratory, "lamp", {"form": form, "channel": channel, **options}))
        lamp = LampRelay(adapter_to(wire, LampRelay.LINK), clock=clock, form=form, channel=channel)
        if start_up:
            lamp.start_up()
            wire.sent.clear()
        return laboratory, wire, lamp

    return build


@pytest.mark.parametrize(
    ("form", "channel", "on", "sent"),
    [
        ("lcus", 1, True, b"\xa0\x01\x01\xa2"),
        ("lcus", 1, False, b"\xa0\x01\x00\xa1"),
        ("lcus", 2, True, b"\xa0\x02\x01\xa3"),
        ("lcus", 2, False, b"\xa0\x02\x00\xa2"),
        ("modbus-ascii", 1, True, b":FE050000FF00FE\r\n"),
        ("modbus-ascii", 1, False, b":FE0500000000FD\r\n"),
        ("modbus-ascii", 16, True, b":FE05000FFF00EF\r\n"),
    ],
)
def test_bytes_of_the_sheet(stand, clock, form, channel, on, sent) -> None:
    assert command(form, channel, on) == sent
    laboratory, wire, lamp = stand(form=form, channel=channel)
    lamp.switch_on() if on else lamp.switch_off()
    assert wire.sent == [sent]
    assert laboratory.lamp.is_on(clock.now()) is on


@pytest.mark.parametrize("form", FORMS)
def test_what_the_lamp_is_said_to_be_is_assumed(stand, clock, form) -> None:
    laboratory, wire, lamp = stand(start_up=False, form=form, found_on=True)
    assert isinstance(lamp, Lamp) and not isinstance(lamp, AdjustableLamp)
    assert lamp.has_readback is False
    assert lamp.is_on is True
    lamp.start_up()
    assert lamp.is_on is False and not laboratory.lamp.is_on(clock.now())
    wire.emulator.stuck = True
    lamp.switch_on()
    assert lamp.is_on is True and not laboratory.lamp.is_on(clock.now())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("was_on", [True, False])
def test_the_safe_state_is_told_twice_and_never_confirmed(stand, clock, form, was_on) -> None:
    laboratory, wire, lamp = stand(form=form)
    if was_on:
        lamp.switch_on()
    wire.sent.clear()
    (step,) = lamp.make_safe()
    assert wire.sent == [command(form, 1, False)] * 2
    assert not step.confirmed and "assumed" in step.evidence and "lamp meter" in step.evidence
    assert not laboratory.lamp.is_on(clock.now())


def test_the_safe_state_survives_the_loss_of_one_command(stand, clock) -> None:
    laboratory, wire, lamp = stand()
    lamp.switch_on()
    commands = itertools.count()
    wire.damage_command = lambda data: b"" if data and next(commands) == 0 else data
    lamp.make_safe()
    assert not laboratory.lamp.is_on(clock.now())


def test_the_safe_state_connects_anew(stand, clock) -> None:
    laboratory, _, lamp = stand()
    lamp.switch_on()
    lamp.adapter.connection.close()
    with pytest.raises(ConnectionLost):
        lamp.switch_off()
    (step,) = lamp.make_safe()
    assert not step.confirmed and "closed" in step.evidence
    assert not laboratory.lamp.is_on(clock.now())


def test_another_channel_is_not_the_lamp(stand, clock) -> None:
    laboratory, wire, _ = stand(channel=2)
    wire.emulator.respond(clock.now(), command("lcus", 1, True))
    assert wire.emulator.log[-1][1:] == (1, True) and not laboratory.lamp.is_on(clock.now() + 1)


@pytest.mark.parametrize("form", FORMS)
@given(cuts=st.sets(st.integers(1, 50), max_size=5))
@settings(max_examples=30, deadline=None)
def test_commands_may_come_in_pieces_between_noise(form, cuts) -> None:
    emulator = LampRelayEmulator(create(None, None, 0), "lamp", {"form": form})
    on, off = command(form, 3, True), command(form, 3, False)
    stream = b"\x00:\xa0" + on + b"FE" + off + on
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    for start, end in itertools.pairwise(edges):
        assert emulator.respond(1.0, stream[start:end]) == []
    assert [entry[1:] for entry in emulator.log] == [(3, True), (3, False), (3, True)]


@pytest.mark.parametrize("form", FORMS)
def test_a_byte_that_is_wrong_switches_nothing(form) -> None:
    good = command(form, 1, True)
    for place in range(len(good) - 2 if form == "modbus-ascii" else len(good)):
        emulator = LampRelayEmulator(create(None, None, 0), "lamp", {"form": form})
        emulator.respond(1.0, good[:place] + bytes([good[place] ^ 0x04]) + good[place + 1 :])
        assert emulator.log == []


def test_an_echo_is_thrown_away(stand, clock) -> None:
    laboratory, _, lamp = stand(form="modbus-ascii", echo=True)
    lamp.switch_on()
    lamp.switch_off()
    assert not laboratory.lamp.is_on(clock.now())


def test_an_awkward_start(stand, clock) -> None:
    laboratory, _, lamp = stand(start_up=False, awkward=True)
    assert laboratory.lamp.is_on(clock.now())
    lamp.start_up()
    assert not laboratory.lamp.is_on(clock.now())


@pytest.mark.parametrize("options", [{"channel": 0}, {"channel": 17}, {"form": "numato"}, {"settle_s": -1.0}])
def test_senseless_options(options) -> None:
    with pytest.raises(ValidationError):
        LampRelay.Options(**options)
