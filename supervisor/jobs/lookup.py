"""JobLookup: a job as people name it, and when it is due."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

import trio

from supervisor.core.errors import FailedPrecondition, NotFound
from supervisor.core.job import Due, Job
from supervisor.core.problem import nearest
from supervisor.jobs.coordinator import JobCoordinator, Plugins
from supervisor.jobs.cron import Schedule, ScheduleError
from supervisor.jobs.due import due_after, first_due, schedule_of
from supervisor.store.jobs import JobStore

SETTLE_S: Final = 2.0
_SHOWN_JOBS: Final = 10


class JobLookup:
    def __init__(self, plugins: Plugins, jobs: JobStore, coordinator: JobCoordinator, *, timezone: str) -> None:
        self._plugins = plugins
        self._jobs = jobs
        self._coordinator = coordinator
        self.timezone: Final = timezone
        """Of jobs that name none."""

    async def job(self, name: str) -> Job:
        """A job by `<plugin>/<key>` or its id.

        A plugin that became ready a moment ago may not have its jobs yet: that is waited for, SETTLE_S at most.

        Raises:
            NotFound: there is none; the message says what may have been meant.
        """
        try:
            return await self._jobs.get(name)
        except NotFound:
            with trio.move_on_after(SETTLE_S):
                await self._coordinator.wait_settled()
            try:
                return await self._jobs.get(name)
            except NotFound as unknown:
                raise self._with_near_names(name, unknown) from None

    def zone(self, job: Job) -> str:
        return job.spec.timezone or self.timezone

    def schedule(self, job: Job) -> Schedule | None:
        """None: it runs by hand only.

        Raises:
            FailedPrecondition: what passed at install is wrong by now, as a zone that was renamed.
        """
        try:
            return schedule_of(job.spec, job.plugin_key, self.timezone)
        except ScheduleError as error:
            raise FailedPrecondition(f"the schedule of job {job.name} is wrong: {error}", job=job.name) from error

    def due_after(self, job: Job, after_ms: int) -> Due | None:
        schedule = self.schedule(job)
        return None if schedule is None else due_after(job.spec, schedule, job.plugin_id, after_ms)

    def first_due(self, job: Job, now_ms: int) -> Due | None:
        """When a job is due that is resumed now: nothing that passed, and nothing that was served already.

        @reboot has to wait for the daemon's next start.
        """
        resumed = replace(job, paused=False, plugin_paused=False, next_due_ms=None, next_fire_ms=None)
        return first_due(
            job.spec, self.schedule(job), resumed, job.plugin_id, timing=job.timing, now_ms=now_ms, starting=False
        )

    def in_zone(self, job: Job, instant_ms: int) -> str:
        """ISO 8601 with the offset of the job's zone."""
        whole = instant_ms % 1000 == 0
        instant = datetime.fromtimestamp(instant_ms / 1000, ZoneInfo(self.zone(job)))
        return instant.isoformat(timespec="seconds" if whole else "milliseconds")

    def _with_near_names(self, name: str, unknown: NotFound) -> NotFound:
        plugin_name, slash, key = name.partition("/")
        named = self._plugins.find(plugin_name)
        plugin = named
        if plugin is None and slash:
            plugin = self._plugins.find(nearest(plugin_name, [each.key for each in self._plugins.all()]) or "")
        if plugin is None:
            return unknown
        keys = [job.key for job in plugin.manifest.jobs]
        if near := nearest(key, keys):
            words = f"did you mean '{plugin.key}/{near}'?"
        elif named is None:
            return unknown
        elif keys:
            listed = ", ".join(f"{plugin.key}/{each}" for each in keys[:_SHOWN_JOBS])
            words = f"its plugin has {listed}{', …' if len(keys) > _SHOWN_JOBS else ''}"
        else:
            words = f"the plugin {plugin.key} declares no jobs"
        return NotFound(f"there is no job {unknown.details['job']!r}; {words}", **unknown.details)
