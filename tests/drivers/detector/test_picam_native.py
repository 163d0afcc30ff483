"""The PICam driver over a library compiled from C, which has the vendor's structures and pointers but not its camera.

It shows that handles, addresses, structures and 64-bit integers arrive as C means them. The vendor's own library is
not here to be tested.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from drivers.detector.picam import Picam
from drivers.detector.picam_calls import LINK
from labctl.clock import RealClock
from labctl.errors import ConnectionLost, InstrumentError
from labctl.transport.vendor import VendorHost

COMPILER = shutil.which("cc")
pytestmark = pytest.mark.skipif(
    COMPILER is None or not sys.platform.startswith("linux") or sys.maxsize < 1 << 32,
    reason="needs a C compiler on 64-bit Linux",
)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("native") / "libpicam.so"
    source = Path(__file__).with_name("native_picam.c")
    subprocess.run([str(COMPILER), "-shared", "-fPIC", "-O1", "-o", str(file), str(source)], check=True, timeout=60)
    return file


@pytest.fixture
def camera(library: Path) -> Iterator[Picam]:
    camera = Picam(VendorHost(LINK, [str(library)], name="detector"), clock=RealClock(), serial="4711")
    camera.start_up()
    yield camera
    camera.close()


def test_what_the_library_says_arrives(camera: Picam) -> None:
    assert (camera.pixels, camera.pixel_um, camera.full_scale_counts) == (64, 13.5, 2 * 65535)
    identity = camera.identify()
    assert (identity.model, identity.serial, identity.firmware) == ("Native camera", "4711", "PICam 5.1.2")
    assert camera.exposure_s == 0.1 and camera.cycle_s == pytest.approx(0.1025)
    camera.cool_to(-40)
    assert camera.cooler.on and camera.cooler.locked and camera.cooler.temperature_c == -40.0


def test_frames_are_summed_over_all_rows_and_outlive_the_library_s_memory(camera: Picam) -> None:
    camera.set_exposure(0.01)
    for number in (1, 2, 3):
        camera.start()
        assert camera.read().tolist() == [8 * 100 * number + 280 + 8 * x for x in range(64)]


def test_an_exposure_is_put_on_the_grid_and_a_rejected_one_is_named(camera: Picam) -> None:
    assert camera.set_exposure(0.01024) == 0.0105
    with pytest.raises(InstrumentError, match="rejects ExposureTime = 42"):
        camera.set_exposure(0.042)
    assert camera.set_exposure(0.02) == 0.02
    camera.start()
    assert isinstance(camera.read(), np.ndarray)


def test_an_exposure_is_stopped(camera: Picam) -> None:
    camera.set_exposure(30.0)
    camera.start()
    (step,) = camera.make_safe()
    assert step.confirmed and "IsAcquisitionRunning reads 0" in step.evidence
    camera.set_exposure(0.01)
    camera.start()
    assert camera.read().shape == (64,)


def test_another_serial_number_is_not_there(library: Path) -> None:
    camera = Picam(VendorHost(LINK, [str(library)], name="detector"), clock=RealClock(), serial="0815")
    with pytest.raises(ConnectionLost, match="found: 4711"):
        camera.start_up()
    camera.close()
