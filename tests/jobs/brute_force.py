"""Cron as a daemon does it that looks at the clock again and again. Knows nothing of croniter or of our own code.

The zone's changes are read from its file here and its rules for the years after it are asked of `zoneinfo` by the hour,
so that not even the way to find a change is shared with what is tested.
"""

from __future__ import annotations

import struct
import zoneinfo
from bisect import bisect_right
from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from importlib import resources
from pathlib import Path
from random import Random

EPOCH = date(1970, 1, 1)
DAY = 86_400


# -- the zone ----------------------------------------------------------------------------------------------------------


def zone_file(name: str) -> bytes:
    for root in zoneinfo.TZPATH:
        path = Path(root, name)
        if path.is_file():
            return path.read_bytes()
    return resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).read_bytes()


@cache
def written_changes(name: str) -> tuple[list[int], list[int]]:
    """(instants, offsets) of a TZif file's 64-bit part (RFC 9636): the offset holds from its instant on."""
    data = zone_file(name)
    isut, isstd, leap, times, types, chars = struct.unpack(">20x6I", data[:44])
    data = data[44 + times * 5 + types * 6 + chars + leap * 8 + isstd + isut :]
    isut, isstd, leap, times, types, chars = struct.unpack(">20x6I", data[:44])
    instants = struct.unpack(f">{times}q", data[44 : 44 + 8 * times])
    kinds = data[44 + 8 * times : 44 + 9 * times]
    table = data[44 + 9 * times : 44 + 9 * times + 6 * types]
    offsets = [struct.unpack(">i2x", table[6 * n : 6 * n + 6])[0] for n in range(types)]
    return [-(10**15), *instants], [offsets[0], *(offsets[kind] for kind in kinds)]


@cache
def changes(name: str, year: int) -> list[tuple[int, int, int]]:
    """(instant, offset before, offset after) of every change in a year, UTC: the written ones, and day by day, hour by
    hour, minute by minute and second by second what the rules say for the time after them."""
    start, end = seconds(datetime(year, 1, 1)), seconds(datetime(year + 1, 1, 1))
    instants, offsets = written_changes(name)
    found = [
        (at, offsets[n], offsets[n + 1])
        for n, at in enumerate(instants[1:])
        if start <= at < end and offsets[n] != offsets[n + 1]
    ]
    info, known = zoneinfo.ZoneInfo(name), max(start, instants[-1])
    while known < end:
        before = asked(info, known)
        if asked(info, known + DAY) == before:
            known += DAY
            continue
        for step in (3600, 60, 1):
            while asked(info, known + step) == before:
                known += step
        known += 1
        found.append((known, before, asked(info, known)))
    return [change for change in found if change[0] < end]


def asked(info: zoneinfo.ZoneInfo, instant: int) -> int:
    return int(datetime.fromtimestamp(instant, info).utcoffset().total_seconds())


class Stretches:
    """A zone's stretches of one offset from one instant to another, for looking up and for walking."""

    def __init__(self, name: str, start: int, end: int) -> None:
        years = range(datetime.fromtimestamp(start, UTC).year, datetime.fromtimestamp(end, UTC).year + 1)
        found = [change for year in years for change in changes(name, year) if start < change[0] < end]
        self.starts = [start, *(at for at, _, _ in found)]
        self.ends = [*self.starts[1:], end]
        self.offsets = [asked(zoneinfo.ZoneInfo(name), start), *(after for _, _, after in found)]

    def wall(self, instant: int) -> int:
        return instant + self.offsets[bisect_right(self.starts, instant) - 1]

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        return zip(self.starts, self.ends, self.offsets, strict=True)


def seconds(naive: datetime) -> int:
    return int(naive.replace(tzinfo=UTC).timestamp())


# -- the expression ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Field:
    """Text and meaning, made side by side so that no parser is needed."""

    text: str
    values: frozenset[int]

    @property
    def star(self) -> bool:
        return self.text.startswith("*")


def field(random: Random, low: int, high: int, reach: int | None = None) -> Field:
    """Numbers are drawn up to `reach`, which makes some of them likelier."""

    def number() -> int:
        return random.randint(low, high if reach is None else reach)

    step, one, other = random.randint(1, 35), number(), number()
    first, last = sorted((one, other))
    everything = range(low, high + 1)
    text, values = random.choice(
        [
            ("*", everything),
            ("*", everything),
            (f"*/{step}", everything[::step]),
            (f"{one}", [one]),
            (f"{one},{other}", [one, other]),
            (f"{first}-{last}", range(first, last + 1)),
            (f"{first}-{last}/{step}", range(first, last + 1, step)),
            (f"{one}/{step}", range(one, high + 1, step)),
            (f"{one},*/{step}", [one, *everything[::step]]),
            (f"*/{step},{one}", [one, *everything[::step]]),
        ]
    )
    return Field(text, frozenset(values))


