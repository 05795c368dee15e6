"""What becomes of due times, as a table, and over any sequence of wake-ups."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from supervisor.clock import to_ms
from supervisor.core.job import Job, OpenRun, Plan, Run, RunState, Trigger
from supervisor.core.manifest import JobSpec
from supervisor.core.plugin import PluginId, PluginKey
from supervisor.jobs.cron import Schedule
from supervisor.jobs.due import due_after, due_at, jitter_ms, schedule_of
from supervisor.jobs.plan import plan, retry_at, start_within

KEY = PluginKey("acme.weather")
PLUGIN = PluginId("p1")


def at(text: str) -> int:
    """UTC ms of a time on 2026-03-01, or of a whole date."""
    full = text if "-" in text else f"2026-03-01T{text}"
    return to_ms(datetime.fromisoformat(full).replace(tzinfo=UTC))


def spec_of(**more: Any) -> JobSpec:
    if "every" not in more and "at" not in more:
        more.setdefault("schedule", "*/5 * * * *")
    return JobSpec(key="refresh", display_name="Refresh", timezone=more.pop("timezone", "UTC"), **more)


def schedule_for(spec: JobSpec) -> Schedule:
    schedule = schedule_of(spec, KEY, "UTC")
    assert schedule is not None
    return schedule


def job_of(spec: JobSpec, due_ms: int | None, **more: Any) -> Job:
    return Job(
        id="j1",
        plugin_id=PLUGIN,
        plugin_key=KEY,
        key=spec.key,
        spec=spec,
        active=True,
        next_due_ms=due_ms,
        **{"paused": False, "next_fire_ms": due_ms, "last_due_ms": None} | more,
    )


def planned(spec: JobSpec, due: str, now: str, *open_runs: OpenRun) -> Plan:
    return plan(job_of(spec, at(due)), schedule_for(spec), open_runs, now_ms=at(now))


Q, S, M = "queued", "skipped", "missed"
RUNS = OpenRun("r8", RunState.RUNNING)
WAITS = OpenRun("r9", RunState.QUEUED)
GRACE = {"misfire_grace_s": 900.0}  # three of the due times fit in

# spec, due, now, open runs -> rows "due state [c: by catch_up]", next, cancelled
TABLE: list[tuple[dict[str, Any], str, str, tuple[OpenRun, ...], list[str], str | None, tuple[str, ...]]] = [
    # on time, to the last millisecond
    ({}, "12:00:00", "12:00:00", (), ["12:00:00 queued"], "12:05:00", ()),
    ({}, "12:00:00", "12:00:05", (), ["12:00:00 queued"], "12:05:00", ()),
    ({"catch_up": "skip"}, "12:00:00", "12:00:05", (), ["12:00:00 queued"], "12:05:00", ()),
    ({"every": "90s"}, "12:00:00", "12:00:00.400", (), ["12:00:00 queued"], "12:01:30", ()),
    ({"misfire_grace_s": 0.0}, "12:00:00", "12:00:00.900", (), ["12:00:00 queued"], "12:05:00", ()),
    ({"at": "2026-03-01T12:00:00Z"}, "12:00:00", "12:00:00", (), ["12:00:00 queued"], None, ()),
    # overlap
    ({}, "12:00:00", "12:00:00", (RUNS,), ["12:00:00 skipped"], "12:05:00", ()),
    ({}, "12:00:00", "12:00:00", (WAITS,), ["12:00:00 skipped"], "12:05:00", ()),
    ({"overlap": "queue_one"}, "12:00:00", "12:00:00", (RUNS,), ["12:00:00 queued"], "12:05:00", ()),
    ({"overlap": "queue_one"}, "12:00:00", "12:00:00", (RUNS, WAITS), ["12:00:00 skipped"], "12:05:00", ()),
    ({"overlap": "cancel_previous"}, "12:00:00", "12:00:00", (), ["12:00:00 queued"], "12:05:00", ()),
    (
        {"overlap": "cancel_previous"},
        *("12:00:00", "12:00:00"),
        (RUNS, WAITS),
        ["12:00:00 queued"],
        "12:05:00",
        ("r8", "r9"),
    ),
    ({"overlap": "allow"}, "12:00:00", "12:00:00", (RUNS,) * 7, ["12:00:00 queued"], "12:05:00", ()),
    ({"overlap": "allow"}, "12:00:00", "12:00:00", (RUNS,) * 8, ["12:00:00 skipped"], "12:05:00", ()),
    ({"overlap": "allow", "max_running": 1}, "12:00:00", "12:00:00", (RUNS,), ["12:00:00 skipped"], "12:05:00", ()),
    # late, within the grace: half of five minutes
    ({}, "12:00:00", "12:00:05.001", (), ["12:00:00 queued c"], "12:05:00", ()),
    ({}, "12:00:00", "12:02:30", (), ["12:00:00 queued c"], "12:05:00", ()),
    ({}, "12:00:00", "12:02:30", (RUNS,), ["12:00:00 skipped c"], "12:05:00", ()),
    ({"catch_up": "skip"}, "12:00:00", "12:00:05.001", (), ["12:00:00 missed"], "12:05:00", ()),
    ({"at": "2026-03-01T12:00:00Z"}, "12:00:00", "13:00:00", (), ["12:00:00 queued c"], None, ()),
    # later than the grace
    ({}, "12:00:00", "12:02:30.001", (), ["12:00:00 missed"], "12:05:00", ()),
    ({"misfire_grace_s": 0.0}, "12:00:00", "12:00:02", (), ["12:00:00 missed"], "12:05:00", ()),
    ({"misfire_grace_s": 280.0}, "12:00:00", "12:04:40", (), ["12:00:00 queued c"], "12:05:00", ()),
    ({"schedule": "0 */6 * * *"}, "06:00:00", "07:00:00", (), ["06:00:00 queued c"], "12:00:00", ()),
    ({"schedule": "0 */6 * * *"}, "06:00:00", "07:00:00.001", (), ["06:00:00 missed"], "12:00:00", ()),
    ({"at": "2026-03-01T12:00:00Z"}, "12:00:00", "13:00:00.001", (), ["12:00:00 missed"], None, ()),
    # several have come; late ones first
    (
        {},
        *("11:45:00", "12:01:00", ()),
        ["11:45:00 missed", "11:50:00 missed", "11:55:00 missed", "12:00:00 queued c"],
        *("12:05:00", ()),
    ),
    ({}, "11:55:00", "12:00:00", (), ["11:55:00 missed", "12:00:00 queued"], "12:05:00", ()),
    ({}, "11:55:00", "12:00:06", (RUNS,), ["11:55:00 missed", "12:00:00 skipped c"], "12:05:00", ()),
    ({}, "11:55:00", "12:04:00", (), ["11:55:00 missed", "12:00:00 missed"], "12:05:00", ()),
    ({"catch_up": "skip"}, "11:55:00", "12:00:01", (), ["11:55:00 missed", "12:00:00 queued"], "12:05:00", ()),
    ({"catch_up": "skip"}, "11:55:00", "12:01:00", (), ["11:55:00 missed", "12:00:00 missed"], "12:05:00", ()),
    # all of those within the grace, one after the other
    ({"catch_up": "all"}, "11:55:00", "12:01:00", (), ["11:55:00 missed", "12:00:00 queued c"], "12:05:00", ()),
    (
        {"catch_up": "all", **GRACE},
        *("11:45:00", "12:01:00", ()),
        ["11:45:00 missed", "11:50:00 queued c", "11:55:00 queued c", "12:00:00 queued c"],
        *("12:05:00", ()),
    ),
    (
        {"catch_up": "all", **GRACE},
        *("11:45:00", "12:00:00", ()),
        ["11:45:00 queued c", "11:50:00 queued c", "11:55:00 queued c", "12:00:00 queued"],
        *("12:05:00", ()),
    ),
    (
        {"catch_up": "all", **GRACE},
        *("11:50:00", "12:00:01", (RUNS,)),
        ["11:50:00 skipped c", "11:55:00 skipped c", "12:00:00 skipped"],
        *("12:05:00", ()),
    ),
    (
        {"catch_up": "all", "overlap": "cancel_previous", **GRACE},
        *("11:55:00", "12:00:01", (RUNS,)),
        ["11:55:00 queued c", "12:00:00 queued"],
        *("12:05:00", ("r8",)),
    ),
    # several on time: the daemon was slow for a moment
    ({"every": "1s"}, "12:00:00", "12:00:01", (), ["12:00:00 queued", "12:00:01 skipped"], "12:00:02", ()),
    (
        {"every": "1s", "overlap": "queue_one"},
        *("12:00:00", "12:00:02", ()),
        ["12:00:00 queued", "12:00:01 queued", "12:00:02 skipped"],
        *("12:00:03", ()),
    ),
    (
        {"every": "1s", "overlap": "allow", "max_running": 2},
        *("12:00:00", "12:00:01", (RUNS,)),
        ["12:00:00 queued", "12:00:01 skipped"],
        *("12:00:02", ()),
    ),
    (
        {"every": "1s", "overlap": "cancel_previous"},
        *("12:00:00", "12:00:01", (RUNS,)),
        ["12:00:00 skipped", "12:00:01 queued"],
        *("12:00:02", ("r8",)),
    ),
    (
        {"every": "1s", "catch_up": "all"},
        *("12:00:00", "12:00:01", ()),
        ["12:00:00 queued", "12:00:01 queued"],
        *("12:00:02", ()),
    ),
    (
        {"every": "4s"},
        *("12:00:00", "12:00:09", ()),
        ["12:00:00 missed", "12:00:04 queued", "12:00:08 skipped"],
        *("12:00:12", ()),
    ),
    # a due time that the schedule does not know any more is served, and then the schedule holds
    ({}, "11:58:00", "11:58:00", (), ["11:58:00 queued"], "12:00:00", ()),
]


@pytest.mark.parametrize(("more", "due", "now", "open_runs", "rows", "following", "cancelled"), TABLE)
def test_what_becomes_of_due_times(
    more: dict[str, Any],
    due: str,
    now: str,
    open_runs: tuple[OpenRun, ...],
    rows: list[str],
    following: str | None,
    cancelled: tuple[str, ...],
) -> None:
    decided = planned(spec_of(**more), due, now, *open_runs)

    said = [(run.due_ms, str(run.state), run.trigger is Trigger.CATCH_UP) for run in decided.runs]
    wanted = [row.split() for row in rows]
    assert said == [(at(row[0]), row[1], row[2:] == ["c"]) for row in wanted]
    assert (decided.next and decided.next.due_ms) == (following and at(following))
    assert decided.cancel == cancelled
    assert decided.gap == any(row[1] == M for row in wanted)
    assert all((run.error is None) == (run.state is RunState.QUEUED) and run.times == 1 for run in decided.runs)


@pytest.mark.parametrize(
    ("more", "due", "now", "open_runs", "why"),
    [
        ({"catch_up": "skip"}, "12:00:00", "12:00:06", (), "unserved until 2026-03-01T12:00:06Z; catch_up is skip"),
        ({}, "12:00:00", "12:02:31", (), "more than misfire_grace_s = 150 s"),
        (GRACE, "11:55:00", "12:00:00", (), "a later one is served"),
        ({}, "12:00:00", "12:00:00", (RUNS,), "run r8 has not ended, and overlap is skip"),
        ({"overlap": "queue_one"}, "12:00:00", "12:00:00", (RUNS, WAITS), "run r9 waits already"),
        ({"overlap": "allow"}, "12:00:00", "12:00:00", (RUNS,) * 8, "8 runs have not ended, and max_running is 8"),
        ({"overlap": "cancel_previous", "every": "1s"}, "12:00:00", "12:00:01", (), "due time 2026-03-01T12:00:01Z"),
    ],
)
def test_the_row_says_why(more: dict[str, Any], due: str, now: str, open_runs: tuple[OpenRun, ...], why: str) -> None:
    assert why in str(planned(spec_of(**more), due, now, *open_runs).runs[0].error)


def test_only_the_newest_hundred_are_caught_up_with() -> None:
    spec = spec_of(schedule="* * * * *", catch_up="all", misfire_grace_s=86_400.0)
    decided = planned(spec, "00:00:00", "12:00:30")
    states = [str(run.state) for run in decided.runs]
    assert states == [M] * 621 + [Q] * 100
    assert "only the latest 100" in str(decided.runs[620].error)
    assert decided.runs[621].due_ms == at("10:21:00")


def test_a_thousand_missed_ones_have_rows_and_the_older_share_one() -> None:
    decided = planned(spec_of(schedule="* * * * *", catch_up="skip"), "2026-02-28T00:00:00", "12:00:30")
    shared, *each = decided.runs
    assert (len(each), shared.times, shared.due_ms) == (1000, 2161 - 1000, at("2026-02-28T19:20:00"))
    assert each[0].due_ms == shared.due_ms + 60_000
    assert shared.error == (
        "1161 due times from 2026-02-28T00:00:00Z to 2026-02-28T19:20:00Z passed unserved until 2026-03-01T12:00:30Z"
    )


def test_a_year_of_missed_seconds_costs_little() -> None:
    spec = spec_of(schedule="* * * * * *", seconds=True)
    began = time.perf_counter()
    decided = planned(spec, "2025-03-01T00:00:00", "12:00:00")
    assert time.perf_counter() - began < 2
    shared, *each = decided.runs
    assert (shared.times, str(shared.error)[:24]) == (10_000, "at least 10000 due times")
    assert shared.due_ms == at("11:43:20")
    assert [run.due_ms for run in each] == list(range(at("11:43:21"), at("12:00:00") + 1, 1000))
    assert decided.next is not None
    assert decided.next.due_ms == at("12:00:01")


def test_the_newest_are_found_where_they_crowd() -> None:
    """Each second of a January long ago, and nothing since."""
    spec = spec_of(schedule="* * * * 1 *", seconds=True)
    decided = planned(spec, "2025-01-01T00:00:00", "2025-12-01T00:00:00")
    assert decided.runs[-1].due_ms == at("2025-01-31T23:59:59")
    assert len(decided.runs) == 1001
    assert decided.next is not None
    assert decided.next.due_ms == at("2026-01-01T00:00:00")


def test_what_is_due_at_the_start_is_due_once() -> None:
    decided = planned(spec_of(schedule="@reboot"), "12:00:00", "12:00:01")
    assert [str(run.state) for run in decided.runs] == [Q]
    assert decided.next is None


def test_a_job_that_is_not_due_is_refused() -> None:
    with pytest.raises(ValueError, match="not due"):
        planned(spec_of(), "12:05:00", "12:00:00")
    spec = spec_of(jitter_s=60)
    with pytest.raises(ValueError, match="not due"):
        plan(job_of(spec, at("12:00:00"), next_fire_ms=at("12:00:10")), schedule_for(spec), (), now_ms=at("12:00:09"))


def test_jitter_is_stable_and_within_its_bounds() -> None:
    spec = spec_of(jitter_s=600, schedule="* * * * *")
    delays = [jitter_ms(spec, PLUGIN, minute * 60_000, 60_000) for minute in range(2000)]
    assert all(0 <= delay < 60_000 for delay in delays)
    assert len(set(delays)) > 1900
    assert 27_000 < sum(delays) / len(delays) < 33_000
    assert delays[7] == jitter_ms(spec, PLUGIN, 7 * 60_000, 60_000) != jitter_ms(spec, PluginId("p2"), 420_000, 60_000)
    assert all(jitter_ms(spec, PLUGIN, n, None) < 600_000 for n in range(100))
    due = due_at(spec_of(jitter_s=10), schedule_for(spec_of()), PLUGIN, at("12:00:00"))
    assert at("12:00:00") <= due.fire_ms < at("12:00:10")


def test_a_due_time_comes_when_its_jitter_has_passed() -> None:
    spec = spec_of(jitter_s=300, catch_up="skip")
    schedule = schedule_for(spec)
    first, second = (due_at(spec, schedule, PLUGIN, at(text)) for text in ("12:00:00", "12:05:00"))
    job = job_of(spec, first.due_ms, next_fire_ms=first.fire_ms)
    before = plan(job, schedule, (), now_ms=second.fire_ms - 1)
    assert [run.due_ms for run in before.runs] == [first.due_ms]
    assert before.next == second
    both = plan(job, schedule, (), now_ms=second.fire_ms)
    assert [str(run.state) for run in both.runs] == [M, Q]
    assert both.next == due_after(spec, schedule, PLUGIN, second.due_ms)


SCHEDULES = [
    {"schedule": "*/5 * * * *"},
    {"schedule": "0 9 * * 1-5", "timezone": "Europe/Berlin"},
    {"schedule": "30 * * * * *", "seconds": True},
    {"every": "7m"},
    {"at": "2026-03-02T00:00:00Z"},
]


@settings(max_examples=60, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(
    more=st.sampled_from(SCHEDULES),
    catch_up=st.sampled_from(["latest", "skip", "all"]),
    overlap=st.sampled_from(["skip", "queue_one", "cancel_previous", "allow"]),
    grace_s=st.sampled_from([None, 0.0, 600.0, 90_000.0]),
    jitter_s=st.sampled_from([0.0, 30.0, 7200.0]),
    waits=st.lists(
        st.one_of(st.integers(0, 20_000), st.integers(0, 3_600_000), st.integers(0, 2 * 86_400_000)), max_size=8
    ),
    opens=st.integers(0, 9),
)
def test_each_due_time_ends_in_one_row_however_the_wake_ups_fall(
    more: dict[str, Any],
    catch_up: str,
    overlap: str,
    grace_s: float | None,
    jitter_s: float,
    waits: list[int],
    opens: int,
) -> None:
    spec = spec_of(catch_up=catch_up, overlap=overlap, misfire_grace_s=grace_s, jitter_s=jitter_s, **more)
    schedule, begin = schedule_for(spec), at("12:00:00")
    due = due_after(spec, schedule, PLUGIN, begin)
    assert due is not None
    job, now_ms, rows = job_of(spec, due.due_ms, next_fire_ms=due.fire_ms), begin, []
    for wait_ms in waits:
        now_ms += wait_ms
        if job.next_fire_ms is None or job.next_fire_ms > now_ms:
            continue
        decided = plan(job, schedule, (RUNS,) * opens, now_ms=now_ms)
        rows += decided.runs
        assert decided.next is None or decided.next.fire_ms > now_ms
        following = (None, None) if decided.next is None else (decided.next.due_ms, decided.next.fire_ms)
        job = replace(job, next_due_ms=following[0], next_fire_ms=following[1])

    expected, fire = [], schedule.next_ms(begin)
    while fire is not None and due_at(spec, schedule, PLUGIN, fire).fire_ms <= now_ms:
        expected.append(fire)
        fire = schedule.next_ms(fire)
    assert job.next_due_ms == fire
    assert sum(row.times for row in rows) == len(expected)
    alone = [row.due_ms for row in rows if row.times == 1]
    assert len(set(alone)) == len(alone)
    assert set(alone) <= set(expected)
    assert [row.due_ms for row in rows] == sorted(row.due_ms for row in rows)
    if all(row.times == 1 for row in rows):
        assert alone == expected
    if not opens:
        assert grace_s == 0.0 or overlap != "allow" or RunState.SKIPPED not in {row.state for row in rows}


def run_of(**more: Any) -> Run:
    return Run(
        id="r1",
        job_id="j1",
        plugin_id=PLUGIN,
        plugin_key=KEY,
        job_key="refresh",
        trigger=Trigger.SCHEDULE,
        state=RunState.RUNNING,
        due_ms=0,
        created_ms=0,
        **more,
    )


@pytest.mark.parametrize(
    ("state", "attempt", "wait_s"),
    [
        (RunState.FAILED, 1, 10),
        (RunState.TIMED_OUT, 2, 20),
        (RunState.INTERRUPTED, 3, 40),
        (RunState.FAILED, 9, 2560),
        (RunState.FAILED, 10, 3600),
        (RunState.FAILED, 100, 3600),
        (RunState.FAILED, 101, None),
        (RunState.CANCELLED, 1, None),
        (RunState.SUCCEEDED, 1, None),
        (RunState.SKIPPED, 1, None),
    ],
)
def test_retries_back_off(state: RunState, attempt: int, wait_s: int | None) -> None:
    found = retry_at(spec_of(retries=100), run_of(attempt=attempt), state, 1000)
    assert found == (None if wait_s is None else 1000 + wait_s * 1000)


def test_no_retries_by_default() -> None:
    assert retry_at(spec_of(), run_of(attempt=1), RunState.FAILED, 0) is None


@pytest.mark.parametrize(
    ("more", "wait_s"),
    [
        ({}, 150),
        ({"every": "1s"}, 60),
        ({"schedule": "0 6 * * *"}, 3600),
        ({"schedule": "0 6 * * *", "start_within_s": 0.0}, 0),
        ({"at": "2026-03-02T00:00:00Z"}, 3600),
    ],
)
def test_how_long_a_run_may_wait_to_start(more: dict[str, Any], wait_s: float) -> None:
    spec = spec_of(**more)
    assert start_within(spec, schedule_for(spec), at("12:00:00")) == wait_s
    assert start_within(spec_of(), None) == 3600
