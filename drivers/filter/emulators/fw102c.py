"""Emulator of the Thorlabs FW102C and FW212C filter wheels.

It echoes each command with its CR, sends the value with a CR for queries, then the prompt ``> ``. After ``pos=n`` the
prompt comes when the wheel stands; while it turns, no light passes.

UNVERIFIED: that commands wait while the wheel turns; that it takes the shorter way; the words and the LF CR around an
error; the time of a move. Facts of the manual and of other programs as in the driver.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from labctl.sim.emulator import Reply
from labctl.sim.laboratory import Laboratory

PROMPT = b"> "
NOT_DEFINED = b"Command error CMD_NOT_DEFINED\n"
ARGUMENT_INVALID = b"Command error CMD_ARG_INVALID\n"
_COMMAND = re.compile(r"(\*?[a-z]+)(?:(\?)|=(-?\d{1,6}))?")
_SWITCHES = ("trig", "speed", "sensors", "baud")
_FACTORY = {"trig": 0, "speed": 1, "sensors": 1, "baud": 1}
_AWKWARD_NOISE = b"\0\0"


class FW102COptions(BaseModel):
    """How the simulated wheel starts and how fast it is.

    :param positions: Type of the wheel. :param position: Where it stands; as in the laboratory's table when left out.
    :param version: Firmware that it names; empty for one that does not know ``*idn?``.
    :param reply_s: Time from the CR of a command to its reply, s.
    :param step_fast_s: Time of a move by one position, s. :param step_slow_s: The same at slow speed, s.
    :param prompt_first: The prompt comes before the wheel turns instead of after.
    :param stuck: The wheel does not turn.
    :param awkward: NUL bytes on the line, half a command in the input.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    positions: Literal[6, 12] | None = None
    position: Annotated[int, Field(ge=1, le=12)] | None = None
    speed: Literal["slow", "fast"] | None = None
    version: str = "1.07"
    reply_s: Annotated[float, Field(ge=0)] = 0.003
    step_fast_s: Annotated[float, Field(ge=0)] = 0.7
    step_slow_s: Annotated[float, Field(ge=0)] = 1.4
    prompt_first: bool = False
    stuck: bool = False
    awkward: bool = False


class FW102CEmulator:
    """The controller with its wheel.

    Faults: set :attr:`stuck`; call :meth:`turn_by_hand`, :meth:`power_cycle`.

    :param laboratory: Where the filters act on the light.
    :param role: Role on the bench.
    :param options: See :class:`FW102COptions`.
    """

    def __init__(self, laboratory: Laboratory, role: str, options: Mapping[str, object]) -> None:
        self.options = FW102COptions.model_validate(dict(options))
        self.stuck = self.options.stuck
        self._filters = laboratory.filters
        self.positions: int = self.options.positions or 6
        self.position = self.options.position or min(laboratory.truth.filter.initial_position, self.positions)
        self._settings = dict(_FACTORY)
        self._saved = {**_FACTORY, "pcount": self.positions}
        self._stands_s = 0.0
        self._input = b"pos=1" if self.options.awkward else b""
        self._noise = _AWKWARD_NOISE if self.options.awkward else b""
        self._filters.set(0.0, self.position)

    def respond(self, t: float, data: bytes) -> Sequence[Reply]:
        replies = [(t, self._noise)] if self._noise else []
        self._noise = b""
        *commands, self._input = (self._input + data).split(b"\r")
        for command in commands:
            starts_s = t if self.options.prompt_first else max(t, self._stands_s)
            answer = self._answer(starts_s, command)
            lines = [command] if answer is None else [command, answer]
            ends_s = starts_s if self.options.prompt_first else max(starts_s, self._stands_s)
            replies.append((ends_s + self.options.reply_s, b"".join(line + b"\r" for line in lines) + PROMPT))
        return replies

    def next_event(self) -> float | None:
        return 0.0 if self._noise else None

    def turn_by_hand(self, t: float, position: int) -> None:
        """Turn the wheel by its button at ``t``, s: it says nothing."""
        self._turn(t, position)

    def power_cycle(self, t: float) -> None:
        """Switch off and on at ``t``: saved settings, nothing in the input, NULs on the line; the wheel finds 1."""
        self._settings = {word: self._saved[word] for word in _SWITCHES}
        self.positions = self._saved["pcount"]
        self._input, self._noise = b"", _AWKWARD_NOISE
        self._turn(t, 1)

    def _answer(self, t: float, raw: bytes) -> bytes | None:
        """Carry out a command; get what stands between its echo and the prompt."""
        found = _COMMAND.fullmatch(raw.decode("latin-1"))
        if not found:
            return NOT_DEFINED
        word, query, argument = found.groups()
        if query:
            return self._value(t, word)
        if argument is not None:
            return self._set(t, word, int(argument))
        if word == "save":
            self._saved = {**self._settings, "pcount": self.positions}
            return None
        return NOT_DEFINED

    def _value(self, t: float, word: str) -> bytes:
        match word:
            case "*idn" if self.options.version:
                return f"THORLABS FW102C/FW212C Filter Wheel version {self.options.version}".encode()
            case "pos":
                return b"%d" % self.position
            case "pcount":
                return b"%d" % self.positions
            case _ if word in _SWITCHES:
                return b"%d" % self._settings[word]
        return NOT_DEFINED

    def _set(self, t: float, word: str, value: int) -> bytes | None:
        if word == "pos":
            if not 1 <= value <= self.positions:
                return ARGUMENT_INVALID
            self._turn(t, value)
            return None
        if word == "pcount":
            if value not in (6, 12):
                return ARGUMENT_INVALID
            self.positions = value
            return None
        if word not in _SWITCHES:
            return NOT_DEFINED
        if value not in (0, 1):
            return ARGUMENT_INVALID
        self._settings[word] = value
        return None

    def _turn(self, t: float, position: int) -> None:
        if self.stuck or position == self.position:
            return
        apart = abs(position - self.position)
        step_s = self.options.step_fast_s if self._settings["speed"] else self.options.step_slow_s
        self._stands_s = t + step_s * min(apart, self.positions - apart)
        self.position = position
        self._filters.move(t, self._stands_s, position)
