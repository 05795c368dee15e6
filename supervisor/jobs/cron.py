"""Expression, instant -> next fire: croniter finds matching wall times, this module decides what they mean. Pure.

Daylight saving is Debian cron's and cronie's. A fixed-time job (neither minute nor hour starts with `*`) whose time is
skipped runs once, at the first minute after the gap; in an hour that repeats it runs in the first pass only. Other
jobs follow elapsed time. As there, a step of three hours or more is a correction, and what it skips is not made up for.

`every` fires at the multiples of the interval since 1970-01-01T00:00:00Z, so a restart does not move the due time.
"""

from __future__ import annotations

import copy
import re
from bisect import bisect_left
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final
from zoneinfo import ZoneInfo

from croniter import croniter

from supervisor.jobs.cron_fields import CronFields, ScheduleError, check_text, normalise

__all__ = ["Schedule", "ScheduleError", "parse_schedule"]

_CACHED: Final = 1024
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = timedelta(seconds=1)
_DAY: Final = timedelta(days=1)
_CORRECTION: Final = timedelta(hours=3)
_MIN_EVERY: Final = timedelta(seconds=1)
_MAX_EVERY: Final = timedelta(days=366)
_UTC_NAMES: Final = frozenset({"UTC", "Etc/UTC", "Zulu", "Etc/Zulu", "Universal", "Etc/Universal", "UCT", "Etc/UCT"})
_ZONE_NAME: Final = re.compile(r"(?!right/|posix/|localtime$|posixrules$)[A-Za-z][\w+-]*(/[\w+-]+)*", re.ASCII)
_EVERY: Final = re.compile(r"(?=\d)(?:(\d{1,8})d)?(?:(\d{1,8})h)?(?:(\d{1,8})m)?(?:(\d{1,8})s)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a job is due. Built by `parse_schedule`; two are equal when they fire alike for the same reason."""

    text: str  # as written; "every 90s" for a plain interval
    zone: str
    seconds: bool
    _rule: CronFields | timedelta | None = field(repr=False)  # None: @reboot

    @property
    def on_start(self) -> bool:
        """Due once whenever the daemon starts, and never by the clock."""
        return self._rule is None

    def next_after(self, instant: datetime) -> datetime | None:
        """The first fire strictly after `instant` (aware, any zone), in UTC; None for @reboot only.

        Raises:
            ValueError: the instant is naive.
        """
        if self._rule is None:
            return None
        start = _whole_second(instant)
        if isinstance(self._rule, timedelta):
            return _EPOCH + ((start - _EPOCH) // self._rule + 1) * self._rule
        if self.zone in _UTC_NAMES:
            return _match_after(self._rule, start.replace(tzinfo=None)).replace(tzinfo=UTC)
        following = _next_wild if self._rule.wild else _next_fixed
        return following(self._rule, _zone(self.zone), start)


def parse_schedule(
    text: str | None, *, zone: str = "UTC", seconds: bool = False, identity: str = "", every: str | None = None
) -> Schedule:
    """A cron expression or @name, or else `every`: a plain interval such as "90s" or "1h30m", from 1 s to 366 d.

    `zone` is an IANA name. With `seconds` the expression has six fields, seconds first. `identity` is what `H` draws
    from: pass what names the job for good.

    Raises:
        ScheduleError: what is wrong, where, and how to write it; also for what would never fire.
    """
    if (text is None) == (every is None):
        raise ScheduleError("expression", "write exactly one of a cron expression and every")
    if every is not None:
        _zone(zone)
        return Schedule(f"every {every.strip()}", zone, seconds, _interval(every))
    return _cron(text or "", zone, seconds, identity)


@lru_cache(maxsize=_CACHED)
def _cron(text: str, zone: str, seconds: bool, identity: str) -> Schedule:
    _zone(zone)
    expression = check_text(text)
    if expression.lower() == "@reboot":
        return Schedule(expression, zone, seconds, None)
    rule = normalise(expression, seconds=seconds, identity=identity)
    _refuse_never(rule)
    return Schedule(expression, zone, seconds, rule)


def _refuse_never(rule: CronFields) -> None:
    """The fields are checked by now; this catches what our check and croniter might see differently."""
    try:
        _match_after(rule, datetime(2024, 1, 1))
    except ValueError as error:
        raise ScheduleError("expression", f"it never fires ({error}); change the day or the month") from error


def _interval(every: str) -> timedelta:
    text = check_text(every, "every")
    found = _EVERY.fullmatch(text)
    if found is None:
        raise ScheduleError(
            "every", f"{text!r} is not an interval; write whole numbers with units, as 90s, 1h30m or 2d"
        )
    days, hours, minutes, seconds = (int(number or 0) for number in found.groups())
    interval = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    if not _MIN_EVERY <= interval <= _MAX_EVERY:
        raise ScheduleError("every", f"{text!r} is out of range 1s-366d")
    return interval


@lru_cache(maxsize=_CACHED)
def _zone(name: str) -> ZoneInfo:
    """zoneinfo keeps eight zones alive by itself; reading one again costs more than a whole next_after."""
    try:
        if _ZONE_NAME.fullmatch(name):
            return ZoneInfo(name)
    except (LookupError, OSError, ValueError):
        pass  # unknown, a folder ("Europe"), or a file that is no zone
    raise ScheduleError("zone", f"{name!r} is not an IANA time zone; write one such as 'Europe/Berlin' or 'UTC'")


def _whole_second(instant: datetime) -> datetime:
    """Fires fall on whole seconds, so the first one after 12:00:00.7 is the first one after 12:00:00."""
    if instant.utcoffset() is None:
        raise ValueError(f"{instant} has no time zone; pass an aware datetime")
    return instant.astimezone(UTC).replace(microsecond=0)


@lru_cache(maxsize=_CACHED)
def _matcher(text: str) -> Any:
    return croniter(text, 0, implement_cron_bug=True, second_at_beginning=text.count(" ") == 5)


def _match_after(rule: CronFields, wall: datetime) -> datetime:
    """The first matching wall time after this one; both naive, so croniter sees no zone and applies no rule of its own.

    A croniter carries its position along, which makes a shared one wrong among threads; each call has a copy.
    """
    cursor = copy.copy(_matcher(rule.text))
    cursor.set_current(wall)
    found: datetime = cursor.get_next(datetime)
    return found


def _next_fixed(rule: CronFields, zone: ZoneInfo, start: datetime) -> datetime:
    """Wall times in order, each at its first occurrence; a skipped one moves to the end of its gap.

    That order is also the order of instants, so the first match past the wall time of `start` is the answer.
    """
    wall = _last_wall_behind(zone, start)
    while True:
        wall = _match_after(rule, wall)
        before, after = _offset(wall.replace(tzinfo=zone)), _offset(wall.replace(tzinfo=zone, fold=1))
        if after <= before:  # not in a gap; `before` is the offset of the first pass
            return (wall - before).replace(tzinfo=UTC)
        end = _change(zone, (wall - after).replace(tzinfo=UTC), (wall - before).replace(tzinfo=UTC))
        if after - before < _CORRECTION:
            return end
        wall = _just_before(end, after)


def _last_wall_behind(zone: ZoneInfo, start: datetime) -> datetime:
    """The latest wall time whose (first) occurrence is not after `start`."""
    local = start.astimezone(zone)
    if not local.fold:
        return local.replace(tzinfo=None)
    first_pass = _offset(local.replace(fold=0))
    turned_back = _change(zone, start - (first_pass - _offset(local)), start)
    return _just_before(turned_back, first_pass)


def _next_wild(rule: CronFields, zone: ZoneInfo, start: datetime) -> datetime:
    """One stretch of constant offset after the other: a wall time counts wherever the clock really shows it."""
    offset = _offset_at(zone, start)
    wall = start.replace(tzinfo=None) + offset
    while True:
        fire = (_match_after(rule, wall) - offset).replace(tzinfo=UTC)
        change = _first_change(zone, start, fire)
        if change is None:
            return fire
        start, offset = change, _offset_at(zone, change)
        wall = _just_before(change, offset)


def _first_change(zone: ZoneInfo, start: datetime, end: datetime) -> datetime | None:
    """The change of offset in (start, end] that matters for a match at `end`, if any.

    No match lies between the two walls, so a change in the middle alone gives none; one can only show up where a clock
    is turned back within a day of `start` or of `end`. No zone changes twice in a day.
    """
    offset, known = _offset_at(zone, start), start
    for probe in (min(start + _DAY, end), max(end - _DAY, start), end):
        if _offset_at(zone, probe) != offset:
            return _change(zone, known, probe)
        known = probe
    return None


def _change(zone: ZoneInfo, start: datetime, end: datetime) -> datetime:
    """The second at which the offset leaves that of `start`; at `end` it has."""
    offset = _offset_at(zone, start)
    seconds = range(int((end - start).total_seconds()))
    return start + bisect_left(seconds, True, key=lambda s: _offset_at(zone, start + s * _SECOND) != offset) * _SECOND


def _just_before(instant: datetime, offset: timedelta) -> datetime:
    return instant.replace(tzinfo=None) + offset - _SECOND


def _offset_at(zone: ZoneInfo, instant: datetime) -> timedelta:
    return _offset(instant.astimezone(zone))


def _offset(local: datetime) -> timedelta:
    return local.utcoffset() or timedelta()
