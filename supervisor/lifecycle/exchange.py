"""Exchanger: another version of a plugin is tried, and becomes the plugin's; or the one before goes on."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace

import trio

from supervisor.core.errors import (
    ActivationFailed,
    FailedPrecondition,
    SupervisorError,
    Unavailable,
    UpgradeFailed,
)
from supervisor.core.event import Event
from supervisor.core.lifecycle import Command, Status
from supervisor.core.package import Package, Version
from supervisor.core.plugin import Capability, Plugin
from supervisor.faultpoints import FaultPoint
from supervisor.lifecycle.activation import Activation, both
from supervisor.lifecycle.cleaning import Cleaner
from supervisor.lifecycle.decide import Way, overtakers
from supervisor.lifecycle.locks import PluginLock
from supervisor.lifecycle.operation import Operation
from supervisor.lifecycle.parts import Parts
from supervisor.lifecycle.running import overtaken
from supervisor.log import get_logger
from supervisor.worker.beside import Successor


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """Where a test may kill the daemon; each exchange passes those that it has."""

    stopped: FaultPoint | None = None
    started: FaultPoint | None = None
    exchanged: FaultPoint
    former_gone: FaultPoint | None = None
    told: FaultPoint | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """What is to become of the plugin `before`, which holds its lock; the rest as in `PackageChanges.exchange`."""

    command: Command
    before: Plugin
    to: Package | Version
    way: Way
    """Not STAGE, not REFUSE."""
    forward: bool
    first: tuple[Event, ...]
    points: Points
    approve: frozenset[Capability] = frozenset()
    uid: int | None = None
    probation_s: float | None = None
    intent: int | None = None

    @property
    def candidate(self) -> Plugin:
        """The plugin as it is to be."""
        to = self.to
        return replace(
            self.before,
            version=to.manifest.version,
            manifest=to.manifest,
            package_dir=to.dir if isinstance(to, Package) else to.package_dir,
            editable=to.editable,
            approved=self.before.approved | self.approve,
            status=Status.READY,
            staged_dir=None,
        )


class Exchanger:
    """Its callers hold the plugin's lock."""

    def __init__(self, parts: Parts, activation: Activation, cleaner: Cleaner) -> None:
        self._parts = parts
        self._registry = parts.registry
        self._workers = parts.workers
        self._activation = activation
        self._cleaner = cleaner

    async def carry_out(self, it: Exchange, lock: PluginLock, operation: Operation) -> Plugin:
        """
        Raises:
            UpgradeFailed: its worker did not come up; nothing has changed.
            CallCancelled: another command, or the caller, came first; nothing has changed.
            ResourceExhausted: it could not be stored; nothing has changed.
        """
        if it.way is Way.EXCHANGE:
            after = await self._store(it, None)
            self._cleaner.reach(it.points.exchanged)
        else:
            self._activation.owing.add(it.before.id)
            after = await self._try(it, lock, operation)
            await self._activation.say(after, *both(after))
            self._cleaner.reach(it.points.told)
        get_logger().info(
            "plugin.exchanged", plugin=after.key, command=str(it.command), was=it.before.version, now=after.version
        )
        await self._cleaner.collect(after.id)
        return self._registry.get(after.id)

    async def _try(self, it: Exchange, lock: PluginLock, operation: Operation) -> Plugin:
        after: Plugin | None = None
        with operation.phase("start", math.inf), lock.activation(yields_to=overtakers(it.before.status)):
            try:
                async with self._stood_down(it, lock), self._on_trial(it) as successor:
                    self._cleaner.reach(it.points.started)
                    # The last moment to come before it. What follows is done to its end.
                    await trio.lowlevel.checkpoint_if_cancelled()
                    lock.settle()
                    operation.enter("switch")
                    if successor.up:
                        after = await self._store(it, successor)
                        self._cleaner.reach(it.points.exchanged)
                        operation.enter("drain")
                        await self._drain(it, successor)
            except UpgradeFailed:
                if after is None:
                    raise
            if after is not None and self._workers.view(after.id).wanted and successor.took_over:
                return after
        if after is None:
            raise overtaken(it.before, lock)
        # It died in the moment of the commit, and could not take over: the row counts.
        await self._activation.stop(after)
        await self._activation.activate(after, lock)
        return after

    @asynccontextmanager
    async def _stood_down(self, it: Exchange, lock: PluginLock) -> AsyncIterator[None]:
        """The worker that runs is stopped first, where the two versions cannot share; if it comes to nothing, it is
        started again."""
        before = it.before
        if it.way is not Way.STOP_FIRST or not self._workers.wanted(before.id):
            yield
            return
        try:
            await self._activation.stop(before)
            self._cleaner.reach(it.points.stopped)
            yield
        except BaseException:
            now = self._registry.find(before.id)
            # Whoever has overtaken wants it stopped.
            if now and now.package_dir == before.package_dir and not lock.is_overtaken:
                with suppress(Unavailable):  # The daemon is stopping: nobody is started any more.
                    self._workers.want(before)
            raise

    @asynccontextmanager
    async def _on_trial(self, it: Exchange) -> AsyncIterator[Successor]:
        try:
            async with self._workers.beside(it.candidate) as successor:
                yield successor
        except (ActivationFailed, FailedPrecondition) as error:
            raise _failed(it, error) from error

    async def _store(self, it: Exchange, successor: Successor | None) -> Plugin:
        def hand_over(plugin: Plugin) -> None:
            if successor is not None:
                successor.take_over(plugin)

        async with self._parts.requirements.graph:
            # Again: what it requires may be gone by now, or require it.
            self._parts.requirements.refuse_install(it.to.manifest)
            return await self._registry.exchange(
                it.to,
                expected=it.before,
                status=it.before.status if it.way is Way.EXCHANGE else Status.READY,
                forward=it.forward,
                approve=it.approve,
                uid=it.uid,
                probation_s=it.probation_s,
                first=it.first,
                ends=it.intent,
                on_commit=hand_over,
            )

    async def _drain(self, it: Exchange, successor: Successor) -> None:
        if it.way is not Way.OVERLAP or not successor.took_over:
            return
        try:
            await successor.wait_former_gone()
        except SupervisorError as error:
            get_logger().error("worker.former_not_gone", plugin=it.before.key, why=error.message)
        self._cleaner.reach(it.points.former_gone)


def _failed(it: Exchange, error: SupervisorError) -> UpgradeFailed:
    before, to = it.before, it.to.manifest.version
    after = {
        Status.READY: f"version {before.version} goes on",
        Status.UPGRADE_PENDING: f"version {before.version} is not touched",
        Status.ERROR: "it stays in error",
    }[before.status]
    return UpgradeFailed(
        f"plugin {before.key!r} cannot go from version {before.version} to {to}: {error.message}; {after}",
        **{"plugin": before.key, "from": before.version, "to": to, "cause": error.message},
    )
