"""What the papers print comes back from whole runs: rows 10 to 17 of the acceptance, each seed within its tolerance."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.recovery import CASES, Case, measured

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SEEDS = range(int(os.environ.get("LABCTL_SEEDS", "2")))
"""More by the environment; all eight by ``python -m benchmarks.recovery``."""
_STABILITY = [case for case in CASES if case.procedure != "vsl-scan"]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("case", _STABILITY, ids=lambda case: case.name)
def test_a_run_gives_back_what_its_sample_is(case: Case, seed: int, tmp_path: Path) -> None:
    found = measured(case, seed, tmp_path)
    assert [wanted for wanted in case.wanted if not wanted.holds(found[wanted.name])] == [], found
