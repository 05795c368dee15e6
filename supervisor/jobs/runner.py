"""Runner: which runs start when, and what becomes of those that do not; see `attempt` for how one is carried out."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Final

import trio

from supervisor.clock import Clock
from supervisor.core.errors import SupervisorError
from supervisor.core.job import Job, Run, RunOutcome, RunState
from supervisor.core.plugin import PluginId
from supervisor.jobs.active import ActiveRun, ActiveRuns
from supervisor.jobs.attempt import Attempts
from supervisor.jobs.ends import Ends, RunRows
from supervisor.jobs.gathering import Gathering
from supervisor.jobs.lanes import Lanes, Standing
from supervisor.jobs.lateness import Lateness
from supervisor.jobs.patience import Patience
from supervisor.jobs.worker_watch import WorkerWatch
from supervisor.jobs.workers import Commands, Workers
from supervisor.log import Logger

MAX_RUNS: Final = 64
MAX_RUNS_PER_PLUGIN: Final = 8
_RETRY_S: Final = 1.0
_MAX_RETRY_S: Final = 30.0
_STOPPED: Final = "the daemon stopped before the run had ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerStatistics:
    active: int
    """Runs that have not ended."""
    waiting: int
    running: int
    """Places that are taken."""
    plugins: int
    """That have any of these."""


class Runner:
    """Runs wait in lanes, without a task each. One task takes those that may start, has their rows say running, all in
    one transaction, and gives each a task of its own. A run's places are free when the answer is there, before its end
    is written.
    """

    def __init__(
        self,
        runs: RunRows,
        workers: Workers,
        commands: Commands,
        clock: Clock,
        log: Logger,
        *,
        timezone: str,
        nudge: Callable[[], None],
        max_runs: int = MAX_RUNS,
        max_runs_per_plugin: int = MAX_RUNS_PER_PLUGIN,
    ) -> None:
        """`timezone`: of jobs that name none. `nudge` is called when a run is to be tried again."""
        self.active = ActiveRuns()
        self.lateness = Lateness(clock, timezone)
        self._runs = runs
        self._log = log
        self._ends = Ends(runs, clock, log, on_ended=self._forget, on_retry=nudge)
        self._lanes: Lanes[ActiveRun] = Lanes(
            limit=max_runs,
            limit_per_plugin=max_runs_per_plugin,
            is_up=lambda plugin_id: workers.up_since(plugin_id) is not None,
            on_down=self._on_down,
        )
        self._patience = Patience(self._lanes, workers, clock, log, timezone=timezone, on_expired=self._expire)
        self._attempts = Attempts(workers, commands, self._patience, log, self._note_settled)
        self._untimed: list[ActiveRun] = []
        """New ones, which have no deadline yet: most start at once and need none."""
        self._gathering = Gathering()
        self._watch = WorkerWatch(workers, log, on_up=self._on_up, on_none=self._skip_all)
        self._tasks: trio.Nursery | None = None
        self._watchers: trio.Nursery | None = None
        self._woken = trio.Event()
        self._closing = trio.Event()

    def statistics(self) -> RunnerStatistics:
        lanes = self._lanes
        return RunnerStatistics(active=len(self.active), waiting=lanes.waiting, running=lanes.taken, plugins=len(lanes))

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Carry out what is submitted, until `close` and the end of the last run.

        What waits then stays queued, for the daemon's next start. Cancelled, it ends the runs that are left: the
        workers are told, the rows say interrupted. That is shielded, since it is the daemon's stop that cancels; it
        lasts at most LAST_WRITE_S.
        """
        try:
            async with trio.open_nursery() as self._watchers:
                self._watchers.start_soon(self._patience.run)
                self._watchers.start_soon(self._ends.run)
                async with trio.open_nursery() as self._tasks:
                    self._tasks.start_soon(self._dispatch)
                    task_status.started()
                await self._ends.wait_written()
                self._watchers.cancel_scope.cancel(reason="the last run has ended")
        finally:
            self._tasks = self._watchers = None
            await self._ends.write_last()
            for active in self.active.all():
                self._leave_queued(active)

    def close(self) -> None:
        """Start nothing any more, and let `run` return once the runs in flight have ended.

        Who waits for one of those waits no longer: it may outlast the connection that he is to be answered on.
        """
        self._closing.set()
        self._woken.set()
        for active in self.active.all():
            if active.standing is Standing.WAITING:
                self._leave_queued(active)
            elif active.ended is not None:
                active.ended.set()

    def submit(self, run: Run, job: Job) -> None:
        """Take on a run whose row says queued. Never blocks and never fails."""
        if self._tasks is None or self._closing.is_set():
            self._log.debug("run.left_queued", run=run.id, job=job.name)
            return
        active = ActiveRun(run, job.spec)
        self.active.add(active)
        if why := self._patience.too_late(active):
            self._end_waiting(active, RunState.SKIPPED, why)
            return
        self._lanes.add(active)
        if self._patience.trouble is None:
            self._untimed.append(active)
        else:  # Nobody looks at these before the next try.
            self._patience.begin([active])
        self._woken.set()

    def expect_more(self, more: bool) -> None:
        """Whether runs that are due now are still being claimed: their starts go before the ends of others."""
        self._ends.hold(on=more)

    def cancel(self, run_id: str, reason: str) -> None:
        """Cancel a run if it has not ended; its end is recorded, unless it was already."""
        active = self.active.get(run_id)
        if active is not None:
            self._cancel(active, reason)

    def cancel_plugin(self, plugin_id: PluginId, reason: str) -> None:
        for active in self.active.of_plugin(plugin_id):
            self._cancel(active, reason)

    def cancel_unasked(self, plugin_id: PluginId, declared: Container[str], reason: str) -> None:
        """Cancel the plugin's runs that nobody has been asked for yet, of jobs that it does not declare any more."""
        for active in self.active.of_plugin(plugin_id):
            if active.asked_at is None and active.run.job_key not in declared:
                self._cancel(active, reason)

    async def wait_ended(self, run_id: str) -> None:
        """Return when the run's end is recorded; at once for a run that is not on its way, or left queued, and for all
        when the daemon is about to stop."""
        active = self.active.get(run_id)
        if active is not None and not self._closing.is_set():
            active.ended = active.ended or trio.Event()
            await active.ended.wait()

    def waiting_for(self, run_id: str) -> str | None:
        """What keeps a run from starting, for people; None: nothing, or it is not on its way."""
        active = self.active.get(run_id)
        waits = active is not None and active.standing is Standing.WAITING
        return self._patience.why_waiting(active) if active is not None and waits else None

    # Starting.

    async def _dispatch(self) -> None:
        pause_s = _RETRY_S
        while not self._closing.is_set():
            if self._lanes.crowded:
                await self._gathering.gather()
            self._woken = trio.Event()
            batch = self._take()
            if not batch:
                await self._woken.wait()
            elif await self._start(batch):
                pause_s = _RETRY_S
            else:
                with trio.move_on_after(pause_s):
                    await self._closing.wait()
                pause_s = min(2 * pause_s, _MAX_RETRY_S)

    def _take(self) -> list[ActiveRun]:
        batch = []
        while (active := self._lanes.take()) is not None:
            self._patience.end(active)
            batch.append(active)
        untimed, self._untimed = self._untimed, []
        self._patience.begin(active for active in untimed if active.standing is Standing.WAITING)
        return batch

    async def _start(self, batch: list[ActiveRun]) -> bool:
        """False: the database failed, and they wait again."""
        try:
            started = await self._runs.start([active.run for active in batch])
        except SupervisorError as error:
            self._log.error("runs.not_started", runs=len(batch), error=error.message)
            self._patience.trouble = f"its start could not be recorded: {error.message}"
            for active in reversed(batch):
                self._put_back(active)
            return False
        self._patience.trouble = None
        self.lateness.note(active for active in batch if active.run.id in started)
        assert self._tasks is not None  # noqa: S101  it is where we run
        for active in batch:
            if active.run.id in started:
                self._tasks.start_soon(self._carry_out, active)
            else:
                # Cancelled meanwhile, by its row.
                self._leave(active)
                self._forget(active)
        return True

    def _put_back(self, active: ActiveRun) -> None:
        self._lanes.put_back(active)
        if self._closing.is_set():
            self._leave_queued(active)
        elif active.cancel_reason is not None:
            self._lanes.drop(active)
            self._end_waiting(active, RunState.CANCELLED, active.cancel_reason)
        else:
            self._patience.begin([active])

    async def _carry_out(self, active: ActiveRun) -> None:
        outcome: RunOutcome | None = None
        try:
            outcome = await self._attempts.make(active)
        finally:
            self._leave(active)
            self._ends.add(active, outcome or _cut_short(active))

    def _leave(self, active: ActiveRun) -> None:
        """Its places are free, but for that of its job while its worker is at it."""
        self._lanes.leave(active)
        if not active.worker_is_at_it:
            self._lanes.let_go(active)
        else:
            self._patience.begin_grace(active)
        self._woken.set()

    def _note_settled(self, active: ActiveRun) -> None:
        self.active.settle(active)
        if active.standing is Standing.HELD:
            self._lanes.let_go(active)
            self._patience.end(active)
            self._woken.set()

    # Waiting.

    def _on_down(self, plugin_id: PluginId) -> None:
        if self._watchers is not None:
            self._watch.begin(self._watchers, plugin_id)

    def _on_up(self, plugin_id: PluginId) -> None:
        self._lanes.worker_is_up(plugin_id)
        self._woken.set()

    def _skip_all(self, plugin_id: PluginId, why: str) -> None:
        for active in self._lanes.waiting_for_worker(plugin_id):
            self._expire(active, why)

    def _expire(self, active: ActiveRun, why: str) -> None:
        self._lanes.drop(active)
        self._end_waiting(active, RunState.SKIPPED, why)

    def _cancel(self, active: ActiveRun, reason: str) -> None:
        if active.cancel_reason is not None:
            return
        active.cancel_reason = reason
        if self._lanes.drop(active):
            self._end_waiting(active, RunState.CANCELLED, reason)
        elif active.scope is not None:
            active.scope.cancel(reason=reason)

    def _end_waiting(self, active: ActiveRun, state: RunState, why: str) -> None:
        self._patience.end(active)
        self._woken.set()
        if self._tasks is None:
            self._forget(active)
        else:
            self._ends.add(active, RunOutcome(state=state, error=why))

    def _leave_queued(self, active: ActiveRun) -> None:
        """For the daemon's next start."""
        if active.standing is Standing.TAKEN:
            self._lanes.put_back(active)
        self._lanes.drop(active)
        self._patience.end(active)
        self._forget(active)

    def _forget(self, active: ActiveRun) -> None:
        self.active.remove(active)
        if active.ended is not None:
            active.ended.set()


def _cut_short(active: ActiveRun) -> RunOutcome:
    if active.cancel_reason is not None:
        return RunOutcome(state=RunState.CANCELLED, error=active.cancel_reason)
    return RunOutcome(state=RunState.INTERRUPTED, error=_STOPPED)
