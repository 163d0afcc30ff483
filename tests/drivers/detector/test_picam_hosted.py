"""The PICam driver over the simulated library in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from drivers.detector.picam import Picam
from drivers.detector.picam_calls import LINK
from drivers.detector.picam_parameters import EXPOSURE_TIME
from labctl.clock import RealClock
from labctl.errors import ConnectionLost, InstrumentTimeout
from labctl.transport.vendor import VendorHost


@pytest.fixture
def hosted() -> Iterator[tuple[Picam, VendorHost]]:
    source = f"python:{Path(__file__).with_name('simulated_picam.py')}:make"
    host = VendorHost(LINK, [source], name="detector, sdk:picam")
    camera = Picam(host, clock=RealClock())
    yield camera, host
    camera.close()


def test_the_driver_over_a_library_in_its_own_process(hosted: tuple[Picam, VendorHost]) -> None:
    camera, _ = hosted
    camera.start_up()
    assert camera.pixels == 1340 and camera.identify().model == "PIXIS: 100F"
    assert camera.cooler.locked and camera.cooler.temperature_c == -60.0
    assert camera.set_exposure(0.1) == 0.1
    for _ in range(3):
        camera.start()
        counts = camera.read()
        assert counts.dtype == np.int32 and counts.mean() == pytest.approx(600, abs=3)
    (step,) = camera.make_safe()
    assert step.confirmed


def test_the_driver_over_a_library_that_crashes(hosted: tuple[Picam, VendorHost]) -> None:
    camera, _ = hosted
    camera.start_up()
    with pytest.raises(ConnectionLost, match=r"SIGABRT|ended with"):
        camera.set_exposure(666.0)
    (step,) = camera.make_safe()
    assert not step.confirmed and "PICam is gone" in step.evidence


def test_the_driver_over_a_library_that_hangs(hosted: tuple[Picam, VendorHost]) -> None:
    camera, host = hosted
    camera.start_up()
    with pytest.raises(InstrumentTimeout, match="did not come back"):
        host.call("Picam_SetParameterFloatingPointValue", 1, EXPOSURE_TIME.id, 777000.0, timeout_s=0.3)
    with pytest.raises(ConnectionLost, match="hung"):
        camera.start()
