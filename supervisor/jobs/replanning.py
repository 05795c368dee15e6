"""Replanning: the wall clock was turned back, or was not set, so that due times are others than the rows say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from supervisor.clock import from_ms
from supervisor.core.job import Due, Job
from supervisor.jobs.cron import Schedule, ScheduleError
from supervisor.jobs.due import CLOCK_SET_MS, earlier_due, first_due, schedule_of
from supervisor.jobs.plan import MAX_BACKOFF_S
from supervisor.log import Logger
from supervisor.store.jobs import KEEP, JobStore, Keep

STEP_MS: Final = 1_000
"""A clock that goes back by less is being adjusted. Jobs are due to the second."""
_MAX_BACKOFF_MS: Final = int(MAX_BACKOFF_S * 1000)
"""No retry is further away than that: a pending one was dated by a clock that was ahead."""
_AT_ONCE: Final = 1_000


class Replanning:
    """Knows the latest instant that was looked at, over the daemon's ends too: a clock before it was turned back."""

    def __init__(self, jobs: JobStore, log: Logger, *, timezone: str) -> None:
        self._jobs = jobs
        self._log = log
        self._timezone = timezone
        self._latest_ms: int | None = None
        self._set = True

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

    def clock_is_set(self, now_ms: int) -> bool:
        """Otherwise nothing is to be claimed. A warning each time it begins not to be."""
        was_set, self._set = self._set, now_ms >= CLOCK_SET_MS
        if was_set and not self._set:
            why = f"the clock shows {from_ms(now_ms):%Y-%m-%d}: it has not been set yet; no job is due until it is"
            self._log.warning("jobs.clock_not_set", why=why)
        return self._set

    async def renew(self, now_ms: int) -> None:
        """What was declared while the clock was not set is due from now on: nothing passed since, but the clock."""

        def decide(job: Job, schedule: Schedule) -> Due | None:
            if job.next_due_ms is None or job.next_due_ms >= CLOCK_SET_MS:
                return None
            anew = replace(job, next_due_ms=None, next_fire_ms=None)
            return first_due(job.spec, schedule, anew, job.plugin_id, timing=job.timing, now_ms=now_ms, starting=True)

        await self._in_pieces(now_ms, decide)

    async def _replan(self, now_ms: int, latest_ms: int) -> None:
        moved = await self._in_pieces(now_ms, lambda job, schedule: earlier_due(job, schedule, now_ms=now_ms))
        while await self._jobs.pull_retries(now_ms + _MAX_BACKOFF_MS, limit=_AT_ONCE) == _AT_ONCE:
            pass
        await self._jobs.set_clock_ms(now_ms)
        self._log.warning(
            "jobs.replanned", why="the clock was turned back", by_s=(latest_ms - now_ms) / 1000, jobs=moved
        )

    async def _in_pieces(self, now_ms: int, due: Callable[[Job, Schedule], Due | None]) -> int:
        """Jobs whose due time is another now; `due` says None where it is as stored."""

        def decide(job: Job) -> Due | Keep | None:
            try:
                schedule = schedule_of(job.spec, job.plugin_key, self._timezone)
                found = None if schedule is None else due(job, schedule)
            except ScheduleError:
                return KEEP  # when its time comes it is found out, and told
            return KEEP if found is None else found

        moved, after_rowid = 0, 0
        while True:
            done = await self._jobs.replan(after_rowid, now_ms, decide, limit=_AT_ONCE)
            moved += done.jobs
            if done.after_rowid is None:
                return moved
            after_rowid = done.after_rowid
