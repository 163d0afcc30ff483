"""What a run will likely take, beside the hard bounds of its plan: measured on a run of the same kind."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from labctl.bench.ledger import Exposure, ExposureLedger
from labctl.errors import InputError
from labctl.run.light import run_name
from labctl.run.plan import Plan
from labctl.store.run import Run

PLAN_ALONE = "the plan alone"


@dataclass(frozen=True)
class StageExpectation:
    """What one stage will likely take.

    :param points: Number of points.
    :param duration_s: From its first move to the end of its last point, in s.
    :param open_s: Time with light on the sample, in s.
    :param dose_j_cm2: Dose on the sample spot, in J/cm².
    """

    name: str
    points: int
    duration_s: float
    open_s: float
    dose_j_cm2: float


@dataclass(frozen=True)
class Expectation:
    """What a run will likely take.

    :param source: Where the numbers come from, in words, e.g. ``rehearsed on the emulators``.
    :param start_up_s: From the opening of the bench to the first point, in s.
    :param closing_s: From the end of the last point to the safe, closed bench, in s.
    :param journal_mb: Size of the journal at the end, in MB; None where that is not known.
    :param files_mb: What the finished run leaves on the disk, in MB; None where that is not known.
    :param note: What makes the numbers less certain; empty if nothing does.
    """

    source: str
    stages: tuple[StageExpectation, ...]
    start_up_s: float
    closing_s: float = 0.0
    journal_mb: float | None = None
    files_mb: float | None = None
    note: str = ""

    @property
    def is_measured(self) -> bool:
        """Get whether it was seen in a run; else points, light and dose are the bounds of the plan."""
        return self.source != PLAN_ALONE

    @property
    def points(self) -> int:
        """Get the number of points."""
        return sum(stage.points for stage in self.stages)

    @property
    def duration_s(self) -> float:
        """Get the time from the opening of the bench to the safe, closed bench, in s."""
        return self.start_up_s + sum(stage.duration_s for stage in self.stages) + self.closing_s

    @property
    def open_s(self) -> float:
        """Get the time with light on the sample, in s."""
        return sum(stage.open_s for stage in self.stages)

    @property
    def dose_j_cm2(self) -> float:
        """Get the dose on the sample spot, in J/cm²."""
        return sum(stage.dose_j_cm2 for stage in self.stages)

    def as_dict(self) -> dict[str, Any]:
        """The expectation as JSON-serialisable data."""
        return {
            "source": self.source,
            "is_measured": self.is_measured,
            "note": self.note,
            "points": self.points,
            "duration_s": self.duration_s,
            "start_up_s": self.start_up_s,
            "closing_s": self.closing_s,
            "open_s": self.open_s,
            "dose_j_cm2": self.dose_j_cm2,
            "journal_mb": self.journal_mb,
            "files_mb": self.files_mb,
            "stages": [
                {
                    "name": stage.name,
                    "points": stage.points,
                    "duration_s": stage.duration_s,
                    "open_s": stage.open_s,
                    "dose_j_cm2": stage.dose_j_cm2,
                }
                for stage in self.stages
            ],
        }


def from_plan(plan: Plan, note: str = "") -> Expectation:
    """Take what the plan says for what will happen, where nothing better is known.

    Points, light and dose are then bounds; the duration is the plan's own estimate.
    """
    stages = tuple(
        StageExpectation(stage.name, stage.max_points, stage.max_points * stage.point_s, stage.open_s, stage.dose_j_cm2)
        for stage in plan.stages
    )
    return Expectation(PLAN_ALONE, stages, plan.start_up_s, note=note)


def measured(run: Run, light: Sequence[Exposure], source: str) -> Expectation:
    """Read from a finished run what it took.

    :param light: All light that it put on the sample.
    :raises InputError: the run has no stages, or did not end.
    """
    events = run.events()
    stages = [event for event in events if event.kind == "stage"]
    ends = [event.wall_s for event in events if event.kind == "safe_state"]
    if not stages or not ends:
        raise InputError(f"{run.path.name} does not say how long it took")
    last_s = max(
        [stages[-1].wall_s, *(float(run.column("wall_s", name)[-1]) for name in run.streams if run.count(name))]
    )
    edges = [*(stage.wall_s for stage in stages), last_s]
    found = [
        _stage(stage.data, began_s, ended_s, light)
        for stage, began_s, ended_s in zip(stages, edges, edges[1:], strict=False)
    ]
    return Expectation(source, tuple(found), edges[0] - events[0].wall_s, ends[-1] - last_s)


def light_of(directory: Path, run: Path) -> list[Exposure]:
    """Read from the ledger of a folder of runs what light a run has put on the sample; raises StorageError.

    :param run: The file of the run; ledgers of earlier versions name it without its day.
    """
    return ExposureLedger(directory).of_run(run_name(run), run.stem)


def _stage(data: dict[str, Any], began_s: float, ended_s: float, light: Sequence[Exposure]) -> StageExpectation:
    # The light of a point is noted when the shutter has closed, and that is before its row is stored.
    here = [entry for entry in light if began_s < entry.wall_s <= ended_s]
    return StageExpectation(
        str(data["name"]),
        len(data["points"]),
        ended_s - began_s,
        sum(entry.open_s for entry in here),
        sum(entry.dose_j_cm2 for entry in here),
    )


def median(runs: Sequence[Expectation], source: str) -> Expectation:
    """Take the median of several runs of the same stages, stage by stage; ``runs`` is not empty."""

    def middle(number: Callable[[Expectation], float]) -> float:
        return statistics.median(number(run) for run in runs)

    stages = tuple(
        replace(
            stage,
            points=round(middle(lambda run, n=place: run.stages[n].points)),
            duration_s=middle(lambda run, n=place: run.stages[n].duration_s),
            open_s=middle(lambda run, n=place: run.stages[n].open_s),
            dose_j_cm2=middle(lambda run, n=place: run.stages[n].dose_j_cm2),
        )
        for place, stage in enumerate(runs[0].stages)
    )
    files = [run.files_mb for run in runs if run.files_mb is not None]
    return Expectation(
        source,
        stages,
        middle(lambda run: run.start_up_s),
        middle(lambda run: run.closing_s),
        files_mb=statistics.median(files) if files else None,
    )
