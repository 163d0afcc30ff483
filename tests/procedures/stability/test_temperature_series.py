"""A film in the simulated cryostat: how much its emission loses up to room temperature, and where its line goes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from labctl.run.outcome import Outcome
from labctl.store.run import open_run

_BENCH = {"bench": "simulated-cryostat", "sample": "cdzns-zns-pmma", "centre_wavelength": "468 nm"}
_LOST_PERCENT = 7.29
"""1 - 1/[1 + 0.8 exp(-60 meV/kT)] at 300 K: what the sample's truth says."""


def test_short_series(sweep: Callable[..., Outcome]) -> None:
    outcome = sweep(
        "temperature-series",
        **_BENCH,
        temperatures="10, 100, 200, 250, 300 K",
        cycles=1,
        averages=3,
        dwell="60 s",
        baseline_reads=1,
    )
    assert outcome.status == "finished"
    assert outcome.result["quench"]["value"] == pytest.approx(_LOST_PERCENT, abs=2.5)
    with open_run(outcome.run) as run:
        assert run.column("temperature_c") == pytest.approx([26.85, -263.15, -173.15, -73.15, -23.15, 26.85], abs=1.0)
        assert list(run.column("action", "operator")) == ["pump down"]
        assert run.column("pressure_mbar").max() <= 1e-3
        assert not run.events("incident")
