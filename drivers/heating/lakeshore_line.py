"""Messages to and from a Lake Shore temperature controller: one line each way, every line checked.

Commands and queries of a line are joined by ``;``, and so are the answers. ``*ESR?`` at the end tells whether all was
understood and carried out. At least 50 ms are left after each message.
"""

from __future__ import annotations

import logging
import math
import re
from collections import deque

from labctl.clock import Clock
from labctl.errors import Exchange, InstrumentError, InstrumentTimeout
from labctl.transport.adapter import WireAdapter

log = logging.getLogger(__name__)

IDENTITY = re.compile(r"LSCI,MODEL(\d{3}\w?),([^,;]+),([^,;]+)")
EVENT_ERRORS = {4: "query error", 16: "execution error", 32: "command error"}
SWITCHED_ON = 128
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d*)?(?:[Ee][+-]?\d+)?")
_WHOLE = re.compile(r"[+-]?\d+")
_QUIET_S = 0.3
_ASK_WHO = "*IDN?;*ESR?"


class LakeShoreLine:
    """The line to one controller.

    :param adapter: The wire.
    :param name: Name for messages.
    :param clock: The clock on which it waits.
    :param spacing_s: Time left after each message, s.
    """

    def __init__(self, adapter: WireAdapter, name: str, clock: Clock, spacing_s: float) -> None:
        self.in_step = False
        self.recent: deque[Exchange] = deque(maxlen=8)
        self._adapter = adapter
        self._name = name
        self._clock = clock
        self._spacing_s = spacing_s
        self._next_message_s = -math.inf
        self._missed_events = 0

    def begin(self) -> None:
        """Get in step with the controller, and forget what happened to it before."""
        with self._adapter.exclusive():
            self._get_in_step()
            self._missed_events = 0

    def query(self, *units: str) -> list[str]:
        """Send commands and queries in one line; get the answers.

        Raises InstrumentError if a command was not understood or not carried out, or if the controller was switched off
        and on since it was last asked.
        """
        with self._adapter.exclusive():
            *answers, events = self.exchange(*units, "*ESR?")
            self._check_events(self.whole(events) | self._missed_events, "; ".join(units))
            return answers

    def exchange(self, *units: str) -> list[str]:
        """Send one line; get one answer for each query in it, whatever the event register says."""
        with self._adapter.exclusive():
            if not self.in_step:
                self._get_in_step()
            self.in_step = False
            answers = self._transact(";".join(units)).split(";")
            if len(answers) != sum("?" in unit for unit in units):
                raise self.error(f"{len(answers)} answers came to {'; '.join(units)!r}")
            self.in_step = True
            return answers

    def fields(self, answer: str, count: int) -> list[str]:
        """Get the fields of an answer; raises InstrumentError if they are not ``count``."""
        fields = answer.split(",")
        if len(fields) != count:
            raise self.error(f"{answer!r} has {len(fields)} fields instead of {count}")
        return fields

    def number(self, text: str) -> float:
        """Get a number; raises InstrumentError if it is none."""
        if not _NUMBER.fullmatch(text.strip()):
            raise self.error(f"{text!r} is no number")
        return float(text)

    def whole(self, text: str) -> int:
        """Get a whole number; raises InstrumentError if it is none."""
        if not _WHOLE.fullmatch(text.strip()):
            raise self.error(f"{text!r} is no whole number")
        return int(text)

    def error(self, what: str, state: str = "", todo: str = "") -> InstrumentError:
        """Get an error that shows the last exchange."""
        return InstrumentError(what, exchange=self._adapter.last, where=self._name, state=state, todo=todo)

    def _check_events(self, events: int, line: str) -> None:
        self._missed_events = 0
        if events & SWITCHED_ON:
            raise self.error(
                "the controller was switched off and on since it was last asked",
                "its heater is off, unless it is set to come on by itself",
                "set the temperature again and switch on, or resume the run",
            )
        if wrong := [text for bit, text in EVENT_ERRORS.items() if events & bit]:
            raise self.error(f"{line!r} was refused: {', '.join(wrong)}")

    def _get_in_step(self) -> None:
        """Empty both lines: the controller may hold half a command, we may be owed a reply to an earlier one.

        ``*IDN?`` makes nonsense of any half command; a bare LF would complete one that switches a heater on. Errors
        that this brings up are of no concern, but that the controller was switched off and on is.
        """
        with self._adapter.patience(_QUIET_S):
            self._adapter.read_bytes(-1)
        last: InstrumentError | None = None
        for _ in range(2):
            try:
                answer = self._transact(_ASK_WHO)
                if not IDENTITY.match(answer):
                    last = self.error(f"{answer!r} is not the identity of a Lake Shore controller")
                    answer = self._adapter.read()
            except InstrumentTimeout as error:
                log.debug("%s: no answer while getting in step: %s", self._name, error)
                last = last or error
                continue
            identity, _, events = answer.rpartition(";")
            if IDENTITY.fullmatch(identity) and _WHOLE.fullmatch(events):
                self._missed_events |= int(events) & SWITCHED_ON
                self.in_step = True
                return
            last = self.error(f"{answer!r} is not the identity of a Lake Shore controller")
        where, todo = "serial: 57600 baud, 7 data bits, odd parity; TCP: port 7777", "check power, cable and `resource`"
        if isinstance(last, InstrumentTimeout):
            raise InstrumentTimeout(
                "the controller does not answer",
                exchange=self._adapter.last,
                where=self._name,
                todo=f"{todo} ({where})",
            )
        raise self.error(last.what if last else "", todo=f"{todo} ({where})")

    def _transact(self, line: str) -> str:
        self._clock.sleep(self._next_message_s - self._clock.now())
        self._adapter.flush_read_buffer()
        self._adapter.write(line)
        try:
            return self._adapter.read()
        finally:
            self._next_message_s = self._clock.now() + self._spacing_s
            self.recent.append(self._adapter.last)
