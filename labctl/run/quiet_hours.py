"""When the quiet hours of a laboratory end, by its clock on the wall, also on the nights when that is changed."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta, tzinfo

from labctl.config.times import WEEKDAYS, QuietTable, TimeOfDay, zone_of


class QuietHours:
    """The quiet hours of a campaign.

    :param table: From when to when, and on which days they begin.
    :param time_zone: Name of the time zone; that of the computer if None.
    """

    def __init__(self, table: QuietTable, time_zone: str | None = None) -> None:
        self._table = table
        self._zone = zone_of(time_zone) if time_zone is not None else None

    def end_s(self, wall_s: float) -> float | None:
        """Get the Unix time at which the quiet hours end that hold at ``wall_s``; None if none do.

        Hours by the clock: they are an hour shorter or longer in the night when it is changed. A time that the clock
        leaves out counts as the moment at which it is changed, or shortly after; of one that it shows twice the first
        is meant.
        """
        today = datetime.fromtimestamp(wall_s, self._zone).date()
        over_midnight = self._table.ends <= self._table.begins
        for day in (today - timedelta(days=1), today):
            if WEEKDAYS[day.weekday()] not in self._table.weekdays:
                continue
            begins_s = moment_s(day, self._table.begins, self._zone)
            ends_s = moment_s(day + timedelta(days=over_midnight), self._table.ends, self._zone)
            if begins_s <= wall_s < ends_s:
                return ends_s
        return None


def moment_s(day: date, at: TimeOfDay, zone: tzinfo | None) -> float:
    """Get the Unix time of a time by the clock; that of the computer if ``zone`` is None."""
    return datetime.combine(day, time(at.hour, at.minute), zone).timestamp()


def next_moment_s(after_s: float, at: TimeOfDay, zone: tzinfo | None) -> float:
    """Get the Unix time at which the clock next shows a time, later than ``after_s``."""
    day = datetime.fromtimestamp(after_s, zone).date()
    for days in range(-1, 4):
        found_s = moment_s(day + timedelta(days=days), at, zone)
        if found_s > after_s:
            return found_s
    raise ValueError(f"no {at} within four days after {after_s}")
