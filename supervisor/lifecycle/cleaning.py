"""Cleaner: files go when no row names them any more; what was cut is ended by the next start, by its intent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import trio

from supervisor.core.errors import ResourceExhausted, SupervisorError
from supervisor.core.package import Package
from supervisor.core.plugin import PluginId, PluginKey
from supervisor.faultpoints import FaultPoint
from supervisor.lifecycle.decide import superfluous
from supervisor.lifecycle.parts import Parts
from supervisor.lifecycle.staging import Staged
from supervisor.log import get_logger
from supervisor.store.intents import Intent, IntentKind

_UNDO_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Removing:
    """Where a test may kill the daemon while packages are removed."""

    files_removed: FaultPoint | None = None
    intent_ended: FaultPoint | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Adding:
    """The same while they are added."""

    intent_written: FaultPoint
    files_stored: FaultPoint
    undone: Removing


_COLLECTING: Final = Removing(
    files_removed=FaultPoint.COLLECT_FILES_REMOVED, intent_ended=FaultPoint.COLLECT_INTENT_ENDED
)


class Cleaner:
    """Its callers hold the plugin's lock, or nothing runs yet."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    @asynccontextmanager
    async def adding(self, staged: Staged, points: Adding) -> AsyncIterator[tuple[Package, int]]:
        """A staged package in the store, and the intent that the rows which name it are to end. Leaving the block by
        an exception takes the files out again, unless a row names them."""
        parts, key = self._parts, staged.manifest.key
        try:
            await self.end_open(key)
        except OSError as error:
            raise ResourceExhausted(
                f"cannot remove what an earlier command on {key!r} left of its packages and data: "
                f"{error.filename or ''}: {error.strerror or error}; nothing was stored",
                plugin=key,
            ) from error
        intent = await parts.intents.begin(IntentKind.ADD, key, [staged.name])
        parts.faults.reach(points.intent_written)
        try:
            package = await parts.packages.commit(staged)
            parts.faults.reach(points.files_stored)
            yield package, intent
        except BaseException:
            # What it costs: the removal of one directory. What is left then, the next start removes.
            with trio.CancelScope(shield=True, deadline=trio.current_time() + _UNDO_S):
                await self.remove(intent, [staged.name], points.undone)
            raise

    async def remove(self, intent: int, package_dirs: Sequence[str], points: Removing) -> None:
        """End an intent: the files go, unless a row names them. Does not raise: it stays open then, for the next start
        or the next install."""
        try:
            await self._remove_unnamed(package_dirs)
            self.reach(points.files_removed)
            await self._parts.intents.end(intent)
            self.reach(points.intent_ended)
        except (SupervisorError, OSError) as error:
            get_logger().warning("packages.not_removed", packages=list(package_dirs), why=str(error))

    async def collect(self, plugin_id: PluginId) -> None:
        """Drop the versions of a plugin that are kept for nothing. Does not raise: they can wait."""
        plugin = self._parts.registry.find(plugin_id)
        if plugin is None:
            return
        gone = superfluous(
            self._parts.registry.versions(plugin.id),
            active_dir=plugin.package_dir,
            staged_dir=plugin.staged_dir,
            keep=self._parts.keep_versions,
        )
        if not gone:
            return
        try:
            intent = await self._parts.registry.drop_versions(plugin.id, gone)
        except SupervisorError as error:
            get_logger().warning("versions.not_dropped", plugin=plugin.key, why=error.message)
            return
        get_logger().info("versions.dropped", plugin=plugin.key, packages=list(gone))
        self.reach(FaultPoint.COLLECT_STORED)
        await self.remove(intent, gone, _COLLECTING)

    async def end_open(self, key: PluginKey | None = None, *, keep_unnamed: bool = False) -> None:
        """End every open intent, or those of one plugin. `keep_unnamed`: not the files that were being added.

        Raises:
            SupervisorError, OSError: it could not be stored, or removed.
        """
        for intent in await self._parts.intents.open():
            if key in {None, intent.plugin_key}:
                await self._end(intent, keep_unnamed=keep_unnamed)

    async def _end(self, intent: Intent, *, keep_unnamed: bool) -> None:
        get_logger().warning(
            "intent.ended", kind=str(intent.kind), plugin=intent.plugin_key, packages=list(intent.package_dirs)
        )
        if intent.kind is IntentKind.REMOVE or not keep_unnamed:
            await self._remove_unnamed(intent.package_dirs)
        # Whoever is there by now has data of its own.
        if intent.data and self._parts.registry.find(intent.plugin_key) is None:
            await self._parts.data.remove(intent.plugin_key, None)
        await self._parts.intents.end(intent.id)

    async def _remove_unnamed(self, package_dirs: Sequence[str]) -> None:
        for package_dir in package_dirs:
            if package_dir not in self._parts.registry.package_dirs():
                await self._parts.packages.remove(package_dir)

    def reach(self, point: FaultPoint | None) -> None:
        if point is not None:
            self._parts.faults.reach(point)
