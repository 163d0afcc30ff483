"""A shutter or beam block that is worked by hand."""

from __future__ import annotations

from drivers.by_hand.instrument import ByHand
from labctl.clock import Clock
from labctl.errors import LabctlError
from labctl.roles import Identity, SafeStep
from labctl.transport.adapter import WireAdapter


class ShutterByHand(ByHand):
    """A beam block; the operator puts it in and takes it out.

    Nothing reads it back: what is known of it is what the operator said last.
    """

    ROLE = "shutter"

    def __init__(self, adapter: WireAdapter, name: str = "shutter by hand", *, clock: Clock) -> None:
        super().__init__(adapter, name, clock=clock)
        self._said_closed = False

    def start_up(self) -> None:
        """Have the beam blocked: how it was left is not known."""
        self.shut()

    def identify(self) -> Identity:
        """Get that it is worked by hand."""
        return Identity("", "beam block worked by hand")

    @property
    def has_readback(self) -> bool:
        """Get whether the device can report its real state: it cannot."""
        return False

    @property
    def is_open(self) -> bool:
        """Get whether the beam may pass: true unless the operator has said that it is blocked."""
        return not self._said_closed

    def open(self) -> None:
        """Have the beam released; raises Aborted when the operator refuses."""
        self._said_closed = False
        self.tell("Goggles on? Open the shutter: light will fall on the sample.", open=True)

    def shut(self) -> None:
        """Have the beam blocked, unless the operator has said that it is; raises Aborted when he refuses."""
        if not self._said_closed:
            self.tell("Close the shutter and look that no light falls on the sample.", open=False)
            self._said_closed = True

    def make_safe(self) -> list[SafeStep]:
        """Have the beam blocked; confirmed by the operator's word, UNCONFIRMED if there is none."""
        action = "close shutter"
        if self._said_closed:
            return [SafeStep(action, True, "the operator said that it is closed, and nobody was asked to open it")]
        try:
            with self.adapter.seize():
                self.shut()
        except Exception as error:  # whatever happens here, the steps of the other instruments must still be taken
            what = error.what if isinstance(error, LabctlError) else str(error)
            return [SafeStep(action, False, f"LIGHT MAY BE ON, close it by hand and look: {what}")]
        return [SafeStep(action, True, "the operator closed it and said so")]
