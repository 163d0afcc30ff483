"""How much of a run is physics: virtual time of a run and the engine's own real time, against the physical minimum.

The minimum is computed from what the emulators did, by code that knows nothing of the engine: every exposure, the
travel of the shutter around each group of exposures with light, and between two groups the longest of the moves, since
moves of different instruments can overlap. Everything else (questions and answers on the wires, waiting, settling,
order) is overhead, and so is the processor time of the engine itself, without that of the emulators.

    python -m benchmarks.duty
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from labctl.run.engine import Engine
from labctl.run.guard_line import GuardLine
from labctl.run.request import RunRequest, prepare
from labctl.sim.beam import Shutter
from labctl.sim.carriage import Carriage
from labctl.sim.laboratory import Laboratory
from labctl.sim.optics import WavePlate
from labctl.sim.stand import Stand

Span = tuple[float, float]


@dataclass
class Trace:
    """What the emulators did, in laboratory seconds.

    :param exposures: Begin and end of every exposure of the camera.
    :param moves: Begin and end of every move, by actuator.
    :param shutter_s: Travel of the shutter, open and close together, s.
    :param emulators_s: Real time spent in the emulators.
    """

    exposures: list[Span] = field(default_factory=list)
    moves: dict[str, list[Span]] = field(default_factory=lambda: defaultdict(list))
    openings: list[float] = field(default_factory=list)
    shutter_s: float = 0.0
    emulators_s: float = 0.0
    depth: int = 0

    def physical_minimum_s(self) -> float:
        """Get the least time in which these exposures and moves can be done, in this order."""
        exposures = sorted(self.exposures)
        total_s = sum(end - begin for begin, end in exposures)
        total_s += self.shutter_s * sum(exposures[0][0] <= t <= exposures[-1][1] for t in self.openings)
        gaps = itertools.pairwise(exposures)
        return total_s + sum(self._longest_moves_s(earlier[1], later[0]) for earlier, later in gaps)

    def span_s(self) -> float:
        """Get the laboratory time from the beginning of the first exposure to the end of the last."""
        return max(end for _, end in self.exposures) - min(begin for begin, _ in self.exposures)

    def _longest_moves_s(self, begin_s: float, end_s: float) -> float:
        each = [sum(b - a for a, b in spans if begin_s <= a < end_s) for spans in self.moves.values()]
        return max(each, default=0.0)


@contextmanager
def traced() -> Iterator[Trace]:
    """Write down what the emulators of this process do meanwhile."""
    trace = Trace()
    expose, plate, ramp, put = Laboratory.expose, WavePlate.move, Carriage.ramp, Stand.put

    def traced_expose(self: Laboratory, t0: float, exposure_s: float, *rest: Any, **named: Any) -> Any:
        trace.exposures.append((t0, t0 + exposure_s))
        trace.shutter_s = self.truth.shutter.open_s + self.truth.shutter.close_s
        return expose(self, t0, exposure_s, *rest, **named)

    def traced_plate(self: WavePlate, t0: float, t1: float, *rest: Any) -> Any:
        trace.moves["plate"].append((t0, t1))
        return plate(self, t0, t1, *rest)

    def traced_ramp(self: Carriage, t0: float, t1: float, *rest: Any) -> Any:
        trace.moves[f"stage {id(self)}"].append((t0, t1))
        return ramp(self, t0, t1, *rest)

    def traced_put(self: Stand, *rest: Any) -> Any:
        place = put(self, *rest)
        _time(place.emulator, trace)
        return place

    opens = Shutter.set

    def traced_shutter(self: Shutter, t: float, is_open: bool) -> None:
        if is_open and not self.is_open(t):
            trace.openings.append(t)
        opens(self, t, is_open)

    with (
        mock.patch.object(Laboratory, "expose", traced_expose),
        mock.patch.object(WavePlate, "move", traced_plate),
        mock.patch.object(Carriage, "ramp", traced_ramp),
        mock.patch.object(Stand, "put", traced_put),
        mock.patch.object(Shutter, "set", traced_shutter),
    ):
        yield trace


def _time(emulator: Any, trace: Trace) -> None:
    """Count the real time within an emulator; calls from one into another count once."""
    name = "respond" if hasattr(emulator, "respond") else "call"
    inner: Callable[..., Any] = getattr(emulator, name)
    if getattr(inner, "is_timed", False):
        return

    def timed(*arguments: Any) -> Any:
        began_s = time.process_time()
        trace.depth += 1
        try:
            return inner(*arguments)
        finally:
            trace.depth -= 1
            if trace.depth == 0:
                trace.emulators_s += time.process_time() - began_s

    timed.is_timed = True  # type: ignore[attr-defined]
    setattr(emulator, name, timed)


@dataclass(frozen=True)
class Duty:
    """What a run took, all in s.

    :param span_s: Laboratory time from the first exposure to the last.
    :param engine_s: Processor time of the whole run without the emulators, with all before and after it.
    :param minimum_s: Physical minimum of the same span.
    """

    procedure: str
    points: int
    span_s: float
    engine_s: float
    minimum_s: float

    @property
    def ratio(self) -> float:
        """Get laboratory time and engine over the physical minimum."""
        return (self.span_s + self.engine_s) / self.minimum_s


def duty(procedure: str, bench: str, parameters: Mapping[str, Any], sample: str | None = None) -> Duty:
    """Run a procedure in this process on the virtual clock and compare its time with the minimum."""
    with tempfile.TemporaryDirectory() as folder, traced() as trace:
        request = RunRequest(
            procedure=procedure,
            bench=bench,
            sample=sample,
            parameters=dict(parameters),
            out=str(Path(folder)),
            virtual_time=True,
            lease=False,
        )
        prepared = prepare(request)
        began_s = time.process_time()
        outcome = Engine(prepared, GuardLine()).run()
        busy_s = time.process_time() - began_s
    if outcome.status != "finished":
        raise RuntimeError(f"{procedure} {outcome.status}: {outcome.error}")
    return Duty(
        procedure, outcome.points["done"], trace.span_s(), busy_s - trace.emulators_s, trace.physical_minimum_s()
    )


RUNS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("fluence-sweep", "simulated", {}),
    ("vsl-scan", "simulated-gain", {"expected_gain": "115 cm^-1"}),
)


def main() -> None:
    """Print the duty cycle of a sweep and of a stripe scan."""
    print("run            points   span   engine  minimum   ratio (target 1.10)")
    for procedure, bench, parameters in RUNS:
        found = duty(procedure, bench, parameters)
        print(
            f"{found.procedure:14} {found.points:6} {found.span_s:6.1f} s {found.engine_s:5.1f} s"
            f" {found.minimum_s:6.1f} s   {found.ratio:.3f}"
        )


if __name__ == "__main__":
    main()
