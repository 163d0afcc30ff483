"""The watch of a bench: its ``[[watch]]`` conditions and the limits of its readings, asked before and during a run.

The point loop calls :meth:`Watch.check` before the first light, between points and while it pauses. Nothing is
asked while light is on: what must act faster than a point lasts is the business of the instruments themselves.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from labctl.bench.set_values import QuantityLimit
from labctl.clock import Clock
from labctl.config.fault import Fault
from labctl.config.offered import offered_readings
from labctl.config.watch import BENCH_READINGS, Action, Comparison, Condition, WatchConfig, require_reading
from labctl.errors import (
    Aborted,
    ConnectionLost,
    InputError,
    InterlockTripped,
    LabctlError,
    LimitExceeded,
)
from labctl.folders import free_mb
from labctl.roles import Instrument, Reading

log = logging.getLogger(__name__)

_SEVERITY: tuple[Action, ...] = ("pause", "safe", "abort")
_NOT_KNOWN = "not known yet"


class LightAtSample(Protocol):
    """What is known of the light at the sample; None before it was measured. A pump beam knows it."""

    @property
    def last_fluence_uj_cm2(self) -> float | None:
        """Get the last fluence that was read, in µJ/cm²."""
        ...

    @property
    def last_pulse_energy_j(self) -> float | None:
        """Get the last pulse energy that was read, at the sample, in J."""
        ...

    @property
    def last_average_power_w(self) -> float | None:
        """Get pulse energy times repetition rate, in W."""
        ...

    @property
    def spot_dose_j_cm2(self) -> float:
        """Get the dose of the spot, in this run and before it, in J/cm²."""
        ...


@dataclass(frozen=True, slots=True)
class WatchReading:
    """What one condition saw.

    :param name: Name of the watch condition, or of the limit.
    :param condition: The condition as written.
    :param reading: What was read, with its unit; or why it could not be read.
    :param holds: Whether the condition holds; a quantity that cannot be read counts as if it did.
    :param readable: Whether it could be read.
    """

    name: str
    condition: str
    reading: str
    holds: bool
    readable: bool = True

    def as_dict(self) -> dict[str, Any]:
        """The reading as JSON-serialisable data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Tripped:
    """A condition that has held for its grace time, and what is to be done.

    :param name: Name of the watch condition, or of the limit.
    :param action: ``pause`` (shutter closed and confirmed, wait, go on), ``safe`` (whole safe state, wait, set every
        role anew, go on) or ``abort`` (the run fails with :meth:`error`).
    :param condition: The condition as written.
    :param reading: What was read, with its unit; or why it could not be read.
    :param readable: Whether the quantity could be read; one that cannot be trips like one that is out of bounds.
    :param held_s: How long it had held, as far as anybody looked, in s.
    :param at_s: When it tripped, by the clock of the run, in s.
    :param message: What the bench file says to the experimenter.
    :param resume_when: When the run may go on, in words; empty for ``abort``.
    :param longest_pause_s: A run that has waited so long ends with :meth:`error`.
    :param is_limit: Whether it is a limit of the bench rather than a watch condition.
    """

    name: str
    action: Action
    condition: str
    reading: str
    readable: bool = True
    held_s: float = 0.0
    at_s: float = 0.0
    message: str = ""
    resume_when: str = ""
    longest_pause_s: float = 0.0
    is_limit: bool = False

    def __str__(self) -> str:
        text = f"{self.name}: {self.condition}, {'read' if self.readable else 'cannot be read'}: {self.reading}"
        return f"{text}. {self.message}" if self.message else text

    def error(self, *, waited_s: float = 0.0) -> InterlockTripped | LimitExceeded:
        """Make the error with which the run ends.

        :param waited_s: How long the run has paused for it, in s, if that is why it ends.
        """
        kind = LimitExceeded if self.is_limit else InterlockTripped
        waited = f"; it still held after a pause of {waited_s:.0f} s" if waited_s else ""
        unreadable = "" if self.readable else ", which counts as if it held because the quantity cannot be read"
        return kind(
            f"{self.name}: {self.condition}{unreadable} (read: {self.reading}){waited}",
            where="[limits.roles] of the bench file" if self.is_limit else "[[watch]] of the bench file",
            todo=self.message or "bring it back into bounds, then resume the run",
        )

    def as_dict(self) -> dict[str, Any]:
        """What tripped as JSON-serialisable data, for the journal."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Rule:
    """A watched quantity with what trips it and what lets the run go on."""

    name: str
    when: Condition
    trips: Comparison
    resume_when: Condition | None
    resumes: Comparison | None
    action: Action
    grace_s: float
    message: str
    longest_pause_s: float
    is_limit: bool = False


@dataclass(frozen=True, slots=True)
class _Found:
    """What was read: a number or a word; None where nothing is known yet; or why it cannot be read."""

    value: float | str | None
    unit: str = ""
    error: str = ""

    @property
    def text(self) -> str:
        if self.error:
            return self.error
        if self.value is None:
            return _NOT_KNOWN
        return self.value if isinstance(self.value, str) else f"{self.value:.6g} {self.unit}".rstrip()

    def fulfils(self, comparison: Comparison) -> bool:
        """Get whether a comparison holds; never for what is not known."""
        return self.value is not None and comparison.holds(self.value)


class Watch:
    """Evaluates the conditions of a bench.

    A condition on a role is watched in the runs that open this role; the names of the others are in :attr:`idle`.
    A quantity that cannot be read (tried twice, the second time over a new connection if that had broken) counts as
    if its condition held: grace time and action are those of the condition. What the bench does not know yet, such
    as a fluence before the first reading, trips nothing.

    :param watches: The tables ``[[watch]]``.
    :param limits: Limits of readings, by role.
    :param instruments: Opened instruments by role.
    :param clock: Clock of the run, for grace times.
    :param light: Gets what knows the light at the sample; None while nobody has asked for light.
    :param folder: Folder of the runs, for ``disk.free``.

    Raises InputError for a condition that an opened instrument cannot answer.
    """

    def __init__(
        self,
        watches: Iterable[WatchConfig],
        limits: Iterable[QuantityLimit],
        instruments: Mapping[str, Instrument],
        clock: Clock,
        *,
        light: Callable[[], LightAtSample | None] = lambda: None,
        folder: Path | None = None,
    ) -> None:
        self._instruments = instruments
        self._clock = clock
        self._light = light
        self._folder = folder or Path()
        self._since_s: dict[str, float] = {}
        self._rules: list[_Rule] = []
        self.idle: list[str] = []
        """Names of the conditions that nobody watches in this run, because it does not open their role."""
        self.last: tuple[WatchReading, ...] = ()
        """What the last call of :meth:`check`, :meth:`may_resume` or :meth:`readings` saw."""
        for limit in limits:
            self._rules += _rules_of(limit)
        for watch in watches:
            if {watch.when.subject, (watch.resume_when or watch.when).subject} <= {*instruments, *BENCH_READINGS}:
                self._rules.append(self._rule(watch))
            else:
                self.idle.append(watch.name)

    @property
    def is_idle(self) -> bool:
        """Get whether there is nothing to watch in this run."""
        return not self._rules

    def check(self) -> Tripped | None:
        """Read every watched quantity once; get the most severe condition that has held for its grace time.

        Of equals the first in the bench file, limits before conditions. Cheap: one short query per quantity. Raises
        Aborted if an operator who was asked refuses, nothing else.
        """
        tripped = self._tripped(self._read_all())
        return max(tripped, key=_severity, default=None)

    def may_resume(self, tripped: Tripped) -> bool:
        """Get whether a run that paused for ``tripped`` may go on: its ``resume_when`` holds and no condition trips.

        Without ``resume_when`` its ``when`` must no longer hold. Never while the quantity cannot be read, nor after
        ``abort``. To be asked again and again while the run pauses. Raises InterlockTripped when it has paused longer
        than ``longest_pause``, and InterlockTripped or LimitExceeded when a condition meanwhile asks for the end.
        """
        found = self._read_all()
        now_tripped = self._tripped(found)
        for other in now_tripped:
            if other.action == "abort":
                raise other.error()
        waited_s = self._clock.now() - tripped.at_s
        if waited_s > tripped.longest_pause_s:
            raise tripped.error(waited_s=waited_s)
        rule = next((rule for rule in self._rules if rule.name == tripped.name), None)
        if rule is None or rule.action == "abort" or self._holds(rule, found):
            return False
        if rule.resume_when is not None and rule.resumes is not None:
            seen = found[_key(rule.resume_when)]
            if seen.error or not seen.fulfils(rule.resumes):
                return False
        return not now_tripped

    def soon_s(self) -> float | None:
        """Get in how many s the next condition trips, if it goes on holding as at the last look; None if none holds."""
        now = self._clock.now()
        left = [self._since_s[rule.name] + rule.grace_s - now for rule in self._rules if rule.name in self._since_s]
        return max(min(left), 0.0) if left else None

    def worse(self, tripped: Tripped) -> Tripped | None:
        """Get what has tripped while the run pauses for ``tripped`` and asks for more, e.g. the whole safe state."""
        other = self.check()
        return other if other is not None and _severity(other) > _severity(tripped) else None

    def readings(self) -> tuple[WatchReading, ...]:
        """Read every watched quantity once; get what each condition sees. Trips nothing and starts no grace time."""
        self._seen(self._read_all())
        return self.last

    def _tripped(self, found: Mapping[tuple[str, str], _Found]) -> list[Tripped]:
        now = self._clock.now()
        tripped: list[Tripped] = []
        for rule in self._rules:
            if not self._holds(rule, found):
                self._since_s.pop(rule.name, None)
                continue
            held_s = now - self._since_s.setdefault(rule.name, now)
            if held_s >= rule.grace_s:
                tripped.append(_tripped(rule, found[_key(rule.when)], held_s, now))
        self._seen(found)
        return tripped

    def _seen(self, found: Mapping[tuple[str, str], _Found]) -> None:
        seen = [(rule, found[_key(rule.when)]) for rule in self._rules]
        self.last = tuple(
            WatchReading(rule.name, str(rule.when), each.text, self._holds(rule, found), not each.error)
            for rule, each in seen
        )

    @staticmethod
    def _holds(rule: _Rule, found: Mapping[tuple[str, str], _Found]) -> bool:
        seen = found[_key(rule.when)]
        return bool(seen.error) or seen.fulfils(rule.trips)

    def _rule(self, watch: WatchConfig) -> _Rule:
        try:
            trips = watch.when.against(self._reading(watch.when))
            resumes = watch.resume_when and watch.resume_when.against(self._reading(watch.resume_when))
        except Fault as fault:
            raise InputError(str(fault), where=f"[[watch]] {watch.name!r} of the bench file") from fault
        return _Rule(
            watch.name,
            watch.when,
            trips,
            watch.resume_when,
            resumes,
            watch.action,
            watch.grace_s,
            watch.message,
            watch.longest_pause_s,
        )

    def _reading(self, condition: Condition) -> Reading:
        if condition.subject in BENCH_READINGS:
            return require_reading(condition, BENCH_READINGS[condition.subject])
        return require_reading(condition, offered_readings(type(self._instruments[condition.subject])))

    def _read_all(self) -> dict[tuple[str, str], _Found]:
        conditions = [rule.when for rule in self._rules]
        conditions += [rule.resume_when for rule in self._rules if rule.resume_when is not None]
        return {
            _key(condition): self._read(condition) for condition in {_key(each): each for each in conditions}.values()
        }

    def _read(self, condition: Condition) -> _Found:
        reading = self._reading(condition)
        if condition.subject in BENCH_READINGS:
            return self._read_bench(condition, reading)
        instrument = self._instruments.get(condition.subject)
        if instrument is None:
            return _Found(None, error=f"the {condition.subject} is not open")
        first = self._ask(instrument, reading)
        return self._ask(instrument, reading) if first.error else first

    def _ask(self, instrument: Instrument, reading: Reading) -> _Found:
        """Read a quantity of an instrument; a connection that broke is made anew for the next try."""
        try:
            return _as_offered(_value(instrument, reading.attribute), reading)
        except Aborted:
            raise
        except Exception as error:  # a driver of another package may fail in any way; none may stop the watch
            log.warning("%s cannot be read: %s", reading.attribute, error)
            reconnect = getattr(getattr(instrument, "adapter", None), "try_to_reconnect", None)
            if isinstance(error, ConnectionLost) and reconnect is not None:
                reconnect()
            return _Found(
                None, error=error.what if isinstance(error, LabctlError) else f"{type(error).__name__}: {error}"
            )

    def _read_bench(self, condition: Condition, reading: Reading) -> _Found:
        if condition.subject == "disk":
            try:
                return _Found(free_mb(self._folder), reading.unit)
            except OSError as error:
                return _Found(None, error=f"{self._folder}: {error.strerror or error}")
        light = self._light()
        return _Found(None if light is None else getattr(light, reading.attribute), reading.unit)


def _rules_of(limit: QuantityLimit) -> list[_Rule]:
    """Get what holds a reading within a limit."""
    bounds = ((">", limit.at_most, limit.overshoot), ("<", limit.at_least, -limit.overshoot))
    return [
        _Rule(
            name=f"limit of {limit.role}.{limit.quantity} ({'at most' if order == '>' else 'at least'})",
            when=Condition(limit.role, limit.quantity, order, f"{bound + overshoot:g} {limit.unit}".rstrip()),
            trips=Comparison(order, bound + overshoot),
            resume_when=None,
            resumes=None,
            action="abort",
            grace_s=0.0,
            message="",
            longest_pause_s=0.0,
            is_limit=True,
        )
        for order, bound, overshoot in bounds
        if bound is not None
    ]


def _severity(tripped: Tripped) -> int:
    return _SEVERITY.index(tripped.action)


def _tripped(rule: _Rule, seen: _Found, held_s: float, at_s: float) -> Tripped:
    resume_when = "" if rule.action == "abort" else str(rule.resume_when or f"no longer: {rule.when}")
    return Tripped(
        rule.name,
        rule.action,
        str(rule.when),
        seen.text,
        readable=not seen.error,
        held_s=held_s,
        at_s=at_s,
        message=rule.message,
        resume_when=resume_when,
        longest_pause_s=rule.longest_pause_s,
        is_limit=rule.is_limit,
    )


def _key(condition: Condition) -> tuple[str, str]:
    return condition.subject, condition.quantity


def _value(instrument: Any, path: str) -> Any:
    for name in path.split("."):
        instrument = getattr(instrument, name)
    return instrument


def _as_offered(value: Any, reading: Reading) -> _Found:
    """Get what an instrument gave as the number or the word that it offers; anything else cannot be relied on."""
    if reading.words:
        word = reading.words[value] if isinstance(value, bool) and len(reading.words) == 2 else value
        if word not in reading.words:
            return _Found(None, error=f"{value!r} is none of {', '.join(reading.words)}")
        return _Found(str(word))
    number = float(value)
    if not math.isfinite(number):
        return _Found(None, error=f"{value!r} is no number that can be compared")
    return _Found(number, reading.unit)
