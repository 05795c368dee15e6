"""What every part of the lifecycle manager works with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from supervisor.core.manifest import Manifest
from supervisor.core.plugin import Plugin, PluginId, PluginKey
from supervisor.faultpoints import FaultPoints
from supervisor.lifecycle.locks import PluginLocks
from supervisor.lifecycle.packages import PackageStore
from supervisor.lifecycle.requirements import Requirements
from supervisor.store.intents import IntentLog
from supervisor.store.plugins import PluginRegistry
from supervisor.worker.manager import WorkerManager


class DataKeeper(Protocol):
    """What a plugin has on disk beside its package."""

    async def remove(self, key: PluginKey, plugin_id: PluginId | None) -> None:
        """Its data directory and its logs; no id: the daemon that knew it is gone. Does not raise: what is left over is
        logged."""


class ConfigKeeper(Protocol):
    """The `Configurator`, as far as an exchange of versions needs it."""

    async def refuse_misfit(self, plugin: Plugin, manifest: Manifest) -> None:
        """
        Raises:
            InvalidParams: the stored configuration does not fit the schema of `manifest`.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    registry: PluginRegistry
    workers: WorkerManager
    packages: PackageStore
    data: DataKeeper
    intents: IntentLog
    config: ConfigKeeper
    locks: PluginLocks
    requirements: Requirements
    faults: FaultPoints
    keep_versions: int
