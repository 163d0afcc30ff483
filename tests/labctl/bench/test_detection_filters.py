"""The filter before the slit: chosen, read back, and asked for around every spectrum."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from labctl.bench.bench import Bench
from labctl.clock import VirtualClock
from labctl.config.bench import parse_bench
from labctl.config.locate import locate
from labctl.errors import InputError, InstrumentError

SHIPPED = locate("benches", "simulated").read_text(encoding="utf-8")
FILTERS = """
[instruments.filter]
driver = "thorlabs-fw102c"
resource = "sim:"

[filter]
use = "LP550"
positions = [
  { number = 1, name = "open", kind = "open" },
  { number = 2, name = "LP550", kind = "long_pass", cut_on = "550 nm" },
  { number = 3, name = "ND1", kind = "neutral_density", optical_density = 1.0 },
]
"""


@pytest.fixture
def open_filtered() -> Iterator[Callable[..., Bench]]:
    """Open spectrograph, detector and filter of the shipped bench with filters added."""
    with ExitStack() as stack:

        def open_(filters: str = FILTERS, **options: Any) -> Bench:
            bench = Bench.open(parse_bench(SHIPPED + filters, "bench.toml"), VirtualClock(), **options)
            stack.callback(bench.close)
            return bench

        yield open_


def wheel_of(bench: Bench) -> Any:
    return bench.laboratory.stand.places["filter"].emulator  # type: ignore[union-attr]


def cold(bench: Bench, name: str | None = None) -> Any:
    spectrometer = bench.spectrometer
    spectrometer.prepare(632.0, 1, name)
    spectrometer.start_cooling(-60.0)
    spectrometer.wait_until_cold(1200.0)
    return spectrometer


ROLES = ("spectrograph", "detector", "filter")


def test_every_spectrum_carries_its_filter(open_filtered) -> None:
    bench = open_filtered(roles=ROLES)
    spectrum = cold(bench).acquire(0.01, 2)
    assert (spectrum.filter_name, spectrum.filter_position) == ("LP550", 2)
    bench.spectrometer.prepare(632.0, 1, "ND1")
    spectrum = bench.spectrometer.acquire(0.01, 1)
    assert (spectrum.filter_name, spectrum.filter_position) == ("ND1", 3)
    assert wheel_of(bench).position == 3


def test_a_bench_without_filters_says_none(open_bench) -> None:
    spectrum = cold(open_bench(roles=("spectrograph", "detector")).bench).acquire(0.01, 1)
    assert (spectrum.filter_name, spectrum.filter_position) == ("none", 0)


@pytest.mark.parametrize(("at", "says"), [(3, "position 3 .ND1."), (5, "position 5 .not in the bench file.")])
def test_a_wheel_turned_by_hand_is_noticed_before_the_exposure(open_filtered, at: int, says: str) -> None:
    bench = open_filtered(roles=ROLES)
    spectrometer = cold(bench)
    wheel_of(bench).turn_by_hand(bench.clock.now(), at)
    bench.clock.sleep(5.0)
    with pytest.raises(InstrumentError, match=f"{says} is in the beam instead of 2") as caught:
        spectrometer.acquire(0.01, 1)
    assert caught.value.role == "filter"


def test_a_wheel_turned_during_the_exposures_is_noticed_after_them(open_filtered) -> None:
    bench = open_filtered(roles=ROLES)
    spectrometer = cold(bench)
    with pytest.raises(InstrumentError, match="instead of 2"):
        spectrometer.acquire(0.01, 3, during=lambda: wheel_of(bench).turn_by_hand(bench.clock.now(), 1))
    wheel_of(bench).turn_by_hand(bench.clock.now(), 2)
    assert spectrometer.acquire(0.01, 1).filter_name == "LP550"


def test_no_spectrum_without_the_wheel_of_the_bench(open_filtered) -> None:
    with pytest.raises(InputError, match="has no filter"):
        _ = open_filtered(roles=("spectrograph", "detector")).spectrometer


def test_no_spectrum_before_a_filter_was_chosen(open_filtered) -> None:
    spectrometer = cold(open_filtered(roles=ROLES))
    with pytest.raises(InputError, match="no filter is named 'LP500'"):
        spectrometer.prepare(632.0, 1, "LP500")
    with pytest.raises(InstrumentError, match="no filter was chosen"):
        spectrometer.acquire(0.01, 1)


def test_more_positions_than_the_wheel_has(open_filtered) -> None:
    filters = FILTERS.replace("number = 3", "number = 8")
    with pytest.raises(InputError, match=r"has 6 positions; the bench file names 8 \(ND1\)"):
        cold(open_filtered(filters, roles=ROLES))
