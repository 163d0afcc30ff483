"""The earlier part of a run that is resumed: its plan, its points, what was acknowledged, and why it ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from labctl.clock import Clock, MachineTime, RealClock, machine_time
from labctl.errors import InputError
from labctl.run.plan import Plan, Stage
from labctl.run.record import Record
from labctl.run.steering import Alteration, read_alteration
from labctl.store.journal_format import lock_path
from labctl.store.naming import find_run, paths_of
from labctl.store.ownership import owner_of
from labctl.store.run import Run, open_run
from labctl.store.source import Event

CLOCK = "clock"
"""Event: which start of the machine a part of a run belongs to, and when the run began by its clock."""
_FLUENCE = "fluence_uj_cm2"


@dataclass(frozen=True)
class StagePoints:
    """The points of a stage as the journal has them.

    :param first: Index of the first one.
    :param began_s: When the stage began, in s since the start of the run.
    """

    first: int
    settings: tuple[Mapping[str, Any], ...]
    times_s: tuple[float, ...] | None
    began_s: float


@dataclass(frozen=True)
class Earlier:
    """What the journal of a run says of the part that was measured before.

    :param journal: Its path.
    :param header: Its header.
    :param plan: The plan of the run, with every set-point that was known beforehand.
    :param stages: Stages that had begun, by name.
    :param pending: Alterations of stages that had not begun.
    :param skipped: Indices of points that were left out for good.
    :param attempts: Attempts that failed, by index of the point.
    :param status: How it ended: ``crashed``, ``aborted``, ``failed``, or ``waiting`` for its next point.
    :param cause: Why, in words.
    :param last_s: The last moment that is recorded, in s since the start of the run, and its Unix time.
    :param resumed: How often it has been resumed before.
    :param start: When the run began by the clock that counts from the start of the machine, as its last part reckoned;
        None where that is not known, or time was virtual.
    """

    journal: Path
    header: dict[str, Any]
    plan: Plan
    stages: Mapping[str, StagePoints]
    pending: tuple[Alteration, ...]
    skipped: frozenset[int]
    attempts: Mapping[int, int]
    status: str
    cause: str
    last_s: float
    last_wall_s: float
    resumed: int
    start: MachineTime | None = None
    done: Mapping[int, tuple[str, int]] = field(default_factory=dict)
    """Acknowledged points: index to stream and number of the record."""

    @property
    def directory(self) -> Path:
        """Get the folder of the runs, absolute: that of the run, wherever it lies now, with the ledger in it."""
        # Runs lie in a folder of their day.
        return paths_of(self.journal.absolute()).sealed.parent.parent

    def resumes_at_s(self, clock: Clock) -> float:
        """Get the moment at which the run goes on now, in s since its start: the gap counts."""
        return self.last_s + self.gap_s(clock)

    def gap_s(self, clock: Clock) -> float:
        """Get the time since the last moment that is recorded, in s; 0 where the run was ahead of the clock.

        While the computer runs its own clock tells, whatever is done to the clock on the wall: that one only counts
        where the computer was switched off meanwhile, or its system does not tell since when it has been on.
        """
        now = None if clock.virtual or self.start is None else machine_time()
        if now is not None and self.start is not None and now.boot == self.start.boot:
            return max(now.now_s - self.start.now_s - self.last_s, 0.0)
        return max(clock.wall() - self.last_wall_s, 0.0)

    @property
    def points(self) -> int:
        """Get the number of acknowledged points."""
        return len(self.done)

    def remaining(self) -> Plan:
        """Get the plan without what is acknowledged, for the preflight: points, dose and light in proportion.

        Light goes with the number of points, dose with their fluences where these are known. Both stay upper bounds.
        """
        stages = []
        for stage in self.plan.stages:
            begun = self.stages.get(stage.name)
            if begun is None:
                stages.append(stage)
                continue
            indices = range(begun.first, begun.first + len(begun.settings))
            left = [
                entry
                for index, entry in zip(indices, begun.settings, strict=True)
                if index not in self.done and index not in self.skipped
            ]
            stages.append(
                replace(
                    stage,
                    max_points=len(left),
                    settings=tuple(left),
                    dose_j_cm2=stage.dose_j_cm2 * _share(left, begun.settings, stage, _FLUENCE),
                    open_s=stage.open_s * len(left) / max(stage.max_points, 1),
                    times_s=None,
                )
            )
        return replace(self.plan, stages=tuple(stages))


class EarlierRecords:
    """The acknowledged records of the earlier part, each read when it is asked for; to be used in a ``with`` block.

    Columns are read once: a text column is decoded as a whole, and a long run has many rows.
    """

    def __init__(self, earlier: Earlier) -> None:
        self._done = earlier.done
        self._run = open_run(earlier.journal)
        self._columns: dict[str, dict[str, Any]] = {}

    def __getitem__(self, index: int) -> Record:
        """Read the row and arrays of an acknowledged point, by its index in the plan."""
        stream, number = self._done[index]
        layout = self._run.streams[stream]
        if stream not in self._columns:
            self._columns[stream] = {column.name: self._run.column(column.name, stream) for column in layout.columns}
        row = {name: values[number].item() for name, values in self._columns[stream].items()}
        return Record(row, {entry.name: self._run.array(entry.name, stream)[number] for entry in layout.arrays})

    def __enter__(self) -> EarlierRecords:
        return self

    def __exit__(self, *_: object) -> None:
        self._run.close()


def read_earlier(path: Path | str) -> Earlier:
    """Read the journal of a run to be resumed; raises InputError if it cannot be, StorageError if unreadable."""
    files = find_run(path)
    if files.journal is None or not files.journal.is_file():
        raise InputError(
            f"{Path(path).name} has no journal: there is nothing to resume",
            where=str(path),
            todo="a finished run is repeated with `labctl run --again RUN`; `labctl runs` lists what there is",
        )
    with open_run(files.journal) as run:
        if run.status == "running":
            raise InputError(
                f"the run {files.journal.stem} goes on in {owner_of(lock_path(files.journal)) or 'another process'}:"
                " it cannot be resumed",
                where=str(files.journal),
                todo="`labctl show RUN` tells how far it is, `labctl abort RUN` ends it",
            )
        if run.status == "finished":
            raise InputError(
                "the run is finished: there is nothing to resume",
                where=str(files.journal),
                todo="repeat it with `labctl run --again RUN`",
            )
        return _read(files.journal, run)


def _read(journal: Path, run: Run) -> Earlier:
    try:
        plan = Plan.from_dict(run.header["plan"])
        stages = {event.data["name"]: _stage_points(event) for event in run.events("stage")}
        altered = [event.data for event in run.events("altered")]
        pending = tuple(
            read_alteration(entry["alteration"]) for entry in altered if entry["alteration"]["stage"] not in stages
        )
        incidents = [event.data for event in run.events("incident") if "point" in event.data]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"the journal does not say what was planned: {type(error).__name__}: {error}",
            where=str(journal),
            todo="it was written by an earlier version of labctl, or is damaged; repeat the run with --again",
        ) from error
    attempts: dict[int, int] = {}
    for entry in incidents:
        attempts[int(entry["point"])] = attempts.get(int(entry["point"]), 0) + 1
    last_s, last_wall_s = _last_moment(run)
    return Earlier(
        journal,
        run.header,
        plan,
        stages,
        pending,
        frozenset(int(event.data["point"]) for event in run.events("skipped")),
        attempts,
        run.status,
        _cause(run),
        last_s,
        last_wall_s,
        len(run.events("resumed")),
        _start(run),
        dict(_acknowledged(run, plan)),
    )


def _share(left: Sequence[Mapping[str, Any]], begun: Sequence[Mapping[str, Any]], stage: Stage, name: str) -> float:
    """Get the share of what a stage was planned to sum up of a quantity that is left, at least what it really is.

    :param left: Settings of the points that are left.
    :param begun: Settings of all points of the stage; they stand in for the plan where that is adaptive, which planned
        for no less than these.
    """
    planned = stage.settings or begun
    if not all(isinstance(entry.get(name), int | float) for entry in (*planned, *left)):
        return len(left) / max(stage.max_points, 1)
    mean = sum(entry[name] for entry in planned) / max(len(planned), 1)
    whole = mean * min(len(planned), stage.max_points)
    return sum(entry[name] for entry in left) / whole if whole > 0 else float(bool(left))


def _stage_points(event: Event) -> StagePoints:
    data = event.data
    times = data.get("times_s")
    return StagePoints(
        int(data["first"]),
        tuple(dict(entry) for entry in data["points"]),
        tuple(float(one) for one in times) if times is not None else None,
        float(data.get("began_s", event.t_s)),
    )


def _acknowledged(run: Run, plan: Plan) -> Iterator[tuple[int, tuple[str, int]]]:
    for stream in dict.fromkeys(stage.stream for stage in plan.stages):
        if stream in run.streams:
            for number, point in enumerate(run.column("point", stream)):
                yield int(point), (stream, number)


def _last_moment(run: Run) -> tuple[float, float]:
    """The latest moment of rows and events; what was recorded of a death by others has the time of the last row."""
    moments = [(event.t_s, event.wall_s) for event in run.events()]
    for stream in run.streams:
        if run.count(stream):
            moments.append((float(run.column("t_s", stream)[-1]), float(run.column("wall_s", stream)[-1])))
    # What others recorded came later by the wall clock than the row whose time it has.
    return max(moments, key=lambda moment: (moment[0], -moment[1]), default=(0.0, RealClock().wall()))


def _start(run: Run) -> MachineTime | None:
    """Get when the run began by the machine's own clock, as the last part that measured has it."""
    data = next((event.data for event in reversed(run.events(CLOCK))), {})
    boot, start_s = data.get("boot"), data.get("start_s")
    return MachineTime(boot, float(start_s)) if isinstance(boot, str) and isinstance(start_s, int | float) else None


def _cause(run: Run) -> str:
    """Why the run ended: its last incident that names no point, or that nobody recorded one."""
    for event in reversed(run.events("incident")):
        error = event.data.get("error")
        if isinstance(error, Mapping) and "point" not in event.data:
            return " ".join(str(part) for part in (error.get("what"), event.data.get("reason")) if part)
    return "nobody recorded why: the engine and whoever watched it ended without a word"


def require_same_course(earlier: Earlier, now: Plan) -> None:
    """Refuse to go on where the bench has changed so much that the plan has other stages; raises InputError."""
    then = [(stage.name, stage.stream) for stage in earlier.plan.stages]
    if then != [(stage.name, stage.stream) for stage in now.stages]:
        raise InputError(
            "the bench file has changed since: the plan has other stages now",
            where=f"then {', '.join(name for name, _ in then)}; now {', '.join(stage.name for stage in now.stages)}",
            todo="restore the bench file, or begin anew with `labctl run --again RUN`",
        )
