"""The messages of the APT protocol, byte by byte, and against an independent codec."""

from __future__ import annotations

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.attenuator.apt_messages import (
    DC_STATUS,
    HOST,
    LAYOUTS,
    STATUS,
    UNIT,
    HardwareInfo,
    Message,
    MessageId,
    StatusBits,
    decode,
    error_text,
    long_message,
    message_length,
)


# The bytes are those of the protocol's description and of traces of other programs, not of this module.
@pytest.mark.parametrize(
    ("message", "wire"),
    [
        (long_message(MessageId.MOVE_ABSOLUTE, 1, 19196), "53 04 06 00 D0 01 01 00 FC 4A 00 00"),
        (long_message(MessageId.MOVE_ABSOLUTE, 1, -1), "53 04 06 00 D0 01 01 00 FF FF FF FF"),
        (Message(MessageId.REQUEST_INFO), "05 00 00 00 50 01"),
        (Message(MessageId.STOP_UPDATES), "12 00 00 00 50 01"),
        (Message(MessageId.GOODBYE), "02 00 00 00 50 01"),
        (Message(MessageId.SET_ENABLED, (1, 1)), "10 02 01 01 50 01"),
        (Message(MessageId.HOME, (1, 0)), "43 04 01 00 50 01"),
        (Message(MessageId.STOP, (1, 2)), "65 04 01 02 50 01"),
        (Message(MessageId.REQUEST_STATUS_BITS, (1, 0)), "29 04 01 00 50 01"),
        (Message(MessageId.ACKNOWLEDGE_DC_STATUS), "92 04 00 00 50 01"),
        (long_message(MessageId.SET_BACKLASH, 1, 0), "3A 04 06 00 D0 01 01 00 00 00 00 00"),
    ],
)
def test_bytes_of_what_is_sent(message, wire):
    assert message.encode() == bytes.fromhex(wire)


def test_bytes_of_what_is_received():
    completed = bytes.fromhex("64 04 0E 00 81 50 01 00 FC 4A 00 00 00 00 00 00 00 35 00 80")
    assert message_length(completed[:5]) is None and message_length(completed[:6]) == message_length(completed) == 20
    message = decode(completed)
    assert (message.id, message.destination, message.source) == (MessageId.MOVE_COMPLETED, HOST, UNIT)
    channel, counts, velocity, current, bits = message.values(DC_STATUS)
    assert (channel, counts, velocity, current) == (1, 19196, 0, 0)
    assert StatusBits.HOMED in StatusBits(bits) and not StatusBits(bits).is_in_motion
    homed = decode(bytes.fromhex("44 04 01 00 01 50"))
    assert (homed.id, homed.parameters, homed.data) == (MessageId.HOMED, (1, 0), None)


@pytest.mark.parametrize(
    "header", ["64 04 0E 00 93 50", "64 04 00 00 01 07", "64 04 00 01 81 50", "00 64 04 0E 00 81", "FF FF FF FF FF FF"]
)
def test_what_cannot_begin_a_message_to_the_host(header):
    with pytest.raises(ValueError):
        message_length(bytes.fromhex(header))


@given(
    messages=st.lists(
        st.one_of(
            st.builds(Message, st.sampled_from(MessageId), st.tuples(st.integers(0, 255), st.integers(0, 255))),
            st.builds(Message, st.sampled_from(MessageId), data=st.binary(min_size=0, max_size=255)),
        ).map(lambda message: Message(message.id, message.parameters, message.data, HOST, UNIT)),
        max_size=5,
    )
)
def test_a_stream_is_cut_into_its_messages(messages):
    stream = b"".join(message.encode() for message in messages)
    found = []
    while stream:
        length = message_length(stream)
        assert length is not None and length <= len(stream)
        found.append(decode(stream[:length]))
        stream = stream[length:]
    assert found == messages


def test_data_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"0x0412 \(get position\) has 5 bytes of data where 6 bytes belong"):
        Message(MessageId.GET_POSITION, data=b"12345").values()
    with pytest.raises(ValueError, match="no data"):
        Message(MessageId.GET_POSITION, (1, 0)).values()


def test_hardware_info():
    data = struct.pack(
        "<l8sH4s60sHHH", 27255894, b"KDC101\0\0", 16, bytes([4, 2, 2, 0]), bytes(58) + b"\x06\0", 1, 3, 1
    )
    assert len(data) == 84
    info = HardwareInfo.of(Message(MessageId.GET_INFO, data=data))
    assert info == HardwareInfo(27255894, "KDC101", (2, 2, 4), 6)


def test_errors_in_words():
    data = struct.pack("<HH64s", 0x0453, 10003, b"Encoder fault.\0\xff\xff")
    assert error_text(Message(MessageId.RICH_ERROR, data=data)) == (
        "the controller reports fault 10003 about message 0x0453: Encoder fault."
    )
    assert "no reason" in error_text(Message(MessageId.ERROR))


