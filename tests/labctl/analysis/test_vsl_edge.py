from __future__ import annotations

import json

import numpy as np
import pytest

from labctl.analysis.vsl_edge import find_edge
from labctl.analysis.vsl_gain import NoGain

BLADE = np.arange(-60.0, 121.0, 6.0)


def scan(seed: int, edge: float, *, loss: float = 12.0, blur: float = 1.5) -> np.ndarray:
    """Light of a low pump: a ramp from the edge that loss bends, 2 % noise per position, read-out noise, offset."""
    rng = np.random.default_rng(seed)
    u = (BLADE - edge) / blur
    ramp = blur * np.logaddexp(0.0, 1.7 * u) / 1.7
    light = ramp * np.exp(-0.5e-4 * loss * ramp)
    return 5.0 + light * (1.0 + 0.02 * rng.standard_normal(BLADE.size)) + 0.5 * rng.standard_normal(BLADE.size)


def test_edge_to_two_micrometres_at_every_seed() -> None:
    truth = [float(np.random.default_rng(1000 + seed).uniform(-12, 12)) for seed in range(20)]
    fits = [find_edge(BLADE, scan(seed, edge)) for seed, edge in enumerate(truth)]
    off = np.array([fit.position.value for fit in fits]) - truth
    assert np.all(np.abs(off) < 2.0)
    assert np.abs(off.mean()) < 0.5
    inside = [fit.position.ci95[0] <= edge <= fit.position.ci95[1] for fit, edge in zip(fits, truth, strict=True)]
    assert sum(inside) >= 16
    json.dumps(fits[0].as_dict(), allow_nan=False)


def test_blade_that_shortens_the_stripe() -> None:
    light = scan(0, 4.0)
    there, back = find_edge(BLADE, light), find_edge(-BLADE, light, direction=-1)
    assert back.position.value == pytest.approx(-there.position.value, abs=1e-6)
    assert back.position.ci95[0] < back.position.value < back.position.ci95[1]


def test_scan_without_edge_says_so() -> None:
    with pytest.raises(NoGain, match=r"does not grow|no edge|too little|on either side"):
        find_edge(BLADE, 5.0 + 0.5 * np.random.default_rng(0).standard_normal(BLADE.size))
    with pytest.raises(NoGain, match=r"on either side|too little"):
        find_edge(BLADE, scan(0, -200.0))
    with pytest.raises(NoGain, match="only 4 usable positions"):
        find_edge([0, 1, 2, 3], [0, 0, 1, 2])
    with pytest.raises(ValueError, match="equally long"):
        find_edge([0, 1, 2], [0, 1])
