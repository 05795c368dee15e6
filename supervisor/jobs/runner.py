"""Runner: one run from its claim to its end: wait for the worker, take a place, call, record the outcome."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol

import trio

from supervisor.core.errors import CallCancelled, DeadlineExceeded, SupervisorError
from supervisor.core.job import Run, RunOutcome, RunState
from supervisor.core.manifest import JobSpec
from supervisor.core.plugin import PluginId
from supervisor.jobs.active import ActiveRun, ActiveRuns
from supervisor.log import Logger
from supervisor.store.runs import RunStore
from supervisor.wire.worker import RUN_JOB

MAX_RUNS: Final = 64
MAX_RUNS_PER_PLUGIN: Final = 8
LAST_WRITE_S: Final = 5.0
"""At the daemon's stop: how long the last rows may take; what is not written by then is `interrupted` at the start."""
_RETRY_S: Final = 1.0
_MAX_RETRY_S: Final = 30.0
_LEAST_WAIT_S: Final = 0.1
"""Even with start_within_s = 0 a worker that is up is to be found up."""
_STOPPED: Final = "the daemon stopped before the run had ended"


class Workers(Protocol):
    def wanted(self, plugin_id: PluginId) -> bool:
        """Whether there is to be a worker, up or not."""

    async def wait_running(self, plugin_id: PluginId) -> None:
        """Return when the worker takes calls; SupervisorError when it is not going to."""

    async def call(
        self,
        plugin_id: PluginId,
        method: str,
        params: dict[str, Any],
        *,
        timeout_s: float | None,
        on_settled: Callable[[], None],
    ) -> Any:
        """The worker's answer; cancelled, or past its time, it tells the worker.

        `on_settled` is called once, when the worker has nothing more to do with it, maybe long after that.
        """