@dataclass(frozen=True)
class Cron:
    second: Field | None
    minute: Field
    hour: Field
    day: Field
    month: Field
    weekday: Field

    @property
    def text(self) -> str:
        fields = (self.second, self.minute, self.hour, self.day, self.month, self.weekday)
        return " ".join(part.text for part in fields if part)

    @property
    def wild(self) -> bool:
        return self.minute.star or self.hour.star

    def on(self, day: int) -> bool:
        """Days are counted from 1970-01-01."""
        at = EPOCH + timedelta(days=day)
        return at.month in self.month.values and self.day_of(at)

    def day_of(self, at: date) -> bool:
        weekday = at.isoweekday() % 7
        if self.day.text == "L":
            return at.day == monthrange(at.year, at.month)[1]
        if "#" in self.weekday.text:
            return weekday in self.weekday.values and (at.day - 1) // 7 + 1 == int(self.weekday.text[-1])
        both = at.day in self.day.values, weekday in self.weekday.values
        return all(both) if self.day.star or self.weekday.star else any(both)

    def times(self) -> frozenset[int]:
        """Seconds of the day."""
        within = self.second.values if self.second else (0,)
        return frozenset(h * 3600 + m * 60 + s for h in self.hour.values for m in self.minute.values for s in within)


def cron(random: Random, *, with_seconds: bool = False, hours: int | None = None, days: bool = True) -> Cron:
    """`hours`: no number of hours beyond it is drawn. Without `days` most days match."""
    any_day, any_month = Field("*", frozenset(range(1, 32))), Field("*", frozenset(range(1, 13)))
    any_weekday = Field("*", frozenset(range(7)))
    day, weekday = field(random, 1, 31), field(random, 0, 6)
    special = random.randrange(12)
    if special == 0:
        day, weekday = Field("L", frozenset()), any_weekday
    elif special == 1:
        drawn = random.randrange(7)
        day, weekday = any_day, Field(f"{drawn}#{random.randint(1, 5)}", frozenset({drawn}))
    return Cron(
        second=field(random, 0, 59) if with_seconds else None,
        minute=field(random, 0, 59),
        hour=field(random, 0, 23, reach=hours),
        day=day if days else any_day,
        month=field(random, 1, 12) if days else any_month,
        weekday=weekday if days else any_weekday,
    )


# -- the daemon --------------------------------------------------------------------------------------------------------


def simulated(rule: Cron, stretches: Stretches, step: int) -> list[int]:
    """Debian's cron: it wakes at each minute (or second) of the wall clock, and at once when the clock changes, and
    compares what the clock shows with the furthest that it has caught up with."""
    on, times, wild, hours = cache(rule.on), rule.times(), rule.wild, 3 * 3600 // step
    runs: list[int] = []
    furthest: int | None = None

    def due(wall: int) -> bool:
        return wall % DAY in times and on(wall // DAY)

    for start, end, offset in stretches:
        whole = start + (-start - offset) % step
        wakes = range(whole, end, step) if whole == start else [start, *range(whole, end, step)]
        for at in wakes:
            wall = at + offset
            now = wall // step
            ahead = 1 if furthest is None else now - furthest
            run = wall % step == 0 and due(wall)
            if -hours < ahead <= 0:  # turned back: what follows elapsed time goes on, the rest has had its run
                run = run and wild
            else:
                if 1 < ahead <= hours and not wild:  # turned forward: one run for all that was skipped
                    run = run or any(due(n * step) for n in range((furthest or now) + 1, now))
                furthest = now
            if run:
                runs.append(at)
    return runs


def slow_next(rule: Cron, zone: str, start: int, days: int) -> int | None:
    """The first run after an instant, to the minute: each day that matches is simulated with those around it. None if
    there is none in so many days."""
    for day in range(start // DAY - 2, start // DAY + days):
        if rule.on(day):
            window = Stretches(zone, (day - 2) * DAY, (day + 3) * DAY)
            later = [at for at in simulated(rule, window, 60) if at > start]
            if later:
                return later[0]
    return None
