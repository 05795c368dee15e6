"""Unload and purge: rows go in one transaction, then the files that they named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from supervisor.core.errors import InvalidTransition, SupervisorError
from supervisor.core.event import Event, PluginUnloaded, StatusChanged
from supervisor.core.lifecycle import Command, Status, next_status, wants_worker
from supervisor.core.plugin import Plugin, PluginKey
from supervisor.faultpoints import FaultPoint
from supervisor.lifecycle.cleaning import Cleaner, Removing
from supervisor.lifecycle.parts import Parts
from supervisor.log import get_logger


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    stopped: FaultPoint | None
    stored: FaultPoint
    data_removed: FaultPoint | None
    removing: Removing


_F = FaultPoint
_UNLOAD: Final = Points(
    stopped=_F.UNLOAD_STOPPED,
    stored=_F.UNLOAD_STORED,
    data_removed=None,
    removing=Removing(files_removed=_F.UNLOAD_FILES_REMOVED, intent_ended=_F.UNLOAD_INTENT_ENDED),
)
_ERASE: Final = Points(
    stopped=_F.ERASE_STOPPED,
    stored=_F.ERASE_STORED,
    data_removed=_F.ERASE_DATA_REMOVED,
    removing=Removing(files_removed=_F.ERASE_FILES_REMOVED, intent_ended=_F.ERASE_INTENT_ENDED),
)
_PURGE: Final = Points(
    stopped=None,
    stored=_F.PURGE_STORED,
    data_removed=_F.PURGE_DATA_REMOVED,
    removing=Removing(files_removed=_F.PURGE_FILES_REMOVED, intent_ended=_F.PURGE_INTENT_ENDED),
)


class Remover:
    """The lifecycle manager's part that lets plugins go."""

    def __init__(self, parts: Parts, cleaner: Cleaner) -> None:
        self._parts = parts
        self._cleaner = cleaner

    async def unload(self, name: str, *, remove_data: bool) -> None:
        parts = self._parts
        # Refused before an activation is overtaken in vain.
        parts.requirements.refuse_unload(parts.registry.get(name))
        async with parts.locks.hold(parts.registry.get(name).key, overtaking="unload"):
            plugin = parts.registry.get(name)
            if plugin.status is not Status.UNINSTALLED:
                await self._uninstall(plugin, remove_data=remove_data)
            elif remove_data:
                await self._erase(plugin, _ERASE)
            else:
                raise InvalidTransition(
                    f"plugin {plugin.key!r} is uninstalled already; its data is still there: "
                    "unload it with remove_data to delete that too",
                    plugin=plugin.key,
                    status=str(plugin.status),
                    command="unload",
                )
            get_logger().info("plugin.unloaded", plugin=plugin.key, remove_data=remove_data)

    async def purge(self, uninstalled_before: datetime) -> list[PluginKey]:
        """Delete what is left of plugins that have been uninstalled since then; their keys.

        Raises:
            SupervisorError: one could not be deleted; the others may have been.
        """
        gone = []
        for found in self._parts.registry.all():
            async with self._parts.locks.hold(found.key):
                # Looked at again: it may have been installed meanwhile.
                plugin = self._parts.registry.find(found.id)
                if plugin and plugin.status is Status.UNINSTALLED and plugin.updated_at < uninstalled_before:
                    await self._erase(plugin, _PURGE)
                    get_logger().info("plugin.purged", plugin=plugin.key)
                    gone.append(plugin.key)
        return gone

    async def _uninstall(self, plugin: Plugin, *, remove_data: bool) -> None:
        parts, points = self._parts, _ERASE if remove_data else _UNLOAD
        status = next_status(plugin.key, plugin.status, Command.UNLOAD)
        gone = PluginUnloaded(plugin_id=plugin.id, plugin_key=plugin.key, remove_data=remove_data)
        view = parts.workers.view(plugin.id)
        parts.workers.unwant(plugin.id)
        try:
            await parts.workers.wait_stopped(plugin.id)
            self._cleaner.reach(points.stopped)
            async with parts.requirements.graph:
                # Again: one that requires it may have come while it was being stopped.
                parts.requirements.refuse_unload(plugin)
                if remove_data:
                    changed = StatusChanged(
                        plugin_id=plugin.id, plugin_key=plugin.key, previous=str(plugin.status), status=str(status)
                    )
                    found = await parts.registry.delete(plugin.id, then=[changed, gone])
                else:
                    found = await parts.registry.uninstall(plugin, then=[gone])
        except SupervisorError:
            # It was not to be: the row says ready, so it gets its worker back, unless an operator had stopped that.
            if wants_worker(plugin.status) and (view.wanted or view.gave_up):
                parts.workers.want(plugin)
            raise
        await self._remove(plugin, *found, points)

    async def _erase(self, plugin: Plugin, points: Points) -> None:
        """Of one that is uninstalled."""
        gone: Event = PluginUnloaded(plugin_id=plugin.id, plugin_key=plugin.key, remove_data=True)
        await self._remove(plugin, *await self._parts.registry.delete(plugin.id, then=[gone]), points)

    async def _remove(self, plugin: Plugin, intent: int, package_dirs: Sequence[str], points: Points) -> None:
        self._cleaner.reach(points.stored)
        self._parts.workers.forget(plugin.id)
        if points.data_removed is not None:
            await self._parts.data.remove(plugin.key, plugin.id)
            self._cleaner.reach(points.data_removed)
        await self._cleaner.remove(intent, package_dirs, points.removing)
