"""Runs a procedure, and from every moment of it forks runs that go on with a fault.

The run has no threads, because a fork copies only one: the engine is the real one, but its fronts are deaf, its guard
is this module, and its journal is kept in memory. Nothing is written but the reports of the forks.
"""

from __future__ import annotations

import gc
import os
import pickle
import re
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from labctl.bench.bench import Bench
from labctl.bench.ledger import Account, SpotTotal
from labctl.clock import Clock
from labctl.run import engine as engine_module
from labctl.run import light
from labctl.run.engine import Engine
from labctl.run.guard_line import GuardLine
from labctl.run.outcome import Outcome
from labctl.run.request import RunRequest, prepare
from labctl.sim.faults import Fault, Kind, Transaction, injected
from labctl.sim.transport import LocalLaboratory

REAL_TIME_LIMIT_S = 60
"""After so long a replay is ended from outside, whatever its clock says."""
_BLADE_S = 0.2
_ENOUGH_POINTS = 3
"""A replay that stored so many points after its last failed try has recovered, and is ended in order."""
_STRESSES = {"heating_stage": "heater_on", "lamp": "lamp_on"}
"""What stresses a sample, by role, and what the laboratory calls its being on."""
_NOTICES = ("incident", "skipped")
_NUMBER = re.compile(r"[0-9A-F]*\d[0-9A-F.+-]*")


@dataclass(frozen=True)
class Step:
    """A transaction with its place in the plan."""

    transaction: Transaction
    stage: str
    point: int

    @property
    def word(self) -> str:
        """Get the command without its numbers."""
        return _NUMBER.sub("#", self.transaction.command)

    @property
    def key(self) -> tuple[str, str, str]:
        """Get role, command without numbers, and stage."""
        return self.transaction.role, self.word, self.stage


@dataclass
class Row:
    """A stored record.

    :param truth: The state of the laboratory when it was stored.
    """

    stream: str
    point: int
    row: dict[str, Any]
    arrays: dict[str, Any]
    truth: dict[str, Any]


@dataclass
class Report:
    """What came of one replay; of the run without a fault, ``kind`` is None.

    :param role: The instrument with the fault.
    :param rows: Records stored after the fault.
    :param first: Number of records stored before it.
    :param cut: Whether it was ended from outside because it had recovered.
    :param notices: Kind and data of the journal's events that tell of failed tries and of points left out.
    :param is_library: Whether that instrument is a vendor library.
    :param light: Whether the true shutter was open when all was over; None if no bench had been opened.
    :param left_on: Roles of what stresses the sample, heater and lamp, that were truly on then.
    :param hang: What it waited for beyond its deadline, or how the process died; empty if it ended by itself.
    :param virtual_s: Time from the fault to the end, on the clock of the run.
    """

    step: Step | None
    kind: Kind | None
    role: str
    is_library: bool = False
    applied: bool = False
    outcome: Outcome | None = None
    rows: list[Row] = field(default_factory=list)
    first: int = 0
    light: bool | None = None
    left_on: tuple[str, ...] = ()
    cut: bool = False
    notices: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    hang: str = ""
    virtual_s: float = 0.0


class Hang(BaseException):
    """A replay passed the deadline it had set itself; nothing in labctl may catch this."""


class _DeafEndpoint:
    """Where fronts would listen."""

    address = ""

    def __init__(self, replay: Replay) -> None:
        self.leased = threading.Event()
        self._replay = replay

    def publish(self, event: Mapping[str, Any]) -> None:
        self._replay.stage = str(event.get("phase", self._replay.stage))

    def close(self) -> None:
        """Nothing is open."""


class _Guard(GuardLine):
    """Holds a run against the deadlines it declares, on its own clock."""

    def __init__(self, replay: Replay) -> None:
        super().__init__()
        self._replay = replay

    def say(self, kind: str, **data: Any) -> None:
        """Nobody listens."""

    def expect(self, duration_s: float) -> None:
        self._replay.allow(duration_s)

    def quiet(self, duration_s: float) -> None:
        self._replay.allow(duration_s)


class _NoReserve:
    """Space on the disk for a journal that needs none."""

    def shrink_to(self, size_bytes: int) -> None:
        """Nothing is reserved."""


