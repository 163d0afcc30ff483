from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.analysis.sweep_design import coarse_fluences, gap_fluences, refine_fluences


def test_coarse_pass():
    fluences = coarse_fluences(28.0)
    assert fluences.size == 8
    assert fluences[[0, -1]] == pytest.approx([2.8, 140.0])
    assert np.ptp(np.diff(np.log(fluences))) < 1e-12


@given(st.floats(1e-3, 1e6), st.integers(10, 80))
def test_fine_pass_without_limits(threshold, points):
    fluences = refine_fluences(threshold, points)
    assert fluences.size == points and np.all(np.diff(fluences) > 0)
    core = (fluences >= 0.5 * threshold * (1 - 1e-9)) & (fluences <= 2 * threshold * (1 + 1e-9))
    assert core.sum() == pytest.approx(0.6 * points, abs=1)
    assert fluences[-1] == pytest.approx(3.5 * threshold) and fluences[0] == pytest.approx(0.2 * threshold)
    assert np.array_equal(fluences, refine_fluences(threshold, points))


@given(st.floats(0.05, 4.0), st.floats(0.05, 4.0), st.integers(5, 50))
def test_fine_pass_keeps_to_the_limits(a, b, points):
    low, high = sorted((28 * a, 28 * b))
    if min(high, 98.0) <= max(low, 5.6) * (1 + 1e-6):
        return
    fluences = refine_fluences(28.0, points, low, high)
    assert fluences.size == points
    assert fluences.min() >= low and fluences.max() <= high
    assert np.all(np.diff(fluences) > 0)


def test_impossible_designs_are_refused():
    with pytest.raises(ValueError, match="threshold estimate or the limits"):
        refine_fluences(28.0, 24, 200.0, 300.0)
    with pytest.raises(ValueError, match="finite threshold"):
        refine_fluences(float("nan"))
    with pytest.raises(ValueError, match="at least 5"):
        refine_fluences(28.0, 4)
    with pytest.raises(ValueError, match="guess > 0"):
        coarse_fluences(0.0)


def test_gaps_are_halved_the_widest_first() -> None:
    assert gap_fluences([1.0, 16.0, 2.0], 3) == pytest.approx([2**1.75, 2**2.5, 2**3.25])
    many = gap_fluences([1.0, 100.0], 50_000)
    assert len(many) == 50_000 and (np.diff(many) > 0).all() and many[0] > 1.0 and many[-1] < 100.0


@pytest.mark.parametrize("fluences", [[], [3.0], [3.0, 3.0], [0.0, 1.0]])
def test_no_gap_no_fluences(fluences: list[float]) -> None:
    with pytest.raises(ValueError, match="two different"):
        gap_fluences(fluences, 1)
