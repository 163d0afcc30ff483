from __future__ import annotations

import json

import numpy as np
import pytest

from labctl.analysis.vsl_gain import NoGain
from labctl.analysis.vsl_loss import fit_loss

DISTANCE = np.linspace(0.0, 2000.0, 21)


def run(seed: int, loss: float = 15.0, x0_um: float | None = None, offset: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    light = 1e4 * np.exp(-1e-4 * loss * DISTANCE)
    if x0_um is not None:
        light = light / (1.0 + (DISTANCE / x0_um) ** 2)
    return light * (1.0 + 0.02 * rng.standard_normal(21)) + 3.0 * rng.standard_normal(21) + offset


def test_loss_at_every_seed() -> None:
    fits = [fit_loss(DISTANCE, run(seed), error=np.full(21, 3.0)) for seed in range(20)]
    assert all(abs(fit.loss.value - 15.0) < 1.5 for fit in fits)
    assert sum(fit.loss.ci95[0] <= 15.0 <= fit.loss.ci95[1] for fit in fits) >= 16
    assert sum(fit.collection == "even" for fit in fits) >= 18
    json.dumps(fits[0].as_dict(), allow_nan=False)


def test_falling_collection_is_seen_and_taken_out() -> None:
    fits = [fit_loss(DISTANCE, run(seed, x0_um=600.0), error=np.full(21, 3.0)) for seed in range(10)]
    assert all(fit.collection == "falling" for fit in fits)
    assert all(abs(fit.loss.value - 15.0) < 2.5 for fit in fits)
    assert abs(np.median([fit.loss.value for fit in fits]) - 15.0) < 1.0
    known = fit_loss(DISTANCE, run(0, x0_um=600.0), error=np.full(21, 3.0), collection=1 / (1 + (DISTANCE / 600) ** 2))
    assert known.collection == "given" and abs(known.loss.value - 15.0) < 0.5


def test_offset_within_its_error_is_taken_out() -> None:
    fit = fit_loss(DISTANCE, run(0, offset=200.0), error=np.full(21, 3.0), offset_error=200.0)
    assert abs(fit.loss.value - 15.0) < 1.5
    assert fit.offset == pytest.approx(200.0, abs=40.0)


def test_what_cannot_be_fitted_says_why() -> None:
    with pytest.raises(NoGain, match="only 3 usable distances"):
        fit_loss([0, 1, 2], [3, 2, 1])
    with pytest.raises(ValueError, match="not equally long"):
        fit_loss([0, 1, 2], [3, 2])
    short = fit_loss(np.linspace(0, 100, 10), np.exp(-15e-4 * np.linspace(0, 100, 10)))
    assert any("move further" in warning for warning in short.warnings)
