"""Emulator of the ACME Hygro 2: drier while its heater is on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from labctl.sim.emulator import LineBuffer, Reply
from labctl.sim.laboratory import Laboratory

REPLY_S = 0.01


class AcmeHygroEmulator:
    """The hygrometer, as far as its wire shows it.

    :param laboratory: The simulated laboratory: keyed noise, and what all instruments share.
    :param role: The role that it fills.
    :param options: The table ``options`` of the bench file.
    """

    def __init__(self, laboratory: Laboratory, role: str, options: Mapping[str, object]) -> None:
        self._noise = laboratory.noise
        self._input = LineBuffer(b"\r")
        self.heater_on = True  # an awkward state, to see that the driver does not count on a good one

    def respond(self, t: float, data: bytes) -> Sequence[Reply]:
        answers = [self._answer(command) for command in self._input.feed(data)]
        return [(t + REPLY_S, answer + b"\r") for answer in answers if answer]

    def next_event(self) -> float | None:
        return None

    def _answer(self, command: bytes) -> bytes:
        match command:
            case b"SN?":
                return b"SN=A-17"
            case b"RH?":
                percent = (20.0 if self.heater_on else 43.0) + self._noise.generator("hygrometer").normal(0.0, 0.2)
                return f"RH={percent:.1f}".encode()
            case b"HEAT?":
                return b"HEAT=%d" % self.heater_on
            case b"HEAT=0" | b"HEAT=1":
                self.heater_on = command.endswith(b"1")
                return b""
        return b"ERR"
