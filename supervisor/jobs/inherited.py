"""Runs that the daemon before had queued and not started: they were never handed to anybody, and are not lost."""

from __future__ import annotations

from typing import Final, Protocol

from supervisor.core.job import Job, Run, RunOutcome, RunState
from supervisor.core.lifecycle import Status
from supervisor.core.plugin import Plugin
from supervisor.jobs.runner import Runner
from supervisor.store.runs import RunStore

NOT_DECLARED: Final = "the plugin's present version does not declare the job"


class Named(Protocol):
    def find(self, name: str) -> Plugin | None: ...


class InheritedRuns:
    """`note` them before anybody can queue more; `take_up` when the jobs are what the manifests say."""

    def __init__(self, runs: RunStore, runner: Runner, plugins: Named) -> None:
        self._runs = runs
        self._runner = runner
        self._plugins = plugins
        self._ids: frozenset[str] = frozenset()

    async def note(self) -> None:
        self._ids = frozenset(run.id for run, _ in await self._runs.waiting())

    async def take_up(self) -> None:
        """Again after a failure goes on where it stopped. One that has waited too long is the runner's to skip."""
        if not self._ids:
            return
        for run, job in await self._runs.waiting():
            if run.id not in self._ids or self._runner.active.get(run.id) is not None:
                continue
            if why := self._why_not(run, job):
                await self._runs.finish(run, RunOutcome(state=RunState.CANCELLED, error=why))
            else:
                self._runner.submit(run, job)
        self._ids = frozenset()

    def _why_not(self, run: Run, job: Job) -> str | None:
        plugin = self._plugins.find(run.plugin_id)
        if plugin is None or plugin.status is not Status.READY:
            return f"the plugin is {'gone' if plugin is None else plugin.status}"
        return job.damaged if job.active else NOT_DECLARED
