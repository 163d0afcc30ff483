"""Films under the UV lamp of the simulated bench: the maximum, what is left, the dose."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from labctl.run.outcome import Outcome
from labctl.store.run import open_run


def test_short_run_under_the_lamp(sweep: Callable[..., Outcome]) -> None:
    outcome = sweep(
        "uv-stability",
        bench="simulated-stability",
        sample="cdse-cds",
        times="60, 120, 360, 600, 1020 min",
        cycles=1,
        after_reads=1,
    )
    result = outcome.result
    assert outcome.status == "finished"
    assert outcome.safe_state == "confirmed"
    assert result["remaining_17h"]["value"] == pytest.approx(0.21, abs=0.03)
    assert result["dose"]["value"] == pytest.approx(4590.0, rel=0.03)
    with open_run(outcome.run) as run:
        kind = run.column("kind")
        assert np.isnan(run.column("ratio")[kind == "lamp"]).all()
        irradiance = run.column("irradiance_mw_cm2")[run.column("stage") == "uv"]
        assert irradiance[-1] == pytest.approx(75.0, rel=0.05)
        assert irradiance[0] < 70.0, "the lamp warms up"
        # The pump is on while spectra are taken, and at no other time.
        assert run.column("open_s").sum() < 60.0


def test_doses_in_place_of_times(sweep: Callable[..., Outcome]) -> None:
    outcome = sweep(
        "uv-stability",
        bench="simulated-stability",
        sample="cdse-cds",
        doses="100, 300 J/cm^2",
        cycles=1,
        baseline_reads=1,
        after_reads=0,
        pause_stress=True,
    )
    with open_run(outcome.run) as run:
        read = (run.column("stage") == "uv") & (run.column("kind") == "read")
        assert run.column("lamp_dose_j_cm2")[read] == pytest.approx([100.0, 300.0], rel=0.06)
        assert run.column("stress_paused")[read].all()
