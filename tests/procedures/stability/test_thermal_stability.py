"""Films on the hot plate of the simulated bench: what is left, and what comes back on cooling."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from labctl.run.outcome import Outcome
from labctl.store.run import open_run


def test_short_run_tells_quench_from_loss(sweep: Callable[..., Outcome]) -> None:
    outcome = sweep(
        "thermal-stability",
        bench="simulated-stability",
        sample="cdse-cds",
        times="0, 5, 20 min",
        cycles=2,
        baseline_reads=2,
        after_reads=2,
    )
    assert outcome.status == "finished"
    assert outcome.safe_state == "confirmed"
    assert outcome.result["quench"]["value"] == pytest.approx(0.85, abs=0.03)
    assert outcome.result["remaining_20min"]["value"] == pytest.approx(0.47, abs=0.04)
    with open_run(outcome.run) as run:
        hot = run.column("temperature_c")[run.column("stage") == "hot"]
        assert hot == pytest.approx(100.0, abs=1.5)
        assert np.nanmax(run.array("log_value", "heating")[0]) > 99.0
        assert list(run.column("stage", "heating")) == ["heat-up", "cool-down"]
