"""What the sample stage brings into the beam."""

from __future__ import annotations

import numpy as np
import pytest

from labctl.errors import ConfigError
from labctl.sim.carriage import Carriage
from labctl.sim.noise import KeyedNoise
from labctl.sim.places import DARK, REFERENCE, Places, PlacesTruth
from labctl.sim.truth_table import read_table


def _places() -> Places:
    return Places(read_table({"samples": [{"name": "A1", "position_mm": 16.0}]}, PlacesTruth, "places"))


def test_without_a_stage_or_before_it_moves_the_sample_is_in_the_beam() -> None:
    places = _places()
    assert places.at(None, 0.0) == 0
    assert Places(None).at(Carriage("sample_stage", 77.0, KeyedNoise(0)), 0.0) == 0
    carriage = Carriage("sample_stage", 0.0, KeyedNoise(0))
    carriage.ramp(10.0, 11.0, 25.0)
    assert places.at(carriage, 9.0) == 0
    assert places.at(carriage, 12.0) == DARK


def test_the_stage_brings_each_place_into_the_beam() -> None:
    places, carriage = _places(), Carriage("sample_stage", 0.0, KeyedNoise(0))
    found = []
    for turn, position_mm in enumerate((10.0, 16.0, 40.0, 41.9, 13.0)):
        carriage.ramp(10.0 * turn, 10.0 * turn + 1.0, position_mm)
        found.append(places.at(carriage, 10.0 * turn + 5.0))
    assert found == [0, 1, REFERENCE, REFERENCE, DARK]
    assert places.names == ("sample", "A1")
    assert list(places.sample(carriage, np.array([5.0, 15.0, 45.0]))) == [0, 1, DARK]


def test_places_that_overlap_are_refused() -> None:
    with pytest.raises(ConfigError, match="width_mm apart"):
        read_table({"samples": [{"name": "A1", "position_mm": 12.0}]}, PlacesTruth, "places")
