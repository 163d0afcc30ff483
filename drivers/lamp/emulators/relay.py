"""Emulator of a relay board with a lamp behind one of its contacts: commands in, nothing out.

Bytes that make no valid command (a wrong start, checksum, channel or function) pass without a trace; :attr:`log` keeps
the switching that was done, for tests.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from labctl.sim.emulator import Reply

_LCUS_LENGTH = 4
_LCUS_START = 0xA0
_MODBUS_LINE = re.compile(rb":([0-9A-F]{14})\r\n")
_LONGEST_INPUT = 64


class RelayOptions(BaseModel):
    """How the simulated board is built and wired; options of the driver stand for the wiring too.

    :param form: Protocol that it speaks.
    :param channel: Contact in the mains lead of the lamp.
    :param channels: Number of contacts.
    :param found_on: Left on by whoever used it before.
    :param delay_s: Time from the command to light or darkness, s.
    :param echo: It repeats what it has carried out.
    :param stuck: The contact does not move (it is welded, or the coil is broken).
    :param awkward: Left on, with half a command in the input.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    form: str = "lcus"
    channel: Annotated[int, Field(ge=1, le=16)] = 1
    channels: Annotated[int, Field(ge=1, le=16)] = 16
    found_on: bool = False
    delay_s: Annotated[float, Field(ge=0)] = 0.01
    echo: bool = False
    stuck: bool = False
    awkward: bool = False


class LampRelayEmulator:
    """The board with its lamp.

    :param laboratory: Where the lamp shines.
    :param role: Role on the bench.
    :param options: See :class:`RelayOptions`.
    """

    def __init__(self, laboratory: Any, role: str, options: Mapping[str, object]) -> None:
        self.options = RelayOptions.model_validate(dict(options))
        self.stuck = self.options.stuck
        self._lamp = laboratory.lamp
        self._input = b"\xa0\x01" if self.options.awkward else b""
        self._take = self._take_lcus if self.options.form == "lcus" else self._take_modbus
        self.log: list[tuple[float, int, bool]] = []
        self._lamp.set(0.0, float(self.options.found_on or self.options.awkward))

    def respond(self, t: float, data: bytes) -> Sequence[Reply]:
        self._input = (self._input + data)[-_LONGEST_INPUT:]
        replies: list[Reply] = []
        while (found := self._take()) is not None:
            channel, on, content = found
            if 1 <= channel <= self.options.channels:
                self._switch(t, channel, on)
                replies += [(t, content)] if self.options.echo else []
        return replies

    def next_event(self) -> float | None:
        return None

    def power_cycle(self, t: float) -> None:
        """Switch off and on at ``t``: the contacts open."""
        self._input = b""
        self._lamp.set(t, 0.0)

    def refuse(self, t: float, data: bytes) -> Sequence[Reply]:
        """Obey nothing, without a word."""
        return ()

    def _switch(self, t: float, channel: int, on: bool) -> None:
        self.log.append((t, channel, on))
        if channel == self.options.channel and not self.stuck:
            self._lamp.set(t + self.options.delay_s, float(on))

    def _take_lcus(self) -> tuple[int, bool, bytes] | None:
        """Take the next valid command off the input; bytes before it are dropped."""
        while len(self._input) >= _LCUS_LENGTH:
            frame = self._input[:_LCUS_LENGTH]
            if frame[0] == _LCUS_START and frame[2] in (0, 1) and sum(frame[:3]) & 0xFF == frame[3]:
                self._input = self._input[_LCUS_LENGTH:]
                return frame[1], frame[2] == 1, frame
            self._input = self._input[1:]
        return None

    def _take_modbus(self) -> tuple[int, bool, bytes] | None:
        """Take the next valid command off the input; bytes before it are dropped."""
        while found := _MODBUS_LINE.search(self._input):
            self._input = self._input[found.end() :]
            frame = bytes.fromhex(found[1].decode())
            value = frame[4:6]
            if frame[:3] == b"\xfe\x05\x00" and value in (b"\xff\x00", b"\0\0") and sum(frame) & 0xFF == 0:
                return frame[3] + 1, value == b"\xff\x00", found[0]
        return None
