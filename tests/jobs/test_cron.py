"""Schedules against tables written by hand: expressions, intervals, single instants, refusals, and what a value is."""

import copy
import pickle
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from threading import Barrier
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.jobs import cron_days, cron_zones
from supervisor.jobs.cron import Schedule, ScheduleError, parse_schedule
from tests.jobs.instants import next_after


def utc(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def fires(schedule, start, count):
    found, instant = [], start
    for _ in range(count):
        instant = next_after(schedule, instant)
        found.append(instant)
    return found


# -- plain rules, in UTC; 2024-03-05 was a Tuesday ---------------------------------------------------------------------

START = "2024-03-05 07:13:20"
RULES = [
    ("* * * * *", ["2024-03-05 07:14", "2024-03-05 07:15"]),
    ("*/15 * * * *", ["2024-03-05 07:15", "2024-03-05 07:30"]),
    ("*/25 7 * * *", ["2024-03-05 07:25", "2024-03-05 07:50", "2024-03-06 07:00"]),
    ("*/90 * * * *", ["2024-03-05 08:00", "2024-03-05 09:00"]),
    ("50/4 * * * *", ["2024-03-05 07:50", "2024-03-05 07:54", "2024-03-05 07:58", "2024-03-05 08:50"]),
    ("59/15 * * * *", ["2024-03-05 07:59", "2024-03-05 08:59"]),
    ("10-40/20 8 * * *", ["2024-03-05 08:10", "2024-03-05 08:30", "2024-03-06 08:10"]),
    ("5,1-3,3 9 * * *", ["2024-03-05 09:01", "2024-03-05 09:02", "2024-03-05 09:03", "2024-03-05 09:05"]),
    ("1,*/30 * * * *", ["2024-03-05 07:30", "2024-03-05 08:00", "2024-03-05 08:01"]),
    ("*/30,1 * * * *", ["2024-03-05 07:30", "2024-03-05 08:00", "2024-03-05 08:01"]),
    ("0 9-9 * * *", ["2024-03-05 09:00", "2024-03-06 09:00"]),
    ("7-7/5 * * * *", ["2024-03-05 08:07", "2024-03-05 09:07"]),
    ("0 0 * * 1-1", ["2024-03-11", "2024-03-18"]),
    ("0 0 * jan-jan *", ["2025-01-01", "2025-01-02"]),
    ("0 0 1 JAN,Apr-may *", ["2024-04-01", "2024-05-01", "2025-01-01"]),
    ("0 0 * * Mon", ["2024-03-11", "2024-03-18"]),
    ("0 0 * * 7", ["2024-03-10", "2024-03-17"]),
    ("0 0 * * 0", ["2024-03-10", "2024-03-17"]),
    ("0 0 * * 7-7", ["2024-03-10", "2024-03-17"]),
    ("0 0 * * sun-sun", ["2024-03-10", "2024-03-17"]),
    ("0 0 * * sun-mon", ["2024-03-10", "2024-03-11", "2024-03-17"]),
    ("0 0 * * fri-sun", ["2024-03-08", "2024-03-09", "2024-03-10", "2024-03-15"]),
    ("0 0 * * 6-7", ["2024-03-09", "2024-03-10", "2024-03-16"]),
    ("0 0 * * 1-7/3", ["2024-03-07", "2024-03-10", "2024-03-11"]),
    ("0 0 * * 0-7", ["2024-03-06", "2024-03-07"]),
    # Cron's day rule: either field is enough, unless one of them starts with a star; then both must match.
    ("0 0 13 * 5", ["2024-03-08", "2024-03-13", "2024-03-15"]),
    ("0 0 13 * *", ["2024-03-13", "2024-04-13"]),
    ("0 0 * * 5", ["2024-03-08", "2024-03-15"]),
    ("0 0 */10 * 5", ["2024-05-31", "2024-06-21", "2024-10-11"]),
    ("0 0 13 * */5", ["2024-09-13", "2024-10-13", "2024-12-13"]),
    ("0 0 1-31 * 5", ["2024-03-06", "2024-03-07"]),
    ("0 0 13 * 1,*", ["2024-03-06", "2024-03-07"]),
    ("0 0 13 * *,1", ["2024-03-13", "2024-04-13"]),
    ("0 0 */1 * 5", ["2024-03-08", "2024-03-15"]),
    ("0 0 31 2 1", ["2025-02-03", "2025-02-10"]),
    ("0 0 29 2 *", ["2028-02-29", "2032-02-29"]),
    ("0 0 29 2 */7", ["2032-02-29", "2060-02-29"]),
    ("0 0 30 2,4 *", ["2024-04-30", "2025-04-30"]),
    ("0 0 L * *", ["2024-03-31", "2024-04-30", "2024-05-31"]),
    ("0 0 l 2 *", ["2025-02-28", "2026-02-28", "2027-02-28", "2028-02-29"]),
    ("0 0 * * 5#2", ["2024-03-08", "2024-04-12"]),
    ("0 0 * * fri#5", ["2024-03-29", "2024-05-31", "2024-08-30"]),
    ("0 0 * * 7#1,tue#3", ["2024-03-19", "2024-04-07", "2024-04-16"]),
    ("@yearly", ["2025-01-01", "2026-01-01"]),
    ("@annually", ["2025-01-01"]),
    ("@monthly", ["2024-04-01", "2024-05-01"]),
    ("@weekly", ["2024-03-10", "2024-03-17"]),
    ("@daily", ["2024-03-06", "2024-03-07"]),
    (" @Midnight\t", ["2024-03-06"]),
    ("@hourly", ["2024-03-05 08:00", "2024-03-05 09:00"]),
    ("  5   4\t* * *  ", ["2024-03-06 04:05"]),
]


@pytest.mark.parametrize(("text", "expected"), RULES)
def test_rule(text, expected):
    assert fires(parse_schedule(text), utc(START), len(expected)) == [utc(day) for day in expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("*/20 * * * * *", ["2024-03-05 07:13:40", "2024-03-05 07:14:00", "2024-03-05 07:14:20"]),
        ("30 0 8 * * *", ["2024-03-05 08:00:30", "2024-03-06 08:00:30"]),
        ("21,22-23 * * * * *", ["2024-03-05 07:13:21", "2024-03-05 07:13:22", "2024-03-05 07:13:23"]),
        ("* * * * * *", ["2024-03-05 07:13:21", "2024-03-05 07:13:22"]),
        ("1-1 0 0 L * *", ["2024-03-31 00:00:01", "2024-04-30 00:00:01"]),
        ("@hourly", ["2024-03-05 08:00:00"]),
    ],
)
def test_rule_with_seconds_first(text, expected):
    assert fires(parse_schedule(text, seconds=True), utc(START), len(expected)) == [utc(day) for day in expected]


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ("2024-03-05 07:14:59.999999", "2024-03-05 07:15"),
        ("2024-03-05 07:15", "2024-03-05 07:30"),
        ("2024-03-05 07:15:00.000001", "2024-03-05 07:30"),
        ("2024-12-31 23:59:59", "2025-01-01"),
        ("1969-12-31 23:50", "1970-01-01"),
    ],
)
def test_next_is_strictly_after(start, expected):
    assert next_after(parse_schedule("*/15 * * * *"), utc(start)) == utc(expected)


