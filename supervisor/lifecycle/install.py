"""Install and unload: files and row come and go together, and who requires whom stays sound."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from supervisor.core.errors import AlreadyExists, InvalidTransition, SupervisorError
from supervisor.core.event import PluginUnloaded, StatusChanged
from supervisor.core.lifecycle import Command, Status, next_status, wants_worker
from supervisor.core.package import Package
from supervisor.core.plugin import Plugin
from supervisor.lifecycle.locks import PluginLocks
from supervisor.lifecycle.packages import PackageStore, Staged
from supervisor.lifecycle.requirements import Requirements
from supervisor.log import get_logger
from supervisor.store.plugins import PluginRegistry
from supervisor.worker.manager import WorkerManager


class DataKeeper(Protocol):
    """What a plugin has on disk beside its package."""

    async def remove(self, plugin: Plugin) -> None:
        """Its data directory and its logs. Does not raise: what is left over is logged."""


class Installer:
    """The lifecycle manager's part that changes what is there; `locks` are the manager's own."""

    def __init__(
        self,
        registry: PluginRegistry,
        workers: WorkerManager,
        packages: PackageStore,
        data: DataKeeper,
        locks: PluginLocks,
        requirements: Requirements,
    ) -> None:
        self._registry = registry
        self._workers = workers
        self._packages = packages
        self._data = data
        self._locks = locks
        self._requirements = requirements

    async def install(self, source: Path, *, uid: int | None) -> Plugin:
        async with self._packages.staged(source) as staged:
            plugin = await self._store(staged, uid)
        get_logger().info("plugin.installed", plugin=plugin.key, version=plugin.version)
        return plugin

    async def unload(self, name: str, *, remove_data: bool) -> None:
        # Refused before an activation is overtaken in vain.
        self._requirements.refuse_unload(self._registry.get(name))
        async with self._locks.hold(self._registry.get(name).key, overtaking="unload"):
            plugin = self._registry.get(name)
            gone = PluginUnloaded(plugin_id=plugin.id, plugin_key=plugin.key, remove_data=remove_data)
            if plugin.status is not Status.UNINSTALLED:
                await self._uninstall(plugin, gone)
            elif remove_data:
                await self._registry.delete(plugin.id, then=[gone])
            else:
                raise InvalidTransition(
                    f"plugin {plugin.key!r} is uninstalled already; its data is still there: "
                    "unload it with remove_data to delete that too",
                    plugin=plugin.key,
                    status=str(plugin.status),
                    command="unload",
                )
            if remove_data:
                await self._data.remove(plugin)
            self._workers.forget(plugin.id)
            await self._packages.remove(plugin.package_dir)
            get_logger().info("plugin.unloaded", plugin=plugin.key, remove_data=remove_data)

    async def _store(self, staged: Staged, uid: int | None) -> Plugin:
        manifest = staged.manifest
        async with self._locks.hold(manifest.key):
            # Refused before the files move; the registry refuses again, for it alone knows.
            self._refuse_twin(manifest.key)
            self._requirements.refuse_install(manifest)
            package_dir = await self._packages.commit(staged)
            try:
                return await self._write(staged, package_dir, uid)
            except SupervisorError:
                await self._packages.remove(package_dir)
                raise

    async def _write(self, staged: Staged, package_dir: str, uid: int | None) -> Plugin:
        approved = frozenset(staged.manifest.capabilities)
        package = Package(
            dir=package_dir, manifest=staged.manifest, digest=staged.digest, files=staged.files, source=staged.source
        )
        async with self._requirements.graph:
            # Again: what it requires may be gone by now, or require it. Each plugin's own lock does not see that.
            self._requirements.refuse_install(staged.manifest)
            return await self._registry.install(package, approved=approved, uid=uid)

    async def _uninstall(self, plugin: Plugin, gone: PluginUnloaded) -> None:
        status = next_status(plugin.key, plugin.status, Command.UNLOAD)
        self._workers.unwant(plugin.id)
        await self._workers.wait_stopped(plugin.id)
        try:
            async with self._requirements.graph:
                # Again: one that requires it may have come while it was being stopped.
                self._requirements.refuse_unload(plugin)
                await self._store_unload(plugin, status, gone)
        except SupervisorError:
            # It was not to be: the row says ready, so it gets its worker back.
            if wants_worker(plugin.status):
                self._workers.want(plugin)
            raise

    async def _store_unload(self, plugin: Plugin, status: Status, gone: PluginUnloaded) -> None:
        """One transaction either way: a plugin is never half gone."""
        if gone.remove_data:
            changed = StatusChanged(
                plugin_id=plugin.id, plugin_key=plugin.key, previous=str(plugin.status), status=str(status)
            )
            await self._registry.delete(plugin.id, then=[changed, gone])
        else:
            await self._registry.set_status(plugin.id, expected=plugin.status, status=status, then=[gone])

    def _refuse_twin(self, key: str) -> None:
        there = self._registry.find(key)
        if there is not None and there.status is not Status.UNINSTALLED:
            raise AlreadyExists(
                f"plugin {key!r} is installed already: version {there.version}, {there.status}; uninstall it first",
                plugin=key,
                version=there.version,
                status=str(there.status),
            )
