"""The spectrometer: wavelength axis, cooling, saturation, cosmic rays."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from labctl.bench.spectrometer import cosmic_rays, wavelength_axis_nm
from labctl.config.bench import load_bench
from labctl.config.sample import load_sample
from labctl.errors import Aborted, InstrumentError, InstrumentTimeout
from labctl.roles import SpectrographGeometry
from labctl.sim.laboratory import create

GEOMETRY = SpectrographGeometry(focal_length_mm=300.0, half_angle_deg=15.2, detector_angle_deg=1.38)
FRAMES_AT = {5.0: 2.56, 20.0: 0.64, 28.0: 0.32, 40.0: 0.08, 80.0: 0.02, 150.0: 0.01}
"""Fluences below, at and above the threshold, each with an exposure that fills the register to a third."""


def by_the_grating_equation(centre_nm: float, lines_per_mm: float, pixel: float, tilt_deg: float = 1.38) -> float:
    """Wavelength at a distance from the centre in pixels of 26 um, by solving for the angles step by step."""
    pitch_nm = 1e6 / lines_per_mm
    inclusion = math.radians(2 * 15.2)
    # λ = d (sin α + sin β) with β − α = inclusion, by bisection for α.
    low, high = -math.pi / 2, math.pi / 2 - inclusion
    for _ in range(200):
        alpha = 0.5 * (low + high)
        if pitch_nm * (math.sin(alpha) + math.sin(alpha + inclusion)) < centre_nm:
            low = alpha
        else:
            high = alpha
    x, y = pixel * 0.026 * math.cos(math.radians(tilt_deg)), pixel * 0.026 * math.sin(math.radians(tilt_deg))
    beta = alpha + inclusion + math.atan(x / (300.0 + y))
    return pitch_nm * (math.sin(alpha) + math.sin(beta))


@pytest.mark.parametrize("centre_nm", [0.0, 400.0, 632.0, 900.0])
@pytest.mark.parametrize("lines_per_mm", [150.0, 600.0, 1200.0])
def test_the_axis_follows_the_grating_equation(centre_nm: float, lines_per_mm: float) -> None:
    axis = wavelength_axis_nm(centre_nm, lines_per_mm, GEOMETRY, 1025, 26.0)
    assert axis.shape == (1025,)
    assert (np.diff(axis) > 0).all()
    for pixel in (0, 200, 512, 800, 1024):
        expected = by_the_grating_equation(centre_nm, lines_per_mm, pixel - 512)
        assert axis[pixel] == pytest.approx(expected, abs=1e-6)


def test_the_dispersion_is_that_of_the_text_books() -> None:
    plain = SpectrographGeometry(300.0, 0.0, 0.0)
    axis = wavelength_axis_nm(632.0, 600.0, plain, 1025, 26.0)
    beta = math.asin(632.0 / (2 * 1e6 / 600.0))
    assert axis[512] == pytest.approx(632.0)
    assert np.gradient(axis)[512] == pytest.approx(1e6 / 600.0 * math.cos(beta) * 0.026 / 300.0, rel=1e-6)


def test_the_axis_agrees_with_the_simulated_spectrograph(open_bench: Callable[..., Any]) -> None:
    opened = open_bench(roles=("spectrograph", "detector"))
    spectrometer = opened.bench.spectrometer
    spectrometer.prepare(632.0, 1)
    truth = opened.laboratory.spectrograph.wavelengths_nm(632.0, 600.0, 1024, 26.0)
    assert spectrometer.wavelength_nm + 0.03 == pytest.approx(truth, abs=2e-3)
    spectrometer.wavelength_offset_nm = 0.03
    spectrometer.prepare(632.0, 1)
    assert spectrometer.wavelength_nm == pytest.approx(truth, abs=2e-3)


class StatedAxis:
    """A spectrograph that states the wavelength of each pixel: 0.1 nm apart, rising or falling."""

    def __init__(self, spectrograph: Any, *, falling: bool) -> None:
        self._spectrograph = spectrograph
        self._falling = falling
        self.asked: list[tuple[int, float]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._spectrograph, name)

    def wavelengths_nm(self, pixels: int, pixel_um: float) -> np.ndarray:
        self.asked.append((pixels, pixel_um))
        axis = self._spectrograph.wavelength_nm + 0.1 * (np.arange(pixels) - pixels // 2)
        return axis[::-1] if self._falling else axis


@pytest.mark.parametrize("falling", [False, True])
def test_an_axis_stated_by_the_spectrograph_is_taken_and_rises(open_bench: Callable[..., Any], falling: bool) -> None:
    spectrometer = cold(open_bench).bench.spectrometer
    spectrometer.spectrograph = stated = StatedAxis(spectrometer.spectrograph, falling=falling)
    spectrometer.wavelength_offset_nm = 0.5
    spectrometer.prepare(640.0, 1)
    assert stated.asked == [(1024, 26.0)]
    spectrum = spectrometer.acquire(0.01, 2)
    assert spectrum.wavelength_nm == pytest.approx(640.5 + 0.1 * (np.arange(1024) - 512))
    spectrometer.prepare(630.0, 1)
    assert len(stated.asked) == 2 and spectrometer.wavelength_nm[512] == pytest.approx(630.5)


def test_frames_are_turned_round_with_a_falling_axis(open_bench: Callable[..., Any]) -> None:
    opened = cold(open_bench)
    spectrometer, detector = opened.bench.spectrometer, opened.bench.spectrometer.detector
    ramp = np.arange(1024, dtype=np.int32)
    detector.read = lambda: ramp
    for falling, first in ((False, 0), (True, 1023)):
        spectrometer.spectrograph = StatedAxis(opened.bench.instruments["spectrograph"], falling=falling)
        spectrometer.prepare(640.0, 1)
        detector.abort()
        assert spectrometer.acquire(0.01, 1).counts[0] == first


def cold(open_bench: Callable[..., Any], **options: Any) -> Any:
    opened = open_bench(roles=("shutter", "attenuator", "energy_meter", "spectrograph", "detector"), **options)
    spectrometer = opened.bench.spectrometer
    spectrometer.prepare(632.0, 1)
    spectrometer.start_cooling(-60.0)
    spectrometer.wait_until_cold(1200.0)
    return opened


def test_no_exposure_before_the_cooler_has_locked(open_bench: Callable[..., Any]) -> None:
    opened = open_bench(roles=("spectrograph", "detector"))
    spectrometer = opened.bench.spectrometer
    spectrometer.prepare(632.0, 1)
    with pytest.raises(InstrumentError, match="refused to expose"):
        spectrometer.acquire(0.01, 1)
    spectrometer.start_cooling(-60.0)
    with pytest.raises(InstrumentTimeout, match="not locked within 20 s") as caught:
        spectrometer.wait_until_cold(20.0)
    assert caught.value.role == "detector"
    with pytest.raises(InstrumentError, match="refused to expose"):
        spectrometer.acquire(0.01, 1)
    before = opened.bench.clock.now()
    spectrometer.wait_until_cold(1200.0)
    assert 60.0 < opened.bench.clock.now() - before < 1200.0
    assert spectrometer.acquire(0.01, 1).temperature_c == pytest.approx(-60.0, abs=1.5)
    spectrometer.start_cooling(-40.0)
    with pytest.raises(InstrumentError, match="refused to expose"):
        spectrometer.acquire(0.01, 1)


def test_a_cooler_that_unlocks_later_is_noticed_and_waited_for(open_bench: Callable[..., Any]) -> None:
    spectrometer = cold(open_bench).bench.spectrometer
    assert spectrometer.acquire(0.01, 1).temperature_c == pytest.approx(-60.0, abs=1.5)
    spectrometer.detector.cool_to(-50.0)  # behind the spectrometer's back, as a failing fan would
    with pytest.raises(InstrumentError, match=r"refused to expose: the cooler has not locked, .* degC"):
        spectrometer.acquire(0.01, 1)
    stop = threading.Event()
    stop.set()
    with pytest.raises(Aborted):
        spectrometer.wait_until_cold(1200.0, stop)
    spectrometer.wait_until_cold(1200.0)
    assert spectrometer.acquire(0.01, 1).temperature_c == pytest.approx(-50.0, abs=1.5)


def test_waiting_for_the_cooler_can_be_stopped(open_bench: Callable[..., Any]) -> None:
    opened = open_bench(roles=("spectrograph", "detector"))
    opened.bench.spectrometer.start_cooling(-60.0)
    stop = threading.Event()
    stop.set()
    before = opened.bench.clock.now()
    with pytest.raises(Aborted):
        opened.bench.spectrometer.wait_until_cold(1200.0, stop)
    assert opened.bench.clock.now() - before < 10.0


def test_accumulations_are_summed_with_the_true_exposure(open_bench: Callable[..., Any]) -> None:
    opened = cold(open_bench)
    one, five = (opened.bench.spectrometer.acquire(0.1, number) for number in (1, 5))
    assert five.accumulations == 5
    assert five.total_exposure_s == pytest.approx(5 * one.exposure_s)
    assert five.counts.mean() == pytest.approx(5 * one.counts.mean(), rel=0.01)
    assert one.counts.mean() == pytest.approx(600.0, rel=0.02)
    assert not one.saturated.any()


def test_what_goes_on_meanwhile_happens_once_and_in_the_exposure(open_bench: Callable[..., Any]) -> None:
    opened = cold(open_bench)
    times = []
    before = opened.bench.clock.now()
    opened.bench.spectrometer.acquire(0.5, 3, during=lambda: times.append(opened.bench.clock.now()))
    assert len(times) == 1
    assert times[0] - before < 0.3


def test_a_failure_meanwhile_leaves_no_exposure_under_way(open_bench: Callable[..., Any]) -> None:
    spectrometer = cold(open_bench).bench.spectrometer

    def fail() -> None:
        raise InstrumentTimeout("no pulse reached the energy meter")

    with pytest.raises(InstrumentTimeout, match="no pulse"):
        spectrometer.acquire(100.0, 1, during=fail)
    assert spectrometer.acquire(0.01, 1).counts.mean() == pytest.approx(600.0, rel=0.02)


def test_a_stop_ends_after_the_present_exposure(open_bench: Callable[..., Any]) -> None:
    spectrometer = cold(open_bench).bench.spectrometer
    stop = threading.Event()
    with pytest.raises(Aborted, match="after 1 of 1000"):
        spectrometer.acquire(0.01, 1000, during=stop.set, stop=stop)


def test_a_spectrograph_that_lost_its_wavelength_gives_no_spectrum(open_bench: Callable[..., Any]) -> None:
    opened = cold(open_bench)
    opened.bench.spectrometer.acquire(0.01, 1)
    opened.emulator("spectrograph").power_cycle(opened.bench.clock.now())
    with pytest.raises(InstrumentError, match="switched off"):
        opened.bench.spectrometer.acquire(0.01, 1)


def test_a_spectrograph_turned_by_hand_gives_no_spectrum(open_bench: Callable[..., Any]) -> None:
    opened = cold(open_bench)
    spectrograph = opened.bench.instruments["spectrograph"]
    opened.bench.spectrometer.spectrograph = SimpleNamespace(wavelength_nm=640.0)
    with pytest.raises(InstrumentError, match="640 nm instead of 632 nm") as caught:
        opened.bench.spectrometer.acquire(0.01, 1)
    assert caught.value.role == "spectrograph"
    assert spectrograph.wavelength_nm == 632.0


def test_an_exposure_that_is_another_than_before_is_refused(open_bench: Callable[..., Any]) -> None:
    opened = cold(open_bench)
    spectrometer = opened.bench.spectrometer
    for exposure_s in (0.01, 0.02):
        spectrometer.acquire(exposure_s, 1)
    true_exposure = spectrometer.detector.set_exposure
    spectrometer.detector.set_exposure = lambda exposure_s: true_exposure(exposure_s) + 0.5
    with pytest.raises(InstrumentError, match=r"0\.51 s where 0\.01 s was asked for"):
        spectrometer.acquire(0.01, 1)


def test_saturated_pixels_are_marked(open_bench: Callable[..., Any]) -> None:
    opened = cold(open_bench)
    pump, spectrometer = opened.bench.pump, opened.bench.spectrometer
    pump.prepare()
    pump.set_fluence(100.0)
    with pump.light():
        bright, dim = spectrometer.acquire(0.5, 2), spectrometer.acquire(0.01, 2)
    line = np.abs(bright.wavelength_nm - 632.0) < 2.0
    assert bright.saturated[line].all()
    assert not bright.saturated[np.abs(bright.wavelength_nm - 632.0) > 60.0].any()
    assert (bright.counts[bright.saturated] >= 0.9 * 2 * bright.full_scale_counts * 0.5).all()
    assert not dim.saturated.any()


def frames(seed: int, fluence_uj_cm2: float, count: int) -> np.ndarray:
    """Clean frames of the shipped film: edge emission at a fluence, laser noise and all, but no cosmic rays."""
    table = {**(load_bench("simulated").laboratory or _no_table()).data, "camera": {"cosmics_per_s": 0.0}}
    laboratory = create(table, load_sample("cdse-cds-zno").truth, seed)
    laboratory.spectrograph.set(0.0, 632.0, 600.0)
    laboratory.shutter.set(0.0, True)
    share = math.sqrt((fluence_uj_cm2 / 404.3 - 1e-3) / 0.999)
    laboratory.wave_plate.move(0.0, 0.1, 0.0, 7.3 + math.degrees(math.acos(share)) / 2)
    exposure_s = FRAMES_AT[fluence_uj_cm2]
    return np.array(
        [laboratory.expose(1.0 + n * (exposure_s + 0.1), exposure_s, -60.0) for n in range(count)], dtype=float
    )


def _no_table() -> Any:
    raise AssertionError("the shipped bench has a [laboratory]")


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_clean_spectra_have_no_cosmic_rays_however_steep_the_line(count: int) -> None:
    for seed in range(3):
        for fluence in FRAMES_AT:
            assert not cosmic_rays(frames(seed, fluence, count)).any(), (seed, fluence)


@pytest.mark.parametrize(("count", "recall"), [(1, 0.65), (2, 0.95), (3, 0.95), (5, 0.95)])
def test_rays_of_typical_strength_are_found_wherever_they_hit(count: int, recall: float) -> None:
    found = hit = 0
    for seed in range(8):
        for fluence in (5.0, 28.0, 80.0):
            clean = frames(seed, fluence, count)
            rng = np.random.default_rng(seed)
            for _ in range(5):
                first, width = int(rng.integers(0, 1021)), int(rng.integers(1, 4))
                struck = clean.copy()
                struck[rng.integers(count), first : first + width] += 2000.0
                flagged = cosmic_rays(struck)
                found += int(flagged[first : first + width].sum())
                hit += width
                flagged[first : first + width] = False
                assert flagged.sum() == 0
    assert found / hit > recall, found / hit


@pytest.mark.parametrize("width_px", [1.4, 3.0, 6.0, 12.0])
def test_narrow_lines_are_no_cosmic_rays_where_a_second_frame_shows_them_too(width_px: float) -> None:
    """Laser lines: from the width of the instrument's own line upwards."""
    pixel = np.arange(1024)
    wrong = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        for height in (500.0, 5000.0, 40000.0):
            mean = 50.0 + height * np.exp(-4 * math.log(2) * ((pixel - 500.3) / width_px) ** 2)
            struck = 600.0 + rng.poisson(np.tile(mean, (3, 1))) + 4.0 * rng.standard_normal((3, 1024))
            wrong += int(cosmic_rays(struck).any())
    assert wrong == 0


