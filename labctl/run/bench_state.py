"""How the instruments of a bench stand before a run: warm-up, interlocks, watch conditions. Asked, never moved."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labctl.bench.bench import Bench
from labctl.bench.readiness import RoleReadiness, read_readiness
from labctl.bench.watch import WatchReading
from labctl.clock import Clock, RealClock, VirtualClock
from labctl.run.request import PreparedRun


@dataclass(frozen=True)
class BenchState:
    """What the instruments said.

    :param readiness: What a run needs of them.
    :param watched: What the watch conditions and the limits of readings see.
    """

    readiness: tuple[RoleReadiness, ...]
    watched: tuple[WatchReading, ...]

    @property
    def refusals(self) -> tuple[str, ...]:
        """Get what a run cannot do without and would not wait for."""
        return tuple(
            f"{entry.role}: {entry.readiness.name}: {entry.readiness.text}"
            for entry in self.readiness
            if not entry.readiness.ok and not entry.readiness.waits
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """Get the watch conditions that would hold up a run."""
        return tuple(
            f"watch {entry.name}: {entry.condition}; {'' if entry.readable else 'it cannot be '}read: {entry.reading}"
            for entry in self.watched
            if entry.holds
        )

    def as_dict(self) -> dict[str, Any]:
        """The state as JSON-serialisable data."""
        return {
            "readiness": [entry.as_dict() for entry in self.readiness],
            "watched": [entry.as_dict() for entry in self.watched],
        }


def ask_bench(prepared: PreparedRun) -> BenchState:
    """Open the instruments that the run needs, ask them how they stand, and close them as they were.

    Raises BenchOpenError that names every instrument that cannot be reached, InputError if another run has them.
    """
    clock: Clock = VirtualClock() if prepared.bench.is_in_process else RealClock()
    with clock.actor():
        bench = Bench.open(
            prepared.bench,
            clock,
            roles=prepared.procedure.roles_on(prepared.bench),
            sample=prepared.sample,
            seed=prepared.request.seed,
            owner="labctl plan --live",
            folder=Path(prepared.request.out).absolute(),
            only_to_make_safe=True,
        )
        try:
            return BenchState(tuple(read_readiness(bench)), tuple(bench.watch.readings()))
        finally:
            bench.close()
