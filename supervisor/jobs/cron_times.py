"""The times of day of a cron rule, in seconds from midnight. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NamedTuple

_NONE: Final = 255
_CACHED: Final = 4096


class Times(NamedTuple):
    """For each number the smallest one of the field that is not below it, or 255. A day's list of times would do as
    well, were it not for a megabyte of every second: this is small whatever is written, and shared."""

    hours: bytes
    minutes: bytes
    seconds: bytes

    def first(self) -> int:
        return self.hours[0] * 3600 + self.minutes[0] * 60 + self.seconds[0]

    def not_before(self, time: int) -> int | None:
        """The first time of the day that is not before `time` (0-86399); None: none is left."""
        hours, minutes, seconds = self
        hour, rest = divmod(time, 3600)
        minute, second = divmod(rest, 60)
        found_second = seconds[second]
        if found_second == _NONE:
            minute += 1
            found_second = seconds[0]
        found_minute = minutes[minute]
        if found_minute != minute:
            found_second = seconds[0]
            if found_minute == _NONE:
                hour += 1
                found_minute = minutes[0]
        found_hour = hours[hour]
        if found_hour == hour:
            return hour * 3600 + found_minute * 60 + found_second
        return None if found_hour == _NONE else found_hour * 3600 + minutes[0] * 60 + seconds[0]


def times(hours: Iterable[int], minutes: Iterable[int], seconds: Iterable[int]) -> Times:
    return Times(_table(frozenset(hours)), _table(frozenset(minutes)), _table(frozenset(seconds)))


@lru_cache(maxsize=_CACHED)
def _table(values: frozenset[int]) -> bytes:
    """One place more than a minute has seconds: after 59 comes 60, which is none."""
    table, following = bytearray(61), _NONE
    for number in range(60, -1, -1):
        if number in values:
            following = number
        table[number] = following
    return bytes(table)
