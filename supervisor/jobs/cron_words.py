"""A schedule in English, exact enough to be read back: equal words mean equal wall times. Pure.

Words tell which times of the clock match. What a change of the clock does to them is `cron_preview`'s to say.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Final, NamedTuple

from supervisor.jobs.cron_fields import CronFields, check_text, normalise

WEEKDAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS: Final = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
AT_START: Final = "once at each start of plugind"
_LISTED: Final = 6
"""So many times of day are named one by one."""
_PROGRESSION: Final = 5
"""From so many on, evenly spaced numbers are told by their step."""
_SHORTEST: Final = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_IF_ANY: Final = " where there is one"
_UNITS: Final = {"d": "day", "h": "hour", "m": "minute", "s": "second"}


class _Rule(NamedTuple):
    """The values of each field, in order. `days` is empty for L, `weekdays` for N#K."""

    seconds: list[int]
    minutes: list[int]
    hours: list[int]
    days: list[int]
    months: list[int]
    weekdays: list[int]  # 1 is Monday, 7 Sunday
    nth: list[tuple[int, int]]  # weekday, which one of the month
    either: bool  # neither day field starts with a star: one of the two is enough


def cron_words(text: str, *, seconds: bool = False, identity: str = "") -> str:
    """As in "at 02:30 on Monday to Friday"; `H` counts as what it draws from `identity`.

    Raises:
        ScheduleError: the expression is wrong.
    """
    expression = check_text(text)
    if expression.lower() == "@reboot":
        return AT_START
    rule = _rule(normalise(expression, seconds=seconds, identity=identity))
    times, days = _times(rule), _days(rule)
    if not days:
        return times if len(rule.hours) == 24 else f"{times} every day"
    return f"{times} {days}" if _is_listed(rule) else f"{times}, {days}"


def every_words(every: str) -> str:
    """As in "every 1 hour 30 minutes, counted from 1970-01-01 00:00 UTC"; `every` is known to be right."""
    parts = [(int(number), _UNITS[unit]) for number, unit in re.findall(r"(\d+)([dhms])", every)]
    span = " ".join(_counted(number, unit) for number, unit in parts if number)
    return f"every {span}, counted from 1970-01-01 00:00 UTC"


def at_words(at: str) -> str:
    """As in "once, on Fri 1 Jan 2027 at 00:00 (+01:00)": as written, so without an offset where none was."""
    instant = datetime.fromisoformat(at.strip())
    offset = f" ({offset_text(instant)})" if instant.utcoffset() is not None else ""
    return f"once, on {date_text(instant)} at {clock_text(instant)}{offset}"


def date_text(day: datetime) -> str:
    """As in "Sun 29 Mar 2026", in any locale."""
    return f"{WEEKDAYS[day.weekday()][:3]} {day.day} {MONTHS[day.month - 1][:3]} {day.year}"


def clock_text(time: datetime) -> str:
    """As in "02:30", with seconds if there are any."""
    return f"{time:%H:%M:%S}" if time.second else f"{time:%H:%M}"


def offset_text(time: datetime) -> str:
    """As in "+02:00"; empty for a naive time."""
    return time.isoformat()[len(time.replace(tzinfo=None).isoformat()) :]


def joined(parts: Sequence[str]) -> str:
    """As in "a", "a and b", "a, b and c"."""
    return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else "".join(parts)


def _rule(fields: CronFields) -> _Rule:
    is_nth = "#" in fields.weekday
    return _Rule(
        seconds=sorted(fields.seconds),
        minutes=sorted(fields.minutes),
        hours=sorted(fields.hours),
        days=[] if fields.day == "L" else _values(fields.day, 1, 31),
        months=sorted(fields.months),
        weekdays=[] if is_nth else sorted(value or 7 for value in _values(fields.weekday, 0, 6)),
        nth=sorted({_nth(item) for item in fields.weekday.split(",")}) if is_nth else [],
        either=not fields.day.startswith("*") and not fields.weekday.startswith("*"),
    )


def _values(text: str, low: int, high: int) -> list[int]:
    """Of a day field of numbers and stars, which is all that is left of one that is checked and normalised."""
    found: set[int] = set()
    for item in text.split(","):
        first, _, step = item.partition("/")
        found |= set(range(low, high + 1, int(step or 1))) if first == "*" else {int(first)}
    return sorted(found)


def _nth(item: str) -> tuple[int, int]:
    weekday, nth = item.split("#")
    return int(weekday) or 7, int(nth)


def _is_listed(rule: _Rule) -> bool:
    return len(rule.seconds) * len(rule.minutes) * len(rule.hours) <= _LISTED


def _times(rule: _Rule) -> str:
    if _is_listed(rule):
        return f"at {joined([_clock(rule, h, m, s) for h in rule.hours for m in rule.minutes for s in rule.seconds])}"
    return _span(rule) or _of_hours(rule, _of_minutes(rule))


def _clock(rule: _Rule, hour: int, minute: int, second: int) -> str:
    return f"{hour:02}:{minute:02}:{second:02}" if any(rule.seconds) else f"{hour:02}:{minute:02}"


