"""Next times, and what changes of the clock do: a table by hand, and every effect against the fires around it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from supervisor.jobs.cron import ScheduleError
from supervisor.jobs.cron_preview import (
    ClockChange,
    Declaration,
    clock_changes,
    effects,
    next_times,
    wall_ms,
    without_effect,
)

BERLIN, SPRING, AUTUMN = "Europe/Berlin", "2026-03-01 00:00", "2026-09-01 00:00"


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def told(zone: str, start: str, last_ms: int | None = None, **declared: str) -> list[str]:
    return [f"{e.kind}: {e.text}" for e in effects(Declaration(zone=zone, **declared), ms(start), last_ms)]


EFFECTS = [
    ("30 2 * * *", BERLIN, SPRING, "moved: the run of 02:30 is at 03:00 instead"),
    ("0,30 2 * * *", BERLIN, SPRING, "moved: the runs of 02:00 and 02:30 are made up for by one, at 03:00"),
    ("0-59 2 * * *", BERLIN, SPRING, "moved: the 60 runs from 02:00 to 02:59 are made up for by one, at 03:00"),
    ("0 2,3 * * *", BERLIN, SPRING, "merged: the run of 02:00 is one with that of 03:00"),
    (
        "*/30 2 * * *",
        BERLIN,
        SPRING,
        "left_out: it follows elapsed time, so the runs of 02:00 and 02:30 are not made up for",
    ),
    (
        "*/15 * * * *",
        BERLIN,
        SPRING,
        "left_out: it follows elapsed time, so the 4 runs from 02:00 to 02:45 are not made up for",
    ),
    ("@hourly", BERLIN, SPRING, "left_out: it follows elapsed time, so the run of 02:00 is not made up for"),
    ("30 2 * * *", BERLIN, AUTUMN, "first_pass: the run of 02:30 is in the first pass only"),
    ("*/30 2 * * *", BERLIN, AUTUMN, "both_passes: it follows elapsed time, so it runs in both passes"),
    ("30 */2 * * *", BERLIN, AUTUMN, "both_passes: it follows elapsed time, so it runs in both passes"),
    ("15 2 * * *", "Australia/Lord_Howe", AUTUMN, "moved: the run of 02:15 is at 02:30 instead"),
    (
        "0,15 2 * * *",
        "Australia/Lord_Howe",
        SPRING,
        "moved: the runs of 02:00 and 02:15 are made up for by one, at 02:30",
    ),
    ("50 2 * * *", "Pacific/Chatham", AUTUMN, "moved: the run of 02:50 is at 03:45 instead"),
    ("30 1,2 * * *", "Antarctica/Troll", SPRING, "moved: the runs of 01:30 and 02:30 are made up for by one, at 03:00"),
    ("@daily", "America/Sao_Paulo", "2017-10-01 00:00", "moved: the run of 00:00 is at 01:00 instead"),
    ("30 23 * * *", "America/Sao_Paulo", "2018-02-01 00:00", "first_pass: the run of 23:30 is in the first pass only"),
    (
        "0 12 * * *",
        "Pacific/Apia",
        "2011-12-01 00:00",
        "left_out: the run of 12:00 is not made up for, as the step is three hours or more",
    ),
    (
        "0 0 * * *",
        "Pacific/Apia",
        "2011-12-01 00:00",
        "left_out: the run of 00:00 is not made up for, as the step is three hours or more",
    ),
    (
        "30 0,1 * * *",
        "America/Juneau",
        "1867-10-01 00:00",
        "both_passes: the runs of 00:30 and 01:30 are in both passes, as the step is more than three hours",
    ),
]


@pytest.mark.parametrize(("text", "zone", "start", "effect"), EFFECTS)
def test_effect(text: str, zone: str, start: str, effect: str) -> None:
    assert told(zone, start, text=text)[0] == effect


@pytest.mark.parametrize(
    ("at", "effect"),
    [
        ("2027-03-28T02:30", ["moved: the run of 02:30 is at 03:00 instead"]),
        ("2027-10-31T02:30", ["first_pass: the run of 02:30 is in the first pass only"]),
        ("2027-03-28T02:30+01:00", []),
        ("2027-03-28T03:00", []),
        ("2027-03-27T02:30", []),
    ],
)
def test_effect_on_a_single_run(at: str, effect: list[str]) -> None:
    assert told(BERLIN, AUTUMN, ms(at[:16]), at=at) == effect


def test_many_runs_are_not_counted() -> None:
    declared = Declaration(text="* * 2 * * *", seconds=True, zone=BERLIN)
    (first, _) = effects(declared, ms(SPRING))
    assert first.text == "it follows elapsed time, so the runs between 02:00 and 03:00 are not made up for"


@pytest.mark.parametrize(
    ("zone", "start", "days", "expected"),
    [
        (
            BERLIN,
            "2026-01-01 00:00",
            365,
            [
                "on Sun 29 Mar 2026 the clock goes from 02:00 to 03:00",
                "on Sun 25 Oct 2026 the clock goes back and the time from 02:00 to 03:00 comes twice",
            ],
        ),
        (BERLIN, "2026-03-29 01:00", 100, []),  # a change right then is not ahead
        (BERLIN, "2026-03-28 01:00", 1, ["on Sun 29 Mar 2026 the clock goes from 02:00 to 03:00"]),
        (
            "America/Sao_Paulo",
            "2017-10-01 00:00",
            150,
            [
                "on Sun 15 Oct 2017 the clock goes from 00:00 to 01:00",
                "on Sat 17 Feb 2018 the clock goes back and the time from 23:00 to 00:00 comes twice",
            ],
        ),
        (
            "Pacific/Apia",
            "2011-12-01 00:00",
            60,
            ["on Fri 30 Dec 2011 the clock goes from 00:00 to 00:00 on Sat 31 Dec 2011"],
        ),
        ("UTC", "2026-01-01 00:00", 4000, []),
        ("Asia/Tokyo", "2026-01-01 00:00", 4000, []),
    ],
)
def test_changes(zone: str, start: str, days: int, expected: list[str]) -> None:
    start_s = ms(start) // 1000
    assert [change.sentence() for change in clock_changes(zone, start_s, start_s + days * 86_400)] == expected


@pytest.mark.parametrize(
    ("wall", "expected"),
    [
        ("2026-03-28T12:00:00.250", "2026-03-28 11:00:00.250"),
        ("2026-03-29T01:59:59", "2026-03-29 00:59:59"),
        ("2026-03-29T02:30", "2026-03-29 00:59:59.999"),  # jumped over: what is due at 03:00 comes after it
        ("2026-03-29T03:00", "2026-03-29 01:00"),
        ("2026-10-25T02:30", "2026-10-25 00:30"),  # twice: the first
        ("2026-10-25T03:00", "2026-10-25 02:00"),
    ],
)
def test_wall_time(wall: str, expected: str) -> None:
    assert wall_ms(BERLIN, datetime.fromisoformat(wall)) == ms(expected)


def test_next_times() -> None:
    daily = Declaration(text="30 2 * * *", zone=BERLIN).parsed()
    assert next_times(daily, ms("2026-03-29 00:00"), 2) == [ms("2026-03-29 01:00"), ms("2026-03-30 00:30")]
    assert next_times(daily, ms("2026-03-29 01:00"), 1) == [ms("2026-03-30 00:30")]  # strictly after
    once = Declaration(at="2026-03-29T00:00Z").parsed()
    assert next_times(once, ms("2026-03-28 00:00"), 5) == [ms("2026-03-29 00:00")]
    assert next_times(once, ms("2026-03-29 00:00"), 5) == []
    assert next_times(Declaration(text="@reboot").parsed(), 0, 5) == []


def test_a_rare_run_is_explained_in_the_year_that_it_comes() -> None:
    declared = Declaration(text="30 2 29 3 *", zone=BERLIN)
    start = ms("2026-06-01 00:00")
    assert effects(declared, start) == []
    (effect,) = effects(declared, start, last_ms=ms("2037-12-01 00:00"))
    assert effect.change.sentence() == "on Sun 29 Mar 2037 the clock goes from 02:00 to 03:00"


@pytest.mark.parametrize(
    ("declared", "line"),
    [
        (Declaration(text="0 9 * * *"), "UTC has none"),
        (Declaration(text="@reboot", zone=BERLIN), "no change of the clock concerns it"),
        (
            Declaration(text="0 9 * * *", zone="Asia/Tokyo"),
            "the clock of Asia/Tokyo does not change in the 13 months after",
        ),
        (
            Declaration(text="0 9 * * *", zone=BERLIN),
            "none of its runs is concerned when the clock changes on Sun 29 Mar 2026 and Sun 25 Oct 2026",
        ),
        (
            Declaration(every="90s", zone=BERLIN),
            "it counts elapsed time, whatever the clock does on Sun 29 Mar 2026 and Sun 25 Oct 2026",
        ),
        (
            Declaration(every="1d", zone=BERLIN),
            "it counts elapsed time: its times of the clock move when that changes on Sun 29 Mar 2026 "
            "and Sun 25 Oct 2026",
        ),
    ],
)
def test_without_effect(declared: Declaration, line: str) -> None:
    assert effects(declared, ms(SPRING)) == []
    assert without_effect(declared, ms(SPRING)) == line


def test_words_of_each_kind() -> None:
    assert Declaration(text="30 2 * * *").words() == "at 02:30 every day"
    assert Declaration(every="2d").words() == "every 2 days, counted from 1970-01-01 00:00 UTC"
    assert Declaration(at="2027-01-01T00:00").words() == "once, on Fri 1 Jan 2027 at 00:00"
    with pytest.raises(ScheduleError):
        Declaration().parsed()


ZONES = st.sampled_from([BERLIN, "America/New_York", "Australia/Lord_Howe", "Pacific/Chatham", "Antarctica/Troll"])
MINUTES = st.sampled_from(["0", "30", "15,45", "*/15", "*", "0-59", "50"])
HOURS = st.sampled_from(["*", "2", "1,2", "2,3", "0-3", "*/2", "3", "9"])
DAYS = st.sampled_from(["* * *", "* * 0", "1-7 4,10 *"])


@settings(max_examples=150, deadline=None)
@given(zone=ZONES, minute=MINUTES, hour=HOURS, days=DAYS, year=st.integers(2015, 2035))
def test_effects_are_what_happens(zone: str, minute: str, hour: str, days: str, year: int) -> None:
    """Looked at minute by minute: which times of the clock run in the first pass, in the second, or at a gap's end."""
    declared = Declaration(text=f"{minute} {hour} {days}", zone=zone)
    start = ms(f"{year}-01-01 00:00")
    kinds = {effect.change: effect.kind for effect in effects(declared, start)}
    changes = list(clock_changes(zone, start // 1000, start // 1000 + 360 * 86_400))
    assume(len(changes) == 2)
    for change in changes:
        assert kinds.get(change) == kind_by_looking(declared, change)


def kind_by_looking(declared: Declaration, change: ClockChange) -> str | None:
    size = abs(change.after_s - change.before_s)
    wild = any(field.startswith("*") for field in str(declared.text).split()[:2])
    skips = change.after_s > change.before_s
    first_wall = change.at_s + min(change.before_s, change.after_s)
    if not any(minute_matches(declared, first_wall + passed) for passed in range(0, size, 60)):
        return None
    schedule, at_ms = declared.parsed(), change.at_s * 1000
    if skips:
        is_run = schedule.next_ms(at_ms - 1) == at_ms
        own = minute_matches(declared, change.at_s + change.after_s)
        assert is_run is (own or not wild)
        return "left_out" if wild else "merged" if own else "moved"
    first = schedule.next_ms(at_ms - size * 1000 - 1)
    second = schedule.next_ms(at_ms - 1)
    assert first is not None
    assert second is not None
    assert first < at_ms
    assert (second < at_ms + size * 1000) is wild
    return "both_passes" if wild else "first_pass"


def minute_matches(declared: Declaration, wall_s: int) -> bool:
    """Whether the clock's time is written in the expression; looked up far from any change, in UTC."""
    plain = Declaration(text=declared.text).parsed()
    return plain.next_ms(wall_s * 1000 - 1) == wall_s * 1000


def test_the_clock_shows_what_a_change_says() -> None:
    (change,) = clock_changes(BERLIN, ms(SPRING) // 1000, ms("2026-04-01 00:00") // 1000)
    at = datetime.fromtimestamp(change.at_s, ZoneInfo(BERLIN))
    assert at.replace(tzinfo=None) == change.after()
    assert change.after() - change.before() == timedelta(hours=1)
