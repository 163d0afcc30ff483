"""A laboratory that is not there, with a shutter that remembers, and a run that can break off and go on anywhere.

The point loop, journal, course and earlier part are the real ones. Time is virtual; what comes when is counted in
ticks: each act of the loop (an append, an event, a revival, a look at the interlocks) is one.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from labctl.bench.watch import Tripped
from labctl.clock import VirtualClock
from labctl.errors import Aborted, InstrumentError, LabctlError, LeftIdle, StorageError
from labctl.run.conduct import Conduct
from labctl.run.earlier import Earlier, read_earlier
from labctl.run.plan import Plan, Point, Stage
from labctl.run.point_loop import PointLoop
from labctl.run.policy import FailurePolicy
from labctl.run.procedure import Acknowledged, ArrayField, Column, DefaultPlot, Record, RowLayout, SweepProcedure
from labctl.run.steering import Steering
from labctl.store.journal import Journal
from labctl.store.run import Run, open_run

POINT_S = 2.0
LAYOUT = RowLayout(
    (Column("x_mm", "float", "mm"), Column("signal_counts", "float", "counts")),
    (ArrayField("spectrum", (4,), "float32", "counts"),),
)
STREAMS = ("points", "reference")
BOUNDS = {"x_mm": (0.0, 100.0)}


class Killed(BaseException):
    """The process is gone: nothing that would clean up may run."""


def listed(name: str, *x_mm: float, **fields: Any) -> Stage:
    """Get a stage whose points are known beforehand."""
    settings = tuple({"x_mm": value} for value in x_mm)
    return Stage(name, "points", len(settings), POINT_S, settings, BOUNDS, **fields)


def scheduled(name: str, every_s: float, *x_mm: float, **fields: Any) -> Stage:
    """Get a stage with a point every ``every_s``."""
    return listed(name, *x_mm, times_s=tuple(every_s * number for number in range(len(x_mm))), **fields)


def adaptive(name: str, most: int, **fields: Any) -> Stage:
    """Get a stage whose points follow from what was measured."""
    return Stage(name, "points", most, POINT_S, None, BOUNDS, **fields)


def signal_at(x_mm: float) -> float:
    """What a measurement gives: the same at whatever attempt."""
    return 1000.0 + 10.0 * x_mm


class ToyBench:
    """Announcer and keeper: a shutter, a meter and a camera.

    :param tick: Called before everything that happens.
    """

    def __init__(self, tick: Callable[[str], None]) -> None:
        self._tick = tick
        self.is_open = False
        self.is_up = False
        self.resting = False
        self.stuck_open = False
        self.dead: dict[str, int] = {}
        """Role to the number of revivals that fail."""
        self.happened: list[tuple[Any, ...]] = []
        self.wrongs: list[str] = []

    def note(self, *entry: Any) -> None:
        self.happened.append(entry)

    def announce(self, point: int, attempt: int, schedule_s: float) -> None:
        self._require_dark("a point is announced")
        self.note("announce", point, attempt)

    def role_of(self, error: InstrumentError) -> str:
        return error.role

    def darken(self) -> None:
        self._tick("darken")
        self.note("darken")
        if self.stuck_open and self.is_open:
            raise InstrumentError("the shutter reads back open", role="shutter")
        self.is_open = False

    def revive(self, role: str) -> None:
        self._require_dark(f"the {role} is revived")
        self._tick("revive")
        self.note("revive", role)
        if self.dead.get(role, 0) > 0:
            self.dead[role] -= 1
            raise InstrumentError("no reply at the new connection", role=role)
        self.dead.pop(role, None)

    def rest(self) -> None:
        self.darken()
        self.note("rest")
        self.resting, self.is_up = True, False

    def wake(self) -> None:
        self.note("wake")
        self.resting = False

    def set_up(self) -> None:
        """Set every role anew; a dead instrument cannot be."""
        self._require_dark("the roles are set up")
        self._tick("set up")
        self.note("set up")
        self.is_up = False
        for role, left in self.dead.items():
            if left > 0:
                raise InstrumentError("no reply", role=role)
        self.is_up = True

    def expose(self) -> None:
        if not self.is_up or self.resting:
            self.wrongs.append("measured with roles that were not set up")
        self.is_open = True

    def make_safe(self) -> None:
        """What the engine does at every end, whatever happened."""
        if not self.stuck_open:
            self.is_open = False

    def _require_dark(self, when: str) -> None:
        if self.is_open:
            self.wrongs.append(f"light is on while {when}")


class ToySweep(SweepProcedure):
    """Measures a signal that is proportional to a position."""

    NAME = "toy-sweep"
    DEFAULT_PLOT = DefaultPlot("points", "x_mm", "signal_counts")

    bench: ToyBench
    clock: VirtualClock
    at_attempt: Callable[[Point], None]
    recalled: list[Acknowledged]
    altered: list[tuple[str, int]]

    def next_settings(self, stage: Stage, rows: Sequence[Acknowledged]) -> Sequence[Mapping[str, Any]]:
        """Half as many points as the bound, at places that depend on every row so far."""
        total = sum(entry.row["signal_counts"] for entry in rows)
        return [{"x_mm": (total + 7.0 * number) % 100.0} for number in range((stage.max_points + 1) // 2)]

    def more_settings(
        self, stage: Stage, settings: Sequence[Mapping[str, Any]], count: int
    ) -> Sequence[Mapping[str, Any]]:
        last = settings[-1]["x_mm"] if settings else 0.0
        return [{"x_mm": (last + 0.5 * number) % 100.0} for number in range(1, count + 1)]

    def course_altered(self, stage: Stage, settings: Sequence[Mapping[str, Any]]) -> None:
        self.altered.append((stage.name, len(settings)))

    def measure(self, point: Point) -> Record:  # pyright: ignore[reportIncompatibleMethodOverride]
        self.bench.note("measure", point.index, point.stage, dict(point.settings))
        self.bench.expose()
        self.clock.sleep(POINT_S / 2)
        try:
            self.at_attempt(point)
        except InstrumentError:
            self.bench.is_up = False  # nobody knows how an instrument that failed is set
            raise
        self.clock.sleep(POINT_S / 2)
        self.bench.is_open = False
        x_mm = point.settings["x_mm"]
        spectrum = np.full(4, x_mm, np.float32)
        return Record({"x_mm": x_mm, "signal_counts": signal_at(x_mm)}, {"spectrum": spectrum})

    def recall(self, entry: Acknowledged, arrays: Mapping[str, Any]) -> None:
        assert arrays["spectrum"].tolist() == [np.float32(entry.row["x_mm"])] * 4
        self.recalled.append(entry)


@dataclass
class ToyInterlocks:
    """Conditions that trip at given looks.

    :param trips: Number of the look to action, and to the number of times the run may not go on yet.
    """

    bench: ToyBench
    tick: Callable[[str], None]
    trips: dict[int, tuple[str, int]] = field(default_factory=dict)
    worsens: Tripped | None = None
    looks: int = 0
    left: int = 0

    def check(self) -> Tripped | None:
        self.tick("look")
        action, self.left = self.trips.pop(self.looks, ("", self.left))
        self.looks += 1
        return tripped(action) if action else None

    def may_resume(self, tripped: Tripped) -> bool:
        if self.bench.is_open:
            self.bench.wrongs.append("light is on while the run pauses")
        if (tripped.action == "safe") != self.bench.resting:
            self.bench.wrongs.append(f"the bench rests: {self.bench.resting}, although the action is {tripped.action}")
        self.tick("wait")
        self.left -= 1
        return self.left < 0

    def soon_s(self) -> float | None:
        return None

    def worse(self, tripped: Tripped) -> Tripped | None:
        return self.worsens


def tripped(action: Any) -> Tripped:
    """Get a condition that has tripped."""
    return Tripped("lid", action, 'stage.lid == "open"', "open", message="Close the lid.")


class ToyStore:
    """The journal, with a kill or a full disk at a chosen moment.

    :param at: Told of each record before and after it is written.
    """

    def __init__(self, journal: Journal, at: Callable[[str], None]) -> None:
        self.journal = journal
        self._at = at

    def append(self, stream: str, **record: Any) -> None:
        self._at("append")
        self.journal.append(stream, **record)
        self._at("appended")

    def event(self, kind: str, data: Mapping[str, Any], **times: float) -> None:
        self._at("event")
        self.journal.event(kind, data, **times)
        self._at("written")

    def commit(self) -> None:
        self.journal.commit()


@dataclass
class Ended:
    """How a part of a run ended.

    :param status: ``finished``, ``aborted``, ``failed`` or ``crashed``.
    """

    status: str
    error: LabctlError | None
    done: int
    planned: int


class ToyRun:
    """A run from its beginning to its end, in as many parts as it takes.

    :param folder: An empty folder.
    :param plan: What is to be done.
    """

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder = folder
        self.plan = plan
        self.path = folder / "0" / "run.journal"
        self.path.parent.mkdir()
        self.wall_s = 1.7e9
        self.clock = VirtualClock(50.0, wall_start=self.wall_s)
        self.bench = ToyBench(lambda what: self.tick(what))
        self.steering = Steering()
        self.stop = threading.Event()
        self.acknowledged: list[int] = []
        self.notices: list[tuple[str, Mapping[str, Any]]] = []
        self.sweep: ToySweep
        self.interlocks = ToyInterlocks(self.bench, self.tick)
        self.loop: PointLoop
        self.ticks = 0
        self.disk_is_full = False
        self.at_tick: dict[int, Callable[[], None]] = {}
        self.at_attempt: Callable[[Point], None] = lambda point: None
        self.trips: dict[int, tuple[str, int]] = {}
        self.on_notice: Callable[[str], None] = lambda kind: None
        self.expected_s: list[float] = []
        self._parts = 0

    def tick(self, what: str) -> None:
        """One more act of the loop; what is planned for it happens."""
        self.ticks += 1
        if (act := self.at_tick.pop(self.ticks, None)) is not None:
            act()
        if self.disk_is_full and what in {"append", "event"}:
            self.disk_is_full = False
            raise StorageError("the disk is full")

    def kill(self) -> None:
        """End the process here and now."""
        raise Killed()

    def fill_disk(self) -> None:
        """Fail the next record that is about to be written."""
        self.disk_is_full = True

    def part(self, *, away_s: float = 0.0, **conduct: Any) -> Ended:
        """Begin the run, or go on with it, until it ends in one way or another.

        :param away_s: How long it was away.
        :param conduct: For :class:`Conduct`.
        """
        self.wall_s = self.clock.wall() + away_s
        self.clock = VirtualClock(1000.0 * self._parts, wall_start=self.wall_s)
        self.stop.clear()
        with mock.patch("labctl.run.earlier.RealClock", lambda: self.clock):
            earlier = read_earlier(self.path) if self._parts else None
            self._parts += 1
            journal = self._journal(earlier)
            with self.clock.actor():
                ended = self._ended(journal, earlier, conduct)
        self.steering = Steering()
        return ended

    def _journal(self, earlier: Earlier | None) -> Journal:
        if earlier is None:
            journal = Journal.create(self.path, {"run": "toy", "plan": self.plan.as_dict()})
            for stream in STREAMS:
                journal.add_stream(stream, LAYOUT)
            return journal
        journal = Journal.open(self.path)
        times = {"t_s": earlier.resumes_at_s(self.clock), "wall_s": self.clock.wall()}
        journal.set_status("running", **times)
        journal.event("resumed", {"gap_s": earlier.gap_s(self.clock), "cause": earlier.cause}, **times)
        return journal

    def _ended(self, journal: Journal, earlier: Earlier | None, conduct: dict[str, Any]) -> Ended:
        self.sweep = ToySweep()
        self.sweep.bench, self.sweep.clock, self.sweep.at_attempt = self.bench, self.clock, self.at_attempt
        self.sweep.recalled, self.sweep.altered = [], []
        self.sweep.acknowledge = lambda entry: self.acknowledged.append(entry.point.index)
        self.interlocks.trips = self.trips
        fields: dict[str, Any] = {
            "policy": FailurePolicy(wait_s=1.0),
            "keeper": self.bench,
            "set_up": self.bench.set_up,
            "interlocks": self.interlocks,
            "steering": self.steering,
            "earlier": earlier,
        }
        # A process that begins has its roles set up, and knows nothing of dead instruments.
        self.bench.dead, self.bench.is_up, self.bench.resting = {}, True, False
        plan = self.plan if earlier is None else earlier.plan
        self.loop = PointLoop(
            self.sweep,
            plan,
            self.bench,
            ToyStore(journal, self.tick),
            self.clock,
            stop=self.stop,
            observer=self,
            conduct=Conduct(**{**fields, **conduct}),
        )
        status, error = "finished", None
        try:
            self.loop.run()
        except Killed:
            self._drop(journal)
            return Ended("crashed", None, self.loop.done, self.loop.planned)
        except LeftIdle:
            status = "waiting"
        except Aborted as aborted:
            status, error = "aborted", aborted
        except LabctlError as failure:
            status, error = "failed", failure
        if self.bench.is_open and status != "failed":
            self.bench.wrongs.append(f"light is on when the run has {status}")
        self.bench.make_safe()
        times = {"t_s": self.loop.now_s, "wall_s": self.clock.wall()}
        if error is not None:
            journal.event("incident", {"error": error.as_dict()}, **times)
        journal.set_status(status, **times)
        journal.close()
        return Ended(status, error, self.loop.done, self.loop.planned)

    def _drop(self, journal: Journal) -> None:
        """Go on from what the disk holds at this moment; whoever outlives the process makes the bench safe."""
        folder = self.folder / str(self._parts)
        shutil.copytree(self.path.parent, folder)
        journal.close()
        self.path = folder / self.path.name
        self.bench.make_safe()

    def open(self) -> Run:
        """Open the run as it is on the disk."""
        return open_run(self.path)

    def stored(self, column: str = "point", stream: str = "points") -> list[Any]:
        with self.open() as run:
            return run.column(column, stream).tolist()

    def events(self, kind: str) -> list[dict[str, Any]]:
        with self.open() as run:
            return [event.data for event in run.events(kind)]

    def only(self, *kinds: str) -> list[tuple[Any, ...]]:
        return [entry for entry in self.bench.happened if entry[0] in kinds]

    # What an observer is told.

    def stage(self, stage: Stage, count: int) -> None:
        self.bench.note("stage", stage.name, count)

    def expect(self, duration_s: float) -> None:
        self.expected_s.append(duration_s)

    def done(self, point: Point, record: Record, done: int) -> None:
        self.bench.note("done", point.index, done)

    def progress(self, percent: float) -> None:
        raise AssertionError("a point loop counts its points")

    def altered(self, planned: int) -> None:
        self.bench.note("altered", planned)

    def noticed(self, kind: str, data: Mapping[str, Any]) -> None:
        if kind == "paused" and self.bench.is_open:
            self.bench.wrongs.append("light is on while the run pauses")
        self.notices.append((kind, data))
        self.on_notice(kind)