def _span(rule: _Rule) -> str:
    """Evenly spaced times of a part of the day, as in "every 15 minutes from 09:00 to 17:45"; empty if they are not."""
    if len(rule.seconds) > 1 or len(rule.hours) == 24:
        return ""
    step_m, step_h = _step(rule.minutes), _step(rule.hours)
    if len(rule.minutes) == 1 and step_h:
        size = "hour" if step_h == 1 else f"{step_h} hours"
    elif step_m and step_m * len(rule.minutes) == 60 and step_h in {1, None} and (step_h or len(rule.hours) == 1):
        size = "minute" if step_m == 1 else f"{step_m} minutes"
    else:
        return ""
    first = _clock(rule, rule.hours[0], rule.minutes[0], rule.seconds[0])
    last = _clock(rule, rule.hours[-1], rule.minutes[-1], rule.seconds[0])
    return f"every {size} from {first} to {last}"


def _of_minutes(rule: _Rule) -> str:
    """The times within an hour."""
    if rule.seconds == [0]:
        return _often("minute", rule.minutes)
    often = _often("second", rule.seconds)
    if len(rule.minutes) < 60:
        return f"{often} {'of' if often.startswith('at') else 'in'} {_numbered('minute', rule.minutes)}"
    return f"{often} of every minute" if often.startswith("at") else often


def _of_hours(rule: _Rule, within: str) -> str:
    """Those times in the hours of the rule. `within` says minutes unless there are seconds in every minute."""
    named = len(rule.minutes) < 60 and (rule.seconds != [0] or within.startswith("at"))
    if len(rule.hours) == 24:
        return f"{within} of every hour" if named else within
    hours = _numbered("hour", rule.hours)
    return f"{within} {'of' if named else 'in'} {hours if hours.startswith('every') else f'the {hours}'}"


def _often(unit: str, values: list[int]) -> str:
    """As in "every minute", "every 15 minutes", "at minutes 5 and 35"."""
    step = _step(values)
    if step and values[0] == 0 and step * len(values) == 60:
        return f"every {unit}" if step == 1 else f"every {step} {unit}s"
    return f"at {_numbered(unit, values)}"


def _numbered(unit: str, values: list[int]) -> str:
    """As in "minute 5", "minutes 5 to 9 and 30", "every 7th minute from 0 to 56"."""
    if step := _long_step(values):
        return f"every {_ordinal(step)} {unit} from {values[0]} to {values[-1]}"
    return f"{unit}{'s' if len(values) > 1 else ''} {_series(values, str)}"


def _step(values: list[int]) -> int | None:
    """The distance of evenly spaced values; None if they are not, or there is only one."""
    steps = {after - before for before, after in pairwise(values)}
    return steps.pop() if len(steps) == 1 else None


def _long_step(values: list[int]) -> int | None:
    step = _step(values)
    return step if step and step > 1 and len(values) >= _PROGRESSION else None


def _series(values: list[int], name: Callable[[int], str]) -> str:
    """Three and more in a row by their ends, as in "1 to 5, 8 and 9"."""
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    return joined(
        [
            part
            for run in runs
            for part in ([f"{name(run[0])} to {name(run[-1])}"] if len(run) > 2 else [name(value) for value in run])
        ]
    )


def _days(rule: _Rule) -> str:
    """Empty for every day of the year."""
    months = "" if len(rule.months) == 12 else f" in {_month_names(rule)}"
    of_months = f" of {_month_names(rule) if months else 'every month'}"
    if not rule.days:
        return f"on the last day{of_months}"
    if rule.nth:
        named = joined([f"the {_ordinal(nth)} {WEEKDAYS[day - 1]}" for day, nth in rule.nth])
        return f"on {named}{of_months}{_IF_ANY if any(nth == 5 for _, nth in rule.nth) else ''}"
    any_day, any_weekday = len(rule.days) == 31, len(rule.weekdays) == 7
    if (any_day and any_weekday) or (rule.either and (any_day or any_weekday)):
        return f"every day{months}" if months else ""
    if any_day:
        return f"on {_weekday_names(rule)}{months}"
    if any_weekday:
        return f"on {_day_names(rule)}{of_months}{_if_any(rule)}"
    if rule.either:
        both = f"on {_day_names(rule)} and on {_weekday_names(rule)} (either is enough)"
        return f"{months[1:]}, {both}" if months else both
    return f"on {_weekday_names(rule)} falling on {_day_names(rule)}{of_months}"


def _month_names(rule: _Rule) -> str:
    return _series(rule.months, lambda month: MONTHS[month - 1])


def _weekday_names(rule: _Rule) -> str:
    named = _series(rule.weekdays, lambda day: WEEKDAYS[day - 1])
    return named if " to " in named else _series(rule.weekdays, lambda day: f"{WEEKDAYS[day - 1]}s")


def _day_names(rule: _Rule) -> str:
    if step := _long_step(rule.days):
        return f"every {_ordinal(step)} day from the {_ordinal(rule.days[0])} to the {_ordinal(rule.days[-1])}"
    return f"the {_series(rule.days, _ordinal)}"


def _if_any(rule: _Rule) -> str:
    """For the 29th to the 31st: some of the months, or some years' February, have none of the days."""
    shortest = min(_SHORTEST[month - 1] for month in rule.months)
    return _IF_ANY if rule.days[0] > shortest else ""


def _ordinal(number: int) -> str:
    suffix = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"
