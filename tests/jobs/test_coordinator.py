"""Jobs follow status, whatever path led there: every walk through the lifecycle, events in every order."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trio

from supervisor.bus import Gap
from supervisor.clock import to_ms
from supervisor.core.errors import ResourceExhausted
from supervisor.core.event import Event, PluginUnloaded, Recorded, StatusChanged
from supervisor.core.lifecycle import STEPS, Status
from supervisor.core.plugin import Plugin
from supervisor.jobs import cron_zones
from supervisor.jobs.coordinator import ZONES_EVERY_S
from supervisor.jobs.cron import forget_zones
from tests.jobs.world import NOON, OpenWorld, World, job, manifest, never_answer
from tests.packages import a_package


def walks(length: int) -> Iterator[tuple[Status, ...]]:
    """Every path of so many steps that a plugin can take from installed."""
    paths: list[tuple[Status, ...]] = [(Status.INSTALLED,)]
    for _ in range(length):
        paths = [(*path, step) for path in paths for step in sorted(STEPS[path[-1]])]
    yield from paths


async def holds(world: World, plugin: Plugin) -> None:
    """What must be true of a plugin's jobs when all is settled."""
    found = world.plugins.find(plugin.id)
    listed = await world.jobs.list(plugin.id, include_inactive=True)
    if found is not None and found.status is Status.READY:
        declared = {spec.key for spec in found.manifest.jobs}
        assert {each.job.key for each in listed if each.job.active} == declared
        assert all(each.job.next_due_ms is not None for each in listed if each.job.active)
        assert (await world.jobs.sources()).keys() >= {plugin.id}
    else:
        assert all(each.job.next_due_ms is None for each in listed)
        assert plugin.id not in await world.jobs.sources()
        assert world.runner.active.of_plugin(plugin.id) == ()
        assert not set(await world.states(plugin_id=plugin.id)) & {"queued", "running"}
        if found is None or found.status is Status.UNINSTALLED:
            assert not any(each.job.active for each in listed)


@pytest.mark.parametrize("pause_s", [None, 0.0, 61.0], ids=["at once", "a checkpoint", "a run under way"])
async def test_every_path_into_and_out_of_ready(autojump_clock: Any, world: World, pause_s: float | None) -> None:
    world.workers.handlers |= {"a": never_answer, "b": never_answer}
    paths = list(walks(3))
    plugins = [await world.install(f"p{i}", job("a", "* * * * *"), job("b", "* * * * *")) for i in range(len(paths))]
    for step in range(1, 4):
        for plugin, path in zip(plugins, paths, strict=True):
            await world.set_status(plugin, path[step])
            if pause_s == 0.0:
                await trio.lowlevel.checkpoint()
        if pause_s:
            await trio.sleep(pause_s)
    await world.coordinator.wait_settled()
    await trio.testing.wait_all_tasks_blocked()
    for plugin in plugins:
        await holds(world, plugin)
    states = set(await world.states())
    assert states <= {"queued", "running", "cancelled", "skipped"}
    assert ("cancelled" in states) == bool(pause_s)


def events_of(plugin: Plugin) -> list[Event | Gap]:
    both = {"plugin_id": plugin.id, "plugin_key": plugin.key}
    return [
        StatusChanged(**both, previous="disabled", status="ready"),
        StatusChanged(**both, previous="ready", status="disabled"),
        PluginUnloaded(**both, remove_data=False),
        StatusChanged(**both, previous="ready", status="ready"),
    ]


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))), ids=str)
async def test_events_in_any_order_lead_to_what_the_registry_says(
    autojump_clock: Any, world: World, order: tuple[int, ...]
) -> None:
    """An event means "look again": late, doubled and out of order, the outcome is the same."""
    plugins = [await world.install_ready("ready", job()), await world.install("installed", job())]
    plugins.append(await world.install_ready("gone", job()))
    await world.coordinator.wait_settled()
    await world.plugins.delete(plugins[2].id)
    for index in (*order, order[0]):
        for plugin in plugins:
            event = events_of(plugin)[index]
            assert isinstance(event, Event)
            world.bus.publish(
                Recorded(
                    seq=world.bus.last_seq + 1,
                    at=world.clock.now(),
                    type=event.type,
                    plugin_id=plugin.id,
                    plugin_key=plugin.key,
                    data=event.data(),
                )
            )
    await trio.testing.wait_all_tasks_blocked()
    for plugin in plugins:
        await holds(world, plugin)
    await trio.sleep(301)
    assert len(world.workers.calls) == 1
    assert world.workers.calls[0].plugin_id == plugins[0].id


