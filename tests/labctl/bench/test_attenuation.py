"""Malus' law, there and back."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.bench.attenuation import MalusLaw
from labctl.errors import InputError

LAW = MalusLaw(minimum_j=4e-8, maximum_j=38e-6, theta0_deg=7.3)


@given(share=st.floats(0.0, 1.0), theta0=st.floats(-360.0, 360.0))
def test_an_energy_is_found_again_at_its_angle(share: float, theta0: float) -> None:
    law = MalusLaw(4e-8, 38e-6, theta0)
    energy_j = law.minimum_j + share * (law.maximum_j - law.minimum_j)
    angle = law.angle_deg(energy_j)
    assert theta0 - 1e-9 <= angle <= theta0 + 45 + 1e-9
    assert law.energy_j(angle) == pytest.approx(energy_j, abs=1e-9 * law.maximum_j)


def test_the_plate_turns_the_polarisation_twice_as_far() -> None:
    assert LAW.energy_j(7.3) == pytest.approx(38e-6)
    assert LAW.energy_j(7.3 + 45) == pytest.approx(4e-8)
    assert LAW.energy_j(7.3 + 22.5) == pytest.approx((38e-6 + 4e-8) / 2)
    assert LAW.energy_j(7.3 + 90) == pytest.approx(38e-6)


def test_a_tenth_of_a_degree_costs_what_the_reference_says() -> None:
    law = MalusLaw(0.0, 1.0, 0.0)
    for transmission, error in ((0.5, 0.007), (0.1, 0.021), (0.01, 0.068)):
        angle = law.angle_deg(transmission)
        assert abs(law.energy_j(angle + 0.1) / transmission - 1) == pytest.approx(error, rel=0.05)


@pytest.mark.parametrize("energy_j", [0.0, 3.9e-8, 38.1e-6, 1.0, -1e-6, math.nan, math.inf])
def test_energies_out_of_reach_are_refused(energy_j: float) -> None:
    with pytest.raises(InputError, match="cannot give") as caught:
        LAW.angle_deg(energy_j)
    assert "4e-08 J to 3.8e-05 J" in caught.value.where
