"""What an outage has left waits for what is on time; and each piece of it is bounded."""

from __future__ import annotations

import pytest

from supervisor.core.job import Admission, Job, Plan, PlannedRun, RunOutcome, RunState
from supervisor.core.plugin import Plugin
from supervisor.store import due_jobs
from supervisor.store.claims import ON_TIME_MS, ClaimStore, Tick
from supervisor.store.database import Database
from supervisor.store.ids import ids_alike
from supervisor.store.runs import RunStore
from tests.store.jobs_world import MINUTE_MS, claim, due, execute, make_jobs, put, run_of

NOW_MS = 10 * MINUTE_MS
QUEUED, MISSED = RunState.QUEUED, RunState.MISSED


def in_an_hour(job: Job, *_: object) -> Plan:
    return Plan((PlannedRun(job.next_due_ms or 0, QUEUED),), due(NOW_MS + 3_600_000))


def hundred_missed(job: Job, *_: object) -> Plan:
    """100 rows."""
    first_ms = (job.next_due_ms or 0) - 100
    return Plan(tuple(PlannedRun(first_ms + n, MISSED) for n in range(100)), due(NOW_MS + 3_600_000), gap=True)


def keys(tick: Tick) -> list[str]:
    return [run.job_key for run, _ in tick.queued]


async def test_what_is_on_time_goes_first_and_alone(database: Database, claims: ClaimStore, plugin: Plugin) -> None:
    late_ms = NOW_MS - ON_TIME_MS
    acted_on = {"old": 1000, "late": late_ms, "second": NOW_MS - 1, "first": late_ms + 1, "early": NOW_MS + 1}
    await make_jobs(database, plugin, *acted_on, first_due=lambda spec, _: (due(acted_on[spec.key]), "t"))
    assert await claims.overdue(NOW_MS) == 2
    on_time = await claim(claims, NOW_MS, in_an_hour)
    assert (keys(on_time), on_time.more, on_time.head_ms) == (["first", "second"], True, 1000)
    overdue = await claim(claims, NOW_MS, in_an_hour)
    assert (keys(overdue), overdue.more, overdue.head_ms) == (["late", "old"], False, NOW_MS + 1)
    assert await claims.overdue(NOW_MS) == 0


async def test_between_two_pieces_of_an_outage_what_comes_on_time_is_claimed(
    database: Database, claims: ClaimStore, runs: RunStore, plugin: Plugin
) -> None:
    jobs = [f"j{n}" for n in range(8)]
    await make_jobs(database, plugin, *jobs, "due", at=1000)
    await execute(database, "UPDATE job SET next_due_ms = ?1, next_fire_ms = ?1 WHERE key = 'due'", NOW_MS + 1)
    assert [(await claim(claims, NOW_MS, hundred_missed)).more, len(await runs.list(limit=1000))] == [True, 300]
    assert keys(await claim(claims, NOW_MS + 1, in_an_hour)) == ["due"]
    pieces = 1
    while (await claim(claims, NOW_MS + 1, hundred_missed)).more:
        pieces += 1
    assert (pieces, len(await runs.list(state=MISSED, limit=1000))) == (2, 800)


async def test_a_slow_plan_ends_its_piece(
    database: Database, claims: ClaimStore, plugin: Plugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = 0.0
    monkeypatch.setattr(due_jobs.time, "monotonic", lambda: seconds)
    await make_jobs(database, plugin, "a", "b", "c", at=1000)

    def slow(job: Job, *given: object) -> Plan:
        nonlocal seconds
        seconds += due_jobs._MAX_PLANNING_S * 0.6
        return in_an_hour(job, *given)

    assert [len((await claim(claims, NOW_MS, slow)).queued) for _ in range(3)] == [2, 1, 0]


async def test_a_retry_on_time_does_not_wait_for_an_outage_but_for_its_own_job(
    database: Database, claims: ClaimStore, runs: RunStore, plugin: Plugin
) -> None:
    own, other = await make_jobs(database, plugin, "own", "other", at=1000)
    await execute(database, "UPDATE job SET next_due_ms = NULL, next_fire_ms = NULL WHERE key = 'other'")
    for job in (own, other):
        run = run_of(job, state=RunState.RUNNING)
        await put(database, run)
        await runs.finish(run, RunOutcome(state=RunState.FAILED), retry_at_ms=NOW_MS)
    seen: list[tuple[str, int]] = []

    def decide(job: Job, _run: object, _caught_up: bool, opens: tuple[object, ...]) -> Admission:
        seen.append((job.key, len(opens)))
        return Admission()

    assert keys(await claim(claims, NOW_MS, in_an_hour, decide)) == ["other"]
    assert keys(await claim(claims, NOW_MS, in_an_hour, decide)) == ["own"]
    assert keys(await claim(claims, NOW_MS, in_an_hour, decide)) == ["own"]
    assert seen == [("other", 0), ("own", 1)]
    assert await claim(claims, NOW_MS) == Tick(head_ms=NOW_MS + 3_600_000)


def test_ids_are_random_and_alike() -> None:
    ids = ids_alike()
    drawn = [next(ids) for _ in range(1000)]
    assert len(set(drawn)) == 1000
    assert {len(each) for each in drawn} == {36}
    assert len({each[:4] for each in drawn}) == 1
    assert {each[14] for each in drawn} == {"4"}
    assert {each[19] for each in drawn} == set("89ab")
