from __future__ import annotations

import numpy as np
import pytest

from labctl.analysis.stress_clock import BOLTZMANN_EV_K, dose_j_cm2, photons_per_cm2, thermal_equivalent_time

HEAT = {"reference_c": 100.0, "activation_ev": 0.8}


def test_at_the_reference_temperature_it_is_time():
    found = thermal_equivalent_time([0, 30, 100, 150], [0, 7, 100], [100, 100, 100], **HEAT)
    assert np.allclose(found.value, [0, 30, 100, 150])
    assert np.all(found.error == 0)


def test_a_warmer_plate_ages_by_the_arrhenius_factor():
    factor = np.exp(-0.8 / BOLTZMANN_EV_K * (1 / 383.15 - 1 / 373.15))
    found = thermal_equivalent_time([60.0], [0, 60], [110, 110], activation_sd_ev=0.1, **HEAT)
    assert found.value[0] == pytest.approx(60 * factor, rel=1e-9)
    more = thermal_equivalent_time([60.0], [0, 60], [110, 110], reference_c=100.0, activation_ev=0.9).value[0]
    assert found.per_activation_sd[0] == pytest.approx(more - found.value[0], rel=0.06)


def test_a_ramp_in_two_entries_is_the_ramp_in_a_thousand():
    time, celsius = np.linspace(0, 10, 1001), np.linspace(25, 100, 1001)
    coarse = thermal_equivalent_time([10.0], [0, 10], [25, 100], **HEAT).value
    assert coarse[0] == pytest.approx(thermal_equivalent_time([10.0], time, celsius, **HEAT).value[0], rel=2e-3)
    assert 1.0 < coarse[0] < 2.0


def test_dose_of_the_uv_lamp():
    log = np.sort(np.random.default_rng(0).uniform(0, 17 * 3600, 200))
    assert dose_j_cm2([17 * 3600], [0, *log, 17 * 3600], np.full(202, 75.0))[0] == pytest.approx(4590)
    assert np.allclose(dose_j_cm2([-5, 0, 10, 20], [0, 20], [0, 100]), [0, 0, 0.25, 1.0])


def test_photons():
    assert photons_per_cm2(1.0, 365) == pytest.approx(1 / 5.4423e-19, rel=1e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dose_j_cm2([1], [0, 2, 1], [1, 1, 1]), "ascending"),
        (lambda: dose_j_cm2([1], [0, 2], [1, -1]), "below zero"),
        (lambda: dose_j_cm2([1], [0], [1]), "two entries"),
        (lambda: thermal_equivalent_time([1], [0, 1], [-300, 20], **HEAT), "absolute zero"),
        (lambda: photons_per_cm2(1.0, 0), "wavelength"),
    ],
)
def test_bad_logs_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
