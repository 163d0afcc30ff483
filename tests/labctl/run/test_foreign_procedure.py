"""Procedures written for pymeasure alone, in our engine."""

# ruff: noqa: RUF012 - DATA_COLUMNS as everybody writes them for pymeasure

from __future__ import annotations

import datetime
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymeasure.experiment import FloatParameter, IntegerParameter, Metadata, Parameter, Procedure
from pymeasure.units import ureg

from labctl.clock import VirtualClock
from labctl.errors import Aborted, LabctlError, StorageError
from labctl.run.foreign_procedure import ForeignLoop, ForeignProcedure, adapted
from labctl.run.plan import Point, Stage
from labctl.run.procedure import Record
from labctl.store.journal import Journal
from labctl.store.journal_reader import JournalReader


class Diode(Procedure):
    """Current of a diode against voltage.

    ``happened`` and ``at`` belong to the test; the rest is as anybody would write it for pymeasure.
    """

    top = FloatParameter("Top voltage", units="V", default=1.0, maximum=10.0)
    points = IntegerParameter("Points", default=4, minimum=0, maximum=1000)
    operator = Parameter("Operator", default="Ada")
    serial = Metadata("Serial number", fget="read_serial")
    DATA_COLUMNS = ["Voltage (V)", "Current (uA)", "Remark"]

    happened: list[str]
    at: dict[str, Callable[[Any], None]]

    def note(self, what: str) -> None:
        self.happened.append(what)
        self.at.get(what, lambda procedure: None)(self)

    def read_serial(self) -> str:
        self.note("metadata")
        return "SN 7"

    def startup(self) -> None:
        self.note("startup")

    def execute(self) -> None:
        for index in range(self.points):
            if self.should_stop():
                break
            voltage = self.top * index / self.points
            self.emit("results", {"Voltage (V)": voltage, "Current (uA)": np.float32(index), "Remark": "a, b"})
            self.emit("progress", 100 * (index + 1) / self.points)
            self.note(f"row {index}")

    def shutdown(self) -> None:
        self.note("shutdown")


