"""How long a run still takes: from its plan, scaled by the pace so far."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labctl.run.expectation import Expectation
    from labctl.run.plan import Plan

_TELLING_SHARE = 0.02
_TELLING_S = 2.0


class TimeLeft:
    """Estimates the time left from the plan, scaled by the pace so far.

    :param stages: Name to ``max_points`` and ``point_s``, in the order of the plan.
    :param start_up_s: Planned time before the first point, in s.
    :param virtual_time: Whether planned seconds say nothing about real ones.
    """

    def __init__(self, stages: Mapping[str, Mapping[str, float]], start_up_s: float, *, virtual_time: bool) -> None:
        self.points = {name: int(stage["max_points"]) for name, stage in stages.items()}
        self._point_s = {name: stage["point_s"] for name, stage in stages.items()}
        self._start_up_s = start_up_s
        self._virtual_time = virtual_time

    @property
    def total_s(self) -> float:
        """Get the planned duration in s, as far as it is known by now."""
        return self._start_up_s + sum(count * self._point_s[name] for name, count in self.points.items())

    def planned_s(self, done: int) -> float:
        """Get the planned time up to the end of point number ``done``, in s; 0 while preparing."""
        if done == 0:
            return 0.0
        passed_s = self._start_up_s
        for name, count in self.points.items():
            here = min(done, count)
            passed_s += here * self._point_s[name]
            done -= here
        return passed_s

    def left_s(self, done: int, elapsed_s: float) -> float | None:
        """Get the time left in s, None while that would be a guess."""
        passed_s, total_s = self.planned_s(done), self.total_s
        if total_s == 0:
            return None
        if passed_s > _TELLING_SHARE * total_s and elapsed_s > _TELLING_S:
            return elapsed_s * (total_s - passed_s) / passed_s
        return None if self._virtual_time else max(total_s - elapsed_s, 0.0)


def paced_stages(plan: Plan, expected: Expectation | None) -> tuple[dict[str, dict[str, float]], float]:
    """Get what :class:`TimeLeft` is made of: ``max_points`` and ``point_s`` by stage, and the start-up in s.

    :param expected: What is known of such a run; the plan's own numbers where there is nothing.
    """
    likely = {stage.name: stage for stage in expected.stages} if expected is not None else {}
    stages: dict[str, dict[str, float]] = {}
    for stage in plan.stages:
        known = likely.get(stage.name)
        point_s = known.duration_s / known.points if known is not None and known.points else stage.point_s
        stages[stage.name] = {"max_points": stage.max_points, "point_s": point_s}
    return stages, expected.start_up_s if expected is not None else plan.start_up_s


def left_text(seconds: float) -> str:
    """Write the time left, e.g. ``2:05 left``."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d} left" if hours else f"{minutes}:{seconds:02d} left"
