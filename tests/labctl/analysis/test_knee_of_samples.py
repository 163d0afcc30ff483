"""Threshold of the modelled samples: nanocrystal rings of three sizes, CdSe/CdS@ZnO, and other stripe lengths."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest

from labctl.analysis.knee import loglog_knee
from labctl.analysis.sweep_design import coarse_fluences, refine_fluences
from labctl.sim.sample import EnsembleSample
from labctl.sim.truth import SampleTruth


@dataclass(frozen=True)
class Row:
    """One sample: what its paper states, and what the emission follows from."""

    stated_uj_cm2: float
    tolerance: float
    kappa: float
    sigma_cm2: float
    eta_t: float
    gain_cm1: float
    alpha_cm1: float
    stripe_mm: float
    pl_nm: tuple[float, float]
    ase_nm: tuple[float, float]
    qy: float
    auger_share: float


ROWS = {
    "rings, small": Row(81, 0.08, 0.136, 1.0e-13, 0.030, 253, 40, 0.5, (477, 14), (481, 8), 0.3, 0.97),
    "rings, medium": Row(2.7, 0.06, 1.0, 2.7e-13, 0.164, 395, 15, 0.5, (480, 18), (485, 8), 0.6, 0.90),
    "rings, large": Row(8.3, 0.08, 0.465, 2.7e-13, 0.030, 305, 40, 0.5, (482, 18), (490, 8), 0.6, 0.90),
    "CdSe/CdS@ZnO": Row(28, 0.08, 1.447, 2.6e-14, 0.030, 134, 10, 1.0, (641, 28.4), (632, 6.7), 0.85, 0.095),
}


@cache
def sample(name: str) -> EnsembleSample:
    row = ROWS[name]
    return EnsembleSample(
        SampleTruth(
            kappa=row.kappa,
            sigma_cm2=row.sigma_cm2,
            eta_t=row.eta_t,
            gain_cm1=row.gain_cm1,
            alpha_cm1=row.alpha_cm1,
            reference_stripe_mm=row.stripe_mm,
            lambda_pl_nm=row.pl_nm[0],
            fwhm_pl_nm=row.pl_nm[1],
            lambda_ase_nm=row.ase_nm[0],
            fwhm_ase_nm=row.ase_nm[1],
            qy=row.qy,
            auger_share=row.auger_share,
        )
    )


def emission(name: str, stripe_mm: float | None = None):
    """Return band-integrated emission as a function of fluence."""
    row, film = ROWS[name], sample(name)
    wavelength_nm = row.pl_nm[0] + np.linspace(-4, 4, 400) * row.pl_nm[1]
    length_mm = row.stripe_mm if stripe_mm is None else stripe_mm
    return lambda fluence: film.emission_spectrum(wavelength_nm, fluence, length_mm).sum(axis=1)


def adaptive(threshold: float) -> np.ndarray:
    return np.concatenate([coarse_fluences(threshold), refine_fluences(threshold)])


def noise_free(source, fluence, sigma_i=0.03):
    intensity = source(fluence)
    return loglog_knee(fluence, intensity, fluence_error=0.01 * fluence, intensity_error=sigma_i * intensity)


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("design", ["adaptive", "dense"])
def test_threshold_without_noise(name, design):
    row = ROWS[name]
    dense = np.geomspace(0.1, 6.0, 120) * row.stated_uj_cm2
    fit = noise_free(emission(name), adaptive(row.stated_uj_cm2) if design == "adaptive" else dense)
    assert fit.value == pytest.approx(row.stated_uj_cm2, rel=row.tolerance)
    assert fit.distance_at_bound and fit.definition_error == pytest.approx(0.055, abs=0.01)


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("sigma_i", [0.01, 0.03])
def test_threshold_with_noise(noisy_sweep, name, sigma_i):
    row, source = ROWS[name], emission(name)
    fluence = adaptive(row.stated_uj_cm2)
    truth = noise_free(source, fluence, sigma_i).value
    values = []
    for seed in range(5):
        sweep = noisy_sweep(source, fluence, seed, sigma_i=sigma_i)
        fit = loglog_knee(sweep.fluence, sweep.intensity, **sweep.errors)
        values.append(fit.value)
        assert fit.ci95[0] <= truth <= fit.ci95[1]
    assert values == pytest.approx([row.stated_uj_cm2] * 5, rel=row.tolerance)
    assert np.mean(values) == pytest.approx(truth, rel=0.01)


def test_small_rings_need_the_most_and_medium_ones_the_least():
    small, medium, large = (
        noise_free(emission(f"rings, {size}"), adaptive(ROWS[f"rings, {size}"].stated_uj_cm2))
        for size in ("small", "medium", "large")
    )
    assert small.ci95[0] > large.ci95[1] and large.ci95[0] > medium.ci95[1]


@pytest.mark.parametrize("name", ROWS)
def test_a_longer_stripe_lowers_the_threshold(name):
    row = ROWS[name]
    fluence = np.geomspace(0.05, 6.0, 120) * row.stated_uj_cm2
    values = [noise_free(emission(name, row.stripe_mm * factor), fluence).value for factor in (1, 2, 4)]
    assert values[0] > 1.05 * values[1] > 1.05**2 * values[2]


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("sigma_i", [0.01, 0.03])
def test_coverage(noisy_sweep, name, sigma_i):
    row, source = ROWS[name], emission(name)
    fluence = adaptive(row.stated_uj_cm2)
    truth = noise_free(source, fluence, sigma_i).value
    ratios, covered = [], 0
    for seed in range(200):
        sweep = noisy_sweep(source, fluence, seed, sigma_i=sigma_i)
        fit = loglog_knee(sweep.fluence, sweep.intensity, **sweep.errors)
        ratios.append(fit.value / truth)
        covered += fit.ci95[0] <= truth <= fit.ci95[1]
    assert abs(np.mean(ratios) - 1) < 0.01 and np.std(ratios) < 0.015 and covered >= 180