class Watcher:
    """Remembers what the loop says to the engine."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, int]] = []
        self.expected: set[float] = set()
        self.rows: list[dict[str, Any]] = []
        self.percent: list[float] = []

    def stage(self, stage: Stage, count: int) -> None:
        self.stages.append((stage.name, count))

    def expect(self, duration_s: float) -> None:
        self.expected.add(duration_s)

    def done(self, point: Point, record: Record, done: int) -> None:
        assert done == point.index + 1
        self.rows.append(dict(record.row))

    def progress(self, percent: float) -> None:
        self.percent.append(percent)


class Loop:
    """A foreign procedure, its journal, and a loop that runs it."""

    def __init__(self, path: Path, procedure: type[Procedure], **values: Any) -> None:
        self.procedure: ForeignProcedure = adapted(procedure, "foreign")(**values)
        self.foreign: Any = self.procedure.foreign
        self.foreign.happened, self.foreign.at = [], {}
        self.stop = threading.Event()
        self.watcher = Watcher()
        self.path = path
        self.journal = Journal.create(path, {"run": "test"})
        stage = self.procedure.plan(None, None).stages[0]  # type: ignore[arg-type]
        self.loop = ForeignLoop(
            self.procedure, stage, self.journal, VirtualClock(), stop=self.stop, observer=self.watcher
        )

    def stored(self, name: str) -> list[Any]:
        with JournalReader(self.path, mine=True) as reader:
            values = reader.column("points", name).tolist()
        return [value.decode() if isinstance(value, bytes) else value for value in values]

    def events(self, kind: str) -> list[dict[str, Any]]:
        with JournalReader(self.path, mine=True) as reader:
            return [dict(event.data) for event in reader.events() if event.kind == kind]


@pytest.fixture
def run_of(tmp_path: Path) -> Iterator[Callable[..., Loop]]:
    made: list[Loop] = []

    def make(procedure: type[Procedure] = Diode, **values: Any) -> Loop:
        made.append(Loop(tmp_path / f"{len(made)}.journal", procedure, **values))
        return made[-1]

    yield make
    for loop in made:
        loop.journal.close()


def emitting(*records: Any, topic: str = "results", columns: list[str] | None = None) -> type[Procedure]:
    """A procedure that emits these records."""

    class Emitting(Procedure):
        DATA_COLUMNS = columns or ["Voltage (V)", "Counts", "Remark"]

        def execute(self) -> None:
            for record in records:
                self.emit(topic, record)

    return Emitting


def test_everything_happens_in_pymeasures_order_and_is_stored(run_of: Callable[..., Loop]) -> None:
    run = run_of(top=3.0)
    run.loop.run()
    assert run.foreign.happened == ["startup", "metadata", *(f"row {index}" for index in range(4)), "shutdown"]
    assert run.stored("voltage") == [0.0, 0.75, 1.5, 2.25]
    assert run.stored("current") == [0.0, 1.0, 2.0, 3.0]
    assert run.stored("remark") == ["a, b"] * 4
    assert run.stored("point") == [0, 1, 2, 3]
    assert run.events("metadata") == [{"serial": {"title": "Serial number", "value": "SN 7", "unit": ""}}]
    assert (run.loop.done, run.loop.planned) == (4, 4)
    assert run.watcher.stages == [("measurement", 1_000_000)]
    assert run.watcher.percent == [25.0, 50.0, 75.0, 100.0]
    assert run.watcher.rows[1] == {"voltage": 0.75, "current": 1.0, "remark": "a, b"}
    assert run.foreign.status == Procedure.FINISHED


def test_columns_keep_title_and_unit(run_of: Callable[..., Loop]) -> None:
    run = run_of()
    run.loop.run()
    with JournalReader(run.path, mine=True) as reader:
        columns = [(c.name, c.kind, c.unit, c.description) for c in reader.layout("points").columns]
    assert columns == [
        ("voltage", "float", "V", "Voltage"),
        ("current", "float", "uA", "Current"),
        ("remark", "text", "", "Remark"),
    ]


def test_a_row_is_in_the_journal_when_emit_returns(run_of: Callable[..., Loop]) -> None:
    run = run_of()
    seen: list[int] = []
    run.foreign.at = {f"row {index}": lambda _: seen.append(len(run.stored("voltage"))) for index in range(4)}
    run.loop.run()
    assert seen == [1, 2, 3, 4]


def test_a_procedure_knows_that_it_is_running_and_alone(run_of: Callable[..., Loop]) -> None:
    run = run_of()
    seen: list[Any] = []
    run.foreign.at = {"row 0": lambda procedure: seen.append((procedure.status, procedure.is_last()))}
    run.loop.run()
    assert seen == [(Procedure.RUNNING, True)]


@pytest.mark.parametrize(
    ("values", "stored"),
    [
        ([np.int64(7), np.float32(0.5), np.uint8(3), np.float64(1e-9)], [7.0, 0.5, 3.0, 1e-9]),
        ([True, np.bool_(False), 2**53, Decimal("0.1")], [1.0, 0.0, 2.0**53, 0.1]),
        ([np.array(2.5), None, float("inf")], [2.5, None, float("inf")]),
        ([1 * ureg.V, 250 * ureg.mV, "5 mV", "0.5"], [1.0, 0.25, 0.005, 0.5]),
    ],
)
def test_numbers_of_every_kind_are_stored(run_of: Callable[..., Loop], values: list[Any], stored: list[Any]) -> None:
    """In pymeasure's own file the first three of these are nan."""
    run = run_of(emitting(*({"Voltage (V)": value, "Counts": 1, "Remark": ""} for value in values)))
    run.loop.run()
    expected = np.array([np.nan if value is None else value for value in stored])
    np.testing.assert_array_equal(run.stored("voltage"), expected)


def test_what_a_row_leaves_out_is_missing(run_of: Callable[..., Loop]) -> None:
    run = run_of(emitting({"Voltage (V)": 1.0, "Counts": 2, "Remark": "first"}, {"Voltage (V)": 2.0}))
    run.loop.run()
    np.testing.assert_array_equal(run.stored("counts"), [2.0, np.nan])
    assert run.stored("remark") == ["first", ""]


