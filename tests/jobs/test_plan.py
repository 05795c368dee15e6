"""What becomes of due times, as a table."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pytest

from supervisor.clock import to_ms
from supervisor.core.job import Job, RunState, Trigger
from supervisor.core.manifest import JobSpec
from supervisor.core.plugin import PluginId, PluginKey
from supervisor.jobs.cron import ScheduleError
from supervisor.jobs.plan import first_due, next_due_ms, plan, schedule_of

KEY = PluginKey("acme.weather")


def at(text: str) -> int:
    """UTC ms of a time on 2026-03-01, or of a whole date."""
    full = text if "-" in text else f"2026-03-01T{text}"
    return to_ms(datetime.fromisoformat(full).replace(tzinfo=UTC))


def spec_of(**more: Any) -> JobSpec:
    if "every" not in more:
        more.setdefault("schedule", "*/5 * * * *")
    return JobSpec(key="refresh", display_name="Refresh", timezone=more.pop("timezone", "UTC"), **more)


def job_of(spec: JobSpec, due: str | None, *, paused: bool = False, last_due: str | None = None) -> Job:
    return Job(
        id="j1",
        plugin_id=PluginId("p1"),
        plugin_key=KEY,
        key=spec.key,
        spec=spec,
        active=True,
        paused=paused,
        next_due_ms=None if due is None else at(due),
        last_due_ms=None if last_due is None else at(last_due),
    )


Q, S, M = RunState.QUEUED, RunState.SKIPPED, RunState.MISSED
SCHEDULE, CATCH_UP = Trigger.SCHEDULE, Trigger.CATCH_UP

# spec, due, now, another run active -> rows (due, state, trigger), next
TABLE: list[tuple[dict[str, Any], str, str, bool, list[tuple[str, RunState, Trigger]], str]] = [
    # on time
    ({}, "12:00:00", "12:00:00", False, [("12:00:00", Q, SCHEDULE)], "12:05:00"),
    ({}, "12:00:00", "12:00:05", False, [("12:00:00", Q, SCHEDULE)], "12:05:00"),
    ({"catch_up": "skip"}, "12:00:00", "12:00:05", False, [("12:00:00", Q, SCHEDULE)], "12:05:00"),
    ({"every": "90s"}, "12:00:00", "12:00:00.400", False, [("12:00:00", Q, SCHEDULE)], "12:01:30"),
    ({"misfire_grace_s": 0.0}, "12:00:00", "12:00:00.900", False, [("12:00:00", Q, SCHEDULE)], "12:05:00"),
    # one is still active
    ({}, "12:00:00", "12:00:00", True, [("12:00:00", S, SCHEDULE)], "12:05:00"),
    ({"overlap": "allow"}, "12:00:00", "12:00:00", True, [("12:00:00", Q, SCHEDULE)], "12:05:00"),
    # late within the grace: half of five minutes
    ({}, "12:00:00", "12:00:06", False, [("12:00:00", Q, CATCH_UP)], "12:05:00"),
    ({}, "12:00:00", "12:02:30", False, [("12:00:00", Q, CATCH_UP)], "12:05:00"),
    ({}, "12:00:00", "12:02:30", True, [("12:00:00", S, CATCH_UP)], "12:05:00"),
    ({"catch_up": "skip"}, "12:00:00", "12:00:06", False, [("12:00:00", M, SCHEDULE)], "12:05:00"),
    # later than the grace
    ({}, "12:00:00", "12:02:31", False, [("12:00:00", M, SCHEDULE)], "12:05:00"),
    ({"misfire_grace_s": 0.0}, "12:00:00", "12:00:02", False, [("12:00:00", M, SCHEDULE)], "12:05:00"),
    ({"misfire_grace_s": 280.0}, "12:00:00", "12:04:40", False, [("12:00:00", Q, CATCH_UP)], "12:05:00"),
    ({"schedule": "0 */6 * * *"}, "06:00:00", "07:00:00", False, [("06:00:00", Q, CATCH_UP)], "12:00:00"),
    ({"schedule": "0 */6 * * *"}, "06:00:00", "07:00:01", False, [("06:00:00", M, SCHEDULE)], "12:00:00"),
    # several at once: the latest runs, one row tells of the others
    ({}, "11:00:00", "12:01:00", False, [("11:00:00", M, SCHEDULE), ("12:00:00", Q, CATCH_UP)], "12:05:00"),
    ({}, "11:00:00", "12:00:00", False, [("11:00:00", M, SCHEDULE), ("12:00:00", Q, CATCH_UP)], "12:05:00"),
    ({}, "11:00:00", "12:01:00", True, [("11:00:00", M, SCHEDULE), ("12:00:00", S, CATCH_UP)], "12:05:00"),
    ({}, "11:00:00", "12:04:00", False, [("11:00:00", M, SCHEDULE)], "12:05:00"),
    ({"catch_up": "skip"}, "11:00:00", "12:01:00", False, [("11:00:00", M, SCHEDULE)], "12:05:00"),
    (
        {"catch_up": "skip"},
        "11:00:00",
        "12:00:01",
        False,
        [("11:00:00", M, SCHEDULE), ("12:00:00", Q, SCHEDULE)],
        "12:05:00",
    ),
    # a due time that the schedule does not know any more is served, and then the schedule holds
    ({}, "11:58:00", "11:58:00", False, [("11:58:00", Q, SCHEDULE)], "12:00:00"),
]


@pytest.mark.parametrize(("more", "due", "now", "active", "rows", "following"), TABLE)
def test_what_becomes_of_due_times(
    more: dict[str, Any],
    due: str,
    now: str,
    active: bool,
    rows: list[tuple[str, RunState, Trigger]],
    following: str,
) -> None:
    spec = spec_of(**more)
    schedule = schedule_of(spec, KEY, "UTC")
    assert schedule is not None

    decided = plan(job_of(spec, due), schedule, now_ms=at(now), active_run="r9" if active else None)

    assert [(run.due_ms, run.state, run.trigger) for run in decided.runs] == [(at(d), s, t) for d, s, t in rows]
    assert decided.next_due_ms == at(following)
    for run in decided.runs:
        assert (run.error is None) == (run.state is Q)
        if run.state is S:
            assert run.error is not None
            assert "r9" in run.error


def test_the_missed_row_counts_and_says_since_when() -> None:
    spec = spec_of()
    schedule = schedule_of(spec, KEY, "UTC")
    assert schedule is not None
    missed = plan(job_of(spec, "11:00:00"), schedule, now_ms=at("12:01:00"), active_run=None).runs[0]
    assert missed.error == (
        "12 due times from 2026-03-01T11:00:00Z passed unserved until 2026-03-01T12:01:00Z; the latest follows"
    )


def test_a_year_of_missed_seconds_costs_little() -> None:
    spec = spec_of(schedule="* * * * * *", seconds=True)
    schedule = schedule_of(spec, KEY, "UTC")
    assert schedule is not None
    began = time.perf_counter()
    decided = plan(job_of(spec, "2025-03-01T00:00:00"), schedule, now_ms=at("12:00:00"), active_run=None)
    assert time.perf_counter() - began < 1
    assert [run.due_ms for run in decided.runs] == [at("2025-03-01T00:00:00"), at("12:00:00")]
    assert decided.runs[0].error is not None
    assert decided.runs[0].error.startswith("more than 1000 due times")
    assert decided.next_due_ms == at("12:00:01")


def test_what_is_due_at_the_start_is_due_once() -> None:
    spec = spec_of(schedule="@reboot")
    schedule = schedule_of(spec, KEY, "UTC")
    assert schedule is not None
    decided = plan(job_of(spec, "12:00:00"), schedule, now_ms=at("12:00:01"), active_run=None)
    assert [run.state for run in decided.runs] == [Q]
    assert decided.next_due_ms is None


def test_a_job_that_is_not_due_is_refused() -> None:
    spec = spec_of()
    schedule = schedule_of(spec, KEY, "UTC")
    assert schedule is not None
    with pytest.raises(ValueError, match="not due"):
        plan(job_of(spec, "12:05:00"), schedule, now_ms=at("12:00:00"), active_run=None)


@pytest.mark.parametrize(
    ("more", "stored", "starting", "due"),
    [
        ({}, None, True, "12:05:00"),
        ({}, {"due": "11:00:00"}, False, "11:00:00"),  # missed meanwhile: it is to be seen
        ({}, {"due": None}, False, "12:05:00"),
        # the clock was turned back
        ({}, {"due": None, "last_due": "13:00:00"}, False, "12:05:00"),
        ({}, {"due": "13:05:00", "last_due": "13:00:00"}, True, "12:05:00"),
        ({}, {"due": "2036-03-01T12:00:00"}, False, "12:05:00"),
        ({}, {"due": "12:05:00"}, False, "12:05:00"),
        ({"schedule": "0 * * * *"}, {"due": "11:00:00"}, False, "13:00:00"),
        ({"timezone": "Asia/Kolkata"}, {"due": "11:00:00"}, False, "12:05:00"),
        ({}, {"due": None, "paused": True}, True, None),
        ({"schedule": None}, None, True, None),
        ({"schedule": "@reboot"}, None, True, "12:02:00"),
        ({"schedule": "@reboot"}, None, False, None),
    ],
)
def test_when_a_job_is_first_due(
    more: dict[str, Any], stored: dict[str, Any] | None, starting: bool, due: str | None
) -> None:
    spec = spec_of(**more)
    before = None if stored is None else job_of(spec_of(), **stored)
    found = first_due(spec, schedule_of(spec, KEY, "UTC"), before, now_ms=at("12:02:00"), starting=starting)
    assert found == (None if due is None else at(due))


def test_schedules_take_the_default_zone_and_refuse_what_is_wrong() -> None:
    spec = JobSpec(key="daily", display_name="Daily", schedule="0 6 * * *")
    schedule = schedule_of(spec, KEY, "Europe/Berlin")
    assert schedule is not None
    assert next_due_ms(schedule, datetime(2026, 3, 1, 12, tzinfo=UTC)) == at("2026-03-02T05:00:00")
    with pytest.raises(ScheduleError):
        schedule_of(JobSpec(key="x", display_name="X", schedule="61 * * * *"), KEY, "UTC")
