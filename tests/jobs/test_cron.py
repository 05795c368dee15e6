"""Schedules against tables written by hand, and against two slow clocks that know nothing of croniter."""

import copy
import pickle
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.jobs.cron import Schedule, ScheduleError, parse_schedule


def utc(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def fires(schedule, start, count):
    found, instant = [], start
    for _ in range(count):
        instant = schedule.next_after(instant)
        found.append(instant)
    return found


def walls(text, zone, start, count, **options):
    """The next fires as local "day hour:minute offset"; `start` is UTC."""
    schedule = parse_schedule(text, zone=zone, **options)
    return [f"{at.astimezone(ZoneInfo(zone)):%d %H:%M %z}" for at in fires(schedule, utc(start), count)]


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
    assert parse_schedule("*/15 * * * *").next_after(utc(start)) == utc(expected)


def test_seconds_are_strictly_after_too():
    schedule = parse_schedule("* * * * * *", seconds=True)
    assert schedule.next_after(utc("2024-03-05 07:13:20.5")) == utc("2024-03-05 07:13:21")
    assert schedule.next_after(utc("2024-03-05 07:13:21")) == utc("2024-03-05 07:13:22")


def test_any_zone_in_and_utc_out():
    tokyo = datetime(2024, 3, 5, 16, 13, tzinfo=ZoneInfo("Asia/Tokyo"))
    for zone in ("UTC", "Etc/UTC", "Europe/Berlin", "Etc/GMT+0"):
        due = parse_schedule("*/15 * * * *", zone=zone).next_after(tokyo)
        assert due == utc("2024-03-05 07:15")
        assert due.tzinfo is UTC


def test_naive_instants_are_refused():
    with pytest.raises(ValueError, match="no time zone"):
        parse_schedule("* * * * *").next_after(datetime(2024, 3, 5))


def test_reboot_is_due_at_start_only():
    schedule = parse_schedule("@reboot")
    assert schedule.on_start
    assert schedule.next_after(utc(START)) is None
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
    assert schedule.next_after(utc("1969-12-31 22:30")) == utc("1969-12-31 23:00")
    assert fires(schedule, utc("2024-10-27 00:00"), 2) == [utc("2024-10-27 01:00"), utc("2024-10-27 02:00")]
    assert schedule.text == "every 1h"


# -- H -----------------------------------------------------------------------------------------------------------------


def minutes_past_midnight(text, identity):
    due = parse_schedule(text, identity=identity).next_after(utc("2024-03-05 23:59"))
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


# -- clocks that change ------------------------------------------------------------------------------------------------

DST = [
    # Berlin, 31 March 2024: 02:00 -> 03:00
    ("30 2 * * *", "Europe/Berlin", "2024-03-30 00:00", ["30 02:30 +0100", "31 03:00 +0200", "01 02:30 +0200"]),
    ("0,30 2 * * *", "Europe/Berlin", "2024-03-30 02:00", ["31 03:00 +0200", "01 02:00 +0200", "01 02:30 +0200"]),
    ("15 2,3 * * *", "Europe/Berlin", "2024-03-30 12:00", ["31 03:00 +0200", "31 03:15 +0200", "01 02:15 +0200"]),
    ("0 2,3 * * *", "Europe/Berlin", "2024-03-30 12:00", ["31 03:00 +0200", "01 02:00 +0200"]),
    ("30 2 * * *", "Europe/Berlin", "2024-03-31 01:00", ["01 02:30 +0200"]),
    ("30 2 31 3 *", "Europe/Berlin", "2024-03-30 12:00", ["31 03:00 +0200", "31 02:30 +0200"]),
    ("5 0-23 * * *", "Europe/Berlin", "2024-03-31 00:00", ["31 01:05 +0100", "31 03:00 +0200", "31 03:05 +0200"]),
    ("*/30 * * * *", "Europe/Berlin", "2024-03-31 00:00", ["31 01:30 +0100", "31 03:00 +0200", "31 03:30 +0200"]),
    ("*/30 2 * * *", "Europe/Berlin", "2024-03-31 00:00", ["01 02:00 +0200", "01 02:30 +0200"]),
    ("30 */2 * * *", "Europe/Berlin", "2024-03-30 23:00", ["31 00:30 +0100", "31 04:30 +0200"]),
    ("@hourly", "Europe/Berlin", "2024-03-31 00:00", ["31 03:00 +0200", "31 04:00 +0200"]),
    # Berlin, 27 October 2024: 03:00 -> 02:00
    ("30 2 * * *", "Europe/Berlin", "2024-10-26 12:00", ["27 02:30 +0200", "28 02:30 +0100"]),
    ("30 2 * * *", "Europe/Berlin", "2024-10-27 01:00", ["28 02:30 +0100"]),  # from within the second pass
    ("0-59 2 * * *", "Europe/Berlin", "2024-10-27 00:58", ["27 02:59 +0200", "28 02:00 +0100"]),
    ("0 3 * * *", "Europe/Berlin", "2024-10-27 00:30", ["27 03:00 +0100", "28 03:00 +0100"]),
    ("0 3 * * *", "Europe/Berlin", "2024-10-27 01:30", ["27 03:00 +0100"]),
    (
        "*/30 2 * * *",
        "Europe/Berlin",
        "2024-10-26 12:00",
        ["27 02:00 +0200", "27 02:30 +0200", "27 02:00 +0100", "27 02:30 +0100", "28 02:00 +0100"],
    ),
    ("@hourly", "Europe/Berlin", "2024-10-26 23:30", ["27 02:00 +0200", "27 02:00 +0100", "27 03:00 +0100"]),
    ("*/20 2 25 10 *", "Europe/Berlin", "2026-10-25 00:45", ["25 02:00 +0100", "25 02:20 +0100"]),
    ("* 2 25 10 *", "Europe/Berlin", "2026-10-25 00:59", ["25 02:00 +0100"]),  # the match of 2027 is at +0200 too
    ("* 2 25 10 *", "Europe/Berlin", "2025-11-01 00:00", ["25 02:00 +0200"]),  # asked in winter, due in summer
    ("* 3 15 7 *", "Europe/Berlin", "2024-01-15 00:00", ["15 03:00 +0200", "15 03:01 +0200"]),
    # New York, 10 March and 3 November 2024
    ("30 2 * * *", "America/New_York", "2024-03-10 00:00", ["10 03:00 -0400", "11 02:30 -0400"]),
    ("*/20 2 * * *", "America/New_York", "2024-03-10 00:00", ["11 02:00 -0400"]),
    ("30 1 * * *", "America/New_York", "2024-11-03 00:00", ["03 01:30 -0400", "04 01:30 -0500"]),
    ("*/30 1 * * *", "America/New_York", "2024-11-03 05:15", ["03 01:30 -0400", "03 01:00 -0500", "03 01:30 -0500"]),
    # Lord Howe moves by half an hour: 6 October 2024 02:00 -> 02:30, 7 April 2024 02:00 -> 01:30
    ("15 2 * * *", "Australia/Lord_Howe", "2024-10-05 00:00", ["06 02:30 +1100", "07 02:15 +1100"]),
    ("0,15,30 2 * * *", "Australia/Lord_Howe", "2024-10-05 16:00", ["07 02:00 +1100"]),
    ("*/15 * * * *", "Australia/Lord_Howe", "2024-10-05 15:15", ["06 02:30 +1100", "06 02:45 +1100"]),
    ("0 * * * *", "Australia/Lord_Howe", "2024-10-05 14:00", ["06 01:00 +1030", "06 03:00 +1100"]),
    ("45 1 * * *", "Australia/Lord_Howe", "2024-04-06 12:00", ["07 01:45 +1100", "08 01:45 +1030"]),
    ("*/15 1 * * *", "Australia/Lord_Howe", "2024-04-06 14:30", ["07 01:45 +1100", "07 01:30 +1030", "07 01:45 +1030"]),
    # Chatham: 29 September 2024 02:45 -> 03:45, 7 April 2024 03:45 -> 02:45
    ("50 2 * * *", "Pacific/Chatham", "2024-09-28 00:00", ["29 03:45 +1345", "30 02:50 +1345"]),
    ("30 2,3 * * *", "Pacific/Chatham", "2024-09-28 12:00", ["29 02:30 +1245", "29 03:45 +1345", "30 02:30 +1345"]),
    ("*/15 3 * * *", "Pacific/Chatham", "2024-09-28 12:00", ["29 03:45 +1345", "30 03:00 +1345"]),
    ("0 3 * * *", "Pacific/Chatham", "2024-04-06 12:00", ["07 03:00 +1345", "08 03:00 +1245"]),
    ("*/30 3 * * *", "Pacific/Chatham", "2024-04-06 13:45", ["07 03:00 +1245", "07 03:30 +1245"]),
    # Gaps that begin at midnight: the day itself starts at 01:00
    ("@daily", "America/Sao_Paulo", "2017-10-14 12:00", ["15 01:00 -0200", "16 00:00 -0200"]),
    ("30 0 15 10 *", "America/Sao_Paulo", "2017-10-14 12:00", ["15 01:00 -0200"]),
    ("*/30 0 * * *", "America/Sao_Paulo", "2017-10-14 12:00", ["16 00:00 -0200"]),
    ("0 0 * * sun", "Asia/Beirut", "2022-03-26 12:00", ["27 01:00 +0300", "03 00:00 +0300"]),
    # Troll moves by two hours: 31 March 2024 01:00 -> 03:00
    ("30 1,2 * * *", "Antarctica/Troll", "2024-03-30 12:00", ["31 03:00 +0200", "01 01:30 +0200"]),
    # Apia left out 30 December 2011 whole: a correction, nothing is made up for
    ("0 12 * * *", "Pacific/Apia", "2011-12-29 00:00", ["29 12:00 -1000", "31 12:00 +1400"]),
    ("0 */12 * * *", "Pacific/Apia", "2011-12-29 23:00", ["31 00:00 +1400", "31 12:00 +1400"]),
]


@pytest.mark.parametrize(("text", "zone", "start", "expected"), DST)
def test_clock_change(text, zone, start, expected):
    assert walls(text, zone, start, len(expected)) == expected


def test_clock_change_with_seconds():
    expected = ["31 03:00 +0200", "01 02:30 +0200", "01 02:30 +0200"]
    assert walls("*/30 30 2 * * *", "Europe/Berlin", "2024-03-30 12:00", 3, seconds=True) == expected
    assert walls("59 59 * * * *", "Europe/Berlin", "2024-10-27 00:30", 2, seconds=True) == [
        "27 02:59 +0200",
        "27 02:59 +0100",
    ]


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
        (None, {"every": "0s"}, "every", "1s-366d"),
        (None, {"every": "366d1s"}, "every", "1s-366d"),
        (None, {"every": "9" * 50 + "d"}, "every", "with units"),
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


WORDS = st.text("0159*/,-#LWHRN()?~@", min_size=1, max_size=6) | st.sampled_from(["*", "1", "H/5", "mon", "JAN-mar"])


@settings(max_examples=120, deadline=None)
@given(st.lists(WORDS, min_size=4, max_size=7).map(" ".join) | st.text(max_size=20), st.booleans())
def test_any_text_is_scheduled_or_refused(text, seconds):
    try:
        schedule = parse_schedule(text, seconds=seconds, zone="Europe/Berlin", identity=text)
    except ScheduleError:
        return
    assert schedule.on_start or schedule.next_after(utc(START)) > utc(START)


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
    alone = [schedule.next_after(start) for start in starts]
    with ThreadPoolExecutor(4) as pool:
        for together in pool.map(lambda _: [schedule.next_after(start) for start in starts], range(4)):
            assert together == alone


# -- against clocks that know nothing of croniter ----------------------------------------------------------------------


@st.composite
def cron_field(draw, low, high, *, reach=None):
    """(text, values, starts with a star), built side by side so that no second parser is needed."""
    number = st.integers(low, high if reach is None else reach)
    shape = draw(st.sampled_from(["*", "*", "*/s", "n", "n,n", "a-b", "a-b/s", "n/s", "n,*/s"]))
    step, a, b = draw(st.integers(1, 35)), *sorted((draw(number), draw(number)))
    everything = range(low, high + 1)
    return {
        "*": ("*", {*everything}, True),
        "*/s": (f"*/{step}", {*everything[::step]}, True),
        "n": (f"{a}", {a}, False),
        "n,n": (f"{b},{a}", {a, b}, False),
        "a-b": (f"{a}-{b}", {*range(a, b + 1)}, False),
        "a-b/s": (f"{a}-{b}/{step}", {*range(a, b + 1, step)}, False),
        "n/s": (f"{a}/{step}", {*range(a, high + 1, step)}, False),
        "n,*/s": (f"{a},*/{step}", {a, *everything[::step]}, False),
    }[shape]


CRON = st.tuples(cron_field(0, 59), cron_field(0, 23), cron_field(1, 31), cron_field(1, 12), cron_field(0, 6))


def day_matches(fields, day):
    (_, days, day_star), (_, months, _), (_, weekdays, weekday_star) = fields[2:]
    both = day.day in days, day.isoweekday() % 7 in weekdays
    return day.month in months and (all(both) if day_star or weekday_star else any(both))


def slow_next(fields, start):
    """Minute by minute; days that cannot match are stepped over whole. None after forty years."""
    at = start.replace(second=0, microsecond=0) + timedelta(minutes=1)
    limit = start.year + 41
    while at.year < limit:
        if not day_matches(fields, at):
            at = datetime(at.year, at.month, at.day, tzinfo=UTC) + timedelta(days=1)
        elif at.hour in fields[1][1] and at.minute in fields[0][1]:
            return at
        else:
            at += timedelta(minutes=1)
    return None


def text_of(fields):
    return " ".join(text for text, _, _ in fields)


@settings(max_examples=150, deadline=None)
@given(CRON, st.datetimes(datetime(1990, 1, 1), datetime(2060, 1, 1)))
def test_utc_agrees_with_counting_minutes(fields, start):
    start = start.replace(tzinfo=UTC)
    expected = slow_next(fields, start)
    if expected is None:
        with pytest.raises(ScheduleError, match="never comes"):
            parse_schedule(text_of(fields))
        return
    schedule = parse_schedule(text_of(fields))
    assert schedule.next_after(start) == expected
    assert schedule.next_after(expected) == slow_next(fields, expected)


CHANGES = [
    ("Europe/Berlin", "2024-03-31 01:00"),
    ("Europe/Berlin", "2024-10-27 01:00"),
    ("America/New_York", "2024-11-03 06:00"),
    ("Australia/Lord_Howe", "2024-04-06 15:00"),
    ("Australia/Lord_Howe", "2024-10-05 15:30"),
    ("Pacific/Chatham", "2024-04-06 14:00"),
    ("America/Sao_Paulo", "2017-10-15 03:00"),
    ("America/Havana", "2024-11-03 05:00"),
    ("Antarctica/Troll", "2024-10-27 01:00"),
    ("Asia/Pyongyang", "2015-08-14 15:00"),
]


@cache
def timeline(zone, change):
    """(instant, wall) for each minute of the day before and the day after a change."""
    start = utc(change) - timedelta(days=1)
    return [
        (at, at.astimezone(ZoneInfo(zone)).replace(tzinfo=None, fold=0))
        for at in (start + timedelta(minutes=n) for n in range(2 * 1440))
    ]


def simulated_runs(fields, zone, change):
    """What a daemon does that wakes each minute, compares the wall with the furthest one seen, and catches up."""

    @cache
    def on_day(day: date):
        return day_matches(fields, day)

    def due(wall):
        return wall.minute in fields[0][1] and wall.hour in fields[1][1] and on_day(wall.date())

    wild = fields[0][2] or fields[1][2]
    minute, runs, furthest = timedelta(minutes=1), [], None
    for at, wall in timeline(zone, change):
        skipped = (wall - furthest) // minute - 1 if furthest else 0
        late = not wild and any(due(furthest + n * minute) for n in range(1, skipped + 1))
        if late or (due(wall) and (wild or furthest is None or wall > furthest)):
            runs.append(at)
        furthest = max(furthest or wall, wall)
    return runs


ANY_DAY = st.just(("*", {*range(1, 32)}, True))
ANY_MONTH = st.just(("*", {*range(1, 13)}, True))
NEAR = st.tuples(cron_field(0, 59), cron_field(0, 23, reach=4), ANY_DAY, ANY_MONTH, cron_field(0, 6))


@settings(max_examples=80, deadline=None)
@given(NEAR, st.sampled_from(CHANGES))
def test_clock_changes_agree_with_a_simulated_daemon(fields, where):
    zone, change = where
    schedule = parse_schedule(text_of(fields), zone=zone)
    instants = [at for at, _ in timeline(zone, change)]
    expected = simulated_runs(fields, zone, change)
    found, instant = [], instants[0] - timedelta(seconds=1)
    while (instant := schedule.next_after(instant)) <= instants[-1] and len(found) < 400:
        found.append(instant)
    assert found == expected[:400]
    for start in instants[1380:1560:13]:  # from anywhere in either pass, not only from one run to the next
        following = next((at for at in expected if at > start), None)
        assert following is None or schedule.next_after(start) == following


def occurrences(wall, zone, wild):
    """Every instant a daemon gives to a wall time: both passes or the first one, nothing or the end of the gap."""
    passes = [wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)]
    real = [at for at in passes if at.astimezone(zone).replace(tzinfo=None) == wall]
    if wild:
        return real
    while not real:  # the next wall time the clock shows
        wall += timedelta(minutes=1)
        at = wall.replace(tzinfo=zone).astimezone(UTC)
        real = [at] if at.astimezone(zone).replace(tzinfo=None) == wall else []
    return real[:1]


