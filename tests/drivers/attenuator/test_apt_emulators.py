"""The emulators of the APT mounts by themselves: what the wire carries, and when."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.attenuator.apt_messages import DC_STATUS, STATUS, MessageId, StatusBits, decode, message_length
from drivers.attenuator.emulators.apt_motion import halt, standing, travel
from drivers.attenuator.emulators.apt_rotation import K10CR1Emulator, KDC101Emulator
from labctl.sim.laboratory import create

HOME = bytes.fromhex("43 04 01 00 50 01")
STATUS_BITS = bytes.fromhex("29 04 01 00 50 01")
POSITION = bytes.fromhex("11 04 01 00 50 01")
MOVE_10_DEG = bytes.fromhex("53 04 06 00 D0 01 01 00 FC 4A 00 00")
NO_BACKLASH = bytes.fromhex("3A 04 06 00 D0 01 01 00 00 00 00 00")


def build(kind=KDC101Emulator, initial_deg=0.0, **options):
    return kind(
        create({"wave_plate": {"initial_deg": initial_deg}}, None, 0), "attenuator", {"reply_s": 0.0, **options}
    )


def messages(stream):
    found = []
    while stream:
        length = message_length(stream)
        found.append(decode(stream[:length]))
        stream = stream[length:]
    return found


def say(emulator, t, data=b""):
    return messages(b"".join(reply for _, reply in emulator.respond(t, data)))


def events_until(emulator, t):
    """Let time pass up to ``t`` as a link does; get the moments and the messages."""
    heard = []
    while (moment := emulator.next_event()) is not None and moment <= t:
        heard += [(moment, message) for message in say(emulator, moment)]
    return heard


def homed(kind=KDC101Emulator, **options):
    emulator = build(kind, **options)
    emulator.respond(0.0, NO_BACKLASH + HOME)
    ((_, event),) = events_until(emulator, 100.0)
    assert event.id == MessageId.HOMED and event.parameters == (1, 0)
    return emulator


@given(cuts=st.sets(st.integers(1, 60)))
@settings(max_examples=40, deadline=None)
def test_commands_are_framed_by_their_declared_length(cuts):
    """Data may hold any byte: line ends, and what looks like a header."""
    counts = bytes.fromhex("0A 0D 50 01")
    stream = (
        bytes.fromhex("10 04 06 00 D0 01 01 00") + counts + POSITION + bytes.fromhex("3A 04 06 00 D0 01 01 00") + counts
    )
    stream += bytes.fromhex("3B 04 01 00 50 01") + STATUS_BITS
    emulator = build()
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    found = [m for n, (a, b) in enumerate(itertools.pairwise(edges)) for m in say(emulator, 0.01 * n, stream[a:b])]
    assert [m.id for m in found] == [MessageId.GET_POSITION, MessageId.GET_BACKLASH, MessageId.GET_STATUS_BITS]
    assert found[0].data == found[1].data == b"\x01\x00" + counts


def test_another_unit_is_not_answered():
    assert say(build(), 0.0, bytes.fromhex("29 04 01 00 21 01")) == []


@pytest.mark.parametrize(
    "command",
    ["99 09 01 00 50 01", "29 04 02 00 50 01", "53 04 02 00 D0 01 01 00"],
    ids=["unknown", "channel", "length"],
)
def test_what_it_does_not_take_is_answered_by_the_error_response(command):
    (reply,) = build().respond(0.0, bytes.fromhex(command))
    assert reply[1] == bytes.fromhex("80 00 00 00 01 50")


def test_half_a_message_is_given_up():
    emulator = build()
    assert emulator.respond(0.0, MOVE_10_DEG[:8]) == []
    (reply,) = say(emulator, 1.0, STATUS_BITS)
    assert reply.id == MessageId.GET_STATUS_BITS


def test_state_at_switch_on():
    (reply,) = build(initial_deg=33.0).respond(0.0, STATUS_BITS)
    bits = StatusBits(int.from_bytes(reply[1][-4:], "little"))
    assert bits == StatusBits.ENABLED | StatusBits.MOTOR_CONNECTED | StatusBits.TRACKING | StatusBits.SETTLED


def test_a_move_follows_its_profile_and_is_announced():
    emulator = homed(velocity_deg_s=5.0, acceleration_deg_s2=10.0, settle_s=0.0)
    assert emulator.respond(200.0, MOVE_10_DEG) == []
    angles = []
    for t in (200.25, 200.5, 201.25, 202.25):
        position, status = say(emulator, t, POSITION + STATUS_BITS)
        angles.append(position.values()[1] / 1919.6418578623391)
        assert StatusBits.MOVING_FORWARD in StatusBits(status.values()[1])
    # Half a second up to 5 deg/s, 1.5 s at it, half a second down.
    assert angles == pytest.approx([0.3125, 1.25, 5.0, 9.6875], abs=0.02)
    ((moment, event),) = events_until(emulator, 300.0)
    assert moment == pytest.approx(202.5, abs=0.01) and event.id == MessageId.MOVE_COMPLETED
    channel, counts, velocity, _, bits = event.values(DC_STATUS)
    assert channel == 1 and velocity == 0 and not StatusBits(bits).is_in_motion
    assert counts == pytest.approx(19196, abs=2)


def test_layouts_of_events():
    for kind, layout in ((KDC101Emulator, DC_STATUS), (K10CR1Emulator, STATUS)):
        emulator = homed(kind)
        emulator.respond(100.0, MOVE_10_DEG)
        ((_, event),) = events_until(emulator, 200.0)
        assert event.id == MessageId.MOVE_COMPLETED and event.values(layout)[1] == pytest.approx(19196, abs=2)
        emulator = homed(kind, short_events=True)
        emulator.respond(100.0, MOVE_10_DEG)
        ((_, event),) = events_until(emulator, 200.0)
        assert (event.id, event.parameters, event.data) == (MessageId.MOVE_COMPLETED, (1, 0), None)


@pytest.mark.parametrize("kind", [KDC101Emulator, K10CR1Emulator])
def test_both_ways_of_polling(kind):
    emulator = homed(kind)
    emulator.respond(100.0, MOVE_10_DEG)
    events_until(emulator, 200.0)
    old, new = say(emulator, 200.0, bytes.fromhex("80 04 01 00 50 01 90 04 01 00 50 01"))
    assert old.id == MessageId.GET_STATUS and new.id == MessageId.GET_DC_STATUS
    assert old.values()[1] == new.values()[1] == pytest.approx(19196, abs=2)
    assert old.values()[-1] == new.values()[-1]


def test_updates_come_ten_times_a_second_until_they_are_stopped():
    emulator = build(K10CR1Emulator)
    assert emulator.next_event() is None
    emulator.respond(1.0, bytes.fromhex("11 00 00 00 50 01"))
    heard = events_until(emulator, 11.05)
    assert len(heard) == 100 and {message.id for _, message in heard} == {MessageId.GET_STATUS}
    assert np.diff([moment for moment, _ in heard]) == pytest.approx(0.1)
    emulator.respond(11.05, bytes.fromhex("12 00 00 00 50 01"))
    assert emulator.next_event() is None


def test_a_servo_holds_back_what_nobody_acknowledges():
    emulator = build()
    emulator.respond(0.0, bytes.fromhex("11 00 00 00 50 01"))
    assert len(events_until(emulator, 60.0)) == 50
    emulator.respond(60.0, bytes.fromhex("92 04 00 00 50 01"))
    assert len(events_until(emulator, 62.0)) == 20
    assert say(emulator, 62.0, STATUS_BITS)[0].id == MessageId.GET_STATUS_BITS


def test_homing_goes_down_and_sets_the_counter_to_zero():
    emulator = build(initial_deg=33.0, velocity_deg_s=10.0)
    emulator.respond(0.0, HOME)
    position, status = say(emulator, 1.0, POSITION + STATUS_BITS)
    assert position.values()[1] < 0
    bits = StatusBits(status.values()[1])
    assert StatusBits.HOMING in bits and StatusBits.HOMED not in bits
    ((ends_s, _),) = events_until(emulator, 100.0)
    assert 34 / 10 < ends_s < 10
    position, status = say(emulator, ends_s, POSITION + STATUS_BITS)
    assert position.values()[1] == 0 and StatusBits.HOMED in StatusBits(status.values()[1])


def test_a_disabled_channel_refuses_with_a_reason():
    emulator = build(enabled=False)
    (reply,) = say(emulator, 0.0, HOME)
    about, _, text = reply.values()
    assert (
        reply.id == MessageId.RICH_ERROR and about == MessageId.HOME and text.startswith(b"The channel is disabled.\0")
    )
    enabled, status = say(emulator, 0.0, bytes.fromhex("10 02 01 01 50 01 11 02 01 00 50 01") + STATUS_BITS)
    assert enabled.parameters == (1, 1) and StatusBits.ENABLED in StatusBits(status.values()[1])
    assert say(emulator, 0.0, HOME) == []


def test_moves_before_homing_are_refused_where_it_is_so_set():
    (reply,) = say(build(refuses_unhomed=True), 0.0, MOVE_10_DEG)
    assert reply.id == MessageId.RICH_ERROR
    assert say(build(), 0.0, MOVE_10_DEG) == []


def test_backlash_is_taken_out_by_the_controller_where_it_is_so_set():
    emulator = homed(K10CR1Emulator)
    emulator.respond(100.0, bytes.fromhex("3A 04 06 00 D0 01 01 00 55 15 02 00"))
    emulator.respond(100.0, bytes.fromhex("53 04 06 00 D0 01 01 00 FC FF FF FF"))
    lowest = min(say(emulator, 100.0 + 0.01 * n, POSITION)[-1].values()[1] for n in range(300))
    assert lowest == pytest.approx(-4 - 0x21555, rel=0.02)
    assert say(emulator, 110.0, POSITION)[-1].values()[1] == -4


def test_a_stop_ends_a_motion_along_its_profile_or_at_once():
    for mode, way_deg in ((2, 5.0), (1, 0.0)):
        emulator = homed(velocity_deg_s=10.0, acceleration_deg_s2=10.0)
        emulator.respond(100.0, bytes.fromhex("57 04 01 01 50 01"))
        (before,) = say(emulator, 105.0, POSITION)
        emulator.respond(105.0, bytes([0x65, 0x04, 1, mode, 0x50, 0x01]))
        ((moment, event),) = events_until(emulator, 200.0)
        assert event.id == MessageId.STOPPED and moment == pytest.approx(105.0 + way_deg / 5.0, abs=0.01)
        (after,) = say(emulator, 150.0, POSITION)
        assert (after.values()[1] - before.values()[1]) / 1919.6418 == pytest.approx(way_deg, rel=5e-3, abs=0.01)


def test_the_position_counter_is_signed_and_of_32_bits():
    emulator = build(K10CR1Emulator)
    emulator.respond(0.0, bytes.fromhex("10 04 06 00 D0 01 01 00 FF FF FF 7F"))
    emulator.respond(0.0, NO_BACKLASH + bytes.fromhex("48 04 06 00 D0 01 01 00 02 00 00 00"))
    (reply,) = say(emulator, 10.0, POSITION)[-1:]
    assert reply.values()[1] == -(1 << 31) + 1


def test_rest_position_depends_on_the_target_alone():
    def rests(*targets):
        emulator, found = homed(), {}
        for n, target in enumerate(targets):
            t = 100.0 * (n + 1)
            emulator.respond(t, MOVE_10_DEG[:8] + target.to_bytes(4, "little"))
            found[target] = say(emulator, t + 99.0, POSITION)[-1].values()[1]
        return found

    assert rests(100, 5000, 17920) == rests(17920, 100, 5000)
    off = {position - target for target, position in rests(*range(1000, 60000, 1000)).items()}
    assert off == {-2, -1, 0, 1, 2}


def test_awkward_start():
    """The end of an update is in the line, and what comes next is taken for the end of half a message."""
    emulator = build(awkward=True)
    assert emulator.next_event() == 0.0
    (_, end_of_an_update), *_ = emulator.respond(0.0, b"")
    assert len(end_of_an_update) == 11
    assert emulator.respond(0.05, STATUS_BITS) == []
    (reply,) = [message for message in say(emulator, 1.0, STATUS_BITS) if message.id == MessageId.GET_STATUS_BITS]
    assert StatusBits.ENABLED not in StatusBits(reply.values()[1])


@given(
    start=st.integers(-100000, 100000),
    target=st.integers(-100000, 100000),
    speed=st.floats(10, 1e5),
    acceleration=st.floats(10, 1e6),
)
@settings(max_examples=100)
def test_a_profile_is_smooth_and_keeps_its_limits(start, target, speed, acceleration):
    motion = travel(5.0, start, target, speed, acceleration)
    t = np.linspace(5.0, motion.ends_s, 200)
    position, velocity = np.array([motion.at(moment) for moment in t]).T
    assert position[0] == start and motion.at(motion.ends_s) == (target, 0.0)
    assert np.abs(velocity).max() <= speed * (1 + 1e-9)
    step = t[1] - t[0]
    assert np.abs(np.diff(velocity)).max() <= acceleration * step * (1 + 1e-6) + 1e-6
    assert np.abs(np.diff(position)).max() <= speed * step * (1 + 1e-6) + 1e-6


def test_halt_of_what_stands_is_nothing():
    motion = halt(standing(1.0, 7), 2.0, 10.0)
    assert motion.at(3.0) == (7.0, 0.0) and not motion.is_under_way(2.0)
