"""EditableWatcher: restarts the worker of a plugin that is run in place, 500 ms after the last change of its files."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

import trio

from supervisor.bus import EventBus, Gap
from supervisor.core.errors import NotFound, SupervisorError
from supervisor.core.plugin import Plugin, PluginId
from supervisor.lifecycle.in_place import is_to_refresh
from supervisor.lifecycle.watching import Tell, watch_directory
from supervisor.log import get_logger
from supervisor.report import report_failure
from supervisor.store.plugins import PluginRegistry

SETTLE_S: Final = 0.5
_AGAIN_S: Final = 5.0
_MAX_NAMED: Final = 5

Watch = Callable[[Path, Tell, Callable[[], None]], Awaitable[None]]
Note = Callable[[Plugin, str, str], None]
"""Plugin, level, message: into the plugin's log."""
Refresh = Callable[[str], Awaitable[Plugin | None]]


class EditableWatcher:
    """One task for each plugin that runs in place and is ready, or has failed."""

    def __init__(
        self, registry: PluginRegistry, bus: EventBus, refresh: Refresh, note: Note, watch: Watch = watch_directory
    ) -> None:
        self._registry = registry
        self._bus = bus
        self._refresh = refresh
        self._note = note
        self._watch = watch
        self._watched: dict[PluginId, tuple[Path, trio.CancelScope]] = {}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Started means: what is there is about to be watched, and what comes will be."""
        with self._bus.subscribe() as events:
            async with trio.open_nursery() as nursery:
                for plugin in self._registry.all():
                    self._look(plugin.id, nursery)
                task_status.started()
                async for event in events:
                    if isinstance(event, Gap):
                        for id_ in {plugin.id for plugin in self._registry.all()} | set(self._watched):
                            self._look(id_, nursery)
                    elif event.plugin_id is not None and event.type.startswith("plugin."):
                        self._look(PluginId(event.plugin_id), nursery)

    def _look(self, plugin_id: PluginId, nursery: trio.Nursery) -> None:
        plugin = self._registry.find(plugin_id)
        wanted = Path(plugin.editable) if plugin and plugin.editable and is_to_refresh(plugin) else None
        there, scope = self._watched.get(plugin_id, (None, None))
        if wanted == there:
            return
        if scope is not None:
            scope.cancel(reason="it is not run in place any more")
            del self._watched[plugin_id]
        if wanted is not None and plugin is not None:
            scope = trio.CancelScope()
            self._watched[plugin_id] = wanted, scope
            nursery.start_soon(self._keep, plugin, wanted, scope)

    async def _keep(self, plugin: Plugin, directory: Path, scope: trio.CancelScope) -> None:
        with scope:
            try:
                changes = Changes()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._watch_on_and_on, plugin, directory, changes)
                    while True:
                        await self._apply(plugin, await changes.settled())
            except Exception as error:  # noqa: BLE001  one plugin's trouble must not end the care for the others
                report_failure("plugin.not_watched", error, plugin=plugin.key)
                self._watched.pop(plugin.id, None)

    async def _watch_on_and_on(self, plugin: Plugin, directory: Path, changes: Changes) -> None:
        lost = False

        def began() -> None:
            nonlocal lost
            if lost:
                lost = False
                self._note(plugin, "info", f"{directory} is watched again")
                changes.tell(["."])  # Whatever has changed meanwhile.

        while True:
            try:
                await self._watch(directory, changes.tell, began)
            except OSError as error:
                if not lost:
                    self._warn(plugin, f"{directory} cannot be watched, so that changes restart nothing: {error}")
                lost = True
            await trio.sleep(_AGAIN_S)

    async def _apply(self, plugin: Plugin, paths: Sequence[str]) -> None:
        named = ", ".join(paths[:_MAX_NAMED]) + (" and more" * (len(paths) > _MAX_NAMED))
        self._note(plugin, "info", f"changed: {named}")
        get_logger().info("plugin.files_changed", plugin=plugin.key, files=named)
        try:
            after = await self._refresh(plugin.id)
        except NotFound:
            return  # It was removed as we looked.
        except SupervisorError as error:
            self._warn(plugin, f"not restarted: {error.message}")
            return
        if after is not None:
            self._note(plugin, "info", f"version {after.version} is started anew")

    def _warn(self, plugin: Plugin, message: str) -> None:
        self._note(plugin, "warning", message)
        get_logger().warning("plugin.not_refreshed", plugin=plugin.key, why=message)


class Changes:
    """What has changed since the last time that it had settled."""

    def __init__(self) -> None:
        self._paths: dict[str, None] = {}
        """As many as are named; whoever makes and removes files all the time is told to have changed these."""
        self._last = 0.0
        self._some = trio.Event()

    def tell(self, paths: Sequence[str]) -> None:
        for path in paths:
            if len(self._paths) <= _MAX_NAMED:
                self._paths[path] = None
        self._last = trio.current_time()
        self._some.set()

    async def settled(self) -> list[str]:
        """Wait until there is a change, and then none for 500 ms."""
        await self._some.wait()
        while trio.current_time() < self._last + SETTLE_S:  # noqa: ASYNC110  each change moves the end
            await trio.sleep_until(self._last + SETTLE_S)
        paths, self._paths, self._some = list(self._paths), {}, trio.Event()
        return paths
