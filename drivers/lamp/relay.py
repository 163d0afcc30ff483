"""A relay that switches a lamp at the mains: LCUS-1 and its relatives on a USB serial converter (CH340).

The board takes a command and never answers, so whatever this driver says of the lamp is *assumed*, and a safe state
that rests on it is UNCONFIRMED: a cable that fell out looks exactly like a lamp that went off. Where the bench has a
``lamp_meter``, a procedure can see that it is dark; else look. The board keeps its contact when the program dies or the
cable drops out: only an interlock in the mains lead of the lamp, independent of any software, makes it safe.

There is no single protocol. ``lcus`` is that of the LCUS-1 (four bytes: 0xA0, channel, state, low byte of their sum).
``modbus-ascii`` is function 5 of Modbus at address 0xFE, as some boards with 16 channels take it.

UNVERIFIED: whether newer LCUS boards answer a query of their state (none is asked); whether Modbus boards echo the
command (what arrives is thrown away); that their channels count from coil 0. Try the board that was bought while the
lamp is unplugged.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field
from pymeasure.instruments import Instrument

from labctl.clock import Clock
from labctl.errors import ConnectionLost
from labctl.roles import Identity, Reading, SafeStep
from labctl.transport.adapter import WireAdapter
from labctl.transport.settings import WireSettings

log = logging.getLogger(__name__)

Form = Literal["lcus", "modbus-ascii"]

_LCUS_START = 0xA0
_MODBUS_ADDRESS = 0xFE
_WRITE_COIL = 0x05
_COIL_ON, _COIL_OFF = 0xFF, 0x00
_SAFE_TRIES = 2
_NO_ANSWER = (
    "the relay cannot report its contact: that the lamp is off is assumed. See whether the lamp is dark (a lamp meter "
    "shows it without eyes), or pull its mains plug"
)


def command(form: Form, channel: int, on: bool) -> bytes:
    """Get the bytes that switch a channel, counted from 1."""
    if form == "lcus":
        body = bytes([_LCUS_START, channel, on])
        return body + bytes([sum(body) & 0xFF])
    body = bytes([_MODBUS_ADDRESS, _WRITE_COIL, 0x00, channel - 1, _COIL_ON if on else _COIL_OFF, 0x00])
    return b":" + (body + bytes([-sum(body) & 0xFF])).hex().upper().encode() + b"\r\n"


class LampRelay(Instrument):
    """A lamp behind a relay: on, off, no feedback.

    :param adapter: The wire.
    :param name: Name for messages.
    :param clock: The clock on which it waits for the contact.
    :param options: See :class:`Options`.
    """

    LINK = WireSettings(write_termination=b"", read_termination=b"", timeout_s=0.5, baud_rate=9600)
    ROLE = "lamp"
    READINGS: ClassVar = {"lamp": Reading("is_on", words=("off", "on"))}

    class Options(BaseModel):
        """Options of the instrument in the bench file.

        :param channel: Which relay of the board, from 1.
        :param form: Protocol of the board.
        :param settle_s: Time allowed to the contact, s.
        """

        model_config = ConfigDict(frozen=True, extra="forbid")

        channel: Annotated[int, Field(ge=1, le=16)] = 1
        form: Form = "lcus"
        settle_s: Annotated[float, Field(ge=0, le=2)] = 0.05

    adapter: WireAdapter

    def __init__(self, adapter: WireAdapter, name: str = "lamp relay", *, clock: Clock, **options: object) -> None:
        super().__init__(adapter, name, includeSCPI=False)
        self.clock = clock
        self._chosen = self.Options.model_validate(options)
        self._assumed_on = True

    def start_up(self) -> None:
        """Switch the lamp off: how it was left is not known."""
        self.switch_off()

    def identify(self) -> Identity:
        """Get what the bench file says: the board tells nothing about itself."""
        return Identity("", f"relay board ({self._chosen.form}), channel {self._chosen.channel}")

    @property
    def has_readback(self) -> bool:
        """Get whether the device can report whether the lamp is on: it cannot."""
        return False

    @property
    def is_on(self) -> bool:
        """Get whether the lamp was last told to be on. Assumed, never measured; true before the first command."""
        return self._assumed_on

    def switch_on(self) -> None:
        """Tell the relay to close and wait for its contact; nothing is verified."""
        with self.adapter.exclusive():
            self._assumed_on = True
            self._send(True)
        self.clock.sleep(self._chosen.settle_s)

    def switch_off(self) -> None:
        """Tell the relay to open and wait for its contact; nothing is verified."""
        with self.adapter.exclusive():
            self._send(False)
            self.clock.sleep(self._chosen.settle_s)
            self._assumed_on = False

    def make_safe(self) -> Sequence[SafeStep]:
        """Tell the relay to open; never confirmed, since the board cannot answer.

        The command goes out twice: one that was lost once would leave the light on.
        """
        evidence: list[str] = []
        for _ in range(_SAFE_TRIES):
            try:
                with self.adapter.seize():
                    self.switch_off()
                evidence.append(f"sent {self.adapter.last.sent}")
            except Exception as error:  # whatever happens here, the steps of the other instruments must still be taken
                evidence.append(str(error))
                if isinstance(error, ConnectionLost):
                    evidence += filter(None, [self.adapter.try_to_reconnect()])
        return [SafeStep("switch lamp off", False, f"{'; '.join(evidence)}; {_NO_ANSWER}")]

    def close(self) -> None:
        """Release the connection; the lamp stays as it is."""
        self.adapter.close()

    def _send(self, on: bool) -> None:
        self.adapter.flush_read_buffer()
        self.adapter.write_bytes(command(self._chosen.form, self._chosen.channel, on))
