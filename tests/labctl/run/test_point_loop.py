"""The point loop with a procedure that needs no instruments, on a virtual clock and a real journal."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labctl.clock import VirtualClock
from labctl.errors import Aborted, InputError, InstrumentError, StorageError
from labctl.run.plan import Plan, Point, Stage
from labctl.run.point_loop import PointLoop
from labctl.run.procedure import Acknowledged, Record, SweepProcedure
from labctl.store.journal import MAX_GROUP_COMMIT_S, Journal
from labctl.store.journal_reader import JournalReader
from labctl.store.layout import ArrayField, Column, RowLayout

DARK = RowLayout((Column("level_counts", "float", "counts"),))
POINTS = RowLayout(
    (Column("fluence_uj_cm2", "float", "uJ/cm^2"), Column("signal_counts", "float", "counts")),
    (ArrayField("spectrum", (8,), "float32", "counts"),),
)
COARSE = tuple({"fluence_uj_cm2": float(value)} for value in (1.0, 10.0, 100.0))
POINT_S = 2.0


class Laboratory:
    """Everything that happens in a run, in order: announcements, measurements, storage, reports."""

    def __init__(self) -> None:
        self.happened: list[tuple[Any, ...]] = []

    def announce(self, point: int, attempt: int, schedule_s: float) -> None:
        self.happened.append(("announce", point, attempt, schedule_s))

    def stage(self, stage: Stage, count: int) -> None:
        self.happened.append(("stage", stage.name, count))

    def expect(self, duration_s: float) -> None:
        self.happened.append(("expect", duration_s))

    def done(self, point: Point, record: Record, done: int) -> None:
        self.happened.append(("done", point.index, done))

    def progress(self, percent: float) -> None:
        self.happened.append(("progress", percent))

    def only(self, *kinds: str) -> list[tuple[Any, ...]]:
        return [entry for entry in self.happened if entry[0] in kinds]


class Sweep(SweepProcedure):
    """A dark level, three coarse points, and as many fine points at the best fluence as ``fine`` says."""

    NAME = "sweep-of-the-test"

    laboratory: Laboratory
    clock: VirtualClock
    journal: Journal
    fine: Sequence[Mapping[str, Any]] = ()
    seen: Sequence[Acknowledged] = ()
    at_point: Callable[[Point], None] = staticmethod(lambda point: None)

    def next_settings(self, stage: Stage, rows: Sequence[Acknowledged]) -> Sequence[Mapping[str, Any]]:
        self.seen = rows
        self.acknowledged_then = self.journal.acknowledged("points")
        return self.fine

    def measure(self, point: Point) -> Record:
        self.laboratory.happened.append(("measure", point.index, point.stage, dict(point.settings)))
        self.at_point(point)
        self.clock.sleep(POINT_S)
        if point.stage == "dark":
            return Record({"level_counts": 300.0})
        fluence = point.settings["fluence_uj_cm2"]
        spectrum = np.full(8, fluence, np.float32)
        return Record({"fluence_uj_cm2": fluence, "signal_counts": 100.0 * fluence}, {"spectrum": spectrum})

    def acknowledge(self, entry: Acknowledged) -> None:
        self.laboratory.happened.append(("acknowledge", entry.point.index, dict(entry.row)))


def plan(*, adaptive: bool = True) -> Plan:
    stages = [
        Stage("dark", "dark", 2, POINT_S, ({}, {})),
        Stage("coarse", "points", 3, POINT_S, COARSE, {"fluence_uj_cm2": (1.0, 100.0)}),
    ]
    if adaptive:
        stages.append(Stage("fine", "points", 4, POINT_S, None, {"fluence_uj_cm2": (1.0, 100.0)}))
    return Plan(tuple(stages), start_up_s=30.0)


class Run:
    """A point loop and all that it needs."""

    def __init__(self, path: Path, group_commit_s: float = 0.0) -> None:
        self.path = path
        self.laboratory = Laboratory()
        self.clock = VirtualClock(100.0, wall_start=1e9)
        self.stop = threading.Event()
        self.journal = Journal.create(path, {"run": "test"}, group_commit_s=group_commit_s)
        self.journal.add_stream("dark", DARK)
        self.journal.add_stream("points", POINTS)
        self.procedure = Sweep()
        self.procedure.laboratory, self.procedure.clock = self.laboratory, self.clock
        self.procedure.journal = self.journal

    def loop(self, plan: Plan) -> PointLoop:
        return PointLoop(
            self.procedure,
            plan,
            self.laboratory,
            self.journal,
            self.clock,
            stop=self.stop,
            observer=self.laboratory,
        )

    def stored(self, stream: str, column: str) -> list[Any]:
        """What another reader finds on the disk now."""
        with JournalReader(self.path) as reader:
            return reader.column(stream, column).tolist()

    def events(self, kind: str) -> list[dict[str, Any]]:
        with JournalReader(self.path) as reader:
            return [event.data for event in reader.events() if event.kind == kind]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    made = Run(tmp_path / "run.journal")
    yield made
    made.journal.close()


def test_points_are_measured_in_plan_order(run: Run) -> None:
    run.procedure.fine = [{"fluence_uj_cm2": 20.0}, {"fluence_uj_cm2": 5.0}]
    loop = run.loop(plan())
    loop.run()
    measured = run.laboratory.only("measure")
    assert [(index, stage) for _, index, stage, _ in measured] == [
        (0, "dark"),
        (1, "dark"),
        (2, "coarse"),
        (3, "coarse"),
        (4, "coarse"),
        (5, "fine"),
        (6, "fine"),
    ]
    assert [settings.get("fluence_uj_cm2") for *_, settings in measured] == [None, None, 1.0, 10.0, 100.0, 20.0, 5.0]
    assert run.stored("points", "fluence_uj_cm2") == [1.0, 10.0, 100.0, 20.0, 5.0]
    assert run.stored("points", "point") == [2, 3, 4, 5, 6]
    assert run.stored("points", "attempt") == [0] * 5
    assert (loop.done, loop.planned) == (7, 7)


def test_each_point_is_announced_before_it_is_measured_and_acknowledged_after_it_is_stored(run: Run) -> None:
    stored_when_acknowledged: list[int] = []
    note = run.procedure.acknowledge

    def acknowledge(entry: Acknowledged) -> None:
        stored_when_acknowledged.append(len(run.stored("points", "point")))
        note(entry)

    run.procedure.acknowledge = acknowledge
    run.loop(plan(adaptive=False)).run()
    kinds = [entry[0] for entry in run.laboratory.happened]
    of_a_point = ["expect", "announce", "measure", "acknowledge", "done"]
    assert kinds == ["stage", *(2 * of_a_point), "stage", *(3 * of_a_point)]
    assert stored_when_acknowledged == [0, 0, 1, 2, 3]
    assert run.laboratory.only("done") == [("done", index, index + 1) for index in range(5)]


def test_a_point_of_a_patient_stage_has_less_time_to_be_stored(run: Run) -> None:
    stage = Stage("long", "points", 1, POINT_S, COARSE[:1], longest_point_s=100.0)
    run.loop(Plan((stage,))).run()
    assert [duration_s for _, duration_s in run.laboratory.only("expect")] == [460.0, 30.0, 460.0]


def test_the_schedule_follows_from_the_plan_alone(run: Run) -> None:
    """An adaptive stage that takes fewer points than its bound must not shift what comes after it."""
    fine = Stage("fine", "points", 4, POINT_S, None)
    last = Stage("return", "points", 1, POINT_S, ({"fluence_uj_cm2": 1.0},))
    run.procedure.fine = [{"fluence_uj_cm2": 3.0}]
    run.loop(Plan((fine, last), start_up_s=30.0)).run()
    assert run.laboratory.only("announce") == [("announce", 0, 0, 30.0), ("announce", 1, 0, 30.0 + 4 * POINT_S)]


def test_rows_carry_the_time_of_the_run_and_of_the_day(run: Run) -> None:
    run.loop(plan(adaptive=False)).run()
    assert run.stored("points", "t_s") == [3 * POINT_S, 4 * POINT_S, 5 * POINT_S]
    assert run.stored("points", "wall_s") == [1e9 + 3 * POINT_S, 1e9 + 4 * POINT_S, 1e9 + 5 * POINT_S]


def test_a_stage_is_on_the_disk_before_anything_moves(run: Run) -> None:
    journalled: list[list[str]] = []
    run.procedure.fine = [{"fluence_uj_cm2": 20.0}]
    run.procedure.at_point = lambda point: journalled.append([event["name"] for event in run.events("stage")])
    run.loop(plan()).run()
    assert journalled == [["dark"]] * 2 + [["dark", "coarse"]] * 3 + [["dark", "coarse", "fine"]]
    fine = run.events("stage")[-1]
    assert (fine["name"], fine["stream"], fine["first"]) == ("fine", "points", 5)
    assert fine["points"] == [{"fluence_uj_cm2": 20.0}]


def test_an_adaptive_stage_sees_all_acknowledged_rows(run: Run) -> None:
    run.procedure.fine = [{"fluence_uj_cm2": 20.0}]
    run.loop(plan()).run()
    assert [entry.point.index for entry in run.procedure.seen] == [0, 1, 2, 3, 4]
    assert [dict(entry.row) for entry in run.procedure.seen[2:]] == [
        {"fluence_uj_cm2": value, "signal_counts": 100.0 * value} for value in (1.0, 10.0, 100.0)
    ]


def test_an_adaptive_stage_may_have_no_points(run: Run) -> None:
    loop = run.loop(plan())
    loop.run()
    assert (loop.done, loop.planned) == (5, 5)
    assert run.laboratory.only("stage")[-1] == ("stage", "fine", 0)
    assert run.events("stage")[-1]["points"] == []


def test_two_adaptive_stages_see_the_rows_before_each_of_them(run: Run) -> None:
    seen: list[list[int]] = []

    def next_settings(stage: Stage, rows: Sequence[Acknowledged]) -> Sequence[Mapping[str, Any]]:
        seen.append([entry.point.index for entry in rows])
        return [{"fluence_uj_cm2": 2.0 + len(rows)}]

    run.procedure.next_settings = next_settings
    adaptive = [Stage(name, "points", 1, POINT_S, None) for name in ("fine", "finer")]
    run.loop(Plan((*plan(adaptive=False).stages, *adaptive))).run()
    assert seen == [[0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 5]]


@pytest.mark.parametrize(
    ("fine", "words"),
    [
        ([{"fluence_uj_cm2": 1.0}] * 5, ["'fine'", "5 points", "bound is 4"]),
        ([{"fluence_uj_cm2": 10.0}, {"fluence_uj_cm2": 100.5}], ["'fine'", "100.5", "1 to 100"]),
        ([{"fluence_uj_cm2": 0.5}], ["'fine'", "0.5", "1 to 100"]),
        ([{"fluence_uj_cm2": float("nan")}], ["'fine'", "nan", "1 to 100"]),
    ],
)
def test_bounds_hold_whatever_an_adaptive_stage_asks_for(
    run: Run, fine: list[dict[str, float]], words: list[str]
) -> None:
    run.procedure.fine = fine
    with pytest.raises(InputError) as caught:
        run.loop(plan()).run()
    assert all(word in str(caught.value) for word in words)
    assert len(run.laboratory.only("measure")) == 5
    assert [event["name"] for event in run.events("stage")] == ["dark", "coarse"]


def test_an_abort_ends_the_run_between_points(run: Run) -> None:
    """The point in hand is finished and kept; the next one is not begun."""
    run.procedure.at_point = lambda point: run.stop.set() if point.index == 3 else None
    loop = run.loop(plan())
    with pytest.raises(Aborted) as caught:
        loop.run()
    assert "before point 4 (coarse)" in str(caught.value)
    assert [entry[1] for entry in run.laboratory.only("measure")] == [0, 1, 2, 3]
    assert [entry[1] for entry in run.laboratory.only("announce")] == [0, 1, 2, 3]
    assert run.stored("points", "point") == [2, 3]
    assert loop.done == 4


def test_an_abort_before_the_first_point_measures_nothing(run: Run) -> None:
    run.stop.set()
    with pytest.raises(Aborted):
        run.loop(plan()).run()
    assert run.laboratory.only("measure", "announce") == []


def test_an_instrument_error_names_the_point_and_keeps_what_came_before(run: Run) -> None:
    def break_down(point: Point) -> None:
        if point.index == 4:
            raise InstrumentError("the shutter does not answer")

    run.procedure.at_point = break_down
    with pytest.raises(InstrumentError) as caught:
        run.loop(plan()).run()
    assert "point 4 of stage 'coarse'" in str(caught.value)
    assert run.stored("points", "point") == [2, 3]


def test_an_instrument_error_that_knows_its_place_keeps_it(run: Run) -> None:
    def break_down(point: Point) -> None:
        raise InstrumentError("no reply", where="bench 'simulated', shutter")

    run.procedure.at_point = break_down
    with pytest.raises(InstrumentError, match="bench 'simulated', shutter"):
        run.loop(plan()).run()


def test_a_row_that_does_not_fit_its_stream_ends_the_run(run: Run) -> None:
    run.procedure.measure = lambda point: Record({"level_counts": 300.0, "surprise": 1.0})
    with pytest.raises(StorageError, match="surprise"):
        run.loop(plan()).run()
    assert run.stored("dark", "point") == []
    assert run.laboratory.only("acknowledge", "done") == []


def test_the_guard_is_given_more_time_than_a_point_takes(run: Run) -> None:
    slow = Stage("dark", "dark", 1, 3600.0, ({},))
    uneven = Stage("dark", "dark", 1, 1.0, ({},), longest_point_s=3600.0)
    run.loop(Plan((slow, uneven))).run()
    to_measure_store_go_on = [True, False, True]
    declared = [patience_s > 3600.0 for _, patience_s in run.laboratory.only("expect")]
    assert declared == 2 * to_measure_store_go_on


@pytest.fixture
def grouped(tmp_path: Path) -> Iterator[Run]:
    made = Run(tmp_path / "grouped.journal", MAX_GROUP_COMMIT_S)
    yield made
    made.journal.close()


def test_with_group_commit_everything_is_on_the_disk_at_the_end(grouped: Run) -> None:
    count = 500
    settings = tuple({"fluence_uj_cm2": 1.0 + index} for index in range(count))
    loop = grouped.loop(Plan((Stage("coarse", "points", count, 0.0, settings),)))
    loop.run()
    assert loop.done == grouped.journal.acknowledged("points") == count
    assert grouped.stored("points", "point") == list(range(count))
    assert grouped.stored("points", "fluence_uj_cm2") == [1.0 + index for index in range(count)]


def test_with_group_commit_an_adaptive_stage_sees_only_what_is_on_the_disk(grouped: Run) -> None:
    grouped.procedure.fine = [{"fluence_uj_cm2": 20.0}]
    grouped.loop(plan()).run()
    assert [entry.point.index for entry in grouped.procedure.seen] == [0, 1, 2, 3, 4]
    assert grouped.procedure.acknowledged_then == 3
    assert grouped.stored("points", "fluence_uj_cm2") == [1.0, 10.0, 100.0, 20.0]


def test_with_group_commit_an_aborted_run_keeps_its_points(grouped: Run) -> None:
    grouped.procedure.at_point = lambda point: grouped.stop.set() if point.index == 3 else None
    with pytest.raises(Aborted):
        grouped.loop(plan()).run()
    grouped.journal.close()
    assert grouped.stored("points", "point") == [2, 3]
