"""Upgrader: a version from a source, or one that is kept, takes the place of the present one, or waits for approval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from supervisor.core.errors import AlreadyExists, FailedPrecondition, InvalidParams
from supervisor.core.event import Event, UpgradePending
from supervisor.core.lifecycle import Command
from supervisor.core.manifest import Manifest
from supervisor.core.package import Package, Version
from supervisor.core.plugin import Capability, Plugin
from supervisor.faultpoints import FaultPoint
from supervisor.lifecycle.activation import Activation
from supervisor.lifecycle.cleaning import Adding, Cleaner, Removing
from supervisor.lifecycle.decide import Way
from supervisor.lifecycle.exchange import Exchange, Exchanger, Points
from supervisor.lifecycle.install import abortable_hold
from supervisor.lifecycle.judge import Judge, approval_required, approved, at_it_already, upgraded
from supervisor.lifecycle.operation import Operation
from supervisor.lifecycle.parts import Parts
from supervisor.lifecycle.sources import Source
from supervisor.lifecycle.staging import Staged

_F = FaultPoint
_ADDING: Final = Adding(
    intent_written=_F.UPGRADE_INTENT_WRITTEN,
    files_stored=_F.UPGRADE_FILES_STORED,
    undone=Removing(files_removed=_F.UPGRADE_FAILED_FILES_REMOVED, intent_ended=_F.UPGRADE_FAILED_INTENT_ENDED),
)
_UPGRADE: Final[Mapping[Way, Points]] = {
    Way.OVERLAP: Points(
        started=_F.UPGRADE_OVERLAP_STARTED,
        exchanged=_F.UPGRADE_OVERLAP_EXCHANGED,
        former_gone=_F.UPGRADE_OVERLAP_FORMER_GONE,
        told=_F.UPGRADE_OVERLAP_TOLD,
    ),
    Way.STOP_FIRST: Points(
        stopped=_F.UPGRADE_STOP_FIRST_STOPPED,
        started=_F.UPGRADE_STOP_FIRST_STARTED,
        exchanged=_F.UPGRADE_STOP_FIRST_EXCHANGED,
        told=_F.UPGRADE_STOP_FIRST_TOLD,
    ),
    Way.EXCHANGE: Points(exchanged=_F.UPGRADE_IDLE_EXCHANGED),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What whoever asks for an upgrade says beside the version."""

    uid: int | None
    approve: bool
    agreed: frozenset[Capability]
    probation_s: float | None


