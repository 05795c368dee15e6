"""WorkerWatch: a task for each plugin whose runs wait for its worker, until that is up or is not going to be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from supervisor.core.errors import SupervisorError
from supervisor.core.plugin import PluginId
from supervisor.jobs.workers import Workers
from supervisor.log import Logger

_RETRY_S: Final = 1.0


class WorkerWatch:
    def __init__(
        self,
        workers: Workers,
        log: Logger,
        *,
        on_up: Callable[[PluginId], None],
        on_none: Callable[[PluginId, str], None],
    ) -> None:
        """`on_none`: there is to be no worker, and why. `on_up`: it is to be looked at again, also after that."""
        self._workers = workers
        self._log = log
        self._on_up = on_up
        self._on_none = on_none
        self._watched: set[PluginId] = set()

    def begin(self, nursery: trio.Nursery, plugin_id: PluginId) -> None:
        """Unless it is watched already."""
        if plugin_id not in self._watched:
            self._watched.add(plugin_id)
            nursery.start_soon(self._watch, plugin_id)

    async def _watch(self, plugin_id: PluginId) -> None:
        try:
            while self._workers.up_since(plugin_id) is None:
                try:
                    await self._workers.wait_running(plugin_id)
                except SupervisorError as error:
                    self._log.debug("runs.wait_in_vain", plugin_id=plugin_id, why=error.message)
                if self._workers.up_since(plugin_id) is not None:
                    break
                # A program may also have finished its work: then it is not up, and is not started again.
                if not self._workers.comes_back(plugin_id):
                    self._on_none(plugin_id, self._workers.why_down(plugin_id))
                    break
                await trio.sleep(_RETRY_S)  # It has gone again, or was wanted again a moment ago.
        finally:
            self._watched.discard(plugin_id)
        self._on_up(plugin_id)
