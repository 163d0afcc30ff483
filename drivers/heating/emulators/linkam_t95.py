"""Emulator of a Linkam T95 with its stage.

Commands end with CR. ``T`` is answered by ten bytes and a CR, every other known command by a lone CR. After switch-on
it heeds nothing but ``T``; once it has been asked that, it heeds all. Motorised stages are not emulated.

UNVERIFIED: that unknown commands and all before the first ``T`` are not answered; that a rate or limit out of range is
acknowledged and ignored; that rate and limit survive a power cycle; that the pump runs at 30 for 50 K/min, and that
faster cooling is done at that rate; within how much of the limit the controller says that it holds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from labctl.sim.emulator import Reply

CR = b"\r"
_STOPPED, _HEATING, _COOLING, _AT_LIMIT, _HELD = 0x01, 0x10, 0x20, 0x30, 0x50
_TOO_FAST, _LINK_ERROR = 0x01, 0x20
_RATES = range(1, 15001)
_LIMITS = range(-2000, 6001)
_REACHED_K = 0.5
_FASTEST_PUMP = 30
_FASTEST_COOLING_K_MIN = 50.0
_NUMBER = re.compile(r"(R|L)1(-?\d{1,5})")
_PUMP = re.compile(r"P(a0|m0|[0-N])")


class LinkamT95Options(BaseModel):
    """How the simulated controller starts and how fast it is; options of the driver are ignored.

    :param reply_s: Time from the CR of a command to its reply, s.
    :param noise_k: Scatter of a reading before it is rounded to 0.1 K, K.
    :param error_bits: Bits 1 to 3 of the error byte that are set: no stage, over-current, stays above 300 °C.
    :param running: Left on, on its way to ``limit_c``, by whoever used it before.
    :param limit_c: Limit from its last use, °C.
    :param leading_empty_line: An empty line comes before each status.
    :param awkward: Left running, with noise on the line and half a command in the input.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    reply_s: Annotated[float, Field(ge=0)] = 0.01
    noise_k: Annotated[float, Field(ge=0)] = 0.03
    error_bits: Annotated[int, Field(ge=0, le=0x0E)] = 0
    running: bool = False
    limit_c: Annotated[float, Field(ge=-200, le=600)] = 0.0
    leading_empty_line: bool = False
    awkward: bool = False


