"""Patience: how long runs may wait to start, and their workers take to let go; and what a run waits for, in words."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import trio

from supervisor.clock import Clock, to_ms
from supervisor.core.job import Trigger
from supervisor.jobs.active import ActiveRun
from supervisor.jobs.cron import ScheduleError
from supervisor.jobs.deadlines import Deadlines
from supervisor.jobs.due import schedule_of
from supervisor.jobs.lanes import Blocker, Lanes, Standing
from supervisor.jobs.plan import start_within
from supervisor.jobs.workers import Workers
from supervisor.log import Logger

CANCEL_GRACE_S: Final = 10.0
"""How long a worker may take to let go of a run that it was told to cancel, where its job says restart."""
_LEAST_WAIT_S: Final = 1.0
"""Even with start_within_s = 0 a run may find its worker up and a place free; jobs are due to the second."""


class Patience:
    def __init__(
        self,
        lanes: Lanes[ActiveRun],
        workers: Workers,
        clock: Clock,
        log: Logger,
        *,
        timezone: str,
        on_expired: Callable[[ActiveRun, str], None],
    ) -> None:
        """`on_expired`: the run has waited for too long, and why. `timezone`: of jobs that name none."""
        self._lanes = lanes
        self._workers = workers
        self._clock = clock
        self._log = log
        self._timezone = timezone
        self._on_expired = on_expired
        self._deadlines: Deadlines[ActiveRun] = Deadlines(self._look_at)
        self._behind: set[ActiveRun] = set()  # when they were looked at
        self.trouble: str | None = None
        """Why nothing is started now, though it could be."""

    async def run(self) -> None:
        """Until cancelled."""
        await self._deadlines.run()

    def too_late(self, active: ActiveRun) -> str | None:
        """Why a new one is not to start any more: the daemon before this one left it queued."""
        waited_s = (to_ms(self._clock.now()) - active.run.created_ms) / 1000
        if waited_s <= _LEAST_WAIT_S or waited_s < self._may_wait_s(active):
            return None
        return f"{self._too_late(active)}: plugind was not running, or had too much to do"

    def begin(self, waiting: Iterable[ActiveRun]) -> None:
        """These are to start within their time, which began when they were made."""
        for active in waiting:
            self._deadlines.set(active, self.ends_at(active))

    def ends_at(self, active: ActiveRun) -> float:
        """By when it is to have started, on trio's clock."""
        # The clock may have been turned back since.
        waited_s = max(0, to_ms(self._clock.now()) - active.run.created_ms) / 1000
        return trio.current_time() + max(self._may_wait_s(active), _LEAST_WAIT_S) - waited_s

    def begin_grace(self, active: ActiveRun) -> None:
        """Its worker has been told to let go of the run."""
        if active.spec.on_timeout == "restart":
            self._deadlines.set(active, trio.current_time() + CANCEL_GRACE_S)

    def end(self, active: ActiveRun) -> None:
        self._deadlines.clear(active)
        self._behind.discard(active)

    def why_waiting(self, active: ActiveRun) -> str:
        """What keeps a waiting run from starting."""
        lanes = self._lanes
        match lanes.blocker(active):
            case Blocker.JOB:
                return _why_behind(lanes.ahead_of(active))
            case Blocker.WORKER:
                return self._workers.why_down(active.plugin_id)
            case Blocker.PLUGIN:
                return f"its plugin's {lanes.limit_per_plugin} places are taken"
            case Blocker.OVERALL:
                return f"all {lanes.limit} places are taken"
        return self.trouble or "it is about to start"

    def _look_at(self, active: ActiveRun) -> None:
        match active.standing:
            case Standing.HELD:
                self._lose(active)
            case Standing.WAITING if self._waits_its_turn(active):
                # All that were missed are made at once, to run one after the other.
                self._deadlines.set(active, trio.current_time() + max(self._may_wait_s(active), _LEAST_WAIT_S))
            case Standing.WAITING:
                self._on_expired(active, f"{self._too_late(active)}: {self.why_waiting(active)}")

    def _waits_its_turn(self, active: ActiveRun) -> bool:
        """Behind one that is caught up with, as one of these or its retry; or so until now: its time begins with its
        turn."""
        ahead, was_behind = self._lanes.ahead_of(active), active in self._behind
        self._behind.discard(active)
        triggers = set() if ahead is None else {active.run.trigger, ahead.run.trigger}
        if Trigger.CATCH_UP in triggers and active.run.trigger in (Trigger.CATCH_UP, Trigger.RETRY):
            self._behind.add(active)
        return was_behind or active in self._behind

    def too_late_for_worker(self, active: ActiveRun) -> str:
        """Why a run is not given to its worker any more, though its row says running."""
        return f"{self._too_late(active)}: {self._workers.why_down(active.plugin_id)}"

    def _too_late(self, active: ActiveRun) -> str:
        return f"it did not start within start_within_s = {self._may_wait_s(active):g} s"

    def _lose(self, active: ActiveRun) -> None:
        run = active.run
        self._log.warning("run.stuck", run=run.id, job=f"{run.plugin_key}/{run.job_key}")
        why = f"did not let go of run {run.id} of job {run.job_key} within {CANCEL_GRACE_S:g} s of its cancellation"
        self._workers.hang(active.plugin_id, why, since=active.asked_at or 0.0)

    def _may_wait_s(self, active: ActiveRun) -> float:
        run, spec = active.run, active.spec
        if run.trigger is Trigger.MANUAL:
            # Who asks for a run does so at no time in particular.
            return start_within(spec, None)
        try:
            schedule = schedule_of(spec, run.plugin_key, self._timezone)
        except ScheduleError:
            schedule = None  # Its zone was renamed since it was declared.
        return start_within(spec, schedule, run.due_ms)


def _why_behind(ahead: ActiveRun | None) -> str:
    if ahead is None:
        return "its job's turn has not come"
    match ahead.standing:
        case Standing.WAITING:
            return f"run {ahead.run.id} of the job is before it"
        case Standing.HELD:
            return f"its worker has not let go of run {ahead.run.id} of the job"
    return f"run {ahead.run.id} of the job has not ended"
