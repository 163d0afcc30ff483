"""Procedures written for pymeasure alone, run by our engine as they are.

Such a procedure opens its own instruments, counts its own points and hands every row to ``emit("results", {...})``.
Nothing of the bench is opened for it, so neither emulators nor virtual time nor the limits of the bench reach it, and
its ``shutdown()`` is all that brings its instruments into a safe state: it runs on every exit except the death of the
engine itself. Rows are in the journal when ``emit`` returns.

A class may say more about itself, as plain class attributes: ``MAX_POINTS``, the bound on its rows; ``MAX_SILENCE_S``,
the longest time between two calls of ``emit`` or ``should_stop``, after which the guard takes it for hung;
``GROUP_COMMIT_S``, within which fast rows share a commit.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from pymeasure.experiment import Procedure

from labctl.bench.safe import RoleStep
from labctl.clock import Clock
from labctl.errors import Aborted, InputError, LabctlError
from labctl.roles import SafeStep
from labctl.run.contracts import Observer
from labctl.run.foreign_rows import ForeignRows, rows_of_batch
from labctl.run.plan import Plan, Point, Stage
from labctl.run.procedure import DefaultPlot, Record, Streams, SweepProcedure
from labctl.run.pymeasure_bridge import (
    connect,
    declared_titles,
    evaluated_metadata,
    name_columns,
    parameter_data,
    parameters_of,
    set_parameters,
    unset_parameters,
)
from labctl.store.journal import Journal

if TYPE_CHECKING:
    from labctl.bench.bench import Bench
    from labctl.config.bench import BenchConfig
    from labctl.config.sample import SampleConfig
    from labctl.run.conduct import Conduct
    from labctl.store.run import Run

log = logging.getLogger(__name__)

STREAM = "points"
_STAGE = "measurement"
_MAX_POINTS = 1_000_000
_MAX_SILENCE_S = 3600.0


class ForeignProcedure(SweepProcedure):
    """A pymeasure Procedure as the engine sees it. :func:`adapted` makes one subclass for each procedure.

    :param values: Parameters of the foreign procedure; checked at once, as for ours.
    """

    FOREIGN: ClassVar[type[Procedure]]
    OWN_INSTRUMENTS: ClassVar[bool] = True
    POINT_BYTES: ClassVar[int] = 256

    def __init__(self, **values: Any) -> None:
        super().__init__()
        try:
            self.foreign = self.FOREIGN()
        except Exception as error:  # a procedure of another package may fail in any way
            raise InputError(
                f"the procedure {self.NAME!r} cannot be made: {type(error).__name__}: {error}",
                todo="pymeasure makes a procedure without arguments and reads the units of its DATA_COLUMNS",
            ) from error
        self._parameters = parameters_of(self.foreign)
        set_parameters(self.foreign, values, self.NAME)

    def parameter_values(self) -> dict[str, Any]:
        """Get the values of the foreign procedure, in full precision."""
        return parameter_data(self.foreign)

    def plan(self, bench: BenchConfig, sample: SampleConfig | None) -> Plan:
        """Bound the number of rows; raises InputError if a parameter has no value."""
        missing = unset_parameters(self.foreign)
        if missing:
            raise InputError(
                f"{self.NAME} needs a value for {', '.join(missing)}", todo="give it with --set name=value"
            )
        warnings = ("pymeasure procedure: it opens its own instruments, which no limit of the bench protects",)
        stage = Stage(_STAGE, STREAM, int(getattr(self.FOREIGN, "MAX_POINTS", _MAX_POINTS)), 0.0)
        return Plan((stage,), warnings=warnings)

    def prepare(self, bench: Bench) -> None:
        """Nothing: the procedure opens its own instruments when the loop starts it."""

    def streams(self, bench: Bench) -> Streams:
        """None yet: what a column holds shows in the first row."""
        return Streams({})

    def make_loop(
        self,
        plan: Plan,
        bench: Bench,
        journal: Journal,
        clock: Clock,
        *,
        stop: threading.Event,
        observer: Observer,
        conduct: Conduct,
    ) -> ForeignLoop:
        """Make what runs startup, execute and shutdown; it is conducted by itself alone."""
        return ForeignLoop(self, plan.stages[0], journal, clock, stop=stop, observer=observer)

    def analyse(self, run: Run) -> dict[str, Any]:
        """Nothing is known about the meaning of the columns."""
        return {"result": {}, "warnings": []}


@cache
def adapted(procedure: type[Procedure], name: str) -> type[ForeignProcedure]:
    """Get the class that runs a pymeasure Procedure in our engine; raises InputError if it declares no column.

    :param name: Its name in the registry.
    """
    titles = declared_titles(procedure)
    if not titles:
        raise InputError(f"the procedure {name!r} declares no column", todo="list them in its DATA_COLUMNS")
    columns = name_columns(titles)
    members = {
        "NAME": name,
        "TITLE": (procedure.__doc__ or procedure.__name__).strip().partition("\n")[0],
        "FOREIGN": procedure,
        "DATA_COLUMNS": [column.name for column in columns],
        "DEFAULT_PLOT": DefaultPlot(STREAM, columns[0].name, columns[min(1, len(columns) - 1)].name),
        "GROUP_COMMIT_S": float(getattr(procedure, "GROUP_COMMIT_S", 0.0)),
    }
    return type(procedure.__name__, (ForeignProcedure,), members)


class ForeignLoop:
    """Takes a foreign procedure through startup, execute and shutdown, and stores what it emits.

    :param stage: The one stage of its plan.
    :param journal: Where rows and metadata go.
    :param clock: Clock of the run.
    :param stop: Set from outside; the procedure sees it through ``should_stop()``.
    :param observer: Told of rows and progress, and that the procedure still gives signs of life.
    """

    def __init__(
        self,
        procedure: ForeignProcedure,
        stage: Stage,
        journal: Journal,
        clock: Clock,
        *,
        stop: threading.Event,
        observer: Observer,
    ) -> None:
        self.procedure = procedure
        self.stage = stage
        self.journal = journal
        self.clock = clock
        self.stop = stop
        self.observer = observer
        self.done = 0
        self._rows = ForeignRows(journal, STREAM, name_columns(declared_titles(procedure.FOREIGN)))
        self._start_s = clock.now()
        self._silence_s = float(getattr(procedure.FOREIGN, "MAX_SILENCE_S", _MAX_SILENCE_S))
        # emit() may be called by threads of the procedure.
        self._storing = threading.Lock()
        self._lost: LabctlError | None = None
        self._shutting_down = False
        self._complete = False
        self._unknown_topics: set[str] = set()

    @property
    def planned(self) -> int:
        """Get the bound on the number of rows; once the procedure has ended by itself, their number."""
        return self.done if self._complete else self.stage.max_points

    def run(self) -> None:
        """Run the procedure; raises Aborted when stopped, and LabctlError for whatever it raises.

        A failure of ``shutdown()`` becomes a step of the safe state that is not confirmed.
        """
        self._event("stage", {"name": self.stage.name, "stream": STREAM, "first": 0, "points": []})
        self.observer.stage(self.stage, self.stage.max_points)
        foreign = self.procedure.foreign
        connect(foreign, self._emit, self._should_stop)
        foreign.status = Procedure.RUNNING
        try:
            self._start_and_execute(foreign)
        except BaseException as error:
            foreign.status = Procedure.ABORTED if isinstance(error, Aborted) else Procedure.FAILED
            raise
        finally:
            self._shut_down(foreign)
            self._rows.declare_if_none()
        if self._lost is not None:  # a procedure that catches all exceptions must not hide lost rows
            raise self._lost
        foreign.status = Procedure.FINISHED
        self._complete = True
        self.journal.commit()

    def _start_and_execute(self, foreign: Procedure) -> None:
        doing = "startup()"
        self._expect()
        try:
            foreign.startup()
            self._stop_if_asked()
            doing = "metadata"
            metadata = evaluated_metadata(foreign)
            if metadata:
                self._event("metadata", metadata)
            doing = "execute()"
            foreign.execute()
            self._stop_if_asked()
        except LabctlError:
            raise
        except (KeyboardInterrupt, SystemExit) as error:
            raise Aborted(f"the procedure ended itself: {type(error).__name__}", where=doing) from error
        except Exception as error:
            log.exception("%s of %s failed", doing, self.procedure.NAME)
            raise LabctlError(
                f"{type(error).__name__}: {error}",
                where=f"{doing} of {self.procedure.NAME}, after {self.done} rows",
                todo="the log has the traceback; the rows stored are good",
            ) from error

    def _shut_down(self, foreign: Procedure) -> None:
        self._expect()
        self._shutting_down = True
        try:
            foreign.shutdown()
        except BaseException as error:  # even a SystemExit must not hide that the instruments may still be on
            log.exception("shutdown() of %s failed", self.procedure.NAME)
            step = SafeStep("shutdown()", False, f"{type(error).__name__}: {error}")
            self.procedure.safe_steps.append(RoleStep(self.procedure.NAME, step))

    def _emit(self, topic: str, record: Any) -> None:
        """Take what the procedure emits (its ``emit``); raises LabctlError if a row cannot be stored."""
        self._expect()
        if topic == "results":
            self._store(record)
        elif topic == "batch results":
            for row in rows_of_batch(record):
                self._store(row)
        elif topic == "progress":
            self.observer.progress(float(record))
        elif topic not in self._unknown_topics:
            self._unknown_topics.add(topic)
            log.warning("%s emits %r, which is not stored: labctl takes results and progress", self.procedure, topic)

    def _store(self, record: Mapping[str, Any]) -> None:
        try:
            with self._storing:
                if self._lost is not None:
                    raise self._lost
                self._store_next(record)
        except LabctlError as error:
            self._lost = self._lost or error
            if not self._shutting_down:
                raise
            # What comes after the emit in shutdown() matters more than its row; run() raises in the end.
            log.error("a row emitted by shutdown() is lost: %s", error)

    def _store_next(self, record: Mapping[str, Any]) -> None:
        index = self.done
        if index >= self.stage.max_points:
            raise LabctlError(
                f"{self.procedure.NAME} gives more rows than its bound of {self.stage.max_points}",
                state="the rows up to the bound are stored",
                todo="set MAX_POINTS in its class to the most rows it may give",
            )
        row = self._rows.append(record, index, self.clock.now() - self._start_s, self.clock.wall())
        self.done += 1
        self.observer.done(Point(index, self.stage.name, {}, 0.0), Record(row), self.done)

    def _should_stop(self) -> bool:
        self._expect()
        return self.stop.is_set()

    def _expect(self) -> None:
        self.observer.expect(self._silence_s)

    def _stop_if_asked(self) -> None:
        if self.stop.is_set():
            raise Aborted("the run was stopped on request", where=f"after {self.done} rows")

    def _event(self, kind: str, data: Mapping[str, Any]) -> None:
        self.journal.event(kind, data, t_s=self.clock.now() - self._start_s, wall_s=self.clock.wall())