def test_seconds_are_strictly_after_too():
    schedule = parse_schedule("* * * * * *", seconds=True)
    assert next_after(schedule, utc("2024-03-05 07:13:20.5")) == utc("2024-03-05 07:13:21")
    assert next_after(schedule, utc("2024-03-05 07:13:21")) == utc("2024-03-05 07:13:22")


def test_any_zone_in_and_utc_out():
    tokyo = datetime(2024, 3, 5, 16, 13, tzinfo=ZoneInfo("Asia/Tokyo"))
    for zone in ("UTC", "Etc/UTC", "Europe/Berlin", "Etc/GMT+0"):
        due = next_after(parse_schedule("*/15 * * * *", zone=zone), tokyo)
        assert due == utc("2024-03-05 07:15")
        assert due.tzinfo is UTC


def test_reboot_is_due_at_start_only():
    schedule = parse_schedule("@reboot")
    assert schedule.on_start
    assert next_after(schedule, utc(START)) is None
    assert not parse_schedule("@daily").on_start


@pytest.mark.parametrize(
    ("text", "zone", "start", "hours"),
    [
        ("@hourly", "UTC", START, 1),
        ("0 0 29 2 *", "UTC", START, 24 * 1461),
        ("0 12 * * *", "Europe/Berlin", "2024-03-30 00:00", 23),
        ("0 12 * * *", "Europe/Berlin", "2024-10-26 00:00", 25),
    ],
)
def test_period_is_the_gap_between_the_next_two(text, zone, start, hours):
    first, second = fires(parse_schedule(text, zone=zone), utc(start), 2)
    assert second - first == timedelta(hours=hours)


