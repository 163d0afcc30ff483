"""What a run takes from an earlier one: values, units, bounds, and what becomes of it when there is none."""

from __future__ import annotations

from typing import Any

import pytest

from labctl.config.fault import Fault
from labctl.config.from_result import FromResult
from labctl.run.dependencies import (
    Unusable,
    check_source,
    compact_results,
    fall_back,
    parameter_of,
    resolve,
    trial_values,
)

RESULT = {
    "threshold": {
        "value": 28.5,
        "unit": "uJ/cm^2",
        "ci68": [28.0, 29.0],
        "ci95": [27.5, 29.5],
        "convention": "peak_gauss",
        "chi2": 3.0,
    },
    "threshold_by_convention": {"flat_top": {"value": 14.0, "unit": "uJ/cm^2"}},
    "peak": {"value": 632.0, "unit": "nm"},
    "count": {"value": 41.7, "unit": "1"},
    "nothing": {"value": None, "unit": "nm", "reason": "too few points"},
    "parameters": [1, 2],
}


def source(**keys: Any) -> FromResult:
    return FromResult.model_validate({"from": "first", "result": "threshold", **keys})


def value(name: str = "expected_threshold", convention: str | None = None, **keys: Any) -> str:
    parameter = parameter_of("fluence-sweep", name)
    assert parameter is not None
    asked = source(**keys)
    results = compact_results(RESULT)
    return resolve(name, asked, results, parameter, run="first", path="0001", convention=convention).value


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, "28.5 uJ/cm^2"),
        ({"times": 3}, "85.5 uJ/cm^2"),
        ({"times": 3, "plus": "1 mJ/cm^2"}, "1085.5 uJ/cm^2"),
        ({"field": "ci95.1"}, "29.5 uJ/cm^2"),
        ({"field": "ci68.0", "times": 0.5}, "14 uJ/cm^2"),
        ({"result": "threshold_by_convention.flat_top"}, "14 uJ/cm^2"),
        ({"at_least": "10 uJ/cm^2", "at_most": "0.1 mJ/cm^2"}, "28.5 uJ/cm^2"),
    ],
)
def test_a_value_has_the_unit_of_the_parameter(keys: dict[str, Any], expected: str) -> None:
    assert value(**keys) == expected


def test_a_list_takes_several_multiples() -> None:
    assert value("fluences", times=[0.5, 1, 3]) == "14.25, 28.5, 85.5 uJ/cm^2"


def test_what_counts_is_rounded() -> None:
    assert value("averages", result="count") == "42"
    assert value("band", result="peak", times=[0.99, 1.01]) == "625.68, 638.32 nm"


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"result": "treshold"}, "no result 'treshold'; did you mean 'threshold'"),
        ({"result": "nothing"}, "too few points"),
        ({"result": "peak"}, "does not convert to uJ/cm"),
        ({"result": "count"}, "uJ/cm"),
        ({"times": 3, "at_most": "80 uJ/cm^2"}, "85.5 uJ/cm.*at most 80"),
        ({"at_least": "30 uJ/cm^2"}, "28.5 uJ/cm.*at least 30"),
        ({"field": "ci95.0", "result": "peak"}, "no ci95.0"),
        ({"convention": "flat_top"}, "by the convention peak_gauss"),
    ],
)
def test_what_cannot_be_used_says_why(keys: dict[str, Any], why: str) -> None:
    with pytest.raises(Unusable, match=why):
        value(**keys)


def test_the_same_convention_is_no_matter() -> None:
    assert value(convention="peak_gauss") == "28.5 uJ/cm^2"


def test_a_value_tells_where_it_came_from() -> None:
    parameter = parameter_of("fluence-sweep", "expected_threshold")
    assert parameter is not None
    found = resolve("x", source(times=3), compact_results(RESULT), parameter, run="first", path="0001")
    assert found.text == "x = 85.5 uJ/cm^2, from threshold = 28.5 uJ/cm^2 of first x 3 (0001)"
    assert fall_back("x", source(fallback=5), "it failed").text == "x = 5, the fallback, because it failed"


def test_the_queue_keeps_little_of_a_result() -> None:
    kept = compact_results(RESULT)
    assert set(kept) == {"threshold", "threshold_by_convention.flat_top", "peak", "count", "nothing"}
    assert "chi2" not in kept["threshold"]
    assert compact_results(None) == {}


@pytest.mark.parametrize(
    ("name", "keys", "expected"),
    [
        ("expected_threshold", {"at_least": "1 uJ/cm^2", "at_most": "0.3 mJ/cm^2"}, ["1 uJ/cm^2", "300 uJ/cm^2"]),
        ("expected_threshold", {"at_most": "300 uJ/cm^2", "fallback": "20 uJ/cm^2"}, ["300 uJ/cm^2", "20 uJ/cm^2"]),
        (
            "fluences",
            {"times": [0.5, 2], "at_least": "1 uJ/cm^2", "at_most": "8 uJ/cm^2"},
            ["1, 4 uJ/cm^2", "2, 8 uJ/cm^2"],
        ),
    ],
)
def test_a_run_is_checked_with_the_ends_of_what_may_come(name: str, keys: dict[str, Any], expected: list[str]) -> None:
    parameter = parameter_of("fluence-sweep", name)
    assert parameter is not None
    assert trial_values(source(**keys), parameter) == (expected, True)


def test_without_a_bound_a_value_is_made_up() -> None:
    for name, expected in [("averages", "3"), ("exposure_max", "0.1 s"), ("fluences", "1 uJ/cm^2")]:
        parameter = parameter_of("fluence-sweep", name)
        assert parameter is not None
        assert trial_values(source(), parameter) == ([expected], False)


@pytest.mark.parametrize(
    ("name", "keys", "why"),
    [
        ("order", {}, "this parameter is no number"),
        ("zero_meter", {}, "this parameter is no number"),
        ("averages", {"times": [1, 2]}, "no list"),
        ("expected_threshold", {"at_most": "3 mm"}, "does not convert"),
        ("expected_threshold", {"at_least": "3 mJ/cm^2", "at_most": "1 uJ/cm^2"}, "the lower first"),
        ("expected_threshold", {"plus": 3}, "a number without a unit"),
    ],
)
def test_what_can_never_fit_is_found_before_anything_runs(name: str, keys: dict[str, Any], why: str) -> None:
    parameter = parameter_of("fluence-sweep", name)
    assert parameter is not None
    with pytest.raises(Fault, match=why):
        trial_values(source(**keys), parameter)


def test_results_are_checked_as_far_as_they_are_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    from procedures.fluence_sweep import FluenceSweep

    monkeypatch.setattr(FluenceSweep, "RESULTS", {"threshold": "uJ/cm^2", "q": "1"}, raising=False)
    said: list[str] = []
    check_source(source(), "fluence-sweep", said.append, "mJ/cm^2")
    assert said == []
    check_source(source(result="lifetime"), "fluence-sweep", said.append, "s")
    assert "does not say whether it has a result 'lifetime'" in said[0]
    with pytest.raises(Fault, match="threshold"):
        check_source(source(result="treshold"), "fluence-sweep", said.append, "uJ/cm^2")
    with pytest.raises(Fault, match="one that converts to nm"):
        check_source(source(), "fluence-sweep", said.append, "nm")
