"""What the loop over the points asks of those around it: bench, journal, interlocks, and whoever watches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from labctl.errors import InstrumentError
from labctl.run.plan import Point, Stage
from labctl.run.record import Record

if TYPE_CHECKING:
    from labctl.bench.watch import Tripped


class Announcer(Protocol):
    """Whoever wants to know which point comes next; a bench is one."""

    def announce(self, point: int, attempt: int, schedule_s: float) -> None:
        """Say which point is measured next."""
        ...


class Keeper(Protocol):
    """Whoever can bring the instruments back after a failure and keep the sample dark meanwhile; a bench is one."""

    def role_of(self, error: InstrumentError) -> str:
        """Get the role whose instrument an error speaks of; empty if it does not say."""
        ...

    def darken(self) -> None:
        """Close the shutter and read it back; raises InstrumentError if it is not closed after all tries."""
        ...

    def revive(self, role: str) -> None:
        """Make the connection of an instrument anew and start it again; raises InstrumentError."""
        ...

    def rest(self) -> None:
        """Bring every instrument into its safe state, links left open; raises LabctlError if it is not confirmed."""
        ...

    def wake(self) -> None:
        """Start every instrument again after :meth:`rest`; raises InstrumentError."""
        ...


class Interlocks(Protocol):
    """The watch conditions of a bench."""

    def check(self) -> Tripped | None:
        """Get the gravest condition that holds longer than its grace, or None."""
        ...

    def may_resume(self, tripped: Tripped) -> bool:
        """Get whether a run that paused because of a condition may go on."""
        ...

    def soon_s(self) -> float | None:
        """Get in how many s a condition trips that holds already; None if none holds."""
        ...

    def worse(self, tripped: Tripped) -> Tripped | None:
        """Get what has tripped since and asks for more than ``tripped`` does, or None."""
        ...


class RowStore(Protocol):
    """Where rows and events go; a journal is one."""

    def append(
        self,
        stream: str,
        *,
        point: int,
        attempt: int,
        t_s: float,
        wall_s: float,
        row: Mapping[str, Any],
        arrays: Mapping[str, Any] | None = None,
    ) -> None:
        """Store one record."""
        ...

    def event(self, kind: str, data: Mapping[str, Any], *, t_s: float, wall_s: float) -> None:
        """Store one event."""
        ...

    def commit(self) -> None:
        """Store what is still pending."""
        ...


class Observer(Protocol):
    """Whoever watches a run from within the engine."""

    def stage(self, stage: Stage, count: int) -> None:
        """A stage of ``count`` points begins; they are journalled."""
        ...

    def expect(self, duration_s: float) -> None:
        """The next sign of progress comes within ``duration_s`` of the run's clock, or the run hangs."""
        ...

    def done(self, point: Point, record: Record, done: int) -> None:
        """A point was stored; ``done`` points are stored by now."""
        ...

    def progress(self, percent: float) -> None:
        """A procedure that counts its points for itself says how far it is."""
        ...

    def altered(self, planned: int) -> None:
        """The run has another number of points from now on."""
        ...

    def noticed(self, kind: str, data: Mapping[str, Any]) -> None:
        """Something happened that is not a point: ``incident``, ``skipped``, ``paused``, ``continued``, ``resumed``."""
        ...


class Loop(Protocol):
    """Whatever takes a run through its plan."""

    done: int
    """Points stored so far."""

    @property
    def planned(self) -> int:
        """Get the bound on the number of points, as far as it is known by now."""
        ...

    def run(self) -> None:
        """Measure all points; raises Aborted when stopped and whatever an instrument raises."""
        ...
