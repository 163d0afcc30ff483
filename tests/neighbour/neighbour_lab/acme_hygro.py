"""ACME Hygro 2 hygrometer on a serial line.

It answers ``RH?`` with ``RH=43.2`` and ``HEAT?`` with ``HEAT=0`` or ``HEAT=1``; ``HEAT=1`` is answered by nothing, so
every setting is read back. Lines end with CR.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pymeasure.instruments import Instrument

from labctl.clock import Clock
from labctl.errors import InstrumentError
from labctl.roles import Identity, Reading, SafeStep
from labctl.transport.adapter import WireAdapter
from labctl.transport.settings import WireSettings


class AcmeHygro(Instrument):
    """Hygrometer Hygro 2."""

    ROLE = "hygrometer"
    READINGS: ClassVar = {"humidity": Reading("humidity_percent", "percent", overshoot=1.0)}
    LINK = WireSettings(write_termination=b"\r", read_termination=b"\r", timeout_s=0.5, baud_rate=9600)

    adapter: WireAdapter

    def __init__(self, adapter: WireAdapter, name: str = "ACME Hygro 2", *, clock: Clock) -> None:
        super().__init__(adapter, name, includeSCPI=False)
        self.clock = clock

    def identify(self) -> Identity:
        """Get vendor, model and serial number."""
        return Identity("ACME", "Hygro 2", serial=self._ask("SN"))

    @property
    def humidity_percent(self) -> float:
        """Measure the relative humidity in %; raises InstrumentError for anything but 0 to 100."""
        answer = self._ask("RH")
        try:
            value = float(answer)
        except ValueError:
            value = -1.0
        if not 0 <= value <= 100:
            raise self._error(f"{answer!r} is no humidity")
        return value

    def heat(self, on: bool) -> None:
        """Switch the heater and read it back."""
        with self.adapter.exclusive():
            self.adapter.write(f"HEAT={int(on)}")
            if self._ask("HEAT") != str(int(on)):
                raise self._error(f"the heater did not switch {'on' if on else 'off'}")

    def make_safe(self) -> Sequence[SafeStep]:
        """Switch the heater off, with a second try; never raises, so that the other instruments have their turn."""
        evidence = []
        for _ in range(2):
            try:
                with self.adapter.seize():
                    self.heat(False)
                return [SafeStep("heater off", True, str(self.adapter.last))]
            except Exception as error:
                evidence.append(str(error))
                evidence += filter(None, [self.adapter.try_to_reconnect()])
        return [SafeStep("heater off", False, "; ".join(evidence))]

    def close(self) -> None:
        """Release the connection."""
        self.adapter.close()

    def _ask(self, word: str) -> str:
        with self.adapter.exclusive():
            self.adapter.flush_read_buffer()
            self.adapter.write(f"{word}?")
            answer = self.adapter.read()
        if not answer.startswith(f"{word}="):
            raise self._error(f"{answer!r} does not answer {word}?")
        return answer.removeprefix(f"{word}=")

    def _error(self, what: str) -> InstrumentError:
        return InstrumentError(what, exchange=self.adapter.last, where=self.name, todo="look at the cable")
