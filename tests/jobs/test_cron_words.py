"""Schedules in words: a table written by hand, and a reader that knows nothing of cron takes the words back."""

from __future__ import annotations

import calendar
import re
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from itertools import product

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from supervisor.jobs.cron import ScheduleError, parse_schedule
from supervisor.jobs.cron_words import AT_START, at_words, cron_words, date_text, every_words, joined, offset_text
from tests.jobs.instants import next_after

TABLE = [
    ("* * * * *", "every minute"),
    ("0-59 * * * *", "every minute"),
    ("*/15 * * * *", "every 15 minutes"),
    ("30,0,45,15 * * * *", "every 15 minutes"),
    ("0 * * * *", "at minute 0 of every hour"),
    ("@hourly", "at minute 0 of every hour"),
    ("5,35 * * * *", "at minutes 5 and 35 of every hour"),
    ("10-20,30 * * * *", "at minutes 10 to 20 and 30 of every hour"),
    ("*/7 * * * *", "at every 7th minute from 0 to 56 of every hour"),
    ("3/10 * * * *", "at every 10th minute from 3 to 53 of every hour"),
    ("* 2 * * *", "every minute from 02:00 to 02:59 every day"),
    ("*/15 9-17 * * mon-fri", "every 15 minutes from 09:00 to 17:45, on Monday to Friday"),
    ("5/20 9,10,11 * * *", "every 20 minutes from 09:05 to 11:45 every day"),
    ("0,30 8-12,14-18 * * *", "every 30 minutes in the hours 8 to 12 and 14 to 18 every day"),
    ("1,2 */2 * * *", "at minutes 1 and 2 of every 2nd hour from 0 to 22 every day"),
    ("* */3 * * *", "every minute in every 3rd hour from 0 to 21 every day"),
    ("3,13 9-12 * * *", "at minutes 3 and 13 of the hours 9 to 12 every day"),
    ("0-20/10 9-12 * * *", "at minutes 0, 10 and 20 of the hours 9 to 12 every day"),
    ("*/20 9-12/2 * * *", "at 09:00, 09:20, 09:40, 11:00, 11:20 and 11:40 every day"),
    ("*/15 9-12/2 * * *", "every 15 minutes in the hours 9 and 11 every day"),
    ("7 22-23,0-5 * * *", "at minute 7 of the hours 0 to 5, 22 and 23 every day"),
    ("0 */2 * * *", "every 2 hours from 00:00 to 22:00 every day"),
    ("5 9-17 1 * 5", "every hour from 09:05 to 17:05, on the 1st and on Fridays (either is enough)"),
    ("0 */7 * * *", "at 00:00, 07:00, 14:00 and 21:00 every day"),
    ("30 2 * * 1-5", "at 02:30 on Monday to Friday"),
    ("30 2 * * mon,3,7", "at 02:30 on Mondays, Wednesdays and Sundays"),
    ("30 2 * * 6-7", "at 02:30 on Saturdays and Sundays"),
    ("0 0 * * fri-sun,2", "at 00:00 on Tuesday and Friday to Sunday"),
    ("0,30 2 * * *", "at 02:00 and 02:30 every day"),
    ("0 12 * 6 *", "at 12:00 every day in June"),
    ("*/5 * * 6-8 sun", "every 5 minutes, on Sundays in June to August"),
    ("*/5 * * 6-8 *", "every 5 minutes, every day in June to August"),
    ("@yearly", "at 00:00 on the 1st of January"),
    ("@monthly", "at 00:00 on the 1st of every month"),
    ("@weekly", "at 00:00 on Sundays"),
    ("@daily", "at 00:00 every day"),
    ("@reboot", "once at each start of plugind"),
    ("0 0 1,2,11,12,13,21-23 * *", "at 00:00 on the 1st, 2nd, 11th to 13th and 21st to 23rd of every month"),
    ("0 0 31 * *", "at 00:00 on the 31st of every month where there is one"),
    ("0 0 31 1,3 *", "at 00:00 on the 31st of January and March"),
    ("0 0 29 2 *", "at 00:00 on the 29th of February where there is one"),
    ("0 0 */2 * *", "at 00:00 on every 2nd day from the 1st to the 31st of every month"),
    ("0 0 L * *", "at 00:00 on the last day of every month"),
    ("0 0 l 2 *", "at 00:00 on the last day of February"),
    ("0 9 * * 5#2", "at 09:00 on the 2nd Friday of every month"),
    ("7 3 * 2,4 7#1,tue#3", "at 03:07 on the 3rd Tuesday and the 1st Sunday of February and April"),
    ("7 3 * * mon#5", "at 03:07 on the 5th Monday of every month where there is one"),
    # Cron's star rule
    ("0 0 13 * 5", "at 00:00 on the 13th and on Fridays (either is enough)"),
    ("0 0 13 3-5 5", "at 00:00 in March to May, on the 13th and on Fridays (either is enough)"),
    ("0 0 */10 * 5", "at 00:00 on Fridays falling on the 1st, 11th, 21st and 31st of every month"),
    ("0 0 13 * */5", "at 00:00 on Fridays and Sundays falling on the 13th of every month"),
    ("0 0 1-31 * 5", "at 00:00 every day"),
    ("0 0 13 * 0-6", "at 00:00 every day"),
    ("0 0 13 * 1,*", "at 00:00 every day"),
    ("0 0 13 * *,1", "at 00:00 on the 13th of every month"),
    ("0 0 */1 * 5", "at 00:00 on Fridays"),
]
WITH_SECONDS = [
    ("* * * * * *", "every second"),
    ("*/20 * * * * *", "every 20 seconds"),
    ("0 */20 * * * *", "every 20 minutes"),
    ("30 * * * * *", "at second 30 of every minute"),
    ("*/7 * * * * *", "at every 7th second from 0 to 56 of every minute"),
    ("15 30 2 * * *", "at 02:30:15 every day"),
    ("0 30 2 * * *", "at 02:30 every day"),
    ("* 5 * * * *", "every second in minute 5 of every hour"),
    ("*/10 5 9-17 * * *", "every 10 seconds in minute 5 of the hours 9 to 17 every day"),
    ("30 5,6 9-17 * * *", "at second 30 of minutes 5 and 6 of the hours 9 to 17 every day"),
    ("* * 2 * * *", "every second in the hour 2 every day"),
    ("1,2 * 3,5 * * *", "at seconds 1 and 2 of every minute in the hours 3 and 5 every day"),
    ("5 */15 9-17 * * *", "every 15 minutes from 09:00:05 to 17:45:05 every day"),
    ("7 0 9-17 * * *", "every hour from 09:00:07 to 17:00:07 every day"),
    ("@hourly", "at minute 0 of every hour"),
]


