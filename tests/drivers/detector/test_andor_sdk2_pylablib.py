"""The simulated Andor SDK2 under an independent, unmodified client: pylablib 1.4.5 in a process of its own."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

CLIENT = Path(__file__).with_name("pylablib_client.py")


@pytest.mark.skipif(importlib.util.find_spec("pylablib") is None, reason="pylablib (extra `clients`) is not installed")
def test_pylablib_cools_and_takes_spectra_and_images() -> None:
    process = subprocess.run([sys.executable, str(CLIENT)], capture_output=True, text=True, timeout=60)
    assert process.returncode == 0, process.stderr
    report = json.loads(process.stdout)
    assert report["info"][1] == "DU401A_BVF"
    assert report["detector"] == [1024, 127] and report["pixel_um"] == [26.0, 26.0]
    assert report["speeds_mhz"] == [0.05, 0.1, 1.0]
    assert report["cooling"] == ["not_reached", "not_stabilized", "stabilized"]
    assert report["temperature_c"] == -60.0
    assert report["exposures_s"][0] == pytest.approx(0.1)
    assert 0.0123456 < report["exposures_s"][1] <= 0.0123456 + 1e-5
    assert report["fvb"]["shape"] == [3, 1, 1024] and report["fvb"]["dtype"] == "uint16"
    # No light: the offset of the converter, 600 counts, and little else.
    assert all(mean == pytest.approx(600, abs=2) for mean in report["fvb"]["means"])
    assert report["image"]["shape"] == [10, 1024]
    assert 0 < report["image"]["sum"] < report["sum of whole image"] == pytest.approx(600 * 1024, rel=0.01)
    assert report["last calls"] == ["FreeInternalMemory", "GetCurrentCamera", "ShutDown"]
