"""The course of a run: the points of each stage, as planned, chosen by an adaptive stage, or left by an operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from labctl.errors import InputError
from labctl.run.earlier import Earlier
from labctl.run.plan import Plan, Point, Stage
from labctl.run.record import Acknowledged
from labctl.run.steering import Alteration

if TYPE_CHECKING:
    from labctl.run.procedure import SweepProcedure

WriteEvent = Callable[[str, dict[str, Any]], None]
AgainstMore = Callable[[Stage, int], str]
Refuse = Callable[[Alteration, InputError], None]


class Course:
    """Gives the points of one stage after the other, and journals them before anything moves.

    Of a resumed run it gives what the journal has; only stages that had not begun are planned now.

    :param procedure: Chooses the points of adaptive stages, and more points where an operator wants some.
    :param write_event: Writes an event into the journal.
    :param refuse: Told of an alteration that turns out to be impossible when its stage begins.
    :param earlier: The earlier part of a resumed run.
    :param against_more: Says why a stage may not have so many points more; an empty text if it may.
    """

    def __init__(
        self,
        plan: Plan,
        procedure: SweepProcedure,
        write_event: WriteEvent,
        refuse: Refuse,
        earlier: Earlier | None = None,
        against_more: AgainstMore = lambda stage, count: "",
    ) -> None:
        self.plan = plan
        self._procedure = procedure
        self._write_event = write_event
        self._refuse = refuse
        self._earlier = earlier
        self._against_more = against_more
        self._next_index = 0
        self._next_schedule_s = plan.start_up_s
        self._pending: list[Alteration] = list(earlier.pending) if earlier is not None else []
        self._begun: list[str] = []
        self._began_s = 0.0

    def begin(self, stage: Stage, rows: Sequence[Acknowledged], now_s: float) -> list[Point]:
        """Get the points of the next stage.

        :param rows: What was acknowledged before it.
        :param now_s: Time since the start of the run, in s.
        """
        self._begun.append(stage.name)
        known = self._earlier.stages.get(stage.name) if self._earlier is not None else None
        if known is not None:
            self._began_s = known.began_s
            points = self._points(stage, known.first, known.settings, known.times_s)
            self._procedure.course_altered(stage, known.settings)
        else:
            self._began_s = now_s
            settings = stage.settings if stage.settings is not None else self._chosen(stage, rows)
            times_s = stage.times_s[: len(settings)] if stage.times_s is not None else None
            points = self._points(stage, self._next_index, settings, times_s)
            points = self._with_pending(stage, points)
            # Only now: a stage that is journalled has its alterations, whenever the run breaks off.
            self._journal(stage, points)
        return points

    def end(self, stage: Stage, points: Sequence[Point]) -> None:
        """Take note that a stage is over; the next one follows."""
        self._next_index = (points[0].index if points else self._next_index) + len(points)
        self._next_schedule_s += stage.duration_s

    def alter(self, stage: Stage, points: list[Point], position: int, alteration: Alteration) -> list[Point]:
        """Get the points of the present stage after an alteration of it, or of a later one; journals the change.

        :param position: Number of points of the present stage that are done with.
        :raises InputError: If it cannot be; nothing has changed then.
        """
        name = alteration.stage or stage.name
        alteration = alteration.model_copy(update={"stage": name})
        if name == stage.name:
            return self._altered(stage, points, position, alteration)
        names = [known.name for known in self.plan.stages]
        if name not in names:
            todo = f"one of {', '.join(names)}"
            raise InputError(f"there is no stage {name!r}", where="alteration of the run", todo=todo)
        if name in self._begun:
            raise InputError(f"the stage {name!r} is over", where="alteration of the run", state="nothing has changed")
        later = self.plan.stages[names.index(name)]
        if alteration.what == "extend":
            self._require_room(later, alteration)
        self._pending.append(alteration)
        self._write_event("altered", {"alteration": alteration.model_dump(), "takes_effect": "when its stage begins"})
        return points

    def _chosen(self, stage: Stage, rows: Sequence[Acknowledged]) -> tuple[Mapping[str, Any], ...]:
        settings = tuple(self._procedure.next_settings(stage, tuple(rows)))
        _check_bounds(stage, settings, stage.max_points)
        return settings

    def _points(
        self, stage: Stage, first: int, settings: Sequence[Mapping[str, Any]], times_s: Sequence[float] | None
    ) -> list[Point]:
        return [
            Point(
                first + number,
                stage.name,
                entry,
                self._next_schedule_s + number * stage.point_s,
                self._began_s + times_s[number] if times_s is not None else None,
            )
            for number, entry in enumerate(settings)
        ]

    def _with_pending(self, stage: Stage, points: list[Point]) -> list[Point]:
        """Get the points of a stage that begins, with what operators have asked of it before."""
        for alteration in [one for one in self._pending if one.stage == stage.name]:
            self._pending.remove(alteration)
            try:
                points = self._changed(stage, points, 0, alteration)
            except InputError as error:
                self._refuse(alteration, error)
            else:
                self._procedure.course_altered(stage, [point.settings for point in points])
        return points

    def _changed(self, stage: Stage, points: list[Point], position: int, alteration: Alteration) -> list[Point]:
        change = {"extend": self._extended, "shorten": self._shortened, "retime": self._retimed}[alteration.what]
        return change(stage, points, position, alteration)

    def _altered(self, stage: Stage, points: list[Point], position: int, alteration: Alteration) -> list[Point]:
        changed = self._changed(stage, points, position, alteration)
        self._journal(stage, changed)
        self._write_event(
            "altered", {"alteration": alteration.model_dump(), "takes_effect": f"after {position} points"}
        )
        self._procedure.course_altered(stage, [point.settings for point in changed])
        return changed

    def _extended(self, stage: Stage, points: list[Point], _position: int, alteration: Alteration) -> list[Point]:
        count = alteration.points or 0
        self._require_room(stage, alteration)
        settings = [point.settings for point in points]
        more = list(self._procedure.more_settings(stage, settings, count))
        _check_bounds(stage, more, count)
        times_s = None
        if points and points[-1].due_s is not None:
            due = [point.due_s - self._began_s for point in points if point.due_s is not None]
            step_s = due[-1] - due[-2] if len(due) > 1 else stage.point_s
            times_s = [*due, *(due[-1] + step_s * number for number in range(1, len(more) + 1))]
        first = points[0].index if points else self._next_index
        return self._points(stage, first, [*settings, *more], times_s)

    def _require_room(self, stage: Stage, alteration: Alteration) -> None:
        if reason := self._against_more(stage, alteration.points or 0):
            raise InputError(reason, where="alteration of the run", state="nothing has changed")

    def _shortened(self, stage: Stage, points: list[Point], position: int, alteration: Alteration) -> list[Point]:
        count, left = alteration.points or 0, len(points) - position
        if count > left:
            raise InputError(
                f"{count} points cannot be left out: {left} of the stage {stage.name!r} are still to come",
                where="alteration of the run",
                state="nothing has changed",
            )
        return points[: len(points) - count]

    def _retimed(self, stage: Stage, points: list[Point], position: int, alteration: Alteration) -> list[Point]:
        every_s = alteration.every_s or 0.0
        if not points or points[0].due_s is None:
            raise InputError(
                f"the stage {stage.name!r} has no schedule: its points follow one another",
                where="alteration of the run",
                state="nothing has changed",
            )
        coming = points[position:]
        from_s = points[position - 1].due_s if position else None
        start_s = from_s + every_s if from_s is not None else (coming[0].due_s or 0.0) if coming else 0.0
        return [
            *points[:position],
            *(replace(point, due_s=start_s + number * every_s) for number, point in enumerate(coming)),
        ]

    def _journal(self, stage: Stage, points: Sequence[Point]) -> None:
        """Write down what will be done before anything moves, so that a resumed run does the same."""
        due = [point.due_s - self._began_s for point in points if point.due_s is not None]
        self._write_event(
            "stage",
            {
                "name": stage.name,
                "stream": stage.stream,
                "first": points[0].index if points else self._next_index,
                "points": [dict(point.settings) for point in points],
                "times_s": due or None,
                "began_s": self._began_s,
            },
        )


def _check_bounds(stage: Stage, settings: Sequence[Mapping[str, Any]], most: int) -> None:
    if len(settings) > most:
        raise InputError(f"the stage {stage.name!r} wants {len(settings)} points; its bound is {most}")
    for entry in settings:
        for name, (low, high) in stage.bounds.items():
            if name in entry and not low <= entry[name] <= high:
                raise InputError(
                    f"the stage {stage.name!r} wants {name} = {entry[name]:g}; its bounds are {low:g} to {high:g}"
                )
