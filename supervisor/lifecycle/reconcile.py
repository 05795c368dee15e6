"""Make what is so: at boot every ready plugin is started; a worker given up makes an error; an error is tried again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import trio

from supervisor.bus import EventBus, Gap, Subscription
from supervisor.clock import Clock
from supervisor.core.errors import CallCancelled, FailedPrecondition, SupervisorError
from supervisor.core.event import PluginFailed, PluginRolledBack, PluginUpgraded, StatusChanged, WorkerStarted
from supervisor.core.lifecycle import Status, wants_worker
from supervisor.core.plugin import Plugin, PluginId, PluginKey
from supervisor.core.requires import required_first
from supervisor.lifecycle.manager import LifecycleManager
from supervisor.log import get_logger
from supervisor.report import report_failure
from supervisor.store.journal import Journal
from supervisor.store.plugins import PluginRegistry
from supervisor.worker.manager import WorkerManager
from supervisor.worker.phase import Phase

_AGAIN_S: Final = 10.0
_PROBATION_MAY_CHANGE: Final = frozenset({PluginUpgraded.TYPE, PluginRolledBack.TYPE, StatusChanged.TYPE})


class Reconciler:
    """Run it beside the lifecycle manager, from the first moment that workers may crash."""

    def __init__(
        self,
        registry: PluginRegistry,
        workers: WorkerManager,
        lifecycle: LifecycleManager,
        bus: EventBus,
        journal: Journal,
        clock: Clock,
        *,
        recover_after_s: float,
    ) -> None:
        self._registry = registry
        self._workers = workers
        self._lifecycle = lifecycle
        self._bus = bus
        self._journal = journal
        self._clock = clock
        self._recover_after_s = recover_after_s
        self._recovering: dict[str, float] = {}
        """Plugins in error that have a task looking after them, one each, and when it tries them next."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Started means: the subscription stands, every ready plugin's worker is wanted, and the boot is under way."""
        with self._bus.subscribe() as events:
            async with trio.open_nursery() as nursery:
                # All are wanted before anybody can look: what is due finds its worker on the way, not unwanted.
                self._boot(nursery)
                nursery.start_soon(self._watch_given_up, nursery)
                task_status.started()
                await self._follow(events, nursery)

    def next_recovery_in_s(self, plugin_id: str) -> float | None:
        """Seconds until a plugin in error is tried again; 0: it is tried now, or as soon as what it requires has been.
        None: it is not tried."""
        plugin, at = self._registry.find(plugin_id), self._recovering.get(plugin_id)
        if plugin is None or at is None or not _is_to_recover(plugin):
            return None
        return max(0.0, at - trio.current_time())

    def _boot(self, nursery: trio.Nursery) -> None:
        """What is due begins, each in a task of its own: one that fails, or waits for another, holds up nobody. How
        many start at once is for the worker manager to limit: there, who waits for another is not counted."""
        plugins = _required_first(self._registry.all())
        self._lifecycle.owing.update(plugin.id for plugin in plugins)
        for plugin in plugins:
            if wants_worker(plugin.status):
                self._workers.want(plugin, queued=True)
                nursery.start_soon(self._see_it_up, plugin)
            if plugin.probation_until is not None:
                nursery.start_soon(self._see_probation_through, plugin.id)
        self._recover_all([plugin for plugin in plugins if _is_to_recover(plugin)], nursery)
        nursery.start_soon(self._say_all, [plugin for plugin in plugins if not wants_worker(plugin.status)])

    async def _see_it_up(self, plugin: Plugin) -> None:
        with _reporting(plugin.id):
            try:
                await self._workers.wait_up(plugin.id)
            except CallCancelled:
                return  # A command was there first.
            except FailedPrecondition as error:
                get_logger().info("plugin.waits", plugin=plugin.key, waiting_for=error.details.get("waiting_for"))
            except SupervisorError as error:
                get_logger().warning("plugin.not_up_at_boot", plugin=plugin.key, error=error.message)

    async def _say_all(self, plugins: Iterable[Plugin]) -> None:
        for plugin in plugins:
            await self._say_what_is_owed(plugin.id)

    async def _say_what_is_owed(self, plugin_id: str) -> None:
        with _reporting(plugin_id):
            try:
                await self._lifecycle.say_what_is_owed(plugin_id, self._journal)
            except SupervisorError as error:
                get_logger().warning("plugin.word_not_said", plugin=plugin_id, error=error.message)

    def _recover_all(self, failed: Iterable[Plugin], nursery: trio.Nursery) -> None:
        """`failed` in the order of who requires whom."""
        tried: dict[PluginKey, trio.Event] = {}
        for plugin in failed:
            # Only for those that come first: where the requirements form a circle nobody waits for ever.
            ahead = [tried[key] for key in plugin.manifest.requires if key in tried]
            self._recovering[plugin.id] = trio.current_time()
            tried[plugin.key] = trio.Event()
            nursery.start_soon(self._recover_at_boot, plugin, ahead, tried[plugin.key])

    async def _recover_at_boot(self, plugin: Plugin, ahead: Sequence[trio.Event], tried: trio.Event) -> None:
        try:
            # While it is in error still: what this recovery says comes after it.
            await self._say_what_is_owed(plugin.id)
            for other in ahead:
                await other.wait()
            await self._recover(plugin.id)
        finally:
            tried.set()
            del self._recovering[plugin.id]
        await self._recover_until_up(plugin.id)

    async def _follow(self, events: Subscription, nursery: trio.Nursery) -> None:
        async for event in events:
            if isinstance(event, Gap):
                for plugin in self._registry.all():
                    nursery.start_soon(self._recover_until_up, plugin.id)
                    nursery.start_soon(self._see_probation_through, plugin.id)
                    if plugin.id in self._lifecycle.owing and self._workers.phase(plugin.id) is Phase.RUNNING:
                        nursery.start_soon(self._say_what_is_owed, plugin.id)
            elif event.type == PluginFailed.TYPE:
                nursery.start_soon(self._recover_until_up, event.plugin_id)
            elif event.type in _PROBATION_MAY_CHANGE:
                nursery.start_soon(self._see_probation_through, event.plugin_id)
            elif event.type == WorkerStarted.TYPE and event.plugin_id in self._lifecycle.owing:
                nursery.start_soon(self._say_what_is_owed, event.plugin_id)

    async def _watch_given_up(self, nursery: trio.Nursery) -> None:
        while True:
            nursery.start_soon(self._look, await self._workers.wait_given_up())

    async def _look(self, plugin_id: str) -> None:
        with _reporting(plugin_id):
            while True:
                if await self._gave_up(plugin_id):
                    return
                await trio.sleep(_AGAIN_S)

    async def _gave_up(self, plugin_id: str) -> bool:
        """False when it could not be stored, as on a full disk: it has to be tried again."""
        try:
            await self._lifecycle.give_up(plugin_id)
        except SupervisorError as error:
            get_logger().warning("plugin.give_up_not_stored", plugin=plugin_id, error=error.message)
            return False
        return True

    async def _see_probation_through(self, plugin_id: str) -> None:
        with _reporting(plugin_id):
            await self._lifecycle.probation.see_it_through(PluginId(plugin_id), self._clock)

    async def _recover_until_up(self, plugin_id: str) -> None:
        """Try again and again, as long as it is in error for no operator's reason."""
        if self._recover_after_s <= 0 or plugin_id in self._recovering:
            return
        try:
            while (plugin := self._registry.find(plugin_id)) and _is_to_recover(plugin):
                self._recovering[plugin_id] = trio.current_time() + self._recover_after_s
                await trio.sleep(self._recover_after_s)
                await self._recover(plugin_id)
        finally:
            self._recovering.pop(plugin_id, None)

    async def _recover(self, plugin_id: str) -> None:
        with _reporting(plugin_id):
            await self._lifecycle.recover(plugin_id)


@contextmanager
def _reporting(plugin_id: str) -> Iterator[None]:
    """One plugin's trouble must not end the care for the others, nor the daemon."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  whatever it is, it is reported
        report_failure("plugin.not_reconciled", error, plugin=plugin_id)


def _required_first(plugins: Iterable[Plugin]) -> list[Plugin]:
    by_key = {plugin.key: plugin for plugin in plugins}
    order = required_first(by_key, {key: plugin.manifest.requires for key, plugin in by_key.items()})
    return [by_key[key] for key in order]


def _is_to_recover(plugin: Plugin) -> bool:
    return plugin.status is Status.ERROR and plugin.recoverable