def test_the_ends_of_the_detector_are_like_the_rest() -> None:
    rng = np.random.default_rng(0)
    for count in (1, 2, 3):
        clean = 600.0 + 4.0 * rng.standard_normal((count, 1024))
        assert not cosmic_rays(clean).any()
        for pixel in (0, 1, 1022, 1023):
            struck = clean.copy()
            struck[0, pixel] += 200.0
            assert list(np.flatnonzero(cosmic_rays(struck))) == [pixel]


@pytest.mark.slow
def test_false_positives_over_many_seeds() -> None:
    """Less than one clean pixel in a million is flagged."""
    flagged = pixels = 0
    for seed in range(100):
        for fluence in FRAMES_AT:
            flagged += int(cosmic_rays(frames(seed, fluence, 3)).sum())
            pixels += 1024
    assert flagged == 0, f"{flagged} of {pixels}"


def test_a_blocked_beam_leaves_the_detector_dark_and_the_meter_lit(open_bench: Callable[..., Any]) -> None:
    opened = cold(open_bench)
    pump, spectrometer = opened.bench.pump, opened.bench.spectrometer
    pump.prepare()
    pump.set_fluence(100.0)
    opened.bench.ask_operator("block beam behind pick-off", "Block the beam.")
    with pump.light():
        blocked, (fluence, _) = spectrometer.acquire(0.01, 1), pump.read_fluence(100)
    assert blocked.counts.max() < 700.0
    assert fluence.uj_cm2 == pytest.approx(100.0, rel=0.03)
    assert opened.truth()["dose_uj_cm2"] == 0.0
    opened.bench.ask_operator("unblock beam behind pick-off", "Unblock the beam.")
    with pump.light():
        assert spectrometer.acquire(0.01, 1).counts.max() > 2000.0
    assert opened.truth()["dose_uj_cm2"] > 0.0
