"""JobCoordinator: jobs follow their plugin's status, whatever path it took: events -> which jobs are scheduled."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Final, Protocol, TypeVar

import trio

from supervisor.bus import EventBus, Gap
from supervisor.clock import Clock, to_ms
from supervisor.core.event import PluginUnloaded, Recorded, StatusChanged
from supervisor.core.lifecycle import Status
from supervisor.core.plugin import Plugin, PluginId
from supervisor.jobs.declaring import Declaring
from supervisor.jobs.due import is_on_start
from supervisor.jobs.inherited import NOT_DECLARED, InheritedRuns
from supervisor.jobs.runner import Runner
from supervisor.jobs.scheduler import JobScheduler
from supervisor.jobs.zones import ZoneRules
from supervisor.log import Logger
from supervisor.store.jobs import JobStore
from supervisor.store.runs import RunStore

T = TypeVar("T")

ZONES_EVERY_S: Final = 6 * 3600.0
"""How often the tz database is looked at."""
_RETRY_S: Final = 1.0
_MAX_RETRY_S: Final = 60.0


class Plugins(Protocol):
    """The registry: in memory, so what it says is what the latest published event tells of, or newer."""

    def find(self, name: str) -> Plugin | None: ...

    def all(self) -> Iterable[Plugin]: ...


class JobCoordinator:
    """One task listens and takes leave of plugins at once; each plugin with news has a task that catches up with it.

    A plugin whose jobs were made from the very same package by the same rules needs no sync: the start costs a query.
    """

    def __init__(
        self,
        bus: EventBus,
        plugins: Plugins,
        jobs: JobStore,
        runs: RunStore,
        scheduler: JobScheduler,
        runner: Runner,
        clock: Clock,
        log: Logger,
        *,
        timezone: str,
    ) -> None:
        """`timezone`: of jobs that name none."""
        self._bus = bus
        self._plugins = plugins
        self._jobs = jobs
        self._scheduler = scheduler
        self._runner = runner
        self._clock = clock
        self._log = log
        self._zones = ZoneRules(jobs, log)
        self._declaring = Declaring(jobs, self._zones, clock, log, timezone=timezone)
        self._inherited = InheritedRuns(runs, runner, plugins)
        self._news: dict[PluginId, bool] = {}  # True: it has not been ready all the time
        self._catching_up: set[PluginId] = set()
        self._untried: set[PluginId] = set()  # of the first look
        self._known: set[PluginId] = set()
        self._started: set[PluginId] = set()  # ready since the daemon began, at one time or another
        self._heeded_seq = 0
        self._stale = True  # all plugins are to be looked at
        self._reload = trio.Event()
        self._changed = trio.Event()
        self._looked = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled. `started()`: every plugin is being looked at, and no event after it is missed."""
        # Subscribed before the first look: what happens in between is seen twice, which does no harm.
        with self._bus.subscribe() as events:
            self._heeded_seq = self._bus.last_seq
            await self._inherited.note()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._begin, nursery)
                nursery.start_soon(self._watch_zones, nursery)
                task_status.started()
                async for event in events:
                    self._heed(nursery, event)

    async def wait_looked(self) -> None:
        """Return when every plugin's jobs were looked at for the first time: now the schedule may begin."""
        await self._looked.wait()

    async def wait_settled(self) -> None:
        """Return when the jobs are what every event published so far made of them."""
        last_seq = self._bus.last_seq
        await self._looked.wait()
        while self._catching_up or self._stale or self._heeded_seq < last_seq:
            await self._changed.wait()

    def reload(self) -> None:
        """Look at the tz database now."""
        self._reload.set()

    # The first look, and those at all plugins

    async def _begin(self, nursery: trio.Nursery) -> None:
        await self._patiently(self._declaring.load)
        await self._patiently(self._zones.load)
        await self._take_stock(nursery)
        while self._untried:
            await self._changed.wait()
        await self._patiently(self._start)
        await self._patiently(self._inherited.take_up)
        self._looked.set()
        self._tell_changed()

    async def _start(self) -> None:
        """@reboot: jobs that are due whenever the daemon starts."""
        now_ms = to_ms(self._clock.now())
        due = await self._jobs.due_at_start(now_ms, is_on_start)
        self._started |= {plugin.id for plugin in self._plugins.all() if plugin.status is Status.READY}
        if due:
            self._log.info("jobs.due_at_start", jobs=due)

    async def _take_stock(self, nursery: trio.Nursery) -> None:
        """Look at the plugins whose jobs are not what they should be."""
        sources = await self._patiently(self._jobs.sources)
        ready = {plugin.id: plugin for plugin in self._plugins.all() if plugin.status is Status.READY}
        for plugin_id in {*sources, *self._known} - ready.keys():
            self._look_at(nursery, plugin_id, left=True)
        for plugin in ready.values():
            self._known.add(plugin.id)
            source = self._declaring.source(plugin)
            if not source or sources.get(plugin.id) != source:
                self._look_at(nursery, plugin.id, left=False)
        if not self._looked.is_set():
            self._untried = set(self._catching_up)
        self._stale = False
        self._tell_changed()

    async def _watch_zones(self, nursery: trio.Nursery) -> None:
        await self._looked.wait()
        while True:
            with trio.move_on_after(_MAX_RETRY_S if self._zones.unreadable else ZONES_EVERY_S):
                await self._reload.wait()
            self._reload = trio.Event()
            if await self._patiently(self._zones.check):
                await self._take_stock(nursery)

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        delay_s = _RETRY_S
        while True:
            try:
                return await ask()
            except Exception:  # noqa: BLE001 - as with one plugin's trouble: nobody else is to look after all jobs
                self._log.exception("jobs.look_failed", retry_in_s=delay_s)
            await trio.sleep(delay_s)
            delay_s = min(2 * delay_s, _MAX_RETRY_S)

    # Events

    def _heed(self, nursery: trio.Nursery, event: Recorded | Gap) -> None:
        if isinstance(event, Gap):
            self._stale = True
            nursery.start_soon(self._take_stock, nursery)
        elif event.type in {StatusChanged.TYPE, PluginUnloaded.TYPE}:
            # Its worker is about to be stopped: the runs are cancelled first, so that they do not end as failures.
            left = event.data.get("status") != Status.READY
            self._look_at(nursery, PluginId(event.plugin_id), left=left)
        self._heeded_seq = event.last_seq if isinstance(event, Gap) else event.seq
        self._tell_changed()

    def _look_at(self, nursery: trio.Nursery, plugin_id: PluginId, *, left: bool) -> None:
        self._known.add(plugin_id)
        if left:
            self._take_leave(plugin_id)
        self._news[plugin_id] = self._news.get(plugin_id, False) or left
        if plugin_id not in self._catching_up:
            self._catching_up.add(plugin_id)
            nursery.start_soon(self._catch_up, plugin_id, name=f"jobs of {plugin_id}")

    async def _catch_up(self, plugin_id: PluginId) -> None:
        delay_s = _RETRY_S
        while plugin_id in self._news:
            left = self._news.pop(plugin_id)
            try:
                await self._make_it_so(plugin_id, left)
                delay_s = _RETRY_S
            except Exception:  # noqa: BLE001 - one plugin's trouble, logged whole, never ends the others'
                self._log.exception("jobs.sync_failed", plugin_id=plugin_id, retry_in_s=delay_s)
                self._news[plugin_id] = self._news.get(plugin_id, False) or left
                self._tried(plugin_id)
                await trio.sleep(delay_s)
                delay_s = min(2 * delay_s, _MAX_RETRY_S)
        self._catching_up.discard(plugin_id)
        self._tried(plugin_id)

    def _tried(self, plugin_id: PluginId) -> None:
        self._untried.discard(plugin_id)
        self._tell_changed()

    def _tell_changed(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    # One plugin

    async def _make_it_so(self, plugin_id: PluginId, left: bool) -> None:
        plugin = self._plugins.find(plugin_id)
        ready = plugin is not None and plugin.status is Status.READY
        if left or not ready:
            await self._unschedule(plugin_id, plugin)
        plugin = self._plugins.find(plugin_id)
        if plugin is not None and plugin.status is Status.READY:
            await self._declaring.declare(plugin, starting=plugin_id not in self._started)
            self._runner.cancel_unasked(plugin_id, frozenset(spec.key for spec in plugin.manifest.jobs), NOT_DECLARED)
            self._started.add(plugin_id)
            self._scheduler.nudge()
        elif plugin is None:
            self._known.discard(plugin_id)

    def _take_leave(self, plugin_id: PluginId) -> None:
        plugin = self._plugins.find(plugin_id)
        now = "gone" if plugin is None else str(plugin.status)
        self._runner.cancel_plugin(
            plugin_id, f"the plugin is {now}" if now != Status.READY else "the plugin was stopped"
        )

    async def _unschedule(self, plugin_id: PluginId, plugin: Plugin | None) -> None:
        self._take_leave(plugin_id)
        await self._jobs.unschedule(plugin_id, declared=plugin is not None and plugin.status is not Status.UNINSTALLED)
        self._declaring.forget(plugin_id)
        # A claim that was under way has been committed before this; now there will be no more.
        self._take_leave(plugin_id)
