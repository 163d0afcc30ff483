"""Ticks that can be read."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from labctl.gui.ticks import log_ticks


@given(low=st.floats(-12, 12), decades=st.floats(0.05, 20))
def test_ticks_lie_in_the_range_and_are_few_enough_to_be_read(low: float, decades: float) -> None:
    labelled, between = log_ticks(low, low + decades)
    assert all(low <= value <= low + decades for value in labelled + between)
    assert len(labelled) <= 9
    assert not set(labelled) & set(between)


def test_two_decades_are_labelled_1_2_5() -> None:
    labelled, _ = log_ticks(0.0, 2.0)
    assert [round(10**value, 6) for value in labelled] == [1, 2, 5, 10, 20, 50, 100]


def test_nonsense_has_no_ticks() -> None:
    assert log_ticks(1.0, 1.0) == ([], [])
    assert log_ticks(0.0, math.nan) == ([], [])
    assert log_ticks(0.0, 1e9) == ([], [])
