"""The sample stage over its real driver: places by name, and no sample where none was asked for."""

from __future__ import annotations

import pytest

from labctl.errors import InputError, InstrumentError, LimitError

STAGE = ("sample_stage",)


@pytest.fixture
def at_the_stage(open_bench):
    return lambda **how: open_bench(STAGE, bench="simulated-stability", **how)


def test_each_place_comes_into_the_beam(at_the_stage):
    opened = at_the_stage()
    places = opened.bench.places
    for place, position_mm in {"reference": 40.0, "A1": 16.0, "dark": 25.0, "sample": 10.0}.items():
        assert places.go_to(place) == pytest.approx(position_mm, abs=2e-3)
        assert opened.truth()["sample_stage_mm"] == pytest.approx(position_mm, abs=2e-3)
    assert places.has_reference
    assert places.has_dark


def test_no_place_but_the_sample_is_taken_for_granted(at_the_stage):
    opened = at_the_stage(changes={'reference = "40 mm"\n': "", 'dark = "25 mm"\n': ""})
    assert not opened.bench.places.has_reference
    assert not opened.bench.places.has_dark


def test_a_place_that_is_not_there_is_refused_with_the_nearest_name(at_the_stage):
    opened = at_the_stage()
    before = opened.truth()["sample_stage_mm"]
    with pytest.raises(InputError, match="did you mean 'reference'") as caught:
        opened.bench.places.go_to("referense")
    assert caught.value.state == "nothing was moved"
    assert opened.truth()["sample_stage_mm"] == before


def test_a_place_beyond_a_limit_is_refused_before_the_stage_moves(at_the_stage):
    limit = '[limits.roles.sample_stage]\nposition = { at_most = "35 mm" }\n\n[places]'
    opened = at_the_stage(changes={"\n[places]": f"\n{limit}"})
    before = opened.truth()["sample_stage_mm"]
    with pytest.raises(LimitError, match=r"limits\.roles\.sample_stage\.position"):
        opened.bench.places.go_to("reference")
    assert opened.truth()["sample_stage_mm"] == before
    assert opened.bench.places.go_to("A2") == pytest.approx(32.0, abs=2e-3)


def test_a_stage_that_sticks_never_passes_for_one_that_has_arrived(at_the_stage):
    opened = at_the_stage()
    opened.bench.places.go_to("sample")
    opened.emulator("sample_stage").stuck = True
    with pytest.raises(InstrumentError):
        opened.bench.places.go_to("reference")
    assert opened.truth()["sample_stage_mm"] == pytest.approx(10.0, abs=2e-3)


def test_a_stage_that_is_connected_anew_is_used_from_then_on(at_the_stage):
    opened = at_the_stage()
    places = opened.bench.places
    new = opened.bench.reopen("sample_stage")
    new.start_up()
    assert places.stage is new
    assert places.go_to("reference") == pytest.approx(40.0, abs=2e-3)
