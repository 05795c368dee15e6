"""Jobs' rows: syncing them with a manifest, pausing, finding."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from supervisor.core.errors import FailedPrecondition, NotFound
from supervisor.core.job import Job
from supervisor.core.manifest import JobSpec, Manifest
from supervisor.core.plugin import Plugin
from supervisor.store.database import Database
from supervisor.store.jobs import JobStore
from supervisor.store.plugins import PluginRegistry
from supervisor.store.tables import JobRow
from tests.packages import a_package


def spec(key: str, schedule: str | None = "* * * * *") -> JobSpec:
    return JobSpec(key=key, display_name=key.title(), schedule=schedule, timezone="Europe/Berlin", timeout_s=7.5)


def due_at(ms: int | None) -> Callable[[JobSpec, Job | None], int | None]:
    return lambda _spec, _stored: ms


@pytest.fixture
def jobs(database: Database) -> JobStore:
    return JobStore(database)


async def test_a_spec_comes_back_as_it_was(jobs: JobStore, plugin: Plugin) -> None:
    [job] = await jobs.sync(plugin.id, plugin.key, [spec("a")], due_at(1000))
    assert (job.spec, job.active, job.paused, job.next_due_ms, job.last_due_ms) == (spec("a"), True, False, 1000, None)
    assert await jobs.get(job.id) == await jobs.get("acme.weather/a") == await jobs.get(f"{plugin.id}/a") == job


async def test_sync_adds_changes_and_takes_away(jobs: JobStore, plugin: Plugin) -> None:
    a, b = await jobs.sync(plugin.id, plugin.key, [spec("a"), spec("b")], due_at(1000))
    seen: list[tuple[str, Job | None]] = []

    def first_due(declared: JobSpec, stored: Job | None) -> int:
        seen.append((declared.key, stored))
        return 2000

    b2, c = await jobs.sync(plugin.id, plugin.key, [spec("b", "0 * * * *"), spec("c")], first_due)
    assert seen == [("b", b), ("c", None)]
    assert (b2.id, b2.spec.schedule, b2.next_due_ms) == (b.id, "0 * * * *", 2000)
    gone = await jobs.get(a.id)
    assert (gone.active, gone.next_due_ms) == (False, None)
    assert [each.job.key for each in await jobs.list()] == ["b", "c"]
    assert await jobs.sync(plugin.id, plugin.key, [], due_at(3000)) == []
    assert await jobs.list(plugin.id) == []
    assert [each.job.key for each in await jobs.list(include_inactive=True)] == ["a", "b", "c"]
    [back] = await jobs.sync(plugin.id, plugin.key, [spec("a")], due_at(4000))
    assert (back.id, back.active, back.next_due_ms) == (a.id, True, 4000)
    assert (await jobs.get(c.id)).active is False


async def test_a_sync_that_fails_changes_nothing(jobs: JobStore, plugin: Plugin) -> None:
    await jobs.sync(plugin.id, plugin.key, [spec("a")], due_at(1000))

    def first_due(declared: JobSpec, _: Job | None) -> int:
        if declared.key == "c":
            raise ValueError("no")
        return 1

    with pytest.raises(ValueError, match="no"):
        await jobs.sync(plugin.id, plugin.key, [spec("b"), spec("c")], first_due)
    assert [(each.job.key, each.job.next_due_ms) for each in await jobs.list()] == [("a", 1000)]


async def test_unscheduling(jobs: JobStore, plugin: Plugin) -> None:
    await jobs.sync(plugin.id, plugin.key, [spec("a"), spec("b")], due_at(1000))
    await jobs.unschedule(plugin.id, declared=True)
    assert [(each.job.active, each.job.next_due_ms) for each in await jobs.list()] == [(True, None)] * 2
    await jobs.unschedule(plugin.id, declared=False)
    assert await jobs.list() == []


async def test_a_pause_is_an_operators_and_survives_a_sync(jobs: JobStore, plugin: Plugin) -> None:
    [job] = await jobs.sync(plugin.id, plugin.key, [spec("a")], due_at(1000))
    paused = await jobs.set_paused(job, paused=True, next_due_ms=None)
    assert (paused.paused, paused.next_due_ms) == (True, None)
    with pytest.raises(FailedPrecondition, match=r"acme\.weather/a is paused already"):
        await jobs.set_paused(job, paused=True, next_due_ms=None)
    await jobs.sync(plugin.id, plugin.key, [], due_at(None))
    [back] = await jobs.sync(plugin.id, plugin.key, [spec("a")], due_at(None))
    assert back.paused
    resumed = await jobs.set_paused(back, paused=False, next_due_ms=5000)
    assert (resumed.paused, resumed.next_due_ms) == (False, 5000)
    with pytest.raises(FailedPrecondition, match="not paused"):
        await jobs.set_paused(job, paused=False, next_due_ms=None)


async def test_jobs_go_with_their_plugin(
    jobs: JobStore, plugin: Plugin, registry: PluginRegistry, make_manifest: Callable[..., Manifest]
) -> None:
    other = await registry.install(a_package(make_manifest("acme.other"), "o"), approved=frozenset(), uid=0)
    [job] = await jobs.sync(plugin.id, plugin.key, [spec("a")], due_at(1000))
    await jobs.sync(other.id, other.key, [spec("a")], due_at(1000))
    await registry.delete(plugin.id)
    for name in (job.id, "acme.weather/a", "acme.weather/", "/a", ""):
        with pytest.raises(NotFound, match="name it <plugin>/<key>"):
            await jobs.get(name)
        assert await jobs.find(name) is None
    with pytest.raises(NotFound):
        await jobs.set_paused(job, paused=True, next_due_ms=None)
    assert [each.job.plugin_key for each in await jobs.list()] == ["acme.other"]


async def test_what_a_later_version_stored_is_left_out(jobs: JobStore, database: Database, plugin: Plugin) -> None:
    [job] = await jobs.sync(plugin.id, plugin.key, [spec("a")], due_at(1000))

    def later(_: object) -> None:
        row = JobRow.get_by_id(job.id)
        JobRow.update(spec={**row.spec, "from_the_future": 1}).where(JobRow.id == job.id).execute()

    await database.transact(later)
    assert await jobs.get(job.id) == job


@pytest.mark.parametrize("name", ["x" * 1_000_000, "acme.weather/" + "x" * 1_000_000])
async def test_a_huge_name_is_refused_and_shortened(database: Database, name: str) -> None:
    with pytest.raises(NotFound, match="name it <plugin>/<key>") as told:
        await JobStore(database).get(name)
    assert len(told.value.message) < 250
