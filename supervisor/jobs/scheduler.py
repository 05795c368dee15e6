"""JobScheduler: sleep to the next due time, claim all that is due in one transaction, hand it to the runner."""

from __future__ import annotations

import heapq
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import trio

from supervisor.clock import Clock, to_ms
from supervisor.core.errors import SupervisorError
from supervisor.core.job import Job, Run, RunState
from supervisor.core.plugin import PluginId
from supervisor.jobs.cron import Schedule
from supervisor.jobs.plan import PlannedRun, earlier_due, plan
from supervisor.jobs.runner import Runner
from supervisor.log import Logger
from supervisor.store.jobs import JobStore
from supervisor.store.runs import Claim, Claimed, RunStore

MAX_SLEEP_S: Final = 30.0
"""trio's clock does not see a step of the wall clock, nor a suspended machine: it is noticed this late at most."""
_STEP_S: Final = 1.0
"""The wall clock went back against trio's by more than this: it was turned back. Jobs are due to the second."""
_RETRY_S: Final = 1.0
_MAX_RETRY_S: Final = 30.0
_SLACK: Final = 64


@dataclass(slots=True, eq=False)
class _Entry:
    """A scheduled job. `due_ms` is its place in the heap; another number there is out of date."""

    job: Job
    schedule: Schedule
    due_ms: int | None


