"""LifecycleManager: the only writer of a plugin's status. Refuse, persist, publish, act, under the plugin's lock."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from supervisor.core.errors import (
    ActivationFailed,
    CallCancelled,
    FailedPrecondition,
    SupervisorError,
)
from supervisor.core.event import (
    Event,
    PluginDisabled,
    PluginEnabled,
    PluginFailed,
    PluginLoaded,
    UpgradePending,
)
from supervisor.core.lifecycle import Command, Status, next_status, wants_worker
from supervisor.core.plugin import Plugin, PluginId
from supervisor.lifecycle.install import DataKeeper, Installer
from supervisor.lifecycle.locks import PluginLock, PluginLocks
from supervisor.lifecycle.owed import owed_events
from supervisor.lifecycle.packages import PackageStore
from supervisor.lifecycle.requirements import Requirements
from supervisor.log import get_logger
from supervisor.store.journal import Journal
from supervisor.store.plugins import PluginRegistry
from supervisor.worker.manager import WorkerManager


class LifecycleManager:
    """Callers that may go away run a command in a task that stays; see `control.detached`.

    A command that is cut all the same, by the end of the daemon, leaves what the next boot makes whole.
    """

    def __init__(
        self,
        registry: PluginRegistry,
        workers: WorkerManager,
        packages: PackageStore,
        data: DataKeeper,
    ) -> None:
        self._registry = registry
        self._workers = workers
        self._locks = PluginLocks()
        self.owing: set[PluginId] = set()
        """Plugins whose newest command may not have said its last word: it is under way, or was cut."""
        self.requirements = Requirements(registry, workers)
        self._installer = Installer(registry, workers, packages, data, self._locks, self.requirements)

    # Commands on the status.

    async def install(self, source: Path, *, uid: int | None) -> Plugin:
        """Copy a plugin from a directory, check it and store it.

        Raises:
            AlreadyExists: it is there; nothing was touched.
            FailedPrecondition: it requires what is not installed, or itself by way of others.
            InvalidParams: the directory or its manifest has problems, all of them listed.
        """
        return await self._installer.install(source, uid=uid)

    async def load(self, name: str) -> Plugin:
        """Make it ready; return when its worker has shaken hands, or has finished its work already.

        Raises:
            InvalidTransition: its status does not allow it.
            FailedPrecondition: it requires a plugin that is not on its way up. If that is so only now, while this one
                waits for it, this one stays ready, and is started, and told to be loaded, when the other is up.
                So with a worker that has outlived SIGKILL.
            ActivationFailed: the worker did not come up; the status is error now.
            CallCancelled: another command stopped the worker meanwhile.
        """
        return await self._make_ready(name, Command.LOAD)

    async def enable(self, name: str) -> Plugin:
        """As `load`, from disabled, error or upgrade_pending."""
        return await self._make_ready(name, Command.ENABLE)

    async def disable(self, name: str, reason: str | None = None) -> Plugin:
        """Drain and stop the worker and keep it stopped; return when it is gone."""

        def told(plugin: Plugin) -> Event:
            return PluginDisabled(plugin_id=plugin.id, plugin_key=plugin.key, reason=reason)

        return await self._take_down(name, Command.DISABLE, told, reason=reason)

    async def mark_error(self, name: str, error: str) -> Plugin:
        """Stop the worker and store why."""
        return await self._take_down(name, Command.MARK_ERROR, _failed(error), error=error)

    async def mark_upgrade_pending(self, name: str) -> Plugin:
        """Stop the worker until the upgrade is decided."""

        def told(plugin: Plugin) -> Event:
            return UpgradePending(plugin_id=plugin.id, plugin_key=plugin.key, added=[])

        return await self._take_down(name, Command.MARK_UPGRADE_PENDING, told)

    async def unload(self, name: str, *, remove_data: bool = False) -> None:
        """Stop the worker and remove the files; with `remove_data` config, state, history and data directory too.

        Raises:
            FailedPrecondition: other plugins require it.
        """
        await self._installer.unload(name, remove_data=remove_data)

    # Commands on the worker alone.

    async def start_worker(self, name: str) -> Plugin:
        """Start the worker of a ready plugin; return when it has shaken hands."""
        async with self._locks.hold(self._registry.get(name).key) as lock:
            plugin = self._ready(name, "start")
            self.requirements.refuse_start(plugin, "start")
            self._workers.want(plugin)
            with lock.activation():
                await self._workers.wait_up(plugin.id)
                return plugin
            raise CallCancelled(f"{lock.overtaken_by} of {plugin.key!r} came before its worker was up")

    async def stop_worker(self, name: str) -> Plugin:
        """Stop the worker of a ready plugin until start, restart or the next boot."""
        # Refused before an activation is overtaken in vain.
        self._ready(name, "stop")
        async with self._locks.hold(self._registry.get(name).key, overtaking="stop"):
            plugin = self._ready(name, "stop")
            await self._stop(plugin)
            return plugin

    async def restart_worker(self, name: str) -> Plugin:
        """Stop the worker of a ready plugin and start it; return when the new one has shaken hands."""
        async with self._locks.hold(self._registry.get(name).key) as lock:
            plugin = self._ready(name, "restart")
            self.requirements.refuse_start(plugin, "restart")
            with lock.activation():
                await self._stop(plugin)
                self._workers.want(plugin)
                await self._workers.wait_up(plugin.id)
                return plugin
            raise CallCancelled(f"{lock.overtaken_by} of {plugin.key!r} came before its worker was up")

    # What lifecycle's own tasks ask for.

    async def give_up(self, name: str) -> None:
        """The supervisor has given up on the worker: status error, unless a command came first."""
        plugin = self._registry.find(name)
        if plugin is None:
            return
        async with self._locks.hold(plugin.key):
            plugin = self._registry.find(name)
            view = self._workers.view(plugin.id) if plugin else None
            if plugin and view and view.gave_up and wants_worker(plugin.status):
                await self._fail(plugin, ActivationFailed(view.last_failure or "the worker was given up"))
                get_logger().error("plugin.gave_up", plugin=plugin.key, crashes=view.crashes)

    async def recover(self, name: str) -> None:
        """Try a plugin again whose worker had failed; quietly, since nobody asked."""
        plugin = self._registry.find(name)
        if plugin is None or plugin.status is not Status.ERROR or not plugin.recoverable:
            return
        get_logger().info("plugin.recovering", plugin=plugin.key)
        try:
            async with self._locks.hold(plugin.key) as lock:
                # Looked at again: a command may have come first, and its word counts.
                current = self._registry.find(plugin.id)
                if current and current.status is Status.ERROR and current.recoverable:
                    await self._bring_up(current, Command.ENABLE, lock, queued=True)
        except SupervisorError as error:
            get_logger().warning("plugin.not_recovered", plugin=plugin.key, error=error.message)

    async def say_what_is_owed(self, name: str, journal: Journal) -> None:
        """Record the last words of a command that was cut, also with the former daemon; once."""
        plugin = self._registry.find(name)
        if plugin is None or plugin.id not in self.owing:
            return
        async with self._locks.hold(plugin.key):
            # Under the lock: a command that is under way says its last word itself.
            plugin = self._registry.find(name)
            if plugin and plugin.id in self.owing:
                await self._say(plugin, *await owed_events(journal, plugin))

    # How.

    async def _make_ready(self, name: str, command: Command) -> Plugin:
        async with self._locks.hold(self._registry.get(name).key) as lock:
            return await self._bring_up(self._registry.get(name), command, lock)

    async def _bring_up(self, plugin: Plugin, command: Command, lock: PluginLock, *, queued: bool = False) -> Plugin:
        next_status(plugin.key, plugin.status, command)
        self.requirements.refuse_start(plugin, str(command))
        plugin = await self._step(plugin.id, command)
        await self._activate(plugin, lock, queued=queued)
        ready: list[Event] = [PluginEnabled(plugin_id=plugin.id, plugin_key=plugin.key, version=plugin.version)]
        if command is Command.LOAD:
            ready.insert(0, PluginLoaded(plugin_id=plugin.id, plugin_key=plugin.key, version=plugin.version))
        await self._say(plugin, *ready)
        return self._registry.get(plugin.id)

    async def _activate(self, plugin: Plugin, lock: PluginLock, *, queued: bool) -> None:
        """Bring the worker up, or put the plugin into status error."""
        with lock.activation():
            try:
                self._workers.want(plugin, first_try_only=True, queued=queued)
                await self._workers.wait_up(plugin.id)
            except ActivationFailed as error:
                await self._fail(plugin, error)
                raise
            return
        raise CallCancelled(f"{lock.overtaken_by} of {plugin.key!r} came before its worker was up", plugin=plugin.key)

    async def _fail(self, plugin: Plugin, error: ActivationFailed) -> Plugin:
        words = error.message
        failed = await self._registry.set_status(
            plugin.id,
            expected=plugin.status,
            status=Status.ERROR,
            error=words,
            # Whose policy is never to start it again means it.
            recoverable=plugin.manifest.worker.restart.policy != "never",
            then=[_failed(words)(plugin)],
        )
        self.owing.discard(plugin.id)
        return failed

    async def _take_down(
        self,
        name: str,
        command: Command,
        told: Callable[[Plugin], Event],
        *,
        reason: str | None = None,
        error: str | None = None,
    ) -> Plugin:
        async with self._locks.hold(self._registry.get(name).key, overtaking=str(command)):
            plugin = await self._step(name, command, reason=reason, error=error)
            try:
                await self._stop(plugin)
            finally:
                # Also of a worker that even SIGKILL did not end: the status has changed, and whoever asked hears why.
                await self._say(plugin, told(plugin))
            return self._registry.get(plugin.id)

    async def _step(
        self,
        name: str,
        command: Command,
        *,
        reason: str | None = None,
        error: str | None = None,
    ) -> Plugin:
        """Refuse or persist; the registry publishes as it commits."""
        plugin = self._registry.get(name)
        status = next_status(plugin.key, plugin.status, command)
        self.owing.add(plugin.id)
        return await self._registry.set_status(
            plugin.id, expected=plugin.status, status=status, reason=reason, error=error
        )

    async def _say(self, plugin: Plugin, *last_words: Event) -> None:
        if last_words:
            await self._registry.record(*last_words)
        self.owing.discard(plugin.id)

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


def _failed(error: str) -> Callable[[Plugin], Event]:
    return lambda plugin: PluginFailed(plugin_id=plugin.id, plugin_key=plugin.key, error=error)
