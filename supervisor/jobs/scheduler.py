"""JobScheduler: sleep to the next due time, claim all that is due, hand it to the runner. The rows are the schedule."""

from __future__ import annotations

from typing import Final

import trio

from supervisor.clock import Clock, to_ms
from supervisor.core.job import Admission, Due, Job, OpenRun, Plan, Run
from supervisor.jobs.admission import admit_retry
from supervisor.jobs.alarm import Alarm
from supervisor.jobs.arrived import Limits
from supervisor.jobs.cron_zones import ZoneUnreadable
from supervisor.jobs.due import CLOCK_SET_MS, schedule_of
from supervisor.jobs.plan import plan
from supervisor.jobs.replanning import Replanning
from supervisor.jobs.runner import Runner
from supervisor.log import Logger
from supervisor.store.claims import ON_TIME_MS, ClaimStore, Tick
from supervisor.store.jobs import JobStore

_RETRY_S: Final = 1.0
_MAX_RETRY_S: Final = 30.0
_PUT_OFF_MS: Final = 10_000
"""How soon a job is looked at again whose zone cannot be read."""
_MADE_ROOM: Final = "the next run of the job is due"


class JobScheduler:
    """Keeps nothing in memory but when the first job is due. Whoever changes the schedule changes rows and nudges."""

    def __init__(
        self,
        jobs: JobStore,
        claims: ClaimStore,
        runner: Runner,
        alarm: Alarm,
        clock: Clock,
        log: Logger,
        *,
        timezone: str,
    ) -> None:
        """`timezone`: of jobs that name none."""
        self._jobs = jobs
        self._claims = claims
        self._runner = runner
        self._alarm = alarm
        self._clock = clock
        self._log = log
        self._timezone = timezone
        self._replanning = Replanning(jobs, log, timezone=timezone)

    def nudge(self) -> None:
        """Something may be due earlier than it was: look again. Never blocks; before `run`, too."""
        self._alarm.nudge()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Claim and hand over what is due, until cancelled. What fails is logged, and only delays it."""
        task_status.started()
        delay_s = _RETRY_S
        head_ms: int | None = None
        while True:
            try:
                head_ms = await self._claim_all(head_ms)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with the database is not the end of all jobs
                self._log.error("jobs.claim_failed", error=str(error), retry_in_s=delay_s, exc_info=error)
                await trio.sleep(delay_s)
                delay_s = min(2 * delay_s, _MAX_RETRY_S)
                head_ms = None
            else:
                delay_s = _RETRY_S
                await self._alarm.wait_until(head_ms)

    async def _claim_all(self, head_ms: int | None) -> int | None:
        """Claim until nothing is due, and say when something is next. `head_ms`: when it was, as far as is known."""
        now_ms = self._now()
        if not self._replanning.clock_is_set(now_ms):
            return CLOCK_SET_MS
        if await self._replanning.look(now_ms) or head_ms is None or now_ms < head_ms or head_ms <= CLOCK_SET_MS:
            # Woken before its time: there is something new, or the clock was set.
            head_ms = await self._jobs.head()
        if head_ms is not None and head_ms < CLOCK_SET_MS:
            await self._replanning.renew(now_ms)
            head_ms = await self._jobs.head()
        limits: Limits | None = None
        while head_ms is not None and head_ms <= (now_ms := self._now()):
            if limits is None and head_ms <= now_ms - ON_TIME_MS:
                limits = Limits.among(await self._claims.overdue(now_ms))
            # One piece; the next one begins with what has come on time meanwhile.
            tick = await self._claim(now_ms, limits or Limits())
            head_ms = tick.head_ms
        return head_ms

    async def _claim(self, now_ms: int, limits: Limits) -> Tick:
        unreadable: dict[str, str] = {}

        def decide(job: Job, open_runs: tuple[OpenRun, ...]) -> Plan:
            try:
                schedule = schedule_of(job.spec, job.plugin_key, self._timezone)
                if schedule is None:
                    raise ValueError("it has no schedule")
                return plan(job, schedule, open_runs, now_ms=now_ms, limits=limits)
            except ZoneUnreadable as error:
                unreadable[job.name] = str(error)
                return _put_off(job, now_ms)

        tick = await self._claims.claim_due(now_ms, decide, _decide_retry, self._on_claimed)
        for name, why in unreadable.items():
            self._log.error("job.put_off", job=name, error=why, retry_in_s=_PUT_OFF_MS / 1000)
        return tick

    def _on_claimed(self, tick: Tick) -> None:
        """The claims are durable: in the commit's own step the runs are the runner's, whoever is cancelled by then."""
        for run_id in tick.cancelled:
            self._runner.cancel(run_id, _MADE_ROOM)
        self._runner.expect_more(tick.more)
        for run, job in tick.queued:
            self._runner.submit(run, job)
        for job, why in tick.broken:
            # It passed when it was installed; the tz database may have changed since. It still runs by hand.
            self._log.error("job.unschedulable", job=job.name, error=why)
        self._log.debug("jobs.claimed", queued=len(tick.queued), cancelled=len(tick.cancelled), more=tick.more)

    def _now(self) -> int:
        return to_ms(self._clock.now())


def _put_off(job: Job, now_ms: int) -> Plan:
    """It stays due when it was, and is looked at again soon."""
    due_ms = now_ms if job.next_due_ms is None else job.next_due_ms
    return Plan((), Due(due_ms, now_ms + _PUT_OFF_MS))


def _decide_retry(job: Job, _run: Run, caught_up: bool, open_runs: tuple[OpenRun, ...]) -> Admission:
    return admit_retry(job.spec, caught_up, open_runs)
