"""What a claim writes where the due time was served before, and where it was only missed."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.core.job import Admission, Job, OpenRun, Plan, PlannedRun, Run, RunState, Trigger
from supervisor.store.claims import ClaimStore
from supervisor.store.database import Database
from supervisor.store.jobs import JobStore
from supervisor.store.runs import RunStore
from tests.store.jobs_world import claim, due, each_minute, execute, nothing, put, run_of

MISSED, QUEUED, SKIPPED = RunState.MISSED, RunState.QUEUED, RunState.SKIPPED


def missed_at(job: Job, due_ms: int, **more: Any) -> Run:
    return run_of(
        job, state=MISSED, trigger=Trigger.SCHEDULE, due_ms=due_ms, created_ms=99_000, finished_ms=99_000, **more
    )


def planning(*states: RunState) -> Any:
    def decide(job: Job, opens: tuple[OpenRun, ...]) -> Plan:
        rows = [PlannedRun(1000 * (n + 1), state, error="why") for n, state in enumerate(states)]
        return Plan(tuple(rows), due(61_000), tuple(run.id for run in opens))

    return decide


async def test_a_due_time_whose_row_was_trimmed_is_served(database: Database, claims: ClaimStore, job: Job) -> None:
    other = run_of(job, due_ms=5)
    await put(database, other)
    await execute(database, "UPDATE job SET trimmed_to_ms = 2000")
    tick = await claim(claims, 3000, planning(QUEUED, SKIPPED))
    assert (tick.queued, tick.cancelled) == ([], [])
    assert await RunStore(database).list() == [other]
    after = await JobStore(database).get(job.id)
    assert (after.next_due_ms, after.last_due_ms, after.trimmed_to_ms) == (61_000, 2000, 2000)
    [(run, _)] = (await claim(claims, 61_000)).queued
    assert run.due_ms == 61_000


async def test_by_hand_it_may_run_all_the_same(database: Database, claims: ClaimStore, job: Job) -> None:
    await execute(database, "UPDATE job SET trimmed_to_ms = 2000")
    asked = run_of(job, due_ms=1000)
    added = await claims.add(job.id, lambda *_: (asked, Admission()), nothing)
    assert added.id == asked.id


async def test_what_was_missed_is_run_when_it_comes_again(database: Database, claims: ClaimStore, job: Job) -> None:
    missed = missed_at(job, 1000, error="unserved", times=7)
    await put(database, missed)
    [(queued, _)] = (await claim(claims, 1000)).queued
    assert await RunStore(database).list() == [queued]
    assert queued.id != missed.id
    assert (queued.state, queued.created_ms, queued.finished_ms, queued.error, queued.times) == (
        QUEUED,
        1000,
        None,
        None,
        1,
    )


@pytest.mark.parametrize("state", [MISSED, SKIPPED])
async def test_what_was_missed_stays_so_if_it_is_not_run_now(
    database: Database, claims: ClaimStore, job: Job, state: RunState
) -> None:
    missed = missed_at(job, 1000, error="unserved")
    await put(database, missed)
    assert (await claim(claims, 1000, planning(state))).queued == []
    assert await RunStore(database).list() == [missed]


@pytest.mark.parametrize("state", [state for state in RunState if state is not MISSED])
async def test_no_other_row_is_replaced(database: Database, claims: ClaimStore, job: Job, state: RunState) -> None:
    before = run_of(job, state=state, trigger=Trigger.CATCH_UP, due_ms=1000)
    await put(database, before)
    assert (await claim(claims, 1000, each_minute)).queued == []
    assert await RunStore(database).list() == [before]
