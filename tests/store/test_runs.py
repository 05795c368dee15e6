"""Runs' rows: starts and ends that are final, what a killed daemon leaves, history that stays bounded."""

from __future__ import annotations

from dataclasses import replace
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
from supervisor.store import run_history
from supervisor.store.database import Database
from supervisor.store.plugins import PluginRegistry
from supervisor.store.run_rows import MAX_ERROR_CHARS
from supervisor.store.runs import _RUNNING, _WAITING, RunStore
from tests.packages import a_package
from tests.store.jobs_world import execute, explain, make_jobs, put, run_of

ENDS = sorted(TERMINAL - {RunState.MISSED})


@pytest.mark.parametrize("state", list(RunState))
async def test_every_step_and_no_other(
    database: Database, runs: RunStore, job: Job, state: RunState, published: list[Recorded]
) -> None:
    for end in ENDS:
        run = run_of(job, state=state)
        await put(database, run)
        published.clear()
        won = await runs.finish(run, RunOutcome(state=end, error="late", result={"n": 1}, exit_code=3))
        assert won == (end in RUN_STEPS[state])
        after = await runs.get(run.id)
        assert (after.state, after.error, after.exit_code) == ((end, "late", 3) if won else (state, None, None))
        assert [event.type for event in published] == ([f"job.run_{end}"] if won else [])
        if after.state in TERMINAL:
            assert await runs.finish(run, RunOutcome(state=RunState.CANCELLED), retry_at_ms=5) is False
            assert await runs.start([run]) == frozenset()
            assert await runs.get(run.id) == after


async def test_runs_start_together_and_each_once(
    database: Database, runs: RunStore, job: Job, clock: Any, published: list[Recorded]
) -> None:
    some = [run_of(job, due_ms=n) for n in range(3)]
    ended = run_of(job, state=RunState.CANCELLED)
    await put(database, *some, ended)
    published.clear()
    assert await runs.start([*some, ended, run_of(job)]) == {run.id for run in some}
    assert await runs.start(some) == frozenset()
    assert [(event.type, event.data["run_id"]) for event in published] == [("job.run_started", run.id) for run in some]
    clock.advance(timedelta(seconds=3))
    await runs.finish(some[0], RunOutcome(state=RunState.FAILED, error="x" * 9000))
    after = await runs.get(some[0].id)
    assert (after.finished_ms or 0) - (after.started_ms or 0) == 3000
    assert len(after.error or "") == MAX_ERROR_CHARS
    assert published[-1].data["duration_ms"] == 3000
    assert await runs.start([]) == frozenset()


async def test_all_who_end_a_run_at_once_and_one_does(
    database: Database, runs: RunStore, job: Job, published: list[Recorded]
) -> None:
    run = run_of(job, state=RunState.RUNNING)
    await put(database, run)
    published.clear()
    won: list[RunState] = []

    async def finish(end: RunState) -> None:
        if await runs.finish(run, RunOutcome(state=end)):
            won.append(end)

    async with trio.open_nursery() as nursery:
        for end in (RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED, RunState.TIMED_OUT):
            nursery.start_soon(finish, end)
    assert [(await runs.get(run.id)).state] == won
    assert len(published) == 1


@pytest.mark.parametrize(
    ("result", "kept"),
    [
        ({"n": [1, b"\xff"]}, {"n": [1, b"\xff"]}),
        ("x" * 70_000, {"omitted": "the result has 70005 bytes; at most 65536 are kept"}),
    ],
)
async def test_a_result_is_kept_or_what_it_was(
    database: Database, runs: RunStore, job: Job, result: Any, kept: Any
) -> None:
    run = run_of(job, state=RunState.RUNNING)
    await put(database, run)
    assert await runs.finish(run, RunOutcome(state=RunState.SUCCEEDED, result=result))
    assert (await runs.get(run.id)).result == kept


