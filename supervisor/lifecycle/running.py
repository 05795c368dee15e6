"""WorkerCommands: start, stop and restart the worker of a ready plugin; the status stays."""

from __future__ import annotations

from contextlib import suppress

from supervisor.core.errors import CallCancelled, FailedPrecondition, Unavailable
from supervisor.core.lifecycle import wants_worker
from supervisor.core.plugin import Plugin, PluginId
from supervisor.lifecycle.locks import PluginLock, PluginLocks
from supervisor.lifecycle.requirements import Requirements
from supervisor.store.plugins import PluginRegistry
from supervisor.worker.manager import WorkerManager


class WorkerCommands:
    def __init__(
        self, registry: PluginRegistry, workers: WorkerManager, locks: PluginLocks, requirements: Requirements
    ) -> None:
        self._registry = registry
        self._workers = workers
        self._locks = locks
        self._requirements = requirements

    async def start(self, name: str) -> Plugin:
        async with self._locks.hold(self._registry.get(name).key) as lock:
            plugin = self._ready(name, "start")
            self._requirements.refuse_start(plugin, "start")
            self._workers.want(plugin)
            with lock.activation():
                await self._workers.wait_up(plugin.id)
                return plugin
            raise overtaken(plugin, lock)

    async def stop(self, name: str) -> Plugin:
        # Refused before an activation is overtaken in vain.
        self._ready(name, "stop")
        async with self._locks.hold(self._registry.get(name).key, overtaking="stop") as lock:
            plugin = self._ready(name, "stop")
            lock.forgive_start()
            await self._stop(plugin)
            return plugin

    async def restart(self, name: str) -> Plugin:
        async with self._locks.hold(self._registry.get(name).key) as lock:
            return await self.restart_held(self._ready(name, "restart"), lock)

    async def restart_held(self, plugin: Plugin, lock: PluginLock) -> Plugin:
        """Of a ready plugin, whose lock the caller holds."""
        self._requirements.refuse_start(plugin, "restart")
        was_wanted = self._workers.wanted(plugin.id)
        with lock.activation():
            with self._workers.coming_back(plugin.id):
                await self._stop(plugin)
                self._workers.want(plugin)
            await self._workers.wait_up(plugin.id)
            return plugin
        if was_wanted and not self._workers.wanted(plugin.id):
            lock.owe_start(lambda: start_again(self._registry, self._workers, plugin.id))
        raise overtaken(plugin, lock)

    async def _stop(self, plugin: Plugin) -> None:
        self._workers.unwant(plugin.id)
        await self._workers.wait_stopped(plugin.id)

    def _ready(self, name: str, command: str) -> Plugin:
        plugin = self._registry.get(name)
        if not wants_worker(plugin.status):
            raise FailedPrecondition(
                f"cannot {command} the worker of plugin {plugin.key!r}: only a ready plugin has one, and it is "
                f"{plugin.status}; enable or load it first",
                plugin=plugin.key,
                status=str(plugin.status),
            )
        return plugin


def start_again(registry: PluginRegistry, workers: WorkerManager, plugin_id: PluginId) -> None:
    """Its worker was stopped for what has come to nothing."""
    plugin = registry.find(plugin_id)
    if plugin is not None and wants_worker(plugin.status):
        with suppress(Unavailable):  # The daemon is stopping: nobody is started any more.
            workers.want(plugin)


def overtaken(plugin: Plugin, lock: PluginLock) -> CallCancelled:
    return CallCancelled(f"{lock.overtaken_by} of {plugin.key!r} came before its worker was up", plugin=plugin.key)
