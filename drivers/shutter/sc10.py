"""Thorlabs SC10 shutter controller with an SH05 or similar shutter.

The unit echoes each command and a CR, then sends the value and a CR (queries only), then the prompt ``> ``.
There is no command for open or closed: ``ens`` toggles, so one lost byte inverts everything that follows. The driver
therefore keeps no state of its own. It asks before and after each toggle, and believes ``closed?``, which tells the
real blade.

Not verified on hardware: the exact text of error messages; whether some firmware adds a CR after the prompt; what the
interlock does to ``ens?``. That the mode is changed only while disabled, and the interlock asked before enabling, are
rules of prudence.
"""

from __future__ import annotations

import logging
import re
from collections import deque
from collections.abc import Sequence
from typing import ClassVar

from pymeasure.instruments import Instrument

from labctl.clock import Clock
from labctl.errors import ConnectionLost, Exchange, InstrumentError, InstrumentTimeout
from labctl.roles import Identity, Readiness, Reading, SafeStep
from labctl.transport.adapter import WireAdapter
from labctl.transport.settings import WireSettings

log = logging.getLogger(__name__)

PROMPT = b"> "
BLADE_TIMEOUT_S = 0.3
"""Time allowed to the blade; it needs 10 to 20 ms."""
MANUAL_MODE = 1
_POLL_S = 0.01
_SAFE_REPLY_S = 0.25
_SAFE_TRIES = 2
_IDENTITY = re.compile(r"THORLABS SC10\b.*?(?:VERSION (\S+))?\s*", re.IGNORECASE)
_BY_HAND = "block the beam by hand; look at the shutter head and its cable"


