"""The simulated bench, opened as a procedure would, with a way behind the scenes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, cast

import pytest

from labctl.bench.bench import Bench
from labctl.clock import VirtualClock
from labctl.config.bench import load_bench
from labctl.config.sample import load_sample
from labctl.sim.laboratory import Laboratory
from labctl.sim.transport import LocalLaboratory


class OpenedBench:
    """A bench on emulators, and what is behind them.

    :param bench: The bench.
    """

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    @property
    def laboratory(self) -> Laboratory:
        return cast(LocalLaboratory, self.bench.laboratory).stand.laboratory

    def emulator(self, role: str) -> Any:
        return cast(LocalLaboratory, self.bench.laboratory).stand.places[role].emulator

    def truth(self) -> dict[str, Any]:
        assert self.bench.laboratory is not None
        return dict(self.bench.laboratory.state())


@pytest.fixture
def open_bench() -> Iterator[Callable[..., OpenedBench]]:
    """Open the shipped bench on a clock of its own; closed at the end of the test."""
    with ExitStack() as stack:

        def open_(roles: tuple[str, ...] | None = None, seed: int = 0) -> OpenedBench:
            config, sample = load_bench("simulated"), load_sample("cdse-cds-zno")
            bench = Bench.open(config, VirtualClock(), roles=roles, sample=sample, seed=seed)
            stack.callback(bench.close)
            return OpenedBench(bench)

        yield open_