@pytest.mark.parametrize(("text", "expected"), TABLE)
def test_words(text: str, expected: str) -> None:
    assert cron_words(text) == expected


@pytest.mark.parametrize(("text", "expected"), WITH_SECONDS)
def test_words_with_seconds(text: str, expected: str) -> None:
    assert cron_words(text, seconds=True) == expected


def test_h_is_told_as_it_is_drawn() -> None:
    assert cron_words("H H * * *", identity="acme.weather/refresh") == "at 03:46 every day"
    assert cron_words("H H * * *", identity="acme.weather/other") != "at 03:46 every day"


@pytest.mark.parametrize(
    ("every", "expected"),
    [
        ("90s", "every 90 seconds, counted from 1970-01-01 00:00 UTC"),
        ("1h30m", "every 1 hour 30 minutes, counted from 1970-01-01 00:00 UTC"),
        (" 2d0h1s ", "every 2 days 1 second, counted from 1970-01-01 00:00 UTC"),
    ],
)
def test_every(every: str, expected: str) -> None:
    assert every_words(every) == expected


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("2027-01-01T00:00+01:00", "once, on Fri 1 Jan 2027 at 00:00 (+01:00)"),
        ("2027-01-01T00:00:07Z", "once, on Fri 1 Jan 2027 at 00:00:07 (+00:00)"),
        ("2027-06-30 23:59", "once, on Wed 30 Jun 2027 at 23:59"),
    ],
)
def test_at(at: str, expected: str) -> None:
    assert at_words(at) == expected


