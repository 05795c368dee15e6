"""Probation: at its end a version may stay if its worker is up; if not, it counts as given up. Outlives the daemon."""

from __future__ import annotations

from datetime import datetime

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
from supervisor.worker.phase import Phase

_AGAIN_S = 10.0


class _Watch:
    """What is known of a plugin's probations, one after the other, as long as somebody sees to them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until: datetime | None = None
        self._ends_at = 0.0
        self._woken = trio.Event()
        self.stood = False
        """Its worker was up at the end, which may not be stored yet."""

    def left_s(self, plugin: Plugin | None) -> float | None:
        """0: it is over; None: there is none. A wall clock that is set back does not lengthen it."""
        if plugin is None or (until := plugin.probation_until) is None:
            return None
        left_s = (until - self._clock.now()).total_seconds()
        if until != self._until:
            # It began with, or before, the last change of the row: longer than from then on it never lasts.
            most_s = min(left_s, (until - plugin.updated_at).total_seconds())
            self._until, self._ends_at, self.stood = until, trio.current_time() + most_s, False
        return max(0.0, min(left_s, self._ends_at - trio.current_time()))

    def wake(self) -> None:
        self._woken.set()

    async def sleep(self, seconds: float) -> None:
        """Or until woken."""
        with trio.move_on_after(seconds):
            await self._woken.wait()
        self._woken = trio.Event()


class Probation:
    def __init__(self, parts: Parts, activation: Activation, rollback: Rollback) -> None:
        self._parts = parts
        self._registry = parts.registry
        self._activation = activation
        self._rollback = rollback
        self._watched: dict[PluginId, _Watch] = {}

    async def see_it_through(self, plugin_id: PluginId, clock: Clock) -> None:
        """Return when the plugin is on probation no more, or at once where somebody sees to it already: who does looks
        again then, for it may be another probation by now."""
        if plugin_id in self._watched:
            self._watched[plugin_id].wake()
            return
        watch = self._watched[plugin_id] = _Watch(clock)
        try:
            while (left_s := watch.left_s(self._registry.find(plugin_id))) is not None:
                if left_s > 0:
                    await watch.sleep(left_s)
                elif not await self._end(plugin_id, watch):
                    await watch.sleep(_AGAIN_S)
        finally:
            del self._watched[plugin_id]

    def fails_with(self, plugin: Plugin) -> bool:
        """Whether its probation fails when its worker is given up now: its end has not come, or its worker was not up
        then."""
        watch = self._watched.get(plugin.id)
        if plugin.probation_until is None or watch is None:
            return plugin.probation_until is not None
        return watch.left_s(plugin) != 0 or not watch.stood

    async def _end(self, plugin_id: PluginId, watch: _Watch) -> bool:
        """False when it could not be stored, as on a full disk: it has to be tried again."""
        try:
            if not watch.stood:
                await self._let_it_start(plugin_id)
                if watch.left_s(self._registry.find(plugin_id)) != 0:
                    return True
                # At its end, and not when the lock is free: what comes after it does not count.
                watch.stood = probation_failed(self._parts.workers.view(plugin_id)) is None
            async with self._parts.locks.hold(self._registry.get(plugin_id).key) as lock:
                # Looked at again: a command may have come first.
                if watch.left_s(self._registry.find(plugin_id)) == 0:
                    await self._judge(self._registry.get(plugin_id), lock, stood=watch.stood)
        except SupervisorError as error:
            get_logger().warning("probation.not_ended", plugin=plugin_id, why=error.message)
            return False
        return True

    async def _let_it_start(self, plugin_id: PluginId) -> None:
        """Who is just being started, as after a restart of its or of the daemon's, is judged by what comes of it."""
        workers = self._parts.workers
        while True:
            changed, view = workers.changed(plugin_id), workers.view(plugin_id)
            if not view.wanted or view.phase in {Phase.RUNNING, Phase.BACKOFF}:
                return
            if view.phase is not Phase.STARTING:
                break
            await changed.wait()
        try:
            await workers.wait_up(plugin_id)
        except SupervisorError as error:
            get_logger().info("probation.not_up", plugin=plugin_id, why=error.message)

    async def _judge(self, plugin: Plugin, lock: PluginLock, *, stood: bool) -> None:
        may_stay = stood or not wants_worker(plugin.status)
        why = None if may_stay else probation_failed(self._parts.workers.view(plugin.id))
        if why is None:
            await self._registry.end_probation(plugin.id)
            self._parts.faults.reach(FaultPoint.PROBATION_ENDED)
            get_logger().info("probation.ended", plugin=plugin.key, version=plugin.version)
        elif not await self._rollback.go_back(plugin, why, lock):
            await self._activation.stop(plugin)
            await self._activation.fail(plugin, ActivationFailed(why))
