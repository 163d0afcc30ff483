"""What a bench file says of a spectrograph that knows its own geometry."""

from __future__ import annotations

import pytest

from drivers.spectrograph.andor_shamrock import AndorShamrock
from drivers.spectrograph.andor_shamrock_calls import LINK
from drivers.spectrograph.emulators.andor_shamrock import AndorShamrockLibrary
from labctl.clock import VirtualClock
from labctl.errors import InputError
from labctl.sim.laboratory import create
from labctl.sim.link import EmulatorChannel


def spectrograph(true_mm: float, **options: float) -> AndorShamrock:
    clock = VirtualClock()
    laboratory = create({"spectrograph": {"focal_length_mm": true_mm}}, None, 0)
    channel = EmulatorChannel(AndorShamrockLibrary(laboratory, "spectrograph", {}), clock, LINK, "spectrograph")
    return AndorShamrock(channel, clock=clock, **options)


@pytest.mark.parametrize("stated_mm", [300.0, 303.0])
def test_a_focal_length_that_is_its_own_is_accepted(stated_mm: float) -> None:
    stated = spectrograph(300.0, focal_length_mm=stated_mm, half_angle_deg=15.2, detector_angle_deg=1.38)
    stated.start_up()
    assert stated.geometry.focal_length_mm == pytest.approx(300.0, rel=1e-3)


def test_another_focal_length_is_refused_with_both() -> None:
    with pytest.raises(InputError, match="focal length of 750 mm, not 300 mm"):
        spectrograph(750.0, focal_length_mm=300.0).start_up()