async def test_what_a_killed_daemon_left(open_database: Any, make_manifest: Any, published: list[Recorded]) -> None:
    """What ran is interrupted, and tried again if its job says so; what waited still does."""
    async with open_database() as database:
        registry = await PluginRegistry.load(database)
        plugin = await registry.install(a_package(make_manifest(), "w"), approved=frozenset(), uid=0)
        [job] = await make_jobs(database, plugin)
        kept = {state: run_of(job, state=state, due_ms=n) for n, state in enumerate(RunState)}
        await put(database, *kept.values())
    published.clear()
    asked: list[tuple[JobSpec, Run]] = []

    def retry(spec: JobSpec, run: Run, now_ms: int) -> int:
        asked.append((spec, run))
        return now_ms + 10_000

    async with open_database() as database:
        runs = RunStore(database)
        assert await runs.interrupt_leftovers(retry) == 1
        assert await runs.interrupt_leftovers(retry) == 0
        assert asked == [(job.spec, kept[RunState.RUNNING])]
        after = await runs.get(kept[RunState.RUNNING].id)
        assert (after.state, after.error) == (RunState.INTERRUPTED, "the daemon ended while the run was running")
        assert after.retry_at_ms == to_ms(database.clock.now()) + 10_000
        assert await runs.waiting() == [(kept[RunState.QUEUED], job)]
        for state, run in kept.items():
            assert state is RunState.RUNNING or await runs.get(run.id) == run
        assert [event.type for event in published] == ["job.run_interrupted"]


async def test_a_pending_retry_is_dropped_once(database: Database, runs: RunStore, job: Job) -> None:
    run = run_of(job, state=RunState.RUNNING)
    await put(database, run)
    await runs.finish(run, RunOutcome(state=RunState.FAILED), retry_at_ms=9000)
    assert await runs.drop_retry(run.id) is True
    assert await runs.drop_retry(run.id) is False
    assert await runs.drop_retry("r9") is False
    after = await runs.get(run.id)
    assert (after.state, after.retry_at_ms) == (RunState.FAILED, None)


