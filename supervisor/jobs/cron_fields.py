"""Cron text -> checked, normalised fields; every refusal names its field and says the way out. Pure.

Fields follow crontab(5): numbers, ranges, lists, steps (`N/step` counts from N to the field's end), three-letter names,
7 = Sunday. On top of it, `L` alone in the day of month, `N#K` (the Kth weekday N) alone in the day of week, and `H`.

`H` is a value drawn from the job's identity, so that jobs written alike spread out and yet stay put over restarts:
`H` anywhere in the field, `H(0-29)` within bounds, `H/15` every 15 with a drawn first value. In the day of month a
plain `H` keeps to 1-28, the days every month has; otherwise a monthly job would now and then lose a month.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

MAX_LENGTH: Final = 256
SET_SECONDS: Final = "set seconds = true"
DROP_SECONDS: Final = "drop seconds = true"
"""As in a manifest; pluginctl has an option in its place."""
ALIASES: Final[Mapping[str, str]] = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


class ScheduleError(ValueError):
    """A schedule nobody can run: `field` is where ("minute", "zone", …), `reason` what and how to write it instead."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(field, reason)  # both, so that the exception survives pickling
        self.field = field
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.field}: {self.reason}"


@dataclass(frozen=True, slots=True)
class CronFields:
    text: str  # numbers and stars only, five fields or six with the seconds in front
    wild: bool  # minute or hour starts with '*': follows elapsed time when clocks change
    seconds: frozenset[int]
    minutes: frozenset[int]
    hours: frozenset[int]
    day: str
    months: frozenset[int]
    weekday: str


@dataclass(frozen=True, slots=True, eq=False)
class _Kind:
    name: str
    low: int
    high: int
    top: int  # the highest number that may be written
    names: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Field:
    text: str
    star: bool  # starts with '*', which is all that cron's day rule and its clock-change rule look at
    values: frozenset[int]  # empty for L and N#K


def _numbered(names: str, first: int) -> dict[str, int]:
    return {name: number for number, name in enumerate(names.split(), first)}


_SECOND: Final = _Kind("second", 0, 59, 59)
_MINUTE: Final = _Kind("minute", 0, 59, 59)
_HOUR: Final = _Kind("hour", 0, 23, 23)
_DAY: Final = _Kind("day of month", 1, 31, 31)
_MONTH: Final = _Kind("month", 1, 12, 12, _numbered("JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC", 1))
_WEEKDAY: Final = _Kind("day of week", 0, 6, 7, _numbered("SUN MON TUE WED THU FRI SAT", 0))
_KINDS: Final = (_SECOND, _MINUTE, _HOUR, _DAY, _MONTH, _WEEKDAY)

_LONGEST: Final = dict(enumerate((31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31), 1))
_EVERY_MONTH_HAS: Final = 28

_ITEM: Final = re.compile(
    r"(?:(?P<star>\*)|(?P<hash>H)(?:\((?P<hash_low>\d+)-(?P<hash_high>\d+)\))?"
    r"|(?P<low>[0-9A-Z]+)(?:-(?P<high>[0-9A-Z]+))?)(?:/(?P<step>\d+))?",
    re.ASCII,
)
_NTH: Final = re.compile(r"(?P<day>[0-9A-Z]+)#(?P<nth>\d+)", re.ASCII)
_UNSUPPORTED: Final = (
    (re.compile(r".*\?.*"), "'?' is not supported; write '*'"),
    (re.compile(r".*~.*"), "random '~' is not supported; write 'H', which stays put over restarts"),
    (re.compile(r"R(\(.*\))?(/.*)?"), "random 'R' is not supported; write 'H', which stays put over restarts"),
    (re.compile(r"L?W|\d+W|W\d+"), "'W' (nearest weekday) is not supported; write plain days"),
    (re.compile(r"(\d+|SUN|MON|TUE|WED|THU|FRI|SAT)?L(-?\d+)?"), "'L' may only be the whole day of month field"),
    (re.compile(r".*#.*"), "'#' belongs in the day of week, as in '5#2', without plain days beside it"),
    (re.compile(r"-\d+"), "negative numbers do not exist here; write the number without '-'"),
)