def test_what_is_wrong_has_no_words() -> None:
    with pytest.raises(ScheduleError, match="out of range 0-59"):
        cron_words("60 * * * *")


def test_small_pieces() -> None:
    assert date_text(datetime(2026, 3, 1)) == "Sun 1 Mar 2026"
    assert offset_text(datetime(2026, 3, 1, 12, tzinfo=UTC)) == "+00:00"
    assert offset_text(datetime(2026, 3, 1, 12)) == ""
    assert [joined(list("abc"[:count])) for count in range(4)] == ["", "a", "a and b", "a, b and c"]


# -- taking the words back ---------------------------------------------------------------------------------------------

Times = list[int]
Days = Callable[[date], bool]
NAMED_MONTHS = list(calendar.month_name)[1:]
NAMED_DAYS = list(calendar.day_name)
BOTH = re.compile(rf"(.*?)(?:,? (on .*|every day.*|in (?:{'|'.join(NAMED_MONTHS)})\b.*))?")
SIZES = {"second": 60, "minute": 60, "hour": 24}
LENGTHS = {"second": 1, "minute": 60, "hour": 3600}


def read(words: str) -> tuple[Times, Days]:
    """Seconds of the day in order, and the days, that the words mean to a person."""
    found = BOTH.fullmatch(words)
    assert found, words
    return read_times(found[1]), read_days(found[2] or "every day")


def read_times(text: str) -> Times:
    if re.match(r"at \d\d:", text):
        return [clock(part) for part in listed(text.removeprefix("at "))]
    if spans := re.fullmatch(r"every (?:(\d+) )?(minute|hour)s? from (\S+:\S+) to (\S+:\S+)", text):
        step = int(spans[1] or 1) * LENGTHS[spans[2]]
        times = list(range(clock(spans[3]), clock(spans[4]) + 1, step))
        assert times[-1] == clock(spans[4]), text
        return times
    chosen: dict[str, set[int]] = {}
    for part in re.split(r" (?:of|in) ", text):
        unit, values = read_part(part.removeprefix("at ").removeprefix("the "))
        assert unit not in chosen, text
        chosen[unit] = values
    finest = min(chosen, key=lambda unit: LENGTHS[unit])
    for unit, size in SIZES.items():
        chosen.setdefault(unit, {0} if LENGTHS[unit] < LENGTHS[finest] else set(range(size)))
    return sorted(h * 3600 + m * 60 + s for h in chosen["hour"] for m in chosen["minute"] for s in chosen["second"])


def read_part(text: str) -> tuple[str, set[int]]:
    if found := re.fullmatch(r"every (?:(\d+) )?(second|minute|hour)s?", text):
        assert SIZES[found[2]] % int(found[1] or 1) == 0, text
        return found[2], set(range(0, SIZES[found[2]], int(found[1] or 1)))
    if found := re.fullmatch(r"every (\d+)(?:st|nd|rd|th) (second|minute|hour) from (\d+) to (\d+)", text):
        return found[2], set(range(int(found[3]), int(found[4]) + 1, int(found[1])))
    found = re.fullmatch(r"(second|minute|hour)s? (.*)", text)
    assert found, text
    return found[1], numbers(found[2], int)


def clock(text: str) -> int:
    hours, minutes, seconds = [*map(int, text.split(":")), 0][:3]
    return hours * 3600 + minutes * 60 + seconds


def listed(text: str) -> list[str]:
    return re.split(r", | and ", text)


def numbers(text: str, number: Callable[[str], int]) -> set[int]:
    found: set[int] = set()
    for item in listed(text):
        first, _, last = item.partition(" to ")
        found |= set(range(number(first), number(last or first) + 1))
    return found


