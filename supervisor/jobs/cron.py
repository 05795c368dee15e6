"""Expression, instant -> next fire: croniter finds the days, this package decides what they mean. Pure.

Daylight saving is Debian cron's and cronie's. A fixed-time job (neither minute nor hour starts with `*`) whose time is
skipped runs once, at the first minute after the gap; in an hour that repeats it runs in the first pass only. Other
jobs follow elapsed time. As there, a step of three hours or more is a correction, and what it skips is not made up for.

`every` fires at the multiples of the interval since 1970-01-01T00:00:00Z, so a restart does not move the due time.

Whole seconds as integers all the way, and nothing to lock: values, and caches that hold what anybody would compute.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from supervisor.jobs.cron_days import DayRule, next_day
from supervisor.jobs.cron_fields import CronFields, ScheduleError, check_text, normalise
from supervisor.jobs.cron_plain import interval_s, moment_s
from supervisor.jobs.cron_times import Times, times
from supervisor.jobs.cron_zones import BLOCK_BITS, check_zone, forget, instant_of, segments

__all__ = ["Schedule", "ScheduleError", "forget_zones", "parse_schedule"]

_CACHED: Final = 16_384
"""Parsed schedules, of less than a kilobyte each: those with `H` differ from job to job."""
_DAY_S: Final = 86_400
_EARLIEST_S: Final = int(datetime(10, 1, 1, tzinfo=UTC).timestamp())
_LATEST_S: Final = int(datetime(9900, 1, 1, tzinfo=UTC).timestamp())
_PATIENCE_S: Final = 60 * 366 * _DAY_S  # rarer than the rarest date
_REFERENCE_S: Final = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp())
_LONGEST_GAP_S: Final = 3 * 3600
_DRAWN: Final = re.compile(r"(?<![A-Z])H(?![A-Z])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Cron:
    times: Times
    days: DayRule | None  # None: every day
    wild: bool

    def after(self, instant: int, zone: str) -> int | None:
        """Stretches of constant offset one by one: the first wall time of a stretch that matches and is still to come.

        What is still to come are, for a wild job, the times that the clock shows there; for a fixed one those that it
        had not shown before, together with those that it skipped to get there, which are due as the stretch begins.
        """
        at, limit = instant + 1, instant + _PATIENCE_S
        looked_from, found = 1, 0  # no match lies in [looked_from, found)
        while at < limit:
            for start, end, offset, uncovered in segments(zone, at >> BLOCK_BITS):
                if at >= end:
                    continue
                first = start + offset if self.wild else uncovered
                if at > start and first < at + offset:
                    first = at + offset
                if not looked_from <= first <= found:
                    found = self._match(first)
                looked_from = first
                if found < end + offset:
                    return max(found - offset, start)
                at = end
        return None

    def _match(self, wall: int) -> int:
        """The first matching wall time that is not before this one."""
        day, time = divmod(wall, _DAY_S)
        matching = day if self.days is None else next_day(self.days, day)
        if matching == day:
            found = self.times.not_before(time)
            if found is not None:
                return day * _DAY_S + found
            matching = day + 1 if self.days is None else next_day(self.days, day + 1)
        return matching * _DAY_S + self.times.first()


@dataclass(frozen=True, slots=True)
class _Every:
    interval: int

    def after(self, instant: int, _zone: str) -> int:
        return (instant // self.interval + 1) * self.interval


@dataclass(frozen=True, slots=True)
class _Once:
    moment: int
    is_utc: bool  # or else of the zone's clock, whose rules may change until then

    def after(self, instant: int, zone: str) -> int | None:
        fire = self.moment if self.is_utc else instant_of(self.moment, zone)
        return fire if instant < fire else None


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a job is due. Built by `parse_schedule`; two are equal when they fire alike for the same reason."""

    text: str  # as written; "every 90s" for a plain interval, "at 2027-01-01T00:00" for once
    zone: str
    seconds: bool
    _rule: _Cron | _Every | _Once | None = field(repr=False)  # None: @reboot

    @property
    def on_start(self) -> bool:
        """Due once whenever the daemon starts, and never by the clock."""
        return self._rule is None

    @property
    def once(self) -> bool:
        """Due at one instant and never again."""
        return isinstance(self._rule, _Once)

    def next_ms(self, after_ms: int) -> int | None:
        """The first fire strictly after the instant, both in UTC milliseconds; None: @reboot, or never again.

        The calendar begins in the year 10 and ends in 9900.

        Raises:
            ScheduleError: the tz database was read anew, and knows the zone no more.
        """
        if self._rule is None or after_ms >= _LATEST_S * 1000:
            return None
        # Fires fall on whole seconds, so the first one after 12:00:00.7 is the first one after 12:00:00.
        instant = after_ms // 1000
        fire = self._rule.after(instant if instant > _EARLIEST_S else _EARLIEST_S, self.zone)
        return None if fire is None else fire * 1000


