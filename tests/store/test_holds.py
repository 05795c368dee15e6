"""What an operator holds back stays so over syncs, and is due again from when it is let go."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.clock import to_ms
from supervisor.core.errors import FailedPrecondition, NotFound
from supervisor.core.job import Job
from supervisor.core.plugin import Plugin, PluginId
from supervisor.store.claims import ClaimStore
from supervisor.store.database import Database
from supervisor.store.jobs import Held, JobStore, Scope
from tests.store.jobs_world import claim, due, due_at, execute, make_jobs, spec


async def test_a_paused_job_stays_so_over_every_sync(jobs: JobStore, job: Job) -> None:
    paused = await jobs.set_paused(job, paused=True, due=due(99))
    assert (paused.paused, paused.next_due_ms, paused.next_fire_ms) == (True, None, None)
    with pytest.raises(FailedPrecondition, match=r"acme\.weather/refresh is paused already"):
        await jobs.set_paused(job, paused=True, due=None)
    for specs in ([], [job.spec]):
        await jobs.sync(job.plugin_id, job.plugin_key, specs, due_at(2000), source="v2")
    back = await jobs.get(job.id)
    assert (back.active, back.paused, back.next_due_ms) == (True, True, None)
    resumed = await jobs.set_paused(back, paused=False, due=due(5000))
    assert (resumed.paused, resumed.next_due_ms, resumed.next_fire_ms) == (False, 5000, 5000)
    with pytest.raises(FailedPrecondition, match="not paused"):
        await jobs.set_paused(job, paused=False, due=None)


@pytest.mark.parametrize("meanwhile", ["held", "disabled", "inactive", "by hand"])
async def test_resumed_a_job_is_due_only_if_it_may_be(
    database: Database, jobs: JobStore, job: Job, meanwhile: str
) -> None:
    await jobs.set_paused(job, paused=True, due=None)
    if meanwhile == "held":
        await jobs.hold_plugin(job.plugin_id, None)
    elif meanwhile == "disabled":
        await execute(database, "UPDATE plugin SET status = 'disabled'")
    elif meanwhile == "inactive":
        await jobs.unschedule(job.plugin_id, declared=False)
    resumed = await jobs.set_paused(job, paused=False, due=None if meanwhile == "by hand" else due(5000))
    assert (resumed.paused, resumed.next_due_ms) == (False, None)


async def test_what_was_served_begins_anew_after_a_pause(database: Database, jobs: JobStore, job: Job) -> None:
    await claim(ClaimStore(database), 1000)
    assert (await jobs.get(job.id)).served_from_ms == 1000
    await jobs.set_paused(job, paused=True, due=None)
    assert (await jobs.set_paused(job, paused=False, due=due(500_000))).served_from_ms is None


async def test_a_held_plugin(database: Database, jobs: JobStore, plugin: Plugin, clock: Any) -> None:
    [a, _] = await make_jobs(database, plugin, "a", "b")
    assert await jobs.hold_plugin(plugin.id, 1000) == Scope(2, None)
    held = await jobs.get(a.id)
    assert (held.plugin_paused, held.paused, held.next_fire_ms) == (True, False, None)
    assert await execute(database, "SELECT uid, held_at_ms FROM job_hold") == [(1000, to_ms(clock.now()))]
    with pytest.raises(FailedPrecondition, match=r"the jobs of plugin acme\.weather are paused already"):
        await jobs.hold_plugin(plugin.id, None)
    # What is declared meanwhile is held too, and so is what comes back.
    specs = [spec(key) for key in "abcd"]
    for source in ("v2", "v3"):
        synced = await jobs.sync(plugin.id, plugin.key, specs, due_at(3000), source=source)
        assert {(job.plugin_paused, job.next_due_ms) for job in synced} == {(True, None)}
    await jobs.set_paused(synced[3], paused=True, due=None)
    asked: list[str] = []

    def first(job: Job) -> Any:
        asked.append(job.key)
        assert job.plugin_paused is False
        return {"a": due(9000), "b": due(7000), "c": None}[job.key]

    assert await jobs.release_plugin(plugin.id, first) == Scope(4, 7000)
    assert asked == ["a", "b", "c"]
    assert [each.job.next_fire_ms for each in await jobs.list()] == [9000, 7000, None, None]
    with pytest.raises(FailedPrecondition, match="are not paused"):
        await jobs.release_plugin(plugin.id, first)


async def test_a_plugin_let_go_while_it_is_not_ready(database: Database, jobs: JobStore, job: Job) -> None:
    await jobs.hold_plugin(job.plugin_id, None)
    await execute(database, "UPDATE plugin SET status = 'disabled'")
    assert await jobs.release_plugin(job.plugin_id, lambda _: due(1)) == Scope(1, None)
    assert (await jobs.get(job.id)).plugin_paused is False


async def test_a_release_that_fails_leaves_it_held(jobs: JobStore, job: Job) -> None:
    await jobs.hold_plugin(job.plugin_id, None)
    with pytest.raises(ZeroDivisionError):
        await jobs.release_plugin(job.plugin_id, lambda _: 1 / 0)  # type: ignore[arg-type,return-value]
    assert (await jobs.get(job.id)).plugin_paused is True


async def test_a_plugin_that_is_gone(jobs: JobStore) -> None:
    with pytest.raises(NotFound, match="there is no plugin 'p9'"):
        await jobs.hold_plugin(PluginId("p9"), None)
    with pytest.raises(NotFound, match="there is no plugin 'p9'"):
        await jobs.release_plugin(PluginId("p9"), lambda _: None)


async def test_the_scheduler_is_held_over_a_restart(open_database: Any, clock: Any) -> None:
    async with open_database() as database:
        jobs = JobStore(database)
        assert await jobs.held() is None
        with pytest.raises(FailedPrecondition, match="is not paused"):
            await jobs.release_all()
        assert await jobs.hold_all(1000) == Scope(0, None)
    async with open_database() as database:
        jobs = JobStore(database)
        assert await jobs.held() == Held(to_ms(clock.now()), 1000)
        with pytest.raises(FailedPrecondition, match="paused already"):
            await jobs.hold_all(None)
        assert await jobs.release_all() == Scope(0, None)
        assert await jobs.held() is None


async def test_the_scope_of_a_hold(jobs: JobStore, job: Job) -> None:
    assert await jobs.scope() == await jobs.scope(job.plugin_id) == Scope(1, 1000)
    assert await jobs.scope(PluginId("p9")) == Scope(0, None)
    await jobs.hold_all(None)
    # The rows stay as they are: it is the claims that are not made.
    assert (await jobs.get(job.id)).next_due_ms == 1000
