"""The simulated spectrograph library under an independent, unmodified client: pylablib 1.4.5 in its own process."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

CLIENT = Path(__file__).with_name("pylablib_shamrock_client.py")


@pytest.mark.skipif(importlib.util.find_spec("pylablib") is None, reason="pylablib (extra `clients`) is not installed")
def test_pylablib_drives_every_part_and_takes_the_calibration() -> None:
    simulation = json.dumps({"slits": [1, 3], "grating_shift_nm": 0.4})
    process = subprocess.run([sys.executable, str(CLIENT), simulation], capture_output=True, text=True, timeout=60)
    assert process.returncode == 0, process.stderr
    report = json.loads(process.stdout)
    assert report["found"] == ["SR-1234"] and report["serial"] == "SR-1234"
    assert report["optics"] == pytest.approx([0.3, 30.4, 1.38])
    assert [(lines, blaze) for lines, blaze, _, _ in report["gratings"]] == [(600, "500"), (150, "500"), (1200, "500")]
    assert report["limits_nm"] == pytest.approx([0.0, 1250.0])
    assert report["started in zero order"] and report["zero order"]
    assert report["grating"] == 2 and report["grating_s"] == pytest.approx(5.0, abs=0.05)
    assert report["wavelength_nm"] == pytest.approx(632.0) and report["at"] == [632.0, 150.0]
    assert report["slits"] == [True, False, True, False] and report["slit_um"] == pytest.approx(50.0)
    assert report["shutter"] == ["not_set", "opened"] and not report["bnc"]
    assert report["offsets"] == [-12, 34]
    # 150 lines/mm, 300 mm, 26 um: 10^6 cos(beta)/(G f) with beta near 18 deg.
    assert report["axis"]["pixels"] == 1024 and report["axis"]["middle"] == pytest.approx(632.0, abs=0.5)
    assert (report["axis"]["last"] - report["axis"]["first"]) / 1023 == pytest.approx(0.578 * 0.952, rel=0.01)
    assert "20267" in report["refused"] and "20249" in report["no calibration"]
    assert {"wavelength", "grating", "slit_widths", "shutter_mode"} <= set(report["settings"])
    assert report["last call"] == "ShamrockClose" and report["families"] == ["Shamrock"]
