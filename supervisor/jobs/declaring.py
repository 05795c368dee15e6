"""Declaring: what a plugin's manifest says of jobs becomes rows, each due by its own zone's rules."""

from __future__ import annotations

from dataclasses import replace

from supervisor.clock import Clock, to_ms
from supervisor.core.job import Due, Job
from supervisor.core.manifest import JobSpec
from supervisor.core.plugin import Plugin, PluginId
from supervisor.jobs.cron import ScheduleError
from supervisor.jobs.cron_zones import ZoneUnreadable
from supervisor.jobs.due import CLOCK_SET_MS, RULES, first_due, schedule_of, timing
from supervisor.jobs.zones import ZoneRules
from supervisor.log import Logger
from supervisor.store.jobs import JobStore


class Declaring:
    def __init__(self, jobs: JobStore, zones: ZoneRules, clock: Clock, log: Logger, *, timezone: str) -> None:
        """`timezone`: of jobs that name none."""
        self._jobs = jobs
        self._zones = zones
        self._clock = clock
        self._log = log
        self._timezone = timezone
        self._declared: dict[PluginId, str] = {}  # by which package the jobs on the schedule are
        self._floor_ms = 0

    async def load(self) -> None:
        """What was declared when the daemon before ended; once, before anything else is done."""
        sources = await self._jobs.sources()
        self._floor_ms = await self._jobs.clock_ms()
        self._declared = {plugin_id: source.partition("|")[0] for plugin_id, source in sources.items()}

    def forget(self, plugin_id: PluginId) -> None:
        """Its jobs are off the schedule."""
        self._declared.pop(plugin_id, None)

    def source(self, plugin: Plugin) -> str:
        """What its jobs are made from: the same again needs no sync. "" for files that change in place."""
        return "" if plugin.editable else f"{plugin.package_dir}|{self._timezone}|{RULES}"

    def _since_ms(self, plugin: Plugin, now_ms: int) -> int:
        """From when on they are due: the daemon may have died between the plugin's change of status or package and
        this. Not from before anything that the scheduler has done since."""
        if plugin.editable or self._declared.get(plugin.id) == plugin.package_dir:
            return now_ms
        return min(now_ms, max(to_ms(plugin.updated_at), self._floor_ms))

    async def declare(self, plugin: Plugin, *, starting: bool) -> None:
        """Sync them; `starting`: the plugin is ready for the first time since the daemon began."""
        specs = [self._in_zone(job) for job in plugin.manifest.jobs]
        rules = await self._zones.learn(spec.timezone for spec in specs if spec.timezone and spec.timed)
        now_ms = to_ms(self._clock.now())
        since_ms = self._since_ms(plugin, now_ms)
        if now_ms < CLOCK_SET_MS:
            # So that stored due times hold; the others are due from when the clock is set: see `Replanning.renew`.
            now_ms = max(now_ms, await self._jobs.clock_ms())
        refused: dict[str, str] = {}

        def first(spec: JobSpec, stored: Job | None) -> tuple[Due | None, str]:
            """In the database's thread: reading a thousand schedules is not to hold up the event loop."""
            try:
                schedule = schedule_of(spec, plugin.key, self._timezone)
            except ZoneUnreadable:
                raise  # it may be readable again in a moment: the sync is tried again
            except ScheduleError as error:
                refused[spec.key] = str(error)
                return None, ""
            zone = spec.timezone or self._timezone
            told = timing(spec, zone, rules.get(zone, ""))
            return first_due(
                spec,
                schedule,
                stored,
                plugin.id,
                timing=told,
                now_ms=now_ms,
                since_ms=since_ms,
                starting=starting,
            ), told

        jobs = await self._jobs.sync(plugin.id, plugin.key, specs, first, source=self.source(plugin))
        self._declared[plugin.id] = plugin.package_dir
        for key, why in refused.items():
            # It passed when it was installed; the tz database may have changed since. It still runs by hand.
            self._log.error("job.schedule_refused", job=f"{plugin.key}/{key}", error=why)
        timed = sum(job.next_due_ms is not None for job in jobs)
        self._log.info("jobs.scheduled", plugin=plugin.key, jobs=len(jobs), timed=timed)

    def _in_zone(self, spec: JobSpec) -> JobSpec:
        """Its zone is stored with it, where it says when it is due."""
        return replace(spec, timezone=self._timezone) if spec.timed and spec.timezone is None else spec
