from __future__ import annotations

import pytest

from labctl.report.result_names import result_label, result_name
from labctl.report.titles import main_result


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("gain", "Net modal gain"),
        ("gain_at_60_uj_cm2", "Net modal gain at 60 µJ/cm²"),
        ("remaining_20min", "Emission left at 20 min"),
        ("shift_100min_nm", "Shift of the peak at 100 min"),
        ("remaining_2_5h", "Emission left at 2.5 h"),
        ("second_n80", "Second band: N80, pulses to 80 %"),
        ("q", "Q, as measured"),
        ("something_new", "Something new"),
    ],
)
def test_results_are_named_in_words(name: str, text: str) -> None:
    assert result_name(name) == text


def test_a_name_within_a_sentence_begins_small_but_for_abbreviations() -> None:
    assert result_label("gain") == "net modal gain"
    assert result_label("t80") == "T80, time to 80 %"
    assert result_label("quench", "temperature-series") == "thermal quench, coldest to warmest"


def test_the_main_result_is_that_of_the_procedure_else_the_first_with_a_value() -> None:
    found = main_result("uv-stability", {"t80": {"value": None}, "remaining": {"value": 0.2, "unit": "1"}})
    assert found is not None and found.name == "remaining"
    assert main_result("vsl-scan", {"gain": {"value": None}, "pump_fluence": {"value": 84.0}}) is None
    assert main_result("fluence-sweep", {"ase_peak": {"value": 632.0}}) is None
    assert main_result("uv-stability", None) is None
