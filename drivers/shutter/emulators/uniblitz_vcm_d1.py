"""Emulator of the Uniblitz VCM-D1: single bytes in, nothing out, ever.

A byte addressed to another unit, and one that means nothing to this model, pass without a trace; :attr:`log` keeps
what was received and when, for tests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from labctl.sim.emulator import Reply
from labctl.sim.laboratory import Laboratory

_OPEN, _CLOSE, _TRIGGER, _RESET = b"@ABC"


class VCMD1Options(BaseModel):
    """How the simulated unit is set and how fast its blade is; options of the driver are not looked at.

    :param unit: Its address switch; None: it listens to bytes without address.
    :param delay_s: Time from the byte to light or darkness, s.
    :param pulse_s: Time that a trigger keeps the shutter open, as set on the front panel, s.
    :param found_open: Left open by whoever used it before; as in the laboratory's table when left out.
    :param stuck: The blade does not move.
    :param awkward: Left open.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    unit: Annotated[int, Field(ge=0, le=7)] | None = None
    delay_s: Annotated[float, Field(ge=0)] = 0.035
    pulse_s: Annotated[float, Field(gt=0)] = 0.1
    found_open: bool | None = None
    stuck: bool = False
    awkward: bool = False


class UniblitzVCMD1Emulator:
    """The shutter driver with its shutter.

    :param laboratory: Where the blade lets light pass or not.
    :param role: Role on the bench.
    :param options: See :class:`VCMD1Options`.
    """

    def __init__(self, laboratory: Laboratory, role: str, options: Mapping[str, object]) -> None:
        self.options = VCMD1Options.model_validate(dict(options))
        self.stuck = self.options.stuck
        self._light = laboratory.shutter
        found = laboratory.truth.shutter.initially_open if self.options.found_open is None else self.options.found_open
        self._light.set(0.0, found or self.options.awkward)
        self._base = 0 if self.options.unit is None else 0x80 + 0x10 * self.options.unit
        self.log: list[tuple[float, bytes]] = []

    def respond(self, t: float, data: bytes) -> Sequence[Reply]:
        for byte in data:
            self.log.append((t, bytes([byte])))
            self._obey(t, byte - self._base)
        return []

    def next_event(self) -> float | None:
        return None

    def _obey(self, t: float, command: int) -> None:
        if self.stuck:
            return
        arrives = t + self.options.delay_s
        if command == _OPEN:
            self._light.set(arrives, True)
        elif command in (_CLOSE, _RESET):
            self._light.set(arrives, False)
        elif command == _TRIGGER:
            self._light.set(arrives, True)
            self._light.set(arrives + self.options.pulse_s, False)
