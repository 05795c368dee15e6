"""Holds: an operator keeps a job, a plugin's jobs, or the whole schedule off the clock, until he resumes it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import trio

from supervisor.clock import Clock, to_ms
from supervisor.core.errors import FailedPrecondition
from supervisor.core.job import Due, Hold, Job
from supervisor.core.plugin import Plugin
from supervisor.jobs.lookup import JobLookup
from supervisor.jobs.scheduler import JobScheduler
from supervisor.store.holds import Scope
from supervisor.store.jobs import JobStore
from supervisor.store.schedule import KEEP, Keep
from supervisor.wire.results import HoldInfo


class Holds:
    """What is held stays so over every sync, upgrade and restart; runs under way go on, and by hand all works.

    Whoever is resumed is due from then on: nothing that was missed meanwhile is made up for.
    """

    def __init__(self, lookup: JobLookup, jobs: JobStore, scheduler: JobScheduler, clock: Clock) -> None:
        self._lookup = lookup
        self._jobs = jobs
        self._scheduler = scheduler
        self._clock = clock
        self.since_ms: int | None = None
        """Since when the whole schedule is held; None: it is not. As the row says: it changes in the commit's step."""
        self._one_at_a_time = trio.Lock()
        """Whoever resumes all moves on first what has passed: nobody else is to have resumed it meanwhile."""

    async def load(self) -> None:
        """What is stored; once, before anything is asked."""
        held = await self._jobs.held()
        self.since_ms = None if held is None else held.at_ms

    async def pause_job(self, name: str) -> HoldInfo:
        """Raises: FailedPrecondition: it is paused already."""
        job = await self._jobs.set_paused(await self._lookup.job(name), paused=True, due=None)
        return self._of_job(job)

    async def resume_job(self, name: str) -> HoldInfo:
        """`held` is still true where its plugin or the whole schedule is.

        Raises:
            FailedPrecondition: it is not paused, or its schedule is wrong by now.
        """
        job = await self._lookup.job(name)
        job = await self._jobs.set_paused(job, paused=False, due=self._due_now(job))
        return self._of_job(job)

    async def pause_plugin(self, plugin: Plugin, uid: int | None) -> HoldInfo:
        """Raises: FailedPrecondition: its jobs are paused already."""
        return self._told(Hold.PLUGIN, plugin.key, await self._jobs.hold_plugin(plugin.id, uid), held=True)

    async def resume_plugin(self, plugin: Plugin) -> HoldInfo:
        """Those of its jobs that are paused by themselves stay so.

        Raises:
            FailedPrecondition: its jobs are not paused.
        """
        scope = await self._jobs.release_plugin(plugin.id, self._unless_wrong(self._due_now))
        return self._told(Hold.PLUGIN, plugin.key, scope, held=self.since_ms is not None)

    async def pause_all(self, uid: int | None) -> HoldInfo:
        """Raises: FailedPrecondition: the whole schedule is paused already."""
        async with self._one_at_a_time:
            scope = await self._jobs.hold_all(uid, self._note_all)
            return self._told(Hold.SCHEDULER, None, scope, held=True)

    async def resume_all(self) -> HoldInfo:
        """Raises: FailedPrecondition: the whole schedule is not paused."""
        async with self._one_at_a_time:
            if self.since_ms is not None:
                await self._move_on()
            scope = await self._jobs.release_all(partial(self._note_all, None))
            return self._told(Hold.SCHEDULER, None, scope, held=False)

    def _note_all(self, since_ms: int | None) -> None:
        self.since_ms = since_ms

    async def _move_on(self) -> None:
        """What passed while nothing was claimed is due at its next time; a piece at a time."""
        now_ms = to_ms(self._clock.now())
        following = self._unless_wrong(lambda job: self._lookup.due_after(job, now_ms))

        def decide(job: Job) -> Due | Keep | None:
            passed = job.next_fire_ms is not None and job.next_fire_ms <= now_ms
            return following(job) if passed else KEEP

        after: int | None = 0
        while after is not None:
            after = (await self._jobs.replan(after, now_ms, decide)).after_rowid

    def _due_now(self, job: Job) -> Due | None:
        """From now on. What it has served before the clock was turned back is not served again."""
        return self._lookup.first_due(job, to_ms(self._clock.now()))

    @staticmethod
    def _unless_wrong(due: Callable[[Job], Due | None]) -> Callable[[Job], Due | None]:
        """One schedule that is wrong by now does not keep the others from being resumed; `jobs.next` tells of it."""

        def decide(job: Job) -> Due | None:
            try:
                return due(job)
            except FailedPrecondition:
                return None

        return decide

    def _of_job(self, job: Job) -> HoldInfo:
        held = job.paused or job.plugin_paused or self.since_ms is not None
        return self._told(Hold.JOB, job.name, Scope(1, job.next_fire_ms), held=held)

    def _told(self, hold: Hold, name: str | None, scope: Scope, *, held: bool) -> HoldInfo:
        self._scheduler.nudge()
        next_ms = None if held else scope.next_fire_ms
        return HoldInfo(held=held, scope=str(hold), name=name, jobs=scope.jobs, next_fire_ms=next_ms)
