"""What installed plugins require of each other: what a command must not break, and why a worker waits."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final

import trio

from supervisor.core.errors import FailedPrecondition
from supervisor.core.lifecycle import Status
from supervisor.core.manifest import Manifest
from supervisor.core.plugin import Plugin, PluginKey
from supervisor.core.requires import find_cycle
from supervisor.store.plugins import PluginRegistry
from supervisor.worker.manager import WorkerManager
from supervisor.worker.phase import Phase
from supervisor.worker.view import WorkerView


@dataclass(frozen=True, slots=True)
class Standing:
    """How a plugin stands to those that require it; `words` follow its name, as in "is disabled"."""

    words: str
    up: bool = False
    way_out: str | None = None
    """What an operator has to do first; None while it is up, or on its way."""


_NOT_READY: Final[Mapping[Status, Standing]] = {
    Status.INSTALLED: Standing("is not loaded yet", way_out="load"),
    Status.DISABLED: Standing("is disabled", way_out="enable"),
    Status.ERROR: Standing("is in error", way_out="enable"),
    Status.UPGRADE_PENDING: Standing("has an upgrade that is to be decided", way_out="approve or reject"),
    Status.UNINSTALLED: Standing("is uninstalled", way_out="install and load"),
}
_NOT_THERE: Final = Standing("is not installed", way_out="install and load")
_ON_ITS_WAY: Final[Mapping[Phase, str]] = {
    Phase.STOPPED: "waits for its turn to start",
    Phase.STARTING: "is starting",
    Phase.STOPPING: "is being restarted",
    Phase.BACKOFF: "has crashed and is to be started again",
}


def standing(plugin: Plugin | None, worker: WorkerView) -> Standing:
    if plugin is None:
        return _NOT_THERE
    if plugin.status is not Status.READY:
        return _NOT_READY[plugin.status]
    if not worker.wanted:
        return Standing(_why_unwanted(worker), way_out="start")
    if worker.phase is Phase.RUNNING:
        return Standing("is running", up=True)
    if worker.waiting_for:
        return Standing(f"waits for {' and '.join(worker.waiting_for)} itself")
    return Standing(_ON_ITS_WAY[worker.phase])


def _why_unwanted(worker: WorkerView) -> str:
    if worker.phase is not Phase.STOPPED:
        return "is being stopped"
    if worker.finished is not None:
        return f"has finished ({worker.finished})"
    return "was given up after its crashes" if worker.gave_up else "has its worker stopped"


class Requirements:
    """Hold `graph` while you check and store what changes who requires whom."""

    def __init__(self, registry: PluginRegistry, workers: WorkerManager) -> None:
        self._registry = registry
        self._workers = workers
        self._graph = trio.Lock()

    @property
    def graph(self) -> AbstractAsyncContextManager[None]:
        return self._graph

    def required_by(self, key: PluginKey) -> list[PluginKey]:
        """The installed plugins that name it in their manifests."""
        return [plugin.key for plugin in self._installed() if key in plugin.manifest.requires]

    def standing(self, key: PluginKey) -> Standing:
        plugin = self._registry.find(key)
        return standing(plugin, self._workers.view(plugin.id) if plugin else WorkerView())

    def refuse_install(self, manifest: Manifest) -> None:
        """
        Raises:
            FailedPrecondition: it requires what is not there, or itself by way of others.
        """
        if not manifest.requires:
            return
        there = {plugin.key: plugin.manifest.requires for plugin in self._installed()}
        if absent := [key for key in manifest.requires if key not in there]:
            named = " and ".join(map(repr, absent))
            raise FailedPrecondition(
                f"plugin {manifest.key!r} requires {named}, which {'is' if len(absent) == 1 else 'are'} not installed: "
                "install that first, or take it out of plugin.requires",
                plugin=manifest.key,
                requires=absent,
            )
        if cycle := find_cycle(manifest.key, {**there, manifest.key: manifest.requires}):
            raise FailedPrecondition(
                f"plugins would wait for each other for ever: {' requires '.join(cycle)}; take one of these out of "
                "plugin.requires",
                plugin=manifest.key,
                cycle=cycle,
            )

    def refuse_unload(self, plugin: Plugin) -> None:
        """
        Raises:
            FailedPrecondition: others require it, and would never start again.
        """
        if dependents := self.required_by(plugin.key):
            raise FailedPrecondition(
                f"cannot uninstall (unload) plugin {plugin.key!r}: {', '.join(dependents)} "
                f"{'requires' if len(dependents) == 1 else 'require'} it and would never start again; "
                "uninstall those first, or disable this one",
                plugin=plugin.key,
                required_by=dependents,
            )

    def refuse_start(self, plugin: Plugin, command: str) -> None:
        """
        Raises:
            FailedPrecondition: it would wait for a plugin that is not on its way up, and is not meant to be.
        """
        look: list[tuple[PluginKey, ...]] = [(key,) for key in plugin.manifest.requires]
        seen: set[PluginKey] = set()
        while look:
            way = look.pop()
            found = self.standing(way[-1])
            if found.way_out:
                raise FailedPrecondition(
                    f"cannot {command} plugin {plugin.key!r}: it requires {', which requires '.join(map(repr, way))}, "
                    f"which {found.words}; {found.way_out} that one first",
                    plugin=plugin.key,
                    requires=way[-1],
                    way_out=found.way_out,
                )
            required = self._registry.find(way[-1])
            if required and not found.up and way[-1] not in seen:
                look += [(*way, key) for key in required.manifest.requires]
            seen.add(way[-1])

    def _installed(self) -> list[Plugin]:
        return [plugin for plugin in self._registry.all() if plugin.status is not Status.UNINSTALLED]
