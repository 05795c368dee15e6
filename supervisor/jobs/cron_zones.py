"""Time zones in whole seconds: names, offsets, what a change of the clock leaves to make up for, and fingerprints.

An instant is in seconds since 1970-01-01T00:00:00Z; a wall time in seconds from the same midnight on the zone's own
clock, so that instant + offset = wall.
"""

from __future__ import annotations

import re
import zoneinfo
from bisect import bisect_left
from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from importlib import resources
from io import BytesIO
from pathlib import Path
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from supervisor.jobs.cron_fields import ScheduleError

BLOCK_BITS: Final = 25
"""Segments are looked up by instant >> BLOCK_BITS, blocks of 388 days."""
_DAY_S: Final = 86_400
_PROBE_S: Final = 4 * _DAY_S  # no zone has two changes within six days, from 1970 on; a test watches that
_RUN_IN_S: Final = 8 * _DAY_S  # whatever is left of an earlier change is over by then
CORRECTION_S: Final = 3 * 3600
_CACHED_ZONES: Final = 1024
_CACHED_BLOCKS: Final = 4096
_LONGEST_NAME: Final = 100
_NAME: Final = re.compile(r"(?!right/|posix/|localtime$|posixrules$)[A-Za-z][\w+-]*(/[\w+-]+)*", re.ASCII)


class Segment(NamedTuple):
    """The instants in [start, end), all of one offset.

    `uncovered` is the first wall time that the clock had neither shown nor skipped before: earlier than start + offset
    after a gap that is made up for, later in hours that are shown again.
    """

    start: int
    end: int
    offset: int
    uncovered: int


class ZoneUnreadable(ScheduleError):
    """The tz database has the zone, and it cannot be read: now, or at all."""


class _Zone(NamedTuple):
    info: ZoneInfo
    fingerprint: str


def check_zone(name: str) -> None:
    """Raises ScheduleError: `name` is not an IANA time zone."""
    _zone(name)


def zone_fingerprint(name: str) -> str:
    """A short hash of the zone's rules as this process has them: it changes when a new tz database changes them.

    Raises:
        ScheduleError: `name` is not an IANA time zone.
    """
    return _zone(name).fingerprint


def new_fingerprint(name: str) -> str:
    """The same of the rules as the tz database has them now, which this process may not use yet: see `forget`.

    Raises:
        ZoneUnreadable: the file cannot be read, for now or for good.
        ScheduleError: `name` is not an IANA time zone.
    """
    return _read(name).fingerprint


def forget() -> None:
    """Have the tz database read anew. What was made of rules that are still the same is kept; another thread that is
    at work finishes by the rules that it began with, and leaves nothing of them behind."""
    _zone.cache_clear()
    _meant.cache_clear()


def segments(name: str, block: int) -> tuple[Segment, ...]:
    """The instants of a block in order, without holes; a segment is cut at its ends.

    Raises:
        ScheduleError: `name` is not an IANA time zone.
    """
    return _segments(_zone(name), block)


@lru_cache(maxsize=_CACHED_BLOCKS)
def _segments(zone: _Zone, block: int) -> tuple[Segment, ...]:
    low, high = block << BLOCK_BITS, (block + 1) << BLOCK_BITS
    found: list[Segment] = []
    uncovered: int | None = None
    for start, end, offset in _constant(zone.info, low - _RUN_IN_S, high):
        uncovered = _uncovered(uncovered, start + offset)
        if end > low:
            cut = max(start, low)
            found.append(Segment(cut, end, offset, uncovered if cut == start else max(uncovered, cut + offset)))
        uncovered = end + offset
    return tuple(found)


def instant_of(wall: int, name: str) -> int:
    """The first instant whose wall time is this one, or else the first after the gap that it falls into."""
    at = wall - 2 * _DAY_S
    while True:
        for start, end, offset, _ in segments(name, at >> BLOCK_BITS):
            if at < end and wall < end + offset:
                return max(wall - offset, start)
        at = ((at >> BLOCK_BITS) + 1) << BLOCK_BITS


def _uncovered(uncovered: int | None, wall: int) -> int:
    """As cron does it: up to three hours are summer time, more is a correction that starts afresh.

    Forward exactly three hours are one, backward they are not: a daemon that wakes each minute finds itself 181
    minutes on, but only 179 back.
    """
    if uncovered is None or wall - uncovered >= CORRECTION_S or uncovered - wall > CORRECTION_S:
        return wall
    return uncovered


def _constant(info: ZoneInfo, start: int, limit: int) -> Iterator[tuple[int, int, int]]:
    """(start, end, offset) of the stretches without a change in [start, limit)."""
    offset = _offset(info, start)
    if info.utcoffset(None) is not None:  # UTC and its like: there is nothing to look for
        yield start, limit, offset
        return
    for known in range(start, limit, _PROBE_S):
        end = min(known + _PROBE_S, limit)
        if _offset(info, end) != offset:
            change = _first_without(info, offset, known, end)
            yield start, change, offset
            start, offset = change, _offset(info, change)
    if start < limit:
        yield start, limit, offset


def _first_without(info: ZoneInfo, offset: int, start: int, end: int) -> int:
    """The first instant in (start, end] with another offset; `end` is one."""
    return start + bisect_left(range(end - start), True, key=lambda passed: _offset(info, start + passed) != offset)


def _offset(info: ZoneInfo, instant: int) -> int:
    offset = datetime.fromtimestamp(instant, info).utcoffset()
    return 0 if offset is None else offset.days * _DAY_S + offset.seconds


@lru_cache(maxsize=_CACHED_ZONES)
def _zone(name: str) -> _Zone:
    return _read(name)


def _read(name: str) -> _Zone:
    """Read here and not by zoneinfo, so that the fingerprint is of the very rules that are used."""
    try:
        data = _file(name) if len(name) <= _LONGEST_NAME and _NAME.fullmatch(name) else None
        if data is not None:
            return _rules(name, data)
    except ValueError:
        pass  # a file that is no zone
    except OSError as error:
        reason = f"the rules of {name!r} cannot be read ({error.strerror}); mend the tz database or take another zone"
        raise ZoneUnreadable("zone", reason) from error
    meant = _meant().get(_simple(name))
    hint = f"write {meant!r}" if meant else "write one such as 'Europe/Berlin' or 'UTC'"
    raise ScheduleError("zone", f"{name!r} is not an IANA time zone; {hint}")


@lru_cache(maxsize=_CACHED_ZONES)
def _rules(name: str, data: bytes) -> _Zone:
    return _Zone(ZoneInfo.from_file(BytesIO(data), key=name), blake2b(data, digest_size=8).hexdigest())


def _file(name: str) -> bytes | None:
    """The system's rules come first, then those that came with the program; None: there are none."""
    for root in zoneinfo.TZPATH:
        path = Path(root, name)
        if path.is_file():
            return path.read_bytes()
    try:
        packaged = resources.files("tzdata").joinpath("zoneinfo", *name.split("/"))
    except ModuleNotFoundError:  # a distribution's package may leave it out, where the system has its own
        return None
    return packaged.read_bytes() if packaged.is_file() else None


@lru_cache(maxsize=1)
def _meant() -> dict[str, str]:
    """What people write -> the zone: another case, a blank, the town alone."""
    names = sorted(filter(_NAME.fullmatch, zoneinfo.available_timezones()), key=lambda name: -name.count("/"))
    return {_simple(part): name for name in names for part in (name.rpartition("/")[2], name)}


def _simple(name: str) -> str:
    return name.strip().lower().replace(" ", "_")
