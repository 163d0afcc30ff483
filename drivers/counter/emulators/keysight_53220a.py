"""Emulator of a Keysight 53220A that totalises the laser's triggers behind the shutter of the simulated laboratory.

It speaks SCPI lines ended by LF. Configuring stops a measurement and makes the counter choose its own input level, as
public drivers report. The event register keeps power-on until ``*CLS``.

Constructed, because no source was at hand: the serial number; that ``SENS:TOT:DATA?`` has the form of a reading and,
with nothing being measured, tells the last total, or 9.91E37 and -230 if there is none; that a level which the counter
has chosen is half a trigger; the other bits of the registers (0).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from drivers.scpi.emulators.interface import Action, ScpiError, ScpiInterface, command, number, query
from drivers.scpi.emulators.messages import Unit
from labctl.sim.emulator import Reply

_INFINITE = 9.9e37
_NOT_A_NUMBER = 9.91e37
_POWER_ON = 1 << 7
_MEASURING = 1 << 4
_TRIGGER_V = 3.0
_TIMED = re.compile(r"(?:([^,()]*?)\s*,?\s*)?(?:\(@([12])\))?")
_LONGEST_GATE_S = 1000.0


class CounterOptions(BaseModel):
    """How the simulated counter is wired; options of the driver are not looked at, except for the channel.

    :param channel: Input that gets the triggers, 0 to 3 V.
    :param first_count: Count at which it begins instead of 0: to try large counts.
    :param reply_s: Time to answer, s.
    :param awkward: Left counting the other channel, with an error queued.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    channel: Annotated[int, Field(ge=1, le=2)] = 1
    first_count: Annotated[int, Field(ge=0)] = 0
    reply_s: Annotated[float, Field(ge=0)] = 2e-3
    awkward: bool = False


