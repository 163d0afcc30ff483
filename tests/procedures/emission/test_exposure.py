"""Exposures and readings as the repetition rate lets choose them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procedures.emission.exposure import ExposureLadder, default_exposures_s, default_reading_pulses


def test_a_fast_laser_keeps_what_was_chosen_for_it() -> None:
    assert default_exposures_s(1000.0) == (0.01, 2.56)
    assert default_reading_pulses(1000.0) == 100
    assert default_exposures_s(80e6) == (0.01, 2.56)
    assert default_exposures_s(0.0) == (0.01, 2.56)


def test_a_slow_laser_gets_enough_pulses() -> None:
    shortest_s, longest_s = default_exposures_s(20.0)
    assert (shortest_s, longest_s) == (0.5, 16.0)
    assert default_reading_pulses(20.0) == 50
    assert default_reading_pulses(1.0) == 20


@given(st.floats(0.5, 1e5), st.floats(1e-3, 10.0))
def test_every_exposure_holds_a_whole_number_of_pulses(rate_hz: float, shortest_s: float) -> None:
    ladder = ExposureLadder.of_whole_pulses(shortest_s, 16.0 * shortest_s, rate_hz)
    assert ladder.shortest_s >= shortest_s * (1 - 1e-6)
    for exposure_s in ladder.exposures_s:
        pulses = exposure_s * rate_hz
        assert pulses == pytest.approx(round(pulses), abs=1e-6 * pulses + 1e-9)


def test_a_ladder_is_never_empty() -> None:
    assert ExposureLadder.of_whole_pulses(0.12, 0.12, 20.0).exposures_s == (0.15,)