class LinkamT95Emulator:
    """The controller with its stage.

    Faults: set :attr:`error_bits`; call :meth:`power_cycle`, :meth:`refuse`.

    :param laboratory: Whose thermal body the stage heats and cools.
    :param role: Role on the bench.
    :param options: See :class:`LinkamT95Options`.
    """

    def __init__(self, laboratory: Any, role: str, options: Mapping[str, object]) -> None:
        self.options = LinkamT95Options.model_validate(dict(options))
        self.error_bits = self.options.error_bits
        self.state = _STOPPED
        self._thermal = laboratory.thermal
        self._noise = laboratory.noise
        self._source = f"{role} sensor"
        self._rate_k_min = 5.0
        self._limit_c = self.options.limit_c
        self._listens = False
        self._pump_by_hand = False
        self._pump_set = 0
        self._link_error = False
        self._input = b""
        self._stale = b""
        if self.options.awkward:
            self._listens = True
            self._stale = b"\x80\x8000f0\r"
            self._input = b"L12"
        if self.options.running or self.options.awkward:
            self._go(0.0)

    def respond(self, t: float, data: bytes) -> Sequence[Reply]:
        replies = [(t, self._stale)] if self._stale else []
        self._stale = b""
        for command in self._commands(data):
            answer = self._answer(t, command)
            if answer is not None:
                replies.append((t + self.options.reply_s, answer + CR))
        return replies

    def next_event(self) -> float | None:
        return 0.0 if self._stale else None

    def power_cycle(self, t: float) -> None:
        """Switch off and on at ``t``: stopped, deaf until the first ``T``; rate and limit are kept."""
        self._stop(t)
        self._listens = self._pump_by_hand = self._link_error = False
        self._input = b""

    def refuse(self, t: float, data: bytes) -> Sequence[Reply]:
        """Take commands as spoilt on the serial link: acknowledged, not carried out, told by the next status."""
        replies = []
        for command in self._commands(data):
            self._link_error = True
            answer = self._status(t) if command == "T" else b""
            replies.append((t + self.options.reply_s, answer + CR))
        return replies

    def _commands(self, data: bytes) -> list[str]:
        *commands, self._input = (self._input + data).split(CR)
        return [command.decode("latin-1") for command in commands if command]

    def _answer(self, t: float, command: str) -> bytes | None:
        """Carry out a command; get its reply without CR, or None if there is none."""
        if command == "T":
            self._listens = True
            return self._status(t)
        if not self._listens:
            return None
        if command == "D":
            return b"%04x0000" % self._tenths(t)
        if (number := _NUMBER.fullmatch(command)) is not None:
            self._set(t, number[1], int(number[2]))
        elif (pump := _PUMP.fullmatch(command)) is not None:
            self._set_pump(pump[1])
        else:
            return self._steer(t, command)
        return b""

    def _steer(self, t: float, command: str) -> bytes | None:
        self._follow(t)
        match command:
            case "S":
                if self.state != _HELD:
                    self._go(t)
            case "E":
                self._stop(t)
            case "O":
                if self.state != _STOPPED:
                    self.state = _HELD
                    self._thermal.set(t, self._thermal.temperature_c(t))
            case "H" | "C":
                if self.state == _HELD:
                    self._go(t)
            case "B":
                self._input = b""
            case _:
                return None
        return b""

    def _set(self, t: float, letter: str, value: int) -> None:
        self._follow(t)
        if letter == "R" and value in _RATES:
            self._rate_k_min = value / 100
        elif letter == "L" and value in _LIMITS:
            self._limit_c = value / 10
        if self.state not in (_STOPPED, _HELD):
            self._go(t)

    def _set_pump(self, what: str) -> None:
        if what in ("a0", "m0"):
            self._pump_by_hand = what == "m0"
        else:
            self._pump_set = ord(what) - ord("0")

    def _go(self, t: float) -> None:
        """Head for the limit from ``t`` on."""
        missing_k = self._limit_c - self._thermal.temperature_c(t)
        self.state = _AT_LIMIT if abs(missing_k) <= _REACHED_K else _HEATING if missing_k > 0 else _COOLING
        rate_k_min = self._rate_k_min
        if self.state == _COOLING:
            rate_k_min = min(rate_k_min, _FASTEST_COOLING_K_MIN)
        self._thermal.set(t, self._limit_c, rate_k_min)

    def _stop(self, t: float) -> None:
        self.state = _STOPPED
        self._thermal.set(t, None)

    def _follow(self, t: float) -> None:
        """See whether the limit was reached meanwhile."""
        missing_k = self._limit_c - self._thermal.temperature_c(t)
        if (self.state == _HEATING and missing_k <= _REACHED_K) or (
            self.state == _COOLING and missing_k >= -_REACHED_K
        ):
            self.state = _AT_LIMIT

    def _status(self, t: float) -> bytes:
        self._follow(t)
        speed, too_fast = self._pump()
        errors = self.error_bits | (_TOO_FAST if too_fast else 0) | (_LINK_ERROR if self._link_error else 0)
        self._link_error = False
        status = bytes([self.state, 0x80 | errors, 0x80 + speed, 0x80, 0x80, 0x80])
        empty = CR if self.options.leading_empty_line else b""
        return empty + status + b"%04x" % self._tenths(t)

    def _pump(self) -> tuple[int, bool]:
        """Get the speed of the pump, and whether more is demanded than it can do."""
        if self.state != _COOLING:
            return 0, False
        if self._pump_by_hand:
            return self._pump_set, False
        demand = _FASTEST_PUMP * self._rate_k_min / _FASTEST_COOLING_K_MIN
        return min(int(demand), _FASTEST_PUMP), demand > _FASTEST_PUMP

    def _tenths(self, t: float) -> int:
        scatter_k = self.options.noise_k * self._noise.generator(self._source).standard_normal()
        return round(10 * (self._thermal.temperature_c(t) + scatter_k)) & 0xFFFF
