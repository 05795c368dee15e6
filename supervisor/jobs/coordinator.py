"""JobCoordinator: jobs follow their plugin's status, whatever path it took: events -> which jobs are scheduled."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final, Protocol

import trio

from supervisor.bus import EventBus, Gap
from supervisor.clock import Clock, to_ms
from supervisor.core.event import PluginUnloaded, Recorded, StatusChanged
from supervisor.core.job import Job
from supervisor.core.lifecycle import Status
from supervisor.core.manifest import JobSpec
from supervisor.core.plugin import Plugin, PluginId
from supervisor.jobs.cron import Schedule, ScheduleError
from supervisor.jobs.plan import first_due, schedule_of
from supervisor.jobs.runner import Runner
from supervisor.jobs.scheduler import JobScheduler
from supervisor.log import Logger
from supervisor.store.jobs import JobStore

_RETRY_S: Final = 1.0
_MAX_RETRY_S: Final = 60.0


class Plugins(Protocol):
    """The registry: in memory, so what it says is what the latest published event tells of, or newer."""

    def find(self, name: str) -> Plugin | None: ...

    def all(self) -> Iterable[Plugin]: ...


class JobCoordinator:
    """One task listens and takes leave of plugins at once; each plugin with news has a task that catches up with it."""

    def __init__(
        self,
        bus: EventBus,
        plugins: Plugins,
        jobs: JobStore,
        scheduler: JobScheduler,
        runner: Runner,
        clock: Clock,
        log: Logger,
        *,
        timezone: str,
    ) -> None:
        self._bus = bus
        self._plugins = plugins
        self._jobs = jobs
        self._scheduler = scheduler
        self._runner = runner
        self._clock = clock
        self._log = log
        self._timezone = timezone
        self._news: dict[PluginId, bool] = {}  # True: it has not been ready all the time
        self._catching_up: set[PluginId] = set()
        self._known: set[PluginId] = set()
        self._started: set[PluginId] = set()
        self._heeded_seq = 0
        self._settled = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled. `started()`: every plugin is being looked at, and no event after it is missed."""
        # Subscribed before the first look: what happens in between is seen twice, which does no harm.
        with self._bus.subscribe() as events:
            self._heeded_seq = self._bus.last_seq
            async with trio.open_nursery() as nursery:
                self._look_at_all(nursery)
                task_status.started()
                async for event in events:
                    self._heed(nursery, event)

    async def wait_settled(self) -> None:
        """Return when the jobs are what every event published so far made of them."""
        last_seq = self._bus.last_seq
        while self._catching_up or self._heeded_seq < last_seq:
            self._settled = trio.Event()
            await self._settled.wait()

    def _heed(self, nursery: trio.Nursery, event: Recorded | Gap) -> None:
        if isinstance(event, Gap):
            self._look_at_all(nursery)
        elif event.type in {StatusChanged.TYPE, PluginUnloaded.TYPE}:
            # Its worker is about to be stopped: the runs are cancelled first, so that they do not end as failures.
            left = event.data.get("status") != Status.READY
            self._look_at(nursery, PluginId(event.plugin_id), left=left)
        self._heeded_seq = event.last_seq if isinstance(event, Gap) else event.seq
        self._settle()

    def _look_at_all(self, nursery: trio.Nursery) -> None:
        present = {plugin.id: plugin.status for plugin in self._plugins.all()}
        for plugin_id in {**present, **dict.fromkeys(self._known)}:
            self._look_at(nursery, plugin_id, left=present.get(plugin_id) is not Status.READY)

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
                await trio.sleep(delay_s)
                delay_s = min(2 * delay_s, _MAX_RETRY_S)
        self._catching_up.discard(plugin_id)
        self._settle()

    def _settle(self) -> None:
        if not self._catching_up:
            self._settled.set()

    async def _make_it_so(self, plugin_id: PluginId, left: bool) -> None:
        plugin = self._plugins.find(plugin_id)
        ready = plugin is not None and plugin.status is Status.READY
        if left or not ready:
            await self._unschedule(plugin_id, plugin)
        plugin = self._plugins.find(plugin_id)
        if plugin is not None and plugin.status is Status.READY:
            await self._schedule(plugin)
        elif plugin is None:
            self._known.discard(plugin_id)

    def _take_leave(self, plugin_id: PluginId) -> None:
        self._scheduler.drop_plugin(plugin_id)
        plugin = self._plugins.find(plugin_id)
        now = "gone" if plugin is None else str(plugin.status)
        self._runner.cancel_plugin(
            plugin_id, f"the plugin is {now}" if now != Status.READY else "the plugin was stopped"
        )

    async def _unschedule(self, plugin_id: PluginId, plugin: Plugin | None) -> None:
        self._take_leave(plugin_id)
        await self._jobs.unschedule(plugin_id, declared=plugin is not None and plugin.status is not Status.UNINSTALLED)
        # A claim that was under way has been committed before this; now there will be no more.
        self._take_leave(plugin_id)

    async def _schedule(self, plugin: Plugin) -> None:
        specs = [replace(job, timezone=job.timezone or self._timezone) for job in plugin.manifest.jobs]
        schedules = {spec.key: self._schedule_of(plugin, spec) for spec in specs}
        now_ms, starting = to_ms(self._clock.now()), plugin.id not in self._started

        def due(spec: JobSpec, stored: Job | None) -> int | None:
            return first_due(spec, schedules[spec.key], stored, now_ms=now_ms, starting=starting)

        jobs = await self._jobs.sync(plugin.id, plugin.key, specs, due)
        if plugin.id in self._news:
            return  # it has changed meanwhile, and will be looked at again
        self._started.add(plugin.id)
        timed = [(job, schedule) for job in jobs if (schedule := schedules[job.key]) is not None]
        self._scheduler.replace_plugin(plugin.id, timed)
        self._log.info("jobs.scheduled", plugin=plugin.key, jobs=len(jobs), timed=len(timed))

    def _schedule_of(self, plugin: Plugin, spec: JobSpec) -> Schedule | None:
        try:
            return schedule_of(spec, plugin.key, self._timezone)
        except ScheduleError as error:
            # It passed when it was installed; the zone database may have changed since. It still runs by hand.
            self._log.error("job.schedule_refused", job=f"{plugin.key}/{spec.key}", error=str(error))
            return None
