"""The sample that the tests of the simulated laboratory measure."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def cdse_cds_zno() -> dict[str, Any]:
    """``[truth]`` of a CdSe/CdS@ZnO film."""
    return {
        "kappa": 1.447,
        "sigma_cm2": 2.6e-14,
        "eta_t": 0.03,
        "y0": 0.05,
        "gain_cm1": 134.0,
        "alpha_cm1": 10.0,
        "reference_stripe_mm": 1.0,
        "lambda_pl_nm": 641.0,
        "fwhm_pl_nm": 28.2,
        "lambda_ase_nm": 632.0,
        "fwhm_ase_nm": 6.7,
        "qy": 0.85,
        "x_decay_ns": [39.76, 135.8],
        "x_decay_fractions": [0.806, 0.194],
        "tau_xx_ns": 12.4,
        "auger_share": 0.095,
    }
