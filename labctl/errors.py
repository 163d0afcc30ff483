"""Errors that say what happened, where, in what state the bench was left, and what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any


class ExitCode(IntEnum):
    """Exit codes of the command line (design, section 7)."""

    FINISHED = 0
    FAILED = 1
    BAD_INPUT = 2
    ABORTED = 3
    UNSAFE = 4


class LabctlError(Exception):
    """Root of all errors that labctl raises on purpose.

    :param what: What happened, one sentence.
    :param where: Bench, role, command, file: as much as is known.
    :param state: The state in which the bench or the data were left.
    :param todo: What the reader should do next.
    """

    exit_code = ExitCode.FAILED

    def __init__(self, what: str, *, where: str = "", state: str = "", todo: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.state = state
        self.todo = todo

    def __str__(self) -> str:
        lines = [self.what]
        for label, text in (("where", self.where), ("state", self.state), ("do", self.todo)):
            if text:
                lines.append(f"  {label}: {text}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, object]:
        """The error as JSON-serialisable data."""
        return {
            "type": type(self).__name__,
            "what": self.what,
            "where": self.where,
            "state": self.state,
            "todo": self.todo,
        }


NOTHING_MOVED = "nothing was moved"


class InputError(LabctlError):
    """The request cannot be carried out as written; nothing was moved."""

    exit_code = ExitCode.BAD_INPUT

    def __init__(self, what: str, *, where: str = "", state: str = NOTHING_MOVED, todo: str = "") -> None:
        super().__init__(what, where=where, state=state, todo=todo)


@dataclass(frozen=True)
class Problem:
    """One fault in an input file or a parameter list.

    :param file: File name, or the place the value came from (``--set``).
    :param line: Line number from 1, or ``None`` where there is no file.
    :param key: Dotted key, e.g. ``pump.spot.length``.
    :param found: What was found, as written.
    :param allowed: What would be accepted.
    :param nearest: The nearest valid name, if the fault looks like a slip of the pen.
    """

    file: str
    line: int | None
    key: str
    found: str
    allowed: str
    nearest: str | None = None

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line is not None else self.file
        text = f"{place}: {self.key}: found {self.found}; allowed: {self.allowed}"
        return f"{text}; did you mean {self.nearest!r}?" if self.nearest else text


class ConfigError(InputError):
    """All faults of one or more input files, together."""

    def __init__(self, problems: Sequence[Problem], *, todo: str = "correct the lines named above") -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        head = f"{count} problem{'s' if count != 1 else ''} in the input"
        super().__init__("\n".join([head, *(f"  {problem}" for problem in self.problems)]), todo=todo)

    def as_dict(self) -> dict[str, object]:
        return {**super().as_dict(), "problems": [vars(problem) for problem in self.problems]}


class LimitError(InputError):
    """A value that was asked for lies beyond a limit of the bench; it was refused before anything moved."""


class LimitExceeded(LabctlError):
    """A reading lies beyond a limit of the bench while running; the run ends and the bench is made safe."""


class InterlockTripped(LabctlError):
    """A watch condition of the bench file holds; the run ends and the bench is made safe."""


class LeftIdle(LabctlError):
    """The run leaves the bench to others, because its next point is not due for long; resumed, it goes on.

    :ivar due_in_s: Time until then, in s.
    """

    def __init__(self, due_in_s: float, where: str) -> None:
        super().__init__(f"the next point is due in {due_in_s:.0f} s", where=where)
        self.due_in_s = due_in_s


class StorageError(LabctlError):
    """Data could not be written or read."""


class Aborted(LabctlError):
    """The run was ended on request; not a fault."""

    exit_code = ExitCode.ABORTED


@dataclass(frozen=True)
class Exchange:
    """What was last sent to and received from an instrument.

    :param sent: Bytes sent, or the name and arguments of a library call.
    :param received: Bytes received, or the return value.
    """

    sent: str = ""
    received: str = ""

    def __str__(self) -> str:
        return f"sent {self.sent or 'nothing'}, received {self.received or 'nothing'}"


class InstrumentError(LabctlError):
    """An instrument answered wrongly, reported a fault, or did not do as it was told.

    :param exchange: The last exchange on the wire.
    :param role: Role and driver; filled in by the bench when the driver does not know it.
    """

    def __init__(
        self,
        what: str,
        *,
        exchange: Exchange | None = None,
        role: str = "",
        where: str = "",
        state: str = "",
        todo: str = "",
    ) -> None:
        super().__init__(what, where=where, state=state, todo=todo)
        self.exchange = exchange or Exchange()
        self.role = role

    def __str__(self) -> str:
        place = ", ".join(part for part in (self.role, self.where, str(self.exchange)) if part)
        lines = [self.what, f"  where: {place}"]
        for label, text in (("state", self.state), ("do", self.todo)):
            if text:
                lines.append(f"  {label}: {text}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, object]:
        return {**super().as_dict(), "role": self.role, "sent": self.exchange.sent, "received": self.exchange.received}


class InstrumentTimeout(InstrumentError):
    """No, or no complete, reply came within the time allowed."""


class NoPulse(InstrumentTimeout):
    """An energy meter answers, but no pulse has triggered it."""


class ConnectionLost(InstrumentError):
    """The connection to the instrument broke or could not be made."""


class Quarantined(InstrumentError):
    """One instrument has spoilt point after point; the run ends rather than leave more of them out.

    :param role: The instrument.
    :param points: Points in a row that it has spoilt.
    :param last: What it did last.
    """

    def __init__(self, role: str, points: int, last: InstrumentError) -> None:
        super().__init__(
            f"the {role.replace('_', ' ')} is quarantined: it has spoilt {points} points in a row, last: {last.what}",
            exchange=last.exchange,
            role=role,
            where=last.where,
            state="the points are marked as skipped; all others are stored",
            todo="repair the instrument, then go on with `labctl run --resume RUN`; what was skipped stays out",
        )


@dataclass
class OpenFailure:
    """One role that could not be opened."""

    role: str
    driver: str
    resource: str
    error: Exception


@dataclass
class BenchOpenError(LabctlError):
    """Every role of a bench that could not be opened, together, as a tree.

    :param safe_report: What became of those that did open (a :class:`labctl.bench.safe.SafeReport`).
    """

    bench: str
    failures: Sequence[OpenFailure] = field(default_factory=tuple)
    safe_report: Any = None

    def __post_init__(self) -> None:
        lines = [f"bench {self.bench!r}: {len(self.failures)} instrument(s) could not be opened"]
        for number, failure in enumerate(self.failures):
            last = number == len(self.failures) - 1
            lines.append(f"{'└─' if last else '├─'} {failure.role}: {failure.driver} at {failure.resource}")
            indent = "   " if last else "│  "
            lines.extend(f"{indent}{line}" for line in str(failure.error).splitlines())
        LabctlError.__init__(
            self,
            "\n".join(lines),
            state=self._state_left(),
            todo="check power, cable and the `resource` lines in the bench file; `labctl bench check` tries again",
        )

    def _state_left(self) -> str:
        if self.safe_report is None or self.safe_report.state != "unconfirmed":
            return "instruments that did open were made safe and closed again"
        steps = "; ".join(f"{entry.role}: {entry.step.action}" for entry in self.safe_report.unconfirmed)
        return f"SAFE STATE UNCONFIRMED, go to the bench and look: {steps}; all connections are closed"

    def as_dict(self) -> dict[str, object]:
        tree = []
        for failure in self.failures:
            inner = failure.error
            detail = inner.as_dict() if isinstance(inner, LabctlError) else {"what": f"{type(inner).__name__}: {inner}"}
            place = {"role": failure.role, "driver": failure.driver, "resource": failure.resource}
            tree.append({**place, "error": detail})
        return {**super().as_dict(), "failures": tree}
