"""A line over which an instrument is spoken to in SCPI: in step after silence, with its error queue and its numbers.

SCPI answers queries only, and says what it did not understand only when its error queue is asked. So a reply that was
lost, or that comes late, would answer the next query; and a setting that was refused would pass for made.
"""

from __future__ import annotations

import math
import re

from labctl.errors import InstrumentError, InstrumentTimeout, LabctlError
from labctl.transport.adapter import WireAdapter

NUMBER = re.compile(r"([+-]?)(\d+(?:\.\d*)?)(?:E[+-]?\d{1,3})?", re.IGNORECASE)
"""A number in any of the decimal forms of SCPI; group 2 is the mantissa."""
_ERROR = re.compile(r'[+-]?\d+\s*,\s*".*"')
_SYNCHRONISE_S = 0.5
_QUIET_S = 0.05
_ERRORS_AT_MOST = 32
_WARY_S = 10.0
_UNTERMINATED = -420


class ScpiLine:
    """An instrument's SCPI, as its driver uses it.

    :param adapter: The wire.
    :param what: What to call the instrument in messages, e.g. ``meter``.
    :param abort: Command that ends whatever the instrument is doing and may be sent at any time; empty if there is
        none. It precedes the query by which the line gets in step.
    """

    def __init__(self, adapter: WireAdapter, what: str, abort: str = "") -> None:
        self.adapter = adapter
        self.what = what
        self.abort = abort
        self.out_of_step = True
        self._wary_until_s = -math.inf

    def write(self, command: str, **kwargs: object) -> None:
        """Write a command, after getting in step again if an earlier one was never answered."""
        with self.adapter.exclusive():
            if self.out_of_step:
                self.synchronise()
            self.adapter.write(command, **kwargs)

    def ask(self, command: str) -> str:
        """Write a query and read its reply.

        When none comes the instrument is brought back in step, so that a late reply does not answer the next query, and
        InstrumentTimeout tells what its error queue says.
        """
        with self.adapter.exclusive():
            if self.out_of_step:
                self.synchronise()
            self._drop_stale()
            self.out_of_step = True
            self.adapter.write(command)
            try:
                reply = self.adapter.read()
            except InstrumentTimeout as error:
                raise self._recovered(error) from error
            self.out_of_step = False
            return reply

    def number(self, query: str) -> float:
        """Ask for a number; raises InstrumentError if the reply is none."""
        return self.parse(self.ask(query))

    def parse(self, reply: str) -> float:
        """Get the number that a reply stands for; raises InstrumentError if it is none."""
        if not NUMBER.fullmatch(reply.strip()):
            raise self.error("the reply is not a number")
        return float(reply)

    def flag(self, query: str) -> bool:
        """Ask for a state; raises InstrumentError if the reply is neither 0 nor 1."""
        reply = self.ask(query).strip()
        if reply not in ("0", "1"):
            raise self.error(f"{reply!r} is no answer to {query!r}; 0 or 1 was expected")
        return reply == "1"

    def identity_fields(self) -> list[str]:
        """Ask who it is: vendor, model, serial number, firmware; raises InstrumentError for any other form."""
        fields = [field.strip() for field in self.ask("*IDN?").split(",")]
        if len(fields) != 4:
            raise self.error("the identity is not of the form vendor,model,serial,firmware")
        return fields

    def take_errors(self) -> list[str]:
        """Empty the error queue and get what it held.

        A reply that does not come is not recovered here, since recovering comes here too.
        """
        errors = []
        with self.adapter.exclusive():
            self._drop_stale()
            for _ in range(_ERRORS_AT_MOST):
                self.out_of_step = True
                self.adapter.write("SYST:ERR?")
                reply = self.adapter.read().strip()
                self.out_of_step = False
                if not _ERROR.fullmatch(reply):
                    raise self.error("the reply is not an error number with a text")
                if (code := int(reply.partition(",")[0])) == 0:
                    break
                # Over USB, emptying the line is itself a read without a query; it refuses nothing.
                if code != _UNTERMINATED:
                    errors.append(reply)
        return errors

    def raise_errors(self, what: str) -> None:
        """Raise InstrumentError with ``what`` if the error queue holds anything."""
        if errors := self.take_errors():
            raise self.error(f"{what}: {'; '.join(errors)}")

    def synchronise(self, timeout_s: float = _SYNCHRONISE_S) -> list[str]:
        """Abort what goes on and read until a query has been answered whose reply cannot be mistaken.

        :param timeout_s: Time allowed for that reply, once on this connection and once on a new one.

        Returns the errors that the queue held; an instrument that does not know the abort adds its -113 to them. The
        connection is made anew if nothing answers at first.
        """
        self.out_of_step = True
        with self.adapter.exclusive(), self.adapter.patience(timeout_s):
            try:
                self._await_identity(timeout_s)
            except InstrumentTimeout:
                self.adapter.reconnect()
                self._await_identity(timeout_s)
            with self.adapter.patience(_QUIET_S):
                self.adapter.read_bytes(-1)
            self.out_of_step = False
            return self.take_errors()

    def error(self, what: str, *, state: str = "", todo: str = "") -> InstrumentError:
        """Make an error that shows the last exchange."""
        return InstrumentError(what, exchange=self.adapter.last, where=self.adapter.name, state=state, todo=todo)

    def _drop_stale(self) -> None:
        """For a while after a reply was given up, throw away what comes unasked: it may be that reply."""
        if self.adapter.clock.now() < self._wary_until_s:
            self.adapter.flush_read_buffer()

    def _await_identity(self, timeout_s: float) -> None:
        self.adapter.flush_read_buffer()
        if self.abort:
            self.adapter.write(self.abort)
        self.adapter.write("*IDN?")
        deadline = self.adapter.clock.now() + timeout_s
        while self.adapter.read().count(",") != 3:
            if self.adapter.clock.now() > deadline:
                raise InstrumentTimeout(
                    f"the {self.what} talks, but does not answer *IDN?",
                    exchange=self.adapter.last,
                    where=self.adapter.name,
                )

    def _recovered(self, error: InstrumentTimeout) -> InstrumentTimeout:
        self._wary_until_s = self.adapter.clock.now() + _WARY_S
        try:
            said = "; ".join(self.synchronise()) or "nothing"
            state = f"the reading was aborted, the {self.what} answers again; its error queue says: {said}"
        except LabctlError as second:
            state = f"the {self.what} does not answer ({second.what}); the next command tries to get in step again"
        where = self.adapter.name
        return InstrumentTimeout(
            error.what, exchange=error.exchange, role=error.role, where=where, state=state, todo=error.todo
        )
