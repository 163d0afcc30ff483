"""Two runs of water stability take turns on one bench of emulators, which outlives their visits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from labctl.config.campaign import load_campaign
from labctl.run.queue import run_queue
from labctl.store.run import open_run

CAMPAIGN = """\
name = "turns"
on_failure = "stop"

[[run]]
name = "water"
procedure = "water-stability"
bench = "simulated-perovskites"
samples = ["cspbbr3-zns", "cspbbr3"]
interleave = "bench"
leave = "5 min"
[run.parameters]
times = "0, 60, 180 min"
cycles = 2
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_runs_that_take_turns_are_measured_on_time_and_age_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "turns.toml"
    path.write_text(CAMPAIGN, encoding="utf-8")
    outcome = run_queue(load_campaign(path), out=str(tmp_path / "runs"), virtual_time=True)
    assert (outcome["status"], outcome["left"]) == ("finished", [])
    # Water takes CsPbBr3 with 2.61 h; with a shell it hardly fades in three hours.
    for entry, left in zip(outcome["runs"], (0.987, np.exp(-3.0 / 2.61)), strict=True):
        with open_run(entry["run"]) as run:
            rows = run.columns("points")
            wet = np.asarray(rows["stage"]).astype(str) == "wet"
            # A read takes some minutes, and is due when it begins.
            assert np.all(np.abs(rows["stress_s"][wet] / 60 - [0, 60, 180]) < 5)
            assert rows["relative_intensity"][wet][-1] == pytest.approx(left, abs=0.03)
            assert len(run.events("resumed")) == 2, "it left the bench twice"
            assert run.events("reference") == [], "a run that left of its own accord measures no reference"
            assert run.events("skipped") == []
