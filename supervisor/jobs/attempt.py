"""Attempt: carry a run out, by its worker or as a command, and say how it ended."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import trio

from supervisor.core.errors import CallCancelled, PluginCrashed, SupervisorError, Unavailable
from supervisor.core.job import Run, RunOutcome, RunState
from supervisor.core.manifest import JobSpec
from supervisor.core.plugin import PluginId
from supervisor.jobs.active import ActiveRun
from supervisor.log import Logger
from supervisor.wire.worker import RUN_JOB


class Workers(Protocol):
    def comes_back(self, plugin_id: PluginId) -> bool:
        """Whether there is to be a worker: it is up, on its way up, or stopped only to be started again."""

    def up_since(self, plugin_id: PluginId) -> float | None:
        """Since when there has been the worker that takes calls now, on trio's clock; None: none does."""

    def why_down(self, plugin_id: PluginId) -> str:
        """Why none does, for people."""

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

    def hang(self, plugin_id: PluginId, why: str, *, since: float) -> None:
        """The worker that was up at that time does not let go of what it was told to cancel: have it restarted."""


class Commands(Protocol):
    async def run_command(self, plugin_id: PluginId, run: Run, spec: JobSpec) -> RunOutcome:
        """Run the job's command within its time limit; cancelled, it is killed."""


class Attempts:
    def __init__(
        self, workers: Workers, commands: Commands, log: Logger, on_settled: Callable[[ActiveRun], None]
    ) -> None:
        """`on_settled`: the worker has nothing more to do with the run."""
        self._workers = workers
        self._commands = commands
        self._log = log
        self._on_settled = on_settled

    async def make(self, active: ActiveRun) -> RunOutcome:
        """Carry out a run whose row says running. Only the daemon's stop cancels it; all else is an outcome."""
        if active.cancel_reason is not None:
            return RunOutcome(state=RunState.CANCELLED, error=active.cancel_reason)
        active.asked_at = trio.current_time()
        active.scope = trio.CancelScope(deadline=self._deadline(active))
        try:
            with active.scope:
                if active.spec.command:
                    return await self._commands.run_command(active.plugin_id, active.run, active.spec)
                return RunOutcome(state=RunState.SUCCEEDED, result=await self._ask(active))
        except SupervisorError as error:
            return self._failure(active, error)
        except Exception as error:  # noqa: BLE001 - our own mistake costs this run, not the daemon
            self._log.exception("run.broke", run=active.run.id)
            return RunOutcome(state=RunState.FAILED, error=f"INTERNAL: {error!r}; see the daemon's log")
        if active.cancel_reason is not None:
            return RunOutcome(state=RunState.CANCELLED, error=active.cancel_reason)
        why = f"no result within timeout_s = {active.spec.timeout_s:g} s; the worker was told to cancel"
        return RunOutcome(state=RunState.TIMED_OUT, error=why)

    def _deadline(self, active: ActiveRun) -> float:
        # A command's time is kept by who can tell how it ended then.
        return float("inf") if active.spec.command else trio.current_time() + active.spec.timeout_s

    async def _ask(self, active: ActiveRun) -> Any:
        run = active.run
        params = {
            "job": run.job_key,
            "run_id": run.id,
            "trigger": str(run.trigger),
            "scheduled_at_ms": run.due_ms,
            "attempt": run.attempt,
            "params": run.params,
        }
        active.worker_is_at_it = True
        return await self._workers.call(
            run.plugin_id, RUN_JOB, params, timeout_s=None, on_settled=partial(self._on_settled, active)
        )

    def _failure(self, active: ActiveRun, error: SupervisorError) -> RunOutcome:
        if active.spec.command or isinstance(error, PluginCrashed):
            return _failed(error)
        up_since = self._workers.up_since(active.plugin_id)
        if up_since is not None and active.asked_at is not None and up_since <= active.asked_at:
            # The worker is well: it was its own doing.
            cancelled = isinstance(error, CallCancelled)
            return RunOutcome(state=RunState.CANCELLED, error=error.message) if cancelled else _failed(error)
        if not self._workers.comes_back(active.plugin_id):
            # However the worker put it: somebody stopped it under the run.
            return RunOutcome(state=RunState.CANCELLED, error=f"its worker was stopped: {error.message}")
        if isinstance(error, CallCancelled | Unavailable):
            why = f"its worker was restarted or replaced: {error.message}"
            return RunOutcome(state=RunState.INTERRUPTED, error=why)
        return _failed(error)


def _failed(error: SupervisorError) -> RunOutcome:
    return RunOutcome(state=RunState.FAILED, error=f"{error.code}: {error.message}")
