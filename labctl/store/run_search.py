"""Which runs of a catalogue somebody looks for: by sample, procedure, date, status, text, or the value of a result."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from fnmatch import fnmatchcase

from labctl.config.fault import Fault
from labctl.config.quantity import parse_quantity
from labctl.errors import InputError
from labctl.store.catalogue import RunSummary

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
}
_CONDITION = re.compile(r"\s*([A-Za-z][\w.-]*)\s*(?:(>=|<=|>|<|=)\s*(\S.*?))?\s*")
_OTHER_UNIT = "does not convert"


@dataclass(frozen=True)
class ResultCondition:
    """A condition on a result, written ``threshold>20 uJ/cm^2``, or ``threshold`` for any run that has one.

    :param limit: Text with a unit; empty if it is enough that the result is there.
    """

    name: str
    compare: str = ""
    limit: str = ""

    @classmethod
    def read(cls, text: str) -> ResultCondition:
        """Read it; raises InputError."""
        match = _CONDITION.fullmatch(text) if len(text) < 200 else None
        if match is None:
            raise InputError(
                f"{text!r} is no condition on a result",
                where="--result",
                todo="write it as NAME, or NAME>VALUE, e.g. --result 'threshold>20 uJ/cm^2'",
            )
        condition = cls(match.group(1).replace("-", "_"), match.group(2) or "", match.group(3) or "")
        if condition.limit:
            try:
                parse_quantity(condition.limit, "")
            except Fault as fault:
                # In which unit the result is, each run says for itself; that the unit is one can be told here.
                if _OTHER_UNIT not in fault.found:
                    raise InputError(f"found {fault.found}", where="--result", todo="e.g. 20 uJ/cm^2") from fault
        return condition

    def holds(self, run: RunSummary) -> bool:
        """Get whether a run has such a result; one in a unit that does not convert is another."""
        entry = run.results.get(self.name)
        if entry is None:
            return False
        if not self.limit:
            return True
        unit = str(entry.get("unit") or "")
        try:
            limit = parse_quantity(self.limit, "" if unit == "1" else unit)
            return _COMPARE[self.compare](float(entry["value"]), limit)
        except (Fault, KeyError, TypeError, ValueError):
            return False


@dataclass(frozen=True)
class Search:
    """What somebody looks for; all that is given must hold.

    :param sample: Name, with ``*`` for any letters; upper and lower case are alike. ``procedure`` likewise.
    :param since: ISO date, or date and time, by the clock of this computer; ``until`` likewise, that day included.
    :param statuses: Any of these.
    :param text: In names, parameters or notes, whatever the case.
    """

    sample: str | None = None
    procedure: str | None = None
    since: str | None = None
    until: str | None = None
    statuses: tuple[str, ...] = ()
    results: tuple[ResultCondition, ...] = ()
    text: str | None = None

    def among(self, runs: Iterable[RunSummary]) -> list[RunSummary]:
        """Get the runs that are looked for, in their order; raises InputError for a date that is none."""
        since = None if self.since is None else _moment(self.since, "--since", end=False)
        until = None if self.until is None else _moment(self.until, "--until", end=True)
        return [run for run in runs if self._fits(run) and _is_within(run.started, since, until)]

    def _fits(self, run: RunSummary) -> bool:
        procedure = None if self.procedure is None else self.procedure.replace("_", "-")
        return (
            _is_like(run.sample, self.sample)
            and _is_like(run.procedure, procedure)
            and (not self.statuses or run.status in self.statuses)
            and all(condition.holds(run) for condition in self.results)
            and (self.text is None or self.text.lower() in f"{run.words} {run.spot} {run.path.stem}".lower())
        )


def _is_like(name: str, pattern: str | None) -> bool:
    return pattern is None or fnmatchcase(name.lower(), pattern.lower())


def _is_within(started: str, since: datetime | None, until: datetime | None) -> bool:
    if since is None and until is None:
        return True
    try:
        moment = datetime.fromisoformat(started)
    except ValueError:
        return False
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return (since is None or moment >= since) and (until is None or moment < until)


def _moment(text: str, option: str, *, end: bool) -> datetime:
    """Read a date, or date and time; of a date alone its beginning, or the beginning of the next."""
    try:
        day = date.fromisoformat(text)
        moment = datetime.combine(day + timedelta(days=end), time())
    except (ValueError, OverflowError):
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise InputError(
                f"{text!r} is no date", where=option, todo="write it as 2026-11-21, or 2026-11-21T14:30"
            ) from None
    try:
        return moment.astimezone()
    except (ValueError, OverflowError, OSError):
        raise InputError(f"{text!r} is no date that a clock could show", where=option) from None
