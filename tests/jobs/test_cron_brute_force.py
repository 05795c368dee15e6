"""Random schedules around real changes of the clock and far from them, against a daemon that looks each minute."""

import zoneinfo
from bisect import bisect_right
from functools import cache
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.jobs.cron import ScheduleError, parse_schedule
from tests.jobs.brute_force import DAY, Cron, Stretches, changes, cron, simulated, slow_next

HOUR = 3600
NEAR_EXAMPLES, RULES_EACH, STARTS_EACH = 100, 21, 10
FAR_EXAMPLES, FAR_EACH = 40, 20
SECONDS_EXAMPLES = 40

ODD = [  # what hits the fewest zones, and would hardly ever be drawn
    ("Africa/Casablanca", 2031), ("America/Caracas", 2007), ("America/Caracas", 2016), ("America/Havana", 2024),
    ("America/Sao_Paulo", 2017), ("Antarctica/Casey", 2009), ("Antarctica/Casey", 2010), ("Antarctica/Troll", 2024),
    ("Antarctica/Vostok", 1994), ("Asia/Beirut", 2022), ("Asia/Gaza", 2054), ("Asia/Kathmandu", 1986),
    ("Asia/Pyongyang", 2015), ("Asia/Pyongyang", 2018), ("Australia/Lord_Howe", 2024), ("Australia/Lord_Howe", 2060),
    ("Europe/Dublin", 1971), ("Europe/Dublin", 2050), ("Pacific/Apia", 2011), ("Pacific/Chatham", 2090),
    ("Pacific/Kwajalein", 1993),
]  # fmt: skip


@cache
def zones() -> list[str]:
    return sorted(name for name in zoneinfo.available_timezones() if "/" in name or name == "UTC")


def a_change(random: Random) -> tuple[str, int]:
    """A zone and the instant at which its clock changes, within 1970-2100, in whole minutes before and after."""
    while True:
        zone, year = (
            random.choice(ODD) if random.random() < 0.3 else (random.choice(zones()), random.randint(1970, 2100))
        )
        found = [at for at, before, after in changes(zone, year) if not (at % 60 or before % 60 or after % 60)]
        if found:
            return zone, random.choice(found)


def never_comes(rule: Cron) -> bool:
    return not any(rule.on(day) for day in range(41 * 366))


def check(rule: Cron, zone: str, change: int, around: int, step: int, random: Random) -> int:
    """The answers from random instants near a change, each of them the first simulated run after it."""
    try:
        schedule = parse_schedule(rule.text, zone=zone, seconds=rule.second is not None)
    except ScheduleError:
        assert never_comes(rule), rule.text
        return 0
    start, end = change - around, change + around
    runs = simulated(rule, Stretches(zone, start - 4 * HOUR, end), step)
    for _ in range(STARTS_EACH):
        asked_ms = random.randint(start * 1000, end * 1000 - 1)
        following = bisect_right(runs, asked_ms // 1000)
        found_ms = schedule.next_ms(asked_ms)
        where = (rule.text, zone, change, asked_ms)
        if following < len(runs):
            assert found_ms == runs[following] * 1000, where
        else:
            assert found_ms is None or found_ms >= end * 1000, where
    return STARTS_EACH


@settings(max_examples=NEAR_EXAMPLES, deadline=None)
@given(st.integers(0, 2**64))
def test_around_changes_of_the_clock(seed):
    random, cases = Random(seed), 0
    for _ in range(RULES_EACH):
        zone, change = a_change(random)
        rule = cron(random, hours=random.choice([4, 4, None]), days=random.random() < 0.3)
        cases += check(rule, zone, change, 14 * HOUR, 60, random)
    assert cases >= RULES_EACH * STARTS_EACH // 2


@settings(max_examples=SECONDS_EXAMPLES, deadline=None)
@given(st.integers(0, 2**64))
def test_around_changes_of_the_clock_to_the_second(seed):
    random = Random(seed)
    zone, change = a_change(random)
    rule = cron(random, with_seconds=True, hours=4, days=False)
    assert check(rule, zone, change, 3 * HOUR, 1, random) == STARTS_EACH


@settings(max_examples=FAR_EXAMPLES, deadline=None)
@given(st.integers(0, 2**64))
def test_days_years_ahead(seed):
    """No day that matches is left out, whatever lies between; and what comes next after that is as the rule says."""
    random, found = Random(seed), 0
    for _ in range(FAR_EACH):
        zone, start = random.choice(zones()), random.randint(2 * 365 * DAY, 130 * 365 * DAY)
        rule = cron(random, hours=random.choice([4, None]))
        expected = slow_next(rule, zone, start, 8 * 366)
        try:
            schedule = parse_schedule(rule.text, zone=zone)
        except ScheduleError:
            assert expected is None, rule.text
            continue
        found_ms = schedule.next_ms(start * 1000)
        where = (rule.text, zone, start)
        if expected is None:
            assert found_ms is None or found_ms >= (start // DAY + 8 * 366 - 2) * DAY * 1000, where
        else:
            assert found_ms == expected * 1000, where
            found += 1
    assert found > FAR_EACH // 2


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**64))
def test_nothing_is_skipped_and_nothing_comes_twice(seed):
    """Strictly later; the same from the instant before; and the same from anywhere between two fires."""
    random = Random(seed)
    zone, change = a_change(random)
    rule = cron(random, with_seconds=random.random() < 0.3, hours=4, days=random.random() < 0.5)
    try:
        schedule = parse_schedule(rule.text, zone=zone, seconds=rule.second is not None)
    except ScheduleError:
        assert never_comes(rule), rule.text
        return
    at_ms = (change - random.randint(0, DAY)) * 1000
    for _ in range(50):
        fire_ms = schedule.next_ms(at_ms)
        if fire_ms is None:
            return
        assert fire_ms > at_ms
        assert schedule.next_ms(fire_ms - 1) == fire_ms
        assert schedule.next_ms(random.randint(at_ms, fire_ms - 1)) == fire_ms
        at_ms = fire_ms