class JobScheduler:
    """A place in the heap is only a hint: the claim in the database decides, and who loses it looks again."""

    def __init__(self, jobs: JobStore, runs: RunStore, runner: Runner, clock: Clock, log: Logger) -> None:
        self._jobs = jobs
        self._runs = runs
        self._runner = runner
        self._clock = clock
        self._log = log
        self._entries: dict[str, _Entry] = {}
        self._of_plugin: dict[PluginId, set[str]] = {}
        self._heap: list[tuple[int, str]] = []
        self._changed = trio.Event()
        self._ahead_s = float("-inf")  # the wall clock's lead over trio's, at its most since the jobs were planned

    def __len__(self) -> int:
        """How many jobs wait for their time."""
        return len(self._entries)

    def replace_plugin(self, plugin_id: PluginId, jobs: Iterable[tuple[Job, Schedule]]) -> None:
        """Schedule these jobs of the plugin and no others."""
        self.drop_plugin(plugin_id)
        for job, schedule in jobs:
            self.put(job, schedule)

    def put(self, job: Job, schedule: Schedule) -> None:
        """Schedule the job as it is now; one that is not due by the clock is taken off."""
        self._drop(job)
        if job.next_due_ms is None:
            return
        entry = self._entries[job.id] = _Entry(job, schedule, None)
        self._of_plugin.setdefault(job.plugin_id, set()).add(job.id)
        self._push(entry)

    def drop_plugin(self, plugin_id: PluginId) -> None:
        for job_id in self._of_plugin.pop(plugin_id, ()):
            del self._entries[job_id]

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Claim and hand over what is due, until cancelled. A database that fails only delays it."""
        task_status.started()
        delay_s = _RETRY_S
        while True:
            # Looked at once: were the clock turned back in between, what is due would not be.
            now = self._clock.now()
            if self._turned_back(now):
                done = await self._replan(now)
            elif due := self._pop_due(to_ms(now)):
                done = await self._fire(due, to_ms(now))
            else:
                await self._sleep(now)
                continue
            if not done:
                await trio.sleep(delay_s)
            delay_s = _RETRY_S if done else min(2 * delay_s, _MAX_RETRY_S)

    async def _sleep(self, now: datetime) -> None:
        """To the next due time, a change, or MAX_SLEEP_S, whichever comes first."""
        self._changed = trio.Event()
        head_ms = self._head_ms()
        # With nothing to wait for there is no step of the clock to notice either.
        wait_s = float("inf") if head_ms is None else head_ms / 1000 - now.timestamp()
        if head_ms is not None:
            wait_s = max(0.0, min(wait_s, MAX_SLEEP_S))
        with trio.move_on_after(wait_s):
            await self._changed.wait()

    def _head_ms(self) -> int | None:
        while self._heap:
            due_ms, job_id = self._heap[0]
            entry = self._entries.get(job_id)
            if entry is not None and entry.due_ms == due_ms:
                return due_ms
            heapq.heappop(self._heap)
        return None

    def _turned_back(self, now: datetime) -> bool:
        """Against the most it was ahead, so that many small steps are noticed too."""
        ahead_s = now.timestamp() - trio.current_time()
        self._ahead_s = max(self._ahead_s, ahead_s)
        return ahead_s < self._ahead_s - _STEP_S

    async def _replan(self, now: datetime) -> bool:
        """Move jobs whose time has got too far away; False if the database failed, and then it is still to do.

        A due time among them that was claimed before is only moved on from, as any claim that comes second.
        """
        ahead_s = now.timestamp() - trio.current_time()
        moves = self._moves(to_ms(now))
        try:
            moved = await self._jobs.move(moves)
            for job, due_ms in moves:
                entry = self._entries.get(job.id)
                if job.id not in moved:
                    await self._look_again(job)
                elif entry is not None and entry.job is job:
                    entry.job = replace(job, next_due_ms=due_ms)
                    self._push(entry)
        except SupervisorError as error:
            self._log.error("jobs.replan_failed", jobs=len(moves), error=error.message)
            return False
        self._ahead_s = ahead_s
        self._log.warning("jobs.replanned", why="the clock was turned back", jobs=len(moves))
        return True

    def _moves(self, now_ms: int) -> list[tuple[Job, int]]:
        moves = []
        for entry in list(self._entries.values()):
            try:
                due_ms = earlier_due(entry.job, entry.schedule, now_ms=now_ms)
            except (ValueError, ArithmeticError):
                self._unschedulable(entry.job)
                continue
            if due_ms is not None:
                moves.append((entry.job, due_ms))
        return moves

    def _pop_due(self, now_ms: int) -> list[_Entry]:
        due = []
        while (head_ms := self._head_ms()) is not None and head_ms <= now_ms:
            entry = self._entries[heapq.heappop(self._heap)[1]]
            entry.due_ms = None
            due.append(entry)
        return due

    async def _fire(self, due: list[_Entry], now_ms: int) -> bool:
        """Claim and hand over; False if the database failed, and then all are due again."""
        claims = [claim for entry in due if (claim := self._claim(entry, now_ms))]
        try:
            claimed = await self._runs.claim(claims, self._settle)
            for lost in (c.claim.job for c in claimed if not c.won):
                await self._look_again(lost)
        except SupervisorError as error:
            self._log.error("jobs.claim_failed", jobs=len(claims), error=error.message)
            for entry in due:
                if entry.due_ms is None and self._entries.get(entry.job.id) is entry:
                    self._push(entry)
            return False
        finally:
            for claim in claims:
                self._release(claim)
        return True

    def _claim(self, entry: _Entry, now_ms: int) -> Claim | None:
        job, active = entry.job, self._runner.active
        first_active = next(iter(active.of_job(job.id)), None)
        try:
            decided = plan(job, entry.schedule, now_ms=now_ms, active_run=first_active)
        except (ValueError, ArithmeticError):
            self._unschedulable(job)
            return None
        claim = Claim(job, decided.next_due_ms, tuple(_row(job, run, now_ms) for run in decided.runs))
        for run in claim.runs:
            if run.state is RunState.QUEUED:
                active.reserve(job.id, run.id)
        return claim

    def _unschedulable(self, job: Job) -> None:
        """Within its `except`: one schedule that cannot be computed is not to hold up all others."""
        self._log.exception("job.unschedulable", job=f"{job.plugin_key}/{job.key}")
        self._drop(job)

    def _settle(self, claimed: list[Claimed]) -> None:
        """The claims are durable: put the jobs at their next time and start the runs. In the commit's own step."""
        for each in claimed:
            job = each.claim.job
            entry = self._entries.get(job.id)
            if each.won and entry is not None and entry.job is job:
                entry.job = replace(job, next_due_ms=each.claim.next_due_ms)
                self._push(entry)
            if each.queued is not None:
                self._runner.submit(each.queued, job.spec)

    async def _look_again(self, job: Job) -> None:
        """Somebody else claimed, changed or unscheduled it; unless it was replaced here too, take what is stored."""
        stored = await self._jobs.find(job.id)
        entry = self._entries.get(job.id)
        if entry is None or entry.job is not job:
            return
        if stored is None or not stored.active or stored.paused:
            self._drop(job)
        else:
            self.put(replace(stored, spec=job.spec), entry.schedule)

    def _release(self, claim: Claim) -> None:
        for run in claim.runs:
            self._runner.active.release(run.job_id, run.id)

    def _push(self, entry: _Entry) -> None:
        entry.due_ms = entry.job.next_due_ms
        if entry.due_ms is None:
            self._drop(entry.job)
            return
        heapq.heappush(self._heap, (entry.due_ms, entry.job.id))
        if len(self._heap) > 2 * len(self._entries) + _SLACK:
            self._heap = [(e.due_ms, id_) for id_, e in self._entries.items() if e.due_ms is not None]
            heapq.heapify(self._heap)
        self._changed.set()

    def _drop(self, job: Job) -> None:
        self._entries.pop(job.id, None)
        of_plugin = self._of_plugin.get(job.plugin_id, set())
        of_plugin.discard(job.id)
        if not of_plugin:
            self._of_plugin.pop(job.plugin_id, None)


def _row(job: Job, planned: PlannedRun, now_ms: int) -> Run:
    return Run(
        id=str(uuid.uuid4()),
        job_id=job.id,
        plugin_id=job.plugin_id,
        plugin_key=job.plugin_key,
        job_key=job.key,
        trigger=planned.trigger,
        state=planned.state,
        attempt=1,
        due_ms=planned.due_ms,
        created_ms=now_ms,
        finished_ms=None if planned.state is RunState.QUEUED else now_ms,
        error=planned.error,
    )