async def test_leaving_ready_cancels_runs_and_says_why(autojump_clock: Any, world: World) -> None:
    world.workers.handlers["refresh"] = never_answer
    plugin = await world.install_ready("acme.weather", job())
    await trio.sleep(301)
    await world.set_status(plugin, Status.DISABLED)
    await trio.testing.wait_all_tasks_blocked()
    [run] = await world.history()
    assert (str(run.state), run.error) == ("cancelled", "the plugin is disabled")
    assert world.workers.cancelled == [run.id]
    await trio.sleep(3600)
    assert len(await world.history()) == 1
    await world.set_status(plugin, Status.READY)
    await trio.sleep(300)
    assert await world.states() == ["cancelled", "running"]  # what was due while it was disabled was not missed


async def test_queued_runs_are_cancelled_too(autojump_clock: Any, world: World) -> None:
    plugin = await world.install_ready("acme.weather", *(job(f"j{n}", overlap="allow") for n in range(20)))
    world.workers.handlers |= {f"j{n}": never_answer for n in range(20)}
    await trio.sleep(301)
    assert sorted(await world.states()) == ["queued"] * 12 + ["running"] * 8
    await world.set_status(plugin, Status.ERROR)
    await trio.testing.wait_all_tasks_blocked()
    assert await world.states() == ["cancelled"] * 20


async def test_a_quick_way_out_and_back_cancels_what_ran(autojump_clock: Any, world: World) -> None:
    world.workers.handlers["refresh"] = never_answer
    plugin = await world.install_ready("acme.weather", job())
    await trio.sleep(301)
    await world.set_status(plugin, Status.DISABLED)
    await world.set_status(plugin, Status.READY)
    await trio.testing.wait_all_tasks_blocked()
    assert await world.states() == ["cancelled"]
    await holds(world, plugin)


async def test_an_upgrade_syncs_what_was_added_changed_and_gone(autojump_clock: Any, world: World) -> None:
    plugin = await world.install_ready("acme.weather", job("stays"), job("changes"), job("goes"))
    await world.coordinator.wait_settled()
    before = {each.job.key: each.job for each in await world.jobs.list(plugin.id)}
    await world.operator.holds.pause_job("acme.weather/stays")
    for jobs, keys in (
        ((job("stays"), job("changes", "0 * * * *"), job("comes")), {"stays", "changes", "comes"}),
        ((), set()),
        ((job("stays"), job("goes")), {"stays", "goes"}),
    ):
        await upgrade(world, plugin, *jobs)
        listed = await world.jobs.list(plugin.id)
        assert {each.job.key for each in listed} == keys
        for each in listed:
            if each.job.key in before:
                assert each.job.id == before[each.job.key].id
            assert each.job.paused == (each.job.key == "stays")
            assert (each.job.next_due_ms is None) == (each.job.key == "stays")
    assert len(await world.jobs.list(plugin.id, include_inactive=True)) == 4


async def upgrade(world: World, plugin: Plugin, *jobs: Any) -> None:
    """Another manifest, taken up through uninstall, install and ready."""
    await world.set_status(plugin, Status.UNINSTALLED)
    await world.plugins.install(a_package(manifest(plugin.key, *jobs), "next"), approved=frozenset(), uid=0)
    await world.set_status(plugin, Status.READY)
    await world.coordinator.wait_settled()


