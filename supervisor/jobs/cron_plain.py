"""What is no cron expression: `every`, a plain interval, and `at`, one date and time. Text -> whole seconds. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from supervisor.jobs.cron_fields import ScheduleError

_DAY_S: Final = 86_400
_MAX_EVERY_S: Final = 366 * _DAY_S
_YEARS: Final = range(1970, 2200)  # a slip of the pen is outside, and so is what no zone's rules can tell
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = timedelta(seconds=1)
_EVERY: Final = re.compile(r"(?=\d)(?:(\d{1,8})d)?(?:(\d{1,8})h)?(?:(\d{1,8})m)?(?:(\d{1,8})s)?", re.ASCII)
_AT: Final = re.compile(r"(\d{4})-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)?", re.ASCII)


def interval_s(every: str) -> int:
    """Seconds of an interval such as "90s", "1h30m" or "2d".

    Raises:
        ScheduleError: it is none, or not from 1 s to 366 d.
    """
    found = _EVERY.fullmatch(every)
    if found is None:
        reason = f"{every!r} is not an interval; write whole numbers with units, as 90s, 1h30m or 2d"
        raise ScheduleError("every", reason)
    days, hours, minutes, seconds = (int(number or 0) for number in found.groups())
    interval = days * _DAY_S + hours * 3600 + minutes * 60 + seconds
    if not 1 <= interval <= _MAX_EVERY_S:
        raise ScheduleError("every", f"{every!r} is out of range; write one from 1s to 366d")
    return interval


def moment_s(at: str) -> tuple[int, bool]:
    """Seconds of a date and time as in "2027-01-01T00:00+01:00", and whether they are UTC: without an offset they are
    those of the clock on the wall, counted as if it showed UTC.

    Raises:
        ScheduleError: it is no date and time to the minute or second, no such date exists, or not in 1970-2199.
    """
    found = _AT.fullmatch(at)
    if found is None:
        reason = f"{at!r} is not a date and time; write it as 2027-01-01T00:00 or 2027-01-01T00:00:00+01:00"
        raise ScheduleError("at", reason)
    if int(found[1]) not in _YEARS:
        raise ScheduleError("at", f"{at!r}: the year is out of range {_YEARS[0]}-{_YEARS[-1]}; write another year")
    try:
        moment = datetime.fromisoformat(at)
    except ValueError as error:
        raise ScheduleError("at", f"{at!r} does not exist ({error}); change the date or the time") from error
    if moment.utcoffset() is not None:
        return (moment - _EPOCH) // _SECOND, True
    return (moment.replace(tzinfo=UTC) - _EPOCH) // _SECOND, False
