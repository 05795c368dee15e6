"""When a job is due first, and when again: what of before still holds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from supervisor.core.job import Due
from supervisor.core.manifest import JobSpec
from supervisor.core.plugin import PluginKey
from supervisor.jobs.cron import ScheduleError
from supervisor.jobs.due import due_after, earlier_due, first_due, is_on_start, schedule_of, timing
from tests.jobs.test_plan import KEY, PLUGIN, at, job_of, schedule_for, spec_of

SERVED = {"served": "11:00:00", "last": "13:00:00"}


@pytest.mark.parametrize(
    ("more", "stored", "starting", "due"),
    [
        ({}, None, True, "12:05:00"),
        ({}, {"due": "11:00:00"}, False, "11:00:00"),  # missed meanwhile: it is to be seen
        ({}, {"due": None}, False, "12:05:00"),
        ({}, {"due": "12:05:00"}, False, "12:05:00"),
        # the clock was turned back: not into what was served
        ({}, {"due": None, **SERVED}, False, "13:05:00"),
        ({}, {"due": "13:05:00", **SERVED}, False, "13:05:00"),
        ({}, {"due": "13:05:00", "served": "12:02:00.001", "last": "13:00:00"}, False, "12:05:00"),
        ({}, {"due": "13:05:00", "last": "13:00:00"}, True, "12:05:00"),
        ({}, {"due": "12:05:00", "served": "11:00:00", "last": "12:00:00"}, False, "12:05:00"),
        ({}, {"due": "2036-03-01T12:00:00"}, False, "12:05:00"),
        # another timing: what had come before is seen, the rest is by the new one
        ({"schedule": "0 * * * *"}, {"due": "12:05:00", **SERVED}, False, "13:00:00"),
        ({"schedule": "0 * * * *"}, {"due": None, **SERVED}, False, "13:00:00"),
        ({"schedule": "0 * * * *"}, {"due": "11:00:00"}, False, "11:00:00"),
        ({"timezone": "Asia/Kolkata"}, {"due": "11:00:00"}, False, "11:00:00"),
        ({"timezone": "Asia/Kolkata"}, {"due": "12:03:00"}, False, "12:05:00"),
        ({"schedule": "@reboot"}, {"due": "11:00:00"}, False, "11:00:00"),
        ({"schedule": "@reboot"}, {"due": "11:00:00"}, True, "12:02:00"),
        ({"schedule": None}, {"due": "11:00:00"}, False, None),
        # not by the clock
        ({}, {"due": None, "paused": True}, True, None),
        ({}, {"due": None, "plugin_paused": True}, True, None),
        ({"schedule": None}, None, True, None),
        ({"schedule": None, "at": "2026-03-01T12:00:00Z"}, None, True, None),
        ({"schedule": None, "at": "2026-03-01T12:03:00Z"}, None, True, "12:03:00"),
        ({"schedule": "@reboot"}, None, True, "12:02:00"),
        ({"schedule": "@reboot"}, None, False, None),
    ],
)
def test_when_a_job_is_first_due(
    more: dict[str, Any], stored: dict[str, Any] | None, starting: bool, due: str | None
) -> None:
    spec, before = spec_of(**more), None
    if stored is not None:
        due_ms, served, last = (
            at(text) if (text := stored.pop(name, None)) else None for name in ("due", "served", "last")
        )
        before = job_of(
            spec_of(),
            due_ms,
            timing=timing(spec_of(), "UTC", "f"),
            served_from_ms=served,
            last_due_ms=last,
            **stored,
        )
    schedule, told = schedule_of(spec, KEY, "UTC"), timing(spec, spec.timezone or "UTC", "f")
    found = first_due(spec, schedule, before, PLUGIN, timing=told, now_ms=at("12:02:00"), starting=starting)
    assert found == (None if due is None else Due(at(due), at(due)))


@pytest.mark.parametrize(("fire", "then"), [("12:20:00", "12:20:00"), ("13:40:00", "13:00:00")])
def test_a_jitter_passes_by_another_timing_too(fire: str, then: str) -> None:
    """But not beyond the first due time of that."""
    stored = replace(job_of(spec_of(), at("12:00:00"), timing="old"), next_fire_ms=at(fire))
    spec = spec_of(schedule="0 * * * *")
    found = first_due(spec, schedule_for(spec), stored, PLUGIN, timing="new", now_ms=at("12:02:00"))
    assert found == Due(at("12:00:00"), at(then))


def test_a_due_time_of_before_the_timing_came_holds_and_a_later_one_does_not() -> None:
    """The daemon was killed between an upgrade at 11:30 and its sync."""
    spec = spec_of(schedule="30 * * * *")
    for stored, due in (("11:00:00", "11:00:00"), ("11:45:00", "12:30:00")):
        job = job_of(spec_of(), at(stored), timing="old")
        found = first_due(
            spec, schedule_for(spec), job, PLUGIN, timing="new", now_ms=at("12:02:00"), since_ms=at("11:30:00")
        )
        assert found is not None
        assert found.due_ms == at(due)


@pytest.mark.parametrize(("due", "found"), [("11:00:00", "11:00:00"), ("12:05:00", "12:05:00"), (None, "10:05:00")])
def test_a_due_time_of_before_timings_were_stored_holds(due: str | None, found: str) -> None:
    spec = spec_of()
    stored = job_of(spec, due and at(due), timing="")
    again = first_due(
        spec, schedule_for(spec), stored, PLUGIN, timing="x", now_ms=at("12:02:00"), since_ms=at("10:00:00")
    )
    assert again == Due(at(found), at(found))


def test_a_start_that_was_not_served_stays_due() -> None:
    spec = spec_of(schedule="@reboot")
    told = timing(spec, "UTC", "f")
    stored = job_of(spec, at("11:00:00"), timing=told)
    found = first_due(spec, schedule_for(spec), stored, PLUGIN, timing=told, now_ms=at("12:00:00"))
    assert found == Due(at("12:00:00"), at("12:00:00"))


@pytest.mark.parametrize(
    ("more", "due", "served", "last", "earlier"),
    [
        ({}, "12:05:00", None, None, None),
        ({}, "13:05:00", None, None, "12:05:00"),
        ({}, "13:05:00", "11:00:00", "13:00:00", None),
        ({}, "13:05:00", "12:30:00", "13:00:00", "12:05:00"),
        ({}, "11:00:00", None, None, None),
        ({}, None, None, None, "12:05:00"),
        ({"at": "2026-03-01T13:00:00Z"}, None, "13:00:00", "13:00:00", "13:00:00"),
        ({"at": "2026-03-01T11:00:00Z"}, None, None, None, None),
        ({"schedule": "@reboot"}, None, None, None, None),
        ({"at": "2026-03-01T13:00:00Z"}, "13:00:00", None, None, None),
        ({"schedule": "@reboot"}, "13:00:00", None, None, "12:02:00"),
    ],
)
def test_what_is_due_earlier_once_the_clock_was_turned_back(
    more: dict[str, Any], due: str | None, served: str | None, last: str | None, earlier: str | None
) -> None:
    spec = spec_of(**more)
    job = job_of(spec, due and at(due), served_from_ms=served and at(served), last_due_ms=last and at(last))
    found = earlier_due(job, schedule_for(spec), now_ms=at("12:02:00"))
    assert (found and found.due_ms) == (earlier and at(earlier))


def test_timing_tells_due_times_apart_and_nothing_else() -> None:
    spec = spec_of(schedule="0 6 * * *")
    told = timing(spec, "Europe/Berlin", "2026a")
    others = [
        (replace(spec, schedule="1 6 * * *"), "Europe/Berlin", "2026a"),
        (replace(spec, seconds=True), "Europe/Berlin", "2026a"),
        (spec, "Europe/Paris", "2026a"),
        (spec, "Europe/Berlin", "2026b"),
        (spec_of(every="90s", schedule=None), "Europe/Berlin", "2026a"),
        (spec_of(at="2027-01-01T00:00", schedule=None), "Europe/Berlin", "2026a"),
    ]
    assert len({told, *(timing(*other) for other in others)}) == 7
    assert timing(replace(spec, overlap="allow", jitter_s=5.0, retries=3), "Europe/Berlin", "2026a") == told
    every = spec_of(every="90s", schedule=None)
    assert timing(every, "UTC", "a") == timing(every, "Europe/Berlin", "b")
    assert timing(replace(spec, schedule=None), "UTC", "a") == ""
    assert [is_on_start(spec_of(schedule=text)) for text in (" @Reboot", "@hourly", None)] == [True, False, False]


def test_schedules_take_the_default_zone_and_refuse_what_is_wrong() -> None:
    spec = JobSpec(key="daily", display_name="Daily", schedule="0 6 * * *")
    schedule = schedule_of(spec, KEY, "Europe/Berlin")
    assert schedule is not None
    assert due_after(spec, schedule, PLUGIN, at("12:00:00")) == Due(*[at("2026-03-02T05:00:00")] * 2)
    with pytest.raises(ScheduleError):
        schedule_of(JobSpec(key="x", display_name="X", schedule="61 * * * *"), PluginKey("p"), "UTC")