async def test_one_plugins_trouble_is_tried_again_and_holds_up_no_other(
    autojump_clock: Any, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = await world.install("acme.bad", job())
    sync, failures = world.jobs.sync, 3

    async def troubled(plugin_id: Any, *more: Any, **how: Any) -> Any:
        nonlocal failures
        if plugin_id == bad.id and failures:
            failures -= 1
            raise ResourceExhausted("the disk is full")
        return await sync(plugin_id, *more, **how)

    monkeypatch.setattr(world.jobs, "sync", troubled)
    await world.set_status(bad, Status.READY)
    good = await world.install_ready("acme.good", job())
    await trio.testing.wait_all_tasks_blocked()
    await holds(world, good)
    assert bad.id not in await world.jobs.sources()
    await trio.sleep(8)
    await holds(world, bad)


async def test_a_flood_of_events_is_survived(autojump_clock: Any, world: World) -> None:
    """More events than the subscription holds: the gap makes the coordinator look at everything."""
    plugin = await world.install_ready("acme.weather", job())
    await world.coordinator.wait_settled()
    for n in range(3000):
        world.bus.publish(
            Recorded(
                seq=world.bus.last_seq + 1,
                at=world.clock.now(),
                type="emitted.noise",
                plugin_id=plugin.id,
                plugin_key=plugin.key,
                data={"n": n},
            )
        )
    await world.set_status(plugin, Status.DISABLED)
    await trio.testing.wait_all_tasks_blocked()
    await holds(world, plugin)


async def test_the_zone_in_force_is_stored_with_the_job(autojump_clock: Any, open_world: OpenWorld) -> None:
    due = []
    for zone in ("UTC", "Asia/Kolkata"):
        async with open_world(timezone=zone) as world, trio.open_nursery() as nursery:
            await world.serve(nursery)
            if not world.plugins.all():
                await world.install_ready("acme.weather", job(schedule="0 18 * * *"))
                await world.coordinator.wait_settled()
            stored = await world.jobs.get("acme.weather/refresh")
            assert stored.spec.timezone == zone
            due.append(stored.next_due_ms)
            nursery.cancel_scope.cancel()
    assert due[0] - due[1] == (5 * 60 + 30) * 60_000


async def test_a_schedule_that_turned_wrong_costs_only_that_job(autojump_clock: Any, world: World) -> None:
    plugin = await world.install_ready("acme.weather", job("good"), job("bad", timezone="Nowhere/Gone"))
    await world.coordinator.wait_settled()
    due = {each.job.key: each.job.next_due_ms is not None for each in await world.jobs.list(plugin.id)}
    assert due == {"good": True, "bad": False}


async def counting_syncs(world: World, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    synced: list[str] = []
    sync = world.jobs.sync

    async def counted(plugin_id: Any, plugin_key: str, *more: Any, **how: Any) -> Any:
        synced.append(plugin_key)
        return await sync(plugin_id, plugin_key, *more, **how)

    monkeypatch.setattr(world.jobs, "sync", counted)
    return synced


async def test_what_has_not_changed_is_not_synced_again(
    autojump_clock: Any, open_world: OpenWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next start, and the one after it by another default zone."""
    zones = ("UTC", "UTC", "Asia/Kolkata", "Asia/Kolkata")
    for n, (zone, expected) in enumerate(zip(zones, (["a", "b"], [], ["a", "b"], []), strict=True)):
        async with (
            open_world(start=NOON + timedelta(seconds=10 * n), timezone=zone) as world,
            trio.open_nursery() as nursery,
        ):
            synced = await counting_syncs(world, monkeypatch)
            await world.serve(nursery)
            if not world.plugins.all():
                await world.install_ready("a", job())
                await world.install_ready("b", job("boot", "@reboot"), job())
                await world.coordinator.wait_settled()
            await trio.sleep(1)
            assert sorted(set(synced)) == expected
            assert [call.params["job"] for call in world.workers.calls] == ["boot"]
            nursery.cancel_scope.cancel()


async def test_a_start_after_the_plugin_left_ready_unseen(autojump_clock: Any, open_world: OpenWorld) -> None:
    """The daemon was killed between the row's change and the end of the schedule."""
    async with open_world() as world, trio.open_nursery() as nursery:
        await world.serve(nursery)
        plugin = await world.install_ready("acme.weather", job())
        await world.coordinator.wait_settled()
        nursery.cancel_scope.cancel()
    async with open_world() as world:
        await world.set_status(plugin, Status.DISABLED)
    async with open_world() as world, trio.open_nursery() as nursery:
        await world.serve(nursery)
        await holds(world, plugin)
        nursery.cancel_scope.cancel()


async def test_what_was_queued_when_the_daemon_ended_is_carried_out(autojump_clock: Any, open_world: OpenWorld) -> None:
    async with open_world() as world, trio.open_nursery() as nursery:
        await world.serve(nursery)
        for key in ("stays", "goes"):
            plugin = await world.install_ready(key, job(schedule="0 * * * *"))
            world.workers.take_down(plugin.id)
        await trio.sleep(3601)
        assert await world.states() == ["queued"] * 2
        nursery.cancel_scope.cancel()
    async with open_world(start=NOON + timedelta(minutes=61)) as world:
        await world.set_status(world.plugins.get("goes"), Status.DISABLED)
    async with open_world(start=NOON + timedelta(minutes=61)) as world, trio.open_nursery() as nursery:
        await world.serve(nursery)
        await trio.sleep(1)
        ended = {run.plugin_key: (str(run.state), run.error) for run in await world.history()}
        assert ended == {"stays": ("succeeded", None), "goes": ("cancelled", "the plugin is disabled")}
        assert len(world.workers.calls) == 1
        nursery.cancel_scope.cancel()


async def test_an_upgrade_that_drops_a_job_cancels_what_waits_of_it(autojump_clock: Any, world: World) -> None:
    """The new version has no handler for it. What runs is the old version's, and is left."""
    world.workers.handlers |= {"gone": never_answer, "kept": never_answer}
    queueing = {"schedule": None, "overlap": "queue_one"}
    plugin = await world.install_ready("acme.weather", job("gone", **queueing), job("kept", **queueing))
    await world.coordinator.wait_settled()
    for key in ("gone", "gone", "kept", "kept"):
        await world.operator.run(f"acme.weather/{key}")
        await trio.sleep(1)
    package = a_package(manifest("acme.weather", job("kept", **queueing)), "next")
    await world.plugins.exchange(package, expected=world.plugins.get(plugin.id), status=Status.READY, forward=True)
    await world.coordinator.wait_settled()
    await trio.testing.wait_all_tasks_blocked()
    runs = await world.history()
    assert [(run.job_key, str(run.state)) for run in runs] == [
        ("gone", "running"),
        ("gone", "cancelled"),
        ("kept", "running"),
        ("kept", "queued"),
    ]
    assert runs[1].error == "the plugin's present version does not declare the job"
    assert [call.params["job"] for call in world.workers.calls] == ["gone", "kept"]


async def test_an_upgrade_in_place_cancels_nothing(autojump_clock: Any, world: World) -> None:
    world.workers.handlers["refresh"] = never_answer
    plugin = await world.install_ready("acme.weather", job(), job("goes"))
    await trio.sleep(301)
    package = a_package(manifest("acme.weather", job(), job("comes", "* * * * *")), "next")
    await world.plugins.exchange(package, expected=world.plugins.get(plugin.id), status=Status.READY, forward=True)
    await world.coordinator.wait_settled()
    await holds(world, plugin)
    await trio.sleep(60)
    assert sorted(await world.states()) == ["running", "succeeded", "succeeded"]
    assert world.workers.times("comes") != []
    assert world.workers.cancelled == []


async def test_trouble_with_one_plugin_does_not_hold_up_the_first_schedule(
    autojump_clock: Any, open_world: OpenWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_world() as world:
        await world.install_ready("acme.bad", job())
        await world.install_ready("acme.good", job())
    async with open_world() as world, trio.open_nursery() as nursery:
        sync = world.jobs.sync

        async def troubled(plugin_id: Any, plugin_key: str, *more: Any, **how: Any) -> Any:
            if plugin_key == "acme.bad":
                raise ResourceExhausted("the disk is full")
            return await sync(plugin_id, plugin_key, *more, **how)

        monkeypatch.setattr(world.jobs, "sync", troubled)
        nursery.start_soon(world.runner.run)
        nursery.start_soon(world.coordinator.run)
        await world.coordinator.wait_looked()
        nursery.start_soon(world.scheduler.run)
        await trio.sleep(301)
        assert [run.plugin_key for run in await world.history()] == ["acme.good"]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("noticed", ["start", "reload", "from time to time"])
async def test_other_rules_of_a_zone_lead_to_other_due_times(
    autojump_clock: Any, open_world: OpenWorld, monkeypatch: pytest.MonkeyPatch, noticed: str
) -> None:
    """The due time of a job in the zone is computed anew; a job in another zone keeps its own."""
    rules = {"Europe/Berlin": "2026a", "Asia/Kolkata": "2026a", "UTC": "2026a"}
    for asked in ("zone_fingerprint", "new_fingerprint"):
        monkeypatch.setattr(f"supervisor.jobs.zones.{asked}", rules.__getitem__)
    specs = [
        job("berlin", "0 18 * * 1", timezone="Europe/Berlin"),
        job("kolkata", "0 18 * * 1", timezone="Asia/Kolkata"),
    ]
    wrong_ms = to_ms(NOON + timedelta(days=300))

    async def spoil(world: World) -> None:
        move = "UPDATE job SET next_due_ms = ?1, next_fire_ms = ?1, served_from_ms = 0, last_due_ms = ?1 - 1"
        await world.database.transact(lambda tx: tx.execute(move, (wrong_ms,)).rowcount)
        rules["Europe/Berlin"] = "2026b"

    async def look(world: World) -> None:
        await world.coordinator.wait_settled()
        await trio.testing.wait_all_tasks_blocked()
        due = {each.job.key: each.job.next_due_ms for each in await world.jobs.list()}
        assert due == {"berlin": to_ms(datetime(2026, 3, 2, 17, tzinfo=UTC)), "kolkata": wrong_ms}
        assert (await world.jobs.zones())["Europe/Berlin"] == "2026b"

    async with open_world() as world, trio.open_nursery() as nursery:
        await world.serve(nursery)
        await world.install_ready("acme.weather", *specs)
        await world.coordinator.wait_settled()
        await spoil(world)
        if noticed == "reload":
            world.coordinator.reload()
        elif noticed == "from time to time":
            await trio.sleep(ZONES_EVERY_S + 1)
        if noticed != "start":
            await trio.testing.wait_all_tasks_blocked()
            await look(world)
        nursery.cancel_scope.cancel()
    if noticed == "start":
        async with open_world() as world, trio.open_nursery() as nursery:
            await world.serve(nursery)
            await look(world)
            nursery.cancel_scope.cancel()


async def test_a_zone_that_is_gone_and_comes_back(
    autojump_clock: Any, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = True
    from_file = cron_zones._file
    monkeypatch.setattr(cron_zones, "_file", lambda name: None if gone and name == "Asia/Tokyo" else from_file(name))
    forget_zones()
    await world.install_ready("acme.weather", job("tokyo", timezone="Asia/Tokyo"), job("utc"))
    await trio.sleep(301)
    assert [call.params["job"] for call in world.workers.calls] == ["utc"]
    gone = False
    world.coordinator.reload()
    await trio.sleep(300)
    assert [call.params["job"] for call in world.workers.calls[1:]] in (["utc", "tokyo"], ["tokyo", "utc"])


async def test_what_is_due_between_a_change_of_status_and_a_sync_that_a_kill_kept_off(
    autojump_clock: Any, open_world: OpenWorld
) -> None:
    """The plugin is ready from the commit on, whenever its jobs are declared."""
    async with open_world() as world:
        await world.install_ready("acme.weather", job(schedule="0 * * * *"))
    start = NOON + timedelta(hours=2, seconds=10)
    async with open_world(start=start) as world, trio.open_nursery() as nursery:
        await world.serve(nursery)
        await trio.sleep(1)
        due = [(str(run.state), run.due_ms) for run in await world.history()]
        assert due == [("missed", to_ms(NOON + timedelta(hours=1))), ("succeeded", to_ms(NOON + timedelta(hours=2)))]
        nursery.cancel_scope.cancel()


async def test_a_clock_turned_back_before_anything_was_claimed(autojump_clock: Any, open_world: OpenWorld) -> None:
    async with open_world() as world, trio.open_nursery() as nursery:
        await world.serve(nursery)
        await world.install_ready("acme.weather", job(schedule="0 * * * *"))
        await world.coordinator.wait_settled()
        nursery.cancel_scope.cancel()
    async with open_world(start=NOON - timedelta(hours=6, minutes=1)) as world, trio.open_nursery() as nursery:
        await world.serve(nursery)
        await trio.sleep(61)
        assert world.workers.times("refresh") == [NOON - timedelta(hours=6)]
        nursery.cancel_scope.cancel()
