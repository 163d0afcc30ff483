"""The slit over real drivers: lengths from the film's edge, what is refused, what stands where in truth."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from labctl.errors import InputError, InstrumentError, LimitError, LimitExceeded

BLADES = ("slit_near", "slit_far")
TRUE_EDGE_MM = 2.008
BLADE_MM = 0.003
"""How far a blade reads from where it stands: the laboratory gives each of them an error of its own."""


@pytest.fixture
def on_the_slit(open_bench: Callable[..., Any]) -> Callable[..., Any]:
    def open_(roles: tuple[str, ...] = BLADES, **how: Any) -> Any:
        return open_bench(roles, bench="simulated-gain", **how)

    return open_


def where(opened: Any) -> tuple[float, float]:
    """Where the carriages of near and far blade truly stand, mm."""
    state = opened.truth()
    return state["slit_near_mm"], state["slit_far_mm"]


def test_a_stripe_from_the_edge_takes_the_near_blade_out_and_tells_its_true_length(on_the_slit):
    opened = on_the_slit()
    slit = opened.bench.slit
    slit.edge_mm = 2.01
    length_um, offset_um = slit.set_stripe(750.0)
    near_mm, far_mm = where(opened)
    assert near_mm == pytest.approx(1.0, abs=2e-3)
    assert far_mm == pytest.approx(2.76, abs=2e-3)
    assert (length_um, offset_um) == (pytest.approx((slit.far.position_mm - 2.01) * 1e3), 0.0)
    assert length_um == pytest.approx(750.0, abs=2.0)


def test_a_stripe_away_from_the_edge_begins_at_the_near_blade(on_the_slit):
    opened = on_the_slit()
    length_um, offset_um = opened.bench.slit.set_stripe(15.0, 400.0)
    near_mm, far_mm = where(opened)
    assert near_mm == pytest.approx(2.4, abs=2e-3)
    assert far_mm == pytest.approx(2.415, abs=2e-3)
    assert offset_um == pytest.approx(400.0, abs=2.0)
    assert length_um == pytest.approx(15.0, abs=3.0)


def test_length_zero_closes_the_slit_on_the_edge(on_the_slit):
    opened = on_the_slit()
    length_um, _ = opened.bench.slit.set_stripe(0.0)
    assert length_um == pytest.approx(0.0, abs=2.0)
    assert length_um >= 0.0
    assert where(opened)[1] == pytest.approx(2.0, abs=2e-3)


@pytest.mark.parametrize(
    ("length_um", "offset_um"),
    [(3000.1, 0.0), (100.0, 2950.0), (-1.0, 0.0), (10.0, -5.0), (math.nan, 0.0), (10.0, math.nan), (math.inf, 0.0)],
)
def test_what_the_even_part_of_the_beam_does_not_hold_is_refused_before_a_blade_moves(
    on_the_slit, length_um, offset_um
):
    opened = on_the_slit()
    before = where(opened)
    with pytest.raises(LimitExceeded, match="nothing was moved"):
        opened.bench.slit.set_stripe(length_um, offset_um)
    assert where(opened) == before


@pytest.mark.parametrize("position_mm", [1.8, 5.01, math.nan])
def test_the_far_blade_is_looked_for_within_the_scan_only(on_the_slit, position_mm):
    opened = on_the_slit()
    before = where(opened)
    with pytest.raises(LimitExceeded, match="nothing was moved"):
        opened.bench.slit.place_far(position_mm)
    assert where(opened) == before
    assert opened.bench.slit.place_far(1.86) == pytest.approx(1.86, abs=2e-3)


def test_without_a_near_blade_a_stripe_begins_at_the_edge_and_nowhere_else(on_the_slit):
    opened = on_the_slit(roles=("slit_far",))
    slit = opened.bench.slit
    slit.open_near()
    before = opened.truth()["slit_far_mm"]
    with pytest.raises(InputError, match="near blade"):
        slit.set_stripe(15.0, 400.0)
    assert opened.truth()["slit_far_mm"] == before
    assert slit.set_stripe(300.0)[1] == 0.0


def test_limits_of_the_bench_file_hold_at_the_blade(on_the_slit):
    limit = '[limits.roles.slit_far]\nposition = { at_most = "2.5 mm" }\n\n[slit]'
    opened = on_the_slit(changes={"\n[slit]": f"\n{limit}"})
    before = opened.truth()["slit_far_mm"]
    with pytest.raises(LimitError, match=r"limits\.roles\.slit_far\.position"):
        opened.bench.slit.set_stripe(600.0)
    assert opened.truth()["slit_far_mm"] == before
    assert opened.bench.slit.set_stripe(450.0)[0] == pytest.approx(450.0, abs=2.0)


def test_blades_that_know_where_they_stand_are_not_homed_again(on_the_slit):
    opened = on_the_slit()
    slit, began_s = opened.bench.slit, opened.bench.clock.now()
    slit.home()
    assert opened.bench.clock.now() - began_s < 1.0
    opened.emulator("slit_far").power_cycle(opened.bench.clock.now())
    assert not slit.far.is_homed
    slit.home()
    assert slit.far.is_homed
    assert slit.set_stripe(200.0)[0] == pytest.approx(200.0, abs=2.0)


def test_a_blade_that_is_connected_anew_is_used_from_then_on(on_the_slit):
    opened = on_the_slit()
    bench, slit = opened.bench, opened.bench.slit
    for role in BLADES:
        new = bench.reopen(role)
        new.start_up()
        assert new in (slit.near, slit.far)
    assert slit.set_stripe(100.0, 200.0) == (pytest.approx(100.0, abs=3.0), pytest.approx(200.0, abs=2.0))


def test_the_meter_behind_the_slit_sees_energy_in_proportion_to_the_length(open_bench):
    roles = ("shutter", "attenuator", "energy_meter", *BLADES, "slit_meter")
    opened = open_bench(roles, bench="simulated-gain")
    bench, slit = opened.bench, opened.bench.slit
    bench.pump.prepare()
    bench.pump.attenuator.home()
    bench.pump.set_fluence(50.0)
    slit.meter.wavelength_nm = bench.pump.wavelength_nm
    slit.meter.zero()
    energies_j = {}
    for length_um in (200.0, 800.0):
        slit.set_stripe(length_um)
        with bench.pump.light():
            fluence, _ = bench.pump.read_fluence(50)
            reading = slit.read_energy(fluence.pulse_energy_j * length_um / 1000.0, 50)
        assert reading is not None
        true_um = (opened.truth()["slit_far_mm"] - TRUE_EDGE_MM) * 1e3
        energies_j[true_um] = reading.mean_j / fluence.pulse_energy_j
    (short_um, short), (long_um, long) = energies_j.items()
    assert long / short == pytest.approx(long_um / short_um, rel=0.06)
    slit.meter.range_j = slit.meter.largest_range_j
    assert slit.read_energy(1e-9, 50) is None, "the shutter is shut, and the range was chosen anew"
    assert slit.meter.range_j < 1e-6
    opened.emulator("slit_meter").power_cycle(bench.clock.now())
    with pytest.raises(InstrumentError):
        slit.read_energy(1e-9, 50)
    no_meter = open_bench(BLADES, bench="simulated-gain").bench.slit
    assert no_meter.read_energy(1e-6, 50) is None
