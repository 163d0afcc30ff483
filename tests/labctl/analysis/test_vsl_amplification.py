from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from labctl.analysis.vsl_amplification import (
    growth,
    light_by_origin,
    saturable,
    saturation_length_cm,
    small_signal,
    unit_emission,
)


def exact_growth(x: float) -> float:
    """E(x) as the sum of x^k/(k+1)!, all of one sign: for x < 0 by E(x) = exp(x) E(-x)."""
    if x < 0:
        return math.exp(x) * exact_growth(-x)
    return math.fsum(math.exp(k * math.log(x) - math.lgamma(k + 2)) if x else float(k == 0) for k in range(400))


@given(st.floats(-100.0, 100.0))
def test_growth_is_exact_for_either_sign(x: float) -> None:
    # The sum goes through logarithms of factorials: it is itself good to 1e-12 only for small x.
    assert growth(x) == pytest.approx(exact_growth(x), rel=1e-12 if abs(x) < 1 else 3e-11)


@pytest.mark.parametrize("gain", [0.0, 1e-300, 1e-16, 1e-12, 1e-9, 1e-8, 1e-6, 1e-3])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_growth_near_zero_is_its_series(gain: float, sign: float) -> None:
    x = sign * gain
    series = 1.0 + x / 2 + x**2 / 6 + x**3 / 24 + x**4 / 120
    assert growth(x) == pytest.approx(series, rel=1e-15)


@given(st.floats(0.0, 1e3), st.floats(1e-4, 0.5))
def test_both_signs_of_the_gain_agree(gain: float, length: float) -> None:
    up, down = growth(gain * length), growth(-gain * length)
    assert down * math.exp(gain * length) == pytest.approx(float(up), rel=1e-12)


@pytest.mark.parametrize(
    ("a", "g", "saturation", "length"),
    [
        (1.0, 115.0, 50.0, 0.1),
        (0.03, 115.4, 0.3, 0.1),
        (0.164, 360.2, 0.2, 0.05),
        (1.0, 1e-8, 0.05, 0.1),
        (1.0, 5.0, 1e-3, 0.2),
        (1.0, 100.0, 1e9, 0.1),
        (1.0, 1e3, 1e-2, 1.0),
    ],
)
def test_saturable_form_solves_its_equation(a: float, g: float, saturation: float, length: float) -> None:
    exact = solve_ivp(
        lambda _, i: g * i / (1 + i / saturation) + a, (0, length), [0.0], method="DOP853", rtol=1e-13, atol=1e-16
    ).y[0, -1]
    assert saturable(length, a, g, saturation) == pytest.approx(exact, rel=1e-9)


def test_saturable_form_ends_where_it_should() -> None:
    length = np.linspace(0.0, 0.3, 40)
    weak = saturable(length, 1.0, 115.0, 1e30)
    np.testing.assert_allclose(weak, small_signal(length, 1.0, 115.0), rtol=1e-9)
    np.testing.assert_allclose(saturable(length, 1.0, 115.0, np.inf), small_signal(length, 1.0, 115.0), rtol=1e-14)
    for gain in (0.0, -30.0):
        np.testing.assert_array_equal(saturable(length, 2.0, gain, 1e-3), small_signal(length, 2.0, gain))
    deep = saturable(np.array([5.0, 6.0]), 1.0, 100.0, 1.0)
    assert deep[1] - deep[0] == pytest.approx(100.0 * 1.0 + 1.0, rel=0.01)
    assert np.all(np.isfinite(saturable(100.0, 1.0, np.array([1.0, 1e3, 1e4]), 1e-3)))


@pytest.mark.parametrize(("g", "k"), [(115.0, 1e-4), (115.0, 0.0), (-20.0, 0.0), (360.0, 0.3), (20.0, 5.0)])
def test_light_by_origin_adds_up_to_the_light(g: float, k: float) -> None:
    nodes, weights = np.polynomial.legendre.leggauss(24)
    length = np.array([0.002, 0.01, 0.05])
    distance, light = light_by_origin(length, g, k, 0.5 * (nodes + 1), 0.5 * weights)
    np.testing.assert_allclose(light.sum(axis=1), unit_emission(length, g, k), rtol=1e-9)
    assert np.all(distance >= 0) and np.all(distance <= length[:, None])


def test_light_from_far_is_what_the_equation_amplifies() -> None:
    """Light that starts at x is amplified by the gain that the whole light leaves: integrate both side by side."""
    g, k, length = 200.0, 1e-3, 0.06
    a, saturation = 1.0, 1.0 / (g * 1e-3)
    fine = np.linspace(0.0, length, 20001)
    whole = saturable(fine, a, g, saturation)
    local = g / (1.0 + whole / saturation)
    along = np.concatenate([[0.0], np.cumsum(0.5 * (local[1:] + local[:-1]) * np.diff(fine))])
    far = fine < 0.5 * length  # the far half, counted from the far end
    exact = np.trapezoid(np.exp(along[-1] - along)[far], fine[far])
    nodes, weights = np.polynomial.legendre.leggauss(200)
    distance, light = light_by_origin(np.array([length]), g, k, 0.5 * (nodes + 1), 0.5 * weights)
    assert light[distance > 0.5 * length].sum() == pytest.approx(exact, rel=0.02)


def test_saturation_length() -> None:
    length = saturation_length_cm(115.0, 1e-4)
    assert length is not None
    assert unit_emission(length, 115.0, 1e-4) == pytest.approx(0.9 * float(small_signal(length, 1.0, 115.0)), rel=1e-6)
    assert saturation_length_cm(115.0, 0.0) is None
    assert saturation_length_cm(-5.0, 0.1) is None
