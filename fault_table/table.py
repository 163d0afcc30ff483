"""The fault table of a procedure: which faults, what came of them, in numbers and by name."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from fault_table.plans import PLANS
from fault_table.replay import Replay, Report, Row, Step, request_of
from fault_table.verdict import BAD, Judged, Noise, Verdict, judge
from labctl.run.request import RunRequest
from labctl.sim.faults import Fault, Kind

_OTHER_NOISES, _OTHER_NOISES_OF_LONG_RUN = 6, 3


@dataclass
class Table:
    """All replays of a procedure.

    :param transactions: Number of transactions of the short run.
    :param elapsed_s: Real time that it took.
    :param busy_s: Time of processors that it took, summed over all processes.
    """

    procedure: str
    transactions: int
    judged: list[Judged]
    elapsed_s: float
    busy_s: float

    @property
    def bad(self) -> list[Judged]:
        """Get the replays that broke a promise."""
        return [entry for entry in self.judged if entry.verdict in BAD]

    def text(self) -> str:
        """Get the table, then everything that is not as it should be, then what nobody can detect."""
        lines = [
            f"{self.procedure}: {self.transactions} transactions, {len(self.judged)} replays"
            f" in {self.elapsed_s:.0f} s ({self.busy_s:.0f} s of processor time)",
            "",
            *_by_kind(self.judged),
            "",
            *_listed("broken promises", self.bad),
            *_listed("undetectable", [entry for entry in self.judged if entry.verdict is Verdict.UNDETECTABLE]),
        ]
        return "\n".join(lines)


def fault_table(
    procedure: str, *, bench: str | None = None, jobs: int = 2, every: int = 1, kinds: Sequence[Kind] = ()
) -> Table:
    """Spoil every transaction of a procedure with every fault.

    :param bench: Another simulated bench than the one of its plan.
    :param jobs: Processes at a time.
    :param every: Take only every so-many-th transaction of the short run: for a quick look.
    :param kinds: Only these kinds of faults; all if empty.
    """
    began_s = time.monotonic()
    plan = PLANS[procedure]
    bench = bench or plan.bench
    short = _Choice(every, plan.stride, plan.roles, kinds or tuple(Kind))
    with TemporaryDirectory(prefix="fault-table-") as folder:
        request = request_of(procedure, bench, plan.every, Path(folder))
        # Whatever is imported or compiled at first use is there before the first fork.
        others = _with_other_noise(request, _OTHER_NOISES)
        replay = Replay(request, short.all, jobs)
        judged = _judged(replay.run(), others, replay.reports)
        if plan.once is not None:
            request = request_of(procedure, bench, plan.once, Path(folder))
            others = _with_other_noise(request, _OTHER_NOISES_OF_LONG_RUN)
            long = Replay(request, short.unseen, jobs)
            judged += _judged(long.run(), others, long.reports)
    return Table(procedure, len(replay.steps), judged, time.monotonic() - began_s, sum(os.times()[:4]))


class _Choice:
    """Which faults go into which transaction."""

    def __init__(self, every: int, stride: int, roles: Sequence[str], kinds: Sequence[Kind]) -> None:
        self._every = every
        self._stride = stride
        self._own_roles = roles
        self._kinds = kinds
        self._seen: set[tuple[str, str, str]] = set()
        self._roles: set[str] = set()

    def all(self, step: Step) -> list[Fault]:
        """Every fault into every transaction; and at each new kind of step, all other instruments reset."""
        self._roles.add(step.transaction.role)
        new = self._is_new(step)
        number = step.transaction.number
        if number % self._every or (number % self._stride and not new):
            return []
        others = sorted(self._roles - {step.transaction.role}) if new and Kind.RESET in self._kinds else []
        others = [role for role in others if not self._own_roles or role in self._own_roles]
        return [*self._own(step), *(Fault(Kind.RESET, role) for role in others)]

    def unseen(self, step: Step) -> list[Fault]:
        """Every fault into transactions of which the short run had none like them."""
        return self._own(step) if self._is_new(step) else []

    def _own(self, step: Step) -> list[Fault]:
        return [Fault(kind) for kind in step.transaction.kinds if kind in self._kinds]

    def _is_new(self, step: Step) -> bool:
        if self._own_roles and step.transaction.role not in self._own_roles:
            return False
        new = step.key not in self._seen
        self._seen.add(step.key)
        return new


def _nothing(_: Step) -> list[Fault]:
    return []


def _with_other_noise(request: RunRequest, count: int) -> list[list[Row]]:
    return [Replay(request, _nothing, 1, noise=number).run().rows for number in range(1, count + 1)]


def _judged(reference: Report, others: Sequence[Sequence[Row]], reports: Sequence[Report]) -> list[Judged]:
    if reference.outcome is None or reference.outcome.status != "finished":
        raise RuntimeError(f"the run without a fault did not finish: {reference.outcome} {reference.hang}")
    noise = Noise(reference.rows, others, reference.outcome.warnings)
    return [judge(report, noise) for report in reports]


def _by_kind(judged: Sequence[Judged]) -> list[str]:
    counts = Counter((_kind(entry), entry.verdict) for entry in judged)
    verdicts = [verdict for verdict in Verdict if any(key[1] is verdict for key in counts)]
    head = "| fault | " + " | ".join(verdicts) + " |"
    rows = [head, "|---" * (len(verdicts) + 1) + "|"]
    for kind in sorted({key[0] for key in counts}, key=lambda name: [*Kind, _ELSEWHERE].index(name)):
        rows.append(f"| {kind} | " + " | ".join(str(counts[kind, verdict] or "") for verdict in verdicts) + " |")
    totals = Counter(entry.verdict for entry in judged)
    return [*rows, "| all | " + " | ".join(str(totals[verdict]) for verdict in verdicts) + " |"]


_ELSEWHERE = "reset of another"


def _kind(entry: Judged) -> str:
    report = entry.report
    if report.step is not None and report.role != report.step.transaction.role:
        return _ELSEWHERE
    return str(report.kind)


def _listed(title: str, judged: Sequence[Judged]) -> list[str]:
    """Name replays, those that differ in numbers alone together."""
    groups = Counter(
        (str(entry.verdict), str(entry.report.kind), entry.report.role, *_place(entry.report), entry.why[:300])
        for entry in judged
    )
    lines = [f"{title}: {len(judged)}"]
    lines += [f"  {count} x {', '.join(group)}" for group, count in sorted(groups.items())]
    return lines


def _place(report: Report) -> tuple[str, str]:
    step = report.step
    return (f"{step.transaction.role} {step.word}", step.stage) if step is not None else ("", "")
