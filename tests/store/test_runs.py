"""Runs' rows: claims that are unique, ends that are final, what a killed daemon leaves, history that stays bounded."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
import trio

from supervisor.clock import to_ms
from supervisor.core.errors import NotFound
from supervisor.core.event import Recorded
from supervisor.core.job import RUN_STEPS, TERMINAL, Job, Run, RunOutcome, RunState, Trigger
from supervisor.core.manifest import JobSpec
from supervisor.core.plugin import Plugin
from supervisor.store.database import Database
from supervisor.store.jobs import JobStore
from supervisor.store.plugins import PluginRegistry
from supervisor.store.runs import MAX_ERROR_CHARS, Claim, Claimed, RunStore
from tests.packages import a_package


@pytest.fixture
def runs(database: Database) -> RunStore:
    return RunStore(database)


@pytest.fixture
async def job(database: Database, plugin: Plugin) -> Job:
    spec = JobSpec(key="refresh", display_name="Refresh", schedule="* * * * *")
    [job] = await JobStore(database).sync(plugin.id, plugin.key, [spec], lambda *_: 1000)
    return job


def run_of(job: Job, *, state: RunState = RunState.QUEUED, trigger: Trigger = Trigger.SCHEDULE, **more: Any) -> Run:
    due_ms = more.pop("due_ms", 1000)
    return Run(
        id=str(uuid.uuid4()),
        job_id=job.id,
        plugin_id=job.plugin_id,
        plugin_key=job.plugin_key,
        job_key=job.key,
        trigger=trigger,
        state=state,
        attempt=1,
        due_ms=due_ms,
        created_ms=more.pop("created_ms", due_ms),
        **more,
    )


def nothing(*_: object) -> None:
    """For those who do not want to be told."""


async def test_a_claim_moves_the_job_on_and_writes_its_rows(
    database: Database, runs: RunStore, job: Job, published: list[Recorded]
) -> None:
    published.clear()
    queued, missed = run_of(job, due_ms=3000), run_of(job, state=RunState.MISSED, error="2 due times", finished_ms=9)
    told: list[Claimed] = []
    claimed = await runs.claim([Claim(job, 4000, (missed, queued))], told.extend)
    assert claimed == told == [Claimed(Claim(job, 4000, (missed, queued)), won=True, queued=queued)]
    after = await JobStore(database).get(job.id)
    assert (after.next_due_ms, after.last_due_ms) == (4000, 3000)
    assert await runs.list() == [queued, missed]
    assert [(event.type, event.data["run_id"]) for event in published] == [("job.run_missed", missed.id)]


async def test_many_who_claim_at_once(runs: RunStore, job: Job) -> None:
    told: list[Claimed] = []

    async def claim() -> None:
        await runs.claim([Claim(job, 2000, (run_of(job),))], told.extend)

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(claim)
    assert sorted(each.won for each in told) == [False] * 19 + [True]
    assert len(await runs.list()) == 1


async def test_a_due_time_is_claimed_once_though_the_clock_was_turned_back(
    database: Database, runs: RunStore, job: Job
) -> None:
    await runs.claim([Claim(job, None, (run_of(job),))], nothing)
    store = JobStore(database)
    [again] = await store.sync(job.plugin_id, job.plugin_key, [job.spec], lambda *_: 1000)
    [claimed] = await runs.claim([Claim(again, 2000, (run_of(again, trigger=Trigger.CATCH_UP),))], nothing)
    assert (claimed.won, claimed.queued) == (True, None)
    assert len(await runs.list()) == 1
    await runs.add(run_of(job, trigger=Trigger.MANUAL), nothing)  # by hand at the same millisecond is another matter
    assert len(await runs.list()) == 2


@pytest.mark.parametrize("change", ["paused", "unscheduled", "gone"])
async def test_a_job_that_changed_meanwhile_is_not_claimed(
    database: Database, runs: RunStore, job: Job, change: str
) -> None:
    store = JobStore(database)
    if change == "paused":
        await store.set_paused(job, paused=True, next_due_ms=job.next_due_ms)
    elif change == "unscheduled":
        await store.unschedule(job.plugin_id, declared=True)
    else:
        await store.sync(job.plugin_id, job.plugin_key, [], lambda *_: None)
    [claimed] = await runs.claim([Claim(job, 2000, (run_of(job),))], nothing)
    assert claimed.won is False
    assert await runs.list() == []


@pytest.mark.parametrize("end", sorted(TERMINAL - {RunState.MISSED}))
@pytest.mark.parametrize("state", list(RunState))
async def test_every_step_and_no_other(
    runs: RunStore, job: Job, state: RunState, end: RunState, published: list[Recorded]
) -> None:
    run = run_of(job, state=state)
    await runs.add(run, nothing)
    published.clear()
    won = await runs.finish(run, RunOutcome(state=end, error="late", result={"n": 1}))
    assert won == (end in RUN_STEPS[state])
    after = await runs.get(run.id)
    assert (after.state, after.error) == ((end, "late") if won else (state, None))
    assert [event.type for event in published] == ([f"job.run_{end}"] if won else [])
    if after.state in TERMINAL:
        assert await runs.finish(run, RunOutcome(state=RunState.CANCELLED)) is False
        assert await runs.get(run.id) == after


async def test_a_run_starts_once(runs: RunStore, job: Job, clock: Any, published: list[Recorded]) -> None:
    run = run_of(job)
    await runs.add(run, nothing)
    published.clear()
    assert await runs.start(run) is True
    assert await runs.start(run) is False
    clock.advance(timedelta(seconds=3))
    await runs.finish(run, RunOutcome(state=RunState.FAILED, error="x" * 9000))
    after = await runs.get(run.id)
    assert (after.finished_ms or 0) - (after.started_ms or 0) == 3000
    assert len(after.error or "") == MAX_ERROR_CHARS
    assert [event.type for event in published] == ["job.run_started", "job.run_failed"]
    assert published[1].data["duration_ms"] == 3000
    assert await runs.start(run) is False


async def test_what_a_killed_daemon_left_is_interrupted(
    open_database: Any, make_manifest: Any, published: list[Recorded]
) -> None:
    async with open_database() as database:
        plugin = await (await PluginRegistry.load(database)).install(
            a_package(make_manifest(), "w"), approved=frozenset(), uid=0
        )
        spec = JobSpec(key="refresh", display_name="Refresh", schedule="* * * * *")
        [job] = await JobStore(database).sync(plugin.id, plugin.key, [spec], lambda *_: 1000)
        runs = RunStore(database)
        kept = {state: run_of(job, state=state, due_ms=n) for n, state in enumerate(RunState)}
        for run in kept.values():
            await runs.add(run, nothing)
    published.clear()
    async with open_database() as database:
        runs = RunStore(database)
        assert await runs.interrupt_leftovers() == 2
        assert await runs.interrupt_leftovers() == 0
        for state, run in kept.items():
            after = await runs.get(run.id)
            was_open = state in {RunState.QUEUED, RunState.RUNNING}
            assert after.state is (RunState.INTERRUPTED if was_open else state)
            assert after.error == (f"the daemon ended while the run was {state}" if was_open else None)
        assert [event.type for event in published] == ["job.run_interrupted"] * 2


async def test_history_stays_bounded(runs: RunStore, job: Job, clock: Any) -> None:
    now_ms = to_ms(clock.now())
    for n in range(12):
        await runs.add(run_of(job, state=RunState.SUCCEEDED, due_ms=n, created_ms=now_ms - n * 1000), nothing)
    old_open = run_of(job, due_ms=99, created_ms=now_ms - 90_000)
    await runs.add(old_open, nothing)
    assert await runs.trim(keep_runs=100, keep_ms=9_500) == 2
    assert await runs.trim(keep_runs=4, keep_ms=9_500) == 6
    left = await runs.list()
    assert [run.due_ms for run in left] == [0, 1, 2, 3, 99]
    assert left[-1] == old_open
    assert await runs.trim(keep_runs=4, keep_ms=9_500) == 0


async def test_a_run_that_is_not_there(runs: RunStore, job: Job) -> None:
    with pytest.raises(NotFound, match="there is no run 'r9'"):
        await runs.get("r9")
    assert await runs.finish(run_of(job), RunOutcome(state=RunState.CANCELLED)) is False


async def test_pages_lose_nothing_though_all_were_made_at_once(runs: RunStore, job: Job) -> None:
    made = [run_of(job, due_ms=n, created_ms=7000 + n // 6, trigger=Trigger.MANUAL) for n in range(12)]
    for run in made:
        await runs.add(run, nothing)
    found: list[Run] = []
    while page := await runs.list(job_id=job.id, before=found[-1].id if found else None, limit=5):
        found += page
    assert found == made[::-1]
    assert await runs.list(before=made[8].id, before_ms=7001) == made[5::-1]
    assert await runs.list(before=made[0].id) == []


async def test_a_page_before_a_run_that_is_gone_is_refused(runs: RunStore, job: Job) -> None:
    await runs.add(run_of(job), nothing)
    with pytest.raises(NotFound, match="there is no run 'gone'"):
        await runs.list(before="gone")
    with pytest.raises(NotFound) as told:
        await runs.get("x" * 1_000_000)
    assert len(told.value.message) < 200


async def test_a_run_of_a_job_that_went_with_its_plugin_is_refused(
    database: Database, runs: RunStore, job: Job
) -> None:
    registry = await PluginRegistry.load(database)
    await registry.delete(job.plugin_id)
    with pytest.raises(NotFound, match="is gone"):
        await runs.add(run_of(job, trigger=Trigger.MANUAL), lambda: None)