def test_status_in_words():
    status = StatusBits(0x80004410)
    assert status.words == "0x80004410 (moving forward, homed, motion error, enabled)"
    assert status.is_in_motion and status.faults == StatusBits.MOTION_ERROR and not status.limits


# From here on an independent codec is the judge.
ENCODERS = {
    MessageId.GOODBYE: ("hw_disconnect", ()),
    MessageId.REQUEST_INFO: ("hw_req_info", ()),
    MessageId.START_UPDATES: ("hw_start_updatemsgs", ()),
    MessageId.STOP_UPDATES: ("hw_stop_updatemsgs", ()),
    MessageId.NO_FLASH_PROGRAMMING: ("hw_no_flash_programming", ()),
    MessageId.SET_ENABLED: ("mod_set_chanenablestate", (1, 2)),
    MessageId.REQUEST_ENABLED: ("mod_req_chanenablestate", (1,)),
    MessageId.BLINK: ("mod_identify", (1,)),
    MessageId.SET_ENCODER: ("mot_set_enccounter", (1, -77)),
    MessageId.REQUEST_ENCODER: ("mot_req_enccounter", (1,)),
    MessageId.SET_POSITION: ("mot_set_poscounter", (1, -(1 << 31))),
    MessageId.REQUEST_POSITION: ("mot_req_poscounter", (1,)),
    MessageId.SET_VELOCITY: ("mot_set_velparams", (1, 0, 293, 429417)),
    MessageId.REQUEST_VELOCITY: ("mot_req_velparams", (1,)),
    MessageId.SET_JOG: ("mot_set_jogparams", (1, 2, -9600, 0, 146, 429417, 2)),
    MessageId.REQUEST_JOG: ("mot_req_jogparams", (1,)),
    MessageId.SET_LIMITS: ("mot_set_limswitchparams", (1, 4, 1, 5, 6, 1)),
    MessageId.REQUEST_LIMITS: ("mot_req_limswitchparams", (1,)),
    MessageId.SET_BACKLASH: ("mot_set_genmoveparams", (1, 1920)),
    MessageId.REQUEST_BACKLASH: ("mot_req_genmoveparams", (1,)),
    MessageId.SET_HOMING: ("mot_set_homeparams", (1, 2, 1, 429417, 1920)),
    MessageId.REQUEST_HOMING: ("mot_req_homeparams", (1,)),
    MessageId.HOME: ("mot_move_home", (1,)),
    MessageId.MOVE_RELATIVE: ("mot_move_relative", (1, -5)),
    MessageId.MOVE_ABSOLUTE: ("mot_move_absolute", (1, 2147483647)),
    MessageId.MOVE_VELOCITY: ("mot_move_velocity", (1, 2)),
    MessageId.STOP: ("mot_move_stop", (1, 1)),
    MessageId.JOG: ("mot_move_jog", (1, 2)),
    MessageId.SUSPEND_EVENTS: ("mot_suspend_endofmovemsges", ()),
    MessageId.RESUME_EVENTS: ("mot_resume_endofmovemsges", ()),
    MessageId.REQUEST_STATUS: ("mot_req_statusupdate", (1,)),
    MessageId.REQUEST_DC_STATUS: ("mot_req_dcstatusupdate", (1,)),
    MessageId.ACKNOWLEDGE_DC_STATUS: ("mot_ack_dcstatusupdate", ()),
}
NOT_IN_THE_ORACLE = {MessageId.REQUEST_STATUS_BITS}
"""It has no function for this request; its answer is decoded below."""


def test_every_message_is_judged():
    answers = {what for what in MessageId if what.name.startswith("GET_")}
    events = {
        MessageId.ERROR,
        MessageId.RICH_ERROR,
        MessageId.HOMED,
        MessageId.MOVE_COMPLETED,
        MessageId.STOPPED,
    }
    assert set(ENCODERS) | NOT_IN_THE_ORACLE == set(MessageId) - answers - events


@pytest.mark.parametrize("what", ENCODERS, ids=lambda what: what.name)
def test_the_oracle_encodes_the_same(what):
    oracle = pytest.importorskip("thorlabs_apt_protocol", reason="extra `clients` is missing")
    name, values = ENCODERS[what]
    if what in LAYOUTS:
        ours = long_message(what, *values)
    else:
        ours = Message(what, (*values, 0, 0)[:2])
    assert ours.encode() == getattr(oracle, name)(UNIT, HOST, *values)


BITS = int(
    StatusBits.ENABLED
    | StatusBits.HOMED
    | StatusBits.MOVING_REVERSE
    | StatusBits.MOTION_ERROR
    | StatusBits.CURRENT_LIMIT
)
READ = {"channel_enabled", "homed", "moving_reverse", "motion_error", "motor_current_limit_reached"}
SHORT_STATUS = {"chan_ident": 1}


