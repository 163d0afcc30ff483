"""Peak and width of ASE lines that PL covers almost wholly: the modelled quantum rings, over pump and noise."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from labctl.analysis.ase import analyse_sweep
from labctl.analysis.spectrum import PLShape, fit_two_components
from labctl.analysis.sweep_arrays import SweepArrays
from labctl.analysis.sweep_design import coarse_fluences, refine_fluences
from labctl.sim.sample import EnsembleSample
from labctl.sim.truth import SampleTruth

ROWS = {
    # threshold, kappa, sigma, eta_t, G, alpha, PL, ASE, pump of the line in transparencies
    "small": (81, 0.136, 1.0e-13, 0.030, 253, 40, (477, 14), 481, 3.0),
    "medium": (2.7, 1.0, 2.7e-13, 0.164, 395, 15, (480, 18), 485, 2.29),
    "large": (8.3, 0.465, 2.7e-13, 0.030, 305, 40, (482, 18), 490, 3.0),
}


@cache
def rings(name: str) -> EnsembleSample:
    _, kappa, sigma, eta, gain, alpha, pl, ase, pump = ROWS[name]
    return EnsembleSample(
        SampleTruth(
            kappa=kappa,
            sigma_cm2=sigma,
            eta_t=eta,
            gain_cm1=gain,
            alpha_cm1=alpha,
            reference_stripe_mm=0.5,
            lambda_pl_nm=pl[0],
            fwhm_pl_nm=pl[1],
            lambda_ase_nm=ase,
            fwhm_ase_nm=8.0,
            ase_line_pump=pump,
            qy=0.6,
            auger_share=0.9,
        )
    )


def sweep(name: str, seed: int, peak_counts: float) -> SweepArrays:
    threshold = ROWS[name][0]
    coarse, fine = coarse_fluences(threshold), refine_fluences(threshold)
    fluence = np.concatenate([coarse, fine, coarse[:3]])
    stage = ["coarse"] * coarse.size + ["fine"] * fine.size + ["return"] * 3
    wavelength = ROWS[name][6][0] + np.linspace(-45.0, 55.0, 700)
    rng = np.random.default_rng(seed)
    true = fluence * np.exp(rng.normal(0, 0.01, fluence.size))
    clean = rings(name).emission_spectrum(wavelength, true, 0.5)
    per_count = clean.max(axis=1, keepdims=True) / peak_counts
    spectra = (rng.poisson(clean / per_count) + rng.normal(0, 4, clean.shape)) * per_count
    intensity = spectra.sum(axis=1)
    return SweepArrays.of(
        fluence,
        intensity,
        fluence_error=0.01 * fluence,
        intensity_error=0.01 * intensity,
        stage=stage,
        wavelength_nm=wavelength,
        spectra=spectra,
    )


@pytest.mark.parametrize("peak_counts", [3e4, 2e3])
@pytest.mark.parametrize("name", ROWS)
def test_line_and_shift_of_a_whole_sweep(name, peak_counts):
    for seed in range(2):
        found = analyse_sweep(sweep(name, seed, peak_counts), pulse_rms=0.015)
        assert found.ase_line is not None and found.pl_peak is not None and found.ase_shift is not None
        assert found.ase_line.fwhm_nm.value == pytest.approx(8.0, abs=0.25)
        assert found.ase_line.peak_nm.value == pytest.approx(ROWS[name][7], abs=0.2)
        assert found.pl_peak.value == pytest.approx(ROWS[name][6][0], abs=0.2)
        assert found.ase_shift.value == pytest.approx(ROWS[name][7] - ROWS[name][6][0], abs=0.3)
        assert 0 < found.ase_shift.sd < 0.2


@pytest.mark.parametrize("pump", [1.2, 1.5, 2.0, 2.5, 3.0])
@pytest.mark.parametrize("name", ROWS)
def test_one_spectrum_at_any_pump(name, pump):
    sample, (centre, width) = rings(name), ROWS[name][6]
    wavelength = centre + np.linspace(-45.0, 55.0, 700)
    fluence = pump * ROWS[name][0]
    clean = sample.emission_spectrum(wavelength, fluence, 0.5)
    peak_nm, fwhm_nm = sample.ase_line(fluence)
    for seed in range(3):
        counts = np.random.default_rng(seed).poisson(clean * 1e4 / clean.max())
        found = fit_two_components(wavelength, counts, PLShape(centre, width / 2, width / 2))
        assert found.ase_fwhm_nm == pytest.approx(fwhm_nm, rel=0.03)
        assert found.ase_peak_nm == pytest.approx(peak_nm, abs=0.2)
