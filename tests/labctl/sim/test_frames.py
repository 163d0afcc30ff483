"""Frames survive any splitting and refuse whatever is none."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.sim.frames import LARGEST_FRAME, FrameError, FrameReader, encode
from labctl.sim.messages import WireReply, parse_reply, parse_request

_TYPES = ["bool", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]
scalars = st.none() | st.booleans() | st.integers(-(1 << 63), 1 << 63) | st.floats() | st.text() | st.binary()
keys = st.text().filter(lambda key: not key.startswith("$"))
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(keys, inner), max_leaves=12)
messages = st.dictionaries(keys, values)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return struct.pack("d", a) == struct.pack("d", b) or (math.isnan(a) and math.isnan(b))
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def raw(text: bytes, blobs: bytes = b"") -> bytes:
    return struct.pack(">II", 4 + len(text) + len(blobs), len(text)) + text + blobs


@given(st.lists(messages, max_size=3), st.lists(st.integers(1, 40)))
@settings(deadline=None)
def test_messages_arrive_bit_for_bit_however_they_are_split(sent: list[dict[str, Any]], sizes: list[int]) -> None:
    stream = b"".join(map(encode, sent))
    reader, received = FrameReader(), []
    for size in [*sizes, len(stream)]:
        piece, stream = stream[:size], stream[size:]
        received += reader.feed(piece)
    assert len(received) == len(sent)
    assert all(map(same, sent, received))


@pytest.mark.parametrize("name", _TYPES)
@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 3), (2, 0, 4)])
def test_arrays_keep_type_shape_and_values(name: str, shape: tuple[int, ...]) -> None:
    array = (np.arange(math.prod(shape)) * 3 - 1).astype(name).reshape(shape)
    (message,) = FrameReader().feed(encode({"a": array, "b": b"tail", "t": array.T}))
    assert message["a"].dtype == array.dtype and message["a"].shape == shape
    np.testing.assert_array_equal(message["a"], array)
    np.testing.assert_array_equal(message["t"], array.T)
    assert message["b"] == b"tail"
    assert message["a"].flags.writeable


def test_other_byte_order_and_numpy_scalars_are_sent_as_what_they_mean() -> None:
    (message,) = FrameReader().feed(encode({"a": np.array([1, 2], ">i4"), "n": np.int16(-7), "f": np.float64(0.1)}))
    assert message["a"].tolist() == [1, 2]
    assert message["n"] == -7 and message["f"] == 0.1


@pytest.mark.parametrize("value", [object(), {1: 2}, {"$bytes": 3}, np.array(["a"]), np.array([object()]), 1j, {1, 2}])
def test_what_has_no_place_in_a_frame_is_refused(value: Any) -> None:
    with pytest.raises(FrameError):
        encode({"value": value})


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack(">II", LARGEST_FRAME + 1, 10),
        struct.pack(">II", 3, 0),
        struct.pack(">II", 10, 7),
        raw(b""),
        raw(b"{"),
        raw(b"\xff\xfe"),
        raw(b"[1]"),
        raw(b"1"),
        raw(b'{"a": 1}', b"more"),
        raw(b'{"$bytes": 0}'),
        raw(b'{"a": {"$bytes": 3}}', b"ab"),
        raw(b'{"a": {"$bytes": -1}}'),
        raw(b'{"a": {"$bytes": true}}', b"x"),
        raw(b'{"a": {"$bytes": 1, "b": 2}}', b"x"),
        raw(b'{"a": {"$array": ["object", [1]]}}', b"12345678"),
        raw(b'{"a": {"$array": ["int32", [-1]]}}', b"1234"),
        raw(b'{"a": {"$array": ["int32", [1e3]]}}', b"1234"),
        raw(b'{"a": {"$array": ["int32", [99999999, 99999999]]}}', b"1234"),
        raw(b'{"a": {"$array": ["int32", [1, 1, 1, 1, 1, 1, 1, 1, 1]]}}', b"1234"),
        raw(b'{"a": {"$array": "int32"}}', b"1234"),
        raw(b"[" * 100_000),
        raw(b'{"a": ' + b"9" * 5000 + b"}"),
    ],
)
def test_bytes_that_are_no_frame_are_refused(data: bytes) -> None:
    with pytest.raises(FrameError):
        list(FrameReader().feed(data))


@given(st.binary(max_size=60), st.binary(max_size=20), st.booleans())
def test_no_bytes_at_all_raise_anything_else(text: bytes, blobs: bytes, framed: bool) -> None:
    try:
        list(FrameReader().feed(raw(text, blobs) if framed else text))
    except FrameError:
        pass


@given(st.dictionaries(st.sampled_from(["op", "t", "data", "function", "arguments", "role", "version"]), scalars))
def test_no_message_at_all_raises_anything_else(message: dict[str, Any]) -> None:
    for op in (message.get("op"), "hello", "wire", "call", "announce", "operator", "state"):
        try:
            parse_request({**message, "op": op})
        except FrameError:
            pass


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"op": "wire", "t": 1.0, "data": "text"},
        {"op": "wire", "t": float("nan"), "data": b""},
        {"op": "wire", "t": float("inf"), "data": b""},
        {"op": "wire", "t": "1", "data": b""},
        {"op": "wire", "t": 1.0, "data": b"", "more": 1},
        {"op": "hello", "version": "1", "t": 0.0, "speed": None},
        {"op": "hello", "version": 1, "t": 0.0},
        {"op": "hello", "version": 1, "t": 0.0, "speed": 0.0},
        {"op": "announce", "point": 1.5, "attempt": 0, "schedule_s": 0.0},
        {"op": "exec", "code": "1"},
    ],
)
def test_requests_are_checked_strictly(message: dict[str, Any]) -> None:
    with pytest.raises(FrameError, match="is not understood"):
        parse_request(message)


def test_replies_are_checked_strictly() -> None:
    assert isinstance(parse_reply(json.loads('{"replies": []}'), WireReply), WireReply)
    for wrong in (
        {"replies": [[1.0]]},
        {"replies": [["1", b""]]},
        {"replies": None},
        {"error": 1, "input_error": True},
    ):
        with pytest.raises(FrameError):
            parse_reply(wrong, WireReply)
