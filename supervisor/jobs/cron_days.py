"""Which days a cron rule means. Pure.

croniter computes the days of each field alone, on naive midnights: no zone, no other field, nothing left to interpret.
How the two day fields go together is decided here: either is enough, unless one of them starts with a star.

A month's answer depends on its length and on the weekday it begins with only, so 28 months stand for all.
"""

from __future__ import annotations

from calendar import monthrange
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple

from croniter import croniter

from supervisor.jobs.cron_fields import ScheduleError

_EPOCH: Final = date(1970, 1, 1).toordinal()
_YEARS: Final = 50  # the rarest that ever comes, 29 February on one weekday, takes 40 at the most
_LONGEST: Final = 31
_CACHED_RULES: Final = 4096
_CACHED_DAYS: Final = 16_384


class DayRule(NamedTuple):
    """Normalised fields. Days and weekdays that start with a star must both match, others need one of the two."""

    day: str
    months: tuple[int, ...]  # in order
    weekday: str


@lru_cache(maxsize=_CACHED_DAYS)
def next_day(rule: DayRule, day: int) -> int:
    """The first matching day from `day` on, both counted from 1970-01-01.

    Raises:
        ScheduleError: there is none in fifty years.
    """
    start = date.fromordinal(day + _EPOCH)
    for year in range(start.year, start.year + _YEARS):
        for month in rule.months:
            if month < start.month and year == start.year:
                continue
            before = date(year, month, 1).toordinal() - _EPOCH - 1  # day n of the month is before + n
            from_now = max(day - before, 1)
            left = _month(rule, year, month) >> from_now
            if left:
                return before + from_now + (left & -left).bit_length() - 1
    raise ScheduleError("expression", "it never comes; change the day or the month")


@lru_cache(maxsize=_CACHED_DAYS)
def _month(rule: DayRule, year: int, month: int) -> int:
    weekday, length = monthrange(year, month)
    return _matching(rule.day, rule.weekday, length, (weekday + 1) % 7)


@lru_cache(maxsize=_CACHED_RULES)
def _matching(day: str, weekday: str, length: int, first: int) -> int:
    """Bit n stands for day n of a month of this length that begins on that weekday, 0 for Sunday."""
    days = _days_of_month(day, length if day == "L" else _LONGEST)
    weekdays = _nth_weekdays(weekday, first) if "#" in weekday else _weekdays(weekday, first)
    both = day.startswith("*") or weekday.startswith("*")
    return (days & weekdays if both else days | weekdays) & ((2 << length) - 2)


@lru_cache(maxsize=_CACHED_RULES)
def _days_of_month(day: str, length: int) -> int:
    if day == "*":
        return (2 << _LONGEST) - 2
    return _bits(f"0 0 {day} * *", _month_like(length), length)


@lru_cache(maxsize=_CACHED_RULES)
def _weekdays(weekday: str, first: int) -> int:
    if weekday == "*":
        return (2 << _LONGEST) - 2
    week = _bits(f"0 0 * * {weekday}", _month_like(_LONGEST, first), 7)
    return sum(week << 7 * number for number in range(5))


@lru_cache(maxsize=_CACHED_RULES)
def _nth_weekdays(weekday: str, first: int) -> int:
    return _bits(f"0 0 * * {weekday}", _month_like(_LONGEST, first), _LONGEST)


def _month_like(length: int, first: int | None = None) -> date:
    """The first day of a month of this length that begins on that weekday, or on any."""
    months = ((year, month) for year in range(2000, 2028) for month in range(1, 13))
    return next(
        date(year, month, 1)
        for year, month in months
        for weekday, days in (monthrange(year, month),)
        if days == length and first in (None, (weekday + 1) % 7)
    )


def _bits(text: str, start: date, count: int) -> int:
    """Bit n stands for the nth day from `start` on."""
    midnight = datetime(start.year, start.month, start.day)
    cursor, end, found = croniter(text, midnight - timedelta(days=1)), midnight + timedelta(days=count), 0
    while (match := cursor.get_next(datetime)) < end:
        found |= 2 << (match - midnight).days
    return found
