"""jobs.*: handlers."""

from __future__ import annotations

from supervisor.control.access import Caller
from supervisor.control.paging import as_many_as_fit
from supervisor.control.parts import Handlers, Parts
from supervisor.core.errors import InvalidParams
from supervisor.core.plugin import PluginId
from supervisor.wire import control, results


class JobMethods:
    def __init__(self, parts: Parts) -> None:
        self._registry = parts.registry
        self._jobs = jobs = parts.jobs
        self.handlers: Handlers = {
            control.JobsList: self._list,
            control.JobsGet: lambda request, _caller: jobs.get(request.job),
            control.JobsNext: self._next,
            control.JobsRun: lambda request, _caller: jobs.run(request.job, params=request.params, wait=request.wait),
            control.JobsPause: self._pause,
            control.JobsResume: self._resume,
            control.JobsRuns: self._runs,
            control.JobsCancel: lambda request, _caller: jobs.cancel(request.run),
            control.JobsRetry: lambda request, _caller: jobs.retry(request.run, wait=request.wait),
            control.JobsGetRun: lambda request, _caller: jobs.get_run(request.run),
        }

    async def _list(self, request: control.JobsList, _: Caller) -> list[results.JobInfo]:
        jobs = await self._jobs.list(
            plugin_id=self._id(request.plugin),
            include_inactive=request.include_inactive,
            after=request.after,
            limit=request.limit,
        )
        return as_many_as_fit(jobs)

    async def _next(self, request: control.JobsNext, _: Caller) -> results.NextTimes:
        plugin_id = self._id(request.plugin)
        return await self._jobs.next(request.job, request.count, plugin_id=plugin_id, hours=request.hours)

    async def _runs(self, request: control.JobsRuns, _: Caller) -> list[results.RunInfo]:
        runs = await self._jobs.runs(
            job=request.job,
            plugin_id=self._id(request.plugin),
            state=request.state,
            trigger=request.trigger,
            states=request.states,
            triggers=request.triggers,
            since_ms=request.since_ms,
            before_ms=request.before_ms,
            before=request.before,
            limit=request.limit,
        )
        return as_many_as_fit(runs)

    async def _pause(self, request: control.JobsPause, caller: Caller) -> results.HoldInfo:
        _check_scope(request.job, request.plugin)
        holds = self._jobs.holds
        if request.job is not None:
            return await holds.pause_job(request.job)
        if request.plugin is not None:
            return await holds.pause_plugin(self._registry.get(request.plugin), caller.uid)
        return await holds.pause_all(caller.uid)

    async def _resume(self, request: control.JobsResume, _: Caller) -> results.HoldInfo:
        _check_scope(request.job, request.plugin)
        holds = self._jobs.holds
        if request.job is not None:
            return await holds.resume_job(request.job)
        if request.plugin is not None:
            return await holds.resume_plugin(self._registry.get(request.plugin))
        return await holds.resume_all()

    def _id(self, plugin: str | None) -> PluginId | None:
        return None if plugin is None else self._registry.get(plugin).id


def _check_scope(job: str | None, plugin: str | None) -> None:
    if job is not None and plugin is not None:
        raise InvalidParams("name a job, or a plugin for all of its jobs, not both")
