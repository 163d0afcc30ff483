from __future__ import annotations

import math

import pytest

from labctl.config.bench import parse_bench
from labctl.config.locate import locate
from labctl.errors import ConfigError, Problem

SHIPPED = locate("benches", "simulated").read_text(encoding="utf-8")
WHEEL = """
[instruments.filter]
driver = "thorlabs-sc10"
resource = "sim:"
"""
FILTERS = """
[filter]
use = "OG550"

[[filter.positions]]
number = 1
name = "open"
kind = "open"

[[filter.positions]]
number = 2
name = "OG550"
kind = "long_pass"
cut_on = "550 nm"

[[filter.positions]]
number = 3
name = "sorter"
kind = "order_sorting"
cut_on = "0.7 um"
edge = "20 nm"
blocking = 2.0

[[filter.positions]]
number = 4
name = "ND 1"
kind = "neutral_density"
optical_density = 1.0

[[filter.positions]]
number = 5
name = "band"
kind = "band_pass"
cut_on = "600 nm"
cut_off = "650 nm"
blocking = 5.0

[[filter.positions]]
number = 6
name = "shut"
kind = "blank"
"""


def problems_of(text: str) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        parse_bench(text, "bench.toml")
    return list(caught.value.problems)


def line_of(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1


def test_filters_are_read_with_their_units() -> None:
    filters = parse_bench(SHIPPED + WHEEL + FILTERS, "bench.toml").filter
    assert filters is not None
    assert filters.names == ("open", "OG550", "sorter", "ND 1", "band", "shut")
    assert filters.position(filters.use).number == 2
    sorter = filters.position("sorter")
    assert sorter.kind == "order_sorting" and sorter.cut_on_nm == pytest.approx(700.0)
    assert sorter.text == "order-sorting filter, cut-on 700 nm, OD 2 below 680 nm"
    with pytest.raises(KeyError):
        filters.position("OG590")


def test_what_each_filter_blocks() -> None:
    filters = parse_bench(SHIPPED + WHEEL + FILTERS, "bench.toml").filter
    assert filters is not None
    blocked = {position.name: position.blocked_nm for position in filters.positions}
    assert blocked["open"] == blocked["ND 1"] == ()
    assert blocked["OG550"] == ((0.0, pytest.approx(539.0)),)
    assert blocked["sorter"] == ()  # an optical density of 2 lets a hundredth of the pump through
    assert blocked["band"] == ((0.0, pytest.approx(588.0)), (pytest.approx(663.0), math.inf))
    assert [position.name for position in filters.positions if not position.passes_light] == ["shut"]


def test_a_bench_without_filters_has_none() -> None:
    bench = parse_bench(SHIPPED, "bench.toml")
    assert bench.filter is None


@pytest.mark.parametrize(
    ("old", "new", "key", "at", "says"),
    [
        ('use = "OG550"', 'use = "OG55"', "filter.use", 'use = "OG55"', "unknown filter"),
        ('cut_on = "550 nm"\n', "", "filter.positions[1].cut_on", '"OG550"\nkind', "required"),
        ('cut_on = "550 nm"', "cut_on = 550", "filter.positions[1].cut_on", "cut_on = 550", "nm"),
        ("number = 4", "number = 3", "filter.positions[3].number", 'number = 3\nname = "ND 1"', "once"),
        ('name = "ND 1"', 'name = "open"', "filter.positions[3].name", 'name = "open"\nkind = "neutral', "once"),
        ('name = "ND 1"', 'name = "none"', "filter.positions[3].name", 'name = "none"', "any other name"),
        ("optical_density = 1.0\n", "", "filter.positions[3].optical_density", '"ND 1"\nkind', "required"),
        (
            'cut_off = "650 nm"',
            'cut_off = "590 nm"',
            "filter.positions[4].cut_off",
            "cut_off =",
            "more than the cut-on",
        ),
        ('kind = "blank"', 'kind = "blanc"', "filter.positions[5].kind", 'kind = "blanc"', '"blank"'),
        (
            'kind = "blank"',
            'kind = "blank"\ncut_on = "1 um"',
            "filter.positions[5].cut_on",
            'cut_on = "1 um"',
            "unknown",
        ),
    ],
)
def test_faults_name_line_and_key(old: str, new: str, key: str, at: str, says: str) -> None:
    text = SHIPPED + WHEEL + FILTERS
    assert text.count(old) == 1
    text = text.replace(old, new)
    (problem,) = problems_of(text)
    assert (problem.file, problem.key) == ("bench.toml", key)
    assert says in str(problem)
    assert problem.line is not None and abs(problem.line - line_of(text, at)) <= (2 if says == "required" else 0)


def test_a_slip_in_the_name_in_use_is_guessed() -> None:
    (problem,) = problems_of(SHIPPED + WHEEL + FILTERS.replace('use = "OG550"', 'use = "og550"'))
    assert problem.nearest == "OG550"


def test_a_wheel_without_filters_and_filters_without_a_wheel() -> None:
    (problem,) = problems_of(SHIPPED + WHEEL)
    assert problem.key == "filter" and "no [filter]" in problem.found
    (problem,) = problems_of(SHIPPED + FILTERS)
    assert problem.key == "filter" and "no [instruments.filter]" in problem.found


def test_the_window_of_the_spectrometer() -> None:
    text = SHIPPED.replace('window = "133 nm"', 'window = "0.14 um"')
    spectrometer = parse_bench(text, "bench.toml").spectrometer
    assert spectrometer is not None and spectrometer.window_nm == pytest.approx(140.0)
    (problem,) = problems_of(text.replace("0.14 um", "0 nm"))
    assert problem.key == "spectrometer.window" and problem.line == line_of(text, "window =")
