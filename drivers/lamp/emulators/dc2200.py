"""Emulator of a Thorlabs DC2200 with an LED head in the simulated laboratory, wired to its interlock circuit.

It speaks SCPI lines ended by LF. ``CCURENT`` is misspelled as in the instrument: the right spelling is an undefined
header, as is ``SOURCE1:PWM:FREQUENCY``. All settings belong to the selected terminal.

Constructed, because no source was at hand: the settings at power-up; that a mode is answered by its word; that a change
of mode switches the output off (option); that a current beyond the limit is clamped and trips it; that ``ON`` is
ignored with the interlock open or too hot, and queues -241 without a head; the noise of the measured current.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from drivers.scpi.emulators.interface import Action, ScpiError, ScpiInterface, number, query, switch
from drivers.scpi.emulators.messages import Unit
from labctl.sim.emulator import Reply

_MODES = ("CC", "CB", "PWM", "PULS", "TTL")
_CURRENT_NOISE = 1e-3


class DC2200Options(BaseModel):
    """How the simulated driver is built; options of the driver are not looked at, except for the terminal.

    :param terminal: Where the LED head is plugged in, as the driver's option says if it is right.
    :param head: There is an LED head.
    :param limit_a: Limit of the current of either terminal, A.
    :param interlock: The interlock is open.
    :param mode_switches_off: A change of mode switches the output off.
    :param reply_s: Time to answer, s.
    :param awkward: Left on at 60 % of the limit in mode CC, with errors queued and a reply not fetched.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    terminal: Literal[1, 2] = 1
    head: bool = True
    limit_a: Annotated[float, Field(gt=0, le=10)] = 0.7
    interlock: bool = False
    mode_switches_off: bool = True
    reply_s: Annotated[float, Field(ge=0)] = 2e-3
    awkward: bool = False


@dataclass
class _Source:
    """Settings of one terminal."""

    mode: str = "CC"
    current_a: float = 0.0
    brightness_percent: float = 0.0
    pwm_hz: float = 10.0


