"""Replanning: the wall clock was turned back, so what is due then is due earlier than the rows say."""

from __future__ import annotations

from typing import Final

from supervisor.core.job import Due, Job
from supervisor.jobs.cron import ScheduleError
from supervisor.jobs.due import earlier_due, schedule_of
from supervisor.log import Logger
from supervisor.store.jobs import KEEP, JobStore, Keep

STEP_MS: Final = 1_000
"""A clock that goes back by less is being adjusted. Jobs are due to the second."""


class Replanning:
    """Knows the latest instant that was looked at, over the daemon's ends too: a clock before it was turned back."""

    def __init__(self, jobs: JobStore, log: Logger, *, timezone: str) -> None:
        self._jobs = jobs
        self._log = log
        self._timezone = timezone
        self._latest_ms: int | None = None

    async def look(self, now_ms: int) -> bool:
        """Whether jobs were moved, a piece at a time, each in one transaction; what was served is not due again.

        Many small steps are seen as well as a large one. Cut short, it is done anew at the next look.
        """
        if self._latest_ms is None:
            self._latest_ms = await self._jobs.clock_ms()
        turned_back = now_ms < self._latest_ms - STEP_MS
        if turned_back:
            await self._replan(now_ms, self._latest_ms)
            self._latest_ms = now_ms
        self._latest_ms = max(self._latest_ms, now_ms)
        return turned_back

    async def _replan(self, now_ms: int, latest_ms: int) -> None:
        def decide(job: Job) -> Due | Keep | None:
            try:
                schedule = schedule_of(job.spec, job.plugin_key, self._timezone)
            except ScheduleError:
                return KEEP  # when its time comes it is found out, and told
            due = None if schedule is None else earlier_due(job, schedule, now_ms=now_ms)
            return KEEP if due is None else due

        moved, after_rowid = 0, 0
        while True:
            done = await self._jobs.replan(after_rowid, now_ms, decide)
            moved += done.jobs
            if done.after_rowid is None:
                break
            after_rowid = done.after_rowid
        await self._jobs.set_clock_ms(now_ms)
        self._log.warning(
            "jobs.replanned", why="the clock was turned back", by_s=(latest_ms - now_ms) / 1000, jobs=moved
        )