class _Memory:
    """A journal in memory."""

    path = Path("memory.journal")
    reserve = _NoReserve()

    def __init__(self, truth: Callable[[], dict[str, Any]], recovered: Callable[[], None]) -> None:
        self.rows: list[Row] = []
        self.notices: list[tuple[str, Mapping[str, Any]]] = []
        self._truth = truth
        self._recovered = recovered
        self._rows_at_notice = 0

    def append(self, stream: str, *, point: int, row: Mapping[str, Any], arrays: Any = None, **_: Any) -> None:
        self.rows.append(Row(stream, point, dict(row), dict(arrays or {}), self._truth()))
        if self.notices and len(self.rows) - self._rows_at_notice >= _ENOUGH_POINTS:
            self._recovered()

    def event(self, kind: str, data: Mapping[str, Any], **_: Any) -> None:
        """Keep what happened to points; of the rest of the events nothing is looked at."""
        if kind in _NOTICES and "point" in data:
            self.notices.append((kind, dict(data)))
            self._rows_at_notice = len(self.rows)

    def commit(self) -> None:
        """What is in memory is stored."""

    add_stream = set_axis = set_status = lambda self, *_, **__: None

    def close(self) -> None:
        """Nothing is open."""


class _DeafLedger:
    """An exposure ledger that holds nothing."""

    def __init__(self, directory: Path) -> None:
        self.path = directory

    def open_account(self, sample: str, spot: str, run: str, *, simulated: bool, wall_s: float) -> Account:
        return Account(1, sample, spot, run, simulated, wall_s)

    def write(self, exposures: object, account: object = None) -> None:
        """Nothing is kept."""

    def settle(self, account: Account, exposures: object) -> None:
        """Nothing is kept."""

    def open_accounts(self) -> list[Account]:
        return []

    def total(self, *_: str, **__: object) -> SpotTotal:
        return SpotTotal(0.0, 0, 0.0, 0)


Choose = Callable[[Step], list[Fault]]


