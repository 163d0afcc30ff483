"""What the tests of the stages share: laboratory, emulator, wire and driver on virtual time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from labctl.clock import VirtualClock
from labctl.sim.laboratory import Laboratory, create

ROLE = "slit_far"


@dataclass
class StageStand:
    """A stage with all that is around it."""

    laboratory: Laboratory
    wire: Any
    driver: Any
    clock: VirtualClock

    @property
    def emulator(self) -> Any:
        return self.wire.emulator

    @property
    def true_mm(self) -> float:
        return self.laboratory.stage(ROLE).at(self.clock.now())

    def sent_since(self, action: Callable[[], object]) -> bytes:
        self.wire.sent.clear()
        action()
        return b"".join(self.wire.sent)


@pytest.fixture
def stage_stand(clock, adapter_to, tap) -> Callable[..., StageStand]:
    """Get a function that sets up a stage; ``start_up`` unless told otherwise."""

    def build(
        driver: Any, emulator: Any, start_up: bool = True, options: dict | None = None, seed: int = 0, **device: Any
    ) -> StageStand:
        laboratory = create(None, None, seed)
        wire = tap(emulator(laboratory, ROLE, device))
        stage = driver(adapter_to(wire, driver.LINK), clock=clock, **(options or {}))
        if start_up:
            stage.start_up()
            wire.sent.clear()
        return StageStand(laboratory, wire, stage, clock)

    return build
