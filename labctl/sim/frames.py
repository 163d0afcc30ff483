"""Frames between processes that share a simulated laboratory (``sim+tcp``).

A frame is a JSON object and, behind it, the bytes of the byte strings and arrays in it::

    length of all that follows   4 bytes, big-endian
    length of the JSON text      4 bytes, big-endian
    JSON text                    {"op": "wire", "t": 12.5, "data": {"$bytes": 7}}
    blobs                        in the order in which their places stand in the JSON text

In place of a byte string stands ``{"$bytes": length}``, of an array ``{"$array": [type, shape]}``. Nothing that is
received is ever executed; whatever does not fit is a :class:`FrameError`, and the connection ends.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

VERSION = 1
LARGEST_FRAME = 64 << 20
"""Bytes; a streak frame of 1344 x 1024 pixels in 32 bits has 5.5e6."""

_LENGTHS = struct.Struct(">II")
_TYPES = {
    name: np.dtype(name).newbyteorder("<")
    for name in ("bool", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64")
}
_MOST_DIMENSIONS = 8


class FrameError(ValueError):
    """Bytes that are not a frame, or a value that cannot be put into one."""


def encode(message: Mapping[str, Any]) -> bytes:
    """Put a message into a frame; raises FrameError for a value that has no place in one."""
    blobs: list[bytes] = []
    text = json.dumps(_outgoing(message, blobs), separators=(",", ":")).encode()
    body = len(text) + sum(map(len, blobs))
    if _LENGTHS.size + body > LARGEST_FRAME:
        raise FrameError(f"a frame of {body} bytes is larger than the {LARGEST_FRAME} allowed")
    return b"".join([_LENGTHS.pack(4 + body, len(text)), text, *blobs])


class FrameReader:
    """Takes messages out of a stream of bytes that arrives in any pieces."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        """Add bytes and get the messages that are now complete; raises FrameError at the first that is none."""
        self._buffer += data
        while len(self._buffer) >= _LENGTHS.size:
            following, text_length = _LENGTHS.unpack_from(self._buffer)
            if not 4 <= following <= LARGEST_FRAME or text_length > following - 4:
                start = bytes(self._buffer[:16])
                raise FrameError(f"{start!r} does not begin a frame: the lengths {following}, {text_length} are wrong")
            if len(self._buffer) < 4 + following:
                return
            body = bytes(self._buffer[_LENGTHS.size : 4 + following])
            del self._buffer[: 4 + following]
            yield _decode(body[:text_length], body[text_length:])


def _decode(text: bytes, blobs: bytes) -> dict[str, Any]:
    try:
        raw = json.loads(text)
        rest = _Blobs(blobs)
        message = _incoming(raw, rest)
    except FrameError:
        raise
    except (ValueError, RecursionError) as error:
        raise FrameError(f"the frame is not JSON: {error}; it begins with {text[:60]!r}") from error
    if not isinstance(raw, dict) or not isinstance(message, dict):
        raise FrameError(f"a frame must be an object, not {text[:60]!r}")
    if rest.left:
        raise FrameError(f"the frame has {rest.left} bytes too many")
    return message


class _Blobs:
    """The bytes behind the JSON text, taken from the front."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._taken = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._taken

    def take(self, length: int) -> bytes:
        if not 0 <= length <= self.left:
            raise FrameError(f"the frame announces {length} bytes and has {self.left}")
        self._taken += length
        return self._data[self._taken - length : self._taken]


def _outgoing(value: Any, blobs: list[bytes]) -> Any:
    if value is None or isinstance(value, bool | int | str) or type(value) is float:
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, bytes | bytearray):
        blobs.append(bytes(value))
        return {"$bytes": len(value)}
    if isinstance(value, np.ndarray):
        if value.dtype.name not in _TYPES:
            raise FrameError(f"an array of {value.dtype} cannot be sent")
        blobs.append(np.ascontiguousarray(value, _TYPES[value.dtype.name]).tobytes())
        return {"$array": [value.dtype.name, list(value.shape)]}
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) and not key.startswith("$") for key in value):
            raise FrameError(f"keys must be text and not begin with $: {list(value)!r}")
        return {key: _outgoing(item, blobs) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_outgoing(item, blobs) for item in value]
    raise FrameError(f"{value!r} cannot be sent")


def _incoming(value: Any, blobs: _Blobs) -> Any:
    if isinstance(value, list):
        return [_incoming(item, blobs) for item in value]
    if not isinstance(value, dict):
        return value
    if "$bytes" in value:
        length = value["$bytes"]
        if len(value) != 1 or type(length) is not int:
            raise FrameError(f"{value!r} is no byte string")
        return blobs.take(length)
    if "$array" in value:
        return _array(value, blobs)
    return {key: _incoming(item, blobs) for key, item in value.items()}


def _array(value: dict[str, Any], blobs: _Blobs) -> np.ndarray:
    match value:
        case {"$array": [str(name), list(shape)]} if len(value) == 1 and name in _TYPES:
            if len(shape) <= _MOST_DIMENSIONS and all(type(n) is int and 0 <= n <= LARGEST_FRAME for n in shape):
                data = blobs.take(math.prod(shape) * _TYPES[name].itemsize)
                return np.frombuffer(data, _TYPES[name]).reshape(shape).astype(name)
    raise FrameError(f"{str(value)[:80]} is no array")
