"""Bias, scatter and coverage of the S-curve over seeds 0..N-1; the truth is that of the curve itself."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from labctl.analysis.lasing import lasing_threshold
from labctl.analysis.s_curve import SCurve
from labctl.analysis.sweep_design import refine_fluences

FLUENCE = refine_fluences(3.3)
SEEDS = 200


@pytest.mark.slow
@pytest.mark.parametrize("sigma_f", [0.0, 0.01])
@pytest.mark.parametrize("background", [0.0, 3.0])
@pytest.mark.parametrize(
    ("beta", "bias_limit", "sd_limit", "beta_limits"),
    [(1e-3, 0.005, 0.011, (0.88, 1.13)), (1e-2, 0.005, 0.019, (0.88, 1.13)), (5e-2, 0.02, 0.08, (0.71, 1.32))],
)
def test_recovery_and_coverage(beta, bias_limit, sd_limit, beta_limits, background, sigma_f):
    shape = SCurve(np.log(3.3), np.log(beta), 1e6 * beta, background * 1e6 * beta / 3.3)
    fits = []
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        true = np.log(FLUENCE) + rng.normal(0, sigma_f, FLUENCE.size)
        intensity = shape.intensity(true) * np.exp(rng.normal(0, 0.03, FLUENCE.size))
        errors = {"fluence_error": sigma_f * FLUENCE, "intensity_error": 0.03 * intensity}
        fits.append(lasing_threshold(FLUENCE, intensity, **errors, pulse_rms=0.0))
    ratio = np.array([fit.value for fit in fits]) / 3.3
    low, high = np.percentile([fit.beta.value / beta for fit in fits], [15.9, 84.1])
    covered = sum(fit.ci95[0] <= 3.3 <= fit.ci95[1] for fit in fits)
    beta_covered = sum(fit.beta.ci95[0] <= beta <= fit.beta.ci95[1] for fit in fits)
    print(
        f"beta {beta:g}, background {background:g}, fluence {sigma_f:.0%}: bias {ratio.mean() - 1:+.2%}"
        f" sd {ratio.std():.2%} beta {low:.3f} to {high:.3f} cover {covered / SEEDS:.3f}, {beta_covered / SEEDS:.3f}"
    )
    assert abs(ratio.mean() - 1) < bias_limit and ratio.std() <= sd_limit
    assert beta_limits[0] <= low <= high <= beta_limits[1]
    assert binomtest(covered, SEEDS, 0.95).pvalue > 0.01
    assert binomtest(beta_covered, SEEDS, 0.95).pvalue > 0.01
