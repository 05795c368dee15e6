"""Pauses: of a job, of a plugin, of the whole schedule; over syncs, restarts and each other."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from math import inf
from pathlib import Path
from typing import Any

import pytest
import trio

from supervisor.bus import EventBus
from supervisor.clock import SystemClock, to_ms
from supervisor.core.errors import FailedPrecondition
from supervisor.core.lifecycle import Status
from supervisor.store.database import Database
from supervisor.store.plugins import PluginRegistry
from tests.jobs.world import NOON, OpenWorld, WallClock, World, job

NAME = "acme.weather/refresh"


def after(seconds: float) -> int:
    return to_ms(NOON + timedelta(seconds=seconds))


async def fail(_: dict[str, Any]) -> Any:
    await trio.lowlevel.checkpoint()
    raise FailedPrecondition("no network")


async def test_pause_and_resume_of_a_job_replay_nothing(autojump_clock: Any, world: World) -> None:
    plugin = await world.install_ready("acme.weather", job())
    holds = world.operator.holds
    await trio.sleep(301)
    paused = await holds.pause_job(NAME)
    assert paused == {"held": True, "scope": "job", "name": NAME, "jobs": 1, "next_fire_ms": None}
    with pytest.raises(FailedPrecondition, match="paused already"):
        await holds.pause_job(NAME)
    await trio.sleep(3600)
    await world.set_status(plugin, Status.DISABLED)
    await world.set_status(plugin, Status.READY)
    await trio.sleep(3600)
    assert len(await world.history()) == 1
    shown = await world.operator.get(NAME)
    assert (shown["held_by"], shown["paused"], shown["scheduled"], shown["next_fire_ms"]) == ("job", True, False, None)
    assert (await world.operator.run(NAME, wait=True))["state"] == "succeeded"  # by hand it still runs
    resumed = await holds.resume_job(NAME)
    assert (resumed["held"], resumed["next_fire_ms"]) == (False, after(7200 + 600))
    with pytest.raises(FailedPrecondition, match="not paused"):
        await holds.resume_job(NAME)
    await trio.sleep(300)
    assert [str(run.trigger) for run in await world.history()] == ["schedule", "manual", "schedule"]


async def test_resume_while_the_plugin_is_not_ready(autojump_clock: Any, world: World) -> None:
    plugin = await world.install_ready("acme.weather", job())
    await world.coordinator.wait_settled()
    await world.operator.holds.pause_job(NAME)
    await world.set_status(plugin, Status.DISABLED)
    await world.coordinator.wait_settled()
    assert (await world.operator.holds.resume_job(NAME))["next_fire_ms"] is None
    await world.set_status(plugin, Status.READY)
    await world.coordinator.wait_settled()
    assert (await world.operator.get(NAME))["scheduled"] is True


async def test_all_jobs_of_a_plugin(autojump_clock: Any, world: World) -> None:
    plugin = await world.install_ready("acme.weather", job(), job("hourly", "0 * * * *"), job("hand", None))
    await world.install_ready("acme.other", job())
    await world.coordinator.wait_settled()
    holds = world.operator.holds
    paused = await holds.pause_plugin(plugin, 7)
    assert paused == {"held": True, "scope": "plugin", "name": "acme.weather", "jobs": 3, "next_fire_ms": None}
    with pytest.raises(FailedPrecondition, match="paused already"):
        await holds.pause_plugin(plugin, 7)
    # One of them by itself too: that is allowed, and outlasts the other.
    await holds.pause_job(NAME)
    shown = {each["key"]: (each["held_by"], each["paused"]) for each in await world.operator.list(plugin_id=plugin.id)}
    assert shown == {"refresh": ("plugin", True), "hourly": ("plugin", False), "hand": ("plugin", False)}
    await trio.sleep(3601)
    assert {run.plugin_key for run in await world.history()} == {"acme.other"}
    assert (await world.operator.run(NAME, wait=True))["state"] == "succeeded"
    resumed = await holds.resume_plugin(plugin)
    assert (resumed["held"], resumed["jobs"], resumed["next_fire_ms"]) == (False, 3, after(7200))
    with pytest.raises(FailedPrecondition, match="are not paused"):
        await holds.resume_plugin(plugin)
    assert (await world.operator.get(NAME))["held_by"] == "job"
    await trio.sleep(3600)
    assert [run.job_key for run in await world.history(plugin_id=plugin.id)] == ["refresh", "hourly"]


async def test_a_job_that_is_resumed_in_a_paused_plugin_is_still_held(autojump_clock: Any, world: World) -> None:
    plugin = await world.install_ready("acme.weather", job())
    await world.coordinator.wait_settled()
    holds = world.operator.holds
    await holds.pause_job(NAME)
    await holds.pause_plugin(plugin, None)
    resumed = await holds.resume_job(NAME)
    assert (resumed["held"], resumed["next_fire_ms"]) == (True, None)
    assert (await holds.resume_plugin(plugin))["next_fire_ms"] == after(300)


async def test_maintenance(autojump_clock: Any, world: World) -> None:
    world.workers.handlers["flaky"] = fail
    plugin = await world.install_ready(
        "acme.weather", job(), job("daily", "0 3 * * *"), job("flaky", None, retries=1, retry_backoff_s=60)
    )
    await world.coordinator.wait_settled()
    holds = world.operator.holds
    assert holds.since_ms is None
    with pytest.raises(FailedPrecondition, match="not paused"):
        await holds.resume_all()
    await world.operator.run("acme.weather/flaky", wait=True)
    paused = await holds.pause_all(0)
    assert paused == {"held": True, "scope": "scheduler", "name": None, "jobs": 3, "next_fire_ms": None}
    assert holds.since_ms == after(0)
    with pytest.raises(FailedPrecondition, match="paused already"):
        await holds.pause_all(0)
    await trio.sleep(3601)
    assert await world.states() == ["failed"]  # no claim, and no retry either
    shown = await world.operator.get(NAME)
    assert (shown["held_by"], shown["scheduled"], shown["next_due_ms"]) == ("scheduler", False, None)
    assert (await world.operator.run(NAME, wait=True))["state"] == "succeeded"
    # It holds what becomes ready meanwhile, and a pause of its own is told behind it.
    await world.set_status(plugin, Status.DISABLED)
    await world.set_status(plugin, Status.READY)
    await world.coordinator.wait_settled()
    assert (await holds.pause_job("acme.weather/daily"))["held"] is True
    assert (await holds.resume_job("acme.weather/daily"))["held"] is True
    resumed = await holds.resume_all()
    assert (resumed["held"], resumed["next_fire_ms"]) == (False, after(3900))
    assert holds.since_ms is None
    await trio.sleep(300)
    # What passed is not made up for, and not told as missed.
    assert [run.due_ms for run in await world.history() if str(run.trigger) == "schedule"] == [after(3900)]
    assert "missed" not in await world.states()


async def test_a_retry_that_was_due_during_maintenance_is_made_after_it(autojump_clock: Any, world: World) -> None:
    world.workers.handlers["flaky"] = fail
    await world.install_ready("acme.weather", job("flaky", None, retries=1, retry_backoff_s=60))
    await world.coordinator.wait_settled()
    await world.operator.run("acme.weather/flaky", wait=True)
    await world.operator.holds.pause_all(0)
    await trio.sleep(600)
    assert len(await world.history()) == 1
    await world.operator.holds.resume_all()
    await trio.sleep(1)
    assert [(run.attempt, str(run.trigger)) for run in await world.history()] == [(1, "manual"), (2, "retry")]


@pytest.mark.parametrize("scope", ["job", "plugin", "scheduler"])
async def test_pauses_survive_the_daemon(autojump_clock: Any, open_world: OpenWorld, scope: str) -> None:
    async with open_world() as world, trio.open_nursery() as nursery:
        await world.serve(nursery)
        plugin = await world.install_ready("acme.weather", job())
        await world.coordinator.wait_settled()
        holds = world.operator.holds
        await {
            "job": lambda: holds.pause_job(NAME),
            "plugin": lambda: holds.pause_plugin(plugin, 7),
            "scheduler": lambda: holds.pause_all(7),
        }[scope]()
        nursery.cancel_scope.cancel()
    async with open_world() as world, trio.open_nursery() as nursery:
        await world.serve(nursery)
        assert (world.operator.holds.since_ms is not None) == (scope == "scheduler")
        await trio.sleep(3600)
        assert (await world.operator.get(NAME))["held_by"] == scope
        assert await world.history() == []
        nursery.cancel_scope.cancel()


async def test_many_who_pause_and_resume_all_at_once(tmp_path: Path) -> None:
    """What is told and shown is what the row says, also where callers go away in the middle."""
    clock, bus = WallClock(), EventBus()
    # Its threads have no clock of trio's.
    database = await Database.open(tmp_path / "jobs.db", clock=SystemClock(), publish=bus.publish)
    try:
        world = World(database, bus, clock, await PluginRegistry.load(database))
        async with trio.open_nursery() as served:
            await world.serve(served)
            await world.install_ready("acme.weather", job())
            holds = world.operator.holds
            done: list[str] = []

            async def change(number: int) -> None:
                with trio.move_on_after(0.002 * (number % 5) if number % 4 == 0 else inf), suppress(FailedPrecondition):
                    told = await (holds.pause_all(number) if number % 2 else holds.resume_all())
                    assert told["held"] == bool(number % 2)
                    done.append("held" if number % 2 else "released")

            with trio.fail_after(30):
                async with trio.open_nursery() as callers:
                    for number in range(60):
                        callers.start_soon(change, number)
            held = await world.jobs.held()
            assert holds.since_ms == (held.at_ms if held else None)
            assert {"held", "released"} <= set(done)
            served.cancel_scope.cancel()
    finally:
        await database.aclose()


async def test_who_resumes_goes_away_as_it_is_committed(autojump_clock: Any, world: World) -> None:
    await world.operator.holds.pause_all(0)
    with trio.CancelScope() as scope:
        scope.cancel()
        await world.operator.holds.resume_all()
    held = await world.jobs.held()
    assert world.operator.holds.since_ms == (held.at_ms if held else None)
