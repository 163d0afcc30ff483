"""The benchmarks run; what they measure is printed, not asserted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_one_command_prints_every_figure(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--directory", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=380,
    )
    assert done.returncode == 0, done.stderr
    for figure in (
        "--help",
        "demo",
        "guard",
        "acknowledged",
        "group commit",
        "pymeasure",
        "refresh",
        "sealed",
        "spectrum",
        "pymeasure, synced",
        "bluesky",
        "qcodes",
    ):
        assert figure in done.stdout, f"no figure for {figure} in:\n{done.stdout}"
