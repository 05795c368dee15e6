"""JobOperator: what people do with jobs over the socket: list, next times, run now, pause, resume, history, cancel."""

from __future__ import annotations

import uuid
from typing import Final
from zoneinfo import ZoneInfo

import trio

from supervisor.clock import Clock, to_ms
from supervisor.core.errors import Conflict, FailedPrecondition, InvalidParams, NotFound
from supervisor.core.job import Job, Run, RunOutcome, RunState, Trigger
from supervisor.core.lifecycle import Status
from supervisor.core.plugin import PluginId
from supervisor.jobs.coordinator import JobCoordinator, Plugins
from supervisor.jobs.cron import Schedule, ScheduleError
from supervisor.jobs.plan import next_due_ms, schedule_of
from supervisor.jobs.runner import Runner
from supervisor.jobs.scheduler import JobScheduler
from supervisor.jobs.shown import job_info, run_info
from supervisor.store.jobs import JobStore
from supervisor.store.runs import RunStore
from supervisor.wire.results import JobInfo, NextTimes, RunInfo

MAX_TIMES: Final = 100
MAX_PAGE: Final = 1_000
SETTLE_S: Final = 2.0
_BY_OPERATOR: Final = "cancelled by an operator"


class JobOperator:
    """Jobs are named `<plugin>/<key>` or by their id; every method raises NotFound for what is not there."""

    def __init__(
        self,
        plugins: Plugins,
        jobs: JobStore,
        runs: RunStore,
        scheduler: JobScheduler,
        runner: Runner,
        coordinator: JobCoordinator,
        clock: Clock,
        *,
        timezone: str,
    ) -> None:
        self._plugins = plugins
        self._jobs = jobs
        self._runs = runs
        self._scheduler = scheduler
        self._runner = runner
        self._coordinator = coordinator
        self._clock = clock
        self._timezone = timezone

    async def get(self, name: str) -> JobInfo:
        return await self._info(await self._find(name))

    async def next(self, name: str, count: int = 5) -> NextTimes:
        """The next times, paused or not; none for a job that runs by hand or at the daemon's start only.

        Raises:
            InvalidParams: `count` is not from 1 to MAX_TIMES.
        """
        _within("count", count, MAX_TIMES)
        job = await self._find(name)
        zone = ZoneInfo(job.spec.timezone or self._timezone)
        schedule, fire, times = self._schedule_of(job), self._clock.now(), list[str]()
        while schedule is not None and len(times) < count:
            following = schedule.next_after(fire)
            if following is None:
                break
            fire = following
            times.append(fire.astimezone(zone).isoformat())
        return NextTimes(job=_name(job), timezone=zone.key, times=times)

    async def run(self, name: str, *, wait: bool = False) -> RunInfo:
        """Run the job now, paused or not; with `wait`, return when it has ended. Who stops waiting does not stop it.

        Raises:
            FailedPrecondition: the job is not declared any more, or its plugin is not ready.
            Conflict: a run of it has not ended and it does not allow overlap; details: run.
        """
        job = await self._find(name)
        # From here to the hand-over of the row there is no checkpoint: what is found here still holds there.
        self._refuse_unless_ready(job)
        active = self._runner.active
        others = active.of_job(job.id)
        if others and job.spec.overlap != "allow":
            raise Conflict(
                f"run {others[0]} of job {_name(job)} has not ended, and its overlap is {job.spec.overlap}; "
                "wait for it or cancel it",
                job=_name(job),
                run=others[0],
            )
        run = self._manual_run(job)
        active.reserve(job.id, run.id)
        try:
            await self._runs.add(run, lambda: self._runner.submit(run, job.spec))
        finally:
            active.release(job.id, run.id)
        if wait:
            await self._runner.wait_ended(run.id)
        return self._run_info(await self._runs.get(run.id))

    async def pause(self, name: str) -> JobInfo:
        """Off the schedule until resumed, over every restart and upgrade. A run under way goes on.

        Raises:
            FailedPrecondition: it is paused already.
        """
        job = await self._jobs.set_paused(await self._find(name), paused=True, next_due_ms=None)
        self._put(job)
        return await self._info(job)

    async def resume(self, name: str) -> JobInfo:
        """Due again from now on; nothing that was missed is made up for.

        Raises:
            FailedPrecondition: it is not paused.
        """
        job = await self._find(name)
        plugin = self._plugins.find(job.plugin_id)
        # Of a plugin that is not ready nothing is due; the way into ready gives the job its time.
        ready = job.active and plugin is not None and plugin.status is Status.READY
        schedule = self._schedule_of(job) if ready else None
        due_ms = None if schedule is None else next_due_ms(schedule, self._clock.now())
        job = await self._jobs.set_paused(job, paused=False, next_due_ms=due_ms)
        self._put(job)
        return await self._info(job)

    async def runs(
        self,
        *,
        job: str | None = None,
        plugin_id: PluginId | None = None,
        state: str | None = None,
        before_ms: int | None = None,
        before: str | None = None,
        limit: int = 50,
    ) -> list[RunInfo]:
        """History, newest first; `before` pages on from the last run's id, `before_ms` leaves out its millisecond.

        Raises:
            InvalidParams: an unknown state, or a `limit` that is not from 1 to MAX_PAGE.
        """
        _within("limit", limit, MAX_PAGE)
        found = await self._runs.list(
            job_id=None if job is None else (await self._find(job)).id,
            plugin_id=plugin_id,
            state=None if state is None else _state(state),
            before_ms=before_ms,
            before=before,
            limit=limit,
        )
        return [self._run_info(run) for run in found]

    async def cancel(self, run_id: str) -> RunInfo:
        """End a queued or running run: its row says cancelled, then the worker is told.

        Raises:
            FailedPrecondition: it has ended already; details: state.
        """
        run = await self._runs.get(run_id)
        # The row first: whatever the worker answers from now on comes too late.
        won = await self._runs.finish(run, RunOutcome(state=RunState.CANCELLED, error=_BY_OPERATOR))
        if won:
            self._runner.cancel(run_id, _BY_OPERATOR)
        run = await self._runs.get(run_id)
        if not won:
            raise FailedPrecondition(f"run {run_id} has ended already: {run.state}", run=run_id, state=str(run.state))
        return self._run_info(run)

    async def list(self, *, plugin_id: PluginId | None = None, include_inactive: bool = False) -> list[JobInfo]:
        """Jobs of one plugin or of all, by name."""
        listed = await self._jobs.list(plugin_id, include_inactive=include_inactive)
        return [self._job_info(each.job, each.last) for each in listed]

    async def _find(self, name: str) -> Job:
        """A plugin that became ready a moment ago may not have its jobs yet: that is waited for, SETTLE_S at most."""
        try:
            return await self._jobs.get(name)
        except NotFound:
            with trio.move_on_after(SETTLE_S):
                await self._coordinator.wait_settled()
            return await self._jobs.get(name)

    def _refuse_unless_ready(self, job: Job) -> None:
        if not job.active:
            raise FailedPrecondition(
                f"job {_name(job)} is not declared by the plugin's present version; only its history is left",
                job=_name(job),
            )
        plugin = self._plugins.find(job.plugin_id)
        status = "gone" if plugin is None else str(plugin.status)
        if status != Status.READY:
            raise FailedPrecondition(
                f"job {_name(job)} cannot run while plugin {job.plugin_key!r} is {status}: enable the plugin first",
                job=_name(job),
                plugin=job.plugin_key,
                status=status,
            )

    def _manual_run(self, job: Job) -> Run:
        now_ms = to_ms(self._clock.now())
        return Run(
            id=str(uuid.uuid4()),
            job_id=job.id,
            plugin_id=job.plugin_id,
            plugin_key=job.plugin_key,
            job_key=job.key,
            trigger=Trigger.MANUAL,
            state=RunState.QUEUED,
            attempt=1,
            due_ms=now_ms,
            created_ms=now_ms,
        )

    def _put(self, job: Job) -> None:
        schedule = self._schedule_of(job)
        if schedule is not None:
            self._scheduler.put(job, schedule)

    def _schedule_of(self, job: Job) -> Schedule | None:
        """Raises FailedPrecondition for what passed at install and is wrong by now, as a zone that was renamed."""
        try:
            return schedule_of(job.spec, job.plugin_key, self._timezone)
        except ScheduleError as error:
            raise FailedPrecondition(f"the schedule of job {_name(job)} is wrong: {error}", job=_name(job)) from error

    async def _info(self, job: Job) -> JobInfo:
        return self._job_info(job, await self._jobs.last_run(job.id))

    def _job_info(self, job: Job, last: tuple[RunState, int] | None) -> JobInfo:
        active = self._runner.active
        return job_info(job, last, len(active.of_job(job.id)), active.progress_of_job(job.id), self._timezone)

    def _run_info(self, run: Run) -> RunInfo:
        return run_info(run, self._runner.active.progress(run.id))


def _name(job: Job) -> str:
    return f"{job.plugin_key}/{job.key}"


def _within(name: str, value: int, most: int) -> None:
    if not 1 <= value <= most:
        raise InvalidParams(f"{name} must be from 1 to {most}, not {value}", **{name: value})


def _state(text: str) -> RunState:
    try:
        return RunState(text)
    except ValueError:
        known = ", ".join(RunState)
        raise InvalidParams(f"state must be one of {known}, not {text!r}", state=text) from None
