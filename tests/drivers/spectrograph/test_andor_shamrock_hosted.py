"""The Shamrock driver over the simulated library in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from drivers.spectrograph.andor_shamrock import AndorShamrock
from drivers.spectrograph.andor_shamrock_calls import LINK, Flipper, Port, Slit
from labctl.clock import RealClock
from labctl.errors import ConnectionLost
from labctl.transport.vendor import VendorHost


@pytest.fixture(params=["ATSpectrograph", "Shamrock"])
def hosted(request: pytest.FixtureRequest) -> Iterator[AndorShamrock]:
    source = f"python:{Path(__file__).with_name('simulated_shamrock.py')}:make"
    host = VendorHost(LINK, [source], name="spectrograph, sdk:atspectrograph")
    spectrograph = AndorShamrock(host, clock=RealClock(), functions=request.param)
    yield spectrograph
    spectrograph.close()


def test_the_driver_over_a_library_in_its_own_process(hosted: AndorShamrock) -> None:
    hosted.start_up()
    identity = hosted.identify()
    assert (identity.model, identity.serial) == ("SR-303i", "SR-1234")
    assert hosted.wavelength_nm == 0.0 and hosted.grating.number == 3
    assert hosted.select_grating(1).lines_per_mm == 600.0
    assert hosted.go_to(632.0) == 632.0
    axis = hosted.wavelengths_nm(1024, 26.0)
    assert axis.dtype == np.float64 and axis[512] == pytest.approx(632.0, abs=0.1)
    assert (np.diff(axis) > 0).all() and axis[-1] - axis[0] == pytest.approx(132.04, abs=0.1)
    assert hosted.slit_width_um(Slit.INPUT_SIDE) == 10.0 and hosted.port(Flipper.INPUT) is Port.DIRECT
    (step,) = hosted.make_safe()
    assert step.confirmed and step.action == "close spectrograph shutter"


def test_the_driver_over_a_library_that_crashes(hosted: AndorShamrock) -> None:
    hosted.start_up()
    hosted.select_grating(1)
    with pytest.raises(ConnectionLost, match=r"SIGABRT|ended with"):
        hosted.go_to(666.0)
    (step,) = hosted.make_safe()
    assert not step.confirmed and "library is gone" in step.evidence
