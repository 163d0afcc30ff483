"""When quiet hours end, also in the nights when clocks are changed."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.config.times import WEEKDAYS, QuietTable, TimeOfDay
from labctl.run.quiet_hours import QuietHours, next_moment_s

BERLIN = ZoneInfo("Europe/Berlin")


def quiet(begins: str = "22:00", ends: str = "07:00", **keys: Any) -> QuietHours:
    return QuietHours(QuietTable.model_validate({"from": begins, "to": ends, **keys}), "Europe/Berlin")


def at(text: str, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold).timestamp()


@pytest.mark.parametrize(
    ("when", "until"),
    [
        ("2026-11-20 21:59", None),
        ("2026-11-20 22:00", "2026-11-21 07:00"),
        ("2026-11-21 00:30", "2026-11-21 07:00"),
        ("2026-11-21 07:00", None),
        ("2026-11-21 12:00", None),
    ],
)
def test_quiet_hours_go_over_midnight(when: str, until: str | None) -> None:
    assert quiet().end_s(at(when)) == (None if until is None else at(until))


def test_or_stay_within_a_day() -> None:
    assert quiet("12:00", "13:30").end_s(at("2026-11-20 13:00")) == at("2026-11-20 13:30")
    assert quiet("12:00", "13:30").end_s(at("2026-11-20 23:00")) is None


def test_they_belong_to_the_day_on_which_they_begin() -> None:
    only_friday = quiet(weekdays=["fri"])
    assert only_friday.end_s(at("2026-11-20 23:00")) == at("2026-11-21 07:00")
    assert only_friday.end_s(at("2026-11-21 06:00")) == at("2026-11-21 07:00")
    assert only_friday.end_s(at("2026-11-21 23:00")) is None


@pytest.mark.parametrize(("night", "hours"), [("2026-03-28", 8), ("2026-10-24", 10), ("2026-11-20", 9)])
def test_a_night_may_have_eight_hours_or_ten(night: str, hours: int) -> None:
    begins_s = at(f"{night} 22:00")
    assert quiet().end_s(begins_s) == begins_s + hours * 3600


def test_an_end_within_the_change_is_met() -> None:
    night_s = at("2026-03-28 23:00")
    assert quiet("22:00", "02:30").end_s(night_s) == at("2026-03-29 03:30"), "the clock leaves 2:30 out"
    night_s = at("2026-10-24 23:00")
    assert quiet("22:00", "02:30").end_s(night_s) == at("2026-10-25 02:30", fold=0), "the first of the two"


def test_without_a_zone_it_is_that_of_the_computer() -> None:
    table = QuietTable.model_validate({"from": "22:00", "to": "07:00"})
    midnight_s = datetime(2026, 11, 20, 23, 0).timestamp()
    assert QuietHours(table).end_s(midnight_s) == datetime(2026, 11, 21, 7, 0).timestamp()


TIMES = st.builds(TimeOfDay, st.integers(0, 23), st.integers(0, 59))
YEAR = st.integers(0, 366 * 24 * 60).map(lambda minutes: at("2026-01-01 00:00") + 60.0 * minutes)


@given(TIMES, TIMES.filter(bool), YEAR, st.sets(st.sampled_from(WEEKDAYS), min_size=1))
def test_whoever_waits_for_the_end_is_let_go_then(
    begins: TimeOfDay, ends: TimeOfDay, when_s: float, days: set[str]
) -> None:
    if begins == ends:
        return
    hours = quiet(str(begins), str(ends), weekdays=sorted(days))
    end_s = hours.end_s(when_s)
    if end_s is None:
        return
    assert when_s < end_s <= when_s + 26 * 3600
    after_s = hours.end_s(end_s)
    assert after_s is None or after_s > end_s, "the next ones may begin at once; they end later"


@given(TIMES, YEAR)
def test_the_next_time_of_day_is_within_a_day(moment: TimeOfDay, when_s: float) -> None:
    found_s = next_moment_s(when_s, moment, BERLIN)
    assert when_s < found_s <= when_s + timedelta(hours=50).total_seconds()
    if moment.hour != 2:
        shown = datetime.fromtimestamp(found_s, BERLIN)
        assert (shown.hour, shown.minute) == tuple(moment)
