"""Jobs' rows: syncing them with a manifest, the schedule they make up, finding them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from supervisor.clock import to_ms
from supervisor.core.errors import NotFound
from supervisor.core.job import Due, Job, RunOutcome, RunState, Trigger
from supervisor.core.manifest import JobSpec, Manifest
from supervisor.core.plugin import Plugin
from supervisor.store.claims import ClaimStore
from supervisor.store.database import Database
from supervisor.store.jobs import KEEP, JobStore, Replanned
from supervisor.store.plugins import PluginRegistry
from supervisor.store.runs import RunStore
from supervisor.store.schedule import _PIECE, _PULL_RETRIES
from supervisor.store.tables import JobRow
from tests.packages import a_package
from tests.store.jobs_world import (
    claim,
    due,
    due_at,
    each_minute,
    execute,
    explain,
    make_jobs,
    put,
    run_of,
    spec,
)


async def sync(jobs: JobStore, plugin: Plugin, *specs: JobSpec, at: int | None = 1000, source: str = "v1") -> list[Job]:
    return await jobs.sync(plugin.id, plugin.key, specs, due_at(at), source=source)


async def test_a_spec_comes_back_as_it_was(jobs: JobStore, plugin: Plugin) -> None:
    given = [
        spec("a", timezone="Europe/Berlin", timeout_s=7.5, command=("sh", "-c", "größer")),
        spec("b", schedule=None, at="2027-01-01T00:00", retries=3, overlap="allow"),
    ]
    first, second = await jobs.sync(plugin.id, plugin.key, given, lambda *_: (Due(1000, 1500), "t"), source="v1")
    assert [first.spec, second.spec] == given
    assert (first.active, first.paused, first.plugin_paused, first.timing) == (True, False, False, "t")
    assert (first.next_due_ms, first.next_fire_ms, first.last_due_ms, first.served_from_ms) == (1000, 1500, None, None)
    assert await jobs.get(first.id) == await jobs.get("acme.weather/a") == await jobs.get(f"{plugin.id}/a") == first


async def test_sync_adds_changes_and_takes_away(jobs: JobStore, plugin: Plugin) -> None:
    a, b = await sync(jobs, plugin, spec("a"), spec("b"))
    seen: list[tuple[str, Job | None]] = []

    def first_due(declared: JobSpec, stored: Job | None) -> tuple[Due, str]:
        seen.append((declared.key, stored))
        return due(2000), "hourly"

    changed = [spec("b", schedule="0 * * * *"), spec("c")]
    b2, c = await jobs.sync(plugin.id, plugin.key, changed, first_due, source="v2")
    assert seen == [("b", b), ("c", None)]
    assert (b2.id, b2.spec.schedule, b2.next_due_ms, b2.timing) == (b.id, "0 * * * *", 2000, "hourly")
    gone = await jobs.get(a.id)
    assert (gone.active, gone.next_due_ms, gone.next_fire_ms) == (False, None, None)
    assert [each.job for each in await jobs.list()] == [b2, c]
    assert await sync(jobs, plugin) == []
    assert await jobs.list(plugin.id) == []
    assert [each.job.key for each in await jobs.list(include_inactive=True)] == ["a", "b", "c"]
    [back] = await sync(jobs, plugin, spec("a"), at=4000)
    assert (back.id, back.active, back.next_due_ms) == (a.id, True, 4000)
    assert (await jobs.get(c.id)).active is False


async def test_a_sync_that_fails_changes_nothing(jobs: JobStore, plugin: Plugin) -> None:
    await sync(jobs, plugin, spec("a"))

    def first_due(declared: JobSpec, _: Job | None) -> tuple[Due, str]:
        if declared.key == "c":
            raise ValueError("no")
        return due(1), ""

    with pytest.raises(ValueError, match="no"):
        await jobs.sync(plugin.id, plugin.key, [spec("b"), spec("c")], first_due, source="v2")
    assert [(each.job.key, each.job.next_due_ms) for each in await jobs.list()] == [("a", 1000)]
    assert await jobs.sources() == {plugin.id: "v1"}


async def test_the_same_again_writes_nothing(database: Database, jobs: JobStore, plugin: Plugin) -> None:
    await sync(jobs, plugin, spec("a"), spec("b"))
    changes = "SELECT total_changes()"
    before = await execute(database, changes)
    await sync(jobs, plugin, spec("a"), spec("b"))
    assert await execute(database, changes) == before
    await sync(jobs, plugin, spec("a"), spec("b"), source="v2")
    assert await jobs.sources() == {plugin.id: "v2"}


async def test_unscheduled_its_jobs_are_not_due_nor_tried_again(
    database: Database, jobs: JobStore, plugin: Plugin
) -> None:
    a, b = await sync(jobs, plugin, spec("a"), spec("b"))
    some = [run_of(a, state=RunState.RUNNING), run_of(b, state=RunState.RUNNING)]
    await put(database, *some)
    runs = RunStore(database)
    for run in some:
        await runs.finish(run, RunOutcome(state=RunState.FAILED), retry_at_ms=500)
    await sync(jobs, plugin, spec("a"))
    assert [(await runs.get(run.id)).retry_at_ms for run in some] == [500, None]
    assert await jobs.head() == 500
    await jobs.unschedule(plugin.id, declared=True)
    assert (await runs.get(some[0].id)).retry_at_ms is None
    assert [(each.job.active, each.job.next_due_ms) for each in await jobs.list()] == [(True, None)]
    assert await jobs.head() is None
    assert await jobs.sources() == {}
    await jobs.unschedule(plugin.id, declared=False)
    assert await jobs.list() == []


async def test_what_was_served_is_forgotten_where_due_times_may_lie_between(
    database: Database, jobs: JobStore, plugin: Plugin
) -> None:
    await make_jobs(database, plugin, "a")
    claims = ClaimStore(database)
    await claim(claims, 1000)
    await claim(claims, 61_000)

    async def served(at: int | None, timing: str = "minutely") -> int | None:
        [job] = await jobs.sync(plugin.id, plugin.key, [spec("a")], due_at(at, timing), source="v1")
        assert await jobs.get(job.id) == job
        return job.served_from_ms

    assert await served(121_000) == 1000  # as it was
    assert await served(30_000) == 1000  # the clock was turned back into what was served
    assert await served(None) == 1000
    assert await served(30_000) == 1000
    assert await served(181_000) is None
    await execute(database, "UPDATE job SET served_from_ms = 1000")
    assert await served(181_000, "hourly") is None


async def test_the_next_of_all_in_order(database: Database, jobs: JobStore, plugin: Plugin) -> None:
    order = {"a": 3000, "b": 1000, "c": 2000, "d": None}
    await make_jobs(
        database, plugin, *order, first_due=lambda each, _: (None if (at := order[each.key]) is None else due(at), "t")
    )
    assert [job.key for job in await jobs.next_of(None, None, 10)] == ["b", "c", "a"]
    assert [job.key for job in await jobs.next_of(plugin.id, 2000, 10)] == ["b", "c"]
    assert [job.key for job in await jobs.next_of(plugin.id, None, 1)] == ["b"]
    assert await jobs.head() == 1000


async def test_replanning_in_pieces(database: Database, jobs: JobStore, plugin: Plugin) -> None:
    a, b, c, d, e = await make_jobs(database, plugin, "a", "b", "c", "d", "e")
    await jobs.set_paused(d, paused=True, due=None)
    asked: list[str] = []

    def decide(job: Job) -> Any:
        asked.append(job.key)
        return {"a": due(500), "b": KEEP, "c": None, "e": due(1000)}[job.key]

    found, after = [], 0
    while True:
        found.append(await jobs.replan(after, 10_000, decide, limit=2))
        if found[-1].after_rowid is None:
            break
        after = found[-1].after_rowid
    assert [each.jobs for each in found] == [1, 1, 0]
    assert asked == ["a", "b", "c", "e"]
    after_it = [(await jobs.get(job.id)).next_fire_ms for job in (a, b, c, d, e)]
    assert after_it == [500, 1000, None, None, 1000]
    await execute(database, "UPDATE plugin SET status = 'disabled'")
    assert await jobs.replan(0, 10_000, decide) == Replanned(None, 0)
    assert len(asked) == 4
    assert await jobs.replan(99, 10_000, decide) == Replanned(None, 0)


async def test_a_replan_deletes_nothing(database: Database, jobs: JobStore, plugin: Plugin) -> None:
    """What was missed in a future that has not happened is run when that comes; see `run_rows`."""
    [job] = await make_jobs(database, plugin)
    missed = run_of(job, due_ms=90_000, state=RunState.MISSED, trigger=Trigger.SCHEDULE)
    await put(database, missed)
    await jobs.replan(0, 10_000, lambda _: KEEP)
    assert await RunStore(database).list() == [missed]
    assert "SCAN" not in await explain(database, _PIECE, (1, 2))


async def test_what_was_trimmed_more_than_a_day_ahead_was_by_a_wrong_clock(
    database: Database, jobs: JobStore, plugin: Plugin
) -> None:
    day_ms = 86_400_000
    for job in await make_jobs(database, plugin, "a", "b", "c"):
        ahead_ms = {"a": 0, "b": day_ms, "c": day_ms + 1}[job.key]
        await execute(database, "UPDATE job SET trimmed_to_ms = ? WHERE id = ?", 10_000 + ahead_ms, job.id)
    await jobs.replan(0, 10_000, lambda _: KEEP, limit=2)
    await jobs.replan(2, 10_000, lambda _: KEEP, limit=2)
    found = [each.job.trimmed_to_ms for each in await jobs.list()]
    assert found == [10_000, 10_000 + day_ms, 10_000]


async def test_retries_that_are_too_far_away_are_pulled(database: Database, jobs: JobStore, plugin: Plugin) -> None:
    [job] = await make_jobs(database, plugin)
    ended = [run_of(job, due_ms=ms, state=RunState.FAILED) for ms in (1, 2, 3, 4)]
    await put(database, *ended)
    for run, at_ms in zip(ended, (4000, 5000, 9000, 99_000), strict=True):
        await execute(database, "UPDATE job_run SET retry_at_ms = ? WHERE id = ?", at_ms, run.id)
    assert [await jobs.pull_retries(5000, limit=1) for _ in range(3)] == [1, 1, 0]
    assert sorted(run.retry_at_ms or 0 for run in await RunStore(database).list()) == [4000, 5000, 5000, 5000]
    assert "USING COVERING INDEX job_run_retry" in await explain(database, _PULL_RETRIES, (1, 2))


async def test_the_clock_by_which_something_was_computed_is_noted(
    database: Database, jobs: JobStore, plugin: Plugin, clock: Any
) -> None:
    [job] = await make_jobs(database, plugin)

    async def noted(by: timedelta = timedelta(hours=1)) -> bool:
        clock.advance(by)
        before = await jobs.clock_ms()
        await jobs.replan(0, before - 1, lambda _: KEEP)
        assert await jobs.clock_ms() == before
        return before == to_ms(clock.now() - by)

    assert await noted()
    await jobs.set_paused(job, paused=True, due=None)
    await jobs.set_paused(job, paused=False, due=due(1))
    assert await noted()
    await jobs.hold_plugin(plugin.id, 0)
    await jobs.release_plugin(plugin.id, lambda _: due(1))
    assert await noted()
    await jobs.replan(0, to_ms(clock.now()), lambda _: due(2))
    assert await noted()


async def test_jobs_that_run_at_the_start(database: Database, jobs: JobStore, plugin: Plugin) -> None:
    specs = [spec("a", schedule="@Reboot"), spec("b", description="not @reboot"), spec("c", schedule="@reboot")]
    [_, _, c] = await jobs.sync(plugin.id, plugin.key, specs, due_at(None), source="v1")
    await jobs.set_paused(c, paused=True, due=None)

    async def start(now_ms: int) -> int:
        return await jobs.due_at_start(now_ms, lambda each: (each.schedule or "").lower() == "@reboot")

    assert await start(5000) == 0  # its plugin is not ready
    await execute(database, "UPDATE plugin SET status = 'ready'")
    assert await start(6000) == 1
    assert [(job.key, job.next_due_ms, job.next_fire_ms) for job in await jobs.next_of(None, None, 9)] == [
        ("a", 6000, 6000)
    ]


async def test_zones_of_other_rules_void_what_was_synced(jobs: JobStore, plugin: Plugin) -> None:
    assert await jobs.zones() == {}
    await sync(jobs, plugin, spec("a"))
    await jobs.set_zones({"Europe/Berlin": "1"})
    await jobs.set_zones({"Europe/Berlin": "1", "UTC": "0"})
    assert await jobs.sources() == {plugin.id: "v1"}
    await jobs.set_zones({"Europe/Berlin": "2", "UTC": "0"})
    assert await jobs.zones() == {"Europe/Berlin": "2", "UTC": "0"}
    assert await jobs.sources() == {}


async def test_jobs_go_with_their_plugin(
    database: Database,
    jobs: JobStore,
    plugin: Plugin,
    registry: PluginRegistry,
    make_manifest: Callable[..., Manifest],
) -> None:
    other = await registry.install(a_package(make_manifest("acme.other"), "o"), approved=frozenset(), uid=0)
    [job] = await sync(jobs, plugin, spec("a"))
    await sync(jobs, other, spec("a"))
    await put(database, run_of(job), run_of(job, state=RunState.MISSED))
    await jobs.hold_plugin(plugin.id, None)
    await registry.delete(plugin.id)
    for name in (job.id, "acme.weather/a", "acme.weather/", "/a", ""):
        with pytest.raises(NotFound, match="name it <plugin>/<key>"):
            await jobs.get(name)
        assert await jobs.find(name) is None
    with pytest.raises(NotFound):
        await jobs.set_paused(job, paused=True, due=None)
    assert [each.job.plugin_key for each in await jobs.list()] == ["acme.other"]
    assert await jobs.sources() == {other.id: "v1"}
    for table in ("job_run", "job_hold"):
        assert await execute(database, f"SELECT * FROM {table}") == []


async def test_what_a_later_version_stored_is_left_out(jobs: JobStore, database: Database, plugin: Plugin) -> None:
    [job] = await sync(jobs, plugin, spec("a"))

    def later(_: object) -> None:
        row = JobRow.get_by_id(job.id)
        JobRow.update(spec={**row.spec, "from_the_future": 1}).where(JobRow.id == job.id).execute()

    await database.transact(later)
    assert await jobs.get(job.id) == job


async def test_with_its_last_run(database: Database, jobs: JobStore, plugin: Plugin) -> None:
    a, b = await sync(jobs, plugin, spec("a"), spec("b"))
    await put(database, run_of(a, due_ms=5, state=RunState.FAILED, started_ms=7), run_of(a, due_ms=4))
    assert [each.last for each in await jobs.list()] == [(RunState.FAILED, 7), None]
    assert await jobs.last_run(a.id) == (RunState.FAILED, 7)
    assert await jobs.last_run(b.id) is None


@pytest.mark.parametrize("name", ["x" * 1_000_000, "acme.weather/" + "x" * 1_000_000])
async def test_a_huge_name_is_refused_and_shortened(database: Database, name: str) -> None:
    with pytest.raises(NotFound, match="name it <plugin>/<key>") as told:
        await JobStore(database).get(name)
    assert len(told.value.message) < 250


async def test_the_schedule_is_what_the_rows_say(database: Database, jobs: JobStore, plugin: Plugin) -> None:
    """The head is the first of them, and costs a look into an index however many there are."""
    await make_jobs(database, plugin, "a", "b")
    assert await jobs.head() == 1000
    await claim(ClaimStore(database), 1000, each_minute, limit=1)
    assert await jobs.head() == 1000
    await claim(ClaimStore(database), 1000, each_minute, limit=1)
    assert await jobs.head() == 61_000
