"""Make what is so: at boot every ready plugin is started; a worker given up makes an error; an error is tried again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import trio

from supervisor.bus import EventBus, Gap, Subscription
from supervisor.core.errors import CallCancelled, SupervisorError
from supervisor.core.event import PluginFailed
from supervisor.core.lifecycle import Status, wants_worker
from supervisor.core.plugin import Plugin, PluginId
from supervisor.lifecycle.manager import LifecycleManager
from supervisor.log import get_logger
from supervisor.report import report_failure
from supervisor.store.journal import Journal
from supervisor.store.plugins import PluginRegistry
from supervisor.worker.manager import WorkerManager

_AGAIN_S: Final = 10.0


class Reconciler:
    """Run it beside the lifecycle manager, from the first moment that workers may crash."""

    def __init__(
        self,
        registry: PluginRegistry,
        workers: WorkerManager,
        lifecycle: LifecycleManager,
        bus: EventBus,
        journal: Journal,
        *,
        start_concurrency: int,
        recover_after_s: float,
    ) -> None:
        self._registry = registry
        self._workers = workers
        self._lifecycle = lifecycle
        self._bus = bus
        self._journal = journal
        self._start_concurrency = start_concurrency
        self._recover_after_s = recover_after_s
        self._recovering: set[str] = set()
        """Plugins that `_recover_until_up` looks after; at most one task each."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Started means: the subscription stands, every ready plugin's worker is wanted, and the boot is under way."""
        with self._bus.subscribe() as events:
            async with trio.open_nursery() as nursery:
                # All are wanted before anybody can look: what is due finds its worker on the way, not unwanted.
                nursery.start_soon(self._boot, self._want_all(), nursery)
                nursery.start_soon(self._watch_given_up, nursery)
                task_status.started()
                await self._follow(events, nursery)

    def _want_all(self) -> dict[PluginId, trio.Event]:
        gates = {plugin.id: trio.Event() for plugin in self._registry.all() if wants_worker(plugin.status)}
        for plugin in self._registry.all():
            if plugin.id in gates:
                self._workers.want(plugin, gate=gates[plugin.id])
        return gates

    async def _boot(self, gates: Mapping[PluginId, trio.Event], nursery: trio.Nursery) -> None:
        """In install order, so many at a time; one that fails does not hold up the others."""
        slots = trio.Semaphore(self._start_concurrency)
        for plugin in self._registry.all():
            if plugin.id not in gates:
                await self._say_what_is_owed(plugin)
        for plugin in self._registry.all():
            if plugin.id in gates:
                start = self._start_behind(gates[plugin.id])
            elif _is_to_recover(plugin):
                start = self._recover_at_boot(nursery)
            else:
                continue
            await slots.acquire()
            nursery.start_soon(self._in_slot, slots, start, plugin)

    async def _in_slot(
        self, slots: trio.Semaphore, start: Callable[[Plugin], Awaitable[object]], plugin: Plugin
    ) -> None:
        try:
            await start(plugin)
        finally:
            slots.release()

    def _start_behind(self, gate: trio.Event) -> Callable[[Plugin], Awaitable[object]]:
        async def start(plugin: Plugin) -> None:
            gate.set()
            try:
                await self._workers.wait_up(plugin.id)
                await self._say_what_is_owed(plugin)
            except CallCancelled:
                return  # A command was there first.
            except SupervisorError as error:
                get_logger().warning("plugin.not_up_at_boot", plugin=plugin.key, error=error.message)

        return start

    async def _say_what_is_owed(self, plugin: Plugin) -> None:
        try:
            await self._lifecycle.say_what_is_owed(plugin.id, self._journal)
        except SupervisorError as error:
            get_logger().warning("plugin.word_not_said", plugin=plugin.key, error=error.message)

    def _recover_at_boot(self, nursery: trio.Nursery) -> Callable[[Plugin], Awaitable[object]]:
        async def recover(plugin: Plugin) -> None:
            await self._lifecycle.recover(plugin.id)
            nursery.start_soon(self._recover_until_up, plugin.id)

        return recover

    async def _follow(self, events: Subscription, nursery: trio.Nursery) -> None:
        async for event in events:
            if isinstance(event, Gap):
                for plugin in self._registry.all():
                    nursery.start_soon(self._recover_until_up, plugin.id)
            elif event.type == PluginFailed.TYPE:
                nursery.start_soon(self._recover_until_up, event.plugin_id)

    async def _watch_given_up(self, nursery: trio.Nursery) -> None:
        while True:
            nursery.start_soon(self._look, await self._workers.wait_given_up())

    async def _look(self, plugin_id: str) -> None:
        try:
            while True:
                if await self._gave_up(plugin_id):
                    return
                await trio.sleep(_AGAIN_S)
        except Exception as error:  # noqa: BLE001  one plugin's trouble must not end the watch over the others
            report_failure("plugin.give_up_failed", error, plugin=plugin_id)

    async def _gave_up(self, plugin_id: str) -> bool:
        """False when it could not be stored, as on a full disk: it has to be tried again."""
        try:
            await self._lifecycle.give_up(plugin_id)
        except SupervisorError as error:
            get_logger().warning("plugin.give_up_not_stored", plugin=plugin_id, error=error.message)
            return False
        return True

    async def _recover_until_up(self, plugin_id: str) -> None:
        """Try again and again, as long as it is in error for no operator's reason."""
        if self._recover_after_s <= 0 or plugin_id in self._recovering:
            return
        self._recovering.add(plugin_id)
        try:
            while (plugin := self._registry.find(plugin_id)) and _is_to_recover(plugin):
                await trio.sleep(self._recover_after_s)
                await self._lifecycle.recover(plugin_id)
        finally:
            self._recovering.discard(plugin_id)


def _is_to_recover(plugin: Plugin) -> bool:
    return plugin.status is Status.ERROR and plugin.recoverable
