"""Claims: each due time once, in one transaction with the job's next; retries in their own time; runs added by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import trio
import trio.testing

from supervisor.clock import to_ms
from supervisor.core.errors import Conflict, FailedPrecondition, NotFound
from supervisor.core.event import Recorded
from supervisor.core.job import Admission, Job, OpenRun, Plan, PlannedRun, Run, RunOutcome, RunState, Trigger
from supervisor.core.plugin import Plugin
from supervisor.store import claims as claims_module
from supervisor.store import due_jobs
from supervisor.store.claims import ClaimStore, Tick
from supervisor.store.database import Database
from supervisor.store.jobs import JobStore
from supervisor.store.plugins import PluginRegistry
from supervisor.store.runs import RunStore
from tests.packages import a_package
from tests.store.jobs_world import (
    admit,
    claim,
    due,
    due_at,
    each_minute,
    execute,
    explain,
    make_jobs,
    nothing,
    put,
    run_of,
)

QUEUED, MISSED, SKIPPED = RunState.QUEUED, RunState.MISSED, RunState.SKIPPED


async def sync_at(jobs: JobStore, job: Job, ms: int | None) -> Job:
    [again] = await jobs.sync(job.plugin_id, job.plugin_key, [job.spec], due_at(ms), source="v1")
    return again


async def test_a_claim_moves_the_job_on_and_writes_its_rows(
    claims: ClaimStore, jobs: JobStore, runs: RunStore, job: Job, published: list[Recorded], clock: Any
) -> None:
    published.clear()
    seen: list[Any] = []

    def decide(due_job: Job, opens: tuple[OpenRun, ...]) -> Plan:
        seen.append((due_job, opens))
        missed = PlannedRun(1000, MISSED, error="7 due times", times=7)
        return Plan((missed, PlannedRun(61_000, QUEUED, Trigger.CATCH_UP)), due(121_000), gap=True)

    told: list[Tick] = []
    tick = await claims.claim_due(62_000, decide, admit, told.append)
    assert [tick] == told
    assert seen == [(job, ())]
    [(queued, of)] = tick.queued
    assert of == job
    assert (tick.cancelled, tick.broken, tick.more, tick.head_ms) == ([], [], False, 121_000)
    assert (queued.trigger, queued.state, queued.due_ms, queued.created_ms) == (
        Trigger.CATCH_UP,
        QUEUED,
        61_000,
        62_000,
    )
    after = await jobs.get(job.id)
    assert (after.next_due_ms, after.next_fire_ms, after.last_due_ms) == (121_000, 121_000, 61_000)
    assert after.served_from_ms == 61_000
    [newest, missed] = await runs.list()
    assert newest == queued
    assert (missed.state, missed.times, missed.error, missed.finished_ms) == (MISSED, 7, "7 due times", 62_000)
    assert [(event.type, event.data["run_id"]) for event in published] == [("job.run_missed", missed.id)]
    assert await jobs.clock_ms() == to_ms(clock.now())


async def test_what_was_served_grows_until_a_gap(claims: ClaimStore, jobs: JobStore, job: Job) -> None:
    def only_missed(due_job: Job, _: object) -> Plan:
        return Plan((PlannedRun(due_job.next_due_ms or 0, MISSED),), due(500_000), gap=True)

    found = []
    for now_ms, decide in ((1000, each_minute), (61_000, each_minute), (121_000, only_missed), (500_000, each_minute)):
        await claim(claims, now_ms, decide)
        after = await jobs.get(job.id)
        found.append((after.served_from_ms, after.last_due_ms))
    assert found == [(1000, 1000), (1000, 61_000), (None, 121_000), (500_000, 500_000)]


async def test_claimed_by_many_at_once_each_is_run_once(claims: ClaimStore, runs: RunStore, job: Job) -> None:
    ticks: list[Tick] = []

    async def one() -> None:
        ticks.append(await claim(claims, 1000))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(one)
    assert sorted(len(tick.queued) for tick in ticks) == [0] * 19 + [1]
    assert len(await runs.list()) == 1


async def test_a_due_time_is_served_once_though_the_clock_was_turned_back(
    claims: ClaimStore, jobs: JobStore, runs: RunStore, job: Job, published: list[Recorded]
) -> None:
    await claim(claims, 1000)
    before = await runs.list()
    await sync_at(jobs, job, 1000)
    published.clear()
    tick = await claim(claims, 1000, lambda *_: Plan((PlannedRun(1000, MISSED),), due(61_000)))
    assert (tick.queued, published) == ([], [])
    assert (await jobs.get(job.id)).next_due_ms == 61_000
    assert await runs.list() == before


async def test_of_a_group_only_what_is_new_is_written(claims: ClaimStore, jobs: JobStore, job: Job) -> None:
    """And it is a new one that makes room."""
    [(first, _)] = (await claim(claims, 1000)).queued
    await sync_at(jobs, job, 1000)

    def all_of_them(_: Job, opens: tuple[OpenRun, ...]) -> Plan:
        times = (1000, 2000, 3000)
        return Plan(
            tuple(PlannedRun(ms, QUEUED, Trigger.CATCH_UP) for ms in times), due(9000), tuple(o.id for o in opens)
        )

    tick = await claim(claims, 3000, all_of_them)
    assert [run.due_ms for run, _ in tick.queued] == [2000, 3000]
    assert tick.cancelled == [first.id]


async def test_a_newer_run_makes_room(claims: ClaimStore, runs: RunStore, job: Job, published: list[Recorded]) -> None:
    [(waiting, _)] = (await claim(claims, 1000)).queued
    [(running, _)] = (await claim(claims, 61_000)).queued
    assert await runs.start([running]) == {running.id}
    published.clear()
    seen: list[tuple[OpenRun, ...]] = []

    def cancel_previous(due_job: Job, opens: tuple[OpenRun, ...]) -> Plan:
        seen.append(opens)
        return replace(each_minute(due_job, opens), cancel=tuple(each.id for each in opens))

    tick = await claim(claims, 121_000, cancel_previous)
    [(newer, _)] = tick.queued
    assert seen == [(OpenRun(waiting.id, QUEUED), OpenRun(running.id, RunState.RUNNING))]
    assert tick.cancelled == [waiting.id, running.id]
    assert [event.type for event in published] == ["job.run_cancelled"] * 2
    for run in (waiting, running):
        after = await runs.get(run.id)
        assert (after.state, after.error) == (RunState.CANCELLED, f"run {newer.id} of the same job is due")
        assert await runs.finish(run, RunOutcome(state=RunState.SUCCEEDED)) is False


async def test_a_due_time_that_was_served_ends_nobody(claims: ClaimStore, jobs: JobStore, job: Job) -> None:
    await claim(claims, 1000)
    await sync_at(jobs, job, 1000)
    tick = await claim(claims, 1000, lambda of, opens: replace(each_minute(of, ()), cancel=tuple(o.id for o in opens)))
    assert (tick.queued, tick.cancelled) == ([], [])


@pytest.mark.parametrize("why", ["disabled", "paused", "held", "inactive"])
async def test_what_is_not_to_run_by_the_clock_is_only_taken_off(
    database: Database, claims: ClaimStore, jobs: JobStore, runs: RunStore, job: Job, why: str
) -> None:
    """However it came to be due all the same."""
    changes = {
        "disabled": "UPDATE plugin SET status = 'disabled'",
        "paused": "UPDATE job SET paused = 1",
        "held": f"INSERT INTO job_hold VALUES ('{job.plugin_id}', NULL, 0)",
        "inactive": "UPDATE job SET active = 0",
    }
    await execute(database, changes[why])
    tick = await claim(claims, 1000)
    assert (tick.queued, tick.head_ms, tick.more) == ([], None, False)
    assert await runs.list() == []
    after = await jobs.get(job.id)
    assert (after.next_due_ms, after.next_fire_ms) == (None, None)
    # Only a sync brings it back: what its jobs were made from must not tell that they are as declared.
    assert await jobs.sources() == {}


async def test_a_job_that_cannot_be_planned_stops_no_other(
    database: Database, claims: ClaimStore, jobs: JobStore, plugin: Plugin
) -> None:
    bad, worse, good = await make_jobs(database, plugin, "bad", "worse", "good")

    def decide(due_job: Job, opens: tuple[OpenRun, ...]) -> Plan:
        if due_job.key == "bad":
            raise ValueError("no such zone")
        return (
            replace(each_minute(due_job, opens), next=due(1000)) if due_job.key == "worse" else each_minute(due_job, ())
        )

    tick = await claim(claims, 1000, decide)
    assert [run.job_id for run, _ in tick.queued] == [good.id]
    assert [(each.id, why.split(":")[0]) for each, why in tick.broken] == [
        (bad.id, "ValueError"),
        (worse.id, "ValueError"),
    ]
    assert tick.broken[0][1] == "ValueError: no such zone"
    assert [(await jobs.get(each.id)).next_fire_ms for each in (bad, worse)] == [None, None]
    assert await jobs.sources() == {}


async def test_many_are_claimed_in_pieces_the_earliest_first(
    database: Database, claims: ClaimStore, plugin: Plugin
) -> None:
    order = {"a": 3000, "b": 1000, "c": 2000, "d": 9000}
    await make_jobs(database, plugin, *order, first_due=lambda each, _: (due(order[each.key]), "t"))
    first = await claim(claims, 5000, limit=2)
    assert ([run.job_key for run, _ in first.queued], first.more, first.head_ms) == (["b", "c"], True, 3000)
    second = await claim(claims, 5000, limit=2)
    assert ([run.job_key for run, _ in second.queued], second.more, second.head_ms) == (["a"], False, 9000)
    assert await claim(claims, 5000) == Tick(head_ms=9000)


async def test_a_transaction_has_a_bounded_number_of_rows(
    database: Database, claims: ClaimStore, runs: RunStore, plugin: Plugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(due_jobs, "MAX_ROWS", 5)
    await make_jobs(database, plugin, "a", "b", "c")

    def three(due_job: Job, _: object) -> Plan:
        first = due_job.next_due_ms or 0
        return Plan(tuple(PlannedRun(first + n, MISSED) for n in range(3)), due(99_000), gap=True)

    assert [(await claim(claims, 1000, three)).more, len(await runs.list())] == [True, 6]
    assert [(await claim(claims, 1000, three)).more, len(await runs.list())] == [False, 9]


async def test_the_jitter_decides_when_it_is_acted_on(
    database: Database, claims: ClaimStore, jobs: JobStore, job: Job
) -> None:
    await execute(database, "UPDATE job SET next_fire_ms = 1500")
    assert (await claim(claims, 1499)).queued == []
    assert await jobs.head() == 1500
    [(run, _)] = (await claim(claims, 1500)).queued
    assert run.due_ms == 1000


async def failed(claims: ClaimStore, runs: RunStore, *, retry_at_ms: int | None = 5000) -> Run:
    """The run that is due fails, and is to be tried again."""
    [(run, _)] = (await claim(claims, 1000)).queued
    await runs.start([run])
    assert await runs.finish(run, RunOutcome(state=RunState.FAILED, error="no"), retry_at_ms=retry_at_ms)
    return run


async def test_a_retry_has_a_row_of_its_own_and_is_taken_once(
    claims: ClaimStore, jobs: JobStore, runs: RunStore, job: Job
) -> None:
    first = await failed(claims, runs)
    assert (await runs.get(first.id)).retry_at_ms == 5000
    assert await jobs.head() == 5000
    assert (await claim(claims, 4999)).queued == []
    tick = await claim(claims, 5000)
    [(second, of)] = tick.queued
    assert of.id == job.id
    assert (second.trigger, second.attempt, second.due_ms, second.created_ms) == (Trigger.RETRY, 2, 1000, 5000)
    assert (await runs.get(first.id)).retry_at_ms is None
    assert (await claim(claims, 5000)).queued == []
    assert [run.id for run in await runs.list(trigger=Trigger.RETRY)] == [second.id]


async def test_a_retry_keeps_the_params_of_the_run_by_hand(claims: ClaimStore, runs: RunStore, job: Job) -> None:
    by_hand = run_of(job, params={"city": "Bern", "raw": b"\xff"})
    await claims.add(job.id, lambda *_: (by_hand, Admission()), nothing)
    await runs.start([by_hand])
    await runs.finish(by_hand, RunOutcome(state=RunState.TIMED_OUT), retry_at_ms=900)
    [(again, _)] = [pair for pair in (await claim(claims, 950)).queued if pair[0].trigger is Trigger.RETRY]
    assert again.params == by_hand.params
    assert (await runs.get(again.id)).params == by_hand.params


async def test_a_retry_beside_an_open_run_is_decided_after_what_is_due(
    claims: ClaimStore, runs: RunStore, job: Job, published: list[Recorded]
) -> None:
    await failed(claims, runs, retry_at_ms=61_000)
    published.clear()
    seen: list[Any] = []

    def skip(of: Job, run: Run, _: bool, opens: tuple[OpenRun, ...]) -> Admission:
        seen.append((of.id, run.due_ms, [each.state for each in opens]))
        return Admission(SKIPPED, "it runs")

    tick = await claim(claims, 61_000, each_minute, skip)
    assert [run.trigger for run, _ in tick.queued] == [Trigger.SCHEDULE]
    assert seen == [(job.id, 1000, [QUEUED])]
    [skipped] = await runs.list(state=SKIPPED)
    assert (skipped.attempt, skipped.error, skipped.finished_ms) == (2, "it runs", 61_000)
    assert [event.type for event in published] == ["job.run_skipped"]


async def test_retries_of_one_job_see_each_other(claims: ClaimStore, runs: RunStore, job: Job) -> None:
    for due_ms in (1000, 61_000):
        [(run, _)] = (await claim(claims, due_ms)).queued
        await runs.start([run])
        await runs.finish(run, RunOutcome(state=RunState.FAILED), retry_at_ms=70_000)
    tick = await claim(
        claims, 70_000, each_minute, lambda *given: Admission(SKIPPED, "x") if given[-1] else Admission()
    )
    assert [run.due_ms for run, _ in tick.queued] == [1000]
    assert [run.due_ms for run in await runs.list(state=SKIPPED)] == [61_000]


async def test_a_retry_that_cannot_be_decided_is_told_and_dropped(claims: ClaimStore, runs: RunStore, job: Job) -> None:
    first = await failed(claims, runs)
    tick = await claim(claims, 5000, each_minute, lambda *_: 1 / 0)
    assert [(each.id, why) for each, why in tick.broken] == [(job.id, "ZeroDivisionError: division by zero")]
    assert (await runs.get(first.id)).retry_at_ms is None


async def test_retries_wait_while_paused_and_go_with_the_job(
    database: Database, claims: ClaimStore, jobs: JobStore, runs: RunStore, job: Job
) -> None:
    first = await failed(claims, runs)
    paused = await jobs.set_paused(job, paused=True, due=None)
    assert await jobs.head() is None
    assert (await claim(claims, 6000)).queued == []
    assert (await runs.get(first.id)).retry_at_ms == 5000
    await jobs.set_paused(paused, paused=False, due=due(900_000))
    assert await jobs.head() == 5000
    await execute(database, "UPDATE plugin SET status = 'disabled'")
    assert (await claim(claims, 6000)).queued == []
    assert (await runs.get(first.id)).retry_at_ms is None


async def test_a_held_scheduler_claims_nothing(claims: ClaimStore, jobs: JobStore, runs: RunStore, job: Job) -> None:
    first = await failed(claims, runs)
    await jobs.hold_all(1000)
    assert await claim(claims, 99_000) == Tick()
    assert await jobs.head() is None
    assert (await jobs.get(job.id)).next_due_ms == 61_000
    by_hand = await claims.add(job.id, lambda *_: (run_of(job), Admission()), nothing)
    assert (await runs.get(by_hand.id)).state is QUEUED
    await jobs.release_all()
    assert await jobs.head() == 5000
    assert {run.due_ms for run, _ in (await claim(claims, 99_000)).queued} == {61_000, first.due_ms}


async def test_a_run_by_hand_is_admitted_in_its_own_transaction(claims: ClaimStore, runs: RunStore, job: Job) -> None:
    told: list[Tick] = []
    by_hand = run_of(job)
    assert await claims.add(job.id, lambda *_: (by_hand, Admission()), told.append) == by_hand
    assert [run for tick in told for run, _ in tick.queued] == [by_hand]

    def refuse(of: Job, opens: tuple[OpenRun, ...]) -> tuple[Run, Admission]:
        raise Conflict(f"run {opens[0].id} of {of.name} has not ended")

    with pytest.raises(Conflict, match=f"run {by_hand.id} of acme.weather/refresh has not ended"):
        await claims.add(job.id, refuse, told.append)
    assert len(told) == len(await runs.list()) == 1
    newer = run_of(job, due_ms=2000)
    await claims.add(job.id, lambda _, opens: (newer, Admission(cancel=tuple(o.id for o in opens))), told.append)
    assert told[1].cancelled == [by_hand.id]
    assert (await runs.get(by_hand.id)).state is RunState.CANCELLED


async def test_by_hand_works_paused_and_not_otherwise(
    database: Database, claims: ClaimStore, jobs: JobStore, job: Job
) -> None:
    def build(of: Job, _: object) -> tuple[Run, Admission]:
        return run_of(of), Admission()

    await jobs.hold_plugin(job.plugin_id, None)
    await claims.add(job.id, build, nothing)
    await execute(database, "UPDATE plugin SET status = 'disabled'")
    with pytest.raises(FailedPrecondition, match=r"cannot run while plugin 'acme\.weather' is disabled: enable"):
        await claims.add(job.id, build, nothing)
    await jobs.unschedule(job.plugin_id, declared=False)
    with pytest.raises(FailedPrecondition, match="is not declared"):
        await claims.add(job.id, build, nothing)
    await (await PluginRegistry.load(database)).delete(job.plugin_id)
    with pytest.raises(NotFound, match="there is no job"):
        await claims.add(job.id, build, nothing)


async def test_an_operators_retry_takes_the_chain_over(claims: ClaimStore, runs: RunStore, job: Job) -> None:
    first = await failed(claims, runs)

    async def retry() -> Run:
        again = replace(first, id="", trigger=Trigger.RETRY, created_ms=2000)
        return await claims.add(
            job.id, lambda of, _: (replace(again, id=run_of(of).id), Admission()), nothing, retry_of=first.id
        )

    second = await retry()
    assert second.attempt == 2
    assert (await runs.get(first.id)).retry_at_ms is None
    await runs.start([second])
    await runs.finish(second, RunOutcome(state=RunState.FAILED), retry_at_ms=8000)
    third = await retry()
    assert third.attempt == 3
    assert (await runs.get(second.id)).retry_at_ms is None
    await runs.start([third])
    await runs.finish(third, RunOutcome(state=RunState.FAILED), retry_at_ms=9000)
    [(fourth, _)] = (await claim(claims, 9000)).queued
    assert sorted(run.attempt for run in await runs.list(job_id=job.id)) == [1, 2, 3, 4]
    assert fourth.attempt == 4


async def test_the_clock_it_was_claimed_by_only_grows_until_it_is_set(
    claims: ClaimStore, jobs: JobStore, job: Job, clock: Any
) -> None:
    now_ms = to_ms(clock.now())
    assert await jobs.clock_ms() == now_ms  # it was declared then
    await claim(claims, now_ms + 1000)
    await claim(claims, now_ms + 500)
    assert await jobs.clock_ms() == now_ms + 1000
    await jobs.set_clock_ms(700)
    assert await jobs.clock_ms() == 700


async def test_killed_after_a_claim_nothing_is_claimed_again(
    open_database: Any, make_manifest: Any, published: list[Recorded]
) -> None:
    async with open_database() as database:
        registry = await PluginRegistry.load(database)
        plugin = await registry.install(a_package(make_manifest(), "w"), approved=frozenset(), uid=0)
        [job] = await make_jobs(database, plugin)
        [(queued, _)] = (await claim(ClaimStore(database), 1000)).queued
    async with open_database() as database:
        assert (await claim(ClaimStore(database), 1000)).queued == []
        # It was never handed to anybody: it still waits.
        [(waiting, of)] = await RunStore(database).waiting()
        assert (waiting, of.id) == (queued, job.id)


async def test_the_hot_statements_use_their_indexes(database: Database, job: Job) -> None:
    retries = await explain(database, claims_module._DUE_RETRIES, (0, 1, 1, 1))
    assert "USING INDEX job_run_retry" in retries
    due_now = [await explain(database, f"{due_jobs._DUE} {order} LIMIT 9", (0, 1)) for order in ("ASC", "DESC")]
    assert all("USING INDEX job_fire" in plan for plan in due_now)
    for plan in (retries, *due_now):
        assert "SCAN" not in plan
        assert "TEMP B-TREE" not in plan


async def test_the_clock_makes_no_second_row_of_one_due_time_by_hand(
    database: Database, runs: RunStore, job: Job
) -> None:
    """By hand at the same millisecond is another matter."""
    scheduled = run_of(job, trigger=Trigger.SCHEDULE)
    await put(database, scheduled, run_of(job, trigger=Trigger.CATCH_UP), run_of(job), run_of(job))
    assert [run.trigger for run in await runs.list()].count(Trigger.MANUAL) == 2
    assert len(await runs.list()) == 3


async def test_from_one_due_time_to_the_next(
    autojump_clock: trio.testing.MockClock, open_database: Any, make_manifest: Any
) -> None:
    """The database is the schedule: its head says how long to sleep."""
    served = []
    async with open_database(inline=True) as database:
        registry = await PluginRegistry.load(database)
        plugin = await registry.install(a_package(make_manifest(), "w"), approved=frozenset(), uid=0)
        await make_jobs(database, plugin)
        while len(served) < 3:
            head_ms = await JobStore(database).head()
            await trio.sleep_until((head_ms or 0) / 1000)
            tick = await claim(ClaimStore(database), round(trio.current_time() * 1000))
            served += [(trio.current_time(), run.due_ms) for run, _ in tick.queued]
    assert served == [(1.0, 1000), (61.0, 61_000), (121.0, 121_000)]
