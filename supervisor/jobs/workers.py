"""Who carries runs out, as the runner sees them: workers that are called, and commands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from supervisor.core.job import Run, RunOutcome
from supervisor.core.manifest import JobSpec
from supervisor.core.plugin import PluginId


class Workers(Protocol):
    def comes_back(self, plugin_id: PluginId) -> bool:
        """Whether there is to be a worker: it is up, on its way up, or stopped only to be started again."""

    def up_since(self, plugin_id: PluginId) -> float | None:
        """Since when there has been the worker that takes calls now, on trio's clock; None: none does."""

    def why_down(self, plugin_id: PluginId) -> str:
        """Why none does, for people."""

    async def wait_running(self, plugin_id: PluginId) -> None:
        """Return when the worker takes calls.

        Raises:
            CallCancelled: nobody wants it to.
            SupervisorError: it is not going to, and why.
        """

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

        Raises:
            Unavailable: there is none, and nothing was sent to any.
            SupervisorError: the worker's own, or how it ended.
        """

    def hang(self, plugin_id: PluginId, why: str, *, since: float) -> None:
        """The worker that was up at that time does not let go of what it was told to cancel: have it restarted."""


class Commands(Protocol):
    async def run_command(self, plugin_id: PluginId, run: Run, spec: JobSpec) -> RunOutcome:
        """Run the job's command within its time limit; cancelled, it is killed."""
