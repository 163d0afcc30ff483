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
        "guard, journal and ledger",
        "processor time of the guard",
        "pymeasure, synced",
        "bluesky",
        "qcodes",
    ):
        assert figure in done.stdout, f"no figure for {figure} in:\n{done.stdout}"


@pytest.mark.slow
def test_the_overhead_is_measured_by_itself(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.overhead", "--points", "5", "--repeats", "1", "--directory", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    figures = {line[:46].strip(): line[46:].split()[0] for line in done.stdout.splitlines() if "point" in line}
    assert float(figures["a point of 100 ms of light, bare"]) > 100.0
