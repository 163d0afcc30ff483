"""The camera: noise, dark current, saturation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from labctl.sim.camera import Camera
from labctl.sim.noise import KeyedNoise
from labctl.sim.truth import CameraTruth


def _camera(seed: int = 0, **truth: Any) -> Camera:
    return Camera(CameraTruth(**truth), KeyedNoise(seed))


def test_a_bias_frame_is_offset_and_read_noise() -> None:
    frame = _camera(cosmics_per_s=0.0).read_out(np.zeros(1024), 0.0, -60.0)
    assert frame.dtype == np.int32
    assert frame.shape == (1024,)
    assert frame.mean() == pytest.approx(600.0, abs=0.6)
    assert frame.std() == pytest.approx(np.sqrt(16 + 1 / 12), rel=0.1)


def test_dark_current_grows_with_exposure_and_temperature() -> None:
    camera = _camera(cosmics_per_s=0.0)
    assert camera.dark_e_s(-60.0) == 0.05
    assert camera.dark_e_s(-53.5) == pytest.approx(0.1)
    warm = camera.read_out(np.zeros(1024), 10.0, 20.0)
    assert warm.mean() - 600.0 == pytest.approx(10.0 * camera.dark_e_s(20.0), rel=0.01)


def test_shot_noise_is_poissonian() -> None:
    camera = _camera(prnu=0.0, cosmics_per_s=0.0, read_noise_e=0.0)
    frames = np.array([camera.read_out(np.full(1024, 2000.0), 0.1, -60.0) for _ in range(50)])
    assert frames.mean() == pytest.approx(2600.0, abs=2.0)
    assert frames.var() == pytest.approx(2000.0, rel=0.03)


def test_full_scale_is_hard_and_charge_bleeds_into_the_neighbours() -> None:
    camera = _camera(cosmics_per_s=0.0)
    light = np.zeros(1024)
    light[500] = 1e6
    frame = camera.read_out(light, 0.1, -60.0)
    assert frame.max() == frame[500] == 65535
    for neighbour in (499, 501):
        assert frame[neighbour] - 600 == pytest.approx(0.01 * (1e6 - 64935), rel=0.02)
    assert abs(frame[498] - 600) < 40


def test_cosmic_rays_come_at_the_stated_rate() -> None:
    camera = _camera(cosmics_per_s=0.05, dark_e_s=0.0)
    hit = sum(bool((camera.read_out(np.zeros(1024), 10.0, -60.0) > 640).any()) for _ in range(400))
    assert hit / 400 == pytest.approx(1 - np.exp(-0.5), abs=0.08)


def test_fixed_pattern_is_the_same_in_every_frame_and_differs_between_cameras() -> None:
    light = np.full(1024, 1e5)
    first = _camera(0).expected_electrons(light)
    assert np.array_equal(first, _camera(0).expected_electrons(light))
    assert not np.array_equal(first, _camera(1).expected_electrons(light))
    assert first.std() / first.mean() == pytest.approx(0.005, rel=0.1)
    assert first.mean() == pytest.approx(1e5, rel=1e-3)


def test_stray_light_conserves_the_light() -> None:
    camera = _camera(prnu=0.0, stray=1e-2)
    light = np.zeros(1024)
    light[100] = 1e6
    spread = camera.expected_electrons(light)
    assert spread.sum() == pytest.approx(1e6)
    assert spread[900] == pytest.approx(1e4 / 1024)


def test_quantum_efficiency_is_that_of_the_wavelength() -> None:
    camera = _camera(quantum_efficiency=0.9)
    assert float(camera.quantum_efficiency(620.0)) == pytest.approx(0.9)
    assert float(camera.quantum_efficiency(400.0)) == pytest.approx(0.9 * np.exp(-(0.55**2)))
