"""Probation: when it ends, by which clock, and what a restart at that moment means."""

from __future__ import annotations

from datetime import timedelta
from math import inf
from typing import Any

import pytest
import trio

from supervisor.core.errors import ResourceExhausted
from supervisor.core.lifecycle import Status
from supervisor.core.plugin import Plugin
from tests.fakes import LifecycleWorld, Script
from tests.lifecycle.exchanging import KEY, SOURCE

S = Status


async def upgrade(world: LifecycleWorld, version: str, probation_s: float) -> Plugin:
    world.packages.version = version
    return await world.lifecycle.upgrade(KEY, source=SOURCE, uid=0, probation_s=probation_s)


async def stop_daemon(world: LifecycleWorld, plugin: Plugin) -> None:
    world.workers.unwant(plugin.id)
    await world.workers.wait_stopped(plugin.id)


async def test_a_restart_of_the_daemon_shortly_before_its_end_fails_nobody(
    autojump_clock: Any, world: LifecycleWorld
) -> None:
    plugin = await world.put(KEY, S.READY)
    async with world.reconciled():
        await upgrade(world, "2.0", 60)
        await trio.sleep(50)
    await stop_daemon(world, plugin)
    world.workers.scripts[f"{KEY}@2.0"] = Script(up_after_s=15)
    async with world.reconciled():
        await trio.sleep(14)
        assert world.registry.get(KEY).probation_until is not None, "its worker has not come up yet"
        await trio.sleep(2)
        assert (world.registry.get(KEY).version, world.registry.get(KEY).probation_until) == ("2.0", None)


async def test_who_does_not_come_up_then_has_failed(autojump_clock: Any, world: LifecycleWorld) -> None:
    plugin = await world.put(KEY, S.READY)
    async with world.reconciled():
        await upgrade(world, "2.0", 60)
        await trio.sleep(50)
    await stop_daemon(world, plugin)
    world.workers.scripts[f"{KEY}@2.0"] = Script(up_after_s=15, fails="segfault")
    async with world.reconciled():
        await trio.sleep(20)
        assert (world.registry.get(KEY).version, world.registry.get(KEY).status) == ("1.0", S.READY)


async def test_a_restart_of_the_worker_at_its_end_fails_nobody(autojump_clock: Any, world: LifecycleWorld) -> None:
    await world.put(KEY, S.READY)
    async with world.reconciled():
        await upgrade(world, "2.0", 60)
        world.workers.scripts[f"{KEY}@2.0"] = Script(up_after_s=5)
        await trio.sleep(58)
        await world.lifecycle.restart_worker(KEY)
        await trio.sleep(1)
        assert (world.registry.get(KEY).version, world.registry.get(KEY).probation_until) == ("2.0", None)


@pytest.mark.parametrize("first_s", [3600.0, 5.0])
async def test_each_probation_has_its_own_time(autojump_clock: Any, world: LifecycleWorld, first_s: float) -> None:
    await world.put(KEY, S.READY)
    async with world.reconciled():
        await upgrade(world, "2.0", first_s)
        await world.lifecycle.rollback(KEY, uid=0)
        plugin = await upgrade(world, "3.0", 60)
        await trio.sleep(55)
        assert world.registry.get(KEY).probation_until is not None
        await trio.sleep(10)
        assert world.registry.get(KEY).probation_until is None
        await world.workers.crash_for_good(plugin, "segfault")
        await trio.sleep(1)
        assert (world.registry.get(KEY).version, world.registry.get(KEY).status) == ("3.0", S.ERROR)


@pytest.mark.parametrize("again", [False, True])
async def test_a_clock_that_is_set_back_does_not_lengthen_it(
    autojump_clock: Any, world: LifecycleWorld, again: bool
) -> None:
    """Neither within a daemon's life nor over its restart."""
    plugin = await world.put(KEY, S.READY)
    clock: Any = world.database.clock
    async with world.reconciled():
        await upgrade(world, "2.0", 60)
        await trio.sleep(30)
        clock.step(timedelta(days=-400))
        if not again:
            await trio.sleep(31)
            assert world.registry.get(KEY).probation_until is None
            return
    await stop_daemon(world, plugin)
    async with world.reconciled():
        await trio.sleep(61)
        assert world.registry.get(KEY).probation_until is None


async def test_who_stood_it_is_not_rolled_back_because_that_could_not_be_stored(
    autojump_clock: Any, world: LifecycleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.put(KEY, S.READY)

    async def full(*_: Any) -> None:
        raise ResourceExhausted("the disk is full")

    async with world.reconciled():
        plugin = await upgrade(world, "2.0", 60)
        monkeypatch.setattr(world.registry, "end_probation", full)
        await trio.sleep(65)
        await world.workers.crash_for_good(plugin, "segfault")
        await trio.sleep(1)
        after = world.registry.get(KEY)
        assert (after.version, after.status, after.probation_until) == ("2.0", S.ERROR, None)


async def test_one_that_hangs_as_it_starts_can_be_disabled(autojump_clock: Any, world: LifecycleWorld) -> None:
    plugin = await world.put(KEY, S.READY)
    async with world.reconciled():
        await upgrade(world, "2.0", 60)
    await stop_daemon(world, plugin)
    world.workers.scripts[f"{KEY}@2.0"] = Script(up_after_s=inf)
    async with world.reconciled():
        await trio.sleep(100)
        await world.lifecycle.disable(KEY)
        await trio.sleep(1)
        assert (world.registry.get(KEY).version, world.registry.get(KEY).status) == ("2.0", S.DISABLED)