def parse_schedule(
    text: str | None,
    *,
    zone: str = "UTC",
    seconds: bool = False,
    identity: str = "",
    every: str | None = None,
    at: str | None = None,
) -> Schedule:
    """Exactly one of `text`, a cron expression or @name; `every`, an interval such as "90s" or "1h30m", from 1 s to
    366 d; and `at`, a date and time such as "2027-01-01T00:00+01:00".

    `zone` is an IANA name; it is the clock of an expression and of `at` without an offset. With `seconds` the
    expression has six fields, seconds first. `identity` is what `H` draws from: pass what names the job for good.
    Equal declarations give the same object.

    Raises:
        ScheduleError: what is wrong, where, and how to write it; also for what would never fire.
    """
    if [text, every, at].count(None) != 2:
        raise ScheduleError("expression", "write exactly one of a cron expression, every and at")
    if every is not None:
        return _every(check_text(every, "every"), zone, seconds)
    if at is not None:
        return _at(check_text(at, "at"), zone, seconds)
    expression = check_text(text or "")
    return _cron(expression, zone, seconds, identity if _DRAWN.search(expression) else "")


def forget_zones() -> None:
    """Have the tz database read anew: it may have changed."""
    forget()
    for cache in (_every, _at, _cron):
        cache.cache_clear()


@lru_cache(maxsize=_CACHED)
def _every(text: str, zone: str, seconds: bool) -> Schedule:
    check_zone(zone)
    return Schedule(f"every {text}", zone, seconds, _Every(interval_s(text)))


@lru_cache(maxsize=_CACHED)
def _at(text: str, zone: str, seconds: bool) -> Schedule:
    check_zone(zone)
    return Schedule(f"at {text}", zone, seconds, _Once(*moment_s(text)))


@lru_cache(maxsize=_CACHED)
def _cron(text: str, zone: str, seconds: bool, identity: str) -> Schedule:
    check_zone(zone)
    if text.lower() == "@reboot":
        return Schedule(text, zone, seconds, None)
    fields = normalise(text, seconds=seconds, identity=identity)
    rule = _Cron(times(fields.hours, fields.minutes, fields.seconds), _day_rule(fields), fields.wild)
    _refuse_never(fields, rule, zone)
    return Schedule(text, zone, seconds, rule)


def _day_rule(fields: CronFields) -> DayRule | None:
    months = tuple(sorted(fields.months))
    if (fields.day, len(months), fields.weekday) == ("*", 12, "*"):
        return None
    return DayRule(fields.day, months, fields.weekday)


def _refuse_never(fields: CronFields, rule: _Cron, zone: str) -> None:
    """Dates that no year has are refused by now. What is left are jobs that follow elapsed time and whose every time
    is one that the clock skips, as `*/5 2 * 3 0#5` in Europe: only in chosen months, and within the length of a gap."""
    span_h = max(fields.hours) - min(fields.hours)
    if not rule.wild or len(fields.months) == 12 or span_h * 3600 > _LONGEST_GAP_S:
        return
    if rule.after(_REFERENCE_S, zone) is None:
        reason = f"it never fires, the clock of {zone} skips that time on every such day; name the minute and the hour"
        raise ScheduleError("expression", f"{reason} without '*', change the hour or the day")
