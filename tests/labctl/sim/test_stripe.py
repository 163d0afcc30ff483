"""Light from stripes that a slit cuts, against the plain stripe and against integrals done by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import integrate

from labctl.config.sample import load_sample
from labctl.sim.amplification import amplified_emission
from labctl.sim.sample import EnsembleSample
from labctl.sim.slit import Stripe, straight_edge
from labctl.sim.stripe import collected_amplified, collected_spontaneous
from labctl.sim.truth import SampleTruth
from labctl.sim.truth_table import read_table

_WAVELENGTHS = np.linspace(600.0, 665.0, 66)


def _film(name: str = "cdse-cds-zno") -> EnsembleSample:
    table: Any = load_sample(name).truth
    return EnsembleSample(read_table(table, SampleTruth, "truth"))


@pytest.mark.parametrize(
    ("name", "fluence", "gain_cm1"), [("cdse-cds-zno", 84.0, 115.0), ("quantum-ring-medium", 92.0, 360.0)]
)
def test_films_have_the_gain_that_the_papers_print(name: str, fluence: float, gain_cm1: float) -> None:
    film = _film(name)
    around = np.linspace(-10.0, 10.0, 401) + (film.truth.lambda_ase_nm or 0.0)
    assert film.modal_gain_cm1(around, film.excitons(fluence)).max() == pytest.approx(gain_cm1, abs=0.5)


@pytest.mark.parametrize("name", ["cdse-cds-zno", "quantum-ring-medium", "quantum-ring-large", "cdse-cds"])
def test_the_gain_is_zero_where_inversion_pays_for_the_loss(name: str) -> None:
    film = _film(name)
    truth = film.truth
    n = film.excitons(film.transparency_fluence_uj_cm2())
    y = 1.0 - np.exp(-n) * (2.0 + n)
    assert y == pytest.approx(truth.y0 + truth.alpha_cm1 / truth.gain_cm1, abs=1e-9)
    around = np.linspace(-10.0, 10.0, 2001) + (truth.lambda_ase_nm or 0.0)
    assert film.modal_gain_cm1(around, n).max() == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize("gain", [1e-12, -1e-12, 1e-5, -1e-5])
def test_the_edge_shows_spontaneous_light_where_the_gain_is_zero(gain: float) -> None:
    a = np.array([2.0])
    assert amplified_emission(a, np.array([gain]), 50.0, 0.1)[0] == pytest.approx(0.2, rel=1e-5)
    assert collected_amplified(a, np.array([gain]), 50.0, 0.0, 0.1, 1e6)[0] == pytest.approx(0.2, rel=1e-5)


def test_an_even_stripe_at_the_edge_is_the_plain_one() -> None:
    film = _film()
    fluences = np.array([5.0, 40.0, 84.0])
    plain = film.emission_spectrum(_WAVELENGTHS, fluences, 0.7)
    assert np.array_equal(film.stripe_spectrum(_WAVELENGTHS, fluences, Stripe(0.7)), plain)
    assert film.stripe_spectrum(_WAVELENGTHS, fluences, Stripe(0.7, 0.0, 1e5)) == pytest.approx(plain, rel=1e-6)
    even = Stripe(0.7, profile=np.ones_like)
    assert film.stripe_spectrum(_WAVELENGTHS, fluences, even) == pytest.approx(plain, rel=1e-9)


def test_light_of_a_stripe_away_from_the_edge_is_lost_on_its_way() -> None:
    film = _film()
    near, far = (film.stripe_spectrum(_WAVELENGTHS, 84.0, Stripe(0.5, distance)).sum() for distance in (0.0, 1.5))
    assert far / near == pytest.approx(np.exp(-10.0 * 0.15), rel=1e-12)


@pytest.mark.parametrize("saturation", [0.2, 80.0, 1e4, 1e30])
@pytest.mark.parametrize("gain", [-20.0, -1e-6, 1e-6, 5.0, 115.0, 200.0])
@pytest.mark.parametrize("begin", [0.0, 0.05])
def test_collected_light_is_the_integral_over_where_it_starts(gain: float, begin: float, saturation: float) -> None:
    """Against the equation of the light, solved step by step: no closed form of place or amplification is used."""
    a, length, x0 = 1.0, 0.1, 0.06

    def slopes(_: float, y: np.ndarray) -> list[float]:
        rate = gain / (1.0 + y[0] / saturation) if gain > 0 else gain
        return [rate * y[0] + a, rate]

    run = integrate.solve_ivp(slopes, (0.0, length), [0.0, 0.0], "DOP853", rtol=1e-11, atol=1e-14, dense_output=True)
    exponent = run.sol(length)[1]

    def from_place(x: float) -> float:
        return a * float(np.exp(exponent - run.sol(length - x)[1])) / (1.0 + ((begin + x) / x0) ** 2)

    expected = integrate.quad(from_place, 0.0, length, epsrel=1e-9, limit=200)[0]
    found = collected_amplified(np.array([a]), np.array([gain]), saturation, begin, length, x0)
    assert found[0] == pytest.approx(expected, rel=2e-5)
    everything = collected_amplified(np.array([a]), np.array([gain]), saturation, begin, length, 1e6)
    assert everything[0] == pytest.approx(amplified_emission(a, gain, saturation, length), rel=1e-6)


def test_collected_spontaneous_light_is_that_of_the_arcus_tangent() -> None:
    expected = integrate.quad(lambda x: 3.0 / (1.0 + (x / 0.06) ** 2), 0.02, 0.12)[0]
    assert collected_spontaneous(np.array([3.0]), 0.02, 0.1, 0.06)[0] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("x0_um", "low", "high"), [(1000.0, -12.0, -3.0), (500.0, -27.0, -14.0)])
def test_lost_collection_lowers_the_gain_that_a_naive_fit_finds(x0_um: float, low: float, high: float) -> None:
    lengths, gain = np.linspace(0.005, 0.1, 20), 115.0
    light = [
        collected_amplified(np.array([1.0]), np.array([gain]), 1e9, 0.0, float(length), 1e-4 * x0_um)[0]
        for length in lengths
    ]
    trial = np.linspace(60.0, 130.0, 7001)
    model = np.log(np.expm1(np.outer(trial, lengths)) / trial[:, None])
    miss = model - np.log(light)
    found = trial[np.argmin(miss.var(axis=1))]
    assert low < 100.0 * (found / gain - 1.0) < high


def test_a_gaussian_pump_amplifies_less_than_an_even_one() -> None:
    film = _film()
    even = film.stripe_spectrum(_WAVELENGTHS, 84.0, Stripe(1.0)).sum()
    ratios = []
    for half_mm in (1.0, 2.0, 50.0):
        profile = Stripe(1.0, profile=lambda x, half_mm=half_mm: np.exp(-2.0 * (x / half_mm) ** 2))
        ratios.append(film.stripe_spectrum(_WAVELENGTHS, 84.0, profile).sum() / even)
    assert ratios[0] < ratios[1] < ratios[2] == pytest.approx(1.0, abs=0.01)


def test_the_shadow_of_a_blade_changes_short_stripes_most() -> None:
    film = _film()
    changes = []
    for length_mm in (0.05, 1.0):
        shadow = Stripe(length_mm, profile=lambda x, length_mm=length_mm: straight_edge(length_mm - x, 5.0))
        light = film.stripe_spectrum(_WAVELENGTHS, 30.0, shadow).sum()
        changes.append(abs(light / film.stripe_spectrum(_WAVELENGTHS, 30.0, Stripe(length_mm)).sum() - 1.0))
    assert changes[0] > changes[1]
