"""Time left, and how numbers are written."""

from __future__ import annotations

import math

import pytest

from labctl.cli.output import result_line
from labctl.cli.progress import RunProgress
from labctl.run.time_left import TimeLeft

STAGES = {"dark": {"max_points": 2, "point_s": 10.0}, "sweep": {"max_points": 8, "point_s": 20.0}}


def test_time_left_is_the_plans_until_the_pace_is_known():
    left = TimeLeft(STAGES, 20.0, virtual_time=False)
    assert left.total_s == 200.0
    assert left.left_s(0, 5.0) == 195.0
    assert left.left_s(0, 500.0) == 0.0
    assert left.planned_s(4) == 20 + 20 + 40
    assert left.left_s(4, 160.0) == pytest.approx(160.0 * 120 / 80), "half as fast as planned"


def test_virtual_time_is_not_guessed():
    left = TimeLeft(STAGES, 20.0, virtual_time=True)
    assert left.left_s(0, 1.0) is None
    assert left.left_s(4, 4.0) == pytest.approx(6.0)


def test_a_plan_without_times_gives_no_estimate_but_no_error():
    left = TimeLeft({"all": {"max_points": 3, "point_s": 0.0}}, 0.0, virtual_time=True)
    assert left.left_s(1, 10.0) is None


def test_plain_lines_where_there_is_no_terminal(capsys):
    with RunProgress(quiet=False) as progress:
        times = {"stages": STAGES, "start_up_s": 1.0, "virtual_time": True}
        progress.show({"event": "started", "simulated": True, **times})
        progress.show({"event": "stage", "phase": "sweep", "points": 5, "done": 2})
        progress.show({"event": "point", "phase": "sweep", "done": 3})
        progress.show({"event": "aborting", "reason": "SIGINT"})
        progress.show({"event": "safe_state", "state": "confirmed"})
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[:2] == ["SIMULATED bench: emulators, not instruments", "sweep (2 of at most 7 points)"]
    assert "aborting (SIGINT)" in err
    assert "safe state confirmed" in err


def test_quiet_says_nothing(capsys):
    with RunProgress(quiet=True) as progress:
        progress.show({"event": "aborting", "reason": "SIGINT"})
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ({"value": 28.33, "unit": "uJ/cm^2", "ci68": [28.14, 28.52]}, "28.33 ± 0.19 µJ/cm²"),
        ({"value": 94.7, "unit": "1"}, "94.70"),
        ({"value": None, "unit": "nm", "reason": "no line"}, "not determined: no line"),
        ({"value": math.nan, "unit": "nm"}, "not determined"),
    ],
)
def test_a_result_with_its_uncertainty(entry, text):
    assert result_line("a_name", entry) == f"{'a name':24} {text}"


def test_a_result_under_several_conventions_takes_a_line_for_each():
    entry = {"peak_gauss": {"value": 64100.0, "unit": "uJ/cm^2"}, "mean_1e2": {"value": 950.0, "unit": "uJ/cm^2"}}
    lines = result_line("threshold", entry).splitlines()
    assert [line.split()[-2:] for line in lines] == [["64.10", "mJ/cm²"], ["950.0", "µJ/cm²"]]
