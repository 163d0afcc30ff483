"""The point loop: announce, measure, check, store, acknowledge; in plan order, whatever the procedure."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from labctl.clock import Clock
from labctl.errors import Aborted, InputError, InstrumentError, LeftIdle
from labctl.run.attempts import Attempts
from labctl.run.conduct import Conduct
from labctl.run.contracts import Announcer, Observer, RowStore
from labctl.run.course import Course
from labctl.run.earlier import EarlierRecords
from labctl.run.pauses import Pauses
from labctl.run.plan import Plan, Point, Stage
from labctl.run.record import Acknowledged, Record
from labctl.run.steering import Alteration
from labctl.store.run import REFERENCE_STREAM

if TYPE_CHECKING:
    from labctl.run.procedure import SweepProcedure

_PATIENCE_FACTOR = 4.0
_PATIENCE_S = 60.0
_STORE_S = 30.0
"""No disk that works takes so long for one point."""
_PATIENT_S = 3 * _STORE_S
"""A stage with less patience than this need not say so: it notices a disk that hangs soon enough by itself."""
_REVIVAL_S = 600.0
"""An instrument that is started anew may cool or home for as long as at the beginning."""
_LOOK_S = 1.0
"""How often a run that waits looks at its interlocks and at what operators want."""
_VIRTUAL_LOOK_S = 60.0
"""The same on a virtual clock, by which nobody lives, where nothing is watched: a month has 2.6 million seconds."""
_REFERENCE_ATTEMPT = 1000
"""Attempts from here on are re-measurements of a reference point: their noise is that of no other attempt."""


class PointLoop:
    """Runs all stages of a plan.

    :param procedure: What to measure; prepared.
    :param plan: Its plan.
    :param announcer: Told of every point before it is measured.
    :param journal: Where rows go; its streams are declared.
    :param clock: Clock of the run.
    :param stop: Set from outside to end the run after the current exposure.
    :param observer: Told of stages, deadlines and points.
    :param conduct: What is done about failures, interlocks, wishes of operators, and an earlier part.
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
        conduct: Conduct | None = None,
    ) -> None:
        self.procedure = procedure
        self.plan = plan
        self.announcer = announcer
        self.journal = journal
        self.clock = clock
        self.stop = stop
        self.observer = observer
        self.conduct = conduct or Conduct()
        self.done = 0
        earlier = self.conduct.earlier
        began_s = self.conduct.began_s
        if began_s is None:
            began_s = clock.now() - (earlier.resumes_at_s(clock) if earlier is not None else 0.0)
        self._start_s = began_s
        self._away_until_s = self.now_s if earlier is not None else -math.inf
        self._planned = plan.max_points
        self._rows: list[Acknowledged] = []
        self._keep_rows = True
        self._course = Course(plan, procedure, self._event, self._refuse, earlier, self.conduct.against_more)
        self._attempts = Attempts(self, self.conduct)
        self._pauses = Pauses(self, self.conduct)
        self._reference: Acknowledged | None = None
        self._is_taken_up = earlier is None
        # A run that left the bench of its own accord knows what became of laser and sample meanwhile: nothing else.
        self._has_reference = earlier is None or earlier.status == "waiting"

    @property
    def planned(self) -> int:
        """Get the bound on the number of points, less what adaptive stages left out."""
        return self._planned

    @property
    def now_s(self) -> float:
        """Get the time since the start of the run, in s."""
        return self.clock.now() - self._start_s

    def run(self) -> None:
        """Measure all points; raises Aborted when stopped and whatever an instrument raises."""
        with self._earlier_records() as records:
            for number, stage in enumerate(self.plan.stages):
                if stage.adaptive:
                    self.journal.commit()
                points = self._course.begin(stage, self._rows, self.now_s)
                self._planned -= stage.max_points - len(points)
                # Only adaptive stages look back: a long run without one must not fill the memory.
                self._keep_rows = any(later.adaptive for later in self.plan.stages[number + 1 :])
                if not self._keep_rows:
                    self._rows.clear()
                self.observer.stage(stage, len(points))
                self._run_stage(stage, points, records)
        self.journal.commit()

    def _run_stage(self, stage: Stage, points: list[Point], records: EarlierRecords | None) -> None:
        position = 0
        while True:
            if position < len(points) and self._is_known(points[position]):
                self._recall(points[position], records)
            else:
                points = self._attend(stage, points, position)
                if position == len(points):
                    break
                self._measure(stage, points, position)
            position += 1
        self._course.end(stage, points)

    def _attend(self, stage: Stage, points: list[Point], position: int) -> list[Point]:
        """Heed operators, interlocks and the time of the next point; get the points of the stage as they are then."""
        while True:
            points = self._alter(stage, points, position)
            if position == len(points):
                return points
            self.stop_if_asked(points[position])
            self._pauses.attend(points[position])
            self._take_up(points[position])
            due_s = points[position].due_s
            if due_s is None or due_s <= self.now_s:
                return points
            self._leave_if_idle(due_s - self.now_s, points[position])
            unwatched = self.clock.virtual and self.conduct.interlocks is None
            look_s = _VIRTUAL_LOOK_S if unwatched else _LOOK_S
            self.observer.expect(_LOOK_S * _PATIENCE_FACTOR + _PATIENCE_S)
            self.clock.wait(self.stop, min(due_s - self.now_s, look_s))

    def _take_up(self, point: Point) -> None:
        """Have what goes on between points brought back, once; where that fails, the next point will try again."""
        if self._is_taken_up:
            return
        self._is_taken_up = True
        self.expect_revival()
        try:
            self.procedure.take_up(point)
        except InstrumentError as error:
            data = {"error": error.as_dict(), "role": error.role, "point": point.index, "stage": point.stage}
            self.notice("incident", {**data, "attempt": 0, "action": "left to the next point"})
            self.set_up_first()

    def _leave_if_idle(self, idle_s: float, point: Point) -> None:
        """Raise LeftIdle where a run is to leave the bench to others rather than wait for so long."""
        limit_s = self.conduct.leave_if_idle_s
        if limit_s is not None and idle_s > limit_s:
            raise LeftIdle(idle_s, f"before point {point.index} ({point.stage})")

    def _alter(self, stage: Stage, points: list[Point], position: int) -> list[Point]:
        for alteration in self.conduct.steering.take_alterations():
            before = len(points)
            try:
                points = self._course.alter(stage, points, position, alteration)
            except InputError as error:
                self._refuse(alteration, error)
                continue
            self._planned += len(points) - before
            self.observer.altered(self._planned)
        return points

    def _measure(self, stage: Stage, points: Sequence[Point], position: int) -> None:
        point = points[position]
        if not self._has_reference:
            self._has_reference = True
            self._measure_reference()
        following = points[position + 1].due_s if position + 1 < len(points) else None
        if following is not None and following <= self._away_until_s:
            self.skip(point, "its time went by while the run was away")
            return
        self.expect(stage)
        taken = self._attempts.measure(point, stage)
        if taken is None:
            return
        record, attempt = taken
        self._append(stage, stage.stream, point, attempt, record)
        entry = self._count(point, record)
        self.procedure.acknowledge(entry)
        self.observer.done(point, record, self.done)

    def expect(self, stage: Stage) -> None:
        """Declare how long a point of a stage may take."""
        self.observer.expect(_patience_s(stage))

    def set_up_first(self) -> None:
        """Have every role set up as before the first point, ahead of the next one; what was measured is kept."""
        self._attempts.set_up_first()

    def was_away(self) -> None:
        """Take note that an instrument was waited for until now: points whose time went by meanwhile are left out."""
        self._away_until_s = self.now_s

    def held_by_interlocks(self, point: Point) -> bool:
        """Pause for as long as a watch condition asks for it; get whether one did."""
        return self._pauses.after_failure(point)

    def expect_revival(self) -> None:
        """Declare how long it may take to bring instruments back."""
        self.observer.expect(self.plan.start_up_s * _PATIENCE_FACTOR + _REVIVAL_S)

    def skip(self, point: Point, why: str) -> None:
        """Leave a point out for good, and say so."""
        self.notice(
            "skipped", {"point": point.index, "stage": point.stage, "settings": dict(point.settings), "why": why}
        )
        self._planned -= 1
        self.observer.altered(self._planned)

    def stop_if_asked(self, point: Point) -> None:
        """Raise Aborted if the run is to end."""
        if self.stop.is_set():
            raise Aborted("the run was stopped on request", where=f"before point {point.index} ({point.stage})")

    def notice(self, kind: str, data: dict[str, Any]) -> None:
        """Write an event into the journal and tell the fronts."""
        self._event(kind, data)
        self.observer.noticed(kind, data)

    def _count(self, point: Point, record: Record) -> Acknowledged:
        self.done += 1
        entry = Acknowledged(point, record.row)
        if self._keep_rows:
            self._rows.append(entry)
        return entry

    def _append(self, stage: Stage, stream: str, point: Point, attempt: int, record: Record) -> None:
        """Store a point; what comes after it has the time of its stage again."""
        is_patient = _patience_s(stage) > _PATIENT_S
        if is_patient:
            self.observer.expect(_STORE_S)
        self.journal.append(
            stream,
            point=point.index,
            attempt=attempt,
            t_s=self.now_s,
            wall_s=self.clock.wall(),
            row=record.row,
            arrays=record.arrays,
        )
        if is_patient:
            self.expect(stage)

    def _event(self, kind: str, data: dict[str, Any]) -> None:
        self.journal.event(kind, data, t_s=self.now_s, wall_s=self.clock.wall())

    def _refuse(self, alteration: Alteration, error: InputError) -> None:
        self.notice("refused", {"alteration": alteration.model_dump(), "error": error.as_dict()})

    def _earlier_records(self) -> AbstractContextManager[EarlierRecords | None]:
        earlier = self.conduct.earlier
        return EarlierRecords(earlier) if earlier is not None else nullcontext()

    def _is_known(self, point: Point) -> bool:
        earlier = self.conduct.earlier
        return earlier is not None and (point.index in earlier.done or point.index in earlier.skipped)

    def _recall(self, point: Point, records: EarlierRecords | None) -> None:
        """Take note of a point that the earlier part acknowledged or skipped."""
        earlier = self.conduct.earlier
        if earlier is None or records is None:
            return
        if point.index in earlier.skipped:
            self._planned -= 1
            return
        record = records[point.index]
        entry = self._count(point, record)
        self.procedure.recall(entry, record.arrays)
        if self.procedure.is_better_reference(self._reference, entry):
            self._reference = entry

    def _measure_reference(self) -> None:
        """Measure again a point of the earlier part: what became of laser and sample meanwhile."""
        earlier, chosen = self.conduct.earlier, self._reference
        if earlier is None or chosen is None:
            self.notice("reference", {"point": None, "why": "no point with light had been acknowledged"})
            return
        point, before = chosen.point, chosen.row
        stage = next(stage for stage in self.plan.stages if stage.name == point.stage)
        attempt = _REFERENCE_ATTEMPT + earlier.resumed
        self.expect(stage)
        record = self._attempts.measure_reference(point, stage, attempt)
        if record is None:
            self.notice("reference", {"point": None, "why": f"the measurement of point {point.index} failed"})
            return
        self._append(stage, REFERENCE_STREAM, point, attempt, record)
        ratio = self.procedure.reference_ratio(before, record.row)
        self.notice("reference", {"point": point.index, "stage": point.stage, "ratio": ratio})


def _patience_s(stage: Stage) -> float:
    return max(stage.point_s, stage.longest_point_s) * _PATIENCE_FACTOR + _PATIENCE_S
