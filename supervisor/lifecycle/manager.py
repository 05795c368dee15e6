"""LifecycleManager: the only writer of a plugin's status. Refuse, persist, publish, act, under the plugin's lock."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from supervisor.core.errors import InvalidParams
from supervisor.core.event import Event, PluginDisabled, UpgradePending
from supervisor.core.lifecycle import Command, Status
from supervisor.core.plugin import Capability, Plugin, PluginKey
from supervisor.faultpoints import FaultPoint, FaultPoints
from supervisor.lifecycle.activation import Activation, failed
from supervisor.lifecycle.aftercare import Aftercare
from supervisor.lifecycle.approve import Approver
from supervisor.lifecycle.cleaning import Cleaner
from supervisor.lifecycle.config import Configurator, Restart
from supervisor.lifecycle.exchange import Exchanger
from supervisor.lifecycle.in_place import InPlace
from supervisor.lifecycle.install import Installer
from supervisor.lifecycle.judge import Judge
from supervisor.lifecycle.locks import PluginLocks
from supervisor.lifecycle.operation import Operation
from supervisor.lifecycle.packages import PackageStore
from supervisor.lifecycle.parts import DataKeeper, Parts
from supervisor.lifecycle.probation import Probation
from supervisor.lifecycle.removal import Remover
from supervisor.lifecycle.requirements import Requirements
from supervisor.lifecycle.rollback import Rollback
from supervisor.lifecycle.running import WorkerCommands
from supervisor.lifecycle.sources import Source
from supervisor.lifecycle.upgrade import Upgrader, Wanted
from supervisor.log import get_logger
from supervisor.store.intents import IntentLog
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
        *,
        intents: IntentLog,
        make_config: Callable[[PluginLocks, Restart], Configurator],
        faults: FaultPoints,
        keep_versions: int,
    ) -> None:
        """`make_config` gets the locks that this one holds, and its way to restart a worker under such a lock."""
        self._registry = registry
        self._workers = workers
        self._locks = PluginLocks()
        self._faults = faults
        self.requirements = Requirements(registry, workers)
        self._running = WorkerCommands(registry, workers, self._locks, self.requirements)
        self.config = make_config(self._locks, self._running.restart_held)
        parts = Parts(
            registry=registry,
            workers=workers,
            packages=packages,
            data=data,
            intents=intents,
            config=self.config,
            locks=self._locks,
            requirements=self.requirements,
            faults=faults,
            keep_versions=keep_versions,
        )
        self._activation = activation = Activation(parts)
        self._cleaner = cleaner = Cleaner(parts)
        exchanger, judge = Exchanger(parts, activation, cleaner), Judge(parts)
        self._installer = Installer(parts, cleaner)
        self._remover = Remover(parts, cleaner)
        self._upgrader = Upgrader(parts, activation, cleaner, exchanger, judge)
        self._approver = Approver(parts, activation, cleaner, exchanger, judge)
        self._rollback = Rollback(parts, exchanger, judge)
        self.probation = Probation(parts, activation, self._rollback)
        self._aftercare = Aftercare(parts, activation, self._rollback, self.probation)
        self.in_place = InPlace(parts, activation)
        self.owing = activation.owing

    # Which plugins there are, and in which version.

    async def install(
        self,
        source: Source,
        *,
        uid: int | None,
        agreed: frozenset[Capability] | None = None,
        operation: Operation | None = None,
    ) -> Plugin:
        """Fetch a plugin, check it and store it. `agreed`: the capabilities that its operator agrees to, None to all.

        Raises:
            AlreadyExists: it is there; nothing was touched.
            ApprovalRequired: it asks for more than was agreed to; details: plugin, version, capabilities.
            FailedPrecondition: it requires what is not installed, or itself by way of others.
            InvalidParams: the source or its manifest has problems, all of them listed.
            CallCancelled, DeadlineExceeded, ResourceExhausted: as it was being made; nothing is left of it.
        """
        return await self._installer.install(source, uid=uid, agreed=agreed, operation=operation or Operation())

    async def upgrade(
        self,
        name: str,
        *,
        source: Source | None = None,
        version: str | None = None,
        uid: int | None,
        approve: bool = False,
        agreed: frozenset[Capability] = frozenset(),
        probation_s: float | None = None,
        operation: Operation | None = None,
    ) -> Plugin:
        """Exchange the version for that of `source`, or for the kept `version`: wholly, or not at all.

        Of a ready plugin the new version is tried first. With capabilities beyond those approved it waits (status
        upgrade_pending), unless `approve`, or they are `agreed`. Who gives up within `probation_s` is rolled back.

        Raises:
            UpgradeFailed: the new version did not come up; the one before goes on. Details: plugin, from, to, cause.
            InvalidTransition, AlreadyExists, NotFound, InvalidParams, ApprovalRequired, FailedPrecondition: refused.
            CallCancelled, DeadlineExceeded, ResourceExhausted: nothing has changed.
        """
        wanted = Wanted(uid=uid, approve=approve, agreed=agreed, probation_s=probation_s)
        if source is not None and version is None:
            return await self._upgrader.to_source(name, source, wanted, operation or Operation())
        if version is not None and source is None:
            return await self._upgrader.to_version(name, version, wanted, operation or Operation())
        raise InvalidParams("an upgrade needs a source or a kept version, and not both", plugin=name)

    async def approve(self, name: str, *, uid: int | None, version: str | None = None) -> Plugin:
        """Approve what the waiting version asks for, and run it; `version`, if named, must be the one that waits.

        Raises:
            UpgradeFailed: it did not come up: it is dropped, and the version before runs again.
            InvalidTransition: nothing waits; Conflict: another version does.
        """
        return await self._approver.approve(name, uid=uid, version=version)

    async def reject(self, name: str, *, uid: int | None) -> Plugin:
        """Drop the waiting version, and run the one before.

        Raises:
            InvalidTransition: nothing waits.
            ActivationFailed: the version before did not come up; the status is error now.
        """
        return await self._approver.reject(name, uid=uid)

    async def rollback(self, name: str, *, uid: int | None, version: str | None = None) -> Plugin:
        """Go back to the version before this one, or to the kept `version`; nothing is fetched.

        Raises:
            UpgradeFailed: it did not come up; nothing has changed.
            NotFound: it is not kept; ApprovalRequired: what it asks for is not approved.
        """
        plugin = await self._rollback.rollback(name, version=version)
        get_logger().info("plugin.rolled_back", plugin=plugin.key, version=plugin.version, uid=uid)
        return plugin

    async def unload(self, name: str, *, remove_data: bool = False) -> None:
        """Stop the worker and remove all versions; with `remove_data` config, state, history and data directory too.

        Raises:
            FailedPrecondition: other plugins require it.
        """
        await self._remover.unload(name, remove_data=remove_data)

    async def purge(self, uninstalled_before: datetime) -> list[PluginKey]:
        """Delete what is left of plugins that were uninstalled before then; their keys.

        Raises:
            SupervisorError: the database does not let it.
        """
        return await self._remover.purge(uninstalled_before)

    # Commands on the status.

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
        """As `load`, from disabled, error or upgrade_pending.

        Raises:
            ApprovalRequired: a version waits that asks for more than was approved.
        """
        return await self._make_ready(name, Command.ENABLE)

    async def disable(self, name: str, reason: str | None = None) -> Plugin:
        """Drain and stop the worker and keep it stopped; return when it is gone."""

        def told(plugin: Plugin) -> Event:
            return PluginDisabled(plugin_id=plugin.id, plugin_key=plugin.key, reason=reason)

        return await self._take_down(name, Command.DISABLE, told, reason=reason)

    async def mark_error(self, name: str, error: str) -> Plugin:
        """Stop the worker and store why."""
        return await self._take_down(name, Command.MARK_ERROR, failed(error), error=error)

    async def mark_upgrade_pending(self, name: str) -> Plugin:
        """Stop the worker until the upgrade is decided."""

        def told(plugin: Plugin) -> Event:
            return UpgradePending(plugin_id=plugin.id, plugin_key=plugin.key, added=[])

        return await self._take_down(name, Command.MARK_UPGRADE_PENDING, told)

    # Commands on the worker alone.

    async def start_worker(self, name: str) -> Plugin:
        """Start the worker of a ready plugin; return when it has shaken hands."""
        return await self._running.start(name)

    async def stop_worker(self, name: str) -> Plugin:
        """Stop the worker of a ready plugin until start, restart or the next boot."""
        return await self._running.stop(name)

    async def restart_worker(self, name: str) -> Plugin:
        """Stop the worker of a ready plugin and start it; return when the new one has shaken hands."""
        return await self._running.restart(name)

    # What lifecycle's own tasks ask for.

    async def give_up(self, name: str) -> None:
        """The supervisor has given up on the worker: status error, or the version before where this one is on
        probation; unless a command came first."""
        await self._aftercare.give_up(name)

    async def recover(self, name: str) -> None:
        """Try a plugin again whose worker had failed; quietly, since nobody asked."""
        await self._aftercare.recover(name)

    async def say_what_is_owed(self, name: str, journal: Journal) -> None:
        """Record the last words of a command that was cut, also with the former daemon; once."""
        await self._aftercare.say_what_is_owed(name, journal)

    async def end_what_was_begun(self, *, keep_unnamed: bool) -> None:
        """At boot, before anything runs: end the intents of the daemon before, and drop what is kept for nothing.
        `keep_unnamed`: not the files that were being added; whoever restores a database may want them.

        Raises:
            SupervisorError, OSError: it could not be stored, or removed.
        """
        await self._cleaner.end_open(keep_unnamed=keep_unnamed)
        self._faults.reach(FaultPoint.BOOT_INTENTS_ENDED)
        for plugin in self._registry.all():
            if plugin.status is not Status.UNINSTALLED:
                await self._cleaner.collect(plugin.id)
        self._faults.reach(FaultPoint.BOOT_VERSIONS_DROPPED)

    # How.

    async def _make_ready(self, name: str, command: Command) -> Plugin:
        async with self._locks.hold(self._registry.get(name).key) as lock:
            plugin = self._registry.get(name)
            staged = self._registry.version(plugin.id, plugin.staged_dir)
            if command is Command.ENABLE and staged is not None:
                return await self._approver.activate_staged(plugin, staged, command, lock)
            return await self._activation.bring_up(plugin, command, lock)

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
            plugin = await self._activation.step(name, command, reason=reason, error=error)
            try:
                await self._activation.stop(plugin)
            finally:
                # Also of a worker that even SIGKILL did not end: the status has changed, and whoever asked hears why.
                await self._activation.say(plugin, told(plugin))
            # What waited for approval may wait no more.
            await self._cleaner.collect(plugin.id)
            return self._registry.get(plugin.id)
