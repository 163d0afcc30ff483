"""Bringing instruments back after a failure, with the sample dark meanwhile: what the point loop asks of a bench."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from labctl.errors import InstrumentError, LabctlError
from labctl.transport.adapter import WireAdapter

if TYPE_CHECKING:
    from labctl.bench.bench import Bench

log = logging.getLogger(__name__)

_LIGHT = "shutter"
_TURNS_UP_THE_LIGHT = "attenuator"


class Recovery:
    """Revives the instruments of an open bench.

    :param bench: The bench; it owns the instruments.
    """

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def role_of(self, error: InstrumentError) -> str:
        """Get the role whose instrument an error speaks of, by the name it gives; empty if it gives none."""
        for text in (error.role.replace(" ", "_"), error.where):
            for role in self._bench.instruments:
                if re.match(rf"{re.escape(role)}(?![A-Za-z0-9_])", text):
                    return role
        return ""

    def darken(self) -> None:
        """Close the shutter and read it back; a second time over a new connection.

        Raises InstrumentError if it is not closed even then. A bench without a shutter has nothing to close.
        """
        shutter: Any = self._bench.instruments.get(_LIGHT)
        if shutter is None:
            return
        try:
            shutter.shut()
        except InstrumentError as error:
            log.warning("the shutter did not close: %s; once more over a new connection", error)
            self.revive(_LIGHT)
            shutter = self._bench.instruments[_LIGHT]
            shutter.shut()
        self._bench.account_light_left_on()

    def revive(self, role: str) -> None:
        """Make the connection of an instrument anew and start it again; raises InstrumentError.

        What has a ``take_up`` is not started but taken up as it stands: a lamp that stresses a sample for weeks must
        not go out because its cable was loose.
        A vendor library gets a process of its own anew: after a call that did not come back there is none.
        """
        instrument: Any = self._bench.instruments[role]
        if isinstance(instrument.adapter, WireAdapter):
            reason = instrument.adapter.try_to_reconnect()
            if reason:
                log.warning("%s: no new connection, and the old one may still do: %s", role, reason)
        else:
            instrument = self._bench.reopen(role)
        self._start(role, instrument, anew=getattr(instrument, "take_up", None))

    def rest(self) -> None:
        """Bring every instrument into its safe state, all connections left open.

        Raises LabctlError if a step was not confirmed.
        """
        report = self._bench.make_safe()
        if report.state == "unconfirmed":
            steps = "; ".join(f"{entry.role}: {entry.step.action}" for entry in report.unconfirmed)
            raise LabctlError(
                f"the safe state could not be confirmed: {steps}",
                where=f"bench {self._bench.config.name}",
                todo="go to the bench and look",
            )

    def wake(self) -> None:
        """Start every instrument again; raises InstrumentError."""
        for role, instrument in list(self._bench.instruments.items()):
            self._start(role, instrument)

    def _start(self, role: str, instrument: Any, anew: Callable[[], None] | None = None) -> None:
        """Start an instrument; the attenuator, which passes all angles on its way home, only in the dark."""
        start_up = anew or getattr(instrument, "start_up", None)
        if start_up is None:
            return
        if role == _TURNS_UP_THE_LIGHT:
            self.darken()
        try:
            start_up()
        except InstrumentError as error:
            error.role = error.role or role
            raise
