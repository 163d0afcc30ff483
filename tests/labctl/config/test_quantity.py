from __future__ import annotations

import json
import math
from typing import Annotated

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from labctl.config.fault import Fault
from labctl.config.quantity import COMMON_UNITS, InUnit, parse_quantity, unit_registry


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("28 uJ/cm^2", "uJ/cm^2", 28.0),
        ("28 µJ/cm²", "uJ/cm^2", 28.0),
        ("28 μJ/cm**2", "uJ/cm^2", 28.0),
        ("28uJ/cm2", "uJ/cm^2", 28.0),
        ("0.028 mJ cm^-2", "uJ/cm^2", 28.0),
        ("0.028 mJ·cm⁻²", "uJ/cm^2", 28.0),
        ("150 um", "mm", 0.15),
        ("1e3 µm", "mm", 1.0),
        (".5 mm", "mm", 0.5),
        ("-60 degC", "degC", -60.0),
        ("−60 °C", "degC", -60.0),
        ("213.15 K", "degC", -60.0),
        ("12.3 °", "deg", 12.3),
        ("1 kHz", "Hz", 1000.0),
        ("20 min", "s", 1200.0),
        ("100 fs", "fs", 100.0),
        ("134 /cm", "cm^-1", 134.0),
        ("3 degC/min", "K/s", 0.05),
        ("1 degC^2", "K^2", 1.0),
        ("200 MB", "MB", 200.0),
        ("0.02", "", 0.02),
        ("2 %", "", 0.02),
    ],
)
def test_text_becomes_a_float_in_the_target_unit(text: str, unit: str, value: float) -> None:
    assert parse_quantity(text, unit) == value


@pytest.mark.parametrize(
    ("text", "unit", "found", "nearest"),
    [
        ("1.0", "mm", "without a unit", None),
        (1.0, "mm", "without a unit", None),
        (True, "mm", "true", None),
        ("", "mm", '""', None),
        ("mm", "mm", '"mm"', None),
        ("1 khz", "Hz", "unknown unit 'khz'", "kHz"),
        ("1 mmm", "mm", "unknown unit 'mmm'", "mm"),
        ("1 mn", "mm", "unknown unit 'mn'", "nm"),
        ("1 uj/cm^2", "uJ/cm^2", "unknown unit 'uj'", "uJ"),
        ("1 s", "mm", "does not convert", None),
        ("1 mJ", "uJ/cm^2", "does not convert", None),
        ("1 mm", "", "does not convert", None),
        ("nan mm", "mm", "nan", None),
        ("inf mm", "mm", "inf", None),
        ("1e999 mm", "mm", "not finite", None),
        ("9**9**9**9 mm", "mm", "9**9", None),
        ("2 * 3 mm", "mm", "2 * 3", None),
        ("1 mm/", "mm", "1 mm/", None),
        ("1 mm(", "mm", "1 mm(", None),
        ("1 mm" + " " * 100, "mm", "1 mm", None),
    ],
)
def test_what_is_refused_and_why(text: object, unit: str, found: str, nearest: str | None) -> None:
    with pytest.raises(Fault) as caught:
        parse_quantity(text, unit)  # pyright: ignore[reportArgumentType]
    assert found in caught.value.found
    assert caught.value.nearest == nearest
    assert caught.value.allowed


def test_the_range_is_given_in_the_unit_the_user_wrote() -> None:
    length = InUnit("mm", at_least=0.01, at_most=100)
    with pytest.raises(Fault, match="at least 10 um, at most 100000 um"):
        length.parse("5 um")
    with pytest.raises(Fault, match=r"at least 0\.001 cm, at most 10 cm"):
        length.parse("11 cm")
    with pytest.raises(Fault, match=r"at least 153\.15 K, at most 313\.15 K"):
        InUnit("degC", at_least=-120, at_most=40).parse("10 K")
    with pytest.raises(Fault, match="more than 0 deg, less than 90 deg"):
        InUnit("deg", above=0, below=90).parse("90 deg")


def test_bounds_belong_to_the_range_or_not_as_declared() -> None:
    assert InUnit("mm", at_least=0.01, at_most=100).parse("10 um") == 0.01
    assert InUnit("mm", at_least=0.01, at_most=100).parse("10 cm") == 100
    with pytest.raises(Fault):
        InUnit("mm", above=0).parse("0 mm")


@settings(deadline=None)
@given(st.text(max_size=40))
def test_any_text_is_a_fault_or_a_finite_number(text: str) -> None:
    try:
        value = parse_quantity(text, "mm")
    except Fault:
        return
    assert math.isfinite(value)


@settings(deadline=None)
@given(
    st.floats(allow_nan=False, allow_infinity=False, min_value=-1e30, max_value=1e30),
    st.from_regex(r"\A ?[A-Za-z]{1,4}([*/^ ]{1,2}[A-Za-z0-9-]{1,3}){0,2}\Z"),
)
def test_any_unit_is_a_fault_or_a_finite_number(number: float, unit: str) -> None:
    try:
        value = parse_quantity(f"{number!r}{unit}", "s")
    except Fault:
        return
    assert math.isfinite(value)


@settings(deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_writing_loses_nothing(value: float) -> None:
    marker = InUnit("uJ/cm^2")
    assert marker.parse(marker.write(value)) == value


def test_every_common_unit_is_known() -> None:
    for unit in COMMON_UNITS:
        assert unit_registry().parse_unit_name(unit), unit


def test_there_is_one_registry_and_pymeasure_uses_it() -> None:
    from pymeasure.units import ureg

    assert unit_registry().Quantity("1 mm") + ureg.Quantity("1 um") == ureg.Quantity("1.001 mm")


class Stripe(BaseModel):
    length_mm: Annotated[float, InUnit("mm", at_least=0.01, at_most=100, example="1.0 mm")]


def test_as_a_field_of_a_model() -> None:
    stripe = Stripe.model_validate({"length_mm": "800 um"})
    assert stripe.length_mm == 0.8
    assert json.loads(stripe.model_dump_json()) == {"length_mm": "0.8 mm"}
    with pytest.raises(ValidationError):
        Stripe.model_validate({"length_mm": 0.8})


def test_the_schema_shows_text_with_its_unit() -> None:
    schema = Stripe.model_json_schema()["properties"]["length_mm"]
    assert schema["type"] == "string"
    assert schema["examples"] == ["1.0 mm"]
    assert schema["x-unit"] == "mm"
    assert schema["x-range"] == "at least 0.01 mm, at most 100 mm"


@pytest.mark.parametrize(("text", "unit"), [("1 dB", "deg"), ("3 dBm", "W"), ("1 Np", ""), ("2 octave", "rad")])
def test_a_ratio_on_a_logarithmic_scale_is_no_number(text: str, unit: str) -> None:
    with pytest.raises(Fault, match="logarithmic"):
        parse_quantity(text, unit)


@pytest.mark.parametrize("text", ["115 cm^-1", "115 1/cm", "115 /cm", "115/cm", "11.5 1/mm"])
def test_a_reciprocal_unit_may_be_written_as_people_write_it(text: str) -> None:
    factor = 10.0 if text.endswith("mm") else 1.0
    assert InUnit("cm^-1").parse(text) == pytest.approx(float(text.split()[0].split("/")[0]) * factor)


@pytest.mark.parametrize("text", ["115 1/", "115 1", "115 2/cm", "115 1/1/cm"])
def test_a_unit_is_no_arithmetic(text: str) -> None:
    with pytest.raises(Fault):
        InUnit("cm^-1").parse(text)
