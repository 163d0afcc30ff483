from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.report.wording import (
    Reading,
    clipped,
    duration_text,
    in_print,
    range_text,
    reading,
    rounded,
    started_text,
    unit_text,
    value_text,
    wall_text,
)


@pytest.mark.parametrize(
    ("value", "half_width", "text"),
    [
        (28.3981, 0.19, "28.40"),
        (632.01234, 0.004, "632.0123"),
        (-3.14159, 0.2, "−3.14"),
        (703.2, 40.0, "703"),
        (28.3981, None, "28.40"),
        (3.0e-9, 1e-10, "3.00×10⁻⁹"),
        (-3.9047e-5, 3e-8, "−3.9047×10⁻⁵"),
        (1234567.0, None, "1.235×10⁶"),
        (1e-9, 5.0, "1×10⁻⁹"),
        (0.0, None, "0.000"),
    ],
)
def test_a_number_is_rounded_by_its_uncertainty(value: float, half_width: float | None, text: str) -> None:
    assert rounded(value, half_width) == text


@given(st.floats(1e-3, 9e4), st.floats(1e-6, 1e3))
def test_rounding_moves_a_number_by_less_than_a_tenth_of_its_uncertainty(value: float, half_width: float) -> None:
    shown = float(rounded(value, half_width).replace("−", "-"))
    assert abs(shown - value) <= max(0.051 * half_width, 0.51 if half_width >= 10 else 0.0, 1e-8)


@pytest.mark.parametrize(
    ("unit", "text"),
    [
        ("uJ/cm^2", "µJ/cm²"),
        ("1", ""),
        ("", ""),
        (None, ""),
        ("degC", "°C"),
        ("deg", "°"),
        ("cm^-1", "cm⁻¹"),
        ("1/cm", "cm⁻¹"),
        ("us", "µs"),
        ("counts/s", "counts/s"),
        ("nm", "nm"),
    ],
)
def test_units_are_written_as_in_print(unit: str | None, text: str) -> None:
    assert unit_text(unit) == text


def test_a_reading_shows_value_and_intervals_with_one_rounding() -> None:
    entry = {"value": 28.398, "unit": "uJ/cm^2", "ci68": [28.2006, 28.5832], "ci95": [27.8823, 28.7745]}
    assert reading("Threshold", entry) == Reading("Threshold", "28.40", "µJ/cm²", "28.20 to 28.58", "27.88 to 28.77")


@pytest.mark.parametrize("entry", [None, "text", {}, {"value": None}, {"value": math.nan}, {"value": True}, []])
def test_a_reading_without_a_value_says_so(entry: object) -> None:
    shown = reading("Q", entry)
    assert (shown.value, shown.reason) == ("", "no value")


def test_a_reading_without_a_value_gives_its_reason() -> None:
    assert reading("Q", {"value": None, "reason": "no spectra"}).reason == "no spectra"


def test_an_interval_that_is_not_one_is_left_out() -> None:
    shown = reading("F", {"value": 2.0, "unit": "1", "ci68": [None, None], "ci95": "wide"})
    assert (shown.value, shown.ci68, shown.ci95) == ("2.000", "", "")
    assert range_text(None) == ""


def test_a_count_is_told_to_its_last_digit() -> None:
    assert reading("Shots", {"value": 18_000_001, "unit": "shots"}).value == "18 000 001"


def test_an_interval_with_one_end_says_which() -> None:
    shown = reading("T80", {"value": 20.0, "unit": "min", "ci68": [18.0, None], "ci95": [None, 60.0]})
    assert (shown.ci68, shown.ci95) == ("above 18.00", "below 60.00")


def test_a_limit_stands_for_a_value_that_was_not_reached() -> None:
    shown = reading("T50", {"value": None, "unit": "h", "longer_than": 24.0, "reason": "it stays above 50 %"})
    assert (shown.value, shown.reason) == ("", "more than 24.00 h (95 %, one-sided): it stays above 50 %")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "not given"),
        (True, "yes"),
        (2.56, "2.56"),
        ([1.0, None], "1, not given"),
        ({"a": 1, "b": [2]}, "a: 1; b: 2"),
        ("as it is", "as it is"),
    ],
)
def test_parameters_of_any_type_are_written(value: object, text: str) -> None:
    assert value_text(value) == text


def test_times() -> None:
    assert [duration_text(s) for s in (5.04, 65.0, 3725.0)] == ["5.0 s", "1 min 5 s", "1 h 2 min"]
    assert started_text("2026-11-21T10:00:00+00:00") == "2026-11-21 10:00 UTC"
    assert started_text("yesterday") == "yesterday"
    assert started_text(None) == "start not recorded"
    assert wall_text(1.795e9).endswith("UTC")
    assert wall_text(1e300).endswith("(Unix)")


def test_a_long_text_is_cut_to_one_line() -> None:
    assert clipped("a\nb  c", 10) == "a b c"
    assert clipped("abcdef", 4) == "abc…"


def test_large_fluences_are_written_in_mj() -> None:
    entry = {"value": 25200.0, "unit": "uJ/cm^2", "ci95": [24800.0, 25600.0], "saturation_fluence": None, "dof": 28}
    shown = in_print(entry)
    assert shown == {**entry, "value": pytest.approx(25.2), "unit": "mJ/cm^2", "ci95": pytest.approx([24.8, 25.6])}
    for other in ({**entry, "value": 999.0}, {**entry, "unit": "nm"}, {**entry, "value": None}):
        assert in_print(other) is other
