"""Make what is so: at boot every ready plugin is started; a worker given up makes an error; an error is tried again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import trio

from supervisor.bus import EventBus, Gap, Subscription
from supervisor.core.errors import CallCancelled, FailedPrecondition, SupervisorError
from supervisor.core.event import PluginFailed
from supervisor.core.lifecycle import Status, wants_worker
from supervisor.core.plugin import Plugin, PluginKey
from supervisor.core.requires import required_first
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
        self._recovering: dict[str, float] = {}
        """Plugins that `_recover_until_up` looks after, at most one task each, and when it tries them next."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Started means: the subscription stands, every ready plugin's worker is wanted, and the boot is under way."""
        with self._bus.subscribe() as events:
            async with trio.open_nursery() as nursery:
                # All are wanted before anybody can look: what is due finds its worker on the way, not unwanted.
                wanted = self._want_all()
                nursery.start_soon(self._boot, wanted, nursery)
                nursery.start_soon(self._watch_given_up, nursery)
                task_status.started()
                await self._follow(events, nursery)

    def next_recovery_in_s(self, plugin_id: str) -> float | None:
        """Seconds until a plugin in error is tried again; None: it is not."""
        plugin, at = self._registry.find(plugin_id), self._recovering.get(plugin_id)
        if plugin is None or at is None or not _is_to_recover(plugin):
            return None
        return max(0.0, at - trio.current_time())

    def _want_all(self) -> list[Plugin]:
        """In install order, and each behind what it requires: in that order they come to their turn."""
        ready = _required_first(plugin for plugin in self._registry.all() if wants_worker(plugin.status))
        for plugin in ready:
            self._workers.want(plugin, queued=True)
        return ready

    async def _boot(self, wanted: list[Plugin], nursery: trio.Nursery) -> None:
        """So many at a time; one that fails, or waits for another, does not hold up the others."""
        for plugin in wanted:
            nursery.start_soon(self._see_it_up, plugin)
        for plugin in self._registry.all():
            if not wants_worker(plugin.status):
                await self._say_what_is_owed(plugin)
        failed = _required_first(plugin for plugin in self._registry.all() if _is_to_recover(plugin))
        slots, tried = trio.Semaphore(self._start_concurrency), {plugin.key: trio.Event() for plugin in failed}
        for plugin in failed:
            await slots.acquire()
            nursery.start_soon(self._recover_at_boot, plugin, slots, tried, nursery)

    async def _see_it_up(self, plugin: Plugin) -> None:
        try:
            await self._workers.wait_up(plugin.id)
            await self._say_what_is_owed(plugin)
        except CallCancelled:
            return  # A command was there first.
        except FailedPrecondition as error:
            get_logger().info("plugin.waits", plugin=plugin.key, waiting_for=error.details.get("waiting_for"))
        except SupervisorError as error:
            get_logger().warning("plugin.not_up_at_boot", plugin=plugin.key, error=error.message)

    async def _say_what_is_owed(self, plugin: Plugin) -> None:
        try:
            await self._lifecycle.say_what_is_owed(plugin.id, self._journal)
        except SupervisorError as error:
            get_logger().warning("plugin.word_not_said", plugin=plugin.key, error=error.message)

    async def _recover_at_boot(
        self, plugin: Plugin, slots: trio.Semaphore, tried: Mapping[PluginKey, trio.Event], nursery: trio.Nursery
    ) -> None:
        try:
            # Those have their slots already: they come first in the order.
            for key in plugin.manifest.requires:
                if key in tried:
                    await tried[key].wait()
            await self._lifecycle.recover(plugin.id)
        finally:
            tried[plugin.key].set()
            slots.release()
        nursery.start_soon(self._recover_until_up, plugin.id)

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
        try:
            while (plugin := self._registry.find(plugin_id)) and _is_to_recover(plugin):
                self._recovering[plugin_id] = trio.current_time() + self._recover_after_s
                await trio.sleep(self._recover_after_s)
                await self._lifecycle.recover(plugin_id)
        finally:
            self._recovering.pop(plugin_id, None)


def _required_first(plugins: Iterable[Plugin]) -> list[Plugin]:
    by_key = {plugin.key: plugin for plugin in plugins}
    order = required_first(by_key, {key: plugin.manifest.requires for key, plugin in by_key.items()})
    return [by_key[key] for key in order]


def _is_to_recover(plugin: Plugin) -> bool:
    return plugin.status is Status.ERROR and plugin.recoverable