class Keysight53220AEmulator:
    """The counter on its wire.

    Faults: set :attr:`stuck` (it counts no more, and does not know); call :meth:`press_preset`, :meth:`power_cycle`,
    :meth:`refuse`.

    :param laboratory: Where pulses pass.
    :param role: Role on the bench.
    :param options: See :class:`CounterOptions`.
    """

    def __init__(self, laboratory: Any, role: str, options: Mapping[str, object]) -> None:
        self.options = CounterOptions.model_validate(dict(options))
        self._passed = laboratory.pulses_passed
        self.stuck = False
        self._interface = ScpiInterface(self._commands(), self.options.reply_s, number="+d")
        self.power_cycle(0.0)
        if self.options.awkward:
            self._channel, self._gate_s = 3 - self.options.channel, _INFINITE
            self._start(0.0)
            self._interface.queue(-113)

    def respond(self, t: float, data: bytes) -> Sequence[Reply]:
        return self._interface.respond(t, data)

    def next_event(self) -> float | None:
        return None

    def power_cycle(self, t: float) -> None:
        """Switch off and on at ``t``: settings and count are lost."""
        self._interface.power_up()
        self._events = _POWER_ON
        self._preset()

    def refuse(self, t: float, data: bytes) -> Sequence[Reply]:
        """Queue an error for each line and answer none."""
        return self._interface.refuse(t, data)

    def press_preset(self, t: float) -> None:
        """Press the Preset key at ``t``: the counter measures something else, or nothing."""
        self._preset()

    def restart_behind_our_back(self, t: float) -> None:
        """Begin to count anew at ``t``, as from the front panel."""
        self._start(t)

    def _preset(self) -> None:
        self._channel = 1
        self._gate_s = 0.1
        self._totalises = False
        self._inputs = {1: _unset(), 2: _unset()}
        self._started_s: float | None = None
        self._total: int | None = None

    def _commands(self) -> dict[str, Action]:
        inputs: dict[str, Action] = {}
        for channel in (1, 2):
            head = "INPut[1]" if channel == 1 else "INPut2"
            inputs[f"{head}:COUPling"] = self._word(channel, "coupling", ("AC", "DC"))
            inputs[f"{head}:SLOPe"] = self._word(channel, "slope", ("POS", "NEG"))
            inputs[f"{head}:IMPedance"] = self._value(channel, "impedance", (50.0, 1e6))
            inputs[f"{head}:LEVel"] = self._value(channel, "level", None)
        return {
            "*IDN": query(lambda: "Agilent Technologies,53220A,MY50001234,02.05-1519.666-1.19-4.15-127-155-35"),
            "*ESR": query(lambda: f"+{self._events}"),
            "*CLS": command(self._clear),
            "CONFigure:TOTalize:TIMed": self._configure,
            "[SENSe:]TOTalize:GATE:TIME": query(lambda: _reading(self._gate_s)),
            "[SENSe:]TOTalize:DATA": self._data,
            "STATus:OPERation:CONDition": self._condition,
            "INITiate[:IMMediate]": self._initiate,
            "ABORt": self._abort,
            **inputs,
        }

    def _clear(self) -> None:
        self._events = 0
        self._interface.clear()

    def _configure(self, t: float, unit: Unit) -> str | None:
        found = _TIMED.fullmatch(unit.argument)
        if unit.query or not found:
            raise ScpiError(-108)
        gate = (found[1] or "DEF").upper()
        self._abort(t, unit)
        self._total = None
        if gate in ("INF", "INFINITY"):
            self._gate_s = _INFINITE
        elif gate in ("DEF", "DEFAULT"):
            self._gate_s = 0.1
        elif not 0 < (wanted := _float(gate)) <= _LONGEST_GATE_S and wanted < _INFINITE:
            raise ScpiError(-222)
        else:
            self._gate_s = wanted
        self._channel = int(found[2] or 1)
        self._inputs[self._channel]["level"] = _TRIGGER_V / 2
        self._totalises = True
        return None

    def _initiate(self, t: float, unit: Unit) -> str | None:
        if unit.query:
            raise ScpiError(-113)
        if self._runs(t):
            raise ScpiError(-213)
        self._start(t)
        return None

    def _start(self, t: float) -> None:
        self._started_s, self._total = t, None
        self._newest = self.options.first_count
        self._first = self._passed(t) - self._newest

    def _abort(self, t: float, unit: Unit) -> str | None:
        if self._started_s is not None:
            self._total = self._counted(t)
            self._started_s = None
        return None

    def _runs(self, t: float) -> bool:
        return self._started_s is not None and t < self._started_s + self._gate_s

    def _condition(self, t: float, unit: Unit) -> str | None:
        return f"+{_MEASURING if self._runs(t) else 0}"

    def _data(self, t: float, unit: Unit) -> str | None:
        total = self._counted(t) if self._started_s is not None else self._total
        if total is None or not self._totalises:
            self._interface.queue(-230)
            return _reading(_NOT_A_NUMBER)
        return _reading(total)

    def _counted(self, t: float) -> int:
        level_v = self._inputs[self._channel]["level"]
        if self._channel != self.options.channel or not 0 < float(level_v) < _TRIGGER_V:
            return 0
        if not self.stuck:
            self._newest = self._passed(min(t, (self._started_s or 0.0) + self._gate_s)) - self._first
        return self._newest

    def _word(self, channel: int, name: str, words: Sequence[str]) -> Action:
        def action(t: float, unit: Unit) -> str | None:
            if unit.query:
                return str(self._inputs[channel][name])
            if unit.argument.upper() not in words:
                raise ScpiError(-104)
            self._inputs[channel][name] = unit.argument.upper()
            return None

        return action

    def _value(self, channel: int, name: str, allowed: Sequence[float] | None) -> Action:
        def action(t: float, unit: Unit) -> str | None:
            if unit.query:
                return _reading(float(self._inputs[channel][name]))
            wanted = number(unit)
            if not math.isfinite(wanted) or (allowed is not None and wanted not in allowed):
                raise ScpiError(-222)
            self._inputs[channel][name] = wanted
            return None

        return action


def _unset() -> dict[str, Any]:
    return {"coupling": "AC", "slope": "POS", "impedance": 1e6, "level": _TRIGGER_V / 2}


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ScpiError(-104) from None


def _reading(value: float) -> str:
    """Write a number as the counter does: 16 significant digits, three of the exponent, 23 bytes."""
    # A float such as 9.9E37 is not exactly that; Decimal writes zero with another exponent.
    mantissa, exponent = f"{Decimal(str(value)) if value else 0:+.15E}".split("E")
    return f"{mantissa}E{int(exponent):+04d}"
