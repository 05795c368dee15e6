"""Attempt: carry a run out, by its worker or as a command, and say how it ended."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import trio

from supervisor.core.errors import CallCancelled, PluginCrashed, SupervisorError, Unavailable
from supervisor.core.job import RunOutcome, RunState
from supervisor.jobs.active import ActiveRun
from supervisor.jobs.patience import Patience
from supervisor.jobs.workers import Commands, Workers
from supervisor.log import Logger
from supervisor.wire.worker import RUN_JOB


class Attempts:
    def __init__(
        self,
        workers: Workers,
        commands: Commands,
        patience: Patience,
        log: Logger,
        on_settled: Callable[[ActiveRun], None],
    ) -> None:
        """`on_settled`: the worker has nothing more to do with the run."""
        self._workers = workers
        self._commands = commands
        self._patience = patience
        self._log = log
        self._on_settled = on_settled

    async def make(self, active: ActiveRun) -> RunOutcome:
        """Carry out a run whose row says running. Only the daemon's stop cancels it; all else is an outcome."""
        if active.cancel_reason is not None:
            return RunOutcome(state=RunState.CANCELLED, error=active.cancel_reason)
        active.scope = trio.CancelScope()
        try:
            with active.scope:
                if active.spec.command:
                    active.asked_at = trio.current_time()
                    # Its time is kept by who can tell how it ended then.
                    return await self._commands.run_command(active.plugin_id, active.run, active.spec)
                return RunOutcome(state=RunState.SUCCEEDED, result=await self._ask(active))
        except SupervisorError as error:
            return self._failure(active, error)
        except Exception as error:  # noqa: BLE001 - our own mistake costs this run, not the daemon
            self._log.exception("run.broke", run=active.run.id)
            return RunOutcome(state=RunState.FAILED, error=f"INTERNAL: {error!r}; see the daemon's log")
        if active.cancel_reason is not None:
            return RunOutcome(state=RunState.CANCELLED, error=active.cancel_reason)
        if active.asked_at is None:
            return RunOutcome(state=RunState.FAILED, error=self._patience.too_late_for_worker(active))
        why = f"no result within timeout_s = {active.spec.timeout_s:g} s; the worker was told to cancel"
        return RunOutcome(state=RunState.TIMED_OUT, error=why)

    async def _ask(self, active: ActiveRun) -> Any:
        """The worker may have gone since the run was started: then the run has been given to nobody, and waits for the
        next one as if it were queued still, in its place."""
        while True:
            try:
                return await self._give(active)
            except Unavailable:
                if self._is_well(active):
                    raise
            active.asked_at = None
            self._limit(active, self._patience.ends_at(active))
            await self._workers.wait_running(active.plugin_id)

    async def _give(self, active: ActiveRun) -> Any:
        run = active.run
        params = {
            "job": run.job_key,
            "run_id": run.id,
            "trigger": str(run.trigger),
            "scheduled_at_ms": run.due_ms,
            "attempt": run.attempt,
            "params": run.params,
        }
        active.asked_at = trio.current_time()
        self._limit(active, active.asked_at + active.spec.timeout_s)
        active.worker_is_at_it = True
        return await self._workers.call(
            run.plugin_id, RUN_JOB, params, timeout_s=None, on_settled=partial(self._on_settled, active)
        )

    @staticmethod
    def _limit(active: ActiveRun, deadline: float) -> None:
        assert active.scope is not None  # noqa: S101  we are in it
        active.scope.deadline = deadline

    def _is_well(self, active: ActiveRun) -> bool:
        """The worker that was asked is up: whatever it has answered was its own doing."""
        up_since = self._workers.up_since(active.plugin_id)
        return up_since is not None and active.asked_at is not None and up_since <= active.asked_at

    def _failure(self, active: ActiveRun, error: SupervisorError) -> RunOutcome:
        cancelled = isinstance(error, CallCancelled)
        if active.spec.command or isinstance(error, PluginCrashed):
            return _failed(error)
        if self._is_well(active):
            return RunOutcome(state=RunState.CANCELLED, error=error.message) if cancelled else _failed(error)
        if active.asked_at is None and not cancelled:
            why = self._workers.why_down(active.plugin_id)
            return RunOutcome(state=RunState.FAILED, error=f"it was given to no worker: {why}")
        if not self._workers.comes_back(active.plugin_id):
            # However the worker put it: somebody stopped it under the run.
            return RunOutcome(state=RunState.CANCELLED, error=f"its worker was stopped: {error.message}")
        if cancelled:
            why = f"its worker was restarted or replaced: {error.message}"
            return RunOutcome(state=RunState.INTERRUPTED, error=why)
        return _failed(error)


def _failed(error: SupervisorError) -> RunOutcome:
    return RunOutcome(state=RunState.FAILED, error=f"{error.code}: {error.message}")
