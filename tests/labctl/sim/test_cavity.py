"""A lasing cavity: its curve over the pump, its lines, and what the laboratory makes of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import integrate

from labctl.config.sample import parse_sample
from labctl.errors import ConfigError
from labctl.sim.cavity import CavitySample, CavityTruth, mode_photons
from labctl.sim.laboratory import create
from labctl.sim.sample import SampleState
from labctl.sim.truth_table import read_table

_TRUTH: dict[str, Any] = {
    "kind": "cavity",
    "threshold_uj_cm2": 3.3,
    "beta": 0.01,
    "mode_photons": 2.0,
    "background": 0.2,
    "modes_nm": [632.0, 634.0],
    "mode_weights": [1.0, 3.0],
    "q": 1000.0,
    "lambda_pl_nm": 641.0,
    "fwhm_pl_nm": 28.4,
}
_WIDE = np.linspace(400.0, 900.0, 100_001)


def _cavity(**changes: Any) -> CavitySample:
    return CavitySample(read_table({**_TRUTH, **changes}, CavityTruth, "truth"))


@pytest.mark.parametrize("beta", [1e-4, 1e-2, 0.3])
@pytest.mark.parametrize("pump", [0.2, 0.9, 1.0, 1.1, 3.0])
def test_the_curve_is_the_steady_state_of_the_rate_equations(beta: float, pump: float) -> None:
    # In units of the emitters' lifetime; gamma cancels if the pump is counted in thresholds.
    gamma = 10.0

    def rates(_t: float, state: np.ndarray) -> list[float]:
        n, p = state
        return [pump * gamma / beta - n - beta * n * p, -gamma * p + beta * n * (p + 1.0)]

    settled = integrate.solve_ivp(rates, (0.0, 400.0), [0.0, 0.0], method="LSODA", rtol=1e-9, atol=1e-9).y[:, -1]
    assert float(mode_photons(pump, beta)) == pytest.approx(settled[1], rel=1e-3)


def test_the_output_jumps_by_one_over_beta_and_does_not_cancel_below() -> None:
    assert float(mode_photons(1e-12, 1e-9)) == pytest.approx(1e-12, rel=1e-9)
    assert float(mode_photons(0.0, 1e-3)) == 0.0
    for beta in (1e-5, 1e-3):
        ratio = float(mode_photons(10.0, beta)) / (10.0 * float(mode_photons(0.01, beta)) / 0.01)
        assert ratio == pytest.approx(0.9 / beta, rel=0.02)
    pump = np.geomspace(1e-3, 100.0, 4001)
    assert np.all(np.diff(mode_photons(pump, 1e-6)) > 0)


@pytest.mark.parametrize("shape", ["gaussian", "lorentzian"])
def test_modes_have_their_place_width_and_share(shape: str) -> None:
    lines = _cavity(mode_shape=shape).mode_spectrum(_WIDE)
    assert np.trapezoid(lines, _WIDE) == pytest.approx(1.0, abs=2e-3)
    near = np.abs(_WIDE - 634.0) < 0.8
    above = _WIDE[near][lines[near] > 0.5 * lines[near].max()]
    assert above[-1] - above[0] == pytest.approx(0.634, abs=0.02)
    assert _WIDE[np.argmax(lines)] == pytest.approx(634.0, abs=0.01)
    assert np.trapezoid(lines[_WIDE > 633.0], _WIDE[_WIDE > 633.0]) == pytest.approx(0.75, abs=0.06)


def test_light_past_the_modes_goes_with_the_pump() -> None:
    cavity = _cavity()
    total = np.trapezoid(cavity.emission_spectrum(_WIDE, [0.33, 3.3, 33.0], 1.0), _WIDE)
    lasing = 2.0 * 0.01 * mode_photons([0.1, 1.0, 10.0], 0.01)
    assert total - lasing == pytest.approx(0.4 * np.array([0.1, 1.0, 10.0]), rel=0.04)
    assert np.array_equal(cavity.emission_spectrum(_WIDE, 3.3, 1.0), cavity.emission_spectrum(_WIDE, 3.3, 0.1))


def test_damage_raises_the_threshold_and_dims() -> None:
    cavity = _cavity(damage_fluence_uj_cm2=1e4)
    worn = SampleState(1e4 * np.log(2.0))
    assert cavity.active_fraction(worn) == pytest.approx(0.5)
    assert cavity.emission_spectrum(_WIDE, 6.6, 1.0, worn) == pytest.approx(cavity.emission_spectrum(_WIDE, 3.3, 1.0))


def test_the_laboratory_shows_the_lines_of_a_cavity() -> None:
    quiet = {"laser": {"rms": 0.0, "drift_rms": 0.0, "energy_uj": 1.0}, "camera": {"collection": 2e3}}
    spot = {"shape": "gaussian", "radius_x_um": 300.0, "radius_y_um": 300.0}
    lab = create({**quiet, "spot": spot}, _TRUTH, 0)
    lab.spectrograph.set(0.0, 632.0, 600.0)
    lab.shutter.set(0.0, True)
    frame = lab.expose(1.0, 0.01, -60.0)
    axis = lab.spectrograph.wavelengths_nm(632.0, 600.0, 1024, 26.0)
    assert lab.fluence_uj_cm2(1.0) == pytest.approx(2 * 0.02 * 0.933 / (np.pi * 0.03**2), rel=0.02)
    assert axis[np.argmax(frame)] == pytest.approx(634.0, abs=0.15)
    assert lab.state(1.0)["brightness"] == 1.0


def test_faults_of_a_cavity_are_named_with_their_line() -> None:
    text = '[sample]\nname = "x"\nmaterial = "CdSe"\n[truth]\nkind = "cavity"\nbeta = 2.0\nkappa = 1.0\n'
    with pytest.raises(ConfigError) as caught:
        create(None, parse_sample(text, "cavity.toml").truth, 0)
    found = {(problem.line, problem.key) for problem in caught.value.problems}
    assert {(6, "truth.beta"), (7, "truth.kappa")} <= found
    assert {key for _, key in found} >= {"truth.threshold_uj_cm2", "truth.modes_nm", "truth.q"}


def test_a_kind_that_is_not_known_is_refused() -> None:
    with pytest.raises(ConfigError, match="kind"):
        create(None, {"kind": "quantum foam"}, 0)


def test_modes_and_weights_belong_together() -> None:
    with pytest.raises(ConfigError, match="same length"):
        _cavity(mode_weights=[1.0])
    with pytest.raises(ConfigError):
        _cavity(modes_nm=[])
