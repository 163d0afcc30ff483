from __future__ import annotations

import math

import numpy as np
import pytest

from labctl.analysis.half_wave_plate import PERIOD_DEG, angle_deg, transmitted


def test_energies_at_the_marked_angles():
    angles = np.array([[7.3, 7.3 + 45], [7.3 + 22.5, 7.3 + PERIOD_DEG]])
    assert transmitted(angles, 1.0, 9.0, 7.3) == pytest.approx(np.array([[9.0, 1.0], [5.0, 9.0]]))


@pytest.mark.parametrize("share", [0.0, 1e-6, 0.3, 1.0])
def test_the_angle_gives_its_energy(share):
    energy = 1.0 + 8.0 * share
    assert transmitted(angle_deg(energy, 1.0, 9.0, 7.3), 1.0, 9.0, 7.3) == pytest.approx(energy)


@pytest.mark.parametrize("energy", [0.9, 9.1, math.nan])
def test_an_energy_out_of_range_has_no_angle(energy):
    with pytest.raises(ValueError, match="outside"):
        angle_deg(energy, 1.0, 9.0, 7.3)
