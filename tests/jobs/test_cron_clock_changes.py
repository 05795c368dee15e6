"""Clocks that change, against tables written by hand from cron's rules: first a fixed job, then one that follows
elapsed time, in zones that differ in how far, when and which way they move."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from supervisor.jobs.cron import ScheduleError, parse_schedule
from tests.jobs.instants import next_after


def utc(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def walls(text, zone, start, count, **options):
    """The next fires as local "day hour:minute offset"; `start` is UTC."""
    schedule, instant, found = parse_schedule(text, zone=zone, **options), utc(start), []
    for _ in range(count):
        instant = next_after(schedule, instant)
        found.append(f"{instant.astimezone(ZoneInfo(zone)):%d %H:%M %z}")
    return found


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
    # Havana falls back at 01:00 to midnight
    ("@daily", "America/Havana", "2024-03-09 12:00", ["10 01:00 -0400", "11 00:00 -0400"]),
    ("@daily", "America/Havana", "2024-11-02 12:00", ["03 00:00 -0400", "04 00:00 -0500"]),
    ("@hourly", "America/Havana", "2024-11-03 03:30", ["03 00:00 -0400", "03 00:00 -0500", "03 01:00 -0500"]),
    # Cairo: 28 April 2023 00:00 -> 01:00; 27 October 00:00 -> 23:00 of the day before
    ("@daily", "Africa/Cairo", "2023-04-27 12:00", ["28 01:00 +0300", "29 00:00 +0300"]),
    ("30 23 * * *", "Africa/Cairo", "2023-10-26 12:00", ["26 23:30 +0300", "27 23:30 +0200"]),
    (
        "*/30 23 26 * *",
        "Africa/Cairo",
        "2023-10-26 12:00",
        ["26 23:00 +0300", "26 23:30 +0300", "26 23:00 +0200", "26 23:30 +0200", "26 23:00 +0200"],
    ),
    ("0 0 27 10 *", "Africa/Cairo", "2023-10-26 12:00", ["27 00:00 +0200", "27 00:00 +0300"]),
    # Asuncion: 1 October 2023 00:00 -> 01:00; 24 March 2024 00:00 -> 23:00
    ("@daily", "America/Asuncion", "2023-09-30 12:00", ["01 01:00 -0300", "02 00:00 -0300"]),
    ("30 23 * * *", "America/Asuncion", "2024-03-23 12:00", ["23 23:30 -0300", "24 23:30 -0400"]),
    # Troll back: 27 October 2024 03:00 -> 01:00
    ("30 1,2 * * *", "Antarctica/Troll", "2024-10-26 12:00", ["27 01:30 +0200", "27 02:30 +0200", "28 01:30 +0000"]),
    ("*/30 2 * * *", "Antarctica/Troll", "2024-10-27 00:00", ["27 02:30 +0200", "27 02:00 +0000", "27 02:30 +0000"]),
    # Dublin, where winter is the daylight saving time: 31 March 2024 01:00 -> 02:00, 27 October 02:00 -> 01:00
    ("30 1 * * *", "Europe/Dublin", "2024-03-30 12:00", ["31 02:00 +0100", "01 01:30 +0100"]),
    ("30 1 * * *", "Europe/Dublin", "2024-10-26 12:00", ["27 01:30 +0100", "28 01:30 +0000"]),
    ("*/40 1 * * *", "Europe/Dublin", "2024-10-26 12:00", ["27 01:00 +0100", "27 01:40 +0100", "27 01:00 +0000"]),
    # Casablanca leaves summer time for Ramadan: 10 March 2024 03:00 -> 02:00, 14 April 02:00 -> 03:00
    ("30 2 * * *", "Africa/Casablanca", "2024-03-09 12:00", ["10 02:30 +0100", "11 02:30 +0000"]),
    ("30 2 * * *", "Africa/Casablanca", "2024-04-13 12:00", ["14 03:00 +0100", "15 02:30 +0100"]),
    # Pyongyang changed its mind: 15 August 2015 00:00 -> 23:30, 4 May 2018 23:30 -> 00:00
    ("45 23 * * *", "Asia/Pyongyang", "2015-08-14 00:00", ["14 23:45 +0900", "15 23:45 +0830"]),
    (
        "*/15 23 * * *",
        "Asia/Pyongyang",
        "2015-08-14 14:15",
        ["14 23:30 +0900", "14 23:45 +0900", "14 23:30 +0830", "14 23:45 +0830", "15 23:00 +0830"],
    ),
    ("45 23 * * *", "Asia/Pyongyang", "2018-05-04 00:00", ["05 00:00 +0900", "05 23:45 +0900"]),
    ("*/15 23 * * *", "Asia/Pyongyang", "2018-05-04 14:45", ["05 23:00 +0900"]),
    # Caracas too: 9 December 2007 03:00 -> 02:30, 1 May 2016 02:30 -> 03:00
    ("45 2 * * *", "America/Caracas", "2007-12-09 00:00", ["09 02:45 -0400", "10 02:45 -0430"]),
    ("45 2 * * *", "America/Caracas", "2016-04-30 12:00", ["01 03:00 -0400", "02 02:45 -0400"]),
    # Monrovia, 7 January 1972: 00:00 at -00:44:30 -> 00:44:30 at +00:00
    ("30 0 * * *", "Africa/Monrovia", "1972-01-05 12:00", ["06 00:30 -004430", "07 00:44 +0000", "08 00:30 +0000"]),
    ("*/45 0 * * *", "Africa/Monrovia", "1972-01-06 12:00", ["07 00:45 +0000", "08 00:00 +0000"]),
    # Three hours forward are a correction, three hours back are not: Casey, 18 October 2009 and 5 March 2010
    ("30 3 * * *", "Antarctica/Casey", "2009-10-17 00:00", ["19 03:30 +1100"]),
    ("30 0 * * *", "Antarctica/Casey", "2010-03-04 12:00", ["05 00:30 +1100", "06 00:30 +0800"]),
    ("30 */1 * * *", "Antarctica/Casey", "2010-03-04 14:00", ["05 01:30 +1100", "04 23:30 +0800", "05 00:30 +0800"]),
    # Kwajalein had no 21 August 1993
    ("0 12 * * *", "Pacific/Kwajalein", "1993-08-20 00:00", ["20 12:00 -1200", "22 12:00 +1200"]),
    # Long after the last change that a tz database writes down: 31 March 2075 and 7 November 2100 are Sundays
    ("30 2 * * *", "Europe/Berlin", "2075-03-30 00:30", ["30 02:30 +0100", "31 03:00 +0200", "01 02:30 +0200"]),
    ("30 1 * * *", "America/New_York", "2100-11-07 00:00", ["07 01:30 -0400", "08 01:30 -0500"]),
    ("*/30 1 * * *", "America/New_York", "2100-11-07 05:15", ["07 01:30 -0400", "07 01:00 -0500", "07 01:30 -0500"]),
    ("15 2 * * *", "Australia/Lord_Howe", "2090-09-30 00:00", ["01 02:30 +1100", "02 02:15 +1100"]),
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


def test_more_than_three_hours_back_are_a_correction():
    """Vostok went from +7 to nothing on 1 February 1994: the evening came twice, and so does what is due in it."""
    if ZoneInfo("Antarctica/Vostok").utcoffset(datetime(1994, 6, 1)):
        pytest.skip("the tz database here is older than 2023d, which has this change")
    expected = ["31 20:00 +0700", "31 20:00 +0000", "01 20:00 +0000"]
    assert walls("0 20 * * *", "Antarctica/Vostok", "1994-01-31 12:00", 3) == expected


def test_what_only_falls_into_gaps_is_refused():
    """When March has a fifth Sunday, clocks in the European Union have no hour from two to three on it."""
    with pytest.raises(ScheduleError, match="Europe/Berlin skips that time on every such day"):
        parse_schedule("*/5 2 * 3 0#5", zone="Europe/Berlin")
    assert walls("0-59/5 2 * 3 0#5", "Europe/Berlin", "2024-01-01 00:00", 2) == ["31 03:00 +0200", "30 03:00 +0200"]
    assert walls("*/30 1-3 * 3 0#5", "Europe/Berlin", "2024-03-31 00:30", 1) == ["31 03:00 +0200"]
    assert walls("*/5 2 * 3 0#5", "Africa/Tunis", "2024-01-01 00:00", 1) == ["31 02:00 +0100"]


@pytest.mark.parametrize(
    ("at", "zone", "expected"),
    [
        ("2027-01-01T00:00+01:00", "UTC", "2026-12-31 23:00"),
        ("2027-01-01T00:00+01:00", "Asia/Tokyo", "2026-12-31 23:00"),
        ("2027-01-01 00:00:05Z", "Asia/Tokyo", "2027-01-01 00:00:05"),
        ("2027-01-01T00:00", "Asia/Tokyo", "2026-12-31 15:00"),
        ("2024-03-31T02:30", "Europe/Berlin", "2024-03-31 01:00"),  # the end of the gap
        ("2024-10-27T02:30", "Europe/Berlin", "2024-10-27 00:30"),  # the first pass
        ("2024-10-27T02:30+01:00", "Europe/Berlin", "2024-10-27 01:30"),
        ("2011-12-30T12:00", "Pacific/Apia", "2011-12-30 10:00"),  # a day that was left out whole
        ("2018-05-04T23:45", "Asia/Pyongyang", "2018-05-04 15:00"),
        ("2050-07-01T00:00", "America/New_York", "2050-07-01 04:00"),
    ],
)
def test_at_is_due_once(at, zone, expected):
    schedule = parse_schedule(None, at=at, zone=zone)
    assert schedule.once
    assert not schedule.on_start
    assert schedule.text == f"at {at}"
    assert next_after(schedule, utc("2001-01-01")) == utc(expected)
    assert next_after(schedule, utc(expected) - timedelta(milliseconds=1)) == utc(expected)
    assert next_after(schedule, utc(expected)) is None