def ordinal(text: str) -> int:
    suffixes = {1: "st", 2: "nd", 3: "rd", 21: "st", 22: "nd", 23: "rd", 31: "st"}
    number = int(text[:-2])
    assert text[-2:] == suffixes.get(number, "th"), text
    return number


def weekday(text: str) -> int:
    return NAMED_DAYS.index(text.removesuffix("s")) + 1


def month(text: str) -> int:
    return NAMED_MONTHS.index(text) + 1


def read_days(text: str) -> Days:
    text, _, _ = text.partition(" where there is one")
    if found := re.fullmatch(r"(?:in (.*), )?on (.*) and on (.*) \(either is enough\)", text):
        months, days, weekdays = read_months(found[1]), read_dates(found[2]), numbers(found[3], weekday)
        return lambda day: day.month in months and (day.day in days or day.isoweekday() in weekdays)
    if found := re.fullmatch(r"on (.*) falling on (.*) of (.*)", text):
        months, days, weekdays = read_months(found[3]), read_dates(found[2]), numbers(found[1], weekday)
        return lambda day: day.month in months and day.day in days and day.isoweekday() in weekdays
    if found := re.fullmatch(r"on the last day of (.*)", text):
        months = read_months(found[1])
        return lambda day: day.month in months and (day + timedelta(days=1)).day == 1
    if found := re.fullmatch(r"on ((?:(?:, | and )?the \S+ [A-Z]\w+day)+) of (.*)", text):
        months = read_months(found[2])
        pairs = {(ordinal(part.split()[1]), weekday(part.split()[2])) for part in listed(found[1])}
        return lambda day: day.month in months and ((day.day + 6) // 7, day.isoweekday()) in pairs
    if found := re.fullmatch(r"on ((?:the|every) .*) of (.*)", text):
        months, days = read_months(found[2]), read_dates(found[1])
        return lambda day: day.month in months and day.day in days
    found = re.fullmatch(r"(?:every day|on (.*?))(?: in (.*))?", text)
    assert found, text
    months, weekdays = read_months(found[2]), numbers(found[1], weekday) if found[1] else set(range(1, 8))
    return lambda day: day.month in months and day.isoweekday() in weekdays


def read_months(text: str | None) -> set[int]:
    return set(range(1, 13)) if text in {None, "every month"} else numbers(str(text), month)


def read_dates(text: str) -> set[int]:
    if found := re.fullmatch(r"every (\S+) day from the (\S+) to the (\S+)", text):
        return set(range(ordinal(found[2]), ordinal(found[3]) + 1, ordinal(found[1])))
    return numbers(text.removeprefix("the "), ordinal)


def fires_of(words: str, start: datetime, count: int, limit_days: int) -> list[datetime]:
    """The first fires after `start` that the words mean, as far as so many days go."""
    times, days = read(words)
    found: list[datetime] = []
    midnight = start.replace(hour=0, minute=0, second=0)
    for passed in range(limit_days):
        day = midnight + timedelta(days=passed)
        if days(day.date()):
            found += [at for time in times if (at := day + timedelta(seconds=time)) > start][: count - len(found)]
        if len(found) == count:
            break
    return found


def item(low: int, high: int, names: tuple[str, ...] = ()) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    pair = st.tuples(number, number).map(sorted)
    step = st.integers(1, high - low)
    draw = [
        number.map(str),
        pair.map(lambda ends: f"{ends[0]}-{ends[1]}"),
        st.tuples(pair, step).map(lambda parts: f"{parts[0][0]}-{parts[0][1]}/{parts[1]}"),
        st.tuples(number, step).map(lambda parts: f"{parts[0]}/{parts[1]}"),
        step.map(lambda size: f"H/{size}"),
        *([st.sampled_from(names)] if names else []),
    ]
    return st.one_of(*draw)


def cron_field(low: int, high: int, names: tuple[str, ...] = ()) -> st.SearchStrategy[str]:
    some = st.lists(item(low, high, names), min_size=1, max_size=3).map(",".join)
    stars = st.sampled_from(["*", "*", "*/2", "*/3", "*/5", "*/15", "*/7,1", f"{low}-{high}", "1,*"])
    return st.one_of(some, stars, st.just(str(low)), st.just("H"))


SPACED = st.tuples(st.integers(0, 20), st.integers(21, 59), st.sampled_from([1, 2, 5, 10, 15, 20, 30])).map(
    lambda parts: f"{parts[0]}-{parts[1]}/{parts[2]}"
)
MINUTES = st.one_of(st.just("0"), SPACED, st.sampled_from(["*", "*/5", "2/20", "10/10", "0,30", "5,35", "17"]))
HOURS = st.one_of(
    st.tuples(st.integers(0, 12), st.integers(12, 23), st.integers(1, 4)).map(lambda p: f"{p[0]}-{p[1]}/{p[2]}"),
    st.sampled_from(["*", "3", "9-10", "8,20", "1,2,4,9", "*/6", "0-23", "22,23,0,1"]),
)
TIMES = st.tuples(st.sampled_from(["0", "0", "0", "40", "*", "*/30", "1,2"]), MINUTES, HOURS).map(
    lambda parts: f"{' '.join(parts)} * * *"
)
EXPRESSIONS = st.tuples(
    st.sampled_from(["0", "0", "30", "*", "*/10", "5,6", "*/7", "10-20"]),
    cron_field(0, 59),
    cron_field(0, 23),
    st.one_of(cron_field(1, 31), st.just("L")),
    cron_field(1, 12, ("jan", "Mar", "jun-aug")),
    st.one_of(cron_field(0, 7, ("sun", "MON", "tue-thu", "6-sun")), st.sampled_from(["5#2", "7#1,2#3", "mon#5"])),
).map(" ".join)
STARTS = st.datetimes(datetime(2023, 1, 1), datetime(2033, 1, 1)).map(lambda at: at.replace(microsecond=0))


@settings(max_examples=400, deadline=None)
@given(text=st.one_of(EXPRESSIONS, EXPRESSIONS, TIMES), start=STARTS)
def test_words_say_all_there_is_to_say(text: str, start: datetime) -> None:
    try:
        schedule = parse_schedule(text, seconds=True, identity="acme.weather/refresh")
    except ScheduleError:
        assume(False)
    words = cron_words(text, seconds=True, identity="acme.weather/refresh")
    meant = fires_of(words, start, 60, limit_days=400)
    at = start.replace(tzinfo=UTC)
    for expected in meant:
        following = next_after(schedule, at)
        assert following == expected.replace(tzinfo=UTC), words
        at = following
    if len(meant) < 60:  # the words give no more in the days that were looked through, so there are none
        following = next_after(schedule, at)
        assert following is not None
        assert following - start.replace(tzinfo=UTC) > timedelta(days=399), words


def test_equal_words_mean_equal_fires() -> None:
    """Also where the clock changes, once jobs that follow elapsed time are kept apart from the others."""
    starts = [datetime(2026, *rest, tzinfo=UTC) for rest in ((1, 30), (3, 28, 23), (10, 24, 23))]
    pool = product(
        ["0", "*/30", "0,30", "30-59/30,0"],
        ["2", "2-2", "*", "0-23"],
        ["1", "*", "1-31", "*/2", "1/2"],
        ["*", "1-12"],
        ["*", "7", "sun", "1-7", "0-6/6"],
    )
    seen: dict[tuple[str, bool], set[tuple[object, ...]]] = defaultdict(set)
    count = 0
    for parts in pool:
        text, wild = " ".join(parts), parts[0].startswith("*") or parts[1].startswith("*")
        schedule = parse_schedule(text, zone="Europe/Berlin")
        seen[cron_words(text), wild].add(tuple(next_after(schedule, start) for start in starts))
        count += 1
    assert {words: len(fires) for words, fires in seen.items() if len(fires) > 1} == {}
    assert len(seen) < count / 4  # many were written alike


def test_a_start_has_no_time() -> None:
    assert cron_words(" @Reboot ") == AT_START
