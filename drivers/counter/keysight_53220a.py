"""Keysight (Agilent) 53220A and 53230A universal counters, totalising the laser's triggers that the shutter lets pass.

**Wiring.** Channel 1 or 2 gets the laser's trigger through a logic gate (AND) whose other input is the sync output of
the shutter, or a photodiode behind the shutter. The gate input of the counter itself is not used: the counter makes a
reading of its own each time that gate closes, and a sum of thousands of readings is lost with any one of them, while
a running total may be read as often as one likes.

**Exact.** A reading has 16 significant digits, so a count is exact to 1 up to 1e16; it is read as an integer from the
digits, never by way of a float, and a reply whose last digit stands for more than 1 is refused. A count is read until
two readings in a row agree, which they do as soon as the shutter is closed; while light passes, four must not fall.

From the pages of the User's Guide and of the Programmer's Reference: ``CONF:TOT:TIM INF,(@1)`` totalises with a gate
that stays open until ``ABOR``; ``SENS:TOT:GATE:TIME`` is that gate, and 9.9E+37 is infinity; ``INIT`` starts; a reading
in ASCII is 23 bytes, ``+d.dddddddddddddddE+ddd``; bit 7 of ``*ESR?`` stands for power-on until ``*CLS``; the operation
register says whether a measurement is in progress; 9.91E37 is no number; raw SCPI on TCP port 5025.

UNVERIFIED: that ``SENS:TOT:DATA?`` tells the running total (a public driver for the 53220A reads it so) in the form of
a reading; that "measurement in progress" is bit 4, as in SCPI-1999; what the replies to ``INP:COUP?``, ``INP:SLOP?``
and ``INP:IMP?`` look like (``DC``, ``POS``, a number); what the counter does after 1e16 counts; whether ``SYST:ERR?``
shows the sign (``+0,"No error"``; either is taken). A restart from the front panel is found out when the count has
fallen or nothing is being measured; not if the count has passed the last reading again by then.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field
from pymeasure.instruments import Instrument

from drivers.scpi.line import ScpiLine
from labctl.clock import Clock
from labctl.errors import InstrumentError, LabctlError
from labctl.roles import Identity, Readiness, Reading, SafeStep
from labctl.transport.adapter import WireAdapter
from labctl.transport.settings import WireSettings

log = logging.getLogger(__name__)

_MODELS = ("53220A", "53230A")
_COUNT = re.compile(r"[+-]?\d+(?:\.\d*)?(?:E[+-]?\d{1,3})?", re.IGNORECASE)
_NOT_A_NUMBER = Decimal("9.9E37")
_INFINITE = 9e37
_POWER_ON = 1 << 7
_MEASURING = 1 << 4
_TOTAL = "SENS:TOT:DATA?"
_READINGS = 4
_START_ANEW = "begin the measurement anew: what passed since the last reading is not known"


class Keysight53220A(Instrument):
    """Counter 53220A or 53230A as a totaliser whose gate stays open.

    :param adapter: The wire.
    :param name: Name for messages.
    :param clock: Clock of the run.
    :param options: See :class:`Options`.
    """

    LINK = WireSettings(write_termination=b"\n", read_termination=b"\n", timeout_s=2.0)
    ROLE = "trigger_counter"
    READINGS: ClassVar = {"count": Reading("count", "count")}

    class Options(BaseModel):
        """Options of the instrument in the bench file.

        :param channel: Input that gets the triggers.
        :param level_v: Voltage at which a trigger is counted, V.
        :param slope: Edge that is counted.
        :param coupling: ``DC`` or ``AC``.
        :param impedance_ohm: 50 or 1 000 000 Ω.
        """

        model_config = ConfigDict(frozen=True, extra="forbid")

        channel: Literal[1, 2] = 1
        level_v: float = Field(default=1.0, ge=-5, le=5)
        slope: Literal["positive", "negative"] = "positive"
        coupling: Literal["AC", "DC"] = "DC"
        impedance_ohm: Literal[50, 1000000] = 50

    adapter: WireAdapter

    def __init__(self, adapter: WireAdapter, name: str = "Keysight 53220A", *, clock: Clock, **options: object) -> None:
        super().__init__(adapter, name, includeSCPI=False)
        self.clock = clock
        # To get in step nothing is aborted: that would end the count.
        self._line = ScpiLine(adapter, "counter")
        self._chosen = self.Options.model_validate(options)
        self._last: int | None = None

    def start_up(self) -> None:
        """See what speaks, set the input, and begin to count from 0."""
        with self.adapter.exclusive():
            for error in self._line.synchronise():
                log.warning("%s had an old error in its queue: %s", self.name, error)
            if (model := self.identify().model) not in _MODELS:
                raise self._line.error(
                    f"{model} is none of the counters {', '.join(_MODELS)}",
                    todo="check `resource` of the trigger counter in the bench file",
                )
            self.restart()

    def identify(self) -> Identity:
        """Get vendor, model, serial number and firmware; raises InstrumentError when `*IDN?` has another form."""
        return Identity(*self._line.identity_fields())

    def readiness(self) -> Sequence[Readiness]:
        """Measure whether the counter counts; starts nothing."""
        try:
            return (Readiness("counting", True, f"{self.count} pulses so far"),)
        except InstrumentError as error:
            return (Readiness("counting", False, f"{error.what}: {error.todo}"),)

    @property
    def count(self) -> int:
        """Measure how many pulses have passed since :meth:`restart`; exact.

        Raises InstrumentError if the counter was switched off, stopped or restarted meanwhile, if it has overflowed, or
        if its reply cannot be exact; then :meth:`restart` is needed, unless it was only the reply.
        """
        with self.adapter.exclusive():
            if self._last is None:
                raise self._line.error("the count was lost, or never begun", todo=_START_ANEW)
            self._require_undisturbed()
            total = self._read_total()
            self._require_undisturbed()
            if total < self._last:
                before, self._last = self._last, None
                raise self._line.error(
                    f"the count fell from {before} to {total}: the counter was restarted, or has overflowed",
                    todo=_START_ANEW,
                )
            self._last = total
            return total

    def restart(self) -> None:
        """Begin to count from 0; verified by the gate, the state and a first reading.

        Raises InstrumentError if the counter refuses a setting or does not begin.
        """
        channel, chosen = f"INP{self._chosen.channel}", self._chosen
        slope = "POS" if chosen.slope == "positive" else "NEG"
        with self.adapter.exclusive():
            self._last = None
            self._line.write("ABOR")
            # From here on power-on is told again, and the errors are those of this beginning.
            self._line.write("*CLS")
            # Configuring makes the counter choose its own level; so the input is set afterwards.
            self._line.write(f"CONF:TOT:TIM INF,(@{chosen.channel})")
            self._line.write(f"{channel}:COUP {chosen.coupling}")
            self._line.write(f"{channel}:IMP {chosen.impedance_ohm}")
            self._line.write(f"{channel}:SLOP {slope}")
            self._line.write(f"{channel}:LEV {chosen.level_v:g}")
            self._line.raise_errors("the counter refused its settings")
            if (gate_s := self._line.number("SENS:TOT:GATE:TIME?")) < _INFINITE:
                raise self._line.error(f"the gate of the counter closes after {gate_s:g} s instead of never")
            for header, wanted in ((f"{channel}:COUP?", chosen.coupling), (f"{channel}:SLOP?", slope)):
                if (found := self._line.ask(header).strip().upper()) != wanted:
                    raise self._line.error(f"{header[:-1]} is {found} instead of {wanted}")
            for header, number in ((f"{channel}:IMP?", chosen.impedance_ohm), (f"{channel}:LEV?", chosen.level_v)):
                if not math.isclose(reached := self._line.number(header), number, rel_tol=1e-2, abs_tol=5e-3):
                    raise self._line.error(f"{header[:-1]} is {reached:g} instead of {number:g}")
            self._line.write("INIT")
            self._line.raise_errors("the counter did not begin to count")
            self._require_undisturbed()
            self._last = self._read_total()

    def make_safe(self) -> Sequence[SafeStep]:
        """Report the state: the counter endangers nothing, and goes on counting."""
        action = "leave the counter counting"
        try:
            with self.adapter.seize():
                counts = self._register("STAT:OPER:COND?") & _MEASURING
                return [SafeStep(action, True, f"{'' if counts else 'not '}counting: {self.adapter.last}")]
        except (LabctlError, OSError) as error:
            return [SafeStep(action, False, str(error))]

    def close(self) -> None:
        """Release the connection; the counter goes on counting."""
        self.adapter.close()

    def _require_undisturbed(self) -> None:
        """Raise InstrumentError if the counter was switched off and on, or counts no more.

        What would cost the count is asked twice: a garbled reply must not.
        """
        if all(self._register("*ESR?") & _POWER_ON for _ in range(2)):
            self._last = None
            raise self._line.error("the counter was switched off and on: its count is lost", todo=_START_ANEW)
        if not any(self._register("STAT:OPER:COND?") & _MEASURING for _ in range(2)):
            self._last = None
            raise self._line.error("the counter does not count: it was stopped, or never begun", todo=_START_ANEW)

    def _read_total(self) -> int:
        """Read the running total until two readings agree, or four do not fall."""
        totals = [self._exact(self._line.ask(_TOTAL))]
        while len(totals) < _READINGS:
            totals.append(self._exact(self._line.ask(_TOTAL)))
            if totals[-1] == totals[-2]:
                return totals[-1]
        if totals != sorted(totals):
            raise self._line.error(f"readings of the count contradict each other: {totals}", todo="read it again")
        return totals[-1]

    def _register(self, query: str) -> int:
        reply = self._line.ask(query).strip()
        if not re.fullmatch(r"\+?\d{1,5}", reply):
            raise self._line.error("the reply is not a register")
        return int(reply)

    def _exact(self, reply: str) -> int:
        """Get a count from the digits of a reply; raises InstrumentError for one that cannot be exact."""
        text = reply.strip()
        if not _COUNT.fullmatch(text):
            raise self._line.error("the reply is not a number")
        value = Decimal(text)
        if abs(value) >= _NOT_A_NUMBER:
            raise self._line.error("the counter has no count to tell", todo=_START_ANEW)
        exponent = value.as_tuple().exponent
        if value < 0 or value != value.to_integral_value() or not isinstance(exponent, int) or exponent > 0:
            raise self._line.error("the reply is not an exact count: a byte was lost, or the counter has overflowed")
        return int(value)
