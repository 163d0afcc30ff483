"""Emulator of the Thorlabs SC10 shutter controller.

It echoes each command with its CR, sends the value with a CR for queries, then the prompt ``> ``. It takes part in
the light only in manual mode: the other modes are accepted and read back, but do not move the blade.

Not verified on hardware: the exact words of error messages, that they stand between echo and prompt, that the echo
comes with the CR and not byte by byte, and that a tripped interlock resets the enable.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from labctl.sim.emulator import LineBuffer, Reply
from labctl.sim.laboratory import Laboratory

PROMPT = b"> "
NOT_DEFINED = b"CMD_NOT_DEFINED"
ARGUMENT_INVALID = b"CMD_ARG_INVALID"
HELP = b"\r".join(
    b"ID? ENS ENS? CLOSED? INTERLOCK? MODE=n MODE? OPEN=n OPEN? SHUT=n SHUT? REP=n REP? TRIG=n TRIG? XTO=n XTO? BAUD=n "
    b"BAUD? SAVE SAVP RESP".split()
)
_MANUAL = 1
_FACTORY = {"mode": _MANUAL, "open": 20, "shut": 20, "rep": 1, "trig": 0, "xto": 0, "baud": 0}
_ALLOWED = {
    "mode": range(1, 6),
    "open": range(0, 1_000_000),
    "shut": range(0, 1_000_000),
    "rep": range(1, 100),
    "trig": range(0, 2),
    "xto": range(0, 2),
    "baud": range(0, 2),
}
_COMMAND = re.compile(r"([a-z]+)(?:(\?)|=(\d{1,6}))?")
_AWKWARD_NOISE = b"\x00\xfe> clo"


class SC10Options(BaseModel):
    """How the simulated controller starts and how fast it is.

    :param version: Firmware that it names.
    :param reply_s: Time from the CR of a command to its reply, s.
    :param open_s: Time from the toggle to light, s; as in the laboratory's table when left out.
    :param close_s: Time from the toggle to darkness, s; likewise.
    :param mode: Mode after switch-on.
    :param enabled: Left enabled, so open, by whoever used it before; as in the laboratory's table when left out.
    :param stuck: The blade does not move.
    :param interlock: The interlock is tripped.
    :param awkward: Left enabled, with noise on the line and half a command in the input.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str = "1.07"
    reply_s: Annotated[float, Field(ge=0)] = 0.003
    open_s: Annotated[float, Field(ge=0)] | None = None
    close_s: Annotated[float, Field(ge=0)] | None = None
    mode: Annotated[int, Field(ge=1, le=5)] = _MANUAL
    enabled: bool | None = None
    stuck: bool = False
    interlock: bool = False
    awkward: bool = False


