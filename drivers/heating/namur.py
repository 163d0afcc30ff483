"""NAMUR commands of heating and stirring instruments: lines of ASCII, one at a time, most of them without an answer.

What asks for something is answered by ``VALUE CHANNEL`` and a blank; what sets something is answered by nothing, but
for watchdog commands (``@``), which are echoed. An unknown or mutilated command is ignored. So the channel at the end,
the number of decimals and a read-back after each silent command are all that tells an answer from another one.

UNVERIFIED: whether the echo of a watchdog command carries a channel; it may.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

from labctl.clock import Clock
from labctl.errors import ConnectionLost, InstrumentError, InstrumentTimeout
from labctl.transport.adapter import WireAdapter

log = logging.getLogger(__name__)

NAME = "IN_NAME"
_QUIET_S = 0.25
_TRIES = 2
_VALUE = r"(-?[0-9]+(?:\.([0-9]+))?)"
_ECHO = re.compile(_VALUE + r"(?: [0-9]+)? ?")
_TEXT = re.compile(r"[ -~]*[A-Za-z][ -~]*")


class NamurLine:
    """Commands and answers, paced and kept in step.

    :param adapter: The wire.
    :param clock: The clock on which it waits.
    :param name: Name for messages.
    :param pause_s: Shortest time from one command to the next, s: some firmware drops what comes sooner.
    """

    def __init__(self, adapter: WireAdapter, clock: Clock, name: str, pause_s: float) -> None:
        self.adapter = adapter
        self.clock = clock
        self.name = name
        self.pause_s = pause_s
        self._free_s = float("-inf")
        self._in_step = False
        self._decimals: dict[str, int] = {}

    def tell(self, command: str) -> None:
        """Send a command that nothing answers; only a read-back can tell whether it was taken."""
        with self._turn():
            self._send(command)

    def number(self, command: str, tries: int = _TRIES) -> float:
        """Ask for a number, e.g. ``IN_PV_1``.

        An answer with another number of decimals than before is asked for again: a byte may have been lost. Raises
        InstrumentTimeout if nothing answers, InstrumentError for an answer that belongs to another command.
        """
        pattern = re.compile(f"{_VALUE} {command.rpartition('_')[2]} ?")
        for _ in range(tries):
            found = self._ask(command, pattern, tries)
            decimals = len(found[2] or "")
            if self._decimals.setdefault(command, decimals) == decimals:
                return float(found[1])
            del self._decimals[command]
        raise self.error(f"the answer to {command} has more or fewer decimals than before: a byte was lost")

    def is_running(self, channel: int, tries: int = _TRIES) -> bool:
        """Ask whether a function runs: ``11`` is on and ``12`` off; the manuals do not mention the command."""
        return self._ask(f"STATUS_{channel}", re.compile(f"(1[12]) {channel} ?"), tries)[1] == "11"

    def text(self, command: str) -> str:
        """Ask for a text, e.g. ``IN_NAME``."""
        return self._ask(command, _TEXT, _TRIES)[0].strip()

    def echoed(self, command: str, value: float, tries: int = _TRIES) -> float:
        """Send a watchdog command with its value; returns the value that is echoed."""
        return float(self._ask(f"{command}@{value:g}", _ECHO, tries)[1])

    def error(self, what: str, state: str = "", todo: str = "") -> InstrumentError:
        """Make an error that shows the last exchange."""
        return InstrumentError(what, exchange=self.adapter.last, where=self.name, state=state, todo=todo)

    def _ask(self, command: str, pattern: re.Pattern[str], tries: int) -> re.Match[str]:
        """Ask until an answer fits; every question may be asked again without harm."""
        for last in (*(False,) * (tries - 1), True):
            try:
                with self._turn():
                    if not self._in_step:
                        self._get_in_step()
                    return self._exchange(command, pattern)
            except ConnectionLost:
                raise
            except InstrumentError as error:
                if last:
                    raise
                log.warning("%s: asking %s again after: %s", self.name, command, error.what)
        raise AssertionError("a question is asked at least once")

    def _get_in_step(self) -> None:
        """Let late answers come and go, then ask for the name: no other answer looks like it.

        Half a command that the instrument may hold becomes nonsense by it, and is ignored.
        """
        with self.adapter.patience(_QUIET_S):
            self.adapter.read_bytes(-1)
        try:
            self._exchange(NAME, _TEXT)
        except InstrumentTimeout as error:
            error.todo = "check power, cable and line settings (9600 baud, 7 data bits, even parity, 1 stop bit)"
            raise

    def _exchange(self, command: str, pattern: re.Pattern[str]) -> re.Match[str]:
        self._in_step = False
        self.adapter.flush_read_buffer()
        self._send(command)
        answer = self.adapter.read()
        found = pattern.fullmatch(answer)
        if found is None:
            raise self.error(f"{answer!r} is no answer to {command}", todo="check cable and line settings (7E1)")
        self._in_step = True
        return found

    def _send(self, command: str) -> None:
        self.clock.sleep(self._free_s - self.clock.now())
        self._free_s = self.clock.now() + self.pause_s
        self.adapter.write(command)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Hold the line once its pause is over; the pause is waited out without holding it, for others to come first.

        The safe state breaks the link under whoever holds it for longer than a moment.
        """
        while True:
            with self.adapter.exclusive():
                wait_s = self._free_s - self.clock.now()
                if wait_s <= 0:
                    yield
                    return
            self.clock.sleep(wait_s)