class _NotStarted(Exception):
    """Why a run was never handed to the worker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerStatistics:
    active: int
    running: int
    plugins: int


class Runner:
    """Runs wait in their own plugin's queue first and only then for one of the places that all share, so a plugin
    never has more than `max_runs_per_plugin` of its runs ahead of anybody else's.
    """

    def __init__(
        self,
        runs: RunStore,
        workers: Workers,
        log: Logger,
        *,
        max_runs: int = MAX_RUNS,
        max_runs_per_plugin: int = MAX_RUNS_PER_PLUGIN,
    ) -> None:
        self.active = ActiveRuns()
        self._runs = runs
        self._workers = workers
        self._log = log
        self._places = trio.CapacityLimiter(max_runs)
        self._max_per_plugin = max_runs_per_plugin
        self._queues: dict[PluginId, trio.CapacityLimiter] = {}
        self._nursery: trio.Nursery | None = None
        self._closing = trio.Event()

    def statistics(self) -> RunnerStatistics:
        return RunnerStatistics(
            active=len(self.active), running=int(self._places.borrowed_tokens), plugins=len(self._queues)
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Carry out what is submitted, until `close` and the end of the last run.

        Cancelled, it ends the runs that are left: the workers are told, the rows say cancelled and why. That is
        shielded, since it is the daemon's stop that cancels; it lasts at most LAST_WRITE_S.
        """
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                task_status.started()
                await self._closing.wait()
        finally:
            self._nursery = None

    def close(self) -> None:
        """Let `run` return once the runs in flight have ended. Nothing is to be submitted any more."""
        self._closing.set()

    def submit(self, run: Run, spec: JobSpec) -> None:
        """Take on a run whose row says queued. Never blocks and never fails."""
        if self._nursery is None:
            # The row stays queued and becomes `interrupted` at the next start.
            self._log.warning("run.not_taken", run=run.id, job=f"{run.plugin_key}/{run.job_key}")
            return
        active = ActiveRun(run, spec)
        self.active.add(active)
        self._nursery.start_soon(self._carry_out, active, name=f"run {run.id}")

    def cancel(self, run_id: str, reason: str) -> None:
        """Cancel a run if it has not ended; its own task records it."""
        active = self.active.get(run_id)
        if active is not None:
            active.cancel(reason)

    def cancel_plugin(self, plugin_id: PluginId, reason: str) -> None:
        for active in self.active.of_plugin(plugin_id):
            active.cancel(reason)

    async def wait_ended(self, run_id: str) -> None:
        """Return when the run's end is recorded; at once for a run that is not on its way."""
        active = self.active.get(run_id)
        if active is not None:
            await active.ended.wait()

    async def _carry_out(self, active: ActiveRun) -> None:
        outcome: RunOutcome | None = None
        recorded = False
        try:
            with active.scope:
                outcome = await self._attempt(active)
            outcome = outcome or _cancelled(active)
            await self._record(active, outcome)
            recorded = True
        finally:
            if not recorded:
                # Only cancellation from outside leads here. The shield costs the daemon's stop LAST_WRITE_S at most.
                with trio.move_on_after(LAST_WRITE_S, shield=True):
                    await self._record_once(active, outcome or _cancelled(active))
            self.active.remove(active)
            active.ended.set()

    async def _attempt(self, active: ActiveRun) -> RunOutcome:
        try:
            # Waiting for the worker takes nobody's place. It may have gone while the run stood in the queue.
            await self._wait_worker(active)
            async with self._queue(active.run.plugin_id):
                await self._wait_worker(active)
                async with self._places:
                    return await self._start_and_call(active)
        except _NotStarted as reason:
            return RunOutcome(state=RunState.SKIPPED, error=str(reason))
        except CallCancelled as error:
            # The worker was stopped under it, or ended it itself.
            return RunOutcome(state=RunState.CANCELLED, error=error.message)
        except SupervisorError as error:
            if not self._workers.wanted(active.run.plugin_id):
                # However the worker put it: somebody stopped it under the run.
                return RunOutcome(state=RunState.CANCELLED, error=f"its worker was stopped: {error.message}")
            return RunOutcome(state=RunState.FAILED, error=f"{error.code}: {error.message}")
        except Exception as error:  # noqa: BLE001 - our own mistake costs this run, not the daemon
            self._log.exception("run.broke", run=active.run.id)
            return RunOutcome(state=RunState.FAILED, error=f"INTERNAL: {error!r}; see the daemon's log")

    async def _wait_worker(self, active: ActiveRun) -> None:
        within_s = active.spec.start_within_s
        try:
            with trio.fail_after(max(within_s, _LEAST_WAIT_S)):
                await self._workers.wait_running(active.run.plugin_id)
        except trio.TooSlowError:
            raise _NotStarted(f"the worker took no calls within start_within_s = {within_s:g} s") from None
        except SupervisorError as error:
            if not self._workers.wanted(active.run.plugin_id):
                raise _NotStarted("its worker is stopped") from error
            raise _NotStarted(f"its worker does not run: {error.message}") from error

    async def _start_and_call(self, active: ActiveRun) -> RunOutcome:
        run = active.run
        if not await self._runs.start(run):
            return RunOutcome(state=RunState.CANCELLED, error="the run ended before it started")
        params = {
            "job": run.job_key,
            "run_id": run.id,
            "trigger": str(run.trigger),
            "scheduled_at_ms": run.due_ms,
            "attempt": run.attempt,
        }
        timeout_s = active.spec.timeout_s
        active.worker_is_at_it = True
        try:
            result = await self._workers.call(
                run.plugin_id,
                RUN_JOB,
                params,
                timeout_s=timeout_s,
                on_settled=lambda: self.active.settle(active),
            )
        except DeadlineExceeded:
            why = f"no result within timeout_s = {timeout_s:g} s; the worker was told to cancel"
            return RunOutcome(state=RunState.TIMED_OUT, error=why)
        return RunOutcome(state=RunState.SUCCEEDED, result=result)

    @asynccontextmanager
    async def _queue(self, plugin_id: PluginId) -> AsyncIterator[None]:
        queue = self._queues.get(plugin_id)
        if queue is None:
            queue = self._queues[plugin_id] = trio.CapacityLimiter(self._max_per_plugin)
        try:
            async with queue:
                yield
        finally:
            if not queue.borrowed_tokens and not queue.statistics().tasks_waiting:
                self._queues.pop(plugin_id, None)

    async def _record(self, active: ActiveRun, outcome: RunOutcome) -> None:
        """Until it is written: a full disk delays the end of a run, it does not lose it."""
        delay_s = _RETRY_S
        while not await self._record_once(active, outcome):
            await trio.sleep(delay_s)
            delay_s = min(2 * delay_s, _MAX_RETRY_S)

    async def _record_once(self, active: ActiveRun, outcome: RunOutcome) -> bool:
        """Whether the run's row has its end: this one, or the one that came first."""
        run = active.run
        log = self._log.bind(run=run.id, job=f"{run.plugin_key}/{run.job_key}", state=str(outcome.state))
        try:
            won = await self._runs.finish(run, outcome)
        except SupervisorError as error:
            log.error("run.not_recorded", error=error.message)
            return False
        if won:
            log.info("run.ended", trigger=str(run.trigger), error=outcome.error)
        return True


def _cancelled(active: ActiveRun) -> RunOutcome:
    return RunOutcome(state=RunState.CANCELLED, error=active.cancel_reason or _STOPPED)