class SC10(Instrument):
    """Shutter controller SC10 in manual mode.

    :param adapter: The wire.
    :param name: Name for messages.
    :param clock: The clock on which it waits.
    """

    LINK = WireSettings(write_termination=b"\r", read_termination=PROMPT, timeout_s=0.5, baud_rate=9600)
    ROLE = "shutter"
    READINGS: ClassVar = {
        "interlock": Reading("interlock_is_open", words=("closed", "open")),
        "blade": Reading("is_open", words=("closed", "open")),
    }

    adapter: WireAdapter

    def __init__(self, adapter: WireAdapter, name: str = "Thorlabs SC10", *, clock: Clock) -> None:
        super().__init__(adapter, name, includeSCPI=False)
        self.clock = clock
        self._in_step = False
        self._recent: deque[Exchange] = deque(maxlen=16)

    def start_up(self) -> None:
        """Close the shutter in whatever state it was left, and put the controller into manual mode."""
        with self.adapter.exclusive():
            self.identify()
            self.shut()
            if self._number("mode?") != MANUAL_MODE:
                self._set(f"mode={MANUAL_MODE}")
                if (mode := self._number("mode?")) != MANUAL_MODE:
                    raise self._error(f"the controller stays in mode {mode} instead of {MANUAL_MODE}", "shutter closed")
            if self.interlock_is_open:
                log.warning("%s: the interlock is tripped; the shutter will not open", self.name)

    def identify(self) -> Identity:
        """Get vendor, model and firmware; the unit tells no serial number."""
        answer = self._query("id?")
        found = _IDENTITY.fullmatch(answer)
        if not found:
            raise self._error(
                f"{answer!r} is not the identity of an SC10", todo="check `resource` of the shutter in the bench file"
            )
        return Identity("Thorlabs", "SC10", firmware=found[1] or "")

    @property
    def has_readback(self) -> bool:
        """Get whether the device can report its real state: it can."""
        return True

    @property
    def is_open(self) -> bool:
        """Measure whether the blade is open; raises InstrumentError if the unit does not say so clearly."""
        return not self._flag("closed?")

    @property
    def interlock_is_open(self) -> bool:
        """Measure whether the interlock circuit is open, that is tripped; the shutter then does not open."""
        return self._flag("interlock?")

    def readiness(self) -> Sequence[Readiness]:
        """Measure whether the shutter would open: interlock and mode; moves nothing."""
        is_open, mode = self.interlock_is_open, self._number("mode?")
        todo = ": close the circuit (door, beam tube, connector)" if is_open else ""
        wrong = "" if mode == MANUAL_MODE else f" instead of {MANUAL_MODE}: open the bench again"
        return (
            Readiness("interlock", not is_open, f"{'open' if is_open else 'closed'}{todo}"),
            Readiness("mode", mode == MANUAL_MODE, f"{mode}{wrong}"),
        )

    def open(self) -> None:
        """Open and verify.

        Raises InstrumentError if the interlock is tripped, the controller is no longer in manual mode (it was switched
        off or reset), the toggle is not accepted, or the blade does not move; the shutter is closed again first.
        """
        with self.adapter.exclusive():
            if self.interlock_is_open:
                raise self._error(
                    "the interlock of the shutter is tripped",
                    "the shutter was not opened",
                    "close the interlock circuit (door, beam tube, connector), then resume",
                )
            if (mode := self._number("mode?")) != MANUAL_MODE:
                raise self._error(
                    f"the controller is in mode {mode} instead of {MANUAL_MODE}: it was reset or set by hand",
                    "the shutter was not opened",
                    "open the bench again; keep hands off the front panel during a run",
                )
            try:
                self._enable(True)
                if not self._blade_reaches(is_closed=False):
                    raise self._error(
                        "the blade did not open", todo="look at the interlock, the shutter head and its cable"
                    )
            except InstrumentError as error:
                error.state = self._state_after_closing()
                raise

    def shut(self) -> None:
        """Close and verify, with one more try; raises InstrumentError if the blade stays open."""
        with self.adapter.exclusive():
            try:
                self._close_blade()
            except ConnectionLost:
                raise
            except InstrumentError as error:
                log.warning("%s: closing again after: %s", self.name, error)
                self._close_blade()

    def make_safe(self) -> Sequence[SafeStep]:
        """Close the shutter and verify by ``ens?`` and ``closed?``.

        Never toggles without having read the state just before: a blind toggle could open it.
        """
        evidence: list[str] = []
        for _ in range(_SAFE_TRIES):
            try:
                with self.adapter.seize(), self.adapter.patience(_SAFE_REPLY_S):
                    self._in_step = False
                    self._recent.clear()
                    self._close_blade()
                    evidence.extend(map(str, self._recent))
                    return [SafeStep("close shutter", True, "; ".join(evidence))]
            except Exception as error:  # whatever happens here, the steps of the other instruments must still be taken
                evidence.extend(map(str, self._recent))
                evidence.append(str(error))
                if isinstance(error, ConnectionLost):
                    evidence += filter(None, [self.adapter.try_to_reconnect()])
        return [SafeStep("close shutter", False, f"LIGHT MAY BE ON, {_BY_HAND}: {'; '.join(evidence)}")]

    def close(self) -> None:
        """Release the connection; the shutter stays as it is."""
        self.adapter.close()

    def _close_blade(self) -> None:
        self._enable(False)
        if not self._blade_reaches(is_closed=True):
            raise self._error("the blade did not close", "LIGHT MAY BE ON: disabled, but the blade is open", _BY_HAND)

    def _state_after_closing(self) -> str:
        try:
            self.shut()
        except InstrumentError as error:
            return f"LIGHT MAY BE ON: the shutter could not be closed again ({error.what})"
        return "the shutter is disabled and closed again"

    def _enable(self, wanted: bool) -> None:
        """Toggle if need be, and verify; the state is read just before, and again after, however the toggle went."""
        if self._flag("ens?") == wanted:
            return
        try:
            self._set("ens")
        except ConnectionLost:
            raise
        except InstrumentError as error:
            # The toggle may have come through although its echo did not: only the read-back can tell.
            log.warning("%s: %s", self.name, error)
        if self._flag("ens?") != wanted:
            raise self._error(
                f"the controller did not {'enable' if wanted else 'disable'} the shutter",
                "the shutter is still closed" if wanted else "LIGHT MAY BE ON: the shutter is still enabled",
                "try again; look at the cable" if wanted else _BY_HAND,
            )

    def _blade_reaches(self, *, is_closed: bool) -> bool:
        deadline = self.clock.now() + BLADE_TIMEOUT_S
        while self._flag("closed?") != is_closed:
            if self.clock.now() >= deadline:
                return False
            self.clock.sleep(_POLL_S)
        return True

    def _flag(self, command: str) -> bool:
        answer = self._query(command)
        if answer not in ("0", "1"):
            raise self._error(f"{answer!r} is no answer to {command!r}; 0 or 1 was expected")
        return answer == "1"

    def _number(self, command: str) -> int:
        answer = self._query(command)
        if not answer.isdecimal():
            raise self._error(f"{answer!r} is no answer to {command!r}; a number was expected")
        return int(answer)

    def _query(self, command: str) -> str:
        """Ask; get the value between echo and prompt."""
        lines = self._exchange(command)
        if len(lines) != 1:
            raise self._error(f"{command!r} was answered by {len(lines)} values instead of one")
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
                raise self._error(f"the unit did not echo {command!r}", todo="check the cable; try again")
            self._in_step = True
            return lines

    def _get_in_step(self) -> None:
        """Empty both lines: the unit may hold half a command, we may be owed a reply to an earlier one.

        ``id?`` is harmless after any half command; a bare CR is not, as it would complete an ``ens``.
        """
        for _ in range(3):
            try:
                if self._transact("id?") or self._next_reply("id?"):
                    return
            except InstrumentTimeout as error:
                log.debug("%s: no answer while getting in step: %s", self.name, error)
        raise InstrumentTimeout(
            "the controller does not answer",
            exchange=self.adapter.last,
            where=self.name,
            todo="check power, cable and speed (9600 baud)",
        )

    def _transact(self, command: str) -> list[str] | None:
        self.adapter.flush_read_buffer()
        self.adapter.write(command)
        return self._next_reply(command)

    def _next_reply(self, command: str) -> list[str] | None:
        """Read up to the prompt; get the lines between, or None if they do not follow the echo of ``command``."""
        try:
            text = self.adapter.read()
        finally:
            self._recent.append(self.adapter.last)
        echo, *lines = text.split("\r")
        # Each line ends with CR, so that the last piece is empty unless a byte was lost.
        if echo != command or not lines or lines.pop():
            return None
        return lines

    def _error(self, what: str, state: str = "", todo: str = "") -> InstrumentError:
        return InstrumentError(what, exchange=self.adapter.last, where=self.name, state=state, todo=todo)
