"""Probation: at its end a version may stay if its worker is up; if not, it counts as given up. Outlives the daemon."""

from __future__ import annotations

import trio

from supervisor.clock import Clock
from supervisor.core.errors import ActivationFailed, SupervisorError
from supervisor.core.lifecycle import wants_worker
from supervisor.core.plugin import Plugin, PluginId
from supervisor.faultpoints import FaultPoint
from supervisor.lifecycle.activation import Activation
from supervisor.lifecycle.decide import probation_failed
from supervisor.lifecycle.locks import PluginLock
from supervisor.lifecycle.parts import Parts
from supervisor.lifecycle.rollback import Rollback
from supervisor.log import get_logger

_AGAIN_S = 10.0


class Probation:
    def __init__(self, parts: Parts, activation: Activation, rollback: Rollback) -> None:
        self._parts = parts
        self._registry = parts.registry
        self._activation = activation
        self._rollback = rollback
        self._watched: set[PluginId] = set()

    async def see_it_through(self, plugin_id: PluginId, clock: Clock) -> None:
        """Return when the plugin is on probation no more; at once where that is so, or somebody sees to it already."""
        if plugin_id in self._watched:
            return
        self._watched.add(plugin_id)
        try:
            if self._left_s(plugin_id, clock) == 0:
                # It was over before this daemon began: its worker is to have the chance to come up.
                await self._see_it_up(plugin_id)
            while (left_s := self._left_s(plugin_id, clock)) is not None:
                if left_s > 0:
                    await trio.sleep(left_s)
                elif not await self._end(plugin_id, clock):
                    await trio.sleep(_AGAIN_S)
        finally:
            self._watched.discard(plugin_id)

    def _left_s(self, plugin_id: PluginId, clock: Clock) -> float | None:
        plugin = self._registry.find(plugin_id)
        if plugin is None or plugin.probation_until is None:
            return None
        return max(0.0, (plugin.probation_until - clock.now()).total_seconds())

    async def _see_it_up(self, plugin_id: PluginId) -> None:
        try:
            await self._parts.workers.wait_up(plugin_id)
        except SupervisorError as error:
            get_logger().info("probation.not_up", plugin=plugin_id, why=error.message)

    async def _end(self, plugin_id: PluginId, clock: Clock) -> bool:
        """False when it could not be stored, as on a full disk: it has to be tried again."""
        try:
            async with self._parts.locks.hold(self._registry.get(plugin_id).key) as lock:
                # Looked at again: a command may have come first.
                if self._left_s(plugin_id, clock) == 0:
                    await self._judge(self._registry.get(plugin_id), lock)
        except SupervisorError as error:
            get_logger().warning("probation.not_ended", plugin=plugin_id, why=error.message)
            return False
        return True

    async def _judge(self, plugin: Plugin, lock: PluginLock) -> None:
        why = probation_failed(self._parts.workers.view(plugin.id)) if wants_worker(plugin.status) else None
        if why is None:
            await self._registry.end_probation(plugin.id)
            self._parts.faults.reach(FaultPoint.PROBATION_ENDED)
            get_logger().info("probation.ended", plugin=plugin.key, version=plugin.version)
        elif not await self._rollback.go_back(plugin, why, lock):
            await self._activation.stop(plugin)
            await self._activation.fail(plugin, ActivationFailed(why))