class Upgrader:
    """The lifecycle manager's part that upgrades."""

    def __init__(
        self, parts: Parts, activation: Activation, cleaner: Cleaner, exchanger: Exchanger, judge: Judge
    ) -> None:
        self._parts = parts
        self._registry = parts.registry
        self._activation = activation
        self._cleaner = cleaner
        self._exchanger = exchanger
        self._judge = judge

    async def to_source(self, name: str, source: Source, wanted: Wanted, operation: Operation) -> Plugin:
        # Refused before anything is fetched; and again under the lock, for it may take long.
        plugin = self._judge.exchangeable(name, Command.UPGRADE)

        async def look(manifest: Manifest) -> None:
            present = self._judge.exchangeable(name, Command.UPGRADE)
            _refuse_stranger(present, manifest)
            await self._decided(present, manifest, wanted, may_wait=not source.editable)

        async with self._parts.packages.staged(source, operation, look) as staged:
            self._parts.faults.reach(_F.UPGRADE_STAGED)
            async with abortable_hold(self._parts.locks, plugin.key, operation) as lock:
                plugin = self._judge.exchangeable(name, Command.UPGRADE)
                _refuse_same(plugin, staged)
                may_wait = staged.editable is None
                way, added = await self._decided(plugin, staged.manifest, wanted, may_wait=may_wait)
                async with (
                    self._judge.telling_failure(plugin, staged.manifest, lock),
                    self._cleaner.adding(staged, _ADDING) as (package, intent),
                ):
                    if way is Way.STAGE:
                        return await self._stage(plugin, package, added, intent)
                    exchange = _upgrade(plugin, package, way, added, wanted)
                    return await self._exchanger.carry_out(replace(exchange, intent=intent), lock, operation)

    async def to_version(self, name: str, version: str, wanted: Wanted, operation: Operation) -> Plugin:
        plugin = self._registry.get(name)
        async with abortable_hold(self._parts.locks, plugin.key, operation) as lock:
            plugin = self._judge.exchangeable(name, Command.UPGRADE)
            to = self._judge.earlier(plugin, version)
            way, added = await self._decided(plugin, to.manifest, wanted, may_wait=False)
            async with self._judge.telling_failure(plugin, to.manifest, lock):
                return await self._exchanger.carry_out(_upgrade(plugin, to, way, added, wanted), lock, operation)

    async def _decided(
        self, plugin: Plugin, manifest: Manifest, wanted: Wanted, *, may_wait: bool
    ) -> tuple[Way, frozenset[Capability]]:
        """`may_wait`: not what is kept, or run in place, for that is asked for again as easily."""
        way, added = await self._judge.decided(
            plugin, manifest, Command.UPGRADE, approving=wanted.approve, agreed=wanted.agreed
        )
        if way is Way.STAGE and not may_wait:
            raise approval_required(plugin, manifest, added)
        _refuse_probation(plugin, way, wanted)
        return way, added

    async def _stage(self, plugin: Plugin, package: Package, added: frozenset[Capability], intent: int) -> Plugin:
        self._activation.owing.add(plugin.id)
        after = await self._registry.stage(package, expected=plugin, ends=intent)
        self._parts.faults.reach(_F.UPGRADE_PENDING_STORED)
        try:
            await self._activation.stop(after)
            self._parts.faults.reach(_F.UPGRADE_PENDING_STOPPED)
        finally:
            # Also of a worker that even SIGKILL did not end: the status has changed.
            told = UpgradePending(plugin_id=after.id, plugin_key=after.key, added=sorted(added))
            await self._activation.say(after, told)
        self._parts.faults.reach(_F.UPGRADE_PENDING_TOLD)
        await self._cleaner.collect(after.id)
        return self._registry.get(after.id)


def _refuse_stranger(plugin: Plugin, manifest: Manifest) -> None:
    if manifest.key != plugin.key:
        raise InvalidParams(
            f"that is plugin {manifest.key!r}, not {plugin.key!r}: name a source of {plugin.key!r}, or install the "
            "other one",
            plugin=plugin.key,
            found=manifest.key,
        )


def _refuse_same(plugin: Plugin, staged: Staged) -> None:
    # What is run in place is what it is there now: only its manifest tells whether there is anything to take over.
    if staged.name == plugin.package_dir and (staged.editable is None or staged.manifest == plugin.manifest):
        raise at_it_already(plugin)
    if staged.name == plugin.staged_dir:
        raise AlreadyExists(
            f"version {staged.manifest.version} of plugin {plugin.key!r} waits for approval already: approve or "
            "reject it",
            plugin=plugin.key,
            version=staged.manifest.version,
        )


def _refuse_probation(plugin: Plugin, way: Way, wanted: Wanted) -> None:
    if wanted.probation_s is not None and way in {Way.STAGE, Way.EXCHANGE}:
        why = "it would wait for approval first" if way is Way.STAGE else f"it is {plugin.status}"
        raise FailedPrecondition(
            f"plugin {plugin.key!r} cannot be upgraded on probation: {why}, and no worker is started now; leave "
            f"probation out{', or approve at once' if way is Way.STAGE else ''}",
            plugin=plugin.key,
            status=str(plugin.status),
        )


def _upgrade(plugin: Plugin, to: Package | Version, way: Way, added: frozenset[Capability], wanted: Wanted) -> Exchange:
    told: list[Event] = [approved(plugin, to.manifest.version, added, wanted.uid)] if added else []
    return Exchange(
        command=Command.UPGRADE,
        before=plugin,
        to=to,
        way=way,
        forward=True,
        first=(*told, upgraded(plugin, to.manifest)),
        points=_UPGRADE[way],
        approve=added,
        uid=wanted.uid,
        probation_s=wanted.probation_s,
    )
