from __future__ import annotations

import numpy as np
import pytest

from labctl.errors import ConfigError
from labctl.sim.filters import FilterCurve
from labctl.sim.laboratory import create

SAMPLE = {
    **{"sigma_cm2": 1e-14, "qy": 0.8, "gain_cm1": 600.0, "lambda_pl_nm": 640.0, "fwhm_pl_nm": 25.0},
    **{"lambda_ase_nm": 632.0, "fwhm_ase_nm": 6.7, "damage_fluence_uj_cm2": 0.0},
}
WHEEL = {
    "positions": [
        {"number": 2, "kind": "long_pass", "cut_on_nm": 550.0, "transmission": 0.9, "optical_density": 5.0},
        {"number": 3, "kind": "neutral_density", "optical_density": 1.0},
        {"number": 4, "kind": "blank"},
        {"number": 5, "kind": "band_pass", "cut_on_nm": 600.0, "cut_off_nm": 650.0, "edge_nm": 4.0},
    ]
}


def curve(**values) -> FilterCurve:
    return FilterCurve.model_validate({"number": 1, **values})


def test_a_long_pass_is_half_open_at_its_cut_on_and_blocks_below_its_edge():
    long_pass = curve(kind="long_pass", cut_on_nm=550.0, edge_nm=10.0, optical_density=5.0, transmission=0.8)
    passed = long_pass.transmission_at([400.0, 540.0, 550.0, 560.0, 800.0])
    assert passed == pytest.approx([0.8e-5, 0.8e-5, 0.4, 0.8, 0.8])
    assert (np.diff(long_pass.transmission_at(np.linspace(500, 600, 300))) >= 0).all()


def test_the_other_kinds():
    nm = np.array([400.0, 599.0, 625.0, 651.0, 900.0])
    assert curve(kind="open").transmission_at(nm) == pytest.approx(np.ones(5))
    assert curve(kind="neutral_density", optical_density=2.0).transmission_at(nm) == pytest.approx(np.full(5, 0.01))
    assert not curve(kind="blank").transmission_at(nm).any()
    band = curve(kind="band_pass", cut_on_nm=600.0, cut_off_nm=650.0).transmission_at(nm)
    assert band[2] == 1.0 and band[0] == band[4] == pytest.approx(1e-4) and (band[[1, 3]] < 0.5).all()


@pytest.mark.parametrize("values", [{"kind": "long_pass"}, {"kind": "open", "cut_on_nm": 500.0}, {"kind": "band_pass"}])
def test_a_filter_has_the_edges_of_its_kind(values):
    with pytest.raises(ConfigError):
        create({"filter": {"positions": [{"number": 1, **values}]}}, None, 0)


def frame(position: int, truth=None, **camera):
    """Frame of one exposure in the light with a filter in the beam; the offset subtracted."""
    table = {"camera": {"cosmics_per_s": 0.0, **camera}, "filter": WHEEL if truth is None else truth}
    laboratory = create(table, SAMPLE, 0)
    laboratory.spectrograph.set(0.0, 632.0, 600.0)
    laboratory.filters.set(0.0, position)
    laboratory.shutter.set(0.0, True)
    return laboratory.expose(1.0, 0.05, -60.0).astype(float) - 600.0


def test_a_neutral_density_weakens_the_spectrum_by_its_transmission():
    bare, weak = (frame(position, collection=100.0) for position in (1, 3))
    assert weak.sum() / bare.sum() == pytest.approx(0.1, rel=0.01)
    assert abs(frame(4).mean()) < 1.0 < weak.mean() and bare.max() < 6e4


def test_without_filters_the_light_is_exactly_what_it_was():
    assert (frame(1, truth={}) == frame(6)).all()


def test_a_long_pass_takes_the_pump_haze_away():
    bare, behind = (frame(position, pump_scatter=10.0, collection=1e-6) for position in (1, 2))
    assert bare.mean() > 100 and abs(behind.mean()) < 1.0


def test_no_light_passes_while_the_wheel_turns():
    laboratory = create({"filter": WHEEL}, None, 0)
    laboratory.filters.move(10.0, 12.0, 3)
    assert [laboratory.filters.position(t) for t in (9.0, 10.0, 11.9, 12.0)] == [1, 0, 0, 3]
    assert laboratory.filters.transmission([500.0, 600.0], 11.0) == pytest.approx([0.0, 0.0])
    assert laboratory.state(13.0)["filter_position"] == 3
