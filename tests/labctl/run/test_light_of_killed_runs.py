"""The exposure ledger after a kill, against what the laboratory in another process knows to have fallen."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from labctl.bench.ledger import ExposureLedger
from labctl.run.light import owed_light

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="processes are stopped with POSIX signals"),
]

SPEED = 20.0
"""Laboratory seconds per second: by its own clock the engine counts only this part of the light."""
_METER_SHARE = 0.05


@pytest.mark.parametrize("later", [False, True], ids=["in the first opening", "after a point"])
def test_the_ledger_of_a_killed_run_holds_no_less_than_fell(
    serve: Callable, start: Callable, tmp_path: Path, later: bool
) -> None:
    laboratory = serve(raw=True, speed=SPEED)
    run = start(laboratory.bench, virtual_time=False)
    if later:
        run.wait_for(lambda event: event.get("event") == "point" and event.get("phase") == "coarse")
    run.freeze_with_light_on(laboratory).kill()
    outcome = run.end()
    assert outcome["safe_state"] == "confirmed"
    fell_j_cm2 = laboratory.state()["dose_uj_cm2"] * 1e-6
    (spot,) = ExposureLedger(tmp_path / "runs").spots()
    assert spot.total.dose_j_cm2 * SPEED >= fell_j_cm2 * (1 - _METER_SHARE) > 0
    # The opening that was cut off counts up to the confirmed close, and to no later moment.
    assert spot.total.open_s < 60.0
    assert spot.total.runs == 1
    assert owed_light(tmp_path / "runs") == []
