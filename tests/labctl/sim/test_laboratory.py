"""The whole laboratory: what reaches meter and camera, and that it does not depend on who asked when."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from scipy import optimize

from labctl.sim.laboratory import Laboratory, create

_QUIET = {
    "laser": {"rms": 0.0, "drift_rms": 0.0},
    "meter": {"noise": 0.0, "drift_rms": 0.0},
    "camera": {"prnu": 0.0, "cosmics_per_s": 0.0, "read_noise_e": 0.0, "dark_e_s": 0.0},
}


def _angle_deg(lab: Laboratory, fluence_uj_cm2: float) -> float:
    """Reported angle that gives a fluence, approached from below."""
    full = lab.fluence_uj_cm2(0.0) / float(lab.wave_plate.transmission(0.0))

    def miss(angle: float) -> float:
        return full * float(lab.wave_plate.transmission_at(angle)) - fluence_uj_cm2

    plate = lab.truth.wave_plate
    found = optimize.root_scalar(miss, bracket=(plate.theta0_deg, plate.theta0_deg + 45.0))
    return float(found.root) + 0.5 * plate.backlash_deg


def _ready(lab: Laboratory, fluence_uj_cm2: float = 28.0, t: float = 0.0, is_open: bool = True) -> Laboratory:
    """Tuned to the sample, at a fluence, shutter as told, from ``t`` on."""
    lab.spectrograph.set(t, 632.0, 600.0)
    lab.wave_plate.move(t, t, 0.0, _angle_deg(lab, fluence_uj_cm2))
    lab.shutter.set(t, is_open)
    return lab


def _sweep(lab: Laboratory, fluences: Iterable[float]) -> tuple[np.ndarray, np.ndarray, float]:
    """Fluence by the meter, background-free signal per pulse, and the time at the end."""
    rows, t = [], 1.0
    scale = lab.fluence_uj_cm2(0.0) / float(lab.wave_plate.transmission(0.0)) / lab.truth.laser.energy_uj
    dark = lab.expose(0.0, 0.5, -60.0) - 600.0
    for point, fluence in enumerate(fluences):
        lab.announce(point, 0, 2.0 * point)
        _ready(lab, fluence, t)
        exposure_s = 0.5 if fluence < 20 else 0.05 if fluence < 45 else 0.01
        frame = lab.expose(t, exposure_s, -60.0) - 600.0 - dark.mean()
        meter = lab.meter_energy_j(t, 100)
        lab.shutter.set(t + 0.5, False)
        rows.append((1e6 * meter.mean() * scale, frame.sum() / exposure_s))
        t += 2.0
    seen, signal = np.array(rows).T
    return seen, signal, t


def test_a_closed_shutter_leaves_meter_and_camera_dark(cdse_cds_zno: dict[str, Any]) -> None:
    lab = _ready(create({}, cdse_cds_zno, 0), is_open=False)
    assert lab.meter_energy_j(1.0, 100).size == 0
    assert lab.meter_power_w(1.0, 0.5) == 0.0
    assert lab.expose(1.0, 0.1, -60.0).mean() == pytest.approx(600.0, abs=1.0)


def test_meter_energy_and_power_are_those_of_the_pulses_in_front_of_the_sample() -> None:
    lab = _ready(create(_QUIET, None, 0), 140.0)
    energy_j = lab.meter_energy_j(1.0, 10)
    assert energy_j.shape == (10,)
    # F = E sqrt(2/pi)/(L w) with the 2 % of the energy that goes on to the sample.
    assert 0.02 * energy_j.mean() * 1e6 * np.sqrt(2 / np.pi) / (0.1 * 0.015) == pytest.approx(140.0, rel=2e-3)
    assert lab.meter_power_w(1.0, 0.1) == pytest.approx(1000 * energy_j.mean())


def test_a_thermal_head_follows_slowly() -> None:
    lab = create({**_QUIET, "meter": {**_QUIET["meter"], "response_s": 1.0}}, None, 0)
    _ready(lab, is_open=False)
    lab.shutter.set(10.0, True)
    final = lab.meter_power_w(30.0, 0.1)
    assert lab.meter_power_w(11.0, 0.1) / final == pytest.approx(1 - np.exp(-1), abs=0.02)
    assert final == pytest.approx(1000 * lab.meter_energy_j(30.0, 1)[0])


def test_meter_counts_only_pulses_that_passed_the_shutter() -> None:
    lab = _ready(create({}, None, 0), is_open=False)
    lab.shutter.set(0.1, True)
    lab.shutter.set(0.15, False)
    assert lab.meter_energy_j(0.0, 1000).size == 50
    assert lab.next_pulse(0.0995) == pytest.approx(0.1)


def test_camera_sees_the_pulses_while_the_shutter_is_open(cdse_cds_zno: dict[str, Any]) -> None:
    lab = _ready(create(_QUIET, cdse_cds_zno, 0))
    whole = lab.expose(1.0, 0.2, -60.0).sum() - 600 * 1024
    lab.shutter.set(2.1, False)
    half = lab.expose(2.0, 0.2, -60.0).sum() - 600 * 1024
    assert half / whole == pytest.approx(0.5, abs=0.01)


def test_a_late_read_out_sees_the_exposure_and_not_the_next_move(cdse_cds_zno: dict[str, Any]) -> None:
    labs = [_ready(create({}, cdse_cds_zno, 0)) for _ in range(2)]
    for lab in labs:
        lab.announce(0, 0, 0.0)
    at_once = labs[0].expose(1.0, 0.1, -60.0)
    labs[1].shutter.set(1.1, False)
    labs[1].wave_plate.move(1.15, 1.4, 30.0, 10.0)
    labs[1].spectrograph.set(2.0, 0.0, 600.0)
    assert np.array_equal(labs[1].expose(1.0, 0.1, -60.0), at_once)


def test_a_plate_that_moves_during_the_exposure_gives_the_mean(cdse_cds_zno: dict[str, Any]) -> None:
    lab = create(_QUIET, cdse_cds_zno, 0)
    _ready(lab)
    lab.wave_plate.move(1.0, 2.0, 0.0, 45.0)
    times = 1.0 + (np.arange(4000) + 0.5) / 4000
    expected = 1e-6 * 38.0 * lab.wave_plate.transmission(times).mean()
    assert lab.meter_power_w(2.0, 1.0) == pytest.approx(1000 * expected, rel=1e-3)


def _frames(lab: Laboratory, points: Iterable[int], start: float, busy: bool = False) -> dict[int, np.ndarray]:
    """Camera frame and meter reading of each point, in one array."""
    _ready(lab)
    data = {}
    for turn, point in enumerate(points):
        t = start + 1.37 * turn
        lab.announce(point, 0, 5.0 * point)
        if busy:
            lab.state(t)
            lab.noise.generator("stage").random(100)
        data[point] = np.concatenate([lab.expose(t, 0.1, -60.0), lab.meter_energy_j(t, 5)])
    return data


def test_same_seed_same_data_in_any_order_at_any_time_with_any_company(cdse_cds_zno: dict[str, Any]) -> None:
    plain = _frames(create({}, cdse_cds_zno, 0), range(6), 1.0)
    busy = _frames(create({}, cdse_cds_zno, 0), reversed(range(6)), 7.123456, busy=True)
    other = _frames(create({}, cdse_cds_zno, 1), range(6), 1.0)
    for point in range(6):
        assert np.array_equal(plain[point], busy[point])
        assert not np.array_equal(plain[point], other[point])


def test_a_second_attempt_is_a_new_measurement(cdse_cds_zno: dict[str, Any]) -> None:
    lab = _ready(create({}, cdse_cds_zno, 0))
    frames = []
    for attempt in (0, 1, 0):
        lab.announce(3, attempt, 1.0)
        frames.append(lab.expose(1.0, 0.1, -60.0))
    assert np.array_equal(frames[0], frames[2])
    assert not np.array_equal(frames[0], frames[1])


def test_doubling_the_exposure_doubles_the_shot_variance(cdse_cds_zno: dict[str, Any]) -> None:
    lab = _ready(create(_QUIET, cdse_cds_zno, 0))
    short, long = (
        np.array([lab.expose(1.0, exposure_s, -60.0) for _ in range(80)], dtype=float) for exposure_s in (0.1, 0.2)
    )
    lit = short.mean(axis=0) > 700
    assert (long.mean(axis=0) - 600)[lit].sum() / (short.mean(axis=0) - 600)[lit].sum() == pytest.approx(2.0, rel=0.01)
    assert long.var(axis=0)[lit].mean() / short.var(axis=0)[lit].mean() == pytest.approx(2.0, rel=0.04)


def test_pulse_fluctuations_raise_the_mean_of_a_steep_signal(cdse_cds_zno: dict[str, Any]) -> None:
    steady = _ready(create(_QUIET, cdse_cds_zno, 0), 36.0)
    rough = _ready(create({**_QUIET, "laser": {"rms": 0.1, "drift_rms": 0.0}}, cdse_cds_zno, 0), 36.0)
    reference = np.mean([steady.expose(1.0, 0.05, -60.0) for _ in range(40)], axis=0) - 600
    seen = np.mean([rough.expose(1.0, 0.05, -60.0) for _ in range(400)], axis=0) - 600
    centre = slice(500, 524)
    sample = rough.sample
    assert sample is not None
    fluence = rough.fluence_uj_cm2(1.0)
    pulses = fluence * (1 + 0.1 * np.random.default_rng(0).standard_normal(4000))
    wavelengths = np.linspace(630.5, 633.6, 24)
    expected = (
        sample.emission_spectrum(wavelengths, pulses, 1.0).mean()
        / sample.emission_spectrum(wavelengths, fluence, 1.0).mean()
    )
    assert seen[centre].mean() / reference[centre].mean() == pytest.approx(expected, abs=0.03)


def test_without_sample_only_pump_scatter_reaches_the_camera(cdse_cds_zno: dict[str, Any]) -> None:
    lab = _ready(create({}, cdse_cds_zno, 0), 140.0)
    lab.operator("sample out of beam", 1.0)
    lab.operator("sample into beam", 5.0)
    background, lit = lab.expose(2.0, 0.5, -60.0), lab.expose(6.0, 0.01, -60.0)
    dark = _ready(create({}, cdse_cds_zno, 0), is_open=False).expose(2.0, 0.5, -60.0)
    assert dark.mean() + 50 < background.mean() < 3000
    assert np.ptp(background[100:900]) < 0.5 * background.mean()
    assert lit.max() > 5000


def test_pump_scatter_goes_with_the_pump() -> None:
    means = []
    for fluence in (50.0, 100.0):
        lab = _ready(create(_QUIET, None, 0), fluence)
        means.append(lab.expose(1.0, 0.5, -60.0).mean() - 600)
    assert means[1] / means[0] == pytest.approx(2.0, rel=0.02)


def test_zero_order_saturates_where_the_line_does_not(cdse_cds_zno: dict[str, Any]) -> None:
    lab = _ready(create({}, cdse_cds_zno, 0))
    first_order = lab.expose(1.0, 0.1, -60.0)
    lab.spectrograph.set(2.0, 0.0, 600.0)
    zero_order = lab.expose(3.0, 0.1, -60.0)
    assert first_order.max() < 20_000
    assert zero_order.max() == 65535
    assert abs(int(np.argmax(zero_order)) - 512) < 5


def test_an_unknown_operator_action_is_refused() -> None:
    with pytest.raises(ValueError, match="sample into beam"):
        create({}, None, 0).operator("make tea")


def test_the_sample_takes_light_whenever_the_shutter_is_open(cdse_cds_zno: dict[str, Any]) -> None:
    lab = _ready(create({}, {**cdse_cds_zno, "damage_fluence_uj_cm2": 1e6}, 0), 50.0, is_open=False)
    lab.shutter.set(1.0, True)
    lab.shutter.set(3.0, False)
    fluence = lab.fluence_uj_cm2(2.0)
    assert lab.dose_uj_cm2(2.0) == pytest.approx(1000 * fluence)
    assert lab.dose_uj_cm2(500.0) == pytest.approx(2000 * fluence)
    assert lab.dose_uj_cm2(1.5) == pytest.approx(500 * fluence, abs=1e-6 * fluence)
    assert lab.state(500.0)["brightness"] == pytest.approx(np.exp(-2000 * fluence / 1e6))
    lab.operator("sample out of beam", 501.0)
    lab.shutter.set(502.0, True)
    assert lab.dose_uj_cm2(600.0) == pytest.approx(2000 * fluence)
    lab.operator("fresh spot", 600.0)
    assert lab.dose_uj_cm2(600.0) == 0.0


def test_dose_does_not_depend_on_how_often_it_is_asked(cdse_cds_zno: dict[str, Any]) -> None:
    seldom, often = create({}, cdse_cds_zno, 0), create({}, cdse_cds_zno, 0)
    for step in range(200):
        for lab in (seldom, often):
            lab.shutter.set(step, step % 3 == 0)
            lab.wave_plate.move(step + 0.2, step + 0.5, step % 7, (step + 1) % 7)
        often.dose_uj_cm2(step + 0.9)
    assert often.dose_uj_cm2(200.0) == pytest.approx(seldom.dose_uj_cm2(200.0))


def test_a_month_of_shutter_cycles_without_a_reading_is_survived(cdse_cds_zno: dict[str, Any]) -> None:
    lab = _ready(create({}, cdse_cds_zno, 0))
    for cycle in range(20_000):
        lab.shutter.set(130.0 * cycle, cycle % 2 == 1)
    assert lab.expose(130.0 * 19_999 + 1.0, 0.1, -60.0).max() > 1000


@pytest.mark.parametrize("seed", range(3))
def test_a_measured_sweep_shows_the_knee(cdse_cds_zno: dict[str, Any], seed: int) -> None:
    fluence, signal, _ = _sweep(create({}, cdse_cds_zno, seed), np.geomspace(5.0, 56.0, 30))

    def hinge(p: np.ndarray) -> np.ndarray:
        x = np.log(fluence) - p[3]
        return p[0] + p[1] * x + (p[2] - p[1]) * p[4] * np.logaddexp(0.0, x / p[4]) - np.log(signal)

    start = [np.log(np.interp(28.0, fluence, signal)), 1.0, 4.0, np.log(28.0), 0.1]
    fit = optimize.least_squares(hinge, start, bounds=([-99, 0, 0, 0, 0.02], [99, 3, 30, 9, 0.6]))
    assert np.exp(fit.x[3]) == pytest.approx(27.9, rel=0.05)


def test_a_fragile_sample_returns_weaker(cdse_cds_zno: dict[str, Any]) -> None:
    fluences = [3.0, *np.geomspace(5.0, 98.0, 24), 3.0]
    _, sound, _ = _sweep(create({"laser": {"drift_rms": 0.0}}, cdse_cds_zno, 0), fluences)
    fragile = create({"laser": {"drift_rms": 0.0}}, {**cdse_cds_zno, "damage_fluence_uj_cm2": 4e6}, 0)
    _, worn, t = _sweep(fragile, fluences)
    assert sound[-1] / sound[0] == pytest.approx(1.0, abs=0.02)
    assert worn[-1] / worn[0] == pytest.approx(fragile.state(t)["brightness"], abs=0.03)
    assert fragile.state(t)["brightness"] < 0.95
