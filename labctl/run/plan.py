"""A plan: stages with hard bounds that are known before anything moves, and the points within them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from labctl.run.policy import FailurePolicy


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a plan.

    :param index: Position in the plan, from 0, unique in the run; randomness of a simulation is keyed by it.
    :param stage: Name of its stage.
    :param settings: What to set, by name; names carry their unit.
    :param schedule_s: Planned moment since the start of the run, in s, from the plan alone.
    :param due_s: Moment before which it must not begin, in s since the start of the run; None if it need not wait.
    """

    index: int
    stage: str
    settings: Mapping[str, Any]
    schedule_s: float
    due_s: float | None = None


@dataclass(frozen=True)
class Stage:
    """Points that belong together.

    :param name: Name, as shown in progress and stored with every row.
    :param stream: Name of the stream that its rows go to.
    :param max_points: Hard bound on the number of points.
    :param point_s: Expected duration of a point in s.
    :param settings: Settings of each point where they are known beforehand; None for an adaptive stage, whose points
        the procedure gives as a pure function of the acknowledged rows.
    :param bounds: Lowest and highest value of every quantity that will be set, by name.
    :param dose_j_cm2: Upper bound of the dose on the sample spot, in J/cm².
    :param open_s: Upper bound of the time with light on the sample, in s.
    :param longest_point_s: Expected duration of the longest point in s, where it is far above that of most.
    :param times_s: When each point is due, in s since the stage began, ascending; None where one follows the other.
    :param on_failure: What is done when a point of this stage fails; that of the procedure if None.
    :param essential: Whether nothing after it makes sense without these points: they are never skipped.
    """

    name: str
    stream: str
    max_points: int
    point_s: float
    settings: tuple[Mapping[str, Any], ...] | None = None
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    dose_j_cm2: float = 0.0
    open_s: float = 0.0
    longest_point_s: float = 0.0
    times_s: tuple[float, ...] | None = None
    on_failure: FailurePolicy | None = None
    essential: bool = False

    @property
    def adaptive(self) -> bool:
        """Get whether the points depend on what was measured before."""
        return self.settings is None

    @property
    def duration_s(self) -> float:
        """Get the expected duration in s: the points one after the other, or the last of them when it is due."""
        one_after_other_s = self.max_points * self.point_s
        return max(one_after_other_s, self.times_s[-1] + self.point_s) if self.times_s else one_after_other_s

    def as_dict(self) -> dict[str, Any]:
        """The stage as JSON-serialisable data."""
        return {
            "name": self.name,
            "stream": self.stream,
            "max_points": self.max_points,
            "adaptive": self.adaptive,
            "point_s": self.point_s,
            "settings": [dict(entry) for entry in self.settings] if self.settings is not None else None,
            "bounds": {name: list(pair) for name, pair in self.bounds.items()},
            "dose_j_cm2": self.dose_j_cm2,
            "open_s": self.open_s,
            "longest_point_s": self.longest_point_s,
            "times_s": list(self.times_s) if self.times_s is not None else None,
            "on_failure": self.on_failure.model_dump() if self.on_failure is not None else None,
            "essential": self.essential,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Stage:
        """Read what :meth:`as_dict` wrote; raises KeyError, TypeError or ValueError for anything else."""
        known = {key: value for key, value in data.items() if key != "adaptive"}
        if known["settings"] is not None:
            known["settings"] = tuple(dict(entry) for entry in known["settings"])
        if known["times_s"] is not None:
            known["times_s"] = tuple(known["times_s"])
        if known["on_failure"] is not None:
            known["on_failure"] = FailurePolicy.model_validate(known["on_failure"])
        known["bounds"] = {name: (pair[0], pair[1]) for name, pair in known["bounds"].items()}
        return cls(**known)


@dataclass(frozen=True)
class Plan:
    """All stages of a run.

    :param stages: In the order in which they run.
    :param start_up_s: Expected time before the first point (cooling, homing, zeroing), in s.
    :param warnings: What the experimenter should know before starting.
    :param refusals: Reasons not to start that do not keep the rest from being planned; the preflight adds its own.
    """

    stages: tuple[Stage, ...]
    start_up_s: float = 0.0
    warnings: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()

    @property
    def max_points(self) -> int:
        """Get the hard bound on the number of points."""
        return sum(stage.max_points for stage in self.stages)

    @property
    def duration_s(self) -> float:
        """Get the expected duration in s, adaptive stages taken at their bound."""
        return self.start_up_s + sum(stage.duration_s for stage in self.stages)

    @property
    def dose_j_cm2(self) -> float:
        """Get the upper bound of the dose on the sample spot, in J/cm²."""
        return sum(stage.dose_j_cm2 for stage in self.stages)

    @property
    def open_s(self) -> float:
        """Get the upper bound of the time with light on the sample, in s."""
        return sum(stage.open_s for stage in self.stages)

    @property
    def bounds(self) -> dict[str, tuple[float, float]]:
        """Get the lowest and highest value of every set quantity over all stages."""
        merged: dict[str, tuple[float, float]] = {}
        for stage in self.stages:
            for name, (low, high) in stage.bounds.items():
                known = merged.get(name, (low, high))
                merged[name] = (min(low, known[0]), max(high, known[1]))
        return merged

    def as_dict(self) -> dict[str, Any]:
        """The plan as JSON-serialisable data."""
        return {
            "stages": [stage.as_dict() for stage in self.stages],
            "start_up_s": self.start_up_s,
            "max_points": self.max_points,
            "duration_s": self.duration_s,
            "dose_j_cm2": self.dose_j_cm2,
            "open_s": self.open_s,
            "bounds": {name: list(pair) for name, pair in self.bounds.items()},
            "warnings": list(self.warnings),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Plan:
        """Read the stages of what :meth:`as_dict` wrote; raises KeyError, TypeError or ValueError for anything else."""
        return cls(tuple(Stage.from_dict(stage) for stage in data["stages"]), float(data["start_up_s"]))
