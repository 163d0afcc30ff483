"""Uniblitz VCM-D1 shutter driver (Vincent Associates), over its serial port.

The unit takes single bytes and never answers: ``@`` opens, ``A`` closes, ``C`` resets. There is no read-back of any
kind, so whatever this driver says of the blade is *assumed*, and a safe state that rests on it is UNCONFIRMED: a cable
that fell out looks exactly like a shutter that closed. Use a shutter with a sensor where eyes or samples depend on it.

With several units on one line each byte carries the address: 0x80 + 0x10 x unit is added to it.

Not verified on hardware: that the addressed form is the same for all models; that ``C`` leaves the blade closed, for
which reason it is not used; the travel time, which depends on the shutter head.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pymeasure.instruments import Instrument

from labctl.clock import Clock
from labctl.errors import ConnectionLost
from labctl.roles import Identity, SafeStep
from labctl.transport.adapter import WireAdapter
from labctl.transport.settings import WireSettings

log = logging.getLogger(__name__)

OPEN = b"@"
CLOSE = b"A"
_ADDRESSED = 0x80
_UNIT_STEP = 0x10
_SAFE_TRIES = 2
_NO_ANSWER = (
    "the VCM-D1 cannot report its blade: that it is closed is assumed. Look at the shutter, or block the beam by hand"
)


class UniblitzVCMD1(Instrument):
    """Shutter driver VCM-D1: open, close, no feedback.

    :param adapter: The wire.
    :param name: Name for messages.
    :param clock: The clock on which it waits for the blade.
    :param unit: Address of the unit on a shared line, 0 to 7; None for a unit alone on its line.
    :param travel_s: Time the blade needs to open or close, in s.
    """

    LINK = WireSettings(write_termination=b"", read_termination=b"", timeout_s=0.5, baud_rate=9600)
    ROLE = "shutter"

    class Options(BaseModel):
        """Options in the bench file."""

        model_config = ConfigDict(frozen=True, extra="forbid")

        unit: Annotated[int, Field(ge=0, le=7)] | None = None
        travel_s: Annotated[float, Field(gt=0, le=2)] = 0.04

    adapter: WireAdapter

    def __init__(
        self,
        adapter: WireAdapter,
        name: str = "Uniblitz VCM-D1",
        *,
        clock: Clock,
        unit: int | None = None,
        travel_s: float = 0.04,
    ) -> None:
        super().__init__(adapter, name, includeSCPI=False)
        self.clock = clock
        self.unit = unit
        self.travel_s = travel_s
        self._assumed_open = True

    def start_up(self) -> None:
        """Close the shutter: how it was left is not known."""
        self.shut()

    def identify(self) -> Identity:
        """Get what the bench file says: the unit tells nothing about itself."""
        return Identity("Uniblitz", "VCM-D1")

    @property
    def has_readback(self) -> bool:
        """Get whether the device can report its real state: it cannot."""
        return False

    @property
    def is_open(self) -> bool:
        """Get whether the shutter was last told to open. Assumed, never measured; true before the first command."""
        return self._assumed_open

    def open(self) -> None:
        """Tell the shutter to open and wait for the blade's travel; nothing is verified."""
        with self.adapter.exclusive():
            self._assumed_open = True
            self._send(OPEN)
        self.clock.sleep(self.travel_s)

    def shut(self) -> None:
        """Tell the shutter to close and wait for the blade's travel; nothing is verified."""
        with self.adapter.exclusive():
            self._send(CLOSE)
            self.clock.sleep(self.travel_s)
            self._assumed_open = False

    def make_safe(self) -> Sequence[SafeStep]:
        """Tell the shutter to close; never confirmed, since the unit cannot answer.

        The byte goes out twice: one that was lost once would leave the light on.
        """
        evidence: list[str] = []
        for _ in range(_SAFE_TRIES):
            try:
                with self.adapter.seize():
                    self.shut()
                evidence.append(f"sent {self._command(CLOSE)!r}")
            except Exception as error:  # whatever happens here, the steps of the other instruments must still be taken
                evidence.append(str(error))
                if isinstance(error, ConnectionLost):
                    evidence += filter(None, [self.adapter.try_to_reconnect()])
        return [SafeStep("close shutter", False, f"{'; '.join(evidence)}; {_NO_ANSWER}")]

    def close(self) -> None:
        """Release the connection; the shutter stays as it is."""
        self.adapter.close()

    def _send(self, command: bytes) -> None:
        self.adapter.write_bytes(self._command(command))

    def _command(self, command: bytes) -> bytes:
        if self.unit is None:
            return command
        return bytes([command[0] + _ADDRESSED + _UNIT_STEP * self.unit])