# -- plain intervals ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("every", "seconds"),
    [
        ("1s", 1),
        ("90s", 90),
        ("15m", 900),
        ("1h30m", 5400),
        ("2d", 172_800),
        ("1d1h1m1s", 90_061),
        (" 366d ", 31_622_400),
    ],
)
def test_every_fires_at_multiples_since_the_epoch(every, seconds):
    schedule = parse_schedule(None, every=every)
    due = fires(schedule, utc("2024-03-05 07:13:20.25"), 3)
    assert [at.timestamp() % seconds for at in due] == [0, 0, 0]
    assert due[2] - due[1] == due[1] - due[0] == timedelta(seconds=seconds)
    assert due[0] - timedelta(seconds=seconds) <= utc("2024-03-05 07:13:20.25") < due[0]
    assert due[0].tzinfo is UTC


def test_every_works_before_the_epoch_and_ignores_clock_changes():
    schedule = parse_schedule(None, every="1h", zone="Europe/Berlin")
    assert next_after(schedule, utc("1969-12-31 22:30")) == utc("1969-12-31 23:00")
    assert fires(schedule, utc("2024-10-27 00:00"), 2) == [utc("2024-10-27 01:00"), utc("2024-10-27 02:00")]
    assert schedule.text == "every 1h"


# -- H -----------------------------------------------------------------------------------------------------------------


def minutes_past_midnight(text, identity):
    due = next_after(parse_schedule(text, identity=identity), utc("2024-03-05 23:59"))
    return due.hour * 60 + due.minute


def test_hash_stays_put_and_follows_the_identity():
    a, b = (parse_schedule("H H H H *", identity=name) for name in ("acme.a/refresh", "acme.b/refresh"))
    assert a == parse_schedule("H H H H *", identity="acme.a/refresh")
    assert a != b
    assert minutes_past_midnight("H H * * *", "acme.weather/refresh") == 226  # a promise: never moves


