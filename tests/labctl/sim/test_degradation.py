"""The laws of wear, by the numbers that the papers print for the shipped samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from labctl.config.sample import load_sample
from labctl.sim.degradation import (
    SampleState,
    TemperatureTruth,
    arrhenius,
    left_by_heat,
    left_by_shots,
    left_by_uv,
    left_by_water,
    line_energy_ev,
    line_nm,
    line_width_mev,
    thermal_yield,
)
from labctl.sim.laboratory import create
from labctl.sim.sample import EnsembleSample
from labctl.sim.truth import SampleTruth
from labctl.sim.truth_table import read_table

_HOUR_DOSE = 3600 * 0.075


def _truth(name: str) -> SampleTruth:
    table: Any = load_sample(name).truth
    return read_table(table, SampleTruth, "truth")


@pytest.mark.parametrize(
    ("name", "hours", "left"),
    [
        ("cdse-cds", 20 / 60, 0.47),
        ("cdse-cds", 100 / 60, 0.20),
        ("cdse-cds-zno", 100 / 60, 0.63),
        ("cspbbr3", 10.0, 0.02),
        ("cspbbr3", 50.0, 0.02),
        ("cspbbr3-zns", 50.0, 0.75),
    ],
)
def test_heat_leaves_what_the_papers_print(name: str, hours: float, left: float) -> None:
    assert left_by_heat(_truth(name).heat, hours) == pytest.approx(left, abs=0.006)


@pytest.mark.parametrize(
    ("name", "hours", "left"),
    [
        ("cdse-cds", 2.0, 1.234),
        ("cdse-cds", 17.0, 0.21),
        ("cdse-cds-zno", 17.0, 0.90),
        ("cspbbr3", 648.0, 0.10),
        ("cspbbr3-zns", 648.0, 0.65),
    ],
)
def test_uv_light_leaves_what_the_papers_print(name: str, hours: float, left: float) -> None:
    assert left_by_uv(_truth(name).uv, hours * _HOUR_DOSE) == pytest.approx(left, abs=0.006)


@pytest.mark.parametrize("name", ["cdse-cds", "cdse-cds-zno"])
def test_films_are_brightest_after_two_hours_of_uv_light(name: str) -> None:
    hours = np.arange(0.0, 17.0, 0.05)
    left = [left_by_uv(_truth(name).uv, h * _HOUR_DOSE) for h in hours]
    assert hours[int(np.argmax(left))] == pytest.approx(2.0, abs=0.3)


@pytest.mark.parametrize(
    ("name", "hours", "left"), [("cspbbr3", 12.0, 0.01), ("cspbbr3-zns", 12.0, 0.95), ("cspbbr3-zns", 504.0, 0.10)]
)
def test_water_leaves_what_the_papers_print(name: str, hours: float, left: float) -> None:
    assert left_by_water(_truth(name).water, hours) == pytest.approx(left, abs=0.003)


def test_pulses_leave_what_the_papers_print() -> None:
    film = _truth("cdse-cds-zno").shots

    def left_after(minutes: float, fluence_uj_cm2: float = 84.0) -> float:
        pulses = minutes * 60_000
        return left_by_shots(film, SampleState(pulses * fluence_uj_cm2, pulses))

    assert left_after(0) == 1.0
    assert left_after(40) == pytest.approx(0.88, abs=0.002)
    assert left_after(80) == pytest.approx(1.095, abs=0.002)
    assert left_after(600) == pytest.approx(1.102, abs=0.001)
    # Reads at a hundredth of that pump do next to nothing, wherever the law counts pulses of a fluence.
    assert left_after(2, 0.84) == pytest.approx(1.0, abs=2e-4)
    table: Any = load_sample("vcsel").truth
    cavity = create({"wears": True}, table, 0).sample
    assert cavity is not None
    assert cavity.brightness(SampleState(shots=1.8e7)) == pytest.approx(0.93, abs=1e-4)


def test_loss_by_heat_shifts_and_broadens_the_line_of_the_bare_film_alone() -> None:
    for name, moved_nm in (("cdse-cds", 2.0), ("cdse-cds-zno", 0.0)):
        truth = _truth(name)
        state = SampleState(heat_h=100 / 60)
        peak, width = line_nm(truth, truth.lambda_pl_nm, truth.fwhm_pl_nm, state)
        assert peak - truth.lambda_pl_nm == pytest.approx(moved_nm, abs=0.05)
        assert width - truth.fwhm_pl_nm == pytest.approx(moved_nm, abs=0.05)


def test_the_clock_of_heat_runs_by_arrhenius_and_stands_at_ambient() -> None:
    law = _truth("cdse-cds").heat
    assert law is not None
    assert arrhenius([25.0, 10.0, -263.0, 100.0], law) == pytest.approx([0.0, 0.0, 0.0, 1.0])
    boltzmann = 0.8 / 8.617e-5 * (1 / 373.15 - 1 / 363.15)
    assert float(arrhenius(90.0, law)) == pytest.approx(np.exp(boltzmann), rel=0.01)


def test_the_line_follows_temperature_from_10_to_300_kelvin() -> None:
    law = _truth("cdzns-zns-pmma").temperature
    assert law is not None
    assert line_energy_ev(law, 26.85) == pytest.approx(2.850, abs=0.001)
    assert line_energy_ev(law, -263.15) == pytest.approx(2.916, abs=1e-4)
    assert line_width_mev(law, 26.85) == pytest.approx(118.0, abs=0.5)
    quench = thermal_yield(law, 26.85) / thermal_yield(law, -263.15)
    assert 0.90 < quench < 0.95


def test_films_lose_yield_at_100_degrees_and_get_it_back() -> None:
    for name in ("cdse-cds", "cdse-cds-zno"):
        law = _truth(name).temperature
        assert 0.80 < thermal_yield(law, 100.0) < 0.90
        assert thermal_yield(law, 25.0) == 1.0


def test_a_law_without_an_energy_says_so() -> None:
    with pytest.raises(ValueError, match="nothing about the energy"):
        line_energy_ev(TemperatureTruth(), 25.0)


def test_wear_shows_in_spontaneous_light_and_in_gain_at_once() -> None:
    sample = EnsembleSample(_truth("cdse-cds"))
    worn = SampleState(heat_h=0.5)
    left = left_by_heat(sample.truth.heat, 0.5)
    wide = np.linspace(500.0, 800.0, 3001)
    total = [sample.emission_spectrum(wide, 0.1, 1.0, state).sum() for state in (SampleState(), worn)]
    assert total[1] / total[0] == pytest.approx(left, rel=0.01)
    gains = [float(sample.modal_gain_cm1(633.0, 6.0, state)) + 10.0 for state in (SampleState(), worn)]
    assert gains[1] / gains[0] == pytest.approx(left, rel=1e-9)
    assert sample.active_fraction(SampleState(uv_j_cm2=540.0)) == 1.0
    assert sample.brightness(SampleState(uv_j_cm2=540.0)) == pytest.approx(1.234, abs=0.005)


def test_the_second_band_grows_at_high_pump() -> None:
    sample = EnsembleSample(_truth("cdse-cds-zno"))
    without = EnsembleSample(_truth("cdse-cds-zno").model_copy(update={"second_band": None}))
    at = np.array([577.0])
    band = [
        (sample.emission_spectrum(at, fluence, 1.0) - without.emission_spectrum(at, fluence, 1.0))[0]
        for fluence in (3.0, 30.0, 84.0)
    ]
    assert band[0] / 3 < 0.05 * band[1] / 30
    assert band[2] > band[1]
