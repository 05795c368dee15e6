"""jobs.*: handlers."""

from __future__ import annotations

from supervisor.control.access import Caller
from supervisor.control.paging import as_many_as_fit
from supervisor.control.parts import Handlers, Parts
from supervisor.wire import control, results


class JobMethods:
    def __init__(self, parts: Parts) -> None:
        self._registry = parts.registry
        self._jobs = jobs = parts.jobs
        self.handlers: Handlers = {
            control.JobsList: self._list,
            control.JobsGet: lambda request, _caller: jobs.get(request.job),
            control.JobsNext: lambda request, _caller: jobs.next(request.job, request.count),
            control.JobsRun: lambda request, _caller: jobs.run(request.job, wait=request.wait),
            control.JobsPause: lambda request, _caller: jobs.pause(request.job),
            control.JobsResume: lambda request, _caller: jobs.resume(request.job),
            control.JobsRuns: self._runs,
            control.JobsCancel: lambda request, _caller: jobs.cancel(request.run),
        }

    async def _list(self, request: control.JobsList, _: Caller) -> list[results.JobInfo]:
        plugin_id = self._registry.get(request.plugin).id if request.plugin is not None else None
        return await self._jobs.list(plugin_id=plugin_id, include_inactive=request.include_inactive)

    async def _runs(self, request: control.JobsRuns, _: Caller) -> list[results.RunInfo]:
        plugin_id = self._registry.get(request.plugin).id if request.plugin is not None else None
        runs = await self._jobs.runs(
            job=request.job,
            plugin_id=plugin_id,
            state=request.state,
            before_ms=request.before_ms,
            before=request.before,
            limit=request.limit,
        )
        return as_many_as_fit(runs)
