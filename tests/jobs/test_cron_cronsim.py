"""A second opinion, where the two programs mean the same: cronsim, which follows Debian's cron too.

Left out is what cronsim is known to do in another way: shifts that are no whole hours (its wild jobs tick by the hour
there), gaps that begin at midnight (its wild jobs leave out the hour after it), starts within an hour that repeats (it
may answer with a time before the start), `a-a/s` (it reads `a/s`), and `N/step` as a day of the week, which no cron has
(it counts up to 7, so that `1/3` has a Sunday; here the week ends with 6).
"""

import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from random import Random
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim, CronSimError

from supervisor.jobs.cron import ScheduleError, parse_schedule
from tests.jobs.brute_force import cron

ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Europe/Dublin",
    "Europe/London",
    "Asia/Tokyo",
    "Australia/Sydney",
)


DIFFERENT = re.compile(r"\b(\d+)-\1/|\b\d/\d+$")


def a_start(random: Random, zone: str) -> datetime:
    """An instant in one of the months in which clocks change, when they show nothing twice."""
    month = datetime(2024, random.choice([1, 3, 4, 9, 10, 11]), 1, tzinfo=UTC)
    while True:
        local = (month + timedelta(minutes=random.randrange(30 * 1440))).astimezone(ZoneInfo(zone))
        if local.utcoffset() == local.replace(fold=1 - local.fold).utcoffset():
            return local


@pytest.mark.parametrize("zone", ZONES)
def test_cronsim_agrees(zone):
    random, told = Random(zone), Counter()
    for _ in range(200):
        rule = cron(random, hours=random.choice([4, None]), with_seconds=random.random() < 0.2)
        start = a_start(random, zone)
        if DIFFERENT.search(rule.text):
            continue
        try:
            schedule = parse_schedule(rule.text, zone=zone, seconds=rule.second is not None)
        except ScheduleError:
            with pytest.raises((CronSimError, StopIteration)):
                next(CronSim(rule.text, start))
            told["refused"] += 1
            continue
        theirs = CronSim(rule.text, start)
        at_ms = int(start.timestamp()) * 1000
        for _ in range(4):
            at_ms = schedule.next_ms(at_ms)
            assert at_ms == int(next(theirs).timestamp()) * 1000, (rule.text, start)
            told["agreed"] += 1
    assert told["agreed"] > 400