async def test_history_stays_bounded(
    database: Database, runs: RunStore, plugin: Plugin, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Piece by piece: of jobs, and of rows."""
    monkeypatch.setattr(run_history, "_TRIM_AT_ONCE", 4)
    monkeypatch.setattr(run_history, "_JOBS_AT_ONCE", 2)
    jobs = await make_jobs(database, plugin, "a", "b", "c")
    now_ms = to_ms(clock.now())
    old_open = run_of(jobs[0], due_ms=99, created_ms=now_ms - 90_000)
    failed = run_of(jobs[0], state=RunState.FAILED, due_ms=98, created_ms=now_ms - 80_000)
    await put(database, old_open, failed)
    for job in jobs:
        ended = [
            run_of(job, state=RunState.SUCCEEDED, due_ms=n, created_ms=now_ms - n * 1000, trigger=Trigger.SCHEDULE)
            for n in reversed(range(12))
        ]
        await put(database, *ended)
    await execute(database, "UPDATE job_run SET retry_at_ms = 5 WHERE id = ?", failed.id)
    assert await runs.trim(keep_runs=100, keep_ms=9_500) == 6
    assert await runs.trim(keep_runs=4, keep_ms=9_500) == 18
    for job in jobs[1:]:
        assert [run.due_ms for run in await runs.list(job_id=job.id)] == [0, 1, 2, 3]
    left = await runs.list(job_id=jobs[0].id)
    assert [run.due_ms for run in left] == [0, 1, 2, 3, 98, 99]
    assert left[-2:] == [replace(failed, retry_at_ms=5), old_open]
    assert await runs.trim(keep_runs=4, keep_ms=9_500) == 0
    assert await execute(database, "SELECT trimmed_to_ms FROM job") == [(11,)] * 3


async def test_the_newest_are_those_written_last(database: Database, runs: RunStore, job: Job, clock: Any) -> None:
    """The clock was an hour ahead while the first half of them was made."""
    now_ms = to_ms(clock.now())

    def made_at(ms: int) -> Run:
        return run_of(job, state=RunState.SUCCEEDED, due_ms=ms, trigger=Trigger.SCHEDULE)

    ahead = [made_at(now_ms + 3_600_000 + n) for n in range(6)]
    first, *since = [made_at(now_ms - 10 + n) for n in range(6)]
    await put(database, *ahead, first, *since)
    assert await runs.trim(keep_runs=5) == 1
    assert {run.id for run in await runs.list()} == {run.id for run in (*ahead, *since)}
    assert await execute(database, "SELECT trimmed_to_ms FROM job") == [(first.due_ms,)]
    clock.advance(timedelta(hours=2))  # those ahead have come: they are no guards any more
    assert await runs.trim(keep_runs=5) == 6
    assert await execute(database, "SELECT trimmed_to_ms FROM job") == [(ahead[-1].due_ms,)]


async def test_history_is_trimmed_by_indexes(database: Database, job: Job) -> None:
    old = await explain(database, run_history._TRIM_OLD, (1, 2, 3))
    many = await explain(database, run_history._TRIM_MANY, (1, "j", 3, 4))
    assert "USING INDEX job_run_age (created_ms<?)" in old
    assert many.count("job_run_of_job (job_id=?") == 2
    assert "SCAN job_run" not in old + many


async def test_what_was_by_hand_and_is_deleted_says_nothing_of_due_times(
    database: Database, runs: RunStore, job: Job
) -> None:
    await put(database, run_of(job, state=RunState.SUCCEEDED, due_ms=7000))
    assert await runs.trim(keep_ms=0) == 1
    assert await execute(database, "SELECT trimmed_to_ms FROM job") == [(0,)]


async def test_a_run_that_is_not_there(runs: RunStore, job: Job) -> None:
    with pytest.raises(NotFound, match="there is no run 'r9'"):
        await runs.get("r9")
    assert await runs.finish(run_of(job), RunOutcome(state=RunState.CANCELLED)) is False
    with pytest.raises(NotFound) as told:
        await runs.get("x" * 1_000_000)
    assert len(told.value.message) < 200


async def test_pages_lose_nothing_though_all_were_made_at_once(database: Database, runs: RunStore, job: Job) -> None:
    made = [run_of(job, due_ms=n, created_ms=7000 + n // 6) for n in range(12)]
    await put(database, *made)
    found: list[Run] = []
    while page := await runs.list(job_id=job.id, before=found[-1].id if found else None, limit=5):
        found += page
    assert found == made[::-1]
    assert await runs.list(before=made[8].id, before_ms=7001) == made[5::-1]
    assert await runs.list(before=made[0].id) == []
    with pytest.raises(NotFound, match="there is no run 'gone'"):
        await runs.list(before="gone")


async def test_history_is_filtered(database: Database, runs: RunStore, plugin: Plugin) -> None:
    a, b = await make_jobs(database, plugin, "a", "b")
    made = [
        run_of(a, due_ms=1, state=RunState.FAILED),
        run_of(b, due_ms=2, state=RunState.FAILED, trigger=Trigger.RETRY),
        run_of(b, due_ms=3, params={"x": 1}, times=4),
    ]
    await put(database, *made)
    asked: dict[str, Any] = {"job_id": b.id, "state": RunState.FAILED, "trigger": Trigger.RETRY, "since_ms": 2}
    assert [await runs.list(**{name: value}) for name, value in asked.items()] == [
        [made[2], made[1]],
        [made[1], made[0]],
        [made[1]],
        [made[2], made[1]],
    ]
    assert await runs.list(**asked, before_ms=3, plugin_id=plugin.id) == [made[1]]
    assert await runs.list(plugin_id=plugin.id, limit=2) == [made[2], made[1]]
    assert await runs.list(plugin_id="other") == []  # type: ignore[arg-type]


async def test_what_is_open_is_found_without_reading_the_history(database: Database, job: Job) -> None:
    for sql in (_RUNNING, _WAITING):
        assert "SCAN job_run USING INDEX job_run_open" in await explain(database, sql, ())


@pytest.mark.parametrize("count", [1, 40])
async def test_ends_that_come_together_share_a_commit(
    open_database: Any, make_manifest: Any, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    async with open_database() as database:
        registry = await PluginRegistry.load(database)
        plugin = await registry.install(a_package(make_manifest(), "w"), approved=frozenset(), uid=0)
        [job] = await make_jobs(database, plugin)
        some = [run_of(job, state=RunState.RUNNING) for _ in range(count)]
        await put(database, *some)
        commits = []
        commit = database._writer._connection.commit
        monkeypatch.setattr(database._writer._connection, "commit", lambda: (commits.append(1), commit()))
        async with trio.open_nursery() as nursery:
            for run in some:
                nursery.start_soon(RunStore(database).finish, run, RunOutcome(state=RunState.SUCCEEDED))
        assert len(commits) <= max(1, count // 10)
