"""Sums of which only the sum is kept."""

from __future__ import annotations

import numpy as np
import pytest

from labctl.sim.accumulated import Accumulated


def _of_time() -> Accumulated:
    return Accumulated(lambda t0, t1: np.array([t1 - t0, 2.0 * (t1 - t0)]))


def test_it_can_be_asked_in_any_order_within_the_lag() -> None:
    seldom, often = _of_time(), _of_time()
    for t in np.arange(0.0, 100.0, 0.7):
        often.at(float(t), float(t))
    for sums in (seldom, often):
        assert sums.at(100.0, 100.0) == pytest.approx([100.0, 200.0])
        assert sums.at(97.0, 100.0) == pytest.approx([97.0, 194.0])


def test_one_column_can_begin_anew() -> None:
    sums = _of_time()
    sums.restart(50.0, 1)
    assert sums.at(60.0, 60.0) == pytest.approx([60.0, 20.0])
    sums.restart(60.0)
    assert sums.at(61.0, 61.0) == pytest.approx([1.0, 2.0])
