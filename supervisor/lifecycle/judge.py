"""Judge: whether a plugin may go to another version, and how; refused before anything is touched."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from supervisor.core.errors import AlreadyExists, ApprovalRequired, NotFound, SupervisorError, UpgradeFailed
from supervisor.core.event import PluginUpgraded, UpgradeApproved
from supervisor.core.event import UpgradeFailed as UpgradeFailedEvent
from supervisor.core.lifecycle import Command, refuse_exchange, wants_worker
from supervisor.core.manifest import Manifest
from supervisor.core.package import Version
from supervisor.core.plugin import Capability, Plugin
from supervisor.faultpoints import FaultPoint
from supervisor.lifecycle.decide import Case, Way, decide, earlier
from supervisor.lifecycle.locks import PluginLock
from supervisor.lifecycle.parts import Parts
from supervisor.log import get_logger


class Judge:
    """Its callers hold the plugin's lock."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._registry = parts.registry

    def exchangeable(self, name: str, command: Command) -> Plugin:
        plugin = self._registry.get(name)
        refuse_exchange(plugin.key, plugin.status, command)
        return plugin

    def earlier(self, plugin: Plugin, version: str | None) -> Version:
        versions = self._registry.versions(plugin.id)
        found = earlier(versions, plugin.package_dir, version)
        if found is not None:
            return found
        if version == plugin.version:
            raise at_it_already(plugin)
        kept = [v.version for v in versions if v.package_dir not in {plugin.package_dir, plugin.staged_dir}]
        what = f"version {version}" if version else "the version before the present one"
        there = f"kept are {', '.join(kept)}" if kept else "no other one is"
        raise NotFound(
            f"{what} of plugin {plugin.key!r} is not kept, {there}; upgrade from a source instead",
            plugin=plugin.key,
            version=version,
            kept=kept,
        )

    async def decided(
        self,
        plugin: Plugin,
        manifest: Manifest,
        command: Command,
        *,
        approving: bool,
        agreed: frozenset[Capability] = frozenset(),
    ) -> tuple[Way, frozenset[Capability]]:
        """What is to be done, and the capabilities that it adds. `approving`: whoever asks approves them all, or where
        they are among `agreed`.

        Raises:
            ApprovalRequired, FailedPrecondition, InvalidParams: it cannot be.
        """
        added = frozenset(manifest.capabilities) - plugin.approved
        approving = approving or added <= agreed
        exclusive = "stop_first" in {plugin.manifest.worker.upgrade, manifest.worker.upgrade}
        way = decide(
            Case(command=command, status=plugin.status, more=bool(added), approving=approving, exclusive=exclusive)
        )
        if way is Way.REFUSE:
            raise approval_required(plugin, manifest, added)
        self._parts.requirements.refuse_install(manifest)
        if way is not Way.EXCHANGE:
            # Otherwise this is the way out: upgrade it while it is disabled, and set a configuration that fits.
            await self._parts.config.refuse_misfit(plugin, manifest)
        if way in {Way.OVERLAP, Way.STOP_FIRST}:
            self._parts.requirements.refuse_start(replace(plugin, manifest=manifest), str(command))
        return way, added

    @asynccontextmanager
    async def telling_failure(self, before: Plugin, to: Manifest, lock: PluginLock) -> AsyncIterator[None]:
        try:
            yield
        except UpgradeFailed as error:
            try:
                await self._registry.record(failure(before, to, error))
                self._parts.faults.reach(FaultPoint.UPGRADE_FAILED_TOLD)
            except SupervisorError as another:
                get_logger().warning("event.not_recorded", plugin=before.key, why=another.message)
            await self._see_it_up_again(before, lock)
            raise

    async def _see_it_up_again(self, before: Plugin, lock: PluginLock) -> None:
        """The worker that was stopped first is on its way; whoever is told that it goes on finds it up."""
        if not wants_worker(before.status) or not self._parts.workers.wanted(before.id):
            return
        with lock.activation():
            try:
                await self._parts.workers.wait_up(before.id)
            except SupervisorError as error:
                get_logger().warning("plugin.not_up_again", plugin=before.key, why=error.message)


def at_it_already(plugin: Plugin) -> AlreadyExists:
    return AlreadyExists(
        f"plugin {plugin.key!r} is at this version already, {plugin.version} with the very same files; to store them "
        "anew, uninstall it and install it again, which keeps its data",
        plugin=plugin.key,
        version=plugin.version,
    )


def approval_required(plugin: Plugin, manifest: Manifest, added: frozenset[Capability]) -> ApprovalRequired:
    return ApprovalRequired(
        f"version {manifest.version} of plugin {plugin.key!r} asks for {', '.join(sorted(added))} beyond what was "
        "approved: approve that to go on; nothing was changed",
        plugin=plugin.key,
        version=manifest.version,
        added=sorted(added),
    )


def upgraded(plugin: Plugin, to: Manifest) -> PluginUpgraded:
    return PluginUpgraded(
        plugin_id=plugin.id, plugin_key=plugin.key, from_version=plugin.version, to_version=to.version
    )


def approved(plugin: Plugin, version: str, added: frozenset[Capability], uid: int | None) -> UpgradeApproved:
    return UpgradeApproved(plugin_id=plugin.id, plugin_key=plugin.key, version=version, added=sorted(added), uid=uid)


def failure(plugin: Plugin, to: Manifest, error: UpgradeFailed) -> UpgradeFailedEvent:
    return UpgradeFailedEvent(
        plugin_id=plugin.id, plugin_key=plugin.key, to_version=to.version, error=str(error.details["cause"])
    )