def normalise(text: str, *, seconds: bool, identity: str) -> CronFields:
    """Check an expression (not @reboot) and rewrite it so that no reader can take it in two ways.

    Raises:
        ScheduleError: the first wrong field, or one that rules out every date.
    """
    written = _split(text, seconds=seconds)
    kinds = _KINDS[-len(written) :]
    fields = {kind: _field(kind, part, identity) for kind, part in zip(kinds, written, strict=True)}
    _refuse_mixed_days(fields[_DAY], fields[_WEEKDAY])
    _refuse_impossible_date(fields[_DAY], fields[_MONTH], fields[_WEEKDAY])
    return CronFields(
        text=" ".join(parsed.text for parsed in fields.values()),
        wild=fields[_MINUTE].star or fields[_HOUR].star,
        seconds=fields[_SECOND].values if _SECOND in fields else frozenset({0}),
        minutes=fields[_MINUTE].values,
        hours=fields[_HOUR].values,
        day=fields[_DAY].text,
        months=fields[_MONTH].values,
        weekday=fields[_WEEKDAY].text,
    )


def check_text(text: str, field: str = "expression") -> str:
    """`text` without blanks around it, once it is known to be short, plain ASCII and not empty."""
    if len(text) > MAX_LENGTH:
        raise ScheduleError(
            field, f"{len(text)} characters are too many, the limit is {MAX_LENGTH}; split the job in two"
        )
    for character in text:
        if not " " <= character <= "~" and character != "\t":
            raise ScheduleError(field, f"{character!a} is not a plain ASCII character; retype that place")
    stripped = text.strip()
    if not stripped:
        raise ScheduleError(field, "is empty; write when it is due, or leave it out")
    return stripped


def _split(text: str, *, seconds: bool) -> list[str]:
    if text.startswith("@"):
        return _alias(text).split()
    parts = text.upper().split()
    wanted = 6 if seconds else 5
    if len(parts) == wanted:
        return parts
    raise ScheduleError(
        "expression", f"{len(parts)} fields where {wanted} are expected; {_count_hint(len(parts), seconds)}"
    )


def _alias(text: str) -> str:
    try:
        return ALIASES[text.lower()]
    except KeyError:
        known = ", ".join((*ALIASES, "@reboot"))
        reason = f'{text!r} is not a known name; use one of {known}, or every = "90s" for a plain interval'
        raise ScheduleError("expression", reason) from None


def _count_hint(count: int, seconds: bool) -> str:
    if count == 7:
        return "a year field is not supported"
    if count == 6 and not seconds:
        return f"{SET_SECONDS} if the first one is the second"
    if count == 5 and seconds:
        return f"put the second in front, or {DROP_SECONDS}"
    return "the order is " + ("second " if seconds else "") + "minute hour day-of-month month day-of-week"


def _field(kind: _Kind, text: str, identity: str) -> _Field:
    if kind is _DAY and text == "L":
        return _Field("L", star=False, values=frozenset())
    items = text.split(",")
    if kind is _WEEKDAY and all(_NTH.fullmatch(item) for item in items):
        return _Field(",".join(_nth(item) for item in items), star=False, values=frozenset())
    sets = [_values(kind, item, identity) for item in items]
    return _plain_field(kind, items[0], sets)


def _plain_field(kind: _Kind, first: str, sets: list[frozenset[int]]) -> _Field:
    """Numbers in order, except that a leading star stays one: it means more than the numbers it stands for."""
    star, values = first.startswith("*"), frozenset().union(*sets)
    if not star:
        return _Field(_listed(values), star, values)
    if len(values) > kind.high - kind.low:
        return _Field("*", star, values)
    rest = values - sets[0]
    return _Field(f"{first},{_listed(rest)}" if rest else first, star, values)


def _listed(values: Iterable[int]) -> str:
    return ",".join(map(str, sorted(values)))


def _values(kind: _Kind, item: str, identity: str) -> frozenset[int]:
    parts = _parts(kind, item)
    step = _step(kind, item, parts["step"])
    if parts["hash"]:
        return _hashed(kind, parts["hash_low"], parts["hash_high"], step, identity)
    if parts["star"]:
        return frozenset(range(kind.low, kind.high + 1, step or 1))
    low = _number(kind, parts["low"] or "")
    high = _upper_end(kind, low, parts["high"], step)
    if low > high:
        raise ScheduleError(kind.name, f"{item!r} runs backwards; write {_unwound(kind, low, high)!r}")
    return frozenset(value % 7 if kind is _WEEKDAY else value for value in range(low, high + 1, step or 1))


