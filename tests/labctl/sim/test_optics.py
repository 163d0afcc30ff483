"""Laser, attenuator, stripe and spectrograph."""

from __future__ import annotations

import numpy as np
import pytest

from labctl.sim.laser import PulsedLaser
from labctl.sim.noise import KeyedNoise
from labctl.sim.optics import Spectrograph, WavePlate
from labctl.sim.spot import StripeTruth
from labctl.sim.truth import LaserTruth, SpectrographTruth, WavePlateTruth


def test_pulse_energies_have_the_stated_mean_and_spread() -> None:
    laser = PulsedLaser(LaserTruth(drift_rms=0.0), KeyedNoise(0))
    energies = laser.pulse_energies_uj(20_000, "meter")
    assert energies.mean() == pytest.approx(38.0, rel=5e-4)
    assert energies.std() / energies.mean() == pytest.approx(0.015, rel=0.03)


def test_instruments_share_the_drift_but_not_the_pulses() -> None:
    noise = KeyedNoise(0)
    laser = PulsedLaser(LaserTruth(), noise)
    ratios = []
    for point in range(50):
        noise.announce(point, 0, 600.0 * point)
        meter, camera = laser.pulse_energies_uj(2000, "meter"), laser.pulse_energies_uj(2000, "camera")
        assert not np.array_equal(meter, camera)
        ratios.append((meter.mean() / camera.mean(), camera.mean() / 38.0))
    shared, drift = np.array(ratios).T
    assert np.abs(shared - 1.0).max() < 5 * 0.015 * np.sqrt(2 / 2000)
    assert 0.01 < drift.std() < 0.03


def test_pulses_come_at_multiples_of_the_period() -> None:
    laser = PulsedLaser(LaserTruth(), KeyedNoise(0))
    assert laser.pulse_period_s == 1e-3
    assert laser.next_pulse(0.0) == 0.0
    assert laser.next_pulse(0.0123) == pytest.approx(0.013)
    for k in range(1, 2000, 7):
        assert laser.next_pulse(0.1 * k) == pytest.approx(0.1 * k, abs=1e-9)


def test_a_perfect_half_wave_plate_obeys_malus() -> None:
    plate = WavePlate(WavePlateTruth(retardance_error=0.0, leak=1e-3, theta0_deg=7.3))
    angle = np.linspace(-90, 90, 721)
    malus = 1e-3 + (1 - 1e-3) * np.cos(2 * np.deg2rad(angle - 7.3)) ** 2
    assert plate.transmission_at(angle) == pytest.approx(malus, abs=1e-12)


def test_a_retardance_error_leaks_at_the_crossed_position() -> None:
    plate = WavePlate(WavePlateTruth(retardance_error=0.005, leak=1e-3, theta0_deg=0.0))
    assert float(plate.transmission_at(0.0)) == pytest.approx(1.0)
    assert float(plate.transmission_at(45.0)) == pytest.approx(1e-3 + np.sin(np.pi * 0.0025) ** 2, rel=1e-3)


def test_the_plate_lags_behind_the_reading_by_the_backlash() -> None:
    plate = WavePlate(WavePlateTruth(backlash_deg=0.03, initial_deg=0.0))
    plate.move(1.0, 2.0, 0.0, 30.0)
    from_below = plate.optical_deg(2.0)
    plate.move(3.0, 4.0, 30.0, 40.0)
    plate.move(5.0, 6.0, 40.0, 30.0)
    assert plate.optical_deg(6.0) - from_below == pytest.approx(0.03)
    assert from_below == pytest.approx(30.0, abs=0.016)


def test_the_plate_turns_evenly_and_stands_on_steps() -> None:
    plate = WavePlate(WavePlateTruth(backlash_deg=0.0, step_deg=0.01))
    plate.move(0.0, 2.0, 0.0, 20.004)
    assert plate.optical_deg(1.0) == pytest.approx(10.0)
    assert plate.optical_deg(5.0) == pytest.approx(20.0)
    assert plate.transmission(np.array([1.0, 5.0])).shape == (2,)


def test_stripe_fluence_is_the_peak_of_a_gaussian_across() -> None:
    stripe = StripeTruth(length_mm=1.0, half_width_um=150.0)
    across = np.linspace(-0.1, 0.1, 20001)
    profile = np.exp(-2 * (across / 0.015) ** 2)
    energy_uj = 400.0 * 0.1 * np.trapezoid(profile, across)
    assert energy_uj / stripe.area_cm2 == pytest.approx(400.0, rel=1e-6)


def test_full_transmission_exceeds_every_planned_fluence() -> None:
    energy_uj = LaserTruth().energy_uj * 0.02
    assert energy_uj / StripeTruth().area_cm2 == pytest.approx(400.0, rel=0.02)


@pytest.mark.parametrize(("lines", "dispersion"), [(150.0, 0.56), (300.0, 0.27), (600.0, 0.13), (1200.0, 0.057)])
def test_wavelengths_on_the_camera(lines: float, dispersion: float) -> None:
    spectrograph = Spectrograph(SpectrographTruth(offset_nm=0.03))
    axis = spectrograph.wavelengths_nm(632.0, lines, 1023, 26.0)
    assert axis[511] == pytest.approx(632.03, abs=1e-6)
    assert np.all(np.diff(axis) > 0)
    assert np.diff(axis)[511] == pytest.approx(dispersion, rel=0.05)
    # Reciprocal linear dispersion d cos(b)/f, with b the diffraction angle at the centre; the tilt of the detector
    # shortens the projection by its cosine.
    half = np.deg2rad(15.2)
    diffracted = np.arcsin(632.03 / (2e6 / lines * np.cos(half))) + half
    expected = 1e6 / lines * np.cos(diffracted) / 300.0 * 0.026 * np.cos(np.deg2rad(1.38))
    assert np.diff(axis)[511] == pytest.approx(expected, rel=1e-3)


def test_zero_order_falls_on_the_middle_of_the_camera() -> None:
    axis = Spectrograph(SpectrographTruth(offset_nm=0.0)).wavelengths_nm(0.0, 600.0, 1023, 26.0)
    assert axis[511] == pytest.approx(0.0, abs=1e-9)
    assert axis[0] < 0.0 < axis[-1]


def test_spectrograph_remembers_where_it_stood() -> None:
    spectrograph = Spectrograph(SpectrographTruth())
    spectrograph.set(1.0, 632.0, 600.0)
    spectrograph.set(5.0, 640.0, 300.0)
    spectrograph.slew(7.0, 9.0, 660.0)
    assert [spectrograph.at(t) for t in (2.0, 5.0, 8.0, 20.0)] == [(632, 600), (640, 300), (650, 300), (660, 300)]


def test_the_shutter_of_a_spectrograph_is_open_until_it_is_closed() -> None:
    spectrograph = Spectrograph(SpectrographTruth())
    spectrograph.let_in(2.0, False)
    spectrograph.let_in(5.0, True)
    spans = ((0.0, 2.0), (1.0, 3.0), (3.0, 4.0), (4.0, 8.0))
    assert [spectrograph.open_share(*span) for span in spans] == [1, 0.5, 0, 0.75]
