"""Thorlabs FW102C and FW212C motorised filter wheels, with six and twelve positions.

A command ends with CR and is echoed; a query is answered by its value and a CR; the prompt ``> `` ends each answer.
What is wrong is answered by ``Command error`` and a word, e.g. ``CMD_NOT_DEFINED``, before the prompt. The list of
commands, their arguments, the speed of the line and the error for an empty command are those of the manual (FW102C,
rev. H of 2014, chapter 5.2).

UNVERIFIED, from programs of others or by prudence: the bytes around an error (LF CR); that the prompt after ``pos=n``
comes when the wheel stands (so the time of the longest move is waited out where it comes sooner); how long moves take;
NUL bytes and an error before the first answer after power-on; firmware that does not know ``*idn?``; what the wheel
answers while it turns. A press of its button or a pulse on its trigger input turns the wheel without a word: whoever
needs to know asks :attr:`FW102C.position`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict
from pymeasure.instruments import Instrument

from labctl.clock import Clock
from labctl.errors import InputError, InstrumentError, InstrumentTimeout, LabctlError
from labctl.roles import Identity, SafeStep
from labctl.transport.adapter import WireAdapter
from labctl.transport.settings import WireSettings

log = logging.getLogger(__name__)

PROMPT = b"> "
STEP_S = {"fast": 1.0, "slow": 2.0}
"""Time allowed for a move by one position; generous."""
_MOVE_MARGIN_S = 3.0
_AT_ONCE_S = 0.2
"""A prompt that comes sooner cannot have waited for the wheel: then the time of the longest move is waited out."""
_SAFE_REPLY_S = 0.25
_TYPES = ("6", "12")
_SPEEDS = {"0": "slow", "1": "fast"}
_IDENTITY = re.compile(r"THORLABS (FW102C(?:/FW212C)?|FW212C)\b.*?(?:version (\S+))?\s*", re.IGNORECASE)
_UNKNOWN = "CMD_NOT_DEFINED"


class FW102C(Instrument):
    """Filter wheel FW102C (6 positions) or FW212C (12 positions).

    :param adapter: The wire.
    :param name: Name for messages.
    :param clock: The clock on which it waits.
    :param positions: Type of the wheel, 6 or 12, to be compared with what the device says; None to take its word.
    :param speed: ``slow`` or ``fast``; None to leave it as it is.
    """

    LINK = WireSettings(write_termination=b"\r", read_termination=PROMPT, timeout_s=1.0, baud_rate=115200)
    ROLE = "filter"

    adapter: WireAdapter

    class Options(BaseModel):
        """The table ``[instruments.filter.options]``; meaning as in :class:`FW102C`."""

        model_config = ConfigDict(frozen=True, extra="forbid")

        positions: Literal[6, 12] | None = None
        speed: Literal["slow", "fast"] | None = None

    def __init__(
        self,
        adapter: WireAdapter,
        name: str = "Thorlabs FW102C",
        *,
        clock: Clock,
        positions: Literal[6, 12] | None = None,
        speed: Literal["slow", "fast"] | None = None,
    ) -> None:
        super().__init__(adapter, name, includeSCPI=False)
        self.clock = clock
        self._expected_positions = positions
        self._wanted_speed = speed
        self._speed = "slow"
        self._positions = 0
        self._in_step = False

    def start_up(self) -> None:
        """Get in step, read the type of the wheel, and have its sensors dark while it stands; it does not turn.

        The sensors shine into the beam path unless they are switched off at rest.
        """
        with self.adapter.exclusive():
            self._positions = self._read_type()
            self._set_and_check("sensors", "0")
            if self._wanted_speed is not None:
                self._set_and_check("speed", "1" if self._wanted_speed == "fast" else "0")
            self._speed = _SPEEDS.get(self._query("speed?"), "slow")
            self._read_position()

    def identify(self) -> Identity:
        """Get vendor, model and firmware; the wheel tells no serial number, and old firmware nothing."""
        with self.adapter.exclusive():
            lines = self._exchange("*idn?")
            if lines == [f"Command error {_UNKNOWN}"]:
                return Identity("Thorlabs", "FW102C/FW212C")
            found = _IDENTITY.fullmatch(lines[0]) if len(lines) == 1 else None
            if not found:
                raise self._error(
                    f"{lines!r} is not the identity of a filter wheel FW102C or FW212C",
                    todo="check `resource` of the filter in the bench file",
                )
            return Identity("Thorlabs", found[1], firmware=found[2] or "")

    @property
    def positions(self) -> int:
        """Get the number of positions, 6 or 12, as the device said at its start."""
        if not self._positions:
            with self.adapter.exclusive():
                self._positions = self._read_type()
        return self._positions

    @property
    def position(self) -> int:
        """Measure which position is in the beam, from 1; raises InstrumentError if the wheel does not say so."""
        return self._read_position()

    def select(self, position: int) -> int:
        """Turn to a position and wait until the wheel stands; returns the position read back.

        Raises InputError for a position that the wheel does not have, InstrumentError if it stands at another one. A
        wheel that is there already is not moved.
        """
        if not 1 <= position <= self.positions:
            raise InputError(
                f"the filter wheel has no position {position}",
                where=self.name,
                todo=f"choose a position from 1 to {self.positions}",
            )
        with self.adapter.exclusive():
            before = self._read_position()
            if before == position:
                return before
            move_s = STEP_S[self._speed] * self._steps(before, position)
            started_s = self.clock.now()
            with self.adapter.patience(move_s + _MOVE_MARGIN_S):
                self._set(f"pos={position}")
            if self.clock.now() - started_s < _AT_ONCE_S:
                self.clock.sleep(move_s)
            reached = self._read_position()
            if reached != position:
                raise self._error(
                    f"the filter wheel stands at {reached} instead of {position}",
                    f"filter {reached} is in the beam",
                    "see whether the wheel turns freely and nothing presses its button",
                )
            return reached

    def make_safe(self) -> Sequence[SafeStep]:
        """Report where the wheel stands: it endangers nothing by itself, and a move ends by itself."""
        action = "leave the filter as it is"
        try:
            with self.adapter.seize(), self.adapter.patience(_SAFE_REPLY_S):
                self._in_step = False
                return [SafeStep(action, True, f"position {self._read_position()}: {self.adapter.last}")]
        except (LabctlError, OSError) as error:
            return [SafeStep(action, False, str(error))]

    def close(self) -> None:
        """Release the connection; the wheel stays where it is."""
        self.adapter.close()

    def _steps(self, start: int, end: int) -> int:
        """Get the longest way between two positions: nobody says in which direction the wheel turns."""
        apart = abs(end - start)
        return max(apart, self.positions - apart)

    def _read_type(self) -> int:
        answer = self._query("pcount?")
        if answer not in _TYPES:
            raise self._error(f"{answer!r} is no type of wheel; 6 or 12 was expected")
        if self._expected_positions not in (None, int(answer)):
            raise self._error(
                f"the controller is set for a wheel of {answer} positions instead of {self._expected_positions}",
                "the wheel was not moved",
                f"send pcount={self._expected_positions} and save from a terminal, or correct `positions`",
            )
        return int(answer)

    def _read_position(self) -> int:
        answer = self._query("pos?")
        if not answer.isdecimal() or not 1 <= int(answer) <= self.positions:
            raise self._error(f"{answer!r} is no position of a wheel of {self.positions}")
        return int(answer)

    def _set_and_check(self, word: str, value: str) -> None:
        self._set(f"{word}={value}")
        if (answer := self._query(f"{word}?")) != value:
            raise self._error(f"{word} is {answer} instead of {value}")

    def _query(self, command: str) -> str:
        """Ask; get the value between echo and prompt."""
        lines = self._exchange(command)
        if len(lines) != 1 or lines[0].startswith("Command error"):
            raise self._error(f"{command!r} was answered by {lines} instead of a value")
        return lines[0]

    def _set(self, command: str) -> None:
        """Tell; anything between echo and prompt is an error message."""
        lines = self._exchange(command)
        if lines:
            raise self._error(f"{command!r} was refused: {' '.join(lines)}")

    def _exchange(self, command: str) -> list[str]:
        """Send a command and get the lines between its echo and the prompt."""
        with self.adapter.exclusive():
            if not self._in_step:
                self._get_in_step()
            self._in_step = False
            lines = self._transact(command)
            if lines is None:
                raise self._error(f"the wheel did not echo {command!r}", todo="check the cable; try again")
            self._in_step = True
            return lines

    def _get_in_step(self) -> None:
        """Empty both lines: the wheel may hold half a command, we may be owed the answer to an earlier one.

        ``pcount?`` makes nonsense of any half command; a bare CR would complete it, and turn the wheel.
        """
        for _ in range(3):
            try:
                if self._transact("pcount?") or self._next_reply("pcount?"):
                    return
            except InstrumentTimeout as error:
                log.debug("%s: no answer while getting in step: %s", self.name, error)
        raise InstrumentTimeout(
            "the filter wheel does not answer",
            exchange=self.adapter.last,
            where=self.name,
            todo="check power, cable and speed (115200 baud unless `baud` was set to 0)",
        )

    def _transact(self, command: str) -> list[str] | None:
        self.adapter.flush_read_buffer()
        self.adapter.write(command)
        return self._next_reply(command)

    def _next_reply(self, command: str) -> list[str] | None:
        """Read up to the prompt; get the lines between, or None if they do not follow the echo of ``command``."""
        echo, *lines = self.adapter.read().split("\r")
        if echo.lstrip("\0") != command or not lines or lines.pop():
            return None
        return [line.strip("\n") for line in lines]

    def _error(self, what: str, state: str = "", todo: str = "") -> InstrumentError:
        return InstrumentError(what, exchange=self.adapter.last, where=self.name, state=state, todo=todo)
