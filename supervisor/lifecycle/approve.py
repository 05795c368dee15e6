"""Approver: what waits for approval is tried and run, or dropped."""

from __future__ import annotations

from typing import Final

from supervisor.core.errors import Conflict, SupervisorError, UpgradeFailed
from supervisor.core.event import Event, UpgradeRejected
from supervisor.core.lifecycle import Command, Status, next_status
from supervisor.core.package import Version
from supervisor.core.plugin import Plugin
from supervisor.faultpoints import FaultPoint
from supervisor.lifecycle.activation import Activation, both
from supervisor.lifecycle.cleaning import Cleaner
from supervisor.lifecycle.exchange import Exchange, Exchanger, Points
from supervisor.lifecycle.judge import Judge, approved, failure, upgraded
from supervisor.lifecycle.locks import PluginLock
from supervisor.lifecycle.operation import Operation
from supervisor.lifecycle.parts import Parts
from supervisor.log import get_logger

_APPROVE: Final = Points(
    started=FaultPoint.APPROVE_STARTED, exchanged=FaultPoint.APPROVE_EXCHANGED, told=FaultPoint.APPROVE_TOLD
)


class Approver:
    """The lifecycle manager's part that decides what waits."""

    def __init__(
        self, parts: Parts, activation: Activation, cleaner: Cleaner, exchanger: Exchanger, judge: Judge
    ) -> None:
        self._parts = parts
        self._registry = parts.registry
        self._activation = activation
        self._cleaner = cleaner
        self._exchanger = exchanger
        self._judge = judge

    async def approve(self, name: str, *, uid: int | None, version: str | None) -> Plugin:
        async with self._parts.locks.hold(self._registry.get(name).key) as lock:
            plugin = self._registry.get(name)
            next_status(plugin.key, plugin.status, Command.APPROVE)
            staged = self._registry.version(plugin.id, plugin.staged_dir)
            if version is not None and (staged is None or staged.version != version):
                waits = f"version {staged.version} does" if staged else "no version does"
                raise Conflict(
                    f"version {version} of plugin {plugin.key!r} does not wait for approval, {waits}: look again",
                    plugin=plugin.key,
                    version=version,
                    staged=staged.version if staged else None,
                )
            if staged is None:  # Marked by hand.
                return await self._activation.bring_up(plugin, Command.APPROVE, lock)
            return await self.activate_staged(plugin, staged, Command.APPROVE, lock, uid=uid)

    async def activate_staged(
        self, plugin: Plugin, staged: Version, command: Command, lock: PluginLock, *, uid: int | None = None
    ) -> Plugin:
        """By APPROVE, or by ENABLE where there is nothing to approve any more. The lock is held."""
        approving = command is Command.APPROVE
        way, added = await self._judge.decided(plugin, staged.manifest, command, approving=approving)
        told: list[Event] = [approved(plugin, staged.version, added, uid)] if approving else []
        exchange = Exchange(
            command=command,
            before=plugin,
            to=staged,
            way=way,
            forward=True,
            first=(*told, upgraded(plugin, staged.manifest)),
            points=_APPROVE,
            approve=added,
            uid=uid,
        )
        try:
            return await self._exchanger.carry_out(exchange, lock, Operation())
        except UpgradeFailed as error:
            await self._run_the_one_before(plugin, staged, lock, error)
            raise

    async def _run_the_one_before(
        self, plugin: Plugin, staged: Version, lock: PluginLock, error: UpgradeFailed
    ) -> None:
        failed = failure(plugin, staged.manifest, error)
        plugin = await self._to_ready(plugin, failed)
        self._parts.faults.reach(FaultPoint.APPROVE_FAILED_STORED)
        await self._cleaner.collect(plugin.id)
        try:
            await self._activation.activate(plugin, lock)
            await self._activation.say(plugin, *both(plugin))
        except SupervisorError as another:
            # What was asked for failed with the first error; of this one the status tells.
            get_logger().warning("plugin.not_up_again", plugin=plugin.key, why=another.message)
        self._parts.faults.reach(FaultPoint.APPROVE_FAILED_TOLD)

    async def reject(self, name: str, *, uid: int | None) -> Plugin:
        async with self._parts.locks.hold(self._registry.get(name).key) as lock:
            plugin = self._registry.get(name)
            next_status(plugin.key, plugin.status, Command.REJECT)
            self._parts.requirements.refuse_start(plugin, "reject the upgrade of")
            staged = self._registry.version(plugin.id, plugin.staged_dir)
            version = staged.version if staged else None
            plugin = await self._to_ready(
                plugin, UpgradeRejected(plugin_id=plugin.id, plugin_key=plugin.key, version=version, uid=uid)
            )
            self._parts.faults.reach(FaultPoint.REJECT_STORED)
            await self._cleaner.collect(plugin.id)
            await self._activation.activate(plugin, lock)
            self._parts.faults.reach(FaultPoint.REJECT_STARTED)
            await self._activation.say(plugin, *both(plugin))
            self._parts.faults.reach(FaultPoint.REJECT_TOLD)
            return self._registry.get(plugin.id)

    async def _to_ready(self, plugin: Plugin, event: Event) -> Plugin:
        self._activation.owing.add(plugin.id)
        return await self._registry.set_status(plugin.id, expected=plugin.status, status=Status.READY, then=[event])