class SC10Emulator:
    """The controller with its shutter.

    Faults: set :attr:`stuck`; call :meth:`trip_interlock`, :meth:`restore_interlock`, :meth:`power_cycle`,
    :meth:`refuse`.

    :param laboratory: Where the blade lets light pass or not.
    :param role: Role on the bench.
    :param options: See :class:`SC10Options`.
    """

    def __init__(self, laboratory: Laboratory, role: str, options: Mapping[str, object]) -> None:
        self.options = SC10Options.model_validate(dict(options))
        self.stuck = self.options.stuck
        self.interlock = self.options.interlock
        truth = laboratory.truth.shutter
        self._open_s = truth.open_s if self.options.open_s is None else self.options.open_s
        self._close_s = truth.close_s if self.options.close_s is None else self.options.close_s
        self._light = laboratory.shutter
        self._open_circuit = laboratory.open_interlock
        self._looked_s = -math.inf
        self._stored = {**_FACTORY, "mode": self.options.mode}
        self._settings = dict(self._stored)
        self._input = LineBuffer(b"\r\n")
        self._noise = b""
        found_open = truth.initially_open if self.options.enabled is None else self.options.enabled
        self.enabled = found_open or self.options.awkward
        self._blade_open = self.enabled
        self._blade_before = self._blade_open
        self._blade_arrives_s = 0.0
        self._light.set(0.0, self._blade_open)
        if self.options.awkward:
            self._noise = _AWKWARD_NOISE
            self._input.feed(b"ens")

    def respond(self, t: float, data: bytes) -> Sequence[Reply]:
        self._follow_circuit(t)
        replies = [(t, self._noise)] if self._noise else []
        self._noise = b""
        for command in self._input.feed(data):
            answer = self._answer(t, command)
            lines = [command] if answer is None else [command, answer]
            replies.append((t + self.options.reply_s, b"".join(line + b"\r" for line in lines) + PROMPT))
        return replies

    def next_event(self) -> float | None:
        return 0.0 if self._noise else None

    def trip_interlock(self, t: float) -> None:
        """Trip the interlock at ``t``: the shutter is disabled and closes."""
        self.interlock = True
        self._enable(t, False)

    def restore_interlock(self) -> None:
        """Close the interlock circuit again; the shutter stays disabled."""
        self.interlock = False

    def power_cycle(self, t: float) -> None:
        """Switch off and on at ``t``: closed, disabled, stored settings, nothing in the input."""
        self._enable(t, False)
        self._settings = dict(self._stored)
        self._input = LineBuffer(b"\r\n")

    def refuse(self, t: float, data: bytes) -> Sequence[Reply]:
        """Answer commands as if it did not know them."""
        lines = [command + b"\r" + NOT_DEFINED + b"\r" for command in self._input.feed(data)]
        return [(t + self.options.reply_s, line + PROMPT) for line in lines]

    def is_closed(self, t: float) -> bool:
        """Get whether the blade is closed at ``t``, s."""
        return not (self._blade_open if t >= self._blade_arrives_s else self._blade_before)

    def _is_tripped(self, t: float) -> bool:
        return self.interlock or self._open_circuit.is_on(t)

    def _follow_circuit(self, t: float) -> None:
        """Disable and close at the moment at which the circuit of the laboratory opened, if that was meanwhile."""
        opened_s = self._open_circuit.begins(t)
        if opened_s is not None and self._looked_s < opened_s <= t:
            self._enable(opened_s, False)
        self._looked_s = max(self._looked_s, t)

    def _answer(self, t: float, raw: bytes) -> bytes | None:
        """Carry out a command; get what stands between its echo and the prompt."""
        if raw == b"?":
            return HELP
        found = _COMMAND.fullmatch(raw.decode("latin-1"))
        if not found:
            return NOT_DEFINED
        word, query, argument = found.groups()
        if query:
            return self._value(t, word)
        if argument is not None:
            return self._set(word, int(argument))
        match word:
            case "ens":
                # With the interlock tripped the toggle has no effect.
                self._enable(t, not self.enabled and not self._is_tripped(t))
            case "save" | "savp":
                self._stored = dict(self._settings)
            case "resp":
                self._settings = dict(self._stored)
            case _:
                return NOT_DEFINED
        return None

    def _value(self, t: float, word: str) -> bytes:
        match word:
            case "id":
                return f"THORLABS SC10 VERSION {self.options.version}".encode()
            case "ens":
                return b"%d" % self.enabled
            case "closed":
                return b"%d" % self.is_closed(t)
            case "interlock":
                return b"%d" % self._is_tripped(t)
            case _ if word in self._settings:
                return b"%d" % self._settings[word]
        return NOT_DEFINED

    def _set(self, word: str, value: int) -> bytes | None:
        if word not in _ALLOWED:
            return NOT_DEFINED
        if value not in _ALLOWED[word]:
            return ARGUMENT_INVALID
        self._settings[word] = value
        return None

    def _enable(self, t: float, enabled: bool) -> None:
        self.enabled = enabled
        wants_open = enabled and self._settings["mode"] == _MANUAL
        if self.stuck or wants_open == self._blade_open:
            return
        self._blade_before = not self.is_closed(t)
        self._blade_open = wants_open
        self._blade_arrives_s = t + (self._open_s if wants_open else self._close_s)
        self._light.set(self._blade_arrives_s, wants_open)
        opens_s = self._open_circuit.begins(t)
        if wants_open and opens_s is not None and opens_s > t:
            # Nobody may ask the controller while the circuit opens, and the light must go out all the same.
            self._light.set(max(opens_s + self._close_s, self._blade_arrives_s), False)
