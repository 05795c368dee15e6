"""What the tests of upgrade, approve, reject and rollback share: plugins with versions, and what must always hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio

from supervisor.core.lifecycle import Status, wants_worker
from supervisor.core.plugin import Capability, Plugin
from supervisor.store.intents import IntentLog
from supervisor.store.plugins import PluginRegistry
from supervisor.worker.phase import Phase
from tests.fakes import LifecycleWorld
from tests.packages import a_package, directory_source

KEY = "acme.one"
MORE = "state.read"
SOURCE = directory_source(Path("/src") / KEY)
UP = ["worker_started", "upgraded", "-> ready", "worker_stopped", "loaded", "enabled"]


def version_of(world: LifecycleWorld, key: str, version: str, *more: str, upgrade: str = "overlap") -> Any:
    """A package of the plugin, as if it had been committed."""
    packages = world.packages
    before = packages.version, packages.more, packages.upgrade
    packages.version, packages.more, packages.upgrade = version, more, upgrade
    package = a_package(packages.manifest_of(key), f"{key}/{version}-000000000000")
    packages.version, packages.more, packages.upgrade = before
    packages.stored.add(package.dir)
    return package


async def put_upgraded(world: LifecycleWorld, status: Status, key: str = KEY, upgrade: str = "overlap") -> Plugin:
    """Version 2.0, which 1.0 ran before."""
    plugin = await world.put(key, Status.READY)
    plugin = await world.registry.exchange(
        version_of(world, key, "2.0", upgrade=upgrade), expected=plugin, status=Status.READY, forward=True
    )
    world.workers.unwant(plugin.id)
    await world.workers.wait_stopped(plugin.id)
    if status is not Status.READY:
        plugin = await world.registry.set_status(plugin.id, expected=Status.READY, status=status)
    else:
        world.workers.want(plugin)
        await world.workers.wait_up(plugin.id)
    await world.finish(plugin)
    world.forget_the_past()
    return plugin


async def put_pending(world: LifecycleWorld, key: str = KEY, *more: str) -> Plugin:
    """Version 1.0, and 2.0 waits."""
    plugin = await world.put(key, Status.READY)
    world.workers.unwant(plugin.id)
    await world.workers.wait_stopped(plugin.id)
    plugin = await world.registry.stage(version_of(world, key, "2.0", *more), expected=plugin)
    await world.finish(plugin)
    world.forget_the_past()
    return plugin


async def check_whole(world: LifecycleWorld, key: str = KEY, stored: PluginRegistry | None = None) -> None:
    """Nothing is half done: memory and rows (`stored`) agree, files and rows too, and the worker is of the plugin's
    version."""
    stored = stored or await PluginRegistry.load(world.database)
    plugin = world.registry.find(key)
    assert stored.find(key) == plugin
    if not await IntentLog(world.database).open():
        assert {name for name in world.packages.stored if name.startswith(f"{key}/")} == {
            name for name in world.registry.package_dirs() if name.startswith(f"{key}/")
        }
    assert world.packages.in_staging == 0
    if plugin is None:
        return
    assert stored.versions(plugin.id) == world.registry.versions(plugin.id)
    assert (plugin.staged_dir is not None) <= (plugin.status is Status.UPGRADE_PENDING)
    assert plugin.status is Status.UNINSTALLED or world.registry.version(plugin.id, plugin.package_dir)
    if not wants_worker(plugin.status):
        assert world.workers.phase(plugin.id) is Phase.STOPPED
    elif world.workers.phase(plugin.id) is Phase.RUNNING:
        running = world.workers.plugin_of(plugin.id)
        assert running is not None
        assert (running.version, running.package_dir) == (plugin.version, plugin.package_dir)


def approved(*names: str) -> frozenset[Capability]:
    return frozenset(map(Capability, ("jobs.schedule", *names)))


def fail_nth_transaction(world: LifecycleWorld, number: int, error: Exception) -> list[int]:
    """From now on; the list grows by each one that was asked for."""
    transact, asked = world.database.transact, list[int]()

    async def counted(work: Callable[[Any], Any], **how: Any) -> Any:
        asked.append(len(asked))
        if len(asked) != number:
            return await transact(work, **how)

        def do(transaction: Any) -> Any:
            work(transaction)
            raise error

        return await transact(do, **how)

    world.database.transact = counted  # type: ignore[method-assign]
    return asked


class CancelAtStep(trio.abc.Instrument):
    """Cancels `scope` when the task that entered it takes its `number`th step."""

    def __init__(self, number: int) -> None:
        self.scope = trio.CancelScope()
        self.left = number
        self.task = trio.lowlevel.current_task()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self.task:
            self.left -= 1
            if self.left == 0:
                self.scope.cancel()

    def __enter__(self) -> trio.CancelScope:
        trio.lowlevel.add_instrument(self)
        return self.scope.__enter__()

    def __exit__(self, *how: Any) -> bool | None:
        trio.lowlevel.remove_instrument(self)
        return self.scope.__exit__(*how)
