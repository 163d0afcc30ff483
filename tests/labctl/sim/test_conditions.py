"""What the samples of a whole laboratory have gone through, and what its camera then sees."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from labctl.config.bench import load_bench
from labctl.config.sample import load_sample
from labctl.sim.laboratory import Laboratory, create

_HOUR = 3600.0
_STEADY = {
    "laser": {"rms": 0.0, "drift_rms": 0.0},
    "meter": {"noise": 0.0, "drift_rms": 0.0},
    "camera": {"prnu": 0.0, "cosmics_per_s": 0.0, "read_noise_e": 0.0, "dark_e_s": 0.0},
    "wave_plate": {"theta0_deg": 0.0},
    "lamp": {"drift_rms": 0.0, "ageing_per_100_h": 0.0},
    "thermal": {"ripple_k": 0.0},
}
_CARRIER = {"samples": [{"name": "A1", "position_mm": 16.0}], "reference_photons": 0.05, "reference_nm": 620.0}


def _laboratory(sample: str | None = "cdse-cds", seed: int = 0, **tables: Any) -> Laboratory:
    truth: Any = None if sample is None else load_sample(sample).truth
    lab = create({**_STEADY, **tables}, truth, seed)
    lab.spectrograph.set(0.0, 632.0, 600.0)
    # About 10 uJ/cm2: half of the light is 40 dB too much.
    lab.wave_plate.move(0.0, 0.0, 0.0, 41.0)
    return lab


def _seen(lab: Laboratory, t: float) -> float:
    """Light of one exposure of 0.2 s that begins at ``t``, electrons."""
    lab.shutter.set(t, True)
    frame = lab.expose(t, 0.2, -60.0) - 600.0
    lab.shutter.set(t + 0.2, False)
    return float(frame.sum())


def test_heat_wears_by_its_own_clock_and_ambient_does_not() -> None:
    lab = _laboratory()
    assert lab.state(1000 * _HOUR)["heat_h"] == 0.0
    start = 1000 * _HOUR
    lab.thermal.set(start, 100.0)
    warm = lab.state(start + 2 * _HOUR)["heat_h"]
    assert lab.state(start + 3 * _HOUR)["heat_h"] - warm == pytest.approx(1.0, abs=2e-3)
    # Warming up takes some minutes of the two hours.
    assert 1.85 < warm < 1.95
    lab.thermal.set(start + 3 * _HOUR, None)
    cold = lab.state(start + 6 * _HOUR)["heat_h"]
    assert lab.state(start + 60 * _HOUR)["heat_h"] == pytest.approx(cold, abs=1e-5)


def test_the_reversible_loss_comes_back_and_the_rest_does_not() -> None:
    lab = _laboratory("cdse-cds-zno")
    fresh = _seen(lab, 1.0)
    lab.thermal.set(2.0, 100.0)
    hot = _seen(lab, 1.0 * _HOUR)
    lab.thermal.set(1.0 * _HOUR + 1.0, None)
    cooled = _seen(lab, 6.0 * _HOUR)
    left = lab.state(6.0 * _HOUR + 1.0)["brightness"]
    assert cooled / fresh == pytest.approx(left, abs=0.02)
    assert hot / cooled == pytest.approx(0.85, abs=0.02)


def test_uv_dose_counts_while_the_lamp_is_on() -> None:
    lab = _laboratory()
    lab.lamp.set(0.0, 1.0)
    lab.lamp.set(2.0 * _HOUR, 0.0)
    dose = lab.state(3.0 * _HOUR)["uv_j_cm2"]
    assert dose == pytest.approx(2.0 * 3600 * 0.075, rel=0.01)
    assert lab.state(300.0 * _HOUR)["uv_j_cm2"] == pytest.approx(dose)
    assert lab.state(300.0 * _HOUR)["brightness"] == pytest.approx(1.234, abs=0.01)


def test_water_counts_from_when_it_was_added() -> None:
    lab = _laboratory("cspbbr3-zns")
    lab.operator("add water", 10.0 * _HOUR)
    lab.operator("add water", 20.0 * _HOUR)
    assert lab.state(22.0 * _HOUR)["water_h"] == pytest.approx(12.0)
    assert lab.state(514.0 * _HOUR)["brightness"] == pytest.approx(0.10, abs=0.003)


def test_stresses_multiply() -> None:
    lab = _laboratory("cspbbr3-zns", thermal={"ripple_k": 0.0, "tau_s": 1.0, "overshoot_k": 0.0})
    lab.operator("add water", 0.0)
    lab.thermal.set(0.0, 99.85)
    lab.lamp.set(0.0, 1.0)
    left = np.exp(-((50 / 296) ** 0.7) - (50 / 222) ** 1.018 - (50 / 1857) ** 0.8)
    assert lab.state(50 * _HOUR)["brightness"] == pytest.approx(left, rel=2e-3)


def test_pulses_are_counted_exactly_whoever_asks() -> None:
    lab = _laboratory(None)
    asked = _laboratory(None)
    opened, t = 0, 0.0
    for cycle in range(3000):
        t = 7.0 * cycle
        for one in (lab, asked):
            one.shutter.set(t + 0.5, True)
            one.shutter.set(t + 1.0 + 0.001 * (cycle % 50), False)
        opened += 500 + cycle % 50
        if cycle % 7 == 0:
            asked.pulses_passed(t + 3.0)
    assert lab.pulses_passed(t + 6.0) == asked.pulses_passed(t + 6.0) == opened


def test_eighteen_million_pulses_are_counted_to_the_last() -> None:
    lab = _laboratory(None)
    lab.shutter.set(100.0, True)
    lab.shutter.set(100.0 + 18_000.0, False)
    assert lab.pulses_passed(20_000.0) == 18_000_000


def test_a_hundred_thousand_commands_cost_no_memory_and_no_precision() -> None:
    lab = _laboratory("cdse-cds-zno", wears=True)
    for cycle in range(50_000):
        t = 45.0 * cycle
        lab.shutter.set(t, True)
        lab.shutter.set(t + 10.0, False)
        if cycle % 10 == 0:
            lab.thermal.set(t, 90.0 + cycle % 3)
            lab.lamp.set(t, 1.0 if cycle % 20 else 0.0)
    end = 45.0 * 50_000
    state = lab.state(end)
    assert state["pulses_passed"] == state["shots"] == 50_000 * 10_000
    assert state["dose_uj_cm2"] == pytest.approx(5e8 * lab.fluence_uj_cm2(end), rel=1e-9)
    # A lamp that is on for 450 s at a time is never quite warm.
    assert 0.9 < state["uv_j_cm2"] / (0.5 * end * 0.075) < 0.98
    assert 100.0 < state["heat_h"] < end / _HOUR
    assert len(lab.beam.shutter.edges(0.0 + lab.shutter.kept_from, end)) < 5000


def test_each_sample_has_a_spot_of_its_own_and_the_stresses_are_common() -> None:
    lab = _laboratory("cdse-cds-zno-fragile", places=_CARRIER, wears=True)
    stage = lab.stage("sample_stage")
    lab.shutter.set(10.0, True)
    lab.shutter.set(20.0, False)
    stage.ramp(30.0, 31.0, 16.0)
    assert lab.state(40.0)["shots"] == 0
    lab.shutter.set(50.0, True)
    lab.shutter.set(51.0, False)
    stage.ramp(60.0, 61.0, 25.0)
    lab.shutter.set(70.0, True)
    lab.shutter.set(75.0, False)
    stage.ramp(80.0, 81.0, 16.0)
    assert lab.state(90.0)["shots"] == 1000
    stage.ramp(91.0, 92.0, 10.0)
    assert lab.state(95.0)["shots"] == 10_000
    lab.operator("fresh spot", 96.0)
    assert lab.state(97.0)["shots"] == 0
    stage.ramp(98.0, 99.0, 16.0)
    assert lab.state(100.0)["shots"] == 1000


def test_the_reference_stays_and_a_dark_place_is_dark() -> None:
    lab = _laboratory("cdse-cds", places=_CARRIER)
    stage = lab.stage("sample_stage")
    sample = _seen(lab, 1.0)
    light = []
    for turn, position_mm in enumerate((40.0, 25.0, 10.0)):
        stage.ramp(10.0 * turn + 2.0, 10.0 * turn + 3.0, position_mm)
        light.append(_seen(lab, 10.0 * turn + 5.0))
    assert 0.2 < light[0] / sample < 5.0
    assert light[1] < 0.2 * sample
    assert light[2] == pytest.approx(sample, rel=0.02)
    lab.thermal.set(40.0, 100.0)
    late = 4.0 * _HOUR
    assert _seen(lab, late) < 0.3 * sample
    stage.ramp(late + 1.0, late + 2.0, 40.0)
    assert _seen(lab, late + 3.0) == pytest.approx(light[0], rel=0.02)


def test_readings_scatter_as_told_and_never_otherwise() -> None:
    plain, noisy = _laboratory("cdse-cds"), _laboratory("cdse-cds", readings={"flicker": 0.05})
    seen: dict[str, list[float]] = {"plain": [], "noisy": []}
    for point in range(60):
        for name, lab in (("plain", plain), ("noisy", noisy)):
            lab.announce(point, 0, 0.0)
            seen[name].append(_seen(lab, 1.0 + point))
    spread = {name: np.std(values) / np.mean(values) for name, values in seen.items()}
    assert spread["plain"] < 0.01
    assert spread["noisy"] == pytest.approx(0.05, abs=0.015)


def test_a_sample_mounted_anew_sits_a_little_elsewhere() -> None:
    lab = _laboratory("cdse-cds")
    ratios = []
    for turn in range(40):
        before = _seen(lab, 10.0 * turn + 1.0)
        lab.announce(turn, 0, 0.0)
        lab.operator("remount sample", 10.0 * turn + 2.0)
        ratios.append(_seen(lab, 10.0 * turn + 3.0) / before)
    assert np.std(ratios) == pytest.approx(0.02 * np.sqrt(2.0), abs=0.012)


def test_pulses_wear_a_film_only_where_the_bench_says_so() -> None:
    for wears, left in ((False, 1.0), (True, 0.88)):
        lab = _laboratory("cdse-cds-zno", wears=wears)
        lab.shutter.set(0.0, True)
        fluence_uj_cm2 = lab.state(100.0)["dose_uj_cm2"] / lab.state(100.0)["shots"]
        # As many pulses as 40 min have at three times the threshold, in fluence.
        assert lab.state(40 * 60.0 * 84.0 / fluence_uj_cm2)["brightness"] == pytest.approx(left, abs=0.003)


def test_blades_cut_light_and_energy_alike() -> None:
    lab = _laboratory("cdse-cds", slit={"zero_error_um": 0.0, "meter_noise": 0.0})
    far = lab.stage("slit_far")
    rows = []
    for turn, length_mm in enumerate((0.1, 0.2, 0.4)):
        t = 10.0 * turn
        far.ramp(t, t + 1.0, 2.0 + length_mm)
        lab.shutter.set(t + 2.0, True)
        light = float((lab.expose(t + 2.0, 0.2, -60.0) - 600.0).sum())
        rows.append((lab.slit_meter_energy_j(t + 2.0, 10).mean(), light))
        lab.shutter.set(t + 3.0, False)
    energy, light = np.array(rows).T
    assert energy[1:] / energy[0] == pytest.approx([2.0, 4.0], rel=1e-9)
    assert lab.meter_energy_j(0.0, 10).size == 0
    far.ramp(40.0, 41.0, 1.9)
    lab.shutter.set(42.0, True)
    dark = float((lab.expose(42.0, 0.2, -60.0) - 600.0).sum())
    assert (light[2] - dark) / (light[0] - dark) == pytest.approx(4.0, rel=0.08)
    assert lab.slit_meter_energy_j(42.0, 10).sum() == 0.0


def test_the_line_moves_with_the_temperature() -> None:
    truth: Any = load_sample("cdzns-zns-pmma").truth
    lab = create(
        {**_STEADY, "laser": {**_STEADY["laser"], "wavelength_nm": 395.0}, "thermal": {"lowest_c": -268.0}}, truth, 0
    )
    lab.spectrograph.set(0.0, 435.0, 600.0)
    wavelengths = lab.spectrograph.wavelengths_nm(435.0, 600.0, 1024, 26.0)
    peaks = []
    for t, celsius in ((0.0, 26.85), (10_000.0, -263.15)):
        lab.thermal.set(t, celsius)
        lab.shutter.set(t + 9000.0, True)
        frame = lab.expose(t + 9000.0, 2.0, -60.0) - 600.0
        lab.shutter.set(t + 9002.0, False)
        blue = np.abs(wavelengths - 430.0) < 20.0
        peaks.append(wavelengths[blue][np.argmax(np.convolve(frame[blue], np.ones(9), mode="same"))])
    assert peaks[0] == pytest.approx(435.0, abs=1.5)
    assert peaks[1] == pytest.approx(1239.84 / 2.916, abs=1.5)


def _shipped(name: str, seed: int) -> Laboratory:
    bench = load_bench(name, check_drivers=False)
    table: Any = bench.laboratory
    sample: Any = load_sample(str(bench.default_sample)).truth
    return create(table, sample, seed)


@pytest.mark.parametrize("name", ["simulated-gain", "simulated-gain-rings", "simulated-stability"])
def test_the_slit_of_a_shipped_bench_is_at_first_as_wide_as_the_stripe_of_the_pump(name: str) -> None:
    for seed in range(4):
        lab = _shipped(name, seed)
        for role in ("slit_near", "slit_far"):
            lab.stage(role)
        stripe = lab.slit.stripe(0.0)
        assert stripe is not None
        assert stripe.length_mm == pytest.approx(lab.truth.illuminated.length_mm, abs=0.012)
        assert stripe.distance_mm == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize("name", ["simulated-stability", "simulated-perovskites"])
def test_the_reference_of_a_shipped_bench_is_about_as_bright_as_its_sample(name: str) -> None:
    lab = _shipped(name, 0)
    lab.spectrograph.set(0.0, 620.0 if name == "simulated-stability" else 535.0, 600.0)
    lab.wave_plate.move(0.0, 0.0, 0.0, lab.truth.wave_plate.theta0_deg + 40.0)
    stage = lab.stage("sample_stage")
    stage.ramp(0.0, 1.0, 10.0)
    sample = _seen(lab, 2.0)
    stage.ramp(3.0, 4.0, 40.0)
    assert 0.3 < _seen(lab, 5.0) / sample < 3.0