class DC2200Emulator:
    """The LED driver on its wire.

    Faults: set :attr:`stuck`; call :meth:`trip_interlock`, :meth:`overheat`, :meth:`power_cycle`, :meth:`refuse`.

    :param laboratory: Where the lamp shines.
    :param role: Role on the bench.
    :param options: See :class:`DC2200Options`.
    """

    def __init__(self, laboratory: Any, role: str, options: Mapping[str, object]) -> None:
        self.options = DC2200Options.model_validate(dict(options))
        self.stuck = False
        self.interlock = self.options.interlock
        self.hot = {"DRIVER": False, "HEAD": False}
        self._lamp = laboratory.lamp
        self._open_circuit = laboratory.open_interlock
        self._looked_s = -math.inf
        self._noise = laboratory.noise
        self._noise_source = f"{role}/current"
        self._interface = ScpiInterface(self._commands(), self.options.reply_s)
        self._forget()
        self._switch(0.0, False)
        if self.options.awkward:
            self._terminal = self.options.terminal
            self._sources[self._terminal].current_a = 0.6 * self.options.limit_a
            self._switch(0.0, self._head_is_there())
            self._interface.queue(-113)
            self._interface.queue(-222)
            self._interface.pending = [b"0\n"]

    def respond(self, t: float, data: bytes) -> Sequence[Reply]:
        self._follow_circuit(t)
        return self._interface.respond(t, data)

    def next_event(self) -> float | None:
        return 0.0 if self._interface.pending else None

    def power_cycle(self, t: float) -> None:
        """Switch off and on at ``t``: dark, settings lost."""
        self._interface.power_up()
        self._forget()
        self._switch(t, False)

    def refuse(self, t: float, data: bytes) -> Sequence[Reply]:
        """Queue an error for each line and answer none."""
        return self._interface.refuse(t, data)

    def trip_interlock(self, t: float) -> None:
        """Open the interlock circuit at ``t``: the output goes off."""
        self.interlock = True
        self._switch(t, False)

    def restore_interlock(self) -> None:
        """Close the interlock circuit again; the output stays off."""
        self.interlock = False

    def overheat(self, t: float, where: Literal["DRIVER", "HEAD"]) -> None:
        """Let driver or head grow too hot at ``t``: the output goes off."""
        self.hot[where] = True
        self._switch(t, False)

    @property
    def is_on(self) -> bool:
        """Get whether the output is on."""
        return self._on

    def _forget(self) -> None:
        self._sources = {1: _Source(), 2: _Source()}
        self._terminal = 1
        self._limit_tripped = False
        self._on = False

    def _head_is_there(self) -> bool:
        return self.options.head and self._terminal == self.options.terminal

    def _switch(self, t: float, on: bool) -> None:
        self._on = on
        self._lamp.set(t, self._share())
        opens_s = self._open_circuit.begins(t)
        if on and opens_s is not None and opens_s > t:
            # Nobody may ask the driver while the circuit opens, and the light must go out all the same.
            self._lamp.set(opens_s, 0.0)

    def _is_open(self, t: float) -> bool:
        return self.interlock or self._open_circuit.is_on(t)

    def _follow_circuit(self, t: float) -> None:
        """Switch off at the moment at which the circuit of the laboratory opened, if that was meanwhile."""
        opened_s = self._open_circuit.begins(t)
        if opened_s is not None and self._looked_s < opened_s <= t:
            self._switch(opened_s, False)
        self._looked_s = max(self._looked_s, t)

    def _share(self) -> float:
        """Get the current in shares of the limit."""
        if not (self._on and self._head_is_there()):
            return 0.0
        source = self._sources[self._terminal]
        share = source.brightness_percent / 100 if source.mode == "CB" else source.current_a / self.options.limit_a
        return min(share, 1.0) if source.mode in ("CB", "CC") else 0.0

    def _commands(self) -> dict[str, Action]:
        return {
            "*IDN": query(lambda: "Thorlabs,DC2200,M00123456,1.2.3"),
            "OUTPut[1][:STATe]": self._output,
            "OUTPut[1]:TERMinal": self._select_terminal,
            "SOURce[1]:MODE": self._select_mode,
            "SOURce[1]:CCURENT:CURRent": self._setting("current_a", self._clamped_current),
            "SOURce[1]:CBRIGHTNESS:BRIGHTNESS": self._setting("brightness_percent", _within(0.0, 100.0)),
            "SOURce[1]:PWM:FREQ": self._setting("pwm_hz", _within(0.1, 20e3)),
            "SOURce[1]:CURRent:LIMit": query(lambda: f"{self.options.limit_a:.6E}"),
            "SOURce[1]:CURRent:LIMit:TRIPped": query(lambda: f"{self._limit_tripped:d}"),
            "OUTPut[1]:PROTection:INTLock:TRIPped": query(lambda: f"{self._is_open(self._looked_s):d}"),
            "OUTPut[1]:PROTection:TEMPerature:DRIVer:TRIPped": query(lambda: f"{self.hot['DRIVER']:d}"),
            "OUTPut[1]:PROTection:TEMPerature:HEAD:TRIPped": query(lambda: f"{self.hot['HEAD']:d}"),
            "SENSe3:CURRent:DATA": query(self._measured),
        }

    def _output(self, t: float, unit: Unit) -> str | None:
        if unit.query:
            return f"{self._on:d}"
        wanted = switch(unit)
        if wanted and not self._head_is_there():
            raise ScpiError(-241)
        if not self.stuck:
            self._switch(t, wanted and not self._is_open(t) and not any(self.hot.values()))
        return None

    def _select_terminal(self, t: float, unit: Unit) -> str | None:
        if unit.query:
            return f"{self._terminal}"
        if (wanted := number(unit)) not in (1, 2):
            raise ScpiError(-222)
        self._terminal = int(wanted)
        self._switch(t, False)
        return None

    def _select_mode(self, t: float, unit: Unit) -> str | None:
        source = self._sources[self._terminal]
        if unit.query:
            return source.mode
        word = {"1": "CC", "2": "CB"}.get(unit.argument, unit.argument.upper())
        if word not in _MODES:
            raise ScpiError(-104)
        source.mode = word
        self._switch(t, self._on and not self.options.mode_switches_off)
        return None

    def _setting(self, name: str, accepted: Callable[[float], float]) -> Action:
        def action(t: float, unit: Unit) -> str | None:
            source = self._sources[self._terminal]
            if unit.query:
                return f"{getattr(source, name):.6E}"
            setattr(source, name, accepted(number(unit)))
            self._switch(t, self._on)
            return None

        return action

    def _clamped_current(self, wanted_a: float) -> float:
        if not (math.isfinite(wanted_a) and wanted_a >= 0):
            raise ScpiError(-222)
        self._limit_tripped = wanted_a > self.options.limit_a
        return min(wanted_a, self.options.limit_a)

    def _measured(self) -> str:
        noise = float(self._noise.generator(self._noise_source).standard_normal())
        return f"{self._share() * self.options.limit_a * (1 + _CURRENT_NOISE * noise):.6E}"


def _within(lowest: float, highest: float) -> Callable[[float], float]:
    def accepted(wanted: float) -> float:
        if not lowest <= wanted <= highest:
            raise ScpiError(-222)
        return wanted

    return accepted