def to_host(what, *values, layout=None):
    return long_message(what, *values, layout=layout, destination=HOST, source=UNIT)


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        (Message(MessageId.GET_ENABLED, (1, 1), None, HOST, UNIT), {"chan_ident": 1, "enabled": True}),
        (Message(MessageId.ERROR, (0, 0), None, HOST, UNIT), {}),
        (to_host(MessageId.RICH_ERROR, 0x453, 7, b"no"), {"msg_ident": 0x453, "code": 7}),
        (Message(MessageId.HOMED, (1, 0), None, HOST, UNIT), SHORT_STATUS),
        (Message(MessageId.MOVE_COMPLETED, (1, 0), None, HOST, UNIT), SHORT_STATUS),
        (Message(MessageId.STOPPED, (1, 0), None, HOST, UNIT), SHORT_STATUS),
        (to_host(MessageId.GET_ENCODER, 1, -9), {"encoder_count": -9}),
        (to_host(MessageId.GET_POSITION, 1, -(1 << 31)), {"position": -(1 << 31)}),
        (
            to_host(MessageId.GET_VELOCITY, 1, 0, 146, 429417),
            {"min_velocity": 0, "acceleration": 146, "max_velocity": 429417},
        ),
        (
            to_host(MessageId.GET_JOG, 1, 2, 5, 0, 6, 7, 1),
            {"jog_mode": 2, "step_size": 5, "acceleration": 6, "max_velocity": 7, "stop_mode": 1},
        ),
        (
            to_host(MessageId.GET_LIMITS, 1, 4, 1, 5, 6, 2),
            {"cw_hardlimit": 4, "ccw_softlimit": 6, "soft_limit_mode": 2},
        ),
        (to_host(MessageId.GET_BACKLASH, 1, -3), {"backlash_distance": -3}),
        (
            to_host(MessageId.GET_HOMING, 1, 2, 1, 9, -4),
            {"home_dir": 2, "limit_switch": 1, "home_velocity": 9, "offset_distance": -4},
        ),
        (to_host(MessageId.GET_STATUS_BITS, 1, BITS), READ),
        (to_host(MessageId.GET_STATUS, 1, -5, 6, BITS), {"position": -5, "enc_count": 6}),
        (to_host(MessageId.GET_STATUS, 1, -5, 6, BITS), READ),
        (to_host(MessageId.GET_DC_STATUS, 1, -5, -6, 0, BITS), {"position": -5, "velocity": -6}),
        (to_host(MessageId.GET_DC_STATUS, 1, -5, -6, 0, BITS), READ),
        (to_host(MessageId.MOVE_COMPLETED, 1, -5, -6, 0, BITS, layout=DC_STATUS), READ),
        (to_host(MessageId.STOPPED, 1, -5, -6, 0, BITS, layout=DC_STATUS), {"position": -5, "velocity": -6}),
        (to_host(MessageId.MOVE_COMPLETED, 1, -5, -5, BITS, layout=STATUS), {"position": -5, "chan_ident": 1}),
        (
            to_host(MessageId.GET_INFO, 55123456, b"K10CR1", 16, bytes([4, 2, 1, 0]), bytes(60), 1, 3, 1),
            {"serial_number": 55123456, "hw_version": 1, "mod_state": 3, "nchs": 1},
        ),
    ],
    ids=lambda value: value.name if isinstance(value, Message) else "",
)
def test_the_oracle_decodes_the_same(message, fields):
    oracle = pytest.importorskip("thorlabs_apt_protocol", reason="extra `clients` is missing")
    wire = message.encode()
    assert decode(wire) == message and message_length(wire) == len(wire)
    unpacker = oracle.Unpacker(on_error="raise")
    unpacker.feed(wire)
    (found,) = list(unpacker)
    assert (found.msgid, found.dest, found.source) == (message.id, HOST, UNIT)
    if isinstance(fields, set):
        named = {name for name, value in found._asdict().items() if value is True}
        assert named == fields
    else:
        assert {name: getattr(found, name) for name in fields} == fields


def test_the_oracle_knows_the_bits_by_the_same_names():
    oracle = pytest.importorskip("thorlabs_apt_protocol", reason="extra `clients` is missing")
    names = {
        StatusBits.FORWARD_LIMIT: "forward_limit_switch",
        StatusBits.REVERSE_LIMIT: "reverse_limit_switch",
        StatusBits.MOTOR_CONNECTED: "motor_connected",
        StatusBits.CURRENT_LIMIT: "motor_current_limit_reached",
        StatusBits.ENABLED: "channel_enabled",
    }
    for bit in StatusBits:
        unpacker = oracle.Unpacker(on_error="raise")
        unpacker.feed(to_host(MessageId.GET_STATUS_BITS, 1, int(bit)).encode())
        (found,) = list(unpacker)
        assert {name for name, value in found._asdict().items() if value is True} == {
            names.get(bit, str(bit.name).lower())
        }


def test_the_numbers_are_all_different():
    assert len(set(MessageId)) == len(MessageId.__members__)
    assert all(not (a & b) for a, b in itertools.combinations(StatusBits, 2))