class Replay:
    """One run in this process, and the runs forked from it.

    :param request: The run.
    :param choose: Tells the faults to be put into a transaction; each gets a process of its own.
    :param jobs: Processes at a time.
    :param noise: Another number gives other noise: other shots and counts, the same laser, sample and drifts.
    """

    def __init__(self, request: RunRequest, choose: Choose, jobs: int, *, noise: int = 0) -> None:
        self.request = request
        self.stage = "opening"
        self.steps: list[Step] = []
        self.reports: list[Report] = []
        self._choose = choose
        self._jobs = jobs
        self._noise = noise
        self._memory = _Memory(self._truth, self._cut)
        self._engine: Engine | None = None
        self._laboratory: LocalLaboratory | None = None
        self._clock: Clock | None = None
        self._deadline_s = float("inf")
        self._light: bool | None = None
        self._left_on: tuple[str, ...] = ()
        self._mine: tuple[Report, Fault, float] | None = None
        self._children: dict[int, Report] = {}
        self._folder = Path()
        self._libraries: set[str] = set()

    def run(self) -> Report:
        """Run to the end; returns the report of the run without a fault. The others are in ``reports``."""
        if threading.active_count() > 1:
            raise RuntimeError(f"a process with threads cannot be forked: {threading.enumerate()}")
        gc.collect()
        gc.freeze()
        with tempfile.TemporaryDirectory(prefix="fault-table-") as folder:
            self._folder = Path(folder)
            report = self._go()
            if self._mine is not None:
                self._leave(self._mine[0])
            while self._children:
                self._gather()
        return report

    def allow(self, duration_s: float) -> None:
        """Set the deadline for the next sign of progress."""
        if self._clock is not None:
            self._deadline_s = self._clock.now() + duration_s

    def _go(self) -> Report:
        report = Report(None, None, "")
        try:
            with self._patched(), injected(self._watch):
                self._engine = engine = Engine(prepare(self.request), _Guard(self))
                self._clock = engine.clock
                with engine.clock.actor():
                    outcome: Outcome | None = engine._run()
                self._check_deadline("the end")
        except Hang as hang:
            outcome, hung = None, str(hang)
        else:
            hung = ""
        if self._mine is not None:
            report, fault, since_s = self._mine
            report.applied = fault.applied
            report.virtual_s = self._now() - since_s
        report.outcome, report.hang, report.light = outcome, hung, self._light
        report.left_on = self._left_on
        report.rows = self._memory.rows[report.first :]
        report.notices = self._memory.notices
        return report

    def _cut(self) -> None:
        """End a replay that has recovered: it has measured the point again, and the next ones in order."""
        if self._mine is not None and self._engine is not None:
            self._mine[0].cut = True
            self._engine.stop.set()

    def _truth(self, later_s: float = 0.0) -> dict[str, Any]:
        if self._laboratory is None:
            return {}
        laboratory, t = self._laboratory.stand.laboratory, self._now() + later_s
        return {**laboratory.state(t), "irradiance_mw_cm2": laboratory.lamp.irradiance_mw_cm2(t)}

    def _now(self) -> float:
        return self._clock.now() if self._clock is not None else 0.0

    def _check_deadline(self, where: str) -> None:
        if self._now() > self._deadline_s:
            raise Hang(f"{self._now() - self._deadline_s:.0f} s beyond the deadline at {where}, {self.stage}")

    def _watch(self, transaction: Transaction) -> Fault | None:
        self._check_deadline(transaction.command)
        if self._mine is not None:
            if not self._mine[1].applied:
                self._leave(self._mine[0])  # its transaction is over
            return None
        point = self._memory.rows[-1].point + 1 if self._memory.rows else 0
        step = Step(transaction, self.stage, point)
        self.steps.append(step)
        if transaction.is_call:
            self._libraries.add(transaction.role)
        for fault in self._choose(step):
            role = fault.role or transaction.role
            library = role in self._libraries
            report = Report(step, fault.kind, role, first=len(self._memory.rows), is_library=library)
            while len(self._children) >= self._jobs:
                self._gather()
            child = os.fork()
            if child == 0:
                signal.alarm(REAL_TIME_LIMIT_S)
                self._children.clear()
                self._mine = (report, fault, self._now())
                return fault
            self._children[child] = report
        return None

    def _leave(self, report: Report) -> None:
        path = self._folder / str(os.getpid())
        path.write_bytes(pickle.dumps(report))
        os._exit(0)

    def _gather(self) -> None:
        """Wait for a process and take its report."""
        child, status = os.waitpid(-1, 0)
        report = self._children.pop(child)
        path = self._folder / str(child)
        if status == 0 and path.exists():
            self.reports.append(pickle.loads(path.read_bytes()))  # noqa: S301 (written by our own fork)
            path.unlink()
            return
        code = os.waitstatus_to_exitcode(status)
        died = f"no end within {REAL_TIME_LIMIT_S} s of real time" if code == -signal.SIGALRM else f"exit code {code}"
        report.hang = died
        self.reports.append(report)

    @contextmanager
    def _patched(self) -> Iterator[None]:
        replay = self

        class WatchedBench(Bench):
            """Looks at the true state of the laboratory when all is over."""

            def announce(self, point: int, attempt: int, schedule_s: float) -> None:
                laboratory = self.laboratory
                replay._laboratory = laboratory if isinstance(laboratory, LocalLaboratory) else None
                super().announce(point, attempt + replay._noise, schedule_s)

            def close(self) -> None:
                laboratory = self.laboratory
                if isinstance(laboratory, LocalLaboratory):
                    replay._laboratory = laboratory
                    true = replay._truth(_BLADE_S)
                    replay._light = bool(true["shutter_open"])
                    replay._left_on = tuple(role for role, name in _STRESSES.items() if true[name])
                super().close()

        stand_ins = {
            "Bench": WatchedBench,
            "Endpoint": lambda *_, **__: _DeafEndpoint(self),
            "Journal": mock.Mock(create=lambda *_, **__: self._memory),
            "finish": lambda *_: None,
        }
        with mock.patch.multiple(engine_module, **stand_ins), mock.patch.object(light, "ExposureLedger", _DeafLedger):
            yield


def request_of(procedure: str, bench: str, parameters: Mapping[str, Any], folder: Path) -> RunRequest:
    """Compose the request of a run on the virtual clock."""
    return RunRequest(
        procedure=procedure, bench=bench, parameters=dict(parameters), out=str(folder), virtual_time=True, seed=0
    )
