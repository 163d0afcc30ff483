"""The base of our procedures: a pymeasure Procedure that plans first and then measures point by point."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pymeasure.experiment import Metadata, Procedure

from labctl.bench.safe import RoleStep
from labctl.errors import InputError
from labctl.run.contracts import Loop, Observer
from labctl.run.plan import Plan, Point, Stage
from labctl.run.point_loop import PointLoop
from labctl.run.policy import FailurePolicy
from labctl.run.pymeasure_bridge import (
    describe_parameters,
    forget_metadata,
    refresh_parameters,
    set_parameters,
    unset_parameters,
)
from labctl.run.record import Acknowledged, Record
from labctl.run.under_worker import RunsOn, WorkerRun, require_bench
from labctl.store.layout import ArrayField, Column, RowLayout

if TYPE_CHECKING:
    from labctl.bench.bench import Bench
    from labctl.bench.spectral_window import SpectralWindow
    from labctl.clock import Clock
    from labctl.config.bench import BenchConfig
    from labctl.config.sample import SampleConfig
    from labctl.run.conduct import Conduct
    from labctl.store.journal import Journal
    from labctl.store.run import Run


@dataclass(frozen=True, slots=True)
class DefaultPlot:
    """What a run shows of itself when nobody asks for more.

    :param stream: Name of the main stream.
    :param x: Its column on the abscissa.
    :param signal: Its column on the ordinate.
    :param spectra: Its array that is a spectrum per point, or None.
    """

    stream: str
    x: str
    signal: str
    spectra: str | None = None


@dataclass(frozen=True)
class Streams:
    """Layout of every stream of a run, and the axes that all points share (name to values and unit)."""

    layouts: Mapping[str, RowLayout]
    axes: Mapping[str, tuple[NDArray[np.float64], str]] = field(default_factory=dict)


class SweepProcedure(Procedure):
    """Base of a procedure: declares parameters, roles and columns, plans, and measures one point at a time.

    The engine owns order, storage, abort, progress and the safe state. A procedure overrides :meth:`plan`,
    :meth:`prepare`, :meth:`streams`, :meth:`measure`, for adaptive stages :meth:`next_settings`, and :meth:`analyse`.

    All parameters are checked when the object is made: unknown names, wrong units and values out of range are
    reported together, before anything moves.

    It also runs under pymeasure's own Worker and Results, once :attr:`runs_on` says where and ``DATA_COLUMNS`` lists
    the columns of the main stream: see :mod:`labctl.run.under_worker`.
    """

    NAME: ClassVar[str]
    """Name on the command line, with dashes."""
    TITLE: ClassVar[str] = ""
    ROLES: ClassVar[tuple[str, ...]] = ()
    """Roles that must be on the bench."""
    OPTIONAL_ROLES: ClassVar[tuple[str, ...]] = ()
    """Roles that are used where the bench has them."""
    DEFAULT_PLOT: ClassVar[DefaultPlot]
    """What a run shows by default."""
    CALIBRATES: ClassVar[tuple[str, ...]] = ()
    """Calibrations that it makes anew (``attenuator``): an old one does not keep it from starting."""
    GROUP_COMMIT_S: ClassVar[float] = 0.0
    """Points that come faster than this share a commit; 0 acknowledges each point by itself."""
    OWN_INSTRUMENTS: ClassVar[bool] = False
    """Whether it opens instruments by itself, past the bench: no emulator can then stand in for them."""
    FAILURES: ClassVar[FailurePolicy] = FailurePolicy()
    """What is done when a point fails, where neither its stage nor the request says otherwise."""
    RESULTS: ClassVar[Mapping[str, str]] = {}
    """Results that later runs of a campaign may take, by name, with their unit (``1`` for a number); checked there."""
    POINT_BYTES: ClassVar[int] = 512 + 2048 * 5
    """What a point takes on the disk at most, for the preflight; a row and a spectrum with its mask by default."""

    runs_on: RunsOn | None = None
    """The bench, for pymeasure's Worker; the engine is told by the request."""
    bench_used = Metadata("Bench", fget="worker_run.bench_label")
    sample_used = Metadata("Sample", fget="worker_run.sample_label")
    data_from = Metadata("Data from", fget="worker_run.origin_label")

    def __init__(self, **values: Any) -> None:
        super().__init__()
        self.stop_event = threading.Event()
        """Set when the run is to end; long waits of a procedure look at it."""
        self.safe_steps: list[RoleStep] = []
        """Steps towards the safe state that the procedure took itself, outside the bench."""
        self.worker_run: WorkerRun | None = None
        """The run under pymeasure's Worker, if there is or was one; holds the report of the safe state."""
        set_parameters(self, values, self.NAME)

    def check_parameters(self) -> None:
        """Raise NameError if a parameter that is not optional has no value, InputError if it is not said where to run.

        pymeasure's Worker calls this when it is made.
        """
        require_bench(self)
        for name in unset_parameters(self):
            raise NameError(f"parameter {name!r} of {self.NAME} has no value")

    def refresh_parameters(self) -> None:
        """Cast all values again and enter them in pymeasure's table; unset optional ones stay unset."""
        refresh_parameters(self)

    @classmethod
    def describe(cls) -> dict[str, Any]:
        """Get name, roles and parameters with units, limits and defaults, as JSON-serialisable data."""
        parameters = describe_parameters(cls())
        roles = {"roles": list(cls.ROLES), "optional_roles": list(cls.OPTIONAL_ROLES)}
        return {"name": cls.NAME, "title": cls.TITLE, **roles, "parameters": parameters}

    @classmethod
    def roles_on(cls, bench: BenchConfig) -> tuple[str, ...]:
        """Get the roles that it opens on a bench: those it needs, and of the optional ones those that are there."""
        return (*cls.ROLES, *(role for role in cls.OPTIONAL_ROLES if role in bench.instruments))

    def startup(self) -> None:
        """Check the plan, open the bench and prepare it; for pymeasure's Worker, as are the next two."""
        forget_metadata(self)
        self.worker_run = None
        self.worker_run = WorkerRun(self)
        self.worker_run.start()

    def execute(self) -> None:
        """Measure all points of the plan and emit the rows of the main stream."""
        if self.worker_run is not None:
            self.worker_run.measure()

    def shutdown(self) -> None:
        """Bring the bench into its safe state and close it, whatever happened before."""
        if self.worker_run is not None:
            self.worker_run.leave_safe()

    def plan(self, bench: BenchConfig, sample: SampleConfig | None) -> Plan:
        """Say what will be done, from the configuration alone; raises InputError for what cannot be done."""
        raise NotImplementedError

    def spectral_window(self, bench: BenchConfig) -> SpectralWindow | None:
        """Say which wavelengths it looks at, and through which filter, for the preflight; called after :meth:`plan`.

        None for a procedure that takes no spectra.
        """
        return None

    def prepare(self, bench: Bench) -> None:
        """Bring the instruments into the state in which points can be measured; shutter closed on return.

        Called again after a failure, a pause or a gap, to set every role anew: what was measured must be kept.
        """
        raise NotImplementedError

    def begin(self, bench: Bench) -> None:
        """Make what will hold the measured; called once, after the first :meth:`prepare`."""

    def streams(self, bench: Bench) -> Streams:
        """Say what the rows look like; called after :meth:`prepare`, so that sizes of detectors are known."""
        raise NotImplementedError

    def next_settings(self, stage: Stage, rows: Sequence[Acknowledged]) -> Sequence[Mapping[str, Any]]:
        """Give the settings of an adaptive stage: a pure function of the rows acknowledged before it."""
        raise NotImplementedError

    def measure(self, point: Point) -> Record:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Set, settle, measure one point."""
        raise NotImplementedError

    def acknowledge(self, entry: Acknowledged) -> None:
        """Take note of a point that is on the disk, e.g. for auto-exposure; must not touch instruments."""

    def take_up(self, point: Point) -> None:
        """Bring back what goes on between the points, before the next one of a resumed run is waited for.

        A death has made the bench safe: a lamp or a heater that is to work for weeks is off, and the next point may be
        due in hours. By default nothing goes on between points.

        :param point: The next one.
        """

    def recall(self, entry: Acknowledged, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take note of a point of the earlier part of a resumed run; must leave what measuring it would have left."""
        self.acknowledge(entry)

    def is_better_reference(self, best: Acknowledged | None, entry: Acknowledged) -> bool:
        """Say whether a point is a better one than ``best`` to be measured again when the run is resumed.

        By default the last one of the main stream.
        """
        return self.DEFAULT_PLOT.signal in entry.row

    def reference_ratio(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> float | None:
        """Compare the reference point before and after a gap: signal now over signal then, None if it was 0."""
        name = self.DEFAULT_PLOT.signal
        return float(now[name]) / float(before[name]) if before[name] else None

    def more_settings(
        self, stage: Stage, settings: Sequence[Mapping[str, Any]], count: int
    ) -> Sequence[Mapping[str, Any]]:
        """Give the settings of further points, by which an operator extends a stage; raises InputError if it cannot be.

        By default a stage with a schedule goes on as it was.

        :param settings: Of all points that the stage has so far.
        """
        if stage.times_s is None or not settings:
            raise InputError(
                f"{self.NAME} cannot have more points in its stage {stage.name!r}",
                where="alteration of the run",
                state="nothing has changed",
                todo="begin another run with other parameters",
            )
        return [dict(settings[-1])] * count

    def course_altered(self, stage: Stage, settings: Sequence[Mapping[str, Any]]) -> None:
        """Take note that a stage has other points from now on."""

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
    ) -> Loop:
        """Make what takes the run through its plan; for procedures that do not measure point by point."""
        return PointLoop(self, plan, bench, journal, clock, stop=stop, observer=observer, conduct=conduct)

    def analyse(self, run: Run) -> dict[str, Any]:
        """Analyse a run, live or old: returns ``{"result": {...}, "warnings": [...], ...}``; needs no bench."""
        raise NotImplementedError

    def write_products(self, run_path: Path, analysed: Mapping[str, Any]) -> dict[str, Path]:
        """Write what a run gives besides itself, e.g. a calibration, into new files next to it; returns them by name.

        Called once, after the run was analysed. Raises StorageError rather than overwrite a file.
        """
        return {}


__all__ = [
    "Acknowledged",
    "ArrayField",
    "Column",
    "DefaultPlot",
    "Record",
    "RowLayout",
    "RunsOn",
    "Streams",
    "SweepProcedure",
]
