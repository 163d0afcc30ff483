"""What a stage carries."""

from __future__ import annotations

import numpy as np
import pytest

from labctl.sim.carriage import Carriage
from labctl.sim.noise import KeyedNoise


def test_it_drives_evenly_and_stops_where_it_is() -> None:
    carriage = Carriage("sample_stage", 1.0, KeyedNoise(0))
    assert carriage.at(0.0) == 1.0
    carriage.ramp(1.0, 3.0, 5.0)
    assert carriage.at(2.0) == pytest.approx(3.0)
    carriage.stop(2.5)
    assert carriage.at(9.0) == pytest.approx(4.0)
    assert carriage.first_move_s == 1.0


def test_how_it_arrives_is_a_matter_of_the_point() -> None:
    noise = KeyedNoise(0)
    luck = []
    for point in (0, 1, 0):
        noise.announce(point, 0, 0.0)
        carriage = Carriage("slit_far", 0.0, noise)
        assert carriage.luck(5.0) == 0.0
        carriage.ramp(0.0, 1.0, 2.0)
        luck.append(carriage.luck(5.0))
    assert luck[0] == luck[2] != luck[1]


def test_arrivals_scatter_like_a_normal_deviate() -> None:
    carriage = Carriage("slit_far", 0.0, KeyedNoise(0))
    luck = []
    for n in range(400):
        carriage.ramp(10.0 * n, 10.0 * n + 1.0, n % 2)
        luck.append(carriage.luck(10.0 * n + 5.0))
    assert abs(np.mean(luck)) < 0.2
    assert np.std(luck) == pytest.approx(1.0, abs=0.15)
