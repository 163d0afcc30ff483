"""The simulated bench, opened as a procedure would, with a way behind the scenes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any, cast

import pytest

from labctl.bench.bench import Bench
from labctl.clock import VirtualClock
from labctl.config.bench import load_bench, parse_bench
from labctl.config.locate import locate
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
    """Open a shipped bench on a clock of its own; closed at the end of the test.

    ``changes`` replaces text of the bench file, each of which must stand there once.
    """
    with ExitStack() as stack:

        def open_(
            roles: tuple[str, ...] | None = None,
            seed: int = 0,
            *,
            bench: str = "simulated",
            changes: Mapping[str, str] | None = None,
        ) -> OpenedBench:
            text = locate("benches", bench).read_text(encoding="utf-8")
            for old, new in (changes or {}).items():
                assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in the shipped bench"
                text = text.replace(old, new)
            config = parse_bench(text, bench, check_drivers=True) if changes else load_bench(bench)
            sample = load_sample(config.default_sample or "cdse-cds-zno")
            opened = Bench.open(config, VirtualClock(), roles=roles, sample=sample, seed=seed)
            stack.callback(opened.close)
            return OpenedBench(opened)

        yield open_