def test_other_objects_are_stored_as_text(run_of: Callable[..., Loop]) -> None:
    moment = datetime.datetime(2026, 11, 21, 9, 30)
    run = run_of(emitting({"Remark": moment}, {"Remark": 5}))
    run.loop.run()
    assert run.stored("remark") == ["2026-11-21 09:30:00", "5"]


def test_a_quantity_gives_a_column_its_unit(run_of: Callable[..., Loop]) -> None:
    run = run_of(emitting({"Counts": 2 * ureg.mm}, {"Counts": 3 * ureg.m}))
    run.loop.run()
    assert run.stored("counts") == [0.002, 3.0]
    with JournalReader(run.path, mine=True) as reader:
        column = reader.layout("points").column("counts")
    assert column is not None
    assert column.unit == "meter"


def test_what_only_the_first_row_names_becomes_a_column_too(
    run_of: Callable[..., Loop], caplog: pytest.LogCaptureFixture
) -> None:
    run = run_of(emitting({"Voltage (V)": 1.0, "Extra (K)": 4.2}, {"Extra (K)": 4.3, "Late": 1}, {"Late": 2}))
    run.loop.run()
    np.testing.assert_array_equal(run.stored("extra"), [4.2, 4.3, np.nan])
    assert [record.getMessage().split(": ")[1] for record in caplog.records if "not stored" in record.message] == [
        "Late"
    ]


def test_a_batch_is_stored_row_by_row(run_of: Callable[..., Loop]) -> None:
    batch = {"Voltage (V)": np.array([0.1, 0.2, 0.3]), "Counts": [1, 2, 3], "Remark": ("a", "b", "c")}
    run = run_of(emitting(batch, topic="batch results"))
    run.loop.run()
    assert run.stored("voltage") == [0.1, 0.2, 0.3]
    assert run.stored("remark") == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("topic", "record", "words"),
    [
        ("results", {"Voltage (V)": np.zeros(3)}, "scalars only"),
        ("results", {"Voltage (V)": [1.0]}, "scalars only"),
        ("results", {"Remark": {"a": 1}}, "scalars only"),
        ("results", {"Voltage (V)": "much"}, "'much'"),
        ("results", {"Voltage (V)": "5 kg"}, "kg|kilogram"),
        ("results", {"Voltage (V)": 5 * ureg.K}, "kelvin"),
        ("results", {"Counts": 2**60 + 1}, "more digits"),
        ("results", {"Remark": "x" * 2000}, "2000 bytes"),
        ("results", 3.0, "a row is a dict"),
        ("batch results", {"Voltage (V)": [1.0], "Counts": [1, 2]}, "different lengths"),
        ("batch results", {"Voltage (V)": 1.0}, "dict of sequences"),
        ("batch results", [1.0, 2.0], "dict of sequences"),
    ],
)
def test_a_row_that_cannot_be_stored_ends_the_run(
    run_of: Callable[..., Loop], topic: str, record: Any, words: str
) -> None:
    """pymeasure writes nan, cuts the middle out of an array, or loses the batch."""
    run = run_of(emitting(record, topic=topic))
    with pytest.raises(StorageError, match=words):
        run.loop.run()
    assert run.stored("voltage") == []


def test_a_lost_row_cannot_be_hidden_by_the_procedure(run_of: Callable[..., Loop]) -> None:
    class Careless(Procedure):
        DATA_COLUMNS = ["x"]

        def execute(self) -> None:
            for value in (1.0, [2.0], 3.0):
                try:
                    self.emit("results", {"x": value})
                except Exception:
                    continue

    run = run_of(Careless)
    with pytest.raises(StorageError, match="scalars only"):
        run.loop.run()
    assert run.stored("x") == [1.0]


def test_a_row_lost_in_shutdown_does_not_keep_the_instruments_on(run_of: Callable[..., Loop]) -> None:
    off: list[bool] = []

    class LastWord(Procedure):
        DATA_COLUMNS = ["x"]

        def shutdown(self) -> None:
            self.emit("results", {"x": [1.0]})
            off.append(True)

    run = run_of(LastWord)
    with pytest.raises(StorageError, match="scalars only"):
        run.loop.run()
    assert off == [True]
    assert run.procedure.safe_steps == []


