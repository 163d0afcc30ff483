"""The slit: which part of the film is pumped, and what passes to the meter behind it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from labctl.errors import ConfigError
from labctl.sim.carriage import Carriage
from labctl.sim.noise import KeyedNoise
from labctl.sim.slit import Slit, SlitTruth, straight_edge
from labctl.sim.truth_table import read_table


def _slit(near_mm: float | None, far_mm: float | None, seed: int = 0, **changes: Any) -> Slit:
    noise = KeyedNoise(seed)
    blades = {
        role: Carriage(role, position, noise)
        for role, position in (("slit_near", near_mm), ("slit_far", far_mm))
        if position is not None
    }
    truth = read_table({"zero_error_um": 0.0, **changes}, SlitTruth, "slit")
    return Slit(truth, noise, blades.get)


def test_a_bench_without_blades_has_no_slit() -> None:
    assert not _slit(None, None).is_there
    assert _slit(None, 2.5).is_there


def test_the_stripe_reaches_from_the_edge_of_the_film_to_the_far_blade() -> None:
    for slit in (_slit(None, 2.5), _slit(1.0, 2.5)):
        stripe = slit.stripe(0.0)
        assert stripe is not None
        assert stripe.length_mm == pytest.approx(0.5, abs=7e-4)
        assert stripe.distance_mm == pytest.approx(0.0, abs=7e-4)
        assert slit.open_length_mm(0.0) == pytest.approx(0.5)


def test_a_far_blade_short_of_the_edge_leaves_nothing_pumped() -> None:
    assert _slit(None, 1.9).stripe(0.0) is None
    assert _slit(2.6, 2.5).stripe(0.0) is None
    assert _slit(2.6, 2.5).open_length_mm(0.0) == 0.0


def test_a_near_blade_moves_the_stripe_away_from_the_edge() -> None:
    stripe = _slit(3.0, 3.015).stripe(0.0)
    assert stripe is not None
    assert stripe.distance_mm == pytest.approx(1.0)
    assert stripe.length_mm == pytest.approx(0.015)


def test_a_knife_scan_shows_a_hinge_at_a_soft_edge() -> None:
    lengths = []
    for far_mm in np.arange(1.99, 2.02, 0.0005):
        stripe = _slit(1.0, float(far_mm), beam_from_mm=1.5).stripe(0.0)
        lengths.append(0.0 if stripe is None else stripe.length_mm)
    far = np.arange(1.99, 2.02, 0.0005)
    assert max(np.array(lengths)[far < 1.994]) < 1e-6
    assert np.allclose(np.array(lengths)[far > 2.008], far[far > 2.008] - 2.0, atol=1e-6)
    assert 0.2e-3 < np.interp(2.0, far, lengths) < 1.2e-3


def test_the_beam_ends_somewhere() -> None:
    slit = _slit(1.0, 9.0, beam_mm=4.0)
    assert slit.open_length_mm(0.0) == pytest.approx(4.0)


def test_zeros_are_wrong_by_some_micrometres_and_stay_so() -> None:
    errors = np.array([_slit(0.0, 3.0, seed, zero_error_um=3.0).zero_mm("slit_far") - 2.0 for seed in range(200)])
    assert 1e3 * errors.std() == pytest.approx(3.0, abs=0.5)
    assert abs(1e3 * errors.mean()) < 0.8
    slit = _slit(0.0, 3.0, 1, zero_error_um=3.0)
    assert slit.zero_mm("slit_far") == 2.0 + errors[1]
    assert slit.zero_mm("slit_near") != slit.zero_mm("slit_far")


def test_a_straight_edge_throws_fresnels_pattern() -> None:
    inside = np.linspace(-0.2, 1.0, 2001)
    intensity = straight_edge(inside, 5.0)
    assert np.interp(0.0, inside, intensity) == pytest.approx(0.25, abs=1e-3)
    assert intensity.max() == pytest.approx(1.37, abs=0.01)
    assert intensity[0] < 0.01
    assert intensity[-1] == pytest.approx(1.0, abs=0.05)


def test_collection_and_uneven_pump_are_not_modelled_together() -> None:
    with pytest.raises(ConfigError, match="not both"):
        _slit(None, 2.5, collection_length_um=600.0, pump_half_length_mm=2.0)
