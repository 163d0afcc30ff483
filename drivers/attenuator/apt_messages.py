"""Messages of the Thorlabs APT protocol, as motors speak it.

A message is a header of six bytes, little endian: identifier; two parameters of one byte each, or the length of the
data that follow; destination, with bit 7 set when data follow; source. So a message is framed by its own header: any
byte value may occur anywhere in it.

Not verified on hardware: whether a motor speaks from another address than 0x50 (other programs accept a few, and so
does :func:`message_length`); the layout of the status that a stepper adds to its events.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Any

HOST = 0x01
UNIT = 0x50
CHANNEL = 1
_HEADER = 6
_LONG = 0x80
_LONGEST_DATA = 255
_HOST_ADDRESSES = (0x00, HOST)
_UNIT_ADDRESSES = (0x00, 0x11, 0x21, UNIT)


class MessageId(IntEnum):
    """What a message says. ``GET`` is what answers ``REQUEST``."""

    GOODBYE = 0x0002
    REQUEST_INFO = 0x0005
    GET_INFO = 0x0006
    START_UPDATES = 0x0011
    STOP_UPDATES = 0x0012
    NO_FLASH_PROGRAMMING = 0x0018
    ERROR = 0x0080
    RICH_ERROR = 0x0081
    SET_ENABLED = 0x0210
    REQUEST_ENABLED = 0x0211
    GET_ENABLED = 0x0212
    BLINK = 0x0223
    SET_ENCODER = 0x0409
    REQUEST_ENCODER = 0x040A
    GET_ENCODER = 0x040B
    SET_POSITION = 0x0410
    REQUEST_POSITION = 0x0411
    GET_POSITION = 0x0412
    SET_VELOCITY = 0x0413
    REQUEST_VELOCITY = 0x0414
    GET_VELOCITY = 0x0415
    SET_JOG = 0x0416
    REQUEST_JOG = 0x0417
    GET_JOG = 0x0418
    SET_LIMITS = 0x0423
    REQUEST_LIMITS = 0x0424
    GET_LIMITS = 0x0425
    REQUEST_STATUS_BITS = 0x0429
    GET_STATUS_BITS = 0x042A
    SET_BACKLASH = 0x043A
    REQUEST_BACKLASH = 0x043B
    GET_BACKLASH = 0x043C
    SET_HOMING = 0x0440
    REQUEST_HOMING = 0x0441
    GET_HOMING = 0x0442
    HOME = 0x0443
    HOMED = 0x0444
    MOVE_RELATIVE = 0x0448
    MOVE_ABSOLUTE = 0x0453
    MOVE_VELOCITY = 0x0457
    MOVE_COMPLETED = 0x0464
    STOP = 0x0465
    STOPPED = 0x0466
    JOG = 0x046A
    SUSPEND_EVENTS = 0x046B
    RESUME_EVENTS = 0x046C
    REQUEST_STATUS = 0x0480
    GET_STATUS = 0x0481
    REQUEST_DC_STATUS = 0x0490
    GET_DC_STATUS = 0x0491
    ACKNOWLEDGE_DC_STATUS = 0x0492


class StatusBits(IntFlag):
    """State of a motor. Forward is the way to larger counts.

    ``CURRENT_LIMIT`` is known from other programs only.
    """

    FORWARD_LIMIT = 0x1
    REVERSE_LIMIT = 0x2
    MOVING_FORWARD = 0x10
    MOVING_REVERSE = 0x20
    JOGGING_FORWARD = 0x40
    JOGGING_REVERSE = 0x80
    MOTOR_CONNECTED = 0x100
    HOMING = 0x200
    HOMED = 0x400
    TRACKING = 0x1000
    SETTLED = 0x2000
    MOTION_ERROR = 0x4000
    CURRENT_LIMIT = 0x1000000
    ENABLED = 0x80000000

    @property
    def is_in_motion(self) -> bool:
        """Get whether the motor turns, or is about its homing."""
        return bool(self & _IN_MOTION)

    @property
    def faults(self) -> StatusBits:
        """Get those bits that say that the motor cannot go where it should."""
        return self & _FAULTS

    @property
    def limits(self) -> StatusBits:
        """Get the limit switches that are pressed. A stage whose zero is at a switch presses it when it is at home."""
        return self & _LIMITS

    @property
    def words(self) -> str:
        """Get the bits that are set, in words, with their number."""
        names = [bit.name.lower().replace("_", " ") for bit in StatusBits if bit in self and bit.name]
        return f"0x{int(self):08X} ({', '.join(names) or 'nothing set'})"


_IN_MOTION = (
    StatusBits.MOVING_FORWARD
    | StatusBits.MOVING_REVERSE
    | StatusBits.JOGGING_FORWARD
    | StatusBits.JOGGING_REVERSE
    | StatusBits.HOMING
)
_FAULTS = StatusBits.MOTION_ERROR | StatusBits.CURRENT_LIMIT
_LIMITS = StatusBits.FORWARD_LIMIT | StatusBits.REVERSE_LIMIT

_CHANNEL_AND_COUNTS = struct.Struct("<Hl")
_VELOCITY = struct.Struct("<Hlll")
_JOG = struct.Struct("<HHllllH")
_LIMIT_SWITCHES = struct.Struct("<HHHllH")
_HOMING = struct.Struct("<HHHll")
STATUS = struct.Struct("<HllL")
"""Channel, position, encoder, bits."""
DC_STATUS = struct.Struct("<HlhHL")
"""Channel, position, velocity, motor current (or nothing), bits."""

LAYOUTS: dict[MessageId, struct.Struct] = {
    MessageId.GET_INFO: struct.Struct("<l8sH4s60sHHH"),
    MessageId.RICH_ERROR: struct.Struct("<HH64s"),
    MessageId.SET_ENCODER: _CHANNEL_AND_COUNTS,
    MessageId.GET_ENCODER: _CHANNEL_AND_COUNTS,
    MessageId.SET_POSITION: _CHANNEL_AND_COUNTS,
    MessageId.GET_POSITION: _CHANNEL_AND_COUNTS,
    MessageId.SET_VELOCITY: _VELOCITY,
    MessageId.GET_VELOCITY: _VELOCITY,
    MessageId.SET_JOG: _JOG,
    MessageId.GET_JOG: _JOG,
    MessageId.SET_LIMITS: _LIMIT_SWITCHES,
    MessageId.GET_LIMITS: _LIMIT_SWITCHES,
    MessageId.GET_STATUS_BITS: struct.Struct("<HL"),
    MessageId.SET_BACKLASH: _CHANNEL_AND_COUNTS,
    MessageId.GET_BACKLASH: _CHANNEL_AND_COUNTS,
    MessageId.SET_HOMING: _HOMING,
    MessageId.GET_HOMING: _HOMING,
    MessageId.MOVE_RELATIVE: _CHANNEL_AND_COUNTS,
    MessageId.MOVE_ABSOLUTE: _CHANNEL_AND_COUNTS,
    MessageId.GET_STATUS: STATUS,
    MessageId.GET_DC_STATUS: DC_STATUS,
}
"""Layout of the data of each message that always has some; its first field is the channel, but for the first two."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message.

    :param id: What it says; a plain number if it is none of :class:`MessageId`.
    :param parameters: Two bytes, where no data follow.
    :param data: What follows the header; None where nothing does.
    :param destination: Address it goes to.
    :param source: Address it comes from.
    """

    id: int
    parameters: tuple[int, int] = (0, 0)
    data: bytes | None = None
    destination: int = UNIT
    source: int = HOST

    def encode(self) -> bytes:
        """Get the bytes on the wire."""
        if self.data is None:
            return struct.pack("<HBBBB", self.id, *self.parameters, self.destination, self.source)
        return struct.pack("<HHBB", self.id, len(self.data), self.destination | _LONG, self.source) + self.data

    def values(self, layout: struct.Struct | None = None) -> tuple[Any, ...]:
        """Get the fields of the data; raises ValueError where they do not fit the layout of the message."""
        layout = layout or LAYOUTS[MessageId(self.id)]
        if self.data is None or len(self.data) != layout.size:
            found = "no data" if self.data is None else f"{len(self.data)} bytes of data"
            raise ValueError(f"{self.name} has {found} where {layout.size} bytes belong")
        return layout.unpack(self.data)

    @property
    def name(self) -> str:
        """Get number and name for messages to people."""
        known = self.id in set(MessageId)
        return f"0x{self.id:04X}" + (f" ({MessageId(self.id).name.lower().replace('_', ' ')})" if known else "")


def long_message(
    id: MessageId,
    *values: int | bytes,
    layout: struct.Struct | None = None,
    destination: int = UNIT,
    source: int = HOST,
) -> Message:
    """Get a message with data; ``layout`` where it is not the one that the message always has."""
    data = (layout or LAYOUTS[id]).pack(*values)
    return Message(id, data=data, destination=destination, source=source)


def message_length(received: bytes) -> int | None:
    """Get the length of the message that begins a stream, or None while its header is not complete.

    Raises ValueError where no message from a motor to the host can begin: the stream is out of step.
    """
    if len(received) < _HEADER:
        return None
    _, length, destination, source = struct.unpack_from("<HHBB", received)
    if destination & ~_LONG not in _HOST_ADDRESSES or source not in _UNIT_ADDRESSES:
        raise ValueError(f"{received[:_HEADER].hex(' ')} is no header of a message to the host")
    if not destination & _LONG:
        return _HEADER
    if length > _LONGEST_DATA:
        raise ValueError(f"{received[:_HEADER].hex(' ')} announces {length} bytes, more than any message has")
    return _HEADER + length


def decode(message: bytes) -> Message:
    """Get the message that these bytes are, from header to end."""
    identifier, first, second, destination, source = struct.unpack_from("<HBBBB", message)
    if destination & _LONG:
        return Message(identifier, (0, 0), message[_HEADER:], destination & ~_LONG, source)
    return Message(identifier, (first, second), None, destination, source)


@dataclass(frozen=True, slots=True)
class HardwareInfo:
    """Contents of ``GET_INFO``.

    :param serial: Serial number; its first two digits tell the model.
    :param model: Model as the device writes it.
    :param firmware: Major, interim and minor version.
    :param stage: Number of the stage in the memory of a DC controller, 0 where there is none.
    """

    serial: int
    model: str
    firmware: tuple[int, int, int]
    stage: int

    @classmethod
    def of(cls, message: Message) -> HardwareInfo:
        """Read it; raises ValueError where the message does not fit."""
        serial, model, _, (minor, interim, major, _), notes, *_ = message.values()
        return cls(serial, _text(model), (major, interim, minor), int.from_bytes(notes[-2:], "little"))


def error_text(message: Message) -> str:
    """Get what an error response says, in words."""
    if message.id != MessageId.RICH_ERROR:
        return "the controller reports a fault and gives no reason"
    about, code, notes = message.values()
    cause = f" about message 0x{about:04X}" if about else ""
    return f"the controller reports fault {code}{cause}: {_text(notes) or 'no text'}"


def _text(padded: bytes) -> str:
    return padded.split(b"\0")[0].decode("ascii", "replace").strip()