def slow_next_in(fields, zone, start):
    """From the day before the start on, all instants of each matching day and of the next; None after three years."""
    wild, found = fields[0][2] or fields[1][2], []
    day = datetime.combine(start.astimezone(zone).date(), datetime.min.time()) - timedelta(days=1)
    for _ in range(1100):
        seen = bool(found)
        if day_matches(fields, day):
            times = (day + timedelta(hours=h, minutes=m) for h in fields[1][1] for m in fields[0][1])
            found += [at for wall in times for at in occurrences(wall, zone, wild) if at > start]
        if seen:
            return min(found)
        day += timedelta(days=1)
    return None


FAR = st.tuples(cron_field(0, 59), cron_field(0, 23, reach=4), cron_field(1, 31), cron_field(1, 12), cron_field(0, 6))
ZONES = sorted({zone for zone, _ in CHANGES} | {"Africa/Casablanca", "America/Caracas", "Asia/Tehran", "Europe/Dublin"})


@settings(max_examples=80, deadline=None)
@given(FAR, st.sampled_from(ZONES), st.datetimes(datetime(2000, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC)))
def test_zones_agree_with_a_list_of_all_instants(fields, zone, start):
    expected = slow_next_in(fields, ZoneInfo(zone), start)
    if expected is not None:
        assert parse_schedule(text_of(fields), zone=zone).next_after(start) == expected