def test_hash_spreads_over_the_whole_day():
    slots = Counter(minutes_past_midnight("H H * * *", f"plugin-{n}/job") for n in range(1500))
    assert len(slots) > 880  # 1500 even draws from 1440 slots hit about 930 of them
    assert max(slots.values()) < 10
    assert {slot % 60 for slot in slots} == set(range(60))
    assert {slot // 60 for slot in slots} == set(range(24))


@pytest.mark.parametrize("identity", [f"job-{n}" for n in range(20)])
def test_hash_forms(identity):
    start = utc("2024-03-05 23:59")

    def minutes(text, count):
        return [at.minute for at in fires(parse_schedule(text, identity=identity), start, count)]

    quarter = minutes("H/15 * * * *", 4)
    assert quarter[0] < 15
    assert quarter == [quarter[0] + 15 * n for n in range(4)]
    assert minutes("H(0-29) * * * *", 1)[0] < 30
    ten = minutes("H(30-59)/10 * * * *", 3)
    assert 30 <= ten[0] < 40
    assert ten[2] == ten[0] + 20
    assert minutes("H(7-7) * * * *", 1) == [7]
    assert {at.day for at in fires(parse_schedule("0 0 H * *", identity=identity), start, 12)} < set(range(1, 29))
    assert len({at.month for at in fires(parse_schedule("0 0 H * *", identity=identity), start, 12)}) == 12
    assert len({at.weekday() for at in fires(parse_schedule("0 0 * * H", identity=identity), start, 5)}) == 1


# -- refusals ----------------------------------------------------------------------------------------------------------

REFUSED = [
    ("99 * * * *", "minute", "'99' is out of range 0-59"),
    ("* 24 * * *", "hour", "'24' is out of range 0-23"),
    ("* 1-24 * * *", "hour", "'24' is out of range 0-23"),
    ("* * 0 * *", "day of month", "'0' is out of range 1-31"),
    ("* * 32 * *", "day of month", "'32' is out of range 1-31"),
    ("* * * 13 *", "month", "'13' is out of range 1-12"),
    ("* * * foo *", "month", "'FOO' is not a value"),
    ("* * * * 8", "day of week", "'8' is out of range 0-7"),
    ("* * * * monday", "day of week", "use 0-7 or one of sun, mon"),
    ("* mon * * *", "hour", "'MON' is not a value; use 0-23"),
    ("-1 * * * *", "minute", "negative"),
    ("1,,2 * * * *", "minute", "extra comma"),
    ("1, * * * *", "minute", "extra comma"),
    ("*/0 * * * *", "minute", "steps start at 1"),
    ("*/-5 * * * *", "minute", "not understood"),
    ("*-5 * * * *", "minute", "not understood"),
    ("1-2-3 * * * *", "minute", "not understood"),
    ("5/ * * * *", "minute", "not understood"),
    ("1.5 * * * *", "minute", "not understood"),
    ("50-10 * * * *", "minute", "write '50-59,0-10'"),
    ("* 22-2 * * *", "hour", "write '22-23,0-2'"),
    ("* 23-0/2 * * *", "hour", "write '23,0'"),
    ("* * * nov-feb *", "month", "write '11-12,1-2'"),
    ("* * * * fri-mon", "day of week", "write '5-6,0-1'"),
    ("* * * * 5-0", "day of week", "write '5-7'"),
    ("* * 15W * *", "day of month", "nearest weekday"),
    ("* * LW * *", "day of month", "nearest weekday"),
    ("* * ? * *", "day of month", "write '*'"),
    ("* * * * ?", "day of week", "write '*'"),
    ("R * * * *", "minute", "write 'H'"),
    ("R(0-29)/5 * * * *", "minute", "write 'H'"),
    ("0~30 * * * *", "minute", "write 'H'"),
    ("* * L-3 * *", "day of month", "'L' may only be"),
    ("* * 15,L * *", "day of month", "'L' may only be"),
    ("* * * * 5L", "day of week", "'L' may only be"),
    ("* * * * L5", "day of week", "'L' may only be"),
    ("* * * * friL", "day of week", "'L' may only be"),
    ("* * L * 1", "day of month", "make two jobs"),
    ("* * 1 * 5#2", "day of week", "make two jobs"),
    ("* * */2 * 5#2", "day of week", "make two jobs"),
    ("* * L * 5#2", "day of month", "make two jobs"),
    ("* * * * 5#2,1", "day of week", "without plain days"),
    ("* * 5#2 * *", "day of month", "belongs in the day of week"),
    ("* * * * 5#6", "day of week", "use #1-#5"),
    ("* * * * 5#0", "day of week", "use #1-#5"),
    ("* * * * 9#1", "day of week", "'9' is out of range 0-7"),
    ("H(0-60) * * * *", "minute", "'60' is out of range 0-59"),
    ("H(30-10) * * * *", "minute", "write 'H(10-30)'"),
    ("H/0 * * * *", "minute", "steps start at 1"),
    ("H-5 * * * *", "minute", "'H' is not a value"),
    ("0 0 31 2 *", "day of month", "the longest of the chosen months has 29 days"),
    ("0 0 30,31 feb *", "day of month", "never comes"),
    ("0 0 31 2,4,6,9,11 *", "day of month", "has 30 days"),
    ("0 0 31 4 */2", "day of month", "never comes"),
    ("0 0 30 2 *,1", "day of month", "never comes"),
    ("* * * *", "expression", "4 fields where 5"),
    ("* * * * * *", "expression", "seconds = true"),
    ("* * * * * * *", "expression", "year field"),
    ("@every 5m", "expression", "for a plain interval"),
    ("@fortnightly", "expression", "@hourly"),
    ("", "expression", "is empty"),
    ("   ", "expression", "is empty"),
    ("*\N{NO-BREAK SPACE}* * * *", "expression", "plain ASCII"),
    ("\N{ARABIC-INDIC DIGIT ONE} * * * *", "expression", "plain ASCII"),
    ("* * * * *\n", "expression", "plain ASCII"),
    ("*\0 * * * *", "expression", "plain ASCII"),
    ("1," * 150 + "1 * * * *", "expression", "the limit is 256"),
    ("9" * 200 + " * * * *", "minute", "out of range 0-59"),
]


@pytest.mark.parametrize(("text", "field", "reason"), REFUSED)
def test_refusal_names_the_field_and_the_way_out(text, field, reason):
    with pytest.raises(ScheduleError) as caught:
        parse_schedule(text)
    assert caught.value.field == field
    assert reason in caught.value.reason
    assert str(caught.value) == f"{field}: {caught.value.reason}"


@pytest.mark.parametrize(
    ("text", "options", "field", "reason"),
    [
        ("* * * * *", {"seconds": True}, "expression", "put the second in front"),
        ("* * * * * * *", {"seconds": True}, "expression", "year field"),
        ("60 * * * * *", {"seconds": True}, "second", "'60' is out of range 0-59"),
        ("* * * * *", {"zone": "Mars/Base"}, "zone", "'Europe/Berlin'"),
        ("* * * * *", {"zone": "Europe"}, "zone", "not an IANA"),
        ("* * * * *", {"zone": "../../etc/passwd"}, "zone", "not an IANA"),
        ("* * * * *", {"zone": "/usr/share/zoneinfo/UTC"}, "zone", "not an IANA"),
        ("* * * * *", {"zone": "right/Europe/Berlin"}, "zone", "not an IANA"),
        ("* * * * *", {"zone": ""}, "zone", "not an IANA"),
        ("* * * * *", {"every": "5m"}, "expression", "exactly one of"),
        (None, {}, "expression", "exactly one of"),
        (None, {"every": "5m", "zone": "Nowhere"}, "zone", "not an IANA"),
        (None, {"every": ""}, "every", "is empty"),
        (None, {"every": "90"}, "every", "with units"),
        (None, {"every": "1.5h"}, "every", "with units"),
        (None, {"every": "-5m"}, "every", "with units"),
        (None, {"every": "30m1h"}, "every", "with units"),
        (None, {"every": "5M"}, "every", "with units"),
        (None, {"every": "0s"}, "every", "from 1s to 366d"),
        (None, {"every": "366d1s"}, "every", "from 1s to 366d"),
        (None, {"every": "9" * 50 + "d"}, "every", "with units"),
        (None, {"every": "5m", "at": "2027-01-01T00:00"}, "expression", "exactly one of"),
        (None, {"at": ""}, "at", "is empty"),
        (None, {"at": "tomorrow"}, "at", "write it as 2027-01-01T00:00"),
        (None, {"at": "2027-01-01"}, "at", "is not a date and time"),
        (None, {"at": "20270101T0000"}, "at", "is not a date and time"),
        (None, {"at": "2027-01-01T00:00:00.5"}, "at", "is not a date and time"),
        (None, {"at": "2027-01-01T00:00+25:00"}, "at", "is not a date and time"),
        (None, {"at": "2027-01-01T00:00 Europe/Berlin"}, "at", "is not a date and time"),
        (None, {"at": "\N{ARABIC-INDIC DIGIT TWO}027-01-01T00:00"}, "at", "plain ASCII"),
        (None, {"at": "2" * 300}, "at", "the limit is 256"),
        (None, {"at": "2027-02-29T00:00"}, "at", "does not exist"),
        (None, {"at": "2027-13-01T00:00Z"}, "at", "does not exist"),
        (None, {"at": "2027-01-01T24:00"}, "at", "does not exist"),
        (None, {"at": "2027-01-01T23:59:60"}, "at", "does not exist"),
        (None, {"at": "0027-01-01T00:00"}, "at", "out of range 1970-2199"),
        (None, {"at": "2200-01-01T00:00"}, "at", "out of range 1970-2199"),
        (None, {"at": "2027-01-01T00:00", "zone": "Mars/Base"}, "zone", "not an IANA"),
        (None, {"at": "2027-01-01T00:00Z", "zone": "Mars/Base"}, "zone", "not an IANA"),
        ("* * * * *", {"zone": "europe/berlin"}, "zone", "write 'Europe/Berlin'"),
        ("* * * * *", {"zone": "Berlin"}, "zone", "write 'Europe/Berlin'"),
        ("* * * * *", {"zone": "America/New York"}, "zone", "write 'America/New_York'"),
        ("* * * * *", {"zone": "utc"}, "zone", "write 'UTC'"),
        ("* * * * *", {"zone": "Europe/" + "x" * 300}, "zone", "not an IANA"),
    ],
)
def test_refused_options(text, options, field, reason):
    with pytest.raises(ScheduleError) as caught:
        parse_schedule(text, **options)
    assert caught.value.field == field
    assert reason in caught.value.reason


def test_impossible_dates_do_not_burn_cpu():
    started = time.perf_counter()
    for text in ("0 0 31 2 *", "0 0 30 2 */3", "0 0 31 2,4,6,9,11 *", "59 23 30-31 2 *"):
        with pytest.raises(ScheduleError):
            parse_schedule(text)
    assert time.perf_counter() - started < 1


HOSTILE = [
    "*/" + "9" * 240 + " * * * *",
    "0-59/" + "9" * 240 + " * * * *",
    ",".join(["*"] * 120) + " * * * *",
    ",".join(["0-59"] * 48) + " * * * *",
    "* * " + ",".join(map(str, range(1, 32))) + " * " + ",".join(["0-7"] * 30),
    "* * " + "1-31," * 40 + "1 * 1-6",
    "* * * * " + ",".join(f"{day}#{nth}" for day in range(7) for nth in range(1, 6)),
    "* * * * " + ",".join(["1#5"] * 60),
    "H(0-59)/" + "9" * 200 + " * * * *",
    "59 23 29 2 */7",
    "* * * *" + " " * 240 + "*",
    "* " * 120,
    "0#" + "9" * 200 + " * * * *",
    "* * * * 1#" + "9" * 200,
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_expressions_are_cheap(text):
    started, due_ms = time.process_time(), 0
    with suppress(ScheduleError):
        schedule = parse_schedule(text, zone="Pacific/Chatham")
        for _ in range(5):
            due_ms = schedule.next_ms(due_ms)
    assert time.process_time() - started < 0.5


WORDS = st.text("0159*/,-#LWHRN()?~@", min_size=1, max_size=6) | st.sampled_from(["*", "1", "H/5", "mon", "JAN-mar"])


@settings(max_examples=120, deadline=None)
@given(st.lists(WORDS, min_size=4, max_size=7).map(" ".join) | st.text(max_size=20), st.booleans())
def test_any_text_is_scheduled_or_refused(text, seconds):
    try:
        schedule = parse_schedule(text, seconds=seconds, zone="Europe/Berlin", identity=text)
    except ScheduleError:
        return
    assert schedule.on_start or next_after(schedule, utc(START)) > utc(START)


def test_refusals_survive_pickling():
    error = pickle.loads(pickle.dumps(ScheduleError("minute", "no")))
    assert (error.field, error.reason, str(error)) == ("minute", "no", "minute: no")


# -- a value -----------------------------------------------------------------------------------------------------------


def test_schedules_are_values():
    schedule = parse_schedule(" 0 9 * * 1-5 ", zone="Europe/Berlin")
    assert (schedule.text, schedule.zone, schedule.seconds) == ("0 9 * * 1-5", "Europe/Berlin", False)
    assert schedule == copy.copy(schedule) == pickle.loads(pickle.dumps(schedule))
    assert hash(schedule) == hash(parse_schedule("0 9 * * 1-5", zone="Europe/Berlin"))
    assert schedule != parse_schedule("0 9 * * 1-5", zone="Europe/Paris")
    with pytest.raises(AttributeError):
        schedule.text = "other"
    assert isinstance(schedule, Schedule)


def test_threads_get_one_answer():
    schedule = parse_schedule("*/7 3 * * 1-5", zone="Europe/Berlin")
    starts = [utc("2024-03-01 00:00") + timedelta(hours=7 * n) for n in range(100)]
    alone = [next_after(schedule, start) for start in starts]
    with ThreadPoolExecutor(4) as pool:
        for together in pool.map(lambda _: [next_after(schedule, start) for start in starts], range(4)):
            assert together == alone


def test_equal_declarations_are_one_object():
    assert parse_schedule(" */5 * * * *") is parse_schedule("*/5 * * * * ", identity="whoever")
    assert parse_schedule("0 4 * * thu", identity="a/b") is parse_schedule("0 4 * * thu", identity="c/d")
    assert parse_schedule("@hourly", identity="a/b") is parse_schedule("@hourly", identity="c/d")
    assert parse_schedule("H 4 * * *", identity="a/b") is parse_schedule("H 4 * * *", identity="a/b")
    assert parse_schedule("h 4 * * *", identity="a/b") != parse_schedule("h 4 * * *", identity="c/d")
    assert parse_schedule(None, every="90s") is parse_schedule(None, every=" 90s ")
    assert parse_schedule(None, at="2027-01-01T00:00Z") is parse_schedule(None, at="2027-01-01T00:00Z")


def test_milliseconds_in_and_out():
    schedule = parse_schedule("* * * * *")
    assert [schedule.next_ms(ms) for ms in (0, 59_999, 60_000, 60_001, -1, -60_000)] == [60_000] * 2 + [
        120_000,
        120_000,
        0,
        0,
    ]
    assert parse_schedule("@reboot").next_ms(0) is None
    assert parse_schedule(None, every="90s").next_ms(89_999) == 90_000


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin"])
def test_the_calendar_has_ends(zone):
    """Whatever clock a machine was left with, the answer is a time or none."""
    schedule = parse_schedule("0 0 29 2 *", zone=zone)
    assert parse_schedule(None, every="1d").next_ms(10**18) is None
    assert schedule.next_ms(10**18) is None
    assert schedule.next_ms(-(10**18)) == schedule.next_ms(-61_851_600_000_000 - 10**9)
    assert next_after(schedule, datetime(9899, 1, 1, tzinfo=UTC)).year == 9904


def test_threads_that_start_with_nothing_remembered_get_one_answer():
    """The database's thread and the loop ask at once, and each may be the first."""
    schedules = [
        parse_schedule(text, zone=zone)
        for text in ("*/7 3 * * 1-5", "0 0 13 * 5", "0 0 L * *", "30 2 * * 0#1", "5 0 29 2 *")
        for zone in ("Europe/Berlin", "Australia/Lord_Howe", "America/Sao_Paulo")
    ]
    starts_ms = [1_700_000_000_000 + 86_400_000 * 9 * n for n in range(40)]

    def forget():
        for cached in (
            cron_zones._segments,
            cron_days.next_day,
            cron_days._month,
            cron_days._matching,
            cron_days._days_of_month,
        ):
            cached.cache_clear()

    def ask(barrier):
        barrier.wait()
        return [schedule.next_ms(start_ms) for start_ms in starts_ms for schedule in schedules]

    alone = ask(Barrier(1))
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            forget()
            barrier = Barrier(4)
            for together in pool.map(ask, [barrier] * 4):
                assert together == alone
