"""Exchanger: another version of a plugin is tried, and becomes the plugin's; or the one before goes on."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial

import trio

from supervisor.core.errors import (
    ActivationFailed,
    FailedPrecondition,
    SupervisorError,
    UpgradeFailed,
)
from supervisor.core.event import Event, PluginRolledBack, UpgradePending
from supervisor.core.lifecycle import Command, Status
from supervisor.core.package import Package, Version
from supervisor.core.plugin import Capability, Plugin
from supervisor.faultpoints import FaultPoint
from supervisor.lifecycle.activation import Activation, both, failed
from supervisor.lifecycle.cleaning import Cleaner
from supervisor.lifecycle.decide import Way, overtakers
from supervisor.lifecycle.locks import PluginLock
from supervisor.lifecycle.operation import Operation
from supervisor.lifecycle.owed import added_capabilities
from supervisor.lifecycle.parts import Parts
from supervisor.lifecycle.running import overtaken, start_again
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
                        was = self._registry.version(it.before.id, it.candidate.package_dir)
                        after = await self._store(it, successor)
                        self._cleaner.reach(it.points.exchanged)
                        if successor.took_over:
                            operation.enter("drain")
                            await self._drain(it, successor)
                        elif await self._taken_back(it, after, was, successor.failure):
                            after = None
            except UpgradeFailed:
                if after is None:
                    raise
            # What has become of it since, finished or given up, is seen to as of any other.
            if after is not None and successor.took_over:
                return after
        if after is None:
            raise overtaken(it.before, lock)
        # It did not, and that could not be undone: the row counts.
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
            # Runs that were due meanwhile wait for the one or the other.
            with self._workers.coming_back(before.id):
                await self._activation.stop(before)
                self._cleaner.reach(it.points.stopped)
                yield
        except BaseException:
            now = self._registry.find(before.id)
            if now and now.package_dir == before.package_dir:
                again = partial(start_again, self._registry, self._workers, before.id)
                if lock.is_overtaken:  # Whoever has overtaken wants it stopped; that one may fail yet.
                    lock.owe_start(again)
                else:
                    again()
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

    async def _taken_back(
        self, it: Exchange, after: Plugin, was: Version | None, failure: SupervisorError | None
    ) -> bool:
        """Undo what was stored while its worker died: the version before goes on, as of one that had died a moment
        earlier. The journal has it as exchanged, so that it is told to be rolled back, too."""
        before = it.before
        why = failure.message if failure else "its worker could not take over"
        told = PluginRolledBack(
            plugin_id=before.id,
            plugin_key=before.key,
            from_version=after.version,
            to_version=before.version,
            reason=why,
        )
        try:
            await self._registry.take_back(
                before, expected=after, was=was, first=[told], then=self._last_words(before, it.way)
            )
        except SupervisorError as error:
            get_logger().warning("plugin.not_taken_back", plugin=before.key, why=error.message)
            return False
        await self._cleaner.collect(before.id)
        return True

    def _last_words(self, before: Plugin, way: Way) -> list[Event]:
        if before.status is Status.READY:
            # Of a worker that was stopped first it is said when that is up again, as it is owed.
            return [] if way is Way.STOP_FIRST else both(before)
        if before.status is Status.ERROR:
            return [failed(before.last_error or "")(before)]
        staged = self._registry.version(before.id, before.staged_dir)
        added = added_capabilities(before, staged)
        return [UpgradePending(plugin_id=before.id, plugin_key=before.key, added=added)]

    async def _drain(self, it: Exchange, successor: Successor) -> None:
        if it.way is not Way.OVERLAP:
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