def test_a_run_without_rows_is_a_run(run_of: Callable[..., Loop]) -> None:
    run = run_of(points=0)
    run.loop.run()
    assert run.stored("voltage") == []
    assert (run.loop.done, run.loop.planned) == (0, 0)


def fail(_: Any) -> None:
    raise RuntimeError("the relay is stuck")


def leave(_: Any) -> None:
    raise SystemExit(3)


@pytest.mark.parametrize(
    ("moment", "rows", "where"),
    [("startup", 0, "startup()"), ("metadata", 0, "metadata"), ("row 1", 2, "execute()")],
)
def test_shutdown_runs_after_an_exception(run_of: Callable[..., Loop], moment: str, rows: int, where: str) -> None:
    run = run_of()
    status: list[int] = []
    run.foreign.at = {moment: fail, "shutdown": lambda procedure: status.append(procedure.status)}
    with pytest.raises(LabctlError, match="RuntimeError: the relay is stuck") as caught:
        run.loop.run()
    assert where in caught.value.where
    assert run.foreign.happened.count("shutdown") == 1
    assert status == [Procedure.FAILED]
    assert len(run.stored("voltage")) == rows
    assert (run.loop.done, run.loop.planned) == (rows, 1_000_000)


def test_a_procedure_that_leaves_the_program_is_aborted(run_of: Callable[..., Loop]) -> None:
    run = run_of()
    run.foreign.at = {"row 1": leave}
    with pytest.raises(Aborted, match="SystemExit"):
        run.loop.run()
    assert run.foreign.happened[-1] == "shutdown"


@pytest.mark.parametrize(("moment", "rows"), [("startup", 0), ("row 1", 2), ("row 3", 4)])
def test_an_abort_reaches_the_procedure_through_should_stop(
    run_of: Callable[..., Loop], moment: str, rows: int
) -> None:
    run = run_of()
    run.foreign.at = {moment: lambda _: run.stop.set()}
    with pytest.raises(Aborted):
        run.loop.run()
    assert run.foreign.happened[-1] == "shutdown"
    assert run.foreign.status == Procedure.ABORTED
    assert len(run.stored("voltage")) == rows


@pytest.mark.parametrize("broken", [fail, leave])
def test_a_failing_shutdown_is_an_unconfirmed_step_and_hides_nothing(
    run_of: Callable[..., Loop], broken: Callable[[Any], None]
) -> None:
    run = run_of()
    run.foreign.at = {"row 1": lambda _: int("no number"), "shutdown": broken}
    with pytest.raises(LabctlError, match="no number"):
        run.loop.run()
    (step,) = run.procedure.safe_steps
    assert (step.role, step.step.action, step.step.confirmed) == ("foreign", "shutdown()", False)
    assert step.step.evidence in {"RuntimeError: the relay is stuck", "SystemExit: 3"}


def test_a_class_may_bound_its_rows_and_its_silence(run_of: Callable[..., Loop]) -> None:
    class Bounded(Diode):
        MAX_POINTS = 2
        MAX_SILENCE_S = 7.0

    run = run_of(Bounded)
    with pytest.raises(LabctlError, match="bound of 2"):
        run.loop.run()
    assert run.stored("point") == [0, 1]
    assert run.watcher.expected == {7.0}
    assert run.foreign.happened[-1] == "shutdown"


def test_rows_may_come_from_threads_of_the_procedure(run_of: Callable[..., Loop]) -> None:
    class Threads(Procedure):
        DATA_COLUMNS = ["x"]

        def execute(self) -> None:
            def give(first: int) -> None:
                for index in range(25):
                    self.emit("results", {"x": first + index})

            threads = [threading.Thread(target=give, args=(100 * number,)) for number in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    run = run_of(Threads)
    run.loop.run()
    assert run.stored("point") == list(range(100))
    assert sorted(run.stored("x")) == sorted(100 * number + index for number in range(4) for index in range(25))


def test_an_unknown_topic_is_named_once(run_of: Callable[..., Loop], caplog: pytest.LogCaptureFixture) -> None:
    run = run_of(emitting(1, 2, topic="heartbeat"))
    run.loop.run()
    assert sum("'heartbeat'" in record.getMessage() for record in caplog.records) == 1
