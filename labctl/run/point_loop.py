"""The point loop: announce, measure, check, store, acknowledge; in plan order, whatever the procedure."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from labctl.clock import Clock
from labctl.errors import Aborted, InputError, InstrumentError
from labctl.run.plan import Plan, Point, Stage
from labctl.run.record import Acknowledged, Record

if TYPE_CHECKING:
    from labctl.run.procedure import SweepProcedure


class Announcer(Protocol):
    """Whoever wants to know which point comes next; a bench is one."""

    def announce(self, point: int, attempt: int, schedule_s: float) -> None:
        """Say which point is measured next."""
        ...


class RowStore(Protocol):
    """Where rows and events go; a journal is one."""

    def append(
        self,
        stream: str,
        *,
        point: int,
        attempt: int,
        t_s: float,
        wall_s: float,
        row: Mapping[str, Any],
        arrays: Mapping[str, Any] | None = None,
    ) -> None:
        """Store one record."""
        ...

    def event(self, kind: str, data: Mapping[str, Any], *, t_s: float, wall_s: float) -> None:
        """Store one event."""
        ...

    def commit(self) -> None:
        """Store what is still pending."""
        ...


class Observer(Protocol):
    """Whoever watches a run from within the engine."""

    def stage(self, stage: Stage, count: int) -> None:
        """A stage of ``count`` points begins; they are journalled."""
        ...

    def expect(self, duration_s: float) -> None:
        """The next sign of progress comes within ``duration_s`` of the run's clock, or the run hangs."""
        ...

    def done(self, point: Point, record: Record, done: int) -> None:
        """A point was stored; ``done`` points are stored by now."""
        ...

    def progress(self, percent: float) -> None:
        """A procedure that counts its points for itself says how far it is."""
        ...


class Loop(Protocol):
    """Whatever takes a run through its plan."""

    done: int
    """Points stored so far."""

    @property
    def planned(self) -> int:
        """Get the bound on the number of points, as far as it is known by now."""
        ...

    def run(self) -> None:
        """Measure all points; raises Aborted when stopped and whatever an instrument raises."""
        ...


_PATIENCE_FACTOR = 4.0
_PATIENCE_S = 60.0


class PointLoop:
    """Runs all stages of a plan.

    :param procedure: What to measure; prepared.
    :param plan: Its plan.
    :param announcer: Told of every point before it is measured.
    :param journal: Where rows go; its streams are declared.
    :param clock: Clock of the run.
    :param stop: Set from outside to end the run after the current exposure.
    :param observer: Told of stages, deadlines and points.
    """

    def __init__(
        self,
        procedure: SweepProcedure,
        plan: Plan,
        announcer: Announcer,
        journal: RowStore,
        clock: Clock,
        *,
        stop: threading.Event,
        observer: Observer,
    ) -> None:
        self.procedure = procedure
        self.plan = plan
        self.announcer = announcer
        self.journal = journal
        self.clock = clock
        self.stop = stop
        self.observer = observer
        self.done = 0
        self._start_s = clock.now()
        self._planned = plan.max_points
        self._rows: list[Acknowledged] = []
        self._keep_rows = True

    @property
    def planned(self) -> int:
        """Get the bound on the number of points, less what adaptive stages left out."""
        return self._planned

    def run(self) -> None:
        """Measure all points; raises Aborted when stopped and whatever an instrument raises."""
        index = 0
        schedule_s = self.plan.start_up_s
        for number, stage in enumerate(self.plan.stages):
            points = self._points_of(stage, index, schedule_s)
            self._planned -= stage.max_points - len(points)
            self._journal_stage(stage, points)
            # Only adaptive stages look back: a long run without one must not fill the memory.
            self._keep_rows = any(later.adaptive for later in self.plan.stages[number + 1 :])
            if not self._keep_rows:
                self._rows.clear()
            self.observer.stage(stage, len(points))
            for point in points:
                self._measure(point, stage)
            index += len(points)
            schedule_s += stage.max_points * stage.point_s
        self.journal.commit()

    def _points_of(self, stage: Stage, index: int, schedule_s: float) -> list[Point]:
        settings = stage.settings
        if settings is None:
            self.journal.commit()
            settings = tuple(self.procedure.next_settings(stage, tuple(self._rows)))
            self._check_bounds(stage, settings)
        return [
            Point(index + number, stage.name, entry, schedule_s + number * stage.point_s)
            for number, entry in enumerate(settings)
        ]

    @staticmethod
    def _check_bounds(stage: Stage, settings: Sequence) -> None:
        if len(settings) > stage.max_points:
            raise InputError(f"the stage {stage.name!r} wants {len(settings)} points; its bound is {stage.max_points}")
        for entry in settings:
            for name, (low, high) in stage.bounds.items():
                if name in entry and not low <= entry[name] <= high:
                    raise InputError(
                        f"the stage {stage.name!r} wants {name} = {entry[name]:g}; its bounds are {low:g} to {high:g}"
                    )

    def _journal_stage(self, stage: Stage, points: Sequence[Point]) -> None:
        """Write down what will be done before anything moves, so that a resumed run does the same."""
        settings = [point.settings for point in points]
        first = points[0].index if points else None
        self._event("stage", {"name": stage.name, "stream": stage.stream, "first": first, "points": settings})

    def _measure(self, point: Point, stage: Stage) -> None:
        if self.stop.is_set():
            raise Aborted("the run was stopped on request", where=f"before point {point.index} ({stage.name})")
        longest_s = max(stage.point_s, stage.longest_point_s)
        self.observer.expect(longest_s * _PATIENCE_FACTOR + _PATIENCE_S)
        self.announcer.announce(point.index, 0, point.schedule_s)
        try:
            record = self.procedure.measure(point)
        except InstrumentError as error:
            error.where = error.where or f"point {point.index} of stage {stage.name!r}"
            raise
        self.journal.append(
            stage.stream,
            point=point.index,
            attempt=0,
            t_s=self.clock.now() - self._start_s,
            wall_s=self.clock.wall(),
            row=record.row,
            arrays=record.arrays,
        )
        self.done += 1
        entry = Acknowledged(point, record.row)
        if self._keep_rows:
            self._rows.append(entry)
        self.procedure.acknowledge(entry)
        self.observer.done(point, record, self.done)

    def _event(self, kind: str, data: dict[str, object]) -> None:
        self.journal.event(kind, data, t_s=self.clock.now() - self._start_s, wall_s=self.clock.wall())
