"""The fault tables: every transaction of a procedure with every fault, and no promise broken."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUDGET_S = {
    "fluence-sweep": 1200,
    "attenuator-calibration": 360,
    "vsl-scan": 360,
    "thermal-stability": 360,
    "uv-stability": 360,
}
"""Processor time: 10 minutes on two cores, however busy the machine is; 3 minutes for every later procedure."""
REPLAYS = {
    "fluence-sweep": 8.0,
    "attenuator-calibration": 8.0 / 3,
    "vsl-scan": 0.5,
    "thermal-stability": 0.5,
    "uv-stability": 0.5,
}
"""Replays for each transaction of the short run, at least; where other tables hold most of the instruments, fewer."""
_HANG_S = 3000

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="replays are forks"),
]


def table_of(*arguments: str, limit_s: float) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "fault_table", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=limit_s
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.timeout(320)
def test_a_quick_look_prints_the_same_table() -> None:
    text = table_of("fluence-sweep", "--every", "100", "--kind", "garbled", limit_s=300)
    assert "| garbled |" in text
    assert "broken promises: 0" in text


@pytest.mark.timeout(_HANG_S + 60)
@pytest.mark.parametrize("procedure", BUDGET_S)
def test_no_fault_hangs_is_stored_as_good_goes_unnamed_or_leaves_the_bench_unsafe(procedure: str) -> None:
    text = table_of(procedure, limit_s=_HANG_S)
    found = re.match(rf"{procedure}: (\d+) transactions, (\d+) replays in \d+ s \((\d+) s of processor time\)", text)
    assert found is not None, text
    transactions, replays, busy_s = map(int, found.groups())
    assert transactions > 500
    assert replays > REPLAYS[procedure] * transactions
    assert busy_s < BUDGET_S[procedure]
