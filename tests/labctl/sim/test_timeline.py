"""Signals in laboratory time, asked about their past."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.sim.timeline import Timeline


def test_the_past_stays_right() -> None:
    shutter = Timeline(0.0)
    shutter.set(1.0, 1.0)
    shutter.set(3.0, 0.0)
    assert [shutter.at(t) for t in (-1e9, 0.999, 1.0, 2.9, 3.0, 1e9)] == [0, 0, 1, 1, 0, 0]
    assert shutter.mean(0.0, 4.0) == 0.5
    assert shutter.mean(1.5, 2.5) == 1.0
    assert shutter.mean(2.0, 2.0) == 1.0


def test_a_ramp_is_linear_and_its_mean_exact() -> None:
    angle = Timeline(10.0)
    angle.ramp(1.0, 3.0, 20.0)
    assert [angle.at(t) for t in (0.0, 1.0, 2.0, 3.0, 9.0)] == [10, 10, 15, 20, 20]
    assert angle.mean(0.0, 4.0) == pytest.approx((10 + 2 * 15 + 20) / 4)
    assert angle.sample([0.5, 2.5]).tolist() == [10.0, 17.5]


def test_a_later_command_cancels_what_was_foreseen() -> None:
    angle = Timeline(0.0)
    angle.ramp(0.0, 10.0, 100.0)
    angle.set(4.0, angle.at(4.0))
    assert angle.at(3.0) == pytest.approx(30.0)
    assert angle.at(12.0) == pytest.approx(40.0)
    shutter = Timeline(0.0)
    shutter.set(0.0, 1.0)
    shutter.set(5.0, 0.0)
    shutter.set(2.0, 0.0)
    assert shutter.mean(0.0, 10.0) == pytest.approx(0.2)


def test_memory_is_bounded_in_a_month_long_run() -> None:
    shutter = Timeline(0.0, horizon_s=60.0)
    for i in range(100_000):
        shutter.set(26.0 * i, float(i % 2))
    assert shutter.edges(26.0 * 99_990, 26.0 * 99_999).size == 10
    assert shutter.kept_from > 0.0
    kept = shutter.edges(shutter.kept_from, 26.0 * 99_999).size
    assert kept <= 1025
    assert shutter.mean(26.0 * 99_990, 26.0 * 99_992) == 0.5
    with pytest.raises(LookupError, match="before the kept past"):
        shutter.at(1.0)


def test_a_busy_signal_keeps_its_whole_horizon() -> None:
    shutter = Timeline(0.0, horizon_s=100.0)
    for i in range(20_000):
        shutter.set(0.01 * i, float(i % 2))
    assert shutter.mean(100.0, 199.0) == pytest.approx(0.5)


@given(
    st.lists(st.tuples(st.floats(0.01, 3.0), st.floats(-5.0, 5.0), st.booleans()), min_size=1, max_size=20),
    st.floats(-1.0, 30.0),
    st.floats(0.01, 30.0),
)
def test_mean_agrees_with_many_samples(commands: list[tuple[float, float, bool]], t0: float, span: float) -> None:
    signal, t = Timeline(1.0), 0.0
    for step, value, as_ramp in commands:
        signal.ramp(t, t + step, value) if as_ramp else signal.set(t, value)
        t += step
    n = 20_000
    middles = t0 + span * (np.arange(n) + 0.5) / n
    assert signal.mean(t0, t0 + span) == pytest.approx(signal.sample(middles).mean(), abs=0.01 + 10 * 25 / n)
    assert signal.sample([t0])[0] == signal.at(t0)