def _parts(kind: _Kind, item: str) -> dict[str, str | None]:
    if not item:
        raise ScheduleError(kind.name, "a list has an empty place; take out the extra comma")
    for pattern, reason in _UNSUPPORTED:
        if pattern.fullmatch(item):
            raise ScheduleError(kind.name, f"{item!r}: {reason}")
    found = _ITEM.fullmatch(item)
    if found is None:
        raise ScheduleError(kind.name, f"{item!r} is not understood; write *, N, N-M, */S, N-M/S or a list of them")
    return found.groupdict()


def _step(kind: _Kind, item: str, text: str | None) -> int | None:
    step = None if text is None else int(text)
    if step == 0:
        raise ScheduleError(kind.name, f"the step of {item!r} is 0; steps start at 1")
    return step


def _number(kind: _Kind, word: str) -> int:
    if word in kind.names:
        return kind.names[word]
    if not word.isdigit():
        known = f" or one of {', '.join(kind.names).lower()}" if kind.names else ""
        raise ScheduleError(kind.name, f"{word!r} is not a value; use {kind.low}-{kind.top}{known}")
    if not kind.low <= int(word) <= kind.top:
        raise ScheduleError(kind.name, f"{word!r} is out of range {kind.low}-{kind.top}")
    return int(word)


def _upper_end(kind: _Kind, low: int, word: str | None, step: int | None) -> int:
    if word is None:
        return low if step is None else max(low, kind.high)
    high = _number(kind, word)
    # A week written monday to sunday is no reversed range; sun-sun is still that one day.
    return 7 if word == "SUN" and low > 0 else high


def _unwound(kind: _Kind, low: int, high: int) -> str:
    if kind is _WEEKDAY and high == 0:
        return f"{low}-7"
    ends = (low, kind.high), (kind.low, high)
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ends)


def _hashed(kind: _Kind, low: str | None, high: str | None, step: int | None, identity: str) -> frozenset[int]:
    first, last = kind.low, _EVERY_MONTH_HAS if kind is _DAY else kind.high
    if low is not None and high is not None:
        first, last = _number(kind, low), _number(kind, high)
    if first > last:
        raise ScheduleError(kind.name, f"'H({first}-{last})' runs backwards; write 'H({last}-{first})'")
    size = last - first + 1
    # A hash per field: one number cut in pieces would make minute and hour move together.
    digest = blake2b(identity.encode("utf-8", "surrogatepass"), digest_size=8, person=kind.name.encode()).digest()
    start = first + int.from_bytes(digest, "big") % min(step or size, size)
    drawn = [start] if step is None else range(start, last + 1, step)
    return frozenset(value % 7 if kind is _WEEKDAY else value for value in drawn)


def _nth(item: str) -> str:
    day, nth = item.split("#")
    if not 1 <= int(nth) <= 5:
        raise ScheduleError(_WEEKDAY.name, f"{item!r}: a month has the 1st to the 5th of a weekday; use #1-#5")
    return f"{_number(_WEEKDAY, day) % 7}#{int(nth)}"


def _refuse_mixed_days(day: _Field, weekday: _Field) -> None:
    """L and N#K have no agreed meaning beside the other day field, so there is none to pick."""
    if not day.values and weekday.text != "*":
        raise ScheduleError(_DAY.name, "'L' needs '*' as day of week; make two jobs to have both")
    if not weekday.values and day.text != "*":
        raise ScheduleError(_WEEKDAY.name, "'#' needs '*' as day of month; make two jobs to have both")


def _refuse_impossible_date(day: _Field, month: _Field, weekday: _Field) -> None:
    """Only a day past the end of every chosen month never comes, and only if no weekday may stand in for it."""
    either = not day.star and not weekday.star
    if not day.values or either:
        return
    longest = max(_LONGEST[number] for number in month.values)
    if min(day.values) > longest:
        reason = f"{day.text!r} never comes, the longest of the chosen months has {longest} days; change day or month"
        raise ScheduleError(_DAY.name, reason)
